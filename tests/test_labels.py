"""Labels by people: the file beside a run, which lines count, what comes in from elsewhere."""

import dataclasses
import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interpreter import ROOT
from pages_run import HOSTILE, PagesRun

from probing.errors import UnreadableInput, UnwritablePath, UsageFault
from probing.reporting.examples import position_name
from probing.store import intake
from probing.store.intake import known_names, taken
from probing.store.labels import (
    LONGEST_LINE_BYTES,
    LONGEST_NAME,
    LONGEST_NOTE,
    NO_LABEL,
    TORN,
    Label,
    LabelFile,
    Offer,
    Offered,
    current,
    line_of,
    lines_of,
    now,
    read_lines,
)
from probing.store.reader import Run
from probing.vocabulary import Event, Kind

DRAWN = Offer(how=Offered.RANDOM, seed=3, among="headline", blind=True)
FIRST = Label(
    run="r",
    other="ssd",
    position="c1:4",
    who="Ada",
    time="2026-01-02T03:04:05.000+00:00",
    order=DRAWN,
    kind=Kind.LOCK,
    event=Event.SWAP,
    note="so",
)

times = st.integers(0, 5).map(lambda second: f"2026-01-02T03:04:0{second}.000+00:00")
names = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=LONGEST_NAME)
labels = st.builds(
    Label,
    run=st.sampled_from(["r", "s"]),
    other=st.sampled_from(["ssd", "control"]),
    position=st.sampled_from(["c1:4", "c1:5", "a:b:0", "=1+1:7"]),
    who=names.map(str.strip).filter(
        lambda who: who and who.casefold() not in {"heuristic", "everybody"}
    ),
    time=times,
    order=st.just(DRAWN) | st.just(Offer(how=Offered.LINK)),
    kind=st.none() | st.sampled_from(Kind),
    event=st.none() | st.sampled_from(Event),
    note=st.text(st.characters(exclude_categories=("Cs",)), max_size=LONGEST_NOTE),
)


def digest(folder: Path) -> str:
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        whole.update(str(path.relative_to(folder)).encode())
        if path.is_file():
            whole.update(path.read_bytes())
    return whole.hexdigest()


def beside(run: Path) -> LabelFile:
    found = LabelFile.beside(str(run))
    assert found is not None
    return found


# Lines


@given(st.lists(labels, max_size=5))
def test_what_is_written_is_read(given: list[Label]) -> None:
    found = read_lines(lines_of(given), name="x")
    assert found.labels == tuple(given)
    assert found.lines == tuple(range(1, len(given) + 1))
    assert found.skipped == ()
    assert all(line_of(label).isascii() and line_of(label).count(b"\n") == 1 for label in given)


@given(st.lists(labels, max_size=5), st.data())
def test_a_torn_last_line_is_left_out_and_counted(given: list[Label], data: st.DataObject) -> None:
    whole, last = lines_of(given), line_of(FIRST)
    cut = data.draw(st.integers(1, len(last) - 2))
    found = read_lines(whole + last[:cut], name="x")
    assert found.labels == tuple(given)
    assert [(one.line, one.reason) for one in found.skipped] == [(len(given) + 1, TORN)]


@given(st.binary(max_size=400))
def test_any_bytes_are_read(noise: bytes) -> None:
    found = read_lines(line_of(FIRST) + noise + b"\n" + line_of(FIRST), name="x")
    assert found.labels[0] == FIRST
    assert found.labels[-1] == FIRST


CHANGED: dict[str, object] = {
    "who": "",
    "who ": " Ada",
    "who long": "x" * (LONGEST_NAME + 1),
    "who taken": "Heuristic",
    "note": "x" * (LONGEST_NOTE + 1),
    "note kind": 5,
    "time": "yesterday",
    "time zone": "2026-01-02T03:04:05+02:00",
    "time none": "2026-01-02T03:04:05",
    "position": "nothing",
    "position ": ":4",
    "position  ": "c1:-4",
    "position   ": "c1:٤",
    "kind": "lock",
    "event": "Kind.LOCK",
    "more": 1,
    "order": None,
    "order how": {"how": "guess"},
}


