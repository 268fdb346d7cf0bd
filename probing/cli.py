"""The command line: Typer commands over the rooms; the only place that prints."""

import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from probing.errors import ProbingError, StoppedEarly, UsageFault
from probing.settings import (
    DEFAULT_ASSIGNMENT,
    KIND_PRESETS,
    Decoding,
    KindRule,
    RunSettings,
    load_run_file,
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
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

EXIT_FAULT, EXIT_USAGE, EXIT_STOPPED, EXIT_INTERRUPTED = 1, 2, 3, 130

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
DEFAULT = Decoding()


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
        out.print(f"[red]{fault}[/red]", markup=True)
    out.print(report.sentence())
    if report.faults:
        raise typer.Exit(EXIT_FAULT)


@app.command()
def summary(
    run: RunArgument,
    by: Annotated[list[Stratum] | None, typer.Option(help="Group by; may be repeated.")] = None,
    other: OtherOption = None,
    temperature: TemperatureOption = DEFAULT.temperature,
    top_k: TopKOption = DEFAULT.top_k,
    top_p: TopPOption = DEFAULT.top_p,
    preset: PresetOption = "post",
    assignment: AssignmentOption = DEFAULT_ASSIGNMENT,
    csv: CsvOption = None,
) -> None:
    """Aggregate deltas (other - baseline) with 95 % intervals that resample problems."""
    from probing.reporting.tables import comparison_table, delta_table
    from probing.store.reader import open_run

    decoding = Decoding(temperature=temperature, top_k=top_k, top_p=top_p)
    opened = open_run(run)
    comparison = comparison_table(
        opened, other=_other_name(opened, other), decoding=decoding, rule=_rule(preset)
    )
    table = delta_table(comparison, by=by or [Stratum.KIND], assignment=assignment)
    _show_or_write(table, csv, title=f"{run}: deltas at {decoding}")


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
    if isinstance(error, UsageFault):
        return EXIT_USAGE
    return EXIT_STOPPED if isinstance(error, StoppedEarly) else EXIT_FAULT
