"""Makers of tiny random models: every architecture family that scoring must be exact on.

Each is a folder of safetensors with a tokenizer beside it, seeded, made in well under a second.
"""

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3_5TextConfig,
    Qwen3Config,
)
from transformers.utils import logging as transformers_logging

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

ARCHITECTURES = ("llama", "qwen3", "qwen3_5", "gemma2", "gemma3")
VOCABULARY = 400
PADDED_VOCABULARY = 408
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CORPUS = (
    "Let x be the number of apples. Wait, let me check: 3 + 4 = 7, so the answer is \\boxed{7}.",
    "<think>\nWe add 12 and 30. Hmm, maybe 42. Actually, yes.\n</think>\n\n**Answer**: 42",
    "Suppose the train leaves at 9. Then it arrives at 11. Alternatively, at noon.",
    "Let\nLet\nLet\nWait\nWait\nWait\nMaybe\nMaybe, Let Let Let Wait Wait Maybe Maybe",
    "What is the sum of 5 and 6? How many legs do 3 spiders have? naïve café – ünïcode ✓",
)

_SHARED = {
    "vocab_size": PADDED_VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.25,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


@dataclass(frozen=True)
class TinyPair:
    """A baseline and a checkpoint trained from it: the same tokenizer, nudged weights."""

    baseline: Path
    trained: Path


def tiny_tokenizer(folder: Path, *, vocabulary: int = VOCABULARY, extra: str = "") -> None:
    """Train a byte-level BPE tokenizer on a few sentences and save it; `extra` adds a token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    special = [*SPECIAL_TOKENS, *([extra] if extra else [])]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 2, trainer=trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)


def tiny_config(architecture: str) -> PreTrainedConfig:
    """Two to four layers; the parts that make each family different are all on."""
    if architecture == "llama":
        return LlamaConfig(num_hidden_layers=2, tie_word_embeddings=False, **_SHARED)
    if architecture == "qwen3":
        return Qwen3Config(num_hidden_layers=2, head_dim=8, tie_word_embeddings=True, **_SHARED)
    if architecture == "qwen3_5":
        return Qwen3_5TextConfig(
            num_hidden_layers=4,
            head_dim=16,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            tie_word_embeddings=True,
            # Larger weights make the recurrent state amplify float32's rounding beyond 1e-4.
            **{**_SHARED, "initializer_range": 0.1},
        )
    if architecture == "gemma2":
        return Gemma2Config(
            num_hidden_layers=2,
            head_dim=8,
            query_pre_attn_scalar=8,
            sliding_window=8,
            attn_logit_softcapping=5.0,
            final_logit_softcapping=3.0,
            **_SHARED,
        )
    if architecture == "gemma3":
        return Gemma3TextConfig(
            num_hidden_layers=4,
            head_dim=8,
            query_pre_attn_scalar=8,
            sliding_window=8,
            sliding_window_pattern=2,
            **_SHARED,
        )
    raise ValueError(f"architecture must be one of {ARCHITECTURES}, got {architecture!r}")


def tiny_model(
    folder: Path, architecture: str = "llama", *, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Path:
    """Save a random model of this architecture, and the tokenizer; return the folder."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(tiny_config(architecture))
    model.to(dtype).save_pretrained(folder)
    tiny_tokenizer(folder)
    return folder


def tiny_pair(folder: Path, architecture: str = "llama", *, seed: int = 0) -> TinyPair:
    """A baseline, and the same model with every weight matrix nudged by 2 % noise."""
    baseline = tiny_model(folder / "baseline", architecture, seed=seed)
    trained = folder / "trained"
    model = load_plain(baseline)
    nudge(model, seed=seed + 1)
    model.save_pretrained(trained)
    tiny_tokenizer(trained)
    return TinyPair(baseline=baseline, trained=trained)


def nudge(model: PreTrainedModel, *, seed: int, scale: float = 0.02) -> None:
    """Add seeded noise to every weight matrix, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(scale * parameter.std() * noise)


def tiny_adapter(
    baseline: Path,
    folder: Path,
    *,
    seed: int = 7,
    targets: tuple[str, ...] = ("q_proj", "v_proj", "down_proj"),
    zero: bool = False,
) -> Path:
    """Save a LoRA adapter over `baseline`, with no base path in its config; return the folder.

    `zero` leaves every B at its initial zeros, so that the adapter changes nothing.
    """
    torch.manual_seed(seed)
    config = LoraConfig(r=2, lora_alpha=4, target_modules=list(targets), task_type="CAUSAL_LM")
    with _peft_warnings_allowed():
        adapted = get_peft_model(load_plain(baseline), config)
    if not zero:
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.05)
    with _peft_warnings_allowed():
        adapted.save_pretrained(folder)
    path = folder / "adapter_config.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    stored["base_model_name_or_path"] = None
    path.write_text(json.dumps(stored), encoding="utf-8")
    return folder


@contextmanager
def _peft_warnings_allowed() -> Iterator[None]:
    """PEFT asks for an attribute by its old name, and says what it saves with an adapted head."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        warnings.filterwarnings("ignore", "Setting `save_embedding_layers`", UserWarning)
        yield


def load_merged(baseline: Path, adapter: Path) -> PreTrainedModel:
    """The baseline with an adapter merged into its weights."""
    with _peft_warnings_allowed():
        adapted = PeftModel.from_pretrained(load_plain(baseline), adapter)
    merged: PreTrainedModel = adapted.merge_and_unload()
    return merged.eval()


def load_plain(folder: Path) -> PreTrainedModel:
    """The model as Transformers loads it: what every two-pass figure is compared with."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    return model.eval()


def copy_model(source: Path, target: Path) -> Path:
    """A copy of a model folder, for tests that damage it."""
    shutil.copytree(source, target)
    return target


def edit_weights(
    folder: Path,
    change: Callable[[dict[str, torch.Tensor]], object],
    *,
    name: str = "model.safetensors",
) -> None:
    """Read a weights file, let `change` work on its tensors, and write it back."""
    weights = load_file(folder / name)
    change(weights)
    save_file(weights, folder / name, metadata={"format": "pt"})
