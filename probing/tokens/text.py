"""Bytes of tokens as text: for showing, and to find which characters a token covers."""

from codecs import utf_8_decode
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

REPLACEMENT = "�"
"""Shown for bytes that are not valid UTF-8, such as a part of a character."""


def token_text(raw: bytes) -> str:
    """A token's bytes as text; bytes that are no whole character show as U+FFFD."""
    return raw.decode("utf-8", errors="replace")


@dataclass(frozen=True)
class DecodedBytes:
    """Bytes as text, and the way back.

    Attributes:
        text: as `token_text` gives it.
        character_of_byte: index into `text` of the character that byte b is part of, shape (byte,).
    """

    text: str
    character_of_byte: Int[np.ndarray, " byte"]


def decode(raw: bytes) -> DecodedBytes:
    """Decode UTF-8 with replacement, keeping for every byte the character it went into."""
    parts: list[str] = []
    first_of: list[Bool[np.ndarray, " _"]] = []
    rest = memoryview(raw)
    while len(rest) > 0:
        valid, fault = _valid_length(rest)
        if valid:
            parts.append(utf_8_decode(rest[:valid])[0])
            first_of.append(_is_first_byte(rest[:valid]))
        if fault:
            # One replacement for each fault that the codec names, as `errors="replace"` does.
            parts.append(REPLACEMENT)
            first_of.append(np.arange(fault) == 0)
        rest = rest[valid + fault :]
    firsts = np.concatenate([np.zeros(0, dtype=np.bool_), *first_of])
    return DecodedBytes(text="".join(parts), character_of_byte=np.cumsum(firsts) - 1)


def _valid_length(raw: memoryview) -> tuple[int, int]:
    """Bytes before the first fault, and bytes of that fault (0 without one)."""
    try:
        utf_8_decode(raw, "strict", True)
    except UnicodeDecodeError as error:
        return error.start, error.end - error.start
    return len(raw), 0


def _is_first_byte(raw: memoryview) -> Bool[np.ndarray, " byte"]:
    # Bytes 10xxxxxx go on with a character; all others begin one.
    first: Bool[np.ndarray, " byte"] = (np.frombuffer(raw, dtype=np.uint8) & 0xC0) != 0x80
    return first
