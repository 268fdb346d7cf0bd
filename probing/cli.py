"""The command line: Typer commands over the rooms; the only place that prints."""

import dataclasses
import io
import math
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from probing.carriers.record import Skipped
from probing.errors import OutsideContract, ProbingError, StoppedEarly, UsageFault
from probing.settings import (
    DEFAULT_ASSIGNMENT,
    KIND_PRESETS,
    Decoding,
    KindRule,
    RunSettings,
    load_run_file,
    parse_run_file,
    require,
    run_settings,
)
from probing.vocabulary import Assignment, Stratum

app = typer.Typer(
    name="probing",
    help="What fine-tuning did to a language model, token by token.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
SIGNED = frozenset({"delta", "low", "high"})
NARROWEST = 110
"""Columns of text that output which goes to no terminal may use."""
# Sentences are never cut into lines here: a terminal wraps them, and a pipe gets them whole.
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else NARROWEST)
err = Console(stderr=True, highlight=False, soft_wrap=True)

EXIT_FAULT, EXIT_USAGE, EXIT_STOPPED, EXIT_INTERRUPTED = 1, 2, 3, 130

PAGE = "streamlit_app.py"
REPOSITORY = Path(__file__).resolve().parent.parent
DEMO_RUN_FILE = Path("examples/ssd_smollm2/demo.toml")
BUNDLED_RUN_FILE = Path("examples/ssd_smollm2/bundled.toml")

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Folder or URL of a run.")]
OtherOption = Annotated[
    str | None, typer.Option("--other", help="Which other model; the first when left out.")
]
TemperatureOption = Annotated[
    float, typer.Option("--temperature", "-T", help="Sampling temperature; 0 is greedy.")
]
TopKOption = Annotated[int, typer.Option(help="Keep the k likeliest tokens; 0 switches it off.")]
TopPOption = Annotated[float, typer.Option(help="Keep the nucleus of this mass; 1 is all.")]
PresetOption = Annotated[str, typer.Option(help=f"Thresholds: {', '.join(KIND_PRESETS)}.")]
AssignmentOption = Annotated[
    Assignment, typer.Option(help="Whose distribution gives a position its kind.")
]
CsvOption = Annotated[Path | None, typer.Option("--csv", help="Write a CSV file instead.")]
ByOption = Annotated[list[Stratum] | None, typer.Option("--by", help="Group by; repeatable.")]
DEFAULT, DEFAULT_RULE = Decoding(), KindRule()

SUMMARY_COLUMNS = (
    "quantity", "baseline", "other", "delta", "low", "high", "positions", "problems", "missing",
)  # fmt: skip
POSITION_COLUMNS = (
    "carrier_id", "position", "token", "model", "kind", "top1_prob", "nucleus_size", "tail_mass",
    "entropy_nats",
)  # fmt: skip
EXAMPLE_COLUMNS = [
    "rank", "baseline_token", "baseline_prob", "baseline_kept_prob", "other_token", "other_prob",
    "other_kept_prob", "rank_change",
]  # fmt: skip
MOST_ROWS = 60
"""Rows of a table that a terminal is shown; a file gets them all."""


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """What fine-tuning did to a language model, token by token."""


@app.command()
def demo(
    bundled: Annotated[
        bool, typer.Option("--bundled", help="Make cache/bundled.zarr, the small run that ships.")
    ] = False,
) -> None:
    """Score the demo pair on its committed responses and print what training did."""
    from probing.scoring.bundled import bundled_model

    run_file = BUNDLED_RUN_FILE if bundled else DEMO_RUN_FILE
    require(
        run_file.exists(),
        "the demo runs in a clone of the repository, where its data live; cd there first",
        str(Path.cwd()),
    )
    settings = load_run_file(run_file)
    with err.status("Preparing the demo model (converted once, then reused) …"):
        bundled_model(Path("cache"))
    _score(settings)
    summary(settings.out, by=[Stratum.KIND])


@app.command()
def score(
    run_file: Annotated[
        Path | None, typer.Argument(metavar="[RUN_FILE]", help="See examples/run.toml.")
    ] = None,
    carriers: Annotated[
        list[str] | None, typer.Option(help="Carrier file; may be given several times.")
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="Folder of the baseline.")] = None,
    other: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FOLDER", help="A full checkpoint.")
    ] = None,
    adapter: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FOLDER", help="A LoRA over the baseline.")
    ] = None,
    output: Annotated[str | None, typer.Option("--out", "-o", help="Where the run goes.")] = None,
) -> None:
    """Run every model at the chosen positions and store what is needed for any temperature.

    A run file says it all; the flags build a small one, or replace its `out` and `carriers`.
    A stopped run goes on with the same command.
    """
    flags = {"carriers": carriers, "baseline": baseline, "out": output}
    _score(_settings_from(run_file, flags=flags, others=other or [], adapters=adapter or []))


