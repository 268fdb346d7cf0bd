"""Tokenizers are compared by content: differences are named, layout and class do not count."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_tokenizers import byte_level, load, save, unigram

from probing.tokens.adapter import TokenizerAdapter, first_difference


def edited(folder: Path, to: Path, change: Callable[[dict[str, Any]], None]) -> TokenizerAdapter:
    """The tokenizer in `folder` with its tokenizer.json changed."""
    to.mkdir()
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    document = json.loads((to / "tokenizer.json").read_text(encoding="utf-8"))
    change(document)
    (to / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    return TokenizerAdapter.load(str(to))


def swap_tokens(document: dict[str, Any]) -> None:
    vocabulary = document["model"]["vocab"]
    a, b = list(vocabulary)[-2:]
    vocabulary[a], vocabulary[b] = vocabulary[b], vocabulary[a]


def swap_merges(document: dict[str, Any]) -> None:
    merges = document["model"]["merges"]
    merges[3], merges[4] = merges[4], merges[3]


def normalise(document: dict[str, Any]) -> None:
    document["normalizer"] = {"type": "NFC"}


def add_token(document: dict[str, Any]) -> None:
    size = len(document["model"]["vocab"])
    document["added_tokens"].append({**document["added_tokens"][0], "id": size, "content": "<new>"})


def strip_left(document: dict[str, Any]) -> None:
    document["added_tokens"][3]["lstrip"] = True


def prefix_space(document: dict[str, Any]) -> None:
    document["pre_tokenizer"]["add_prefix_space"] = True


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (swap_tokens, r"token 398 is '.*' in one and '.*' in the other"),
        (swap_merges, r"merge 3 is \('.*'\) in one and \('.*'\) in the other"),
        (normalise, r"normalizer is absent in one and \{'type': 'NFC'\} in the other"),
        (add_token, r"token 400 is absent in one and '<new>' in the other"),
        (strip_left, r"flags of token 3 is .*"),
        (prefix_space, r"pre_tokenizer is .*"),
    ],
)
def test_a_difference_in_content_is_named(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], difference: str
) -> None:
    folder = save(byte_level(), tmp_path / "a")
    one, other = TokenizerAdapter.load(str(folder)), edited(folder, tmp_path / "b", change)
    found = first_difference(one, other)
    assert found is not None
    assert re.fullmatch(difference, found)
    assert one.fingerprint != other.fingerprint


def test_unigram_scores_are_content(tmp_path: Path) -> None:
    def lower(document: dict[str, Any]) -> None:
        document["model"]["vocab"][7][1] -= 0.5

    folder = save(unigram(), tmp_path / "a")
    one, other = TokenizerAdapter.load(str(folder)), edited(folder, tmp_path / "b", lower)
    found = first_difference(one, other)
    assert found is not None
    assert found.startswith("score of token 7 is")


def test_class_layout_and_offsets_are_not_content(tmp_path: Path) -> None:
    def relaid(document: dict[str, Any]) -> None:
        document["model"]["merges"] = [" ".join(pair) for pair in document["model"]["merges"]]
        document["pre_tokenizer"]["trim_offsets"] = False
        document["model"]["continuing_subword_prefix"] = ""
        vocabulary = document["model"]["vocab"]
        document["model"]["vocab"] = dict(reversed(vocabulary.items()))
        configuration["tokenizer_class"] = "GPT2Tokenizer"

    folder = save(byte_level(), tmp_path / "a")
    configuration = json.loads((folder / "tokenizer_config.json").read_text())
    one, other = TokenizerAdapter.load(str(folder)), edited(folder, tmp_path / "b", relaid)
    assert first_difference(one, other) is None
    assert one.fingerprint == other.fingerprint


def test_the_chat_template_is_no_vocabulary_but_changes_the_fingerprint(tmp_path: Path) -> None:
    one = load(byte_level(), tmp_path / "a")
    other = load(byte_level(), tmp_path / "b", chat="{{ messages }}")
    assert first_difference(one, other) is None
    assert one.fingerprint != other.fingerprint
