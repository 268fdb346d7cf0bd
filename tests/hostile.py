r"""A small run in which whatever a model or a corpus can say is hostile: texts, tokens, names, ids.

Every marker that could run, load or lead somewhere names `window.hacked` or the host `HOST`, so
that one look tells whether any did.
"""

import dataclasses
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pages_run
import pytest
from pages_run import PagesRun, hidden, write_pages_run

from probing.carriers.record import Carrier, Skipped
from probing.carriers.sampling import Cell
from probing.cli import main

HOST = "evil.invalid"
RUNS = "window.hacked=1"
IMAGE = f"<img src=x onerror={RUNS}>"
ESCAPES = "\x1b[31mred\x1b]0;title\x07\x1b]8;;http://evil.invalid/\x1b\\osc\x1b]8;;\x1b\\\x9b2J"
BIDI = "\u202egnp.exe\u2066isolate\u2069\u200b\u200f"

MARKUP = (
    f"<script>{RUNS}</script>",
    IMAGE,
    f"<svg onload={RUNS}></svg>",
    f"<iframe src=http://{HOST}/frame></iframe>",
    f"<style>@import url(http://{HOST}/style.css);</style>",
    f'</code></pre></div><a href="javascript:{RUNS}">a</a>',
    f"[link](http://{HOST}/link)",
    f"![image](http://{HOST}/image.png)",
    f"http://{HOST}/bare",
    f"$\\href{{javascript:{RUNS}}}{{x}}$",
    f"$\\includegraphics{{http://{HOST}/formula.png}}$",
    f"$\\htmlStyle{{background:url(http://{HOST}/formula)}}{{x}}$",
    ":material/bolt: :red[red] :orange-badge[badge] :shortcode:",
    "**bold** ~~gone~~ `code`",
    f"datum['x'] {{{{{RUNS}}}}} ${{{RUNS}}}",
    "a.b[0]['c']\\.d",
    "⟦mark⟧",
    "{{handlebars}} {% tag %}",
)
"""Text that something might take for more than text."""

HIDDEN = (ESCAPES, BIDI, "\x00nul", "\x85\u2028\u2029", "a\rb\x0bc\x0cd\x08e\x7f", "\U000e0041tag")
"""Text with parts that nobody sees, or that change what stands around them."""

FORMULAS = (
    f'=HYPERLINK("http://{HOST}","x")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "＝1+1",
)
"""Cells that a spreadsheet would run."""

FORGED = "error: forged"
"""What would pass for a line of ours after a line break."""

TEXTS = (*MARKUP, *HIDDEN, *FORMULAS)

BIG = "a" * 1_000_000
"""One token."""

HALVES = {"✓": (b"\xe2\x9c", b"\x93"), "\ufffd": (b"\xed\xa0\x80",), "\ufffe": (b"\xff\xfe\x1b[",)}
"""Characters whose tokens are no UTF-8 by themselves: halves, half a surrogate pair, odd bytes."""

MODELS = (
    f"base {IMAGE} $x^2$ \u202eesab",
    f"ssd [x](http://{HOST}/model) <script>{RUNS}</script> \x1b[31m",
    "=control **b** :red[x] datum['x'] a.b[0]",
)

SKIPPED = (
    Skipped("\x1b[31mfile\u202e.jsonl", 7, "bad JSON", f"{IMAGE} {ESCAPES}"),
    Skipped(f"=1+1 {IMAGE}.jsonl", 8, "wrong type", "[link](javascript:1)\n\u202eleft"),
)


def hostile_carriers() -> list[Carrier]:
    """A carrier for every hostile text, which is its prompt, response, ids and labels at once.

    Two carriers a problem, so that each has another response beside it; the last has `BIG`.
    """
    carriers = [
        Carrier(
            carrier_id=f"{text} {number}" if number % 2 else f"{number}:{text}",
            problem_id=TEXTS[number // 2 * 2],
            prompt=f"{text} is asked: {text}",
            response=f"Wait, so {text} it is. ✓ \ufffd \ufffe Then {text}, \\boxed{{7}}.",
            generator=MODELS[number % 2] if number % 9 else text,
            correct=bool(number % 2),
            subject=text,
            source=TEXTS[-1 - number],
            difficulty=TEXTS[number // 4],
            gold=text,
            answer=text,
            temperature=0.7,
            extra={text: text},
        )
        for number, text in enumerate(TEXTS)
    ]
    big = f"Wait, so {BIG} it is. Then {BIG} again, and {BIG}: \\boxed{{7}}."
    return [
        *carriers,
        dataclasses.replace(carriers[0], carrier_id="big", response=big, prompt="How long?"),
    ]


def write_hostile_run(path: Path) -> PagesRun:
    """Write the run; of its stored positions most are at hostile tokens."""
    known = {
        "skipped": SKIPPED,
        "versions": {IMAGE: ESCAPES},
        "counts": {
            "carriers_sampled": 30,
            "carriers_available": 32,
            "records_skipped": 2,
        },
        "models": {
            name: {"dtype": BIDI, "attention": IMAGE, "weights_sha256": f"=1+1{BIDI}"}
            for name in MODELS
        },
        "sample": tuple(
            Cell(labels=(text, text, text), wanted=2, available=2, taken=2) for text in TEXTS
        ),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages_run, "HOSTILE", TEXTS)
        patch.setattr(pages_run, "HALVES", HALVES)
        patch.setattr(pages_run, "BROKEN", tuple(half for of in HALVES.values() for half in of))
        return write_pages_run(
            path, problems=8, models=MODELS, known=known, more=hostile_carriers()
        )


Called = Callable[..., str]


def calling(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Called:
    """The command line in this process; what it printed to both streams, nothing hidden."""

    def call(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["probing", *arguments])
        # What is logged goes where it goes outside of tests.
        monkeypatch.setattr(logging.getLogger(), "handlers", [])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        text = captured.out + captured.err
        assert int(ended.value.code or 0) == code, text
        assert hidden(text) <= {"\n"}, hidden(text)
        assert not [one for one in text.splitlines() if one.startswith(FORGED)]
        assert ("Traceback" in text) == ("--debug" in arguments and code > 0)
        return text

    return call
