"""The drift null of deltas: plain arithmetic over whole vocabularies, laws, and a run's tables."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pages_run import WARM
from rows import plain_statistics
from scipy.special import softmax
from test_decoding_orders import whole
from test_figures import PROBLEMS, READING, ROWS, SEED, Case, case, divergence, kinds_of

from probing.analysis.drift import matching_scale, surprise
from probing.analysis.drifting import (
    BASELINE_TOP,
    DRIFT_NAMES,
    Counting,
    DriftNulls,
    DriftReading,
    Place,
    drift_nulls,
)
from probing.analysis.estimates import Estimate
from probing.analysis.kinds import CODES
from probing.analysis.mechanism import Compared, Together, weighed
from probing.analysis.multiverse import Weighing
from probing.analysis.pair import Weighted
from probing.errors import UsageFault
from probing.reporting import drifting, filters, mechanism, tables
from probing.reporting.contrasts import COMPARISON
from probing.reporting.deltas import ALL
from probing.reporting.drifting import DriftAsked, drift_null, with_drift
from probing.reporting.filters import Average, Filters, Weighting
from probing.reporting.mechanism import observed_kl
from probing.settings import KIND_PRESETS, Decoding, Inference, Training
from probing.store.reader import Run
from probing.vocabulary import Assignment, Kind

__all__ = ["case"]

WARMER = Decoding(temperature=1.3, top_k=12, top_p=0.9)
CLUSTERS = np.arange(ROWS) % PROBLEMS
FEW_DRAWS = Inference(draws=100)


def reading(decoding: Decoding = WARMER, *, draws: int = 1, **own: object) -> DriftReading:
    settings = {"decoding": decoding, "kinds": READING.kinds, "rule": READING.rule, "draws": draws}
    return DriftReading(**(settings | own))


def nulls_of(
    a: np.ndarray,
    others: list[np.ndarray],
    *,
    weighing: Weighing,
    read: DriftReading,
    of_all: int | None = None,
) -> DriftNulls:
    return drift_nulls(
        whole(a),
        [divergence(a, b) for b in others],
        counted=Counting(weighing, np.arange(len(a)) % PROBLEMS, PROBLEMS),
        reading=read,
        of_all=of_all,
        rng=np.random.default_rng(SEED),
    )


def noise_of(a: np.ndarray, others: list[np.ndarray], weights: np.ndarray) -> list[np.ndarray]:
    """What the first draw adds to the baseline's logits, model after model."""
    stream = np.random.default_rng(SEED).spawn(1)[0]
    found = []
    for b in others:
        noise = stream.standard_normal(a.shape)
        scale = matching_scale(
            surprise(whole(a), noise), divergence(a, b), groups=kinds_of(a), weights=weights
        )
        found.append(scale[:, None] * noise)
    return found


def plain_values(full: np.ndarray, name: str, *, tops: np.ndarray) -> np.ndarray:
    """One quantity of every row, plainly; `tops` are the baseline's top ids."""
    if name == BASELINE_TOP:
        tempered = softmax(full / WARMER.temperature, axis=1)
        return tempered[np.arange(len(full)), tops]
    rows = [plain_statistics(row, decoding=WARMER) for row in full]
    return np.array([getattr(row, name) for row in rows], dtype=np.float64)


def plain_mean(values: np.ndarray, weights: np.ndarray, inside: np.ndarray) -> float:
    return float(np.average(values[inside], weights=weights[inside])) if inside.any() else np.nan


def assert_plain(
    found: dict[Place, Estimate],
    *,
    change: dict[str, np.ndarray],
    codes: dict[Assignment, np.ndarray],
    weights: np.ndarray,
) -> None:
    assert {place.quantity for place in found} == set(change)
    for place, null in found.items():
        kind = codes[place.assignment]
        inside = np.isin(kind, [CODES[place.kind]] if place.kind else [*CODES.values()])
        wanted = plain_mean(change[place.quantity], weights, inside)
        assert null.value == pytest.approx(wanted, rel=1e-4, abs=2e-5, nan_ok=True), place
        assert null.positions == inside.sum()


