"""One model in memory at a time: hidden rows go to the disk, heads meet afterwards."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from probing.errors import ModelFault, UnwritablePath
from probing.scoring.batching import Wanted
from probing.scoring.forward import HiddenRows, LogitRows, TwoPass
from probing.scoring.heads import Head
from probing.scoring.running_out import (
    TOO_LARGE_ALONE,
    Fitted,
    budget_of,
    with_budget,
    within_memory,
)
from probing.settings import Scoring
from probing.store.objects import sync

logger = logging.getLogger(__name__)

HIDDEN_SUFFIX = ".hidden"
"""Beside a run: the folder of its models' hidden rows; removed once the run is finished.

Until then whatever ends the process leaves them, for the same command to go on with.
"""

KEY_LETTERS = 16

HIDDEN, KEY, SMALLER_BUDGET = "hidden", "key", "smaller_budget"


def hidden_folder(run: Path) -> Path:
    """Where the hidden rows of a run are, while it is made."""
    return run.with_name(run.name + HIDDEN_SUFFIX)


@dataclass(frozen=True)
class Spill:
    """Hidden rows of one unit under one model.

    Attributes:
        hidden: the rows, shape (position, hidden).
        smaller_budget: see `running_out.budget_of`; None where they fitted in the planned one.
    """

    hidden: torch.Tensor
    smaller_budget: dict[str, int] | None = None


class HiddenStore:
    """Hidden rows of every unit under every model, each in a file that is whole or absent.

    Args:
        run: The run that they are for.
        key: Digest of all that decides them. Rows of another key, from a command with other
            settings, lie in a folder of their own and are neither used nor touched.
    """

    def __init__(self, run: Path, *, key: str) -> None:
        self.folder = hidden_folder(run) / key[:KEY_LETTERS]
        self._key = key

    def _path(self, model: int, unit: int) -> Path:
        return self.folder / f"model_{model}" / f"{unit:05d}.safetensors"

    def read(self, model: int, unit: int) -> "Spill | None":
        """The rows, or None where there are none of this key."""
        path = self._path(model, unit)
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get(KEY) != self._key:
                    return None
                return Spill(file.get_tensor(HIDDEN), json.loads(metadata[SMALLER_BUDGET]))
        except (OSError, SafetensorError):
            return None

    def write(self, model: int, unit: int, spill: "Spill") -> None:
        """Keep the rows of one unit under one model.

        Raises:
            UnwritablePath: The disk refuses.
        """
        path = self._path(model, unit)
        partial = path.with_suffix(".partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            metadata = {KEY: self._key, SMALLER_BUDGET: json.dumps(spill.smaller_budget)}
            save_file({HIDDEN: spill.hidden.cpu().contiguous()}, partial, metadata=metadata)
            sync(partial)
            partial.replace(path)
        except (OSError, SafetensorError) as error:
            raise UnwritablePath(
                f"{path} cannot be written: {error}; memory_mode = 'sequential' keeps hidden rows "
                "beside the run; make room or choose another --out, then run the same command"
            ) from error


def spill_units(
    runner: TwoPass,
    units: Sequence[Sequence[Wanted]],
    *,
    store: HiddenStore,
    model: int,
    scoring: Scoring,
    pause: Callable[[], None],
) -> None:
    """Keep one model's hidden rows of every unit that has none yet, in the budget that fits.

    A budget that came to be too large, now or before a kill, is not tried again.

    Args:
        runner: the model.
        units: the carriers of each unit of the plan.
        store: where rows are kept.
        model: its place in the run.
        scoring: the planned budget.
        pause: called before each unit; may raise to leave.

    Raises:
        ModelFault: Not even the least budget fits.
        UnwritablePath: The disk refuses.
    """
    budget = scoring
    for index, carriers in enumerate(units):
        there = store.read(model, index)
        if there is not None:
            if there.smaller_budget is not None:
                budget = with_budget(scoring, there.smaller_budget)
            continue
        pause()
        fitted = _run_unit(runner, index, carriers, scoring=budget)
        budget = fitted.scoring
        smaller = None if budget == scoring else budget_of(budget)
        store.write(model, index, Spill(fitted.result.hidden, smaller))


def _run_unit(
    runner: TwoPass, index: int, carriers: Sequence[Wanted], *, scoring: Scoring
) -> Fitted[HiddenRows]:
    name = f"unit {index} of model {runner.model.name!r}"

    def told(smaller: Scoring) -> None:
        logger.warning("%s ran out of memory; again with %s", name, budget_of(smaller))

    fitted = within_memory(
        lambda budget: runner.rows(carriers, scoring=budget), scoring=scoring, told=told
    )
    if fitted is None:
        raise ModelFault(f"{name} {TOO_LARGE_ALONE}")
    return fitted


class Spilled:
    """Models that are gone but for their heads and their hidden rows; see `UnitRows`."""

    def __init__(
        self, store: HiddenStore, heads: Sequence[Head], devices: Sequence[torch.device]
    ) -> None:
        self._store = store
        self._heads = heads
        self._devices = devices

    def rows(
        self, unit: int, carriers: Sequence[Wanted], *, scoring: Scoring
    ) -> Sequence[LogitRows]:
        """See `UnitRows`."""
        del scoring, carriers
        return [
            HiddenRows(self._spill(model, unit).hidden.to(device), head)
            for model, (head, device) in enumerate(zip(self._heads, self._devices, strict=True))
        ]

    def notes(self, unit: int) -> dict[str, Any]:
        """See `UnitRows`: the budget of each model, by its place, where memory made it smaller."""
        budgets = {
            str(model): spill.smaller_budget
            for model in range(len(self._heads))
            if (spill := self._spill(model, unit)).smaller_budget is not None
        }
        return {"hidden_budget": budgets} if budgets else {}

    def _spill(self, model: int, unit: int) -> Spill:
        spill = self._store.read(model, unit)
        if spill is None:
            raise UnwritablePath(
                f"{self._store.folder} must hold the hidden rows of every model until the run "
                f"is finished, got none of model {model} in unit {unit}; run the same command again"
            )
        return spill
