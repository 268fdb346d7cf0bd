"""One model in memory at a time: hidden rows go to the disk, heads meet afterwards."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from probing.errors import UnwritablePath
from probing.scoring.batching import Wanted
from probing.scoring.forward import HiddenRows, LogitRows
from probing.scoring.heads import Head
from probing.settings import Scoring
from probing.store.objects import sync

HIDDEN_SUFFIX = ".hidden"
"""Beside a run: the folder of its models' hidden rows; removed once the run is finished."""

HIDDEN, KEY = "hidden", "key"


def hidden_folder(run: Path) -> Path:
    """Where the hidden rows of a run are, while it is made."""
    return run.with_name(run.name + HIDDEN_SUFFIX)


class HiddenStore:
    """Hidden rows of every unit under every model, each in a file that is whole or absent.

    Args:
        folder: Where they are.
        key: Digest of all that decides them; files of another key are made again.
    """

    def __init__(self, folder: Path, *, key: str) -> None:
        self.folder = folder
        self._key = key

    def _path(self, model: int, unit: int) -> Path:
        return self.folder / f"model_{model}" / f"{unit:05d}.safetensors"

    def read(self, model: int, unit: int) -> Float[torch.Tensor, "position hidden"] | None:
        """The rows, or None where there are none of this key."""
        path = self._path(model, unit)
        try:
            with safe_open(path, framework="pt") as file:
                if (file.metadata() or {}).get(KEY) != self._key:
                    return None
                hidden: torch.Tensor = file.get_tensor(HIDDEN)
                return hidden
        except (OSError, SafetensorError):
            return None

    def write(self, model: int, unit: int, hidden: Float[torch.Tensor, "position hidden"]) -> None:
        """Keep the rows of one unit under one model.

        Raises:
            UnwritablePath: The disk refuses.
        """
        path = self._path(model, unit)
        partial = path.with_suffix(".partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({HIDDEN: hidden.cpu().contiguous()}, partial, metadata={KEY: self._key})
            sync(partial)
            partial.replace(path)
        except (OSError, SafetensorError) as error:
            raise UnwritablePath(
                f"{path} cannot be written: {error}; memory_mode = 'sequential' keeps hidden rows "
                "beside the run; make room or choose another --out, then run the same command"
            ) from error


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
        found = []
        for model, (head, device) in enumerate(zip(self._heads, self._devices, strict=True)):
            hidden = self._store.read(model, unit)
            if hidden is None:
                raise UnwritablePath(
                    f"{self._store.folder} must hold the hidden rows of every model until the run "
                    f"is finished, got none of model {model} in unit {unit}; run the same command "
                    "again"
                )
            found.append(HiddenRows(hidden.to(device), head))
        return found
