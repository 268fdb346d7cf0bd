"""Which response positions are compared, and why each was chosen."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Int, UInt

from probing.lexicon import THINK_CLOSE, Lexicon, TextSpan
from probing.positions.selected import SelectedPositions
from probing.settings import Selection
from probing.tokens.encoded import EncodedCarrier
from probing.vocabulary import Phase, Selector

OFF = -1
"""A marker window that chooses nothing."""


def selector_names(lexicon: Lexicon) -> tuple[str, ...]:
    """Names of the bits of the selector mask, lowest first."""
    return (*Selector, *lexicon.groups)


def select_positions(
    encoded: EncodedCarrier,
    *,
    selection: Selection,
    lexicon: Lexicon,
    rng: np.random.Generator,
) -> SelectedPositions:
    """Choose positions among the response tokens of one carrier.

        token_ids    p0 p1 p2 | y0 y1 y2 y3         response_start = 3, L = 4
        position i              0  1  2  3          only these can be chosen
        logits row    0  1  2 | 3  4  5  6          row r predicts token r + 1
        so position i is predicted by row response_start + i - 1:  y0 by row 2, y3 by row 5

    - *interval*: every n-th token from a random phase, so each token with probability 1/n;
    - *random*: m tokens without replacement (all, where the response has fewer);
    - *all*: every token;
    - a group of the lexicon: tokens at most w places from a token that a match begins in. So with
      w = 0 exactly the positions that predict a match's first token: the one that holds the first
      character of the match, whatever else it holds (a space before, a letter after), and where
      several tokens share that character, the first of them. A match whose first character went
      into the prompt at the seam has no such position.

    Args:
        encoded: the carrier.
        selection: which selectors are on; 0 (for the window -1) is off.
        lexicon: the groups.
        rng: of this carrier, see `carrier_rng`. Interval and random draw from streams of their own,
            so that changing one does not move the other.

    Returns:
        The positions that any selector chose, ascending; none where no selector chose one.
    """
    interval_rng, random_rng = rng.spawn(2)
    length = len(encoded.char_spans)
    chosen = {
        Selector.INTERVAL: _interval(length, selection.interval_every, rng=interval_rng),
        Selector.RANDOM: _random(length, selection.random_count, rng=random_rng),
        Selector.ALL: np.full(length, selection.all_positions),
    } | {
        group: _near(
            first_tokens(lexicon.matches(encoded.response_text, group=group), encoded.char_spans),
            length=length,
            window=selection.marker_window,
        )
        for group in (lexicon.groups if selection.marker_window != OFF else ())
    }
    bits = np.zeros(length, dtype=np.uint32)
    for bit, name in enumerate(selector_names(lexicon)):
        if name in chosen:
            bits |= chosen[name].astype(np.uint32) << np.uint32(bit)
    position = np.flatnonzero(bits)
    return SelectedPositions(
        position=position,
        selectors=bits[position],
        inclusion=np.full(len(position), inclusion_probability(length, selection=selection)),
        phase=phases(encoded, lexicon=lexicon)[position],
    )


def inclusion_probability(length: int, *, selection: Selection) -> float:
    """Probability that interval, random or all chooses a given token of `length` (>= 1).

    `1 - (1 - 1/n)(1 - m/L)`, m at most L; 1 under `all_positions`; 0 where none of them is on.
    """
    if selection.all_positions:
        return 1.0
    n, m = selection.interval_every, min(selection.random_count, length)
    missed_by_interval = 1.0 - 1.0 / n if n > 0 else 1.0
    return 1.0 - missed_by_interval * (1.0 - m / length)


def first_tokens(
    matches: Iterable[TextSpan], char_spans: Int[np.ndarray, "response 2"]
) -> Int[np.ndarray, " token"]:
    """The token that holds each match's first character; matches that no token begins, left out."""
    starts = np.array([match.start for match in matches], dtype=np.int64)
    # Ends are ascending, so this is the first token that reaches past the character.
    token = np.searchsorted(char_spans[:, 1], starts, side="right")
    inside = token < len(char_spans)
    token, starts = token[inside], starts[inside]
    first: Int[np.ndarray, " token"] = token[char_spans[token, 0] <= starts]
    return first


def phases(encoded: EncodedCarrier, *, lexicon: Lexicon) -> UInt[np.ndarray, " response"]:
    """Index into `list(Phase)` for every response token.

    Thinking ends at the end of the first match of the lexicon's group `think_close`. The tokens of
    that match, and one that goes on past it, are before: they are predicted while thinking.
    """
    closes = (
        lexicon.matches(encoded.response_text, group=THINK_CLOSE)
        if THINK_CLOSE in lexicon.groups
        else ()
    )
    order = list(Phase)
    if not closes:
        absent = order.index(Phase.NO_THINK_CLOSE)
        return np.full(len(encoded.char_spans), absent, dtype=np.uint8)
    after = encoded.char_spans[:, 0] >= closes[0].end
    return np.where(
        after, order.index(Phase.AFTER_THINK_CLOSE), order.index(Phase.BEFORE_THINK_CLOSE)
    ).astype(np.uint8)


def _interval(
    length: int, every: int, *, rng: np.random.Generator
) -> Bool[np.ndarray, " response"]:
    if every == 0:
        return np.zeros(length, dtype=np.bool_)
    phase = rng.integers(every)
    return np.equal(np.arange(length) % every, phase)


def _random(length: int, count: int, *, rng: np.random.Generator) -> Bool[np.ndarray, " response"]:
    drawn = np.zeros(length, dtype=np.bool_)
    drawn[rng.choice(length, size=min(count, length), replace=False)] = True
    return drawn


def _near(
    tokens: Int[np.ndarray, " token"], *, length: int, window: int
) -> Bool[np.ndarray, " response"]:
    """Tokens at most `window` places from one of `tokens`."""
    near = np.zeros(length, dtype=np.bool_)
    for token in tokens:
        near[max(token - window, 0) : token + window + 1] = True
    return near
