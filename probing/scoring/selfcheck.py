"""Before a run: two passes against one plain forward, for every model."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from probing.analysis.grid import Grid, grid_step, logit_grid
from probing.errors import ModelFault, NonFiniteLogits, SelfCheckFailed
from probing.scoring.batching import Wanted
from probing.scoring.forward import PlainForward, Runner, TwoPass, plain_logits
from probing.scoring.heads import CannotSplit
from probing.scoring.models import ScoredModel
from probing.scoring.running_out import TOO_LARGE, is_out_of_memory, within_memory
from probing.settings import Scoring

logger = logging.getLogger(__name__)

CHECK_TOKENS = 512
"""The check looks at no more than this prefix of a carrier, so that plain logits stay small."""
CHECK_ROWS = 32
CHECK_CHUNKS = 3
SHAPE_SLACK = 10.0
"""Another batch shape rounds otherwise: 6e-5 on a small float32 model, where one shape gives 0.
A fault of padding or caching moves logits by far more, so it is looked for within this factor."""


@dataclass(frozen=True)
class SelfCheck:
    """What the check of one model found.

    Attributes:
        name: the model's.
        two_pass: whether the run uses two passes; if not, the plain forward.
        difference: largest difference of a logit between two passes over the first carrier and
            one, NaN where there was no split.
        shape_difference: the same once carriers are padded in a batch, and run in chunks where the
            run does that; NaN where there was no split.
        tolerance: for `difference`; for `shape_difference` it is `SHAPE_SLACK` times that.
        note: why the plain forward is used; empty otherwise.
        grid: the half-precision grid that all logits of the check sit on, of the way that is used;
            None where the head is run in float32, as it should be.
        grid_step: of that grid, at the median largest logit: nats, NaN without a grid. Gaps below
            it are ties.
    """

    name: str
    two_pass: bool
    difference: float
    shape_difference: float
    tolerance: float
    note: str
    grid: Grid | None = None
    grid_step: float = float("nan")

    @property
    def grid_warning(self) -> str:
        """What a grid means for whoever reads the run; empty without one."""
        if self.grid is None:
            return ""
        return (
            f"{self.name}: its logits sit on {self.grid}'s grid, so its head was not run in "
            f"float32; gaps below one step ({self.grid_step:.3g} nats at its largest logits) are "
            "ties; set dtype = 'float32' under [scoring] to resolve them"
        )


@dataclass(frozen=True)
class Checked:
    """A model's way to its logits, and the check it passed."""

    runner: Runner
    check: SelfCheck


def check_model(
    model: ScoredModel, carriers: Sequence[Wanted], *, scoring: Scoring, chunked: bool
) -> Checked:
    """Choose two passes where they agree with the plain forward, else the plain forward.

    Args:
        model: The model.
        carriers: The first carrier, and one more so that the first is also seen in a padded batch.
        scoring: Its tolerances, and how the run will batch.
        chunked: Whether the run has carriers that go in chunks: then chunks are checked too.

    Raises:
        SelfCheckFailed: The plain forward does not agree with itself either.
        NonFiniteLogits: The plain forward gives NaN or +inf.
        ModelFault: Not even the shortest prefixes fit in memory.
    """
    fitted = within_memory(
        lambda budget: _check_model(model, carriers, scoring=budget, chunked=chunked),
        scoring=scoring,
    )
    if fitted is None:
        raise ModelFault(f"the self-check of model {model.name!r} {TOO_LARGE}")
    return fitted.result


