"""From carrier files to a stored run and back, against a plain computation; stops and faults."""

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from tiny import (
    PADDED_VOCABULARY,
    VOCABULARY,
    TinyPair,
    copy_model,
    edit_weights,
    load_merged,
    load_plain,
    tiny_adapter,
    tiny_pair,
    tiny_tokenizer,
)
from tiny_runs import TEXTS, TOP_K, Recorder, record, scored, tiny_settings, write_carriers
from transformers import AutoTokenizer, PreTrainedModel

from probing.errors import (
    IdenticalModel,
    ModelFault,
    NoCarriersLeft,
    NonFiniteLogits,
    ProbingError,
    RunDiffers,
    StoppedEarly,
    UnreadableInput,
    UnwritablePath,
    UsageFault,
    VocabularyMismatch,
)
from probing.scoring import rows, units
from probing.scoring.run import score
from probing.scoring.stopping import Stop
from probing.settings import (
    ModelSpec,
    RunSettings,
    Sampling,
    Selection,
)
from probing.store.reader import Run, open_run
from probing.store.schema import TAIL_RESOLUTION
from probing.store.verify import verify


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> TinyPair:
    return tiny_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def adapter(pair: TinyPair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_adapter(pair.baseline, tmp_path_factory.mktemp("adapter") / "lora")


@pytest.fixture(scope="module")
def carriers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("carriers") / "six.jsonl"
    return write_carriers(path)


@pytest.fixture
def settings(pair: TinyPair, adapter: Path, carriers: Path, tmp_path: Path) -> RunSettings:
    return tiny_settings(tmp_path / "run.zarr", pair, adapter=adapter, carriers=carriers)


def plain_models(settings: RunSettings) -> list[PreTrainedModel]:
    base = Path(settings.baseline.path or "")
    return [
        load_plain(base),
        load_plain(Path(settings.others[0].path or "")),
        load_merged(base, Path(settings.others[1].adapter or "")),
    ]


def plain_logits(run: Run, models: list[PreTrainedModel]) -> np.ndarray:
    """Every row of the run read anew, one token more at a time: (position, model, vocabulary)."""
    table = run.positions()
    carriers = run.carriers()
    rows = []
    for carrier, token, end in zip(table.carrier, table.token_id, table.position, strict=True):
        ids = run.carrier_token_ids(int(carrier))
        start = response_start(run, int(carrier), carriers[carrier].carrier_id)
        assert ids[start + end] == token
        read = torch.from_numpy(ids[: start + end].astype(np.int64))[None]
        with torch.no_grad():
            rows.append([model(read, use_cache=False).logits[0, -1].numpy() for model in models])
    return np.array(rows, dtype=np.float64)


def response_start(run: Run, carrier: int, carrier_id: str) -> int:
    """The response is the end of the carrier; found by its text, apart from what scoring knows."""
    response = TEXTS[int(carrier_id[1:])][1].encode()
    pieces = run.token_bytes(run.carrier_token_ids(carrier))
    start = max(i for i in range(len(pieces)) if b"".join(pieces[i:]) == response)
    assert b"".join(pieces[:start]).endswith(b"<|im_start|>assistant\n")
    return start


def test_a_stored_run_is_the_plain_computation(settings: RunSettings) -> None:
    report = scored(settings)
    assert verify(settings.out).faults == ()
    run = open_run(settings.out)
    assert run.complete
    assert len(run) == report.counts["positions"] > 60
    logits = plain_logits(run, plain_models(settings))
    assert logits.shape == (len(run), 3, PADDED_VOCABULARY)
    check_candidates(run, logits, settings)
    check_realised_and_divergences(run, logits, settings)
    check_distributions(run, logits)


def check_candidates(run: Run, logits: np.ndarray, settings: RunSettings) -> None:
    ids, stored = run.array("candidate_id"), run.array("logit")
    watched = set(run.manifest.watched_ids)
    assert len(watched) == settings.store.max_watched
    for i, row in enumerate(logits):
        held = ids[i][ids[i] >= 0]
        assert len(set(held.tolist())) == len(held)
        assert np.abs(stored[i, :, : len(held)] - row[:, held]).max() < 1e-4
        assert watched <= set(held.tolist())
        best = np.full(len(held), np.inf)
        for model in row:
            order = np.argsort(-model, kind="stable")
            # No gap that decides is smaller than what two ways to compute may differ by.
            assert model[order[TOP_K - 1]] - model[order[TOP_K]] > 1e-5
            assert set(order[:TOP_K].tolist()) <= set(held.tolist())
            rank = np.empty(len(order))
            rank[order] = np.arange(1, len(order) + 1)
            best = np.minimum(best, np.where(rank[held] <= TOP_K, rank[held], TOP_K + 1))
        assert (np.diff(best) >= 0).all()


def check_realised_and_divergences(run: Run, logits: np.ndarray, settings: RunSettings) -> None:
    own = np.take_along_axis(logits, run.positions().token_id[:, None, None], axis=2)
    assert np.abs(run.array("realised_logit") - own[:, :, 0]).max() < 1e-4
    assert (run.array("realised_rank") == 1 + (logits > own + 1e-6).sum(axis=2)).all()
    assert (run.array("masked") == 0).all()
    for t, temperature in enumerate(settings.scoring.temperatures):
        log_z = logsumexp(logits / temperature, axis=2)
        assert np.abs(run.array("log_z")[:, :, t] - log_z).max() < 1e-4
        log_p = logits / temperature - log_z[:, :, None]
        for pair in range(2):
            a, b = log_p[:, 0], log_p[:, pair + 1]
            middle = np.log((np.exp(a) + np.exp(b)) / 2)
            wanted = {
                "kl_baseline_other": (np.exp(a) * (a - b)).sum(axis=1),
                "kl_other_baseline": (np.exp(b) * (b - a)).sum(axis=1),
                "js": (np.exp(a) * (a - middle) + np.exp(b) * (b - middle)).sum(axis=1) / 2,
            }
            for name, values in wanted.items():
                got = run.array(name)[:, pair, t]
                np.testing.assert_allclose(got, values, rtol=1e-3, atol=1e-7)
                assert (got > 0).all()


def check_distributions(run: Run, logits: np.ndarray) -> None:
    ids = run.array("candidate_id")
    for measure, weights in zip(run.measures.names, run.measures.weights, strict=True):
        mixed = np.einsum("pmv,m->pv", logits, weights)
        found = run.distributions(measure)
        for i, row in enumerate(mixed):
            outside = np.setdiff1d(np.arange(row.size), ids[i])
            top = row[outside].max()
            assert abs(found.tail.reference[i] - top) < 1e-4
            shifted = row[outside] - top
            for n, beta in enumerate(found.betas):
                weight = softmax(beta * shifted)
                log_mass = logsumexp(beta * shifted)
                assert abs(found.tail.log_mass[i, n] - log_mass) < 1e-4
                assert abs(found.tail.mean[i, n] - (weight * shifted).sum()) < 1e-4
                assert abs(found.tail.square[i, n] - (weight * shifted**2).sum()) < 1e-3


def test_report_and_manifest_tell_the_whole_story(settings: RunSettings) -> None:
    progress = Recorder()
    report = score(settings, progress=progress)
    assert report.models == ("base", "ssd", "control.1")
    assert progress.total == progress.done == report.counts["positions"]
    assert report.counts["records_read"] == report.counts["carriers_sampled"] == 6
    assert report.units > 2
    assert report.reused_units == 0
    assert [check.two_pass for check in report.checks] == [True] * 3
    assert all(check.difference < 1e-4 for check in report.checks)
    assert [change.name for change in report.changes] == ["ssd", "control.1"]
    assert 0.5 < report.changes[0].changed_stored <= 1
    manifest = open_run(settings.out).manifest
    assert manifest.selector_names[:3] == ("interval", "random", "all")
    assert manifest.models["ssd"]["dtype"] == "float32"
    assert manifest.models["ssd"]["attention"] == "sdpa"
    assert len(manifest.models["control.1"]["weights_sha256"]) == 64
    assert manifest.models["ssd"]["weights_sha256"] != manifest.models["base"]["weights_sha256"]
    assert manifest.settings == replace(settings, out="")
    assert manifest.versions["torch"] == torch.__version__
    assert manifest.inputs["carriers"].keys() == set(settings.carriers)
    summary = open_run(settings.out).summary
    assert [check["name"] for check in summary["self_check"]] == list(report.models)


def contents(run: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("number", "where", "kept"),
    [(signal.SIGTERM, "between units", (0, 1, 2)), (signal.SIGINT, "inside a unit", (0, 1))],
)
def test_a_signal_within_a_unit_and_the_resumed_run_is_an_unbroken_one(
    settings: RunSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    where: str,
    kept: tuple[int, ...],
) -> None:
    unbroken = replace(settings, out=str(tmp_path / "unbroken.zarr"))
    scored(unbroken)
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    asked: list[signal.Signals] = []

    def reduce_rows(*args: Any, **options: Any) -> Any:
        if asked:
            signal.raise_signal(asked.pop())
        return rows.reduce_rows(*args, **options)

    # In a block of the third unit: the second is written while it is scored.
    monkeypatch.setattr(units, "reduce_rows", reduce_rows)
    first_only = Recorder(lambda done: asked.append(number) if done <= 32 else None)
    with pytest.raises(StoppedEarly, match=f"by {number.name} {where}.*same command goes on"):
        score(settings, progress=first_only)
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert open_run(settings.out).committed == kept
    report = scored(settings)
    assert report.reused_units == len(kept)
    assert contents(Path(settings.out)) == contents(Path(unbroken.out))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_says_where_it_came(number: signal.Signals) -> None:
    stop = Stop()
    stop.check()
    stop.asked_by = number
    with pytest.raises(StoppedEarly, match="before this call began a unit"):
        stop.check()
    with stop.unit():
        if number == signal.SIGINT:
            with pytest.raises(StoppedEarly, match="inside a unit"):
                stop.check()
        else:
            stop.check()
    with pytest.raises(StoppedEarly, match="between units"):
        stop.check()


def test_a_complete_run_is_left_as_it_is(settings: RunSettings) -> None:
    scored(settings)
    before = contents(Path(settings.out))
    progress = Recorder()
    report = score(settings, progress=progress)
    assert report.was_complete
    assert any("nothing to score" in note for note in progress.notes)
    assert not any("Loading models" in note for note in progress.notes)
    assert contents(Path(settings.out)) == before


def test_a_run_of_other_settings_is_not_touched(settings: RunSettings) -> None:
    scored(settings)
    before = contents(Path(settings.out))
    other = replace(settings, selection=replace(settings.selection, seed=1))
    with pytest.raises(RunDiffers, match=r"selection\.seed: stored 0, now 1"):
        scored(other)
    assert contents(Path(settings.out)) == before


def test_a_begun_run_of_other_settings_does_not_go_on(settings: RunSettings) -> None:
    with pytest.raises(StoppedEarly):
        score(settings, progress=Recorder(lambda _: signal.raise_signal(signal.SIGTERM)))
    other = replace(settings, scoring=replace(settings.scoring, token_budget=97))
    with pytest.raises(RunDiffers, match="token_budget"):
        scored(other)


def test_batches_and_blocks_leave_no_trace(settings: RunSettings, tmp_path: Path) -> None:
    scored(settings)
    wide = replace(
        settings,
        out=str(tmp_path / "wide.zarr"),
        scoring=replace(settings.scoring, token_budget=9999, chunk_tokens=9999, head_rows=999),
    )
    scored(wide)
    one, other = open_run(settings.out), open_run(wide.out)
    assert (one.array("candidate_id") == other.array("candidate_id")).all()
    for name in ("logit", "log_z", "js", "tail_log_mass", "tail_mean"):
        step = TAIL_RESOLUTION.get(name, 0)  # Rounding may go the other way.
        np.testing.assert_allclose(one.array(name), other.array(name), atol=1e-4 + step)


def test_bad_records_are_skipped_listed_and_counted(settings: RunSettings, tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    lines = [record(0), "{bad\n", record(0), record(1, response=""), record(2), record(5)]
    path.write_text("".join(lines), encoding="utf-8")
    report = scored(
        replace(settings, carriers=(str(path),), sampling=Sampling(max_response_tokens=50))
    )
    assert report.counts["records_read"] == 6
    assert report.counts["records_skipped"] == len(report.skipped) == 4
    assert report.counts["carriers_sampled"] == 2
    assert "over-long response" in [each.reason for each in report.skipped]
    assert open_run(settings.out).manifest.skipped == report.skipped


def test_ids_that_spell_more_or_less_than_the_response_are_counted(
    settings: RunSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(settings.baseline.path)

    def with_ids(index: int, end: str = "", **fields: str) -> str:
        asked, said = (tokenizer(text)["input_ids"] for text in TEXTS[index])
        ids = {"prompt_token_ids": asked, "response_token_ids": said + tokenizer(end)["input_ids"]}
        return record(index, **ids, **fields)

    path = tmp_path / "ids.jsonl"
    lines = (
        with_ids(0),
        with_ids(1, "<|im_end|>"),
        with_ids(2, " And more."),
        with_ids(3, response=TEXTS[3][1][:-4]),
        with_ids(4, response="No."),
    )
    path.write_text("".join(lines), encoding="utf-8")
    report = scored(replace(settings, carriers=(str(path),)))
    assert report.counts["carriers_sampled"] == 4
    assert report.counts["carriers_spelt_otherwise"] == 2
    assert "2 carriers have ids that spell more or less than their response" in caplog.text
    (skipped,) = report.skipped
    assert (skipped.file, skipped.line) == (str(path), 5)
    assert skipped.reason == "ids of another response"
    assert skipped.detail.startswith("carrier c4: ")


def test_think_close_ends_of_text_and_words_are_watched(settings: RunSettings) -> None:
    roomy = replace(settings, store=replace(settings.store, max_watched=32))
    scored(roomy)
    run = open_run(settings.out)
    watched = {piece.decode() for piece in run.token_bytes(np.array(run.manifest.watched_ids))}
    assert {"</think>", "<|endoftext|>", "Let", " Let", "Wait", " Maybe"} <= watched


# --- Faults: the stated kind of error, and nothing half-written left ----------------------------


def refuse(settings: RunSettings, fault: type[ProbingError], match: str) -> None:
    parent = Path(settings.out).parent
    before = sorted(parent.rglob("*")) if parent.is_dir() else []
    with pytest.raises(fault, match=match):
        scored(settings)
    after = sorted(parent.rglob("*")) if parent.is_dir() else []
    assert [path for path in after if path not in before and path.suffix != ".lock"] == []


def with_other(settings: RunSettings, **spec: str) -> RunSettings:
    return replace(settings, others=(ModelSpec(name="ssd", **spec),))


def test_vocabularies_that_differ(settings: RunSettings, pair: TinyPair, tmp_path: Path) -> None:
    other = copy_model(pair.trained, tmp_path / "other")
    tiny_tokenizer(other, vocabulary=VOCABULARY, extra="<|extra|>")
    refuse(
        with_other(settings, path=str(other)),
        VocabularyMismatch,
        r"'base' and 'ssd' must share one vocabulary.*first difference: .*extra",
    )


def test_an_adapter_for_another_base(settings: RunSettings, tmp_path: Path) -> None:
    other = tiny_pair(tmp_path / "gemma", "gemma3")
    foreign = tiny_adapter(other.baseline, tmp_path / "foreign", targets=("k_proj",))
    refuse(with_other(settings, adapter=str(foreign)), ModelFault, "another base")


def test_an_identical_trained_model(settings: RunSettings, pair: TinyPair, tmp_path: Path) -> None:
    twin = copy_model(pair.baseline, tmp_path / "twin")
    refuse(with_other(settings, path=str(twin)), IdenticalModel, "must differ from the baseline")
    zero = tiny_adapter(pair.baseline, tmp_path / "zero", zero=True)
    refuse(with_other(settings, adapter=str(zero)), IdenticalModel, "B A is zero")


def test_nan_logits_everywhere(settings: RunSettings, pair: TinyPair, tmp_path: Path) -> None:
    broken = copy_model(pair.trained, tmp_path / "broken")
    edit_weights(broken, lambda weights: weights["lm_head.weight"].fill_(torch.nan))
    refuse(with_other(settings, path=str(broken)), NonFiniteLogits, "'ssd' must give finite")


def test_nan_logits_at_one_token_name_carrier_and_position(
    settings: RunSettings, pair: TinyPair, tmp_path: Path
) -> None:
    broken = copy_model(pair.trained, tmp_path / "broken")
    # Only the last and longest carrier holds this token, so the self-check does not meet it.
    token = rare_token(settings)
    name = "model.embed_tokens.weight"
    edit_weights(broken, lambda weights: weights[name][token].fill_(torch.nan))
    wide = replace(settings, selection=Selection(all_positions=True))
    with pytest.raises(NonFiniteLogits, match=r"'ssd'.*nan at position \d+ of carrier 'c5'"):
        scored(with_other(wide, path=str(broken)))
    # What was committed before is whole and stays; nothing else is there.
    assert verify(settings.out).faults == ()
    assert 5 not in open_run(settings.out).positions().carrier


def test_nan_logits_in_the_first_unit_leave_no_run(
    settings: RunSettings, pair: TinyPair, tmp_path: Path
) -> None:
    broken = copy_model(pair.trained, tmp_path / "broken")
    token = rare_token(settings)
    name = "model.embed_tokens.weight"
    edit_weights(broken, lambda weights: weights[name][token].fill_(torch.nan))
    roomy = replace(
        settings,
        selection=Selection(all_positions=True),
        store=replace(settings.store, shard_rows=1024),
    )
    refuse(with_other(roomy, path=str(broken)), NonFiniteLogits, "of carrier 'c5'")


def rare_token(settings: RunSettings) -> int:
    from probing.tokens.adapter import TokenizerAdapter

    tokenizer = TokenizerAdapter.load(str(settings.baseline.path))
    seen = [set(tokenizer._encode_text(prompt + text).ids) for prompt, text in TEXTS]
    return min(seen[5].difference(*seen[:5]))


def test_an_output_that_cannot_be_written(settings: RunSettings, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way", encoding="utf-8")
    refuse(replace(settings, out=str(file / "run.zarr")), UnwritablePath, "not a writable folder")
    refuse(replace(settings, out=str(file)), UnwritablePath, "not a writable folder")
    assert file.read_text(encoding="utf-8") == "in the way"
    refuse(replace(settings, out="s3://bucket/run.zarr"), UsageFault, "local folder")


def test_carriers_that_cannot_be_read(settings: RunSettings, tmp_path: Path) -> None:
    refuse(replace(settings, carriers=(str(tmp_path / "absent"),)), UnreadableInput, "absent")
    empty = tmp_path / "empty.jsonl"
    empty.write_text(record(0, response=""), encoding="utf-8")
    refuse(replace(settings, carriers=(str(empty),)), NoCarriersLeft, "carrier")


def test_too_few_ids_for_the_default_statistics(settings: RunSettings) -> None:
    small = replace(settings.store, top_k=19)
    refuse(replace(settings, store=small), UsageFault, r"store\.top_k must be >= 20, got 19")


def test_no_position_chosen(settings: RunSettings) -> None:
    off = Selection(interval_every=0, random_count=0, marker_window=-1)
    refuse(replace(settings, selection=off), NoCarriersLeft, "position")


@pytest.mark.parametrize("temperatures", [(), (0.0,)])
def test_temperatures_without_divergences(
    settings: RunSettings, temperatures: tuple[float, ...]
) -> None:
    scoring = replace(settings.scoring, temperatures=temperatures)
    refuse(replace(settings, scoring=scoring), UsageFault, "temperatures must")
