"""What selectors would choose on a sample: counts against the slow definition, and the command."""

import inspect
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import typer
from test_positions import in_tokens
from tiny import CORPUS, tiny_tokenizer

from probing.carriers.record import Carrier
from probing.cli import EXIT_FAULT, EXIT_USAGE, main
from probing.cli.planning import show_plan, with_plan
from probing.errors import NoCarriersLeft, UsageFault
from probing.lexicon import Lexicon
from probing.positions.planning import (
    ANY,
    EXAMPLES,
    PositionPlan,
    encode_sample,
    plan_positions,
)
from probing.positions.seeding import carrier_rng
from probing.positions.select import select_positions, selector_names
from probing.settings import DEFAULT_PLAN_CARRIERS, Selection
from probing.tokens.adapter import TokenizerAdapter
from probing.tokens.encoded import EncodedCarrier
from probing.vocabulary import CONTENT_FREE_SELECTORS, Phase, Template

LEXICON = Lexicon.load()
RESPONSES = (
    ("<think>", "\n", "Let", " x", " be", " 3", ".", " Wait", ",", " no", "</think>", " So", " 7"),
    ("Let", " me", " see", ":", " Wait", ",", " Wait", " 4"),
    ("plain", " words", " only"),
)
SELECTIONS = (
    Selection(),
    Selection(interval_every=3, random_count=0, marker_window=1),
    Selection(interval_every=0, random_count=2, marker_window=-1),
    Selection(all_positions=True, seed=4),
    Selection(interval_every=0, random_count=0, marker_window=0),
)


def _carriers() -> list[EncodedCarrier]:
    return [in_tokens(*tokens, carrier_id=f"c{i}") for i, tokens in enumerate(RESPONSES)]


def _slow(plan: PositionPlan, selection: Selection) -> Iterator[tuple[str, dict[str, object]]]:
    """Position by position, from the names of the selectors that a run stores."""
    names = selector_names(LEXICON)
    told = []
    for carrier in _carriers():
        chosen = select_positions(
            carrier,
            selection=selection,
            lexicon=LEXICON,
            rng=carrier_rng(selection.seed, carrier.carrier_id),
        )
        for place, bits, phase in zip(chosen.position, chosen.selectors, chosen.phase, strict=True):
            why = {name for bit, name in enumerate(names) if int(bits) >> bit & 1}
            told.append((carrier.carrier_id, int(place), why, int(phase)))
    for each in (*plan.selectors, plan.chosen):
        mine = [one for one in told if each.name == ANY or each.name in one[2]]
        yield (
            each.name,
            {
                "positions": len(mine),
                "carriers": len({one[0] for one in mine}),
                "headline": sum(bool(one[2] & CONTENT_FREE_SELECTORS) for one in mine),
                "by_phase": tuple(
                    sum(one[3] == phase for one in mine) for phase in range(len(Phase))
                ),
                "places": {one[:2] for one in mine},
            },
        )


@pytest.mark.parametrize("selection", SELECTIONS)
def test_a_plan_counts_what_a_run_would_choose(selection: Selection) -> None:
    plan = plan_positions(_carriers(), selection=selection, lexicon=LEXICON)
    assert plan.response_tokens == sum(map(len, RESPONSES)) == sum(plan.tokens_by_phase)
    on = [each.name for each in plan.selectors]
    assert [name for name in selector_names(LEXICON) if name not in plan.off] == on
    planned = {each.name: each for each in (*plan.selectors, plan.chosen)}
    for name, want in _slow(plan, selection):
        places = want.pop("places")
        got = planned[name]
        assert {key: getattr(got, key) for key in want} == want, name
        shown = [(example.carrier_id, example.position) for example in got.examples]
        assert len(set(shown)) == len(shown) == min(EXAMPLES, got.positions)
        assert set(shown) <= places
        for example in got.examples:
            text = "".join(RESPONSES[int(example.carrier_id[1:])])
            assert example.before + example.token + example.after == text
            assert example.token == RESPONSES[int(example.carrier_id[1:])][example.position]


def test_what_is_off_is_named_and_what_finds_nothing_is_kept() -> None:
    plan = plan_positions(_carriers(), selection=SELECTIONS[2], lexicon=LEXICON)
    assert plan.off == ("interval", "all", *LEXICON.groups)
    plan = plan_positions(_carriers()[2:], selection=SELECTIONS[4], lexicon=LEXICON)
    assert {each.positions for each in plan.selectors} == {0}
    assert [each.name for each in plan.selectors] == list(LEXICON.groups)
    assert plan.chosen.positions == 0


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(tokenizer: Path) -> TokenizerAdapter:
    return TokenizerAdapter.load(str(tokenizer))