@pytest.mark.parametrize("change", CHANGED)
def test_a_line_of_another_form_is_left_out_and_says_why(change: str) -> None:
    field = change.split(maxsplit=1)[0]
    document = json.loads(line_of(FIRST)) | {field: CHANGED[change]}
    found = read_lines(line_of(FIRST) + json.dumps(document).encode() + b"\n", name="x.jsonl")
    assert found.labels == (FIRST,)
    (one,) = found.skipped
    assert (one.file, one.line, one.reason) == ("x.jsonl", 2, NO_LABEL)
    assert field in one.detail


@pytest.mark.parametrize("line", ["[]", "{}", '"text"', "{", "nul", "\x00", '{"run": "\\ud800"}'])
def test_what_is_no_object_of_ours_is_left_out(line: str) -> None:
    found = read_lines(f"{line}\n".encode() + line_of(FIRST), name="x")
    assert found.labels == (FIRST,)
    assert [(one.line, one.reason) for one in found.skipped] == [(1, NO_LABEL)]


def test_a_long_line_is_refused_before_it_is_parsed() -> None:
    document = json.loads(line_of(FIRST)) | {"position": "c" * LONGEST_LINE_BYTES + ":1"}
    (one,) = read_lines(json.dumps(document).encode() + b"\n", name="x").skipped
    assert f"at most {LONGEST_LINE_BYTES} bytes" in one.detail


def test_windows_line_ends_marks_and_empty_lines_are_no_fault() -> None:
    data = b"\xef\xbb\xbf" + line_of(FIRST).replace(b"\n", b"\r\n") + b"\r\n\n" + line_of(FIRST)
    found = read_lines(data.rstrip(b"\n"), name="x")
    assert found.labels == (FIRST, FIRST)
    assert found.lines == (1, 4)
    assert found.skipped == ()


def test_a_label_given_in_python_is_held_to_the_same_rules() -> None:
    with pytest.raises(UsageFault, match="who must be a name of 1 to 80 characters, got ''"):
        dataclasses.replace(FIRST, who="")


# Which count


rivals = st.builds(
    Label,
    run=st.just("r"),
    other=st.sampled_from(["ssd", "control"]),
    position=st.just("c1:4"),
    who=st.sampled_from(["Ada", "Bob"]),
    time=times,
    order=st.just(DRAWN),
    kind=st.none() | st.sampled_from(Kind),
)


@given(st.lists(rivals, max_size=12), st.randoms())
def test_the_newest_counts_in_whatever_order_files_are_joined(
    given: list[Label], chance: random.Random
) -> None:
    distinct = list({(one.of, one.time): one for one in given}.values())
    shuffled = [*distinct]
    chance.shuffle(shuffled)
    found = current(distinct)
    assert {*current(shuffled)} == {*found}
    assert {*current([*distinct, *shuffled])} == {*found}
    for one in found:
        same = [other for other in distinct if other.of == one.of]
        assert one.time == max(other.time for other in same)
        assert not one.withdrawn
    assert len({one.of for one in found}) == len(found)


def test_a_withdrawn_label_is_a_line_and_counts_for_nothing() -> None:
    later = "2026-01-02T03:04:06.000+00:00"
    gone = dataclasses.replace(FIRST, kind=None, event=None, time=later)
    other = dataclasses.replace(FIRST, who="Bob")
    assert current([FIRST, other, gone]) == (other,)
    again = dataclasses.replace(gone, kind=Kind.FORK)  # of the same time, but a later line
    assert {*current([FIRST, other, gone, again])} == {other, again}


# The file


