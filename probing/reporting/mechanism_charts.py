"""Charts of curves, sweeps and the multiverse, each with its reading in a sentence.

A colour is a kind, a dash a model. All take aggregated tables and are readable on light and dark.
"""

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from probing.reporting.charts import KIND_COLORS, NEUTRAL
from probing.reporting.quantities import QUANTITIES
from probing.reporting.text import line
from probing.vocabulary import Kind

KINDS = tuple(kind.value for kind in Kind)
DASHES = ([1, 0], [6, 3])
"""Of baseline and other: solid, dashed."""

CURVE_HEIGHT, LEGENDS_HEIGHT = 280, 60
"""On a page legends take their room out of the height."""
SAMPLE_RANK = 20
"""The rank that the sentence of the mass chart speaks of."""


def mass_chart(table: pd.DataFrame) -> alt.LayerChart:
    """Mass of the likeliest tokens by rank at T = 1, per kind and model.

    Args:
        table: `by_rank` of `curves.curve_tables`.
    """
    data = _models(table)
    scale = alt.Scale(type="log", nice=False)
    rank = alt.X("rank:Q", title="tokens, likeliest first", scale=scale, axis=_axis())
    return _lines(data, x=rank, y="mass", title="mass", form=".4f")


def temperature_chart(table: pd.DataFrame, *, quantity: str) -> alt.LayerChart:
    """What top-k and top-p leave over the temperature of evaluation, per kind and model.

    Args:
        table: `by_temperature` of `curves.curve_tables`.
        quantity: one of its quantities.
    """
    data = _models(table[table["quantity"] == quantity])
    form = ".2f" if quantity == "nucleus_size" else ".4f"
    return _lines(data, x=_temperature(), y="value", title=_name(quantity), form=form)


def matched_chart(table: pd.DataFrame, *, quantity: str) -> alt.LayerChart:
    """Other less baseline where both leave as much mass in the top k, with the interval.

    Args:
        table: `matched` of `curves.curve_tables`.
        quantity: one of its quantities.
    """
    data = _known(table[table["quantity"] == quantity], "delta")
    tooltip = [
        alt.Tooltip("kind:N"),
        alt.Tooltip("temperature:Q", title="T of the baseline"),
        alt.Tooltip("other_temperature:Q", title="T of the other", format=".3f"),
        alt.Tooltip("top_mass:Q", title="top-k mass of both", format=".4f"),
        alt.Tooltip("delta:Q", title="other − baseline", format="+.4f"),
        alt.Tooltip("low:Q", title="95 % from", format="+.4f"),
        alt.Tooltip("high:Q", title="to", format="+.4f"),
    ]
    return _bands(data, x=_temperature(), tooltip=tooltip)


def sweep_chart(table: pd.DataFrame, *, quantity: str) -> alt.LayerChart:
    """Delta of a quantity at every kind over the values of a threshold, with the interval.

    Args:
        table: of `sweeps.sweep_table`.
        quantity: one of its quantities.
    """
    data = _known(table[table["quantity"] == quantity], "delta")
    threshold = str(table["threshold"].iloc[0])
    tooltip = [
        alt.Tooltip("kind:N"),
        alt.Tooltip("value:Q", title=threshold),
        alt.Tooltip("share:Q", title="share of all", format=".1%"),
        alt.Tooltip("delta:Q", format="+.4f"),
        alt.Tooltip("low:Q", title="95 % from", format="+.4f"),
        alt.Tooltip("high:Q", title="to", format="+.4f"),
        alt.Tooltip("null:Q", title="null", format="+.4f"),
    ]
    x = alt.X("value:Q", title=threshold, axis=_axis(), scale=alt.Scale(zero=False))
    return _bands(data, x=x, tooltip=tooltip)


