"""A report as Markdown: pipe tables without charts, and no text of a model that could be live.

Charts are left out. Inline SVG and pictures in data URIs are dropped by the viewers that matter
(GitHub and GitLab strip both), and a file beside the report would not travel with it. The tables
hold every figure that the charts show.
"""

import re
from collections.abc import Callable
from itertools import groupby
from typing import Any

from probing.reporting.document import (
    Block,
    Bullets,
    Card,
    Command,
    Excerpt,
    Facts,
    Form,
    Grid,
    Paragraph,
    Picture,
    Report,
    Section,
    Subheading,
)
from probing.reporting.text import MARKS, line, plain

NO_CHARTS = (
    "Charts are in the HTML report (-o report.html): few Markdown viewers show them. The tables "
    "hold every figure of theirs."
)

LIVE = re.compile(r"[\\`*<>\[\]$~|#@!{}^&\"]|_|://|www\.|:[a-z]", re.IGNORECASE)
"""A word with any of these could be markup, a link, a mention, a formula or an emoji somewhere."""

MARKER = re.compile(r"^(?:[-+=]|\d+[.)](?= |$))")
"""What begins a list or underlines a heading at the start of a line."""


def markdown_text(report: Report) -> str:
    """The whole file."""
    parts = [f"# {inline(report.title)}", paragraph(report.lead), f"*{NO_CHARTS}*"]
    for section in report.sections:
        parts += _section(section)
    return "\n\n".join(parts) + "\n"


def code(text: str) -> str:
    """A code span in which nothing is live: its fence is longer than any in the text."""
    fence = "`" * (_longest_fence(text) + 1)
    pad = " " if text.startswith(("`", " ")) or text.endswith(("`", " ")) else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def inline(text: str) -> str:
    r"""A sentence or a name on one line; words that could be live stand in code spans.

    Examples:
        >>> inline("ssd rose at <b> http://x.org now")
        'ssd rose at `<b> http://x.org` now'
    """
    words = line(text).split(" ")
    parts = []
    for live, together in groupby(words, key=lambda word: bool(LIVE.search(word))):
        said = " ".join(together)
        parts.append(code(said) if live else said)
    return " ".join(parts)


def paragraph(text: str) -> str:
    r"""The same as a paragraph or an item of a list: its first word begins no list.

    Examples:
        >>> paragraph("- no list"), paragraph("1. no list"), paragraph("0.5 is no list")
        ('\\- no list', '1\\. no list', '0.5 is no list')
    """
    return MARKER.sub(lambda found: f"{found.group()[:-1]}\\{found.group()[-1]}", inline(text))


def _longest_fence(text: str) -> int:
    return max((len(run) for run in re.findall(r"`+", text)), default=0)


def _section(section: Section) -> list[str]:
    shown = [block for block in section.blocks if not isinstance(block, Picture)]
    return [
        f"## {inline(section.title)}",
        f"*{section.question}*",
        *(_block(block) for block in shown),
    ]


def _block(block: Block) -> str:
    """Anything but a picture."""
    return SHOWN[type(block)](block)


def _facts(block: Facts) -> str:
    return "\n".join(f"- **{inline(name)}**: {inline(text)}" for name, text in block.rows)


def _card(block: Card) -> str:
    return f"**{inline(block.name)}: {inline(block.verdict)}**  \n{paragraph(block.rule)}."


def _excerpt(block: Excerpt) -> str:
    before, after = plain(block.before), plain(block.after)
    return _fenced(f"{before}{MARKS[0]}{line(block.token)}{MARKS[1]}{after}")


def _fenced(text: str) -> str:
    """A code block whose fence is longer than any in the text."""
    fence = "`" * max(3, _longest_fence(text) + 1)
    return f"{fence}text\n{text}\n{fence}"


def _table(table: Grid) -> str:
    heads = [_in_table(inline(head.label)) for head in table.heads]
    rules = ["---:" if head.form is Form.NUMBER else "---" for head in table.heads]
    rows = [
        [_cell(text, head.form) for text, head in zip(row, table.heads, strict=True)]
        for row in table.rows
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rules, *rows))


def _cell(text: str, form: Form) -> str:
    if form is Form.TOKEN:
        return _in_table(code(line(text))) if text else ""
    return _in_table(inline(text))


def _in_table(text: str) -> str:
    r"""A cell whose bars do not end it.

    After a backslash no escape of a bar is read alike everywhere: there it is shown as `\x7c`.
    """
    return re.sub(r"(\\*)\|", lambda found: rf"{found[1]}\x7c" if found[1] else r"\|", text)


SHOWN: dict[type, Callable[[Any], str]] = {
    Paragraph: lambda block: paragraph(block.text),
    Subheading: lambda block: f"### {inline(block.text)}",
    Facts: _facts,
    Bullets: lambda block: "\n".join(f"- {paragraph(item)}" for item in block.items),
    Card: _card,
    Excerpt: _excerpt,
    Command: lambda block: _fenced(line(block.text)),
    Grid: _table,
}
"""How each kind of block but a picture is written."""
