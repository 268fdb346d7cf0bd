"""What must not change a logit by 1e-4 in float32: chunks, batches, neighbours, shared weights.

Every claim is held, for every architecture, against a forward of the plain model over the carrier's
first n tokens alone, one n after the other.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import ARCHITECTURES, load_merged, tiny_adapter, tiny_model
from tiny_logits import SCORING, carriers, close, every_logit, loaded, plain

from probing.scoring.batching import Wanted, batches
from probing.scoring.forward import TwoPass

LENGTHS = (41, 23, 8)
SIXTEEN = (37, 36, 35, 34, 33, 33, 31, 30, 29, 21, 17, 13, 9, 7, 6, 5)
SHORT, LONG = 9, 160
WIDE = replace(SCORING, token_budget=100_000, chunk_tokens=100_000)

TARGETS = {
    "qwen3_5": ("q_proj", "in_proj_qkv", "out_proj", "down_proj"),
    "llama": ("q_proj", "o_proj", "down_proj", "lm_head"),
    **dict.fromkeys(("qwen3", "gemma2", "gemma3"), ("q_proj", "o_proj", "down_proj")),
}
"""Both kinds of layer of the hybrid model; the head of the one whose head is not tied."""


@dataclass(frozen=True)
class Given:
    """One model, and the plain reference for the carriers of a list of lengths."""

    architecture: str
    folder: Path
    runner: TwoPass
    reference: Callable[[tuple[int, ...]], torch.Tensor]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Given:
    folder = tiny_model(tmp_path_factory.mktemp("tiny") / "base", request.param)
    (scored,) = loaded(folder)
    reference = cache(lambda lengths: plain(folder, carriers(lengths)))
    return Given(request.param, folder, TwoPass(scored), reference)


@pytest.mark.parametrize("chunk_tokens", [1, 7, 13, 40, 41, 1000])
def test_chunks_are_the_whole(model: Given, chunk_tokens: int) -> None:
    scoring = replace(WIDE, chunk_tokens=chunk_tokens)
    got = every_logit(model.runner, carriers(LENGTHS), scoring=scoring)
    close(got, model.reference(LENGTHS))


def test_a_batch_of_sixteen_is_sixteen_batches_of_one(model: Given) -> None:
    wanted = carriers(SIXTEEN)
    assert len(batches(SIXTEEN, token_budget=100_000, chunk_tokens=100_000)) == 1
    alone = replace(WIDE, token_budget=1)
    assert len(batches(SIXTEEN, token_budget=1, chunk_tokens=100_000)) == 16
    together = every_logit(model.runner, wanted, scoring=WIDE)
    close(every_logit(model.runner, wanted, scoring=alone), together)
    close(together, model.reference(SIXTEEN))


def test_a_much_longer_neighbour_leaves_no_trace(model: Given) -> None:
    short, long = carriers((SHORT,))[0], carriers((LONG,), seed=1)[0]
    count = len(short.rows)
    for neighbours in ([long], [long, long, long], [carriers((4,), seed=2)[0], long]):
        beside = every_logit(model.runner, [short, *neighbours], scoring=WIDE)[:count]
        close(beside, model.reference((SHORT,)))


def test_adapters_switched_over_shared_weights_are_the_merged_models(
    model: Given, tmp_path: Path
) -> None:
    targets = TARGETS[model.architecture]
    adapters = [
        tiny_adapter(model.folder, tmp_path / "one", seed=1, targets=targets),
        tiny_adapter(model.folder, tmp_path / "two", seed=2, targets=("gate_proj",)),
    ]
    models = loaded(model.folder, *adapters)
    assert all(each.causal_lm is models[0].causal_lm for each in models)
    # All heads exist before any is used: switching adapters must reach each of them.
    runners = [TwoPass(each) for each in models]
    wanted = carriers(LENGTHS)
    merged = [plain(load_merged(model.folder, adapter), wanted) for adapter in adapters]
    expected = [model.reference(LENGTHS), *merged]
    for one in expected[1:]:
        assert (one - expected[0]).abs().max() > 1e-2
    for turn in (0, 1, 2, 0, 2, 1, 0):
        close(every_logit(runners[turn], wanted), expected[turn])
    chunked = replace(SCORING, chunk_tokens=7)
    for runner, one in zip(runners, expected, strict=True):
        close(every_logit(runner, wanted, scoring=chunked), one)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> TwoPass:
    return TwoPass(loaded(tiny_model(tmp_path_factory.mktemp("llama") / "base"))[0])


@given(
    lengths=st.lists(st.integers(4, 60), min_size=1, max_size=9),
    token_budget=st.integers(1, 300),
    chunk_tokens=st.integers(1, 70),
    seed=st.integers(0, 99),
)
@settings(max_examples=15)
def test_no_batching_no_order_and_no_later_token_matters(
    llama: TwoPass, lengths: list[int], token_budget: int, chunk_tokens: int, seed: int
) -> None:
    wanted = carriers(lengths, seed=seed)
    alone = [every_logit(llama, [each], scoring=WIDE) for each in wanted]
    scoring = replace(SCORING, token_budget=token_budget, chunk_tokens=chunk_tokens)
    close(every_logit(llama, wanted, scoring=scoring), torch.cat(alone))
    order = np.random.default_rng(seed).permutation(len(wanted))
    moved = [_with_other_end(wanted[i]) for i in order]
    close(every_logit(llama, moved, scoring=scoring), torch.cat([alone[i] for i in order]))


def _with_other_end(each: Wanted) -> Wanted:
    """The same carrier with other tokens after its last wanted row."""
    ids = each.token_ids.copy()
    ids[each.length :] = 5 + ids[each.length :][::-1] % 7
    return Wanted(token_ids=np.append(ids, ids[:3]).astype(np.int32), rows=each.rows)
