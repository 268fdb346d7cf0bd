"""Graders that hang, crash, raise or come from packages; processes that end with their work."""

import dataclasses
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from probing.carriers import grading_pool
from probing.carriers.graders import grader
from probing.carriers.grading import HELD, MOST_NAMED, GradingReport, grade, grade_stream
from probing.carriers.grading_pool import Outcome
from probing.carriers.reading import read_carriers
from probing.carriers.record import Carrier
from probing.carriers.writing import write_carriers
from probing.cli import app
from probing.errors import GraderUnusable, UsageFault
from probing.settings import Grading

ROOT = Path(__file__).parent.parent

ODD = """
import os, signal, subprocess, sys, time

def tell(name, number):
    with open(name, "w") as file:
        file.write(f"{number}\\n")

def odd(answer, gold):
    if answer == "sleep":
        while True:
            time.sleep(1000)
    if answer == "deaf":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        time.sleep(1000)
    if answer == "multiply":  # One call that hears no Python signal handler.
        return 9 ** 9 ** 9 ** 2 == 1
    if answer.startswith("family "):
        name = answer.removeprefix("family ")
        program = f"import time; time.sleep(60); open({name!r}, 'w').write('survived')"
        tell(name, subprocess.Popen([sys.executable, "-c", program]).pid)
        if gold == "exit":
            os._exit(0)
        time.sleep(1000)
    if answer == "exit":
        os._exit(3)
    if answer == "leave":
        sys.exit(0)
    if answer == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if answer == "raise":
        raise ValueError("no \\x1b[31m units \\ud800")
    if answer == "text":
        return "false"
    if answer == "chat":
        print("true", flush=True)
        os.write(1, b"{}")
        return input if sys.stdin.read() else None
    if answer == "heavy":
        return not {"torch", "streamlit", "caller_marker"} & set(sys.modules)
    if answer.startswith("tell "):
        with open(answer.removeprefix("tell "), "w") as file:
            file.write(f"{os.getpid()}\\n")
        time.sleep(1000)
    return answer == gold
"""
ENTRY_POINTS = """[probing.graders]
odd = odd_graders:odd
broken = odd_graders:absent
exit = exit_at_import:grade
exact = odd_graders:odd
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of `sys.path` with an installed distribution of graders."""
    folder = tmp_path / "site"
    record = folder / "odd_graders-1.0.dist-info"
    record.mkdir(parents=True)
    (folder / "odd_graders.py").write_text(ODD, encoding="utf-8")
    (folder / "exit_at_import.py").write_text("import os; os._exit(7)", encoding="utf-8")
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-graders\nVersion: 1.0\n")
    (record / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(folder))
    return folder


Popen = subprocess.Popen[bytes]


@pytest.fixture(autouse=True)
def begun(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Popen]]:
    """Processes that grading began; after each test all have ended and been waited for."""
    found: list[Popen] = []
    begin = subprocess.Popen

    def remembered(*args: object, **options: object) -> Popen:
        process = begin(*args, **options)  # type: ignore[call-overload]
        found.append(process)
        return process

    monkeypatch.setattr(grading_pool.subprocess, "Popen", remembered)
    yield found
    assert [process.returncode for process in found if process.returncode is None] == []


def _carrier(answer: str, gold: str = "1", **fields: str) -> Carrier:
    known = {"carrier_id": answer, "problem_id": "p", "generator": "m", "response": "r"}
    return Carrier(answer=answer, gold=gold, **(known | fields))  # type: ignore[arg-type]


