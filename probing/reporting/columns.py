"""Columns beside those of a frame, without copying a million rows of either."""

from collections.abc import Mapping
from typing import Any

import pandas as pd


def with_columns(frame: pd.DataFrame, columns: Mapping[str, Any]) -> pd.DataFrame:
    """The frame with further columns; one of the same name takes the old one's place at the end.

    As `DataFrame.assign`, which copies each column: here they are shared, so nobody may write into
    them afterwards.

    Args:
        frame: stays as it is.
        columns: arrays, categoricals or series of its length, by name.
    """
    left = frame.drop(columns=[name for name in columns if name in frame])
    plain = {
        name: values.array if isinstance(values, pd.Series) else values
        for name, values in columns.items()
    }
    further = pd.DataFrame(plain, index=frame.index, copy=False)
    return pd.concat([left, further], axis=1)
