"""The last boxed answer, and what counts as right, wrong and not graded."""

import dataclasses
import math
import random
import re
import signal
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probing.carriers.grading import (
    THINK_CLOSE,
    GradingReport,
    generator_rates,
    grade,
    grade_stream,
    last_boxed,
    same_answer,
)
from probing.carriers.record import Carrier
from probing.errors import MissingPackage, UsageFault
from probing.settings import Grading


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{7}", "7"),
        (r"\boxed{1} no, \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed {a\}b}", r"a\}b"),
        (r"\boxed{3} and \boxed{unclosed", "3"),
        (r"\boxed{outer \boxed{inner} outer}", "inner"),
        (r"} } \boxed{2} }", "2"),
        (r"{ \boxed{2}", "2"),
        (r"\boxed{a \\}", r"a \\"),
        (r"\\\boxed{5}", "5"),
        (r"\\boxed{6}", "6"),
        (r"\boxed{}", ""),
        ("nothing", None),
        (r"\boxed", None),
        (r"\boxed 7", None),
        (r"\boxed{{{}}", None),
    ],
)
def test_last_boxed(text: str, answer: str | None) -> None:
    assert last_boxed(text) == answer


def slow_last_boxed(text: str) -> str | None:
    """For every opening, from the last one on: walk to where its depth is back at nothing."""
    for opening in reversed(list(re.finditer(r"\\boxed\s*\{", text))):
        depth, at = 1, opening.end()
        while at < len(text):
            escapes = text[at] == "\\" and text[at + 1 : at + 2] in ("\\", "{", "}")
            if escapes and not re.match(r"\\boxed\s*\{", text[at + 1 :]):
                at += 2
                continue
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            if depth == 0:
                return text[opening.end() : at]
            at += 1
    return None


PIECES = (r"\boxed{", r"\boxed {", r"\boxed", "{", "}", "}", "\\", r"\{", r"\}", r"\\", "x", "\n")


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_last_boxed_is_the_slow_walk(text: str) -> None:
    assert last_boxed(text) == slow_last_boxed(text)


def test_a_model_caught_in_a_loop_of_boxes_is_read_in_one_pass() -> None:
    # A walk to the end for each opening would be 10^11 steps.
    assert last_boxed(r"\boxed{1}" + r"\boxed{" * 100_000) == "1"


ANSWERS = [
    ("0.5", r"\frac{1}{2}", True),
    ("12", "12", True),
    ("12", "13", False),
    (r"3\text{ apples}", "3", True),
    ("A", "B", False),
    ("∞", "∞", True),
    # Neither right nor wrong: nothing there, no mathematics, or a comparison that fails.
    ("", "3", None),
    (r"\frac{1}{", "3", None),
    ("3", r"\frac{1}{", None),
    ("∞", "3", None),
    ("3", "1/0", None),
]


@pytest.mark.parametrize(("answer", "gold", "same"), ANSWERS)
def test_same_answer(answer: str, gold: str, same: bool | None) -> None:
    assert same_answer(answer, gold=gold) is same


@pytest.fixture
def far_alarm() -> None:
    """An alarm long after the test: whoever sets a time limit by signals clears it."""
    signal.alarm(10_000)


@pytest.mark.usefixtures("far_alarm")
def test_every_thread_grades_alike_and_leaves_the_alarm_alone() -> None:
    carriers = [_carrier(rf"\boxed{{{answer}}}", answer=answer, gold=g) for answer, g, _ in ANSWERS]
    found: list[bool | None] = []
    thread = threading.Thread(target=lambda: found.extend(each.correct for each in grade(carriers)))
    thread.start()
    thread.join()
    assert found == [same for _, _, same in ANSWERS]
    assert [each.correct for each in grade(carriers)] == found
    assert signal.alarm(0) > 0


PIECES_OF_RESPONSES = (*PIECES, r"\boxed{1}", r"\boxed{2}", THINK_CLOSE, THINK_CLOSE)


@given(st.lists(st.sampled_from(PIECES_OF_RESPONSES), max_size=14).map("".join))
def test_the_answer_is_the_last_box_after_thinking_else_anywhere(text: str) -> None:
    after = text[text.rindex(THINK_CLOSE) + len(THINK_CLOSE) :] if THINK_CLOSE in text else ""
    answer = slow_last_boxed(after)
    assert last_boxed(text) == (slow_last_boxed(text) if answer is None else answer)


def test_a_box_around_the_end_of_thinking_is_not_the_final_one() -> None:
    assert last_boxed(r"\boxed{1 </think> so \boxed{2} }") == "2"
    assert last_boxed(r"\boxed{2} </think> as said") == "2"


def _carrier(response: str, **fields: object) -> Carrier:
    known: dict = {"carrier_id": "a", "problem_id": "p", "generator": "m", "prompt": "q"}
    return Carrier(response=response, **(known | fields))


# Response, what the record says, and after: answer, grade, grade anew.
RECORDS: list[tuple[str, dict[str, object], str | None, bool | None, bool | None]] = [
    (r"\boxed{2}", {"gold": "2"}, "2", True, True),
    (r"\boxed{3}", {"gold": "2"}, "3", False, False),
    (r"\boxed{3}", {"gold": "2", "correct": True}, "3", True, False),
    (r"\boxed{2}", {"gold": "2", "correct": False}, "2", False, True),
    (r"\boxed{3}", {"gold": "2", "answer": "2"}, "2", True, True),
    (r"\boxed{}", {"gold": "2", "correct": True}, "", True, None),
    ("no answer", {"gold": "2"}, None, None, None),
    ("no answer", {"gold": "2", "correct": True}, None, True, None),
    (r"\boxed{2}", {}, "2", None, None),
    (r"\boxed{2}", {"correct": True}, "2", True, True),
    (r"\boxed{2} and", {"gold": "2", "finish_reason": "length"}, "2", True, True),
]


