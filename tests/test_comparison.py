"""Positions and comparisons of a run against slow references from full logits."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pages_run import MODELS, TEMPERATURES, TOP_K, WARM, PagesRun, write_pages_run
from rows import plain_kl, plain_statistics

from probing.errors import NoCarriersLeft, OutsideContract, UsageFault
from probing.reporting import filters, tables
from probing.reporting.examples import Order
from probing.reporting.filters import Filters
from probing.reporting.quantities import (
    MODEL_QUANTITIES,
    QUANTITIES,
    baseline_column,
    delta_column,
    other_column,
)
from probing.settings import Decoding, KindRule
from probing.store.reader import Run
from probing.vocabulary import CONTENT_FREE_SELECTORS, Assignment, Kind, Stratum

SAMPLE = range(0, 1300, 37)


def test_statistics_of_both_models_are_those_of_the_full_rows(
    written: PagesRun, warm: pd.DataFrame
) -> None:
    names = ("top1_prob", "top1_prob_kept", "nucleus_size", "tail_mass", "excluded_mass")
    names += ("entropy_nats", "varentropy", "entropy_kept_nats", "margin_nats", "close_tokens")
    for row in SAMPLE:
        for side, model in ((baseline_column, "baseline"), (other_column, "control")):
            plain = plain_statistics(written.logits[row, MODELS.index(model)], decoding=WARM)
            for name in names:
                found = warm.loc[row, side(name)]
                assert found == pytest.approx(getattr(plain, name), abs=2e-3), (row, name)


def test_probability_of_the_baselines_top_token_and_the_realised_one(
    written: PagesRun, warm: pd.DataFrame
) -> None:
    for row in SAMPLE:
        full = written.logits[row].astype(np.float64) / WARM.temperature
        logs = full - np.log(np.exp(full).sum(axis=1, keepdims=True))
        top, realised = int(full[0].argmax()), int(warm.loc[row, "token_id"])
        for side, model in ((baseline_column, 0), (other_column, MODELS.index("control"))):
            shown = warm.loc[row]
            expected = np.exp(logs[model, top])
            assert shown[side("baseline_top1_prob")] == pytest.approx(expected, abs=1e-4)
            assert shown[side("realised_logprob")] == pytest.approx(logs[model, realised], abs=1e-4)
            rank = 1 + (full[model] > full[model, realised]).sum()
            assert shown[side("realised_rank")] == rank


@pytest.mark.parametrize("temperature", [0.7, *TEMPERATURES])
def test_divergences_at_any_temperature(written: PagesRun, run: Run, temperature: float) -> None:
    table = tables.comparison_table(
        run, other="ssd", decoding=Decoding(temperature=temperature), rule=KindRule()
    )
    for row in SAMPLE:
        a, b = written.logits[row, 0], written.logits[row, 1]
        there = plain_kl(a, b, temperature_a=temperature, temperature_b=temperature)
        back = plain_kl(b, a, temperature_a=temperature, temperature_b=temperature)
        assert table.loc[row, "kl_baseline_other"] == pytest.approx(there, abs=1e-4)
        assert table.loc[row, "kl_other_baseline"] == pytest.approx(back, abs=1e-4)
    assert table["js"].notna().all() == (temperature in TEMPERATURES)
    assert table["js"].isna().all() == (temperature not in TEMPERATURES)


def test_kinds_are_those_of_the_full_rows(written: PagesRun, comparison: pd.DataFrame) -> None:
    rule = KindRule()
    for row in range(0, len(comparison), 5):
        baseline, other = written.logits[row, 0], written.logits[row, 1]
        measures = {"baseline": baseline, "other": other, "mean": (baseline + other) / 2}
        for assignment, logits in measures.items():
            found = plain_statistics(logits, decoding=Decoding())
            few, thin = found.nucleus_size <= rule.lock_nucleus, found.tail_mass <= rule.lock_tail
            expected = Kind.MIXED
            if found.top1_prob >= rule.lock_top1:
                expected = Kind.LOCK if few and thin else Kind.MIXED
            elif found.close_tokens >= rule.fork_close_tokens:
                expected = Kind.FORK
            if found.tail_mass > rule.fork_tail:
                expected = Kind.DIFFUSE
            assert comparison.loc[row, f"kind_{assignment}"] == expected.value, (row, assignment)


def test_kinds_stay_while_the_decoding_moves(comparison: pd.DataFrame, run: Run) -> None:
    hot = Decoding(temperature=1.8)
    moved = tables.comparison_table(run, other="ssd", decoding=hot, rule=KindRule())
    follow = tables.comparison_table(
        run, other="ssd", decoding=hot, rule=KindRule(), kind_decoding=hot
    )
    for assignment in Assignment:
        column = f"kind_{assignment}"
        pd.testing.assert_series_equal(moved[column], comparison[column])
        assert (follow[column] != comparison[column]).any()
    assert (moved["entropy_nats_other"] > comparison["entropy_nats_other"]).all()


def test_deltas_are_other_minus_baseline_and_flip_with_the_pair(tmp_path: Path) -> None:
    pair = ("first", "second")
    runs = {
        name: write_pages_run(tmp_path / f"{name}.zarr", problems=6, models=pair, take=take).open()
        for name, take in {"there": (0, 1), "back": (1, 0), "same": (0, 0)}.items()
    }
    there, back, same = (
        tables.comparison_table(runs[name], other="second", decoding=WARM, rule=KindRule())
        for name in ("there", "back", "same")
    )
    for name in MODEL_QUANTITIES:
        delta = there[delta_column(name)].to_numpy()
        sides = there[[baseline_column(name), other_column(name)]].to_numpy()
        known = np.isfinite(sides).all(axis=1)
        np.testing.assert_array_equal(np.isfinite(delta), known)
        np.testing.assert_array_equal(delta[known], sides[known, 1] - sides[known, 0])
        assert set(same[delta_column(name)].dropna()) == {0}
        # Whose top-1 token is asked for changes with the pair.
        if name != "baseline_top1_prob":
            np.testing.assert_allclose(delta, -back[delta_column(name)].to_numpy(), atol=1e-12)
    assert np.abs(same["kl_baseline_other"]).max() < 1e-6
    assert (same["nucleus_jaccard"] == 1).all()
    pd.testing.assert_series_equal(
        there["kl_baseline_other"], back["kl_other_baseline"], check_names=False, atol=1e-9
    )


def test_unknown_other_and_impossible_settings_are_refused(run: Run) -> None:
    with pytest.raises(UsageFault, match="other must be one of ssd, control, got 'base'"):
        tables.comparison_table(run, other="base", decoding=Decoding(), rule=KindRule())
    for decoding in (Decoding(temperature=3.0), Decoding(top_k=TOP_K + 40)):
        with pytest.raises(OutsideContract):
            tables.comparison_table(run, other="ssd", decoding=decoding, rule=KindRule())


def test_a_run_without_committed_rows_is_refused(tmp_path: Path) -> None:
    empty = write_pages_run(tmp_path / "empty.zarr", problems=2, finish=False).open()
    with pytest.raises(NoCarriersLeft, match="at least one committed unit, got none of 1"):
        tables.comparison_table(empty, other="ssd", decoding=Decoding(), rule=KindRule())
    with pytest.raises(NoCarriersLeft):
        tables.position_table(empty, decoding=Decoding(), rule=KindRule())


def test_what_is_kept_passes_every_filter(comparison: pd.DataFrame) -> None:
    chosen = Filters(
        kind=("lock-like",), event=("strict lock", "swap"), generator=("ssd",), correct=("wrong",),
        assignment=Assignment.BASELINE,
    )  # fmt: skip
    wanted = [
        row
        for row, place in comparison.iterrows()
        if place["headline"]
        and place["kind_baseline"] == "lock-like"
        and place["event_baseline"] in {"strict lock", "swap"}
        and place["generator"] == "ssd"
        and place["correct"] == "wrong"
    ]
    kept = filters.keep(comparison, filters=chosen)
    assert 0 < len(wanted) < len(comparison)
    assert kept.index.tolist() == wanted


def test_nothing_left_gives_empty_tables(comparison: pd.DataFrame) -> None:
    nothing = filters.keep(comparison, filters=Filters(generator=("nobody",)))
    deltas = tables.delta_table(
        nothing,
        by=[Stratum.KIND],
    )
    assert (deltas["positions"] == 0).all()
    assert deltas["delta"].isna().all()
    assert tables.kind_shares(nothing)["share"].isna().all()
    assert tables.ranked_positions(nothing, by="tail_mass", order=Order.CHANGE).empty


# Positions of a run


def test_position_table_has_a_row_per_position_and_model(run: Run, warm: pd.DataFrame) -> None:
    table = tables.position_table(run, decoding=WARM, rule=KindRule())
    promised = "carrier_id problem_id generator correct position token_id token selectors phase "
    promised += "token_class model temperature top_k top_p"
    assert set(promised.split()) <= set(table.columns)
    assert set(QUANTITIES) <= set(table.columns)
    assert len(table) == len(run) * len(run.model_names)
    assert table["model"].head(3).tolist() == list(run.model_names)
    control = table[table["model"] == "control"].reset_index(drop=True)
    baseline = table[table["model"] == "baseline"].reset_index(drop=True)
    for name in MODEL_QUANTITIES:
        np.testing.assert_array_equal(control[name], warm[other_column(name)])
        np.testing.assert_array_equal(baseline[name], warm[baseline_column(name)])
    np.testing.assert_array_equal(control["nucleus_jaccard"], warm["nucleus_jaccard"])
    assert baseline["kl_baseline_other"].isna().all()
    assert (baseline["kind"] == warm["kind_baseline"]).all()


def test_places_say_what_the_records_say(run: Run, comparison: pd.DataFrame) -> None:
    carriers = run.carriers()
    for row in SAMPLE:
        place = comparison.loc[row]
        carrier = carriers[place["carrier"]]
        assert place["carrier_id"] == carrier.carrier_id
        assert place["generator"] == carrier.generator
        assert (
            place["correct"] == {True: "correct", False: "wrong", None: "unknown"}[carrier.correct]
        )
        spanned = carrier.response[place["char_start"] : place["char_end"]]
        assert place["token"] == spanned
        assert 0 <= place["fraction"] < 1
        names = place["selectors"].split()
        assert place["headline"] == any(name in CONTENT_FREE_SELECTORS for name in names)
        assert place["marker"] == any(name not in CONTENT_FREE_SELECTORS for name in names)
