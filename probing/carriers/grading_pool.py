"""Processes that grade: an answer at a time each, and each answer within its time."""

import atexit
import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from enum import StrEnum
from queue import SimpleQueue
from types import TracebackType
from typing import NamedTuple

from probing.carriers.graders import check_package
from probing.errors import GraderUnusable
from probing.settings import MOST_GRADING_WORKERS, Grading

START_SECONDS = 120.0
"""What a grader may take to be loaded: a busy machine reads its packages from disk."""
END_SECONDS = 2.0
"""What an idle process may take to end by itself before it is killed."""
TICK_SECONDS = 0.05
"""How often time limits are looked at."""
BACKLOG = 32
"""Questions that wait for each process before another is begun, which costs about as much."""
REMEMBERED = 4096
LONGEST_REMEMBERED = 1000
"""Replies kept for the same answer to the same problem, and how long such a pair may be."""

# A fresh interpreter, since a spawned one would run the caller's main module again: the
# dashboard's imports Streamlit, a training script's torch.
PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from probing.carriers.grading_worker import main; main(sys.argv[2], float(sys.argv[3]))"
)
POSIX = os.name == "posix"


class Outcome(StrEnum):
    """What became of a carrier's grade."""

    KEPT = "kept as graded before"
    RIGHT = "right"
    WRONG = "wrong"
    UNPARSABLE = "unparsable"
    TIMED_OUT = "timed out"
    CRASHED = "crashed"
    NO_GOLD = "without gold"
    NO_ANSWER = "without answer"


class Reply(NamedTuple):
    """What became of one answer, and for one that timed out or crashed, how."""

    outcome: Outcome
    detail: str = ""


