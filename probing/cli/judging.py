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
    rule_of,
)
from probing.settings import Training

if TYPE_CHECKING:
    import pandas as pd

    from probing.reporting.mechanism import Found

TRAINING = Training()

SHOWN = [
    "comparison", "figure", "estimate", "low", "high", "null_exchange", "null_drift", "p_adjusted",
    "reads",
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
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Write a JSON file instead.")
    ] = None,
    csv: CsvOption = None,
) -> None:
    """What training did: SSD-like, temperature-like, a generic shift, mixed, or nothing to detect.

    Every figure stands beside its nulls: by role exchange, and by noise that costs as much. A
    control stands beside the other model, and their difference below. The rules are in
    docs/method.md.
    """
    from probing.reporting.contrasts import control_of
    from probing.reporting.mechanism import Asked, evidence_table, mechanism
    from probing.store.reader import open_run

    opened = open_run(run)
    name = other or opened.model_names[1]
    beside = control_of(opened, other=name, wanted=control)
    asked = Asked(
        training=Training(temperature=train_temperature, top_k=train_top_k, top_p=train_top_p),
        rule=rule_of(preset),
    )
    found = {
        each: mechanism(opened, each, asked=asked) for each in (name, beside) if each is not None
    }
    table = evidence_table(found, asked=asked)
    if as_json is not None:
        write(as_json, _document(found, table).encode())
        return
    if csv is not None:
        show_or_write(table, csv, shown=[])
        return
    print_table(table[SHOWN])
    for each, one in found.items():
        out.print(f"{each}: {one.verdict.mechanism} ({one.verdict.rule})", markup=False)


def _document(found: "dict[str, Found]", table: "pd.DataFrame") -> str:
    """Verdicts and evidence as JSON; what was not measured is null."""
    rows: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=12))
    verdicts = {name: dataclasses.asdict(one.verdict) for name, one in found.items()}
    return json.dumps({"verdicts": verdicts, "evidence": rows}, indent=1) + "\n"
