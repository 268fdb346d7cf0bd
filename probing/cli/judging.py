"""`probing verdict`: the evidence, and what it comes to."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probing.cli.console import out, print_table, show_or_write, write
from probing.cli.options import (
    DEFAULT_RULE,
    ControlOption,
    CsvOption,
    OtherOption,
    PresetOption,
    RunArgument,
    WhereOption,
    filters_of,
    rule_of,
)
from probing.settings import DEFAULT_ASSIGNMENT, Training

if TYPE_CHECKING:
    import pandas as pd

    from probing.reporting.mechanism import Found

TRAINING = Training()

SHOWN = [
    "comparison", "primary", "figure", "estimate", "low", "high", "null_exchange", "null_drift",
    "p_adjusted", "reads",
]  # fmt: skip


def verdict(
    run: RunArgument,
    train_temperature: Annotated[
        float, typer.Option(help="Temperature of the samples that were trained on.")
    ] = TRAINING.temperature,
    train_top_k: Annotated[int, typer.Option(help="Their top-k; 0 is none.")] = TRAINING.top_k,
    train_top_p: Annotated[float, typer.Option(help="Their top-p; 1 is none.")] = TRAINING.top_p,
    other: OtherOption = None,
    control: ControlOption = None,
    preset: PresetOption = DEFAULT_RULE.preset,
    where: WhereOption = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Write a JSON file instead.")
    ] = None,
    csv: CsvOption = None,
) -> None:
    """What training did: SSD-like, temperature-like, a generic shift, mixed, or nothing to detect.

    Every figure stands beside its nulls: by role exchange, and by noise that costs as much. A
    control stands beside the other model, and their difference below. Name the sampling of the
    training text: the target is made from it. The rules are in docs/method.md.
    """
    from probing.reporting import tables
    from probing.reporting.filters import require_known
    from probing.reporting.mechanism import Asked
    from probing.store.reader import open_run

    filters = filters_of(where, assignment=DEFAULT_ASSIGNMENT)
    asked = Asked(
        training=Training(temperature=train_temperature, top_k=train_top_k, top_p=train_top_p),
        rule=rule_of(preset),
        filters=filters,
    )
    opened = open_run(run)
    name = other or opened.model_names[1]
    beside = tables.control_of(opened, other=name, wanted=control)
    require_known(tables.places_beside(opened, name), filters=filters)
    found = {
        each: tables.mechanism(opened, each, asked=asked)
        for each in (name, beside)
        if each is not None
    }
    table = tables.evidence_table(found, asked=asked)
    if as_json is not None:
        write(as_json, _document(found, table).encode())
        return
    if csv is not None:
        show_or_write(table, csv, shown=[])
        return
    print_table(table[SHOWN])
    for note in tables.evidence_notes(table, found=found, asked=asked):
        out.print(f"note: {note}", markup=False)
    for each, one in found.items():
        out.print(f"{each}: {one.verdict.mechanism} ({one.verdict.rule})", markup=False)


def _document(found: "dict[str, Found]", table: "pd.DataFrame") -> str:
    """Verdicts and evidence as JSON; what was not measured is null."""
    rows: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=12))
    verdicts = {name: dataclasses.asdict(one.verdict) for name, one in found.items()}
    return json.dumps({"verdicts": verdicts, "evidence": rows}, indent=1) + "\n"
