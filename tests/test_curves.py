"""Curves against whole rows and plain statistics, and what equal mass must mean."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pages_run import TOP_K, PagesRun, write_pages_run
from test_evidence import counted_of, kept_of, real_like

from probing.analysis.curves import (
    QUANTITIES,
    AtEqualMass,
    Sides,
    at_equal_mass,
    equal_mass_temperatures,
    mass_by_rank,
    mean_curve,
    mean_sides,
    over_temperatures,
)
from probing.analysis.decoding import statistics
from probing.analysis.distributions import Distributions
from probing.analysis.estimates import Estimate
from probing.analysis.pair import Weighted
from probing.errors import OutsideContract, UsageFault
from probing.reporting import tables
from probing.reporting.curves import CurvesAsked, CurveTables, curve_tables
from probing.reporting.deltas import ALL
from probing.reporting.mechanism_charts import (
    mass_chart,
    mass_sentence,
    matched_chart,
    matched_sentence,
    temperature_chart,
    temperature_sentence,
)
from probing.settings import ORDERS, Curves, Decoding, Inference, KindRule
from probing.store.reader import Run
from probing.vocabulary import Kind, Stratum

TEMPERATURES = (0.4, 0.5, 0.65, 0.8, 1.0, 1.25, 1.5, 2.0)
PLAIN = Decoding()
ROWS, PROBLEMS = 96, 12
KINDS = [ALL, *(kind.value for kind in Kind)]


def varied(rows: int) -> np.ndarray:
    """Rows from open to sharp: every size of nucleus, and mass outside the top 20."""
    rng = np.random.default_rng(3)
    spread = rng.uniform(1.2, 4.0, size=(rows, 1))
    return (spread * rng.normal(size=(rows, 600))).astype(np.float32)


@pytest.fixture(scope="module")
def pair() -> tuple[Distributions, Distributions]:
    """Rows, and the same sharpened with noise."""
    a = varied(ROWS)
    noise = np.random.default_rng(5).normal(scale=0.3, size=a.shape)
    b = (1.15 * a + noise).astype(np.float32)
    return kept_of(a, among=np.stack([a, b])), kept_of(b, among=np.stack([a, b]))


@pytest.fixture(scope="module")
def curves(run: Run) -> CurveTables:
    return curve_tables(run, "ssd")


# --- Along the curves ---------------------------------------------------------------------------


def test_mass_by_rank_is_that_of_the_whole_row(written: PagesRun, run: Run) -> None:
    ranks = (1, 2, 7, 20, TOP_K)
    for place, name in enumerate(run.model_names):
        found = mass_by_rank(run.distributions(name), ranks=ranks)
        full = written.logits[:, place].astype(np.float64)
        p = np.exp(full - full.max(axis=1, keepdims=True))
        p = np.sort(p / p.sum(axis=1, keepdims=True), axis=1)[:, ::-1]
        wanted = np.cumsum(p, axis=1)[:, np.array(ranks) - 1]
        np.testing.assert_allclose(found, wanted, atol=1e-4)
        assert (np.diff(found, axis=1) >= 0).all()


def test_ranks_beyond_the_candidates_are_not_known() -> None:
    full = real_like(6, vocabulary=600)
    known = mass_by_rank(kept_of(full, among=full[None], depth=8), ranks=(8, 9, 700))
    assert np.isfinite(known[:, 0]).all()
    assert np.isnan(known[:, 1:]).all()
    whole = mass_by_rank(kept_of(full[:, :30], among=full[None, :, :30], depth=30), ranks=(30, 99))
    np.testing.assert_allclose(whole, 1)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "change", [{}, {"top_k": 0}, {"top_k": 0, "top_p": 1.0}, {"min_p": 0.1}, {"top_p": 1.0}]
)
def test_truncation_over_temperature_is_the_statistics_of_each(
    pair: tuple[Distributions, Distributions], order: str, change: dict[str, float]
) -> None:
    decoding = replace(PLAIN, order=order, **change)
    found = over_temperatures(pair[0], temperatures=TEMPERATURES, decoding=decoding)
    for place, temperature in enumerate(TEMPERATURES):
        own = replace(decoding, temperature=temperature)
        wanted = statistics(pair[0], decoding=own, rule=KindRule())
        for name in QUANTITIES:
            values = getattr(found, name)[:, place]
            np.testing.assert_allclose(values, getattr(wanted, name), rtol=1e-12, atol=1e-12)


def test_means_take_the_positions_that_both_measure() -> None:
    first = np.array([[1.0], [2.0], [np.nan], [4.0]])
    second = np.array([[2.0], [np.inf], [3.0], [8.0]])
    counted = Weighted(np.array([1.0, 1.0, 1.0, 3.0]), np.array([0, 0, 1, 1]), 2)
    found = mean_sides(first, second, counted=counted)
    assert found.baseline[0].value == pytest.approx((1 + 3 * 4) / 4)
    assert found.other[0].value == pytest.approx((2 + 3 * 8) / 4)
    assert found.delta[0].value == pytest.approx((1 + 3 * 4) / 4)
    assert found.delta[0].positions == 2


# --- At equal mass ------------------------------------------------------------------------------


def matched(
    a: Distributions,
    b: Distributions,
    counted: Weighted,
    *,
    figure: str = "entropy_kept_nats",
    temperatures: tuple[float, ...] = TEMPERATURES,
) -> tuple[np.ndarray, list[Estimate], Sides]:
    """T', the other's figure there, and the figure along the curve."""
    first, second = (
        over_temperatures(each, temperatures=temperatures, decoding=PLAIN) for each in (a, b)
    )
    outside, own = (
        mean_sides(getattr(first, name), getattr(second, name), counted=counted)
        for name in ("tail_mass", figure)
    )
    at = equal_mass_temperatures(outside, temperatures=temperatures)
    asked = np.where(np.isfinite(at), at, 1.0)
    there = over_temperatures(b, temperatures=asked.tolist(), decoding=PLAIN)
    means = AtEqualMass(
        at,
        mean_curve(there.tail_mass, counted=counted),
        mean_curve(getattr(there, figure), counted=counted),
    )
    return at, at_equal_mass(outside, own, means, temperatures=temperatures), own


@pytest.mark.parametrize("figure", ["entropy_kept_nats", "nucleus_size"])
@pytest.mark.parametrize("sharper", [1.25, 0.85])
def test_a_mere_temperature_leaves_nothing_at_equal_mass(sharper: float, figure: str) -> None:
    # b at T' = sharper * T is a at T, whole rows and all.
    full = varied(ROWS)
    rows = kept_of(full, among=full[None])
    scaled = kept_of((sharper * full).astype(np.float32), among=full[None])
    counted = counted_of(ROWS, problems=PROBLEMS)
    at, other, own = matched(rows, scaled, counted, figure=figure, temperatures=FINE)
    inside = np.array([FINE[0] <= sharper * t <= FINE[-1] for t in FINE])
    known = np.isfinite(at)
    # Within a step of the ends rounding decides.
    assert (known == inside)[1:-1].all()
    np.testing.assert_allclose(at[known], sharper * np.array(FINE)[known], rtol=2e-4)
    same_mean = [abs(o.value - s.value) for o, s in zip(other, own.baseline, strict=True)]
    size = {"entropy_kept_nats": 2e-4, "nucleus_size": 0.03}[figure]
    assert np.nanmax(same_mean) < size
    # And the difference is certain: problems move both alike.
    errors = [(o - s).error for o, s in zip(other, own.baseline, strict=True)]
    assert np.nanmax(np.array(errors)[known]) < 0.35 * np.median([s.error for s in own.baseline])


FINE = tuple(np.exp(np.linspace(np.log(0.4), np.log(2.0), 16)).tolist())


def test_identical_models_are_matched_with_themselves(
    pair: tuple[Distributions, Distributions],
) -> None:
    a, _ = pair
    at, other, own = matched(a, a, counted_of(ROWS, problems=PROBLEMS))
    np.testing.assert_allclose(at, TEMPERATURES, rtol=1e-9)
    for there, here in zip(other, own.baseline, strict=True):
        assert (there - here).value == pytest.approx(0, abs=1e-8)
        np.testing.assert_allclose((there - here).influence, 0, atol=1e-7)


def test_the_matched_temperature_has_the_same_mass(
    pair: tuple[Distributions, Distributions],
) -> None:
    counted = counted_of(ROWS, problems=PROBLEMS)
    at, _, _ = matched(*pair, counted, temperatures=FINE)
    first = over_temperatures(pair[0], temperatures=FINE, decoding=PLAIN).tail_mass
    known = np.isfinite(at)
    assert known.sum() >= 8
    second = over_temperatures(pair[1], temperatures=at[known].tolist(), decoding=PLAIN).tail_mass
    wanted = counted.weights @ first[:, known]
    np.testing.assert_allclose(counted.weights @ second, wanted, rtol=3e-3)


def test_the_error_at_equal_mass_is_that_of_leaving_problems_out(
    pair: tuple[Distributions, Distributions],
) -> None:
    """Jackknife: everything again without each problem, T' too."""
    counted = counted_of(ROWS, problems=PROBLEMS)
    at, other, own = matched(*pair, counted)
    left_out = []
    for problem in range(PROBLEMS):
        weights = np.where(counted.clusters == problem, 0.0, counted.weights)
        _, there, here = matched(*pair, replace(counted, weights=weights))
        left_out.append([o.value - h.value for o, h in zip(there, here.baseline, strict=True)])
    table = np.array(left_out)
    known = np.flatnonzero(np.isfinite(table).all(axis=0) & np.isfinite(at))
    assert len(known) >= 4
    spread = table[:, known] - table[:, known].mean(axis=0)
    jackknife = np.sqrt((PROBLEMS - 1) / PROBLEMS * (spread**2).sum(axis=0))
    errors = np.array([(other[i] - own.baseline[i]).error for i in known])
    # The nucleus jumps as T' moves, so single temperatures scatter.
    np.testing.assert_allclose(errors, jackknife, rtol=0.35)
    assert np.mean(errors / jackknife) == pytest.approx(1, abs=0.12)


