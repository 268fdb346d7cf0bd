"""Export, charts and what numbers look like."""

import csv
import dataclasses
import io
import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages_run import MODELS, WARM, hidden

from probing.errors import UsageFault
from probing.reporting import charts, display, export, filters, shares, tables
from probing.reporting.deltas import ALL
from probing.reporting.drifting import DriftAsked
from probing.reporting.examples import Order, position_name
from probing.reporting.filters import Average, Filters, Weighting
from probing.reporting.remaking import MAKERS, Ranking, TableSettings, made, made_again
from probing.reporting.text import escaped
from probing.settings import KIND_PRESETS, Decoding, Inference
from probing.store.reader import Run, open_run
from probing.vocabulary import Assignment, Kind, Stratum

FEW_DRAWS = Inference(draws=200)
SAMPLE = range(0, 1300, 37)


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
    frame = tables.delta_table(comparison, by=[Stratum.KIND], inference=FEW_DRAWS)
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


KINDS_AT = Decoding(temperature=0.8, top_p=0.8)
ASKED = TableSettings(
    table="events",
    other="ssd",
    control=None,
    decoding=WARM,
    kind_decoding=KINDS_AT,
    kind_rule=KIND_PRESETS["strict"],
    filters=Filters(kind=("mixed",)),
    weighting=Weighting(average=Average.CARRIER),
)
BOTH = dataclasses.replace(ASKED, control="control")
DRIFT = DriftAsked(
    other="ssd",
    control="control",
    decoding=ASKED.decoding,
    kind_decoding=ASKED.kind_decoding,
    rule=ASKED.kind_rule,
    filters=ASKED.filters,
    weighting=ASKED.weighting,
)
FIGURES = {"quantities": ("tail_mass", "js"), "inference": FEW_DRAWS}
EVERY_TABLE = {
    "deltas": dataclasses.replace(BOTH, by=("kind", "event"), **FIGURES),
    "assignments": dataclasses.replace(BOTH, **FIGURES),
    "transitions": BOTH,
    "events": BOTH,
    "positions": dataclasses.replace(
        BOTH, ranking=Ranking(by="tail_mass", order=Order.RANDOM, seed=3)
    ),
    "example": dataclasses.replace(BOTH, at="NAME"),
    "carrier": dataclasses.replace(BOTH, carrier="c013-0"),
}


@pytest.fixture(scope="module")
def asked_for(run: Run) -> tuple[str, dict[str, pd.DataFrame]]:
    """The name of a position, and every table of `EVERY_TABLE` without its settings' help."""
    compared = tables.all_comparisons(
        run,
        other="ssd",
        control="control",
        decoding=WARM,
        rule=KIND_PRESETS["strict"],
        kind_decoding=KINDS_AT,
    )
    shares_of = {"filters": ASKED.filters, "weighting": ASKED.weighting}
    ranked = tables.ranked_positions(
        filters.keep(compared["ssd"], filters=ASKED.filters),
        by="tail_mass",
        order=Order.RANDOM,
        seed=3,
    )
    position = compared["ssd"].iloc[41]
    return position_name(position), {
        "deltas": tables.delta_tables(compared, by=["kind", "event"], **shares_of, **FIGURES),
        "assignments": tables.with_drift(
            tables.assignment_tables(compared, **shares_of, **FIGURES),
            tables.drift_null(run, DRIFT),
        ),
        "transitions": tables.transition_tables(compared, **shares_of),
        "events": tables.event_tables(compared, **shares_of),
        "positions": tables.position_list(run, ranked, by="tail_mass", compared=compared),
        "example": tables.example_table(run, 41, other="ssd", control="control", decoding=WARM),
        "carrier": compared["ssd"].query("carrier_id == 'c013-0'").sort_values("position"),
    }


