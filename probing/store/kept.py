"""Arrays that were read lately, within a budget of bytes: one table reads the same rows often."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock

import numpy as np

KEPT_BYTES = 256 << 20
"""What is kept at most; about 40,000 positions of a run with three models and K = 256."""


class KeptArrays:
    """The arrays last asked for, read-only; safe to share over threads."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget = budget_bytes
        self._arrays: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get(self, key: Hashable, read: Callable[[], np.ndarray]) -> np.ndarray:
        """The array of this key: kept, or read now and kept while there is room."""
        with self._lock:
            found = self._arrays.get(key)
            if found is not None:
                self._arrays.move_to_end(key)
                return found
        array = read()
        array.setflags(write=False)
        with self._lock:
            if key not in self._arrays and array.nbytes <= self._budget:
                self._arrays[key] = array
                self._bytes += array.nbytes
                while self._bytes > self._budget:
                    self._bytes -= self._arrays.popitem(last=False)[1].nbytes
        return array