def estimates(values: list[float]) -> list[Estimate]:
    return [Estimate(value, np.array([0.1, -0.1]), 10) for value in values]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ([0.1, 0.2, 0.3], "too few points"),
        ([0.1, 0.2, 0.15, 0.3, 0.4], "does not rise"),
        ([0.0, 0.0, 0.0, 0.2, 0.3, 0.4], "too few points have mass outside"),
        ([1e-12, 1e-11, 1e-10, 0.2, 0.3, 0.4], "mass that rounding makes is none"),
    ],
)
def test_without_a_rising_curve_nothing_is_matched(other: list[float], why: str) -> None:
    temperatures = np.linspace(0.5, 1.5, len(other)).tolist()
    sides = Sides(estimates([0.2] * len(other)), estimates(other))
    found = equal_mass_temperatures(sides, temperatures=temperatures)
    assert np.isnan(found).all(), why


def test_mass_outside_the_curve_is_not_matched() -> None:
    temperatures = (0.5, 0.7, 0.9, 1.1, 1.3)
    curve = [0.01, 0.02, 0.04, 0.08, 0.16]
    sides = Sides(estimates([0.001, 0.01, 0.04, 0.16, 0.5]), estimates(curve))
    found = equal_mass_temperatures(sides, temperatures=temperatures)
    assert np.isnan(found[[0, 4]]).all()
    np.testing.assert_allclose(found[1:4], [0.5, 0.9, 1.3])


