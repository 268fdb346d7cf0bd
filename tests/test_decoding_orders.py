"""Orders of truncation against the samplers they are named after."""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rows import BETAS, distributions_of
from transformers import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from probing.analysis.decoding import kept_probabilities, statistics
from probing.analysis.distributions import Distributions
from probing.analysis.tail import tail_of_rows
from probing.settings import Decoding, KindRule

ORDERS = ("sequential", "vllm", "joint", "truncate_first")


def whole(full: np.ndarray) -> Distributions:
    """Every id a candidate."""
    ids = np.broadcast_to(np.arange(full.shape[1], dtype=np.int32), full.shape)
    return Distributions(
        ids=ids.copy(),
        logits=full.astype(np.float32),
        tail=tail_of_rows(full, np.ones(full.shape, dtype=bool), betas=BETAS),
        betas=BETAS,
    )


@st.composite
def rows_with_ties(draw: st.DrawFn) -> np.ndarray:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = rng.normal(scale=draw(st.floats(0.2, 6)), size=(4, draw(st.integers(2, 40))))
    step = draw(st.sampled_from([0.0, 0.25, 1.0]))
    return np.round(logits / step) * step if step else logits


decodings = st.fixed_dictionaries(
    {
        "temperature": st.floats(0.3, 2.0),
        "top_k": st.integers(0, 30),
        "top_p": st.floats(0.05, 1.0),
        "min_p": st.one_of(st.just(0.0), st.floats(0.01, 0.9)),
    }
)


def softmax(logits: np.ndarray) -> np.ndarray:
    weight = np.exp(logits - logits.max())
    return weight / weight.sum()


@dataclass(frozen=True)
class Plain:
    """One row, step after step; of equal logits lower ids come first."""

    logits: np.ndarray
    temperature: float
    top_k: int
    top_p: float
    min_p: float

    @property
    def place(self) -> np.ndarray:
        """Where each id stands by descending logit."""
        ranking = np.lexsort((np.arange(len(self.logits)), -self.logits))
        place = np.empty(len(ranking), dtype=int)
        place[ranking] = np.arange(len(ranking))
        return place

    def above(self, x: np.ndarray) -> np.ndarray:
        """The mass of x strictly above each id."""
        ranking, mass = np.argsort(self.place), softmax(x)
        return (np.cumsum(mass[ranking]) - mass[ranking])[self.place]

    def temper(self, x: np.ndarray) -> np.ndarray:
        return x / self.temperature

    def tied_k(self, x: np.ndarray) -> np.ndarray:
        if not self.top_k:
            return x
        kth = np.sort(x)[::-1][min(self.top_k, len(x)) - 1]
        return np.where(x >= kth, x, -np.inf)

    def exact_k(self, x: np.ndarray) -> np.ndarray:
        return np.where(self.place < self.top_k, x, -np.inf) if self.top_k else x

    def nucleus(self, x: np.ndarray) -> np.ndarray:
        if self.top_p == 1:
            return x
        kept = (self.above(x) < self.top_p - 1e-9) | (self.place == 0)
        return np.where(kept, x, -np.inf)

    def joint(self, x: np.ndarray) -> np.ndarray:
        kept = (self.above(x) <= self.top_p + 1e-9) | (self.top_p == 1)
        return np.where(kept, self.exact_k(x), -np.inf)

    def least(self, x: np.ndarray) -> np.ndarray:
        mass = softmax(x)
        return np.where(mass >= self.min_p * mass.max() * (1 - 1e-9), x, -np.inf)

    def kept(self, order: str) -> np.ndarray:
        """Probabilities once every step of the order was taken."""
        steps = {
            "sequential": (self.temper, self.tied_k, self.nucleus, self.least),
            "vllm": (self.temper, self.least, self.tied_k, self.nucleus),
            "joint": (self.temper, self.joint, self.least),
            "truncate_first": (self.nucleus, self.least, self.exact_k, self.temper),
        }
        x = self.logits.astype(np.float64)
        for step in steps[order]:
            x = step(x)
        return softmax(x)


def decided_by_rounding(logits: np.ndarray, asked: dict[str, Any]) -> bool:
    """Whether a mass or a ratio lies so near an edge that float32 does not tell the sides."""
    for t in (asked["temperature"], 1.0):
        mass = np.sort(softmax(logits / t))[::-1]
        sums = np.cumsum(mass)
        for total in sums:
            if np.abs(sums / total - asked["top_p"]).min() < 1e-5:
                return True
        if asked["min_p"] and np.abs(mass / mass[0] - asked["min_p"]).min() < 1e-5:
            return True
    return False


