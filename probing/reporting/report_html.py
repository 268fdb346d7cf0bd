"""A report as one HTML file: no script, nothing fetched, every text escaped, charts inside."""

from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import groupby
from typing import Any

from probing.reporting.display import kind_style
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
from probing.reporting.drawing import chart_svg
from probing.reporting.text import line, plain

NARROW, WIDE = 330, 480
"""Width of a chart's plot in pixels."""

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""What a browser may load for this page: nothing but the style in it."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --panel: #f3f5f8; --ink: #1d2530; --soft: #596573; --line: #d9dee5;
  --accent: #2d6ca6; --mark: #ffe08a; --mark-ink: #1d2530;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #12161c; --panel: #1b212a; --ink: #e4e8ee; --soft: #9aa6b4; --line: #333c48;
    --accent: #6aa9e0; --mark: #6b5310; --mark-ink: #fff3cf;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2.5rem 1.25rem 5rem; max-width: 72rem;
  background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.35rem; margin: 0; }
h3 { font-size: 1.05rem; margin: 2rem 0 .4rem; }
p { margin: .6rem 0; max-width: 46rem; overflow-wrap: anywhere; }
.lead { font-size: 1.1rem; color: var(--soft); }
.note, .question { color: var(--soft); }
.note { font-size: .9rem; }
.question { margin: .1rem 0 1rem; }
section { margin-top: 3rem; padding-top: 1.5rem; border-top: 1px solid var(--line); }
nav ol {
  display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: 1.5rem 0 0; padding: 0;
  list-style: none; font-size: .95rem;
}
a { color: var(--accent); text-decoration: none; }
a:hover, a:focus-visible { text-decoration: underline; }
.table { overflow-x: auto; margin: 1rem 0; border: 1px solid var(--line); border-radius: .4rem; }
.table + p { margin-top: 2rem; }
.table:focus-visible { outline: 2px solid var(--accent); }
table { border-collapse: collapse; width: 100%; font-size: .875rem; line-height: 1.4; }
caption { text-align: left; padding: .5rem .7rem; color: var(--soft); }
th, td { padding: .35rem .6rem; text-align: left; vertical-align: top; white-space: nowrap; }
th { background: var(--panel); font-weight: 600; border-bottom: 1px solid var(--line); }
th[title] { cursor: help; }
tr + tr td { border-top: 1px solid var(--line); }
tr.same td { border-top: 0; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.long { white-space: normal; min-width: 12rem; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
td code { unicode-bidi: isolate; white-space: pre; }
pre {
  margin: .8rem 0; padding: .7rem .9rem; background: var(--panel); border: 1px solid var(--line);
  border-radius: .4rem; font-size: .875rem; line-height: 1.5; white-space: pre-wrap;
  overflow-wrap: anywhere; unicode-bidi: isolate;
}
mark {
  background: var(--mark); color: var(--mark-ink); padding: .05em .15em; border-radius: .2em;
  unicode-bidi: isolate;
}
dl { display: grid; grid-template-columns: minmax(7rem, 15rem) 1fr; gap: .4rem 1.2rem; margin: 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
.cards, .pictures { display: grid; gap: 1rem; margin: 1rem 0; }
.cards { grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); }
.pictures { grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }
.card { padding: .9rem 1.1rem; border: 1px solid var(--line); border-radius: .4rem; }
.card p { margin: .2rem 0; }
.card .verdict { font-size: 1.35rem; font-weight: 600; }
figure { margin: 0; min-width: 0; overflow-x: auto; }
figcaption { font-size: .9rem; color: var(--soft); margin-bottom: .3rem; }
svg { display: block; max-width: 100%; min-width: 26rem; height: auto; overflow: visible; }
svg text { font-family: Arial, "Liberation Sans", Helvetica, sans-serif; }
@media (max-width: 34rem) {
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .6rem; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  .table { overflow: visible; }
  figure, .card, tr { break-inside: avoid; }
}
"""


def html_text(report: Report) -> str:
    """The whole file.

    Raises:
        MissingPackage: vl-convert-python is not installed.
    """
    title = _said(report.title)
    contents = "".join(
        f'<li><a href="#{escape(section.anchor)}">{_said(section.title)}</a></li>'
        for section in report.sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="referrer" content="no-referrer">\n<title>{title}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n"
        f'<p class="lead">{_said(report.lead)}</p>\n'
        f'<nav aria-label="Contents"><ol>{contents}</ol></nav>\n</header>\n<main>\n'
        + "\n".join(_section(section) for section in report.sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def fragment(blocks: Sequence[Block]) -> str:
    """Some blocks without a page around them, for a viewer with a style of its own; no pictures."""
    return "\n".join(map(_block, blocks))


def _said(text: str) -> str:
    """A text on one line, with nothing hidden and nothing live."""
    return escape(line(text))


def _section(section: Section) -> str:
    parts = []
    for kind, together in groupby(section.blocks, key=type):
        blocks = list(together)
        if kind is Picture:
            parts.append(_pictures(blocks, section=section))
        elif kind is Card:
            parts.append(f'<div class="cards">{"".join(map(_block, blocks))}</div>')
        else:
            parts += map(_block, blocks)
    anchor = escape(section.anchor)
    return (
        f'<section id="{anchor}" aria-labelledby="{anchor}-title">\n'
        f'<h2 id="{anchor}-title">{_said(section.title)}</h2>\n'
        f'<p class="question">{_said(section.question)}</p>\n' + "\n".join(parts) + "\n</section>"
    )


def _pictures(blocks: Iterable[Block], *, section: Section) -> str:
    figures = []
    for block in blocks:
        if not isinstance(block, Picture):
            continue
        svg = chart_svg(
            block.chart,
            title=block.title,
            width=WIDE if block.wide else NARROW,
            name=f"{section.anchor}-{section.blocks.index(block)}",
        )
        figures.append(f"<figure><figcaption>{_said(block.title)}</figcaption>{svg}</figure>")
    return f'<div class="pictures">{"".join(figures)}</div>'


def _block(block: Block) -> str:
    """Anything but a picture."""
    return SHOWN[type(block)](block)


def _paragraph(block: Paragraph) -> str:
    opening = '<p class="note">' if block.note else "<p>"
    return f"{opening}{_said(block.text)}</p>"


def _subheading(block: Subheading) -> str:
    return f"<h3>{_said(block.text)}</h3>"


def _facts(block: Facts) -> str:
    rows = (f"<dt>{_said(name)}</dt><dd>{_said(text)}</dd>" for name, text in block.rows)
    return f"<dl>{''.join(rows)}</dl>"


def _bullets(block: Bullets) -> str:
    return f"<ul>{''.join(f'<li>{_said(item)}</li>' for item in block.items)}</ul>"


def _card(block: Card) -> str:
    return (
        f'<div class="card"><p class="note">Verdict on {_said(block.name)}</p>'
        f'<p class="verdict">{_said(block.verdict)}</p><p>{_said(block.rule)}.</p></div>'
    )


def _excerpt(block: Excerpt) -> str:
    before, after = (escape(plain(text)) for text in (block.before, block.after))
    return f"<pre>{before}<mark>{_said(block.token)}</mark>{after}</pre>"


def _command(block: Command) -> str:
    return f"<pre><code>{_said(block.text)}</code></pre>"


LONG = 28
"""Characters from which on a cell may be broken into lines."""


def _table(table: Grid) -> str:
    heads = "".join(
        f'<th{_class(head.form)} scope="col"{_title(head.explanation)}>{_said(head.label)}</th>'
        for head in table.heads
    )
    rows = []
    for spans, row in zip(_spans(table), table.rows, strict=True):
        cells = "".join(
            _cell(text, head.form, span=span)
            for text, head, span in zip(row, table.heads, spans, strict=True)
            if span
        )
        rows.append(f"{'<tr>' if spans[0] else SAME}{cells}</tr>")
    return (
        f'<div class="table" tabindex="0"><table><caption>{_said(table.title)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


SAME = '<tr class="same">'
"""A row that belongs to the group above it."""


def _spans(table: Grid) -> list[list[int]]:
    """How many rows each cell stands for: the first texts of a row, where they are repeated.

    0 where the cell above stands for this one.
    """
    spans = [[1] * len(table.heads) for _ in table.rows]
    for column, head in enumerate(table.heads):
        if head.form not in (Form.TEXT, Form.KIND):
            break
        first = 0
        for place in range(1, len(table.rows)):
            if table.rows[place][: column + 1] == table.rows[first][: column + 1]:
                spans[first][column] += 1
                spans[place][column] = 0
            else:
                first = place
    return spans


def _cell(text: str, form: Form, *, span: int = 1) -> str:
    said, down = _said(text), f' rowspan="{span}"' if span > 1 else ""
    if form is Form.TOKEN:
        return f"<td><code>{said}</code></td>"
    if form is Form.KIND and (style := kind_style(text)):
        return f'<td{down} style="{style}">{said}</td>'
    return f"<td{_class(form, long=len(text) > LONG)}{down}>{said}</td>"


def _class(form: Form, *, long: bool = False) -> str:
    if form is Form.NUMBER:
        return ' class="number"'
    return ' class="long"' if long else ""


def _title(explanation: str) -> str:
    return f' title="{_said(explanation)}"' if explanation else ""


SHOWN: dict[type, Callable[[Any], str]] = {
    Paragraph: _paragraph,
    Subheading: _subheading,
    Facts: _facts,
    Bullets: _bullets,
    Card: _card,
    Excerpt: _excerpt,
    Command: _command,
    Grid: _table,
}
"""How each kind of block but a picture is written."""