# --- The tables of a run ------------------------------------------------------------------------


def test_tables_have_a_row_per_kind_model_and_point(run: Run, curves: CurveTables) -> None:
    models = [run.model_names[0], "ssd", f"ssd − {run.model_names[0]}"]
    ranks = [rank for rank in Curves().ranks if rank <= TOP_K]
    assert len(ranks) < len(Curves().ranks)
    temperatures = list(Curves().temperatures)
    for table, keys, points in (
        (curves.by_rank, ["kind", "model", "rank"], [KINDS, models, ranks]),
        (
            curves.by_temperature,
            ["kind", "model", "temperature", "quantity"],
            [KINDS, models, temperatures, list(QUANTITIES)],
        ),
        (
            curves.matched,
            ["kind", "quantity", "temperature"],
            [KINDS, ["nucleus_size", "entropy_kept_nats"], temperatures],
        ),
    ):
        found = set(table[keys].itertuples(index=False, name=None))
        assert found == set(pd.MultiIndex.from_product(points))
        assert len(table) == len(found)


def test_at_one_temperature_the_curve_is_the_delta_table(run: Run, curves: CurveTables) -> None:
    decoding = Decoding(temperature=1.5)
    wide = tables.comparison_table(run, other="ssd", decoding=decoding, rule=KindRule())
    wanted = tables.delta_table(
        wide, by=[Stratum.KIND], quantities=list(QUANTITIES), inference=Inference(draws=10)
    ).set_index(["kind", "quantity"])
    here = curves.by_temperature[curves.by_temperature["temperature"] == 1.5]
    for column, model in zip(("baseline", "other", "delta"), here["model"].unique(), strict=True):
        own = here[here["model"] == model].set_index(["kind", "quantity"])
        for key, want in wanted.iterrows():
            assert own.loc[key, "value"] == pytest.approx(want[column], rel=1e-9, abs=1e-12)
            assert own.loc[key, "positions"] == want["positions"]
            assert own.loc[key, "problems"] == want["problems"]


