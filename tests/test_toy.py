"""Golden numbers of the toy of the SSD paper: a lock, a fork and a root of 16 tokens each."""

from dataclasses import replace

import numpy as np
import pytest
from rows import distributions_of

from probing.analysis.decoding import kept_probabilities, statistics
from probing.analysis.distributions import Distributions
from probing.analysis.target import ssd_target
from probing.errors import OutsideContract
from probing.settings import Decoding, KindRule

LOCK, FORK, ROOT = 0, 1, 2
LISTED = ((0.750, 0.055, 0.050, 0.037), (0.148, 0.280, 0.140, 0.144), (0.200, 0.190, 0.329, 0.126))
VOCABULARY = 16
RATIO = 0.5


def toy() -> Distributions:
    """Rows lock, fork, root; candidates in order of token id."""
    shares = RATIO ** np.arange(VOCABULARY - 4)
    masses = [[*row, *(shares / shares.sum() * (1 - sum(row)))] for row in LISTED]
    rows = distributions_of(np.log(masses).astype(np.float32), top_k=VOCABULARY)
    order = np.argsort(rows.ids, axis=1)
    return replace(
        rows,
        ids=np.take_along_axis(rows.ids, order, axis=1),
        logits=np.take_along_axis(rows.logits, order, axis=1),
    )


def trained() -> Distributions:
    return ssd_target(toy(), training=Decoding(temperature=0.9, top_k=0, top_p=0.85))


def test_ssd_leaves_two_five_and_four_tokens() -> None:
    sizes = statistics(
        trained(), decoding=Decoding(top_k=0, top_p=1.0), rule=KindRule()
    ).nucleus_size
    assert sizes.tolist() == [2, 5, 4]


def test_the_lock_after_ssd() -> None:
    kept = kept_probabilities(trained(), decoding=Decoding(top_k=0, top_p=1.0)).kept[LOCK]
    assert kept[:2] == pytest.approx([0.948, 0.052], abs=5e-4)
    assert (kept[2:] == 0).all()


def success(rows: Distributions, temperature: float) -> float:
    kept = kept_probabilities(
        rows, decoding=Decoding(temperature=temperature, top_k=0, top_p=0.80)
    ).kept
    return float((kept[ROOT, 0] + kept[ROOT, 1]) * kept[FORK, 0] * kept[LOCK, 0] ** 3)


@pytest.mark.parametrize(
    ("after", "best", "at"), [(False, 0.0833, 0.639), (True, 0.1377, 2.09)], ids=["before", "after"]
)
def test_best_success_over_evaluation_temperatures(after: bool, best: float, at: float) -> None:
    rows = trained() if after else toy()
    grid = np.arange(at - 0.4, at + 0.9, 0.001)
    wide = np.arange(0.05, 5, 0.05)
    successes = np.array([success(rows, float(t)) for t in grid])
    assert successes.max() == pytest.approx(best, abs=5e-5)
    assert grid[successes.argmax()] == pytest.approx(at, abs=5e-3)
    assert max(success(rows, float(t)) for t in wide) <= successes.max()


def test_the_target_at_temperature_one_is_what_sampling_draws() -> None:
    rng = np.random.default_rng(0)
    full = rng.normal(scale=3, size=(6, 500)).astype(np.float32)
    rows = distributions_of(full, top_k=64)
    decoding = Decoding(temperature=1.1, top_k=20, top_p=0.95)
    target = ssd_target(rows, training=Decoding(temperature=1.1, top_k=20, top_p=0.95))
    everything = Decoding(temperature=1.0, top_k=0, top_p=1.0)
    again = kept_probabilities(target, decoding=everything)
    drawn = kept_probabilities(rows, decoding=decoding).kept
    np.testing.assert_allclose(again.kept, drawn, rtol=1e-12)
    # Its support stands against p_1 to the power of 1 / T.
    p = kept_probabilities(rows, decoding=everything).probability
    for position in range(6):
        inside = drawn[position] > 0
        tempered = p[position, inside] ** (1 / 1.1)
        np.testing.assert_allclose(drawn[position, inside], tempered / tempered.sum(), rtol=1e-9)


def test_a_target_whose_support_is_not_known_is_refused() -> None:
    full = (np.random.default_rng(0).normal(size=(2, 500)) / 10).astype(np.float32)
    rows = distributions_of(full, top_k=64)
    with pytest.raises(OutsideContract, match=r"got 2 positions.*give a train_top_k"):
        ssd_target(rows, training=Decoding(temperature=1.0, top_k=0, top_p=0.95))