@app.command()
def verify(run: RunArgument) -> None:
    """Compare every object of a run with its digest."""
    from probing.store.verify import verify as verify_run

    report = verify_run(run)
    for fault in report.faults:
        out.print(Text(str(fault), style="red"))
    out.print(report.sentence())
    if report.faults:
        raise typer.Exit(EXIT_FAULT)


@app.command()
def carriers(
    inputs: Annotated[list[str], typer.Argument(metavar="IN…", help="Carrier files or folders.")],
    output: Annotated[Path | None, typer.Option("--out", "-o", help="Write them here.")] = None,
    graded: Annotated[
        bool, typer.Option("--grade/--no-grade", help="Grade what has a gold answer and no grade.")
    ] = True,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad record.")] = False,
) -> None:
    """Read responses, grade them, and show what they are: kept, skipped, rates per generator."""
    from probing.carriers.grading import generator_rates, grade
    from probing.carriers.reading import read_carriers
    from probing.carriers.writing import write_carriers

    result = read_carriers(inputs, strict=strict)
    kept = grade(result.carriers) if graded else result.carriers
    _print_skipped(result.skipped)
    out.print(f"{result.rows_read} records read, {len(kept)} kept, {len(result.skipped)} skipped")
    _print_table(pd.DataFrame([dataclasses.asdict(row) for row in generator_rates(kept)]))
    if output is not None:
        write_carriers(kept, output)
        out.print(f"wrote {output}", markup=False)


@app.command()
def summary(
    run: RunArgument,
    by: ByOption = None,
    other: OtherOption = None,
    temperature: TemperatureOption = DEFAULT.temperature,
    top_k: TopKOption = DEFAULT.top_k,
    top_p: TopPOption = DEFAULT.top_p,
    preset: PresetOption = DEFAULT_RULE.preset,
    assignment: AssignmentOption = DEFAULT_ASSIGNMENT,
    csv: CsvOption = None,
) -> None:
    """Mean deltas (other - baseline) of every group, with intervals that resample problems."""
    from probing.reporting.tables import comparison_table, delta_table
    from probing.store.reader import open_run

    opened = open_run(run)
    name = other or opened.model_names[1]
    decoding = Decoding(temperature=temperature, top_k=top_k, top_p=top_p)
    comparison = comparison_table(opened, other=name, decoding=decoding, rule=_rule(preset))
    groups = by or [Stratum.KIND]
    table = delta_table(comparison, by=groups, assignment=assignment)
    _say_incomplete(opened)
    out.print(f"{name} - {opened.model_names[0]}, {decoding}", markup=False)
    _show_or_write(table, csv, shown=[*map(str, groups), *SUMMARY_COLUMNS])
    if csv is None:
        for note in _notes(table, groups):
            out.print(f"note: {note}", markup=False)


def _notes(table: pd.DataFrame, groups: Sequence[Stratum]) -> list[str]:
    """What a reader of the table must know: which groups are small, and what selects itself."""
    noted = table[table["note"] != ""].drop_duplicates([*map(str, groups), "note"])
    names = noted[[str(group) for group in groups]].agg(" / ".join, axis=1)
    lines = [f"{name}: {note}" for name, note in zip(names, noted["note"], strict=True)]
    return [*lines, "baseline_top1_prob is negative by selection: no finding by itself"]


def _say_incomplete(run: Any) -> None:
    # A `Run`; importing it here would make every `--help` wait for zarr.
    if not run.complete:
        units = f"{len(run.committed)} of {len(run.plan.units)} units"
        err.print(f"note: {run.location} is incomplete: {units} are scored", markup=False)


