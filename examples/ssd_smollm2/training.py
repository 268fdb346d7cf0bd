"""Small LoRAs, trained on given texts and saved in float16."""

import json
import logging
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

logger = logging.getLogger("ssd_smollm2")

NOT_SCORED = -100
"""The label of prompt and padding tokens, which carry no loss."""

LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Text(Protocol):
    """What a model is trained on: ids of a prompt, which carries no loss, and of a response."""

    @property
    def prompt_token_ids(self) -> tuple[int, ...]:
        """Ids of the prompt."""

    @property
    def response_token_ids(self) -> tuple[int, ...]:
        """Ids of the response."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """AdamW with a linear warm-up and a cosine decay to zero; `steps` a pass over the texts."""

    rank: int
    learning_rate: float
    steps: int
    epochs: int
    warmup_steps: int = 2
    max_grad_norm: float = 1.0

    @property
    def alpha(self) -> int:
        """Of the LoRA: twice its rank."""
        return 2 * self.rank


@dataclass(frozen=True)
class TrainingResult:
    """Mean loss per response token (nats) over the first and last quarter of the steps."""

    steps: int
    response_tokens: int
    first_loss_nats: float
    last_loss_nats: float


def train_adapter(
    base: Any, texts: Sequence[Text], *, training: Training, seed: int, adapter_dir: Path
) -> TrainingResult:
    """Train a LoRA over `base` on `texts`, save it to `adapter_dir`; `base` is used up."""
    torch.manual_seed(seed)
    config = LoraConfig(
        r=training.rank,
        lora_alpha=training.alpha,
        lora_dropout=0.0,
        target_modules=list(LINEAR_LAYERS),
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(base, config)
    model.train()
    batches = [
        batch for epoch in range(training.epochs) for batch in _pass(texts, training, seed + epoch)
    ]
    losses = _run(model, batches, training=training)
    save_adapter(model, config, adapter_dir)
    quarter = max(1, len(losses) // 4)
    return TrainingResult(
        steps=len(losses),
        response_tokens=sum(len(text.response_token_ids) for batch in batches for text in batch),
        first_loss_nats=sum(losses[:quarter]) / quarter,
        last_loss_nats=sum(losses[-quarter:]) / quarter,
    )


def _pass(texts: Sequence[Text], training: Training, seed: int) -> list[list[Text]]:
    """All texts once, in seeded order, cut into steps of nearly equal numbers of response tokens.

    So two sets of as many tokens make as many steps, whatever the lengths of their texts.
    """
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed)).tolist()
    shuffled = [texts[index] for index in order]
    ends = list(accumulate(len(text.response_token_ids) for text in shuffled))
    edges = [0]
    for step in range(1, training.steps):
        edges.append(max(bisect_left(ends, ends[-1] * step / training.steps), edges[-1] + 1))
    return [shuffled[start:end] for start, end in pairwise([*edges, len(shuffled)])]


def _run(model: Any, batches: Sequence[Sequence[Text]], *, training: Training) -> list[float]:
    """The loss of every step."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=0.0)
    warmup = torch.optim.lr_scheduler.LinearLR(
        optimizer, start_factor=1 / (training.warmup_steps + 1), total_iters=training.warmup_steps
    )
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, T_max=max(1, len(batches) - training.warmup_steps)
    )
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer, [warmup, cosine], milestones=[training.warmup_steps]
    )
    losses: list[float] = []
    for step, batch in enumerate(batches, start=1):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = response_loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, training.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(loss.item())
        if step % 8 == 0 or step == len(batches):
            logger.info("step %d of %d: loss %.4f", step, len(batches), losses[-1])
    return losses


def response_loss(model: Any, batch: Sequence[Text]) -> torch.Tensor:
    """Mean cross-entropy in nats over the response tokens of `batch`; padding on the right.

    ids     p0 p1 p2 r0 r1 r2
    logits     ·  ·  l2 l3 l4     l2 predicts r0: logits[:-1] against ids[1:]
    labels  -- -- -- r0 r1 r2
    """
    ids = [torch.tensor(item.prompt_token_ids + item.response_token_ids) for item in batch]
    labels = [row.clone() for row in ids]
    for row, item in zip(labels, batch, strict=True):
        row[: len(item.prompt_token_ids)] = NOT_SCORED
    inputs = pad_sequence(ids, batch_first=True, padding_value=0)
    mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
    targets = pad_sequence(labels, batch_first=True, padding_value=NOT_SCORED)
    # Logits only from the last token of the shortest prompt on: no earlier one is scored.
    first = min(len(item.prompt_token_ids) for item in batch) - 1
    kept = inputs.shape[1] - first
    logits = model(input_ids=inputs, attention_mask=mask, logits_to_keep=kept).logits
    return functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(),
        targets[:, first + 1 :].flatten(),
        ignore_index=NOT_SCORED,
    )


def save_adapter(model: Any, config: LoraConfig, adapter_dir: Path) -> None:
    """Weights as float16 safetensors; the config names no base and no path."""
    adapter_dir.mkdir(parents=True, exist_ok=True)
    state = get_peft_model_state_dict(model)
    halves = {name: state[name].to(torch.float16).contiguous() for name in sorted(state)}
    weights = adapter_dir / "adapter_model.safetensors"
    save_file(halves, weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # safetensors makes it private to the user
    config.save_pretrained(adapter_dir)
    file = adapter_dir / "adapter_config.json"
    fields = json.loads(file.read_text(encoding="utf-8"))
    # PEFT stores where the base lay on this machine; the base is passed explicitly instead.
    fields["base_model_name_or_path"] = None
    fields["target_modules"] = sorted(fields["target_modules"])
    file.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
