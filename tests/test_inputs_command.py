"""`probing carriers`, however it ends: what was left out is told, what stands there is whole."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE, Popen
from typing import NamedTuple

import pytest
from interpreter import ROOT

from probing.carriers.reading import read_carriers
from probing.cli import EXIT_FAULT, main
from probing.cli.console import EXIT_INTERRUPTED
from probing.errors import NoCarriersLeft, RecordFault, UnreadableInput

GOOD = {"problem_id": "p", "prompt": "q", "response": "r", "generator": "m"}


def line(name: str, **changes: str) -> str:
    return json.dumps({**GOOD, "carrier_id": name, **changes}) + "\n"


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def carriers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["probing", "carriers", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Ended(int(ended.value.code or 0), captured.out, captured.err)

    return call


def listed(path: Path) -> list[tuple[str, str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["file"], row["line"], row["reason"]) for row in csv.DictReader(file)]


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A folder of logs: good records, bad ones, a file that is no log, one that cannot be read."""
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "a.jsonl").write_text(f"{line('a')}{{bad\n{line('a')}", encoding="utf-8")
    (folder / "b.jsonl").write_text(line("b", response=""), encoding="utf-8")
    (folder / "c.jsonl").write_bytes(b"\x1f\x8b no gzip")
    (folder / "notes.txt").write_text("x", encoding="utf-8")
    return folder


def test_nothing_left_still_lists_what_was_left_out(tmp_path: Path, carriers: Command) -> None:
    path, table = tmp_path / "in.jsonl", tmp_path / "skipped.csv"
    path.write_text("{bad\n" + line("b", response=""), encoding="utf-8")
    code, _, err = carriers(path, "--skipped", table)
    assert code == EXIT_FAULT
    wanted = [(str(path), "1", "bad JSON"), (str(path), "2", "empty response")]
    assert listed(table) == wanted
    for file, number, reason in wanted:
        assert err.count(f"skipped {file}:{number}: {reason}") == 1
    assert "error: no carrier left of 2 records" in err
    with pytest.raises(NoCarriersLeft) as fault:
        read_carriers(path)
    assert [(each.file, str(each.line), each.reason) for each in fault.value.skipped] == wanted


def test_the_first_bad_record_is_listed_before_strict_stops(
    logs: Path, tmp_path: Path, carriers: Command
) -> None:
    table = tmp_path / "skipped.csv"
    code, _, err = carriers(logs, "--strict", "--skipped", table)
    assert code == EXIT_FAULT
    assert [each[:2] for each in listed(table)] == [(str(logs), "0"), (str(logs / "c.jsonl"), "0")]
    assert f"error: {logs / 'c.jsonl'}: no log of responses: " in err
    (logs / "c.jsonl").unlink()
    assert carriers(logs, "--strict", "--skipped", table).code == EXIT_FAULT
    assert listed(table)[-1] == (str(logs / "a.jsonl"), "2", "bad JSON")
    with pytest.raises(RecordFault) as fault:
        read_carriers(logs, strict=True)
    assert [each.place for each in fault.value.skipped] == [str(logs), f"{logs / 'a.jsonl'}:2"]


def test_a_file_that_ends_the_reading_hides_nothing_that_came_before(
    logs: Path, tmp_path: Path, carriers: Command
) -> None:
    table, target, named = tmp_path / "skipped.csv", tmp_path / "out.jsonl", logs / "c.jsonl"
    # All files are told before one is read: of records nothing was left out yet.
    wanted = [str(named), str(logs / "notes.txt")]
    code, _, err = carriers(logs / "*", named, "-o", target, "--skipped", table)
    assert code == EXIT_FAULT
    assert f"error: cannot read '{named}'" in err
    assert [file for file, _, _ in listed(table)] == wanted
    assert all(err.count(f"skipped {file}: ") == 1 for file in wanted)
    assert not target.exists()
    with pytest.raises(UnreadableInput) as fault:
        read_carriers([f"{logs}/*", str(named)])
    assert [each.file for each in fault.value.skipped] == wanted