def test_the_null_is_the_delta_of_the_baseline_with_noise(case: Case) -> None:
    found = nulls_of(case.a, [case.b], weighing=Weighing(case.weights), read=reading())
    (noise,) = noise_of(case.a, [case.b], case.weights)
    tops = case.a.argmax(axis=1)
    change = {
        name: plain_values(case.a + noise, name, tops=tops) - plain_values(case.a, name, tops=tops)
        for name in DRIFT_NAMES
    }
    codes = {
        Assignment.MEAN: kinds_of(case.a + noise / 2),
        Assignment.BASELINE: kinds_of(case.a),
        Assignment.OTHER: kinds_of(case.a + noise),
    }
    for first, second in (("mean", "baseline"), ("baseline", "other"), ("other", "mean")):
        assert (codes[Assignment(first)] != codes[Assignment(second)]).any(), "says nothing else"
    assert_plain(found.models[0], change=change, codes=codes, weights=case.weights)
    assert found.difference is None


def test_a_difference_is_at_the_kinds_of_the_mean_over_all(case: Case) -> None:
    c = case.a + 0.9 * np.random.default_rng(7).normal(size=case.a.shape)
    others = [case.b, c.astype(np.float32)]
    found = nulls_of(case.a, others, weighing=Weighing(case.weights), read=reading(), of_all=4)
    first, second = noise_of(case.a, others, case.weights)
    tops = case.a.argmax(axis=1)
    change = {
        name: plain_values(case.a + first, name, tops=tops)
        - plain_values(case.a + second, name, tops=tops)
        for name in DRIFT_NAMES
    }
    common = kinds_of(case.a + (first + second) / 4)
    assert (common != kinds_of(case.a + (first + second) / 2)).any(), "else the 4 says nothing"
    assert found.difference is not None
    assert_plain(
        found.difference,
        change=change,
        codes=dict.fromkeys(Assignment, common),
        weights=case.weights,
    )


def test_it_is_the_evidences_drift_null(case: Case) -> None:
    counted = Weighted(case.weights, CLUSTERS, PROBLEMS)
    others = [case.pair, replace(case.pair, other=case.pair.mean)]
    kl = [divergence(case.a, case.b), divergence(case.a, (case.a + case.b) / 2)]
    compared = [Compared(pair, own) for pair, own in zip(others, kl, strict=True)]
    found = weighed(
        compared,
        together=Together(case.pair.mean, 3),
        counted=counted,
        reading=replace(READING, drift_draws=3),
        rng=np.random.default_rng(SEED),
    )
    mine = drift_nulls(
        case.pair.baseline,
        kl,
        counted=Counting(Weighing(case.weights), CLUSTERS, PROBLEMS),
        reading=reading(READING.kinds, draws=3, quantities=["top1_prob", "entropy_kept_nats"]),
        of_all=3,
        rng=np.random.default_rng(SEED),
    )
    assert found.difference is not None
    assert mine.difference is not None
    figures = [each.figures for each in found.models] + [found.difference]
    for own, nulls in zip(figures, [*mine.models, mine.difference], strict=True):
        lock, fork = (
            {
                name: nulls[Place(Assignment.MEAN, kind, name)]
                for name in ("entropy_kept_nats", "top1_prob")
            }
            for kind in (Kind.LOCK, Kind.FORK)
        )
        for figure, null in (
            ("entropy within S at locks", lock["entropy_kept_nats"]),
            ("entropy within S at forks", fork["entropy_kept_nats"]),
            ("top-1, fork - lock", fork["top1_prob"] - lock["top1_prob"]),
        ):
            assert null.value == pytest.approx(own[figure].drift.value, rel=1e-12)
            assert null.error == pytest.approx(own[figure].drift.error, rel=1e-9)


