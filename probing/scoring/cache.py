"""A key-value cache that is allocated once, for a carrier whose length is known."""

from typing import Any

import torch
from transformers.cache_utils import DynamicLayer


class WholeLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values, in the place that all of them will need.

    A layer that grows by concatenation leaves holes which the next, larger one does not fit, until
    freed memory has reached the size of the cache itself.

    Args:
        layer: keys and values of the first chunk, shape (batch, head, token, size).
        tokens: how many there will be.
    """

    def __init__(self, layer: DynamicLayer, *, tokens: int) -> None:
        super().__init__()
        self.dtype, self.device = layer.dtype, layer.device
        self._all_keys, self._all_values = _roomy(layer.keys, tokens), _roomy(layer.values, tokens)
        self._hold(layer.keys.shape[-2])
        self.is_initialized = True

    def _hold(self, tokens: int) -> None:
        self.keys = self._all_keys[..., :tokens, :]
        self.values = self._all_values[..., :tokens, :]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Put one more chunk behind what is there; return all of it."""
        start = self.keys.shape[-2]
        stop = start + key_states.shape[-2]
        self._all_keys[..., start:stop, :] = key_states
        self._all_values[..., start:stop, :] = value_states
        self._hold(stop)
        return self.keys, self.values


def _roomy(first: torch.Tensor, tokens: int) -> torch.Tensor:
    room = first.new_empty((*first.shape[:-2], tokens, first.shape[-1]))
    room[..., : first.shape[-2], :] = first
    return room


def allocate_whole(cache: Any, *, tokens: int) -> None:
    """Let the layers of a cache that hold one chunk, and would grow, hold all tokens in one piece.

    Layers of another kind (a sliding window, a recurrent state) stay as they are: they do not grow.
    """
    layers = getattr(cache, "layers", [])
    for place, layer in enumerate(layers):
        if type(layer) is DynamicLayer and layer.is_initialized:
            layers[place] = WholeLayer(layer, tokens=tokens)
