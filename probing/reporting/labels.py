"""Labels by people beside the heuristic: agreement, confusion, and the deltas by either's kinds."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from probing.analysis.agreement import agreement
from probing.analysis.inference import (
    ClusterInterval,
    ClusterTotals,
    Columns,
    cluster_totals,
    intervals,
    pivots,
)
from probing.reporting.comparison import kind_column
from probing.reporting.deltas import DEFAULT_INFERENCE, DEFAULT_WEIGHTING
from probing.reporting.filters import EVERY, Weighting, weights
from probing.reporting.happenings import EVENT_NAMES, event_column
from probing.reporting.quantities import delta_column
from probing.settings import DEFAULT_ASSIGNMENT, Inference
from probing.store.labels import HEURISTIC, PEOPLE, Label, Offer, Offered, current
from probing.vocabulary import Assignment, Kind, PerPosition, PositionIds, PositionMask

ALL_LABELS, DRAWN = "all labels", "drawn at random"
"""On which labels a figure rests: every one alike, or only those that can speak for the run."""

NAMES = {"kind": [kind.value for kind in Kind], "event": EVENT_NAMES}
"""What people say of a position, and every answer to it."""

COMPARED = ("top1_prob", "entropy_kept_nats", "nucleus_size", "tail_mass")
"""Quantities whose deltas are taken by people's kinds too."""

LABEL_COLUMNS = (
    "carrier_id", "position", "problem_id", "who", "kind", "event", "heuristic_kind",
    "heuristic_event", "note", "time", "how", "by", "seed", "among", "filtered", "blind", "drawn",
    "weight",
)  # fmt: skip
AGREEMENT_COLUMNS = (
    "basis", "of", "first", "second", "share", "low", "high", "kappa", "labels", "positions",
    "problems", "blind", "method", "note",
)  # fmt: skip
CONFUSION_COLUMNS = ("basis", "of", "people", HEURISTIC, "labels", "share")
DELTA_COLUMNS = (
    "basis", "kind", "quantity",
    *(f"{of}{end}" for of in (PEOPLE, HEURISTIC, "difference") for end in ("", "_low", "_high")),
    f"{PEOPLE}_labels", f"{HEURISTIC}_labels", "problems", "note",
)  # fmt: skip


def speaks_for_run(offer: Offer, *, weighting: Weighting) -> bool:
    """Whether positions offered so are a random draw of those that carry the figures.

    A draw among all stored positions holds one among those that a selector chose.
    """
    whole = not offer.filtered and offer.among in {weighting.selector, EVERY}
    return offer.how is Offered.RANDOM and whole


def label_table(
    labels: Iterable[Label],
    comparison: pd.DataFrame,
    *,
    fingerprint: str,
    other: str,
    assignment: Assignment = DEFAULT_ASSIGNMENT,
    weighting: Weighting = DEFAULT_WEIGHTING,
) -> pd.DataFrame:
    """The labels in force of one pair, one row each, beside what the heuristic says now.

    Columns: `LABEL_COLUMNS`. `kind` and `event` are missing where the person said nothing; `drawn`
    is `speaks_for_run`; `weight` is what the position counts in figures of the run.

    Args:
        labels: of any run and pair; those of others are left out.
        comparison: of `comparison_table`, all positions.
        fingerprint: of the run.
        other: the model of the comparison.
        assignment: whose kind and event is the heuristic's.
        weighting: of the run's figures.
    """
    own = [one for one in current(labels) if one.run == fingerprint and one.other == other]
    said = pd.DataFrame(
        [_said(label, weighting=weighting) for label in own],
        columns=[name for name in LABEL_COLUMNS if name not in _KNOWN],
    )
    places = comparison["carrier_id"].isin(set(said["carrier_id"]))
    known = comparison.loc[places, ["carrier_id", "position", "problem_id"]].assign(
        heuristic_kind=comparison.loc[places, kind_column(assignment)].astype("str"),
        heuristic_event=comparison.loc[places, event_column(assignment)].astype("str"),
        weight=weights(comparison, weighting=weighting)[places.to_numpy()],
    )
    known = known.astype({"carrier_id": "object", "position": "int64"})
    said = said.astype({"carrier_id": "object", "position": "int64", "seed": "Int64"})
    found = said.merge(known, on=["carrier_id", "position"], how="inner")
    return found[list(LABEL_COLUMNS)].astype({"drawn": bool, "filtered": bool, "blind": bool})


_KNOWN = ("problem_id", "heuristic_kind", "heuristic_event", "weight")
"""Columns that the run tells, not the person."""


def _said(label: Label, *, weighting: Weighting) -> dict[str, object]:
    carrier, _, index = label.position.rpartition(":")
    return {
        "carrier_id": carrier,
        "position": int(index),
        "who": label.who,
        "kind": None if label.kind is None else label.kind.value,
        "event": None if label.event is None else label.event.value,
        "note": label.note,
        "time": label.time,
        "how": label.order.how.value,
        "by": label.order.by,
        "seed": label.order.seed,
        "among": label.order.among,
        "filtered": label.order.filtered,
        "blind": label.order.blind,
        "drawn": speaks_for_run(label.order, weighting=weighting),
    }


