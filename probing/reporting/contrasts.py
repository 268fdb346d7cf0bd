"""Two other models against each other, beside each against the baseline."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from probing.analysis.deltas import delta
from probing.reporting.columns import with_columns
from probing.reporting.comparison import (
    EXCHANGED_TOP1,
    KIND_DECODING,
    comparison_table,
    kind_codes,
    kind_column,
    kind_labels,
    other_index,
    other_names,
)
from probing.reporting.deltas import (
    DEFAULT_FILTERS,
    DEFAULT_INFERENCE,
    DEFAULT_WEIGHTING,
    delta_table,
    with_family,
)
from probing.reporting.filters import Filters, Weighting, keep
from probing.reporting.happenings import EVENT_NAMES, event_column, exchanged_event_column
from probing.reporting.quantities import (
    MODEL_QUANTITIES,
    PAIR_QUANTITIES,
    SHOWN_FIRST,
    TOP,
    baseline_column,
    delta_column,
    other_column,
)
from probing.settings import Decoding, Inference, KindRule, require
from probing.store.reader import Run
from probing.vocabulary import Assignment, Stratum

CONTROL = "control"
"""The name by which a control is taken for one without being told."""

COMPARISON = "comparison"
"""Column that says which models a row compares."""

MEAN_OF_ALL = "mean(all)"


def control_of(run: Run, *, other: str, wanted: str | None = None) -> str | None:
    """The control that stands beside `other`: the one wanted, else the model named `control`.

    None where there is none, or where it is `other` itself.

    Raises:
        UsageFault: the run has no such model, or it is `other`.
    """
    names = other_names(run)
    if wanted is not None:
        choices = [name for name in names if name != other]
        listed = f"one of {', '.join(choices)}" if choices else "this run has no third model"
        apart = f"a control must differ from the baseline and from the other model {other!r}"
        require(wanted in choices, f"{apart}: {listed}", wanted)
        return wanted
    return CONTROL if CONTROL in names and other != CONTROL else None


@dataclass(frozen=True)
class Models:
    """Which models stand beside the baseline: the one looked at, and a control if there is one."""

    other: str
    control: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """Those there are, the one looked at first."""
        return (self.other,) if self.control is None else (self.other, self.control)


def models_beside(run: Run, *, other: str | None = None, control: str | None = None) -> Models:
    """The models that are wanted: by default the first other, and what `control_of` gives.

    Raises:
        UsageFault: the run has no such model, or the control is the other.
    """
    name = other_names(run)[0] if other is None else other
    other_index(run, name)
    return Models(name, control_of(run, other=name, wanted=control))


def contrast_name(other: str, control: str) -> str:
    """What rows of the contrast are called."""
    return f"{other} − {control}"


def against_baseline(compared: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Those of `comparisons` that the baseline takes part in: other and control."""
    first, *rest = compared
    contrasts = {contrast_name(first, name) for name in rest}
    return {name: frame for name, frame in compared.items() if name not in contrasts}


def comparisons(
    *,
    other: str,
    control: str | None,
    pair: Callable[[str], pd.DataFrame],
    kinds: Callable[[], "pd.Categorical[str]"],
) -> dict[str, pd.DataFrame]:
    """By name, the comparisons that a table shows: other, control, and other - control.

    Args:
        other: name of the model that is looked at.
        control: of the one beside it, if any.
        pair: the comparison of a model with the baseline.
        kinds: those of `kinds_of_all`.
    """
    found = {name: pair(name) for name in (other, control) if name is not None}
    if control is not None:
        # Which model was right is told of a problem once: by the model looked at.
        found[control] = with_columns(
            found[control], {Stratum.RIGHT.value: found[other][Stratum.RIGHT]}
        )
        name = contrast_name(other, control)
        found[name] = contrast(found[other], found[control], kinds=kinds())
    return found


