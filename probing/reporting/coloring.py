"""Colours of scored tokens: which value is shown, and which shade stands for what."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from probing.reporting import display
from probing.reporting.charts import KIND_COLORS, NEUTRAL
from probing.reporting.comparison import kind_column
from probing.reporting.quantities import (
    QUANTITIES,
    baseline_column,
    delta_column,
    other_column,
)
from probing.vocabulary import Assignment, Kind, PerPosition

KIND = "kind"
"""What can be coloured by beside the quantities."""


class Aspect(StrEnum):
    """What of a quantity is shown; a pair quantity has one value, under any name."""

    DELTA = "delta"
    BASELINE = "baseline"
    OTHER = "other"


LOWER, HIGHER, SEQUENTIAL = "#2f6fd0", "#d07a10", "#0f8f83"
"""Hues of a fall, a rise, and a value; the first two are told apart with any common colour vision
deficiency."""

STRENGTHS = (0.14, 0.28, 0.42, 0.56)
"""Share of the hue in each shade, weakest first; the rest is the page's own background."""

KIND_STRENGTH = 0.42
LINES = {Kind.LOCK: "solid", Kind.FORK: "double", Kind.DIFFUSE: "dotted", Kind.MIXED: "dashed"}
"""Underlines tell kinds apart without colour."""

REACH = 0.98
"""Share of the run's deltas that the scale spans before its last step."""

ROUND = (1.0, 2.0, 5.0)
DIGITS = 3
"""Of the edges of a scale in equal steps."""


@dataclass(frozen=True)
class Shade:
    """One step of a scale.

    Attributes:
        label: what it stands for, for readers.
        hue: `#rrggbb`.
        strength: share of the hue in the background of the token, 0 to 1.
        line: style of the underline, as CSS names it.
    """

    label: str
    hue: str
    strength: float
    line: str = "solid"


NOT_MEASURED = Shade("not measured", NEUTRAL, 0.0, "dotted")
OUTSIDE = Shade("outside the filters", NEUTRAL, 0.0, "dashed")


@dataclass(frozen=True)
class Scale:
    """A quantity's shades, and the values between them.

    Attributes:
        edges: ascending; on both sides of 0 an edge belongs to the shade that is farther from 0.
        shades: one more than there are edges.
    """

    edges: Float[np.ndarray, " edge"]
    shades: tuple[Shade, ...]

    def codes(self, values: PerPosition) -> Int[np.ndarray, " position"]:
        """The shade of every value; -1 where it is NaN."""
        above = np.searchsorted(self.edges, values, side="right")
        below = np.searchsorted(self.edges, values, side="left")
        places = np.where(values < 0, below, above)
        return np.where(np.isnan(values), -1, places).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Coloring:
    """Positions in colour.

    Attributes:
        label: of what is shown, with its unit.
        shades: the legend, in order; `NOT_MEASURED` and `OUTSIDE` only where a position has them.
        codes: the shade of every position, an index into `shades`.
        values: what stands at every position, for readers.
    """

    label: str
    shades: tuple[Shade, ...]
    codes: Int[np.ndarray, " position"]
    values: tuple[str, ...]


def diverging(values: PerPosition, *, counts: bool = False) -> Scale:
    """The scale of changes: as far as `REACH` of the run's changes go, in steps of 1, 2 and 5.

    Args:
        values: of the whole run; those that are not finite do not count.
        counts: whether they are whole numbers.
    """
    sizes = np.abs(values[np.isfinite(values)])
    positive = _round_steps(_reach(sizes[sizes > 0]), counts=counts)
    strengths = STRENGTHS[-len(positive) :]
    above = [
        Shade(_range(low, high, counts=counts, signed=True), HIGHER, strength)
        for (low, high), strength in zip(pairwise([*positive, np.inf]), strengths, strict=True)
    ]
    below = [
        Shade(_range(low, high, counts=counts, signed=True, mirrored=True), LOWER, strength)
        for (low, high), strength in zip(pairwise([*positive, np.inf]), strengths, strict=True)
    ]
    middle = Shade("0" if counts else f"within ±{positive[0]:g}", NEUTRAL, 0.0)
    edges = np.array([*(-edge for edge in reversed(positive)), *positive])
    return Scale(edges=edges, shades=(*reversed(below), middle, *above))


def sequential(values: PerPosition, *, counts: bool = False) -> Scale:
    """The scale of values, which are all 0 or more, or all 0 or less: farther from 0 is stronger.

    In equal steps where most positions lie in the upper half of the range, as probabilities do;
    else in steps of 1, 2 and 5.

    Args:
        values: of the whole run; those that are not finite do not count.
        counts: whether they are whole numbers.
    """
    known = values[np.isfinite(values)]
    mirrored = bool(len(known)) and float(known.min()) < 0
    sizes = np.abs(known)
    top = _reach(sizes)
    even = bool(len(sizes)) and not counts and float(np.median(sizes)) > top / 2
    found = _even_steps(top) if even else _round_steps(top, counts=counts)
    positive = [edge for edge in found if edge > sizes.min(initial=np.inf)] or found[-1:]
    strengths = (0.0, *STRENGTHS[-len(positive) :])
    shades = [
        Shade(
            _range(low, high, counts=counts, mirrored=mirrored),
            SEQUENTIAL if strength else NEUTRAL,
            strength,
        )
        for (low, high), strength in zip(pairwise([0.0, *positive, np.inf]), strengths, strict=True)
    ]
    if mirrored:
        positive, shades = [-edge for edge in reversed(positive)], shades[::-1]
    return Scale(edges=np.array(positive), shades=tuple(shades))