class _Basis(NamedTuple):
    name: str
    table: pd.DataFrame
    weight: PerPosition


def _bases(table: pd.DataFrame) -> Iterator[_Basis]:
    """All labels, each counting alike; then those drawn at random, as positions of the run."""
    yield _Basis(ALL_LABELS, table, np.ones(len(table)))
    drawn = table[table["drawn"] & (table["weight"] > 0)]
    if len(drawn):
        yield _Basis(DRAWN, drawn, drawn["weight"].to_numpy(dtype=np.float64))


def _codes(column: pd.Series, names: Sequence[str]) -> PositionIds:
    return np.asarray(pd.Categorical(column, categories=list(names)).codes, dtype=np.int64)


def agreement_table(
    table: pd.DataFrame, *, inference: Inference = DEFAULT_INFERENCE
) -> pd.DataFrame:
    """How often people and heuristic say the same, and people among themselves.

    Columns: `AGREEMENT_COLUMNS`. `of` is kind or event; `first` a person, or all of them; `second`
    the heuristic or another person. `share` with its bounds (whole problems are resampled),
    Cohen's `kappa`, how many `labels`, `positions` and `problems` that rests on, and how many of
    the labels were given `blind` to the heuristic. Only where `basis` is `DRAWN` are figures those
    of the run: positions are weighted as in its other figures, and one that several people labelled
    counts once for all of them together.

    Args:
        table: of `label_table`.
        inference: of the intervals.
    """
    rows: list[dict[str, object]] = []
    for basis in _bases(table):
        for of in NAMES:
            rows += _against_heuristic(basis, of, inference=inference)
            rows += _among_people(basis, of, inference=inference)
    return pd.DataFrame(rows, columns=list(AGREEMENT_COLUMNS))


def _against_heuristic(basis: _Basis, of: str, *, inference: Inference) -> list[dict[str, object]]:
    said = basis.table[of].notna().to_numpy(dtype=bool)
    table, weight = basis.table[said], basis.weight[said]
    people = sorted(set(table["who"]))
    groups = {who: (table["who"] == who).to_numpy(dtype=bool) for who in people}
    weights_of = dict.fromkeys(people, weight)
    if len(people) > 1:
        groups = {PEOPLE: np.ones(len(table), dtype=bool)} | groups
        weights_of[PEOPLE] = weight / _sharing(table) if basis.name == DRAWN else weight
    rows = []
    for who, here in groups.items():
        own = table[here]
        answers = own[of], own[f"heuristic_{of}"]
        names = {"basis": basis.name, "of": of, "first": who, "second": HEURISTIC}
        row = _agreed(own, answers, weights_of[who][here], of=of, inference=inference)
        rows.append(names | row | {"blind": int(own["blind"].sum())})
    return rows


def _sharing(table: pd.DataFrame) -> PerPosition:
    """How many labels the position of each label has."""
    found = table.groupby(["carrier_id", "position"])["who"].transform("size")
    return np.asarray(found.to_numpy(dtype=np.float64))


def _among_people(basis: _Basis, of: str, *, inference: Inference) -> list[dict[str, object]]:
    said = basis.table[of].notna().to_numpy(dtype=bool)
    table = basis.table[said].assign(counts=basis.weight[said])
    rows = []
    for first, second in combinations(sorted(set(table["who"])), 2):
        sides = [table[table["who"] == who] for who in (first, second)]
        both = sides[0].merge(sides[1], on=["carrier_id", "position"], suffixes=("", "_second"))
        if both.empty:
            continue
        names = {"basis": basis.name, "of": of, "first": first, "second": second}
        answers = both[of], both[f"{of}_second"]
        weight = both["counts"].to_numpy(dtype=np.float64)
        row = _agreed(both, answers, weight, of=of, inference=inference)
        rows.append(names | row | {"blind": int((both["blind"] & both["blind_second"]).sum())})
    return rows


def _agreed(
    table: pd.DataFrame,
    answers: tuple[pd.Series, pd.Series],
    weight: PerPosition,
    *,
    of: str,
    inference: Inference,
) -> dict[str, object]:
    first, second = (_codes(answer, NAMES[of]) for answer in answers)
    problems = _problems(table)
    found = agreement(first, second, weights=weight, clusters=problems, settings=inference)
    share = found.share
    return {
        "share": share.estimate,
        "low": share.low,
        "high": share.high,
        "kappa": found.kappa,
        "labels": len(table),
        "positions": len(table[["carrier_id", "position"]].drop_duplicates()),
        "problems": share.clusters,
        "method": found.method,
        "note": share.note,
    }


def _problems(table: pd.DataFrame) -> PositionIds:
    return np.asarray(pd.factorize(table["problem_id"])[0], dtype=np.int64)


