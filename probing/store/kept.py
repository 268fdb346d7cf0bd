"""Arrays and statistics that were asked for lately, within a budget of bytes."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, Protocol, TypeVar, runtime_checkable

KEPT_BYTES = 256 << 20
"""Of arrays as they are read, at most; about 40,000 positions of a run with three models and
K = 256. One table reads the same rows often."""

KEPT_STATISTICS_BYTES = 640 << 20
"""Of statistics, at most: six measures or settings of a million positions."""


KEPT_DIVERGENCES_BYTES = 64 << 20
"""Of divergences, at most: eight pairs or temperatures of a million positions."""


@runtime_checkable
class Sized(Protocol):
    """What tells how much memory it takes."""

    @property
    def nbytes(self) -> int:
        """Bytes."""


Thing = TypeVar("Thing", bound=Sized)


class Kept(Generic[Thing]):
    """What was last asked for; safe to share over threads."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget = budget_bytes
        self._things: OrderedDict[Hashable, Thing] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], Thing]) -> Thing:
        """What has this key: kept, or made now and kept while there is room."""
        found = self.find(key)
        if found is None:
            found = make()
            self.keep(key, found)
        return found

    def find(self, key: Hashable) -> Thing | None:
        """What is kept under this key, if it is."""
        with self._lock:
            found = self._things.get(key)
            if found is not None:
                self._things.move_to_end(key)
            return found

    def keep(self, key: Hashable, thing: Thing) -> None:
        """Keep it, and let go of what was asked for longest ago until there is room."""
        size = thing.nbytes  # Which may have to be read.
        with self._lock:
            if key not in self._things and size <= self._budget:
                self._things[key] = thing
                self._bytes += size
                while self._bytes > self._budget:
                    self._bytes -= self._things.popitem(last=False)[1].nbytes
