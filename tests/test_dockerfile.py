"""The Dockerfile without Docker: its steps run as a script in a folder of their own."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from browsing import BUNDLED, ROOT, free_port, wait_for
from hosting import asked, opened_browser
from playwright.sync_api import expect


@dataclass(frozen=True)
class Step:
    """One instruction, continuation lines joined."""

    name: str
    words: str


def steps(text: str) -> list[Step]:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [Step(*line.split(maxsplit=1)) for line in joined.splitlines()]


STEPS = steps((ROOT / "Dockerfile").read_text())


def words_of(name: str) -> list[str]:
    return [step.words for step in STEPS if step.name == name]


def copied() -> list[Path]:
    """What the image takes, by the COPY lines, but for what .dockerignore holds back."""
    sources = [word for words in words_of("COPY") for word in words.split()[:-1]]
    return [ROOT / source for source in sources]


def test_the_image_runs_as_nobody_special() -> None:
    assert words_of("USER") == ["probing"]
    assert any("useradd" in words and "--uid 10001" in words for words in words_of("RUN"))
    names = [step.name for step in STEPS]
    assert names.index("USER") < names.index("CMD")
    assert "RUN" not in names[names.index("USER") :]


def test_no_secret_and_no_run_is_copied() -> None:
    sources = {str(path.relative_to(ROOT)) for path in copied()}
    assert sources == {
        "pyproject.toml", "constraints.txt", "README.md", "LICENSE", "probing", "streamlit_app.py",
        ".streamlit/config.toml",
    }  # fmt: skip
    held = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in held
    assert not any("secret" in line or "cache" in line for line in held if line.startswith("!"))
    assert words_of("ADD") == []
    text = (ROOT / "Dockerfile").read_text().split("FROM", 1)[1]
    assert "secrets" not in re.sub(r"#.*", "", text)


def test_it_asks_for_signing_in_and_for_its_own_health() -> None:
    assert any("PROBING_SIGN_IN=required" in words for words in words_of("ENV"))
    assert "/_stcore/health" in words_of("HEALTHCHECK")[0]
    assert words_of("EXPOSE") == ["8501"]
    command = json.loads(words_of("CMD")[0])
    assert command[-4:] == ["--server.address", "0.0.0.0", "--server.port", "8501"]


@dataclass(frozen=True)
class Image:
    """What the steps made.

    Attributes:
        folder: the working directory, its cache with it.
        python: what `python` is there.
    """

    folder: Path
    python: Path


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """COPY and the RUN that installs, in a folder where nobody but its owner can write."""
    with tempfile.TemporaryDirectory() as made:
        prefix = Path(made)
        found = Image(prefix / "srv", prefix / "python" / "bin" / "python")
        subprocess.run([sys.executable, "-m", "venv", str(prefix / "python")], check=True)
        for step in STEPS:
            if step.name == "COPY":
                _copy(step.words, found.folder)
            elif step.name == "RUN" and step.words.startswith("python "):
                line = step.words.replace("python", str(found.python), 1)
                line = line.replace("--no-cache-dir", "--quiet")
                subprocess.run(line, shell=True, cwd=found.folder, env=bare(), check=True)
        shutil.copytree(BUNDLED, found.folder / "cache" / BUNDLED.name)
        _close(found.folder)
        prefix.chmod(0o755)
        yield found


def bare() -> dict[str, str]:
    """The environment without paths to the packages of who runs the test."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def _copy(words: str, folder: Path) -> None:
    *sources, target = words.split()
    for source in (ROOT / name for name in sources):
        place = folder / target
        if source.is_dir():
            shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            place = place / source.name if target.endswith("/") else place
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, place)


def _close(folder: Path) -> None:
    """Nobody may write there."""
    for path in [*folder.rglob("*"), folder]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o555 | 0o444 | (0o111 if path.is_dir() else 0))


def without_privileges(python: Path) -> list[str]:
    """What comes before a command so that no right of root is left to it.

    Another user where that one can run this Python, which may lie in root's home; else root without
    its capabilities, for whom the bits of a file count as for anybody.
    """
    if os.getuid() != 0:
        return []
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    reached = subprocess.run([*other, str(python), "-c", ""], capture_output=True, check=False)
    none = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    return other if reached.returncode == 0 else none


@contextmanager
def started(image: Image, log: Path, **variables: str) -> Iterator[str]:
    """The address of what CMD serves, on a port that is free."""
    port = free_port()
    command = [word.replace("8501", str(port)) for word in json.loads(words_of("CMD")[0])]
    fixed = dict(pair.split("=", 1) for pair in " ".join(words_of("ENV")).split())
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **fixed, **variables}
    with (
        log.open("wb") as out,
        subprocess.Popen(
            [*without_privileges(image.python), str(image.python), *command[1:]],
            cwd=image.folder,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        ) as server,
    ):
        try:
            wait_for(f"http://127.0.0.1:{port}/_stcore/health", server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(timeout=30)
    assert "Traceback" not in log.read_text()


def test_only_what_the_dashboard_needs_is_installed(image: Image) -> None:
    listed = subprocess.run(
        [image.python, "-m", "pip", "list", "--format=freeze"],
        env=bare(),
        capture_output=True,
        text=True,
        check=True,
    )
    names = {line.partition("==")[0].lower() for line in listed.stdout.splitlines()}
    assert {"ssd-probing", "streamlit", "authlib"} <= names
    assert not names & {"torch", "transformers", "ray", "pytest", "django"}


@pytest.mark.browser
def test_what_it_serves_is_healthy_and_opens_a_read_only_cache(
    image: Image, tmp_path: Path
) -> None:
    run = image.folder / "cache" / BUNDLED.name
    trial = subprocess.run(
        [*without_privileges(image.python), "touch", str(run / "x")],
        check=False,
        capture_output=True,
    )
    assert trial.returncode != 0
    with opened_browser() as browser:
        page = browser.new_page()
        with started(image, tmp_path / "shut.txt") as address:
            assert asked(f"{address}/_stcore/health").text == "ok"
            page.goto(address)
            expect(page.get_by_text("Nobody can get in yet.")).to_be_visible()
            expect(page.get_by_text(BUNDLED.name)).to_have_count(0)
        with started(image, tmp_path / "open.txt", PROBING_SIGN_IN="no") as address:
            page.goto(address)
            expect(page.get_by_test_id("stMetricValue").first).to_be_visible()
            expect(page.locator(".st-key-run input").first).to_have_value(BUNDLED.name)
