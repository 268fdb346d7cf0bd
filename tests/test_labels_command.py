"""`probing labels`: what it prints and writes is the tables; what it takes in is said."""

import dataclasses
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from labelled import drawn_labels, label_of
from pages_run import PagesRun

from probing.cli import EXIT_FAULT, EXIT_USAGE, main
from probing.reporting import labels as tables
from probing.reporting import labels_shown
from probing.reporting.display import percent
from probing.reporting.labels import label_table
from probing.store.labels import Label, LabelFile, lines_of, read_lines
from probing.store.reader import Run
from probing.vocabulary import Kind


class Called:
    """The command line in this process."""

    def __init__(self, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self._patch, self._capture = patch, capture
        self.out = self.err = ""

    def __call__(self, *arguments: str, code: int = 0) -> str:
        self._patch.setattr(sys, "argv", ["probing", "labels", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        self.out, self.err = self._capture.readouterr()
        assert "Traceback" not in self.err
        assert int(ended.value.code or 0) == code, (self.out, self.err)
        return self.out


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Called:
    return Called(monkeypatch, capsys)


@pytest.fixture
def path(written: PagesRun, tmp_path: Path) -> Path:
    found = tmp_path / "run.zarr"
    shutil.copytree(written.path, found)
    return found


@pytest.fixture
def given(run: Run, comparison: pd.DataFrame) -> list[Label]:
    ada = drawn_labels(run, comparison, who="Ada", count=60, errs=0.4, seed=1)
    return [*ada, *drawn_labels(run, comparison, who="Bob", count=40, errs=0.4, seed=2)]


def keep(path: Path, labels: list[Label]) -> LabelFile:
    file = LabelFile.beside(str(path))
    assert file is not None
    file.append(labels)
    return file


def test_what_it_prints_and_writes_is_the_tables(
    called: Called, path: Path, run: Run, comparison: pd.DataFrame, given: list[Label]
) -> None:
    keep(path, given)
    table = label_table(given, comparison, fingerprint=run.fingerprint, other="ssd")
    want = tables.agreement_table(table)
    out = called(str(path))
    assert "100 labels by 2 people; 100 of positions drawn at random: only these speak" in out
    for share in want["share"]:
        assert percent(share) in out
    rows = [line for line in out.splitlines() if not line.startswith("note: ")]
    assert max(map(len, rows)) <= 120
    notes = labels_shown.agreement_notes(want)
    assert any("Ada against heuristic" in note for note in notes)
    assert all(f"note: {note}" in out for note in notes)
    target = path.parent / "out.csv"
    made = {
        "agreement": want,
        "confusion": tables.confusion_table(table),
        "deltas": tables.label_deltas(table, comparison),
        "labels": table,
    }
    for name, frame in made.items():
        called(str(path), "--table", name, "--csv", str(target))
        got = pd.read_csv(target, keep_default_na=False, na_values=[""])
        assert got.columns.tolist() == frame.columns.tolist()
        assert len(got) == len(frame)
        for column in frame.select_dtypes("number"):
            assert got[column].tolist() == pytest.approx(frame[column].tolist(), nan_ok=True)
        called(str(path), "--table", name)


def test_labels_leave_and_enter_whole(called: Called, path: Path, given: list[Label]) -> None:
    first = keep(path, given)
    out = path.parent / "all.jsonl"
    called(str(path), "--export", str(out))
    assert out.read_bytes() == lines_of(given)
    other = path.with_name("copy.zarr")
    shutil.copytree(path, other)
    assert "added 100 labels; 0 were there" in called(str(other), "--import", str(out))
    assert "added 0 labels; 100 were there" in called(str(other), "--import", str(out))
    assert other.with_name("copy.zarr.labels.jsonl").read_bytes() == first.path.read_bytes()


def test_bad_lines_are_skipped_and_named(
    called: Called, path: Path, run: Run, comparison: pd.DataFrame
) -> None:
    good = label_of(run, comparison.iloc[5])
    foreign = dataclasses.replace(good, run="0" * 64)
    source = path.parent / "theirs.jsonl"
    source.write_bytes(lines_of([good]) + b'{"kind": 1}\n' + lines_of([foreign]))
    called(str(path), "--import", str(source))
    assert f"skipped {source}:2" in called.err
    assert f"skipped {source}:3: of another run" in called.err
    source.write_bytes(lines_of([foreign]))
    called(str(path), "--import", str(source), code=EXIT_FAULT)
    assert f"whose fingerprint is {run.fingerprint[:12]}…, got 1 of another run" in called.err
    file = LabelFile.beside(str(path))
    assert file is not None
    assert file.read().labels == (good,)


def test_nothing_hostile_reaches_the_terminal(
    called: Called, path: Path, run: Run, comparison: pd.DataFrame
) -> None:
    bad = "\x1b[31mred\u202e[bold]x"
    keep(path, [label_of(run, comparison.iloc[5], who=bad, note=bad, kind=Kind.MIXED)])
    for name in ("agreement", "labels"):
        out = called(str(path), "--table", name)
        assert "\x1b" not in out
        assert "\u202e" not in out
        assert "\\x1b[31mred\\u202e[bold]x" in out.replace("\n", "")


def test_what_cannot_be_done_is_said(called: Called, path: Path) -> None:
    assert "no label of ssd against baseline" in called(str(path))
    called(str(path), "--import", str(path.parent / "absent.jsonl"), code=EXIT_FAULT)
    assert "must be a readable JSONL file of labels: No such file" in called.err
    called(str(path), "--other", "nobody", code=EXIT_USAGE)
    called(str(path), "--preset", "nothing", code=EXIT_USAGE)
    called(str(path.parent / "nothing.zarr"), code=EXIT_FAULT)


def test_labels_of_another_state_of_the_run_are_counted_and_left_out(
    called: Called, path: Path, run: Run, comparison: pd.DataFrame
) -> None:
    good = label_of(run, comparison.iloc[5])
    file = keep(path, [good, dataclasses.replace(good, run="0" * 64, who="Bob")])
    with file.path.open("ab") as torn:
        torn.write(b'{"half')
    out = called(str(path))
    assert "1 labels beside it are of another run" in out
    assert "1 label by 1 person" in out
    assert "torn line" in called.err
    assert len(read_lines(file.path.read_bytes(), name="").labels) == 2
