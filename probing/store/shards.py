"""Whole shards of an array, decoded at once: what Zarr does piece by piece, several times as fast.

Zarr fetches and decodes every chunk as a task of its own; a page that reads every chunk of a run
spends most of its time on the tasks. The form is Zarr's (codecs `sharding_indexed`, `transpose`,
`bytes`, `blosc` and `crc32c` of its specification); arrays of any other are left to Zarr.
"""

import itertools
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import google_crc32c
import numpy as np
from jaxtyping import Int, Shaped, UInt8
from numcodecs import blosc
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    Endian,
    ShardingCodec,
    TransposeCodec,
)

from probing.store.arrays import dense, picked
from probing.store.objects import undecodable
from probing.store.schema import shard_key

Bytes: TypeAlias = UInt8[np.ndarray, " _"]

CHECKSUM_BYTES = 4
ABSENT = (1 << 64) - 1
"""Offset of a chunk of fill alone, which a shard does not hold."""


class ShardForm(NamedTuple):
    """How the shards of an array are made.

    Attributes:
        dtype: of the values, little-endian.
        shard: shape of a shard.
        chunk: shape of a chunk in it.
        last: of the last axis, how much is not padding.
        laid_out: shape of a chunk's bytes, whose axes stand in another order.
        back: from there to the axes in place.
        fill: what spare rows and candidates hold.
    """

    dtype: np.dtype[Any]
    shard: tuple[int, ...]
    chunk: tuple[int, ...]
    last: int
    laid_out: tuple[int, ...]
    back: tuple[int, ...]
    fill: Any

    @property
    def chunks(self) -> tuple[int, ...]:
        """How many chunks a shard has along each axis."""
        return tuple(whole // piece for whole, piece in zip(self.shard, self.chunk, strict=True))


def shard_form(array: Any) -> ShardForm | None:
    """The form of a Zarr array's shards; None where it is not the one that is read here."""
    codecs = array.metadata.codecs
    if len(codecs) != 1 or not isinstance(codecs[0], ShardingCodec):
        return None
    sharding = codecs[0]
    order = tuple(range(array.ndim))
    inner = list(sharding.codecs)
    first = inner[0]
    if isinstance(first, TransposeCodec):
        order, inner = tuple(first.order), inner[1:]
    kinds = (BytesCodec, BloscCodec, Crc32cCodec)
    known = (
        tuple(type(codec) for codec in inner) == kinds
        and tuple(type(codec) for codec in sharding.index_codecs) == (BytesCodec, Crc32cCodec)
        and sharding.index_location.value == "end"
        and all(
            whole >= size
            for whole, size in zip(
                array.metadata.chunk_grid.chunk_shape[1:], array.shape[1:], strict=True
            )
        )
        and all(
            codec.endian in {None, Endian.little}
            for codec in (*inner, *sharding.index_codecs)
            if isinstance(codec, BytesCodec)
        )
    )
    if not known:
        return None
    dtype = array.dtype.newbyteorder("<")
    shard = array.metadata.chunk_grid.chunk_shape
    back = tuple(int(axis) for axis in np.argsort(order))
    chunk = sharding.chunk_shape
    laid_out = tuple(chunk[axis] for axis in order)
    return ShardForm(dtype, shard, chunk, array.shape[-1], laid_out, back, array.fill_value)


class Shards:
    """The shards of one array.

    Args:
        name: of the array.
        form: see `shard_form`.
        fetch: the content of an object by its name.
    """

    def __init__(self, name: str, form: ShardForm, fetch: Callable[[str], bytes]) -> None:
        self._name = name
        self._form = form
        self._fetch = fetch

    def fill(self, rows: Int[np.ndarray, " row"]) -> bool:
        """Whether these rows, ascending, want most chunks of the shards that they are in."""
        whole, piece = self._form.shard[0], self._form.chunk[0]
        if whole == piece:
            return True
        return 2 * len(rows) >= whole * len(_numbers(rows, whole))

    def rows(
        self, rows: Int[np.ndarray, " row"], *, width: int | None
    ) -> Shaped[np.ndarray, "row ..."]:
        """Rows of the array, in any order; every shard is read once.

        Args:
            rows: at least one.
            width: of the last axis; None is all of it. Chunks beyond are not decoded.

        Raises:
            CorruptRun: bytes are not what was written.
        """
        whole = self._form.shard[0]
        numbers = _numbers(rows, whole)
        if len(numbers) == 1:
            return self._picked(int(numbers[0]), rows - numbers[0] * whole, width)
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        ends = np.searchsorted(ascending // whole, numbers, side="right")
        parts = [
            self._picked(int(number), places % whole, width)
            for number, places in zip(numbers, np.split(ascending, ends[:-1]), strict=True)
        ]
        found = np.concatenate(parts)
        if (np.diff(order) == 1).all():
            return found
        back: np.ndarray = found[np.argsort(order)]
        return back

    def _picked(
        self, number: int, places: Int[np.ndarray, " row"], width: int | None
    ) -> Shaped[np.ndarray, "row ..."]:
        shard = self._shard(number, width)
        part = picked(shard, places) if dense(places) else shard[places]
        # Some rows must not keep a whole shard in memory.
        return part if 10 * len(part) >= 9 * len(shard) else part.copy()

    def _shard(self, number: int, width: int | None) -> Shaped[np.ndarray, "row ..."]:
        form = self._form
        key = shard_key(self._name, shard=number, dimensions=len(form.shard))
        content: Bytes = np.frombuffer(self._fetch(key), dtype=np.uint8)
        if len(form.shard) > 1:
            width = form.last if width is None else min(width, form.last)
        cells = _cells(form, width)
        try:
            edges = _edges(content, form)
            if len(cells) == 1:
                return _decoded(content, edges[cells[0].number], form)[..., :width]
            found = self._room(width)
            for cell in cells:
                there = found[cell.place]
                there[:] = _decoded(content, edges[cell.number], form)[..., : there.shape[-1]]
        except (ValueError, RuntimeError, OverflowError) as error:
            raise undecodable(key, error) from error
        return found

    def _room(self, width: int | None) -> Shaped[np.ndarray, "row ..."]:
        """For a shard: models and measures are read one by one, candidates together.

        So rows lie side by side, but for the last of several axes, or one that is cut itself.
        """
        shape = self._form.shard if width is None else (*self._form.shard[:-1], width)
        together = len(shape) - 1 if len(shape) > 2 or self._form.chunks[-1] > 1 else len(shape)
        rows, *others = range(len(shape))
        order = [*others[: together - 1], rows, *others[together - 1 :]]
        found = np.empty([shape[axis] for axis in order], dtype=self._form.dtype)
        return found.transpose(np.argsort(order))


def _numbers(rows: Int[np.ndarray, " row"], whole: int) -> Int[np.ndarray, " shard"]:
    """The shards that hold some rows, ascending; without looking at each where it is one."""
    first, last = rows.min() // whole, rows.max() // whole
    return np.array([first]) if first == last else np.unique(rows // whole)


class Cell(NamedTuple):
    """One chunk of a shard: its number there, and the place of its values."""

    number: int
    place: tuple[slice, ...]


@lru_cache(maxsize=256)
def _cells(form: ShardForm, width: int | None) -> list[Cell]:
    """The chunks that hold the first `width` places of the last axis."""
    along = [range(count) for count in form.chunks]
    if width is not None:
        along[-1] = range(-(-width // form.chunk[-1]))
    return [
        Cell(
            int(np.ravel_multi_index(at, form.chunks)),
            tuple(slice(k * size, (k + 1) * size) for k, size in zip(at, form.chunk, strict=True)),
        )
        for at in itertools.product(*along)
    ]


def _edges(content: Bytes, form: ShardForm) -> list[list[int]]:
    """Offset and length of every chunk, from the end of a shard."""
    size = int(np.prod(form.chunks)) * 16 + CHECKSUM_BYTES
    if len(content) < size:
        raise ValueError("it is shorter than its index")
    found: list[list[int]] = _summed(content[-size:]).view("<u8").reshape(-1, 2).tolist()
    return found


def _decoded(content: Bytes, edge: list[int], form: ShardForm) -> Shaped[np.ndarray, "row ..."]:
    """One chunk; its axes are in place, whatever their order in memory."""
    offset, length = edge
    if offset == ABSENT:
        return np.full(form.chunk, form.fill, dtype=form.dtype)
    plain = blosc.decompress(_summed(content[offset : offset + length]))
    return np.frombuffer(plain, dtype=form.dtype).reshape(form.laid_out).transpose(form.back)


def _summed(content: Bytes) -> Bytes:
    """What stands before a checksum, if that is right."""
    body, checksum = content[:-CHECKSUM_BYTES], content[-CHECKSUM_BYTES:]
    if google_crc32c.value(body) != int.from_bytes(checksum.tobytes(), "little"):
        raise ValueError("a checksum differs")
    return body
