"""A run on the disk: what is written is what is read, and nothing damaged is read as data."""

import dataclasses
import fcntl
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import fsspec
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from pages_run import MODELS, write_pages_run

from probing.analysis.decoding import Statistics
from probing.errors import (
    CorruptRun,
    NewerSchema,
    NoCarriersLeft,
    NotARun,
    ProbingError,
    RunBusy,
    RunDiffers,
    UnwritablePath,
    UsageFault,
)
from probing.reporting.tables import comparison_table
from probing.settings import Decoding, KindRule, StoreLayout
from probing.store import opening, writer
from probing.store.objects import objects_under
from probing.store.plan import Plan, make_plan
from probing.store.reader import Run, open_run
from probing.store.schema import POSITION_ARRAYS, SCHEMA_VERSION, TAIL_RESOLUTION
from probing.store.unit import UnitArrays
from probing.store.verify import verify
from probing.store.writer import RunWriter


@dataclasses.dataclass(frozen=True)
class Written:
    """A finished run, the arrays that went into it, and its logits over the whole vocabulary."""

    path: Path
    run: Run
    arrays: list[UnitArrays]
    logits: np.ndarray


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    path = tmp_path_factory.mktemp("store") / "run.zarr"
    seen: list[UnitArrays] = []
    original = RunWriter.write_unit

    def spy(self: RunWriter, unit: object, arrays: UnitArrays) -> None:
        seen.append(arrays)
        original(self, unit, arrays)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunWriter, "write_unit", spy)
        made = write_pages_run(path, problems=12)
    return Written(path, open_run(str(path)), seen, made.logits)


@pytest.fixture
def copy(written: Written, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written.path, tmp_path / "copy.zarr"))


# -- plan ----------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(1, 500), st.integers(0, 90)), min_size=1, max_size=40),
    st.sampled_from([8, 32, 64]),
)
def test_every_carrier_with_positions_is_in_one_unit_of_whole_shards(
    carriers: list[tuple[int, int]], shard_rows: int
) -> None:
    layout = StoreLayout(shard_rows=shard_rows, chunk_rows=8)
    tokens, positions = [one[0] for one in carriers], [one[1] for one in carriers]
    if not any(positions):
        with pytest.raises(NoCarriersLeft):
            make_plan(tokens, positions, layout=layout)
        return
    plan = make_plan(tokens, positions, layout=layout)
    order = [carrier for unit in plan.units for carrier in unit.carriers]
    assert sorted(order) == [i for i, count in enumerate(positions) if count]
    assert [tokens[i] for i in order] == sorted(tokens[i] for i in order)
    start = 0
    for unit in plan.units:
        assert unit.row_start == start
        assert unit.rows == sum(positions[i] for i in unit.carriers) <= unit.capacity
        assert unit.capacity % shard_rows == 0
        assert unit.capacity - unit.rows < shard_rows
        start += unit.capacity
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_a_layout_whose_sizes_do_not_fit_is_refused() -> None:
    with pytest.raises(UsageFault, match=r"multiple of store\.chunk_rows"):
        make_plan([3], [1], layout=StoreLayout(shard_rows=100, chunk_rows=64))


# -- reading -------------------------------------------------------------------------------------


def _joined(written: Written, name: str) -> np.ndarray:
    """What was handed to the writer, candidates padded to one width."""
    parts = [getattr(arrays, name) for arrays in written.arrays]
    if name in {"candidate_id", "logit"}:
        width = max(part.shape[-1] for part in parts)
        fill = -1 if name == "candidate_id" else -np.inf
        parts = [
            np.concatenate([p, np.full((*p.shape[:-1], width - p.shape[-1]), fill)], axis=-1)
            for p in parts
        ]
    return np.concatenate(parts)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(UnitArrays)])
def test_rows_read_are_rows_written(written: Written, name: str) -> None:
    want, run = _joined(written, name), written.run
    assert len(run) == len(want) > 300
    rows = np.random.default_rng(0).integers(0, len(run), size=50)
    atol = TAIL_RESOLUTION.get(name, 0) / 2 * 1.001
    for got, expected in ((run.array(name), want), (run.array(name, rows), want[rows])):
        np.testing.assert_allclose(got, expected.astype(got.dtype), rtol=0, atol=atol)
    if name in {"candidate_id", "logit"}:
        np.testing.assert_array_equal(
            run.array(name, rows, candidates=5), want[rows][..., :5].astype(want.dtype)
        )


