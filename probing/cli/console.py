"""The terminal: what is printed, how a table looks there, and how a fault ends the command."""

import contextlib
import csv
import io
import logging
import math
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from probing.carriers.record import Skipped
from probing.errors import Interrupted, OutsideContract, ProbingError, StoppedEarly, UsageFault
from probing.reporting.text import plain, sentence, shown_token

EXIT_FAULT, EXIT_USAGE, EXIT_STOPPED, EXIT_INTERRUPTED = 1, 2, 3, 130
MOST_ROWS = 60
"""Rows of a table that a terminal is shown; a file gets them all."""

NARROWEST = 240
"""Columns of text that output which goes to no terminal may use: no table needs more."""


class Terminal(Console):
    """A console to which no text that is printed can give a command, whoever wrote it.

    Sentences are never cut into lines here: a terminal wraps them, and a pipe gets them whole.
    """

    def __init__(self, **options: Any) -> None:
        """As of `Console`; a text is never markup."""
        super().__init__(highlight=False, markup=False, emoji=False, soft_wrap=True, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """As of `Console`, with nothing hidden: a string is one line, a `Text` may have several."""
        super().print(*map(_inert, objects), **options)


def _inert(what: Any) -> Any:
    if isinstance(what, Text):
        return Text(plain(what.plain), style=what.style)
    return sentence(what) if isinstance(what, str) else what


out = Terminal(width=None if sys.stdout.isatty() else NARROWEST)
err = Terminal(stderr=True)


class _InertRecord(logging.LogRecord):
    """What is logged, as a terminal can be told it."""

    def getMessage(self) -> str:  # noqa: N802, of the standard library
        """The message with nothing in it hidden."""
        return sentence(super().getMessage())


@contextlib.contextmanager
def inert_logs() -> Iterator[None]:
    """Whatever is logged or warned of, here or in a library, gives the terminal no command."""
    usual = logging.getLogRecordFactory()
    logging.setLogRecordFactory(_InertRecord)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            yield
    finally:
        logging.setLogRecordFactory(usual)


def _show_warning(
    message: Warning | str, category: type[Warning], *_: object, **__: object
) -> None:
    err.print(f"{category.__name__}: {message}")


def print_traceback() -> None:
    """Where the fault came from that is being handled."""
    err.print(Text(traceback.format_exc().rstrip("\n")))


SPEED_OVER_SECONDS = 3600.0


class BarProgress:
    """Scoring's progress on the terminal: positions, positions/s, time left."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("scoring"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("positions"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=err,
            # Positions come a unit at a time: the default of 30 s would see one step or none.
            speed_estimate_period=SPEED_OVER_SECONDS,
        )
        self._task = self._bar.add_task("scoring", total=None, speed="")

    def __enter__(self) -> "BarProgress":
        """The bar is shown once `start` says how long it is."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bar as it stands."""
        self._bar.stop()

    def start(self, total_positions: int, *, stored: int) -> None:
        """Positions of the run, and those stored by an earlier call: they count for no speed."""
        self._bar.reset(self._task, total=total_positions, completed=stored)
        self._bar.start()

    def advance(self, positions: int) -> None:
        """So many more are scored."""
        self._bar.advance(self._task, positions)
        speed = self._bar.tasks[0].speed
        self._bar.update(self._task, speed=f"{speed:,.0f}/s" if speed else "")

    def note(self, text: str) -> None:
        """One line above the bar."""
        err.print(text, markup=False)


SHOWN_OF_A_REASON = 5
"""So many skipped records of a file and reason are shown one by one; the others are counted."""


class SkippedRecords:
    """What was left out: all counted, the first of each sort shown, all in a file.

    In a `with`, it is told at the end, whatever ends it.

    Attributes:
        records: how many, files that were left out whole aside.
    """

    def __init__(self, target: Path | None = None) -> None:
        self.records, self._target = 0, target
        self._shown: dict[tuple[str, str], list[Skipped]] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._rows = io.StringIO()
        self._writer = csv.writer(self._rows)
        self._writer.writerow(["file", "line", "reason", "detail"])

    def add(self, item: Skipped) -> None:
        """One more."""
        self.records += item.line > 0
        sort = (item.file if item.line else "", item.reason)
        self._counts[sort] += 1
        if self._counts[sort] <= SHOWN_OF_A_REASON:
            self._shown.setdefault(sort, []).append(item)
        if self._target is not None:
            from probing.reporting.export import neutral

            file, reason, detail = map(neutral, (item.file, item.reason, item.detail))
            self._writer.writerow([file, item.line, reason, detail])

    def __enter__(self) -> "SkippedRecords":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self.print()
        except ProbingError as fault:
            if error is None:
                raise
            report_fault(fault)  # It hides nothing that was there before.

    def print(self) -> None:
        """Where and why; of many of a sort, how many more. Writes the file that was asked for."""
        for sort, items in self._shown.items():
            for item in items:
                err.print(f"skipped {item}", markup=False)
            more = self._counts[sort] - len(items)
            if more:
                where = f" in {sort[0]}" if sort[0] else ""
                err.print(f"skipped {more:,} more{where}: {sort[1]}", markup=False)
        if self._target is not None:
            write(self._target, self._rows.getvalue().encode())


def print_skipped(skipped: Sequence[Skipped]) -> None:
    """Where and why records were skipped."""
    records = SkippedRecords()
    for item in skipped:
        records.add(item)
    records.print()


Formats = Mapping[str, Callable[[Any], str]]
"""By column, how its values are shown."""


def print_table(
    frame: pd.DataFrame, *, formats: Formats = MappingProxyType({}), tight: bool = False
) -> None:
    """A table, numbers to the right, texts never as markup.

    Args:
        frame: what is shown.
        formats: of columns of figures that are not shown as numbers of four digits.
        tight: one space between columns instead of two.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=tight)
    for name in frame.columns:
        numeric = name in formats or pd.api.types.is_numeric_dtype(frame[name])
        table.add_column(
            Text(sentence(str(name))), justify="right" if numeric else "left", overflow="fold"
        )
    for row in frame.itertuples(index=False):
        cells = zip(frame.columns, row, strict=True)
        texts = (formats.get(name, partial(_cell, name))(value) for name, value in cells)
        table.add_row(*(Text(sentence(text)) for text in texts))
    out.print(table, soft_wrap=False)


def _cell(name: str, value: object) -> str:
    from probing.reporting.display import NOT_MEASURED

    if isinstance(value, str):
        # No space of a token is lost, and no token is longer than one can look at.
        return shown_token(value) if "token" in name else value
    if value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return NOT_MEASURED
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def show_or_write(frame: pd.DataFrame, csv: Path | None, *, shown: Sequence[str]) -> None:
    """All of a table to a CSV file, or some columns of its first rows to the terminal."""
    from probing.reporting.export import csv_text

    if csv is not None:
        write(csv, csv_text(frame).encode())
        return
    print_table(frame[list(shown)].head(MOST_ROWS))
    if len(frame) > MOST_ROWS:
        out.print(f"… {MOST_ROWS} of {len(frame)} rows; --csv FILE writes them all")


def write(path: Path, data: bytes) -> None:
    """A whole file, or none; said beside what a command prints, not in it."""
    from probing.carriers.writing import write_whole

    write_whole(data, path)
    err.print(f"wrote {path}", markup=False)


def report_refusal(error: Any) -> int:
    """Print what the parser does not take, with the help to look at, and return the exit code.

    Args:
        error: a usage error of the parser; without a message where it has shown the help.
    """
    message = error.format_message().replace("Value error, ", "").rstrip(".")
    command = error.ctx.command_path if error.ctx is not None else "probing"
    if message:
        err.print(f"error: {message[0].lower()}{message[1:]}; see `{command} --help`")
    return EXIT_USAGE


def report_fault(error: Exception) -> int:
    """Print one fault, after what was left out before it, and return its exit code."""
    if isinstance(error, ProbingError):
        print_skipped(error.skipped)
    if isinstance(error, Interrupted):
        err.print(str(error), markup=False)
        return EXIT_INTERRUPTED
    if not isinstance(error, ProbingError):
        err.print(f"unexpected {type(error).__name__}: {error}", markup=False)
        err.print("this is a fault of probing itself; run again with --debug for a traceback")
        return EXIT_FAULT
    err.print(f"error: {error}", markup=False)
    if isinstance(error, UsageFault | OutsideContract):
        return EXIT_USAGE
    return EXIT_STOPPED if isinstance(error, StoppedEarly) else EXIT_FAULT
