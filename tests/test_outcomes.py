"""Transitions, events, assignments and spread against slow counts; and what is said of them."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest

from probing.reporting import filters, headlines, tables
from probing.reporting.contrasts import COMPARISON
from probing.reporting.deltas import ALL
from probing.reporting.drifting import DriftAsked
from probing.reporting.exchange import exchanged
from probing.reporting.filters import Filters
from probing.reporting.outcomes import symmetric_events
from probing.reporting.quantities import delta_column
from probing.settings import Inference
from probing.store.reader import Run
from probing.vocabulary import Assignment, Kind

FEW_DRAWS = Inference(draws=100)


def weight_of(part: pd.DataFrame) -> np.ndarray:
    return (1 / (part["inclusion"] * part["sampling_probability"])).to_numpy()


def test_transitions_are_from_the_baselines_kind_to_the_others(comparison: pd.DataFrame) -> None:
    kept = filters.keep(comparison, filters=Filters())
    table = tables.transitions(kept).set_index(["baseline", "other"])
    weight = weight_of(kept)
    for before, after in itertools.product(Kind, Kind):
        inside = ((kept["kind_baseline"] == before) & (kept["kind_other"] == after)).to_numpy()
        row = table.loc[(before.value, after.value)]
        assert row["share"] == pytest.approx(weight[inside].sum() / weight.sum())
        assert row["positions"] == inside.sum()
    shares = table["share"]
    assert shares["lock-like", "fork-like"] != pytest.approx(shares["fork-like", "lock-like"])
    empty = tables.transitions(kept.iloc[:0])
    assert empty["share"].isna().all()
    assert (empty["positions"] == 0).all()


@pytest.mark.parametrize("assignment", list(Assignment))
def test_events_are_counted_with_their_null(
    comparison: pd.DataFrame, assignment: Assignment
) -> None:
    chosen = Filters(assignment=assignment, correct=("correct", "wrong"))
    table = tables.event_table(comparison, filters=chosen)
    sides = [filters.keep(side, filters=chosen) for side in (comparison, exchanged(comparison))]
    pairs = set()
    for row in table.to_dict("records"):
        shares, of_kind = [], 0.0
        for side in sides:
            weight = weight_of(side)
            kind = (side[f"kind_{assignment}"] == row["kind"]).to_numpy()
            inside = kind & (side[f"event_{assignment}"] == row["event"]).to_numpy()
            shares.append(weight[inside].sum() / weight.sum())
            if side is sides[0]:
                assert row["positions"] == inside.sum()
                of_kind = weight[inside].sum() / weight[kind].sum() if kind.any() else 0.0
        assert row["share"] == pytest.approx(shares[0])
        assert row["share_of_kind"] == pytest.approx(of_kind)
        assert row["null"] == pytest.approx(sum(shares) / 2)
        pairs.add((row["kind"], row["event"]))
    assert len(pairs) == len(table) > 6
    assert table["share"].sum() == pytest.approx(1)
    assert table["null"].sum() == pytest.approx(1)


@pytest.mark.parametrize("assignment", list(Assignment))
@pytest.mark.parametrize("event", [(), ("swap", "true fork"), ("strict lock", "softened")])
def test_a_null_by_symmetry_is_the_share_itself(
    trio: dict[str, pd.DataFrame], assignment: Assignment, event: tuple[str, ...]
) -> None:
    chosen = Filters(assignment=assignment, event=event, kind=("lock-like", "fork-like"))
    table = tables.event_tables(trio, filters=chosen)
    alike = table["null_by_symmetry"]
    assert alike.any() == (assignment is Assignment.MEAN and "softened" not in event)
    assert (table.loc[alike, "null"] - table.loc[alike, "share"]).abs().max() < 1e-12 or (
        not alike.any()
    )
    deltas = tables.delta_tables(trio, by=["event"], filters=chosen, inference=FEW_DRAWS)
    alike = deltas["event"].isin(symmetric_events(chosen))
    alike &= (deltas["quantity"] != "baseline_top1_prob") & deltas["null"].notna()
    assert alike.any() == (assignment is Assignment.MEAN and "softened" not in event)
    assert (deltas.loc[alike, "null"].abs() < 1e-12).all()


@pytest.mark.parametrize("assignment", list(Assignment))
def test_the_control_and_the_difference_stand_below(
    trio: dict[str, pd.DataFrame], assignment: Assignment
) -> None:
    chosen = Filters(assignment=assignment, kind=("lock-like", "mixed"))
    events = tables.event_tables(trio, filters=chosen)
    shifts = tables.transition_tables(trio, filters=chosen)
    for table, keys, alone in (
        (events, ["kind", "event"], tables.event_table),
        (shifts, ["baseline", "other"], None),
    ):
        other, control, apart = (table[table[COMPARISON] == name].set_index(keys) for name in trio)
        assert len(table) == 3 * len(other)
        assert other.index.equals(control.index)
        assert other.index.equals(apart.index)
        assert apart["positions"].isna().all()
        for column in {"share", "null"} & {*table}:
            assert apart[column].tolist() == (other[column] - control[column]).tolist()
        for name, own in (("ssd", other), ("control", control)):
            frame = trio[name]
            single = (
                alone(frame, filters=chosen)
                if alone
                else tables.transitions(filters.keep(frame, filters=chosen))
            ).set_index(keys)
            for column in ("share", "positions"):
                assert own.loc[single.index, column].tolist() == single[column].tolist()
            absent = own.loc[own.index.difference(single.index)]
            assert (absent["share"] == 0).all()
    assert events.loc[events[COMPARISON] == "control", "null"].sum() == pytest.approx(1)


def test_without_a_control_there_is_no_difference(comparison: pd.DataFrame) -> None:
    alone = {"ssd": comparison}
    for make in (tables.event_tables, tables.transition_tables):
        assert make(alone)[COMPARISON].unique().tolist() == ["ssd"]
    expected = tables.event_table(comparison)
    found = tables.event_tables(alone).drop(columns=COMPARISON)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def test_assignments_stand_under_each_other(trio: dict[str, pd.DataFrame]) -> None:
    chosen = Filters(generator=("ssd",))
    found = tables.assignment_tables(trio, filters=chosen, inference=FEW_DRAWS)
    for assignment in Assignment:
        own = found[found["assignment"] == assignment.value]
        alone = tables.delta_tables(
            trio,
            by=["kind"],
            filters=dataclasses.replace(chosen, assignment=assignment),
            inference=FEW_DRAWS,
        )
        assert alone[COMPARISON].unique().tolist() == [*trio]
        family = ["p_adjusted", "family", "reads"]
        expected = alone[alone["kind"] != ALL].drop(columns=family).reset_index(drop=True)
        pd.testing.assert_frame_equal(
            own.drop(columns=["assignment", *family]).reset_index(drop=True), expected
        )
    assert found["family"].dropna().unique().tolist() == [found["p_value"].notna().sum()]


def test_a_histogram_holds_all_the_weight(comparison: pd.DataFrame) -> None:
    kept = filters.keep(comparison, filters=Filters())
    edges = np.linspace(-0.05, 0.05, 9)
    bins = tables.delta_histogram(kept, quantity="top1_prob", edges=edges)
    values, weight = kept[delta_column("top1_prob")].to_numpy(), weight_of(kept)
    for place, row in enumerate(bins.to_dict("records")):
        low = -np.inf if place == 0 else row["low"]
        inside = (values >= low) & (values < (np.inf if place == 7 else row["high"]))
        assert row["share"] == pytest.approx(weight[inside].sum() / weight.sum())
    assert bins["share"].sum() == pytest.approx(1)


def headline_table(**bounds: tuple[float, ...]) -> pd.DataFrame:
    """Rows of the headline deltas of two models.

    `bounds` are (delta, low, high, null) by name, and the drift null, which is 0 if left out.
    """
    rows = [
        {
            COMPARISON: name,
            "kind": kind.value,
            "quantity": quantity,
            **dict(zip(FIGURES, (*figures, 0.0)[: len(FIGURES)], strict=True)),
        }
        for name, figures in bounds.items()
        for kind, quantity, _ in headlines.HEADLINES
    ]
    return pd.DataFrame(rows)


FIGURES = ("delta", "low", "high", "null", "null_drift")


def under_all(table: pd.DataFrame) -> dict[Assignment, pd.DataFrame]:
    """The same figures whoever's distribution gives the kinds."""
    return dict.fromkeys(Assignment, table)


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ((-0.02, -0.03, -0.01, 0.0), "fell by 0.0200"),
        ((0.02, 0.01, 0.03, 0.0), "rose by 0.0200"),
        ((0.02, -0.01, 0.05, 0.0), "did not measurably change"),
        # Beyond zero, but no further than selection alone would bring it.
        ((0.02, 0.01, 0.03, 0.015), "no more than selection alone"),
        ((-0.02, -0.03, -0.01, -0.015), "no more than selection alone"),
        ((0.02, 0.01, 0.03, np.nan), "no more than selection alone"),
        ((0.02, 0.01, 0.03, -0.015), "rose by 0.0200"),
        ((0.02, np.nan, np.nan, np.nan), "too few problems"),
        ((np.nan, np.nan, np.nan, np.nan), "was not measured"),
        # Noise of that size would go as far, or further.
        ((0.02, 0.01, 0.03, 0.0, 0.015), "no more than noise that costs as much KL"),
        ((-0.02, -0.03, -0.01, 0.0, -0.015), "no more than noise that costs as much KL"),
        ((-0.02, -0.03, -0.01, 0.0, -0.05), "no more than noise that costs as much KL"),
        ((0.02, 0.01, 0.03, 0.0, -0.015), "rose by 0.0200"),
        ((-0.02, -0.03, -0.01, 0.0, 0.015), "fell by 0.0200"),
        ((0.02, 0.01, 0.03, 0.015, 0.015), "no more than selection alone"),
        ((0.02, 0.01, 0.03, 0.0, np.nan), "what noise alone would do is not known"),
        ((0.02, -0.01, 0.03, 0.0, np.nan), "did not measurably change"),
    ],
)
def test_a_change_is_named_only_outside_zero_and_both_nulls(
    figures: tuple[float, ...], said: str
) -> None:
    text = headlines.sentence(under_all(headline_table(ssd=figures)), other="ssd")
    assert text.count(said) == len(headlines.HEADLINES)
    assert "control" not in text