def test_distributions_of_models_and_their_mean(written: Written) -> None:
    run = written.run
    weights = dict(zip(run.measures.names, run.measures.weights, strict=True))
    for name in run.measures.names:
        full = np.tensordot(weights[name], written.logits.astype(np.float64), axes=(0, 1))
        rows = run.distributions(name)
        used = rows.ids >= 0
        taken = np.take_along_axis(full, np.maximum(rows.ids, 0).astype(np.int64), axis=1)
        np.testing.assert_allclose(rows.logits[used], taken[used], atol=1e-5)
        for i in range(0, len(run), 37):
            outside = np.setdiff1d(np.arange(full.shape[1]), rows.ids[i])
            x = full[i, outside]
            assert rows.tail.reference[i] == pytest.approx(x.max(), abs=1e-5)
            for node, beta in enumerate(run.betas):
                mass = np.exp(beta * (x - x.max()))
                mean = (mass * (x - x.max())).sum() / mass.sum()
                assert rows.tail.log_mass[i, node] == pytest.approx(np.log(mass.sum()), abs=1e-4)
                assert rows.tail.mean[i, node] == pytest.approx(mean, abs=1e-4)


def test_stored_statistics_are_the_computed_ones_and_only_for_their_decoding(
    written: Written,
) -> None:
    run = written.run
    for name in run.measures.names:
        stored = run.default_statistics(name)
        computed = run.computed_statistics(name, decoding=Decoding(), rule=KindRule())
        for field in dataclasses.fields(computed):
            np.testing.assert_allclose(
                getattr(stored, field.name), getattr(computed, field.name), rtol=1e-6, atol=1e-7
            )
    assert run.default_statistics(0, decoding=Decoding(temperature=1.5)) is None


def test_texts_ids_and_bytes_come_back(written: Written) -> None:
    run, places = written.run, written.run.positions()
    for index, carrier in enumerate(run.carriers()):
        ids = run.carrier_token_ids(index)
        pieces = run.token_bytes(ids)
        start = run.response_start(index)
        assert b"".join(pieces[start:]).decode(errors="replace") == run.response_text(index)
        assert carrier.generator in MODELS
        mine = places.carrier == index
        np.testing.assert_array_equal(ids[start + places.position[mine]], places.token_id[mine])
    with pytest.raises(IndexError, match="ids must be below"):
        run.token_bytes([10**6])
    with pytest.raises(IndexError, match="rows must be in"):
        run.array("logit", np.array([len(run)]))
    with pytest.raises(ValueError, match="measure must be one of"):
        run.distributions("nobody")


def test_the_same_arrays_give_the_same_bytes(written: Written, tmp_path: Path) -> None:
    again = tmp_path / "again.zarr"
    write_pages_run(again, problems=12)
    assert _bytes(again) == _bytes(written.path)


def _bytes(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in objects_under(run)}


def test_plain_zarr_walks_the_run_without_a_warning(written: Written) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        group = zarr.open_group(str(written.path), mode="r")
        assert len(list(group.members(max_depth=None))) > 30
        assert group["logit"].metadata.dimension_names == ("position", "model", "candidate")


def test_urls_open_read_only(written: Written) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(written.path), "/urls/run.zarr", recursive=True)
    for location in ("memory://urls/run.zarr", f"file://{written.path}"):
        run = open_run(location)
        np.testing.assert_array_equal(run.array("logit"), written.run.array("logit"))
        assert run.fingerprint == written.run.fingerprint


# -- writing, stopping, resuming -----------------------------------------------------------------


def test_a_run_is_read_while_it_is_written_and_goes_on_where_it_stopped(
    written: Written, tmp_path: Path
) -> None:
    path = tmp_path / "run.zarr"
    write_pages_run(path, problems=12, finish=False)
    half = open_run(str(path))
    last = half.plan.units[-1]
    assert not half.complete
    assert len(half) == half.plan.rows - last.rows
    np.testing.assert_array_equal(
        half.array("logit"), written.run.array("logit")[: len(half), :, : half._width]
    )
    # Shards that a killed process left without a commit are not seen, and are written anew.
    for name in objects_under(written.path):
        if name.startswith("logit/c/") and not (path / name).exists():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(b"half a shard")
    (path / "stray.partial").write_bytes(b"")
    assert len(open_run(str(path))) == len(half)
    with RunWriter.resume(path, plan=half.plan, manifest=_manifest(half, path)) as writer:
        assert writer.committed == set(half.committed)
        writer.write_unit(last, written.arrays[-1])
        writer.finish()
    assert _bytes(path) == _bytes(written.path)
    assert verify(str(path)).faults == ()