class GradingPool:
    """Grades answers in processes of its own; use it as a context manager.

    A process that says nothing within `grading.seconds`, or ends, is replaced. Each is led by a
    thread, and one more watches the time, so that any thread may ask and no signal is needed.
    Nothing is begun before there is a question. Leaving by an exception kills all at once.
    """

    def __init__(self, grading: Grading) -> None:
        self._grading = grading
        self._most = grading.workers or min(_cores(), MOST_GRADING_WORKERS)
        self._questions: SimpleQueue[_Question | None] = SimpleQueue()
        self._led: list[tuple[threading.Thread, _Worker]] = []
        self._remembered: dict[tuple[str, str], Future[Reply]] = {}
        self._closed = False
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._watch_time, daemon=True)

    def __enter__(self) -> "GradingPool":
        atexit.register(self.close, at_once=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(at_once=kind is not None)
        atexit.unregister(self.close)

    def ask(self, answer: str, gold: str) -> Future[Reply]:
        """Have an answer graded; the same pair is graded once as long as it is remembered.

        Raises:
            MissingPackage: the grader needs a package that is not installed.
        """
        pair = (answer, gold)
        if (known := self._remembered.get(pair)) is not None:
            return known
        if not self._led:
            check_package(self._grading.grader)
        question = _Question(answer, gold, Future())
        self._questions.put(question)
        if len(self._led) < self._most and self._questions.qsize() > BACKLOG * len(self._led):
            self._begin()
        if len(answer) + len(gold) <= LONGEST_REMEMBERED:
            self._remembered[pair] = question.reply
            if len(self._remembered) > REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
        return question.reply

    def close(self, *, at_once: bool) -> None:
        """End every process; with `at_once` those too that are grading."""
        self._closed = True
        for _, worker in self._led:
            self._questions.put(None)
            if at_once:
                worker.kill()
        for thread, _ in self._led:
            thread.join()
        self._ended.set()
        if self._led:
            self._watch.join()

    def _begin(self) -> None:
        if not self._led:
            self._watch.start()
        worker = _Worker(self._grading)
        thread = threading.Thread(target=self._lead, args=(worker,), daemon=True)
        self._led.append((thread, worker))
        thread.start()

    def _lead(self, worker: "_Worker") -> None:
        while (question := self._questions.get()) is not None and not self._closed:
            try:
                question.reply.set_result(worker.ask(question))
            except Exception as error:
                question.reply.set_exception(error)
        worker.end()

    def _watch_time(self) -> None:
        while not self._ended.wait(TICK_SECONDS):
            for _, worker in tuple(self._led):
                worker.kill_if_late()


class _Question(NamedTuple):
    answer: str
    gold: str
    reply: Future[Reply]


class _Heard(NamedTuple):
    """A whole line of a process, or b"" where it ended or, `late`, was killed before."""

    line: bytes
    late: bool
    exit_code: int


class _Worker:
    """One process that grades, replaced when an answer ended it."""

    def __init__(self, grading: Grading) -> None:
        self._grading = grading
        self._lock = threading.Lock()
        """Held while a process is begun, killed or waited for, and while its time is set."""
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._deadline = math.inf
        self._late = False

    def ask(self, question: _Question) -> Reply:
        """Grade one answer.

        Raises:
            GraderUnusable: the grader cannot be loaded.
        """
        process = self._process or self._start()
        line = json.dumps([question.answer, question.gold]).encode() + b"\n"
        seconds = self._grading.seconds
        heard = self._exchange(process, line, seconds=seconds)
        if heard.late or (not heard.line and _was_alarm(heard.exit_code)):
            return Reply(Outcome.TIMED_OUT, f"no grade within {seconds:g} s")
        if not heard.line:
            return Reply(Outcome.CRASHED, _ending(heard.exit_code))
        said = json.loads(heard.line)
        if "raised" in said:
            return Reply(Outcome.CRASHED, said["raised"])
        return Reply(OUTCOMES[said["same"]])

    def _start(self) -> subprocess.Popen[bytes]:
        name = self._grading.grader
        path = json.dumps([part for part in sys.path if isinstance(part, str)])
        command = [sys.executable, "-P", "-c", PROGRAM, path, name, str(self._grading.seconds)]
        with self._lock:
            if self._closed:
                raise GraderUnusable("grading was stopped")
            # In a group of its own: Ctrl-C reaches the parent alone, and a grader's own
            # processes are killed with it.
            self._process = process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                process_group=0 if POSIX else None,
            )
        heard = self._exchange(process, b"", seconds=START_SECONDS)
        if heard.line:
            fault = json.loads(heard.line)["fault"]
        elif heard.late:
            fault = f"it took more than {START_SECONDS:g} s"
        else:
            fault = _ending(heard.exit_code)
        if fault is not None:
            if heard.line:
                self._bury()
            raise GraderUnusable(
                f"the grader {name!r} must load in a fresh Python process, got: {fault}; run "
                f"`python -c \"from probing.carriers.graders import grader; grader('{name}')\"`"
            )
        return process

    def _exchange(self, process: subprocess.Popen[bytes], line: bytes, *, seconds: float) -> _Heard:
        """Say a line and hear one within a time; a process that does not say one is no more."""
        with self._lock:
            self._deadline, self._late = time.monotonic() + seconds, False
        heard = _said(process, line)
        with self._lock:
            # From here on it cannot be killed for this question in its next one.
            self._deadline, late = math.inf, self._late
        if late or not heard:
            return _Heard(b"", late, self._bury())
        return _Heard(heard, late=False, exit_code=0)

    def kill_if_late(self) -> None:
        """End the process, from another thread, where its time is over."""
        with self._lock:
            if time.monotonic() > self._deadline and self._process is not None:
                self._deadline, self._late = math.inf, True
                _kill(self._process)

    def kill(self) -> None:
        """End the process from another thread, and begin no other."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                _kill(self._process)

    def end(self) -> None:
        """End an idle process: by the end of its input, or else by force."""
        process = self._process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
            self._exchange(process, b"", seconds=END_SECONDS)
        self._closed = True

    def _bury(self) -> int:
        """Kill what is left of the process and its group, and wait for it: its exit code."""
        with self._lock:
            process, self._process = self._process, None
            assert process is not None
            # Until it is waited for, its number, which is the group's, is nobody else's.
            _kill(process)
            exit_code = process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # What it did not read is lost with it.
                if pipe is not None:
                    pipe.close()
        return exit_code


OUTCOMES = {True: Outcome.RIGHT, False: Outcome.WRONG, None: Outcome.UNPARSABLE}


def _said(process: subprocess.Popen[bytes], line: bytes) -> bytes:
    """A whole line of a process in reply to one, or b""."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if line:
            process.stdin.write(line)
            process.stdin.flush()
        heard = process.stdout.readline()
    except OSError:  # It ended before it had read everything.
        return b""
    return heard if heard.endswith(b"\n") else b""


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that nobody has waited for yet, with its group."""
    if POSIX:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def _was_alarm(exit_code: int) -> bool:
    return POSIX and exit_code == -signal.SIGALRM


def _ending(exit_code: int) -> str:
    if exit_code < 0:
        return f"its process was ended by signal {-exit_code} ({signal.strsignal(-exit_code)})"
    return f"its process ended with exit code {exit_code}"


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
