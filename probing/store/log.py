"""The log beside a run: facts of wall-clock time, kept out of what is compared byte for byte."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from probing.store.schema import LOG_SUFFIX


class RunLog:
    """JSON lines beside a run: `time` (UTC), `event` and whatever the event has to say."""

    def __init__(self, run: Path) -> None:
        self.path = run.with_name(run.name + LOG_SUFFIX)

    def append(self, event: str, **facts: Any) -> None:
        """Add one line. Facts are JSON values."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "event": event, **facts})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def entries(self) -> list[dict[str, Any]]:
        """All whole lines, oldest first; a line cut short by a crash is left out."""
        if not self.path.exists():
            return []
        found: list[dict[str, Any]] = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found