def test_settings_say_what_made_a_table(run: Run) -> None:
    document = json.loads(export.settings_json(run, asked=ASKED))
    assert document["run"]["fingerprint"] == run.fingerprint
    assert document["run"]["name"] == "pages.zarr"
    assert document["run"]["models"] == list(MODELS)
    assert (document["baseline"], document["other"], document["control"]) == (*MODELS[:2], None)
    assert document["decoding"] == {
        "temperature": 1.3,
        "top_k": 12,
        "top_p": 0.9,
        "min_p": 0.0,
        "order": "sequential",
    }
    assert document["filters"]["kind"] == ["mixed"]
    assert document["filters"]["assignment"] == "mean"
    assert document["weighting"] == {"selector": "headline", "average": "carrier"}
    assert "inference" not in document
    document = json.loads(export.settings_json(run, asked=EVERY_TABLE["deltas"]))
    assert document["by"] == ["kind", "event"]
    assert document["quantities"] == ["tail_mass", "js"]
    assert document["inference"] == {
        "draws": 200,
        "level": 0.95,
        "few_clusters": 40,
        "seed": 0,
        "power": 0.8,
        "margins": {"top1_prob": 0.02, "entropy_kept_nats": 0.05, "nucleus_size_share": 0.1},
    }


@pytest.mark.parametrize("name", MAKERS)
def test_settings_alone_make_the_table_again(
    run: Run, asked_for: tuple[str, dict[str, pd.DataFrame]], name: str
) -> None:
    at, expected = asked_for
    asked = dataclasses.replace(EVERY_TABLE[name], table=name)
    if asked.at is not None:
        asked = dataclasses.replace(asked, at=at)
    again = made_again(open_run(run.location), export.settings_json(run, asked=asked))
    assert len(again) > 0
    # Means are taken over cells: the same but for the last digits.
    pd.testing.assert_frame_equal(
        again.reset_index(drop=True), expected[name].reset_index(drop=True), rtol=1e-9, atol=1e-12
    )
    compared = tables.all_comparisons(
        run,
        other="ssd",
        control=asked.control,
        decoding=WARM,
        rule=KIND_PRESETS["strict"],
        kind_decoding=KINDS_AT,
    )
    assert export.csv_text(again) == export.csv_text(made(run, compared, asked))


def test_settings_of_another_run_or_table_are_refused(run: Run) -> None:
    document = export.settings_json(run, asked=ASKED)
    with pytest.raises(UsageFault, match="must be of this run"):
        made_again(run, document.replace(run.fingerprint, "0" * 64))
    for table, said in (("nothing", "table must be one of"), ("deltas", "is missing")):
        asked = dataclasses.replace(ASKED, table=table)
        with pytest.raises(UsageFault, match=said):
            made_again(run, export.settings_json(run, asked=asked))
    nowhere = dataclasses.replace(ASKED, table="example", at="nothing:1")
    with pytest.raises(UsageFault, match="must name a position"):
        made_again(run, export.settings_json(run, asked=nowhere))
    unknown = dataclasses.replace(ASKED, table="carrier", carrier="nothing")
    with pytest.raises(UsageFault, match="must name a scored response"):
        made_again(run, export.settings_json(run, asked=unknown))


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


def test_charts_carry_only_aggregates(
    comparison: pd.DataFrame, trio: dict[str, pd.DataFrame]
) -> None:
    table = tables.delta_tables(trio, by=[Stratum.KIND], inference=FEW_DRAWS)
    chart = charts.delta_chart(table, quantity="tail_mass", by=[Stratum.KIND]).to_dict()
    rows = [row for data in chart["datasets"].values() for row in data]
    shown = {(row["comparison"], row["group"]): row for row in rows if "group" in row}
    own = table[table["quantity"] == "tail_mass"]
    expected = own.set_index(["comparison", "kind"])
    assert set(shown) == set(expected.index)
    assert {name for name, _ in shown} == {"ssd", "control", "ssd − control"}
    for key, row in shown.items():
        for bound in ("delta", "low", "high"):
            assert row[bound] == expected.loc[key, bound]
    transitions = charts.transition_chart(tables.transitions(comparison), other="ssd").to_dict()
    assert sum(len(data) for data in transitions["datasets"].values()) == len(Kind) ** 2
    shares = charts.shares_chart(tables.kind_shares(comparison)).to_dict()
    assert sum(len(data) for data in shares["datasets"].values()) == len(Assignment) * len(Kind)