def test_a_unit_of_nothing_but_fill_is_there(written: Written, tmp_path: Path) -> None:
    """Responses without a thought have phase 0 throughout, which is also what spare rows hold."""
    path = tmp_path / "run.zarr"
    write_pages_run(path, problems=12, finish=False)
    half = open_run(str(path))
    arrays = written.arrays[-1]
    spared = {"carrier", "position", "token_id", "candidate_id", "logit"}
    fill = {
        name: np.full_like(getattr(arrays, name), spec.fill)
        for name, spec in POSITION_ARRAYS.items()
        if name not in spared | {"valid"}
    }
    with RunWriter.resume(path, plan=half.plan, manifest=_manifest(half, path)) as writer:
        writer.write_unit(half.plan.units[-1], dataclasses.replace(arrays, **fill))
    assert verify(str(path)).faults == ()
    run = open_run(str(path))
    for name, values in fill.items():
        np.testing.assert_array_equal(run.array(name)[len(half) :], values)


def _manifest(run: Run, path: Path) -> object:
    settings = dataclasses.replace(run.manifest.settings, out=str(path))
    return dataclasses.replace(run.manifest, settings=settings)


def test_a_run_of_another_manifest_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    write_pages_run(path, problems=12, finish=False)
    before, half = _bytes(path), open_run(str(path))
    other = dataclasses.replace(_manifest(half, path), versions={"torch": "0"})
    with pytest.raises(RunDiffers, match=r"versions\.torch.*now '0'"):
        RunWriter.resume(path, plan=half.plan, manifest=other)
    assert _bytes(path) == before


def test_one_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    write_pages_run(path, problems=12, finish=False)
    half = open_run(str(path))

    def again() -> RunWriter:
        return RunWriter.resume(path, plan=half.plan, manifest=_manifest(half, path))

    with again(), pytest.raises(RunBusy, match=str(os.getpid())):
        again()
    # A file that a dead process of this host left behind does not block.
    lock = path.with_name(path.name + ".lock")
    lock.write_text(json.dumps({"pid": 999_999_999, "host": os.uname().nodename}))
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RunBusy):
            again()
    again().close()
    assert not lock.exists()


def test_places_that_cannot_be_written_leave_nothing(written: Written, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnwritablePath):
        write_pages_run(tmp_path / "file" / "run.zarr", problems=12)
    assert [item.name for item in tmp_path.iterdir()] == ["file"]
    before = _bytes(written.path)
    with pytest.raises(UnwritablePath, match="exists already"):
        write_pages_run(written.path, problems=12)
    assert _bytes(written.path) == before


# -- damage --------------------------------------------------------------------------------------


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    zarr.open_group(str(tmp_path / "plain"), mode="w")
    for name in ("absent", "empty", "file", "plain"):
        with pytest.raises(NotARun, match=name):
            open_run(str(tmp_path / name))


def test_a_newer_schema_is_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "newer.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(writer, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
        patch.setattr(opening, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
        write_pages_run(path, problems=12)
    with pytest.raises(NewerSchema, match=str(SCHEMA_VERSION + 1)):
        open_run(str(path))


FLIPS = 500


def test_every_flipped_byte_is_named_by_verify_and_never_read_as_data(tmp_path: Path) -> None:
    path = tmp_path / "small.zarr"
    write_pages_run(path, problems=4)
    rng = np.random.default_rng(0)
    names = rng.permutation(objects_under(path))
    sound = {folder: _read_below(path, folder) for folder in {n.split("/")[0] for n in names}}
    for name in np.resize(names, max(FLIPS, len(names))):
        with _flipped(path / name, rng):
            faults = verify(str(path)).faults
            assert any(f"{name}:" in str(fault) for fault in faults), (name, faults)
            folder = name.split("/")[0]
            try:
                got = _read_below(path, folder)
            except CorruptRun:
                continue
            # A bit that nobody has to read may be wrong; what is read may not.
            assert got == sound[folder], name
    assert verify(str(path)).faults == ()


@contextmanager
def _flipped(path: Path, rng: np.random.Generator) -> Iterator[None]:
    """One bit of the file, in place, for a while."""
    original = path.read_bytes()
    place, bit = int(rng.integers(len(original))), 1 << int(rng.integers(8))
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bytes([original[place] ^ bit]))
    try:
        yield
    finally:
        path.write_bytes(original)