@pytest.mark.parametrize("order", ORDERS)
@given(full=rows_with_ties(), asked=decodings)
def test_every_order_is_the_plain_one(order: str, full: np.ndarray, asked: dict[str, Any]) -> None:
    decoding = Decoding(order=order, **asked)
    kept = kept_probabilities(whole(full), decoding=decoding).kept
    sizes = statistics(whole(full), decoding=decoding, rule=KindRule()).nucleus_size
    for row, got, size in zip(full.astype(np.float32), kept, sizes, strict=True):
        if decided_by_rounding(row, asked):
            continue
        expected = Plain(row, **asked).kept(order)
        np.testing.assert_allclose(got, expected, atol=2e-6)
        assert size == (expected > 0).sum()


@pytest.mark.parametrize("temperature", [0.5, 2.0])
@pytest.mark.parametrize("order", ORDERS)
def test_min_p_cuts_at_the_temperature_of_its_order(order: str, temperature: float) -> None:
    full = 2 * np.random.default_rng(0).normal(size=(20, 30))
    asked = {"temperature": temperature, "top_k": 12, "top_p": 0.98, "min_p": 0.2}
    kept = kept_probabilities(whole(full), decoding=Decoding(order=order, **asked)).kept
    without = kept_probabilities(
        whole(full), decoding=Decoding(order=order, **{**asked, "min_p": 0.0})
    ).kept
    assert (np.count_nonzero(kept, axis=1) < np.count_nonzero(without, axis=1)).any()
    clear = [not decided_by_rounding(row, asked) for row in full.astype(np.float32)]
    assert sum(clear) > len(full) / 2
    for row, got in zip(full.astype(np.float32)[clear], kept[clear], strict=True):
        np.testing.assert_allclose(got, Plain(row, **asked).kept(order), atol=2e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_a_tail_hides_what_lies_in_it_and_changes_nothing_else(order: str) -> None:
    full = np.linspace(0.3, 4, 20)[:, None] * np.random.default_rng(0).normal(size=(20, 60))
    full = full.astype(np.float32)
    held, known, hidden = distributions_of(full, top_k=25), 0, 0
    for top_k, top_p, min_p in product((0, 10), (0.8, 1.0), (0.0, 0.03, 0.3)):
        decoding = Decoding(temperature=1.3, top_k=top_k, top_p=top_p, min_p=min_p, order=order)
        part, every = (
            statistics(rows, decoding=decoding, rule=KindRule()) for rows in (held, whole(full))
        )
        beyond = every.nucleus_size > 25
        if order == "vllm" and min_p:
            # What top-p is a share of is not known where min-p keeps more than is seen.
            beyond |= np.isinf(part.nucleus_size)
        sizes = np.where(beyond, np.inf, every.nucleus_size)
        np.testing.assert_array_equal(part.nucleus_size, sizes)
        for name in ("excluded_mass", "tail_mass", "entropy_kept_nats", "top1_prob_kept"):
            found, wanted = getattr(part, name), getattr(every, name)
            told = np.isfinite(found)
            assert told[~beyond].all()
            np.testing.assert_allclose(found[told], wanted[told], atol=1e-5)
        known, hidden = known + int((~beyond).sum()), hidden + int(beyond.sum())
    assert min(known, hidden) > 20


@given(full=rows_with_ties(), asked=decodings)
def test_sequential_is_what_transformers_does(full: np.ndarray, asked: dict[str, Any]) -> None:
    warpers: list[Any] = [TemperatureLogitsWarper(asked["temperature"])]
    warpers += [TopKLogitsWarper(asked["top_k"])] if asked["top_k"] else []
    warpers += [TopPLogitsWarper(asked["top_p"])] if asked["top_p"] < 1 else []
    warpers += [MinPLogitsWarper(asked["min_p"])] if asked["min_p"] else []
    scores = torch.from_numpy(full)
    for warper in warpers:
        scores = warper(None, scores)
    expected = torch.softmax(scores, dim=1).numpy()
    kept = kept_probabilities(whole(full), decoding=Decoding(**asked)).kept
    for row, got, other in zip(full.astype(np.float32), kept, expected, strict=True):
        if decided_by_rounding(row, asked):
            continue
        # Among equal logits the edge of top-p is the sampler's own choice: sizes are compared.
        assert (got > 0).sum() == (other > 0).sum()
        np.testing.assert_allclose(np.sort(got), np.sort(other), atol=2e-6)
