"""Strata and the seeded, balanced sample of carriers."""

import dataclasses
import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probing.carriers.record import Carrier
from probing.carriers.sampling import (
    MOST_CELLS,
    NAMED_CELLS,
    STRATA,
    Cell,
    SampleResult,
    even_shares,
    proportional_shares,
    sample_carriers,
)
from probing.carriers.strata import length_bins, right_model, strata
from probing.errors import NoCarriersLeft, UsageFault
from probing.settings import Sampling
from probing.vocabulary import UNKNOWN, Stratum

GRADES = (True, False, None)


def _carriers(count: int) -> list[Carrier]:
    return [
        Carrier(
            carrier_id=f"c{i}",
            problem_id=f"p{i // 2}",
            response="r",
            generator=("base", "ssd")[i % 2],
            prompt="q",
            correct=GRADES[i % 3],
        )
        for i in range(count)
    ]


def _sample(count: int, settings: Sampling, *, seed: int = 0) -> SampleResult:
    lengths = [10 + 7 * i % 90 for i in range(count)]
    rng = np.random.default_rng(seed)
    return sample_carriers(_carriers(count), lengths=lengths, settings=settings, rng=rng)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60), st.integers(1, 5))
def test_length_bins_are_ordered_and_name_their_edges(lengths: list[int], bins: int) -> None:
    labels = length_bins(lengths, bins=bins)
    spans: dict[str, list[int]] = {}
    for label, length in zip(labels, lengths, strict=True):
        spans.setdefault(label, []).append(length)
    assert len(spans) <= bins
    ordered = sorted((min(members), max(members)) for members in spans.values())
    assert all(left[1] < right[0] for left, right in itertools.pairwise(ordered))
    names = {(min(members), max(members)): label for label, members in spans.items()}
    for (low, high), label in names.items():
        edges = [f"≥ {low}"] if (low, high) == ordered[-1] else [f"{low}–{high}", f"{low} "]
        if (low, high) == ordered[0]:
            edges = [f"≤ {high}"] if len(ordered) > 1 else [f"{low}–{high}", f"{low} "]
        assert any(edge in label for edge in edges)


def test_length_bins_are_named_for_reading() -> None:
    assert length_bins([10, 84, 100, 140, 200, 300], bins=3) == (
        *["short (≤ 84 tokens)"] * 2,
        *["medium (100–140 tokens)"] * 2,
        *["long (≥ 200 tokens)"] * 2,
    )
    assert length_bins([5, 9], bins=1) == ("all (5–9 tokens)",) * 2
    assert length_bins([5, 5], bins=3) == ("all (5 tokens)",) * 2
    assert length_bins([], bins=3) == ()


def test_length_bins_split_evenly_where_they_can() -> None:
    labels = length_bins(range(1, 31), bins=3)
    assert [labels.count(label) for label in dict.fromkeys(labels)] == [10, 10, 10]


def test_strata_say_unknown_rather_than_guess() -> None:
    given_labels = strata(_carriers(3), lengths=[5, 5, 5], bins=3)
    assert [one.correct for one in given_labels] == ["correct", "wrong", UNKNOWN]
    assert [one.generator for one in given_labels] == ["base", "ssd", "base"]
    last = given_labels[-1]
    assert (last.subject, last.difficulty, last.source) == (UNKNOWN,) * 3
    assert last.sampling_temperature == UNKNOWN
    with pytest.raises(dataclasses.FrozenInstanceError):
        last.correct = "wrong"


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.integers(0, 150))
def test_even_shares_are_as_even_as_the_cells_allow(available: list[int], total: int) -> None:
    taken = even_shares(available, total=total)
    assert sum(taken) == min(total, sum(available))
    assert all(t <= a for t, a in zip(taken, available, strict=True))
    open_cells = [t for t, a in zip(taken, available, strict=True) if t < a]
    if open_cells:
        assert max(taken) <= min(open_cells) + 1


SIZES = st.lists(st.integers(0, 30), min_size=1, max_size=8)


