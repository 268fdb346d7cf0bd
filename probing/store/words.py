"""The lexicon of a run: which tokens stand for its entries, and where its phrases were written."""

import weakref

import numpy as np
from jaxtyping import Int

from probing.analysis.events import LexiconTokens
from probing.lexicon import SELF_CORRECTION, THINK_CLOSE, Group, Lexicon, candidate_word
from probing.store.reader import Run
from probing.tokens.text import token_text
from probing.vocabulary import PositionIds, PositionMask

_MASKS: weakref.WeakKeyDictionary[Run, LexiconTokens] = weakref.WeakKeyDictionary()


def run_lexicon(run: Run) -> Lexicon:
    """The lexicon that the run was scored with, from its manifest."""
    return Lexicon(
        tuple(
            Group(
                name=group["name"],
                phrases=tuple(group["phrases"]),
                regexes=tuple(group["regexes"]),
            )
            for group in run.manifest.inputs["lexicon"]["groups"]
        )
    )


def lexicon_tokens(run: Run) -> LexiconTokens:
    """Ids that equal a one-word entry, one leading space aside; looked up once per run.

    The end of thinking also matches by the first of its tokens, which the run watches: a watched id
    whose text begins an entry.
    """
    found = _MASKS.get(run)
    if found is None:
        lexicon = run_lexicon(run)
        words = [candidate_word(token_text(raw)) for raw in run.token_bytes(_every_id(run))]
        corrections = frozenset(_entries(lexicon, SELF_CORRECTION))
        endings = _entries(lexicon, THINK_CLOSE)
        closes = np.array([word in endings for word in words], dtype=bool)
        for index in run.manifest.watched_ids:
            closes[index] |= words[index] != "" and any(
                entry.startswith(words[index]) for entry in endings
            )
        found = LexiconTokens(
            self_correction=np.array([word in corrections for word in words], dtype=bool),
            think_close=closes,
        )
        _MASKS[run] = found
    return found


def _every_id(run: Run) -> PositionIds:
    return np.arange(run.manifest.vocabulary_size)


def _entries(lexicon: Lexicon, group: str) -> tuple[str, ...]:
    return lexicon.one_word_entries(group) if group in lexicon.groups else ()


def realised_corrections(run: Run) -> PositionMask:
    """Whether a self-correction phrase of the response begins in each position's token."""
    lexicon, positions = run_lexicon(run), run.positions()
    found = np.zeros(len(run), dtype=bool)
    if SELF_CORRECTION not in lexicon.groups:
        return found
    by_carrier = np.argsort(positions.carrier, kind="stable")
    carriers, begins = np.unique(positions.carrier[by_carrier], return_index=True)
    for carrier, rows in zip(carriers, np.split(by_carrier, begins[1:]), strict=True):
        text = run.response_text(int(carrier))
        matches = lexicon.matches(text, group=SELF_CORRECTION)
        found[rows] = begins_within(
            np.array([match.start for match in matches], dtype=np.int64),
            begin=positions.char_start[rows],
            end=positions.char_end[rows],
        )
    return found


def begins_within(
    starts: Int[np.ndarray, " match"], *, begin: PositionIds, end: PositionIds
) -> PositionMask:
    """Whether any match begins in each token's characters.

    Args:
        starts: first characters of the matches, ascending.
        begin: of each token, inclusive.
        end: of each token, exclusive.
    """
    found = np.zeros(len(begin), dtype=bool)
    # The first match at or after the token's first character begins in it, or none does.
    place = np.searchsorted(starts, begin, side="left")
    inside = place < len(starts)
    found[inside] = starts[place[inside]] < end[inside]
    return found


def shared_prefix(run: Run, leading: Int[np.ndarray, "position 2"]) -> PositionMask:
    """Whether one of the two leading tokens begins the other: an answer that the tokenizer split.

    Args:
        run: the run.
        leading: two ids per position, shape (position, 2); negative = not known, no prefix.
    """
    alike = np.zeros(len(leading), dtype=bool)
    known = np.flatnonzero((leading >= 0).all(axis=1))
    # A pair as one number, which sorts many times faster than two.
    size = run.manifest.vocabulary_size
    pairs, place = np.unique(leading[known] @ np.array([size, 1]), return_inverse=True)
    answers = []
    for pair in pairs.tolist():
        short, long = sorted(run.token_bytes(divmod(pair, size)), key=len)
        answers.append(short != b"" and long.startswith(short))
    alike[known] = np.array(answers, dtype=bool)[place]
    return alike