def test_the_top_rank_is_the_top_probability(comparison: pd.DataFrame, curves: CurveTables) -> None:
    wanted = tables.delta_table(
        comparison, by=[Stratum.KIND], quantities=["top1_prob"], inference=Inference(draws=10)
    ).set_index("kind")
    first = curves.by_rank[curves.by_rank["rank"] == 1]
    for column, model in zip(("baseline", "other", "delta"), first["model"].unique(), strict=True):
        own = first[first["model"] == model].set_index("kind")["mass"]
        for kind, want in wanted[column].items():
            assert own[kind] == pytest.approx(want, rel=1e-9)


def test_masses_rise_with_rank_and_fall_with_temperature(curves: CurveTables) -> None:
    models = curves.by_rank["model"].unique()[:2]
    for _, part in curves.by_rank[curves.by_rank["model"].isin(models)].groupby(["kind", "model"]):
        assert (part["mass"].diff().dropna() >= 0).all()
        assert part["mass"].between(0, 1).all()
    kept = curves.by_temperature
    outside = kept[(kept["quantity"] == "tail_mass") & kept["model"].isin(models)]
    for _, part in outside.groupby(["kind", "model"]):
        assert (part["value"].diff().dropna() > 0).all()
    for _, part in curves.matched[curves.matched["delta"].notna()].groupby(["kind", "quantity"]):
        assert (part["other_temperature"].diff().dropna() > 0).all()
        np.testing.assert_allclose(part["other"] - part["baseline"], part["delta"], atol=1e-12)


def test_exchanging_the_models_turns_differences_round(tmp_path: Path, curves: CurveTables) -> None:
    swapped = curve_tables(write_pages_run(tmp_path / "s.zarr", take=(1, 0, 2)).open(), "ssd")
    for own, other, value in (
        (curves.by_rank, swapped.by_rank, "mass"),
        (curves.by_temperature, swapped.by_temperature, "value"),
    ):
        names = own["model"].unique()
        for mine, theirs, sign in ((0, 1, 1), (1, 0, 1), (2, 2, -1)):
            first = own[own["model"] == names[mine]][[value, "low", "high"]].to_numpy()
            second = other[other["model"] == names[theirs]][[value, "low", "high"]].to_numpy()
            second = second if sign == 1 else -second[:, [0, 2, 1]]
            np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-7)


