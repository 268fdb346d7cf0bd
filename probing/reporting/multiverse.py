"""The multiverse of one comparison: presets, assignments, decodings and what positions count."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from probing.analysis.multiverse import (
    Branches,
    Conclusion,
    Outcome,
    Weighing,
    outcomes,
    steadiness,
    told_beyond,
)
from probing.errors import OutsideContract
from probing.reporting.filters import EVERY, Average, Weighting, weights
from probing.reporting.pairing import PairReader
from probing.settings import KIND_PRESETS, Decoding, Inference
from probing.store.reader import Run
from probing.vocabulary import Kind, PerPosition

DECODINGS: dict[str, Decoding] = {
    "T 1, k 20, p 0.95": Decoding(),
    "T 0.6, k 20, p 0.95": Decoding(temperature=0.6),
    "T 1.5, k 20, p 0.95": Decoding(temperature=1.5),
    "T 1, k 20, p 0.8": Decoding(top_p=0.8),
    "T 1, k 50, p 0.95": Decoding(top_k=50),
}
"""Under which deltas are taken; kinds stay at T = 1, k 20, p 0.95."""

WEIGHTINGS: dict[str, Weighting] = {
    "headline": Weighting(),
    "headline, per carrier": Weighting(average=Average.CARRIER),
    "every position": Weighting(selector=EVERY),
}

QUANTITIES_LOOKED_AT = ("top1_prob", "tail_mass", "entropy_kept_nats", "nucleus_size")

CONCLUSIONS = (
    *(
        Conclusion(quantity, kind)
        for kind in (Kind.LOCK, Kind.FORK)
        for quantity in QUANTITIES_LOOKED_AT
    ),
    *(
        Conclusion(quantity, Kind.FORK, less=Kind.LOCK)
        for quantity in ("entropy_kept_nats", "tail_mass", "top1_prob")
    ),
)
"""Mean deltas at locks and at forks, and fork - lock contrasts: that of entropy within S is one of
the verdict's figures."""


@dataclass(frozen=True)
class Multiverse:
    """Every conclusion under every combination of settings.

    Attributes:
        found: one outcome per conclusion and combination.
        left_out: names of decodings that this run cannot answer.
    """

    found: Sequence[Outcome]
    left_out: tuple[str, ...]


def multiverse(run: Run, other: str) -> Multiverse:
    """Compute every outcome; statistics are read or computed once each.

    Raises:
        UsageFault: no such other model.
        OutsideContract: the run cannot even answer the default decoding.
    """
    reader = PairReader.of(run, other)
    kinds = {preset: reader.kinds(rule) for preset, rule in KIND_PRESETS.items()}
    deltas, left_out = _deltas(reader)
    branches = Branches(
        kinds=kinds,
        deltas=deltas,
        weighings={name: weighing_of(reader.places, each) for name, each in WEIGHTINGS.items()},
        clusters=reader.clusters,
        size=reader.places["problem_id"].nunique(),
    )
    return Multiverse(tuple(outcomes(branches, CONCLUSIONS)), left_out)


def _deltas(reader: PairReader) -> tuple[dict[str, dict[str, PerPosition]], tuple[str, ...]]:
    """By decoding; and which of them the run's candidates or temperatures cannot answer."""
    found, left_out = {}, []
    for name, decoding in DECODINGS.items():
        try:
            found[name] = reader.deltas(QUANTITIES_LOOKED_AT, decoding=decoding)
        except OutsideContract:
            if not found:
                raise
            left_out.append(name)
    return found, tuple(left_out)


def weighing_of(places: pd.DataFrame, weighting: Weighting) -> Weighing:
    """What positions count within any group of them."""
    if weighting.average is Average.POSITION:
        return Weighing(weights(places, weighting=weighting))
    alike = Weighting(selector=weighting.selector)
    return Weighing(
        weights(places, weighting=alike),
        carriers=places["carrier"].to_numpy(dtype=np.int64),
        carrier_weights=1 / places["sampling_probability"].to_numpy(dtype=np.float64),
    )


def multiverse_table(run: Run, other: str, *, level: float = Inference().level) -> pd.DataFrame:
    """One row per conclusion: how often it keeps its sign over all combinations of settings.

    Columns `kind` (`fork-like − lock-like` for a contrast), `quantity`, and those of
    `analysis.multiverse.Steadiness`.

    Args:
        run: the run.
        other: name of the model compared with the baseline.
        level: of the intervals that `beyond` asks to leave out 0.

    Raises:
        UsageFault, OutsideContract: as `multiverse`.
    """
    return steadiness_table(multiverse(run, other), level=level)


def steadiness_table(made: Multiverse, *, level: float = Inference().level) -> pd.DataFrame:
    """`multiverse_table` of outcomes that are computed already."""
    return pd.DataFrame(
        [
            {
                "kind": place_name(each.conclusion),
                "quantity": each.conclusion.quantity,
                "sign": each.sign,
                "same_sign": each.same_sign,
                "beyond": each.beyond,
                "low": each.low,
                "high": each.high,
                "universes": each.universes,
            }
            for each in steadiness(made.found, level=level)
        ]
    )


def outcome_table(made: Multiverse, *, level: float = Inference().level) -> pd.DataFrame:
    """One row per combination of settings and conclusion, that of the defaults first.

    Columns `preset`, `assignment`, `decoding`, `selector`; `kind`, `quantity`; `delta`, `low`,
    `high`; `null` (role exchange); `beyond` (the sign is told beside the null); `positions`,
    `problems`.
    """
    rows = []
    for each in made.found:
        own, null = each.found.own, each.found.null
        low, high = own.interval(level=level)
        rows.append(
            {
                "preset": each.universe.preset,
                "assignment": each.universe.assignment.value,
                "decoding": each.universe.decoding,
                "selector": each.universe.selector,
                "kind": place_name(each.conclusion),
                "quantity": each.conclusion.quantity,
                "delta": own.value,
                "low": low,
                "high": high,
                "null": null.value,
                "beyond": told_beyond(each.found, level=level),
                "positions": own.positions,
                "problems": own.clusters,
            }
        )
    return pd.DataFrame(rows)


def place_name(conclusion: Conclusion) -> str:
    """Where a conclusion is looked at: a kind, or one kind less another."""
    first = conclusion.kind.value
    return first if conclusion.less is None else f"{first} − {conclusion.less.value}"
