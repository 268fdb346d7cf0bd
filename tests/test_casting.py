"""The run's dtype beside float32: what is measured, when not, and what is said of it."""

import gc
import json
import logging
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import TinyPair, edit_weights, load_merged, load_plain, tiny_adapter, tiny_pair
from tiny_logits import plain
from tiny_runs import Recorder, tiny_settings, write_carriers

from probing.cli.scoring import score_settings
from probing.errors import UsageFault
from probing.scoring import casting as casting_module
from probing.scoring import ready
from probing.scoring.batching import Wanted
from probing.scoring.casting import BothDtypes, OneDtype, compare_dtypes
from probing.scoring.forward import Runner, StoredRows, TwoPass
from probing.scoring.models import load_group
from probing.scoring.noise import MOST_POSITIONS, noise_sample
from probing.scoring.run import score
from probing.settings import RunSettings, Scoring
from probing.store.casting import WELL_ABOVE, CastEffect, Casting, InBoth
from probing.store.reader import open_run
from probing.store.verify import verify

SCORING = Scoring(device="cpu", head_rows=2)


@pytest.fixture
def pair(tmp_path: Path) -> TinyPair:
    return tiny_pair(tmp_path)


def half(folder: Path, pair: TinyPair, **fields: Any) -> RunSettings:
    """A run of three tiny models in bfloat16; no noise floor, which would take longer."""
    adapter = tiny_adapter(pair.baseline, folder / "lora")
    carriers = write_carriers(folder / "six.jsonl")
    settings = tiny_settings(folder / "run.zarr", pair, adapter=adapter, carriers=carriers)
    wanted = {"dtype": "bfloat16", "self_check_tolerance_half": 2.0, "noise_carriers": 0}
    return replace(settings, scoring=replace(settings.scoring, **{**wanted, **fields}))


def measured(settings: RunSettings) -> Casting | None:
    """What a new run keeps, after what its report says."""
    report = score(settings, progress=Recorder())
    kept = open_run(settings.out).casting
    assert kept == report.casting
    return kept


def slow_reference(of: Sequence[Sequence[torch.Tensor]]) -> list[tuple[float, ...]]:
    """Row by row in float64: for each other model KL and top-1 change, in every dtype.

    `of` is by dtype, then by model, baseline first. The first line is the baseline's own move.
    """
    moved, kl, change = [], [], []
    for row in range(len(of[0][0])):
        top, divergence = [], []
        for models in of:
            p = [np.exp(z[row].double().numpy()) for z in models]
            p = [each / each.sum() for each in p]
            top.append([each.max() for each in p])
            divergence.append([(p[0] * np.log(p[0] / q)).sum() for q in p[1:]])
        moved.append(abs(top[0][0] - top[1][0]))
        kl.append(divergence)
        change.append([[each - one[0] for each in one[1:]] for one in top])
    kl_mean, change_mean = np.mean(kl, axis=0), np.mean(change, axis=0)
    others = range(len(of[0]) - 1)
    return [(float(np.mean(moved)),)] + [
        (*kl_mean[:, other].tolist(), *change_mean[:, other].tolist()) for other in others
    ]


def of_casting(casting: Casting) -> list[tuple[float, ...]]:
    """In the order of `slow_reference`."""
    return [(casting.baseline_top1_moved,)] + [
        (each.kl_nats.run, each.kl_nats.float32, each.top1_change.run, each.top1_change.float32)
        for each in casting.others
    ]


class Given(Runner):
    """Logits that are there already."""

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits

    def rows(self, carriers: Sequence[Wanted], *, scoring: Scoring) -> StoredRows:
        return StoredRows(self.logits, device=torch.device("cpu"))


def test_figures_are_the_plain_ones_where_all_is_finite() -> None:
    rng = np.random.default_rng(3)
    logits = torch.from_numpy(rng.normal(scale=3, size=(2, 3, 6, 40)).astype(np.float32))
    logits[0, 1, 2, 5] = torch.nan  # One model, one dtype.
    logits[1, 2, 4, 7] = -torch.inf  # Its KL is infinite.
    sample = [Wanted(token_ids=np.zeros(9, dtype=np.int32), rows=np.arange(6))]
    names = ("base", "ssd", "control")
    both = BothDtypes(torch.float16, run=OneDtype(sample), exact=OneDtype(sample))
    for one, of in zip((both.run, both.exact), logits, strict=True):
        for name, each in zip(names, of, strict=True):
            one.add(name, Given(each), scoring=SCORING)
    got = compare_dtypes(both, names=names)
    assert got is not None
    assert (got.dtype, got.carriers, got.positions) == ("float16", 1, 4)
    assert [other.name for other in got.others] == ["ssd", "control"]
    kept = logits[:, :, [0, 1, 3, 5]]
    expected = slow_reference([list(of) for of in kept])
    for a, b in zip(of_casting(got), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)
    for of in logits[0]:
        of[:] = torch.nan
    nothing = BothDtypes(torch.float16, run=OneDtype(sample), exact=both.exact)
    for name, each in zip(names, logits[0], strict=True):
        nothing.run.add(name, Given(each), scoring=SCORING)
    assert compare_dtypes(nothing, names=names) is None


