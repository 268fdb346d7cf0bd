"""The answer in a response, and whether it is right."""

import dataclasses
import itertools
import re
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from probing.carriers.record import Carrier
from probing.errors import MissingPackage

BRACES = re.compile(r"(?P<boxed>\\boxed\s*\{)|\\(?!\\boxed\s*\{)[\\{}]|(?P<brace>[{}])")
r"""Openings and closings; `\{`, `\}` and the line break `\\` are passed over."""
THINK_CLOSE = "</think>"
CUT_BY_LENGTH = ("length", "max_tokens")


@dataclass(frozen=True)
class GeneratorRates:
    """How one generator's responses fared; shares of `carriers`, except `correct` of `graded`."""

    generator: str
    carriers: int
    graded: int
    correct: float
    boxed: float
    think_closed: float
    cut_by_length: float


def last_boxed(text: str) -> str | None:
    r"""The content of the last closed `\boxed{…}`, braces nested; None when there is none.

    Examples:
        >>> last_boxed(r"so \boxed{1}, no: \boxed{\frac{1}{2}}")
        '\\frac{1}{2}'
    """
    # One pass with a stack of open braces: a model caught in a loop opens thousands.
    waiting: list[tuple[bool, int]] = []
    best: tuple[int, int] | None = None
    for match in BRACES.finditer(text):
        if match["boxed"] or match["brace"] == "{":
            waiting.append((match["boxed"] is not None, match.end()))
        elif match["brace"] and waiting:
            is_boxed, start = waiting.pop()
            if is_boxed and (best is None or start > best[0]):
                best = (start, match.start())
    return None if best is None else text[best[0] : best[1]]


def grade(carriers: Sequence[Carrier]) -> tuple[Carrier, ...]:
    """Fill `answer` and, where `gold` is given and nobody graded yet, `correct`.

    An existing `correct` is kept. What cannot be parsed stays None: not graded is not wrong.

    Raises:
        MissingPackage: something is to be graded and math-verify is not installed.
    """
    return tuple(_graded(carrier) for carrier in carriers)


def _graded(carrier: Carrier) -> Carrier:
    answer = carrier.answer if carrier.answer is not None else last_boxed(carrier.response)
    correct = carrier.correct
    if correct is None and answer is not None and carrier.gold is not None:
        correct = same_answer(answer, gold=carrier.gold)
    return dataclasses.replace(carrier, answer=answer, correct=correct)


def same_answer(answer: str, *, gold: str) -> bool | None:
    """Whether math-verify takes the two for equal; None where that cannot be told.

    That is: one of them is no mathematics and the texts differ, or a comparison failed or ran
    out of time. In the main thread math-verify's own time limit holds for each step; elsewhere
    there is none, since its limits are signals.

    Raises:
        MissingPackage: math-verify is not installed.
    """
    try:
        from math_verify import parse, verify
        from math_verify.errors import TimeoutException
    except ImportError as error:
        raise MissingPackage(
            "grading needs the package math-verify, which is not installed; "
            "run `pip install 'ssd-probing[grade]'`"
        ) from error
    limited = _limits_work()
    try:
        wanted, given = (
            parse(rf"\boxed{{{text}}}", raise_on_error=True, **({} if limited else PARSE_UNLIMITED))
            for text in (gold, answer)
        )
    except (Exception, TimeoutException):
        return None
    known = bool(wanted and given) and all(
        any(not isinstance(item, str) for item in found) for found in (wanted, given)
    )
    for pair in itertools.product(wanted, given):
        try:
            if verify(*pair, raise_on_error=True, **({} if limited else VERIFY_UNLIMITED)):
                return True
        except (Exception, TimeoutException):
            known = False
    return False if known else None


PARSE_UNLIMITED: dict[str, Any] = {"parsing_timeout": None}
VERIFY_UNLIMITED: dict[str, Any] = {"timeout_seconds": None}


def _limits_work() -> bool:
    return hasattr(signal, "SIGALRM") and threading.current_thread() is threading.main_thread()


def generator_rates(carriers: Sequence[Carrier]) -> tuple[GeneratorRates, ...]:
    """One row per generator, by name; `correct` is NaN where nothing was graded."""
    generators = sorted({carrier.generator for carrier in carriers})
    return tuple(
        _rates(name, [carrier for carrier in carriers if carrier.generator == name])
        for name in generators
    )


def _rates(generator: str, carriers: Sequence[Carrier]) -> GeneratorRates:
    graded = [carrier.correct for carrier in carriers if carrier.correct is not None]

    def share(flags: list[bool]) -> float:
        return sum(flags) / len(flags) if flags else float("nan")

    return GeneratorRates(
        generator=generator,
        carriers=len(carriers),
        graded=len(graded),
        correct=share(graded),
        boxed=share([last_boxed(carrier.response) is not None for carrier in carriers]),
        think_closed=share([THINK_CLOSE in carrier.response for carrier in carriers]),
        cut_by_length=share([carrier.finish_reason in CUT_BY_LENGTH for carrier in carriers]),
    )
