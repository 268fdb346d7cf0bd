"""Where the dashboard's seconds go: the overview made step by step, without server or browser.

opening                  the run, and what every table asks of it first
sidebar                  kinds, events and places of every position
overview                 values, tables and charts at the opening temperature
temperature, reading     decoded, computed and kept, of a temperature nobody asked for
temperature, drawing     its tables and charts
filter                   the same of one kind's positions

python -m benchmarks.dashboard_parts [--positions N] [--problems P] [--json F]
"""

import logging
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from benchmarks import common
from benchmarks.million import Size, made_run
from probing.analysis.decoding import make_ready
from probing.dashboard import controls, loaders, overview_tables
from probing.reporting import tables
from probing.reporting.quantities import SHOWN_FIRST
from probing.settings import Decoding
from probing.vocabulary import Kind

TEMPERATURES = (0.85, 0.9, 0.95, 1.05)
"""The first one also compares every object with its digest."""


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    begin = time.perf_counter()
    found = work()
    return time.perf_counter() - begin, found


def main() -> None:
    """Measure and print."""
    parser = common.parser(__doc__)
    parser.add_argument("--positions", type=int, default=1_000_000)
    parser.add_argument("--problems", type=int, default=1000)
    asked = parser.parse_args()
    logging.disable(logging.WARNING)  # Streamlit's, that nobody looks.
    print(f"{common.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    path = common.CACHE / f"synthetic-{asked.positions}.zarr"
    made_run(path, Size(asked.positions, asked.problems))
    make_ready()
    found: dict[str, float] = {}
    runs = {path.name: str(path)}
    found["opening"], run = timed(lambda: loaders.open_listed(str(path)))
    found["sidebar"], choice = timed(lambda: controls.choose(runs))
    found["overview"], _ = timed(lambda: overview_tables.overview(choice))
    reading, drawing = [], []
    for temperature in TEMPERATURES:
        other = replace(choice, decoding=Decoding(temperature=temperature))
        models = [name for name in (other.other, other.control) if name is not None]
        answer = {"decoding": other.decoding, "rule": other.rule, "quantities": SHOWN_FIRST}
        reading.append(timed(lambda m=models, a=answer: tables.answer(run, m, **a))[0])
        drawing.append(timed(lambda o=other: overview_tables.overview(o))[0])
    found["temperature, first"] = reading[0] + drawing[0]
    found["temperature, reading"] = statistics.median(reading[1:])
    found["temperature, drawing"] = statistics.median(drawing[1:])
    kinds = [replace(choice, filters=replace(choice.filters, kind=(kind.value,))) for kind in Kind]
    found["filter"] = statistics.median(
        timed(lambda one=one: overview_tables.overview(one))[0] for one in kinds
    )
    for name, value in found.items():
        print(f"{name:22} {value:.2f}")
    common.write_json(asked.json, found)


if __name__ == "__main__":
    main()
