"""The demo trio on real carriers against a plain, slow computation over the whole vocabulary."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PeftModel
from rows import PlainStatistics, plain_kl, plain_statistics
from scipy.special import log_softmax, softmax
from transformers import AutoModelForCausalLM

from probing.reporting.tables import comparison_table, position_table
from probing.run_file import load_run_file
from probing.scoring.bundled import taught_model
from probing.scoring.run import score
from probing.settings import Decoding, KindRule, RunSettings, Sampling
from probing.store.reader import Run, open_run

pytestmark = pytest.mark.models

DEMO = Path("examples/ssd_smollm2/demo.toml")
CACHE = Path("cache")
CARRIERS = 6
NEAR = 1e-4
"""Tolerance of logits and probabilities; two cumulative masses closer than this may order either
way."""
SETTINGS = (
    Decoding(),
    Decoding(temperature=1.5),
    Decoding(temperature=0.6, top_k=50, top_p=0.9),
    Decoding(temperature=1.1 * 1.5, top_k=0, top_p=0.8),
    Decoding(temperature=0.25, top_k=5, top_p=1.0),
    Decoding(temperature=2.0, top_k=200, top_p=0.95),
)


class Silent:
    """A progress that says nothing."""

    def start(self, total_positions: int, *, stored: int) -> None: ...

    def advance(self, positions: int) -> None: ...

    def note(self, text: str) -> None: ...


@dataclasses.dataclass(frozen=True)
class Real:
    """The run, and full float32 rows of every stored position under each model."""

    run: Run
    rows: tuple[np.ndarray, ...]

    def measure(self, name: str) -> np.ndarray:
        """Rows of a model or of a mean of several models' logits."""
        weights = self.run.measures.weights[self.run.measure_index(name)]
        return sum(w * rows for w, rows in zip(weights, self.rows, strict=True) if w)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Real:
    folder = tmp_path_factory.mktemp("real")
    model = taught_model(CACHE, adapter_dir=DEMO.parent / "adapters" / "baseline")
    demo = load_run_file(DEMO)
    lines = Path(demo.carriers[0]).read_text(encoding="utf-8").splitlines()
    few = folder / "carriers.jsonl"
    few.write_text("\n".join(lines[:: len(lines) // CARRIERS][:CARRIERS]), encoding="utf-8")
    settings = dataclasses.replace(
        demo, out=str(folder / "run.zarr"), carriers=(str(few),), sampling=Sampling()
    )
    score(settings, progress=Silent())
    run = open_run(settings.out)
    return Real(run, _full_rows(run, settings, model))


def _full_rows(run: Run, settings: RunSettings, folder: Path) -> tuple[np.ndarray, ...]:
    """One whole forward pass per carrier and model, no padding, no cache, no cutting."""
    rows = []
    for adapter in (None, *(other.adapter for other in settings.others)):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        if adapter is not None:
            model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
        rows.append(_rows_of(run, model))
    return tuple(rows)


def _rows_of(run: Run, model: torch.nn.Module) -> np.ndarray:
    places = run.positions()
    rows = []
    for carrier in range(len(run.carriers())):
        ids = torch.tensor(run.carrier_token_ids(carrier).astype(np.int64))[None]
        with torch.inference_mode():
            logits = model(ids).logits[0].numpy()
        start = run.response_start(carrier)
        mine = places.position[places.carrier == carrier]
        # y_i is at start + i, so the row that predicts it is one before.
        rows.append(logits[start + mine - 1])
    order = np.concatenate(
        [np.flatnonzero(places.carrier == c) for c in range(len(run.carriers()))]
    )
    whole = np.empty((len(places.carrier), rows[0].shape[1]), dtype=np.float32)
    whole[order] = np.concatenate(rows)
    return whole


def test_stored_logits_ids_ranks_and_tokens(real: Real) -> None:
    run, places = real.run, real.run.positions()
    ids = run.array("candidate_id")
    logits = run.array("logit")
    used = ids >= 0
    assert len(run) > 70
    for row in range(len(run)):
        carrier = int(places.carrier[row])
        token = run.carrier_token_ids(carrier)[run.response_start(carrier) + places.position[row]]
        assert token == places.token_id[row]
        for model in range(len(real.rows)):
            full = real.rows[model][row]
            own = logits[row, model, used[row]]
            np.testing.assert_allclose(own, full[ids[row, used[row]]], atol=NEAR)
            top = np.argsort(-full, kind="stable")[:256]
            missing = np.setdiff1d(top, ids[row])
            assert (full[missing] < full[top[-1]] + NEAR).all()
            realised = run.array("realised_logit")[row, model]
            assert realised == pytest.approx(full[token], abs=NEAR)
            nearby = np.abs(full - full[token]) < NEAR
            rank = 1 + (full > full[token]).sum()
            assert abs(run.array("realised_rank")[row, model] - rank) < nearby.sum()


def test_stored_normalisers_and_divergences(real: Real) -> None:
    temperatures = real.run.manifest.settings.scoring.temperatures
    assert len(temperatures) > 1
    for index, temperature in enumerate(temperatures):
        logs = [log_softmax(rows.astype(np.float64) / temperature, axis=1) for rows in real.rows]
        for model, log in enumerate(logs):
            scaled = real.rows[model][:, 0] / temperature - log[:, 0]
            np.testing.assert_allclose(real.run.array("log_z")[:, model, index], scaled, atol=NEAR)
        for pair, other in enumerate(logs[1:]):
            a, b = np.exp(logs[0]), np.exp(other)
            half = np.log((a + b) / 2)
            want = {
                "kl_baseline_other": (a * (logs[0] - other)).sum(axis=1),
                "kl_other_baseline": (b * (other - logs[0])).sum(axis=1),
                "js": ((a * (logs[0] - half)).sum(axis=1) + (b * (other - half)).sum(axis=1)) / 2,
            }
            for name, values in want.items():
                got = real.run.array(name)[:, pair, index]
                np.testing.assert_allclose(got, values, atol=NEAR, err_msg=name)


@pytest.mark.parametrize("decoding", SETTINGS, ids=str)
def test_every_statistic_at_every_setting(real: Real, decoding: Decoding) -> None:
    sizes, off = 0, 0
    for measure in real.run.measures.names:
        full = real.measure(measure)
        got = real.run.statistics(measure, decoding=decoding, rule=KindRule())
        for row in range(len(real.run)):
            plain = plain_statistics(full[row], decoding=decoding)
            _near(got, row, plain)
            for name, gap in (("nucleus_size", plain.gap), ("nucleus_size_full", plain.gap_full)):
                value, want = getattr(got, name)[row], getattr(plain, name)
                sizes += 1
                if np.isinf(value):
                    assert want > 256
                elif value != want:
                    assert gap < NEAR, f"{name} is {value}, not {want}"
                    off += 1
    assert off <= sizes / 100


def _near(got: object, row: int, plain: PlainStatistics) -> None:
    for name in ("top1_prob", "tail_mass", "excluded_mass", "top1_prob_kept"):
        value = getattr(got, name)[row]
        if not np.isnan(value):
            assert value == pytest.approx(getattr(plain, name), abs=3 * NEAR), name
    for name in ("entropy_nats", "varentropy", "entropy_kept_nats"):
        value = getattr(got, name)[row]
        if not np.isnan(value):
            assert value == pytest.approx(getattr(plain, name), abs=5e-3), name
    # A logit's error grows with 1 / T.
    assert got.log_z[row] == pytest.approx(plain.log_z, abs=4 * NEAR)
    assert got.margin_nats[row] == pytest.approx(plain.margin_nats, abs=8 * NEAR)
    if plain.margin_nats > NEAR:
        assert got.top1_id[row] == plain.top1_id


@pytest.mark.parametrize("temperature", [0.4, 1.2, 2.0])
def test_divergences_at_temperatures_nobody_named(real: Real, temperature: float) -> None:
    table = _comparison(real, Decoding(temperature=temperature))
    for row in range(0, len(table), 3):
        a, b = real.rows[0][row], real.rows[1][row]
        for name, first, second in (("baseline_other", a, b), ("other_baseline", b, a)):
            want = plain_kl(first, second, temperature_a=temperature, temperature_b=temperature)
            assert table[f"kl_{name}"][row] == pytest.approx(want, abs=5e-3)


def test_the_tables_say_what_the_rows_say(real: Real) -> None:
    decoding = Decoding(temperature=1.5)
    table = _comparison(real, decoding)
    a, b = (softmax(rows.astype(np.float64) / 1.5, axis=1) for rows in real.rows[:2])
    top = a.argmax(axis=1)
    each = np.arange(len(top))
    want: dict[str, np.ndarray] = {
        "top1_prob_delta": b.max(axis=1) - a.max(axis=1),
        "baseline_top1_prob_delta": b[each, top] - a[each, top],
        "realised_logprob_other": np.log(b[each, real.run.positions().token_id]),
    }
    for name, values in want.items():
        np.testing.assert_allclose(table[name], values, atol=2 * NEAR, err_msg=name)
    long = position_table(real.run, decoding=decoding, rule=KindRule())
    assert len(long) == 3 * len(table)
    by_model = long[long["model"] == "ssd"].reset_index(drop=True)
    np.testing.assert_allclose(by_model["top1_prob"], b.max(axis=1), atol=NEAR)


def test_jaccard_of_the_kept_sets(real: Real) -> None:
    decoding = Decoding(temperature=1.2, top_k=20, top_p=0.9)
    table = _comparison(real, decoding)
    off = 0
    for row in range(len(table)):
        sets = [_kept_set(rows[row], decoding) for rows in real.rows[:2]]
        want = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
        off += table["nucleus_jaccard"][row] != pytest.approx(want)
    assert off <= len(table) / 100


def _kept_set(row: np.ndarray, decoding: Decoding) -> set[int]:
    size = plain_statistics(row, decoding=decoding).nucleus_size
    return set(np.argsort(-row, kind="stable")[:size].tolist())


def _comparison(real: Real, decoding: Decoding) -> pd.DataFrame:
    return comparison_table(real.run, other="ssd", decoding=decoding, rule=KindRule())
