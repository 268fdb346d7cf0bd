"""The plan: which carriers make up which unit, and that a run goes on under no other plan."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages_run import write_pages_run

from probing.errors import NoCarriersLeft, RunDiffers, UsageFault
from probing.settings import StoreLayout
from probing.store.objects import objects_under
from probing.store.plan import Plan, make_plan
from probing.store.reader import open_run
from probing.store.schema import POSITION_ARRAYS, unit_objects
from probing.store.writer import RunWriter


@dataclasses.dataclass(frozen=True)
class Case:
    """Carriers to pack, at least one of them with a position."""

    tokens: list[int]
    positions: list[int]
    layout: StoreLayout


@st.composite
def cases(draw: st.DrawFn) -> Case:
    chunk = draw(st.sampled_from([1, 4, 8]))
    layout = StoreLayout(chunk_rows=chunk, shard_rows=chunk * draw(st.integers(1, 6)))
    # Few lengths, so that many are equal; many rows, so that some carriers need several shards.
    counts = st.tuples(st.integers(1, 9), st.integers(0, 100))
    carriers = draw(st.lists(counts, max_size=40))
    carriers.insert(draw(st.integers(0, len(carriers))), (draw(st.integers(1, 9)), 1))
    return Case([one[0] for one in carriers], [one[1] for one in carriers], layout)


@given(cases())
def test_carriers_are_in_one_unit_each_by_length_and_then_by_index(case: Case) -> None:
    plan = make_plan(case.tokens, case.positions, layout=case.layout)
    order = [carrier for unit in plan.units for carrier in unit.carriers]
    wanted = [i for i, count in enumerate(case.positions) if count]
    assert order == sorted(wanted, key=lambda i: (case.tokens[i], i))
    for index, unit in enumerate(plan.units):
        assert unit.index == index
        assert unit.carrier_rows == tuple(case.positions[i] for i in unit.carriers)
        assert unit.rows == sum(unit.carrier_rows)
    assert plan.rows == sum(case.positions)


@given(cases())
def test_units_fill_whole_shards_of_their_own(case: Case) -> None:
    plan = make_plan(case.tokens, case.positions, layout=case.layout)
    shard_rows = case.layout.shard_rows
    taken: list[int] = []
    for unit in plan.units:
        assert unit.rows <= unit.capacity < unit.rows + shard_rows
        shards = plan.shards(unit)
        assert shards[0] * shard_rows == unit.row_start
        assert (shards[-1] + 1) * shard_rows == unit.row_start + unit.capacity
        taken += shards
    # One after the other, without a hole: no shard, and so no object, has two units.
    assert taken == list(range(plan.capacity // shard_rows))
    objects = [name for unit in plan.units for name in unit_objects(plan.shards(unit))]
    assert len(set(objects)) == len(objects) == len(taken) * len(POSITION_ARRAYS)


@given(cases())
def test_a_unit_ends_where_the_next_carrier_does_not_fit(case: Case) -> None:
    plan = make_plan(case.tokens, case.positions, layout=case.layout)
    for unit, after in zip(plan.units, plan.units[1:], strict=False):
        assert unit.rows + after.carrier_rows[0] > unit.capacity
    for unit in plan.units:
        # As many shards as the first carrier needs, and not one more.
        assert unit.capacity - unit.carrier_rows[0] < case.layout.shard_rows


@given(
    cases(), st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.lists(st.text()))
)
def test_json_brings_the_plan_back(case: Case, execution: dict[str, object]) -> None:
    plan = make_plan(case.tokens, case.positions, layout=case.layout, execution=execution)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json(), allow_nan=False))) == plan
    assert plan.execution == execution
    assert plan == dataclasses.replace(
        make_plan(case.tokens, case.positions, layout=case.layout), execution=execution
    )


@pytest.mark.parametrize(
    ("layout", "rule"),
    [
        (StoreLayout(top_k=0), r"store\.top_k must be >= 1, got 0"),
        (StoreLayout(shard_rows=0), r"store\.shard_rows must be >= 1, got 0"),
        (StoreLayout(chunk_rows=-1), r"store\.chunk_rows must be >= 1, got -1"),
        (StoreLayout(chunk_candidates=0), r"store\.chunk_candidates must be >= 1, got 0"),
        (StoreLayout(max_watched=-1), r"store\.max_watched must be >= 0, got -1"),
        (
            StoreLayout(shard_rows=96, chunk_rows=64),
            r"multiple of store\.chunk_rows \(64\), got 96",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused(layout: StoreLayout, rule: str) -> None:
    with pytest.raises(UsageFault, match=rule):
        make_plan([3], [1], layout=layout)


def test_nothing_to_plan_is_refused() -> None:
    for counts in ([], [0, 0, 0]):
        with pytest.raises(NoCarriersLeft, match=rf"got none in {len(counts)} carriers"):
            make_plan([5] * len(counts), counts, layout=StoreLayout())
    with pytest.raises(ValueError, match="one entry per carrier, got 2 and 1"):
        make_plan([5, 6], [1], layout=StoreLayout())


def test_a_run_does_not_go_on_under_another_plan(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    write_pages_run(path, problems=12, finish=False)
    run = open_run(str(path))
    manifest = dataclasses.replace(
        run.manifest, settings=dataclasses.replace(run.manifest.settings, out=str(path))
    )
    first = run.plan.units[0]
    moved = dataclasses.replace(first, carriers=first.carriers[::-1])
    others = {
        r"plan\.execution\.threads: stored None, now 3": dataclasses.replace(
            run.plan, execution={**run.plan.execution, "threads": 3}
        ),
        r"plan\.units": dataclasses.replace(run.plan, units=(moved, *run.plan.units[1:])),
        r"plan\.layout\.chunk_rows: stored 64, now 32": dataclasses.replace(
            run.plan, layout=dataclasses.replace(run.plan.layout, chunk_rows=32)
        ),
    }
    before = {name: (tmp_path / name).read_bytes() for name in objects_under(tmp_path)}
    for difference, plan in others.items():
        with pytest.raises(RunDiffers, match=difference):
            RunWriter.resume(path, plan=plan, manifest=manifest)
        assert {name: (tmp_path / name).read_bytes() for name in objects_under(tmp_path)} == before
    with RunWriter.resume(path, plan=run.plan, manifest=manifest) as writer:
        assert writer.plan == run.plan
