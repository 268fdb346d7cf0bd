"""Runs and tables, cached: a run is opened once, a comparison computed once per setting."""

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import streamlit as st

from probing.dashboard.freezing import freeze_what_is_there
from probing.reporting import carrier, filters, tables
from probing.reporting.cells import Division, cells, division
from probing.reporting.columns import with_columns
from probing.reporting.comparison import kind_column
from probing.reporting.contrasts import contrast_name
from probing.reporting.curves import CurvesAsked, CurveTables
from probing.reporting.drifting import DriftAsked, DriftNull
from probing.reporting.filters import Counts, Filters
from probing.reporting.mechanism import Asked, Findings, Found
from probing.reporting.quantities import QUANTITIES
from probing.reporting.remaking import TableSettings
from probing.reporting.sweeps import Sweep
from probing.settings import Decoding, KindRule
from probing.store.place import local_folder
from probing.store.reader import Run, open_run
from probing.store.schema import COMMITS, FINISH_SEAL, METADATA
from probing.vocabulary import Assignment, PerPosition, PositionIds, Stratum

RUNS_VARIABLE = "PROBING_RUNS"
"""Runs to list, joined as in PATH; without it, and without arguments, those in the cache."""

FIRST = "bundled.zarr"

KEPT_VALUES = 32
"""Quantities of a comparison at a decoding: of a million positions, 24 MB each at most."""

LEFT_COLUMNS = ["row", "carrier", "carrier_id", "problem_id", "generator", "position"]
LEFT_COLUMNS += ["response_tokens"]  # `filters.options` asks for it.
"""What pages ask of the positions that filters leave."""

Made = TypeVar("Made")


def listed_runs(cache: Path, *, page: str) -> dict[str, str]:
    """Locations of the runs that can be chosen, by name; only these are ever opened.

    Named after the page on the command line, else in `PROBING_RUNS`, else `cache/*.zarr` with the
    bundled run first. Two runs of one name are told apart by their whole location.

    Args:
        cache: the folder of runs.
        page: file name of the page; arguments of another program are not runs.
    """
    arguments = sys.argv[1:] if Path(sys.argv[0]).name == page else []
    locations = arguments or split_locations(os.environ.get(RUNS_VARIABLE, ""))
    if not locations:
        found = sorted(cache.glob("*.zarr"), key=lambda path: (path.name != FIRST, path.name))
        locations = [str(path) for path in found]
    names = [location.rstrip("/").rsplit("/", 1)[-1] for location in locations]
    return {
        name if names.count(name) == 1 else location: location
        for name, location in zip(names, locations, strict=True)
    }


def split_locations(text: str) -> list[str]:
    """Split at the separator of PATH, but not inside `s3://` nor before a port.

    Examples:
        >>> split_locations("a.zarr")
        ['a.zarr']
    """
    end = re.escape(os.pathsep)
    return re.findall(rf"(?:\w+://[^/{end}]*(?::\d+)?)?[^{end}]+", text)


def open_listed(location: str) -> Run:
    """A run, opened again only when it changed.

    Raises:
        NotARun, NewerSchema, CorruptRun: as `open_run`.
    """
    return _opened(location, _stamp(location))


def _stamp(location: str) -> tuple[int, int]:
    """Changes when units are committed to a local run, and when it is finished.

    Of the documents, not of their folders: those are there before. Runs elsewhere do not change.
    """
    folder = local_folder(location)
    if folder is None:
        return 0, 0
    finish = folder / FINISH_SEAL / METADATA
    if finish.is_file():
        return finish.stat().st_mtime_ns, 0
    return 0, sum(1 for _ in (folder / COMMITS).glob(f"*/{METADATA}"))


@st.cache_resource(max_entries=8, show_spinner="Opening the run …")
def _opened(location: str, stamp: tuple[int, int]) -> Run:
    run = open_run(location)
    run.read_ahead()
    freeze_what_is_there()
    return run


def options(run: Run, every: pd.DataFrame, stratum: Stratum, *, other: str = "") -> list[str]:
    """The values that a filter can take, listed once per run and comparison.

    Args:
        run: the run.
        every: all its positions, compared.
        stratum: of the filter.
        other: whom with; it decides which model got a problem right.
    """
    return _options(run.fingerprint, stratum.value, other, _every=every)


