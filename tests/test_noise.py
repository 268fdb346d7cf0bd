"""The noise floor: what it measures, how little it runs, and how a run keeps it."""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import ARCHITECTURES, VOCABULARY, tiny_model, tiny_pair
from tiny_logits import loaded

from probing.cli.scoring import score_settings
from probing.errors import UsageFault
from probing.scoring.batching import Wanted
from probing.scoring.forward import PlainForward, Runner, StoredRows, TwoPass
from probing.scoring.models import ScoredModel
from probing.scoring.noise import LEAST_TOKENS, MOST_POSITIONS, compare, noise_floor, noise_sample
from probing.settings import ModelSpec, RunSettings, Scoring, Selection, StoreLayout
from probing.store.noise import NoiseFloor, Spread
from probing.store.reader import open_run

SCORING = Scoring(device="cpu", head_rows=5, token_budget=120, chunk_tokens=50)


def carriers(lengths: Sequence[int], *, seed: int = 0) -> list[Wanted]:
    """Random tokens; the last of each is wanted, and some before it."""
    rng = np.random.default_rng(seed)
    return [
        Wanted(
            token_ids=rng.integers(5, VOCABULARY, size=length + 1).astype(np.int32),
            rows=np.unique(np.append(rng.integers(0, length, size=6), length - 1)),
        )
        for length in lengths
    ]


@given(seed=st.integers(0, 2**32), masked=st.booleans())
def test_every_difference_is_the_plain_one(seed: int, masked: bool) -> None:
    rng = np.random.default_rng(seed)
    a = rng.normal(scale=3, size=(5, 40)).astype(np.float32)
    b = a + rng.normal(scale=0.3, size=a.shape).astype(np.float32)
    if masked:
        a[0, 3:9] = b[0, 3:9] = -np.inf  # By both.
        b[1, 5] = -np.inf  # KL is infinite, so the position is left out.
        a[2, 7] = np.nan
    got = compare(torch.from_numpy(a), torch.from_numpy(b))
    kept = [0, 3, 4] if masked else range(5)
    assert len(got.logit) == len(kept)
    for place, row in enumerate(kept):
        x, y = a[row].astype(float), b[row].astype(float)
        there = np.isfinite(x)
        p, q = (np.exp(z[there]) / np.exp(z[there]).sum() for z in (x, y))
        assert got.logit[place] == np.abs(x[there] - y[there]).max()
        wanted = (
            abs(p.max() - q.max()),
            abs((p * np.log(p)).sum() - (q * np.log(q)).sum()),
            (p * np.log(p / q)).sum(),
        )
        found = (got.top1_prob[place], got.entropy_nats[place], got.kl_nats[place])
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
        assert got.top1_changed[place] == (p.argmax() != q.argmax())


@given(
    lengths=st.lists(st.integers(1, 9000), min_size=1, max_size=60),
    count=st.integers(0, 100),
)
def test_what_is_run_stays_small_and_spreads_over_the_lengths(
    lengths: list[int], count: int
) -> None:
    given_carriers = carriers(sorted(lengths))
    sample = noise_sample(given_carriers, count=count)
    assert len(sample) <= min(count, len(lengths), MOST_POSITIONS)
    assert (len(sample) == 0) == (count == 0)
    assert sum(len(each.rows) for each in sample) <= MOST_POSITIONS
    run_tokens = 2 * sum(each.length for each in sample)
    assert run_tokens <= max(LEAST_TOKENS, 0.02 * sum(lengths))
    for each in sample:
        (own,) = [c for c in given_carriers if c.token_ids is each.token_ids]
        assert (np.diff(each.rows) > 0).all()
        # Wanted rows, unless none of them lies in the prefix.
        assert set(each.rows) <= set(own.rows) or each.length <= own.rows[0]
    if count > 1:
        assert sample[0].token_ids is given_carriers[0].token_ids
        assert sample[-1].token_ids is given_carriers[-1].token_ids
    again = noise_sample(given_carriers, count=count)
    assert [each.rows.tolist() for each in again] == [each.rows.tolist() for each in sample]


def test_a_row_at_the_end_of_a_prefix_is_not_in_it() -> None:
    every = Wanted(token_ids=np.zeros(5000, dtype=np.int32), rows=np.arange(5000))
    (prefix,) = noise_sample([every], count=8)
    assert prefix.length == LEAST_TOKENS // 2
    assert prefix.rows[0] == 0


def seen_shapes(model: ScoredModel, runner: Runner, wanted: list[Wanted]) -> list[tuple[int, int]]:
    """Batch and tokens of every forward that measuring runs, in order."""
    shapes: list[tuple[int, int]] = []

    def note(_: object, __: tuple[()], inputs: dict[str, torch.Tensor]) -> None:
        shapes.append((inputs["input_ids"].shape[0], inputs["input_ids"].shape[1]))

    hook = model.causal_lm.model.register_forward_pre_hook(note, with_kwargs=True)
    assert noise_floor(runner, wanted, scoring=SCORING) is not None
    hook.remove()
    return shapes


