"""One whole response: its text in pieces, what is scored in it, and its problem's others."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from probing.lexicon import THINK_CLOSE
from probing.reporting import display
from probing.reporting.coloring import Coloring
from probing.reporting.text import line, plain, shortened, shown_token, token_text, visible
from probing.store.reader import Run
from probing.store.words import run_lexicon
from probing.tokens.spans import spans_by_bytes
from probing.vocabulary import Phase


@dataclass(frozen=True)
class Piece:
    """A scored token, or the text between two.

    Attributes:
        text: its characters of the response. Of tokens that share one the first has it, so the
            pieces end to end are the response.
        shown: the same for a page, with nothing hidden; never empty.
        row: of the scored position, an index into the run; None of text between.
        position: its place in the response, from 0; None of text between.
    """

    text: str
    shown: str
    row: int | None = None
    position: int | None = None


@dataclass(frozen=True)
class Thought:
    """The thinking span, from the beginning of the response.

    Attributes:
        pieces: how many pieces it is.
        scored: how many of them are scored positions.
        characters: how long its text is.
        tokens: of the tokenizer; None where the tokens' bytes do not spell the response.
    """

    pieces: int
    scored: int
    characters: int
    tokens: int | None


@dataclass(frozen=True)
class CarrierText:
    """A response in pieces.

    Attributes:
        pieces: end to end.
        thought: None where no end of thinking was written.
    """

    pieces: tuple[Piece, ...]
    thought: Thought | None

    @property
    def scored(self) -> tuple[Piece, ...]:
        """Pieces that are scored positions, in the order of the text."""
        return tuple(piece for piece in self.pieces if piece.row is not None)


def carrier_text(run: Run, carrier: int) -> CarrierText:
    """A response cut at its scored tokens.

    Args:
        run: the run.
        carrier: index of it.

    Raises:
        IndexError: no such carrier.
    """
    count = len(run.carriers())
    if not 0 <= carrier < count:
        raise IndexError(f"carrier must be in 0 … {count - 1}, got {carrier}")
    text, rows = run.response_text(carrier), scored_rows(run, carrier)
    end = _thought_end(run, carrier, rows)
    positions = run.positions()
    pieces: list[Piece] = []
    inside, at = 0, 0
    for row in rows.tolist():
        start = max(int(positions.char_start[row]), at)
        pieces += _between(text, at, start, end=end)
        at = max(int(positions.char_end[row]), start)
        pieces.append(_scored(run, row, text[start:at]))
        if positions.phase[row] == _BEFORE:
            inside = len(pieces)
    pieces += _between(text, at, len(text), end=end)
    thought = None if end is None else _thought(run, carrier, pieces, inside=inside, end=end)
    return CarrierText(tuple(pieces), thought)


_BEFORE = list(Phase).index(Phase.BEFORE_THINK_CLOSE)


def scored_rows(run: Run, carrier: int) -> Int[np.ndarray, " row"]:
    """Rows of one response's positions, in the order of the text."""
    positions = run.positions()
    rows = np.flatnonzero(positions.carrier == carrier)
    return rows[np.argsort(positions.position[rows], kind="stable")]


def _between(text: str, start: int, stop: int, *, end: int | None) -> list[Piece]:
    """The text between two tokens, cut where thinking ends."""
    cuts = [start, end, stop] if end is not None and start < end < stop else [start, stop]
    return [
        Piece(text[first:last], plain(text[first:last]))
        for first, last in pairwise(cuts)
        if first < last
    ]


def _scored(run: Run, row: int, text: str) -> Piece:
    """A scored token; its bytes are shown where it has no characters of its own."""
    positions = run.positions()
    if text:
        shown = shortened(scored_text(text), characters=len(text))
    else:
        raw = run.token_bytes(positions.token_id[row : row + 1])[0]
        shown = shown_token(token_text(raw)) or "∅"
    return Piece(text, shown, row, int(positions.position[row]))


def scored_text(text: str) -> str:
    r"""A token in running text: seen where it is white space alone; its line breaks still break.

    Examples:
        >>> scored_text(" So"), scored_text(" "), scored_text("\n\n")
        (' So', '␣', '↵\n↵\n')
    """
    if text.strip():
        return plain(text).replace("\n", "↵\n")
    return visible(text).replace("↵", "↵\n")


def _thought_end(run: Run, carrier: int, rows: Int[np.ndarray, " row"]) -> int | None:
    """The character after the thinking span, as phases have it; None where it was not closed.

    A token that goes on past the written end is part of the thought: it was predicted in it.
    """
    lexicon = run_lexicon(run)
    if THINK_CLOSE not in lexicon.groups:
        return None
    closes = lexicon.matches(run.response_text(carrier), group=THINK_CLOSE)
    if not closes:
        return None
    positions = run.positions()
    before = rows[positions.phase[rows] == _BEFORE]
    return max(closes[0].end, int(positions.char_end[before].max(initial=0)))