def test_without_kl_there_is_no_drift(case: Case) -> None:
    found = nulls_of(
        case.a, [case.a] * 2, weighing=Weighing(case.weights), read=reading(), of_all=3
    )
    assert found.difference is not None
    for nulls in (*found.models, found.difference):
        known = {place: null for place, null in nulls.items() if null.positions}
        assert {place.kind for place in known} == {None, *Kind}
        assert all(null.value == 0 for null in known.values())
        empty = [null.value for place, null in nulls.items() if place not in known]
        assert np.isnan(empty).all()


def test_more_draws_are_their_mean(case: Case) -> None:
    few, one = (
        nulls_of(case.a, [case.b], weighing=Weighing(case.weights), read=reading(draws=draws))
        for draws in (2, 1)
    )
    # The same seed: the first draw of two is the one alone.
    alone, both = one.models[0], few.models[0]
    stream = np.random.default_rng(SEED)
    stream.spawn(1)
    second = drift_nulls(
        whole(case.a),
        [divergence(case.a, case.b)],
        counted=Counting(Weighing(case.weights), CLUSTERS, PROBLEMS),
        reading=reading(),
        of_all=None,
        rng=stream,
    ).models[0]
    for place, null in both.items():
        values = [own[place].value for own in (alone, second) if own[place].positions]
        assert null.value == pytest.approx(np.mean(values), abs=1e-12)


@pytest.mark.parametrize(("size", "biased"), [(0.2, False), (0.5, True)])
def test_a_model_that_is_noise_lies_within_its_null(size: float, biased: bool) -> None:
    rng = np.random.default_rng(3)
    spread = rng.uniform(1.0, 6.0, size=(600, 1))
    a = (spread * rng.normal(size=(600, 60))).astype(np.float32)
    b = (a + size * np.random.default_rng(11).normal(size=a.shape)).astype(np.float32)
    weights, clusters = np.ones(len(a)), np.arange(len(a)) % 60
    counted = Counting(Weighing(weights), clusters, 60)
    null = drift_nulls(
        whole(a),
        [divergence(a, b)],
        counted=counted,
        reading=reading(draws=8),
        of_all=None,
        rng=np.random.default_rng(SEED),
    ).models[0]
    codes = {
        Assignment.MEAN: kinds_of((a + b) / 2),
        Assignment.BASELINE: kinds_of(a),
        Assignment.OTHER: kinds_of(b),
    }
    tops, looked_at, told = a.argmax(axis=1), 0, 0
    for name in ("top1_prob", BASELINE_TOP, "entropy_kept_nats", "tail_mass"):
        change = plain_values(b, name, tops=tops) - plain_values(a, name, tops=tops)
        for assignment, kind in codes.items():
            for each in (Kind.LOCK, Kind.FORK):
                rows = np.flatnonzero(kind == CODES[each])
                own = counted.part(rows).mean(change[rows])
                left = own - null[Place(assignment, each, name)]
                assert left.p_value() > 1e-3, (name, assignment, each)
                told += own.p_value() < 1e-3
                looked_at += 1
    assert looked_at == 24
    assert (told > 0) == biased, "beside zero alone some of these would be findings"


def test_carriers_count_alike_within_a_kind(case: Case) -> None:
    carriers = np.arange(ROWS) // 4
    own = np.random.default_rng(2).uniform(0.5, 2.0, size=carriers.max() + 1)[carriers]
    weighing = Weighing(case.weights, carriers, own)
    read = reading(quantities=["top1_prob"])
    found = nulls_of(case.a, [case.b], weighing=weighing, read=read).models[0]
    share = np.zeros(ROWS)
    for carrier in np.unique(carriers):
        inside = carriers == carrier
        share[inside] = case.weights[inside] / case.weights[inside].sum()
    (noise,) = noise_of(case.a, [case.b], share * own)
    tops = case.a.argmax(axis=1)
    change = plain_values(case.a + noise, "top1_prob", tops=tops)
    change -= plain_values(case.a, "top1_prob", tops=tops)
    locks = kinds_of(case.a) == CODES[Kind.LOCK]
    means, counts = [], []
    for carrier in np.unique(carriers[locks]):
        inside = locks & (carriers == carrier)
        means.append(np.average(change[inside], weights=case.weights[inside]))
        counts.append(own[inside][0])
    null = found[Place(Assignment.BASELINE, Kind.LOCK, "top1_prob")]
    assert null.value == pytest.approx(np.average(means, weights=counts), abs=2e-6)


