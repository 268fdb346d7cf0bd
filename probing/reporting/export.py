"""What leaves the house: CSV that a spreadsheet can open safely, and the settings behind it."""

import csv
import io
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import pandas as pd

from probing.settings import as_json
from probing.store.reader import Run

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""A text cell that begins so can run as a formula in a spreadsheet."""


def neutral(text: str) -> str:
    """A text cell that no spreadsheet runs: an apostrophe goes before what could be a formula.

    Examples:
        >>> neutral("=1+1"), neutral("So"), neutral(" -1")
        ("'=1+1", 'So', "' -1")
    """
    return f"'{text}" if text.lstrip(" ").startswith(FORMULA_STARTS) else text


def csv_text(frame: pd.DataFrame) -> str:
    """A table as CSV with a header line.

    Text cells and column names are neutralised and quoted, numbers stand as they are at full
    precision, cells without a value are empty.
    """
    safe = frame.rename(columns=neutral)
    for place, dtype in enumerate(frame.dtypes):
        if not (pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype)):
            column = safe.columns[place]
            cells = frame.iloc[:, place]
            safe[column] = [None if pd.isna(cell) else neutral(str(cell)) for cell in cells]
    out = io.StringIO(newline="")
    safe.to_csv(out, index=False, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    return out.getvalue()


def settings_json(run: Run, *, settings: Mapping[str, object]) -> str:
    """What is needed to make a table again: the run and its fingerprint, models, settings.

    Args:
        run: the run the table came from.
        settings: by name, settings dataclasses or plain JSON values.
    """
    document: dict[str, Any] = {
        "probing": version("ssd-probing"),
        "run": {
            "name": run.location.rstrip("/").rsplit("/", 1)[-1],
            "fingerprint": run.fingerprint,
            "complete": run.complete,
            "models": list(run.model_names),
        },
        "delta": "other - baseline",
    }
    for name, value in settings.items():
        plain = value is None or isinstance(value, str | int | float | list | dict)
        document[name] = value if plain else as_json(value)
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
