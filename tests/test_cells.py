"""Positions held together give the tables that positions one by one give."""

import numpy as np
import pandas as pd
import pytest

from probing.reporting import tables
from probing.reporting.cells import OF_CARRIERS, cells
from probing.reporting.filters import EVERY, HELD, Average, Filters, Weighting, count, keep
from probing.reporting.quantities import QUANTITIES, SHOWN_FIRST, delta_column
from probing.settings import Inference
from probing.vocabulary import Assignment, Phase, Stratum

FEW_DRAWS = Inference(draws=200)
HELD_APART = ("phase", "token_class", "event_mean", "exchanged_event_mean")


def held(trio: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    return {
        name: cells(frame, quantities=list(QUANTITIES), by=HELD_APART)
        for name, frame in trio.items()
    }


def test_cells_hold_every_position_once(trio: dict[str, pd.DataFrame]) -> None:
    for name, frame in trio.items():
        made = cells(frame, quantities=SHOWN_FIRST)
        assert made[HELD].sum() == len(frame) == count(made).positions
        assert count(made) == count(frame)
        assert len(made) < len(frame), name
        assert not made.duplicated([c for c in made if c.startswith("kind_")] + ["carrier"]).all()


def test_a_cell_is_of_one_carrier_and_alike(trio: dict[str, pd.DataFrame]) -> None:
    frame = trio["ssd"]
    for column in OF_CARRIERS:
        assert (frame.groupby("carrier")[column].nunique() == 1).all(), column
    gaps = frame["row"] % 5 == 0
    frame = frame.assign(nucleus_size_delta=frame["nucleus_size_delta"].mask(gaps))
    made = cells(frame, quantities=["nucleus_size"], by=["phase"])
    key = ["carrier", *(f"kind_{each}" for each in Assignment), "phase", "selectors", "inclusion"]
    measured = frame["nucleus_size_delta"].notna()
    assert 0 < measured.sum() < len(frame)
    sizes = frame.assign(measured=measured).groupby([*key, "measured"], observed=True).size()
    again = made.assign(measured=made["nucleus_size_delta"].notna())
    again = again.set_index([*key, "measured"])[HELD]
    pd.testing.assert_series_equal(
        again.sort_index(), sizes.sort_index(), check_names=False, check_index_type=False
    )


@pytest.mark.parametrize("average", list(Average))
@pytest.mark.parametrize(
    ("by", "filters"),
    [
        ([], Filters()),
        ([Stratum.KIND], Filters(assignment=Assignment.OTHER)),
        ([Stratum.KIND, Stratum.GENERATOR], Filters(correct=("correct",), selector=EVERY)),
        ([Stratum.PHASE], Filters(kind=("lock-like",), assignment=Assignment.BASELINE)),
        ([Stratum.EVENT], Filters(phase=(Phase.AFTER_THINK_CLOSE.value,))),
        ([Stratum.SELECTOR], Filters(selector=EVERY, event=("sharpened", "opened"))),
    ],
)
def test_tables_of_cells_are_those_of_positions(
    trio: dict[str, pd.DataFrame], by: list[Stratum], filters: Filters, average: Average
) -> None:
    asked = {
        "by": by,
        "filters": filters,
        "quantities": list(QUANTITIES),
        "weighting": Weighting(selector=filters.selector, average=average),
        "inference": FEW_DRAWS,
    }
    plain, short = (tables.delta_tables(frames, **asked) for frames in (trio, held(trio)))
    pd.testing.assert_frame_equal(short, plain, rtol=1e-9, atol=1e-12)
    assert plain["positions"].max() > 20


def test_filters_keep_the_same_positions(trio: dict[str, pd.DataFrame]) -> None:
    filters = Filters(kind=("fork-like",), generator=("ssd",), token_class=("word",))
    made = held(trio)["ssd"]
    assert count(keep(made, filters=filters)) == count(keep(trio["ssd"], filters=filters))


def test_means_of_a_cell_are_exact(trio: dict[str, pd.DataFrame]) -> None:
    frame = trio["control"]
    made = cells(frame, quantities=["entropy_nats"])
    column = delta_column("entropy_nats")
    assert np.isclose((made[HELD] * made[column]).sum(), frame[column].sum(), rtol=1e-12)
