"""The command line: Typer commands over the rooms; the only place that prints."""

import sys
from typing import Annotated

import typer

from probing.cli import inputs, judging, labelling, planning, reading, scoring, serving, sweeping
from probing.cli.console import (
    EXIT_FAULT,
    EXIT_INTERRUPTED,
    EXIT_STOPPED,
    EXIT_USAGE,
    inert_logs,
    print_traceback,
    report_fault,
    report_refusal,
)
from probing.errors import Interrupted

__all__ = ["EXIT_FAULT", "EXIT_STOPPED", "EXIT_USAGE", "app", "main"]

Refusal = typer.BadParameter.__mro__[1]
"""What the parser raises for a word it does not know; Typer has no public name for it."""

app = typer.Typer(
    name="probing",
    help="What fine-tuning did to a language model, token by token.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """What fine-tuning did to a language model, token by token."""


for command in (
    scoring.demo,
    scoring.score,
    planning.with_plan(inputs.carriers),
    scoring.verify,
    reading.summary,
    reading.positions,
    reading.examples,
    judging.verdict,
    judging.report,
    labelling.labels,
    sweeping.sweep,
    sweeping.multiverse,
    serving.dashboard,
    serving.doctor,
):
    app.command()(command)


def main() -> None:
    """Run the command line; a fault becomes one message and an exit code."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        with inert_logs():
            code = app(arguments, prog_name="probing", standalone_mode=False)
        if code == EXIT_INTERRUPTED:  # Typer makes this of Ctrl-C, and says nothing.
            report_fault(Interrupted("interrupted"))
        sys.exit(code)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(report_fault(Interrupted("interrupted")))
    except Exception as error:  # the last resort: every fault becomes a message
        if debug:
            print_traceback()
        refused = isinstance(error, Refusal)
        sys.exit(report_refusal(error) if refused else report_fault(error))
