"""The command `probing carriers`: logs of any format in, carriers out."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pandas as pd
import typer

from probing.cli.console import SkippedRecords, err, out, print_table
from probing.errors import Interrupted
from probing.settings import Grading, Inputs, require
from probing.vocabulary import Template

if TYPE_CHECKING:
    from probing.carriers.reading import CarrierStream
    from probing.carriers.record import Carrier, FileCounts
    from probing.carriers.writing import CarrierWriter

FormatOption = Annotated[
    str,
    typer.Option("--format", help="carrier, chat, lm-eval, batch, ml-ssd, inspect; auto tells."),
]
GeneratorOption = Annotated[
    str | None, typer.Option(help="Who wrote responses whose log does not say so.")
]
NameOption = Annotated[
    list[str] | None,
    typer.Option("--name", metavar="LOGGED=NAME", help="Another name for a generator; repeatable."),
]
TemplateOption = Annotated[
    Template | None, typer.Option(help="How prompts become text, whatever the log says.")
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="FIELD=COLUMN", help="Where a field stands; repeatable."),
]


def inputs_of(
    *,
    form: str,
    generator: str | None,
    names: Sequence[str] | None,
    template: Template | None,
    columns: Sequence[str] | None,
) -> Inputs:
    """How logs are read, from the options.

    Raises:
        UsageFault: an option is not of its form.
    """
    return Inputs(
        format=form,
        generator=generator,
        names=_pairs("--name", names),
        template=template,
        columns=_pairs("--column", columns),
    )


def _pairs(option: str, given: Sequence[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in given or ():
        first, equals, second = pair.partition("=")
        require(bool(first and equals and second), f"{option} takes ONE=OTHER", pair)
        found[first] = second
    return found


def carriers(
    inputs: Annotated[
        list[str], typer.Argument(metavar="IN…", help="Logs: files, folders, globs or URLs.")
    ],
    output: Annotated[Path | None, typer.Option("--out", "-o", help="Write them here.")] = None,
    form: FormatOption = Inputs.format,
    generator: GeneratorOption = None,
    name: NameOption = None,
    template: TemplateOption = None,
    column: ColumnOption = None,
    graded: Annotated[
        bool, typer.Option("--grade/--no-grade", help="Grade what has a gold answer and no grade.")
    ] = True,
    regrade: Annotated[
        bool, typer.Option("--regrade", help="Grade anew what records bring a grade for.")
    ] = Grading.regrade,
    grader: Annotated[
        str, typer.Option(metavar="NAME", help="math-verify, exact, or a package's own.")
    ] = Grading.grader,
    seconds_per_answer: Annotated[
        float, typer.Option(metavar="N", help="An answer that takes longer stays ungraded.")
    ] = Grading.seconds,
    skipped: Annotated[
        Path | None, typer.Option(help="Write every skipped record to this CSV file.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad record.")] = False,
) -> None:
    """Read responses, grade them, and show what they are: kept, skipped, rates per generator.

    Formats are told by content: our own carriers, chats, lm-evaluation-harness, Inspect, batches of
    OpenAI and vLLM, tables of hubs; plain, .gz or .zst. docs/inputs.md has a line of each.
    """
    from probing.carriers.grading import GradedStream, RatesTally, grade_stream
    from probing.carriers.reading import CarrierStream
    from probing.carriers.writing import CarrierWriter

    require(graded or not regrade, "--regrade cannot go with --no-grade", "both")
    how = inputs_of(form=form, generator=generator, names=name, template=template, columns=column)
    grading = Grading(grader=grader, seconds=seconds_per_answer, regrade=regrade)
    stream, rates = CarrierStream(inputs, inputs=how, strict=strict), RatesTally()
    left_out = SkippedRecords(skipped)
    writer = None if output is None else CarrierWriter(output)
    with left_out, _interruptible(writer), contextlib.ExitStack() as stack:
        kept = _kept(stream, left_out)
        given = stack.enter_context(grade_stream(kept, grading)) if graded else kept
        if writer is not None:
            stack.enter_context(writer)
        for carrier in given:
            rates.add(carrier)
            if writer is not None:
                writer.add(carrier)
    for note in stream.notes:
        err.print(f"note: {note}", markup=False)
    _print_files(stream.files, skipped=left_out.records)
    if isinstance(given, GradedStream):
        for sentence in given.report.sentences():
            out.print(sentence, markup=False)
    print_table(pd.DataFrame([dataclasses.asdict(row) for row in rates.rows()]))
    if output is not None:
        out.print(f"wrote {output}", markup=False)


@contextlib.contextmanager
def _interruptible(writer: "CarrierWriter | None") -> Iterator[None]:
    """Say at Ctrl-C what there is of the file.

    Raises:
        Interrupted: it was pressed.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        to = "" if writer is None else f" to {writer.path}"
        left = "all was written" if writer is not None and writer.whole else "nothing was written"
        raise Interrupted(f"interrupted; {left}{to}") from error


def _print_files(files: "Sequence[FileCounts]", *, skipped: int) -> None:
    """What every file gave that was read, and how many were not."""
    counts = pd.DataFrame([dataclasses.asdict(each) for each in files])
    read, left_out = counts[counts["left_out"] == 0], int(counts["left_out"].sum())
    print_table(read.drop(columns="left_out"))
    records = f"{read['records'].sum()} records read, {read['kept'].sum()} kept, {skipped} skipped"
    out.print(records if not left_out else f"{records}; files left out: {left_out}")


def _kept(stream: "CarrierStream", left_out: SkippedRecords) -> "Iterator[Carrier]":
    """The carriers of a stream; what was left out goes to the list of that."""
    from probing.carriers.record import Skipped

    for outcome in stream:
        if isinstance(outcome, Skipped):
            left_out.add(outcome)
        else:
            yield outcome
