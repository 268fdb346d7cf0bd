"""Commands that read runs: summary, positions, examples."""

import io
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
from probing.settings import DEFAULT_ASSIGNMENT, require
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
    from probing.reporting.comparison import KIND_DECODING, settled_rule
    from probing.reporting.display import decoding_text, rule_text
    from probing.reporting.drifting import BY_KIND_ALONE, DriftAsked, stands_beside
    from probing.reporting.filters import require_known
    from probing.store.reader import open_run

    own_groups = f"--by groups the deltas; leave it out with --table {table}, which groups itself"
    require(table is SummaryTable.DELTAS or not by, own_groups, [str(group) for group in by or []])
    opened = open_run(run)
    name = other or opened.model_names[1]
    beside = tables.control_of(opened, other=name, wanted=control)
    decoding = decoding_of(temperature, top_k, top_p, min_p=min_p, order=decode)
    groups = list(dict.fromkeys(by or [Stratum.KIND]))
    chosen = filters_of(where, assignment=assignment)
    rule = settled_rule(opened, rule_of(preset))
    compared = tables.all_comparisons(
        opened, other=name, control=beside, decoding=decoding, rule=rule
    )
    require_known(compared[name], filters=chosen)
    builders: dict[SummaryTable, Callable[..., pd.DataFrame]] = {
        SummaryTable.DELTAS: partial(tables.delta_tables, by=groups),
        SummaryTable.ASSIGNMENTS: tables.assignment_tables,
        SummaryTable.TRANSITIONS: tables.transition_tables,
        SummaryTable.EVENTS: tables.event_tables,
    }
    found = builders[table](compared, filters=chosen)
    noted = BY_KIND_ALONE
    if table in (SummaryTable.DELTAS, SummaryTable.ASSIGNMENTS) and stands_beside(groups):
        drift = tables.drift_null(
            opened,
            DriftAsked(other=name, control=beside, decoding=decoding, rule=rule, filters=chosen),
        )
        found, noted = tables.with_drift(found, drift, assignment=assignment), drift.note
    _say_incomplete(opened)
    whose = "three assignments" if table is SummaryTable.ASSIGNMENTS else f"the {assignment}"
    out.print(
        f"{name} - {opened.model_names[0]}, {decoding_text(decoding)}; kinds by {whose}, preset "
        f"{preset}",
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
    for threshold in rule_text(rule).split("; "):
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
    if not run.complete:
        units = f"{len(run.committed)} of {len(run.plan.units)} units"
        err.print(f"note: {run.location} is incomplete: {units} are scored", markup=False)


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
    from probing.reporting.tables import position_table
    from probing.store.reader import open_run

    decoding = decoding_of(temperature, top_k, top_p, min_p=min_p, order=decode)
    opened = open_run(run)
    _say_incomplete(opened)
    table = position_table(opened, decoding=decoding, rule=rule_of(preset))
    if parquet is not None:
        whole = io.BytesIO()
        table.to_parquet(whole, index=False)
        write(parquet, whole.getvalue())
    if parquet is None or csv is not None:
        show_or_write(table, csv, shown=POSITION_COLUMNS)


def examples(
    run: RunArgument,
    rank_by: Annotated[str, typer.Option("--by", help="Quantity whose delta ranks.")] = "top1_prob",
    order: Annotated[
        str, typer.Option(help="largest change, largest increase, largest decrease, random.")
    ] = ("largest change"),
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the random order.")] = 0,
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
    from probing.reporting import tables
    from probing.reporting.display import event_text, place_text
    from probing.reporting.examples import Order
    from probing.reporting.filters import keep, require_known
    from probing.reporting.quantities import QUANTITIES
    from probing.store.reader import open_run

    require(rank_by in QUANTITIES, f"--by takes {', '.join(QUANTITIES)}", rank_by)
    orders = [item.value for item in Order]
    require(order in orders, f"--order takes {', '.join(orders)}", order)
    opened = open_run(run)
    name = other or opened.model_names[1]
    decoding = decoding_of(temperature, top_k, top_p, min_p=min_p, order=decode)
    beside = tables.control_of(opened, other=name, wanted=control)
    filters = filters_of(where, assignment=DEFAULT_ASSIGNMENT)
    comparison = tables.comparison_table(opened, other=name, decoding=decoding, rule=DEFAULT_RULE)
    require_known(comparison, filters=filters)
    kept = keep(comparison, filters=filters)
    chosen = tables.ranked_positions(kept, by=rank_by, order=Order(order), seed=seed)[:count]
    shown = [*EXAMPLE_COLUMNS, *(CONTROL_COLUMNS if beside else [])]
    found = []
    for _, position in chosen.iterrows():
        row = int(position["row"])
        table = tables.example_table(opened, row, other=name, control=beside, decoding=decoding)
        found.append(table.assign(row=row, carrier_id=position["carrier_id"]))
        if csv is None:
            out.rule()
            out.print(Text(f"{event_text(position)} · {place_text(position)}"))
            out.print(Text(tables.shown_context(opened, row)))
            print_table(table[shown])
    if csv is not None and found:
        show_or_write(pd.concat(found, ignore_index=True), csv, shown=shown)
    if not found:
        err.print("no position is left: --where keeps none in which this is measured")
