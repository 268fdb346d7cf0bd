"""The command about labels by people."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probing.cli.console import out, print_skipped, print_table, show_or_write, write
from probing.cli.options import (
    DEFAULT_RULE,
    AssignmentOption,
    CsvOption,
    OtherOption,
    PresetOption,
    RunArgument,
    rule_of,
)
from probing.settings import DEFAULT_ASSIGNMENT, Decoding

if TYPE_CHECKING:
    import pandas as pd


SHOWN = [
    "carrier_id", "position", "who", "kind", "event", "heuristic_kind", "heuristic_event", "drawn",
    "note",
]  # fmt: skip


class LabelTable(StrEnum):
    """Tables of `probing labels`, each as on the page *Methods*."""

    AGREEMENT = "agreement"
    CONFUSION = "confusion"
    DELTAS = "deltas"
    LABELS = "labels"


def labels(
    run: RunArgument,
    other: OtherOption = None,
    preset: PresetOption = DEFAULT_RULE.preset,
    assignment: AssignmentOption = DEFAULT_ASSIGNMENT,
    table: Annotated[
        LabelTable,
        typer.Option(
            "--table",
            help="How often both agree; who calls what how; deltas by either's kinds; every label.",
        ),
    ] = LabelTable.AGREEMENT,
    csv: CsvOption = None,
    export: Annotated[
        Path | None, typer.Option("--export", help="Write every label to this JSONL file.")
    ] = None,
    import_: Annotated[
        Path | None, typer.Option("--import", help="Add the labels of this JSONL file first.")
    ] = None,
) -> None:
    """Labels by people: how often they and the heuristic call a position the same.

    Labels are given on the page *Examples* and kept beside the run, in RUN.labels.jsonl. Figures
    over labels of positions that were drawn at random speak for the run; those over all labels
    speak for these positions alone.
    """
    from probing.store.labels import LabelFile, lines_of
    from probing.store.reader import open_run

    opened = open_run(run)
    file = LabelFile.beside(opened.location)
    if import_ is not None:
        _take(opened, file, import_)
    found = file.read() if file is not None else None
    if found is not None:
        print_skipped(found.skipped)
    every = () if found is None else found.labels
    if export is not None:
        write(export, lines_of(every))
    _show(opened, every, other=other, preset=preset, assignment=assignment, table=table, csv=csv)


def _take(run: Any, file: Any, source: Path) -> None:
    """Add the labels of a file to those beside a run."""
    from probing.errors import UnreadableInput, UnwritablePath
    from probing.store.intake import taken

    if file is None:
        raise UnwritablePath(
            f"labels are kept beside a run in a local folder, got {run.location}; copy the run to "
            "one, then run the same command"
        )
    try:
        data = source.read_bytes()
    except OSError as error:
        raise UnreadableInput(
            f"{source} must be a readable JSONL file of labels: {error.strerror}; give the file "
            "that `--export` or the page *Methods* wrote"
        ) from error
    found = taken(data, run=run, name=str(source))
    print_skipped(found.skipped)
    new = file.append(found.labels)
    out.print(f"added {new} labels; {len(found.labels) - new} were there", markup=False)


def _show(
    run: Any,
    every: Any,
    *,
    other: str | None,
    preset: str,
    assignment: Any,
    table: LabelTable,
    csv: Path | None,
) -> None:
    from probing.reporting import labels as made
    from probing.reporting import labels_shown, tables
    from probing.reporting.contrasts import models_beside
    from probing.reporting.display import rule_text

    models, rule = models_beside(run, other=other), rule_of(preset)
    comparison = tables.comparison_table(run, other=models.other, decoding=Decoding(), rule=rule)
    rows = made.label_table(
        every,
        comparison,
        fingerprint=run.fingerprint,
        other=models.other,
        assignment=assignment,
    )
    foreign = sum(label.run != run.fingerprint for label in every)
    if foreign:
        out.print(f"note: {foreign} labels beside it are of another run, and are left out")
    found = {
        LabelTable.AGREEMENT: lambda: made.agreement_table(rows),
        LabelTable.CONFUSION: lambda: made.confusion_table(rows),
        LabelTable.DELTAS: lambda: made.label_deltas(rows, comparison),
        LabelTable.LABELS: lambda: rows,
    }[table]()
    if csv is not None:
        show_or_write(found, csv, shown=[])
        return
    if rows.empty:
        out.print(f"no label of {models.other} against {run.model_names[0]}", markup=False)
        return
    out.print(f"{labels_shown.basis_text(rows)}", markup=False)
    _print(table, found)
    out.print(f"note: heuristic by the {assignment}; {rule_text(rule)}", markup=False)


def _print(table: LabelTable, found: "pd.DataFrame") -> None:
    from probing.reporting import labels_shown
    from probing.reporting.text import line

    if table is LabelTable.AGREEMENT:
        print_table(labels_shown.shown_agreement(found).drop(columns="Note"), tight=True)
        for note in labels_shown.agreement_notes(found):
            out.print(f"note: {note}", markup=False)
    elif table is LabelTable.DELTAS:
        for basis in dict.fromkeys(found["basis"]):
            out.print(f"{basis}:", markup=False)
            print_table(labels_shown.shown_label_deltas(found, basis=basis), tight=True)
        for note in labels_shown.delta_notes(found):
            out.print(f"note: {note}", markup=False)
    elif table is LabelTable.CONFUSION:
        print_table(found[found["labels"] > 0])
    else:
        safe = {name: found[name].map(line) for name in ("carrier_id", "who", "note")}
        print_table(found.assign(**safe)[SHOWN])
