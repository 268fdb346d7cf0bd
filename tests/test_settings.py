"""What a run file's faults are answered with."""

from typing import Any

import pytest

from probing.errors import UsageFault
from probing.run_file import run_settings

WHOLE: dict[str, Any] = {
    "out": "run.zarr",
    "carriers": ["carriers.jsonl"],
    "baseline": {"path": "base"},
    "others": {"ssd": {"adapter": "ssd"}},
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"selection": {"intervall_every": 12}},
            r"selection\.intervall_every: Unexpected keyword argument, got 12 \(known here: "
            r"interval_every, random_count, .*seed\)",
        ),
        (
            {"others": {"ssd": {"pth": "ssd"}}},
            r"others\.0\.pth: Unexpected .* \(known here: name, path, adapter, revision\)",
        ),
        ({"outt": "x"}, r"outt: Unexpected .* \(known here: out, carriers, baseline, others, .*\)"),
        ({"scoring": {"dtype": "int4"}}, r"scoring\.dtype: Input should be 'auto'.*, got 'int4'"),
    ],
)
def test_a_fault_is_named_with_what_would_be_right(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageFault, match=rf"^here: {said}.*; see examples/run\.toml$"):
        run_settings({**WHOLE, **change}, where="here")


def test_what_is_missing_is_named_without_the_whole_file() -> None:
    given = {name: value for name, value in WHOLE.items() if name != "baseline"}
    with pytest.raises(UsageFault, match=r"^here: baseline: Field required; see examples"):
        run_settings(given, where="here")


def test_a_whole_file_is_taken() -> None:
    settings = run_settings(WHOLE, where="here")
    assert [settings.baseline.name, settings.others[0].name] == ["baseline", "ssd"]
