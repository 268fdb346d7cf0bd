"""What the readers are given in Python: a path or several, and how logs are read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from interpreter import in_new_interpreter
from logs import jsonl

from probing.carriers.reading import CarrierStream, read_carriers
from probing.run_file import run_settings
from probing.settings import Paths, RunSettings, paths_of

RECORD = {"problem_id": "p", "prompt": "q", "response": "r", "generator": "m"}
SPEC = {"path": "x"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with two files of responses."""
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_bytes(jsonl([{**RECORD, "carrier_id": name}]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (lambda: "a.jsonl", "a"),
        (lambda: Path("a.jsonl"), "a"),
        (lambda: ["a.jsonl"], "a"),
        (lambda: (Path("b.jsonl"), "a.jsonl"), "ba"),
        (lambda: iter(["a.jsonl", Path("b.jsonl")]), "ab"),
        (lambda: ".", "ab"),
    ],
    ids=["text", "path", "list", "tuple", "iterator", "folder"],
)
def test_one_path_is_one_path_and_several_keep_their_order(
    given: Callable[[], Paths], wanted: str
) -> None:
    assert all(type(path) is str for path in paths_of(given(), named="paths"))
    result = read_carriers(given())
    assert [carrier.carrier_id for carrier in result.carriers] == list(wanted)
    stream = CarrierStream(given())
    assert list(stream) == list(result.carriers)
    assert stream.files == result.files


@pytest.mark.parametrize("alone", ["in.jsonl", Path("in.jsonl")])
def test_a_run_takes_one_path_for_a_list_of_it(alone: Any) -> None:
    def run(carriers: Any) -> RunSettings:
        document = {"out": "x", "carriers": carriers, "baseline": SPEC, "others": {"s": SPEC}}
        return run_settings(document, where="here")

    assert run(alone) == run([alone]) == run(["in.jsonl"])
    assert run(alone).carriers == ("in.jsonl",)


WRONG = """
import probing
from probing.carriers.reading import CarrierStream
from probing.settings import ModelSpec, RunSettings

models = {"baseline": ModelSpec(name="b", path="x"), "others": (ModelSpec(name="o", path="x"),)}
alone = RunSettings(out="x", carriers="in.jsonl", **models)
assert alone == RunSettings(out="x", carriers=["in.jsonl"], **models)
for paths in ([], (), "", [""], 3, None, b"x", [b"x"], [3], {"x": 1}, {"x"}, [["x"]]):
    for ask in (
        lambda: probing.read_carriers(paths),
        lambda: CarrierStream(paths),
        lambda: RunSettings(out="x", carriers=paths, **models),
    ):
        try:
            ask()
        except probing.UsageFault as fault:
            print(repr(paths), fault, sep="\\t")
"""


def test_what_is_no_path_is_refused_in_words_where_nothing_checks_types() -> None:
    said = [line.split("\t") for line in in_new_interpreter(WRONG).splitlines()]
    assert len(said) == 3 * 12
    for number, (given, fault) in enumerate(said):
        named = "carriers" if number % 3 == 2 else "paths"
        assert fault.startswith((f"{named} must be a path", f"{named} must name at least one"))
        assert fault.endswith(f", got {given}")
