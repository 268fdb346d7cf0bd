"""Evidence of a run: which positions carry it, how its table reads, and the command."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pages_run
import pandas as pd
import pytest
from pages_run import write_pages_run

from probing.analysis.drift import matching_scale, standard_noise, surprise
from probing.analysis.kinds import kinds
from probing.analysis.moments import kl_nats
from probing.analysis.pair import PairRows
from probing.analysis.testing import benjamini_hochberg, holm
from probing.analysis.verdict import FAMILY, PRIMARY
from probing.cli import EXIT_USAGE, main
from probing.errors import NoCarriersLeft, UsageFault
from probing.reporting import display, evidence, mechanism, tables
from probing.reporting.comparison import comparison_table
from probing.reporting.filters import Filters
from probing.reporting.mechanism import Asked, Findings, Found, chosen_positions
from probing.reporting.predictions import (
    CANNOT_TELL,
    CONTRADICTS,
    DIFFERENCE,
    EVIDENCE_COLUMNS,
    LESS,
    PREDICTIONS,
    SUPPORTS,
    SURVIVAL,
)
from probing.reporting.progress import PARTS
from probing.settings import Decoding, KindRule, Training
from probing.store.reader import Run, open_run

TRAINING = Training(temperature=1.2, top_k=12, top_p=0.9)
ASKED = Asked(training=TRAINING)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("mechanism") / "run.zarr"
    write_pages_run(path)
    return str(path)


@pytest.fixture(scope="module")
def run(path: str) -> Run:
    return open_run(path)


@pytest.fixture(scope="module")
def findings(run: Run) -> Findings:
    return tables.mechanism(run, ("ssd", "control"), asked=ASKED)


@pytest.fixture(scope="module")
def found(findings: Findings) -> dict[str, Found]:
    return findings.models


@pytest.fixture(scope="module")
def table(findings: Findings) -> pd.DataFrame:
    return tables.evidence_table(findings, asked=ASKED)


# --- which positions ----------------------------------------------------------------------------


def test_positions_that_pass_the_filters_carry_it(run: Run) -> None:
    right = ("both right", "other only", "unknown")
    filters = Filters(generator=("ssd",), correct=("correct",), right_model=right)
    chosen = chosen_positions(run, "ssd", dataclasses.replace(ASKED, filters=filters))
    places = tables.places_beside(run, "ssd")
    plain = [
        int(row["row"])
        for _, row in places.iterrows()
        if row["headline"]
        and row["generator"] == "ssd"
        and row["correct"] == "correct"
        and row["right_model"] in right
    ]
    assert 0 < len(plain) < len(run)
    assert chosen.rows.tolist() == plain
    weight = 1 / (places["inclusion"] * places["sampling_probability"])
    np.testing.assert_allclose(chosen.counted.weights, weight.to_numpy()[plain])
    problems = places["problem_id"].to_numpy()[plain]
    for code in np.unique(chosen.counted.clusters):
        assert len(set(problems[chosen.counted.clusters == code])) == 1
    assert chosen.left_out == 0


def test_of_many_positions_a_part_is_taken_and_said(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = chosen_positions(run, "ssd", ASKED)
    monkeypatch.setattr(mechanism, "MOST_POSITIONS", 300)
    first, again, other = (
        chosen_positions(run, "ssd", dataclasses.replace(ASKED, seed=seed)) for seed in (0, 0, 1)
    )
    assert len(first.rows) == 300
    assert first.left_out == len(every.rows) - 300
    assert set(first.rows) < set(every.rows)
    assert first.rows.tolist() == again.rows.tolist() != other.rows.tolist()
    found = tables.mechanism(run, ("ssd",), asked=ASKED)
    notes = tables.evidence_notes(
        tables.evidence_table(found, asked=ASKED), found=found, asked=ASKED
    )
    assert any(f"{first.left_out:,} were left out" in note for note in notes)


@pytest.mark.parametrize("other", ["ssd", "control"])
def test_rows_of_a_pair_hold_the_divergences_that_are_stored(run: Run, other: str) -> None:
    rows = chosen_positions(run, other, ASKED).rows[::5]
    own = tables.comparison_table(run, other=other, decoding=Decoding(), rule=KindRule())
    pair = mechanism.pair_rows(run, other, rows)
    for name, side in (("kl_baseline_other", pair), ("kl_other_baseline", pair.exchanged())):
        found = divergence(side)
        np.testing.assert_allclose(found, own[name].to_numpy()[rows], atol=2e-4)


def divergence(pair: PairRows) -> np.ndarray:
    """KL(baseline || other) at T = 1, whatever the run says of it."""
    return kl_nats(
        pair.baseline,
        pair.other,
        cross_mean=pair.other_over_baseline,
        temperature_a=1.0,
        temperature_b=1.0,
    )


def test_evidence_of_a_run_is_that_of_its_rows(run: Run, found: dict[str, Found]) -> None:
    for name, one in found.items():
        chosen = chosen_positions(run, name, ASKED)
        pair = mechanism.pair_rows(run, name, chosen.rows)
        stats = run.statistics("baseline", decoding=Decoding(), rule=KindRule())
        noise = standard_noise(pair.baseline, np.random.default_rng(ASKED.seed))
        scale = matching_scale(
            surprise(pair.baseline, noise),
            divergence(pair),
            groups=kinds(stats, rule=KindRule())[chosen.rows],
            weights=chosen.counted.weights,
        )
        noisy = np.average(scale, weights=chosen.counted.weights)
        # Other draws, and a mean of several: as large as one draw, to a few hundredths.
        assert one.evidence.noise == pytest.approx(noisy, rel=0.03)


def test_kinds_and_events_are_no_filters_of_it(run: Run) -> None:
    with pytest.raises(UsageFault, match="takes every kind"):
        dataclasses.replace(ASKED, filters=Filters(kind=("lock-like",)))
    with pytest.raises(UsageFault, match="takes every event"):
        dataclasses.replace(ASKED, filters=Filters(event=("swap",)))
    nobody = dataclasses.replace(ASKED, filters=Filters(subject=("nothing",)))
    with pytest.raises(NoCarriersLeft, match="got none of"):
        tables.mechanism(run, ("ssd",), asked=nobody)


# --- how it reads -------------------------------------------------------------------------------


def test_every_p_value_belongs_to_one_family(table: pd.DataFrame) -> None:
    primary = table[table["primary"] != ""]
    assert primary.groupby(["comparison", "primary"], sort=False).size().to_dict() == {
        **{("ssd", name): count for name, count in (("P1", 1), ("P2", 2), ("P3", 1), ("P4", 1))},
        **{("control", n): count for n, count in (("P1", 1), ("P2", 2), ("P3", 1), ("P4", 1))},
        ("ssd − control", DIFFERENCE): 4,
    }
    of_control = primary["comparison"] == "control"
    for own in (primary[~of_control], primary[of_control]):
        np.testing.assert_allclose(own["p_adjusted"], holm(own["p_value"].to_numpy()))
        assert (own["family"] == own["p_value"].notna().sum()).all()
    rest = table[table["primary"] == ""]
    np.testing.assert_allclose(rest["p_adjusted"], benjamini_hochberg(rest["p_value"].to_numpy()))
    assert set(table.loc[table["p_verdict"].notna(), "figure"]) == set(FAMILY)
    assert set(PRIMARY) < set(FAMILY)


def test_the_difference_is_of_the_two_models(
    run: Run, table: pd.DataFrame, findings: Findings
) -> None:
    by = table.set_index(["comparison", "figure"])["estimate"]
    for name in ("slope", "trend", "gap", "sign of the top-1 change"):
        apart = by["ssd", name] - by["control", name]
        assert by["ssd − control", name] == pytest.approx(apart)
    assert tuple(table.columns) == EVIDENCE_COLUMNS
    # Of figures at kinds it is what the table of deltas has, where kinds are once for all models.
    deltas = tables.delta_tables(
        tables.all_comparisons(
            run, other="ssd", control="control", decoding=Decoding(), rule=KindRule()
        ),
        by=["kind"],
    )
    rows = deltas[(deltas["comparison"] == "ssd − control")].set_index(["kind", "quantity"])
    for kind, place in (("lock-like", "locks"), ("fork-like", "forks")):
        figure = by["ssd − control", f"entropy within S at {place}"]
        assert figure == pytest.approx(rows.loc[(kind, "entropy_kept_nats"), "delta"], abs=1e-9)
    one = table[(table["comparison"] == "ssd − control") & (table["figure"] == "slope")].iloc[0]
    tested = findings.difference["slope"]
    assert one["null_exchange"] == pytest.approx(tested.exchange.value)
    assert one["p_value"] == pytest.approx(tested.p_value)


def test_a_reading_follows_from_its_row(table: pd.DataFrame, found: dict[str, Found]) -> None:
    signs = {each.name: each.sign for each in PREDICTIONS}
    looked_at = 0
    for row in table.to_dict("records"):
        sign = signs.get(row["figure"], 0)
        if row["comparison"] not in found or sign == 0 or row["figure"] == SURVIVAL:
            continue
        looked_at += 1
        tested = found[row["comparison"]].evidence.figures[row["figure"]]
        nulls = (tested.exchange.value, tested.drift.value)
        aside = np.sign(row["estimate"] - np.array(nulls))
        if not row["p_adjusted"] <= 0.05:
            assert row["reads"] == CANNOT_TELL
        else:
            assert abs(aside.sum()) == 2, "a direction is claimed beyond both nulls"
            met = SUPPORTS if np.sign(row["estimate"]) == sign else LESS
            assert row["reads"] == (met if aside[0] == sign else CONTRADICTS)
    assert looked_at == 20


def test_shown_evidence_has_a_row_a_figure(table: pd.DataFrame) -> None:
    shown = evidence.wide_evidence(table)
    labels = [column.label for column in evidence.wide_labels(table).values()]
    assert list(shown.columns) == labels
    assert len(shown) == table["figure"].nunique()
    gap = table[(table["comparison"] == "ssd") & (table["figure"] == "gap")].iloc[0]
    cell = shown.loc[shown["Figure"] == evidence.TITLES["gap"], "ssd"].item()
    assert cell.startswith(f"{gap['estimate']:+.4f}"[:6])
    one = table[(table["comparison"] == "ssd − control") & (table["figure"] == "gap")].iloc[0]
    nulls = shown.loc[shown["Figure"] == evidence.TITLES["gap"], "ssd − control nulls"].item()
    assert nulls.startswith(display.signed(one["null_exchange"]))


# --- beside T* ----------------------------------------------------------------------------------


def test_what_a_temperature_does_is_gone_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = pages_run._logits

    def warmed(*arguments: Any, **options: Any) -> np.ndarray:
        rows = original(*arguments, **options)
        return np.stack([rows[:, 0], rows[:, 0] / np.float32(1.25)], axis=1)

    monkeypatch.setattr(pages_run, "_logits", warmed)
    path = tmp_path / "warm.zarr"
    write_pages_run(path, problems=20, models=("baseline", "warm"))
    run = open_run(str(path))
    found = tables.mechanism(run, ("warm",), asked=ASKED).models["warm"]
    null = found.evidence.temperature
    assert null.temperature == pytest.approx(1.25, rel=5e-3)
    assert null.share.value > 0.99
    table = tables.beside_temperature(run, "warm", found, asked=ASKED).set_index(
        ["kind", "quantity"]
    )
    for kind in ("lock-like", "fork-like"):
        row = table.loc[(kind, "entropy_nats")]
        assert row["delta"] > 0.05
        assert abs(row["delta_at"]) < 0.02 * row["delta"]
    said = evidence.temperature_sentence("warm", null)
    assert said.startswith("warm: T* = 1.25 explains 100.0% of KL")


def test_deltas_beside_it_are_the_plain_means(run: Run, found: dict[str, Found]) -> None:
    star = found["ssd"].evidence.temperature.temperature
    got = tables.beside_temperature(run, "ssd", found["ssd"], asked=ASKED)
    at_1, at_star = (
        comparison_table(run, other="ssd", decoding=Decoding(temperature=t), rule=KindRule())
        for t in (1.0, star)
    )
    weight = at_1["headline"] / (at_1["inclusion"] * at_1["sampling_probability"])
    for row in got.to_dict("records"):
        inside = (at_1["kind_mean"] == row["kind"]).to_numpy()
        after = at_1[f"{row['quantity']}_other"].to_numpy()
        for name, before in (("delta", at_1), ("delta_at", at_star)):
            apart = after - before[f"{row['quantity']}_baseline"].to_numpy()
            good = inside & np.isfinite(apart) & (weight > 0).to_numpy()
            mean = np.average(apart[good], weights=weight.to_numpy()[good])
            assert row[name] == pytest.approx(mean, abs=1e-6), row


# --- progress -----------------------------------------------------------------------------------


def test_progress_of_a_kind_is_that_of_its_events(run: Run, found: dict[str, Found]) -> None:
    table = tables.progress_table(run, "ssd", found["ssd"], asked=ASKED)
    labels = comparison_table(run, other="ssd", decoding=Decoding(), rule=KindRule())
    weight = (
        labels["headline"] / (labels["inclusion"] * labels["sampling_probability"])
    ).to_numpy()
    sums = labels.assign(weight=weight).groupby(["kind_mean", "event_mean"])["weight"].sum()
    for kind, rows in table.groupby("kind", sort=False):
        whole, parts = rows[rows["event"] == "all"].iloc[0], rows[rows["event"] != "all"]
        assert whole["positions"] == parts["positions"].sum()
        for name in ("support", "within", "distance"):
            of_events = [sums[kind, event] for event in parts["event"]]
            assert whole[name] == pytest.approx(np.average(parts[name], weights=of_events))
        moved = whole["support"] + whole["within"]
        assert whole["share"] == pytest.approx(moved / whole["distance"])
    forks = table[(table["kind"] == "fork-like") & (table["event"] == "all")].iloc[0]
    figure = found["ssd"].evidence.figures["support at forks"]
    assert forks["support"] == pytest.approx(figure.own.value)
    assert forks["support_drift"] == pytest.approx(figure.drift.value)
    of_figures = (table["event"] == "all") & table["kind"].isin(["lock-like", "fork-like"])
    nulls = [f"{part}_{null}" for part in PARTS for null in ("exchange", "drift")]
    assert table.loc[of_figures, nulls].notna().all(axis=None)
    assert table.loc[~of_figures, nulls].isna().all(axis=None)
    assert len(evidence.shown_progress(table.assign(comparison="ssd"))) == len(table)


# --- the command --------------------------------------------------------------------------------


def call(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["probing", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


OPTIONS = ("--train-temperature", "1.2", "--train-top-k", "12", "--train-top-p", "0.9")


def test_the_command_writes_what_the_table_holds(
    path: str,
    table: pd.DataFrame,
    found: dict[str, Found],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call("verdict", path, *OPTIONS, "--json", monkeypatch=monkeypatch) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["settings"]["training"]["temperature"] == 1.2
    assert document["settings"]["fingerprint"] == open_run(path).fingerprint
    assert any("top-k 12" in note for note in document["notes"])
    assert document["verdicts"] == {
        name: {"mechanism": one.verdict.mechanism.value, "rule": one.verdict.rule}
        for name, one in found.items()
    }
    assert len(document["evidence"]) == len(table)
    for got, want in zip(document["evidence"], table.to_dict("records"), strict=True):
        for column, value in want.items():
            if isinstance(value, float) and not np.isfinite(value):
                assert got[column] is None
            else:
                assert got[column] == (pytest.approx(value) if isinstance(value, float) else value)
    csv = tmp_path / "verdict.csv"
    assert call("verdict", path, *OPTIONS, "--csv", str(csv), monkeypatch=monkeypatch) == 0
    np.testing.assert_allclose(pd.read_csv(csv)["estimate"], table["estimate"])
    assert call("verdict", path, *OPTIONS, monkeypatch=monkeypatch) == 0
    said = capsys.readouterr().out
    for name, one in found.items():
        assert f"{name}: {one.verdict.mechanism}" in said
    assert "T 1.2, top-k 12, top-p 0.9" in said


def test_the_command_says_what_it_cannot_take(
    path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, code, words in (
        (("--where", "kind=lock-like"), EXIT_USAGE, "takes every kind"),
        (("--where", "generator=nobody"), EXIT_USAGE, "generator takes baseline, ssd"),
        (
            ("--train-top-p", "0"),
            EXIT_USAGE,
            "train_top_p, of the samples trained on",
        ),
        (("--train-top-k", "200", "--train-top-p", "1"), EXIT_USAGE, "top_k must be at most"),
    ):
        assert call("verdict", path, *arguments, monkeypatch=monkeypatch) == code, arguments
        assert words in " ".join(capsys.readouterr().err.split()), arguments