def test_the_drift_null_stands_in_chart_and_table_where_it_is_known(
    run: Run, trio: dict[str, pd.DataFrame]
) -> None:
    plain = tables.delta_tables(trio, by=[Stratum.KIND], inference=FEW_DRAWS)
    null = tables.drift_null(run, DriftAsked(other="ssd", control="control"))
    table = tables.with_drift(plain, null)
    chart = charts.delta_chart(table, quantity="tail_mass", by=[Stratum.KIND]).to_dict()
    rows = [row for data in chart["datasets"].values() for row in data if "group" in row]
    own = table[table["quantity"] == "tail_mass"].set_index(["comparison", "kind"])["null_drift"]
    assert {(row["comparison"], row["group"]): row["null_drift"] for row in rows} == own.to_dict()
    far = table.assign(null_drift=5.0)
    chart = charts.delta_chart(far, quantity="tail_mass", by=[Stratum.KIND]).to_dict()
    ends = [
        layer["encoding"]["x"]["scale"]["domain"]
        for layer in chart["layer"]
        if "scale" in layer["encoding"]["x"]
    ]
    assert all(low < 0 and high >= 5.0 for low, high in ends)
    shown = display.labelled_deltas(table, by=[Stratum.KIND])
    assert sorted(shown["Null: drift"].dropna()) == sorted(table["null_drift"].dropna())
    assert "Null: drift" not in display.labelled_deltas(plain, by=[Stratum.KIND])
    names = list(trio)
    assert "drift" in charts.legend_text(names, drift=True)
    assert "drift" not in charts.legend_text(names)


def test_a_chart_of_what_is_not_measured_is_still_json(trio: dict[str, pd.DataFrame]) -> None:
    greedy = {name: frame.assign(js=np.nan) for name, frame in trio.items()}
    table = tables.delta_tables(greedy, by=[Stratum.KIND], quantities=["js"], inference=FEW_DRAWS)
    chart = charts.delta_chart(table, quantity="js", by=[Stratum.KIND]).to_dict()
    json.dumps(chart, allow_nan=False)


def test_labels_are_shown_as_they_stand() -> None:
    for label in ("chain_sum", "before think-close", "T = 0.6", "short (≤ 63 tokens)", "a/b c"):
        assert escaped(label) == label
    for label in (
        "[x](http://example.org)",
        ":red[x]",
        "**b**",
        "_i_",
        "$x$",
        "<b>",
        "# h",
        "1. x",
    ):
        shown = escaped(label)
        assert shown != label
        assert re.sub(r"[\\`]", "", shown) == label


def test_printed_deltas_are_the_rows_of_the_table_with_their_own_null_and_counts(
    comparison: pd.DataFrame,
) -> None:
    table = tables.delta_tables({"a": comparison}, by=[Stratum.KIND], inference=FEW_DRAWS)
    less = table[table["kind"] != "mixed"]
    both = pd.concat([less, table.assign(comparison="b")], ignore_index=True)
    shown = display.printed_deltas(both, by=[Stratum.KIND])
    pd.testing.assert_frame_equal(shown.sort_index(), both[list(shown)])
    assert {"null", "p_adjusted", "reads", "problems"} < set(shown)
    groups = shown[["kind", "quantity"]].apply(tuple, axis=1)
    # The comparisons of a group stand together, in their order; a group of one alone is there.
    assert (groups != groups.shift()).sum() == groups.nunique()
    assert shown.groupby(["kind", "quantity"])["comparison"].is_monotonic_increasing.all()
    assert set(shown.loc[shown["kind"] == "mixed", "comparison"]) == {"b"}


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


