"""The arrays of one unit: every model at every chosen position of the unit's carriers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from probing.errors import NonFiniteLogits
from probing.positions.selected import SelectedPositions
from probing.scoring.batching import Wanted, wanted_rows
from probing.scoring.forward import LogitRows, Runner
from probing.scoring.reduced import RowArrays, RowSettings, join_rows
from probing.scoring.rows import reduce_rows
from probing.settings import Scoring
from probing.store.unit import UnitArrays
from probing.tokens.encoded import EncodedCarrier


@dataclass(frozen=True)
class Work:
    """One carrier of the run, with its chosen positions (at least one)."""

    index: int
    encoded: EncodedCarrier
    selected: SelectedPositions

    @property
    def wanted(self) -> Wanted:
        """The rows that predict the chosen positions."""
        return wanted_rows(
            self.encoded.token_ids,
            self.selected.position,
            response_start=self.encoded.response_start,
        )


@runtime_checkable
class UnitRows(Protocol):
    """Every model's wanted rows of one unit, baseline first."""

    def rows(
        self, unit: int, carriers: Sequence[Wanted], *, scoring: Scoring
    ) -> Sequence[LogitRows]:
        """Of the carriers of this unit of the plan, run in batches and chunks of these sizes."""
        ...

    def notes(self, unit: int) -> dict[str, Any]:
        """What its commit should say of how the rows came about; empty as planned."""
        ...


@dataclass(frozen=True)
class Resident:
    """Models that are all in memory, each run when its rows are asked for."""

    runners: tuple[Runner, ...]
    pause: Callable[[], None]

    def rows(
        self, unit: int, carriers: Sequence[Wanted], *, scoring: Scoring
    ) -> Sequence[LogitRows]:
        """See `UnitRows`."""
        del unit
        found = []
        for runner in self.runners:
            self.pause()
            found.append(runner.rows(carriers, scoring=scoring))
        return found

    def notes(self, unit: int) -> dict[str, Any]:
        """See `UnitRows`."""
        del unit
        return {}


@dataclass(frozen=True)
class Scorer:
    """What stays the same from unit to unit.

    Attributes:
        names: of the models, baseline first.
        models: where their rows come from.
        settings: what is stored of a row.
        row_path: how it is made, see `rows.row_path`.
        pause: called between steps; may raise to leave the unit.
    """

    names: tuple[str, ...]
    models: UnitRows
    settings: RowSettings
    row_path: str
    pause: Callable[[], None]

    def unit(self, index: int, works: Sequence[Work], *, scoring: Scoring) -> UnitArrays:
        """Score the carriers of one unit of the plan, in this order.

        Raises:
            NonFiniteLogits: A model gave NaN or +inf, or nothing but -inf, at a position.
        """
        known = _known(works)
        models = self.models.rows(index, [work.wanted for work in works], scoring=scoring)
        parts: list[RowArrays] = []
        for start in range(0, len(known.token_id), scoring.head_rows):
            self.pause()
            stop = min(start + scoring.head_rows, len(known.token_id))
            block = [_reducible(rows.block(start, stop)) for rows in models]
            # Models may be on devices of their own.
            block = [logits.to(block[0].device) for logits in block]
            tokens = known.token_id[start:stop]
            parts.append(reduce_rows(block, tokens, settings=self.settings, path=self.row_path))
            _check_finite(parts[-1], self.names, works=works, known=known, start=start)
        scored = join_rows(parts)
        return UnitArrays(
            **{field.name: getattr(known, field.name) for field in fields(known)},
            **scored._asdict(),
        )


@dataclass(frozen=True)
class _Known:
    """What is known of each position before any model runs; names as in `UnitArrays`."""

    carrier: np.ndarray
    position: np.ndarray
    token_id: np.ndarray
    selectors: np.ndarray
    inclusion: np.ndarray
    phase: np.ndarray
    char_start: np.ndarray
    char_end: np.ndarray


def _known(works: Sequence[Work]) -> _Known:
    parts = [_known_of(work) for work in works]
    return _Known(
        **{
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(_Known)
        }
    )


def _known_of(work: Work) -> _Known:
    encoded, selected = work.encoded, work.selected
    position = selected.position
    spans = encoded.char_spans[position]
    return _Known(
        carrier=np.full(len(position), work.index, dtype=np.int32),
        position=position.astype(np.int32),
        # y_i stands at response_start + i; the row before it predicts it (see `Wanted`).
        token_id=encoded.token_ids[encoded.response_start + position].astype(np.int32),
        selectors=selected.selectors,
        inclusion=selected.inclusion,
        phase=selected.phase,
        char_start=spans[:, 0].astype(np.int32),
        char_end=spans[:, 1].astype(np.int32),
    )


def _reducible(
    logits: Float[torch.Tensor, "position vocabulary"],
) -> Float[torch.Tensor, "position vocabulary"]:
    """Logits where float64 exists: Metal has none."""
    return logits.cpu() if logits.device.type == "mps" else logits


def _check_finite(
    scored: RowArrays, names: Sequence[str], *, works: Sequence[Work], known: _Known, start: int
) -> None:
    """Raise at the first row whose normaliser is not finite: one NaN or +inf makes it so."""
    faulty = np.argwhere(~np.isfinite(scored.log_z[:, :, 0]))
    if len(faulty) == 0:
        return
    row, model = faulty[0]
    carrier = next(work for work in works if work.index == known.carrier[start + row])
    raise NonFiniteLogits(
        f"model {names[model]!r} must give finite logits (or -inf for masked ids); their "
        f"normaliser is {scored.log_z[row, model, 0]} at position {known.position[start + row]} "
        f"of carrier {carrier.encoded.carrier_id!r}; set dtype = 'float32' under [scoring], or "
        "check the checkpoint"
    )
