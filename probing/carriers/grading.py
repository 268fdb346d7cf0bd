"""The answer in a response, whether it is right, and how each generator's responses fared."""

import dataclasses
import logging
import re
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple

from probing.carriers.graders import check_name, same_mathematics
from probing.carriers.grading_pool import GradingPool, Outcome, Reply
from probing.carriers.record import Carrier
from probing.settings import Grading

logger = logging.getLogger(__name__)

BRACES = re.compile(r"(?P<boxed>\\boxed\s*\{)|\\(?!\\boxed\s*\{)[\\{}]|(?P<brace>[{}])")
r"""Openings and closings; `\{`, `\}` and the line break `\\` are passed over."""
THINK_CLOSE = "</think>"
CUT_BY_LENGTH = frozenset(
    {"length", "max_tokens", "max_length", "max_output_tokens", "model_length"}
)
"""What servers call a limit, in whatever case."""

HELD = 256
"""Carriers held at once: one that takes its whole time lets so many overtake it inside."""
MOST_NAMED = 20
"""Carriers that a report names; it counts them all."""


def last_boxed(text: str) -> str | None:
    r"""The content of the last closed `\boxed{…}`, braces nested; None when there is none.

    Being the last, it stands after the last `</think>` if any does, and else anywhere: a response
    that was cut by its length limit may have boxed its answer while thinking.

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


def was_cut(carrier: Carrier) -> bool:
    """Whether the log says that a length limit ended the response."""
    return (carrier.finish_reason or "").strip().casefold() in CUT_BY_LENGTH


def same_answer(answer: str, *, gold: str) -> bool | None:
    """Whether math-verify takes the two for equal, in this process and without a time limit.

    Raises:
        MissingPackage: math-verify is not installed.
    """
    return same_mathematics(answer, gold)


@dataclass(frozen=True, kw_only=True)
class Unsettled:
    """A carrier whose grading timed out or crashed, and how."""

    carrier_id: str
    outcome: Outcome
    detail: str


@dataclass(frozen=True, kw_only=True)
class GradingReport:
    """What became of the carriers that were graded; each counts once, by the first that holds.

    Attributes:
        kept: had a grade and were not to be graded anew, or have no gold answer to do it by.
        no_gold: nothing to compare with.
        no_answer: no closed box in the response, and no answer in the record.
        right: graded, and right.
        wrong: graded, and not right.
        unparsable: the grader could not tell.
        timed_out: no grade within the time of one answer.
        crashed: the grader raised, or its process ended.
        cut_by_length: of all of them, those cut by a length limit; their answers count as others'.
        unsettled: the first that timed out or crashed.
    """

    kept: int = 0
    no_gold: int = 0
    no_answer: int = 0
    right: int = 0
    wrong: int = 0
    unparsable: int = 0
    timed_out: int = 0
    crashed: int = 0
    cut_by_length: int = 0
    unsettled: tuple[Unsettled, ...] = ()

    @property
    def graded(self) -> int:
        """Those that got a grade now."""
        return self.right + self.wrong

    @property
    def carriers(self) -> int:
        """All of them."""
        ungraded: int = sum(getattr(self, name) for name in UNGRADED)
        return self.kept + self.graded + ungraded

    def sentences(self) -> tuple[str, ...]:
        """What became of them, then one line for each that is named."""
        counts = {text: getattr(self, name) for name, text in UNGRADED.items()}
        ungraded = ", ".join(f"{count} {text}" for text, count in counts.items() if count)
        first = (
            f"{self.graded} graded ({self.right} right, {self.wrong} wrong), "
            f"{self.kept} {Outcome.KEPT}, {sum(counts.values())} not graded"
            f"{f' ({ungraded})' if ungraded else ''}; "
            f"{self.cut_by_length} of {self.carriers} cut by a length limit"
        )
        named = [
            _printable(f"carrier {each.carrier_id}: grading {each.outcome}: {each.detail}")
            for each in self.unsettled
        ]
        more = self.timed_out + self.crashed - len(named)
        return (first, *named, *([f"and {more} more timed out or crashed"] if more else []))


def _printable(text: str) -> str:
    """The text with what a terminal would obey, or cannot encode, escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


UNGRADED = {
    "unparsable": Outcome.UNPARSABLE,
    "timed_out": Outcome.TIMED_OUT,
    "crashed": Outcome.CRASHED,
    "no_gold": Outcome.NO_GOLD,
    "no_answer": Outcome.NO_ANSWER,
}


def grade(carriers: Iterable[Carrier], grading: Grading | None = None) -> tuple[Carrier, ...]:
    """All of `grade_stream` at once; what timed out or crashed is logged.

    Raises:
        MissingPackage: something is to be graded and math-verify is not installed.
        UsageFault: there is no such grader.
        GraderUnusable: the grader cannot be loaded.
    """
    with grade_stream(carriers, grading) as stream:
        graded = tuple(stream)
    if stream.report.unsettled:
        for sentence in stream.report.sentences():
            logger.warning("%s", sentence)
    return graded


def grade_stream(carriers: Iterable[Carrier], grading: Grading | None = None) -> "GradedStream":
    """Fill `answer` and, where `gold` is given and nobody graded yet, `correct`; in order.

    An `answer` that a record brings along is the one that is graded, else the response's last
    box. An existing `correct` is kept, unless `grading.regrade`: then it is replaced wherever there
    is a gold answer, by None where no grade can be had. None also stands for what cannot be parsed,
    takes too long or ends the grader: not graded is not wrong. At most `HELD` carriers are held.

    Raises:
        UsageFault: there is no such grader. While iterating, as `grade`.
    """
    return GradedStream(carriers, grading if grading is not None else Grading())


