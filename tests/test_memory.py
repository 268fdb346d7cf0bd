"""Which models are held at once, and what happens when memory runs out."""

import gc
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import ARCHITECTURES, TinyPair, load_plain, tiny_adapter, tiny_pair
from tiny_runs import Recorder, scored, tiny_settings, write_carriers

from probing.errors import ModelFault, RunBusy, RunDiffers, UnwritablePath
from probing.scoring import memory, ready
from probing.scoring.forward import HiddenRows, TwoPass
from probing.scoring.memory import MemoryPlan, Need, needs, plan_memory
from probing.scoring.models import find_sources, load_group
from probing.scoring.run import score
from probing.scoring.sequential import HiddenStore, hidden_folder
from probing.settings import RunSettings, Scoring
from probing.store.reader import Run, open_run
from probing.store.schema import POSITION_ARRAYS, TAIL_RESOLUTION

GB = 10**9


def of_mode(settings: RunSettings, mode: str, **fields: Any) -> RunSettings:
    """The same run in another memory mode, beside it."""
    scoring = replace(settings.scoring, memory_mode=mode, **fields)
    return replace(settings, scoring=scoring, out=f"{settings.out}.{mode}")


def made(folder: Path, pair: TinyPair) -> RunSettings:
    adapter = tiny_adapter(pair.baseline, folder / "lora")
    carriers = write_carriers(folder / "six.jsonl")
    return tiny_settings(folder / "run.zarr", pair, adapter=adapter, carriers=carriers)


@pytest.fixture
def settings(tmp_path: Path) -> RunSettings:
    return made(tmp_path, tiny_pair(tmp_path))


def assert_alike(one: Run, other: Run) -> None:
    for name in POSITION_ARRAYS:
        if name != "valid":
            step = TAIL_RESOLUTION.get(name, 0)  # Rounding may go the other way.
            a, b = one.array(name), other.array(name)
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 + step, err_msg=name)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sequential_is_together(tmp_path: Path, architecture: str) -> None:
    settings = made(tmp_path, tiny_pair(tmp_path, architecture))
    runs = []
    for mode in ("together", "sequential"):
        own = of_mode(settings, mode)
        scored(own)
        runs.append(open_run(own.out))
        assert runs[-1].plan.execution["memory_mode"] == mode
    assert_alike(*runs)
    assert not list(tmp_path.glob("*.hidden"))


