"""Token bytes as text: readable, never mistaken for markup or for something else."""

import unicodedata

from probing.vocabulary import TokenClass

MARKS = ("⟦", "⟧")
"""Around the token a context is about. In the text around it they are escaped."""

_SHOWN = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍"}
_HIDDEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
"""Unicode categories that a reader cannot see, or that reorder what stands around them."""


def token_text(content: bytes) -> str:
    r"""Bytes of a token as text. Bytes that are no UTF-8 by themselves become `\xNN`."""
    return content.decode("utf-8", errors="backslashreplace")


def token_class(text: str) -> TokenClass:
    r"""What a token is made of: digits alone, anything with a letter, only spaces, other signs.

    Examples:
        >>> [token_class(text).value for text in (" 12", "x2", "Let", "\n", " +", "")]
        ['number', 'word', 'word', 'space', 'signs', 'space']
    """
    core = text.strip()
    if not core:
        return TokenClass.SPACE
    if core.isdecimal():
        return TokenClass.NUMBER
    return TokenClass.WORD if any(char.isalpha() for char in core) else TokenClass.SIGNS


def visible(text: str) -> str:
    r"""The same on one line with nothing hidden: white space as signs, controls as escapes.

    Examples:
        >>> visible(" So\n")
        '␣So↵'
        >>> visible("a\u202eb")
        'a\\u202eb'
    """
    return "".join(_SHOWN.get(char) or _escaped(char) for char in text)


def plain(text: str) -> str:
    """Running text for a page: line breaks, tabs and spaces stay, other controls are escaped."""
    return "".join(char if char in "\n\t" else _escaped(char) for char in text)


def line(text: str) -> str:
    r"""A name or a sentence on one line: what is hidden, and line breaks too, are escaped.

    Examples:
        >>> line("a\nb c")
        'a\\nb c'
    """
    return "".join(_escaped(char) for char in text)


def _escaped(char: str) -> str:
    if unicodedata.category(char) not in _HIDDEN:
        return char
    return char.encode("unicode_escape", errors="surrogatepass").decode("ascii")


def marked(before: str, token: str, after: str) -> str:
    """One text with the token between `MARKS`, which occur in it exactly once."""
    opening, closing = MARKS
    around = [_unmarked(plain(text)) for text in (before, after)]
    return f"{around[0]}{opening}{_unmarked(visible(token))}{closing}{around[1]}"


def _unmarked(text: str) -> str:
    for mark in MARKS:
        text = text.replace(mark, mark.encode("unicode_escape").decode("ascii"))
    return text
