"""Aggregates, weights and filters against slow means over the same rows."""

import numpy as np
import pandas as pd
import pytest

from probing.reporting import deltas, display, filters, tables
from probing.reporting.comparison import EXCHANGED_TOP1
from probing.reporting.deltas import ALL
from probing.reporting.exchange import exchanged
from probing.reporting.filters import EVERY, HEADLINE, Average, Filters, Weighting
from probing.reporting.quantities import (
    MODEL_QUANTITIES,
    QUANTITIES,
    baseline_column,
    delta_column,
)
from probing.settings import Inference
from probing.vocabulary import CONTENT_FREE_SELECTORS, Assignment, Kind, Stratum

FEW_DRAWS = Inference(draws=200)


def slow_mean(part: pd.DataFrame, column: str, weight: np.ndarray) -> float:
    total = mass = 0.0
    for value, each in zip(part[column], weight, strict=True):
        if np.isfinite(value):
            total, mass = total + each * value, mass + each
    return total / mass if mass else np.nan


def test_delta_table_is_the_weighted_mean_of_each_group(comparison: pd.DataFrame) -> None:
    table = tables.delta_table(
        comparison,
        by=[Stratum.KIND],
        filters=Filters(assignment=Assignment.BASELINE),
        quantities=list(QUANTITIES),
        inference=FEW_DRAWS,
    )
    headline = comparison[comparison["headline"]]
    for found in table.to_dict("records"):
        part = headline
        if found["kind"] != ALL:
            part = headline[headline["kind_baseline"] == found["kind"]]
        weight = (1 / (part["inclusion"] * part["sampling_probability"])).to_numpy()
        expected = slow_mean(part, delta_column(found["quantity"]), weight)
        assert found["delta"] == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)
        assert found["positions"] + found["missing"] == len(part)
        measured = part[part[delta_column(found["quantity"])].notna()]
        assert found["carriers"] == measured["carrier_id"].nunique()
        assert found["problems"] == measured["problem_id"].nunique()
        if not found["positions"]:
            continue
        assert found["low"] < found["delta"] < found["high"]
        if QUANTITIES[found["quantity"]].of == "model":
            assert found["other"] - found["baseline"] == pytest.approx(found["delta"], abs=1e-9)
            before = slow_mean(part, baseline_column(found["quantity"]), weight)
            assert found["baseline"] == pytest.approx(before, rel=1e-9)
        else:
            assert np.isnan(found["baseline"])
            assert np.isnan(found["other"])
    kinds = table[(table["quantity"] == "top1_prob") & (table["kind"] != ALL)]
    assert kinds["share"].sum() == pytest.approx(1)
    assert set(kinds["kind"]) == {kind.value for kind in Kind}


def test_what_is_not_measured_is_left_out_and_counted(comparison: pd.DataFrame) -> None:
    holed = comparison.copy()
    holed.loc[::5, ["tail_mass_delta", "tail_mass_other"]] = np.nan
    for average in Average:
        table = tables.delta_table(
            holed,
            by=[],
            quantities=["tail_mass", "top1_prob"],
            weighting=Weighting(average=average),
            inference=FEW_DRAWS,
        ).set_index("quantity")
        alone = tables.delta_table(
            holed[holed["tail_mass_delta"].notna()],
            by=[],
            quantities=["tail_mass"],
            weighting=Weighting(average=average),
            inference=FEW_DRAWS,
        ).iloc[0]
        lost = int(holed[holed["headline"]]["tail_mass_delta"].isna().sum())
        assert lost > 0
        assert table.loc["tail_mass", "missing"] == lost
        assert table.loc["top1_prob", "missing"] == 0
        for name in ("delta", "low", "high", "baseline", "other"):
            assert table.loc["tail_mass", name] == pytest.approx(alone[name], abs=1e-12)


def test_every_carrier_can_count_alike(comparison: pd.DataFrame) -> None:
    weighting = Weighting(average=Average.CARRIER)
    table = tables.delta_table(
        comparison,
        by=[Stratum.GENERATOR],
        quantities=["entropy_nats"],
        weighting=weighting,
        inference=FEW_DRAWS,
    ).set_index("generator")
    headline = comparison[comparison["headline"]]
    for generator, found in table.iterrows():
        part = headline if generator == ALL else headline[headline["generator"] == generator]
        means = part.groupby("carrier_id")["entropy_nats_delta"].mean()
        sampling = part.groupby("carrier_id")["sampling_probability"].first()
        assert found["delta"] == pytest.approx(np.average(means, weights=1 / sampling))


