"""Tables against slow references from full logits, and the laws they keep."""

import csv
import io
import json
import tomllib
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages_run import MODELS, TEMPERATURES, TOP_K, PagesRun, write_pages_run
from rows import plain_kl, plain_statistics

from probing.errors import NoCarriersLeft, OutsideContract, UsageFault
from probing.reporting import charts, display, export, filters, tables
from probing.reporting.deltas import ALL
from probing.reporting.examples import Order
from probing.reporting.filters import EVERY, HEADLINE, Average, Filters, Weighting
from probing.reporting.quantities import (
    MODEL_QUANTITIES,
    QUANTITIES,
    baseline_column,
    delta_column,
    other_column,
)
from probing.reporting.text import MARKS, marked, plain, visible
from probing.settings import KIND_PRESETS, Decoding, Inference, KindRule
from probing.store.reader import Run
from probing.vocabulary import CONTENT_FREE_SELECTORS, Assignment, Kind, Stratum

WARM = Decoding(temperature=1.3, top_k=12, top_p=0.9)
FEW_DRAWS = Inference(draws=200)
SAMPLE = range(0, 1300, 37)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> PagesRun:
    return write_pages_run(tmp_path_factory.mktemp("reporting") / "pages.zarr")


@pytest.fixture(scope="module")
def run(written: PagesRun) -> Run:
    return written.open()


@pytest.fixture(scope="module")
def comparison(run: Run) -> pd.DataFrame:
    return tables.comparison_table(run, other="ssd", decoding=Decoding(), rule=KindRule())


@pytest.fixture(scope="module")
def warm(run: Run) -> pd.DataFrame:
    return tables.comparison_table(run, other="control", decoding=WARM, rule=KindRule())


# Comparison


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


def test_nothing_left_gives_empty_tables(comparison: pd.DataFrame) -> None:
    nothing = filters.keep(comparison, filters=Filters(generator=("nobody",)))
    deltas = tables.delta_table(nothing, by=[Stratum.KIND], assignment=Assignment.MEAN)
    assert (deltas["positions"] == 0).all()
    assert deltas["delta"].isna().all()
    assert tables.kind_shares(nothing)["share"].isna().all()
    assert tables.ranked_positions(nothing, by="tail_mass", order=Order.CHANGE).empty


# Positions of a run


def test_position_table_has_a_row_per_position_and_model(run: Run, warm: pd.DataFrame) -> None:
    table = tables.position_table(run, decoding=WARM, rule=KindRule())
    promised = "carrier_id problem_id generator correct position token_id token selectors phase "
    promised += "model temperature top_k top_p"
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