@pytest.mark.parametrize("mode", ["together", "sequential", "split"])
def test_a_run_keeps_what_plain_models_give_in_both_dtypes(
    tmp_path: Path, pair: TinyPair, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    samples: list[list[Wanted]] = []

    def seen(carriers: Sequence[Wanted], *, count: int) -> list[Wanted]:
        samples.append(noise_sample(carriers, count=count))
        return samples[-1]

    monkeypatch.setattr(ready, "noise_sample", seen)
    devices = ("cpu", "cpu") if mode == "split" else ()
    settings = half(tmp_path, pair, memory_mode=mode, devices=devices, cast_carriers=4)
    got = measured(settings)
    assert got is not None
    (sample,) = samples
    assert (got.dtype, got.carriers) == ("bfloat16", 4)
    assert got.positions == sum(len(each.rows) for each in sample) <= MOST_POSITIONS
    exact = [
        plain(model, sample)
        for model in (pair.baseline, pair.trained, load_merged(pair.baseline, tmp_path / "lora"))
    ]
    rounded = [plain(load_plain(path).bfloat16(), sample) for path in (pair.baseline, pair.trained)]
    expected = slow_reference([exact, exact])
    found = of_casting(got)
    assert [other.name for other in got.others] == ["ssd", "control.1"]
    for (_, kl, _, change), wanted in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_allclose((kl, change), wanted[1::2], rtol=1e-3, atol=1e-6)
    # A plain bfloat16 model rounds its logits too, so it is only near.
    near = slow_reference([[each.float() for each in rounded], exact[:2]])
    np.testing.assert_allclose(found[0], near[0], rtol=0.5)
    np.testing.assert_allclose(found[1][::2], near[1][::2], rtol=0.2, atol=2e-3)
    assert found[1][0] != found[1][1]


def test_every_mode_and_every_time_gives_the_same(tmp_path: Path, pair: TinyPair) -> None:
    settings = half(tmp_path, pair)
    found, prints = [], []
    for mode, out in (("together", "a"), ("together", "b"), ("sequential", "c")):
        own = replace(
            settings,
            out=str(tmp_path / f"{out}.zarr"),
            scoring=replace(settings.scoring, memory_mode=mode),
        )
        found.append(measured(own))
        prints.append(open_run(own.out).fingerprint)
        assert not verify(own.out).faults
    assert found[0] is not None
    assert found[0] == found[1] == found[2]
    assert prints[0] == prints[1]
    one, two = (tmp_path / f"{out}.zarr" for out in "ab")
    files = [path.relative_to(one) for path in one.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        assert (one / path).read_bytes() == (two / path).read_bytes(), path


def test_one_set_of_weights_at_a_time_and_gone_before_the_run_loads(
    tmp_path: Path, pair: TinyPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[tuple[torch.dtype, weakref.ref[torch.nn.Module]]] = []

    def watched(group: Sequence[Any], **options: Any) -> Any:
        gc.collect()
        alive = [dtype for dtype, each in loaded if each() is not None]
        assert torch.float32 not in alive
        models = load_group(group, **options)
        loaded.append((options["dtype"], weakref.ref(models[0].causal_lm.model)))
        return models

    monkeypatch.setattr(ready, "load_group", watched)
    assert measured(half(tmp_path, pair, memory_mode="together")) is not None
    assert [dtype for dtype, _ in loaded] == [torch.float32] * 2 + [torch.bfloat16] * 2


@pytest.mark.parametrize("fields", [{"dtype": "float32"}, {"cast_carriers": 0}])
def test_nothing_is_measured_in_float32_or_where_it_is_off(
    tmp_path: Path, pair: TinyPair, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    dtypes = []

    def watched(group: Sequence[Any], **options: Any) -> Any:
        dtypes.append(options["dtype"])
        return load_group(group, **options)

    monkeypatch.setattr(ready, "load_group", watched)
    assert measured(half(tmp_path, pair, **fields)) is None
    assert len(dtypes) == 2
    with pytest.raises(UsageFault, match="cast_carriers must be >= 0"):
        Scoring(cast_carriers=-1)


def refuse_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(casting_module, "free_bytes", lambda _: 250 << 20)


def refuse_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    plain_rows = TwoPass.rows

    def rows(self: TwoPass, carriers: Sequence[Wanted], *, scoring: Scoring) -> Any:
        if self.model.dtype == torch.float32 and len(carriers) > 2:
            raise RuntimeError("only bfloat16\nis supported")
        return plain_rows(self, carriers, scoring=scoring)

    monkeypatch.setattr(TwoPass, "rows", rows)


def run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    plain_rows = TwoPass.rows

    def rows(self: TwoPass, carriers: Sequence[Wanted], *, scoring: Scoring) -> Any:
        if self.model.dtype == torch.float32 and len(carriers) > 2:
            raise MemoryError
        return plain_rows(self, carriers, scoring=scoring)

    monkeypatch.setattr(TwoPass, "rows", rows)


@pytest.mark.parametrize(
    ("hinder", "said"),
    [
        (refuse_memory, "one set of weights needs 262 MB, cpu has 262 MB free"),
        (refuse_to_run, "only bfloat16 is supported"),
        (run_out, "its rows do not fit in memory"),
    ],
)
def test_what_hinders_it_is_said_and_the_run_goes_on(
    tmp_path: Path,
    pair: TinyPair,
    monkeypatch: pytest.MonkeyPatch,
    hinder: Callable[[pytest.MonkeyPatch], None],
    said: str,
) -> None:
    settings = half(tmp_path, pair)
    hinder(monkeypatch)
    progress = Recorder()
    report = score(settings, progress=progress)
    assert report.casting is None
    assert open_run(settings.out).complete
    (note,) = [each for each in progress.notes if "float32 is not compared" in each]
    assert said in note
    assert "cast_carriers = 0 under [scoring] switches it off" in note
    # What does not fit is not tried, and after a fault no other model is.
    tried = [each for each in progress.notes if "in float32 on a few positions" in each]
    assert len(tried) == (hinder is not refuse_memory)


def test_a_model_that_does_not_fit_ends_the_comparison(caplog: pytest.LogCaptureFixture) -> None:
    class Full(Given):
        def rows(self, carriers: Sequence[Wanted], *, scoring: Scoring) -> StoredRows:
            raise MemoryError

    sample = [Wanted(token_ids=np.zeros(3, dtype=np.int32), rows=np.arange(2))]
    one = OneDtype(sample)
    with caplog.at_level(logging.WARNING):
        one.add("base", Full(torch.zeros(2, 4)), scoring=SCORING)
    assert "its rows do not fit in memory" in caplog.text
    one.add("ssd", Given(torch.zeros(2, 4)), scoring=SCORING)
    assert one.models == {}
    both = BothDtypes(torch.bfloat16, run=OneDtype(sample), exact=one)
    assert compare_dtypes(both, names=("base", "ssd")) is None


def test_an_effect_that_the_cast_swallows_is_warned_of(
    tmp_path: Path,
    pair: TinyPair,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Weights a little beyond what bfloat16 holds, and one that it sees, so that the run is made.
    edit_weights(pair.baseline, lambda w: [w[k].copy_(w[k].bfloat16().float()) for k in w])
    base = {key: value.clone() for key, value in load_plain(pair.baseline).state_dict().items()}

    def swallowed(weights: dict[str, torch.Tensor]) -> None:
        for key in weights:
            weights[key] = base[key] * (1 + 2**-10)
        weights["model.norm.weight"][0] = base["model.norm.weight"][0] * (1 + 2**-7)

    edit_weights(pair.trained, swallowed)
    settings = half(tmp_path, pair)
    with caplog.at_level(logging.WARNING):
        score_settings(settings)
    got = open_run(settings.out).casting
    assert got is not None
    ssd = got.others[0]
    assert abs(ssd.kl_share) > WELL_ABOVE
    printed = " ".join(capsys.readouterr().out.split())
    assert " ".join(got.sentence().split()) in printed
    assert "warning: ssd: in bfloat16 its KL is" in printed
    assert any(record.getMessage() in got.warnings for record in caplog.records)
    assert Casting.from_json(json.loads(json.dumps(got.to_json(), allow_nan=False))) == got
    run = open_run(settings.out)
    run.summary.pop("casting")
    assert run.casting is None  # As in a run that was made before it was measured.


@pytest.mark.parametrize(
    ("kl", "change", "said"),
    [
        ((1.25, 1.0), (0.2, 0.1), ()),
        ((0.75, 1.0), (-0.2, -0.1), ()),
        ((1.26, 1.0), (0.2, 0.1), ("its KL is 1.26 (1) nats",)),
        ((0.74, 1.0), (0.2, 0.1), ("its KL is 0.74 (1) nats",)),
        ((1.0, 1.0), (-0.2, 0.1), ("its top-1 change is -2.0e-01 (+1.0e-01)",)),
        ((2.0, 1.0), (0.2, -0.1), ("its KL is 2 (1)", " and its top-1 change is")),
        ((0.0, 0.0), (0.0, 0.1), ()),
        ((0.1, 0.0), (0.0, 0.0), ("its KL is 0.1 (0)",)),
    ],
)
def test_the_warning_comes_where_the_effect_is_not_well_above(
    kl: tuple[float, float], change: tuple[float, float], said: tuple[str, ...]
) -> None:
    effect = CastEffect("ssd", InBoth(*kl), InBoth(*change))
    casting = Casting("bfloat16", 8, 64, 1e-3, (effect,))
    assert len(casting.warnings) == bool(said)
    for part in said:
        assert part in casting.warnings[0]
