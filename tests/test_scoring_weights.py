"""Which weights training changed, counted from the files; a model that changed none is refused."""

from pathlib import Path

import pytest
import torch
from tiny import copy_model, edit_weights, tiny_adapter, tiny_model

from probing.errors import IdenticalModel
from probing.scoring.checkpoints import resolve_adapter, resolve_model
from probing.scoring.weights import WeightChange, adapter_change, full_change


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("weights") / "base")


def change_of(baseline: Path, other: Path, *, dtype: torch.dtype = torch.float32) -> WeightChange:
    return full_change(
        resolve_model("base", str(baseline)), resolve_model("ssd", str(other)), dtype=dtype
    )


def test_changed_weights_are_counted_by_group(base: Path, tmp_path: Path) -> None:
    other = copy_model(base, tmp_path / "other")
    changes = {"model.layers.0.mlp.up_proj.weight": 7, "model.layers.1.mlp.up_proj.weight": 3}

    def nudge_some(weights: dict[str, torch.Tensor]) -> None:
        for key, count in changes.items():
            weights[key].view(-1)[:count] += 1.0
        weights["lm_head.weight"][0, 0] *= 1 + 2**-12  # Lost in a cast to bfloat16.

    edit_weights(other, nudge_some)
    change = change_of(base, other, dtype=torch.bfloat16)
    groups = {group.group: group for group in change.groups}
    up = groups["layers.mlp.up_proj"]
    assert up.elements == 2 * 48 * 32
    assert up.changed_stored == up.changed_cast == 10 / up.elements
    head = groups["lm_head"]
    assert head.changed_stored == 1 / head.elements
    assert head.changed_cast == 0
    assert groups["layers.self_attn.q_proj"].changed_stored == 0
    total = sum(group.elements for group in change.groups)
    assert change.changed_stored == 11 / total


def test_an_identical_model_is_refused(base: Path, tmp_path: Path) -> None:
    twin = copy_model(base, tmp_path / "twin")
    with pytest.raises(IdenticalModel, match="'ssd' must differ from the baseline"):
        change_of(base, twin)
    edit_weights(twin, lambda weights: weights["lm_head.weight"].mul_(1 + 2**-14))
    assert change_of(base, twin).changed_stored > 0
    half, rounded = tiny_twin(base, tmp_path / "half"), tiny_twin(base, tmp_path / "rounded")
    edit_weights(half, lambda weights: weights["lm_head.weight"].mul_(1 + 2**-14))
    with pytest.raises(IdenticalModel, match=r"once cast to torch\.bfloat16"):
        change_of(rounded, half, dtype=torch.bfloat16)


def tiny_twin(base: Path, folder: Path) -> Path:
    """The model with weights that bfloat16 holds exactly."""
    twin = copy_model(base, folder)

    def round_all(weights: dict[str, torch.Tensor]) -> None:
        for key in weights:
            weights[key] = weights[key].bfloat16().float()

    edit_weights(twin, round_all)
    return twin


def test_an_adapter_that_does_nothing_is_refused(base: Path, tmp_path: Path) -> None:
    zero = resolve_adapter("ssd", str(tiny_adapter(base, tmp_path / "zero", zero=True)))
    with pytest.raises(IdenticalModel, match="B A is zero in all"):
        adapter_change(zero, dtype=torch.float32)
    acting = resolve_adapter("ssd", str(tiny_adapter(base, tmp_path / "acting")))
    change = adapter_change(acting, dtype=torch.float32)
    assert change.changed_stored == 1.0
    assert [group.group for group in change.groups] == [
        "layers.mlp.down_proj",
        "layers.self_attn.q_proj",
        "layers.self_attn.v_proj",
    ]
