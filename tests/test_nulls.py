"""The role-exchange null, and two other models against each other."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages_run import write_pages_run
from rows import distributions_of_models
from scipy import stats as scipy_stats

from probing.analysis.decoding import probability_of, statistics
from probing.analysis.kinds import CODES, kinds
from probing.analysis.nulls import Sample, role_exchange
from probing.carriers.record import Carrier
from probing.carriers.strata import right_model
from probing.reporting import filters, tables
from probing.reporting.contrasts import COMPARISON, MEAN_OF_ALL, contrast_name
from probing.reporting.deltas import ALL
from probing.reporting.exchange import exchanged
from probing.reporting.filters import Average, Filters, Weighting
from probing.reporting.quantities import (
    MODEL_QUANTITIES,
    PAIR_QUANTITIES,
    baseline_column,
    delta_column,
    other_column,
)
from probing.settings import Decoding, Inference, KindRule
from probing.store.reader import Run
from probing.vocabulary import UNKNOWN, Assignment, Kind, Stratum

FEW_DRAWS = Inference(draws=100)


def sample(rng: np.random.Generator, count: int, clusters: int) -> Sample:
    values = rng.normal(size=(count, 2))
    values[rng.random(values.shape) < 0.1] = np.nan
    return Sample(values, rng.random((count, 2)), rng.integers(0, clusters, size=count))


@given(st.integers(0, 2**32 - 1), st.integers(2, 30))
def test_role_exchange_is_half_the_sum_of_two_weighted_means(seed: int, clusters: int) -> None:
    rng = np.random.default_rng(seed)
    sides = [sample(rng, 60, clusters), sample(rng, 45, clusters)]
    null = role_exchange(*sides, level=0.95)
    for column in range(2):
        means, residual = [], np.zeros(clusters)
        counts = []
        for side in sides:
            measured = np.isfinite(side.values[:, column])
            counts.append(len(set(side.clusters[measured].tolist())))
            weight, value = side.weights[measured, column], side.values[measured, column]
            mean = np.average(value, weights=weight)
            means.append(mean)
            for w, x, cluster in zip(weight, value, side.clusters[measured], strict=True):
                residual[cluster] += w * (x - mean) / weight.sum() / 2
        count = min(counts)
        error = np.sqrt((residual**2).sum() * count / (count - 1))
        half = scipy_stats.t.ppf(0.975, count - 1) * error
        assert null.value[column] == pytest.approx(sum(means) / 2)
        assert null.high[column] - null.value[column] == pytest.approx(half)
        assert null.value[column] - null.low[column] == pytest.approx(half)


def test_a_side_without_a_value_has_no_null() -> None:
    rng = np.random.default_rng(0)
    empty = Sample(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, dtype=np.int64))
    null = role_exchange(sample(rng, 30, 5), empty, level=0.95)
    assert np.isnan(null.value).all()
    one = sample(rng, 30, 1)
    assert np.isnan(role_exchange(one, one, level=0.95).low).all()


def test_equal_noise_on_both_models_is_found_by_the_null_and_not_by_the_mean() -> None:
    """Nothing happened, but both models are noisy: the baseline's kinds lose top-1 mass."""
    rng = np.random.default_rng(7)
    truth = 3.0 * rng.normal(size=(6000, 24))
    logits = [(truth + 0.6 * rng.normal(size=truth.shape)).astype(np.float32) for _ in range(2)]
    rows = distributions_of_models(logits, top_k=24)
    stats = [statistics(one, decoding=Decoding(), rule=KindRule()) for one in rows]
    codes = [kinds(one, rule=KindRule()) for one in stats]
    own = [
        probability_of(rows[j], stats[i].top1_id, temperature=1.0) for i in (0, 1) for j in (0, 1)
    ]
    # [of a's top under a, under b, of b's top under a, under b]
    forth, back = own[1] - own[0], own[2] - own[3]
    lock = CODES[Kind.LOCK]
    sides = {
        "baseline": (forth[codes[0] == lock], back[codes[1] == lock]),
        "mean": (forth[codes[2] == lock], back[codes[2] == lock]),
    }
    for forth_at_locks, back_at_locks in sides.values():
        delta = forth_at_locks.mean()
        parts = [
            Sample(x[:, None], np.ones((len(x), 1)), np.arange(len(x)))
            for x in (forth_at_locks, back_at_locks)
        ]
        null = role_exchange(*parts, level=0.999)
        assert delta < -4 * forth_at_locks.std() / np.sqrt(len(forth_at_locks))
        assert null.low[0] < delta < null.high[0]
    change = (stats[1].top1_prob - stats[0].top1_prob)[codes[2] == lock]
    assert abs(change.mean()) < 4 * change.std() / np.sqrt(len(change))
    selected = (stats[1].top1_prob - stats[0].top1_prob)[codes[0] == lock]
    assert selected.mean() < -4 * selected.std() / np.sqrt(len(selected))


