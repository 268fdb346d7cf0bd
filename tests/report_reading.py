"""A report read back: what its tables say, and whether anything in it is live."""

import html.parser
import re
from dataclasses import dataclass, field

from markdown_it import MarkdownIt

from probing.reporting.provenance import Compared
from probing.settings import Decoding, KindRule, Training
from probing.store.reader import Run

VOID = {"meta", "br", "hr", "img", "link", "input"}
DECODING, RULE, TRAINING = Decoding(), KindRule(), Training(temperature=1.4)
NAMES = (
    "base</title><script>alert(1)</script>",
    "ssd|`x`|</text><image href=http://example.org/a.png onload=alert(2)>"
    '\x1b[31m\u202e![i](//e.org)" \\',
    "control](http://example.org) @someone www.example.org $x$ **b** <img src=x onerror=alert(3)>",
)
TEXTS = (
    "<script>alert(1)</script>",
    "<img src=http://example.org/x.png>",
    "![x](http://example.org/y.png)",
    "```",
    "`|`",
    "\\|",
    "\x1b[31m",
    "\u202eright-to-left",
    "\x07",
    "$x^2$",
    "http://example.org/auto",
    "</pre></mark>",
    "@someone",
)  # as many as pages_run has


@dataclass
class Read(html.parser.HTMLParser):
    """A page as a reader has it: tables by caption, elements with attributes, all text."""

    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    rows: list[list[list[str]]] = field(default_factory=list)
    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.elements.append((tag, found))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.caption, self.body, self.left = "", [], {}
        if tag == "tr":
            self.body.append([])
            self._carried()
        if tag in ("td", "th"):
            down = int(found.get("rowspan", 1))
            self.cell = ""
            self.place = len(self.body[-1])
            self.down = down
        if tag == "mark":
            self.marks.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def _carried(self) -> None:
        while (place := len(self.body[-1])) in self.left:
            text, more = self.left.pop(place)
            self.body[-1].append(text)
            if more > 1:
                self.left[place] = (text, more - 1)

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if "td" in self.open or "th" in self.open:
            self.cell += data
        if "caption" in self.open:
            self.caption += data
        if "mark" in self.open:
            self.marks[-1] += data

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "elements must nest"
        if tag in ("td", "th"):
            self.body[-1].append(self.cell)
            if self.down > 1:
                self.left[self.place] = (self.cell, self.down - 1)
            self._carried()
        if tag == "table":
            self.tables[self.caption] = self.body
            self.rows.append(self.body)


def read(text: str) -> Read:
    page = Read()
    page.feed(text)
    page.close()
    assert page.open == []
    return page


MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")


LIVE = re.compile(r"://|www\.|@|\$|<|\||\[|`").search
"""Outside code: what viewers add to CommonMark, such as bare links, mentions and formulas."""


def asked_of(run: Run, *, examples: int = 2) -> Compared:
    _, other, control = run.model_names
    return Compared(
        other=other,
        control=control,
        training=TRAINING,
        decoding=DECODING,
        rule=RULE,
        examples=examples,
    )
