"""Chats of other tools as messages of plain text: parts, roles, and thinking that stands apart."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from probing.carriers.fields import Unusable
from probing.tokens.templates import TEMPLATE_OPTIONS

ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant"}
"""What other tools call a role."""
TEXT_PARTS = ("text", "output_text", "input_text")
THINKING_PARTS = ("reasoning", "thinking")
THINKING_FIELDS = ("reasoning_content", "reasoning", "thinking")
"""Where the thinking of a message stands, if it stands apart from its content."""
CALLS = ("tool_calls", "function_call")
"""Where a message calls tools: the model wrote that too, and no text says how."""


@dataclass(frozen=True)
class Turn:
    """One message; `thinking` is None where it does not stand apart."""

    role: str
    content: str
    thinking: str | None = None

    def text(self, thinking_format: str) -> str:
        """The content, after the thinking if there is some, as the format puts them together.

        Line breaks that the format writes itself are not written twice: some logs keep those of
        the model at the ends of its thinking, others do not. Without content the thinking was cut,
        and is not closed.

        Args:
            thinking_format: of `Inputs`, with {thinking} and {content}.
        """
        if not self.thinking:
            return self.content
        before, _, rest = thinking_format.partition("{thinking}")
        between, _, after = rest.partition("{content}")
        thinking, content = self.thinking, self.content
        if before.endswith("\n"):
            thinking = thinking.lstrip("\n")
        if not content:
            return f"{before}{thinking}"
        if between.startswith("\n"):
            thinking = thinking.rstrip("\n")
        if between.endswith("\n"):
            content = content.lstrip("\n")
        return f"{before}{thinking}{between}{content}{after}"


def turns(name: str, value: Any) -> list[Turn]:
    """The messages of a field.

    Args:
        name: of the field.
        value: a list of {role, content} or {from, value}; content is text or a list of parts.

    Raises:
        Unusable: no such list, a part that is no text, or a call of a tool.
    """
    if not isinstance(value, list | tuple) or not value:
        raise Unusable("wrong type", f"`{name}` must be a list of messages")
    return [_turn(name, each) for each in value]


def _turn(name: str, message: Any) -> Turn:
    if not isinstance(message, Mapping):
        raise Unusable("wrong type", f"`{name}` must hold messages, got {type(message).__name__}")
    role = message.get("role", message.get("from"))
    if not isinstance(role, str):
        raise Unusable("wrong type", f"a message of `{name}` needs `role` (or `from`)")
    if role in CALLS or any(message.get(key) for key in CALLS):
        raise Unusable("not only text", f"a message of `{name}` calls a tool")
    parts = parts_of(name, message.get("content", message.get("value")))
    apart = next((message[key] for key in THINKING_FIELDS if message.get(key)), None)
    if apart is not None and not isinstance(apart, str):
        raise Unusable("wrong type", f"the thinking of a message of `{name}` must be text")
    return Turn(ROLES.get(role, role), parts.content, parts.thinking or apart)


@dataclass(frozen=True)
class Parts:
    """The text and the thinking of a content."""

    content: str
    thinking: str | None = None


def parts_of(name: str, content: Any) -> Parts:
    """Content as text: given so, or in parts, of which those that think stand apart.

    Raises:
        Unusable: a part is no text (an image, a call of a tool).
    """
    if content is None:
        return Parts("")
    if isinstance(content, str):
        return Parts(content)
    if not isinstance(content, Sequence):
        raise Unusable("wrong type", f"content of `{name}` must be text or parts")
    said: list[str] = []
    thought: list[str] = []
    for part in content:
        kind = part.get("type", "text") if isinstance(part, Mapping) else "text"
        text = _part_text(part)
        if text is None or kind not in (*TEXT_PARTS, *THINKING_PARTS):
            raise Unusable("not only text", f"content of `{name}` has a part of type {kind!r:.40}")
        (thought if kind in THINKING_PARTS else said).append(text)
    return Parts("".join(said), "".join(thought) or None)


def _part_text(part: Any) -> str | None:
    if isinstance(part, str):
        return part
    # What Inspect calls redacted is thinking that only its maker can read.
    if not isinstance(part, Mapping) or part.get("redacted"):
        return None
    found = next((part[key] for key in ("text", *THINKING_PARTS) if key in part), None)
    return found if isinstance(found, str) else None


def plain(messages: Sequence[Turn], thinking_format: str) -> list[dict[str, str]]:
    """Messages as the record has them."""
    return [{"role": each.role, "content": each.text(thinking_format)} for each in messages]


def options_taken(fields: dict[str, Any]) -> dict[str, Any]:
    """What the chat template is told besides the messages, taken out of the fields; often nothing.

    Raises:
        Unusable: variables of the template that have no names.
    """
    options = fields.get(TEMPLATE_OPTIONS) or {}
    if not isinstance(options, Mapping):
        raise Unusable("wrong type", f"`{TEMPLATE_OPTIONS}` must be an object")
    fields.pop(TEMPLATE_OPTIONS, None)
    tools = _listed(fields.get("tools"))
    if tools:
        del fields["tools"]
        options = {**options, "tools": tools}
    return {TEMPLATE_OPTIONS: dict(options)} if options else {}


def _listed(tools: Any) -> list[Any] | None:
    """A list, or one that was written as JSON text."""
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except (ValueError, RecursionError):
            return None
    return tools if isinstance(tools, list) else None