@pytest.fixture(scope="module")
def swapped(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The pages run with its first two models in each other's place."""
    path = tmp_path_factory.mktemp("swapped") / "pages.zarr"
    run = write_pages_run(path, take=(1, 0, 2)).open()
    return tables.comparison_table(run, other="ssd", decoding=Decoding(), rule=KindRule())


def test_exchanging_is_swapping_the_models(comparison: pd.DataFrame, swapped: pd.DataFrame) -> None:
    found = exchanged(comparison)
    for name in MODEL_QUANTITIES:
        for column in (baseline_column(name), other_column(name), delta_column(name)):
            np.testing.assert_allclose(found[column], swapped[column], rtol=1e-5, atol=1e-7)
    for assignment in Assignment:
        for column in (f"kind_{assignment}", f"event_{assignment}"):
            assert (found[column] == swapped[column]).all(), column
    assert found[list(PAIR_QUANTITIES)].isna().all(axis=None)
    assert (comparison["event_baseline"] != found["event_baseline"]).any()


def test_exchanging_twice_gives_the_comparison_back(comparison: pd.DataFrame) -> None:
    twice = exchanged(exchanged(comparison))
    kept = [column for column in comparison if column not in PAIR_QUANTITIES]
    pd.testing.assert_frame_equal(twice[kept], comparison[kept])


@pytest.mark.parametrize("average", list(Average))
@pytest.mark.parametrize(
    "chosen",
    [
        Filters(assignment=Assignment.BASELINE),
        Filters(assignment=Assignment.OTHER, kind=("lock-like", "mixed")),
        Filters(assignment=Assignment.MEAN, event=("strict lock", "softened", "true fork")),
    ],
)
def test_the_null_of_a_table_is_the_slow_half_sum(
    comparison: pd.DataFrame, chosen: Filters, average: Average
) -> None:
    weighting = Weighting(average=average)
    quantities = ["top1_prob", "baseline_top1_prob", "kl_baseline_other"]
    table = tables.delta_table(
        comparison,
        by=[Stratum.KIND],
        filters=chosen,
        quantities=quantities,
        weighting=weighting,
        inference=FEW_DRAWS,
    )
    sides = [filters.keep(side, filters=chosen) for side in (comparison, exchanged(comparison))]
    seen = 0
    for row in table.to_dict("records"):
        means = []
        for side in sides:
            part = side
            if row["kind"] != ALL:
                part = side[side[f"kind_{chosen.assignment}"] == row["kind"]]
            weight = filters.weights(part, weighting=weighting)
            means.append(np.average(part[delta_column(row["quantity"])], weights=weight))
        assert row["null"] == pytest.approx(sum(means) / 2, abs=1e-12, nan_ok=True)
        seen += row["null"] != 0 and np.isfinite(row["null"])
        if row["quantity"] == "kl_baseline_other":
            assert np.isnan(row["null"])
        elif np.isfinite(row["null_low"]):
            assert row["null_low"] <= row["null"] <= row["null_high"]
    assert seen


def test_the_mean_assignment_has_no_null_of_its_own(comparison: pd.DataFrame) -> None:
    table = tables.delta_table(comparison, by=[Stratum.KIND], inference=FEW_DRAWS)
    own = table[~table["quantity"].isin(["baseline_top1_prob", "kl_baseline_other"])]
    np.testing.assert_allclose(own["null"], 0, atol=1e-15)


def test_a_contrast_is_the_one_other_model_less_the_other(
    run: Run, trio: dict[str, pd.DataFrame]
) -> None:
    name = contrast_name("ssd", "control")
    assert list(trio) == ["ssd", "control", name]
    for quantity in MODEL_QUANTITIES:
        ssd, control = (trio[model][other_column(quantity)] for model in ("ssd", "control"))
        with np.errstate(invalid="ignore"):
            expected = np.where(np.isfinite(ssd) & np.isfinite(control), ssd - control, np.nan)
        np.testing.assert_allclose(trio[name][delta_column(quantity)], expected)
    for quantity in PAIR_QUANTITIES:
        expected = trio["ssd"][quantity] - trio["control"][quantity]
        np.testing.assert_allclose(trio[name][quantity], expected)
    stats = run.statistics(MEAN_OF_ALL, decoding=Decoding(), rule=KindRule())
    labels = [list(Kind)[code].value for code in kinds(stats, rule=KindRule())]
    for assignment in Assignment:
        assert trio[name][f"kind_{assignment}"].tolist() == labels
        assert trio[name][f"event_{assignment}"].isna().all()
    table = tables.delta_tables(trio, by=[Stratum.KIND], inference=FEW_DRAWS)
    assert list(dict.fromkeys(table[COMPARISON])) == list(trio)
    alone = tables.delta_table(trio["control"], by=[Stratum.KIND], inference=FEW_DRAWS)
    own = table[table[COMPARISON] == "control"].reset_index(drop=True)
    # Only the family of tests is another.
    alone = alone.drop(columns=["p_adjusted", "family", "reads"])
    pd.testing.assert_frame_equal(own[list(alone)], alone)
    contrasts = table[(table[COMPARISON] == name) & table["null"].notna()]
    np.testing.assert_allclose(contrasts["null"], 0, atol=1e-15)


def test_a_control_is_the_model_of_that_name(run: Run) -> None:
    assert tables.control_of(run, other="ssd") == "control"
    assert tables.control_of(run, other="control") is None
    assert tables.control_of(run, other="control", wanted="ssd") == "ssd"


def carrier(problem: str, generator: str, correct: bool | None) -> Carrier:
    return dataclasses.replace(
        Carrier(carrier_id="c", problem_id=problem, prompt="p", response="r", generator=generator),
        correct=correct,
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from("xyz"),
            st.sampled_from(["base", "ssd", "third"]),
            st.sampled_from([True, False, None]),
        ),
        max_size=30,
    )
)
def test_the_right_model_is_told_by_majorities(graded: list[tuple[str, str, bool | None]]) -> None:
    found = right_model([carrier(*one) for one in graded], baseline="base", other="ssd")
    for problem in {one[0] for one in graded}:
        majorities = []
        for model in ("base", "ssd"):
            votes = [c for p, g, c in graded if (p, g) == (problem, model) and c is not None]
            right, wrong = votes.count(True), votes.count(False)
            majorities.append(None if right == wrong else right > wrong)
        expected = UNKNOWN
        if None not in majorities:
            expected = {
                (True, True): "both right",
                (True, False): "baseline only",
                (False, True): "other only",
                (False, False): "neither right",
            }[majorities[0], majorities[1]]
        assert found[problem] == expected


def test_places_carry_the_right_model(run: Run, comparison: pd.DataFrame) -> None:
    labels = right_model(run.carriers(), baseline="baseline", other="ssd")
    assert comparison["right_model"].tolist() == [
        labels[problem] for problem in comparison["problem_id"]
    ]
    assert comparison["right_model"].nunique() > 2


def test_a_run_of_two_models_has_no_contrast(tmp_path: Path) -> None:
    run = write_pages_run(
        tmp_path / "pair.zarr", problems=6, models=("baseline", "ssd"), take=(0, 1)
    ).open()
    assert tables.control_of(run, other="ssd") is None
    found = tables.all_comparisons(
        run, other="ssd", control=None, decoding=Decoding(), rule=KindRule()
    )
    assert list(found) == ["ssd"]
