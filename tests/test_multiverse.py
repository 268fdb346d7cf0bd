"""The multiverse against slow loops over positions, and the laws that it obeys."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pages_run import write_pages_run

from probing.analysis.decoding import Statistics, statistics
from probing.analysis.distributions import Distributions
from probing.analysis.estimates import Estimate
from probing.analysis.multiverse import Conclusion, Outcome, Universe, steadiness
from probing.analysis.nulls import BesideNull
from probing.errors import OutsideContract, UsageFault
from probing.reporting import multiverse as reporting
from probing.reporting import tables
from probing.reporting.filters import EVERY, Average, Filters, Weighting
from probing.reporting.multiverse import (
    CONCLUSIONS,
    DECODINGS,
    WEIGHTINGS,
    Multiverse,
    multiverse,
    outcome_table,
    place_name,
    steadiness_table,
)
from probing.settings import KIND_PRESETS, Decoding, Inference, KindRule
from probing.store import answers
from probing.store.reader import Run, open_run
from probing.vocabulary import Assignment, Kind, Stratum

EXCHANGED = {"mean": "mean", "baseline": "other", "other": "baseline"}


@pytest.fixture(scope="module")
def made(run: Run) -> Multiverse:
    return multiverse(run, "ssd")


def slow_weight(row: pd.Series, selector: str) -> float:
    """Inverse probability of being there; 0 where the selector did not choose it."""
    if selector == "every position" and row["marker"]:
        return 1 / row["sampling_probability"]
    if selector != "every position" and not row["headline"]:
        return 0.0
    return 1 / (row["inclusion"] * row["sampling_probability"])


def slow_mean(rows: list[pd.Series], values: list[float], selector: str) -> float:
    """By hand: every token alike, or every carrier alike."""
    if selector == "headline, per carrier":
        carriers: dict[int, list[tuple[float, float]]] = {}
        sampling: dict[int, float] = {}
        for row, value in zip(rows, values, strict=True):
            if row["headline"]:
                carriers.setdefault(row["carrier"], []).append((1 / row["inclusion"], value))
                sampling[row["carrier"]] = 1 / row["sampling_probability"]
        total = mass = 0.0
        for carrier, pairs in carriers.items():
            own = sum(w * v for w, v in pairs) / sum(w for w, _ in pairs)
            total, mass = total + sampling[carrier] * own, mass + sampling[carrier]
    else:
        total = mass = 0.0
        for row, value in zip(rows, values, strict=True):
            weight = slow_weight(row, selector)
            total, mass = total + weight * value, mass + weight
    return total / mass if mass else np.nan


def slow_delta(table: pd.DataFrame, column: str, kind: Kind, quantity: str, selector: str) -> float:
    """Mean delta at the positions that a column of kinds says."""
    rows = [row for _, row in table.iterrows() if row[column] == kind.value]
    rows = [row for row in rows if np.isfinite(row[f"{quantity}_delta"])]
    return slow_mean(rows, [row[f"{quantity}_delta"] for row in rows], selector)


def test_every_outcome_is_the_slow_mean_beside_the_slow_null(run: Run, made: Multiverse) -> None:
    by_universe = {(each.universe, each.conclusion): each.found for each in made.found}
    names = ("T 1, k 20, p 0.95", "T 1.5, k 20, p 0.95")
    rng = np.random.default_rng(0)
    for preset, decoding in product(KIND_PRESETS, names):
        table = tables.comparison_table(
            run, other="ssd", decoding=DECODINGS[decoding], rule=KIND_PRESETS[preset]
        )
        for assignment, selector in product(Assignment, WEIGHTINGS):
            conclusion = CONCLUSIONS[rng.integers(len(CONCLUSIONS))]
            found = by_universe[Universe(preset, assignment, decoding, selector), conclusion]
            value = null = 0.0
            for sign, kind in ((1, conclusion.kind), (-1, conclusion.less)):
                if kind is None:
                    continue
                own, mirror = (
                    slow_delta(table, f"kind_{name}", kind, conclusion.quantity, selector)
                    for name in (assignment.value, EXCHANGED[assignment.value])
                )
                value, null = value + sign * own, null + sign * (own - mirror) / 2
            assert found.own.value == pytest.approx(value, rel=1e-9, abs=1e-12, nan_ok=True)
            assert found.null.value == pytest.approx(null, rel=1e-9, abs=1e-12, nan_ok=True)


def test_the_error_is_that_of_a_ratio_over_problems(run: Run, made: Multiverse) -> None:
    table = tables.comparison_table(run, other="ssd", decoding=Decoding(), rule=KindRule())
    first = made.found[0]
    assert first.universe == Universe("post", Assignment.MEAN, next(iter(DECODINGS)), "headline")
    sums: dict[str, list[float]] = {}
    for _, row in table.iterrows():
        weight = slow_weight(row, "headline")
        if weight and row["kind_mean"] == first.conclusion.kind.value:
            own = sums.setdefault(row["problem_id"], [0.0, 0.0])
            own[0] += weight * row[f"{first.conclusion.quantity}_delta"]
            own[1] += weight
    mean = sum(v for v, _ in sums.values()) / sum(w for _, w in sums.values())
    whole = sum(w for _, w in sums.values())
    squares = sum(((v - mean * w) / whole) ** 2 for v, w in sums.values())
    count = len(sums)
    assert first.found.own.error == pytest.approx(np.sqrt(count / (count - 1) * squares), rel=1e-9)


@pytest.mark.parametrize("average", list(Average))
def test_outcomes_are_the_figures_of_the_delta_table(
    run: Run, made: Multiverse, comparison: pd.DataFrame, average: Average
) -> None:
    selector = {Average.POSITION: "headline", Average.CARRIER: "headline, per carrier"}[average]
    for assignment in Assignment:
        table = tables.delta_table(
            comparison,
            by=[Stratum.KIND],
            filters=Filters(assignment=assignment),
            quantities=["entropy_kept_nats"],
            weighting=Weighting(average=average),
            inference=Inference(draws=10),
        ).set_index("kind")
        for each in made.found:
            universe, conclusion = each.universe, each.conclusion
            where = (universe.preset, universe.assignment, universe.decoding, universe.selector)
            if where != ("post", assignment, "T 1, k 20, p 0.95", selector) or conclusion.less:
                continue
            if conclusion.quantity == "entropy_kept_nats":
                want = table.loc[conclusion.kind.value]
                assert each.found.own.value == pytest.approx(want["delta"], rel=1e-9)
                assert each.found.null.value == pytest.approx(want["null"], rel=1e-9, abs=1e-12)


def test_exchanging_the_models_turns_every_sign(tmp_path: Path, made: Multiverse) -> None:
    # The cut of entropy forks is the baseline's, so that preset does not treat models alike.
    swapped = multiverse(write_pages_run(tmp_path / "swapped.zarr", take=(1, 0, 2)).open(), "ssd")
    by_universe = {(each.universe, each.conclusion): each.found for each in swapped.found}
    compared = 0
    for each in made.found:
        if each.universe.preset == "entropy":
            continue
        turned = Assignment(EXCHANGED[each.universe.assignment.value])
        other = by_universe[replace(each.universe, assignment=turned), each.conclusion]
        for own, mirror in ((each.found.own, other.own), (each.found.null, other.null)):
            assert own.value == pytest.approx(-mirror.value, rel=1e-6, abs=1e-9, nan_ok=True)
            assert own.error == pytest.approx(mirror.error, rel=1e-5, abs=1e-9, nan_ok=True)
        compared += 1
    assert compared == len(made.found) * 2 // 3


def test_identical_models_have_no_sign(tmp_path: Path) -> None:
    same = write_pages_run(tmp_path / "same.zarr", take=(0, 0, 0), problems=12).open()
    table = tables.multiverse_table(same, "ssd")
    assert (table["sign"] == 0).all()
    assert (table["same_sign"] == 1).all()
    assert (table[["beyond", "low", "high"]] == 0).all(axis=None)


def test_the_mean_assignment_has_no_null(made: Multiverse) -> None:
    for each in made.found:
        if each.universe.assignment is Assignment.MEAN:
            assert each.found.null.value == pytest.approx(0, abs=1e-12, nan_ok=True)


def test_tables_have_every_combination_and_every_conclusion(made: Multiverse) -> None:
    outcomes, summary = outcome_table(made), steadiness_table(made)
    answered = len(DECODINGS) - len(made.left_out)
    combinations = len(KIND_PRESETS) * len(Assignment) * answered * len(WEIGHTINGS)
    assert combinations >= 100
    assert len(outcomes) == combinations * len(CONCLUSIONS)
    settings = ["preset", "assignment", "decoding", "selector"]
    assert len(outcomes.drop_duplicates([*settings, "kind", "quantity"])) == len(outcomes)
    assert list(summary["kind"]) == [place_name(each) for each in CONCLUSIONS]
    for row in summary.to_dict("records"):
        here = (outcomes["kind"] == row["kind"]) & (outcomes["quantity"] == row["quantity"])
        own = outcomes[here & outcomes["delta"].notna()]
        assert row["universes"] == len(own)
        assert (row["low"], row["high"]) == (own["delta"].min(), own["delta"].max())
        assert row["sign"] == np.sign(outcomes[here]["delta"].iloc[0])
        assert row["same_sign"] == pytest.approx((np.sign(own["delta"]) == row["sign"]).mean())
        assert row["beyond"] <= row["same_sign"]


def test_what_the_run_cannot_answer_is_left_out_and_said(
    run: Run, made: Multiverse, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The run holds ranks to 32.
    assert made.left_out == ("T 1, k 50, p 0.95",)
    assert made.left_out[0] not in {each.universe.decoding for each in made.found}
    monkeypatch.setattr(reporting, "DECODINGS", {"hot": Decoding(temperature=9.0)})
    with pytest.raises(OutsideContract, match="temperature must be in"):
        multiverse(run, "ssd")
    with pytest.raises(UsageFault, match="other must be one of ssd, control"):
        multiverse(run, "nobody")


def test_no_statistic_is_computed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing is stored of a run that is still being written; its rows are one block.
    path = tmp_path / "running.zarr"
    write_pages_run(path, problems=24, finish=False, shard_rows=64)
    run = open_run(str(path))
    asked: list[tuple[bytes, Decoding, float]] = []

    def counted(rows: Distributions, *, decoding: Decoding, rule: KindRule) -> Statistics:
        asked.append((rows.logits.tobytes(), decoding, rule.close_ratio))
        return statistics(rows, decoding=decoding, rule=rule)

    monkeypatch.setattr(answers, "statistics", counted)
    assert not run.complete
    assert len(run.row_blocks()) == 1
    multiverse(run, "ssd")
    assert len(asked) == len(set(asked))
    # Three distributions for the kinds; two for every other decoding; k 50 is refused at once.
    assert len(asked) == 3 + 2 * (len(DECODINGS) - 2) + 1


# --- How often a sign holds, by hand ------------------------------------------------------------


def outcome(value: float, *, null: float = 0.0, error: float = 0.1) -> Outcome:
    """An estimate over 40 problems with this standard error, and a null without one."""
    influence = np.tile([1.0, -1.0], 20) * error / np.sqrt(40 / 39 * 40)
    own = Estimate(value, influence, 400)
    found = BesideNull(own, Estimate(null, np.zeros(40), 400))
    universe = Universe("post", Assignment.MEAN, "T 1", "headline")
    return Outcome(universe, Conclusion("top1_prob", Kind.LOCK), found)


def test_signs_are_counted_against_that_of_the_defaults() -> None:
    found = [
        outcome(1.0),  # the defaults
        outcome(0.05),  # the same sign, not told from 0
        outcome(-1.0),
        outcome(0.0),  # no change is no sign of either side
        outcome(1.0, null=0.99),  # no more than its null
        outcome(1.0, null=2.0),  # less than its null
        outcome(float("nan")),  # not measured
    ]
    (all_of_them,) = steadiness(found, level=0.95)
    assert all_of_them.sign == 1
    assert all_of_them.universes == 6
    assert all_of_them.same_sign == pytest.approx(4 / 6)
    assert all_of_them.beyond == pytest.approx(1 / 6)
    assert (all_of_them.low, all_of_them.high) == (-1.0, 1.0)


def test_a_conclusion_that_the_defaults_do_not_measure_has_no_share() -> None:
    (found,) = steadiness([outcome(float("nan")), outcome(1.0)], level=0.95)
    assert np.isnan([found.sign, found.same_sign, found.beyond]).all()
    assert found.universes == 1
    assert (found.low, found.high) == (1.0, 1.0)


def test_every_position_is_another_choice_than_the_headline() -> None:
    assert WEIGHTINGS["every position"].selector == EVERY
    assert next(iter(DECODINGS.values())) == Decoding()
    assert next(iter(WEIGHTINGS.values())) == Weighting()
