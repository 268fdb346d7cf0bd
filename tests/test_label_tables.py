"""What labels by people say of the heuristic: every figure against a slow reference."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelled import DRAWN, RANKED, drawn_labels, label_of
from scipy import stats as scipy_stats

from probing.analysis.agreement import EXACT, agreement, cohens_kappa
from probing.reporting import labels as tables
from probing.reporting import labels_shown
from probing.reporting.comparison import kind_column
from probing.reporting.export import csv_text
from probing.reporting.filters import EVERY, Average, Weighting, weights
from probing.reporting.labels import ALL_LABELS, label_table, speaks_for_run
from probing.settings import Inference
from probing.store.labels import HEURISTIC, PEOPLE, Label, Offer, Offered
from probing.store.reader import Run
from probing.vocabulary import Assignment, Event, Kind

INFERENCE = Inference(draws=200)
HOSTILE = ('=HYPERLINK("http://x","y")', "\x1b[31mred", "<b>bold</b>", "a\u202eb", "+1", "**x**")


@pytest.fixture(scope="module")
def given_labels(run: Run, comparison: pd.DataFrame) -> list[Label]:
    return [
        *drawn_labels(run, comparison, who="Ada", count=120, errs=0.3, seed=1),
        *drawn_labels(run, comparison, who="Bob", count=80, errs=0.5, seed=2),
        *(
            label_of(run, row, who="Ada", order=RANKED, kind=Kind.MIXED, event=None)
            for _, row in comparison.iloc[3:20].iterrows()
        ),
    ]


def table_of(
    run: Run,
    comparison: pd.DataFrame,
    labels: list[Label],
    assignment: Assignment = Assignment.MEAN,
) -> pd.DataFrame:
    return label_table(
        labels, comparison, fingerprint=run.fingerprint, other="ssd", assignment=assignment
    )


# Kappa and share

codes = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.floats(0.1, 9)), min_size=1, max_size=30
)


def slow_kappa(first: list[int], second: list[int], weight: list[float]) -> float:
    total = sum(weight)
    observed = sum(w for a, b, w in zip(first, second, weight, strict=True) if a == b) / total
    chance = 0.0
    for code in {*first, *second}:
        one = sum(w for a, w in zip(first, weight, strict=True) if a == code) / total
        two = sum(w for b, w in zip(second, weight, strict=True) if b == code) / total
        chance += one * two
    return (observed - chance) / (1 - chance)


@given(codes)
def test_kappa_is_that_of_the_slow_sum(drawn: list[tuple[int, int, float]]) -> None:
    first, second, weight = ([*column] for column in zip(*drawn, strict=True))
    arrays = np.array(first), np.array(second)
    found = cohens_kappa(*arrays, weights=np.array(weight))
    if len({*first, *second}) == 1:
        assert np.isnan(found)
        return
    assert found == pytest.approx(slow_kappa(first, second, weight))
    assert found == pytest.approx(cohens_kappa(*arrays[::-1], weights=np.array(weight)))
    assert found <= 1 + 1e-12
    assert cohens_kappa(arrays[0], arrays[0], weights=np.array(weight)) == pytest.approx(
        1.0 if len({*first}) > 1 else np.nan, nan_ok=True
    )


def test_kappa_of_a_published_table() -> None:
    """20 and 15 agreements of 50, 5 and 10 apart: 0.7 observed, 0.5 by chance, kappa 0.4."""
    first = np.repeat([0, 0, 1, 1], [20, 5, 10, 15])
    second = np.repeat([0, 1, 0, 1], [20, 5, 10, 15])
    assert cohens_kappa(first, second, weights=np.ones(50)) == pytest.approx(0.4)


@pytest.mark.parametrize("agree", [True, False])
@pytest.mark.parametrize("problems", [1, 3, 60])
def test_where_all_agree_the_bounds_are_those_of_so_many_trials(agree: bool, problems: int) -> None:
    clusters = np.repeat(np.arange(problems), 4)
    first = np.zeros(len(clusters), dtype=np.int64)
    found = agreement(
        first, first + (not agree), weights=np.ones(len(first)), clusters=clusters,
        settings=INFERENCE,
    )  # fmt: skip
    exact = scipy_stats.binomtest(problems * agree, problems).proportion_ci(0.95, method="exact")
    assert (found.share.low, found.share.high) == pytest.approx((exact.low, exact.high))
    assert found.method == EXACT


def test_an_interval_is_over_problems_and_stays_a_share() -> None:
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(50), 6)
    apart = np.repeat(rng.random(50) < 0.1, 6).astype(np.int64)
    zeros = np.zeros(len(apart), dtype=np.int64)
    whole = agreement(
        zeros, apart, weights=np.ones(len(apart)), clusters=clusters, settings=INFERENCE
    )
    alone = agreement(
        zeros, apart, weights=np.ones(len(apart)), clusters=np.arange(len(apart)),
        settings=INFERENCE,
    )  # fmt: skip
    assert whole.share.estimate == pytest.approx(1 - apart.mean())
    assert whole.share.high - whole.share.low > 1.5 * (alone.share.high - alone.share.low)
    few = agreement(
        zeros[:18], np.repeat([0, 0, 1], 6), weights=np.ones(18), clusters=clusters[:18],
        settings=INFERENCE,
    )  # fmt: skip
    assert (few.share.low, few.share.high) == (0.0, 1.0)
    assert few.share.note == "3 problems, fewer than 40: a wide guess"


# Labels beside the heuristic


def test_labels_stand_beside_what_the_heuristic_says_now(
    run: Run, comparison: pd.DataFrame, given_labels: list[Label]
) -> None:
    for assignment in Assignment:
        table = table_of(run, comparison, given_labels, assignment)
        known = comparison.set_index(["carrier_id", "position"])
        assert len(table) == len({label.of for label in given_labels})
        for row in table.itertuples():
            own = known.loc[(row.carrier_id, row.position)]
            assert row.heuristic_kind == own[kind_column(assignment)]
            assert row.heuristic_event == own[f"event_{assignment}"]
            assert row.problem_id == own["problem_id"]


def test_only_this_run_this_pair_and_the_newest_count(run: Run, comparison: pd.DataFrame) -> None:
    one = label_of(run, comparison.iloc[7])
    later = dataclasses.replace(one, kind=Kind.MIXED, time="2026-01-02T03:04:06.000+00:00")
    elsewhere = [
        dataclasses.replace(one, run="x", who="Eve"),
        dataclasses.replace(one, other="control", who="Eve"),
        dataclasses.replace(one, position="nowhere:1", who="Eve"),
    ]
    table = table_of(run, comparison, [later, one, *elsewhere])
    assert table[["who", "kind"]].to_numpy().tolist() == [["Ada", "mixed"]]
    gone = dataclasses.replace(later, kind=None, event=None)
    assert table_of(run, comparison, [later, one, gone]).empty


OFFERS = {
    "drawn": (DRAWN, True),
    "of every": (dataclasses.replace(DRAWN, among=EVERY), True),
    "of a marker": (dataclasses.replace(DRAWN, among="self_correction"), False),
    "filtered": (dataclasses.replace(DRAWN, filtered=True), False),
    "ranked": (RANKED, False),
    "link": (Offer(how=Offered.LINK), False),
}


@pytest.mark.parametrize("name", OFFERS)
def test_only_a_whole_draw_speaks_for_the_run(name: str) -> None:
    offer, speaks = OFFERS[name]
    assert speaks_for_run(offer, weighting=Weighting()) is speaks


def test_agreement_is_the_slow_count(
    run: Run, comparison: pd.DataFrame, given_labels: list[Label]
) -> None:
    table = table_of(run, comparison, given_labels)
    found = tables.agreement_table(table, inference=INFERENCE).set_index(
        ["basis", "of", "first", "second"]
    )
    weight = pd.Series(
        weights(comparison, weighting=Weighting()),
        index=pd.MultiIndex.from_frame(comparison[["carrier_id", "position"]]),
    )
    for basis, of in [(ALL_LABELS, "kind"), (ALL_LABELS, "event"), (tables.DRAWN, "kind")]:
        rows = [row for row in table.itertuples() if basis == ALL_LABELS or row.drawn]
        for who in ("Ada", "Bob"):
            right = whole = 0.0
            own = [row for row in rows if row.who == who and isinstance(getattr(row, of), str)]
            for row in own:
                each = 1.0 if basis == ALL_LABELS else weight[(row.carrier_id, row.position)]
                whole += each
                right += each * (getattr(row, of) == getattr(row, f"heuristic_{of}"))
            got = found.loc[(basis, of, who, HEURISTIC)]
            assert got["share"] == pytest.approx(right / whole)
            assert got["labels"] == len(own)
            assert got["problems"] == len({row.problem_id for row in own})
            assert got["low"] <= got["share"] <= got["high"]
    ada, bob = (
        {(r.carrier_id, r.position): r.kind for r in table.itertuples() if r.who == who}
        for who in ("Ada", "Bob")
    )
    both = [*ada.keys() & bob.keys()]
    got = found.loc[(ALL_LABELS, "kind", "Ada", "Bob")]
    assert got["share"] == pytest.approx(np.mean([ada[at] == bob[at] for at in both]))
    assert got["labels"] == len(both)
    assert got["kappa"] == pytest.approx(
        slow_kappa(*([list(Kind).index(Kind(k[at])) for at in both] for k in (ada, bob)),
                   [1.0] * len(both))
    )  # fmt: skip


def test_a_position_of_two_people_counts_once_where_the_run_is_meant(
    run: Run, comparison: pd.DataFrame
) -> None:
    first, second = (row for _, row in comparison[comparison["headline"]].iloc[[0, 30]].iterrows())
    wrong = next(kind for kind in Kind if kind != first["kind_mean"])
    labels = [label_of(run, second, who="Ada")]
    labels += [label_of(run, first, who=who, kind=wrong) for who in ("Ada", "Bob")]
    found = tables.agreement_table(table_of(run, comparison, labels), inference=INFERENCE)
    own = found[(found["of"] == "kind") & (found["first"] == PEOPLE)].set_index("basis")["share"]
    weight = weights(comparison, weighting=Weighting())
    one, two = weight[int(first["row"])], weight[int(second["row"])]
    assert own[ALL_LABELS] == pytest.approx(1 / 3)
    assert own[tables.DRAWN] == pytest.approx(two / (one + two))


def test_a_draw_speaks_for_the_run(run: Run, comparison: pd.DataFrame) -> None:
    """People are right but for one kind: over every position the share is that kind's own."""
    labels = drawn_labels(run, comparison, who="Ada", count=10**6, errs=0.0)
    labels = [
        dataclasses.replace(one, kind=Kind.MIXED) if one.kind is Kind.FORK else one
        for one in labels
    ]
    for average in Average:
        weighting = Weighting(average=average)
        table = label_table(
            labels, comparison, fingerprint=run.fingerprint, other="ssd", weighting=weighting
        )
        found = tables.agreement_table(table, inference=INFERENCE)
        got = found[(found["basis"] == tables.DRAWN) & (found["of"] == "kind")]["share"].item()
        weight = weights(comparison, weighting=weighting)
        forks = (comparison["kind_mean"] == Kind.FORK.value).to_numpy()
        assert got == pytest.approx(1 - weight[forks].sum() / weight.sum())