# Aggregates


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
        assignment=Assignment.BASELINE,
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
            assignment=Assignment.MEAN,
            quantities=["tail_mass", "top1_prob"],
            weighting=Weighting(average=average),
            inference=FEW_DRAWS,
        ).set_index("quantity")
        alone = tables.delta_table(
            holed[holed["tail_mass_delta"].notna()],
            by=[],
            assignment=Assignment.MEAN,
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
        assignment=Assignment.MEAN,
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
        tables.delta_table(comparison, by=[Stratum.KIND], assignment=Assignment.MEAN)
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


# Examples


@pytest.mark.parametrize("decoding", [Decoding(), WARM, Decoding(temperature=0.0)])
def test_example_lists_each_models_own_top_tokens(
    written: PagesRun, run: Run, decoding: Decoding
) -> None:
    for row in SAMPLE:
        table = tables.example_table(run, row, other="ssd", decoding=decoding)
        for side, model in (("baseline", 0), ("other", 1)):
            logits = written.logits[row, model].astype(np.float64)
            order = np.argsort(-logits, kind="stable")[: len(table)]
            assert table[f"{side}_id"].tolist() == order.tolist()
            texts = [written.vocabulary[i].decode(errors="backslashreplace") for i in order]
            assert table[f"{side}_token"].tolist() == texts
            if decoding.temperature == 0:
                assert table[f"{side}_kept_prob"].tolist() == [1.0] + [0.0] * (len(table) - 1)
                continue
            p = np.exp(logits / decoding.temperature)
            p /= p.sum()
            np.testing.assert_allclose(table[f"{side}_prob"], p[order], atol=1e-4)
            size = plain_statistics(written.logits[row, model], decoding=decoding).nucleus_size
            kept = table[f"{side}_kept_prob"].to_numpy()
            assert (kept > 0).sum() == min(size, len(table))
            mass = np.sort(p)[::-1][:size].sum()
            np.testing.assert_allclose(kept[kept > 0], (p[order] / mass)[kept > 0], atol=1e-4)


def test_example_says_how_far_the_others_tokens_moved(written: PagesRun, run: Run) -> None:
    unknown = 0
    for row in SAMPLE:
        table = tables.example_table(run, row, other="control", decoding=Decoding(), top=30)
        for found in table.to_dict("records"):
            a, b = written.logits[row, 0], written.logits[row, 2]
            before = 1 + int((a > a[found["other_id"]]).sum())
            now = 1 + int((b > b[found["other_id"]]).sum())
            if pd.isna(found["other_baseline_rank"]):
                unknown += 1
                assert before > TOP_K
                assert pd.isna(found["rank_change"])
            else:
                assert found["other_baseline_rank"] == before
                assert found["rank_change"] == before - now
    assert unknown > 0


def test_context_is_prompt_and_response_around_the_token(run: Run) -> None:
    for row in range(len(run)):
        context = tables.example_context(run, row)
        carrier = run.carriers()[int(run.positions().carrier[row])]
        whole = context.prompt + carrier.response
        assert context.before + context.token + context.after in whole
        assert (carrier.prompt or "") in context.prompt
    with pytest.raises(IndexError, match="row must be in 0 … "):
        tables.example_context(run, len(run))


def test_ranked_positions_descend_and_leave_out_what_is_not_measured(
    comparison: pd.DataFrame,
) -> None:
    holed = comparison.copy()
    holed.loc[::7, "tail_mass_delta"] = np.nan
    values = {
        order: tables.ranked_positions(holed, by="tail_mass", order=order)["tail_mass_delta"]
        for order in (Order.INCREASE, Order.DECREASE, Order.CHANGE)
    }
    assert values[Order.INCREASE].is_monotonic_decreasing
    assert values[Order.DECREASE].is_monotonic_increasing
    assert values[Order.CHANGE].abs().is_monotonic_decreasing
    assert all(len(found) == holed["tail_mass_delta"].notna().sum() for found in values.values())
    drawn = [
        tables.ranked_positions(holed, by="tail_mass", order=Order.RANDOM, seed=seed)["row"]
        for seed in (0, 0, 1)
    ]
    assert drawn[0].tolist() == drawn[1].tolist()
    assert drawn[0].tolist() != drawn[2].tolist()
    assert sorted(drawn[2]) == sorted(holed["row"])


# Text


def hidden(text: str) -> set[str]:
    return {c for c in text if unicodedata.category(c) in HIDDEN}


HIDDEN = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")


@given(st.text(st.one_of(st.characters(), st.characters(categories=HIDDEN))))
def test_nothing_stays_hidden(text: str) -> None:
    assert not hidden(visible(text))
    assert " " not in visible(text)
    assert hidden(plain(text)) <= {"\n", "\t"}


@given(st.text(), st.text(), st.text())
def test_the_marks_stand_around_the_token_and_nowhere_else(
    before: str, token: str, after: str
) -> None:
    text = marked(f"{before}⟦", f"{token}⟧", f"⟦{after}")
    opening, closing = MARKS
    assert text.count(opening) == text.count(closing) == 1
    assert text.index(opening) < text.index(closing)


# Export

DANGEROUS = "=+-@\t\r\n＝＋－＠"


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=8),
    st.lists(st.floats(), min_size=8, max_size=8),
)
def test_csv_runs_nothing_and_keeps_numbers(texts: list[str], numbers: list[float]) -> None:
    cells = [*texts, *(f"{sign}1+1" for sign in DANGEROUS), "  =1"]
    values = [numbers[i % len(numbers)] for i in range(len(cells))]
    frame = pd.DataFrame({"text": pd.Series(cells, dtype="str"), "=number": values})
    rows = list(csv.reader(io.StringIO(export.csv_text(frame), newline="")))
    assert rows[0] == ["text", "'=number"]
    assert len(rows) == len(cells) + 1
    for (text, number), cell, value in zip(rows[1:], cells, values, strict=True):
        assert not text.lstrip(" ").startswith(tuple(DANGEROUS))
        assert text in (cell, f"'{cell}")
        assert number == "" if np.isnan(value) else float(number) == value


def test_csv_of_real_tables_parses_back(run: Run, comparison: pd.DataFrame) -> None:
    frame = tables.delta_table(
        comparison, by=[Stratum.KIND], assignment=Assignment.MEAN, inference=FEW_DRAWS
    )
    back = pd.read_csv(io.StringIO(export.csv_text(frame)), keep_default_na=False, na_values=[""])
    assert back["delta"].tolist() == frame["delta"].tolist()
    assert back["kind"].tolist() == frame["kind"].tolist()
    positions = export.csv_text(comparison)
    back = pd.read_csv(io.StringIO(positions), keep_default_na=False)
    assert len(back) == len(comparison)
    hostile = comparison["token"].str.lstrip(" ").str.startswith(tuple(DANGEROUS))
    assert hostile.any()
    assert back.loc[hostile.to_numpy(), "token"].str.startswith("'").all()
    assert (back["top1_prob_delta"].to_numpy() == comparison["top1_prob_delta"].to_numpy()).all()
    example = tables.example_table(run, 0, other="ssd", decoding=Decoding())
    back = pd.read_csv(io.StringIO(export.csv_text(example)))
    assert back["other_id"].tolist() == example["other_id"].tolist()


