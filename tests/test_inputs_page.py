"""docs/inputs.md: its worked lines run as printed, and its records are what it says they are."""

import json
import re
import shlex
from pathlib import Path

import pytest
from logs import read, write
from typer.testing import CliRunner

from probing.carriers.reading import read_carriers
from probing.cli import app
from probing.settings import Inputs

PAGE = Path("docs/inputs.md").read_text(encoding="utf-8")
LINES = re.findall(r"^    (probing carriers .*)$", PAGE, flags=re.M)
OF_OTHER_PACKAGES = ("tests/golden/logs/inspect/mock.eval", "tests/golden/logs/hub/saved")
"""Read by inspect_ai and datasets; the tests of those two readers run these lines."""
OWN = [line for line in LINES if not any(place in line for place in OF_OTHER_PACKAGES)]
RECORDS = [
    (form.strip(), record)
    for form, record in re.findall(r"^\|([^|]*)\| `(\{.*\})` \|", PAGE, flags=re.M)
    if "…" not in record or form.strip() == "ml-ssd"
]
CHAT = ""
"""A row of the table that goes on with the format above it, of which chats alone have several."""


def test_every_line_that_other_packages_read_is_on_the_page() -> None:
    assert len(OWN) == len(LINES) - len(OF_OTHER_PACKAGES)
    assert len(OWN) >= 8


@pytest.mark.parametrize("line", OWN)
def test_a_worked_line_runs_as_it_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    here = Path.cwd()
    for name in ("tests", "examples"):
        (tmp_path / name).symlink_to(here / name)
    monkeypatch.chdir(tmp_path)
    command = shlex.split(line)
    assert command.pop(0) == "probing"
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    kept = re.search(r"(\d+) records read, (\d+) kept", " ".join(done.output.split()))
    assert kept is not None
    assert int(kept[2]) > 0
    if "-o" in command:
        written = read_carriers(["carriers.parquet"]).carriers
        assert len(written) == int(kept[2])
        if "--generator" in command:
            assert {each.generator for each in written} == {"ssd"}


@pytest.mark.parametrize(("form", "record"), RECORDS)
def test_a_record_of_the_table_is_read_as_its_format(
    tmp_path: Path, form: str, record: str
) -> None:
    name = {"our own": "carrier", CHAT: "chat"}.get(form, form)
    asked = {"custom_id": "1", "body": {"messages": [{"role": "user", "content": "3 + 4?"}]}}
    beside = [write(tmp_path / "asked.jsonl", [asked])] if name == "batch" else []
    path = write(tmp_path / "in.jsonl", [json.loads(record)])
    result = read(path, *beside, generator="ssd")
    (kept,) = result.carriers
    assert [each.format for each in result.files if each.file == str(path)] == [name]
    assert kept.generator == "ssd"
    assert "7" in kept.response or form == "ml-ssd"
    assert read(path, *beside, generator="ssd", format=name).carriers == result.carriers


def test_the_table_has_records_of_five_formats() -> None:
    assert {form for form, _ in RECORDS} == {"our own", "chat", CHAT, "batch", "ml-ssd"}
    assert Inputs().format == "auto"
