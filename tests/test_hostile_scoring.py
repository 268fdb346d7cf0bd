"""Before there is a run and while it is made: hostile models, files, carriers are told as text."""

import json
import shutil
from pathlib import Path

import pytest
from hostile import BIDI, BIG, ESCAPES, FORGED, IMAGE, TEXTS, Called, calling, hostile_carriers
from tiny import tiny_adapter, tiny_pair, tiny_tokenizer

from probing.carriers.fields import fields_of
from probing.cli import EXIT_FAULT
from probing.reporting.text import LONGEST_SENTENCE, LONGEST_TOKEN, line

BREAK = f"\n{FORGED}"
BASE = f"base {IMAGE} [red]b[/red] :bomb:{BREAK}"
OTHER = f"=other\t {ESCAPES}{BREAK}"
LORA = f"[/nothing] {BIDI}\x85{BREAK}"
LOG = f"=1+1 \x1b[31m[red]\u202e{BREAK}.jsonl"
OUT = f"cache/[bold]run[red] :bomb: \x1b[31m\u202e{BREAK}.zarr"
ESCAPED = 10
"""Characters that one may become, as a `\\U0001f600` does."""


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Called:
    call = calling(monkeypatch, capsys)

    def short(*arguments: str, code: int = 0) -> str:
        text = call(*arguments, code=code)
        assert max(map(len, text.splitlines())) < ESCAPED * LONGEST_SENTENCE
        return text

    return short


def toml(text: str) -> str:
    """A string of a run file: what JSON escapes, and the one more that TOML wants escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with hostile carriers, models and a run file that takes them."""
    folder = tmp_path_factory.mktemp("scoring")
    pair = tiny_pair(folder)
    tiny_adapter(pair.baseline, folder / LORA.replace("/", "|"))
    shutil.move(pair.trained, folder / OTHER.replace("/", "|"))
    carriers = [fields_of(carrier) for carrier in hostile_carriers()[:-1]]
    first = carriers[0]
    carriers += [
        {**first, "carrier_id": f"a carrier{BREAK}", "subject": f"a subject{BREAK}"},
        {**first, "carrier_id": f"{BIG}{BREAK}", "subject": f"{BREAK}{BIG}"},
        {**first, "carrier_id": f"long{BREAK}", "response": f"Wait, {BIG}"},
        first,
        {"carrier_id": f"{BREAK}{BIG}"},
    ]
    records = [json.dumps({**one, "template": "raw"}) for one in carriers]
    (folder / LOG).write_text("\n".join([*records, ESCAPES]), encoding="utf-8")
    (folder / "run.toml").write_text(
        f"out = {toml(OUT)}\ncarriers = [{toml(LOG)}]\n"
        f'[baseline]\nname = {toml(BASE)}\npath = "baseline"\n'
        f"[others.{toml(OTHER)}]\npath = {toml(OTHER.replace('/', '|'))}\n"
        f"[others.{toml(LORA)}]\nadapter = {toml(LORA.replace('/', '|'))}\n"
        '[sampling]\ncarriers = 3\nby = ["subject", "correct"]\nmax_response_tokens = 600\n'
        '[scoring]\ndevice = "cpu"\nnoise_carriers = 0\n',
        encoding="utf-8",
    )
    return folder


def test_scoring_tells_hostile_names_as_text(
    called: Called, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    for arguments in (("--dry-run",), ()):
        text = called("score", "run.toml", *arguments)
        for name in (BASE, OTHER, LORA, OUT):
            assert line(name) in text, name
        assert f"skipped {line(LOG)}:{len(TEXTS) + 4}: duplicate id" in text
        # What is logged of the sample names labels.
        assert f"{line(TEXTS[0])} × " in text
    assert line(OUT) in called("verify", OUT)
    assert f"{line(OTHER)} - {line(BASE)}" in called("multiverse", OUT)
    assert line(OUT) in called("doctor")


def test_a_hostile_folder_is_refused_as_text(called: Called, place: Path) -> None:
    for name in (BASE, LORA):
        flags = ("--out", "x.zarr", "--carriers", LOG, "--baseline", f"{place}/no {BIDI}")
        told = called("score", *flags, "--other", f"{name}={place}", code=EXIT_FAULT)
        assert r"\u202e" in told


@pytest.mark.parametrize("token", [BIG, f"{IMAGE}{ESCAPES}{BIDI}{BREAK}"])
def test_a_plan_shows_hostile_tokens_as_text(
    called: Called, place: Path, tmp_path: Path, token: str
) -> None:
    tiny_tokenizer(tmp_path, extra=token)
    log = tmp_path / LOG
    one = {"prompt": "p", "template": "raw", "generator": OTHER, "problem_id": "p"}
    records = [{**one, "carrier_id": f"{n}{BREAK}", "response": token * 2} for n in range(2)]
    log.write_text("\n".join([*map(json.dumps, records), ESCAPES]), encoding="utf-8")
    text = called("carriers", str(log), "--plan", "--tokenizer", str(tmp_path), "--all-positions")
    assert f"{line(LOG)}:3" in text
    assert f"0{line(BREAK)} token 2" in text
    if token == BIG:
        assert f"{BIG[:LONGEST_TOKEN]}… ({len(BIG):,} characters)" in text
        assert len(text) < 20_000
    else:
        assert line(ESCAPES) in text
    called("carriers", str(place / LOG), "--plan", "--tokenizer", str(tmp_path))
