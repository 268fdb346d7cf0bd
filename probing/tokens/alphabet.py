"""Bytes of a token string: byte-level BPE, and the ▁ convention with byte fallback."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from probing.errors import ModelFault
from probing.tokens.content import TokenizerContent, parts_of

TokenBytes: TypeAlias = Callable[[str], bytes]

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class ByteTable:
    """Raw bytes of every id that names a token.

    Attributes:
        pieces: bytes by id; added and special tokens are their text in UTF-8.
        dummy_space: the tokenizer may put a space before a text that has none.
    """

    pieces: dict[int, bytes]
    dummy_space: bool


def byte_table(content: TokenizerContent) -> ByteTable:
    """Work out the bytes of all tokens from how the tokenizer writes them.

    Raises:
        ModelFault: The tokenizer is neither byte-level nor of the ▁ convention, so the bytes of its
            tokens are not known.
    """
    token_bytes = _token_bytes(content)
    # Added tokens are matched in the text as they stand, so they are text and not alphabet.
    pieces = {
        index: token.encode() if index in content.added else token_bytes(token)
        for index, token in content.tokens.items()
    }
    return ByteTable(pieces=pieces, dummy_space=_has_dummy_space(content))


def byte_level_alphabet() -> dict[str, int]:
    """The printable character that byte-level BPE writes for each byte.

    Bytes that print in Latin-1 (without space, no-break space and soft hyphen) stand for
    themselves; the others take the characters from U+0100 up, in order (the byte alphabet of GPT-2,
    Radford et al. 2019).
    """
    printing = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printing)]
    return {chr(byte): byte for byte in printing} | {
        chr(0x100 + place): byte for place, byte in enumerate(others)
    }


def _token_bytes(content: TokenizerContent) -> TokenBytes:
    decoder = list(parts_of(content.decoder))
    pre_tokenizer = list(parts_of(content.pipeline["pre_tokenizer"]))
    if "ByteLevel" in {part["type"] for part in decoder or pre_tokenizer}:
        return _byte_level()
    for part in (*decoder, *pre_tokenizer):
        if part["type"] == "Metaspace":
            return _space_marked(part.get("replacement", "▁"))
        if part["type"] == "Replace" and part.get("content") == " " and "String" in part["pattern"]:
            return _space_marked(part["pattern"]["String"])
    found = ", ".join(part["type"] for part in (*decoder, *pre_tokenizer)) or "neither"
    raise ModelFault(
        "the tokenizer must be byte-level or mark spaces in its tokens (▁), so that tokens have "
        f"known bytes; its decoder and pre-tokenizer are {found}; use a model with such a tokenizer"
    )


def _byte_level() -> TokenBytes:
    alphabet = byte_level_alphabet()

    def token_bytes(token: str) -> bytes:
        try:
            return bytes([alphabet[char] for char in token])
        except KeyError:
            # Never made by merges: a token put into the vocabulary by hand, as plain text.
            return token.encode()

    return token_bytes


def _space_marked(marker: str) -> TokenBytes:
    def token_bytes(token: str) -> bytes:
        byte = _BYTE_TOKEN.fullmatch(token)
        return bytes.fromhex(byte[1]) if byte else token.replace(marker, " ").encode()

    return token_bytes


def _has_dummy_space(content: TokenizerContent) -> bool:
    parts = (
        *parts_of(content.pipeline["normalizer"]),
        *parts_of(content.pipeline["pre_tokenizer"]),
    )
    return any(
        part["type"] == "Prepend"
        or part.get("prepend_scheme", "never") != "never"
        or part.get("add_prefix_space", False)
        for part in parts
    )
