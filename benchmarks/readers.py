"""Read short carriers of every format that is lines, and of Parquet: seconds and peak memory.

Each file is read by `CarrierStream` in a process of its own, so that memory is that of one format.

    python -m benchmarks.readers [--carriers N] [--large MB] [--json F]

The aim is 100,000 carriers in 20 s, and a file of 2 GB (`--large 2000`) within 500 MB.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

REPEATS = 3
READ = "import sys; from benchmarks.readers import read_here; read_here(sys.argv[1:])"
QUESTION = "Tom has {n} apples and buys {m} more at the market. How many apples does he have now?"
ANSWER = (
    "<think>\nHe starts with {n} and adds {m}: {s}.\n</think>\n\nSo the answer is \\boxed{{{s}}}."
)
LARGE_RESPONSE_BYTES = 4000
BLOCK = 10_000

Record = dict[str, Any]


def texts(number: int) -> tuple[str, str, str]:
    """Question, answer and gold answer; no two questions are the same."""
    n, m = number, number % 97
    said = {"n": n, "m": m, "s": n + m}
    return QUESTION.format(**said), ANSWER.format(**said), str(n + m)


def carrier(number: int) -> Record:
    """One of ours."""
    question, answer, gold = texts(number)
    named = {"carrier_id": f"c{number}", "problem_id": f"p{number}", "generator": "m"}
    return {**named, "prompt": question, "response": answer, "gold": gold, "note": number}


def chat(number: int) -> Record:
    """An OpenAI-style chat."""
    question, answer, gold = texts(number)
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns, "model": "m", "gold": gold}


def pair(number: int) -> Record:
    """A prompt beside a completion."""
    question, answer, gold = texts(number)
    return {"prompt": question, "completion": answer, "model": "m", "gold": gold}


def ml_ssd(number: int) -> Record:
    """A row of apple/ml-ssd."""
    question, answer, gold = texts(number)
    rest = {"response": gold, "is_passed": True, "model": "m"}
    return {"prompt": question, "output": answer, **rest}


def lm_eval(number: int) -> Record:
    """A sample of lm-evaluation-harness."""
    question, answer, gold = texts(number)
    sent = {"gen_args_0": {"arg_0": f"{question}\n", "arg_1": {"until": ["\n\n"]}}}
    rest = {"filter": "none", "metrics": ["exact_match"], "exact_match": 1.0, "model": "m"}
    return {
        "doc_id": number, "doc": {"question": question}, "target": gold, "arguments": sent,
        "resps": [[answer]], "filtered_resps": [gold], "prompt_hash": f"{number:064x}", **rest,
    }  # fmt: skip


def batch_input(number: int) -> Record:
    """What a batch asks."""
    asked = {"model": "m", "messages": [{"role": "user", "content": texts(number)[0]}]}
    return {"custom_id": f"r{number}", "method": "POST", "url": "/v1", "body": asked}


def batch_output(number: int) -> Record:
    """What it answers."""
    message = {"role": "assistant", "content": texts(number)[1]}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    response = {"status_code": 200, "body": {"model": "m", "choices": [choice]}}
    return {"custom_id": f"r{number}", "response": response, "error": None}


def large(number: int) -> Record:
    """A chat with a long response."""
    record = chat(number)
    said = record["messages"][1]["content"]
    record["messages"][1]["content"] = said * (LARGE_RESPONSE_BYTES // len(said))
    return record


FORMATS: dict[str, tuple[Callable[[int], Record], ...]] = {
    "carrier": (carrier,),
    "chat": (chat,),
    "prompt + completion": (pair,),
    "ml-ssd": (ml_ssd,),
    "lm-eval": (lm_eval,),
    "batch": (batch_input, batch_output),
}


def write_lines(path: Path, make: Callable[[int], Record], count: int) -> None:
    """So many records, one a line."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(make(number))}\n" for number in range(count))


def write_table(path: Path, make: Callable[[int], Record], count: int) -> None:
    """So many records as rows."""
    blocks = (
        [make(number) for number in range(at, min(at + BLOCK, count))]
        for at in range(0, count, BLOCK)
    )
    first = pyarrow.Table.from_pylist(next(blocks))
    with pyarrow.parquet.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        for block in blocks:
            writer.write_table(pyarrow.Table.from_pylist(block, schema=first.schema))


def logs(folder: Path, count: int) -> Iterator[tuple[str, list[Path]]]:
    """Every log, by name, written as it is asked for."""
    for name, makers in FORMATS.items():
        paths = [folder / f"{maker.__name__}.jsonl" for maker in makers]
        for path, make in zip(paths, makers, strict=True):
            write_lines(path, make, count)
        yield name, paths
    path = folder / "chat.parquet"
    write_table(path, chat, count)
    yield "chat, Parquet", [path]


def large_chat(folder: Path, megabytes: int) -> Path:
    """A file of that size."""
    path, number = folder / "large.jsonl", 0
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < megabytes * 1_000_000:
            for _ in range(1000):
                file.write(f"{json.dumps(large(number))}\n")
                number += 1
    return path


def read_here(paths: list[str]) -> None:
    """In a process of its own: read, and print carriers, skipped, seconds and peak memory."""
    from probing.carriers.reading import CarrierStream
    from probing.carriers.record import Carrier

    start = time.perf_counter()
    kept = skipped = 0
    for outcome in CarrierStream(paths):
        if isinstance(outcome, Carrier):
            kept += 1
        else:
            skipped += 1
    seconds = time.perf_counter() - start
    print(json.dumps([kept, skipped, seconds, peak_mb()]))


def peak_mb() -> float:
    """Most memory of this process; `ru_maxrss` would count that of the one that started it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e3


def measured(paths: list[Path], *, repeats: int) -> dict[str, float]:
    """Medians over several processes."""
    command = [sys.executable, "-c", READ, *map(str, paths)]
    runs = []
    for _ in range(repeats):
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        runs.append(json.loads(done.stdout))
    kept, skipped, seconds, peak = (statistics.median(column) for column in zip(*runs, strict=True))
    return {
        "carriers": kept,
        "skipped": skipped,
        "seconds": round(seconds, 2),
        "peak_mb": round(peak, 1),
        "file_mb": round(sum(path.stat().st_size for path in paths) / 1e6, 1),
    }


def main() -> None:
    """Write logs into a temporary folder, read and print."""
    # Only here: what it imports would count as memory of the reading process.
    from benchmarks import common

    parser = common.parser(__doc__)
    parser.add_argument("--carriers", type=int, default=100_000)
    parser.add_argument(
        "--large", type=int, default=0, metavar="MB", help="and a file of that size"
    )
    asked = parser.parse_args()
    print(common.machine())
    print(f"{'log':<24}{'carriers':>10}{'seconds':>10}{'peak MB':>10}{'file MB':>10}")
    found: dict[str, dict[str, float]] = {}

    def told(name: str, paths: list[Path], repeats: int) -> None:
        found[name] = row = measured(paths, repeats=repeats)
        cells = [f"{row[key]:>10,}" for key in ("carriers", "seconds", "peak_mb", "file_mb")]
        print(f"{name:<24}{''.join(cells)}", flush=True)
        for path in paths:
            path.unlink()

    with tempfile.TemporaryDirectory(prefix="probing-readers-") as folder:
        for name, paths in logs(Path(folder), asked.carriers):
            told(name, paths, REPEATS)
        if asked.large:
            told(f"chat, {asked.large} MB", [large_chat(Path(folder), asked.large)], 1)
    common.write_json(asked.json, found)


if __name__ == "__main__":
    main()
