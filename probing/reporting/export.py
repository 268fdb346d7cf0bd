"""What leaves the house: CSV that a spreadsheet can open safely, and the settings behind it."""

import csv
import io
import json
from importlib.metadata import version
from typing import Any

import pandas as pd

from probing.reporting.remaking import TableSettings
from probing.settings import as_json
from probing.store.reader import Run
from probing.vocabulary import DISTRIBUTION

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


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    """A table as Parquet: text as it is, numbers in their own types."""
    whole = io.BytesIO()
    frame.to_parquet(whole, index=False)
    return whole.getvalue()


def settings_json(run: Run, *, asked: TableSettings) -> str:
    """What is needed to make a table again: the run and its fingerprint, models, settings.

    `made_again` reads it. Settings that the table has no use for are left out.

    Args:
        run: the run the table came from.
        asked: what made the table.
    """
    document: dict[str, Any] = {
        "probing": version(DISTRIBUTION),
        "run": {
            "name": run.location.rstrip("/").rsplit("/", 1)[-1],
            "fingerprint": run.fingerprint,
            "complete": run.complete,
            "models": list(run.model_names),
        },
        "delta": "other - baseline",
        "baseline": run.model_names[0],
    }
    used = as_json(asked)
    document |= {name: value for name, value in used.items() if value is not None}
    return json.dumps(document | {"control": asked.control}, indent=2, ensure_ascii=False) + "\n"
