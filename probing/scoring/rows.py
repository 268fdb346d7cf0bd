"""From one block of full rows of logits to what is stored of them (method.md section 3)."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int

from probing.scoring.candidates import logits_at, realised, union_ids
from probing.scoring.divergence import divergences
from probing.scoring.tails import tails
from probing.store.unit import Measures
from probing.vocabulary import PADDING_ID

CANDIDATE_FILL = {"candidate_id": PADDING_ID, "logit": -np.inf}
"""Arrays with a candidate axis, and what fills it up."""


@dataclass(frozen=True)
class RowSettings:
    """What is the same for every block of a run.

    Attributes:
        top_k: K.
        watched: ids that are always candidates, ascending.
        temperatures: at which divergences are exact.
        betas: nodes of the tail grid.
        measures: combinations of models whose tails are stored.
    """

    top_k: int
    watched: Int[np.ndarray, " watched"]
    temperatures: tuple[float, ...]
    betas: Float[np.ndarray, " beta"]
    measures: Measures


@dataclass(frozen=True)
class RowArrays:
    """The model-dependent arrays of `store.unit.UnitArrays`, under the same names."""

    candidate_id: Int[np.ndarray, "position candidate"]
    logit: Float[np.ndarray, "position model candidate"]
    realised_logit: Float[np.ndarray, "position model"]
    realised_rank: Int[np.ndarray, "position model"]
    masked: Int[np.ndarray, "position model"]
    log_z: Float[np.ndarray, "position model temperature"]
    kl_baseline_other: Float[np.ndarray, "position pair temperature"]
    kl_other_baseline: Float[np.ndarray, "position pair temperature"]
    js: Float[np.ndarray, "position pair temperature"]
    tail_reference: Float[np.ndarray, "position measure"]
    tail_log_mass: Float[np.ndarray, "position measure beta"]
    tail_mean: Float[np.ndarray, "position measure model beta"]
    tail_square: Float[np.ndarray, "position measure beta"]


def reduce_rows(
    block: Sequence[Float[torch.Tensor, "position vocabulary"]],
    token_ids: Int[np.ndarray, " position"],
    *,
    settings: RowSettings,
) -> RowArrays:
    """Everything stored of a block of rows; divergences in float64, stored as float32.

    Overwrites the logits of `block` with working values: they may be as large as memory allows.

    Args:
        block: Every model's float32 logits, baseline first; -inf where an id is masked, no NaN.
        token_ids: y_i of each row.
        settings: Of the run.
    """
    workers = torch.get_num_threads() if block[0].device.type == "cpu" else 1
    rows = len(token_ids)
    if workers == 1 or rows == 1:
        return _reduce(block, token_ids, settings)
    # Rows are independent. The operations on a few of them are too small to be split again, and
    # threads that meet at each would wait for one another, so each worker takes whole rows.
    cuts = np.linspace(0, rows, min(workers, rows) + 1).astype(int)
    try:
        with ThreadPoolExecutor(
            len(cuts) - 1, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            parts = [
                pool.submit(
                    _reduce, [each[start:stop] for each in block], token_ids[start:stop], settings
                )
                for start, stop in pairwise(cuts.tolist())
            ]
            return join_rows([part.result() for part in parts])
    finally:
        # What a worker sets holds for this thread too.
        torch.set_num_threads(workers)


def join_rows(parts: Sequence[RowArrays]) -> RowArrays:
    """The rows of all parts, one after the other; the candidate axis is as wide as the widest."""
    width = max(part.candidate_id.shape[1] for part in parts)
    joined = {}
    for field in fields(RowArrays):
        arrays = [getattr(part, field.name) for part in parts]
        if field.name in CANDIDATE_FILL:
            arrays = [_widened(each, width, fill=CANDIDATE_FILL[field.name]) for each in arrays]
        joined[field.name] = np.concatenate(arrays)
    return RowArrays(**joined)


def _widened(values: np.ndarray, width: int, *, fill: float | int) -> np.ndarray:
    padding = [(0, 0)] * (values.ndim - 1) + [(0, width - values.shape[-1])]
    return np.pad(values, padding, constant_values=fill)


@torch.inference_mode()
def _reduce(
    block: Sequence[Float[torch.Tensor, "position vocabulary"]],
    token_ids: Int[np.ndarray, " position"],
    settings: RowSettings,
) -> RowArrays:
    device = block[0].device
    ids = torch.from_numpy(token_ids.astype(np.int64)).to(device)
    watched = torch.from_numpy(settings.watched.astype(np.int64)).to(device)
    candidate_id = union_ids(block, top_k=settings.top_k, watched=watched)
    logit = logits_at(block, candidate_id)
    following = realised(block, ids)
    masked = torch.stack([_count_masked(each) for each in block], dim=1)
    exact = divergences(block, temperatures=settings.temperatures)
    tail = tails(
        block,
        candidate_id,
        betas=torch.from_numpy(settings.betas.astype(np.float32)).to(device),
        weights=torch.from_numpy(settings.measures.weights).to(device),
        uneven=bool(masked.any()),
    )
    return RowArrays(
        candidate_id=_int32(candidate_id),
        logit=_float32(logit),
        realised_logit=_float32(following.logit),
        realised_rank=_int32(following.rank),
        masked=_int32(masked),
        log_z=_float32(exact.log_z),
        kl_baseline_other=_float32(exact.kl_baseline_other),
        kl_other_baseline=_float32(exact.kl_other_baseline),
        js=_float32(exact.js),
        tail_reference=_float32(tail.reference),
        tail_log_mass=_float32(tail.log_mass),
        tail_mean=_float32(tail.mean),
        tail_square=_float32(tail.square),
    )


def _count_masked(logits: Float[torch.Tensor, "position vocabulary"]) -> torch.Tensor:
    """Number of -inf logits of each row; one cheap pass where there is none."""
    if bool(torch.isfinite(logits.amin(dim=1)).all()):
        return torch.zeros(logits.shape[0], dtype=torch.int64, device=logits.device)
    return torch.isneginf(logits).sum(dim=1)


def _float32(values: torch.Tensor) -> np.ndarray:
    array: np.ndarray = values.to(torch.float32).cpu().numpy()
    return array


def _int32(values: torch.Tensor) -> np.ndarray:
    array: np.ndarray = values.to(torch.int32).cpu().numpy()
    return array