def _records(count: int) -> list[Carrier]:
    return [
        Carrier(
            carrier_id=f"c{i}",
            problem_id=f"p{i}",
            prompt="q",
            response=CORPUS[i % len(CORPUS)],
            generator="m",
        )
        for i in range(count)
    ]


def test_a_sample_is_seeded_and_fills_up_where_one_cannot_be_used(
    adapter: TokenizerAdapter,
) -> None:
    records = _records(12)
    records[::2] = [replace(record, response="") for record in records[::2]]

    def drawn(seed: int, *, longest: int = 999) -> tuple[list[str], set[str]]:
        sample = encode_sample(
            records, tokenizer=adapter, count=4, longest=longest, rng=np.random.default_rng(seed)
        )
        assert {one.reason for one in sample.skipped} <= {"empty response", "over-long response"}
        return [one.carrier_id for one in sample.encoded], {one.file for one in sample.skipped}

    found = [drawn(seed) for seed in range(8)]
    assert found == [drawn(seed) for seed in range(8)]
    assert len({tuple(kept) for kept, _ in found}) > 1
    usable = [record.carrier_id for record in records[1::2]]
    for kept, skipped in found:
        assert len(kept) == 4
        assert kept == [one for one in usable if one in kept]
        assert not skipped & set(usable)
    with pytest.raises(NoCarriersLeft, match=r"got none of 12; the first: (empty|over-long)"):
        drawn(0, longest=1)


Command = Callable[..., str]