@given(SIZES, st.integers(0, 150))
def test_proportional_shares_are_the_exact_ones_rounded(available: list[int], total: int) -> None:
    taken, whole = proportional_shares(available, total=total), sum(available)
    assert sum(taken) == min(total, whole)
    assert all(0 <= t <= a for t, a in zip(taken, available, strict=True))
    exact = [Fraction(min(total, whole) * a, max(whole, 1)) for a in available]
    assert all(abs(t - e) < 1 for t, e in zip(taken, exact, strict=True))
    # A larger cell never gives less, and a cell with a whole share gives exactly that.
    for (a, t), (b, u) in itertools.product(zip(available, taken, strict=True), repeat=2):
        assert a >= b or t <= u
    assert all(t == e for t, e in zip(taken, exact, strict=True) if e.denominator == 1)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(0, 16))
def test_proportional_shares_are_as_near_as_any_other_whole_numbers(
    available: list[int], total: int
) -> None:
    total = min(total, sum(available))
    exact = [Fraction(total * a, sum(available)) for a in available]

    def away(taken: tuple[int, ...]) -> Fraction:
        return sum(((t - e) ** 2 for t, e in zip(taken, exact, strict=True)), Fraction(0))

    every = itertools.product(*(range(a + 1) for a in available))
    nearest = min(away(taken) for taken in every if sum(taken) == total)
    assert away(tuple(proportional_shares(available, total=total))) == nearest


def test_a_proportional_sample_gives_every_carrier_the_same_probability() -> None:
    settings = Sampling(carriers=12, by=("correct",), allocation="proportional")
    carriers = [
        dataclasses.replace(carrier, correct=(True, True, True, False, None, True)[i % 6])
        for i, carrier in enumerate(_carriers(60))
    ]
    rng = np.random.default_rng(0)
    result = sample_carriers(carriers, lengths=[9] * 60, settings=settings, rng=rng)
    assert result.cells == (
        Cell(("correct",), 8, 40, 8),
        Cell((UNKNOWN,), 2, 10, 2),
        Cell(("wrong",), 2, 10, 2),
    )
    assert {carrier.sampling_probability for carrier in result.carriers} == {0.2}


def test_equal_remainders_of_a_proportional_sample_are_drawn_by_lot() -> None:
    settings = Sampling(carriers=3, by=("generator",), allocation="proportional")
    takes = [tuple(cell.taken for cell in _sample(60, settings, seed=s).cells) for s in range(20)]
    assert set(takes) == {(1, 2), (2, 1)}
    assert _sample(60, settings).cells == _sample(60, settings).cells
    assert {cell.wanted for cell in _sample(60, settings).cells} == {2}


def test_a_sample_is_balanced_seeded_and_weighted() -> None:
    settings = Sampling(carriers=24, by=("generator", "correct"))
    result = _sample(120, settings)
    assert len(result.carriers) == 24
    assert {cell.taken for cell in result.cells} == {4}
    assert result == _sample(120, settings)
    assert result.indices != _sample(120, settings, seed=1).indices
    # Inverse probabilities count the population back.
    assert sum(1 / c.sampling_probability for c in result.carriers) == pytest.approx(120)


def test_cells_say_what_was_wanted_available_and_taken() -> None:
    carriers = _carriers(20)[::2] + _carriers(20)[1:4:2]
    settings = Sampling(carriers=8, by=("generator",))
    rng = np.random.default_rng(0)
    result = sample_carriers(carriers, lengths=[9] * 12, settings=settings, rng=rng)
    assert result.cells == (Cell(("base",), 4, 10, 6), Cell(("ssd",), 4, 2, 2))
    probability = {"base": 0.6, "ssd": 1.0}
    assert all(c.sampling_probability == probability[c.generator] for c in result.carriers)