def _read_below(path: Path, folder: str) -> list[object]:
    """All that can be read from what stands in this folder of a run."""
    run = open_run(str(path))
    carriers = range(len(run.carriers())) if folder == "carriers" else ()
    found: list[object] = [
        (
            run.carriers()[i],
            run.carrier_token_ids(i).tobytes(),
            *(run.response_text(i), run.response_start(i), run.seam_moved(i)),
        )
        for i in carriers
    ]
    if folder in POSITION_ARRAYS:
        found.append(run.array(folder).tobytes())
    if folder == "statistics":
        statistics = [run.default_statistics(measure) for measure in run.measures.names]
        names = [field.name for field in dataclasses.fields(Statistics)]
        found += [getattr(one, name).tobytes() for one in statistics for name in names]
    if folder == "vocabulary":
        found += run.token_bytes(range(run.manifest.vocabulary_size))
    return found


def _is_found(run: Path) -> bool:
    """By verify, or already at opening, as a named fault."""
    try:
        return bool(verify(str(run)).faults)
    except ProbingError:
        return True


def _shards(run: Path, name: str) -> Sequence[Path]:
    return sorted(path for path in (run / name / "c").rglob("*") if path.is_file())


def _swap(first: Path, second: Path) -> None:
    one, two = first.read_bytes(), second.read_bytes()
    assert one != two
    first.write_bytes(two)
    second.write_bytes(one)


def _flip_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "deleted": lambda run: _shards(run, "logit")[0].unlink(),
    "truncated": lambda run: os.truncate(_shards(run, "logit")[0], 1000),
    "emptied": lambda run: _shards(run, "tail_mean")[-1].write_bytes(b""),
    "edited": lambda run: (run / "logit" / "zarr.json").write_text(
        (run / "logit" / "zarr.json").read_text().replace("float32", "float64")
    ),
    "a bit": lambda run: _flip_middle(_shards(run, "logit")[0]),
    "no manifest": lambda run: (run / "manifest" / "zarr.json").unlink(),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_a_named_error_never_data(copy: Path, kind: str) -> None:
    DAMAGE[kind](copy)
    assert _is_found(copy)
    with pytest.raises(CorruptRun, match=r"logit|tail_mean|manifest"):
        _read_all(copy)
    # The default decoding is answered from what finishing stored.
    with pytest.raises(CorruptRun, match=r"logit|tail_mean|manifest"):
        comparison_table(
            open_run(str(copy)), other="ssd", decoding=Decoding(temperature=1.3), rule=KindRule()
        )


def _read_all(path: Path) -> None:
    run = open_run(str(path))
    run.array("logit")
    run.array("tail_mean")


def test_swapped_shards_are_a_named_error_even_of_one_length(copy: Path) -> None:
    first, second = _shards(copy, "logit")[:2]
    _swap(first, second)
    assert any("logit" in str(fault) for fault in verify(str(copy)).faults)
    with pytest.raises(CorruptRun, match="logit"):
        _read_all(copy)
    _swap(first, second)
    # Of one length: neither sizes nor the chunks' own checksums tell.
    names = ("kl_baseline_other", "kl_other_baseline")
    first, second = (_shards(copy, name)[0] for name in names)
    assert first.stat().st_size == second.stat().st_size
    _swap(first, second)
    assert len(verify(str(copy)).faults) == 2
    for name in names:
        run = open_run(str(copy))
        with pytest.raises(CorruptRun, match=name):
            run.array(name, np.arange(len(run)))
    _swap(first, second)
    # The copies from which whole arrays are read.
    first, second = (_shards(copy, f"statistics/copy_{name}")[0] for name in names)
    _swap(first, second)
    assert len(verify(str(copy)).faults) == 2
    with pytest.raises(CorruptRun, match="copy_kl_"):
        open_run(str(copy))
