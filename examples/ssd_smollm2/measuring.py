"""How far the tuned model is from the baseline on given responses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from sampling import Response

TOP = 20


@dataclass(frozen=True)
class Distance:
    """Means over all response tokens, in nats per token; full vocabulary, float32."""

    response_tokens: int
    kl_nats: float
    baseline_entropy_nats: float
    tuned_entropy_nats: float
    baseline_mass_on_top: float
    tuned_mass_on_top: float


def measure_distance(tuned: Any, responses: Sequence[Response]) -> Distance:
    """KL(baseline ‖ tuned) and entropies on `responses`, one after another, without batching.

    `tuned` is a PEFT model; the baseline is the same model with its adapter switched off. The mass
    on the top is what each model puts on the baseline's 20 most probable tokens.
    """
    rows = torch.cat([_per_token(tuned, response) for response in responses])
    means = rows.double().mean(dim=0).tolist()
    return Distance(len(rows), *means)


@torch.inference_mode()
def _per_token(tuned: Any, response: Response) -> torch.Tensor:
    """One row per response token: KL, the two entropies, the two masses on the top."""
    ids = torch.tensor([response.prompt_token_ids + response.response_token_ids])
    first = len(response.prompt_token_ids) - 1  # this position predicts the first response token
    tuned_log = tuned(input_ids=ids).logits[0, first:-1].float().log_softmax(-1)
    with tuned.disable_adapter():
        base_log = tuned(input_ids=ids).logits[0, first:-1].float().log_softmax(-1)
    base, other = base_log.exp(), tuned_log.exp()
    top = base_log.topk(TOP).indices
    return torch.stack(
        [
            (base * (base_log - tuned_log)).sum(-1),
            -(base * base_log).sum(-1),
            -(other * tuned_log).sum(-1),
            base.gather(-1, top).sum(-1),
            other.gather(-1, top).sum(-1),
        ],
        dim=-1,
    )
