"""Do findings hang on settings? `probing sweep` moves one, `probing multiverse` combines them."""

from typing import Annotated

import typer

from probing.cli.console import err, out, print_table, show_or_write
from probing.cli.options import (
    DEFAULT,
    DEFAULT_ORDER,
    DEFAULT_RULE,
    AssignmentOption,
    CsvOption,
    MinPOption,
    OrderOption,
    OtherOption,
    PresetOption,
    RunArgument,
    TemperatureOption,
    TopKOption,
    TopPOption,
    decoding_of,
    rule_of,
)
from probing.errors import UsageFault
from probing.settings import DEFAULT_ASSIGNMENT, THRESHOLDS
from probing.vocabulary import Kind

COLUMNS = ["value", "kind", "quantity", "delta", "low", "high", "null", "positions", "problems"]


def sweep(
    run: RunArgument,
    threshold: Annotated[str, typer.Option("--threshold", help=f"Which: {', '.join(THRESHOLDS)}.")],
    values: Annotated[
        str, typer.Option("--values", metavar="A,B,C", help="Where it is put, in turn.")
    ],
    quantity: Annotated[
        list[str] | None, typer.Option("--quantity", help="What is averaged; repeatable.")
    ] = None,
    other: OtherOption = None,
    temperature: TemperatureOption = DEFAULT.temperature,
    top_k: TopKOption = DEFAULT.top_k,
    top_p: TopPOption = DEFAULT.top_p,
    min_p: MinPOption = DEFAULT.min_p,
    decode: OrderOption = DEFAULT_ORDER,
    preset: PresetOption = DEFAULT_RULE.preset,
    assignment: AssignmentOption = DEFAULT_ASSIGNMENT,
    csv: CsvOption = None,
) -> None:
    """Do findings hang on a threshold? Shares of kinds, and deltas at locks and forks, by value.

    All other thresholds stay at the preset's. `null` is what a delta would be by selection alone.
    The CSV has every kind and all intervals.
    """
    from probing.reporting.display import decoding_text
    from probing.reporting.sweeps import SHOWN_QUANTITIES, Sweep, share_rows, sweep_table
    from probing.store.reader import open_run

    decoding = decoding_of(temperature, top_k, top_p, min_p=min_p, order=decode)
    asked = Sweep(
        threshold=threshold,
        values=numbers(values),
        rule=rule_of(preset),
        assignment=assignment,
        decoding=decoding,
        quantities=quantity or SHOWN_QUANTITIES,
    )
    opened = open_run(run)
    name = other or opened.model_names[1]
    table = sweep_table(opened, name, sweep=asked)
    if not opened.complete:
        err.print(f"note: {opened.location} is incomplete", markup=False)
    if csv is not None:
        show_or_write(table, csv, shown=[])
        return
    own = getattr(asked.rule, threshold)
    out.print(
        f"{name} - {opened.model_names[0]}, {decoding_text(decoding)}; {threshold} swept, else "
        f"preset {preset} (whose value is {own:g}); kinds by {assignment}",
        markup=False,
    )
    out.print("share of every kind")
    shares = share_rows(table).drop(columns=["threshold", "preset"])
    print_table(shares, formats={kind.value: "{:.1%}".format for kind in Kind})
    out.print("deltas at locks and at forks")
    shown = table[table["kind"].isin([Kind.LOCK.value, Kind.FORK.value])]
    print_table(shown[COLUMNS].sort_values(["kind", "quantity"], ascending=False, kind="stable"))


def multiverse(run: RunArgument, other: OtherOption = None, csv: CsvOption = None) -> None:
    """Do findings hang on settings? Every conclusion under every combination of them.

    `same_sign` is the share of combinations with the sign under the defaults; `beyond` the share in
    which it is also beyond the role-exchange null, with an interval that leaves out 0. The CSV has
    one row per combination.
    """
    from probing.reporting.multiverse import multiverse as combined
    from probing.reporting.multiverse import outcome_table, steadiness_table
    from probing.store.reader import open_run

    opened = open_run(run)
    name = other or opened.model_names[1]
    made = combined(opened, name)
    if not opened.complete:
        err.print(f"note: {opened.location} is incomplete", markup=False)
    if csv is not None:
        show_or_write(outcome_table(made), csv, shown=[])
        return
    out.print(f"{name} - {opened.model_names[0]}", markup=False)
    print_table(steadiness_table(made))
    for left_out in made.left_out:
        out.print(f"note: left out, this run cannot answer it: {left_out}", markup=False)


def numbers(text: str) -> list[float]:
    """The numbers of `A,B,C`.

    Raises:
        UsageFault: one of them is no number.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageFault(
            f"--values takes numbers with commas between them, as 0.3,0.5,0.7; got {text!r}"
        ) from error