def _reach(sizes: PerPosition) -> float:
    """How far a scale goes; 1 where there is nothing to go by."""
    return (float(np.quantile(sizes, REACH)) if len(sizes) else 0.0) or 1.0


def _round_steps(top: float, *, counts: bool) -> list[float]:
    """Numbers of the series 1, 2, 5, 10, …, the last the largest not above `top`, at least one."""
    count, power = len(STRENGTHS), int(np.floor(np.log10(top)))
    series = [digit * 10.0**p for p in range(power - count, power + 1) for digit in ROUND]
    # A number that is round already may lie a rounding error below itself.
    steps = [float(f"{step:.1g}") for step in series if step <= top * (1 + 1e-9)][-count:]
    return [step for step in steps if step >= 1] or [1.0] if counts else steps


def _even_steps(top: float) -> list[float]:
    """As many equal steps as there are strengths, of a round size: 0.2 for a top of nearly 1."""
    size = _round_steps(1.1 * top / (len(STRENGTHS) + 1), counts=False)[-1]
    return [float(f"{size * place:.{DIGITS}g}") for place in range(1, len(STRENGTHS) + 1)]


def _range(
    low: float, high: float, *, counts: bool, signed: bool = False, mirrored: bool = False
) -> str:
    """What a shade from `low` to `high` stands for; `mirrored`, from `-high` to `-low`."""

    def told(value: float) -> str:
        text = f"{-value if mirrored else value:{'+' if signed else ''}g}"
        return text.replace("-", "−") if value else "0"

    if np.isinf(high):
        return f"{told(low)} or {'less' if mirrored else 'more'}"
    if counts:
        return told(low) if high <= low + 1 else f"{told(low)} to {told(high - 1)}"
    return f"{told(high)} to {told(low)}" if mirrored else f"{told(low)} to {told(high)}"


def coloring(
    every: pd.DataFrame,
    shown: pd.DataFrame,
    *,
    by: str,
    aspect: Aspect = Aspect.DELTA,
    assignment: Assignment = Assignment.MEAN,
    inside: Sequence[bool] | None = None,
) -> Coloring:
    """Positions in the colours of one quantity.

    Args:
        every: the comparison of the whole run: its values make the scale, so that one shade means
            the same in every response.
        shown: the positions to be coloured, of the same comparison.
        by: name of a quantity, or `KIND`.
        aspect: which of its values; a pair quantity has one.
        assignment: whose kind.
        inside: whether each position passes the filters; by default all do.
    """
    if by == KIND:
        label, found = f"Kind by {assignment}", _by_kind(shown[kind_column(assignment)])
    else:
        label, found = coloring_label(by, aspect), _by_value(every, shown, by=by, aspect=aspect)
    kept = np.ones(len(shown), dtype=bool) if inside is None else np.array(inside, dtype=bool)
    shades, codes = list(found.shades), found.codes.copy()
    for shade, here in ((NOT_MEASURED, (codes < 0) & kept), (OUTSIDE, ~kept)):
        if here.any():
            codes[here] = len(shades)
            shades.append(shade)
    return Coloring(label=label, shades=tuple(shades), codes=codes, values=found.values)


def value_column(by: str, aspect: Aspect) -> str:
    """Column of a comparison that holds this value of a quantity."""
    if QUANTITIES[by].of == "pair" or aspect is Aspect.DELTA:
        return delta_column(by)
    return baseline_column(by) if aspect is Aspect.BASELINE else other_column(by)


def is_change(by: str, aspect: Aspect) -> bool:
    """Whether the value is a difference, which can have either sign."""
    return aspect is Aspect.DELTA and QUANTITIES[by].of == "model"


def coloring_label(by: str, aspect: Aspect) -> str:
    """What readers call the value."""
    label = QUANTITIES[by].label
    if QUANTITIES[by].of == "pair":
        return label
    return f"{label}: {'other − baseline' if aspect is Aspect.DELTA else f'under the {aspect}'}"


def _values_scale(every: pd.DataFrame, by: str) -> Scale:
    """One scale for both models, so that their colours can be compared."""
    if QUANTITIES[by].of == "pair":
        return sequential(_floats(every[delta_column(by)]))
    columns = (baseline_column(by), other_column(by))
    values = np.concatenate([_floats(every[column]) for column in columns])
    return sequential(values, counts=by in display.COUNTS)


class _Found(NamedTuple):
    shades: tuple[Shade, ...]
    codes: Int[np.ndarray, " position"]
    values: tuple[str, ...]


def _by_value(every: pd.DataFrame, shown: pd.DataFrame, *, by: str, aspect: Aspect) -> _Found:
    column, change = value_column(by, aspect), is_change(by, aspect)
    scale = (
        diverging(_floats(every[column]), counts=by in display.COUNTS)
        if change
        else _values_scale(every, by)
    )
    values = _floats(shown[column])
    form = display.quantity_form(by, change=change)
    return _Found(scale.shades, scale.codes(values), tuple(form(value) for value in values))


def _by_kind(kinds: "pd.Series[Any]") -> _Found:
    shades = tuple(
        Shade(kind.value, KIND_COLORS[kind.value], KIND_STRENGTH, LINES[kind]) for kind in Kind
    )
    places = {shade.label: place for place, shade in enumerate(shades)}
    texts = tuple(str(kind) for kind in kinds)
    codes = np.array([places.get(text, -1) for text in texts], dtype=np.int64)
    return _Found(shades, codes, texts)


def _floats(values: "pd.Series[Any]") -> PerPosition:
    return values.to_numpy(dtype=np.float64, na_value=np.nan)