def test_a_sample_of_a_sample_multiplies_probabilities() -> None:
    carriers = [dataclasses.replace(c, sampling_probability=0.5) for c in _carriers(8)]
    settings = Sampling(carriers=4, by=())
    rng = np.random.default_rng(0)
    result = sample_carriers(carriers, lengths=[9] * 8, settings=settings, rng=rng)
    assert {carrier.sampling_probability for carrier in result.carriers} == {0.25}


@pytest.mark.parametrize("paired", [False, True])
def test_the_stated_probability_is_how_often_a_carrier_is_drawn(paired: bool) -> None:
    settings = Sampling(carriers=8, by=("correct",), paired=paired)
    draws = [_sample(24, settings, seed=seed) for seed in range(600)]
    # Horvitz-Thompson: drawn times inverse probability is 1 on average, for every carrier.
    weight = np.zeros(24)
    for draw in draws:
        for index, carrier in zip(draw.indices, draw.carriers, strict=True):
            weight[index] += 1 / carrier.sampling_probability / len(draws)
    np.testing.assert_allclose(weight, 1.0, atol=5 * np.sqrt(3 / len(draws)))


def test_more_cells_than_carriers_are_filled_by_lot(caplog: pytest.LogCaptureFixture) -> None:
    settings = Sampling(carriers=2, by=("generator", "correct"))
    drawn = {c.generator for seed in range(20) for c in _sample(60, settings, seed=seed).carriers}
    assert drawn == {"base", "ssd"}
    assert "4 of 6 cells of the sample give nothing: base × " in caplog.text


def test_cells_that_give_nothing_are_named_and_the_rest_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = Sampling(carriers=1, by=("subject",))
    count = NAMED_CELLS + 4
    carriers = [dataclasses.replace(c, subject=f"s{i}") for i, c in enumerate(_carriers(count))]
    rng = np.random.default_rng(0)
    result = sample_carriers(carriers, lengths=[9] * count, settings=settings, rng=rng)
    empty = [cell.labels[0] for cell in result.cells if not cell.taken]
    assert len(empty) == count - 1
    named = "; ".join(empty[:NAMED_CELLS])
    assert f"{count - 1} of {count} cells of the sample give nothing: {named} and 3 more" in (
        caplog.text
    )


LABELS = st.tuples(
    st.sampled_from(("base", "ssd", "control")),
    st.sampled_from(GRADES),
    st.sampled_from(("algebra", "counting", None)),
)


@given(st.lists(LABELS, min_size=1, max_size=12), st.integers(0, 15), st.booleans())
def test_the_table_has_every_combination_of_labels_that_are_there(
    labels: list[tuple[str, bool | None, str | None]], count: int, proportional: bool
) -> None:
    carriers = [
        Carrier(
            carrier_id=str(i), problem_id=str(i), response="r", prompt="q",
            generator=generator, correct=correct, subject=subject,
        )
        for i, (generator, correct, subject) in enumerate(labels)
    ]  # fmt: skip
    shown = {True: "correct", False: "wrong", None: UNKNOWN}
    told = [(g, shown[c], s or UNKNOWN) for g, c, s in labels]
    by, allocation = ("generator", "correct", "subject"), "balanced"
    if proportional:
        allocation = "proportional"
    settings = Sampling(carriers=count, by=by, allocation=allocation)
    rng = np.random.default_rng(0)
    result = sample_carriers(carriers, lengths=[9] * len(told), settings=settings, rng=rng)
    every = list(itertools.product(*(sorted({each[i] for each in told}) for i in range(3))))
    assert [cell.labels for cell in result.cells] == every
    assert [cell.available for cell in result.cells] == [told.count(each) for each in every]
    drawn = Counter(told[i] for i in result.indices)
    assert [cell.taken for cell in result.cells] == [drawn[each] for each in every]
    if count:
        exact = [Fraction(count, len(every))] * len(every)
        if proportional:
            exact = [Fraction(count * told.count(each), len(told)) for each in every]
        assert [cell.wanted for cell in result.cells] == [math.ceil(share) for share in exact]