def test_settings_say_what_made_a_table(run: Run) -> None:
    text = export.settings_json(
        run, settings={"other": "ssd", "decoding": WARM, "filters": Filters(kind=("mixed",))}
    )
    document = json.loads(text)
    assert document["run"]["fingerprint"] == run.fingerprint
    assert document["run"]["name"] == "pages.zarr"
    assert document["run"]["models"] == list(MODELS)
    assert document["decoding"] == {"temperature": 1.3, "top_k": 12, "top_p": 0.9}
    assert document["filters"]["kind"] == ["mixed"]
    assert document["filters"]["assignment"] == "mean"


# Charts and display


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def test_colours_of_kinds_show_on_both_backgrounds() -> None:
    config = Path(__file__).parent.parent / ".streamlit" / "config.toml"
    theme = tomllib.loads(config.read_text(encoding="utf-8"))["theme"]
    assert set(charts.KIND_COLORS) == {*(kind.value for kind in Kind), ALL}
    for mode in ("light", "dark"):
        ground = luminance(theme[mode]["backgroundColor"])
        for color in charts.KIND_COLORS.values():
            light, dark = sorted((luminance(color), ground), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 3, (mode, color)


# How the three dichromacies see linear RGB: Machado, Oliveira and Fernandes 2009, severity 1.
DICHROMACIES = {
    "none": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


def lab(linear: np.ndarray) -> np.ndarray:
    """CIELAB under D65 of linear sRGB."""
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = to_xyz @ np.clip(linear, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", DICHROMACIES)
def test_colours_of_kinds_differ_to_every_eye(sight: str) -> None:
    seen = []
    for kind in Kind:
        color = charts.KIND_COLORS[kind.value]
        channels = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        seen.append(lab(DICHROMACIES[sight] @ linear))
    gaps = [np.linalg.norm(seen[i] - seen[j]) for i in range(4) for j in range(i)]
    assert min(gaps) >= 25


def test_charts_carry_only_aggregates(comparison: pd.DataFrame) -> None:
    table = tables.delta_table(
        comparison, by=[Stratum.KIND], assignment=Assignment.MEAN, inference=FEW_DRAWS
    )
    chart = charts.delta_chart(table, quantity="tail_mass").to_dict()
    rows = [row for data in chart["datasets"].values() for row in data]
    shown = {row["kind"]: row for row in rows if "kind" in row}
    expected = table[table["quantity"] == "tail_mass"].set_index("kind")
    assert set(shown) == set(expected.index)
    for kind, row in shown.items():
        assert row["delta"] == expected.loc[kind, "delta"]
        assert row["low"] == expected.loc[kind, "low"]
    shares = charts.shares_chart(tables.kind_shares(comparison)).to_dict()
    assert sum(len(data) for data in shares["datasets"].values()) == len(Assignment) * len(Kind)


def test_numbers_are_rounded_for_the_eye_and_never_to_nothing() -> None:
    assert display.signed(0.01234) == "+0.0123"
    assert display.signed(-0.5) == "-0.5000"
    assert display.signed(0.0) == "+0.0000"
    assert display.signed(-0.00002) == "-2.0e-05"
    assert display.number(0.00012146) == "1.2e-04"
    assert display.number(float("nan")) == display.NOT_MEASURED
    assert display.kept(0.0) == "cut"
    assert display.whole(float("inf")) == display.NOT_MEASURED
    assert display.moved(pd.NA) == display.NOT_MEASURED
    assert [display.moved(n) for n in (2, 0, -1)] == ["+2", "0", "-1"]


def test_shown_tables_hide_nothing(run: Run, comparison: pd.DataFrame) -> None:
    for row in SAMPLE:
        table = tables.example_table(run, row, other="ssd", decoding=Decoding(), top=30)
        shown = display.shown_example(table).data
        for column in ("Baseline token", "Other token"):
            assert not any(hidden(text) for text in shown[column])
    deltas = tables.delta_table(
        comparison, by=[Stratum.KIND], assignment=Assignment.MEAN, inference=FEW_DRAWS
    )
    shown = display.shown_deltas(deltas).data
    assert sorted(shown["Delta"]) == sorted(deltas["delta"])
    assert shown["Kind"].head(5).tolist() == [ALL, *(kind.value for kind in Kind)]


def test_every_preset_is_spelled_out() -> None:
    for rule in KIND_PRESETS.values():
        text = display.rule_text(rule)
        for value in (rule.lock_top1, rule.lock_nucleus, rule.lock_tail, rule.fork_tail):
            assert f"{value:g}" in text
