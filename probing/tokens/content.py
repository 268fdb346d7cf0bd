"""What a tokenizer is made of, compared by content and not by class."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

_OFFSETS_ONLY = frozenset({"trim_offsets"})
"""Settings that move reported offsets and no id."""


@dataclass(frozen=True)
class TokenizerContent:
    """The parts of a fast tokenizer that decide which ids a text becomes and what an id is.

    Attributes:
        tokens: the string of every id that has one, as the tokenizer writes it.
        added: flags of the added and special tokens (`special`, `lstrip`, ...), by id.
        merges: pairs of a BPE model in order of rank; empty for other models.
        scores: of a unigram model, by id; empty for other models.
        model: type and flags of the model (`byte_fallback`, `unk_token`, ...).
        pipeline: `normalizer` and `pre_tokenizer`.
        decoder: how token strings become text; None when the tokenizer has none.
    """

    tokens: dict[int, str]
    added: dict[int, Json]
    merges: tuple[tuple[str, str], ...]
    scores: tuple[float, ...]
    model: Json
    pipeline: Json
    decoder: Json | None

    def digest(self, *, extra: Json) -> str:
        """SHA-256 over all of it but the decoder, and over `extra`."""
        content = {
            "tokens": sorted(self.tokens.items()),
            "added": sorted(self.added.items()),
            "merges": self.merges,
            "scores": self.scores,
            "model": self.model,
            "pipeline": self.pipeline,
            "extra": extra,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def parse_content(tokenizer_json: str) -> TokenizerContent:
    """Read the serialised form of a fast tokenizer (a `tokenizer.json`)."""
    document = json.loads(tokenizer_json)
    model = document["model"]
    added = {entry["id"]: entry for entry in document["added_tokens"]}
    tokens = _model_tokens(model["vocab"])
    tokens.update({index: entry["content"] for index, entry in added.items()})
    return TokenizerContent(
        tokens=tokens,
        added={
            index: {key: value for key, value in entry.items() if key not in ("id", "content")}
            for index, entry in added.items()
        },
        merges=tuple(_pair(merge) for merge in model.get("merges", ())),
        scores=tuple(score for _, score in model["vocab"]) if _is_unigram(model) else (),
        model=_plain({key: model[key] for key in model if key not in ("vocab", "merges")}),
        pipeline={key: _plain(document[key]) for key in ("normalizer", "pre_tokenizer")},
        decoder=document["decoder"],
    )


def parts_of(component: Json | None) -> Iterator[Json]:
    """The steps of a decoder, pre-tokenizer or normaliser, sequences laid flat."""
    if component is None:
        return
    inner = next(
        (
            component[key]
            for key in ("decoders", "pretokenizers", "normalizers")
            if key in component
        ),
        None,
    )
    if inner is None:
        yield component
        return
    for part in inner:
        yield from parts_of(part)


def content_difference(a: TokenizerContent, b: TokenizerContent) -> str | None:
    """The first difference between two tokenizers, in words; None where there is none."""
    return (
        _by_id(a.tokens, b.tokens, what="token")
        or _by_id(a.added, b.added, what="flags of token")
        or _by_id(dict(enumerate(a.merges)), dict(enumerate(b.merges)), what="merge")
        or _by_id(dict(enumerate(a.scores)), dict(enumerate(b.scores)), what="score of token")
        or _by_name(a.model, b.model)
        or _by_name(a.pipeline, b.pipeline)
    )


def _model_tokens(vocab: Json | list[list[Any]]) -> dict[int, str]:
    if isinstance(vocab, dict):
        return {index: token for token, index in vocab.items()}
    return {index: entry[0] for index, entry in enumerate(vocab)}


def _is_unigram(model: Json) -> bool:
    return isinstance(model["vocab"], list)


def _pair(merge: str | list[str]) -> tuple[str, str]:
    # Older files write a merge as one string, and then neither side holds a space.
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _plain(value: Any) -> Any:
    """Drop what does not change ids: offset settings, and the spellings "" and null of nothing."""
    if isinstance(value, dict):
        return {
            key: _plain(inner)
            for key, inner in value.items()
            if key not in _OFFSETS_ONLY and inner not in ("", None)
        }
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value


def _by_id(a: dict[int, Any], b: dict[int, Any], *, what: str) -> str | None:
    if a == b:
        return None
    index = min(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))
    return f"{what} {index} is {_show(a, index)} in one and {_show(b, index)} in the other"


def _by_name(a: Json, b: Json) -> str | None:
    for name in sorted(a.keys() | b.keys()):
        if a.get(name) != b.get(name):
            return f"{name} is {_show(a, name)} in one and {_show(b, name)} in the other"
    return None


def _show(values: dict[Any, Any], key: Any) -> str:
    if values.get(key) is None:
        return "absent"
    text = repr(values[key])
    return text if len(text) <= 80 else f"{text[:77]}..."
