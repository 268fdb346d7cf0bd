"""Carriers and vocabulary as arrays of bytes with offsets, so that reading needs no tokenizer."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Int, Shaped, UInt

from probing.carriers.record import Carrier
from probing.tokens.encoded import EncodedCarrier
from probing.vocabulary import Template

FlatArrays: TypeAlias = dict[str, Shaped[np.ndarray, " entry"]]

CHUNK_ENTRIES = 2**16
SHARD_ENTRIES = 2**22


def carrier_arrays(carriers: Sequence[Carrier], encoded: Sequence[EncodedCarrier]) -> FlatArrays:
    """The arrays of the `carriers` group; entry i belongs to carrier i.

    `record` holds one JSON line a carrier, `token_id` all token ids, `response_text` the text that
    character spans index (nothing where it equals the record's response); each with an `_offset`
    array of one more entry than there are carriers. `response_start` and `seam_moved` are as in
    `EncodedCarrier`.
    """
    if len(carriers) != len(encoded):
        raise ValueError(
            f"every carrier must be encoded, got {len(carriers)} carriers and {len(encoded)} "
            "encoded ones"
        )
    for carrier, tokens in zip(carriers, encoded, strict=True):
        if carrier.carrier_id != tokens.carrier_id:
            raise ValueError(
                "carriers and encoded carriers must stand in the same order, got "
                f"{carrier.carrier_id!r} beside {tokens.carrier_id!r}"
            )
    records = [_record_line(carrier) for carrier in carriers]
    texts = [
        b"" if tokens.response_text == carrier.response else _text_bytes(tokens.response_text)
        for carrier, tokens in zip(carriers, encoded, strict=True)
    ]
    ids = [tokens.token_ids.astype(np.int32) for tokens in encoded]
    return {
        "record": joined(records),
        "record_offset": offsets([len(record) for record in records]),
        "response_text": joined(texts),
        "response_text_offset": offsets([len(text) for text in texts]),
        "token_id": np.concatenate([np.zeros(0, dtype=np.int32), *ids]),
        "token_id_offset": offsets([len(one) for one in ids]),
        "response_start": np.array([one.response_start for one in encoded], dtype=np.int32),
        "seam_moved": np.array([one.seam_moved for one in encoded], dtype=np.bool_),
    }


def vocabulary_arrays(vocabulary_bytes: Sequence[bytes]) -> FlatArrays:
    """The arrays of the `vocabulary` group: the raw bytes of every id, end to end, and offsets."""
    return {
        "bytes": joined(vocabulary_bytes),
        "bytes_offset": offsets([len(one) for one in vocabulary_bytes]),
    }


def joined(pieces: Sequence[bytes]) -> UInt[np.ndarray, " byte"]:
    """Bytes end to end, as uint8."""
    return np.frombuffer(b"".join(pieces), dtype=np.uint8)


def offsets(lengths: Sequence[int]) -> Int[np.ndarray, " edge"]:
    """Where each piece begins, and where the last one ends: one more entry than pieces."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def piece(content: bytes, edges: Int[np.ndarray, " edge"], index: int) -> bytes:
    """Piece `index` of bytes joined end to end."""
    return content[int(edges[index]) : int(edges[index + 1])]


def cut(entries: int) -> tuple[int, int]:
    """Entries of a shard and of a chunk for a flat array of this length; both at least one."""
    chunk = max(1, min(entries, CHUNK_ENTRIES))
    whole = max(1, -(-entries // chunk)) * chunk
    return min(whole, SHARD_ENTRIES // chunk * chunk), chunk


def _record_line(carrier: Carrier) -> bytes:
    # ASCII escapes, so that half of a surrogate pair in a response survives.
    return json.dumps(asdict(carrier), sort_keys=True, ensure_ascii=True).encode() + b"\n"


def carrier_of(line: bytes) -> Carrier:
    """The inverse of the stored record line."""
    record: dict[str, Any] = json.loads(line)
    record["template"] = Template(record["template"])
    for name in ("messages", "prompt_token_ids", "response_token_ids"):
        if record[name] is not None:
            record[name] = tuple(record[name])
    return Carrier(**record)


def _text_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def text_of(content: bytes) -> str:
    """The inverse of the stored text bytes."""
    return content.decode("utf-8", "surrogatepass")
