"""How far a model came towards the SSD target, by kind and event (method.md section 10, item 1)."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from probing.analysis.estimates import Estimate, mean_estimate
from probing.analysis.pair import Weighted
from probing.analysis.progress import Progress, progress
from probing.analysis.target import ssd_target
from probing.reporting.comparison import KIND_DECODING, comparison_table, kind_column
from probing.reporting.deltas import ALL
from probing.reporting.happenings import event_column
from probing.reporting.mechanism import LEVEL, Asked, Found, chosen_positions, pair_rows
from probing.store.reader import Run
from probing.vocabulary import Assignment, Event, Kind, PositionMask

PARTS = ("support", "within")
"""The two parts that progress is exactly the sum of."""


def progress_table(run: Run, other: str, found: Found, *, asked: Asked) -> pd.DataFrame:
    """Mean progress towards the target, its two parts, and the share of the way that it is.

    One row per kind (`event` is "all") and per kind and event, by the mean of the two models, at
    the kinds' decoding. Columns `kind`, `event`; for each of `PARTS` the mean in nats with `_low`
    and `_high`; `distance`, the mean KL(target || baseline) in nats; `share`, progress over
    distance; of locks and forks `_exchange` and `_drift`, the nulls of each part; `positions`,
    `problems`.

    Args:
        run: the run.
        other: name of the other model.
        found: of `mechanism`, whose nulls stand beside.
        asked: as of `mechanism`.
    """
    chosen = chosen_positions(run, other, asked)
    pair = pair_rows(run, other, chosen.rows)
    target = ssd_target(pair.baseline, training=asked.training.decoding)
    moved = progress(pair.baseline, pair.other, target)
    labels = comparison_table(run, other=other, decoding=KIND_DECODING, rule=asked.rule)
    labels = labels.iloc[chosen.rows]
    kinds = labels[kind_column(Assignment.MEAN)].to_numpy()
    events = labels[event_column(Assignment.MEAN)].to_numpy()
    rows = []
    for kind, event, inside in _groups(kinds, events):
        if inside.any():
            row = {"kind": kind, "event": event, **_means(moved, inside, chosen.counted)}
            rows.append(row | (_nulls(found, kind) if event == ALL else {}))
    return pd.DataFrame(rows)


def _groups(kinds: np.ndarray, events: np.ndarray) -> Iterator[tuple[str, str, PositionMask]]:
    for kind in Kind:
        inside = np.asarray(kinds == kind.value)
        yield kind.value, ALL, inside
        for event in Event:
            yield kind.value, event.value, np.asarray(inside & (events == event.value))


def _means(moved: Progress, inside: PositionMask, counted: Weighted) -> dict[str, object]:
    def mean(values: np.ndarray) -> Estimate:
        return mean_estimate(
            values,
            weights=np.where(inside, counted.weights, 0.0),
            clusters=counted.clusters,
            size=counted.size,
        )

    row: dict[str, object] = {}
    for part in PARTS:
        own = mean(getattr(moved, part))
        row[part] = own.value
        row[f"{part}_low"], row[f"{part}_high"] = own.interval(level=LEVEL)
    distance, total = mean(moved.distance), mean(moved.total)
    share = total.value / distance.value if distance.value > 0 else float("nan")
    return row | {
        "distance": distance.value,
        "share": share,
        "positions": total.positions,
        "problems": total.clusters,
    }


def _nulls(found: Found, kind: str) -> dict[str, object]:
    """Of each part at locks and forks, as `evidence` has them."""
    place = {Kind.LOCK.value: "locks", Kind.FORK.value: "forks"}.get(kind)
    if place is None:
        return {}
    tested = {part: found.evidence.figures[f"{part} at {place}"] for part in PARTS}
    return {
        f"{part}_{null}": getattr(one, null).value
        for part, one in tested.items()
        for null in ("exchange", "drift")
    }