def test_shown_tables_hide_nothing(run: Run, trio: dict[str, pd.DataFrame]) -> None:
    for row in SAMPLE:
        table = tables.example_table(
            run, row, other="ssd", control="control", decoding=Decoding(), top=30
        )
        shown = display.shown_example(table).data
        for column in ("Baseline token", "Other token", "Control token"):
            assert not any(hidden(text) for text in shown[column])
    deltas = tables.delta_tables(trio, by=[Stratum.KIND], inference=FEW_DRAWS)
    shown = display.labelled_deltas(deltas, by=[Stratum.KIND])
    assert sorted(shown["Delta"]) == sorted(deltas["delta"])
    groups = [ALL, *(kind.value for kind in Kind)]
    assert shown["Kind"].head(15).tolist() == [group for group in groups for _ in trio]
    assert shown["Comparison"].head(6).tolist() == [*trio, *trio]


def test_events_and_transitions_stand_side_by_side(trio: dict[str, pd.DataFrame]) -> None:
    for table, shown, keys in (
        (tables.event_tables(trio), shares.shown_events, ["kind", "event"]),
        (tables.transition_tables(trio), shares.shown_transitions, ["baseline", "other"]),
    ):
        wide = shown(table).data
        labels = ["Share ssd", "Share control", "Share ssd − control"]
        assert wide.columns[2:5].tolist() == labels
        for name, label in zip(trio, labels, strict=True):
            own = table[table["comparison"] == name].set_index(keys)["share"]
            found = wide.set_index(wide.columns[:2].tolist())[label]
            assert found.to_dict() == {key: own[key] for key in found.index}
        alone = table[table["comparison"] == "ssd"]
        assert [name.split(" ssd")[0] for name in shown(alone).data.columns][2] == "Share"
        assert not any("ssd" in name for name in shown(alone).data.columns)


def test_nulls_that_cannot_tell_are_words(trio: dict[str, pd.DataFrame]) -> None:
    for assignment in Assignment:
        chosen = Filters(assignment=assignment)
        table = tables.event_tables(trio, filters=chosen)
        shown = shares.shown_events(table).to_html()
        said = shown.count(f">{shares.BY_SYMMETRY}<")
        assert said == 2 * table.drop_duplicates(["kind", "event"])["null_by_symmetry"].sum()
        assert (said > 0) == (assignment is Assignment.MEAN)
        assert ("strict lock" in shares.symmetry_text(chosen)) == (said > 0)


def test_the_list_counts_tokens_from_one(run: Run, trio: dict[str, pd.DataFrame]) -> None:
    some = trio["ssd"].iloc[[5, 700, 40]]
    listed = tables.position_list(run, some, by="tail_mass", compared=trio)
    shown = display.shown_list(listed, first=1).data
    for (_, position), token in zip(some.iterrows(), shown["Token"], strict=True):
        assert f"token {token} of" in display.place_text(position)
    assert listed["position"].tolist() == some["position"].tolist()
    for label, name in zip(("Delta", "Control", "Difference"), trio, strict=True):
        expected = trio[name].loc[some.index, "tail_mass_delta"]
        assert shown[label].tolist() == expected.tolist()
    np.testing.assert_allclose(
        shown["Difference"], shown["Delta"] - shown["Control"], rtol=1e-4, atol=1e-9
    )
    alone = display.shown_list(tables.position_list(run, some, by="tail_mass"), first=1).data
    assert "Control" not in alone
    assert alone["Delta"].tolist() == shown["Delta"].tolist()


def test_every_preset_is_spelled_out() -> None:
    for rule in KIND_PRESETS.values():
        text = display.rule_text(rule)
        for value in (rule.lock_top1, rule.lock_nucleus, rule.lock_tail, rule.fork_tail):
            assert f"{value:g}" in text
