"""Token bytes as text: readable, never mistaken for markup or for something else."""

import re
import unicodedata

from probing.vocabulary import TokenClass

MARKS = ("⟦", "⟧")
"""Around the token a context is about. In the text around it they are escaped."""

LONGEST_TOKEN = 200
"""Characters of one token that are shown."""

LONGEST_SENTENCE = 4_000
"""Characters of a sentence, or of a cell of a table, that a terminal is told."""

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


def sentence(text: str) -> str:
    """A `line` that a terminal can be told: of a very long one the beginning and the end."""
    left_out = len(text) - LONGEST_SENTENCE
    if left_out <= 0:
        return line(text)
    half = LONGEST_SENTENCE // 2
    return f"{line(text[:half])}… ({left_out:,} characters) …{line(text[-half:])}"


def _escaped(char: str) -> str:
    if unicodedata.category(char) not in _HIDDEN:
        return char
    return char.encode("unicode_escape", errors="surrogatepass").decode("ascii")


def shortened(shown: str, *, characters: int) -> str:
    """The beginning of what is shown of a long token, and how long the token is.

    Args:
        shown: the token as it would be shown.
        characters: of the token itself.
    """
    if len(shown) <= LONGEST_TOKEN:
        return shown
    return f"{shown[:LONGEST_TOKEN]}… ({characters:,} characters)"


def shown_token(text: str) -> str:
    """A token by itself: nothing hidden, and no longer than one can look at."""
    return shortened(visible(text[: LONGEST_TOKEN + 1]), characters=len(text))


def marked(before: str, token: str, after: str) -> str:
    """One text with the token between `MARKS`, which occur in it exactly once."""
    opening, closing = MARKS
    around = [_unmarked(plain(text)) for text in (before, after)]
    return f"{around[0]}{opening}{_unmarked(shown_token(token))}{closing}{around[1]}"


def _unmarked(text: str) -> str:
    for mark in MARKS:
        text = text.replace(mark, mark.encode("unicode_escape").decode("ascii"))
    return text


_ACTED_ON = re.compile(
    r"(?P<code>(?:://|www\.|@(?=\w)|:(?=[\w+\-/]+:))+|(?<!\S)(?:<?->|<-|--|[<>~]=)(?!\S))"
    r"|[\\`*\[\]<>$~|&]|(?<!\w)_|_(?!\w)|:(?=[A-Za-z])|^\s*(?:[#+\-]|\d+[.)])",
    re.IGNORECASE,
)


def escaped(label: str) -> str:
    r"""A label as it stands, on one line, where a page would take it for Markdown.

    A backslash goes before each sign of markup. What a page acts on all the same, as on bare
    addresses and names of icons, is broken by a sign in a code span.

    Examples:
        >>> escaped("[x](y) :red[z]"), escaped("chain_sum"), escaped("before think-close")
        ('\\[x\\](y) \\:red\\[z\\]', 'chain_sum', 'before think-close')
        >>> escaped("http://x.org :material/bolt:")
        'http`://`x.org `:`material/bolt:'
    """
    return _ACTED_ON.sub(_inert, line(label))


def _inert(found: re.Match[str]) -> str:
    sign = found.group()
    return f"`{sign}`" if found["code"] else f"{sign[:-1]}\\{sign[-1]}"
