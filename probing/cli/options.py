"""Options that several commands share, each named and explained once."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from probing.settings import KIND_PRESETS, Decoding, KindRule, preset_rule, require
from probing.vocabulary import Assignment, Stratum


class DecodingOrder(StrEnum):
    """Orders of truncation; see `Decoding`."""

    SEQUENTIAL = "sequential"
    VLLM = "vllm"
    JOINT = "joint"
    TRUNCATE_FIRST = "truncate_first"


class SummaryTable(StrEnum):
    """Tables of `probing summary`, each as on the page *Deltas*."""

    DELTAS = "deltas"
    ASSIGNMENTS = "assignments"
    TRANSITIONS = "transitions"
    EVENTS = "events"


if TYPE_CHECKING:
    from probing.reporting.filters import Filters

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Folder or URL of a run.")]
OtherOption = Annotated[
    str | None, typer.Option("--other", help="Which other model; the first when left out.")
]
ControlOption = Annotated[
    str | None,
    typer.Option("--control", help="The model beside it; `control`, where there is one."),
]
TemperatureOption = Annotated[
    float, typer.Option("--temperature", "-T", help="Sampling temperature; 0 is greedy.")
]
TopKOption = Annotated[int, typer.Option(help="Keep the k likeliest tokens; 0 switches it off.")]
TopPOption = Annotated[float, typer.Option(help="Keep the nucleus of this mass; 1 is all.")]
MinPOption = Annotated[
    float, typer.Option(help="Keep tokens of at least this share of the likeliest; 0 is off.")
]
OrderOption = Annotated[
    DecodingOrder,
    typer.Option("--decode", help="As in Transformers, vLLM, SGLang (joint), mlx-lm (last)."),
]
PresetOption = Annotated[str, typer.Option(help=f"Thresholds: {', '.join(KIND_PRESETS)}.")]
AssignmentOption = Annotated[
    Assignment, typer.Option(help="Whose distribution gives a position its kind.")
]
TrainTemperatureOption = Annotated[
    float | None,
    typer.Option("--train-temperature", help="Temperature of the samples that were trained on."),
]
TrainTopKOption = Annotated[
    int | None, typer.Option("--train-top-k", help="Their top-k; 0 is none.")
]
TrainTopPOption = Annotated[
    float | None, typer.Option("--train-top-p", help="Their top-p; 1 is none.")
]
CsvOption = Annotated[Path | None, typer.Option("--csv", help="Write a CSV file instead.")]
ByOption = Annotated[
    list[Stratum] | None,
    typer.Option(
        "--by", help="Group by; repeatable. A position counts under each of its selectors."
    ),
]
TableOption = Annotated[
    SummaryTable,
    typer.Option(
        "--table",
        help="Deltas by group; by kind under each assignment; kind to kind; shares of events.",
    ),
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="STRATUM=LABEL[,LABEL]",
        help="Keep only these positions; repeatable. Strata as in --by, but for selectors.",
    ),
]
DEFAULT, DEFAULT_RULE = Decoding(), KindRule()
DEFAULT_ORDER = DecodingOrder(DEFAULT.order)


def decoding_of(
    temperature: float, top_k: int, top_p: float, *, min_p: float, order: DecodingOrder
) -> Decoding:
    """The decoding that the options name."""
    return Decoding(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        order=order.value,
    )


def rule_of(preset: str) -> KindRule:
    """The thresholds of this name.

    Raises:
        UsageFault: there is no such preset.
    """
    return preset_rule(preset, named="--preset")


def filters_of(where: Sequence[str] | None, *, assignment: Assignment) -> "Filters":
    """Filters from `STRATUM=LABEL[,LABEL]`, as a page's sidebar sets them.

    Raises:
        UsageFault: not of this form, or no stratum that can be filtered.
    """
    from probing.reporting.filters import FILTERED, filters_where

    known = sorted(stratum.value for stratum in FILTERED)
    chosen: dict[str, list[str]] = {}
    for text in where or []:
        name, equals, labels = text.partition("=")
        require(
            bool(equals) and name in known,
            f"--where takes STRATUM=LABEL[,LABEL] with a stratum of {', '.join(known)}",
            text,
        )
        chosen.setdefault(name, []).extend(labels.split(","))
    return filters_where(chosen, assignment=assignment)