ODDITIES = {
    "sleep": (Outcome.TIMED_OUT, "no grade within 1 s"),
    "deaf": (Outcome.TIMED_OUT, "no grade within 1 s"),
    "multiply": (Outcome.TIMED_OUT, "no grade within 1 s"),
    "exit": (Outcome.CRASHED, "its process ended with exit code 3"),
    "leave": (Outcome.CRASHED, "its process ended with exit code 0"),
    "kill": (Outcome.CRASHED, "its process was ended by signal 9 (Killed)"),
    "raise": (Outcome.CRASHED, "ValueError: no \x1b[31m units \ud800"),
    "text": (Outcome.CRASHED, "a grader gives True, False or None, got 'false'"),
}


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("workers", [1, 2])
def test_an_answer_that_hangs_or_crashes_harms_no_other(
    workers: int, monkeypatch: pytest.MonkeyPatch, begun: list[Popen]
) -> None:
    monkeypatch.setattr(grading_pool, "BACKLOG", 1)  # So few answers would take one process.
    answers = list(itertools.chain.from_iterable(("1", odd, "2") for odd in ODDITIES))
    with grade_stream(
        map(_carrier, answers), Grading(grader="odd", seconds=1.0, workers=workers)
    ) as stream:
        graded = list(stream)
    assert [each.carrier_id for each in graded] == answers
    expected: dict[str, bool | None] = {"1": True, "2": False}
    assert [each.correct for each in graded] == [expected.get(each) for each in answers]
    report = stream.report
    assert (report.right, report.wrong, report.timed_out, report.crashed) == (8, 8, 3, 5)
    found = {each.carrier_id: (each.outcome, each.detail) for each in report.unsettled}
    assert found == ODDITIES
    # Each oddity but those that only raise took a process with it.
    assert len(begun) >= len(ODDITIES) - 2 + 1
    # What a terminal would obey, or cannot show, is escaped.
    assert all(sentence.isprintable() for sentence in report.sentences())


@pytest.mark.usefixtures("package")
def test_what_a_grader_prints_or_reads_is_no_reply(capfd: pytest.CaptureFixture[str]) -> None:
    graded = grade(map(_carrier, ("chat", "1", "chat")), Grading(grader="odd"))
    assert [each.correct for each in graded] == [None, True, None]
    out, err = capfd.readouterr()
    assert out == ""
    assert "true" in err


def test_a_power_that_nobody_can_compute_ends_in_time() -> None:
    response = r"so \boxed{9^{9^{9^{9}}}}"
    bomb = dataclasses.replace(_carrier("bomb", response=response), answer=None)
    carriers = [bomb, *map(_carrier, "12")]
    with grade_stream(carriers, Grading(seconds=1.0, workers=1)) as stream:
        assert [each.correct for each in stream] == [None, True, False]
    assert stream.report.timed_out == 1


def _await_end(file: Path) -> None:
    """Wait for the end of the process that a file names, which writes there if it outlives us."""
    number = file.read_text()
    while _runs(int(number)):
        assert file.read_text() == number
        time.sleep(0.01)
    assert file.read_text() == number


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    # One that has ended may wait for whoever adopted it.
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("end", ["sleep", "exit"])
def test_what_a_grader_began_ends_with_it(end: str, tmp_path: Path) -> None:
    carrier = _carrier(f"family {tmp_path / 'number'}", gold=end)
    graded = grade([carrier], Grading(grader="odd", seconds=1.0))
    assert graded[0].correct is None
    _await_end(tmp_path / "number")


def test_the_same_answer_to_the_same_problem_is_graded_once(
    begun: list[Popen], package: Path
) -> None:
    carriers = [_carrier("exit", carrier_id=str(index)) for index in range(50)]
    with grade_stream(carriers, Grading(grader="odd", workers=1)) as stream:
        assert [each.correct for each in stream] == [None] * 50
    assert len(begun) == 1
    assert (stream.report.crashed, len(stream.report.unsettled)) == (50, MOST_NAMED)
    assert "and 30 more timed out or crashed" in stream.report.sentences()


def test_pairs_beyond_those_remembered_are_graded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading_pool, "REMEMBERED", 2)
    answers = random.Random(0).choices("0123", k=200)
    graded = grade(map(_carrier, answers), Grading(grader="exact"))
    assert [each.correct for each in graded] == [answer == "1" for answer in answers]


def test_a_stream_holds_so_many_carriers_and_ends_when_left(begun: list[Popen]) -> None:
    read = 0

    def endless() -> Iterable[Carrier]:
        nonlocal read
        for read in itertools.count(1):
            yield _carrier(str(read))

    with grade_stream(endless(), Grading(grader="exact")) as stream:
        for given, carrier in enumerate(itertools.islice(stream, 1000), start=1):
            assert carrier.carrier_id == str(given)
            assert read - given < HELD
    assert stream.report.carriers == 1000
    assert begun


def test_a_stream_that_is_dropped_or_fails_leaves_no_process(begun: list[Popen]) -> None:
    def failing() -> Iterable[Carrier]:
        yield from (_carrier(str(index)) for index in range(500))
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(grade_stream(failing(), Grading(grader="exact")))
    assert all(process.returncode is not None for process in begun)
    stream = grade_stream(map(_carrier, "12"), Grading(grader="exact"))
    next(stream)
    del stream
    assert len(begun) >= 2


