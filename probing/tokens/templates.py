"""The prompt of a carrier as text, by its template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from probing.tokens.unusable import UnusableCarrier
from probing.vocabulary import Template

TEMPLATE_OPTIONS = "chat_template_kwargs"
"""Field beside a carrier: what its chat template was told besides the messages."""
RESERVED = frozenset(
    {
        "conversation",
        "chat_template",
        "add_generation_prompt",
        "continue_final_message",
        "tokenize",
        "padding",
        "truncation",
        "max_length",
        "return_tensors",
        "return_dict",
        "return_assistant_tokens_mask",
        "tokenizer_kwargs",
        "processor_kwargs",
    }
)
"""Options that say how a template is run, not what it writes: a log decides none of them."""
THINK_OPEN = "<think>"


@runtime_checkable
class CarrierText(Protocol):
    """What encoding needs of a carrier record; see `probing.carriers.record.Carrier`."""

    @property
    def carrier_id(self) -> str:
        """Names the carrier."""

    @property
    def prompt(self) -> str | None:
        """The prompt as text."""

    @property
    def messages(self) -> Sequence[Mapping[str, Any]] | None:
        """The prompt as chat messages."""

    @property
    def response(self) -> str:
        """The response as text."""

    @property
    def prompt_token_ids(self) -> Sequence[int] | None:
        """The prompt as ids; comes with `response_token_ids`."""

    @property
    def response_token_ids(self) -> Sequence[int] | None:
        """The response as ids."""

    @property
    def template(self) -> Template:
        """How the prompt becomes text."""

    @property
    def extra(self) -> Mapping[str, Any]:
        """What stands beside the record; `chat_template_kwargs` is for the chat template."""


@dataclass(frozen=True)
class PromptText:
    """A prompt, ready for the tokenizer.

    Attributes:
        text: what stands before the response.
        wants_leading: put before it what the tokenizer itself puts before a text (BOS), unless the
            text already begins with that.
    """

    text: str
    wants_leading: bool


def prompt_text(carrier: CarrierText, *, tokenizer: Any) -> PromptText:
    """Apply the carrier's template.

    - `chat`: the tokenizer's chat template over `messages`, or over `prompt` as one user message,
      with the header of the answer, and `chat_template_kwargs` beside the record as variables.
      Messages that end with the assistant's are a prefill, and are continued. BOS: only what the
      template writes.
    - `raw`: `prompt`. BOS: what the tokenizer itself puts before a text, once.
    - `already_applied`: `prompt`. BOS: only what the text holds.

    Args:
        carrier: the record.
        tokenizer: a Transformers tokenizer; only its chat template is used.

    Raises:
        UnusableCarrier: No prompt for this template, no chat template, or the template refuses.
    """
    if carrier.template is Template.CHAT:
        return PromptText(text=_chat_text(carrier, tokenizer), wants_leading=False)
    if carrier.prompt is None:
        raise UnusableCarrier(
            "no prompt", f"template {carrier.template} takes `prompt`, and the record has none"
        )
    return PromptText(text=carrier.prompt, wants_leading=carrier.template is Template.RAW)


def _chat_text(carrier: CarrierText, tokenizer: Any) -> str:
    from jinja2 import TemplateError

    messages = [dict(message) for message in carrier.messages or ()]
    if not messages and carrier.prompt is not None:
        messages = [{"role": "user", "content": carrier.prompt}]
    if not messages:
        raise UnusableCarrier(
            "no prompt", "template chat takes `messages` or `prompt`, and the record has neither"
        )
    if tokenizer.chat_template is None:
        raise UnusableCarrier(
            "no chat template",
            "template chat needs a tokenizer with a chat template, and this one has none; set "
            "`template` to raw or already_applied",
        )
    prefilled = messages[-1].get("role") == "assistant"
    options = _options(carrier)
    try:
        text: str = tokenizer.apply_chat_template(
            messages,
            add_generation_prompt=not prefilled,
            continue_final_message=prefilled,
            tokenize=False,
            **options,
        )
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise UnusableCarrier(
            "chat template refuses", f"messages must fit the chat template, got {error}"
        ) from error
    return text


def _options(carrier: CarrierText) -> dict[str, Any]:
    options = carrier.extra.get(TEMPLATE_OPTIONS)
    if options is None:
        return {}
    if not isinstance(options, Mapping) or RESERVED & options.keys():
        raise UnusableCarrier(
            "chat template refuses",
            f"`{TEMPLATE_OPTIONS}` must hold variables of the chat template, got {options!r:.80}",
        )
    return dict(options)


def opened_twice(prompt: str, response: str) -> str:
    r"""The start of a response that the end of its prompt holds already, often nothing.

    A template may open the thinking of an answer itself, as Qwen3.5's does, and a log that keeps
    the thinking apart gives a response that opens it too. Only the opening tag counts, and the line
    breaks that both write after it:

        prompt    … assistant \n <think> \n
        response                <think> \n H m m          `<think>\n` is said twice

    Args:
        prompt: as the model got it.
        response: as the record has it.
    """
    before = prompt.rstrip()
    if not (before.endswith(THINK_OPEN) and response.startswith(THINK_OPEN)):
        return ""
    twice = prompt[len(before) - len(THINK_OPEN) :]
    while not response.startswith(twice):
        twice = twice[:-1]
    return twice
