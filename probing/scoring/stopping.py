"""Stop cleanly: a signal is noted, and the work leaves at its next safe place."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from probing.errors import StoppedEarly

STOPPING = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether somebody asked to stop."""

    def __init__(self) -> None:
        self.asked_by: str | None = None

    def check(self) -> None:
        """Leave if asked to.

        Raises:
            StoppedEarly: A signal came. Units committed so far stay; the present one is dropped.
        """
        if self.asked_by is not None:
            raise StoppedEarly(
                f"stopped by {self.asked_by}; finished units are kept; the same command goes on"
            )


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
        stop.asked_by = signal.Signals(number).name
        for each, handler in before.items():
            signal.signal(each, handler)

    for each in STOPPING:
        signal.signal(each, note)
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