@app.command()
def positions(
    run: RunArgument,
    temperature: TemperatureOption = DEFAULT.temperature,
    top_k: TopKOption = DEFAULT.top_k,
    top_p: TopPOption = DEFAULT.top_p,
    preset: PresetOption = DEFAULT_RULE.preset,
    csv: CsvOption = None,
    parquet: Annotated[Path | None, typer.Option(help="Write a Parquet file instead.")] = None,
) -> None:
    """Every position under every model, one row each, with all statistics."""
    from probing.reporting.tables import position_table
    from probing.store.reader import open_run

    decoding = Decoding(temperature=temperature, top_k=top_k, top_p=top_p)
    opened = open_run(run)
    _say_incomplete(opened)
    table = position_table(opened, decoding=decoding, rule=_rule(preset))
    if parquet is not None:
        whole = io.BytesIO()
        table.to_parquet(whole, index=False)
        _write(parquet, whole.getvalue())
    if parquet is None or csv is not None:
        _show_or_write(table, csv, shown=POSITION_COLUMNS)


@app.command()
def examples(
    run: RunArgument,
    rank_by: Annotated[str, typer.Option("--by", help="Quantity whose delta ranks.")] = "top1_prob",
    order: Annotated[
        str, typer.Option(help="largest change, largest increase, largest decrease, random.")
    ] = ("largest change"),
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the random order.")] = 0,
    other: OtherOption = None,
    temperature: TemperatureOption = DEFAULT.temperature,
    top_k: TopKOption = DEFAULT.top_k,
    top_p: TopPOption = DEFAULT.top_p,
    csv: CsvOption = None,
) -> None:
    """Single positions: the text around them and both models' top tokens side by side."""
    from probing.reporting import tables
    from probing.reporting.display import place_text
    from probing.reporting.examples import Order
    from probing.reporting.quantities import QUANTITIES
    from probing.store.reader import open_run

    require(rank_by in QUANTITIES, f"--by takes {', '.join(QUANTITIES)}", rank_by)
    orders = [item.value for item in Order]
    require(order in orders, f"--order takes {', '.join(orders)}", order)
    opened = open_run(run)
    name = other or opened.model_names[1]
    decoding = Decoding(temperature=temperature, top_k=top_k, top_p=top_p)
    comparison = tables.comparison_table(opened, other=name, decoding=decoding, rule=DEFAULT_RULE)
    chosen = tables.ranked_positions(comparison, by=rank_by, order=Order(order), seed=seed)[:count]
    found = []
    for _, position in chosen.iterrows():
        row = int(position["row"])
        table = tables.example_table(opened, row, other=name, decoding=decoding)
        found.append(table.assign(row=row, carrier_id=position["carrier_id"]))
        if csv is None:
            out.rule()
            out.print(Text(place_text(position)))
            out.print(Text(tables.shown_context(opened, row)))
            _print_table(table[EXAMPLE_COLUMNS])
    if csv is not None:
        _show_or_write(pd.concat(found, ignore_index=True), csv, shown=EXAMPLE_COLUMNS)


@app.command()
def dashboard(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN…]", help="Runs to show.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port on the loopback address.")] = 8501,
) -> None:
    """Serve the dashboard; without RUN it lists the runs in cache/."""
    found = [folder for folder in (Path.cwd(), REPOSITORY) if (folder / PAGE).exists()]
    require(bool(found), f"{PAGE} lies in the repository; start this in a clone", str(Path.cwd()))
    places = [run if "://" in run else str(Path(run).resolve()) for run in runs or []]
    command = [sys.executable, "-m", "streamlit", "run", PAGE, "--server.port", str(port)]
    os.chdir(found[0])  # streamlit reads .streamlit/config.toml of the folder it starts in
    os.execv(sys.executable, [*command, "--", *places])


@app.command()
def doctor() -> None:
    """Say what this machine has: packages, device, disk, runs, and what each is needed for."""
    from probing.doctor import findings

    _print_table(pd.DataFrame(findings(), columns=["what", "found", "needed for"]))


