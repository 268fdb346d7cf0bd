"""docs/python.md: every example gives what the page says."""

import doctest
import json
import re
from pathlib import Path

import pytest
from tiny import tiny_pair

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
RUN = Path(__file__).parents[1] / "cache" / "bundled.zarr"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the page has it: a run, three responses, two models."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "bundled.zarr").symlink_to(RUN, target_is_directory=True)
    pair = tiny_pair(tmp_path / "models")
    pair.trained.rename(tmp_path / "models" / "ssd")
    record = {"problem_id": "p", "prompt": "Sum?", "generator": "ssd"}
    lines = [
        json.dumps({**record, "carrier_id": str(i), "response": "Let x be 3. " * (i + 2)})
        for i in range(3)
    ]
    (tmp_path / "responses.jsonl").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blocks(text: str) -> list[str]:
    found = BLOCK.findall(text)
    assert {language for language, _ in found} == {"pycon"}, "only blocks that are executed"
    return [block for _, block in found]


def failures(text: str) -> list[str]:
    """Of the blocks in their order, in one session, what did not come out as it stands there."""
    said: list[str] = []
    names: dict[str, object] = {}
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    runner = doctest.DocTestRunner(optionflags=flags)
    for number, block in enumerate(blocks(text)):
        test = doctest.DocTestParser().get_doctest(block, names, f"block {number}", None, 0)
        assert test.examples
        runner.run(test, out=said.append, clear_globs=False)
        names = test.globs
    return said


@pytest.mark.usefixtures("folder")
def test_every_example_gives_what_the_page_says() -> None:
    wrong = failures(PAGE.read_text(encoding="utf-8"))
    assert not wrong, "".join(wrong)


def test_an_example_that_is_wrong_is_found() -> None:
    assert failures("```pycon\n>>> 1 + 1\n3\n```\n") != []
    assert failures("```pycon\n>>> 1 / 0\n0\n```\n") != []


def test_the_page_names_every_method() -> None:
    from probing.api import OpenRun

    text = PAGE.read_text(encoding="utf-8")
    methods = [name for name, value in vars(OpenRun).items() if not name.startswith("_")]
    assert [name for name in methods if f"run.{name}" not in text] == []