def test_nothing_to_grade_begins_no_process(begun: list[Popen]) -> None:
    with grade_stream([]) as stream:
        assert list(stream) == []
    assert stream.report == GradingReport()
    assert begun == []


def test_a_few_answers_take_one_process(begun: list[Popen]) -> None:
    grade(map(_carrier, "123"), Grading(grader="exact", workers=4))
    assert len(begun) == 1


@pytest.mark.usefixtures("package")
def test_a_package_adds_a_grader_by_its_entry_point() -> None:
    assert grader("odd")("2", "2") is True
    with pytest.raises(UsageFault, match=r"math-verify, exact, broken, exit, odd, got 'even'"):
        grader("even")
    with pytest.raises(UsageFault, match=r"'exact' from probing and odd_graders:odd"):
        grader("exact")


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("name", "fault"), [("broken", "AttributeError.*absent"), ("exit", "exit code 7")]
)
def test_a_grader_that_does_not_load_says_so(name: str, fault: str) -> None:
    with pytest.raises(GraderUnusable, match=rf"'{name}' must load .*{fault}.*; run `python -c"):
        grade(map(_carrier, "123"), Grading(grader=name))


@pytest.mark.usefixtures("package")
def test_the_command_grades_anew_by_a_named_grader_and_says_what_became_of_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    carriers = [dataclasses.replace(_carrier(answer), prompt="q") for answer in ("1", "2", "sleep")]
    carriers[1] = dataclasses.replace(carriers[1], correct=True)
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_carriers(carriers, source)
    flags = ["--grader", "odd", "--seconds-per-answer", "0.5", "--regrade", "-o", str(target)]
    app(["carriers", str(source), *flags], standalone_mode=False)
    graded = read_carriers([str(target)]).carriers
    assert [each.correct for each in graded] == [True, False, None]
    out = capsys.readouterr().out
    assert "2 graded (1 right, 1 wrong), 0 kept as graded before, 1 not graded (1 timed out)" in out
    assert "carrier sleep: grading timed out: no grade within 0.5 s" in out
    with pytest.raises(UsageFault, match="--regrade cannot go with --no-grade"):
        app(["carriers", str(source), "--no-grade", "--regrade"], standalone_mode=False)


# Not guarded by its name: a process that ran it again would begin processes without end.
CALLER = """
import sys, types
sys.modules["caller_marker"] = types.ModuleType("caller_marker")
sys.path.insert(0, {folder!r})
from probing.carriers.grading import grade
from probing.carriers.record import Carrier
from probing.settings import Grading

carrier = Carrier(
    carrier_id="a", problem_id="p", response="", generator="m", answer={answer!r}, gold="1"
)
print("ready", flush=True)
print([each.correct for each in grade([carrier], Grading(grader="odd", seconds={seconds}))])
"""


@pytest.fixture
def call(package: Path, tmp_path: Path) -> Callable[..., Popen]:
    """Begin a program that grades one answer."""

    def begin(answer: str, *, seconds: float) -> Popen:
        program = tmp_path / "caller.py"
        text = CALLER.format(folder=str(package), answer=answer, seconds=seconds)
        program.write_text(text, encoding="utf-8")
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(program)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, env=environment)

    return begin


def test_a_grading_process_does_not_run_its_callers_program(call: Callable[..., Popen]) -> None:
    out, _ = call("heavy", seconds=5).communicate()
    assert out.split() == [b"ready", b"[True]"]


def _told(file: Path, caller: Popen) -> int:
    """The process that a grader runs in, once it has said so."""
    while not (file.exists() and file.read_text().endswith("\n")):
        assert caller.poll() is None
        time.sleep(0.01)
    return int(file.read_text())


def test_ctrl_c_ends_what_grades(call: Callable[..., Popen], tmp_path: Path) -> None:
    caller = call(f"tell {tmp_path / 'number'}", seconds=1000)
    process = _told(tmp_path / "number", caller)
    caller.send_signal(signal.SIGINT)
    _, err = caller.communicate()
    assert caller.returncode == -signal.SIGINT
    assert b"KeyboardInterrupt" in err
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_what_grades_outlives_a_killed_caller_by_its_time_limit_at_most(
    call: Callable[..., Popen], tmp_path: Path
) -> None:
    caller = call(f"tell {tmp_path / 'number'}", seconds=0.5)
    _told(tmp_path / "number", caller)
    caller.kill()
    caller.communicate()
    _await_end(tmp_path / "number")
