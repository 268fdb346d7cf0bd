"""The log beside a run: facts of wall-clock time, kept out of what is compared byte for byte."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from probing.store.objects import refused
from probing.store.schema import LOG_SUFFIX


class RunLog:
    """JSON lines beside a run: `time` (UTC), `event` and whatever the event has to say."""

    def __init__(self, run: Path) -> None:
        self.path = run.with_name(run.name + LOG_SUFFIX)

    def append(self, event: str, **facts: Any) -> None:
        """Add one line. Facts are JSON values.

        Raises:
            UnwritablePath: the disk refuses.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "event": event, **facts})
        try:
            with self.path.open("a+b") as file:
                # A process that died while it wrote left half a line: this one begins its own.
                start = "" if _ends_a_line(file) else "\n"
                file.write(f"{start}{line}\n".encode())
        except OSError as error:
            raise refused(self.path, error) from error

    def entries(self) -> list[dict[str, Any]]:
        """All whole lines, oldest first; a line cut short by a crash is left out."""
        if not self.path.exists():
            return []
        found: list[dict[str, Any]] = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                found.append(entry)
        return found


def _ends_a_line(file: BinaryIO) -> bool:
    if file.seek(0, os.SEEK_END) == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"