class GradedStream(Iterator[Carrier]):
    """Graded carriers in order; `report` says what became of those that were given out.

    Whoever stops before its end closes it, or leaves its context: its processes end then.
    """

    def __init__(self, carriers: Iterable[Carrier], grading: Grading) -> None:
        check_name(grading.grader)
        self._tally = _Tally()
        self._graded = _graded(carriers, grading, self._tally)

    def __next__(self) -> Carrier:
        return next(self._graded)

    def __enter__(self) -> "GradedStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop grading; the processes end at once."""
        self._graded.close()

    @property
    def report(self) -> GradingReport:
        """What became of the carriers so far."""
        return self._tally.report()


class _Tally:
    """Counts behind a report; it holds no carrier."""

    def __init__(self) -> None:
        self._counts: Counter[Outcome] = Counter()
        self._cut = 0
        self._unsettled: list[Unsettled] = []

    def add(self, carrier: Carrier, reply: Reply) -> None:
        self._counts[reply.outcome] += 1
        self._cut += was_cut(carrier)
        if reply.detail and len(self._unsettled) < MOST_NAMED:
            self._unsettled.append(
                Unsettled(carrier_id=carrier.carrier_id, outcome=reply.outcome, detail=reply.detail)
            )

    def report(self) -> GradingReport:
        return GradingReport(
            **{outcome.name.lower(): self._counts[outcome] for outcome in Outcome},
            cut_by_length=self._cut,
            unsettled=tuple(self._unsettled),
        )


class _Held(NamedTuple):
    """A carrier in its place, and its reply or where that will be."""

    carrier: Carrier
    reply: Reply | Future[Reply]

    @property
    def is_settled(self) -> bool:
        return isinstance(self.reply, Reply) or self.reply.done()


def _graded(
    carriers: Iterable[Carrier], grading: Grading, tally: _Tally
) -> Generator[Carrier, None, None]:
    held: deque[_Held] = deque()
    with GradingPool(grading) as pool:
        for carrier in carriers:
            held.append(_asked(carrier, grading=grading, pool=pool))
            while held and (held[0].is_settled or len(held) >= HELD):
                yield _settled(held.popleft(), tally)
        while held:
            yield _settled(held.popleft(), tally)


def _asked(carrier: Carrier, *, grading: Grading, pool: GradingPool) -> _Held:
    answer = carrier.answer if carrier.answer is not None else last_boxed(carrier.response)
    answered = dataclasses.replace(carrier, answer=answer)
    if carrier.correct is not None and not (grading.regrade and carrier.gold is not None):
        return _Held(answered, Reply(Outcome.KEPT))
    if carrier.gold is None:
        return _Held(answered, Reply(Outcome.NO_GOLD))
    if answer is None:
        return _Held(answered, Reply(Outcome.NO_ANSWER))
    return _Held(answered, pool.ask(answer, carrier.gold))


GRADES = {Outcome.RIGHT: True, Outcome.WRONG: False}


def _settled(held: _Held, tally: _Tally) -> Carrier:
    reply = held.reply if isinstance(held.reply, Reply) else held.reply.result()
    tally.add(held.carrier, reply)
    if reply.outcome is Outcome.KEPT:
        return held.carrier
    return dataclasses.replace(held.carrier, correct=GRADES.get(reply.outcome))


@dataclass(frozen=True)
class GeneratorRates:
    """How one generator's responses fared.

    `boxed` and `think_closed` are shares of `carriers`; `correct` is one of `graded`, and
    `cut_by_length` of those whose `finish_reason` is known: all but `finish_unknown`. A share of
    nothing is NaN.
    """

    generator: str
    carriers: int
    graded: int
    correct: float
    boxed: float
    think_closed: float
    cut_by_length: float
    finish_unknown: int


class RatesTally:
    """Rates per generator of carriers that pass one at a time; none is held."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}

    def add(self, carrier: Carrier) -> None:
        """Count one more."""
        counts = self._counts.setdefault(carrier.generator, Counter())
        counts["carriers"] += 1
        counts["graded"] += carrier.correct is not None
        counts["correct"] += carrier.correct is True
        counts["boxed"] += last_boxed(carrier.response) is not None
        counts["think_closed"] += THINK_CLOSE in carrier.response
        counts["cut_by_length"] += was_cut(carrier)
        counts["finish_unknown"] += carrier.finish_reason is None

    def rows(self) -> tuple[GeneratorRates, ...]:
        """One row per generator, by name."""
        return tuple(_rates(name, counts) for name, counts in sorted(self._counts.items()))


def generator_rates(carriers: Iterable[Carrier]) -> tuple[GeneratorRates, ...]:
    """One row per generator, by name."""
    tally = RatesTally()
    for carrier in carriers:
        tally.add(carrier)
    return tally.rows()


def _rates(generator: str, counts: Counter[str]) -> GeneratorRates:
    def share(name: str, of: int) -> float:
        return counts[name] / of if of else float("nan")

    carriers, unknown = counts["carriers"], counts["finish_unknown"]
    return GeneratorRates(
        generator=generator,
        carriers=carriers,
        graded=counts["graded"],
        correct=share("correct", counts["graded"]),
        boxed=share("boxed", carriers),
        think_closed=share("think_closed", carriers),
        cut_by_length=share("cut_by_length", carriers - unknown),
        finish_unknown=unknown,
    )