@st.cache_data(max_entries=256, show_spinner=False)
def _options(fingerprint: str, stratum: str, other: str, *, _every: pd.DataFrame) -> list[str]:
    return filters.options(_every, stratum)


@dataclass(frozen=True, kw_only=True)
class CellSettings:
    """What comparisons of a run and their cells depend on; names as in `Choice`."""

    other: str
    control: str | None
    decoding: Decoding
    kind_decoding: Decoding
    rule: KindRule
    quantities: tuple[str, ...]
    by: tuple[str, ...]


@dataclass(frozen=True)
class Left:
    """What filters leave.

    Attributes:
        positions: those that pass, with `LEFT_COLUMNS` alone: a session holds them.
        counts: of them.
        whole: of all positions.
    """

    positions: pd.DataFrame
    counts: Counts
    whole: Counts


def left(
    run: Run,
    every: pd.DataFrame,
    asked: Filters,
    *,
    other: str,
    rule: KindRule,
    kind_decoding: Decoding,
) -> Left:
    """What filters leave of a comparison, found once per run and settings.

    Args:
        run: the run.
        every: all its positions, compared.
        asked: the filters.
        other: whom with.
        rule: thresholds of the kinds.
        kind_decoding: under which they are taken.
    """
    return _left(run.fingerprint, asked, other, rule, kind_decoding, _every=every)


@st.cache_resource(max_entries=32, show_spinner=False)
def _left(
    fingerprint: str,
    asked: Filters,
    other: str,
    rule: KindRule,
    kind_decoding: Decoding,
    *,
    _every: pd.DataFrame,
) -> Left:
    passing = filters.kept(_every, filters=asked)
    positions = _every[LEFT_COLUMNS][passing]
    return Left(positions, filters.count(positions), filters.count(_every))


def result(
    run: Run,
    what: str,
    asked: TableSettings,
    make: Callable[[], Made],
    *,
    drawn: bool = True,
) -> Made:
    """Something small that hangs on these settings alone: made once, for every session.

    Args:
        run: the run.
        what: a name for it.
        asked: the settings.
        make: makes it.
        drawn: whether the drift null, if it has one, is known.
    """
    found: Made = _result(run.fingerprint, what, asked, drawn, _make=make)
    return found


@st.cache_data(max_entries=2048, show_spinner=False)
def _result(
    fingerprint: str, what: str, asked: TableSettings, drawn: bool, *, _make: Callable[[], Any]
) -> Any:
    return _make()


def standing(
    run: Run, *, other: str, control: str | None, rule: KindRule, kind_decoding: Decoding
) -> dict[str, pd.DataFrame]:
    """The comparisons without values, each pair computed once per run and settings.

    Frames are shared between sessions: do not write into them.
    """
    return _standings(run.fingerprint, other, control, rule, kind_decoding, _run=run)


@st.cache_resource(max_entries=8, show_spinner="Comparing the distributions …")
def _standings(
    fingerprint: str,
    other: str,
    control: str | None,
    rule: KindRule,
    kind_decoding: Decoding,
    *,
    _run: Run,
) -> dict[str, pd.DataFrame]:
    return tables.comparisons(
        other=other,
        control=control,
        pair=lambda name: _standing(fingerprint, name, rule, kind_decoding, _run=_run),
        kinds=lambda: _kinds_of_all(fingerprint, rule, kind_decoding, _run=_run),
    )


@st.cache_resource(max_entries=8, show_spinner="Comparing the distributions …")
def _standing(
    fingerprint: str, other: str, rule: KindRule, kind_decoding: Decoding, *, _run: Run
) -> pd.DataFrame:
    return tables.standing_table(_run, other=other, rule=rule, kind_decoding=kind_decoding)


def comparisons(
    run: Run, standing: Mapping[str, pd.DataFrame], settings: CellSettings
) -> dict[str, pd.DataFrame]:
    """The comparisons with the values of some quantities, each computed once per run and settings.

    Frames are shared between sessions: do not write into them.

    Args:
        run: the run.
        standing: the same without values.
        settings: everything that they depend on; strata held apart make no difference.
    """
    return _comparisons(run.fingerprint, replace(settings, by=()), _run=run, _standing=standing)