def test_a_list_that_cannot_be_written_hides_no_fault(tmp_path: Path, carriers: Command) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text("{bad\n", encoding="utf-8")
    code, _, err = carriers(path, "--skipped", tmp_path / "absent" / "skipped.csv")
    assert code == EXIT_FAULT
    assert "cannot write" in err
    assert "error: no carrier left of 1 records" in err
    path.write_text(line("a"), encoding="utf-8")
    assert carriers(path, "--skipped", tmp_path / "absent" / "skipped.csv").code == EXIT_FAULT


def test_files_left_out_are_counted_apart_from_records(logs: Path, carriers: Command) -> None:
    code, out, err = carriers(logs)
    assert code == 0
    rows = [row.split()[0] for row in out.splitlines() if str(logs) in row]
    assert rows == [str(logs / "a.jsonl"), str(logs / "b.jsonl")]
    assert "4 records read, 1 kept, 3 skipped; files left out: 2" in out
    assert err.count("skipped ") == 5
    result = read_carriers(logs)
    assert result.files_left_out == 2
    assert sum(each.line > 0 for each in result.skipped) == 3
    assert "left out" not in carriers(logs / "a.jsonl").out


AT = """
import os, signal, sys

def hook(event, arguments):
    global left
    if event == EVENT and str(arguments[0]) == NAMED and left:
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGINT)

left = COUNT
sys.addaudithook(hook)
sys.argv[0] = "probing"
from probing.__main__ import main
main()
"""
"""The command line, interrupted at the n-th time that something happens to something."""


def interrupted(event: str, named: str, count: int, *arguments: str | Path) -> Ended:
    program = AT.replace("EVENT", repr(event)).replace("NAMED", repr(named))
    command = [sys.executable, "-c", program.replace("COUNT", str(count)), *map(str, arguments)]
    with Popen(command, stdout=PIPE, stderr=PIPE, text=True, cwd=ROOT) as process:
        out, err = process.communicate()
    return Ended(process.returncode, out, err)


@pytest.mark.parametrize("module", ["probing.cli", "typer", "pandas", "probing.carriers.grading"])
def test_ctrl_c_while_it_is_still_importing_is_met_in_words(module: str) -> None:
    ended = interrupted("import", module, 1, "carriers", "absent.jsonl")
    assert ended == Ended(EXIT_INTERRUPTED, "", "interrupted\n")


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
@pytest.mark.parametrize("there", [True, False])
def test_ctrl_c_leaves_nothing_half_written_and_says_so(
    tmp_path: Path, ending: str, there: bool
) -> None:
    path, target, table = tmp_path / "in.jsonl", tmp_path / f"out{ending}", tmp_path / "skipped.csv"
    path.write_text("{bad\n" + line("a"), encoding="utf-8")
    other = tmp_path / "last.jsonl"
    other.write_text(line("b"), encoding="utf-8")
    if there:
        target.write_bytes(b"before")
    before = sorted(tmp_path.iterdir())
    flags = ["carriers", path, other, "-o", target, "--no-grade", "--skipped", table]
    # Told by its first bytes, twice, and then by its records: the last is read last.
    ended = interrupted("open", str(other), 4, *flags)
    assert ended.code == EXIT_INTERRUPTED
    assert ended.out == ""
    assert ended.err.splitlines() == [
        f"skipped {path}:1: bad JSON: {ended.err.partition('bad JSON: ')[2].splitlines()[0]}",
        f"wrote {table}",
        f"interrupted; nothing was written to {target}",
    ]
    assert listed(table) == [(str(path), "1", "bad JSON")]
    assert sorted(tmp_path.iterdir()) == sorted([*before, table])
    assert not there or target.read_bytes() == b"before"
    alone = interrupted("open", str(path), 1, "carriers", path)
    assert alone == Ended(EXIT_INTERRUPTED, "", "interrupted; nothing was written\n")