def test_the_run_stays_as_it_is_byte_for_byte(written: PagesRun, tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    shutil.copytree(written.path, path)
    before, fingerprint = digest(path), PagesRun(path, written.logits, []).open().fingerprint
    file = beside(path)
    assert file.path == tmp_path / "run.zarr.labels.jsonl"
    assert file.read().labels == ()
    assert file.append([FIRST]) == 1
    assert file.append([FIRST, dataclasses.replace(FIRST, who="Bob")]) == 1
    assert digest(path) == before
    assert PagesRun(path, written.logits, []).open().fingerprint == fingerprint
    assert file.path.read_bytes() == lines_of([FIRST, dataclasses.replace(FIRST, who="Bob")])


def test_beside_a_url_nothing_can_be_kept(tmp_path: Path) -> None:
    assert LabelFile.beside("s3://bucket/run.zarr") is None
    assert beside(tmp_path / "a.zarr").path == beside(Path(f"{tmp_path}/a.zarr/")).path


def test_lines_are_only_added(tmp_path: Path) -> None:
    file = beside(tmp_path / "run.zarr")
    seen = b""
    for place in range(5):
        file.append([dataclasses.replace(FIRST, position=f"c:{place}")])
        now_there = file.path.read_bytes()
        assert now_there.startswith(seen)
        assert now_there != seen
        seen = now_there


def test_after_a_torn_line_the_next_begins_its_own(tmp_path: Path) -> None:
    file = beside(tmp_path / "run.zarr")
    file.append([FIRST])
    with file.path.open("ab") as half:
        half.write(line_of(FIRST)[:30])
    second = dataclasses.replace(FIRST, who="Bob")
    assert file.append([second]) == 1
    found = file.read()
    assert found.labels == (FIRST, second)
    assert [(one.line, one.reason) for one in found.skipped] == [(2, NO_LABEL)]


WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from probing.store.labels import LabelFile, read_lines
file, start, count = LabelFile(Path(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
(label,) = read_lines(sys.stdin.buffer.read(), name="").labels
print("ready", flush=True)
while not file.path.with_suffix(".go").exists():
    pass
file.append([replace(label, position=f"c:{place}", who="all") for place in range(3000)])
for place in range(start, start + count):
    file.append([replace(label, position=f"c:{place}", note="n" * (place % 300))])
"""


def writer(file: LabelFile, start: int, count: int) -> subprocess.Popen[bytes]:
    found = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(file.path), str(start), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert found.stdin is not None
    found.stdin.write(line_of(FIRST))
    found.stdin.close()
    return found


def begin(file: LabelFile, *writers: subprocess.Popen[bytes]) -> None:
    """Let them write, all at once."""
    for one in writers:
        assert one.stdout is not None
        one.stdout.readline()
    file.path.with_suffix(".go").touch()


def ended(one: subprocess.Popen[bytes]) -> int:
    assert one.stdout is not None
    one.stdout.close()
    return one.wait()


def test_sessions_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    file, count, several = beside(tmp_path / "run.zarr"), 60, 4
    writers = [writer(file, place * count, count) for place in range(several)]
    begin(file, *writers)
    while any(one.poll() is None for one in writers):
        assert file.read().skipped == ()  # nobody reads half a line either
    for one in writers:
        assert ended(one) == 0
    found = file.read()
    assert found.skipped == ()
    for who, wanted in (("Ada", count * several), ("all", 3000)):  # These came from each of them.
        own = [label.position for label in found.labels if label.who == who]
        assert sorted(own) == sorted(f"c:{place}" for place in range(wanted))


def test_a_killed_writer_leaves_whole_lines_and_no_lock(tmp_path: Path) -> None:
    file = beside(tmp_path / "run.zarr")
    one = writer(file, 0, 1_000_000)
    begin(file, one)
    while len(file.read().labels) < 5:
        time.sleep(0.01)
    one.kill()
    ended(one)
    before = len(file.read().labels)
    assert file.append([FIRST]) == 1
    found = file.read()
    assert len(found.labels) == before + 1
    assert len(found.skipped) <= 1


def test_a_full_disk_leaves_no_half_line() -> None:
    full = Path("/dev/full")
    with pytest.raises(UnwritablePath, match="No space left"):
        LabelFile(full).append([FIRST])


def test_what_was_half_written_is_taken_back(tmp_path: Path) -> None:
    """A real limit of the operating system stops the second line in its middle."""
    file = beside(tmp_path / "run.zarr")
    file.append([FIRST])
    size = file.path.stat().st_size
    program = (
        "import resource, signal, sys\nfrom pathlib import Path\n"
        "from probing.errors import UnwritablePath\n"
        "from probing.store.labels import LabelFile, read_lines\n"
        "file = LabelFile(Path(sys.argv[1]))\n"
        "(label,) = file.read().labels\n"
        "from dataclasses import replace\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size + 40}, {size + 40}))\n"
        "try:\n    file.append([replace(label, who='Bob')])\n"
        "except UnwritablePath as fault:\n    print(fault)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(file.path)],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    assert "File too large" in done.stdout
    assert file.path.read_bytes() == line_of(FIRST)


def test_a_place_that_cannot_be_written_is_told_before_and_after(tmp_path: Path) -> None:
    file = beside(tmp_path / "run.zarr")
    assert file.writable
    file.path.mkdir()
    assert not file.writable
    assert file.read().labels == ()
    with pytest.raises(UnwritablePath, match=r"labels are kept beside their run, .* copy the run"):
        file.append([FIRST])
    assert not beside(tmp_path / "absent" / "run.zarr").writable


def test_a_folder_that_one_may_only_read_is_known_for_one() -> None:
    program = (
        "import os, sys\nfrom pathlib import Path\n"
        "from probing.errors import UnwritablePath\n"
        "from probing.store.labels import LabelFile, read_lines\n"
        "file = LabelFile(Path(sys.argv[1]))\n"
        "(label,) = read_lines(sys.stdin.buffer.read(), name='').labels\n"
        "os.geteuid() or os.setuid(65534)\n"  # Root may write anywhere.
        "print(file.writable, len(file.read().labels))\n"
        "try:\n    file.append([label])\nexcept UnwritablePath as fault:\n    print(fault)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        file = beside(Path(folder) / "run.zarr")
        for there in (0, 1):
            if there:
                file.append([FIRST])
                file.path.chmod(0o444)
            Path(folder).chmod(0o555)
            done = subprocess.run(
                [sys.executable, "-c", program, str(file.path)],
                input=line_of(FIRST), capture_output=True, check=True, cwd=ROOT,
            )  # fmt: skip
            said = done.stdout.decode().splitlines()
            assert said[0] == f"False {there}"
            assert "cannot be written: Permission denied" in said[1]
            Path(folder).chmod(0o755)


# From elsewhere


def of_run(opened: Run, place: int, **changed: Any) -> Label:
    positions, carriers = opened.positions(), opened.carriers()
    carrier = carriers[int(positions.carrier[place])].carrier_id
    named = dataclasses.replace(
        FIRST, run=opened.fingerprint, position=f"{carrier}:{int(positions.position[place])}"
    )
    return dataclasses.replace(named, **changed)


def test_labels_from_elsewhere_are_taken_or_named_with_their_line(run: Run) -> None:
    good = of_run(run, 5)
    lines = [
        line_of(good),
        b"{bad\n",
        line_of(of_run(run, 6, run="f" * 64)),
        line_of(of_run(run, 6, other="baseline")),
        line_of(of_run(run, 6, position="c001-0:99999")),
        line_of(of_run(run, 6, position=f"{good.position.rpartition(':')[0]}:0{5}")),
        line_of(of_run(run, 6, time="2999-01-01T00:00:00+00:00")),
        line_of(of_run(run, 7, time=now())),
    ]
    found = taken(b"".join(lines), run=run, name="theirs.jsonl")
    assert found.lines == (1, 8)
    assert found.labels[0] == good
    assert [(one.line, one.reason) for one in found.skipped] == [
        (2, NO_LABEL),
        (3, intake.OTHER_RUN),
        (4, intake.OTHER_MODEL),
        (5, intake.NO_POSITION),
        (6, intake.NO_POSITION),
        (7, intake.FUTURE),
    ]
    assert {one.file for one in found.skipped} == {"theirs.jsonl"}


@pytest.mark.parametrize(
    ("data", "said"), [(line_of(FIRST), "1 of another run"), (b"x\ny\n", "2 that are none")]
)
def test_a_file_without_a_label_of_the_run_is_refused(run: Run, data: bytes, said: str) -> None:
    with pytest.raises(UnreadableInput, match=f"{run.fingerprint[:12]}…, got {said}; give") as told:
        taken(data, run=run, name="theirs.jsonl")
    assert len(told.value.skipped) == data.count(b"\n")


def test_every_position_has_one_name_and_no_other_text_has(
    run: Run, comparison: pd.DataFrame
) -> None:
    every = [position_name(row) for _, row in comparison.iterrows()]
    assert known_names(run, every) == frozenset(every)
    near = [f"{name}0" for name in every] + [name.replace(":", ":0") for name in every]
    far = ["", ":", "c:", "c:1", f"c001-0:{'9' * 400}", *HOSTILE]
    assert known_names(run, [*near, *far]) <= frozenset(every)
