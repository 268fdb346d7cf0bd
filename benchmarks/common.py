"""What the benchmarks share: the demo's models and carriers, and how this machine is named."""

import argparse
import json
import platform
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from probing.carriers.reading import read_carriers
from probing.carriers.record import Carrier
from probing.scoring.bundled import taught_model
from probing.scoring.memory import bound_kernel_cache
from probing.scoring.models import ScoredModel
from probing.tokens.adapter import TokenizerAdapter
from probing.tokens.encoded import EncodedCarrier

transformers_logging.disable_progress_bar()
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)

EXAMPLE = Path("examples/ssd_smollm2")
CACHE = Path("cache")


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", type=Path, metavar="F", help="write the figures here")
    return made


def machine() -> str:
    """Processor, cores and the versions that decide speed."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].partition(":")[2].strip() if lines else name
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def write_json(path: Path | None, value: Any) -> None:
    """The figures as a file, where one is wanted."""
    if path is not None:
        path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def baseline_folder() -> Path:
    """The demo's baseline, made on the first call."""
    return taught_model(CACHE, adapter_dir=EXAMPLE / "adapters" / "baseline")


def full_models(dtype: torch.dtype) -> tuple[ScoredModel, ScoredModel]:
    """The demo's baseline and its ssd model merged, as two full checkpoints in memory."""
    bound_kernel_cache()
    folder = baseline_folder()
    models = []
    for adapter in (None, EXAMPLE / "adapters" / "ssd"):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        if adapter is not None:
            model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
        models.append(model.to(dtype).eval().requires_grad_(False))
    return ScoredModel("baseline", models[0]), ScoredModel("ssd", models[1])


def demo_carriers(count: int) -> list[EncodedCarrier]:
    """The first committed responses of the demo, as tokens."""
    tokenizer = TokenizerAdapter.load(str(baseline_folder()))
    carriers = read_carriers([str(EXAMPLE / "carriers.jsonl")]).carriers
    step = max(1, len(carriers) // count)
    return [tokenizer.encode(carrier) for carrier in carriers[::step][:count]]


def long_carriers(lengths: Sequence[int]) -> list[EncodedCarrier]:
    """Responses joined until a carrier has that many tokens: real text of any length."""
    parts = demo_carriers(480)
    stream = np.concatenate([part.token_ids for part in parts])
    made = []
    for number, length in enumerate(lengths):
        ids = np.resize(np.roll(stream, -1000 * number), length).astype(np.int32)
        start = parts[0].response_start
        made.append(
            replace(
                parts[0],
                carrier_id=f"long-{number}",
                token_ids=ids,
                char_spans=np.zeros((length - start, 2), dtype=np.int32),
            )
        )
    return made


def carrier_of(encoded: EncodedCarrier) -> Carrier:
    """A record for the run of an encoded carrier."""
    return Carrier(
        carrier_id=encoded.carrier_id,
        problem_id=encoded.carrier_id,
        prompt="benchmark",
        response="benchmark",
        generator="baseline",
    )


def resident_mb(field: str = "VmRSS") -> float:
    """Memory of this process in MB: now (`VmRSS`), or at its peak (`VmHWM`)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1e3
    return float("nan")


def forget_peak() -> None:
    """Let `VmHWM` begin again at what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")