def test_all_together_are_those_of_the_kinds_asked_for(case: Case) -> None:
    read = reading(quantities=["tail_mass"], within=[Kind.LOCK, Kind.FORK])
    found = nulls_of(case.a, [case.b], weighing=Weighing(case.weights), read=read).models[0]
    for assignment in Assignment:
        whole_, lock, fork = (
            found[Place(assignment, kind, "tail_mass")] for kind in (None, Kind.LOCK, Kind.FORK)
        )
        assert whole_.positions == lock.positions + fork.positions < ROWS


# --- of a run -----------------------------------------------------------------------------------


BOTH = DriftAsked(other="ssd", control="control")


@pytest.fixture(scope="module")
def null(run: Run) -> drifting.DriftNull:
    return drift_null(run, BOTH)


def test_the_null_of_a_run_is_that_of_its_rows(run: Run) -> None:
    asked = replace(
        BOTH,
        decoding=WARM,
        rule=KIND_PRESETS["strict"],
        filters=Filters(generator=("ssd",), right_model=("both right", "other only", "unknown")),
        seed=5,
    )
    found = drift_null(run, asked).table
    compared = tables.all_comparisons(
        run, other="ssd", control="control", decoding=WARM, rule=asked.rule
    )
    kept = filters.keep(compared["ssd"], filters=asked.filters)
    rows = kept["row"].to_numpy()
    assert 0 < len(rows) < len(run)
    weight = (1 / (kept["inclusion"] * kept["sampling_probability"])).to_numpy()
    expected = drift_nulls(
        run.distributions("baseline", rows=rows),
        [observed_kl(run, place)[rows] for place in (1, 2)],
        counted=Counting(
            Weighing(weight),
            pd.factorize(kept["problem_id"])[0].astype(np.int64),
            kept["problem_id"].nunique(),
        ),
        reading=DriftReading(decoding=WARM, kinds=Decoding(), rule=asked.rule),
        of_all=3,
        rng=np.random.default_rng(5),
    )
    assert expected.difference is not None
    named = dict(zip(compared, [*expected.models, expected.difference], strict=True))
    table = found.set_index(list(drifting.KEYS))
    assert len(table) == 3 * 3 * 5 * len(DRIFT_NAMES)
    for name, nulls in named.items():
        for place, own in nulls.items():
            row = table.loc[(name, str(place.assignment), str(place.kind or ALL), place.quantity)]
            assert row["null_drift"] == pytest.approx(own.value, nan_ok=True)
            assert row["null_drift_error"] == pytest.approx(own.error, nan_ok=True)


def test_it_stands_beside_the_deltas_by_kind(
    trio: dict[str, pd.DataFrame], null: drifting.DriftNull
) -> None:
    table = null.table.set_index(list(drifting.KEYS))
    for assignment in Assignment:
        chosen = Filters(assignment=assignment)
        plain = tables.delta_tables(trio, by=["kind"], filters=chosen, inference=FEW_DRAWS)
        found = with_drift(plain, null, assignment=assignment)
        beside = ["null_drift", "null_drift_error"]
        pd.testing.assert_frame_equal(found.drop(columns=beside), plain)
        place = found.columns.get_loc("null_high")
        assert list(found.columns[place + 1 : place + 3]) == beside
        for row in found.to_dict("records"):
            key = (row[COMPARISON], str(assignment), row["kind"], row["quantity"])
            if row["quantity"] == "kl_baseline_other":
                assert np.isnan(row["null_drift"])
            else:
                assert row["null_drift"] == table.loc[key, "null_drift"]
        together = tables.delta_tables(trio, by=[], filters=chosen, inference=FEW_DRAWS)
        everything = with_drift(together, null, assignment=assignment)["null_drift"]
        assert everything.tolist() == pytest.approx(
            found.loc[found["kind"] == ALL, "null_drift"].tolist(), nan_ok=True
        )
    three = with_drift(tables.assignment_tables(trio, inference=FEW_DRAWS), null)
    keys = three[[*drifting.KEYS]].itertuples(index=False)
    wanted = [table["null_drift"].get(tuple(key), np.nan) for key in keys]
    assert three["null_drift"].tolist() == pytest.approx(wanted, nan_ok=True)
    assert three["null_drift"].notna().any()


