"""`import probing` names what is public, and imports it late."""

import ast
import importlib
import tomllib
from pathlib import Path

import pytest
from interpreter import ROOT, in_new_interpreter

import probing

NAMES_IN_USE = """
import sys
import probing
{statement}
print(" ".join(name for name in {heavy!r} if name in sys.modules))
"""

HEAVY = (
    "pandas", "zarr", "torch", "streamlit", "pyarrow", "numpy", "pydantic", "transformers",
    "altair", "scipy", "typer",
)  # fmt: skip


def imported(statement: str) -> set[str]:
    return set(in_new_interpreter(NAMES_IN_USE.format(statement=statement, heavy=HEAVY)).split())


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert imported("probing.__version__; dir(probing)") <= {"numpy"}
    assert imported("") == set()


@pytest.mark.parametrize("name", ["pandas", "zarr", "streamlit", "pyarrow", "torch"])
def test_that_check_can_fail(name: str) -> None:
    assert name in imported(f"import {name}")


def test_asking_a_run_needs_no_torch_and_scoring_does() -> None:
    ask = "run = probing.open_run('cache/bundled.zarr'); run.positions(); run.examples(n=1)"
    found = imported(f"{ask}; run.verdict(); probing.read_carriers; probing.score")
    assert {"pandas", "zarr"} <= found
    assert not {"torch", "transformers", "streamlit", "typer"} & found


def test_without_torch_scoring_says_what_to_install() -> None:
    program = (
        "import sys, probing\nprobing.score\nsys.modules['torch'] = None\n"
        "spec = {'path': 'x'}\n"
        "try:\n    probing.score({'out': 'x', 'carriers': ['x'], 'baseline': spec, "
        "'others': {'b': spec}})\n"
        "except probing.ProbingError as fault:\n    print(type(fault).__name__, fault)\n"
    )
    said = in_new_interpreter(program)
    assert said.startswith("MissingPackage scoring needs the package torch")
    assert "pip install 'ssd-probing[score]'" in said


def test_every_public_name_is_there_and_typed() -> None:
    tree = ast.parse(Path(probing.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.name: str(node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert {*typed, "__version__"} == set(probing.__all__)
    assert probing.__all__ == sorted(probing.__all__)
    for name, module in typed.items():
        assert getattr(probing, name) is getattr(importlib.import_module(module), name), name
    assert set(probing.__all__) <= set(dir(probing))
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert probing.__version__ == tomllib.load(file)["project"]["version"]


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(AttributeError, match=r"open_run.* and no attribute 'openrun'"):
        _ = probing.openrun
    assert not hasattr(probing, "colour")
