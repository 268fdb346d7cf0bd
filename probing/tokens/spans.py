"""Which characters of a text each token covers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from probing.tokens.text import DecodedBytes, decode


@dataclass(frozen=True)
class Seam:
    """Where the response begins.

        text     p r o m p t | r e s p o n s e
        tokens   (p r o)(m p t   r e)(s p)(o n s e)      the second straddles the seam
                 prompt  prompt       y_0  y_1           so the boundary moves to its end

    Attributes:
        first: index of y_0.
        moved: a token straddled the seam and went to the prompt.
    """

    first: int
    moved: bool


def find_seam(spans: Int[np.ndarray, "token 2"], *, characters: int) -> Seam:
    """Split tokens at the seam, which stands after `characters` characters of prompt.

    `spans` must be ascending. A token that covers nothing at the seam belongs to the response.
    """
    first = int(np.searchsorted(spans[:, 0], characters, side="left"))
    return Seam(first=first, moved=first > 0 and int(spans[first - 1, 1]) > characters)


def spans_by_bytes(
    pieces: Sequence[bytes],
    text: str,
    *,
    may_drop_space: Bool[np.ndarray, " token"],
) -> Int[np.ndarray, "token 2"] | None:
    """Spans from the tokens' bytes; None where the bytes do not spell `text`.

    Args:
        pieces: bytes of each token.
        text: what the tokens should spell; bytes that are not valid UTF-8 spell U+FFFD.
        may_drop_space: tokens whose leading space the tokenizer may have put there itself, so
            that it is not in the text; the first, if any is.

    Returns:
        Start (inclusive) and end (exclusive), shape (token, 2), ascending. A token that holds part
        of a character covers that character; one that adds nothing covers nothing (start = end).
    """
    decoded = decode(b"".join(pieces))
    kept = pieces
    if decoded.text != text and may_drop_space.any():
        kept = _without_dummy_spaces(pieces, text.encode(), may_drop_space=may_drop_space)
        decoded = decode(b"".join(kept))
    if decoded.text != text:
        return None
    return piece_spans(kept, decoded)


def piece_spans(pieces: Sequence[bytes], decoded: DecodedBytes) -> Int[np.ndarray, "token 2"]:
    """Spans of tokens in the text that their bytes, end to end, were decoded to."""
    lengths = np.fromiter((len(piece) for piece in pieces), dtype=np.int64, count=len(pieces))
    end_byte = np.cumsum(lengths)
    # One more entry, so that a token of no bytes at the end stands at the end of the text.
    character = np.append(decoded.character_of_byte, len(decoded.text))
    start = character[end_byte - lengths]
    end = np.where(lengths > 0, character[end_byte - 1] + 1, start)
    return np.stack([start, end], axis=1)


def spans_by_offsets(
    offsets: Sequence[tuple[int, int]], *, characters: int
) -> Int[np.ndarray, "token 2"]:
    """Spans as the tokenizer reports them, ascending and without gaps up to `characters`.

    For texts that the tokens do not spell: an unknown token, or a normaliser that changed them.
    Characters between two tokens went into the first: an accent that was composed with its letter
    is reported for neither.
    """
    spans = np.maximum.accumulate(np.array(offsets, dtype=np.int64).reshape(-1, 2), axis=0)
    following = np.append(spans[1:, 0], characters)[: len(spans)]
    return np.stack([spans[:, 0], np.maximum(spans[:, 1], following)], axis=1)


def _without_dummy_spaces(
    pieces: Sequence[bytes], text: bytes, *, may_drop_space: Bool[np.ndarray, " token"]
) -> list[bytes]:
    """The pieces, without the leading spaces of stretches that stand without one in the text.

    A stretch goes from one token that may drop its space to the next. It is compared as a whole: in
    ` Let` after a special token, told as `▁` `▁Let`, the first space is the tokenizer's own.
    """
    kept = list(pieces)
    starts = np.flatnonzero(may_drop_space).tolist()
    at = 0
    for start, stop in zip(starts, [*starts[1:], len(kept)], strict=True):
        stretch = b"".join(kept[start:stop])
        if stretch.startswith(b" ") and not text.startswith(stretch, at):
            kept[start] = kept[start].removeprefix(b" ")
            stretch = stretch[1:]
        at += len(stretch)
    return kept