def test_identical_models_differ_nowhere(tmp_path: Path) -> None:
    same = write_pages_run(tmp_path / "same.zarr", take=(0, 0, 0), problems=12).open()
    found = curve_tables(same, "ssd")
    contrast = found.by_temperature["model"].unique()[2]
    rows = found.by_temperature[found.by_temperature["model"] == contrast]
    assert (rows["value"].dropna() == 0).all()
    matched_rows = found.matched.dropna(subset="delta")
    assert len(matched_rows)
    np.testing.assert_allclose(matched_rows["delta"], 0, atol=1e-8)
    np.testing.assert_allclose(matched_rows["other_temperature"], matched_rows["temperature"])


def test_points_that_the_run_cannot_answer_have_no_rows(run: Run) -> None:
    points = Curves(ranks=(1, 20, TOP_K + 1), temperatures=(0.1, 0.5, 0.8, 1.0, 1.4, 3.0))
    found = curve_tables(run, "ssd", asked=CurvesAsked(points=points))
    assert sorted(found.by_rank["rank"].unique()) == [1, 20]
    assert sorted(found.by_temperature["temperature"].unique()) == [0.5, 0.8, 1.0, 1.4]
    with pytest.raises(UsageFault, match=r"from 0.25 to 2, which this run holds, got \[9.0\]"):
        curve_tables(run, "ssd", asked=CurvesAsked(points=Curves(temperatures=(9.0,))))
    with pytest.raises(OutsideContract, match="top_k must be at most"):
        curve_tables(run, "ssd", asked=CurvesAsked(decoding=Decoding(top_k=TOP_K + 40)))
    with pytest.raises(UsageFault, match="other must be one of"):
        curve_tables(run, "nobody")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ranks": (2, 1)}, "ranks must be ascending"),
        ({"ranks": (0, 1)}, "ranks must be 1 or more"),
        ({"temperatures": (1.0, 1.0)}, "temperatures must be ascending"),
        ({"temperatures": (0.0, 1.0)}, "temperatures must be 1e-05 or more"),
    ],
)
def test_points_are_checked(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageFault, match=message):
        Curves(**change)


# --- Charts and sentences -----------------------------------------------------------------------


def test_charts_draw_models_and_kinds_that_occur(curves: CurveTables) -> None:
    for chart in (
        mass_chart(curves.by_rank),
        temperature_chart(curves.by_temperature, quantity="nucleus_size"),
    ):
        drawn = chart.to_dict()
        (data,) = drawn["datasets"].values()
        assert {row["model"] for row in data} == set(curves.by_rank["model"].unique()[:2])
        assert {row["kind"] for row in data} <= set(KINDS) - {ALL}
    drawn = matched_chart(curves.matched, quantity="entropy_kept_nats").to_dict()
    sizes = sorted(len(rows) for rows in drawn["datasets"].values())
    known = curves.matched[curves.matched["quantity"] == "entropy_kept_nats"]
    assert sizes == [1, int((known["delta"].notna() & (known["kind"] != ALL)).sum())]


def test_sentences_say_what_the_tables_hold() -> None:
    rows = pd.DataFrame(
        {
            "kind": [Kind.LOCK.value] * 4 + [Kind.FORK.value] * 4,
            "quantity": "entropy_kept_nats",
            "temperature": [0.5, 0.7, 1.0, 1.5] * 2,
            "delta": [0.1, 0.1, 0.0, -0.1, 0.1, np.nan, 0.1, 0.1],
            "low": [0.05, 0.05, -0.1, -0.2, 0.05, np.nan, 0.05, -0.05],
            "high": [0.2, 0.2, 0.1, -0.05, 0.2, np.nan, 0.2, 0.2],
        }
    )
    text = matched_sentence(rows, quantity="entropy_kept_nats")
    assert "at locks higher at T 0.5 to 0.7, not told apart at T 1, lower at T 1.5" in text
    assert "at forks higher at T 0.5 to 1, not told apart at T 1.5" in text


def test_sentences_of_a_run_name_its_models(curves: CurveTables) -> None:
    first = mass_sentence(curves.by_rank)
    second = temperature_sentence(curves.by_temperature, quantity="nucleus_size")
    for text in (first, second):
        assert "of ssd" in text
        assert "baseline" in text
        assert "locks" in text
        assert text.endswith(".")
    assert "the 20 likeliest tokens" in first
