"""Small logs of every format, and ways to write them down."""

import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import zstandard

from probing.carriers.reading import CarrierStream, read_carriers
from probing.carriers.record import Carrier, ReadResult, Skipped
from probing.settings import Inputs

Record = dict[str, Any]
QUESTIONS = ("What is 3 + 4?", "Let x be 5. What is 2 x? 日本語 🙂")


def carrier_records(generator: str = "m") -> list[Record]:
    return [
        {
            "carrier_id": f"{generator}{n}", "problem_id": f"p{n}", "prompt": question,
            "response": f"\\boxed{{{n}}}", "generator": generator, "gold": "7", "note": {"n": n},
        }
        for n, question in enumerate(QUESTIONS)
    ]  # fmt: skip


def chat_records(generator: str = "m") -> list[Record]:
    return [
        {
            "messages": [
                {"role": "user", "content": question},
                {"role": "assistant", "content": f"so {n}"},
            ],
            "model": generator,
            "gold": "7",
            "note": {"n": n},
        }
        for n, question in enumerate(QUESTIONS)
    ]


def pair_records(generator: str = "m") -> list[Record]:
    return [
        {"prompt": question, "completion": f"so {n}", "model": generator, "is_correct": n == 0}
        for n, question in enumerate(QUESTIONS)
    ]


def ml_ssd_records(generator: str = "m") -> list[Record]:
    return [
        {
            "prompt": question, "output": f"so {n}", "response": "of the data", "is_passed": True,
            "generator": generator,
        }
        for n, question in enumerate(QUESTIONS)
    ]  # fmt: skip


def lm_eval_records(model: str = "m") -> list[Record]:
    """Two filters a document, as the harness writes them; it names no model in a record."""
    return [
        {
            "doc_id": n, "doc": {"question": question}, "target": "7",
            "arguments": {
                "gen_args_0": {
                    "arg_0": f"Q: {question}\nA:",
                    "arg_1": {"until": ["Q:"], "temperature": 0.5},
                }
            },
            "resps": [[f"so {n}"]], "filtered_resps": [str(n)], "filter": name,
            "metrics": ["exact_match"], "exact_match": float(n), "doc_hash": f"d{n}",
            "prompt_hash": f"q{n}", "target_hash": "t", "model": model,
        }
        for n, question in enumerate(QUESTIONS)
        for name in ("strict-match", "flexible-extract")
    ]  # fmt: skip


def batch_input(model: str = "m") -> list[Record]:
    return [
        {
            "custom_id": f"r{n}", "method": "POST", "url": "/v1/chat/completions",
            "body": {
                "model": model, "messages": [{"role": "user", "content": question}],
                "temperature": 0.5, "max_tokens": 9,
            },
        }
        for n, question in enumerate(QUESTIONS)
    ]  # fmt: skip


def batch_output(model: str = "m", *, ids: bool = False) -> list[Record]:
    made = []
    for n in range(len(QUESTIONS)):
        choice: Record = {
            "index": 0,
            "message": {"role": "assistant", "content": f"so {n}", "reasoning_content": None},
            "finish_reason": "stop",
        }
        body: Record = {"id": "x", "model": model, "choices": [choice], "usage": {"total": 3}}
        if ids:
            choice["token_ids"], body["prompt_token_ids"] = [5, 6], [7, 8, n]
        made.append(
            {
                "id": f"b{n}", "custom_id": f"r{n}", "error": None,
                "response": {"status_code": 200, "request_id": "q", "body": body},
            }
        )  # fmt: skip
    return made


RECORDS: dict[str, Callable[[], list[Record]]] = {
    "carrier": carrier_records,
    "chat": chat_records,
    "pair": pair_records,
    "ml-ssd": ml_ssd_records,
    "lm-eval": lm_eval_records,
    "batch": lambda: batch_output(ids=True),
}
"""Logs that need no other file."""


def jsonl(records: Sequence[Record]) -> bytes:
    return b"".join(json.dumps(each, ensure_ascii=False).encode() + b"\n" for each in records)


def parquet(records: Sequence[Record]) -> bytes:
    target = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(records)), target)
    return target.getvalue()


ENDINGS: dict[str, Callable[[Sequence[Record]], bytes]] = {
    ".jsonl": jsonl,
    ".jsonl.gz": lambda records: gzip.compress(jsonl(records), mtime=0),
    ".jsonl.zst": lambda records: zstandard.compress(jsonl(records)),
    ".parquet": parquet,
}


def write(path: Path, records: Sequence[Record]) -> Path:
    """The records as the ending of the path says."""
    ending = next(end for end in sorted(ENDINGS, key=len, reverse=True) if path.name.endswith(end))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(ENDINGS[ending](records))
    return path


def read(*paths: Path | str, **inputs: Any) -> ReadResult:
    """Read twice, whole and as a stream, and see that both say the same and lose nothing."""
    given = [str(path) for path in paths]
    result = read_carriers(given, inputs=Inputs(**inputs))
    stream = CarrierStream(given, inputs=Inputs(**inputs))
    outcomes = list(stream)
    # As text: NaN, which a log may hold, is unlike itself.
    carriers = [each for each in outcomes if isinstance(each, Carrier)]
    assert list(map(repr, carriers)) == list(map(repr, result.carriers))
    assert [each for each in outcomes if isinstance(each, Skipped)] == list(result.skipped)
    assert stream.files == result.files
    check_nothing_lost(result)
    return result


def check_nothing_lost(result: ReadResult) -> None:
    """Every record is kept, skipped by name or a prompt, in each file and in all."""
    assert sum(each.records for each in result.files) == result.rows_read
    assert sum(each.kept for each in result.files) == len(result.carriers)
    assert sum(each.skipped for each in result.files) == len(result.skipped)
    for each in result.skipped:
        assert each.file
        assert each.reason
        assert 0 < len(each.detail) < 1500
    for name in {each.file for each in result.files}:
        files = [each for each in result.files if each.file == name]
        of_it = [each for each in result.skipped if each.file == name]
        records = sum(each.records for each in files)
        responses = sum(each.responses for each in files)
        whole = sum(each.line == 0 for each in of_it)
        assert responses == sum(each.kept + each.skipped for each in files) - whole
        # A record holds at least one response, unless it asks.
        assert responses >= records - sum(each.prompts for each in files)
        assert all(each.line >= 0 for each in of_it)


def plainly(carrier: Carrier) -> dict[str, Any]:
    """What a carrier says that is not left at its default, without its place."""
    default = Carrier(carrier_id="", problem_id="", response="", generator="")
    names = [name for name in vars(carrier) if name not in ("carrier_id", "problem_id")]
    return {
        name: getattr(carrier, name)
        for name in names
        if getattr(carrier, name) != getattr(default, name)
    }