def _thought(run: Run, carrier: int, pieces: list[Piece], *, inside: int, end: int) -> Thought:
    """The first pieces, up to the end of thinking, and the tokens in them."""
    count, characters = inside, sum(len(piece.text) for piece in pieces[:inside])
    while count < len(pieces) and pieces[count].row is None and characters < end:
        characters += len(pieces[count].text)
        count += 1
    starts = token_starts(run, carrier)
    return Thought(
        pieces=count,
        scored=sum(piece.row is not None for piece in pieces[:count]),
        characters=characters,
        tokens=None if starts is None else int((starts < end).sum()),
    )


def token_starts(run: Run, carrier: int) -> Int[np.ndarray, " token"] | None:
    """The first character of every token of a response; None where its bytes do not spell it."""
    ids = run.carrier_token_ids(carrier)[run.response_start(carrier) :]
    may_drop = np.arange(len(ids)) == 0
    raw = run.token_bytes(ids)
    spans = spans_by_bytes(raw, run.response_text(carrier), may_drop_space=may_drop)
    return None if spans is None else spans[:, 0]


def thought_label(thought: Thought) -> str:
    """What a folded thought says of itself."""
    tokens = f"{thought.characters:,} characters"
    if thought.tokens is not None:
        tokens = f"{thought.tokens:,} token{'s' * (thought.tokens != 1)}"
    return f"Thought: {tokens}, {thought.scored:,} scored position{'s' * (thought.scored != 1)}"


def drawn(text: CarrierText, coloring: Coloring, *, name: str, at: int | None) -> dict[str, Any]:
    """A coloured response as a page's drawing takes it: texts and numbers, no markup.

    Args:
        text: of `carrier_text`.
        coloring: of its scored positions, in the order of the text.
        name: of the response, for those who hear it.
        at: the position that is chosen at first.

    Raises:
        ValueError: there are more or fewer colours than scored positions.
    """
    scored = text.scored
    if len(scored) != len(coloring.codes):
        raise ValueError(
            f"every scored position must have a colour, got {len(coloring.codes)} for {len(scored)}"
        )
    thought = text.thought
    return {
        "name": line(name),
        "unit": coloring.label,
        "shades": [
            {"label": s.label, "hue": s.hue, "strength": s.strength, "line": s.line}
            for s in coloring.shades
        ],
        "texts": [piece.shown for piece in text.pieces],
        "positions": [-1 if piece.position is None else piece.position for piece in text.pieces],
        "codes": coloring.codes.tolist(),
        "values": list(coloring.values),
        "thought": None if thought is None else thought.pieces,
        "thought_label": "" if thought is None else thought_label(thought),
        "at": -1 if at is None else at,
    }


SIBLING_COLUMNS = ("carrier_id", "generator", "correct", "response_tokens")


def sibling_table(comparison: pd.DataFrame, carrier_id: str) -> pd.DataFrame:
    """The other responses to the same problem that have scored positions.

    Columns `carrier_id`, `generator`, `correct`, `response_tokens`, `scored`, sorted by id.

    Args:
        comparison: of the whole run.
        carrier_id: of the response that is looked at.
    """
    problems = comparison.loc[comparison["carrier_id"] == carrier_id, "problem_id"]
    alike = comparison[
        comparison["problem_id"].isin(problems) & (comparison["carrier_id"] != carrier_id)
    ]
    counts = alike.groupby("carrier_id", sort=False).size()
    found = alike.drop_duplicates("carrier_id")[list(SIBLING_COLUMNS)]
    found = found.assign(scored=found["carrier_id"].map(counts).astype("int64"))
    return found.sort_values("carrier_id").reset_index(drop=True)


SIBLING_LABELS: dict[str, display.Column] = {
    "carrier_id": display.LIST_LABELS["carrier_id"],
    "generator": display.LIST_LABELS["generator"],
    "correct": display.Column("Answer", "Whether the response was graded right."),
    "response_tokens": display.Column("Tokens", "Length of the response."),
    "scored": display.Column("Scored", "Positions of it that the run holds."),
}


def shown_siblings(table: pd.DataFrame) -> pd.DataFrame:
    """The other responses for a page."""
    texts = {name: table[name].map(line) for name in ("carrier_id", "generator")}
    return display.labelled(table.assign(**texts), SIBLING_LABELS)


def carrier_positions(comparison: pd.DataFrame, carrier_id: str) -> pd.DataFrame:
    """The scored positions of one response, in the order of the text, with all their columns."""
    own = comparison[comparison["carrier_id"] == carrier_id]
    return own.sort_values("position", kind="stable")


def opening_position(positions: pd.DataFrame) -> int:
    """The position that is looked at first: the first one after the thought, if there is any.

    Args:
        positions: of `carrier_positions`, at least one.
    """
    after = positions[positions["phase"] != Phase.BEFORE_THINK_CLOSE.value]
    first = positions if after.empty else after
    return int(first["position"].iloc[0])


def carrier_line(positions: pd.DataFrame) -> str:
    """Who wrote a response, how it went, and how much of it is scored: one line.

    Args:
        positions: of `carrier_positions`, at least one.
    """
    first = positions.iloc[0]
    scored = len(positions)
    return " · ".join(
        [
            line(f"problem {first['problem_id']}"),
            line(f"written by {first['generator']}"),
            f"answer {first['correct']}",
            f"{first['response_tokens']:,} tokens, {scored:,} scored",
        ]
    )
