"""The command `probing carriers`: logs of any format in, carriers out."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pandas as pd
import typer

from probing.cli.console import SkippedRecords, err, out, print_table
from probing.settings import Grading, Inputs, require
from probing.vocabulary import Template

if TYPE_CHECKING:
    from probing.carriers.reading import CarrierStream
    from probing.carriers.record import Carrier

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
    stream, left_out, rates = (
        CarrierStream(inputs, inputs=how, strict=strict),
        SkippedRecords(skipped),
        RatesTally(),
    )
    kept = _kept(stream, left_out)
    with contextlib.ExitStack() as stack:
        given = stack.enter_context(grade_stream(kept, grading)) if graded else kept
        writer = stack.enter_context(CarrierWriter(output)) if output is not None else None
        for carrier in given:
            rates.add(carrier)
            if writer is not None:
                writer.add(carrier)
    left_out.print()
    for note in stream.notes:
        err.print(f"note: {note}", markup=False)
    files = pd.DataFrame([dataclasses.asdict(each) for each in stream.files])
    print_table(files)
    total = int(files["kept"].sum())
    out.print(f"{stream.rows_read} records read, {total} kept, {left_out.count} skipped")
    if isinstance(given, GradedStream):
        for sentence in given.report.sentences():
            out.print(sentence, markup=False)
    print_table(pd.DataFrame([dataclasses.asdict(row) for row in rates.rows()]))
    if output is not None:
        out.print(f"wrote {output}", markup=False)


def _kept(stream: "CarrierStream", left_out: SkippedRecords) -> "Iterator[Carrier]":
    """The carriers of a stream; what was left out goes to the list of that."""
    from probing.carriers.record import Skipped

    for outcome in stream:
        if isinstance(outcome, Skipped):
            left_out.add(outcome)
        else:
            yield outcome