@st.cache_resource(max_entries=4, show_spinner="Comparing the distributions …")
def _comparisons(
    fingerprint: str,
    settings: CellSettings,
    *,
    _run: Run,
    _standing: Mapping[str, pd.DataFrame],
) -> dict[str, pd.DataFrame]:
    other, control = settings.other, settings.control
    decoding, rule = settings.decoding, settings.rule
    # All that values ask for in one reading, before they ask.
    others = [name for name in (other, control) if name is not None]
    tables.answer(_run, others, decoding=decoding, rule=rule, quantities=settings.quantities)

    def valued(name: str) -> pd.DataFrame:
        columns: dict[str, PerPosition] = {}
        # In the order of `comparison_table`: of models, then of pairs.
        for quantity in sorted(settings.quantities, key=lambda name: QUANTITIES[name].of):
            columns |= _values(fingerprint, name, decoding, rule, quantity, _run=_run)
        return with_columns(_standing[name], columns)

    return tables.comparisons(
        other=other,
        control=control,
        pair=valued,
        kinds=lambda: pd.Categorical(
            _standing[contrast_name(other, str(control))][kind_column(Assignment.MEAN)]
        ),
    )


def ranking(run: Run, asked: TableSettings, make: Callable[[], PositionIds]) -> PositionIds:
    """Rows of the run in the order of a ranking, found once per run and settings.

    Args:
        run: the run.
        asked: the settings of a list of positions.
        make: finds it.
    """
    return _ranking(run.fingerprint, asked, _make=make)


@st.cache_resource(max_entries=16, show_spinner=False)
def _ranking(
    fingerprint: str, asked: TableSettings, *, _make: Callable[[], PositionIds]
) -> PositionIds:
    return _make()


def held(
    run: Run,
    settings: CellSettings,
    compared: Callable[[], Mapping[str, pd.DataFrame]],
) -> dict[str, pd.DataFrame]:
    """The cells of every comparison, made once per run and settings.

    Args:
        run: the run.
        settings: everything that they depend on.
        compared: makes the comparisons, if cells must be made.
    """
    return _held(run.fingerprint, settings, _compared=compared)


@st.cache_resource(max_entries=12, show_spinner="Comparing the distributions …")
def _held(
    fingerprint: str,
    settings: CellSettings,
    *,
    _compared: Callable[[], Mapping[str, pd.DataFrame]],
) -> dict[str, pd.DataFrame]:
    # Which positions go together does not hang on the values.
    standing = replace(settings, decoding=Decoding(), quantities=())
    return {
        name: cells(
            frame,
            quantities=settings.quantities,
            divided=_division(fingerprint, name, standing, _frame=frame),
        )
        for name, frame in _compared().items()
    }


@st.cache_resource(max_entries=12, show_spinner=False)
def _division(
    fingerprint: str, name: str, standing: CellSettings, *, _frame: pd.DataFrame
) -> Division:
    return division(_frame, by=standing.by)


@st.cache_resource(max_entries=KEPT_VALUES, show_spinner="Comparing the distributions …")
def _values(
    fingerprint: str, other: str, decoding: Decoding, rule: KindRule, quantity: str, *, _run: Run
) -> dict[str, PerPosition]:
    return tables.value_columns(_run, other, decoding=decoding, rule=rule, quantities=[quantity])


@st.cache_resource(max_entries=16, show_spinner="Comparing the distributions …")
def _kinds_of_all(
    fingerprint: str, rule: KindRule, kind_decoding: Decoding, *, _run: Run
) -> "pd.Categorical[str]":
    return tables.kinds_of_all(_run, rule=rule, kind_decoding=kind_decoding)


def drift_null(run: Run, asked: DriftAsked) -> DriftNull:
    """The drift null of deltas by kind, computed once per run and settings."""
    found = _drift_null(run.fingerprint, asked, _run=run)
    _drawn().add((run.fingerprint, asked))
    return found


def is_drawn(run: Run, asked: DriftAsked) -> bool:
    """Whether the drift null was computed before, in whatever session."""
    return (run.fingerprint, asked) in _drawn()


