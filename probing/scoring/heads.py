"""Second pass: the model's own CausalLM forward over hidden rows, in float32, block by block."""

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from probing.scoring.models import ScoredModel

FLOAT32, BFLOAT16 = "float32", "bfloat16"
PROBE_ROWS = 8
PROBE_TOLERANCE = 1e-5
"""Of the largest logit: another order of summation gives 1e-7 of it, a rounded input 1e-3."""


class CannotSplit(Exception):
    """A model has no backbone that can be taken out of its CausalLM forward."""


class PassThrough(nn.Module):
    """Stands where the backbone stood, and returns the rows it is given."""

    def forward(self, *, inputs_embeds: torch.Tensor, **_: Any) -> BaseModelOutputWithPast:
        """The hidden rows, as a backbone would return them."""
        return BaseModelOutputWithPast(last_hidden_state=inputs_embeds)


class Head:
    """The part of one model that follows its backbone: output embedding, soft-cap, scale.

    It runs the model's own forward method, so what the model does to its logits is done here. A
    half-precision model's output embedding is copied to float32; the model itself, whose input
    embedding may be the same tensor, is never touched.

    Args:
        model: The model.
        alone: Keep nothing of the model but its head, which then outlives it.

    Attributes:
        products: In which precision hidden rows and weights are multiplied: `bfloat16` on a CPU
            where both are bfloat16 values, which loses nothing and is twice as fast.

    Raises:
        CannotSplit: The backbone is not a direct part of the CausalLM.
    """

    def __init__(self, model: ScoredModel, *, alone: bool = False) -> None:
        self._active: Callable[[], AbstractContextManager[Any]] = (
            torch.inference_mode if alone else model.active
        )
        # Under `active`, so that a copied output embedding keeps this model's adapter.
        with model.active() as causal_lm:
            self._stubbed = stubbed(causal_lm, copy_adapted=alone)
            self._width = causal_lm.get_output_embeddings().weight.shape[1]
        bfloat16 = model.dtype == torch.bfloat16 and model.device.type == "cpu"
        self.products = BFLOAT16 if bfloat16 and self._exact_in_bfloat16() else FLOAT32

    def logits(self, hidden: Float[torch.Tensor, "position hidden"]) -> torch.Tensor:
        """Logits of a block of hidden rows, float32, shape (position, vocabulary)."""
        fast = self.products == BFLOAT16 and hidden.dtype == torch.bfloat16
        with bfloat16_products() if fast else nullcontext():
            return self._logits(hidden)

    def _logits(self, hidden: Float[torch.Tensor, "position hidden"]) -> torch.Tensor:
        with self._active():
            output = self._stubbed(inputs_embeds=hidden.float()[None], use_cache=False)
            logits: torch.Tensor = output.logits[0].float()
            return logits

    def _exact_in_bfloat16(self) -> bool:
        """Whether nothing but bfloat16 values is multiplied, so that products lose nothing.

        A head that scales its input, or has a float32 adapter, would round in between: that shows
        on any input, by a thousand times what another order of summation does.
        """
        generator = torch.Generator().manual_seed(0)
        probe = torch.randn(PROBE_ROWS, self._width, generator=generator).bfloat16()
        wanted = self._logits(probe)
        with bfloat16_products():
            got = self._logits(probe)
        return bool((got - wanted).abs().max() <= PROBE_TOLERANCE * wanted.abs().max())


@contextmanager
def bfloat16_products() -> Iterator[None]:
    """Float32 products on a CPU in bfloat16 with float32 sums: for bfloat16 values no loss."""
    settings = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = settings.fp32_precision
    settings.fp32_precision = "bf16"
    try:
        yield
    finally:
        settings.fp32_precision = before


def backbone_of(causal_lm: PreTrainedModel) -> nn.Module:
    """The decoder stack that ends in the hidden rows the output embedding takes.

    Raises:
        CannotSplit: It is not a direct part of the CausalLM.
    """
    parts: dict[str, nn.Module] = dict(causal_lm.named_children())
    backbone = parts.get(causal_lm.base_model_prefix)
    if backbone is None:
        raise CannotSplit(f"{type(causal_lm).__name__} has no part {causal_lm.base_model_prefix!r}")
    return backbone


def stubbed(causal_lm: PreTrainedModel, *, copy_adapted: bool = False) -> nn.Module:
    """The same CausalLM with its backbone replaced by `PassThrough`, everything else in float32.

    Shares the weights of a float32 model; copies what follows the backbone of any other, and with
    `copy_adapted` also what has adapters in it, with the adapter that is switched on now.
    """
    backbone = backbone_of(causal_lm)
    head: nn.Module = copy.copy(causal_lm)
    head._modules = {
        name: PassThrough() if part is backbone else _in_float32(part, copy_adapted=copy_adapted)
        for name, part in causal_lm.named_children()
    }
    return head


def _in_float32(part: nn.Module, *, copy_adapted: bool) -> nn.Module:
    weights = [*part.parameters(), *part.buffers()]
    adapted = any(type(each).__module__.startswith("peft.") for each in part.modules())
    if any(each.is_floating_point() and each.dtype != torch.float32 for each in weights):
        return copy.deepcopy(part).float()
    return copy.deepcopy(part) if copy_adapted and adapted else part
