"""What the dtype of a run does: every model at a few positions in it and in float32."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float

from probing.scoring.batching import Wanted
from probing.scoring.divergence import divergences
from probing.scoring.forward import Runner
from probing.scoring.memory import MemoryPlan, Need, free_bytes, size_text
from probing.scoring.running_out import within_memory
from probing.settings import Scoring
from probing.store.casting import CastEffect, Casting, InBoth
from probing.vocabulary import PerPosition, PositionMask

logger = logging.getLogger(__name__)

HOW_TO_SWITCH_OFF = "cast_carriers = 0 under [scoring] switches it off"


@dataclass(frozen=True)
class Figures:
    """One model in one dtype at T = 1, float64, one figure per position of the sample.

    Attributes:
        kl_nats: KL(baseline ‖ model); 0 for the baseline.
        top1_prob: its largest probability.
    """

    kl_nats: PerPosition
    top1_prob: PerPosition

    @property
    def finite(self) -> PositionMask:
        """Where both are."""
        both: PositionMask = np.isfinite(self.kl_nats) & np.isfinite(self.top1_prob)
        return both


def figures(
    baseline: Float[torch.Tensor, "position vocabulary"],
    model: Float[torch.Tensor, "position vocabulary"],
) -> Figures:
    """Of a model's logits, beside the baseline's in the same dtype."""
    exact = divergences([baseline, model], temperatures=(1.0,))
    largest = model.double().amax(dim=1)
    return Figures(
        kl_nats=exact.kl_baseline_other[:, 0, 0].numpy(),
        top1_prob=(largest - exact.log_z[:, 1, 0]).exp().numpy(),
    )


@dataclass
class OneDtype:
    """Every model over the sample in one dtype, added one after the other, baseline first.

    Of the logits only the baseline's are kept, on the CPU: at most `noise.MOST_POSITIONS` rows.

    Attributes:
        sample: see `noise.noise_sample`.
        models: figures by name.
        incomplete: a model's rows did not fit in memory; the later ones are not looked at.
    """

    sample: Sequence[Wanted]
    models: dict[str, Figures] = field(default_factory=dict)
    incomplete: bool = False
    _baseline: torch.Tensor | None = field(default=None, repr=False)

    def add(self, name: str, runner: Runner, *, scoring: Scoring) -> None:
        """Run one model over the sample, batched by the run's rule."""
        if self.incomplete:
            return
        fitted = within_memory(
            lambda budget: _logits(runner, self.sample, scoring=budget), scoring=scoring
        )
        if fitted is None:
            self.incomplete = True
            logger.warning("%s: the dtypes are not compared: its rows do not fit in memory", name)
            return
        if self._baseline is None:
            self._baseline = fitted.result
        self.models[name] = figures(self._baseline, fitted.result)

    def let_go(self) -> None:
        """Of the baseline's logits, once every model was added."""
        self._baseline = None


def _logits(
    runner: Runner, sample: Sequence[Wanted], *, scoring: Scoring
) -> Float[torch.Tensor, "position vocabulary"]:
    """All rows of the sample, float32, on the CPU."""
    count = sum(len(carrier.rows) for carrier in sample)
    rows = runner.rows(sample, scoring=scoring)
    return torch.cat(
        [
            rows.block(start, min(start + scoring.head_rows, count)).cpu()
            for start in range(0, count, scoring.head_rows)
        ]
    )


@dataclass(frozen=True)
class BothDtypes:
    """The sample in the dtype of the run and in float32."""

    dtype: torch.dtype
    run: OneDtype
    exact: OneDtype


def compare_dtypes(both: BothDtypes, *, names: Sequence[str]) -> Casting | None:
    """The run's dtype against float32, over the positions that are finite for every model.

    Args:
        both: with every model added.
        names: of the models in the run's order.

    Returns:
        The figures; None where memory did not allow them, or no position is finite.
    """
    run, exact = both.run, both.exact
    if run.incomplete or exact.incomplete:
        return None
    finite = np.logical_and.reduce(
        [each.finite for one in (run, exact) for each in one.models.values()]
    )
    if not finite.any():
        return None
    baseline, *others = names
    in_both = {name: (run.models[name], exact.models[name]) for name in names}

    def top1(name: str) -> tuple[PerPosition, PerPosition]:
        one, two = in_both[name]
        return one.top1_prob[finite], two.top1_prob[finite]

    own = top1(baseline)
    return Casting(
        dtype=str(both.dtype).removeprefix("torch."),
        carriers=len(run.sample),
        positions=int(finite.sum()),
        baseline_top1_moved=float(np.abs(own[0] - own[1]).mean()),
        others=tuple(
            CastEffect(
                name=name,
                kl_nats=InBoth(*(float(each.kl_nats[finite].mean()) for each in in_both[name])),
                top1_change=InBoth(
                    *(float((a - b).mean()) for a, b in zip(top1(name), own, strict=True))
                ),
            )
            for name in others
        ),
    )


def too_large(found: Sequence[Need], *, memory: MemoryPlan) -> str:
    """Why the float32 copies do not fit, one set of weights at a time; empty where they do.

    Args:
        found: what each set needs in float32.
        memory: where each of them goes.
    """
    for need, device in zip(found, memory.devices, strict=True):
        free = free_bytes(device)
        if need.alone > free:
            needed = size_text(need.alone)
            return f"one set of weights needs {needed}, {device} has {size_text(free)} free"
    return ""
