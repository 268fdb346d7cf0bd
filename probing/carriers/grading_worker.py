"""What a grading process runs: a question a line comes in, a reply a line goes out."""

import json
import logging
import os
import signal
from typing import Any, BinaryIO

from probing.carriers.graders import BUILT_IN, Grader, grader

ORPHANED_AFTER_SECONDS = 2.0
"""So long after its time limit a process ends by itself: then nobody is left to kill it."""
LONGEST_DETAIL = 200


def main(name: str, seconds: float) -> None:
    """Load the grader `name`, say so, and answer questions until there are no more.

    A question is `[answer, gold]`, a reply `{"same": true | false | null}` or `{"raised": text}`;
    the first line out is `{"fault": null}`, or what kept the grader from being loaded.
    """
    questions, replies = _own_pipes()
    # The time limit is the parent's; math-verify warns that it has none.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    try:
        grade = grader(name)
        if name in BUILT_IN:
            grade("1", "1")  # What is imported at the first call is not the first answer's time.
    except Exception as error:
        _say(replies, {"fault": _short(error)})
        return
    _say(replies, {"fault": None})
    for line in questions:
        _alarm(seconds + ORPHANED_AFTER_SECONDS)
        reply = _reply(grade, *json.loads(line))
        _alarm(0)
        try:
            _say(replies, reply)
        except BrokenPipeError:  # The parent ended meanwhile.
            return


def _own_pipes() -> tuple[BinaryIO, int]:
    """Questions and replies on descriptors that a grader which prints or reads cannot touch."""
    questions, replies = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return os.fdopen(questions, "rb"), replies


def _reply(grade: Grader, answer: str, gold: str) -> dict[str, Any]:
    try:
        same = grade(answer, gold)
    except Exception as error:
        return {"raised": _short(error)}
    # A NumPy bool is one too; the text "false" is not.
    if same is None or same in (True, False):
        return {"same": None if same is None else bool(same)}
    return {"raised": f"a grader gives True, False or None, got {same!r}"[:LONGEST_DETAIL]}


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:LONGEST_DETAIL]


def _say(replies: int, message: dict[str, Any]) -> None:
    os.write(replies, json.dumps(message).encode() + b"\n")


def _alarm(seconds: float) -> None:
    """Be killed after so long, even amid a multiplication that hears no Python signal handler."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)