def test_a_position_counts_under_every_selector_that_chose_it(comparison: pd.DataFrame) -> None:
    by = [Stratum.SELECTOR, Stratum.GENERATOR]
    table = tables.delta_table(
        comparison, by=by, quantities=["entropy_nats"], inference=FEW_DRAWS
    ).set_index([*by])
    headline = comparison[comparison["headline"]]
    overlapping = 0
    for (selector, generator), row in table.drop((ALL, ALL)).iterrows():
        chosen = np.array([selector in text.split() for text in headline["selectors"]])
        part = headline[chosen & (headline["generator"] == generator).to_numpy()]
        group = {Stratum.SELECTOR: selector, Stratum.GENERATOR: generator}
        inside = deltas.in_group(headline, group=group, assignment=Assignment.MEAN)
        pd.testing.assert_frame_equal(headline[inside], part)
        weight = filters.weights(part, weighting=Weighting())
        assert row["positions"] == len(part)
        assert row["delta"] == pytest.approx(np.average(part["entropy_nats_delta"], weights=weight))
        overlapping += len(part)
    names = {name for text in headline["selectors"] for name in text.split()}
    assert set(table.index.get_level_values(0)) == names | {ALL}
    assert overlapping > len(headline)


@pytest.mark.parametrize("by", [[Stratum.KIND], [Stratum.EVENT, Stratum.GENERATOR]])
def test_a_group_of_the_table_is_the_positions_in_it(
    comparison: pd.DataFrame, by: list[Stratum]
) -> None:
    table = tables.delta_table(comparison, by=by, quantities=["entropy_nats"], inference=FEW_DRAWS)
    headline = comparison[comparison["headline"]]
    for row in table.iloc[1:].to_dict("records"):
        group = {name: row[name] for name in by}
        inside = deltas.in_group(headline, group=group, assignment=Assignment.MEAN)
        assert inside.sum() == row["positions"] + row["missing"]


def test_weights_follow_how_a_position_was_chosen(comparison: pd.DataFrame) -> None:
    for selector in (HEADLINE, EVERY, "answer"):
        found = filters.weights(comparison, weighting=Weighting(selector=selector))
        for weight, place in zip(found, comparison.to_dict("records"), strict=True):
            names = set(place["selectors"].split())
            expected = {
                HEADLINE: 1 / place["inclusion"] if names & CONTENT_FREE_SELECTORS else 0,
                EVERY: 1 if names - CONTENT_FREE_SELECTORS else 1 / place["inclusion"],
                "answer": float("answer" in names),
            }[selector]
            assert weight == pytest.approx(expected / place["sampling_probability"])
        assert (found > 0).any()


def test_the_same_positions_give_the_same_interval(comparison: pd.DataFrame) -> None:
    one, two = (
        tables.delta_table(
            comparison,
            by=[Stratum.KIND],
        )
        for _ in range(2)
    )
    pd.testing.assert_frame_equal(one, two)


def test_kind_shares_are_weights_per_assignment(comparison: pd.DataFrame) -> None:
    shares = tables.kind_shares(comparison)
    assert len(shares) == len(Assignment) * len(Kind)
    headline = comparison[comparison["headline"]]
    weight = 1 / (headline["inclusion"] * headline["sampling_probability"])
    for found in shares.to_dict("records"):
        inside = headline[f"kind_{found['assignment']}"] == found["kind"]
        assert found["positions"] == inside.sum()
        assert found["share"] == pytest.approx(weight[inside].sum() / weight.sum())


def test_filters_keep_what_passes_all_of_them(comparison: pd.DataFrame) -> None:
    length = filters.options(comparison, Stratum.LENGTH)
    assert [label.split()[0] for label in length] == ["short", "medium", "long"]
    assert filters.options(comparison, Stratum.CORRECT) == ["correct", "wrong", "unknown"]
    chosen = Filters(
        length_bin=(length[0], length[2]),
        kind=(Kind.LOCK.value, Kind.MIXED.value),
        correct=("wrong",),
        generator=("ssd",),
        selector=EVERY,
        assignment=Assignment.OTHER,
    )
    kept = filters.keep(comparison, filters=chosen)
    expected = [
        place["row"]
        for place in comparison.to_dict("records")
        if place["length_bin"] in chosen.length_bin
        and place["kind_other"] in chosen.kind
        and place["correct"] == "wrong"
        and place["generator"] == "ssd"
    ]
    assert kept["row"].tolist() == expected
    assert 0 < len(expected) < len(comparison)
    every = filters.keep(comparison, filters=Filters(selector=EVERY))
    assert len(every) == len(comparison)
    counts = filters.count(kept)
    assert counts.carriers == kept["carrier_id"].nunique()
    assert counts.problems == kept["problem_id"].nunique()


# Tests of the rows


TESTED = ("excess", "excess_low", "excess_high", "p_value", "detectable")


@pytest.fixture(scope="module")
def whole(comparison: pd.DataFrame) -> pd.DataFrame:
    return tables.delta_table(
        comparison,
        by=[Stratum.KIND],
        filters=Filters(assignment=Assignment.BASELINE),
        quantities=list(QUANTITIES),
        inference=FEW_DRAWS,
    )


