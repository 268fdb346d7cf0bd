"""The golden logs are small, name no machine, and are all described."""

import re
import socket
from pathlib import Path

import pytest
from packed import parts

GOLDEN = Path(__file__).parent / "golden"
LOGS = GOLDEN / "logs"
FILES = sorted(path for path in LOGS.rglob("*") if path.is_file())

# Absolute folders of any machine, and lines of a traceback.
NAMING = re.compile(r"/(?:home|root|tmp|work|Users|opt|usr|var)/|site-packages|File \\?\"")


def texts(path: Path) -> list[str]:
    if path.suffix == ".eval":
        return list(parts(path).values())
    return [path.read_bytes().decode("utf-8", errors="replace")]


def test_the_logs_together_are_small() -> None:
    assert 0 < sum(path.stat().st_size for path in FILES) < 400_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(LOGS)))
def test_a_log_names_no_machine(path: Path) -> None:
    for text in texts(path):
        assert NAMING.search(text) is None
        assert socket.gethostname() not in re.findall(r"[\w.-]+", text)


def test_every_log_stands_in_the_readme() -> None:
    cells = re.findall(r"^\| (`[^|]+) \|", (GOLDEN / "README.md").read_text(), flags=re.M)
    patterns = [
        name.replace("…", "**") for cell in cells for name in re.findall(r"`([^`]+)`", cell)
    ]
    described = {
        found
        for pattern in patterns
        for match in LOGS.glob(pattern.rstrip("/"))
        for found in ([match] if match.is_file() else match.rglob("*"))
    }
    results = {path for path in FILES if path.name.startswith("results_")}
    assert set(FILES) - results == described
