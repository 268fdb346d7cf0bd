"""Named groups of text patterns, from a TOML file that users edit (see lexicon.toml)."""

import hashlib
import json
import re
import tomllib
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from probing.errors import UsageFault
from probing.vocabulary import Selector

DEFAULT_LEXICON = Path(__file__).with_name("lexicon.toml")

SELF_CORRECTION = "self_correction"
"""The group whose words mark a position as a self-correction (method.md section 6)."""

THINK_CLOSE = "think_close"
"""The group whose first match ends the thinking span of a response."""

MAX_GROUPS = 32 - len(Selector)
"""Every group is one bit of the 32-bit selector mask."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_NEXT = "compare with the file that ships, probing/lexicon.toml"


class TextSpan(NamedTuple):
    """Characters of a text: `start` inclusive, `end` exclusive."""

    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Group:
    """One named group; `phrases` are whole phrases, `regexes` Python regular expressions."""

    name: str
    phrases: tuple[str, ...] = ()
    regexes: tuple[str, ...] = ()

    @cached_property
    def patterns(self) -> tuple[re.Pattern[str], ...]:
        """Every entry, compiled; phrases first."""
        return (
            *(phrase_pattern(phrase) for phrase in self.phrases),
            *(re.compile(regex, re.MULTILINE) for regex in self.regexes),
        )


@dataclass(frozen=True)
class Lexicon:
    """The groups of one lexicon file, in file order."""

    entries: tuple[Group, ...]

    @classmethod
    def load(cls, path: str | Path | None = None) -> "Lexicon":
        """Read a lexicon file; None is the one that ships.

        Raises:
            UsageFault: The file cannot be read or is malformed; the group and entry are named.
        """
        place = DEFAULT_LEXICON if path is None else Path(path)
        try:
            document = tomllib.loads(place.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageFault(f"lexicon {place} cannot be read: {error}; {_NEXT}") from error
        except tomllib.TOMLDecodeError as error:
            raise UsageFault(f"lexicon {place} is not valid TOML: {error}; {_NEXT}") from error
        _check(0 < len(document) <= MAX_GROUPS, f"1 to {MAX_GROUPS} groups", len(document), place)
        return cls(tuple(_group(name, table, place) for name, table in document.items()))

    @property
    def groups(self) -> tuple[str, ...]:
        """Names, in file order."""
        return tuple(group.name for group in self.entries)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the groups and entries: comments and layout of the file do not count."""
        content = json.dumps([asdict(group) for group in self.entries], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def patterns(self, group: str) -> tuple[re.Pattern[str], ...]:
        """The compiled entries of one group.

        Raises:
            UsageFault: No such group.
        """
        return self._named(group).patterns

    def matches(self, text: str, *, group: str) -> tuple[TextSpan, ...]:
        """Where the entries of `group` stand in realised text, by character, ascending.

        Matches of different entries may overlap; equal spans are given once, empty ones never.

        Raises:
            UsageFault: No such group.
        """
        found = {
            TextSpan(*match.span())
            for pattern in self.patterns(group)
            for match in pattern.finditer(text)
            if match.end() > match.start()
        }
        return tuple(sorted(found))

    def one_word_entries(self, group: str) -> tuple[str, ...]:
        r"""Phrases of one word: those that a single candidate token can equal.

        A word has no white space and at least one letter, so `**` is none and `\boxed` is one.

        Raises:
            UsageFault: No such group.
        """
        return tuple(
            phrase
            for phrase in self._named(group).phrases
            if not re.search(r"\s", phrase) and any(char.isalpha() for char in phrase)
        )

    def _named(self, name: str) -> Group:
        for group in self.entries:
            if group.name == name:
                return group
        raise UsageFault(f"a lexicon group must be one of {', '.join(self.groups)}, got {name!r}")


def candidate_word(token_text: str) -> str:
    """What one-word entries are compared with: a candidate token's text, one leading space aside.

    The comparison is for equality and case-sensitive, never by prefix: `Let` would else be the
    self-correction `Let me check`.
    """
    return token_text.removeprefix(" ")


def phrase_pattern(phrase: str) -> re.Pattern[str]:
    """A phrase as a whole: an end that is a letter or digit may not go on as a word.

    An apostrophe inside a word belongs to it, so `Let` does not match in `Let's`.
    """
    words = (re.escape(word).replace("'", "['’]") for word in phrase.split())
    before = r"(?<!\w)(?<!\w['’])" if re.match(r"\w", phrase) else ""
    after = r"(?!\w|['’]\w)" if re.search(r"\w\Z", phrase) else ""
    return re.compile(before + r"\s+".join(words) + after)


def _group(name: str, table: Any, place: Path) -> Group:
    where = f"group {name!r}"
    _check(_NAME.fullmatch(name) is not None, "group names of a-z, 0-9 and _", name, place)
    _check(name not in set(Selector), f"no group named {', '.join(Selector)}", name, place)
    _check(isinstance(table, dict), f"a table for {where}", table, place)
    unknown = sorted(set(table) - {"phrases", "regexes"})
    _check(not unknown, f"only `phrases` and `regexes` in {where}", unknown, place)
    phrases = _strings(table.get("phrases", []), f"`phrases` of {where}", place)
    regexes = _strings(table.get("regexes", []), f"`regexes` of {where}", place)
    _check(len(phrases) + len(regexes) > 0, f"a phrase or a regex in {where}", table, place)
    for phrase in phrases:
        rule = f"phrases of {where} that are not empty and have no white space at their ends"
        _check(phrase == phrase.strip() and phrase != "", rule, phrase, place)
    for regex in regexes:
        _check_regex(regex, where, place)
    return Group(name=name, phrases=phrases, regexes=regexes)


def _strings(values: Any, where: str, place: Path) -> tuple[str, ...]:
    fits = isinstance(values, list) and all(isinstance(value, str) for value in values)
    _check(fits, f"a list of strings for {where}", values, place)
    return tuple(values)


def _check_regex(regex: str, where: str, place: Path) -> None:
    try:
        pattern = re.compile(regex, re.MULTILINE)
    except re.error as error:
        raise UsageFault(
            f"lexicon {place} needs valid regexes in {where}, got {regex!r}: {error}; {_NEXT}"
        ) from error
    rule = f"regexes of {where} that do not match nothing"
    _check(pattern.search("") is None, rule, regex, place)


def _check(holds: bool, rule: str, got: object, place: Path) -> None:
    if not holds:
        raise UsageFault(f"lexicon {place} needs {rule}, got {got!r}; {_NEXT}")
