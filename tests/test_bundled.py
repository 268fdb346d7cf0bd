"""The demo's baseline: merged whole or not at all, reused, made again for another adapter."""

import shutil
from pathlib import Path

import pytest
import torch
from tiny import load_merged, load_plain, tiny_adapter, tiny_model

from probing.scoring.bundled import (
    ADAPTER_FILES,
    BUNDLED_MODEL_NAME,
    MERGED_FROM,
    NEEDED_FILES,
    TAUGHT_MODEL_NAME,
    taught_model,
)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache whose bundled model is there already, and tiny."""
    base = tmp_path / "cache" / "models" / BUNDLED_MODEL_NAME
    tiny_model(base)
    for name in NEEDED_FILES:
        if not (base / name).exists():
            (base / name).write_text("{}", encoding="utf-8")
    return tmp_path / "cache"


@pytest.fixture
def adapter(cache: Path, tmp_path: Path) -> Path:
    return tiny_adapter(cache / "models" / BUNDLED_MODEL_NAME, tmp_path / "adapter")


def logits(folder_or_model: object) -> torch.Tensor:
    model = load_plain(folder_or_model) if isinstance(folder_or_model, Path) else folder_or_model
    ids = torch.arange(20, 60)[None]
    with torch.inference_mode():
        return model(ids).logits


def test_the_taught_model_is_the_base_with_the_adapter_added(cache: Path, adapter: Path) -> None:
    folder = taught_model(cache, adapter_dir=adapter)
    assert folder == cache / "models" / TAUGHT_MODEL_NAME
    base = cache / "models" / BUNDLED_MODEL_NAME
    merged = logits(load_merged(base, adapter))
    torch.testing.assert_close(logits(folder), merged, atol=1e-5, rtol=1e-5)
    assert (merged - logits(base)).abs().max() > 1e-2
    assert load_plain(folder).dtype is torch.float32


def test_it_is_made_once_and_again_for_another_adapter(
    cache: Path, adapter: Path, tmp_path: Path
) -> None:
    weights = taught_model(cache, adapter_dir=adapter) / "model.safetensors"
    first = weights.stat().st_ino
    assert taught_model(cache, adapter_dir=adapter) == weights.parent
    assert weights.stat().st_ino == first
    base = cache / "models" / BUNDLED_MODEL_NAME
    other = tiny_adapter(base, tmp_path / "other", seed=9)
    before = logits(weights.parent)
    taught_model(cache, adapter_dir=other)
    assert (logits(weights.parent) - before).abs().max() > 1e-3
    (weights.parent / MERGED_FROM).unlink()
    inode = weights.stat().st_ino
    taught_model(cache, adapter_dir=other)
    assert weights.stat().st_ino != inode


def test_a_merge_that_fails_leaves_nothing(cache: Path, adapter: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(adapter, broken)
    (broken / ADAPTER_FILES[1]).write_bytes(b"no safetensors")
    with pytest.raises(Exception, match="header"):
        taught_model(cache, adapter_dir=broken)
    assert [path.name for path in (cache / "models").iterdir()] == [BUNDLED_MODEL_NAME]
    whole = taught_model(cache, adapter_dir=adapter) / "model.safetensors"
    content = whole.read_bytes()
    with pytest.raises(Exception, match="header"):
        taught_model(cache, adapter_dir=broken)
    assert whole.read_bytes() == content
