"""Words beside the figures of a table's cells."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from probing.reporting.examples import ENTERS, LEAVES

TIE = "tie = as likely as another token"
CHANGES = "new, gone = kept by one model, cut by the other"
"""What the words beside probabilities mean."""

SHORT = {ENTERS: "new", LEAVES: "gone"}
"""Words that leave a table of three models as wide as a page."""


def with_marks(
    styler: Styler,
    table: pd.DataFrame,
    *,
    labels: Mapping[str, str],
    forms: Mapping[str, Callable[[Any], str]],
) -> Styler:
    """The probabilities of an example: ties, and what comes into a nucleus or goes, are said.

    Args:
        styler: of the table as it is shown.
        table: of `example_table`, in the same order.
        labels: of the shown columns.
        forms: how each side's `prob` and `kept_prob` are written.
    """
    for side in [name.removesuffix("_tied") for name in map(str, table) if name.endswith("_tied")]:
        marks = {
            "prob": table[f"{side}_tied"].map({True: "tie"}),
            "kept_prob": table[f"{side}_change"].map(SHORT),
        }
        for name, form in forms.items():
            styler = marked_cells(styler, labels[f"{side}_{name}"], form=form, marks=marks[name])
    return styler


def marked_cells(
    styler: Styler, label: str, *, form: Callable[[Any], str], marks: "pd.Series[Any]"
) -> Styler:
    """A column whose cells are written by `form`, with a word after each that has one.

    The values stay numbers: they sort as such.

    Args:
        styler: of the table.
        label: of the column.
        form: how a value is written.
        marks: by row; empty or missing = none.
    """
    styler = styler.format(form, subset=[label])
    for mark in sorted({str(mark) for mark in marks.dropna()} - {""}):
        rows = styler.index[(marks == mark).fillna(False).to_numpy(dtype=bool)]
        styler = styler.format(_with(form, mark), subset=pd.IndexSlice[rows, [label]])
    return styler


def _with(form: Callable[[Any], str], mark: str) -> Callable[[Any], str]:
    return lambda value: f"{form(value)} {mark}"
