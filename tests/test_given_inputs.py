"""What the readers are given in Python: a path or several, and how logs are read."""

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from interpreter import in_new_interpreter
from logs import jsonl

import probing
from probing.carriers.readers.sources import DATASET_MARKS
from probing.carriers.reading import CarrierStream, read_carriers
from probing.run_file import run_settings
from probing.settings import Paths, RunSettings, paths_of
from probing.vocabulary import Template

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


# -- How logs are read ---------------------------------------------------------------------------


SAID: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"generator": "m"}, {"prompt": "q", "response": "r"}),
    ({"generator": "m", "template": "raw"}, {"prompt": "q", "response": "r"}),
    ({"names": {"logged": "m"}}, {"prompt": "q", "response": "r", "model": "logged"}),
    ({"columns": {"prompt": "ask"}, "generator": "m"}, {"ask": "q", "response": "r"}),
]


@pytest.mark.parametrize(("said", "record"), SAID)
def test_inputs_are_taken_as_settings_and_as_the_table_of_a_run_file(
    tmp_path: Path, said: dict[str, Any], record: dict[str, str]
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(jsonl([record]))
    typed = said | ({"template": Template(said["template"])} if "template" in said else {})
    wanted = read_carriers(path, inputs=probing.Inputs(**typed))
    assert [carrier.generator for carrier in wanted.carriers] == ["m"]
    assert wanted.carriers[0].template.value == said.get("template", "chat")
    for given in (said, MappingProxyType(said)):
        assert read_carriers(path, inputs=given) == wanted
        assert list(CarrierStream(path, inputs=given)) == list(wanted.carriers)


WRONG_INPUTS = """
import probing
from probing.carriers.reading import CarrierStream
from probing.vocabulary import Template

# A text where a template is meant is as good as in a run file.
raw = CarrierStream("absent.jsonl", inputs=probing.Inputs(template="raw"))
assert raw._inputs.template is Template.RAW
for inputs in (
    None, "auto", 3, ["generator"], {"generatorr": "m"}, {"generator": 3}, {"names": ["m"]},
    {"template": "mild"}, {"thinking_format": "x"}, {"generator": object}, {3: object()},
    probing.Inputs(generator=3), probing.Inputs(template="mild"), probing.Inputs(columns=[3]),
):
    for ask in (probing.read_carriers, CarrierStream):
        try:
            ask("absent.jsonl", inputs=inputs)
        except probing.UsageFault as fault:
            print(fault)
"""


def test_inputs_of_a_wrong_type_are_refused_in_words() -> None:
    said = in_new_interpreter(WRONG_INPUTS).splitlines()
    assert len(said) == 2 * 14
    assert all(line.startswith("inputs") for line in said)
    assert "inputs takes Inputs, or a dict as [inputs] of a run file, got 'auto'" in said
    known = "(known here: format, generator, names, template, columns, thinking_format)"
    assert any("generatorr" in line and known in line for line in said)


# -- Ids that are made ---------------------------------------------------------------------------


def ids(given: Paths) -> list[str]:
    return [carrier.carrier_id for carrier in read_carriers(given).carriers]


def test_one_file_has_one_id_however_its_path_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "c" / "dd"
    inner.mkdir(parents=True)
    path = inner / "x.jsonl"
    path.write_bytes(jsonl([{"prompt": "q", "response": "r", "model": "m"}]))
    monkeypatch.chdir(tmp_path)
    written = [
        "c/dd/x.jsonl", "./c/dd/x.jsonl", "c//dd/../dd/x.jsonl", str(path),
        f"../{tmp_path.name}/c/dd", f"{tmp_path}/./c/dd/x.jsonl", "c", ".", "c/",
        "./c/*/x.jsonl", "**/x.jsonl", str(tmp_path),
    ]  # fmt: skip
    assert {each: ids(each) for each in written} == {each: ["c/dd/x.jsonl:1"] for each in written}
    # From elsewhere it is absolute, and as constant.
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    for each in ("../c/dd/x.jsonl", "../c", str(path), f"{tmp_path}/c/../c"):
        assert ids(each) == [f"{path}:1"]
    # A folder that is called like the beginning of another does not hold it.
    (tmp_path / "c" / "d").mkdir()
    monkeypatch.chdir(tmp_path / "c" / "d")
    assert ids("../dd") == [f"{path}:1"]
    assert ids(f"file://{path}") == [f"file://{path}:1"]


# -- A dataset whose package is not there --------------------------------------------------------


NO_DATASETS = """
import sys
import probing
from probing.errors import MissingPackage, RecordFault

sys.modules["datasets"] = None
folder = sys.argv[1]
result = probing.read_carriers(folder)
print([carrier.carrier_id for carrier in result.carriers])
print([(each.reason, each.file, each.line) for each in result.skipped])
print("pip install 'ssd-probing[datasets]'" in result.skipped[0].detail, result.files_left_out)
for given, strict, expected in (
    (folder + "/set", False, MissingPackage),
    (folder, True, RecordFault),
    ([folder + "/in.jsonl", folder + "/set"], False, MissingPackage),
    (folder + "/*t", False, probing.ProbingError),
):
    try:
        probing.read_carriers(given, strict=strict)
    except expected as fault:
        print("pip install 'ssd-probing[datasets]'" in str(fault))
"""


def test_a_dataset_found_in_a_folder_without_its_package_is_skipped_by_name(
    tmp_path: Path,
) -> None:
    (tmp_path / "in.jsonl").write_bytes(jsonl([{**RECORD, "carrier_id": "a"}]))
    (tmp_path / "set").mkdir()
    for name in DATASET_MARKS:
        (tmp_path / "set" / name).write_text("{}", encoding="utf-8")
    program = NO_DATASETS.replace("sys.argv[1]", repr(str(tmp_path)))
    assert in_new_interpreter(program).splitlines() == [
        "['a']",
        f"[('missing package', {str(tmp_path / 'set')!r}, 0)]",
        "True 1",
        *["True"] * 4,
    ]
