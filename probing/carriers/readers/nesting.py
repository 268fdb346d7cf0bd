"""How deep values are nested: what is very deep breaks all that walks through it."""

from typing import Any

DEEPEST_ROW = 150
"""Levels of a record; a field of a carrier may have fewer (`fields.DEEPEST`)."""


def is_too_deep(value: Any, *, most: int = DEEPEST_ROW) -> bool:
    """Whether lists and objects stand in each other more than so many times."""
    waiting: list[tuple[Any, int]] = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if not isinstance(item, dict | list):
            continue
        if depth > most:
            return True
        inside = item.values() if isinstance(item, dict) else item
        waiting += [(part, depth + 1) for part in inside]
    return False