def test_every_row_reads_as_its_test_says(whole: pd.DataFrame) -> None:
    ranked = sorted(p for p in whole["p_value"] if np.isfinite(p))
    seen = set()
    for row in whole.to_dict("records"):
        # Pairs have no null, nor has a group that exchanged roles do not select.
        if row["quantity"] == "baseline_top1_prob" or np.isnan(row["null"]):
            assert all(np.isnan(row[name]) for name in TESTED)
            assert row["reads"] == ""
            assert pd.isna(row["family"])
            continue
        assert row["excess"] == pytest.approx(row["delta"] - row["null"], abs=1e-12)
        assert row["excess_low"] <= row["excess"] <= row["excess_high"]
        expected = min(
            min(1.0, p * len(ranked) / (place + 1))
            for place, p in enumerate(ranked)
            if p >= row["p_value"]
        )
        assert row["p_adjusted"] == pytest.approx(expected)
        assert row["family"] == len(ranked)
        margin = {
            "top1_prob": 0.02,
            "entropy_kept_nats": 0.05,
            "nucleus_size": 0.1 * row["baseline"],
        }.get(row["quantity"])
        assert np.isnan(row["margin"]) if margin is None else row["margin"] == margin
        preserved = margin is not None and bool(row["preserved"])
        told = row["p_adjusted"] <= 0.05
        names = {(0, 0): "cannot tell", (0, 1): "preserved", (1, 0): "changed"}
        assert row["reads"] == names.get((told, preserved), "small change")
        if preserved:
            assert abs(row["excess"]) < margin
        seen.add(row["reads"])
    assert {"changed", "cannot tell"} <= seen


def test_by_the_mean_the_excess_is_the_delta(comparison: pd.DataFrame) -> None:
    table = tables.delta_table(comparison, by=[Stratum.KIND], inference=FEW_DRAWS)
    own = table[table["excess"].notna()]
    assert len(own) > 0
    for name in ("", "_low", "_high"):
        wanted = own[name.removeprefix("_") or "delta"]
        pd.testing.assert_series_equal(own[f"excess{name}"], wanted, check_names=False)


@pytest.mark.parametrize("average", list(Average))
def test_selecting_alike_is_only_a_short_cut(
    comparison: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, average: Average
) -> None:
    holed = comparison.copy()
    holed.loc[::5, ["tail_mass_delta", "tail_mass_other"]] = np.nan
    asked = {"by": [Stratum.KIND], "inference": FEW_DRAWS, "weighting": Weighting(average=average)}
    short = tables.delta_table(holed, **asked)
    monkeypatch.setattr(deltas, "changes_selection", lambda columns: True)
    pd.testing.assert_frame_equal(short, tables.delta_table(holed, **asked))


def test_exchanging_the_models_flips_the_excess_and_keeps_the_test(
    comparison: pd.DataFrame, whole: pd.DataFrame
) -> None:
    swapped = tables.delta_table(
        exchanged(comparison),
        by=[Stratum.KIND],
        filters=Filters(assignment=Assignment.BASELINE),
        quantities=list(MODEL_QUANTITIES),
        inference=FEW_DRAWS,
    ).set_index(["kind", "quantity"])
    own = whole[whole["p_value"].notna()].set_index(["kind", "quantity"])
    other = swapped.loc[own.index]
    np.testing.assert_allclose(own["excess"], -other["excess"], atol=1e-12)
    np.testing.assert_allclose(own["p_value"], other["p_value"], rtol=1e-6)
    assert (own["excess"].abs() > 1e-6).any()


def test_equal_models_are_preserved(comparison: pd.DataFrame) -> None:
    same = comparison.assign(
        **{delta_column(name): 0.0 for name in MODEL_QUANTITIES},
        **{EXCHANGED_TOP1[0]: 0.5, EXCHANGED_TOP1[1]: 0.5},
    )
    table = tables.delta_table(same, by=[], inference=FEW_DRAWS).set_index("quantity")
    assert table["p_value"].isna().all()
    for name in ("top1_prob", "entropy_kept_nats", "nucleus_size"):
        assert table.loc[name, "reads"] == "preserved"
    assert table["family"].isna().all()


def test_a_family_is_all_rows_of_the_table(trio: dict[str, pd.DataFrame]) -> None:
    table = tables.delta_tables(trio, by=[Stratum.KIND], inference=FEW_DRAWS)
    known = table["p_value"].notna()
    assert (table.loc[known, "family"] == known.sum()).all()
    assert set(table.loc[known, "comparison"]) == set(trio)
    said = display.family_notes(table, inference=FEW_DRAWS)
    assert said[0].startswith(f"p is adjusted over the {known.sum()} tests")
    untested = table[~known]
    assert display.family_notes(untested, inference=FEW_DRAWS) == []
