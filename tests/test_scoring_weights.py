"""Which weights training changed, counted from the files; a model that changed none is refused."""

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import copy_model, edit_weights, tiny_adapter, tiny_model

from probing.errors import IdenticalModel, ModelFault
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


# --- Large files: hollow ones, since what was never written reads as zeros and takes no room ------

MEGA = 1 << 20
SHARDS = {
    "model-00001-of-00003.safetensors": {"model.layers.0.mlp.experts.up_proj": (1, 100 * MEGA)},
    "model-00002-of-00003.safetensors": {
        "model.layers.1.mlp.experts.up_proj": (2, 12 * MEGA + 3),
        "model.norm.weight": (5,),
        "model.empty": (0,),
    },
    "model-00003-of-00003.safetensors": {"lm_head.weight": (25 * MEGA, 1)},
}
"""Over 600 MB as float32; the largest tensor is one row of 400 MB, as fused experts have them."""

EDITS = {
    "model.layers.0.mlp.experts.up_proj": {0: 1.0, 100 * MEGA - 1: 1.0, 50 * MEGA: 2.0**-140},
    "model.layers.1.mlp.experts.up_proj": {24 * MEGA + 5: 3.0},
    "lm_head.weight": {7: 2.0**-140, 8: 2.0**-141},
}
"""By element; bfloat16 has no room for the smallest of them, so the cast swallows them."""


def hollow(folder: Path, edits: dict[str, dict[int, float]]) -> Path:
    """A sharded float32 checkpoint of zeros, except where `edits` says."""
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    for shard, shapes in SHARDS.items():
        header: dict[str, object] = {}
        size = 0
        for key, shape in shapes.items():
            end = size + 4 * math.prod(shape)
            header[key] = {"dtype": "F32", "shape": shape, "data_offsets": [size, end]}
            size = end
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (folder / shard).open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + size)
            for key in shapes.keys() & edits.keys():
                start = header[key]["data_offsets"][0]
                for element, value in edits[key].items():
                    file.seek(8 + len(text) + start + 4 * element)
                    file.write(torch.tensor(value).numpy().tobytes())
    index = {"weight_map": {key: shard for shard, keys in SHARDS.items() for key in keys}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


MEASURED = """
import json, resource, sys
import torch
from dataclasses import asdict
from probing.scoring.checkpoints import resolve_adapter, resolve_model
from probing.scoring.weights import adapter_change, full_change

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
base, other, adapter = sys.argv[1:]
full = full_change(
    resolve_model("base", base), resolve_model("ssd", other), dtype=torch.bfloat16
)
lora = adapter_change(resolve_adapter("lora", adapter), dtype=torch.bfloat16)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"full": asdict(full), "lora": asdict(lora), "growth_kb": after - before}))
"""


RELAY = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]], check=True)"
"""A small process between: what a process took before it became another counts as its peak."""


@pytest.fixture
def brief(tmp_path: Path) -> Iterator[Path]:
    """A folder that is gone after the test: pytest would keep its large files."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def test_large_sharded_checkpoints_and_adapters_are_compared_in_little_memory(brief: Path) -> None:
    base, other = hollow(brief / "base", {}), hollow(brief / "other", EDITS)
    adapter = brief / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA"}', encoding="utf-8")
    b = torch.zeros(1, 80 * MEGA, dtype=torch.bfloat16)
    b[0, :3] = 1.0
    name = "base_model.model.model.layers.0.mlp.up_proj.lora_{}.weight"
    weights = {name.format("A"): torch.ones(2, 2), name.format("B"): b}
    save_file(weights, adapter / "adapter_model.safetensors")
    ran = subprocess.run(
        [sys.executable, "-S", "-c", RELAY, MEASURED, str(base), str(other), str(adapter)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    found = json.loads(ran.stdout)
    assert 1_000 < found["growth_kb"] < 200_000
    groups = {group["group"]: group for group in found["full"]["groups"]}
    experts, head = groups["layers.mlp.experts.up_proj"], groups["lm_head"]
    assert experts["elements"] == 124 * MEGA + 6
    assert experts["changed_stored"] == 4 / experts["elements"]
    assert experts["changed_cast"] == 3 / experts["elements"]
    assert head["changed_stored"] == 2 / (25 * MEGA)
    assert head["changed_cast"] == 0
    assert groups["norm"]["changed_stored"] == groups["empty"]["elements"] == 0
    total = 149 * MEGA + 6 + 5
    assert found["full"]["changed_stored"] == 6 / total
    assert found["full"]["changed_cast"] == 3 / total
    assert found["lora"]["changed_stored"] == 3 / (80 * MEGA)


@pytest.mark.parametrize("shards", [1, 3])
def test_shares_do_not_depend_on_how_files_are_cut(base: Path, tmp_path: Path, shards: int) -> None:
    other = copy_model(base, tmp_path / "other")
    edit_weights(other, lambda weights: weights["model.norm.weight"][:9].add_(1))
    whole = change_of(base, other)
    weights = load_file(other / "model.safetensors")
    (other / "model.safetensors").unlink()
    index = {}
    for number in range(shards):
        shard = f"model-{number}.safetensors"
        part = {key: weights[key] for key in sorted(weights)[number::shards]}
        save_file(part, other / shard, metadata={"format": "pt"})
        index |= dict.fromkeys(part, shard)
    (other / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": index}), encoding="utf-8"
    )
    assert change_of(base, other) == whole
    (norm,) = (group for group in whole.groups if group.group == "norm")
    assert norm.changed_stored == 9 / 32


def test_a_dtype_torch_lacks_and_a_file_cut_short_are_named(base: Path, tmp_path: Path) -> None:
    odd = copy_model(base, tmp_path / "odd")
    path = odd / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"dtype":"F32"', b'"dtype":"U32"'))
    with pytest.raises(ModelFault, match=r"must be of dtype F64, F32.* is U32"):
        change_of(base, odd)
    path.write_bytes(whole)
    checkpoint = resolve_model("ssd", str(odd))
    assert checkpoint.shard_of
    path.write_bytes(whole[:-5])
    last = max(checkpoint.shard_of)  # As they are saved, so the one that is cut.
    with checkpoint.opened() as file, pytest.raises(ModelFault, match=rf"inside {last}; copy it"):
        list(file.blocks(last, block_elements=100))