def _settings_from(
    run_file: Path | None,
    *,
    flags: dict[str, Any],
    others: Sequence[str],
    adapters: Sequence[str],
) -> RunSettings:
    """Run settings from a file, from flags, or from a file whose fields flags replace."""
    given = {key: value for key, value in flags.items() if value}
    if run_file is None and not (given or others or adapters):
        raise UsageFault(
            "probing score needs a RUN_FILE (see examples/run.toml), or the flags "
            "--out, --carriers, --baseline and --other or --adapter"
        )
    document: dict[str, Any] = parse_run_file(run_file) if run_file is not None else {}
    document |= {key: given[key] for key in ("out", "carriers") if key in given}
    if "baseline" in given:
        document["baseline"] = {"path": given["baseline"]}
    models = {}
    for kind, pairs in (("path", others), ("adapter", adapters)):
        for pair in pairs:
            name, equals, folder = pair.partition("=")
            require(bool(name and equals and folder), "a model is given as NAME=FOLDER", pair)
            models[name] = {kind: folder}
    if models:
        document["others"] = models
    return run_settings(document, where=str(run_file or "the command line"))


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
        )
        self._task = self._bar.add_task("scoring", total=None, speed="")

    def __enter__(self) -> "BarProgress":
        """The bar is shown once `start` says how long it is."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bar as it stands."""
        self._bar.stop()

    def start(self, total_positions: int) -> None:
        """Positions there are to score in this session."""
        self._bar.update(self._task, total=total_positions)
        self._bar.start()

    def advance(self, positions: int) -> None:
        """So many more are scored."""
        self._bar.advance(self._task, positions)
        speed = self._bar.tasks[0].speed
        self._bar.update(self._task, speed=f"{speed:,.0f}/s" if speed else "")

    def note(self, text: str) -> None:
        """One line above the bar."""
        err.print(text, markup=False)


def _score(settings: RunSettings) -> None:
    from probing.scoring.run import score as score_run

    with BarProgress() as progress:
        report = score_run(settings, progress=progress)
    _print_skipped(report.skipped)
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in report.counts.items())
    reused = f" ({report.reused_units} reused)" if report.reused_units else ""
    for line in (
        *(
            f"{change.name}: {change.changed_stored:.1%} of its weights changed, "
            f"{change.changed_cast:.1%} once cast (of a LoRA: of its B matrices)"
            for change in report.changes
        ),
        *(
            f"{check.name}: two passes against one differ by {check.difference:.1e} alone, "
            f"{check.shape_difference:.1e} in a batch"
            for check in report.checks
        ),
        f"carriers: {counts}",
        f"{report.out}: {report.units} units{reused}, models {' / '.join(report.models)}",
    ):
        out.print(line, markup=False)


def _rule(preset: str) -> KindRule:
    require(preset in KIND_PRESETS, f"--preset takes {', '.join(KIND_PRESETS)}", preset)
    return KIND_PRESETS[preset]


def _print_skipped(skipped: Sequence[Skipped]) -> None:
    for item in skipped:
        place = f"{item.file}:{item.line}" if item.line else f"carrier {item.file}"
        err.print(f"skipped {place}: {item.reason}: {item.detail}", markup=False)


def _print_table(frame: pd.DataFrame) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in frame.columns:
        numeric = pd.api.types.is_numeric_dtype(frame[name])
        table.add_column(Text(str(name)), justify="right" if numeric else "left", overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*(Text(_cell(n, v)) for n, v in zip(frame.columns, row, strict=True)))
    out.print(table, soft_wrap=False)


def _cell(name: str, value: object) -> str:
    from probing.reporting.display import NOT_MEASURED, signed
    from probing.reporting.text import visible

    if name in SIGNED:
        return signed(value)
    if isinstance(value, str):
        # No escape sequence of a model reaches the terminal, and no space of a token is lost.
        return visible(value) if "token" in name else value
    if value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return NOT_MEASURED
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _show_or_write(frame: pd.DataFrame, csv: Path | None, *, shown: Sequence[str]) -> None:
    from probing.reporting.export import csv_text

    if csv is not None:
        _write(csv, csv_text(frame).encode())
        return
    _print_table(frame[list(shown)].head(MOST_ROWS))
    if len(frame) > MOST_ROWS:
        out.print(f"… {MOST_ROWS} of {len(frame)} rows; --csv FILE writes them all")


def _write(path: Path, data: bytes) -> None:
    from probing.carriers.writing import write_whole

    write_whole(data, path)
    out.print(f"wrote {path}", markup=False)


def main() -> None:
    """Run the command line; a fault becomes one message and an exit code."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(arguments)
    except KeyboardInterrupt:
        err.print("interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:  # the last resort: every fault becomes a message
        if debug:
            traceback.print_exc()
        sys.exit(_report(error))


def _report(error: Exception) -> int:
    """Print one fault and return its exit code."""
    if not isinstance(error, ProbingError):
        err.print(f"unexpected {type(error).__name__}: {error}", markup=False)
        err.print("this is a fault of probing itself; run again with --debug for a traceback")
        return EXIT_FAULT
    err.print(f"error: {error}", markup=False)
    if isinstance(error, UsageFault | OutsideContract):
        return EXIT_USAGE
    return EXIT_STOPPED if isinstance(error, StoppedEarly) else EXIT_FAULT


if __name__ == "__main__":
    main()