def _models(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the two models themselves, at kinds that occur; ascending, so that lines are."""
    models = list(dict.fromkeys(table["model"]))[:2]
    value = "mass" if "mass" in table else "value"
    return _known(table[table["model"].isin(models)], value).assign(
        model=lambda own: own["model"].map(line)
    )


def _known(table: pd.DataFrame, value: str) -> pd.DataFrame:
    """Rows of single kinds with a value."""
    return table[table["kind"].isin(KINDS) & table[value].notna()]


def _axis() -> alt.Axis:
    return alt.Axis(gridOpacity=0.35, tickCount=6, format="~g")


def _signed_axis() -> alt.Axis:
    text = "datum.value == 0 ? '0' : format(datum.value, '+.3~g')"
    return alt.Axis(gridOpacity=0.35, tickCount=5, labelExpr=text)


def _temperature() -> alt.X:
    scale = alt.Scale(zero=False)
    return alt.X("temperature:Q", title="temperature of evaluation", axis=_axis(), scale=scale)


def _color(kinds: Sequence[str]) -> alt.Color:
    shown = [kind for kind in KINDS if kind in kinds]
    return alt.Color(
        "kind:N",
        scale=alt.Scale(domain=shown, range=[KIND_COLORS[kind] for kind in shown]),
        legend=alt.Legend(orient="top", title=None, symbolOpacity=1),
    )


def _lines(data: pd.DataFrame, *, x: alt.X, y: str, title: str, form: str) -> alt.LayerChart:
    """A line per kind and model, with a point that tells its interval."""
    models = list(dict.fromkeys(data["model"]))
    base = alt.Chart(data).encode(
        x=x,
        y=alt.Y(f"{y}:Q", title=None, axis=_axis(), scale=alt.Scale(zero=False)),
        color=_color(list(data["kind"])),
        tooltip=[
            alt.Tooltip("kind:N"),
            alt.Tooltip("model:N"),
            alt.Tooltip(f"{x.shorthand}", title=str(x.title)),
            alt.Tooltip(f"{y}:Q", title=title, format=form),
            alt.Tooltip("low:Q", title="95 % from", format=form),
            alt.Tooltip("high:Q", title="to", format=form),
            alt.Tooltip("positions:Q", format=","),
        ],
    )
    lines = base.mark_line(strokeWidth=2).encode(
        strokeDash=alt.StrokeDash(
            "model:N",
            scale=alt.Scale(domain=models, range=list(DASHES)[: len(models)]),
            legend=alt.Legend(orient="bottom", title=None, symbolStrokeColor=NEUTRAL),
        )
    )
    points = base.mark_point(size=60, opacity=0).encode(detail="model:N")
    chart: alt.LayerChart = (lines + points).properties(height=CURVE_HEIGHT + LEGENDS_HEIGHT)
    return chart


def _bands(data: pd.DataFrame, *, x: alt.X, tooltip: list[alt.Tooltip]) -> alt.LayerChart:
    """A line per kind over the band of its interval; dashed is zero."""
    base = alt.Chart(data).encode(x=x, color=_color(list(data["kind"])), tooltip=tooltip)
    y = alt.Y("delta:Q", title=None, axis=_signed_axis())
    band = base.mark_area(opacity=0.2).encode(y=alt.Y("low:Q", title=None), y2="high:Q")
    middle = base.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=30)).encode(y=y)
    zero = (
        alt.Chart(pd.DataFrame({"zero": [0.0]}))
        .mark_rule(strokeDash=[3, 3], color=NEUTRAL)
        .encode(y="zero:Q")
    )
    chart: alt.LayerChart = (zero + band + middle).properties(height=CURVE_HEIGHT)
    return chart


def _name(quantity: str) -> str:
    """For an axis: tail mass of the curves is outside their own top k, as everywhere."""
    return QUANTITIES[quantity].label


# --- In words -----------------------------------------------------------------------------------


def mass_sentence(table: pd.DataFrame, *, rank: int = SAMPLE_RANK) -> str:
    """Whether the other's likeliest tokens hold more mass, per kind.

    Args:
        table: `by_rank` of `curves.curve_tables`.
        rank: how many tokens; the largest that the table has, if that is less.
    """
    shown = min(rank, int(table["rank"].max()))
    contrast = table[table["model"] == _contrast(table)]
    rows = contrast[contrast["rank"] == shown].rename(columns={"mass": "delta"})
    return (
        f"At T = 1 the {shown} likeliest tokens of {_other(table)} hold, against those of "
        f"{_baseline(table)}: {_each_kind(rows, unit='of the mass')}."
    )


def temperature_sentence(table: pd.DataFrame, *, quantity: str) -> str:
    """How the difference of the two models goes with temperature, per kind.

    Args:
        table: `by_temperature` of `curves.curve_tables`.
        quantity: one of its quantities.
    """
    rows = table[(table["model"] == _contrast(table)) & (table["quantity"] == quantity)]
    rows = rows.rename(columns={"value": "delta"})
    return (
        f"{_name(quantity)} of {_other(table)} against {_baseline(table)} at the same "
        f"temperature: {_over(rows)}."
    )


def matched_sentence(table: pd.DataFrame, *, quantity: str) -> str:
    """What is left of a difference where both models leave as much mass in the top k, per kind.

    Args:
        table: `matched` of `curves.curve_tables`.
        quantity: one of its quantities.
    """
    rows = table[table["quantity"] == quantity]
    return (
        f"{_name(quantity)} of the other model against the baseline where both leave as much mass "
        f"in the top k: {_over(rows)}."
    )


def sweep_sentence(table: pd.DataFrame, *, quantity: str) -> str:
    """Over which values of a threshold a delta keeps its sign, at locks and at forks.

    Args:
        table: of `sweeps.sweep_table`.
        quantity: one of its quantities.
    """
    name, rows = table["threshold"].iloc[0], table[table["quantity"] == quantity]
    rows = rows[rows["kind"].isin([Kind.LOCK.value, Kind.FORK.value])]
    parts = [_steady(kind, part, name) for kind, part in rows.groupby("kind", sort=False)]
    return f"{_name(quantity)}: {'; '.join(parts)}."


def _steady(kind: object, part: pd.DataFrame, threshold: str) -> str:
    known = part[part["delta"].notna()]
    if known.empty:
        return f"at {_plural(kind)} not measured"
    steady = np.sign(known["delta"]).nunique() == 1
    clear = int((_side(known) != 0).sum())
    return (
        f"at {_plural(kind)} the delta {'keeps' if steady else 'changes'} its sign over "
        f"{len(known)} values of {threshold} ({known['delta'].min():+.2g} to "
        f"{known['delta'].max():+.2g}), its interval leaves out 0 at {clear}"
    )


def _side(rows: pd.DataFrame) -> pd.Series:
    """1 or -1 where the interval leaves out 0 on that side, else 0."""
    return (rows["low"] > 0).astype(int) - (rows["high"] < 0).astype(int)


def _each_kind(rows: pd.DataFrame, *, unit: str) -> str:
    """One difference per kind, with its interval."""
    known = _known(rows, "delta")
    parts = [
        f"{row['delta']:+.2g} {unit} at {_plural(row['kind'])}"
        + (" (not told from 0)" if side == 0 else "")
        for (_, row), side in zip(known.iterrows(), _side(known), strict=True)
    ]
    return ", ".join(parts) or "not measured"


def _over(rows: pd.DataFrame) -> str:
    """Per kind, at which temperatures a difference is above or below 0."""
    known = _known(rows, "delta")
    parts = [
        f"at {_plural(kind)} {_stretches(part)}" for kind, part in known.groupby("kind", sort=False)
    ]
    return "; ".join(parts) or "not measured"


def _stretches(part: pd.DataFrame) -> str:
    """Neighbouring temperatures on the same side of 0, in words."""
    words = {1: "higher", -1: "lower", 0: "not told apart"}
    sides, temperatures = _side(part).tolist(), part["temperature"].tolist()
    starts = [i for i in range(len(sides)) if i == 0 or sides[i] != sides[i - 1]]
    ends = [*(start - 1 for start in starts[1:]), len(sides) - 1]
    told = []
    for start, end in zip(starts, ends, strict=True):
        first, last = temperatures[start], temperatures[end]
        where = f"T {first:g}" if start == end else f"T {first:g} to {last:g}"
        told.append(f"{words[sides[start]]} at {where}")
    return ", ".join(told)


def _plural(kind: object) -> str:
    """For instance, lock-like becomes locks."""
    name = str(kind)
    return f"{name.removesuffix('-like')}s" if name.endswith("-like") else f"{name} positions"


def _baseline(table: pd.DataFrame) -> str:
    return str(table["model"].iloc[0])


def _other(table: pd.DataFrame) -> str:
    return str(list(dict.fromkeys(table["model"]))[1])


def _contrast(table: pd.DataFrame) -> str:
    """The name of the difference: models come in the order baseline, other, difference."""
    return str(list(dict.fromkeys(table["model"]))[2])
