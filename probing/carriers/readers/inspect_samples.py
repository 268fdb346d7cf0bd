"""Samples of Inspect's logs, `.eval` (a zip) and `.json`, each read through Inspect's own library.

The library gets every sample as a log of that one: what an earlier version wrote it brings to the
present shape, and it puts back the strings that a log keeps apart (attachments). A sample that is
damaged costs itself, and of an `.eval` one is held at a time.
"""

import io
import itertools
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from probing.carriers.readers.opening import ZIP_MAGIC, opened, raw_start
from probing.carriers.readers.rows import BadRow, Row, Rows
from probing.carriers.readers.sources import Source, listed
from probing.errors import MissingPackage, UnreadableInput

OF_THE_LOG = "log"
"""Field under which each sample carries what its log says for all."""
KEPT = {"id", "epoch", "input", "target", "messages", "output", "scores", "metadata"}
OF_A_CALL = {"model", "role", "config", "output"}

LOG_START = re.compile(rb'\{\s*"version"\s*:')
EVAL_OBJECT = re.compile(rb'"eval"\s*:\s*\{')
LOG_PARTS = ("header.json", "_journal/start.json")
"""One of them is in every packed log: that of a run that ended, that of one that did not."""
SAMPLE_PART = re.compile(r"samples/(.*)_epoch_(\d+)\.json", re.DOTALL)


class _Key(NamedTuple):
    """Which sample: its id and epoch, both as text."""

    name: str
    epoch: str


@dataclass(frozen=True)
class _Log:
    """A log as it lies there: what it says of all samples, and how to get each."""

    said: dict[str, Any]
    samples: Sequence[tuple[_Key, Callable[[], Any]]]


def looks_like_inspect(head: bytes) -> bool:
    """Whether text that starts like this is a log of Inspect."""
    return LOG_START.match(head) is not None and EVAL_OBJECT.search(head) is not None


def holds_inspect(names: Sequence[str]) -> bool:
    """Whether a zip with these parts is a log of Inspect."""
    return any(part in names for part in LOG_PARTS)


def read_inspect(source: Source) -> Rows:
    """Yield every sample, by its place in the data set, then its epoch; `line` is its number.

    A damaged sample is a `BadRow`. So are, together, those that the run should have had and that
    are not in its log.

    Raises:
        MissingPackage: the package inspect_ai is not installed.
        UnreadableInput: it is no log of Inspect, or damaged as a whole.
    """
    try:
        from inspect_ai.log import read_eval_log
    except ImportError as error:
        raise MissingPackage(
            f"{source.place} is a log of Inspect, read by the package inspect_ai, which is not "
            "installed; run `pip install 'ssd-probing[inspect]'`"
        ) from error

    def understood(log: dict[str, Any], samples: list[Any] | None) -> Any:
        stream = io.BytesIO(json.dumps({**log, "samples": samples}).encode())
        return read_eval_log(stream, format="json", resolve_attachments="core")

    with ExitStack() as held:
        try:
            log = held.enter_context(_opened_log(source))
            header = understood(log.said, None)
        except Exception as error:
            # What is raised of a file that is no log, or a damaged one, has no type in common.
            raise UnreadableInput(
                f"{source.place} cannot be read as a log of Inspect: {_said(error)}; write it again"
            ) from error
        # Neither results nor ids of all samples are looked at again for each.
        one = {"version": header.version, "eval": {**log.said["eval"], "dataset": {}}}
        yield from _rows(log, header, lambda sample: understood(one, [sample]).samples[0])


def _rows(log: _Log, header: Any, understood: Callable[[Any], Any]) -> Rows:
    names, epochs = header.eval.dataset.sample_ids or (), header.eval.config.epochs or 1
    every = itertools.product(names, range(1, epochs + 1))
    due = {_Key(str(name), str(epoch)): place for place, (name, epoch) in enumerate(every)}
    shared = {"task": header.eval.task, "model": header.eval.model}
    line = 0
    for line, (key, got) in enumerate(
        sorted(log.samples, key=lambda each: due.get(each[0], len(due))), start=1
    ):
        try:
            fields = _fields(understood(got()))
        except Exception as error:
            detail = f"sample {key.name!r:.60} of epoch {key.epoch:.20} cannot be read"
            yield BadRow(line, "damaged sample", f"{detail}: {_said(error)}")
        else:
            yield Row(line, {**fields, OF_THE_LOG: shared})
    there = {key for key, _ in log.samples}
    missing = [f"{key.name!r:.60} of epoch {key.epoch}" for key in due if key not in there]
    if missing:
        detail = f"{len(missing):,} of {len(due):,} samples are not in the log of a run with status"
        yield BadRow(line + 1, "missing samples", f"{detail} {header.status}: {listed(missing)}")


def _fields(sample: Any) -> dict[str, Any]:
    """A sample in the types that JSON has; of its events only the calls of a model."""
    calls = [each for each in sample.events if each.event == "model"]
    return {
        **sample.model_dump(mode="json", include=KEPT),
        "calls": [each.model_dump(mode="json", include=OF_A_CALL) for each in calls],
    }


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


@contextmanager
def _opened_log(source: Source) -> Iterator[_Log]:
    """Open a log, told by its content; an `.eval` stays open."""
    if raw_start(source).startswith(ZIP_MAGIC):
        with source.open() as file, zipfile.ZipFile(file) as packed:
            yield _packed(packed)
    else:
        with opened(source) as stream:
            said = json.load(stream)
        samples = said.pop("samples", None) or []
        yield _Log(said, [(_key(each), partial(_itself, each)) for each in samples])


def _packed(packed: zipfile.ZipFile) -> _Log:
    def part(name: str) -> Any:
        # Python checks the sum of what it unpacks; zstandard it was taught by Inspect.
        return json.loads(packed.read(name))

    # A sample that ran again stands there twice, and the last one counts.
    names = dict.fromkeys(packed.namelist())
    found = [(match, name) for name in names if (match := SAMPLE_PART.fullmatch(name))]
    said = part(next(name for name in LOG_PARTS if name in names))
    return _Log(said, [(_Key(*match.groups()), partial(part, name)) for match, name in found])


def _key(sample: Any) -> _Key:
    fields = sample if isinstance(sample, dict) else {}
    return _Key(str(fields.get("id")), str(fields.get("epoch")))


def _itself(sample: Any) -> Any:
    return sample
