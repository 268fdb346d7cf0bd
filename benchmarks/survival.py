"""What must hold of a run whose process is killed again and again."""

from collections import Counter
from pathlib import Path

from probing.store.log import RunLog
from probing.store.objects import objects_under
from probing.store.reader import open_run
from probing.store.schema import METADATA, unit_name
from probing.store.verify import verify


class Survivor:
    """A run, looked at whenever its process has ended.

    Attributes:
        run: where it is, or will be.
        faults: what `verify` found, over all looks; empty if committed units stay readable.
        rewritten: units of which an object was written again after their commit.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.faults: list[str] = []
        self.rewritten: set[int] = set()
        self._seen: dict[int, list[tuple[int, int]]] = {}

    def look(self) -> None:
        """Compare what is committed with its digests, and with what was there at the last look."""
        if not self.run.exists():
            return
        self.faults += [str(fault) for fault in verify(str(self.run)).faults]
        for commit in open_run(str(self.run)).commits:
            names = (*sorted(commit.objects), f"{unit_name(commit.unit)}/{METADATA}")
            # A file that is written again is another file, or has another time.
            stats = [(self.run / name).stat() for name in names]
            now = [(each.st_ino, each.st_mtime_ns) for each in stats]
            if self._seen.setdefault(commit.unit, now) != now:
                self.rewritten.add(commit.unit)

    @property
    def committed(self) -> int:
        """Units that were committed at the last look."""
        return len(self._seen)

    @property
    def commits_logged(self) -> Counter[int]:
        """How many `committed` lines the log has of each unit."""
        entries = RunLog(self.run).entries()
        return Counter(entry["unit"] for entry in entries if entry["event"] == "committed")

    @property
    def resumes_logged(self) -> list[int]:
        """How many units were committed at each resume that the log tells of."""
        entries = RunLog(self.run).entries()
        return [entry["committed"] for entry in entries if entry["event"] == "resumed"]

    def rescored_units(self) -> set[int]:
        """Units that were scored more than once, whichever way it shows."""
        often = {unit for unit, times in self.commits_logged.items() if times != 1}
        return self.rewritten | often


def contents(run: Path) -> dict[str, bytes]:
    """Every file below a run: two runs are identical if these are."""
    return {name: (run / name).read_bytes() for name in objects_under(run)}
