"""What a sample drew, and `probing score --dry-run`: what a run would take."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from probing.cli.console import BarProgress, out, print_skipped, print_table
from probing.settings import RunSettings, Sampling

if TYPE_CHECKING:
    from probing.carriers.sampling import Cell
    from probing.scoring.pricing import Price

MOST_CELLS = 20
"""Rows of the table of a sample; the rest are counted."""


def print_cells(cells: Sequence["Cell"], sampling: Sampling) -> None:
    """What every combination of strata was to give, has and gave; nothing where all was kept."""
    from probing.carriers.sampling import cell_rows

    if not sampling.carriers:
        return
    groups = "problems" if sampling.paired else "carriers"
    names = ", ".join(sampling.by) or "no strata"
    out.print(f"sample of {groups}, {sampling.allocation} over {names}:", markup=False)
    print_table(pd.DataFrame(cell_rows(cells[:MOST_CELLS], by=sampling.by)))
    rest = cells[MOST_CELLS:]
    if rest:
        out.print(
            f"… {len(rest)} more combinations: {sum(cell.wanted for cell in rest)} wanted, "
            f"{sum(cell.available for cell in rest)} available, "
            f"{sum(cell.taken for cell in rest)} taken"
        )


def show_price(settings: RunSettings) -> None:
    """Say what a run would take, and leave nothing."""
    from probing.scoring.pricing import price

    with BarProgress() as progress:
        found = price(settings, progress=progress)
    print_skipped(found.skipped)
    print_cells(found.cells, settings.sampling)
    for line in (*_work(found), *_memory(found, settings), *_time(found), *_disk(found)):
        out.print(line, markup=False)


def _work(found: "Price") -> list[str]:
    counts = found.counts
    return [
        f"carriers: {counts['carriers_sampled']:,} of {counts['carriers_available']:,} available, "
        f"{counts['records_skipped']:,} records skipped, "
        f"{counts['carriers_without_positions']:,} carriers without a position",
        f"tokens: {found.prompt_tokens:,} of prompts, {found.response_tokens:,} of responses; each "
        f"model reads {found.read_tokens:,}, up to the last chosen position of each carrier",
        f"positions: {counts['positions']:,} in {found.units:,} units",
    ]


def _memory(found: "Price", settings: RunSettings) -> list[str]:
    scoring = settings.scoring
    return [
        found.memory.reason,
        *(
            f"{' and '.join(each.models)} on {each.device}: {_mb(each.need.weights)} of weights, "
            f"{_mb(each.need.head)} of float32 heads, {_mb(each.need.cache)} of cache"
            for each in found.weights
        ),
        f"token budget: {scoring.token_budget:,} a batch, {scoring.chunk_tokens:,} a chunk of a "
        "longer carrier",
    ]


def _time(found: "Price") -> list[str]:
    from probing.scoring.pricing import SHORT_TRIAL

    trial, seconds = found.trial, found.seconds
    company = (
        f"alone and as {trial.copies} in one batch" if trial.copies > 1 else "alone, as every other"
    )
    short = "; so short a trial is a rough guess" if trial.seconds < SHORT_TRIAL else ""
    return [
        f"expected time: {_seconds(seconds.low)} to {_seconds(seconds.high)} on this machine as "
        f"busy as it is now, {_seconds(trial.start)} of it loading and checking the models",
        f"  from one carrier of median length, {trial.carrier_id} ({trial.tokens} tokens read, "
        f"{trial.positions} positions), {company}, in {trial.seconds:.2f} s{short}",
        f"  scaled by tokens ({_rates(trial.forward.low, trial.forward.high)} a token, all models) "
        f"and by positions ({_rates(trial.rows.low, trial.rows.high)} each); attention makes "
        "tokens of much longer carriers dearer than that",
    ]


def _disk(found: "Price") -> list[str]:
    size = found.size
    beside = (
        f"; and {_mb(found.hidden_bytes)} of hidden rows beside it until it is finished"
        if found.hidden_bytes
        else ""
    )
    there = "; something stands there already and was not looked at" if found.exists else ""
    return [
        f"disk: about {_mb(size.total)} ({size.position:,.0f} bytes a position by the trial, "
        f"{_mb(size.texts)} of carriers, {_mb(size.rest + round(size.shard * size.shards))} "
        f"beside them){beside}",
        f"nothing was written to {found.out}{there}; the same command without --dry-run scores",
    ]


def _mb(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def _seconds(count: float) -> str:
    """Seconds, and beyond ten minutes whole minutes too."""
    return f"{count:,.1f} s" if count < 600 else f"{count:,.0f} s ({count / 60:,.0f} min)"


def _rates(low: float, high: float) -> str:
    return f"{low * 1e3:,.2f} to {high * 1e3:,.2f} ms"
