"""How far a tuned model is from the baseline on given responses, with intervals over problems."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sampling import Response
from scipy import stats
from torch.nn.utils.rnn import pad_sequence

TOP = 20
BATCH = 4
LEVEL = 0.95

QUANTITIES = ("kl_nats", "entropy_nats", "top1_prob", "mass_on_top")
"""Columns: KL(baseline ‖ tuned); changes (tuned - baseline) of entropy, of the largest probability,
and of the mass on the baseline's 20 most probable tokens."""


@dataclass(frozen=True)
class Change:
    """Sums per problem; rows are problems, columns `QUANTITIES`; `tokens` per problem."""

    sums: np.ndarray
    tokens: np.ndarray

    def means(self) -> np.ndarray:
        """Means over response tokens."""
        return self.sums.sum(axis=0) / self.tokens.sum()

    def half_widths(self) -> np.ndarray:
        """Of 95 % intervals: t over the problems' contributions."""
        residuals = self.sums - self.means() * self.tokens[:, None]
        count = len(self.tokens)
        error = np.sqrt((residuals**2).sum(axis=0) * count / (count - 1)) / self.tokens.sum()
        return stats.t.ppf((1 + LEVEL) / 2, count - 1) * error

    def less(self, other: "Change") -> "Change":
        """This change less another on the same tokens."""
        return Change(self.sums - other.sums, self.tokens)

    def text(self) -> str:
        """Every mean with its interval."""
        return ", ".join(
            f"{name} {mean:+.4f} ± {half:.4f}"
            for name, mean, half in zip(QUANTITIES, self.means(), self.half_widths(), strict=True)
        )


def mean_and_spread(changes: Sequence[Change]) -> str:
    """Mean over training seeds and their standard deviation."""
    means = np.stack([change.means() for change in changes])
    spread = means.std(axis=0, ddof=1) if len(changes) > 1 else np.zeros(len(QUANTITIES))
    return ", ".join(
        f"{name} {mean:+.4f} (SD {deviation:.4f})"
        for name, mean, deviation in zip(QUANTITIES, means.mean(axis=0), spread, strict=True)
    )


def measure_changes(tuned: torch.nn.Module, responses: Sequence[Response]) -> Change:
    """The baseline, which is `tuned` with its adapter switched off, against `tuned`.

    Full vocabulary, in the dtype of the model; padding on the right, one response a problem.
    """
    rows = [
        row
        for start in range(0, len(responses), BATCH)
        for row in _batch_sums(tuned, responses[start : start + BATCH])
    ]
    tokens = np.array([len(response.response_token_ids) for response in responses])
    return Change(np.array(rows), tokens)


@torch.inference_mode()
def _batch_sums(tuned: torch.nn.Module, batch: Sequence[Response]) -> list[list[float]]:
    ids = [torch.tensor(item.prompt_token_ids + item.response_token_ids) for item in batch]
    inputs = pad_sequence(ids, batch_first=True, padding_value=0)
    mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
    logits = tuned(input_ids=inputs, attention_mask=mask).logits
    with tuned.disable_adapter():
        base = tuned(input_ids=inputs, attention_mask=mask).logits
    sums = []
    for place, item in enumerate(batch):
        # The token before the response predicts its first token.
        rows = slice(len(item.prompt_token_ids) - 1, len(ids[place]) - 1)
        sums.append(_sums(base[place, rows], logits[place, rows]))
    return sums


def _sums(base_logits: torch.Tensor, tuned_logits: torch.Tensor) -> list[float]:
    base_log = base_logits.float().log_softmax(-1)
    tuned_log = tuned_logits.float().log_softmax(-1)
    base, tuned = base_log.exp(), tuned_log.exp()
    top = base_log.topk(TOP).indices
    columns = (
        (base * (base_log - tuned_log)).sum(-1),
        (base * base_log).sum(-1) - (tuned * tuned_log).sum(-1),
        tuned.amax(-1) - base.amax(-1),
        tuned.gather(-1, top).sum(-1) - base.gather(-1, top).sum(-1),
    )
    return [float(column.double().sum()) for column in columns]
