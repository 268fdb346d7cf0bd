"""The last boxed answer, and what counts as right, wrong and not graded."""

import math
import re
import signal
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probing.carriers.grading import generator_rates, grade, last_boxed, same_answer
from probing.carriers.record import Carrier
from probing.errors import MissingPackage


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


def test_other_threads_grade_alike() -> None:
    found: list[bool | None] = []
    thread = threading.Thread(
        target=lambda: found.extend(same_answer(answer, gold=gold) for answer, gold, _ in ANSWERS)
    )
    thread.start()
    thread.join()
    assert found == [same for _, _, same in ANSWERS]


@pytest.fixture
def far_alarm() -> None:
    """An alarm long after the test: whoever sets a time limit clears it."""
    signal.alarm(10_000)


@pytest.mark.usefixtures("far_alarm")
def test_time_limits_hold_in_the_main_thread_alone() -> None:
    thread = threading.Thread(target=lambda: same_answer("1", gold="2"))
    thread.start()
    thread.join()
    assert signal.alarm(10_000) > 0
    same_answer("1", gold="2")
    assert signal.alarm(0) == 0


def _carrier(response: str, **fields: object) -> Carrier:
    known: dict = {"carrier_id": "a", "problem_id": "p", "generator": "m", "prompt": "q"}
    return Carrier(response=response, **(known | fields))


def test_a_grade_that_is_there_is_kept() -> None:
    graded = grade(
        [
            _carrier(r"\boxed{2}", gold="2"),
            _carrier(r"\boxed{3}", gold="2"),
            _carrier(r"\boxed{3}", gold="2", correct=True),
            _carrier(r"\boxed{2}", gold="2", correct=False),
            _carrier(r"\boxed{3}", gold="2", answer="2"),
            _carrier("no answer", gold="2"),
            _carrier(r"\boxed{2}"),
        ]
    )
    assert [carrier.correct for carrier in graded] == [True, False, True, False, True, None, None]
    assert [carrier.answer for carrier in graded] == ["2", "3", "3", "2", "2", None, "2"]


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
            _carrier("x", generator="b"),
        ]
    )
    assert [item.generator for item in rates] == ["b", "m"]
    assert math.isnan(rates[0].correct)
    assert (rates[1].correct, rates[1].boxed, rates[1].think_closed) == (0.5, 0.5, 0.5)
    assert (rates[1].carriers, rates[1].graded, rates[1].cut_by_length) == (2, 2, 0.5)