@pytest.fixture
def probing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command line in this process; what it printed, both streams."""

    def call(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["probing", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert int(ended.value.code or 0) == code, captured
        assert "Traceback" not in captured.err
        return captured.out + captured.err

    return call


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    lines = [
        {"carrier_id": one.carrier_id, "problem_id": one.problem_id, "prompt": "q",
         "response": one.response + "\x1b[31m\u202e", "generator": "m"}
        for one in _records(30)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_the_command_shows_the_plan_and_nothing_unsafe(
    source: Path,
    tokenizer: Path,
    probing: Command,
) -> None:
    command = ["carriers", str(source), "--plan", "--tokenizer", str(tokenizer)]
    out = probing(*command)
    assert f"{DEFAULT_PLAN_CARRIERS} of 30 carriers (seed 0)" in out
    assert "off: all" in out
    # The table of the plan itself: what the command says is what the module counts.
    rows = {line.split("  ")[0]: line.split() for line in out.splitlines()}
    for name in ("interval", "random", "any of them", "every token", *LEXICON.groups):
        assert name in rows
    lists = out.partition("off: all")[2].splitlines()[1:]
    assert len(lists) > 4
    assert all(line.split(":")[0] in rows for line in lists)
    for unsafe in ("\x1b", "\u202e"):
        assert unsafe not in out
    assert out == probing(*command)
    other = probing(*command, "--seed", "1", "--sample", "3", "--marker-window", "-1")
    assert "3 of 30 carriers (seed 1)" in other
    assert f"off: all, {', '.join(LEXICON.groups)}" in other


def test_a_run_file_gives_the_selection_and_flags_replace_it(
    source: Path,
    tokenizer: Path,
    tmp_path: Path,
    probing: Command,
) -> None:
    words = tmp_path / "words.toml"
    words.write_text('[apples]\nphrases = ["apples"]\n', encoding="utf-8")
    run_file = tmp_path / "run.toml"
    run_file.write_text(
        f'out = "x"\ncarriers = ["x"]\n[baseline]\npath = "{tokenizer}"\n'
        '[others.ssd]\npath = "x"\n[selection]\nrandom_count = 0\n'
        f'lexicon = "{words}"\n',
        encoding="utf-8",
    )
    command = ["carriers", str(source), "--plan", "--run-file", str(run_file)]
    out = probing(*command)
    assert "off: random, all" in out
    assert "apples: c" in out
    assert "of⟦␣app⟧les" in out  # The token that the match begins in.
    assert "off: interval, random, all" in probing(*command, "--interval-every", "0")


FOREIGN = {"question": "q", "text": CORPUS[0], "model": "logged"}
"""A record that says what a carrier needs under names of its own, but not who wrote it."""

READ_SO: list[tuple[list[str], str, str]] = [
    (["--column", "prompt=question", "--column", "response=text"],
     'columns = { prompt = "question", response = "text" }', "model"),
    (["--generator", "m"], 'generator = "m"', "prompt response"),
    (["--format", "chat", "--generator", "m"], 'format = "chat"\ngenerator = "m"',
     "prompt response"),
    (["--template", "raw", "--generator", "m"], 'template = "raw"\ngenerator = "m"',
     "prompt response"),
]  # fmt: skip
"""How logs are read, as options and as tables of a run file; and fields that the log has."""


def _run_file(path: Path, tokenizer: Path, inputs: str) -> str:
    path.write_text(
        f'out = "x"\ncarriers = ["x"]\n[baseline]\npath = "{tokenizer}"\n'
        f'[others.ssd]\npath = "x"\n[inputs]\n{inputs}\n',
        encoding="utf-8",
    )
    return str(path)


@pytest.mark.parametrize(("options", "table", "fields"), READ_SO)
def test_a_plan_reads_logs_as_the_command_and_the_run_file_say(
    tmp_path: Path,
    tokenizer: Path,
    probing: Command,
    options: list[str],
    table: str,
    fields: str,
) -> None:
    path = tmp_path / "log.jsonl"
    names = {"prompt": "question", "response": "text"}
    log = {name: FOREIGN[names.get(name, name)] for name in fields.split()}
    if fields == "model":
        log = FOREIGN
    path.write_text(json.dumps(log) + "\n", encoding="utf-8")
    plain = ["carriers", str(path), "--plan"]
    by_options = probing(*plain, "--tokenizer", str(tokenizer), *options)
    assert "1 of 1 carriers" in by_options
    by_file = probing(*plain, "--run-file", _run_file(tmp_path / "run.toml", tokenizer, table))
    assert by_file == by_options
    assert "error: " in probing(*plain, "--tokenizer", str(tokenizer), code=EXIT_FAULT)


def test_options_replace_what_the_run_file_says_of_logs(
    tmp_path: Path, tokenizer: Path, probing: Command
) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"prompt": "q", "response": CORPUS[0]}) + "\n", encoding="utf-8")
    table = 'generator = "m"\ntemplate = "raw"\nformat = "lm-eval"'
    file = _run_file(tmp_path / "run.toml", tokenizer, table)
    plain = ["carriers", str(path), "--plan", "--run-file", file]
    assert "looks like chat" in probing(*plain, code=EXIT_FAULT)
    # What is not replaced stands: the generator is the run file's.
    assert "1 of 1 carriers" in probing(*plain, "--format", "chat")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--plan"], "--tokenizer FOLDER, or --run-file FILE"),
        (["--plan", "--tokenizer", "T", "--sample", "0"], "--sample must be >= 1, got 0"),
        (["--plan", "--tokenizer", "T", "-o", "x.parquet"], "--out has no say in --plan"),
        (["--plan", "--tokenizer", "T", "--no-grade"], "--grade/--no-grade has no say in --plan"),
        (["--tokenizer", "T"], "--tokenizer needs --plan"),
        (["--interval-every", "3"], "--interval-every needs --plan"),
        (["--plan", "--tokenizer", "T", "--marker-window", "-2"], "marker_window must be >= -1"),
    ],
)
def test_what_does_not_go_together_is_refused(
    source: Path,
    tokenizer: Path,
    probing: Command,
    arguments: list[str],
    words: str,
) -> None:
    given = [str(tokenizer) if argument == "T" else argument for argument in arguments]
    assert words in " ".join(probing("carriers", str(source), *given, code=EXIT_USAGE).split())


def test_the_command_keeps_its_own_options() -> None:
    called: list[dict[str, object]] = []

    def command(
        inputs: list[str],
        strict: Annotated[bool, typer.Option("--strict")] = False,
        form: Annotated[str, typer.Option("--format")] = "auto",
        generator: Annotated[str | None, typer.Option()] = None,
        name: Annotated[list[str] | None, typer.Option()] = None,
        template: Annotated[Template | None, typer.Option()] = None,
        column: Annotated[list[str] | None, typer.Option()] = None,
        shape: Annotated[str, typer.Option()] = "round",
    ) -> None:
        """What it did."""
        assert [form, generator, name, template, column] == ["auto", *[None] * 4]
        called.append({"inputs": inputs, "strict": strict, "shape": shape})

    either = with_plan(command)
    own = inspect.signature(command).parameters
    merged = inspect.signature(either).parameters
    assert list(merged)[: len(own)] == list(own)
    assert set(merged) == {*own, "plan", *inspect.signature(show_plan).parameters}
    defaults = {name: parameter.default for name, parameter in merged.items()}
    either(**{**defaults, "inputs": ["x"], "shape": "square"})
    assert called == [{"inputs": ["x"], "strict": False, "shape": "square"}]
    with pytest.raises(UsageFault, match="--shape has no say in --plan"):
        either(**{**defaults, "inputs": ["x"], "shape": "square", "plan": True})
