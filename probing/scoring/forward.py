"""First pass: each model's backbone over each carrier, keeping hidden rows where wanted."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float

from probing.scoring.batching import Batch, Wanted, batches, padded_ids
from probing.scoring.cache import allocate_whole
from probing.scoring.heads import Head, backbone_of
from probing.scoring.memory import give_back
from probing.scoring.models import ScoredModel
from probing.settings import Scoring


@runtime_checkable
class LogitRows(Protocol):
    """The wanted rows of one unit under one model, in the order of the unit's carriers."""

    def block(self, start: int, stop: int) -> Float[torch.Tensor, "position vocabulary"]:
        """Float32 logits of rows `start` to `stop`."""
        ...


@runtime_checkable
class Runner(Protocol):
    """One way to get the wanted rows of one model."""

    def rows(self, carriers: Sequence[Wanted], *, scoring: Scoring) -> LogitRows:
        """Run the model over the carriers of one unit, in batches and chunks of these sizes."""
        ...


class TwoPass:
    """Backbone first, cut after each carrier's last wanted row; the head later, by blocks.

    Raises:
        CannotSplit: The model's backbone cannot be taken out.
    """

    def __init__(self, model: ScoredModel) -> None:
        self.model = model
        self.head = Head(model)

    def rows(self, carriers: Sequence[Wanted], *, scoring: Scoring) -> "HiddenRows":
        """Hidden rows of all carriers, concatenated in their order."""
        return HiddenRows(hidden_rows(self.model, carriers, scoring=scoring), self.head)


class HiddenRows:
    """Hidden rows that become logits when a block of them is asked for."""

    def __init__(self, hidden: Float[torch.Tensor, "position hidden"], head: Head) -> None:
        self.hidden = hidden
        self._head = head

    def block(self, start: int, stop: int) -> Float[torch.Tensor, "position vocabulary"]:
        """Float32 logits of rows `start` to `stop`."""
        return self._head.logits(self.hidden[start:stop])

    def repeated(self, count: int) -> "HiddenRows":
        """The same rows so many times over."""
        return HiddenRows(self.hidden.repeat(count, 1), self._head)


class PlainForward:
    """The plain CausalLM forward, one carrier at a time: for models that cannot be split."""

    def __init__(self, model: ScoredModel) -> None:
        self._model = model

    def rows(self, carriers: Sequence[Wanted], *, scoring: Scoring) -> "StoredRows":
        """Logits at all wanted rows, kept on the CPU until they are asked for."""
        del scoring  # One carrier at a time, whole.
        kept = [plain_logits(self._model, carrier).cpu() for carrier in carriers]
        return StoredRows(torch.cat(kept), device=self._model.device)


class StoredRows:
    """Logits already there."""

    def __init__(
        self, logits: Float[torch.Tensor, "position vocabulary"], *, device: torch.device
    ) -> None:
        self._logits = logits
        self._device = device

    def block(self, start: int, stop: int) -> Float[torch.Tensor, "position vocabulary"]:
        """Float32 logits of rows `start` to `stop`."""
        return self._logits[start:stop].to(self._device)


def plain_logits(model: ScoredModel, carrier: Wanted) -> Float[torch.Tensor, "position vocabulary"]:
    """Logits at the wanted rows by one plain forward over the carrier, in float32."""
    ids = padded_ids([carrier]).to(model.device)
    with model.active() as causal_lm:
        logits: torch.Tensor = causal_lm(input_ids=ids, use_cache=False).logits[0]
        return logits[torch.from_numpy(carrier.rows).to(logits.device)].float()


def hidden_rows(
    model: ScoredModel, carriers: Sequence[Wanted], *, scoring: Scoring
) -> Float[torch.Tensor, "position hidden"]:
    """Hidden rows at the wanted rows of every carrier, concatenated in the carriers' order.

    Carriers share a batch within `token_budget`; one longer than `chunk_tokens` runs alone over
    the key-value cache, so that only the cache grows with it.
    """
    found: dict[int, torch.Tensor] = {}
    lengths = [carrier.length for carrier in carriers]
    with model.active() as causal_lm:
        backbone = backbone_of(causal_lm)
        for batch in batches(
            lengths, token_budget=scoring.token_budget, chunk_tokens=scoring.chunk_tokens
        ):
            members = [carriers[index] for index in batch.members]
            found |= zip(
                batch.members,
                _run(backbone, members, batch=batch, scoring=scoring, device=model.device),
                strict=True,
            )
        hidden = torch.cat([found[index] for index in range(len(carriers))])
    give_back(model.device)
    return hidden


def _run(
    backbone: torch.nn.Module,
    members: Sequence[Wanted],
    *,
    batch: Batch,
    scoring: Scoring,
    device: torch.device,
) -> list[torch.Tensor]:
    """Wanted hidden rows of each member of one batch."""
    ids = padded_ids(members).to(device)
    if batch.chunked:
        return [_run_chunked(backbone, ids, members[0], chunk_tokens=scoring.chunk_tokens)]
    # No mask: padding stands on the right, where no kept row looks; attention may then take its
    # fast causal path, and recurrent layers pass over the padding last.
    hidden = backbone(input_ids=ids, use_cache=False).last_hidden_state
    return [
        line[torch.from_numpy(member.rows).to(device)]
        for line, member in zip(hidden, members, strict=True)
    ]


def _run_chunked(
    backbone: torch.nn.Module, ids: torch.Tensor, member: Wanted, *, chunk_tokens: int
) -> torch.Tensor:
    """One long carrier, chunk after chunk over the cache."""
    rows = torch.from_numpy(member.rows).to(ids.device)
    cache = None
    kept = []
    for start in range(0, ids.shape[1], chunk_tokens):
        stop = min(start + chunk_tokens, ids.shape[1])
        output = backbone(input_ids=ids[:, start:stop], past_key_values=cache, use_cache=True)
        if cache is None:
            cache = output.past_key_values
            allocate_whole(cache, tokens=ids.shape[1])
        here = rows[(rows >= start) & (rows < stop)] - start
        kept.append(output.last_hidden_state[0, here])
        del output
        give_back(ids.device)
    return torch.cat(kept)
