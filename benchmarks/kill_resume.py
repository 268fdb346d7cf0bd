"""A run killed at any instant, then begun again, is byte for byte the run nothing happened to.

Processes that score the demo's three models on a few of its carriers are killed by SIGKILL at
instants drawn evenly over the life of an unbroken one, until so many kills are done. The same
command follows each kill; a run that is finished is compared, object by object, with the unbroken
one, and a new run begins. No unit may be scored again once it is committed.

    python -m benchmarks.kill_resume --kills 200 [--seed 0] [--json F] [--cache cache]

Exit code 1 if a run differs, a unit was scored twice, or a committed object was not as written.
"""

import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.launcher import ROOT, Launcher
from benchmarks.survival import Survivor, contents
from probing.store.reader import open_run

RUN_FILE = """
out = "{out}"
carriers = ["{example}/carriers.jsonl"]
[baseline]
name = "smollm2-135m-maths"
path = "{baseline}"
[others.ssd]
adapter = "{example}/adapters/ssd"
[others.control]
adapter = "{example}/adapters/control"
[sampling]
carriers = {carriers}
by = ["subject"]
[selection]
interval_every = 12
random_count = 4
[store]
shard_rows = 16
chunk_rows = 8
[scoring]
memory_mode = "together"
"""


@dataclass
class Tally:
    """What the kills came to.

    Attributes:
        landed: kills by where they fell.
        runs, identical: runs that were finished, and those of them with the unbroken run's bytes.
        rescored_units: units that were scored again after their commit, over all runs.
        faults: of committed objects, found after a kill.
    """

    landed: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    identical: int = 0
    rescored_units: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Nothing was lost or wrong."""
        return self.identical == self.runs and self.rescored_units == 0 and not self.faults

    def sentence(self) -> str:
        """One line for a terminal."""
        return (
            f"{self.landed.total()} kills over {self.runs} finished runs: {self.identical} "
            f"identical to the unbroken run, {self.rescored_units} units scored again, "
            f"{len(self.faults)} faults"
        )


@dataclass(frozen=True)
class Trial:
    """Where the runs go, and what scores them."""

    launcher: Launcher
    folder: Path
    text: str

    def run(self, name: str) -> Path:
        """Where the run of this name goes."""
        return self.folder / f"{name}.zarr"

    def attempt(self, name: str, *, kill_after_seconds: float | None = None) -> bool:
        """One process; whether it finished the run, not having been killed.

        Raises:
            SystemExit: It ended in another way; what it said is shown.
        """
        run_file, said = self.folder / f"{name}.toml", self.folder / f"{name}.txt"
        run_file.write_text(self.text.replace("{out}", str(self.run(name))), encoding="utf-8")
        said.unlink(missing_ok=True)
        command = self.launcher.start("score", str(run_file), output=said)
        if kill_after_seconds is not None:
            time.sleep(kill_after_seconds)
            command.kill()
        code = command.wait()
        if code not in {0, -signal.SIGKILL}:
            raise SystemExit(f"exit code {code}: {said.read_text(encoding='utf-8')}")
        return code == 0


def where_it_fell(run: Path, *, resumes: int | None) -> str:
    """What the process was at when it was killed.

    Args:
        run: that it scored.
        resumes: logged before it began; None if there was no run then.
    """
    if not run.exists():
        return "before creation"
    opened = open_run(str(run))
    if len(opened.committed) == len(opened.plan.units):
        return "after the last commit"
    if resumes is None or len(Survivor(run).resumes_logged) > resumes:
        return "during a unit"
    return "before it went on"


def kill_until(trial: Trial, kills: int, *, seconds: float, rng: np.random.Generator) -> Tally:
    """Kill and go on until so many kills are done and the last run is finished."""
    tally, wanted = Tally(), contents(trial.run("unbroken"))
    while tally.landed.total() < kills:
        name = f"run{tally.runs}"
        survivor = Survivor(trial.run(name))
        finished = False
        while not finished:
            resumes = len(survivor.resumes_logged) if survivor.run.exists() else None
            left = kills - tally.landed.total()
            wait = float(rng.uniform(0, seconds)) if left else None
            finished = trial.attempt(name, kill_after_seconds=wait)
            survivor.look()
            if not finished:
                tally.landed[where_it_fell(survivor.run, resumes=resumes)] += 1
            print(f"\r{tally.sentence()}", end="", file=sys.stderr)
        tally.runs += 1
        tally.identical += contents(survivor.run) == wanted
        tally.rescored_units += len(survivor.rescored_units())
        tally.faults += survivor.faults
        shutil.rmtree(survivor.run)
    print(file=sys.stderr)
    return tally


def main() -> None:
    """Measure, print, and fail if anything was lost or wrong."""
    from benchmarks import common
    from probing.scoring.bundled import taught_model

    parser = common.parser(__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--carriers", type=int, default=8, help="sampled from the demo's")
    parser.add_argument("--cache", type=Path, default=common.CACHE, help="holds the demo's models")
    asked = parser.parse_args()
    example = ROOT / common.EXAMPLE
    baseline = taught_model(asked.cache, adapter_dir=example / "adapters" / "baseline").resolve()
    text = RUN_FILE.format(out="{out}", example=example, baseline=baseline, carriers=asked.carriers)
    folder = Path(tempfile.mkdtemp(prefix="kill-resume-", dir=asked.cache)).resolve()
    began = time.perf_counter()
    try:
        with Launcher() as launcher:
            trial = Trial(launcher, folder, text)
            trial.attempt("unbroken")  # The first process may compile.
            shutil.rmtree(trial.run("unbroken"))
            started = time.perf_counter()
            trial.attempt("unbroken")
            seconds = time.perf_counter() - started
            units = len(open_run(str(trial.run("unbroken"))).plan.units)
            tally = kill_until(
                trial, asked.kills, seconds=seconds, rng=np.random.default_rng(asked.seed)
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    kills = tally.landed.total()
    print(common.machine())
    print(f"{tally.sentence()}; {units} units a run")
    print(", ".join(f"{count} {place}" for place, count in sorted(tally.landed.items())))
    common.write_json(
        asked.json,
        {
            "kills": kills,
            "runs": tally.runs,
            "identical": tally.identical,
            "rescored_units": tally.rescored_units,
            "faults": tally.faults,
            "landed": dict(sorted(tally.landed.items())),
            "units": units,
            "unbroken_seconds": round(seconds, 2),
            "seconds": round(time.perf_counter() - began, 1),
            "seed": asked.seed,
        },
    )
    sys.exit(0 if tally.sound else 1)


if __name__ == "__main__":
    main()
