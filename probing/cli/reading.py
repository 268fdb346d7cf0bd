"""Commands that read runs: summary, positions, examples."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd
import typer
from rich.text import Text

from probing.cli.console import err, out, print_table, show_or_write, write
from probing.cli.options import (
    DEFAULT,
    DEFAULT_ORDER,
    DEFAULT_RULE,
    AssignmentOption,
    ByOption,
    ControlOption,
    CsvOption,
    MinPOption,
    OrderOption,
    OtherOption,
    PresetOption,
    RunArgument,
    SummaryTable,
    TableOption,
    TemperatureOption,
    TopKOption,
    TopPOption,
    WhereOption,
    decoding_of,
    filters_of,
    rule_of,
)
from probing.settings import (
    DEFAULT_ASSIGNMENT,
    DEFAULT_EXAMPLES,
    DEFAULT_GROUPS,
    DEFAULT_RANKED_BY,
    DEFAULT_RANKING,
    DEFAULT_RANKING_SEED,
    require,
)
from probing.vocabulary import Stratum

if TYPE_CHECKING:
    from probing.reporting.filters import Filters

POSITION_COLUMNS = (
    "carrier_id", "position", "token", "model", "kind", "top1_prob", "nucleus_size", "tail_mass",
    "entropy_nats",
)  # fmt: skip
EXAMPLE_COLUMNS = [
    "rank", "baseline_token", "baseline_prob", "baseline_kept_prob", "other_token", "other_prob",
    "other_kept_prob", "rank_change",
]  # fmt: skip
CONTROL_COLUMNS = ["control_token", "control_prob", "control_kept_prob"]


def summary(
    run: RunArgument,
    by: ByOption = None,
    where: WhereOption = None,
    other: OtherOption = None,
    control: ControlOption = None,
    temperature: TemperatureOption = DEFAULT.temperature,
    top_k: TopKOption = DEFAULT.top_k,
    top_p: TopPOption = DEFAULT.top_p,
    min_p: MinPOption = DEFAULT.min_p,
    decode: OrderOption = DEFAULT_ORDER,
    preset: PresetOption = DEFAULT_RULE.preset,
    assignment: AssignmentOption = DEFAULT_ASSIGNMENT,
    table: TableOption = SummaryTable.DELTAS,
    csv: CsvOption = None,
) -> None:
    """What training did: mean deltas (other - baseline) of every group, or another table.

    Intervals resample problems. A control stands beside the other model, and the difference of
    their deltas beside both. `null` is what a figure would be by selection alone, `drift` what
    noise gives that costs as much KL (deltas by kind); `p` and `reads` are of delta - null,
    adjusted over the whole table.
    """
    from probing.reporting import tables
    from probing.reporting.comparison import KIND_DECODING
    from probing.reporting.display import decoding_text, rule_text
    from probing.reporting.questions import Question, answer, beside_drift
    from probing.store.reader import open_run

    own_groups = f"--by groups the deltas; leave it out with --table {table}, which groups itself"
    require(table is SummaryTable.DELTAS or not by, own_groups, [str(group) for group in by or []])
    opened = open_run(run)
    decoding = decoding_of(temperature, top_k, top_p, min_p=min_p, order=decode)
    groups = list(dict.fromkeys(by or DEFAULT_GROUPS))
    chosen = filters_of(where, assignment=assignment)
    question = Question(
        other=other, control=control, decoding=decoding, rule=rule_of(preset), filters=chosen
    )
    answered = answer(opened, question)
    builders: dict[SummaryTable, Callable[..., pd.DataFrame]] = {
        SummaryTable.DELTAS: partial(tables.delta_tables, by=groups),
        SummaryTable.ASSIGNMENTS: tables.assignment_tables,
        SummaryTable.TRANSITIONS: tables.transition_tables,
        SummaryTable.EVENTS: tables.event_tables,
    }
    found = builders[table](answered.compared, filters=chosen)
    noted = ""
    if table in (SummaryTable.DELTAS, SummaryTable.ASSIGNMENTS):
        found, noted = beside_drift(opened, question, answered, found, by=groups)
    _say_incomplete(opened)
    whose = "three assignments" if table is SummaryTable.ASSIGNMENTS else f"the {assignment}"
    out.print(
        f"{answered.models.other} - {opened.model_names[0]}, {decoding_text(decoding)}; kinds by "
        f"{whose}, preset {preset}",
        markup=False,
    )
    if csv is not None:
        show_or_write(found, csv, shown=[])
        return
    if not found["positions"].any():
        err.print("no position is left: nothing passes every --where")
        return
    if table in (SummaryTable.TRANSITIONS, SummaryTable.EVENTS):
        _print_shares(found, filters=chosen)
    else:
        own = ["assignment"] if table is SummaryTable.ASSIGNMENTS else []
        _print_deltas(found, groups=[*own, *map(str, groups)], noted=noted)
    for threshold in rule_text(answered.rule).split("; "):
        out.print(f"note: at {decoding_text(KIND_DECODING)}, {threshold}", markup=False)


def _print_deltas(table: pd.DataFrame, *, groups: Sequence[str], noted: str) -> None:
    """A table of deltas and what its reader must know, of the drift null among others."""
    from probing.reporting.deltas import DEFAULT_INFERENCE
    from probing.reporting.display import DELTA_FORMATS, family_notes, printed_deltas

    # Short ones: every row fits into 120 columns.
    headers = {"p_adjusted": "p", "null_drift": "drift", "problems": "n"}
    shown = printed_deltas(table, by=groups).rename(columns=headers)
    formats = {headers.get(column, column): form for column, form in DELTA_FORMATS.items()}
    print_table(shown, formats=formats, tight=True)
    family = ["n counts problems, which are resampled"]
    family += family_notes(table, inference=DEFAULT_INFERENCE)
    for note in filter(None, [*family, *_notes(table, groups), noted]):
        out.print(f"note: {note}", markup=False)


def _print_shares(table: pd.DataFrame, *, filters: "Filters") -> None:
    """A table of events or transitions and what its reader must know."""
    from probing.reporting.shares import SHARES, printed_shares, symmetry_text

    print_table(printed_shares(table), formats=dict.fromkeys((*SHARES, "positions"), str))
    notes = ["share is of all positions, weighted; of the difference, other less control"]
    if "null" in table:
        notes.append("null is the mean of the share and of that with the roles exchanged")
        notes.append(symmetry_text(filters))
    for note in filter(None, notes):
        out.print(f"note: {note}", markup=False)


def _notes(table: pd.DataFrame, groups: Sequence[str]) -> list[str]:
    """What a reader of the deltas must know: which groups are small, and what selects itself."""
    from probing.reporting.contrasts import COMPARISON
    from probing.reporting.deltas import joined

    columns = [COMPARISON, *groups]
    noted = table[table["note"] != ""].drop_duplicates([*columns, "note"])
    names = joined(noted, columns)
    lines = [f"{name}: {note}" for name, note in zip(names, noted["note"], strict=True)]
    if Stratum.SELECTOR in groups:
        lines.append("a position counts under every selector that chose it: these groups overlap")
        lines.append("all rows are of positions chosen by interval or random, or by all")
    if table[COMPARISON].nunique() > 1:
        lines.append("each comparison has positions of its own, by the kinds of its own pair")
        lines.append("the difference takes kinds from the mean over all models, and has no events")
    return [*lines, "baseline_top1_prob is negative by selection: no finding by itself"]


def _say_incomplete(run: Any) -> None:
    # A `Run`; importing it here would make every `--help` wait for zarr.
    from probing.reporting.questions import incomplete_text

    if not run.complete:
        err.print(f"note: {incomplete_text(run)}", markup=False)


def positions(
    run: RunArgument,
    temperature: TemperatureOption = DEFAULT.temperature,
    top_k: TopKOption = DEFAULT.top_k,
    top_p: TopPOption = DEFAULT.top_p,
    min_p: MinPOption = DEFAULT.min_p,
    decode: OrderOption = DEFAULT_ORDER,
    preset: PresetOption = DEFAULT_RULE.preset,
    csv: CsvOption = None,
    parquet: Annotated[Path | None, typer.Option(help="Write a Parquet file instead.")] = None,
) -> None:
    """Every position under every model, one row each, with all statistics."""
    from probing.reporting.export import parquet_bytes
    from probing.reporting.tables import position_table
    from probing.store.reader import open_run

    decoding = decoding_of(temperature, top_k, top_p, min_p=min_p, order=decode)
    opened = open_run(run)
    _say_incomplete(opened)
    table = position_table(opened, decoding=decoding, rule=rule_of(preset))
    if parquet is not None:
        write(parquet, parquet_bytes(table))
    if parquet is None or csv is not None:
        show_or_write(table, csv, shown=POSITION_COLUMNS)


def examples(
    run: RunArgument,
    rank_by: Annotated[
        str, typer.Option("--by", help="Quantity whose delta ranks.")
    ] = DEFAULT_RANKED_BY,
    order: Annotated[
        str, typer.Option(help="largest change, largest increase, largest decrease, random.")
    ] = DEFAULT_RANKING,
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, help="How many.")
    ] = DEFAULT_EXAMPLES,
    seed: Annotated[int, typer.Option(help="Of the random order.")] = DEFAULT_RANKING_SEED,
    where: WhereOption = None,
    other: OtherOption = None,
    control: ControlOption = None,
    temperature: TemperatureOption = DEFAULT.temperature,
    top_k: TopKOption = DEFAULT.top_k,
    top_p: TopPOption = DEFAULT.top_p,
    min_p: MinPOption = DEFAULT.min_p,
    decode: OrderOption = DEFAULT_ORDER,
    csv: CsvOption = None,
) -> None:
    """Single positions: the text around them and the models' top tokens side by side.

    They are ranked among the positions that the headline figures rest on.
    """
    from probing.reporting import questions
    from probing.reporting.examples import Order
    from probing.reporting.quantities import QUANTITIES
    from probing.reporting.remaking import Ranking
    from probing.store.reader import open_run

    require(rank_by in QUANTITIES, f"--by takes {', '.join(QUANTITIES)}", rank_by)
    orders = [item.value for item in Order]
    require(order in orders, f"--order takes {', '.join(orders)}", order)
    question = questions.Question(
        other=other,
        control=control,
        decoding=decoding_of(temperature, top_k, top_p, min_p=min_p, order=decode),
        filters=filters_of(where, assignment=DEFAULT_ASSIGNMENT),
    )
    ranking = Ranking(by=rank_by, order=Order(order), seed=seed)
    found = questions.examples(open_run(run), question, ranking=ranking, count=count)
    for each in found.found if csv is None else ():
        controls = [name for name in CONTROL_COLUMNS if name in each.table]
        out.rule()
        out.print(f"{each.event} · {each.place}")
        out.print(Text(each.context))
        print_table(each.table[[*EXAMPLE_COLUMNS, *controls]])
    if csv is not None and found:
        show_or_write(found.table, csv, shown=[])
    if not found:
        err.print("no position is left: --where keeps none in which this is measured")
