"""Altair charts of aggregated tables: one colour per kind, readable on light and dark."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import altair as alt
import numpy as np
import pandas as pd

from probing.reporting.contrasts import COMPARISON
from probing.reporting.deltas import ALL, joined
from probing.reporting.quantities import QUANTITIES
from probing.reporting.text import line
from probing.vocabulary import Assignment, Kind, Stratum

NEUTRAL = "#7a828c"
"""What belongs to no kind: zero, nulls, the row over all."""

KIND_COLORS: dict[str, str] = {
    Kind.LOCK.value: "#3662d9",
    Kind.FORK.value: "#bf8613",
    Kind.DIFFUSE.value: "#bf308f",
    Kind.MIXED.value: "#736f3f",
    ALL: NEUTRAL,
}
"""The same colour for a kind everywhere; 3:1 or better against both of the page's backgrounds, and
told apart with any of the common colour vision deficiencies. Labels always say the kind too."""

GROUP_ORDER = (*KIND_COLORS,)
ROW_HEIGHT, AXIS_HEIGHT = 24, 34
BAR_HEIGHT, LEGEND_HEIGHT = 34, 40
HISTOGRAM_HEIGHT = 120
ENOUGH_PROBLEMS = 10
"""Groups of fewer problems do not stretch the axis with their intervals."""


def _scale() -> alt.Scale:
    return alt.Scale(domain=list(KIND_COLORS), range=list(KIND_COLORS.values()))


def _names() -> alt.Axis:
    return alt.Axis(ticks=False, domain=False, labelOverlap=False, labelFlush=False, labelPadding=8)


PICKED = "picked"
"""Name of the selection that a click on a group makes."""

MARKS = {"circle": "●", "square": "■", "diamond": "◆"}
"""One shape per comparison: other, control, their difference; and the shape in a text."""


def legend_text(names: Sequence[str], *, drift: bool = False) -> str:
    """Which mark stands for which comparison, in one line.

    Args:
        names: of the comparisons.
        drift: whether the chart has the drift null too.
    """
    marks = [f"{mark} {name}" for mark, name in zip(MARKS.values(), names, strict=False)]
    nulls = ["│ null (roles exchanged)", "ı null: drift"] if drift else ["│ null"]
    return ", ".join([*marks, *nulls])


def group_labels(table: pd.DataFrame, by: Sequence[str]) -> pd.Series:
    """One label per row for its group, nothing in it hidden; `ALL` for the row over all."""
    every = (table[list(by)] == ALL).all(axis=1)
    return joined(table, by).mask(every, ALL).map(line)


def delta_chart(table: pd.DataFrame, *, quantity: str, by: Sequence[str]) -> alt.LayerChart:
    """Deltas of one quantity: per group and comparison a mark, its interval, and its nulls.

    A long tick is the role-exchange null, drawn where it is not zero; a short one the drift null,
    where the table has it; dashed is zero. A click picks a group.

    Args:
        table: of `delta_tables`, with or without `drifting.with_drift`.
        quantity: which of its quantities.
        by: its grouping columns.
    """
    data = _delta_data(table, quantity=quantity, by=by)
    names, groups = _comparisons(table), _in_order(data)
    return _delta_layers(data, _look(names, quantity), groups=groups, reach=_reach(data))


@dataclass(frozen=True)
class DeltaSpec:
    """A chart of deltas as Vega-Lite reads it, and its data apart.

    Attributes:
        data: one row for each group and comparison.
        spec: everything else.
    """

    data: pd.DataFrame
    spec: dict[str, Any]


def delta_spec(table: pd.DataFrame, *, quantity: str, by: Sequence[str]) -> DeltaSpec:
    """`delta_chart`, many times as quick: charts that look alike are made and checked once."""
    data = _delta_data(table, quantity=quantity, by=by)
    names, groups, reach = _comparisons(table), _in_order(data), _reach(data)
    spec = deepcopy(_delta_template(_look(names, quantity)))
    spec["height"] = _height(groups, names)
    for layer in spec["layer"][1:]:
        layer["encoding"]["y"]["sort"] = groups
        layer["encoding"]["x"]["scale"]["domain"] = reach
    return DeltaSpec(data, spec)


def delta_specs(
    table: pd.DataFrame, *, quantities: Sequence[str], by: Sequence[str]
) -> dict[str, DeltaSpec]:
    """`delta_spec` of each of some quantities."""
    return {name: delta_spec(table, quantity=name, by=by) for name in quantities}


class _Look(NamedTuple):
    """What tells one chart of deltas from another, but for its data, its groups and its axis."""

    names: tuple[str, ...]
    form: str


def _look(names: Sequence[str], quantity: str) -> _Look:
    return _Look(tuple(names), "+.3~g" if QUANTITIES[quantity].of == "model" else ".3~g")


def _comparisons(table: pd.DataFrame) -> list[str]:
    return [line(name) for name in dict.fromkeys(table[COMPARISON])]


def _height(groups: Sequence[str], names: Sequence[str]) -> float:
    rows = max(len(groups), 1) * (1 + 0.6 * (len(names) - 1))
    return ROW_HEIGHT * rows + AXIS_HEIGHT


def _delta_data(table: pd.DataFrame, *, quantity: str, by: Sequence[str]) -> pd.DataFrame:
    """What a chart of deltas draws."""
    shown = table[(table["quantity"] == quantity) & table["delta"].notna()]
    data = shown[[COMPARISON, "delta", "low", "high", "null", "positions", "problems"]].assign(
        group=group_labels(shown, by), kind=shown[Stratum.KIND] if Stratum.KIND in by else ALL
    )
    data[COMPARISON] = data[COMPARISON].map(line)
    data["null"] = data["null"].where(data["null"].abs() > 0)
    data["null_drift"] = shown.get("null_drift", np.nan)
    return data


@lru_cache(maxsize=64)
def _delta_template(look: _Look) -> dict[str, Any]:
    """The chart without data and with no axis to speak of: do not write into it."""
    layers = _delta_layers(None, look, groups=[ALL], reach=[0.0, 1.0])
    spec: dict[str, Any] = layers.to_dict()
    del spec["datasets"]
    first, *others = spec["layer"]
    first["data"] = {"values": [ZERO]}
    for layer in others:  # They take the data that the whole chart is given.
        del layer["data"]
    return spec


ZERO = {"zero": 0.0}


def _delta_layers(
    data: pd.DataFrame | None, look: _Look, *, groups: list[str], reach: list[float]
) -> alt.LayerChart:
    names = list(look.names)
    base = (alt.Chart() if data is None else alt.Chart(data)).encode(
        y=alt.Y("group:N", sort=groups, title=None, axis=_names()),
        yOffset=alt.YOffset(f"{COMPARISON}:N", sort=names),
        color=alt.Color("kind:N", scale=_scale(), legend=None),
        tooltip=[
            alt.Tooltip("group:N", title="group"),
            alt.Tooltip(f"{COMPARISON}:N", title="comparison"),
            alt.Tooltip("delta:Q", title="delta", format="+.4f"),
            alt.Tooltip("low:Q", title="95 % from", format="+.4f"),
            alt.Tooltip("high:Q", title="to", format="+.4f"),
            alt.Tooltip("null:Q", title="null", format="+.4f"),
            alt.Tooltip("null_drift:Q", title="null: drift", format="+.4f"),
            alt.Tooltip("positions:Q", title="positions", format=","),
            alt.Tooltip("problems:Q", title="problems", format=","),
        ],
    )
    axis = alt.Axis(
        tickCount=4,
        gridOpacity=0.35,
        labelFlush=False,
        labelExpr=f"datum.value == 0 ? '0' : format(datum.value, '{look.form}')",
    )
    scale = alt.Scale(domain=reach, nice=True)
    interval = base.mark_rule(strokeWidth=4, opacity=0.5, strokeCap="round", clip=True).encode(
        x=alt.X("low:Q", title=None, axis=axis, scale=scale), x2="high:Q"
    )
    point = base.mark_point(filled=True, size=80, opacity=1, clip=True).encode(
        x=alt.X("delta:Q", title=None, axis=axis, scale=scale),
        shape=alt.Shape(
            f"{COMPARISON}:N",
            scale=alt.Scale(domain=names, range=list(MARKS)[: len(names)]),
            legend=None,
        ),
    )
    exchange, drift = (
        base.mark_tick(thickness=2.5, size=size, color=NEUTRAL, clip=True, aria=False).encode(
            x=alt.X(f"{name}:Q", title=None, axis=axis, scale=scale), color=alt.value(NEUTRAL)
        )
        for name, size in (("null", 14), ("null_drift", 7))
    )
    zero = (
        alt.Chart(pd.DataFrame([ZERO]))
        .mark_rule(strokeDash=[3, 3], color=NEUTRAL)
        .encode(x="zero:Q")
    )
    picked = alt.selection_point(name=PICKED, fields=["group"], on="click")
    chart: alt.LayerChart = (
        (zero + interval + exchange + drift + point.add_params(picked))
        .properties(height=_height(groups, names))
        .resolve_scale(yOffset="shared")
    )
    return chart


def _reach(data: pd.DataFrame) -> list[float]:
    """The ends of the axis: every estimate and null, and the intervals that rest on enough.

    The interval of a group of a few problems can be so wide that nothing else could be told apart;
    it is cut at the ends.
    """
    enough = data[data["problems"] >= ENOUGH_PROBLEMS]
    inside = [data[name] for name in ("delta", "null", "null_drift")]
    values = pd.concat([*inside, enough["low"], enough["high"]]).dropna()
    if values.empty:
        return [-1.0, 1.0]
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    margin = 0.05 * (high - low) or 1.0
    return [low - margin * (low < 0), high + margin * (high > 0)]


def _in_order(data: pd.DataFrame) -> list[str]:
    """Groups as they are drawn: all first, kinds in their order, the rest as they come."""
    kinds = {kind: place for place, kind in enumerate((ALL, *GROUP_ORDER[:-1]))}
    found = list(dict.fromkeys(data["group"]))
    return sorted(found, key=lambda group: (group != ALL, kinds.get(group.split(" / ")[0], 99)))


def histogram_chart(bins: pd.DataFrame, *, color: str) -> alt.Chart:
    """How the deltas of one group are spread.

    Args:
        bins: of `delta_histogram`.
        color: of the bars.
    """
    chart: alt.Chart = (
        alt.Chart(bins)
        .mark_bar(opacity=0.85, binSpacing=0, color=color)
        .encode(
            x=alt.X("low:Q", bin="binned", title=None, axis=alt.Axis(format="+.3~g", tickCount=6)),
            x2="high:Q",
            y=alt.Y("share:Q", title=None, axis=alt.Axis(format="%", tickCount=3)),
            tooltip=[
                alt.Tooltip("low:Q", title="from", format="+.4f"),
                alt.Tooltip("high:Q", title="to", format="+.4f"),
                alt.Tooltip("share:Q", title="share", format=".1%"),
            ],
        )
        .properties(height=HISTOGRAM_HEIGHT)
    )
    return chart


def transition_charts(table: pd.DataFrame) -> dict[str, alt.LayerChart]:
    """A chart of transitions for each model, by its name; a difference has no chart.

    Args:
        table: of `transition_tables`.
    """
    return {
        str(name): transition_chart(own, other=str(name))
        for name, own in table.groupby(COMPARISON, sort=False)
        if own["positions"].notna().any()
    }


def transition_chart(table: pd.DataFrame, *, other: str) -> alt.LayerChart:
    """Kind under the baseline (down) to kind under the other model (across): shares of all.

    Args:
        table: of `transitions`.
        other: name of that model.
    """
    kinds = [kind.value for kind in Kind]
    data = table.assign(
        text=[f"{share:.1%}" if share >= 0.0005 else "" for share in table["share"].fillna(0)],
        within=table["share"] / table.groupby("baseline")["share"].transform("sum"),
        described=table["baseline"]
        + " to "
        + table["other"]
        + ": "
        + table["share"].map("{:.1%}".format),
    )
    base = (alt.Chart() if data is None else alt.Chart(data)).encode(
        x=alt.X(
            "other:N",
            sort=kinds,
            title=line(f"under {other}"),
            axis=alt.Axis(orient="top", labelAngle=0, ticks=False, domain=False),
        ),
        y=alt.Y("baseline:N", sort=kinds, title="under the baseline", axis=_names()),
        tooltip=[
            alt.Tooltip("baseline:N", title="under the baseline"),
            alt.Tooltip("other:N", title="under the other model"),
            alt.Tooltip("share:Q", title="share of all", format=".2%"),
            alt.Tooltip("within:Q", title="share of this baseline kind", format=".1%"),
            alt.Tooltip("positions:Q", title="positions", format=","),
        ],
        # Vega writes titles into expressions, unescaped, unless it is told what to say of a cell.
        description="described:N",
    )
    cells = base.mark_rect(stroke=NEUTRAL, strokeOpacity=0.35).encode(
        color=alt.Color("baseline:N", scale=_scale(), legend=None),
        opacity=alt.Opacity("within:Q", scale=alt.Scale(domain=[0, 1], range=[0, 1]), legend=None),
    )
    texts = base.mark_text(fontWeight="bold").encode(
        text="text:N",
        color=alt.condition("datum.within > 0.55", alt.value("white"), alt.value(NEUTRAL)),
    )
    chart: alt.LayerChart = (cells + texts).properties(height=44 * len(kinds) + AXIS_HEIGHT)
    return chart


def shares_chart(shares: pd.DataFrame) -> alt.LayerChart:
    """Share of kinds by each assignment, one bar each, with the percentages written in."""
    data = shares.assign(order=shares["kind"].map({kind: i for i, kind in enumerate(GROUP_ORDER)}))
    data["text"] = [f"{share:.0%}" if share >= 0.05 else "" for share in data["share"]]
    data["middle"] = data.groupby("assignment")["share"].cumsum() - data["share"] / 2
    kinds = [kind.value for kind in Kind]
    base = (alt.Chart() if data is None else alt.Chart(data)).encode(
        y=alt.Y(
            "assignment:N",
            sort=[assignment.value for assignment in Assignment],
            title=None,
            axis=_names(),
        ),
        tooltip=[
            alt.Tooltip("assignment:N", title="assigned by"),
            alt.Tooltip("kind:N", title="kind"),
            alt.Tooltip("share:Q", title="share", format=".1%"),
            alt.Tooltip("positions:Q", title="positions", format=","),
        ],
    )
    bars = base.mark_bar(cornerRadius=2).encode(
        x=alt.X(
            "share:Q",
            title=None,
            scale=alt.Scale(domain=[0, 1], clamp=True),
            axis=alt.Axis(format="%", tickCount=5, gridOpacity=0.35),
        ),
        color=alt.Color(
            "kind:N",
            scale=alt.Scale(domain=kinds, range=[KIND_COLORS[kind] for kind in kinds]),
            legend=alt.Legend(orient="top", title=None),
        ),
        order="order:Q",
    )
    texts = base.mark_text(color="white", fontWeight="bold").encode(x="middle:Q", text="text:N")
    chart: alt.LayerChart = (bars + texts).properties(
        height=BAR_HEIGHT * len(Assignment) + LEGEND_HEIGHT + AXIS_HEIGHT
    )
    return chart


def evidence_chart(table: pd.DataFrame, *, figure: str) -> alt.LayerChart:
    """One figure of the evidence: per comparison its estimate, interval, and both nulls.

    A long tick is the role-exchange null, a short one the drift null; dashed is zero.

    Args:
        table: of `predictions.evidence_table`.
        figure: which of its figures.
    """
    data = table.loc[
        table["figure"] == figure,
        ["comparison", "estimate", "low", "high", "null_exchange", "null_drift"],
    ]
    data = data.assign(comparison=data["comparison"].map(line))
    names = list(data["comparison"])
    base = (alt.Chart() if data is None else alt.Chart(data)).encode(
        y=alt.Y("comparison:N", sort=names, title=None, axis=_names()),
        tooltip=[
            alt.Tooltip("comparison:N"),
            alt.Tooltip("estimate:Q", format="+.4f"),
            alt.Tooltip("low:Q", title="95 % from", format="+.4f"),
            alt.Tooltip("high:Q", title="to", format="+.4f"),
            alt.Tooltip("null_exchange:Q", title="null: exchange", format="+.4f"),
            alt.Tooltip("null_drift:Q", title="null: drift", format="+.4f"),
        ],
    )
    axis = alt.Axis(
        tickCount=4,
        gridOpacity=0.35,
        labelFlush=False,
        labelExpr="datum.value == 0 ? '0' : format(datum.value, '+.3~g')",
    )

    def at(column: str) -> alt.X:
        return alt.X(f"{column}:Q", title=None, axis=axis)

    color = KIND_COLORS[Kind.LOCK.value]
    interval = base.mark_rule(strokeWidth=4, opacity=0.5, strokeCap="round", color=color)
    point = base.mark_point(filled=True, size=80, opacity=1, color=color)
    exchange = base.mark_tick(thickness=2.5, size=18, color=NEUTRAL)
    drift = base.mark_tick(thickness=2.5, size=9, color=NEUTRAL)
    zero = (
        alt.Chart(pd.DataFrame({"zero": [0.0]}))
        .mark_rule(strokeDash=[3, 3], color=NEUTRAL)
        .encode(x="zero:Q")
    )
    chart: alt.LayerChart = (
        zero
        + interval.encode(x=at("low"), x2="high:Q")
        + exchange.encode(x=at("null_exchange"))
        + drift.encode(x=at("null_drift"))
        + point.encode(x=at("estimate"))
    ).properties(height=ROW_HEIGHT * len(names) + AXIS_HEIGHT)
    return chart
