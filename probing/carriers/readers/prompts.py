"""Prompts of batch input files, kept on disk until the outputs ask for them."""

import json
import sqlite3
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any


class Prompts:
    """What every `custom_id` asked; a file that goes when this is closed."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="probing-prompts-")
        # Autocommit off until closing: it is scratch, and never read by anyone else.
        self._base = sqlite3.connect(Path(self._folder.name) / "prompts.sqlite")
        self._base.execute("create table prompts (id text primary key, body text)")

    def add(self, custom_id: str, body: Mapping[str, Any]) -> None:
        """Keep what an id asked; the last of several with one id counts."""
        row = (custom_id, json.dumps(body))
        self._base.execute("insert or replace into prompts values (?, ?)", row)

    def find(self, custom_id: str) -> dict[str, Any] | None:
        """What an id asked, or None."""
        query = "select body from prompts where id = ?"
        found = self._base.execute(query, (custom_id,)).fetchone()
        return None if found is None else dict(json.loads(found[0]))

    def __enter__(self) -> "Prompts":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._base.close()
        self._folder.cleanup()
