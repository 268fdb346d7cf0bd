"""The plan: which carriers make up which unit, written before the first forward pass."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from probing.errors import NoCarriersLeft
from probing.settings import StoreLayout, as_json, require


@dataclass(frozen=True)
class Unit:
    """Work that is scored, written and committed as a whole.

    Attributes:
        index: of the unit in the plan.
        carriers: indices of its carriers in the run; rows follow this order.
        row_start: first row in the arrays; a multiple of the shard's rows.
        rows: rows that hold positions; those from `rows` to `capacity` are spare.
        capacity: rows of the whole shards that the unit fills.
        carrier_rows: rows of each carrier, in the order of `carriers`.
    """

    index: int
    carriers: tuple[int, ...]
    row_start: int
    rows: int
    capacity: int
    carrier_rows: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """Everything that changes a bit of the result, fixed before scoring.

    `execution` is the scorer's own: token budget, chunk length, device kind, dtype, threads; JSON
    values only. The store keeps it and compares it at resume.
    """

    units: tuple[Unit, ...]
    layout: StoreLayout
    execution: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Positions of all units."""
        return sum(unit.rows for unit in self.units)

    @property
    def capacity(self) -> int:
        """Rows of the arrays, spare ones included."""
        return sum(unit.capacity for unit in self.units)

    def shards(self, unit: Unit) -> range:
        """The numbers of the shards that a unit fills."""
        first = unit.row_start // self.layout.shard_rows
        return range(first, first + unit.capacity // self.layout.shard_rows)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, for the run."""
        units = [{key: _plain(value) for key, value in asdict(unit).items()} for unit in self.units]
        return {"units": units, "layout": as_json(self.layout), "execution": self.execution}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Plan":
        """The inverse of `to_json`."""
        units = tuple(
            Unit(
                **{
                    **unit,
                    "carriers": tuple(unit["carriers"]),
                    "carrier_rows": tuple(unit["carrier_rows"]),
                }
            )
            for unit in document["units"]
        )
        return cls(units, StoreLayout(**document["layout"]), document["execution"])


def _plain(value: int | tuple[int, ...]) -> int | list[int]:
    return list(value) if isinstance(value, tuple) else value


def make_plan(
    token_counts: Sequence[int],
    position_counts: Sequence[int],
    *,
    layout: StoreLayout,
    execution: dict[str, Any] | None = None,
) -> Plan:
    """Pack carriers into units.

    Carriers are taken by length, shortest first (ties by index), so that a batch inside a unit
    holds carriers of like length. A unit begins with as many shards as its first carrier needs and
    takes further carriers while they fit: a carrier never crosses a unit, a unit always fills
    whole shards. Carriers without positions belong to no unit.

    Args:
        token_counts: tokens of each carrier that a model has to read.
        position_counts: chosen positions of each carrier.
        layout: sizes of shards and chunks.
        execution: see `Plan`.

    Raises:
        UsageFault: the layout's sizes do not fit each other.
        NoCarriersLeft: no carrier has a position.
    """
    check_layout(layout)
    if len(token_counts) != len(position_counts):
        raise ValueError(
            "token_counts and position_counts must have one entry per carrier, got "
            f"{len(token_counts)} and {len(position_counts)}"
        )
    chosen = [i for i in range(len(token_counts)) if position_counts[i] > 0]
    if not chosen:
        raise NoCarriersLeft(
            f"a run needs at least one position, got none in {len(token_counts)} carriers; "
            "widen [selection] in the run file"
        )
    chosen.sort(key=lambda i: (token_counts[i], i))
    packed = _pack(chosen, position_counts, shard_rows=layout.shard_rows)
    units: list[Unit] = []
    row_start = 0
    for members in packed:
        carrier_rows = tuple(int(position_counts[i]) for i in members)
        rows = sum(carrier_rows)
        capacity = _whole_shards(rows, layout.shard_rows)
        units.append(
            Unit(len(units), tuple(members), row_start, rows, capacity, carrier_rows=carrier_rows)
        )
        row_start += capacity
    return Plan(tuple(units), layout, dict(execution or {}))


def check_layout(layout: StoreLayout) -> None:
    """Refuse sizes that do not fit each other.

    Raises:
        UsageFault: a size below 1, or shards that are not whole chunks.
    """
    for name in ("top_k", "shard_rows", "chunk_rows", "chunk_candidates"):
        require(getattr(layout, name) >= 1, f"store.{name} must be >= 1", getattr(layout, name))
    require(layout.max_watched >= 0, "store.max_watched must be >= 0", layout.max_watched)
    require(
        layout.shard_rows % layout.chunk_rows == 0,
        f"store.shard_rows must be a multiple of store.chunk_rows ({layout.chunk_rows})",
        layout.shard_rows,
    )


def _pack(order: list[int], position_counts: Sequence[int], *, shard_rows: int) -> list[list[int]]:
    packed: list[list[int]] = []
    room = 0
    for carrier in order:
        rows = int(position_counts[carrier])
        if not packed or rows > room:
            packed.append([])
            room = _whole_shards(rows, shard_rows)
        packed[-1].append(carrier)
        room -= rows
    return packed


def _whole_shards(rows: int, shard_rows: int) -> int:
    return -(-rows // shard_rows) * shard_rows
