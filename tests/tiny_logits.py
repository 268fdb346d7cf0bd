"""Logits of tiny models, as scoring gets them and by a plain forward over ever more tokens."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tiny import VOCABULARY, load_plain
from transformers import PreTrainedModel

from probing.scoring.batching import Wanted, wanted_rows
from probing.scoring.checkpoints import resolve_adapter, resolve_model
from probing.scoring.forward import Runner
from probing.scoring.models import ScoredModel, Source, load_group
from probing.settings import ModelSpec, Scoring

SCORING = Scoring(device="cpu", head_rows=5)


def loaded(
    baseline: Path, *adapters: Path, dtype: torch.dtype = torch.float32
) -> tuple[ScoredModel, ...]:
    """The baseline on the CPU, and the LoRAs over it, sharing its weights."""
    base = ModelSpec(name="base", path=str(baseline))
    specs = [ModelSpec(name=f"lora{i}", adapter=str(path)) for i, path in enumerate(adapters)]
    sources = [Source(base, resolve_model("base", str(baseline)))]
    sources += [Source(spec, resolve_adapter(spec.name, str(spec.adapter))) for spec in specs]
    return load_group(sources, scoring=SCORING, dtype=dtype, device=torch.device("cpu"))


def carriers(lengths: Sequence[int] = (9, 30, 17, 4), *, seed: int = 0) -> list[Wanted]:
    """Random tokens; a few response positions of each, never the last token alone."""
    rng = np.random.default_rng(seed)
    made = []
    for length in lengths:
        ids = rng.integers(5, VOCABULARY, size=length).astype(np.int32)
        position = np.unique(rng.integers(0, length - 2, size=6)).astype(np.int32)
        made.append(wanted_rows(ids, position, response_start=2))
    return made


def every_logit(
    runner: Runner, wanted: Sequence[Wanted], *, scoring: Scoring = SCORING
) -> torch.Tensor:
    """All wanted rows, in blocks as a run asks for them."""
    count = sum(len(each.rows) for each in wanted)
    rows = runner.rows(wanted, scoring=scoring)
    return torch.cat([rows.block(i, min(i + 5, count)) for i in range(0, count, 5)])


def plain(model: PreTrainedModel | Path, wanted: Sequence[Wanted]) -> torch.Tensor:
    """Token by token: the logits after reading the first n tokens predict token n."""
    model = load_plain(model) if isinstance(model, Path) else model
    found = []
    with torch.no_grad():
        for each in wanted:
            for row in each.rows:
                read = torch.from_numpy(each.token_ids[: row + 1].astype(np.int64))[None]
                found.append(model(read, use_cache=False).logits[0, -1])
    return torch.stack(found)


def close(got: torch.Tensor, expected: torch.Tensor) -> None:
    """Within 1e-4, and of float32."""
    assert got.dtype == torch.float32
    assert got.shape == expected.shape
    assert (got - expected).abs().max() < 1e-4