def test_confusion_counts_every_label_once(
    run: Run, comparison: pd.DataFrame, given_labels: list[Label]
) -> None:
    table = table_of(run, comparison, given_labels)
    found = tables.confusion_table(table)
    own = found[(found["basis"] == ALL_LABELS) & (found["of"] == "kind")]
    assert len(own) == len(Kind) ** 2
    for row in own.itertuples():
        count = ((table["kind"] == row.people) & (table["heuristic_kind"] == row.heuristic)).sum()
        assert row.labels == count
    sums = own.groupby("people")["share"].sum()
    present = own.groupby("people")["labels"].sum() > 0
    assert sums[present].tolist() == pytest.approx([1.0] * present.sum())
    agreed = own[own["people"] == own["heuristic"]]["labels"].sum() / own["labels"].sum()
    whole = tables.agreement_table(table, inference=INFERENCE).iloc[0]
    assert (whole["basis"], whole["of"], whole["first"]) == (ALL_LABELS, "kind", PEOPLE)
    assert whole["share"] == pytest.approx(agreed)
    shown = labels_shown.shown_confusion(found, of="kind", basis=ALL_LABELS)
    assert shown.iloc[:, 1:].to_numpy().sum() == len(table)


# Deltas by either's kinds


def test_deltas_by_peoples_kinds_are_the_slow_means(
    run: Run, comparison: pd.DataFrame, given_labels: list[Label]
) -> None:
    table = table_of(run, comparison, given_labels)
    found = tables.label_deltas(table, comparison, inference=INFERENCE)
    known = comparison.set_index(["carrier_id", "position"])
    weight = pd.Series(weights(comparison, weighting=Weighting()), index=known.index)
    for row in found.itertuples():
        drawn = row.basis == tables.DRAWN
        own = [one for one in table.itertuples() if one.drawn or not drawn]
        at = [(one.carrier_id, one.position) for one in own]
        for side, column in ((PEOPLE, "kind"), (HEURISTIC, "heuristic_kind")):
            top = whole = 0.0
            for place, one in zip(at, own, strict=True):
                if getattr(one, column) == row.kind:
                    each = (weight[place] if drawn else 1.0) / at.count(place)
                    top += each * known.loc[place, f"{row.quantity}_delta"]
                    whole += each
            want = top / whole if whole else np.nan
            assert getattr(row, side) == pytest.approx(want, nan_ok=True)
        assert row.difference == pytest.approx(getattr(row, PEOPLE) - row.heuristic, nan_ok=True)


