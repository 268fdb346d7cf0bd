"""Stop cleanly: a signal is noted, and the work leaves at the next place that suits it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from probing.errors import StoppedEarly

STOPPING = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether somebody asked to stop, and where the work may leave.

    SIGTERM lets the unit under way be finished and committed. SIGINT is somebody waiting at a
    terminal: the unit under way is left at its next block.
    """

    def __init__(self) -> None:
        self.asked_by: signal.Signals | None = None
        self._in_unit = False
        self._begun = False

    @contextmanager
    def unit(self) -> Iterator[None]:
        """While a unit is scored and written."""
        self._in_unit = self._begun = True
        try:
            yield
        finally:
            self._in_unit = False

    def check(self) -> None:
        """Leave if asked to, and if this is the place for it.

        Raises:
            StoppedEarly: A signal came. Units committed so far stay.
        """
        if self.asked_by is None or (self._in_unit and self.asked_by == signal.SIGTERM):
            return
        if self._in_unit:
            where = "inside a unit, which is dropped; the units before it are kept"
        elif self._begun:
            where = "between units; every unit that was begun is kept"
        else:
            where = "before this call began a unit; what was stored before is kept"
        raise StoppedEarly(f"stopped by {self.asked_by.name} {where}; the same command goes on")


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Turn the first SIGINT or SIGTERM into a request; a second one ends the process as usual.

    Off the main thread signals cannot be caught, and the request never comes.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {each: signal.getsignal(each) for each in STOPPING}

    def note(number: int, _: FrameType | None) -> None:
        stop.asked_by = signal.Signals(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    for each in STOPPING:
        signal.signal(each, note)
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
