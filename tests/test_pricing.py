"""The price of a run beside the run itself; nothing of a trial stays."""

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import TinyPair, tiny_adapter, tiny_pair
from tiny_runs import TEXTS, Recorder, record, scored, tiny_settings

from probing.carriers.sampling import Cell
from probing.cli import EXIT_FAULT, EXIT_USAGE, main
from probing.cli.pricing import MOST_CELLS, print_cells
from probing.errors import IdenticalModel, NoCarriersLeft, UnwritablePath
from probing.lexicon import Lexicon
from probing.scoring.preparing import prepare
from probing.scoring.pricing import Price, price
from probing.scoring.run import ScoreReport
from probing.settings import ModelSpec, RunSettings, Sampling, Selection
from probing.store.reader import Run, open_run
from probing.tokens.adapter import TokenizerAdapter

CARRIERS = 24


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> TinyPair:
    return tiny_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def whole(pair: TinyPair, tmp_path_factory: pytest.TempPathFactory) -> RunSettings:
    """Several units of a few carriers each."""
    folder = tmp_path_factory.mktemp("whole")
    carriers = folder / "in.jsonl"
    lines = [record(i % len(TEXTS), carrier_id=f"c{i}") for i in range(CARRIERS)]
    carriers.write_text("".join([*lines, "{bad\n"]), encoding="utf-8")
    adapter = tiny_adapter(pair.baseline, folder / "lora")
    settings = tiny_settings(folder / "run.zarr", pair, adapter=adapter, carriers=carriers)
    layout = replace(settings.store, shard_rows=128, chunk_rows=32)
    return replace(settings, store=layout, sampling=Sampling(carriers=18, by=("generator",)))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where trials go; empty again at the end, whatever happened."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def _bytes(place: str) -> int:
    return sum(len(content) for content in _files(Path(place)).values())


def _check(found: Price, report: ScoreReport, run: Run) -> None:
    """Counts as they came to be; bytes within the factor that a price is good for."""
    assert found.counts == report.counts
    assert found.skipped == report.skipped
    assert found.cells == report.cells
    assert found.units == report.units > 1
    assert found.size.positions == len(run) == run.plan.rows
    assert found.memory.mode == run.plan.execution["memory_mode"]
    encoded = [run.carrier_token_ids(index) for index in range(len(run.carriers()))]
    assert found.prompt_tokens + found.response_tokens == sum(map(len, encoded))
    assert 0 < found.read_tokens <= found.prompt_tokens + found.response_tokens
    assert 1 / 1.5 < found.size.total / _bytes(report.out) < 1.5
    # Texts are compressed to see, and commits hold a digest for each object of a shard.
    kept = {name: len(content) for name, content in _files(Path(report.out)).items()}
    texts = sum(
        size for name, size in kept.items() if name.startswith("carriers/") and "/c/" in name
    )
    commits = sum(size for name, size in kept.items() if name.startswith("commits/0"))
    assert found.size.texts == texts
    bare = replace(found.size, positions=0, texts=0, rest=0).total
    assert commits < bare < commits + 0.5 * _bytes(report.out)
    trial = found.trial
    assert 0 < trial.forward.low <= trial.forward.high
    assert 0 < trial.rows.low <= trial.rows.high
    assert trial.start < found.seconds.low <= found.seconds.high


@pytest.mark.parametrize("mode", ["auto", "sequential"])
def test_a_price_is_that_of_the_run(
    whole: RunSettings, tmp_path: Path, temporary: Path, mode: str
) -> None:
    out = tmp_path / "there" / "run.zarr"
    settings = replace(
        whole, out=str(out), scoring=replace(whole.scoring, memory_mode=mode, noise_carriers=2)
    )
    found = price(settings, progress=Recorder())
    assert not out.parent.exists()
    assert not found.exists
    assert (found.hidden_bytes > 0) == (mode == "sequential")
    report = scored(settings)
    _check(found, report, open_run(report.out))
    if mode == "auto":
        before = _files(tmp_path)
        again = price(settings, progress=Recorder())
        assert again.exists
        assert again.size == found.size
        assert _files(tmp_path) == before


