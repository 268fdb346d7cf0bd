"""Blocks of a report as a notebook shows them: inert HTML, and text for whatever shows no HTML."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from probing.reporting.document import (
    Block,
    Bullets,
    Card,
    Excerpt,
    Form,
    Grid,
    Paragraph,
)
from probing.reporting.report_html import fragment
from probing.reporting.text import MARKS, line, plain

UNTYPESET = "tex2jax_ignore mathjax_ignore"
"""Classes in which a notebook sets no formulas: a dollar in a text stays one."""


class Shown(ABC):
    """What is shown as blocks when it ends a cell, or is printed."""

    @abstractmethod
    def blocks(self) -> Sequence[Block]:
        """In the order of reading."""

    def __repr__(self) -> str:
        return blocks_text(self.blocks())

    def _repr_html_(self) -> str:
        return f'<div class="{UNTYPESET}">{fragment(self.blocks())}</div>'


def blocks_text(blocks: Sequence[Block]) -> str:
    """Blocks as text for a terminal, with nothing hidden in it."""
    return "\n".join(TEXTS[type(block)](block) for block in blocks)


def _excerpt(block: Excerpt) -> str:
    before, after = plain(block.before), plain(block.after)
    return f"{before}{MARKS[0]}{line(block.token)}{MARKS[1]}{after}"


def _table(table: Grid) -> str:
    """Columns in line, figures to the right."""
    rows = [[head.label for head in table.heads], *table.rows]
    cells = [[line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    aligned = [
        "  ".join(
            cell.rjust(width) if head.form is Form.NUMBER else cell.ljust(width)
            for cell, width, head in zip(row, widths, table.heads, strict=True)
        ).rstrip()
        for row in cells
    ]
    return "\n".join([f"{line(table.title)}:", *aligned])


TEXTS: dict[type, Callable[[Any], str]] = {
    Paragraph: lambda block: line(block.text),
    Bullets: lambda block: "\n".join(f"note: {line(item)}" for item in block.items),
    Card: lambda block: line(f"{block.name}: {block.verdict} ({block.rule})"),
    Excerpt: _excerpt,
    Grid: _table,
}
"""How each kind of block that a notebook is shown is written."""
