"""From one block of full rows of logits to what is stored of them (method.md section 3)."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int

from probing.scoring.candidates import logits_at, realised, union_ids
from probing.scoring.divergence import divergences
from probing.scoring.reduced import RowArrays, RowSettings, join_rows
from probing.scoring.tails import tails

COMPILED, GENERAL = "compiled", "general"


def row_path(device: torch.device) -> str:
    """How rows on this device are reduced: it changes last bits, so the plan holds it."""
    return COMPILED if device.type == "cpu" else GENERAL


def reduce_rows(
    block: Sequence[Float[torch.Tensor, "position vocabulary"]],
    token_ids: Int[np.ndarray, " position"],
    *,
    settings: RowSettings,
    path: str,
) -> RowArrays:
    """Everything stored of a block of rows; sums over the vocabulary end in float64.

    Args:
        block: Every model's float32 logits, baseline first; -inf where an id is masked.
        token_ids: y_i of each row.
        settings: Of the run.
        path: See `row_path`.

    Raises:
        ValueError: a model gives fewer or more rows, or another width; a compiled pass would read
            beyond them.
    """
    if any(each.shape != block[0].shape or len(each) != len(token_ids) for each in block):
        shapes = [tuple(each.shape) for each in block]
        raise ValueError(f"every model must give {len(token_ids)} rows of one width, got {shapes}")
    reduce = compiled if path == COMPILED else general
    workers = torch.get_num_threads() if block[0].device.type == "cpu" else 1
    rows = len(token_ids)
    if workers == 1 or rows == 1:
        return reduce(block, token_ids, settings)
    # Rows are independent. The operations on a few of them are too small to be split again, and
    # threads that meet at each would wait for one another, so each worker takes whole rows.
    cuts = np.linspace(0, rows, min(workers, rows) + 1).astype(int)
    try:
        with ThreadPoolExecutor(
            len(cuts) - 1, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            parts = [
                pool.submit(
                    reduce, [each[start:stop] for each in block], token_ids[start:stop], settings
                )
                for start, stop in pairwise(cuts.tolist())
            ]
            return join_rows([part.result() for part in parts])
    finally:
        # What a worker sets holds for this thread too.
        torch.set_num_threads(workers)


def compiled(
    block: Sequence[Float[torch.Tensor, "position vocabulary"]],
    token_ids: Int[np.ndarray, " position"],
    settings: RowSettings,
) -> RowArrays:
    """One compiled pass over each row; the general path for a block with masked ids."""
    from probing.scoring.fused import fused

    made = fused([each.numpy() for each in block], token_ids, settings)
    return general(block, token_ids, settings) if made is None else made


@torch.inference_mode()
def general(
    block: Sequence[Float[torch.Tensor, "position vocabulary"]],
    token_ids: Int[np.ndarray, " position"],
    settings: RowSettings,
) -> RowArrays:
    """Pass after pass of torch, on any device."""
    block = [each.clone() for each in block]  # `tails` overwrites them.
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
        log_z=_float64(exact.log_z),
        kl_baseline_other=_float64(exact.kl_baseline_other),
        kl_other_baseline=_float64(exact.kl_other_baseline),
        js=_float64(exact.js),
        tail_reference=_float64(tail.reference),
        tail_log_mass=_float64(tail.log_mass),
        tail_mean=_float64(tail.mean),
        tail_square=_float64(tail.square),
    )


def _count_masked(logits: Float[torch.Tensor, "position vocabulary"]) -> torch.Tensor:
    """Number of -inf logits of each row; one cheap pass where there is none."""
    if bool(torch.isfinite(logits.amin(dim=1)).all()):
        return torch.zeros(logits.shape[0], dtype=torch.int64, device=logits.device)
    return torch.isneginf(logits).sum(dim=1)


def _float32(values: torch.Tensor) -> np.ndarray:
    array: np.ndarray = values.cpu().numpy()
    return array


def _float64(values: torch.Tensor) -> np.ndarray:
    array: np.ndarray = values.double().cpu().numpy()
    return array


def _int32(values: torch.Tensor) -> np.ndarray:
    array: np.ndarray = values.to(torch.int32).cpu().numpy()
    return array
