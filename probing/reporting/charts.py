"""Altair charts of aggregated tables: one colour per kind, readable on light and dark."""

import altair as alt
import pandas as pd

from probing.reporting.deltas import ALL
from probing.reporting.quantities import QUANTITIES
from probing.vocabulary import Assignment, Kind

KIND_COLORS: dict[str, str] = {
    Kind.LOCK.value: "#3662d9",
    Kind.FORK.value: "#bf8613",
    Kind.DIFFUSE.value: "#bf308f",
    Kind.MIXED.value: "#736f3f",
    ALL: "#7a828c",
}
"""The same colour for a kind everywhere; 3:1 or better against both of the page's backgrounds, and
told apart with any of the common colour vision deficiencies. Labels always say the kind too."""

GROUP_ORDER = (*KIND_COLORS,)
ROW_HEIGHT, AXIS_HEIGHT = 24, 34
BAR_HEIGHT, LEGEND_HEIGHT = 34, 40


def _scale() -> alt.Scale:
    return alt.Scale(domain=list(KIND_COLORS), range=list(KIND_COLORS.values()))


def _names() -> alt.Axis:
    return alt.Axis(ticks=False, domain=False, labelOverlap=False, labelFlush=False, labelPadding=8)


def delta_chart(table: pd.DataFrame, *, quantity: str) -> alt.LayerChart:
    """Deltas of one quantity by kind: a point, its interval as a bar, and a line at zero.

    Args:
        table: of `delta_table` by kind.
        quantity: which of its quantities.
    """
    data = table.loc[
        (table["quantity"] == quantity) & table["delta"].notna(),
        ["kind", "delta", "low", "high", "positions", "problems"],
    ]
    order = [group for group in (ALL, *GROUP_ORDER[:-1]) if group in set(data["kind"])]
    base = alt.Chart(data).encode(
        y=alt.Y("kind:N", sort=order, title=None, axis=_names()),
        color=alt.Color("kind:N", scale=_scale(), legend=None),
        tooltip=[
            alt.Tooltip("kind:N", title="kind"),
            alt.Tooltip("delta:Q", title="delta", format="+.4f"),
            alt.Tooltip("low:Q", title="95 % from", format="+.4f"),
            alt.Tooltip("high:Q", title="to", format="+.4f"),
            alt.Tooltip("positions:Q", title="positions", format=","),
            alt.Tooltip("problems:Q", title="problems", format=","),
        ],
    )
    form = "+.3~g" if QUANTITIES[quantity].of == "model" else ".3~g"
    axis = alt.Axis(
        tickCount=4,
        gridOpacity=0.35,
        labelFlush=False,
        labelExpr=f"datum.value == 0 ? '0' : format(datum.value, '{form}')",
    )
    interval = base.mark_rule(strokeWidth=4, opacity=0.55, strokeCap="round").encode(
        x=alt.X("low:Q", title=None, axis=axis), x2="high:Q"
    )
    point = base.mark_point(filled=True, size=90, opacity=1).encode(
        x=alt.X("delta:Q", title=None, axis=axis)
    )
    zero = (
        alt.Chart(pd.DataFrame({"zero": [0.0]}))
        .mark_rule(strokeDash=[3, 3], color="#7a828c")
        .encode(x="zero:Q")
    )
    chart: alt.LayerChart = (zero + interval + point).properties(
        height=ROW_HEIGHT * max(len(order), 1) + AXIS_HEIGHT
    )
    return chart


def shares_chart(shares: pd.DataFrame) -> alt.LayerChart:
    """Share of kinds by each assignment, one bar each, with the percentages written in."""
    data = shares.assign(order=shares["kind"].map({kind: i for i, kind in enumerate(GROUP_ORDER)}))
    data["text"] = [f"{share:.0%}" if share >= 0.05 else "" for share in data["share"]]
    data["middle"] = data.groupby("assignment")["share"].cumsum() - data["share"] / 2
    kinds = [kind.value for kind in Kind]
    base = alt.Chart(data).encode(
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