def test_people_who_agree_change_no_delta(run: Run, comparison: pd.DataFrame) -> None:
    labels = drawn_labels(run, comparison, who="Ada", count=150, errs=0.0)
    found = tables.label_deltas(table_of(run, comparison, labels), comparison, inference=INFERENCE)
    assert (found["difference"].abs() < 1e-12).all()
    assert found[f"{PEOPLE}_low"].tolist() == pytest.approx(
        found[f"{HEURISTIC}_low"].tolist(), nan_ok=True
    )
    ends = found[["difference_low", "difference_high"]].dropna()
    assert (ends.abs() < 1e-9).all(axis=None)


def test_without_labels_every_table_is_empty_and_has_its_columns(
    run: Run, comparison: pd.DataFrame
) -> None:
    table = table_of(run, comparison, [])
    assert tables.agreement_table(table).columns.tolist() == [*tables.AGREEMENT_COLUMNS]
    assert (tables.confusion_table(table)["labels"] == 0).all()
    assert tables.label_deltas(table, comparison).empty
    shown = labels_shown.shown_agreement(tables.agreement_table(table))
    assert shown.empty


# Hostile text


@pytest.mark.parametrize("text", HOSTILE)
def test_what_people_write_stays_text(run: Run, comparison: pd.DataFrame, text: str) -> None:
    label = label_of(run, comparison.iloc[3], who=text, note=text, event=Event.SWAP)
    table = table_of(run, comparison, [label])
    for line in csv_text(table).splitlines()[1:]:
        assert f'"{text[:3]}' not in line or text[0] not in "=+"
    shown = labels_shown.shown_labels((label,))
    agreed = labels_shown.shown_agreement(tables.agreement_table(table, inference=INFERENCE))
    for cell in (shown["Who"].item(), shown["Note"].item(), *agreed["Who"]):
        assert cell.isprintable()
        assert "\u202e" not in cell
