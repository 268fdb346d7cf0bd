"""OpenAI and vLLM batches: outputs, joined with the prompts of the input file by `custom_id`.

Outputs do not repeat what was asked: give the input file too, in any order. vLLM may log token ids
beside or instead of that.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from probing.carriers.fields import Unusable
from probing.carriers.readers.formats import Convert, Fields, Made, RecordFormat
from probing.carriers.readers.prompts import Prompts
from probing.carriers.readers.rows import Row
from probing.carriers.readers.sources import Source
from probing.carriers.readers.turns import options_taken, plain, turns
from probing.settings import Inputs
from probing.vocabulary import Template

BATCH = "batch"
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

    return RecordFormat(name=BATCH, keys="custom_id, response or error", fits=_fits, opened=opened)


def _carriers(row: Row, prompts: Prompts, inputs: Inputs) -> Iterator[Made]:
    custom_id = str(row.fields["custom_id"])
    body = _body(row.fields)
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        raise Unusable("no response", f"custom_id {custom_id:.60}: the body holds no choice")
    asked = prompts.find(custom_id)
    shared = {
        **_asked(asked, inputs),
        "generator": body.get("model") or (asked or {}).get("model"),
        "custom_id": custom_id,
    }
    # All are made before the first is given: a record of another shape is not taken by halves.
    made = [_choice(each, body, inputs) for each in choices]
    if not shared.keys() & {"messages", "prompt"}:
        _check_ids(made, custom_id, asked)
    for place, fields in enumerate(made):
        yield Made({**shared, **fields}, f"{choices[place].get('index', place)!s:.20}")


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


def _asked(body: Mapping[str, Any] | None, inputs: Inputs) -> dict[str, Any]:
    """The prompt and how it was sampled; nothing where that is not known."""
    if not body:
        return {}
    kept = {name: body[name] for name in SAMPLING if body.get(name) is not None}
    if body.get("messages") is not None:
        asked = plain(turns("messages", body["messages"]), inputs.thinking_format)
        chat = {"messages": asked, "template": Template.CHAT.value, **options_taken(dict(body))}
        return kept | chat
    if body.get("prompt") is not None:
        return {**kept, "prompt": body["prompt"], "template": Template.RAW.value}
    return kept


def _check_ids(made: Sequence[Fields], custom_id: str, asked: Mapping[str, Any] | None) -> None:
    """Without a prompt of text, every response needs its ids."""
    if all("prompt_token_ids" in each for each in made):
        return
    named = f"custom_id {custom_id:.60}"
    if asked is None:
        raise Unusable("no prompt", f"no input file asks {named}: give that file too")
    if not asked:
        raise Unusable(
            "no prompt", f"two prompts were asked under {named}: read one batch at a time"
        )
    raise Unusable("no prompt", f"the request of {named} has neither messages nor prompt")


def _choice(choice: Any, body: Fields, inputs: Inputs) -> dict[str, Any]:
    if not isinstance(choice, Mapping):
        raise Unusable("wrong type", "`choices` must hold objects")
    message = choice.get("message")
    if isinstance(message, Mapping):
        said: Any = turns("message", [{"role": "assistant", **message}])[0].text(
            inputs.thinking_format
        )
    else:
        said = choice.get("text")
    fields = {"response": said, "finish_reason": choice.get("finish_reason")}
    # Of a chat the ids of the prompt stand in the body, of a completion in the choice.
    asked = next(
        (each["prompt_token_ids"] for each in (choice, body) if each.get("prompt_token_ids")), None
    )
    if choice.get("token_ids") is not None and asked is not None:
        fields |= {"prompt_token_ids": asked, "response_token_ids": choice["token_ids"]}
    return fields
