"""The multiverse of one comparison: presets, assignments, decodings and selectors."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from probing.analysis.deltas import delta
from probing.analysis.multiverse import Branches, Conclusion, Kinds, Outcome, outcomes, steadiness
from probing.reporting.comparison import KIND_DECODING, kind_codes, mean_measure
from probing.reporting.filters import EVERY, Average, Weighting, weights
from probing.reporting.places import place_table
from probing.settings import KIND_PRESETS, Decoding, KindRule
from probing.store.reader import Run
from probing.vocabulary import Kind

DECODINGS: dict[str, Decoding] = {
    "T 1, k 20, p 0.95": Decoding(),
    "T 0.6, k 20, p 0.95": Decoding(temperature=0.6),
    "T 1.5, k 20, p 0.95": Decoding(temperature=1.5),
    "T 1, k 20, p 0.8": Decoding(top_p=0.8),
}

WEIGHTINGS: dict[str, Weighting] = {
    "headline": Weighting(),
    "headline, per carrier": Weighting(average=Average.CARRIER),
    "every position": Weighting(selector=EVERY),
}

CONCLUSIONS = tuple(
    Conclusion(kind, quantity)
    for kind in (Kind.LOCK, Kind.FORK)
    for quantity in ("top1_prob", "tail_mass", "entropy_kept_nats", "nucleus_size")
)


def branches(run: Run, other: str) -> Branches:
    """Everything that is combined; three statistics passes for every decoding.

    Raises:
        UsageFault: no such other model.
        OutsideContract: a decoding that the run cannot answer.
    """
    baseline, places = run.model_names[0], place_table(run)
    problems = {problem: code for code, problem in enumerate(places["problem_id"].unique())}
    measures: dict[str, str | int] = {
        "mean": mean_measure(run, other),
        "baseline": baseline,
        "other": other,
    }
    kinds = {
        preset: Kinds(
            **{
                name: kind_codes(run, measure, rule=rule, decoding=KIND_DECODING)
                for name, measure in measures.items()
            }
        )
        for preset, rule in KIND_PRESETS.items()
    }
    return Branches(
        kinds=kinds,
        deltas={name: _deltas(run, other, decoding) for name, decoding in DECODINGS.items()},
        weights={name: weights(places, weighting=each) for name, each in WEIGHTINGS.items()},
        clusters=places["problem_id"].map(problems).to_numpy(dtype=np.int64),
        size=len(problems),
    )


def _deltas(run: Run, other: str, decoding: Decoding) -> dict[str, np.ndarray]:
    rule = KindRule()
    first, second = (
        run.statistics(name, decoding=decoding, rule=rule) for name in (run.model_names[0], other)
    )
    quantities = dict.fromkeys(each.quantity for each in CONCLUSIONS)
    return {
        name: delta(
            np.asarray(getattr(first, name), dtype=np.float64),
            np.asarray(getattr(second, name), dtype=np.float64),
        )
        for name in quantities
    }


def multiverse_table(found: Sequence[Outcome], *, level: float = 0.95) -> pd.DataFrame:
    """One row per conclusion; see `analysis.multiverse.Steadiness`."""
    rows = []
    for each in steadiness(found, level=level):
        row = dataclasses.asdict(each)
        conclusion = row.pop("conclusion")
        rows.append({"kind": conclusion["kind"], "quantity": conclusion["quantity"], **row})
    return pd.DataFrame(rows)


def all_outcomes(run: Run, other: str) -> list[Outcome]:
    """Every conclusion under every combination of settings."""
    return list(outcomes(branches(run, other), CONCLUSIONS))