@pytest.mark.parametrize("against", Assignment)
@pytest.mark.parametrize("figures", [(0.0, -0.1, 0.1, 0.0), (-0.2, -0.3, -0.1, 0.0)])
def test_a_change_is_named_only_if_all_three_assignments_agree(
    against: Assignment, figures: tuple[float, float, float, float]
) -> None:
    rose = under_all(headline_table(ssd=(0.2, 0.1, 0.3, 0.0)))
    text = headlines.sentence(rose | {against: headline_table(ssd=figures)}, other="ssd")
    assert "rose by" not in text
    assert text.count("depending on whose distribution") == len(headlines.HEADLINES)
    assert f"{against} {figures[0]:+.4f}" in text


def test_headline_tables_are_the_delta_tables_of_each_assignment(
    run: Run, trio: dict[str, pd.DataFrame]
) -> None:
    filters = Filters(generator=("ssd",))
    null = tables.drift_null(run, DriftAsked(other="ssd", control="control", filters=filters))
    made = headlines.headline_tables(trio, filters=filters, inference=FEW_DRAWS, drift=null)
    alone = headlines.headline_tables(trio, filters=filters, inference=FEW_DRAWS)
    assert list(made) == list(alone) == list(Assignment)
    known = {Assignment.OTHER: made[Assignment.OTHER]}
    again = headlines.headline_tables(
        trio, filters=filters, inference=FEW_DRAWS, drift=null, known=known
    )
    assert again[Assignment.OTHER] is known[Assignment.OTHER]
    assert headlines.sentence(again, other="ssd") == headlines.sentence(made, other="ssd")
    assert len(again[Assignment.BASELINE]) < len(made[Assignment.BASELINE])
    for assignment, table in made.items():
        expected = tables.delta_tables(
            trio,
            by=["kind"],
            filters=dataclasses.replace(filters, assignment=assignment),
            quantities=["top1_prob", "tail_mass", "entropy_kept_nats"],
            inference=FEW_DRAWS,
        )
        with_null = tables.with_drift(expected, null, assignment=assignment)
        pd.testing.assert_frame_equal(table, with_null)
        assert table["null_drift"].notna().any()
        assert alone[assignment]["null_drift"].isna().all()