@st.cache_resource
def _drawn() -> set[tuple[str, DriftAsked]]:
    return set()


@st.cache_data(max_entries=64, show_spinner="Drawing noise …")
def _drift_null(fingerprint: str, asked: DriftAsked, *, _run: Run) -> DriftNull:
    return tables.drift_null(_run, asked)


def mechanism(run: Run, names: tuple[str, ...], *, asked: Asked) -> Findings:
    """Evidence and verdict of a model and its control, computed once per run and settings."""
    return _mechanism(run.fingerprint, names, asked, _run=run)


@st.cache_data(max_entries=16, show_spinner="Weighing the evidence …")
def _mechanism(fingerprint: str, names: tuple[str, ...], asked: Asked, *, _run: Run) -> Findings:
    return tables.mechanism(_run, names, asked=asked)


def evidence_by_text(run: Run, names: tuple[str, ...], *, asked: Asked) -> pd.DataFrame:
    """The evidence on each generator's text, computed once per run and settings."""
    return _evidence_by_text(run.fingerprint, names, asked, _run=run)


@st.cache_data(max_entries=8, show_spinner="Weighing the evidence on each text …")
def _evidence_by_text(
    fingerprint: str, names: tuple[str, ...], asked: Asked, *, _run: Run
) -> pd.DataFrame:
    return tables.evidence_by_text(_run, names, asked=asked)


def beside_temperature(run: Run, other: str, found: Found, *, asked: Asked) -> pd.DataFrame:
    """Deltas against the baseline at T*, computed once per run and settings."""
    return _beside_temperature(run.fingerprint, other, asked, _run=run, _found=found)


@st.cache_data(max_entries=16, show_spinner="Taking the temperature out …")
def _beside_temperature(
    fingerprint: str, other: str, asked: Asked, *, _run: Run, _found: Found
) -> pd.DataFrame:
    return tables.beside_temperature(_run, other, _found, asked=asked)


def progress(run: Run, other: str, found: Found, *, asked: Asked) -> pd.DataFrame:
    """Progress towards the target by kind and event, computed once per run and settings."""
    return _progress(run.fingerprint, other, asked, _run=run, _found=found)


@st.cache_data(max_entries=16, show_spinner="Measuring the way to the target …")
def _progress(
    fingerprint: str, other: str, asked: Asked, *, _run: Run, _found: Found
) -> pd.DataFrame:
    return tables.progress_table(_run, other, _found, asked=asked)


def curves(run: Run, other: str, *, asked: CurvesAsked) -> CurveTables:
    """The curves of one comparison, computed once per run and settings."""
    return _curves(run.fingerprint, other, asked, _run=run)


@st.cache_data(max_entries=8, show_spinner="Taking every temperature …")
def _curves(fingerprint: str, other: str, asked: CurvesAsked, *, _run: Run) -> CurveTables:
    return tables.curve_tables(_run, other, asked=asked)


def sweep(run: Run, other: str, *, sweep: Sweep) -> pd.DataFrame:
    """One threshold over its values, computed once per run and settings."""
    return _sweep(run.fingerprint, other, sweep, _run=run)


@st.cache_data(max_entries=16, show_spinner="Moving the threshold …")
def _sweep(fingerprint: str, other: str, sweep: Sweep, *, _run: Run) -> pd.DataFrame:
    return tables.sweep_table(_run, other, sweep=sweep)


def multiverse(run: Run, other: str) -> pd.DataFrame:
    """The multiverse of one comparison, computed once per run."""
    return _multiverse(run.fingerprint, other, _run=run)


@st.cache_data(max_entries=8, show_spinner="Combining the settings …")
def _multiverse(fingerprint: str, other: str, *, _run: Run) -> pd.DataFrame:
    return tables.multiverse_table(_run, other)


def carrier_text(run: Run, index: int) -> carrier.CarrierText:
    """One response in pieces, cut once per run."""
    return _carrier_text(run.fingerprint, index, _run=run)


@st.cache_data(max_entries=32, show_spinner=False)
def _carrier_text(fingerprint: str, index: int, *, _run: Run) -> carrier.CarrierText:
    return carrier.carrier_text(_run, index)
