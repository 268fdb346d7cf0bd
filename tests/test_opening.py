"""Commits that somebody made up are refused by name, however they are wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pages_run import write_pages_run

from probing.errors import CorruptRun
from probing.store.objects import digest_of, sealed_document
from probing.store.opening import open_committed
from probing.store.place import place_of

UNIT, FINISH = "commits/00000", "commits/finish"


def rewritten(path: Path, change: Callable[[dict[str, Any]], bytes]) -> None:
    """Replace the first unit's commit, and let the last commit name what stands there now."""
    unit, finish = path / UNIT / "zarr.json", path / FINISH / "zarr.json"
    attributes = json.loads(unit.read_bytes())["attributes"]
    attributes.pop("digest")
    unit.write_bytes(change(attributes))
    last = json.loads(finish.read_bytes())["attributes"]
    last.pop("digest")
    last["commits"][UNIT] = digest_of(unit.read_bytes())._asdict()
    finish.write_bytes(sealed_document(last))


def renamed(name: str) -> Callable[[dict[str, Any]], bytes]:
    def change(attributes: dict[str, Any]) -> bytes:
        _, digest = attributes["objects"].popitem()
        attributes["objects"][name] = digest
        return sealed_document(attributes)

    return change


def with_digest(**parts: object) -> Callable[[dict[str, Any]], bytes]:
    def change(attributes: dict[str, Any]) -> bytes:
        name = next(iter(attributes["objects"]))
        attributes["objects"][name] |= parts
        return sealed_document(attributes)

    return change


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda _: b"not JSON", id="not JSON"),
        pytest.param(lambda _: b'{"attributes": []}', id="a list"),
        pytest.param(lambda a: json.dumps({"attributes": a}).encode(), id="no digest"),
        pytest.param(lambda a: sealed_document({**a, "objects": [1]}), id="objects a list"),
        pytest.param(lambda a: sealed_document({**a, "more": 1}), id="one field more"),
        pytest.param(lambda a: sealed_document({"unit": 0}), id="fields missing"),
        pytest.param(with_digest(bytes="9"), id="length a text"),
        pytest.param(with_digest(sha256=None), id="no sum"),
        pytest.param(with_digest(more=1), id="one part more"),
        pytest.param(renamed("a\0b"), id="NUL"),
        pytest.param(renamed("a" * 5000), id="a long name"),
        pytest.param(renamed("\ud800"), id="half a character"),
        pytest.param(renamed("../../etc/passwd"), id="up"),
        pytest.param(renamed("/etc/passwd"), id="absolute"),
    ],
)
def test_a_made_up_commit_is_a_corrupt_run(
    tmp_path: Path, change: Callable[[dict[str, Any]], bytes]
) -> None:
    path = tmp_path / "made-up.zarr"
    write_pages_run(path, problems=4)
    rewritten(path, change)
    with pytest.raises(CorruptRun, match=f"{UNIT}/zarr.json"):
        open_committed(place_of(str(path)))


def test_a_rewritten_commit_opens(tmp_path: Path) -> None:
    path = tmp_path / "same.zarr"
    write_pages_run(path, problems=4)
    rewritten(path, sealed_document)
    assert open_committed(place_of(str(path))).finish is not None
