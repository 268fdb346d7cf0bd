"""Grades of chats: which values are one, and which columns hold scores on a scale instead.

On a scale of 1 to 10 the score 1 is no *right*: of a column that shows a number outside 0 to 1 none
counts. A file is read front to back, so that is told by its first records; where a later one is the
first to show it, those before it have their grades already.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from probing.carriers.readers.formats import Fields, set_aside
from probing.carriers.readers.identity import is_number

CORRECT = ("correct", "is_correct", "score", "is_passed")
"""Where a grade stands: true, false, or a number that is 1 or 0; others are no grade."""


def grade_of(fields: Fields) -> bool | None:
    """Right, wrong, or not graded, by the first field that says so."""
    for name in CORRECT:
        value = fields.get(name)
        if isinstance(value, bool):
            return value
        if isinstance(value, int | float) and value in (0, 1):
            return bool(value)
    return None


def on_a_scale(fields: Fields) -> set[str]:
    """Fields that would be a grade, and whose number is above 1 or below 0."""
    return {name for name in CORRECT if is_number(fields.get(name)) and not 0 <= fields[name] <= 1}


class Scales:
    """The columns of one file that are no grades; what they say of a record is set aside.

    Args:
        known: those that the first records show.
    """

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._scaled = set(known)
        self._ungraded: Counter[str] = Counter()

    def set_aside(self, fields: dict[str, Any]) -> dict[str, Any]:
        """A record without the scores that are no grades, which are kept as `<name>_logged`."""
        logged = [name for name in CORRECT if fields.get(name) is not None]
        self._scaled |= on_a_scale(fields)
        for name in self._scaled.intersection(logged):
            fields = set_aside(fields, name)
        if logged and grade_of(fields) is None:
            self._ungraded.update(logged)
        return fields

    def notes(self) -> list[str]:
        """What a reader must know of the columns, one sentence each."""
        return [
            f"values of `{name}` that are no grade: {count:,}; "
            + (
                "it holds numbers other than 0 to 1, so none of them counts"
                if name in self._scaled
                else "a grade is true, false, 1 or 0"
            )
            for name, count in sorted(self._ungraded.items())
        ]