def test_one_problem_has_one_right_model_in_every_comparison(
    trio: dict[str, pd.DataFrame],
) -> None:
    first, *rest = trio.values()
    assert first["right_model"].nunique() > 1
    assert all((other["right_model"] == first["right_model"]).all() for other in rest)


def test_what_goes_beyond_the_control_is_named() -> None:
    both = {"ssd": (0.1, 0.05, 0.2, 0.0), "control": (0.0, -0.1, 0.1, 0.0)}
    apart = headlines.sentence(
        under_all(headline_table(**both, **{"ssd − control": (0.1, 0.05, 0.2, 0.0)})), other="ssd"
    )
    assert "Beyond the control: locks: top-1" in apart
    same = headlines.sentence(
        under_all(headline_table(**both, **{"ssd − control": (0.1, -0.05, 0.2, 0.0)})), other="ssd"
    )
    assert "None of these differs from the control" in same
    drifts = headlines.sentence(
        under_all(headline_table(**both, **{"ssd − control": (0.1, 0.05, 0.2, 0.0, 0.1)})),
        other="ssd",
    )
    assert "None of these differs from the control" in drifts
    unknown = headlines.sentence(
        under_all(headline_table(**both, **{"ssd − control": (0.1, 0.05, 0.2, 0.0, np.nan)})),
        other="ssd",
    )
    assert "differs from the control by more than noise is not known" in unknown
    nothing = headlines.sentence(
        under_all(headline_table(**both, **{"ssd − control": (np.nan,) * 5})), other="ssd"
    )
    assert "Whether the control differs was not measured" in nothing
    first = headlines.headlines(headline_table(**both, **{"x − y": (0.3, 0, 1, 0)}))[0]
    assert (first.value, first.beside, first.apart) == ("+0.1000", "+0.0000", "+0.3000")