def test_the_trial_is_on_the_carrier_of_median_length(whole: RunSettings, temporary: Path) -> None:
    # Every token is chosen, so a carrier is read but for its last token.
    everything = replace(whole, selection=Selection(all_positions=True), sampling=Sampling())
    found = price(everything, progress=Recorder())
    assert found.size.positions == found.response_tokens
    assert found.read_tokens == found.prompt_tokens + found.response_tokens - CARRIERS
    tokenizer = TokenizerAdapter.load(str(whole.baseline.path))
    encoded = prepare(everything, tokenizer=tokenizer, lexicon=Lexicon.load()).encoded
    read = sorted(len(each.token_ids) - 1 for each in encoded)
    assert found.trial.tokens == read[CARRIERS // 2]
    assert found.trial.copies == max(1, whole.scoring.token_budget // found.trial.tokens)


def test_what_a_run_refuses_a_price_refuses(
    whole: RunSettings, tmp_path: Path, temporary: Path
) -> None:
    same = replace(whole, others=(ModelSpec(name="same", path=whole.baseline.path),))
    nothing = replace(
        whole, selection=Selection(interval_every=0, random_count=0, marker_window=-1)
    )
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    for settings, fault in (
        (same, IdenticalModel),
        (nothing, NoCarriersLeft),
        (replace(whole, out=str(blocked / "run.zarr")), UnwritablePath),
    ):
        with pytest.raises(fault):
            price(settings, progress=Recorder())
        assert not os.path.lexists(settings.out) or settings.out == whole.out


def _command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["probing", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return int(ended.value.code or 0), captured.out + captured.err


def test_the_command_prices_and_writes_nothing(
    whole: RunSettings,
    tmp_path: Path,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run.zarr"
    run_file = tmp_path / "run.toml"
    run_file.write_text(
        f'out = "{out}"\ncarriers = ["{whole.carriers[0]}"]\n'
        f'[baseline]\npath = "{whole.baseline.path}"\n'
        f'[others.ssd]\npath = "{whole.others[0].path}"\n'
        '[sampling]\ncarriers = 6\nby = ["generator"]\nallocation = "proportional"\n',
        encoding="utf-8",
    )
    before = _files(tmp_path)
    code, said = _command(monkeypatch, capsys, "score", str(run_file), "--dry-run")
    assert code == 0, said
    for words in (
        "in.jsonl:25: bad JSON",
        "sample of carriers, proportional over generator:",
        f"carriers: 6 of {CARRIERS} available, 1 records skipped",
        "each model reads",
        "in 1 units",
        "memory mode together",
        "baseline on ",
        "token budget: 2,048 a batch",
        "expected time: ",
        "so short a trial is a rough guess",
        "disk: about ",
        f"nothing was written to {out}; the same command without --dry-run scores",
    ):
        assert words in said, words
    assert "reused" not in said
    assert _files(tmp_path) == before
    code, said = _command(monkeypatch, capsys, "score", str(run_file))
    assert code == 0, said
    rows = [line.split() for line in said.splitlines()]
    assert ["base", "3", "12", "3"] in rows
    assert ["ssd", "3", "12", "3"] in rows
    code, said = _command(monkeypatch, capsys, "score", str(run_file), "--dry-run")
    assert "something stands there already and was not looked at" in said
    assert _command(monkeypatch, capsys, "score", "--dry-run")[0] == EXIT_USAGE
    flags = ["--carriers", "absent.jsonl", "--dry-run"]
    assert _command(monkeypatch, capsys, "score", str(run_file), *flags)[0] == EXIT_FAULT


def test_a_long_table_of_cells_is_cut_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    cells = [Cell((f"s{i}\x1b", "x"), 2, 5, 1) for i in range(MOST_CELLS + 3)]
    print_cells(cells, Sampling(carriers=9, by=("subject", "source"), paired=True))
    said = capsys.readouterr().out
    assert "sample of problems, balanced over subject, source:" in said
    assert len(said.splitlines()) == MOST_CELLS + 3
    assert "… 3 more combinations: 6 wanted, 15 available, 3 taken" in said
    assert "\x1b" not in said
    print_cells(cells, Sampling(carriers=0))
    assert capsys.readouterr().out == ""
