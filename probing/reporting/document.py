"""A report before it is HTML or Markdown: sections of plain text, tables, charts and excerpts.

Texts are as they come, hostile or not; whoever renders them makes them inert.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

import altair as alt
import pandas as pd

from probing.reporting.display import Column


class Form(StrEnum):
    """How a column of a table is set."""

    TEXT = "text"
    NUMBER = "number"
    TOKEN = "token"
    KIND = "kind"


@dataclass(frozen=True)
class Head:
    """One column: its label, what it means, how its cells are set."""

    label: str
    explanation: str
    form: Form


@dataclass(frozen=True)
class Grid:
    """A table; every row has a text for every column."""

    title: str
    heads: tuple[Head, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Paragraph:
    """Running text; a note is set smaller."""

    text: str
    note: bool = False


@dataclass(frozen=True)
class Subheading:
    """A heading inside a section."""

    text: str


@dataclass(frozen=True)
class Facts:
    """Names and what is to be said of each, in order."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Bullets:
    """Sentences, each for itself."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Card:
    """The verdict on one model, and the rule that gave it."""

    name: str
    verdict: str
    rule: str


@dataclass(frozen=True)
class Picture:
    """A chart of its own width; where charts cannot be shown, the tables hold its figures."""

    title: str
    chart: alt.LayerChart
    wide: bool = False


@dataclass(frozen=True)
class Excerpt:
    """Text of a response around one token."""

    before: str
    token: str
    after: str


@dataclass(frozen=True)
class Command:
    """A line for a terminal."""

    text: str


Block: TypeAlias = (
    Paragraph | Subheading | Facts | Bullets | Card | Picture | Excerpt | Command | Grid
)


@dataclass(frozen=True)
class Section:
    """One question and what answers it; `anchor` is its name in links."""

    anchor: str
    title: str
    question: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Report:
    """A title, one line that says it all, and the sections."""

    title: str
    lead: str
    sections: tuple[Section, ...]


def grid(
    table: pd.DataFrame,
    *,
    title: str,
    labels: Mapping[str, Column],
    forms: Mapping[str, Form],
    texts: Mapping[str, Callable[[Any], str]],
) -> Grid:
    """A table of a report: some columns of a frame, each cell as text.

    Args:
        table: holds every column of `labels`.
        title: what the table shows.
        labels: the columns, in order.
        forms: of columns that are no plain text.
        texts: by column, how its values are shown; others by `str`.
    """
    cells = [table[name].map(texts.get(name, str)).tolist() for name in labels]
    return Grid(
        title=title,
        heads=tuple(
            Head(column.label.strip(), column.explanation, forms.get(name, Form.TEXT))
            for name, column in labels.items()
        ),
        rows=tuple(zip(*cells, strict=True)),
    )
