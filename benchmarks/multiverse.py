"""How long the multiverse, a sweep and the curves of one comparison take on a run of real rows.

The positions are those of a scored run, its carriers written again under other names until there
are as many as asked for: a copy costs what a new position would. Each figure is of a freshly opened
run, so it holds reading and decompressing, the statistics passes, and the table; files may still be
in the system's cache. Importing the package is not counted.

    python -m benchmarks.multiverse [--run cache/demo.zarr] [--positions 10000] [--json F]
"""

import dataclasses
import tempfile
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import common
from probing.reporting.curves import DEFAULT_CURVES, curve_tables
from probing.reporting.multiverse import multiverse, steadiness_table
from probing.reporting.sweeps import SHOWN_QUANTITIES, Sweep, sweep_table
from probing.store.plan import Unit, make_plan
from probing.store.reader import Run, open_run
from probing.store.unit import UnitArrays
from probing.store.writer import RunWriter, Texts
from probing.tokens.encoded import EncodedCarrier

SWEPT = tuple(np.linspace(0.3, 0.95, 14).round(2).tolist())


def copied(source: Run, path: Path, *, positions: int) -> None:
    """Write a run of at least so many positions, the source's carriers over and over."""
    owner = source.positions().carrier
    rows_of = [np.flatnonzero(owner == carrier) for carrier in range(len(source.carriers()))]
    present = [carrier for carrier, rows in enumerate(rows_of) if len(rows)]
    origin, left = [], positions
    for carrier in cycle(present):
        if left <= 0:
            break
        origin.append(carrier)
        left -= len(rows_of[carrier])
    carriers = [
        dataclasses.replace(
            source.carriers()[carrier],
            carrier_id=f"{source.carriers()[carrier].carrier_id}/{place}",
            problem_id=f"{source.carriers()[carrier].problem_id}/{place // len(present)}",
        )
        for place, carrier in enumerate(origin)
    ]
    encoded = [
        EncodedCarrier(
            carrier_id=one.carrier_id,
            token_ids=source.carrier_token_ids(carrier),
            response_start=source.response_start(carrier),
            char_spans=np.zeros((0, 2), dtype=np.int64),
            response_text=source.response_text(carrier),
            seam_moved=source.seam_moved(carrier),
        )
        for one, carrier in zip(carriers, origin, strict=True)
    ]
    layout = source.manifest.settings.store
    plan = make_plan(
        [len(one.token_ids) for one in encoded],
        [len(rows_of[carrier]) for carrier in origin],
        layout=layout,
    )
    size = source.manifest.vocabulary_size
    texts = Texts(carriers, encoded, source.token_bytes(range(size)))
    with RunWriter.create(path, plan=plan, manifest=source.manifest, texts=texts) as writer:
        for unit in plan.units:
            writer.write_unit(unit, _arrays(source, unit, origin, rows_of))
        writer.finish()


def _arrays(source: Run, unit: Unit, origin: list[int], rows_of: list[np.ndarray]) -> UnitArrays:
    rows = np.concatenate([rows_of[origin[carrier]] for carrier in unit.carriers])
    names = [field.name for field in dataclasses.fields(UnitArrays) if field.name != "carrier"]
    return UnitArrays(
        carrier=np.repeat(unit.carriers, unit.carrier_rows),
        **{name: source.array(name, rows) for name in names},
    )


class Took(NamedTuple):
    """Of one call: time on the clock, and of all cores; a busy machine stretches the first."""

    seconds: float
    cpu_seconds: float

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s ({self.cpu_seconds:.1f} s of cores)"


def timed(path: Path, work: Callable[[Run], object]) -> Took:
    """One call on a run that nothing was read of."""
    run = open_run(str(path))
    start, cpu = time.perf_counter(), time.process_time()
    work(run)
    return Took(time.perf_counter() - start, time.process_time() - cpu)


def main() -> None:
    """Write the run, and time."""
    parser = common.parser(__doc__)
    parser.add_argument("--run", type=Path, default=common.CACHE / "demo.zarr")
    parser.add_argument("--positions", type=int, default=10_000)
    asked = parser.parse_args()
    source = open_run(str(asked.run))
    other = source.model_names[1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "copied.zarr"
        copied(source, path, positions=asked.positions)
        made = multiverse(open_run(str(path)), other)
        universes = len({outcome.universe for outcome in made.found})
        works: dict[str, Callable[[Run], object]] = {
            "multiverse": lambda run: steadiness_table(multiverse(run, other)),
            "sweep": lambda run: sweep_table(
                run, other, sweep=Sweep(threshold="lock_top1", values=SWEPT)
            ),
            "curves": lambda run: curve_tables(run, other),
        }
        took = {name: timed(path, work) for name, work in works.items()}
        figures: dict[str, Any] = {
            "positions": len(open_run(str(path))),
            "combinations": universes,
            "conclusions": len(made.found) // universes,
            "sweep_values": len(SWEPT),
            "sweep_quantities": len(SHOWN_QUANTITIES),
            "curve_temperatures": len(DEFAULT_CURVES.points.temperatures),
            **{name: each._asdict() for name, each in took.items()},
            "machine": common.machine(),
        }
    print(
        f"{figures['positions']:,} positions, {figures['machine']}\n"
        f"multiverse, {universes} combinations x {figures['conclusions']} conclusions: "
        f"{took['multiverse']}\n"
        f"sweep, {len(SWEPT)} values x {len(SHOWN_QUANTITIES)} quantities: {took['sweep']}\n"
        f"curves, {figures['curve_temperatures']} temperatures: {took['curves']}"
    )
    common.write_json(asked.json, figures)


if __name__ == "__main__":
    main()
