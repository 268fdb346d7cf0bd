"""A plain reading of Inspect's logs, and logs of which a sample is changed."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from packed import parts

from probing.carriers.record import Carrier

LOGS = Path(__file__).parent / "golden" / "logs" / "inspect"
GOLDEN = ("mock.eval", "mock.json", "hf.eval")
Fields = dict[str, Any]


def samples(path: Path) -> Iterator[Fields]:
    """Every sample as it lies there, by its place in the data set, then its epoch."""
    if path.suffix == ".json":
        log = json.loads(path.read_text())
        every = log["samples"]
    else:
        texts = parts(path)
        log = json.loads(texts["_journal/start.json"])
        every = [json.loads(text) for name, text in texts.items() if name.startswith("samples/")]
    ids = log["eval"]["dataset"]["sample_ids"]
    for each in sorted(every, key=lambda sample: (ids.index(sample["id"]), sample["epoch"])):
        yield whole(each, each["attachments"])


def whole(value: Any, attachments: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: whole(item, attachments) for key, item in value.items()}
    if isinstance(value, list):
        return [whole(item, attachments) for item in value]
    if isinstance(value, str) and value.startswith("attachment://"):
        return attachments[value.removeprefix("attachment://")]
    return value


def text_of(message: Fields) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    said = "".join(part["text"] for part in content if part["type"] == "text")
    thought = "".join(part["reasoning"] for part in content if part["type"] == "reasoning")
    return f"<think>\n{thought}\n</think>\n\n{said}" if thought else said


def expected(sample: Fields, task: str) -> Fields:
    *asked, answered = sample["messages"]
    (choice,) = sample["output"]["choices"]
    assert choice["message"] == answered
    said = {
        "messages": tuple({"role": each["role"], "content": text_of(each)} for each in asked),
        "response": text_of(answered),
        "generator": "smollm2-135m-maths",
        "gold": sample["target"] if isinstance(sample["target"], str) else None,
        "correct": {"C": True, "I": False}[sample["scores"]["match"]["value"]],
        "answer": sample["scores"]["match"]["answer"],
        "finish_reason": {"unknown": None}.get(choice["stop_reason"], choice["stop_reason"]),
        "temperature": {"shapes": 0.7, "local": 1.0}[task],
        "difficulty": sample["metadata"]["difficulty"],
        "subject": sample["metadata"]["subject"],
        "source": task,
    }
    return {name: value for name, value in said.items() if value is not None}


def placeless(carriers: tuple[Carrier, ...]) -> list[str]:
    # As text: NaN among the scores is unlike itself.
    found = [{**vars(each), "carrier_id": each.carrier_id.split(":")[-1]} for each in carriers]
    return [repr(each) for each in found]


def altered(folder: Path, change: Callable[[Fields], Any]) -> Path:
    """A log of eight samples, the first of them changed; files have them in another order."""
    log = json.loads((LOGS / "mock.json").read_text())
    change(next(each for each in log["samples"] if (each["id"], each["epoch"]) == ("plain", 1)))
    path = folder / "altered.json"
    path.write_text(json.dumps(log))
    return path
