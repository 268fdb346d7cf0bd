"""Prompts of batch input files, kept on disk until the outputs ask for them."""

import json
import sqlite3
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from probing.errors import UnreadableInput

ASKED = ("messages", "prompt", "tools", "chat_template_kwargs")
"""Of the body of a request, what decides the text of the prompt."""


class Prompts:
    """What every `custom_id` asked; a file that goes when this is closed.

    Batches of several models ask the same under the same ids: then what differs, such as the
    model's name, is not known of an answer. Two prompts under one id are never told apart.
    """

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._base: sqlite3.Connection | None = None

    def add(self, custom_id: str, body: Mapping[str, Any]) -> bool:
        """Keep what an id asked; False where another prompt has the id already.

        Raises:
            UnreadableInput: the folder for temporary files cannot be written.
        """
        try:
            earlier = self._stored(custom_id)
            kept = dict(body) if earlier is None else _common(earlier, body)
            self._put(custom_id, kept)
        except (sqlite3.Error, OSError) as error:
            raise UnreadableInput(
                f"prompts of a batch are kept in a temporary file, which cannot be written: {error}"
                "; free space, or set TMPDIR to a folder that has some"
            ) from error
        return kept is not None

    def find(self, custom_id: str) -> dict[str, Any] | None:
        """What an id asked, empty where that cannot be told; None where it asked nothing."""
        found = self._stored(custom_id)
        return found and dict(found)

    def _stored(self, custom_id: str) -> dict[str, Any] | None:
        if self._base is None:
            return None
        query = "select body from prompts where id = ?"
        found = self._base.execute(query, (_key(custom_id),)).fetchone()
        return None if found is None else dict(json.loads(found[0]))

    def _put(self, custom_id: str, body: Mapping[str, Any] | None) -> None:
        if self._base is None:
            self._folder = tempfile.TemporaryDirectory(prefix="probing-prompts-")
            self._base = sqlite3.connect(Path(self._folder.name) / "prompts.sqlite")
            self._base.execute("create table prompts (id blob primary key, body text)")
        row = (_key(custom_id), json.dumps(body or {}))
        self._base.execute("insert or replace into prompts values (?, ?)", row)

    def __enter__(self) -> "Prompts":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._base is not None:
            self._base.close()
        if self._folder is not None:
            self._folder.cleanup()


def _key(custom_id: str) -> bytes:
    # An id may hold what is no Unicode: a lone surrogate.
    return custom_id.encode("utf-8", "surrogatepass")


def _common(earlier: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any] | None:
    """What two requests with one id both say; None where they ask different things."""
    if not earlier or any(earlier.get(name) != body.get(name) for name in ASKED):
        return None
    return {name: value for name, value in earlier.items() if body.get(name) == value}
