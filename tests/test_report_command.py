"""`probing report`: bytes that stay, and what is refused before any work."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pages_run import write_pages_run
from report_reading import read

from probing.cli import EXIT_FAULT, EXIT_USAGE, main


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("little") / "little.zarr"
    write_pages_run(path, problems=12)
    return str(path)


@pytest.fixture
def probing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run the command line in this process; what it printed, both streams."""

    def call(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["probing", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert int(ended.value.code or 0) == code, captured
        assert "Traceback" not in captured.err
        return captured.out + captured.err

    return call


@pytest.mark.parametrize("ending", ["html", "md"])
def test_the_same_command_gives_the_same_bytes(
    little: str, tmp_path: Path, probing: Callable[..., str], ending: str
) -> None:
    target = tmp_path / f"r.{ending}"
    probing("report", little, "-o", str(target), "--train-temperature", "1.4", "-n", "1")
    first = target.read_bytes()
    # In another process with other hash seeds, by the command that the report itself gives.
    text = read(first.decode()).text if ending == "html" else first.decode().splitlines()
    command = next(each for each in text if each.startswith("probing report "))
    words = shlex.split(command)
    assert words[4] == target.name
    target.unlink()
    words[2], words[4] = little, str(target)
    subprocess.run(
        [sys.executable, "-m", *words],
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
    )
    assert target.read_bytes() == first
    assert str(tmp_path) not in first.decode()
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("r.pdf", EXIT_USAGE, "-o takes a .html or .md file, got"),
        ("report", EXIT_USAGE, "-o takes a .html or .md file, got"),
        ("absent/r.html", EXIT_FAULT, "No such file or directory; choose another"),
        ("folder.md", EXIT_FAULT, "it is no regular file; choose another"),
    ],
)
def test_a_target_is_refused_before_any_work(
    tmp_path: Path, probing: Callable[..., str], name: str, code: int, says: str
) -> None:
    (tmp_path / "folder.md").mkdir()
    said = probing("report", str(tmp_path / "no_run.zarr"), "-o", str(tmp_path / name), code=code)
    assert says in said
    assert "no_run" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["folder.md"]


def test_a_model_or_preset_that_is_not_there_leaves_no_file(
    little: str, tmp_path: Path, probing: Callable[..., str]
) -> None:
    target = tmp_path / "r.md"
    for option, value in (("--other", "sss"), ("--control", "ssd"), ("--preset", "lax")):
        probing("report", little, "-o", str(target), option, value, code=EXIT_USAGE)
    assert list(tmp_path.iterdir()) == []


def test_without_the_drawing_package_html_is_refused_and_markdown_is_not(
    little: str, tmp_path: Path, probing: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    said = probing("report", "absent.zarr", "-o", str(tmp_path / "r.html"), code=EXIT_FAULT)
    assert "pip install 'ssd-probing[report]'" in said
    assert "absent.zarr" not in said
    probing("report", little, "-o", str(tmp_path / "r.md"), "-n", "0")
    assert "# ssd against baseline" in (tmp_path / "r.md").read_text()