def _check_model(
    model: ScoredModel, carriers: Sequence[Wanted], *, scoring: Scoring, chunked: bool
) -> Checked:
    """On prefixes that the budget allows."""
    half = model.dtype != torch.float32
    tolerance = scoring.self_check_tolerance_half if half else scoring.self_check_tolerance
    prefixes = [_prefix(carrier, most=scoring.token_budget) for carrier in carriers]
    plain = torch.cat([plain_logits(model, prefix) for prefix in prefixes])
    if bool((torch.isnan(plain) | torch.isposinf(plain)).any()):
        raise NonFiniteLogits(
            f"model {model.name!r} must give finite logits (or -inf); a plain forward over the "
            "first carrier gives NaN or +inf; set dtype = 'float32' under [scoring], or check the "
            "checkpoint"
        )
    found = _two_passes(model, prefixes, plain, scoring=scoring, chunked=chunked)
    difference, shape_difference = found.difference, found.shape_difference
    note = found.note
    if found.runner is not None and not difference <= tolerance:
        note = f"two passes differ from one by {difference:.3g}"
    elif found.runner is not None and not shape_difference <= SHAPE_SLACK * tolerance:
        note = f"batches or chunks differ from one carrier alone by {shape_difference:.3g}"
    check = SelfCheck(
        name=model.name,
        two_pass=not note,
        difference=difference,
        shape_difference=shape_difference,
        tolerance=tolerance,
        note=note,
    )
    if found.runner is not None and check.two_pass:
        return Checked(found.runner, _with_grid(check, found.logits))
    logger.warning("model %s: %s; using the plain forward", model.name, note)
    fallback = PlainForward(model)
    again = _difference(_logits(fallback, prefixes, plain, scoring=scoring), plain)
    if not again <= tolerance:
        raise SelfCheckFailed(
            f"model {model.name!r} must repeat its own logits within {tolerance:g}; two plain "
            f"forward passes over one carrier differ by {again:.3g} ({note}); run the same command "
            "again, and if it fails again, check that the model is deterministic or set "
            "attention = 'eager' under [scoring]"
        )
    return Checked(fallback, _with_grid(check, plain))


def _with_grid(check: SelfCheck, logits: torch.Tensor) -> SelfCheck:
    """The same check, with the grid of the logits that the run will hold."""
    values = logits.cpu().numpy()
    grid = logit_grid(values)
    if grid is None:
        return check
    largest = np.median(grid_step(values.max(axis=1), grid=grid))
    check = replace(check, grid=grid, grid_step=float(largest))
    logger.warning("%s", check.grid_warning)
    return check


@dataclass(frozen=True)
class _Found:
    """Two passes, measured; no runner where they could not be made, and why.

    The logits are theirs, padded in a batch; without a runner, the plain forward's.
    """

    runner: TwoPass | None
    logits: torch.Tensor
    difference: float
    shape_difference: float
    note: str


def _two_passes(
    model: ScoredModel,
    prefixes: Sequence[Wanted],
    plain: torch.Tensor,
    *,
    scoring: Scoring,
    chunked: bool,
) -> _Found:
    try:
        runner = TwoPass(model)
        first = len(prefixes[0].rows)
        lone = _logits(runner, prefixes[:1], plain[:first], scoring=scoring)
        alone = _difference(lone, plain[:first])
        logits = _logits(runner, prefixes, plain, scoring=scoring)
        shaped = _difference(logits, plain)
        if chunked:
            cut = max(1, prefixes[0].length // CHECK_CHUNKS)
            pieces = replace(scoring, chunk_tokens=cut)
            cut_up = _logits(runner, prefixes, plain, scoring=pieces)
            shaped = max(shaped, _difference(cut_up, plain))
    except (CannotSplit, AttributeError, TypeError, ValueError, KeyError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        # A model of its own shape may fail in any way when its parts run alone.
        return _Found(None, plain, float("nan"), float("nan"), f"cannot be split: {error}")
    return _Found(runner, logits, alone, shaped, "")


def _prefix(carrier: Wanted, *, most: int) -> Wanted:
    """The carrier's start with rows spread over it: its head is checked wherever it is cut."""
    length = min(carrier.length, CHECK_TOKENS, most)
    rows = np.unique(np.linspace(0, length - 1, num=min(CHECK_ROWS, length)).astype(np.int64))
    return Wanted(token_ids=carrier.token_ids[:length], rows=rows)


def _logits(
    runner: Runner, carriers: Sequence[Wanted], plain: torch.Tensor, *, scoring: Scoring
) -> torch.Tensor:
    """Logits of all wanted rows, of the shape that the plain forward gives."""
    logits = runner.rows(carriers, scoring=scoring).block(0, plain.shape[0])
    if logits.shape != plain.shape:
        raise CannotSplit(f"gives logits of shape {tuple(logits.shape)}, not {tuple(plain.shape)}")
    return logits


def _difference(logits: torch.Tensor, plain: torch.Tensor) -> float:
    """Largest difference of any logit; two -inf are equal."""
    gap = torch.where(logits == plain, torch.zeros_like(plain), (logits - plain).abs())
    return float(gap.max())