def test_cells_that_nothing_has_are_named_apart_from_those_that_give_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    carriers = [c for c in _carriers(60) if (c.generator, c.correct) != ("ssd", True)]
    lengths, rng = [9] * len(carriers), np.random.default_rng(0)
    settings = Sampling(carriers=10, by=("generator", "correct"))
    result = sample_carriers(carriers, lengths=lengths, settings=settings, rng=rng)
    assert Cell(("ssd", "correct"), 2, 0, 0) in result.cells
    assert "1 of 6 cells of the sample are empty: ssd × correct; nothing that" in caplog.text
    assert "give nothing" not in caplog.text
    caplog.clear()
    few = dataclasses.replace(settings, carriers=4)
    sample_carriers(carriers, lengths=lengths, settings=few, rng=rng)
    assert "1 of 6 cells of the sample are empty: ssd × correct;" in caplog.text
    assert "1 of 6 cells of the sample give nothing: " in caplog.text
    # Where all is kept, nobody asked for a design.
    caplog.clear()
    everything = dataclasses.replace(settings, carriers=0)
    kept = sample_carriers(carriers, lengths=lengths, settings=everything, rng=rng)
    assert [cell.labels for cell in kept.cells] == [cell.labels for cell in result.cells]
    assert caplog.text == ""


def test_too_many_combinations_are_counted_and_not_listed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    side = math.isqrt(MOST_CELLS) + 1
    carriers = [
        dataclasses.replace(c, subject=f"s{i}", source=f"t{i}")
        for i, c in enumerate(_carriers(side))
    ]
    settings = Sampling(carriers=side, by=("subject", "source"))
    rng = np.random.default_rng(0)
    result = sample_carriers(carriers, lengths=[9] * side, settings=settings, rng=rng)
    assert [(cell.available, cell.taken) for cell in result.cells] == [(1, 1)] * side
    assert f"{side * side - side} of {side * side} combinations of the strata are empty" in (
        caplog.text
    )


