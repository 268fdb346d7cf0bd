"""The strata of a carrier: length, correctness, generator and what else it says of itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from probing.carriers.record import Carrier
from probing.vocabulary import UNKNOWN

CORRECT_LABELS = {True: "correct", False: "wrong", None: UNKNOWN}
BIN_NAMES = {1: ("all",), 2: ("short", "long"), 3: ("short", "medium", "long")}


@dataclass(frozen=True)
class Strata:
    """Labels of one carrier; field names are those of `vocabulary.Stratum`."""

    length_bin: str
    correct: str
    generator: str
    subject: str
    difficulty: str
    source: str
    sampling_temperature: str


def length_bins(lengths: Sequence[int], *, bins: int) -> tuple[str, ...]:
    """Quantile bins of response lengths in tokens, with the edges in their labels.

    An edge is the length of a response that is there. Equal lengths share a bin, so with few
    distinct lengths there may be fewer bins.

    Examples:
        >>> length_bins([10, 20, 40], bins=2)
        ('short (≤ 20 tokens)', 'short (≤ 20 tokens)', 'long (≥ 40 tokens)')
    """
    if not lengths:
        return ()
    values = np.asarray(lengths)
    edges = np.quantile(values, np.arange(1, bins) / bins, method="inverted_cdf")
    code = np.searchsorted(np.unique(edges), values, side="left")
    present = np.unique(code)
    names = BIN_NAMES.get(len(present), tuple(f"length {i + 1}" for i in range(len(present))))
    labels = {}
    for name, bin_code in zip(names, present, strict=True):
        members = values[code == bin_code]
        low, high = int(members.min()), int(members.max())
        lowest, highest = bin_code == present[0], bin_code == present[-1]
        if lowest != highest:
            span = f"≤ {high}" if lowest else f"≥ {low}"
        else:
            span = f"{low}–{high}" if low < high else f"{low}"
        labels[int(bin_code)] = f"{name} ({span} tokens)"
    return tuple(labels[int(item)] for item in code)


def strata(carriers: Sequence[Carrier], *, lengths: Sequence[int], bins: int) -> tuple[Strata, ...]:
    """Labels of every carrier; `lengths` are its response tokens."""
    length_labels = length_bins(lengths, bins=bins)
    return tuple(
        Strata(
            length_bin=label,
            correct=CORRECT_LABELS[carrier.correct],
            generator=carrier.generator,
            subject=carrier.subject or UNKNOWN,
            difficulty=carrier.difficulty or UNKNOWN,
            source=carrier.source or UNKNOWN,
            sampling_temperature=_shown(carrier.temperature),
        )
        for carrier, label in zip(carriers, length_labels, strict=True)
    )


def _shown(temperature: float | None) -> str:
    return UNKNOWN if temperature is None else f"T = {temperature:g}"


class RightModel(StrEnum):
    """Which model got a problem right, by the majority of its graded responses."""

    BOTH = "both right"
    BASELINE_ONLY = "baseline only"
    OTHER_ONLY = "other only"
    NEITHER = "neither right"


def right_model(carriers: Sequence[Carrier], *, baseline: str, other: str) -> dict[str, str]:
    """Which of two generators got each problem right; `UNKNOWN` where one has no majority.

    A tie between right and wrong, or no graded response, is no majority.

    Args:
        carriers: responses of any models.
        baseline: name of the one generator.
        other: of the other.
    """
    votes: dict[tuple[str, str], int] = {}
    for carrier in carriers:
        if carrier.correct is not None:
            place = (carrier.problem_id, carrier.generator)
            votes[place] = votes.get(place, 0) + (1 if carrier.correct else -1)
    labels = {}
    for problem in {carrier.problem_id for carrier in carriers}:
        first, second = votes.get((problem, baseline), 0), votes.get((problem, other), 0)
        labels[problem] = RIGHT_MODELS[first > 0, second > 0].value if first and second else UNKNOWN
    return labels


RIGHT_MODELS = {
    (True, True): RightModel.BOTH,
    (True, False): RightModel.BASELINE_ONLY,
    (False, True): RightModel.OTHER_ONLY,
    (False, False): RightModel.NEITHER,
}
