"""The last boxed answer, and what counts as right, wrong and not graded."""

import math

import pytest

from probing.carriers.grading import generator_rates, grade, last_boxed, same_answer
from probing.carriers.record import Carrier


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{7}", "7"),
        (r"\boxed{1} no, \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed {a\}b}", r"a\}b"),
        (r"\boxed{3} and \boxed{unclosed", "3"),
        (r"\boxed{}", ""),
        ("nothing", None),
        (r"\boxed", None),
        (r"\boxed{{{}}", None),
    ],
)
def test_last_boxed(text: str, answer: str | None) -> None:
    assert last_boxed(text) == answer


@pytest.mark.parametrize(
    ("answer", "gold", "same"),
    [("0.5", r"\frac{1}{2}", True), ("12", "12", True), ("12", "13", False), ("", "3", None)],
)
def test_same_answer(answer: str, gold: str, same: bool | None) -> None:
    assert same_answer(answer, gold=gold) is same


def _carrier(response: str, **fields: object) -> Carrier:
    known: dict = {"carrier_id": "a", "problem_id": "p", "generator": "m", "prompt": "q"}
    return Carrier(response=response, **(known | fields))


def test_a_grade_that_is_there_is_kept() -> None:
    graded = grade(
        [
            _carrier(r"\boxed{2}", gold="2"),
            _carrier(r"\boxed{3}", gold="2"),
            _carrier(r"\boxed{3}", gold="2", correct=True),
            _carrier("no answer", gold="2"),
            _carrier(r"\boxed{2}"),
        ]
    )
    assert [carrier.correct for carrier in graded] == [True, False, True, None, None]
    assert [carrier.answer for carrier in graded] == ["2", "3", "3", None, "2"]


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
    assert (rates[1].graded, rates[1].cut_by_length) == (2, 0.5)
