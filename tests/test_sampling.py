"""Strata and the seeded, balanced sample of carriers."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probing.carriers.record import Carrier
from probing.carriers.sampling import SampleResult, even_shares, sample_carriers
from probing.carriers.strata import length_bins, strata
from probing.errors import NoCarriersLeft, UsageFault
from probing.settings import Sampling
from probing.vocabulary import UNKNOWN

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
    for label, members in spans.items():
        assert str(min(members)) in label
        assert str(max(members)) in label


def test_length_bins_split_evenly_where_they_can() -> None:
    labels = length_bins(range(1, 31), bins=3)
    assert [labels.count(label) for label in dict.fromkeys(labels)] == [10, 10, 10]


def test_strata_say_unknown_rather_than_guess() -> None:
    (one,) = strata(_carriers(3)[2:], lengths=[5], bins=3)
    assert (one.correct, one.subject, one.sampling_temperature) == (UNKNOWN, UNKNOWN, UNKNOWN)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.integers(0, 150))
def test_even_shares_are_as_even_as_the_cells_allow(available: list[int], total: int) -> None:
    taken = even_shares(available, total=total)
    assert sum(taken) == min(total, sum(available))
    assert all(t <= a for t, a in zip(taken, available, strict=True))
    open_cells = [t for t, a in zip(taken, available, strict=True) if t < a]
    if open_cells:
        assert max(taken) <= min(open_cells) + 1


def test_a_sample_is_balanced_seeded_and_weighted() -> None:
    settings = Sampling(carriers=24, by=("generator", "correct"))
    result = _sample(120, settings)
    assert len(result.carriers) == 24
    assert {cell.taken for cell in result.cells} == {4}
    assert result == _sample(120, settings)
    assert result.indices != _sample(120, settings, seed=1).indices
    # Inverse probabilities count the population back.
    assert sum(1 / c.sampling_probability for c in result.carriers) == pytest.approx(120)


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


def test_an_unknown_stratum_is_named() -> None:
    with pytest.raises(UsageFault, match=r"by takes .*length_bin.*got 'colour'"):
        _sample(9, Sampling(by=("colour",)))