def confusion_table(table: pd.DataFrame) -> pd.DataFrame:
    """What the heuristic calls the positions to which people give each kind and event.

    Columns: `CONFUSION_COLUMNS`. Every pair of kinds is there, of events those that occur; `share`
    is of the weight of what people call so: a row of it sums to 1.

    Args:
        table: of `label_table`.
    """
    rows: list[dict[str, object]] = []
    for basis in _bases(table):
        for of, names in NAMES.items():
            said = _codes(basis.table[of], names), _codes(basis.table[f"heuristic_{of}"], names)
            for first, people in enumerate(names):
                own = said[0] == first
                whole = basis.weight[own].sum()
                for second, heuristic in enumerate(names):
                    here = own & (said[1] == second)
                    if of == "event" and not here.any():
                        continue
                    share = basis.weight[here].sum() / whole if whole else np.nan
                    row = (basis.name, of, people, heuristic, int(here.sum()), share)
                    rows.append(dict(zip(CONFUSION_COLUMNS, row, strict=True)))
    return pd.DataFrame(rows, columns=list(CONFUSION_COLUMNS))


def label_deltas(
    table: pd.DataFrame,
    comparison: pd.DataFrame,
    *,
    quantities: Sequence[str] = COMPARED,
    inference: Inference = DEFAULT_INFERENCE,
) -> pd.DataFrame:
    """Mean deltas of every kind over the same positions, by people's kinds and by the heuristic's.

    Columns: `DELTA_COLUMNS`: the mean delta by either with its bounds, and their difference (people
    less heuristic; each problem is drawn for both at once). A position that several people gave a
    kind counts once, divided among them. Kinds that neither gives have no row.

    Args:
        table: of `label_table`.
        comparison: that it was made with.
        quantities: names.
        inference: of the intervals.
    """
    rows: list[dict[str, object]] = []
    for basis in _bases(table):
        said = basis.table["kind"].notna().to_numpy(dtype=bool)
        own = basis.table[said]
        if own.empty:
            continue
        weight = basis.weight[said] / _sharing(own)
        values = _deltas(own, comparison, quantities)
        kinds = {side: own[column] for side, column in _SIDES.items()}
        for kind in NAMES["kind"]:
            inside = {side: (given == kind).to_numpy(bool) for side, given in kinds.items()}
            if any(here.any() for here in inside.values()):
                found = _either(values, weight, inside, _problems(own), inference=inference)
                sizes = {f"{side}_labels": int(here.sum()) for side, here in inside.items()}
                names = {"basis": basis.name, "kind": kind}
                rows += [
                    names | {"quantity": quantity} | sizes | row
                    for quantity, row in zip(quantities, found, strict=True)
                ]
    return pd.DataFrame(rows, columns=list(DELTA_COLUMNS))


_SIDES = {PEOPLE: "kind", HEURISTIC: "heuristic_kind"}


def _deltas(table: pd.DataFrame, comparison: pd.DataFrame, quantities: Sequence[str]) -> Columns:
    columns = [delta_column(name) for name in quantities]
    places = comparison["carrier_id"].isin(set(table["carrier_id"]))
    known = comparison.loc[places, ["carrier_id", "position", *columns]]
    known = known.astype({"carrier_id": "object", "position": "int64"})
    merged = table[["carrier_id", "position"]].merge(known, on=["carrier_id", "position"])
    found: Columns = merged[columns].to_numpy(dtype=np.float64)
    return found


def _either(
    values: Columns,
    weight: PerPosition,
    inside: dict[str, PositionMask],
    problems: PositionIds,
    *,
    inference: Inference,
) -> list[dict[str, object]]:
    """Means by either side's kinds and their difference, one row per quantity."""
    size = int(problems.max(initial=-1)) + 1
    sides = {
        side: cluster_totals(
            values,
            np.broadcast_to((weight * here)[:, None], values.shape),
            problems,
            size=size,
        )
        for side, here in inside.items()
    }
    parts = {side: _interval([sums], inference=inference) for side, sums in sides.items()}
    parts["difference"] = _interval([*sides.values()], inference=inference)
    rows: list[dict[str, object]] = []
    for place in range(values.shape[1]):
        row: dict[str, object] = {}
        for side, found in parts.items():
            one = found[place]
            row |= {side: one.estimate, f"{side}_low": one.low, f"{side}_high": one.high}
        least = min((parts[side][place] for side in sides), key=lambda one: one.clusters)
        rows.append(row | {"problems": least.clusters, "note": least.note})
    return rows


def _interval(sides: Sequence[ClusterTotals], *, inference: Inference) -> list[ClusterInterval]:
    """The weighted mean of one side, or the first less the second."""
    columns = sides[0].weight.shape[1]
    nothing = np.zeros(columns, dtype=np.int64)
    rng = np.random.default_rng(inference.seed)
    found = pivots(sides, factors=(1.0, -1.0)[: len(sides)], settings=inference, rng=rng)
    return intervals(found, positions=nothing, missing=nothing, settings=inference)
