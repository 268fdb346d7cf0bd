"""Commands that judge: the verdict, and the report on a run."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probing.cli.console import out, print_table, show_or_write, write
from probing.cli.options import (
    DEFAULT,
    DEFAULT_ORDER,
    DEFAULT_RULE,
    ControlOption,
    CsvOption,
    MinPOption,
    OrderOption,
    OtherOption,
    PresetOption,
    RunArgument,
    TemperatureOption,
    TopKOption,
    TopPOption,
    TrainTemperatureOption,
    TrainTopKOption,
    TrainTopPOption,
    WhereOption,
    decoding_of,
    filters_of,
    rule_of,
)
from probing.settings import (
    DEFAULT_ASSIGNMENT,
    DEFAULT_REPORT_EXAMPLES,
    Training,
    as_json,
    require,
)

if TYPE_CHECKING:
    from probing.reporting.questions import Judgement

SHOWN = [
    "comparison", "primary", "figure", "estimate", "low", "high", "null_exchange", "null_drift",
    "p_adjusted", "reads",
]  # fmt: skip


def verdict(
    run: RunArgument,
    train_temperature: TrainTemperatureOption = None,
    train_top_k: TrainTopKOption = None,
    train_top_p: TrainTopPOption = None,
    other: OtherOption = None,
    control: ControlOption = None,
    preset: PresetOption = DEFAULT_RULE.preset,
    where: WhereOption = None,
    json_wanted: Annotated[
        bool, typer.Option("--json", help="Print JSON: verdicts, evidence, settings, notes.")
    ] = False,
    csv: CsvOption = None,
) -> None:
    """What training did: SSD-like, temperature-like, a generic shift, mixed, or nothing to detect.

    Every figure stands beside its nulls: by role exchange, and by noise that costs as much. A
    control stands beside the other model, and their difference below. Name the sampling of the
    training text: the target is made from it. The rules are in docs/method.md.
    """
    from probing.reporting.mechanism import Asked
    from probing.reporting.questions import judge
    from probing.store.reader import open_run

    asked = Asked(
        training=Training.told(temperature=train_temperature, top_k=train_top_k, top_p=train_top_p),
        rule=rule_of(preset),
        filters=filters_of(where, assignment=DEFAULT_ASSIGNMENT),
    )
    opened = open_run(run)
    judged = judge(opened, asked=asked, other=other, control=control)
    if csv is not None:
        show_or_write(judged.evidence, csv, shown=[])
    if json_wanted:
        settings = {"run": opened.location, "fingerprint": opened.fingerprint, **as_json(asked)}
        print(_document(judged, settings=settings))
        return
    if csv is None:
        print_table(judged.evidence[SHOWN])
    for note in judged.notes:
        out.print(f"note: {note}", markup=False)
    assumed = f", {asked.training.said}" if asked.training.assumed else ""
    for each, one in judged.found.models.items():
        verdict = f"{each}: {one.verdict.mechanism} ({one.verdict.rule}{assumed})"
        out.print(verdict, markup=False)


def report(
    run: RunArgument,
    target: Annotated[
        Path, typer.Option("--out", "-o", help="The file: .html with charts, or .md without.")
    ],
    train_temperature: TrainTemperatureOption = None,
    train_top_k: TrainTopKOption = None,
    train_top_p: TrainTopPOption = None,
    other: OtherOption = None,
    control: ControlOption = None,
    preset: PresetOption = DEFAULT_RULE.preset,
    temperature: TemperatureOption = DEFAULT.temperature,
    top_k: TopKOption = DEFAULT.top_k,
    top_p: TopPOption = DEFAULT.top_p,
    min_p: MinPOption = DEFAULT.min_p,
    decode: OrderOption = DEFAULT_ORDER,
    examples: Annotated[
        int, typer.Option("--examples", "-n", min=0, help="Positions in each list of examples.")
    ] = DEFAULT_REPORT_EXAMPLES,
) -> None:
    """One file to send on: verdict, evidence, deltas, events, chosen examples, and limits.

    An HTML file needs nothing else: no script, nothing fetched, charts inside. The same command on
    the same run gives the same bytes.
    """
    from probing.carriers.writing import require_writable
    from probing.reporting.contrasts import models_beside
    from probing.reporting.drawing import require_drawing
    from probing.reporting.provenance import Compared
    from probing.reporting.report_file import HTML, MARKDOWN, report_text
    from probing.store.reader import open_run

    ending = target.suffix.lower()
    require(ending in (HTML, MARKDOWN), f"-o takes a {HTML} or {MARKDOWN} file", str(target))
    if ending == HTML:
        require_drawing()
    require_writable(target)
    opened = open_run(run)
    models = models_beside(opened, other=other, control=control)
    asked = Compared(
        other=models.other,
        control=models.control,
        training=Training.told(temperature=train_temperature, top_k=train_top_k, top_p=train_top_p),
        decoding=decoding_of(temperature, top_k, top_p, min_p=min_p, order=decode),
        rule=rule_of(preset),
        examples=examples,
    )
    write(target, report_text(opened, asked=asked, target=target.name).encode())


def _document(judged: "Judgement", *, settings: dict[str, Any]) -> str:
    """Verdicts, evidence, and under what, as JSON; what was not measured is null."""
    rows = json.loads(judged.evidence.to_json(orient="records", double_precision=12))
    verdicts = {name: dataclasses.asdict(one.verdict) for name, one in judged.found.models.items()}
    document = {"verdicts": verdicts, "evidence": rows, "settings": settings}
    return json.dumps({**document, "notes": list(judged.notes)}, indent=1)