def test_what_all_three_assignments_answer_does_not_hang_on_one() -> None:
    sides = [replace(BOTH, filters=Filters(assignment=each)) for each in Assignment]
    assert len(set(sides)) == 1


def test_chosen_kinds_are_what_all_together_are_of(run: Run, null: drifting.DriftNull) -> None:
    chosen = replace(BOTH, filters=Filters(kind=("lock-like", "fork-like")))
    found = drift_null(run, chosen).table
    same = found["kind"] != ALL
    pd.testing.assert_frame_equal(found[same], null.table[same])
    assert (found.loc[~same, "null_drift"] != null.table.loc[~same, "null_drift"]).any()


def test_where_it_is_not_known_it_is_empty_and_said(
    run: Run, trio: dict[str, pd.DataFrame]
) -> None:
    by_event = drift_null(run, replace(BOTH, filters=Filters(event=("swap",))))
    assert by_event.table.empty
    assert by_event.note == drifting.BY_KIND_ALONE
    nobody = drift_null(run, replace(BOTH, filters=Filters(subject=("nothing",))))
    assert nobody.table.empty
    plain = tables.delta_tables(trio, by=["kind"], inference=FEW_DRAWS)
    assert with_drift(plain, by_event)["null_drift"].isna().all()
    assert drifting.stands_beside(["kind"])
    assert drifting.stands_beside([])
    assert not drifting.stands_beside(["kind", "generator"])
    assert not drifting.stands_beside(["event"])
    with pytest.raises(UsageFault, match="other must be one of"):
        drift_null(run, replace(BOTH, other="nobody"))


def test_of_many_positions_a_part_is_taken_and_said(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = DriftAsked(other="ssd")
    whole_ = drift_null(run, asked)
    assert whole_.note == ""
    monkeypatch.setattr(mechanism, "MOST_POSITIONS", 300)
    first, again, other = (drift_null(run, replace(asked, seed=seed)) for seed in (0, 0, 1))
    assert "300 positions drawn by chance" in first.note
    pd.testing.assert_frame_equal(first.table, again.table)
    assert not first.table["null_drift"].equals(other.table["null_drift"])
    assert not first.table["null_drift"].equals(whole_.table["null_drift"])


def test_weights_are_those_of_the_table(run: Run) -> None:
    by_position, by_carrier = (
        drift_null(run, replace(BOTH, weighting=Weighting(average=average))).table
        for average in Average
    )
    assert not by_position["null_drift"].equals(by_carrier["null_drift"])


def test_a_run_s_evidence_has_the_same_null(run: Run, null: drifting.DriftNull) -> None:
    asked = mechanism.Asked(training=Training(temperature=1.2, top_k=12, top_p=0.9))
    found = mechanism.mechanism(run, ("ssd", "control"), asked=asked)
    table = null.table.set_index(list(drifting.KEYS))
    for name, figures in (
        *((name, one.evidence.figures) for name, one in found.models.items()),
        ("ssd − control", found.difference),
    ):
        for kind, place in ((Kind.LOCK, "locks"), (Kind.FORK, "forks")):
            row = table.loc[(name, "mean", kind.value, "entropy_kept_nats")]
            drift = figures[f"entropy within S at {place}"].drift
            assert row["null_drift"] == pytest.approx(drift.value, rel=1e-12)
            assert row["null_drift_error"] == pytest.approx(drift.error, rel=1e-9)
