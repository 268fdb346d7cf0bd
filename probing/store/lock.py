"""The lock beside a run: one process writes."""

import fcntl
import json
import os
import socket
from pathlib import Path
from typing import Any

from probing.errors import RunBusy
from probing.store.schema import LOCK_SUFFIX


class RunLock:
    """The right to write a run, held from `acquire` to `release` or the end of the process.

    The file holds the writer's process id and host, for messages. On one host the operating
    system's own lock decides, so what a killed process leaves behind never blocks. From another
    host that lock may not be visible (shared disks): there the file's word is taken.
    """

    def __init__(self, path: Path, handle: int) -> None:
        self._path = path
        self._handle = handle
        self._held = True

    @classmethod
    def acquire(cls, run: Path) -> "RunLock":
        """Lock a run.

        Raises:
            RunBusy: another process writes it; process id and host are named.
            OSError: the file cannot be made.
        """
        path = run.with_name(run.name + LOCK_SUFFIX)
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                _take(handle, path=path, run=run)
                if _still_named(handle, path):
                    _sign(handle, path)
                    return cls(path, handle)
            except BaseException:
                os.close(handle)
                raise
            # Its holder removed the file between our opening and locking it: lock the next one.
            os.close(handle)

    def release(self) -> None:
        """Give the lock up and remove its file; again it does nothing."""
        if self._held:
            self._held = False
            self._path.unlink(missing_ok=True)
            os.close(self._handle)

    def __enter__(self) -> "RunLock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _take(handle: int, *, path: Path, run: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _busy(run, path, _holder(handle)) from error
    holder = _holder(handle)
    if holder and holder.get("host") != socket.gethostname():
        raise _busy(run, path, holder)


def _sign(handle: int, path: Path) -> None:
    content = json.dumps({"pid": os.getpid(), "host": socket.gethostname()})
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, content.encode(), 0)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _holder(handle: int) -> dict[str, Any]:
    """Who the file names; empty where it is new or was never finished."""
    try:
        named = json.loads(os.pread(handle, 4096, 0))
    except ValueError:
        return {}
    return named if isinstance(named, dict) else {}


def _still_named(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _busy(run: Path, path: Path, holder: dict[str, Any]) -> RunBusy:
    return RunBusy(
        f"{run} is written by process {holder.get('pid', '?')} on host {holder.get('host', '?')}; "
        f"a run has one writer; wait for it, or, if that host is gone, delete {path} and try again"
    )