def test_each_carrier_is_seen_in_two_shapes(tmp_path: Path) -> None:
    (model,) = loaded(tiny_model(tmp_path / "base"))
    # Two within one batch of 120 tokens; one alone, since a third would not fit; one in chunks.
    wanted = carriers((20, 45, 48, 70))
    assert seen_shapes(model, TwoPass(model), wanted) == [
        (2, 45), (1, 20), (1, 45),
        (1, 50), (1, 20), (1, 33), (1, 33), (1, 4),
        (1, 48), (2, 48),
    ]  # fmt: skip
    assert seen_shapes(model, PlainForward(model), wanted[:1]) == [(1, 20), (1, 40)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rounding_is_all_there_is_in_float32(tmp_path: Path, architecture: str) -> None:
    (model,) = loaded(tiny_model(tmp_path / "base", architecture))
    wanted = carriers((20, 30, 60))
    split = TwoPass(model)
    assert noise_floor(split, wanted, scoring=SCORING) == noise_floor(
        split, wanted, scoring=SCORING
    )
    for runner in (split, PlainForward(model)):
        floor = noise_floor(runner, wanted, scoring=SCORING)
        assert floor is not None
        assert (floor.carriers, floor.tokens) == (3, 60)
        assert floor.positions == sum(len(each.rows) for each in wanted)
        assert floor.logit.maximum < 1e-4
        assert floor.top1_prob.maximum < 1e-5
        assert floor.kl_nats.maximum < 1e-9
        assert floor.top1_changed == 0


class Planted(Runner):
    """Logits that are off by `amount` at id 1 where a carrier is run beyond its own end."""

    def __init__(self, amount: float) -> None:
        self.amount = amount

    def rows(self, carriers: Sequence[Wanted], *, scoring: Scoring) -> StoredRows:
        parts = []
        for carrier in carriers:
            logits = torch.zeros(len(carrier.rows), 3)
            logits[:, 0] = 1.0
            logits[:, 1] = self.amount if carrier.token_ids[-1] == 0 else 0.0
            parts.append(logits)
        return StoredRows(torch.cat(parts), device=torch.device("cpu"))


@pytest.mark.parametrize(("amount", "changed"), [(0.0, 0.0), (0.5, 0.0), (2.0, 1.0)])
def test_what_the_shape_does_is_what_is_found(amount: float, changed: float) -> None:
    floor = noise_floor(Planted(amount), carriers((10, 20)), scoring=SCORING)
    assert floor is not None
    z = np.exp(1) + 2, np.exp(1) + np.exp(amount) + 1
    assert floor.logit == Spread(amount, amount, amount)
    top1 = abs(np.exp(1) / z[0] - np.exp(max(1, amount)) / z[1])
    assert floor.top1_prob.median == pytest.approx(top1, abs=1e-12)
    kl = np.log(z[1] / z[0]) - amount / z[0]
    assert floor.kl_nats.maximum == pytest.approx(kl, abs=1e-12)
    assert floor.top1_changed == changed
    assert ("top-1 token differs at 100.0%" in floor.sentence()) == bool(changed)


def test_no_carriers_and_no_memory_give_no_floor(caplog: pytest.LogCaptureFixture) -> None:
    off = replace(SCORING, noise_carriers=0)
    assert noise_floor(Planted(1.0), carriers((10,)), scoring=off) is None
    with pytest.raises(UsageFault, match="noise_carriers must be >= 0"):
        replace(SCORING, noise_carriers=-1)

    class Full(Planted):
        def rows(self, carriers: Sequence[Wanted], *, scoring: Scoring) -> StoredRows:
            raise self.error

    runner = Full(0.0)
    runner.error = torch.OutOfMemoryError("out of memory")
    with caplog.at_level(logging.WARNING):
        assert noise_floor(runner, carriers((10,)), scoring=SCORING) is None
    assert "does not fit in memory" in caplog.text
    runner.error = RuntimeError("a fault")
    with pytest.raises(RuntimeError, match="a fault"):
        noise_floor(runner, carriers((10,)), scoring=SCORING)


def test_less_memory_means_a_smaller_budget_as_for_a_unit() -> None:
    class Narrow(Planted):
        def rows(self, carriers: Sequence[Wanted], *, scoring: Scoring) -> StoredRows:
            asked.append(scoring.token_budget)
            if scoring.token_budget > 120:
                raise MemoryError
            return super().rows(carriers, scoring=scoring)

    asked: list[int] = []
    roomy = replace(SCORING, token_budget=400, chunk_tokens=400)
    floor = noise_floor(Narrow(0.5), carriers((10, 20)), scoring=roomy)
    assert floor == noise_floor(Planted(0.5), carriers((10, 20)), scoring=SCORING)
    assert asked[:3] == [400, 200, 100]


@pytest.mark.parametrize("mode", ["together", "sequential"])
def test_a_run_keeps_it_and_the_command_says_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    pair = tiny_pair(tmp_path / "pair")
    texts = ("Let x be 7. Wait, yes.", "Suppose the train leaves at 9, or at noon.")
    lines = [
        {
            "carrier_id": f"c{i}",
            "problem_id": "p",
            "generator": "base",
            "prompt": "Sum?",
            "response": t,
        }
        for i, t in enumerate(texts)
    ]
    path = tmp_path / "carriers.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    settings = RunSettings(
        out=str(tmp_path / "run.zarr"),
        carriers=(str(path),),
        baseline=ModelSpec(name="base", path=str(pair.baseline)),
        others=(ModelSpec(name="ssd", path=str(pair.trained)),),
        selection=Selection(all_positions=True),
        store=StoreLayout(top_k=24, shard_rows=32, chunk_rows=8),
        scoring=replace(SCORING, memory_mode=mode),
    )
    score_settings(settings)
    run = open_run(settings.out)
    floor = run.noise_floor
    assert floor is not None
    assert 0 < floor.logit.maximum < 1e-4
    assert floor.carriers == 2
    printed = capsys.readouterr().out
    assert "noise floor (baseline, another batch shape): top-1 probability at most" in printed
    assert "warning" not in printed
    assert NoiseFloor.from_json(json.loads(json.dumps(floor.to_json(), allow_nan=False))) == floor
    run.summary.pop("noise_floor")
    assert run.noise_floor is None  # As in a run that was made before it was measured.
