"""Zarr arrays of a run: making them, filling them, reading rows back."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import zarr
from jaxtyping import Int, Shaped
from zarr.abc.store import Store
from zarr.codecs import BloscCodec, Crc32cCodec, TransposeCodec

from probing.errors import CorruptRun
from probing.store.objects import undecodable
from probing.store.schema import (
    PAD_CANDIDATES,
    POSITION_ARRAYS,
    POSITION_LAST,
    TAIL_RESOLUTION,
    WHOLE_BYTES,
    Grid,
    to_fixed_point,
)
from probing.store.texts import FlatArrays, cut
from probing.store.unit import UnitArrays

LEVEL = 6
"""Of zstd: higher ones take several times as long for a hundredth less."""


class Content(NamedTuple):
    """What an array holds apart from its shape."""

    dtype: str
    fill: float | int | bool
    attributes: dict[str, Any]


def create_array(group: zarr.Group, name: str, *, grid: Grid, content: Content) -> Any:
    """Make an empty, sharded array. Every chunk will be written, even one that is all fill.

    So an absent object or chunk is always a fault.
    """
    dimensions = len(grid.shape)
    order = (*range(1, dimensions), 0)
    shuffle: Literal["shuffle", "bitshuffle"] = "shuffle" if name in WHOLE_BYTES else "bitshuffle"
    return group.create_array(
        name,
        shape=grid.shape,
        dtype=content.dtype,
        shards=grid.shard,
        chunks=grid.chunk,
        filters=[TransposeCodec(order=order)] if name in POSITION_LAST else [],
        compressors=[BloscCodec(cname="zstd", clevel=LEVEL, shuffle=shuffle), Crc32cCodec()],
        fill_value=content.fill,
        dimension_names=grid.names,
        attributes=content.attributes,
        config={"write_empty_chunks": True},
    )


def write_flat(group: zarr.Group, arrays: FlatArrays) -> None:
    """Write one-axis arrays whole; the axis is named after the array."""
    for name, values in arrays.items():
        shard, chunk = cut(len(values))
        grid = Grid((len(values),), (shard,), (chunk,), (f"{name}_entry",))
        array = create_array(group, name, grid=grid, content=Content(str(values.dtype), 0, {}))
        if len(values):
            array[:] = values


def stored_form(arrays: UnitArrays, *, capacity: int, sizes: Mapping[str, int]) -> FlatArrays:
    """The arrays of a unit as they are stored: cast, rounded, with spare rows and `valid`.

    Raises:
        ValueError: a shape or a value that the run has no place for.
    """
    rows = len(arrays.carrier)
    if rows > capacity:
        raise ValueError(f"a unit must fit its shards ({capacity} rows), got {rows}")
    stored: FlatArrays = {}
    for name, spec in POSITION_ARRAYS.items():
        shape = (capacity, *(sizes[axis] for axis in spec.axes))
        filled = np.full(shape, spec.fill, dtype=spec.dtype)
        if name == "valid":
            filled[:rows] = True
        else:
            values = getattr(arrays, name)
            if name in PAD_CANDIDATES:
                values = _fit_candidates(values, sizes["candidate"], fill=PAD_CANDIDATES[name])
            filled[:rows] = _cast(name, values, shape=(rows, *shape[1:]))
        stored[name] = filled
    return stored


def _fit_candidates(values: np.ndarray, width: int, *, fill: float | int) -> np.ndarray:
    """Widen or narrow the last axis to `width`; only padding may be dropped."""
    extra = values[..., width:]
    if not np.all(extra == fill):
        raise ValueError(
            f"at most {width} candidates a position (models · top_k + watched), got more"
        )
    padding = [(0, 0)] * (values.ndim - 1) + [(0, max(0, width - values.shape[-1]))]
    return np.pad(values[..., :width], padding, constant_values=fill)


def _cast(name: str, values: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
    spec = POSITION_ARRAYS[name]
    if values.shape != shape:
        axes = ("position", *spec.axes)
        raise ValueError(
            f"{name} must have the shape {shape} ({', '.join(axes)}), got {values.shape}"
        )
    if name in TAIL_RESOLUTION:
        return to_fixed_point(values, resolution=TAIL_RESOLUTION[name])
    cast_values = values.astype(spec.dtype)
    if np.issubdtype(cast_values.dtype, np.integer) and not np.array_equal(cast_values, values):
        raise ValueError(f"{name} must fit {spec.dtype}, got {values.min()} … {values.max()}")
    return cast_values


DENSE = 1.25
"""Rows that reach over at most so many times as many are read as one slice."""


def read_rows(
    array: Any, rows: Int[np.ndarray, " row"], *, candidates: int | None = None
) -> Shaped[np.ndarray, "row ..."]:
    """Rows of an array, in the order asked for.

    Whole chunks are read, each once, as slices: nothing but the chunks that hold a wanted row.
    Ascending rows with few gaps are one slice.
    `candidates` cuts the last axis: the chunks beyond it are not read.
    """
    chunk_rows = array.chunks[0]
    inner = (slice(None),) * (array.ndim - 1)
    if candidates is not None:
        inner = (*inner[:-1], slice(0, candidates))
    if len(rows) == 0:
        shape = tuple(
            len(range(*s.indices(n))) for s, n in zip(inner, array.shape[1:], strict=True)
        )
        return np.empty((0, *shape), dtype=array.dtype)
    if dense(rows):
        first, last = int(rows[0]), int(rows[-1])
        return picked(array[(slice(first, last + 1), *inner)], rows - first)
    blocks = np.unique(rows // chunk_rows)
    pieces = [array[(slice(first, stop), *inner)] for first, stop in _spans(blocks, chunk_rows)]
    together = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    place = np.searchsorted(blocks, rows // chunk_rows) * chunk_rows + rows % chunk_rows
    return cast("np.ndarray", together[place])


def picked(
    values: Shaped[np.ndarray, "row ..."], rows: Int[np.ndarray, " picked"]
) -> Shaped[np.ndarray, "picked ..."]:
    """Ascending rows: stretches without a gap are copied whole, one alone not at all."""
    if rows[-1] - rows[0] == len(rows) - 1:
        return values[rows[0] : rows[-1] + 1]
    if values.ndim == 2 and values.strides[0] == values.itemsize:
        # A column is read alone afterwards: columns stay side by side.
        return np.take(values.T, rows, axis=1).T
    stretches = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
    parts = [values[each[0] : each[-1] + 1] for each in stretches]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def dense(rows: Int[np.ndarray, " row"]) -> bool:
    """Whether rows ascend, with few gaps."""
    reach = int(rows[-1]) - int(rows[0])
    return reach < DENSE * len(rows) and bool((np.diff(rows) > 0).all())


def _spans(blocks: Int[np.ndarray, " block"], chunk_rows: int) -> Iterator[tuple[int, int]]:
    """Neighbouring blocks as one span of rows each."""
    breaks = np.flatnonzero(np.diff(blocks) != 1) + 1
    for span in np.split(blocks, breaks):
        yield int(span[0]) * chunk_rows, (int(span[-1]) + 1) * chunk_rows


def open_array(store: Store, name: str) -> Any:
    """An array of a run, for reading."""
    with decoding(name):
        return zarr.open_array(store=store, path=name, mode="r", zarr_format=3)


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turn whatever Zarr and its codecs raise on damaged bytes into `CorruptRun`."""
    try:
        yield
    except CorruptRun:
        raise
    # Codecs raise ValueError, RuntimeError, struct and index errors, and zarr its own: all of
    # them mean that bytes on the disk are not what was written.
    except Exception as error:
        raise undecodable(name, error) from error