def test_sequential_holds_one_model_at_a_time(
    settings: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[weakref.ref[torch.nn.Module]] = []

    def watched(group: Sequence[Any], **options: Any) -> Any:
        gc.collect()
        assert not [each for each in loaded if each() is not None]
        models = load_group(group, **options)
        loaded.append(weakref.ref(models[0].causal_lm.model))
        return models

    monkeypatch.setattr(ready, "load_group", watched)
    score(of_mode(settings, "sequential"), progress=Recorder())
    gc.collect()
    assert len(loaded) == 2
    assert not [each for each in loaded if each() is not None]


def test_hidden_rows_are_kept_for_the_same_command_alone(
    settings: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = of_mode(settings, "sequential", noise_carriers=0)
    runs: list[str] = []
    plain = TwoPass.rows

    def counted(self: TwoPass, carriers: Sequence[Any], *, scoring: Scoring) -> HiddenRows:
        runs.append(self.model.name)
        if len(runs) > allowed:
            raise KeyboardInterrupt
        return plain(self, carriers, scoring=scoring)

    monkeypatch.setattr(TwoPass, "rows", counted)
    monkeypatch.setattr(ready, "check_model", unchecked)
    allowed = 2
    with pytest.raises(KeyboardInterrupt):
        scored(own)
    assert not Path(own.out).exists()
    allowed, whole = 10**6, 0
    runs.clear()
    units = scored(own).units
    whole = 3 * units
    assert len(runs) == whole - 2
    # Another seed chooses other positions: nothing of the old rows may be used.
    runs.clear()
    allowed = 2
    other = replace(own, out=f"{own.out}.b")
    with pytest.raises(KeyboardInterrupt):
        scored(other)
    allowed = 10**6
    runs.clear()
    scored(replace(other, selection=replace(other.selection, seed=5)))
    assert len(runs) == whole


@pytest.mark.parametrize("fault", [ModelFault("planted"), UnwritablePath("planted")])
def test_a_fault_before_the_run_keeps_the_hidden_rows(
    settings: RunSettings, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    own = of_mode(settings, "sequential", noise_carriers=0)
    plain, kept = HiddenStore.write, []

    def failing(self: HiddenStore, *place: Any) -> None:
        if len(kept) == 2:
            raise fault
        plain(self, *place)
        kept.append(place[:2])

    monkeypatch.setattr(HiddenStore, "write", failing)
    with pytest.raises(type(fault), match="planted"):
        scored(own)
    assert not Path(own.out).exists()
    monkeypatch.setattr(HiddenStore, "write", lambda self, *place: written.append(place[:2]))
    written: list[tuple[int, int]] = []
    with pytest.raises(UnwritablePath, match="must hold the hidden rows of every model"):
        scored(own)
    assert written
    assert not set(written) & set(kept)


def test_other_settings_are_refused_before_a_model_is_loaded(
    settings: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = of_mode(settings, "sequential", noise_carriers=0)

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(own, progress=Recorder(stop))
    rows = {file: file.read_bytes() for file in hidden_folder(Path(own.out)).rglob("*.*")}
    assert rows

    def loads(*_: Any, **__: Any) -> Any:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(ready, "load_group", loads)
    changed = replace(own, selection=replace(own.selection, seed=5))
    with pytest.raises(RunDiffers, match=r"settings\.selection\.seed: stored 0, now 5"):
        scored(changed)
    assert all(file.read_bytes() == content for file, content in rows.items())


def test_rows_of_other_settings_are_left_alone(
    settings: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = of_mode(settings, "sequential", noise_carriers=0)
    changed = replace(own, selection=replace(own.selection, seed=5))
    plain = HiddenStore.write

    def stopped(self: HiddenStore, *place: Any) -> None:
        plain(self, *place)
        raise KeyboardInterrupt

    monkeypatch.setattr(HiddenStore, "write", stopped)
    for each in (own, changed):
        with pytest.raises(KeyboardInterrupt):
            scored(each)
    assert len(list(hidden_folder(Path(own.out)).iterdir())) == 2
    monkeypatch.setattr(HiddenStore, "write", plain)
    scored(own)
    assert not hidden_folder(Path(own.out)).exists()


def test_hidden_rows_have_one_writer(
    settings: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = of_mode(settings, "sequential", noise_carriers=0)
    plain, refused = HiddenStore.write, []

    def crowded(self: HiddenStore, *place: Any) -> None:
        plain(self, *place)
        if not refused:
            with pytest.raises(RunBusy, match="a run has one writer"):
                scored(own)
            refused.append(place)

    monkeypatch.setattr(HiddenStore, "write", crowded)
    scored(own)
    assert refused
    assert open_run(own.out).complete
    assert not Path(f"{own.out}.lock").exists()


def unchecked(model: Any, carriers: Any, **_: Any) -> Any:
    """No run of the model before the units: what runs is counted."""
    from probing.scoring.selfcheck import Checked, SelfCheck

    check = SelfCheck(model.name, True, 0.0, 0.0, 1e-4, "")
    return Checked(TwoPass(model), check)


def test_split_runs_each_set_of_weights_on_its_device(settings: RunSettings) -> None:
    apart = of_mode(settings, "split", devices=("cpu", "cpu"))
    scored(apart)
    scored(of_mode(settings, "together"))
    assert_alike(open_run(apart.out), open_run(f"{settings.out}.together"))
    with pytest.raises(ModelFault, match="split' needs a device for each of 2 sets of weights"):
        scored(replace(of_mode(settings, "split", devices=("cpu",)), out=f"{apart.out}.b"))


@pytest.mark.parametrize(
    ("free", "devices", "mode"),
    [
        (8 * GB, (), "together"),
        (4 * GB, (), "sequential"),
        (4 * GB, ("cpu", "cpu"), "split"),
        (3 * GB, ("cpu", "cpu"), "sequential"),
    ],
)
def test_the_first_mode_that_fits_is_taken(
    monkeypatch: pytest.MonkeyPatch, free: int, devices: tuple[str, ...], mode: str
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda _: free)
    found = [Need((0,), 3 * GB, GB // 10, 0), Need((1,), 3 * GB, GB // 10, GB // 10)]
    scoring = Scoring(device="cpu", devices=devices)
    plan: MemoryPlan = plan_memory(found, scoring=scoring)
    assert plan.mode == mode
    assert f"memory mode {mode}" in plan.reason
    assert "weights 3.00 GB, float32 head 100 MB, cache 100 MB" in plan.reason
    assert len(plan.devices) == 2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_needs_are_what_models_and_caches_take(tmp_path: Path, architecture: str) -> None:
    settings = made(tmp_path, tiny_pair(tmp_path, architecture))
    longest = 60
    first, second = needs(
        find_sources(settings), dtype=torch.bfloat16, longest=longest, scoring=settings.scoring
    )
    assert (first.members, second.members) == ((0, 2), (1,))
    model = load_plain(Path(settings.baseline.path or "")).bfloat16()
    own = sum(each.nbytes for each in model.parameters())
    assert second.weights == own
    assert own < first.weights < 2 * own
    assert second.head == 4 * model.get_output_embeddings().weight.numel()
    assert first.head == 2 * second.head
    cache = model(torch.arange(5, 5 + longest)[None], use_cache=True).past_key_values
    keys = [layer.keys for layer in cache.layers if getattr(layer, "keys", None) is not None]
    # A sliding layer keeps no more than its window, and may leave out the last token of it.
    taken = sum(2 * each.nbytes for each in keys)
    assert taken <= first.cache <= taken * 1.2
    short = needs(find_sources(settings), dtype=torch.float32, longest=10, scoring=settings.scoring)
    assert [(need.head, need.cache) for need in short] == [(0, 0)] * 2


def runs_out(monkeypatch: pytest.MonkeyPatch, *, above: int, error: Exception) -> list[int]:
    """Every backbone refuses more tokens a batch than this."""
    plain, asked = TwoPass.rows, []

    def limited(self: TwoPass, carriers: Sequence[Any], *, scoring: Scoring) -> HiddenRows:
        asked.append(scoring.token_budget)
        if scoring.token_budget > above:
            raise error
        return plain(self, carriers, scoring=scoring)

    monkeypatch.setattr(TwoPass, "rows", limited)
    monkeypatch.setattr(ready, "check_model", unchecked)
    return asked


def roomy(scoring: Scoring) -> Scoring:
    """More than memory will have; the noise floor would ask for some of it too."""
    return replace(scoring, token_budget=400, chunk_tokens=400, head_rows=64, noise_carriers=0)


SIGNS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    MemoryError(),
]


@pytest.mark.parametrize("error", SIGNS, ids=str)
def test_a_unit_that_runs_out_begins_again_with_less(
    settings: RunSettings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    settings = replace(settings, scoring=roomy(settings.scoring))
    unbroken = replace(settings, out=f"{settings.out}.unbroken")
    scored(unbroken)
    asked = runs_out(monkeypatch, above=100, error=error)
    scored(settings)
    run = open_run(settings.out)
    assert_alike(run, open_run(unbroken.out))
    assert run.plan == open_run(unbroken.out).plan
    smaller = {"token_budget": 100, "chunk_tokens": 100, "head_rows": 16}
    assert [commit.notes for commit in run.commits] == [{"budget": smaller}] * len(run.commits)
    # Found out once, in the first unit.
    assert asked == [400, 200] + [100] * 3 * len(run.commits)


def test_a_resumed_run_begins_with_the_budget_it_came_down_to(
    settings: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(settings, scoring=roomy(settings.scoring))
    asked = runs_out(monkeypatch, above=100, error=MemoryError())

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(settings, progress=Recorder(stop))
    asked.clear()
    report = scored(settings)
    assert 0 < report.reused_units < report.units
    assert set(asked) == {100}


def test_what_never_fits_is_said(settings: RunSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    runs_out(monkeypatch, above=0, error=MemoryError())
    with pytest.raises(ModelFault, match="unit 0 needs more memory than there is, even in"):
        scored(settings)
    assert not Path(settings.out).exists()


def test_other_faults_are_not_taken_for_it(
    settings: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = runs_out(monkeypatch, above=0, error=RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        scored(settings)
    assert len(asked) == 1


def test_a_model_alone_that_runs_out_begins_again_with_less(
    settings: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = of_mode(replace(settings, scoring=roomy(settings.scoring)), "sequential")
    unbroken = replace(own, out=f"{own.out}.unbroken")
    scored(unbroken)
    asked = runs_out(monkeypatch, above=100, error=MemoryError())
    scored(own)
    run = open_run(own.out)
    assert_alike(run, open_run(unbroken.out))
    smaller = {"token_budget": 100, "chunk_tokens": 100, "head_rows": 16}
    budgets = {"hidden_budget": {"0": smaller, "1": smaller, "2": smaller}}
    assert [commit.notes for commit in run.commits] == [budgets] * len(run.commits)
    assert asked == ([400, 200] + [100] * len(run.commits)) * 3


def test_a_model_alone_goes_on_with_the_budget_it_came_down_to(
    settings: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = of_mode(replace(settings, scoring=roomy(settings.scoring)), "sequential")
    asked = runs_out(monkeypatch, above=100, error=MemoryError())
    plain = HiddenStore.write

    def stopped(self: HiddenStore, *place: Any) -> None:
        plain(self, *place)
        raise KeyboardInterrupt

    monkeypatch.setattr(HiddenStore, "write", stopped)
    with pytest.raises(KeyboardInterrupt):
        scored(own)
    monkeypatch.setattr(HiddenStore, "write", plain)
    asked.clear()
    units = scored(own).units
    assert asked == [100] * (units - 1) + ([400, 200] + [100] * units) * 2


def test_a_model_alone_that_never_fits_is_said(
    settings: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = of_mode(settings, "sequential", noise_carriers=0)
    runs_out(monkeypatch, above=0, error=MemoryError())
    with pytest.raises(ModelFault, match="unit 0 of model 'base' needs more memory than"):
        scored(own)
    assert not Path(own.out).exists()


def test_the_self_check_does_not_take_a_full_memory_for_a_model_of_its_own_shape(
    settings: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(settings, scoring=roomy(settings.scoring))
    check = ready.check_model
    asked = runs_out(monkeypatch, above=100, error=SIGNS[2])
    monkeypatch.setattr(ready, "check_model", check)
    checks = scored(settings).checks
    assert [each.two_pass for each in checks] == [True] * 3
    assert asked[:3] == [400, 200, 100]
    runs_out(monkeypatch, above=0, error=SIGNS[2])
    monkeypatch.setattr(ready, "check_model", check)
    with pytest.raises(ModelFault, match="self-check of model 'base' needs more memory than"):
        scored(replace(settings, out=f"{settings.out}.b"))
