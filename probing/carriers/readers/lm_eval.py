"""lm-evaluation-harness: `samples_<task>_<date>.jsonl`, a row for every document and filter.

The prompt is as it was sent, templated already where a chat template was used, so none is applied
again. Rows of other filters repeat the same responses: the first row of a document, prompt and
responses counts, and the others are counted as repeated. The model's name stands only in the
sibling `results_*.json`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from probing.carriers.fields import Unusable
from probing.carriers.readers.formats import Convert, Fields, Made, RecordFormat
from probing.carriers.readers.identity import digits
from probing.carriers.readers.rows import Row
from probing.carriers.readers.sources import RESULTS, SAMPLES, Source
from probing.carriers.readers.turns import plain, turns
from probing.settings import Inputs
from probing.vocabulary import Template

REPEATED = "same response, another filter"
TOLD_APART = ("arguments", "resps")
"""What becomes prompt and responses; with the document it says whether a row repeats another."""
SAMPLES_OF = re.compile(
    SAMPLES + r"(?P<task>.+?)(_\d{4}-\d\d-\d\d[^_]*?)?(\.(jsonl|json|ndjson|parquet))?(\.(gz|zst))?"
)
HOTTEST = 1e6
"""No temperature is above it."""
LOADED = ("peft", "delta", "pretrained", "model", "path", "engine")
"""Where the arguments of a model name it, the most telling first: an adapter before its base."""


def _fits(fields: Fields) -> bool:
    return {"doc_id", "resps", "arguments"} <= fields.keys()


def _opened(source: Source, inputs: Inputs) -> Convert:
    model, task = model_name(source), task_name(source)
    seen: set[int] = set()

    def convert(row: Row) -> Iterator[Made]:
        fields = row.fields
        same = [fields[name] for name in ("doc_id", *TOLD_APART)]
        key = hash(json.dumps(same, sort_keys=True))
        if key in seen:
            detail = f"doc_id {fields['doc_id']!s:.40}, filter {fields.get('filter')!r:.40}"
            raise Unusable(REPEATED, detail)
        sent = _sent(fields["arguments"])
        texts = _texts(fields["resps"])
        shared = {
            "problem_id": _problem(fields, task),
            **{name: value for name, value in fields.items() if name not in TOLD_APART},
            **_prompt(sent.get("arg_0"), inputs),
            "generator": model or inputs.generator,
            "gold": _gold(fields.get("gold" if "gold" in inputs.columns else "target")),
            # Of several responses to a document there is one metric, and nobody says whose.
            "correct": _correct(fields) if len(texts) == 1 else None,
            "temperature": _number(sent.get("arg_1"), "temperature"),
            "source": task or fields.get("source"),
        }
        made = [Made({**shared, "response": text}, part) for part, text in texts]
        # A row at fault is none that others could repeat.
        seen.add(key)
        yield from made

    return convert


LM_EVAL = RecordFormat(name="lm-eval", keys="doc_id, arguments, resps", fits=_fits, opened=_opened)


def task_name(source: Source) -> str | None:
    """The task that the name of a file of samples holds; None of another file.

    Examples:
        >>> task_name(Source("sums/samples_my_sums_2000-01-01T00-00-00.000000.jsonl"))
        'my_sums'
    """
    match = SAMPLES_OF.fullmatch(source.name)
    return match["task"] if match is not None else None


def model_name(source: Source) -> str | None:
    """The model that `results_*.json` beside the samples names, or None.

    That of the same date, else the last: a folder may hold evaluations of several days.
    """
    date = source.name.rsplit("_", 1)[-1].split(".jsonl")[0]
    beside = source.beside(f"{RESULTS}*.json")
    for each in sorted(beside, key=lambda each: (date in each.name, each.name), reverse=True):
        try:
            with each.open() as file:
                named = _name_in(json.load(file))
        except (OSError, ValueError, RecursionError):
            continue
        if named is not None:
            return named
    return None


def _name_in(results: Any) -> str | None:
    """The name under which the harness lists the model, else what it was told to load."""
    if not isinstance(results, Mapping):
        return None
    config = results.get("config")
    config = config if isinstance(config, Mapping) else {}
    told = config.get("model_args")
    if isinstance(told, str):
        told = dict(pair.split("=", 1) for pair in told.split(",") if "=" in pair)
    told = told if isinstance(told, Mapping) else {}
    named = [results.get("model_name"), *map(told.get, LOADED), config.get("model")]
    return next((name for name in named if isinstance(name, str) and name), None)


def _problem(fields: Fields, task: str | None) -> str | None:
    """What was asked, by the document: its prompt was templated, for each model differently.

    That is its digest, else its number in the task; None where nobody says which task it was.
    """
    digest = fields.get("doc_hash")
    if isinstance(digest, str) and digest:
        return f"{task}/{digest}" if task else digest
    return f"{task}/{digits(fields['doc_id'])}" if task else None


def _sent(arguments: Any) -> Mapping[str, Any]:
    """What was sent for a document: the first request."""
    if isinstance(arguments, Mapping):
        first = arguments.get("gen_args_0")
        if isinstance(first, Mapping):
            return first
    if isinstance(arguments, list) and arguments and isinstance(arguments[0], list | tuple):
        return {f"arg_{place}": value for place, value in enumerate(arguments[0])}
    raise Unusable("wrong type", "`arguments` must hold gen_args_0 with arg_0: the prompt sent")


def _prompt(sent: Any, inputs: Inputs) -> dict[str, Any]:
    """Text as it was sent, or messages where the harness left the template to a server."""
    if isinstance(sent, list) and len(sent) == 1 and isinstance(sent[0], str):
        sent = sent[0]
    if isinstance(sent, str):
        messages = _messages(sent)
        if messages is None:
            return {"prompt": sent, "template": Template.ALREADY_APPLIED.value}
        sent = messages
    if isinstance(sent, list):
        found = plain(turns("arg_0", sent), inputs.thinking_format)
        return {"messages": found, "template": Template.CHAT.value}
    raise Unusable("wrong type", f"the prompt sent must be text, got {type(sent).__name__}")


def _messages(text: str) -> list[Any] | None:
    """Messages that were written as JSON text; None where it is no such text."""
    if not text.startswith('[{"role"'):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, list) else None


def _texts(resps: Any) -> list[tuple[str, str]]:
    """Every response with its number; "" for the only one."""
    flat = [text for group in resps for text in group] if _is_nested(resps) else None
    if not flat or not all(isinstance(text, str) for text in flat):
        raise Unusable("no response", "`resps` must hold lists of texts (a generating task)")
    if len(flat) == 1:
        return [("", flat[0])]
    return [(str(place), text) for place, text in enumerate(flat)]


def _is_nested(resps: Any) -> bool:
    return isinstance(resps, list) and all(isinstance(group, list) for group in resps)


def _gold(target: Any) -> str | None:
    return None if target is None or isinstance(target, list | dict) else digits(target)


def _correct(fields: Fields) -> bool | None:
    """By the first of its metrics that is 0 or 1."""
    metrics = fields.get("metrics")
    for name in metrics if isinstance(metrics, list) else ():
        value = fields.get(name) if isinstance(name, str) else None
        if isinstance(value, bool | int | float) and value in (0, 1):
            return bool(value)
    return None


def _number(options: Any, name: str) -> float | None:
    value = options.get(name) if isinstance(options, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= HOTTEST else None