@pytest.mark.parametrize("regrade", [False, True])
def test_a_grade_that_is_there_is_kept_unless_regraded(regrade: bool) -> None:
    carriers = [_carrier(response, **fields) for response, fields, *_ in RECORDS]
    with grade_stream(carriers, Grading(regrade=regrade)) as stream:
        graded = list(stream)
    assert [each.answer for each in graded] == [row[2] for row in RECORDS]
    assert [each.correct for each in graded] == [row[4 if regrade else 3] for row in RECORDS]
    for before, after in zip(carriers, graded, strict=True):
        assert dataclasses.replace(after, answer=before.answer, correct=before.correct) == before
    counts = {"right": 4, "wrong": 2, "unparsable": 1, "no_answer": 2, "kept": 1, "no_gold": 1}
    if not regrade:
        counts = {"right": 3, "wrong": 1, "no_answer": 1, "kept": 5, "no_gold": 1}
    assert stream.report == GradingReport(**counts, cut_by_length=1)
    assert stream.report.carriers == len(RECORDS)
    assert stream.report.graded == counts["right"] + counts["wrong"]


def slow_grade(carrier: Carrier, *, regrade: bool) -> bool | None:
    if carrier.correct is not None and not (regrade and carrier.gold is not None):
        return carrier.correct
    answer = carrier.answer if carrier.answer is not None else slow_last_boxed(carrier.response)
    if carrier.gold is None or answer is None:
        return None
    return answer.strip() == carrier.gold.strip()


@pytest.mark.parametrize("regrade", [False, True])
def test_a_stream_in_processes_is_the_plain_loop(regrade: bool) -> None:
    rng = random.Random(0)
    texts = (None, "", "1", " 1", "1 ", "2", "\ud800", "∞\n", "x" * 2000)
    carriers = [
        _carrier(
            rng.choice(("none", r"\boxed{1}", r"\boxed{2 }", r"\boxed{" + str(index) + "}")),
            carrier_id=str(index),
            gold=rng.choice(texts),
            answer=rng.choice(texts),
            correct=rng.choice((None, None, True, False)),
        )
        for index in range(2000)
    ]
    for workers in (1, 3):
        grading = Grading(grader="exact", workers=workers, regrade=regrade)
        graded = grade(carriers, grading)
        assert [each.carrier_id for each in graded] == [each.carrier_id for each in carriers]
        assert [each.correct for each in graded] == [
            slow_grade(each, regrade=regrade) for each in carriers
        ]


def test_grading_without_its_package_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    # What Python itself records for a module that cannot be imported.
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(MissingPackage, match=r"pip install 'ssd-probing\[grade\]'"):
        grade([_carrier(r"\boxed{2}", gold="2")])
    nothing_to_grade = [_carrier(r"\boxed{2}"), _carrier(r"\boxed{2}", gold="2", correct=True)]
    assert [carrier.correct for carrier in grade(nothing_to_grade)] == [None, True]


@pytest.mark.parametrize(
    ("call", "imported"), [("pass", "False"), ("same_answer('1', gold='1')", "True")]
)
def test_the_package_is_imported_by_grading_alone(call: str, imported: str) -> None:
    program = (
        "import sys; from probing.carriers import reading, sampling, writing; "
        f"from probing.carriers.grading import same_answer; {call}; "
        "print('math_verify' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == imported


def test_rates_per_generator() -> None:
    rates = generator_rates(
        [
            _carrier(r"x</think>\boxed{2}", correct=True),
            _carrier("x", correct=False, finish_reason="length"),
            _carrier("x", finish_reason="stop"),
            _carrier("x", generator="b"),
        ]
    )
    assert [item.generator for item in rates] == ["b", "m"]
    assert math.isnan(rates[0].correct)
    assert math.isnan(rates[0].cut_by_length)
    assert (rates[0].graded, rates[0].boxed, rates[0].finish_unknown) == (0, 0.0, 1)
    assert (rates[1].carriers, rates[1].graded, rates[1].finish_unknown) == (3, 2, 1)
    assert (rates[1].correct, rates[1].cut_by_length) == (0.5, 0.5)
    assert (rates[1].boxed, rates[1].think_closed) == (1 / 3, 1 / 3)


def test_no_rates_of_no_carriers() -> None:
    assert generator_rates([]) == ()


def test_an_unknown_grader_names_those_there_are_before_anything_is_graded() -> None:
    with pytest.raises(UsageFault, match=r"one of math-verify, exact.*, got 'maths'"):
        grade_stream([], Grading(grader="maths"))


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"seconds": 0.0}, r"\(0, 86400\], got 0\.0"),
        ({"seconds": math.inf}, "got inf"),
        ({"seconds": math.nan}, "got nan"),
        ({"workers": -1}, r"workers must be >= 0 .*, got -1"),
    ],
)
def test_settings_that_no_grading_can_have(fields: dict[str, float], rule: str) -> None:
    with pytest.raises(UsageFault, match=rule):
        Grading(**fields)  # type: ignore[arg-type]
