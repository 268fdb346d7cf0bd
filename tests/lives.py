"""A real process that scores a tiny model, and what can be done to it at a moment of its life."""

import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.launcher import NO_LIMIT, Command, Launcher
from benchmarks.survival import contents
from probing.store.reader import open_run
from probing.store.schema import COMMITS, FINISH_SEAL, LAYOUT_SEAL, METADATA, STATISTICS, unit_name

PATIENCE_SECONDS = 60.0

RUN_FILE = """
out = "{out}"
carriers = ["{inputs}/carriers.jsonl"]
[baseline]
path = "{inputs}/baseline"
[others.ssd]
path = "{inputs}/trained"
[selection]
lexicon = "{inputs}/lexicon.toml"
interval_every = 3
[store]
top_k = 120
max_watched = 4
shard_rows = 16
chunk_rows = 8
chunk_candidates = 8
[tail]
nodes = 4
[scoring]
device = "cpu"
memory_mode = "together"
"""


@dataclass(frozen=True)
class Place:
    """Where one run goes, and how it is scored there by a process of its own."""

    folder: Path
    inputs: Path
    launcher: Launcher

    @property
    def run(self) -> Path:
        return self.folder / "run.zarr"

    @property
    def lock(self) -> Path:
        return self.folder / "run.zarr.lock"

    @property
    def said(self) -> str:
        """By the last command."""
        return (self.folder / "said.txt").read_text(encoding="utf-8")

    def start(
        self,
        *,
        out: Path | None = None,
        more: str = "",
        file_bytes: int = NO_LIMIT,
        user: int | None = None,
    ) -> Command:
        """The command; `more` are further lines of the run file."""
        self.folder.mkdir(exist_ok=True)
        run_file, said = self.folder / "run.toml", self.folder / "said.txt"
        text = RUN_FILE.format(out=out or self.run, inputs=self.inputs) + more
        run_file.write_text(text, encoding="utf-8")
        said.unlink(missing_ok=True)
        said.touch()
        return self.launcher.start(
            "score", str(run_file), output=said, file_bytes=file_bytes, user=user
        )

    def end(self, code: int, **options: Any) -> str:
        """Run the command to its end, which must be this one; what it said."""
        assert self.start(**options).wait() == code, self.said
        assert "Traceback" not in self.said
        return self.said

    @property
    def committed(self) -> int:
        """How many units are."""
        return len(list(self.run.glob(f"{COMMITS}/*/{METADATA}")))

    def signed_by(self, command: Command) -> bool:
        try:
            return bool(json.loads(self.lock.read_text(encoding="utf-8"))["pid"] == command.pid)
        except (FileNotFoundError, ValueError):
            return False


@dataclass(frozen=True)
class Unbroken:
    """The run that nothing happened to, and how long each phase of its process lasted."""

    place: Place
    seconds: dict[str, float]

    @property
    def units(self) -> int:
        return len(open_run(str(self.place.run)).plan.units)

    @property
    def contents(self) -> dict[str, bytes]:
        return contents(self.place.run)


Begun = Callable[[Place], bool]
PHASES: dict[str, Begun] = {
    "start": lambda place: True,
    "creation": lambda place: True,
    "units": lambda place: (place.run / LAYOUT_SEAL / METADATA).exists(),
    "finish": lambda place: last_commit(place).exists(),
    "statistics": lambda place: (place.run / STATISTICS / METADATA).exists(),
    "end": lambda place: (place.run / FINISH_SEAL / METADATA).exists(),
}
"""The life of a process that scores, in order, and how the beginning of each phase shows.

Once it has begun to create the run, the process has also signed the lock.
"""


def last_commit(place: Place) -> Path:
    try:
        units = len(json.loads((place.run / "plan" / METADATA).read_text())["attributes"]["units"])
    except FileNotFoundError:
        return place.run / "none yet"
    return place.run / unit_name(units - 1) / METADATA


def wait_for(phase: str, place: Place, command: Command) -> bool:
    """Until the phase begins; False if the process ends without it."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not ((phase == "start" or place.signed_by(command)) and PHASES[phase](place)):
        assert time.monotonic() < give_up, f"{phase} never began; it said: {place.said}"
        if not command.running:
            return False
        time.sleep(0.0005)
    return True


def kill_in(phase: str, place: Place, *, after_seconds: float, after_commits: int = 0) -> bool:
    """Kill a process so long after a phase began and it committed so many units.

    False if it had ended by then.
    """
    command = place.start()
    if wait_for(phase, place, command):
        awaited = place.committed + after_commits
        while command.running and place.committed < awaited:
            time.sleep(0.0005)
        time.sleep(after_seconds)
    command.kill()
    code = command.wait()
    assert code in {0, -signal.SIGKILL}, place.said
    return code != 0


def kill_after_unit(place: Place, unit: int) -> None:
    command = place.start()
    assert wait_for("units", place, command)
    while command.running and not (place.run / unit_name(unit) / METADATA).exists():
        time.sleep(0.0005)
    command.kill()
    assert command.wait() == -signal.SIGKILL, place.said