def test_a_paired_table_combines_labels_of_problems_not_of_generators() -> None:
    subjects = ("algebra", "counting")
    carriers = [
        dataclasses.replace(c, subject=subjects[i // 2 % 2], correct=(True, False)[i % 2])
        for i, c in enumerate(_carriers(8))
    ]
    carriers[0] = dataclasses.replace(carriers[0], correct=False)
    settings = Sampling(carriers=4, by=("generator", "subject", "correct"), paired=True)
    rng = np.random.default_rng(0)
    result = sample_carriers(carriers, lengths=[9] * 8, settings=settings, rng=rng)
    both = "base / ssd"
    assert {cell.labels: cell.available for cell in result.cells} == {
        (both, "algebra / algebra", "correct / wrong"): 1,
        (both, "algebra / algebra", "wrong / wrong"): 1,
        (both, "counting / counting", "correct / wrong"): 2,
        (both, "counting / counting", "wrong / wrong"): 0,
    }


@pytest.mark.parametrize("paired", [False, True])
def test_a_sample_is_drawn_over_any_stratum(paired: bool) -> None:
    assert {*Stratum} & {*STRATA} == {*Stratum} - {
        "kind", "event", "selectors", "phase", "token_class",
    }  # fmt: skip
    reasons = ("stop", "length", None)
    carriers = [
        dataclasses.replace(c, finish_reason=reasons[i // 2 % 3], correct=i % 4 < 2 or i % 2 == 0)
        for i, c in enumerate(_carriers(24))
    ]
    right = right_model(carriers, baseline="ssd", other="base")
    assert set(right.values()) == {"both right", "other only"}
    for name in STRATA:
        rng = np.random.default_rng(0)
        result = sample_carriers(
            carriers,
            lengths=[9] * 24,
            settings=Sampling(carriers=12, by=(name,), paired=paired),
            rng=rng,
            models=("ssd", "base", "control"),
        )
        available = {cell.labels[0]: cell.available for cell in result.cells}
        assert sum(available.values()) == (12 if paired else 24)
        each = 1 if paired else 2
        if name == "finish_reason":
            wanted = {"stop": 4 * each, "length": 4 * each, UNKNOWN: 4 * each}
            assert available == {f"{k} / {k}" if paired else k: v for k, v in wanted.items()}
        if name == "right_model":
            counted = Counter(right[c.problem_id] for c in carriers)
            wanted = {k: v * each // 2 for k, v in counted.items()}
            assert available == {f"{k} / {k}" if paired else k: v for k, v in wanted.items()}


def test_which_model_is_right_needs_two_models() -> None:
    with pytest.raises(UsageFault, match=r"right_model under \[sampling\] by needs two models"):
        _sample(9, Sampling(by=("right_model",)))


def test_a_paired_sample_takes_whole_problems_of_every_generator() -> None:
    settings = Sampling(carriers=12, by=("generator", "correct"), paired=True)
    result = _sample(60, settings)
    assert len(result.carriers) == 12
    problems = Counter(carrier.problem_id for carrier in result.carriers)
    assert set(problems.values()) == {2}
    # Grades go round in threes over pairs: three combinations of both generators' grades.
    assert [cell.labels for cell in result.cells] == [
        ("base / ssd", "correct / wrong"),
        ("base / ssd", "unknown / correct"),
        ("base / ssd", "wrong / unknown"),
    ]
    assert {(cell.wanted, cell.available, cell.taken) for cell in result.cells} == {(2, 10, 2)}
    assert sum(1 / c.sampling_probability for c in result.carriers) == pytest.approx(60)
    assert result == _sample(60, settings)


def test_a_paired_sample_names_what_has_no_partner() -> None:
    carriers, settings = _carriers(10), Sampling(paired=True, max_response_tokens=20)
    lengths = [9] * 9 + [21]  # the partner of c8 is too long
    rng = np.random.default_rng(0)
    result = sample_carriers(carriers, lengths=lengths, settings=settings, rng=rng)
    assert result.indices == tuple(range(8))
    assert [carrier.carrier_id for carrier in result.unpaired] == ["c8"]
    assert [carrier.carrier_id for carrier in result.too_long] == ["c9"]
    with pytest.raises(NoCarriersLeft, match=r"got none for base, ssd; set paired = false"):
        sample_carriers(carriers[1:3], lengths=[9, 9], settings=settings, rng=rng)


def test_a_problem_answered_several_times_goes_whole() -> None:
    carriers = [dataclasses.replace(c, problem_id=f"p{i // 4}") for i, c in enumerate(_carriers(8))]
    settings = Sampling(carriers=4, by=("correct",), paired=True)
    rng = np.random.default_rng(0)
    result = sample_carriers(carriers, lengths=[9] * 8, settings=settings, rng=rng)
    assert result.indices in {(0, 1, 2, 3), (4, 5, 6, 7)}
    assert [cell.labels for cell in result.cells] == [
        ("correct + unknown / correct + wrong",),
        ("correct + wrong / unknown + wrong",),
    ]


def test_no_number_keeps_every_carrier_in_order() -> None:
    result = _sample(30, Sampling())
    assert result.indices == tuple(range(30))
    assert {carrier.sampling_probability for carrier in result.carriers} == {1.0}


def test_long_responses_are_left_out_and_named() -> None:
    result = _sample(30, Sampling(max_response_tokens=50))
    assert result.too_long
    assert len(result.too_long) + len(result.carriers) == 30
    with pytest.raises(NoCarriersLeft, match="max_response_tokens = 1"):
        _sample(30, Sampling(max_response_tokens=1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Sampling(by=("colour",)), r"by takes .*length_bin.*got 'colour'"),
        (Sampling(carriers=-1), "carriers must be >= 0, got -1"),
        (Sampling(length_bins=0), "length_bins must be >= 1, got 0"),
    ],
)
def test_settings_that_cannot_be_are_named(settings: Sampling, message: str) -> None:
    with pytest.raises(UsageFault, match=message):
        _sample(9, settings)
