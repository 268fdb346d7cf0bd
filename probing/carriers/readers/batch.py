"""OpenAI and vLLM batches: outputs, joined with the prompts of the input file by `custom_id`.

Outputs do not repeat what was asked: give the input file too, in any order.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from probing.carriers.fields import Unusable
from probing.carriers.readers.formats import Convert, Fields, Made, RecordFormat
from probing.carriers.readers.prompts import Prompts
from probing.carriers.readers.rows import Row
from probing.carriers.readers.sources import Source
from probing.carriers.readers.turns import plain, turns
from probing.settings import Inputs
from probing.vocabulary import Template

SAMPLING = ("temperature", "top_p", "top_k", "min_p", "max_tokens", "seed")
"""Of the body of a request, what is kept beside the carrier."""


def is_batch_input(fields: Fields) -> bool:
    """Whether a record asks: it gives a prompt, and no carrier."""
    return "custom_id" in fields and isinstance(fields.get("body"), Mapping)


def _fits(fields: Fields) -> bool:
    return "custom_id" in fields and ("response" in fields or "error" in fields)


def batch_format(prompts: Prompts) -> RecordFormat:
    """The format of outputs, with the prompts they answer."""

    def opened(source: Source, inputs: Inputs) -> Convert:
        return lambda row: _carriers(row, prompts, inputs)

    return RecordFormat(
        name="batch", keys="custom_id, response or error", fits=_fits, opened=opened
    )


def _carriers(row: Row, prompts: Prompts, inputs: Inputs) -> Iterator[Made]:
    custom_id = str(row.fields["custom_id"])
    body = _body(row.fields)
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        raise Unusable("no response", f"custom_id {custom_id:.60}: the body holds no choice")
    asked = prompts.find(custom_id)
    shared = {
        **_asked(asked, custom_id, inputs, ids=body.get("prompt_token_ids")),
        "generator": body.get("model") or (asked or {}).get("model"),
        "custom_id": custom_id,
    }
    # All are made before the first is given: a record is taken whole or not at all.
    yield from [_choice(each, shared, inputs, place) for place, each in enumerate(choices)]


def _body(fields: Fields) -> Mapping[str, Any]:
    if fields.get("error"):
        raise Unusable("failed request", f"{fields['error']!r:.120}")
    response = fields.get("response")
    if not isinstance(response, Mapping):
        raise Unusable("no response", f"`response` must be an object, got {response!r:.60}")
    status = response.get("status_code", 200)
    if status != 200:
        raise Unusable("failed request", f"status {status!r:.20}")
    body = response.get("body")
    if not isinstance(body, Mapping):
        raise Unusable("no response", "`response.body` must be an object")
    return body


def _asked(
    body: Mapping[str, Any] | None, custom_id: str, inputs: Inputs, *, ids: Any
) -> dict[str, Any]:
    """The prompt and how it was sampled."""
    if body is None:
        if ids is not None:
            return {}
        raise Unusable(
            "no prompt", f"no input file asks custom_id {custom_id:.60}: give that file too"
        )
    kept = {name: body[name] for name in SAMPLING if body.get(name) is not None}
    if "messages" in body:
        asked = plain(turns("messages", body["messages"]), thinking_format=inputs.thinking_format)
        return {**kept, "messages": asked, "template": Template.CHAT.value}
    return {**kept, "prompt": body.get("prompt"), "template": Template.RAW.value}


def _choice(choice: Any, shared: Fields, inputs: Inputs, place: int) -> Made:
    if not isinstance(choice, Mapping):
        raise Unusable("wrong type", "`choices` must hold objects")
    message = choice.get("message")
    if isinstance(message, Mapping):
        turn = turns("message", [{"role": "assistant", **message}])[0]
        said: Any = turn.text(inputs.thinking_format)
    else:
        said = choice.get("text")
    index = choice.get("index", place)
    fields = {**shared, "response": said, "finish_reason": choice.get("finish_reason")}
    tokens = choice.get("token_ids")
    asked = choice.get("prompt_token_ids", shared.get("prompt_token_ids"))
    if tokens is not None and asked is not None:
        fields |= {"prompt_token_ids": asked, "response_token_ids": tokens}
    return Made(fields, f"{index}")
