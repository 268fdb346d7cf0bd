"""Sweeps against the tables at a single value, slow loops, and what a threshold must do."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import test_cli
from pages_run import write_pages_run
from test_cli import Command

from probing.cli import EXIT_USAGE
from probing.errors import UsageFault
from probing.reporting import tables
from probing.reporting.filters import Filters
from probing.reporting.mechanism_charts import sweep_chart, sweep_sentence
from probing.reporting.outcomes import kind_shares
from probing.reporting.sweeps import SWEPT_QUANTITIES, Sweep, share_rows, sweep_table
from probing.settings import KIND_PRESETS, THRESHOLDS, Decoding, Inference, KindRule
from probing.store.reader import Run
from probing.vocabulary import Assignment, Kind, Stratum

command = test_cli.probing
KINDS = [kind.value for kind in Kind]


@pytest.mark.parametrize("assignment", list(Assignment))
def test_at_the_presets_own_value_a_sweep_is_the_delta_table(
    run: Run, comparison: pd.DataFrame, assignment: Assignment
) -> None:
    asked = Sweep(
        threshold="lock_top1",
        values=[0.4, 0.5],
        assignment=assignment,
        quantities=SWEPT_QUANTITIES,
    )
    found = sweep_table(run, "ssd", sweep=asked)
    assert list(found["preset"].unique()) == [False, True]
    own = found[found["preset"]].set_index(["kind", "quantity"])
    wanted = tables.delta_table(
        comparison,
        by=[Stratum.KIND],
        filters=Filters(assignment=assignment),
        quantities=list(SWEPT_QUANTITIES),
        inference=Inference(draws=10),
    ).set_index(["kind", "quantity"])
    shares = kind_shares(comparison)
    shares = shares[shares["assignment"] == assignment.value].set_index("kind")["share"]
    for key, row in own.iterrows():
        want = wanted.loc[key]
        assert row["delta"] == pytest.approx(want["delta"], rel=1e-9, abs=1e-12, nan_ok=True)
        for name in ("null", "null_low", "null_high"):
            assert row[name] == pytest.approx(want[name], rel=1e-6, abs=1e-9, nan_ok=True), name
        assert row["measured"] == want["positions"]
        assert row["positions"] == want["positions"] + want["missing"]
        assert row["share"] == pytest.approx(shares[key[0]])
        if row["measured"]:
            assert row["share_low"] < row["share"] < row["share_high"]
            assert row["low"] < row["delta"] < row["high"]


def test_a_value_is_the_slow_rule(run: Run, comparison: pd.DataFrame) -> None:
    decoding = Decoding(temperature=1.5)
    asked = Sweep(
        threshold="lock_tail",
        values=[0.003, 0.02],
        assignment=Assignment.BASELINE,
        quantities=["entropy_nats"],
        decoding=decoding,
    )
    found = sweep_table(run, "ssd", sweep=asked).set_index(["value", "kind"])
    warm = tables.comparison_table(run, other="ssd", decoding=decoding, rule=KindRule())
    for value in asked.values:
        top = bottom = whole = 0.0
        positions, problems = 0, set()
        for (_, cold), (_, row) in zip(comparison.iterrows(), warm.iterrows(), strict=True):
            if not row["headline"]:
                continue
            weight = 1 / (row["inclusion"] * row["sampling_probability"])
            whole += weight
            leads = cold["top1_prob_baseline"] >= 0.5 and cold["nucleus_size_baseline"] <= 5
            if leads and cold["tail_mass_baseline"] <= value:
                top, bottom = top + weight * row["entropy_nats_delta"], bottom + weight
                positions, problems = positions + 1, problems | {row["problem_id"]}
        lock = found.loc[value, Kind.LOCK.value]
        assert lock["delta"] == pytest.approx(top / bottom, rel=1e-9)
        assert lock["share"] == pytest.approx(bottom / whole, rel=1e-9)
        assert (lock["positions"], lock["problems"]) == (positions, len(problems))
    counts = found["positions"][:, Kind.LOCK.value]
    assert counts.nunique() == 2, "the two values must not keep the same positions"


@pytest.mark.parametrize(
    ("threshold", "values", "kind", "rises"),
    [
        ("lock_top1", (0.2, 0.4, 0.6, 0.8, 0.95), Kind.LOCK, False),
        ("lock_nucleus", (1, 2, 4, 8), Kind.LOCK, True),
        ("lock_tail", (0.0, 0.01, 0.05, 0.3), Kind.LOCK, True),
        ("fork_tail", (0.0, 0.05, 0.1, 0.3), Kind.DIFFUSE, False),
        ("fork_tail", (0.0, 0.05, 0.1, 0.3), Kind.FORK, True),
        ("close_ratio", (0.05, 0.25, 0.5, 0.9), Kind.FORK, False),
        ("close_among", (1, 2, 10), Kind.FORK, True),
        ("fork_close_tokens", (1, 2, 3, 5), Kind.FORK, False),
        ("fork_entropy_share", (0.05, 0.2, 0.5), Kind.FORK, True),
    ],
)
def test_every_threshold_moves_its_kind_one_way(
    run: Run, threshold: str, values: tuple[float, ...], kind: Kind, rises: bool
) -> None:
    asked = Sweep(threshold=threshold, values=values, quantities=["top1_prob"])
    shares = share_rows(sweep_table(run, "ssd", sweep=asked))
    assert list(shares["value"]) == list(values)
    np.testing.assert_allclose(shares[KINDS].sum(axis=1), 1)
    steps = shares[kind.value].diff().dropna()
    assert ((steps if rises else -steps) >= 0).all()
    assert steps.abs().max() > 0, "values must reach into where positions are"


def test_every_threshold_is_tested_above_and_can_be_swept() -> None:
    marks = test_every_threshold_moves_its_kind_one_way.pytestmark
    (cases,) = (mark.args[1] for mark in marks)
    assert {case[0] for case in cases} == set(THRESHOLDS)


def test_exchanging_the_models_exchanges_the_assignments(run: Run, tmp_path: Path) -> None:
    swapped = write_pages_run(tmp_path / "swapped.zarr", take=(1, 0, 2)).open()
    asked = Sweep(threshold="lock_top1", values=[0.3, 0.7], assignment=Assignment.BASELINE)
    own = sweep_table(run, "ssd", sweep=asked)
    other = sweep_table(swapped, "ssd", sweep=replace(asked, assignment=Assignment.OTHER))
    np.testing.assert_allclose(own["delta"], -other["delta"], rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(own["null"], -other["null"], rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(own["share"], other["share"])


def test_identical_models_move_nothing(tmp_path: Path) -> None:
    same = write_pages_run(tmp_path / "same.zarr", take=(0, 0, 0), problems=12).open()
    table = sweep_table(same, "ssd", sweep=Sweep(threshold="lock_top1", values=[0.3, 0.5]))
    measured = table[table["measured"] > 0]
    assert len(measured)
    assert (measured[["delta", "null"]] == 0).all(axis=None)


def test_a_kind_without_positions_is_not_measured(run: Run) -> None:
    asked = Sweep(threshold="fork_tail", values=[1.0], quantities=["top1_prob"])
    row = sweep_table(run, "ssd", sweep=asked).set_index("kind").loc[Kind.DIFFUSE.value]
    assert (row["share"], row["positions"], row["problems"]) == (0, 0, 0)
    assert np.isnan([row["delta"], row["low"], row["null"]]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": "lock"}, "threshold must be one of lock_top1, .*got 'lock'"),
        ({"threshold": "preset"}, "threshold must be one of"),
        ({"values": []}, "at least one value"),
        ({"values": [0.5, 0.5]}, "must differ"),
        ({"values": [1.5]}, "lock_top1 must be a number from 0 to 1, got 1.5"),
        ({"values": [float("nan")]}, "lock_top1 must be a number from 0 to 1, got nan"),
        ({"threshold": "lock_nucleus", "values": [2.5]}, "a whole number from 1, got 2.5"),
        ({"threshold": "lock_nucleus", "values": [float("inf")]}, "a whole number from 1, got inf"),
        ({"quantities": ["js"]}, "quantity must be one of top1_prob.*got 'js'"),
        (
            {"threshold": "close_ratio", "rule": KIND_PRESETS["entropy"]},
            "does not look at .*close_ratio.*sweep fork_entropy_share",
        ),
    ],
)
def test_what_cannot_be_swept_is_refused(run: Run, change: dict[str, object], message: str) -> None:
    asked = replace(Sweep(threshold="lock_top1", values=[0.3]), **change)
    with pytest.raises(UsageFault, match=message):
        sweep_table(run, "ssd", sweep=asked)


@pytest.mark.parametrize(
    "change", [{"lock_top1": 1.5}, {"lock_nucleus": 0}, {"fork_tail": -0.1}, {"close_ratio": 2.0}]
)
def test_no_rule_has_a_threshold_that_nothing_can_meet(change: dict[str, float]) -> None:
    with pytest.raises(UsageFault, match="must be a"):
        replace(KindRule(), **change)


# --- The command, its chart and its sentence ----------------------------------------------------


def test_the_csv_of_the_command_is_the_table(
    run: Run,
    tmp_path: Path,
    command: Command,
) -> None:
    target = tmp_path / "sweep.csv"
    command(
        "sweep", run.location, "--threshold", "lock_top1", "--values", "0.3,0.5", "--other",
        "control", "--preset", "strict", "--assignment", "baseline", "-T", "1.5", "--csv",
        str(target),
    )  # fmt: skip
    want = sweep_table(
        run,
        "control",
        sweep=Sweep(
            threshold="lock_top1",
            values=[0.3, 0.5],
            rule=KIND_PRESETS["strict"],
            assignment=Assignment.BASELINE,
            decoding=Decoding(temperature=1.5),
        ),
    )
    got = pd.read_csv(target)
    assert list(got) == list(want)
    for name in ("delta", "low", "null_high", "share"):
        pd.testing.assert_series_equal(got[name], want[name], rtol=1e-12)


def test_the_command_prints_shares_and_deltas(run: Run, command: Command) -> None:
    out = command("sweep", run.location, "--threshold", "lock_nucleus", "--values", "1,5").out
    assert "whose value is 5" in out
    for word in (*KINDS, "share of every kind", "top1_prob", "nucleus_size", "null", "%"):
        assert word in out
    assert max(map(len, out.splitlines())) <= 120


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--threshold", "lock_top1"), "missing option '--values'"),
        (("--threshold", "lock_top1", "--values", "0.3;0.5"), "--values takes numbers"),
        (("--threshold", "lock_top1", "--values", ""), "--values takes numbers"),
        (("--threshold", "top1", "--values", "0.3"), "threshold must be one of lock_top1"),
        (("--threshold", "lock_top1", "--values", "3"), "from 0 to 1, got 3"),
        (("--threshold", "lock_top1", "--values", "0.3", "--quantity", "kl"), "quantity must be"),
        (("--threshold", "lock_top1", "--values", "0.3", "--preset", "x"), "--preset takes"),
    ],
)
def test_the_command_says_what_is_wrong(
    run: Run,
    command: Command,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    assert message in command("sweep", run.location, *arguments, code=EXIT_USAGE).err


def test_the_sentence_counts_signs_and_intervals(run: Run) -> None:
    rows = pd.DataFrame(
        {
            "threshold": "lock_top1",
            "value": [0.3, 0.5, 0.3, 0.5],
            "kind": [Kind.LOCK.value] * 2 + [Kind.FORK.value] * 2,
            "quantity": "top1_prob",
            "delta": [0.1, 0.2, -0.1, 0.3],
            "low": [-0.1, 0.1, -0.3, 0.2],
            "high": [0.3, 0.3, 0.1, 0.4],
        }
    )
    text = sweep_sentence(rows, quantity="top1_prob")
    assert "at locks the delta keeps its sign over 2 values of lock_top1 (+0.1 to +0.2)" in text
    assert "at forks the delta changes its sign" in text
    assert text.count("leaves out 0 at 1") == 2
    table = sweep_table(run, "ssd", sweep=Sweep(threshold="lock_top1", values=[0.3, 0.5]))
    assert sweep_chart(table, quantity="top1_prob").to_dict()["layer"]