def all_comparisons(
    run: Run,
    *,
    other: str,
    control: str | None,
    decoding: Decoding,
    rule: KindRule,
    kind_decoding: Decoding = KIND_DECODING,
) -> dict[str, pd.DataFrame]:
    """`comparisons` under one decoding and rule, computed afresh.

    Raises:
        UsageFault: no such other model.
        NoCarriersLeft: no unit is committed yet.
        OutsideContract: a temperature or top-k the run cannot answer exactly.
    """
    return comparisons(
        other=other,
        control=control,
        pair=lambda name: comparison_table(
            run, other=name, decoding=decoding, rule=rule, kind_decoding=kind_decoding
        ),
        kinds=lambda: kinds_of_all(run, rule=rule, kind_decoding=kind_decoding),
    )


def kinds_of_all(run: Run, *, rule: KindRule, kind_decoding: Decoding) -> "pd.Categorical[str]":
    """The kind of every position by the mean over all models, of which there are at least three."""
    return kind_labels(kind_codes(run, MEAN_OF_ALL, rule=rule, decoding=kind_decoding))


def contrast(
    of: pd.DataFrame, against: pd.DataFrame, *, kinds: "pd.Categorical[str]"
) -> pd.DataFrame:
    """A comparison of two other models: `against` takes the baseline's place.

    Kinds are given once, by the mean over all models, whatever the assignment (method.md section
    5); there are no events. `baseline_top1_prob` stays that of the run's baseline; a pair quantity
    is the difference of the two models' values against the baseline.

    Args:
        of: comparison of the model looked at.
        against: of the control, over the same positions and settings.
        kinds: of every position, by the mean over all models.
    """
    columns: dict[str, Any] = {kind_column(assignment): kinds for assignment in Assignment}
    nothing = pd.Categorical([None] * len(of), categories=EVENT_NAMES)
    for assignment in Assignment:
        columns[event_column(assignment)] = nothing
        columns[exchanged_event_column(assignment)] = nothing
    for name in MODEL_QUANTITIES:
        if delta_column(name) in of:
            first, second = against[other_column(name)], of[other_column(name)]
            columns[baseline_column(name)], columns[other_column(name)] = first, second
            columns[delta_column(name)] = delta(first.to_numpy(), second.to_numpy())
    for name in PAIR_QUANTITIES:
        if name in of:
            columns[name] = delta(against[name].to_numpy(), of[name].to_numpy())
    if delta_column(TOP) in of:
        # The token is the run's baseline's in both roles: it does not change with them.
        columns[EXCHANGED_TOP1[0]] = columns[baseline_column(TOP)]
        columns[EXCHANGED_TOP1[1]] = columns[other_column(TOP)]
    return with_columns(of, columns)


def delta_tables(
    compared: Mapping[str, pd.DataFrame],
    *,
    by: Sequence[str],
    filters: Filters = DEFAULT_FILTERS,
    quantities: Sequence[str] = SHOWN_FIRST,
    weighting: Weighting = DEFAULT_WEIGHTING,
    inference: Inference = DEFAULT_INFERENCE,
) -> pd.DataFrame:
    """`delta_table` of every comparison, one under the other, named in a first column.

    The tests of all of them are one family.

    Args:
        compared: of `comparisons`.
        by: as `delta_table`.
        filters: as `delta_table`.
        quantities: as `delta_table`.
        weighting: as `delta_table`.
        inference: as `delta_table`.
    """
    parts = []
    for name, comparison in compared.items():
        table = delta_table(
            comparison,
            by=by,
            filters=filters,
            quantities=quantities,
            weighting=weighting,
            inference=inference,
        )
        table.insert(0, COMPARISON, name)
        parts.append(table)
    return with_family(pd.concat(parts, ignore_index=True), inference=inference)


def filtered_positions(compared: Mapping[str, pd.DataFrame], *, filters: Filters) -> pd.DataFrame:
    """The positions that pass the filters, one row for each comparison and position.

    The first column names the comparison; a position that passes under one comparison may not
    under another, whose models give it another kind.

    Args:
        compared: of `comparisons`, with values.
        filters: what is kept.
    """
    parts = []
    for name, frame in compared.items():
        part = keep(frame, filters=filters).copy()
        part.insert(0, COMPARISON, name)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)
