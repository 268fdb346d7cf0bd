"""The answer in a response, and whether it is right."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass

from probing.carriers.record import Carrier
from probing.errors import MissingPackage

BOXED = re.compile(r"\\boxed\s*\{")
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
    for match in reversed(list(BOXED.finditer(text))):
        depth = 1
        for index in range(match.end(), len(text)):
            if text[index] == "\\":
                continue
            if text[index] in "{}" and text[index - 1] != "\\":
                depth += 1 if text[index] == "{" else -1
            if depth == 0:
                return text[match.end() : index]
    return None


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
    """Whether math-verify takes the two for equal; None where either cannot be parsed."""
    try:
        from math_verify import parse, verify
    except ImportError as error:
        raise MissingPackage(
            "grading needs the package math-verify, which is not installed; "
            "run `pip install 'ssd-probing[grade]'`"
        ) from error
    # Its time limits use signals, which work in the main thread alone.
    wanted = parse(rf"\boxed{{{gold}}}", parsing_timeout=None)
    given = parse(rf"\boxed{{{answer}}}", parsing_timeout=None)
    if not wanted or not given:
        return None
    return bool(verify(wanted, given, timeout_seconds=None))


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
