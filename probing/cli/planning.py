"""`probing carriers --plan`: which selectors choose what, on a sample, before any scoring."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
import pandas as pd
import typer

from probing.cli.console import err, out, print_skipped, print_table
from probing.cli.inputs import inputs_of
from probing.errors import UsageFault
from probing.lexicon import Lexicon
from probing.run_file import load_run_file
from probing.settings import (
    DEFAULT_PLAN_CARRIERS,
    Inputs,
    RunSettings,
    Sampling,
    Selection,
    require,
)
from probing.vocabulary import Phase, Template

if TYPE_CHECKING:
    from probing.positions.planning import ChosenToken, PositionPlan, SelectorPlan
    from probing.tokens.adapter import TokenizerAdapter

PANEL = "With --plan"

Command: TypeAlias = Callable[..., None]

SHARED = ("inputs", "strict", "form", "generator", "name", "template", "column")
"""What the command and its plan both take."""


def _flag(help_text: str, *names: str) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel=PANEL)


def show_plan(
    inputs: list[str],
    strict: bool = False,
    form: str = Inputs.format,
    generator: str | None = None,
    name: list[str] | None = None,
    template: Template | None = None,
    column: list[str] | None = None,
    *,
    tokenizer: Annotated[
        str | None, _flag("Folder of the tokenizer; the baseline's of --run-file if left out.")
    ] = None,
    run_file: Annotated[
        Path | None, _flag("Take its inputs, selection, lexicon and longest response.")
    ] = None,
    sample: Annotated[
        int | None, _flag(f"Carriers looked at; {DEFAULT_PLAN_CARRIERS} if left out.")
    ] = None,
    seed: Annotated[int | None, _flag("Of the sample and of the selectors.")] = None,
    interval_every: Annotated[int | None, _flag("Every n-th token; 0 = off.")] = None,
    random_count: Annotated[int | None, _flag("Drawn from each response; 0 = off.")] = None,
    marker_window: Annotated[int | None, _flag("Around lexicon phrases; -1 = off.")] = None,
    all_positions: Annotated[
        bool | None, _flag("Every token.", "--all-positions/--not-all-positions")
    ] = None,
    lexicon: Annotated[str | None, _flag("Lexicon file.")] = None,
) -> None:
    """Show per selector how many positions it would choose, where, and two of them in their text.

    Positions of a carrier are those that a run with the same [selection] chooses there. Logs are
    read as the run file's [inputs] say; options of the command replace what is said there.
    """
    from probing.carriers.reading import read_carriers
    from probing.positions.planning import encode_sample, plan_positions
    from probing.tokens.adapter import TokenizerAdapter

    count = DEFAULT_PLAN_CARRIERS if sample is None else sample
    require(count >= 1, "--sample must be >= 1", count)
    settings = None if run_file is None else load_run_file(run_file)
    sampling = Sampling() if settings is None else settings.sampling
    asked = inputs_of(form=form, generator=generator, names=name, template=template, columns=column)
    how = _replaced(Inputs() if settings is None else settings.inputs, asked)
    selection = _selection(
        Selection() if settings is None else settings.selection,
        interval_every=interval_every,
        random_count=random_count,
        marker_window=marker_window,
        all_positions=all_positions,
        lexicon=lexicon,
        seed=seed,
    )
    words = Lexicon.load(selection.lexicon)
    adapter = TokenizerAdapter.load(_tokenizer(tokenizer, settings))
    result = read_carriers(inputs, inputs=how, strict=strict)
    print_skipped(result.skipped)
    for note in result.notes:
        err.print(f"note: {note}", markup=False)
    drawn_by = sampling.seed if seed is None else seed
    drawn = encode_sample(
        result.carriers,
        tokenizer=adapter,
        count=count,
        longest=sampling.max_response_tokens,
        rng=np.random.default_rng(drawn_by),
    )
    print_skipped([result.skip(each.file, each.reason, each.detail) for each in drawn.skipped])
    plan = plan_positions(drawn.encoded, selection=selection, lexicon=words)
    unusable = f"; {len(drawn.skipped)} drawn cannot be used" if drawn.skipped else ""
    out.print(
        f"{plan.carriers} of {len(result.carriers)} carriers (seed {drawn_by}), "
        f"{plan.response_tokens:,} response tokens{unusable}"
    )
    _print_plan(plan, selection=selection, adapter=adapter)


def _selection(selection: Selection, **given: Any) -> Selection:
    """With what the flags say in place of what the run file or the defaults say."""
    said = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(selection, **said)


def _replaced(inputs: Inputs, asked: Inputs) -> Inputs:
    """With what was asked for in place of what the run file says."""
    said = {each.name: getattr(asked, each.name) for each in dataclasses.fields(Inputs)}
    given = {name: value for name, value in said.items() if value != getattr(Inputs(), name)}
    return dataclasses.replace(inputs, **given)


def _tokenizer(folder: str | None, settings: RunSettings | None) -> str:
    found = folder or (None if settings is None else settings.baseline.path)
    if found is None:
        raise UsageFault(
            "--plan needs the tokenizer that splits responses into tokens, got none; give "
            "--tokenizer FOLDER, or --run-file FILE whose baseline has a path"
        )
    return found


def _print_plan(plan: "PositionPlan", *, selection: Selection, adapter: "TokenizerAdapter") -> None:
    rows = [_row(each, plan) for each in (*plan.selectors, plan.chosen)]
    every: dict[str, Any] = {
        "selector": "every token",
        "positions": plan.response_tokens,
        "share": _share(plan.response_tokens, plan.response_tokens),
        "headline": "",
        **dict(zip(Phase, plan.tokens_by_phase, strict=True)),
        "carriers": plan.carriers,
    }
    print_table(pd.DataFrame([*rows, every]), formats={"share": str, "headline": str})
    out.print(
        "note: share is of response tokens; headline counts positions that interval, random or all "
        "chooses too: only those carry headline figures; phases are of the lexicon's think_close",
    )
    if plan.off:
        out.print(f"off: {', '.join(plan.off)}", markup=False)
    if selection.marker_window > 0:
        out.print(f"markers: within {selection.marker_window} tokens of where a match begins")
    for each in plan.selectors:
        for example in each.examples:
            out.print(_example_line(each.name, example, adapter=adapter), markup=False)
        if not each.examples:
            out.print(f"{each.name}: chooses nothing in this sample", markup=False)


def _row(each: "SelectorPlan", plan: "PositionPlan") -> dict[str, Any]:
    return {
        "selector": each.name,
        "positions": each.positions,
        "share": _share(each.positions, plan.response_tokens),
        "headline": _share(each.headline, each.positions),
        **dict(zip(Phase, each.by_phase, strict=True)),
        "carriers": each.carriers,
    }


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"


def _example_line(name: str, example: "ChosenToken", *, adapter: "TokenizerAdapter") -> str:
    """One line, whatever the text holds; tokens are numbered from 1, as everywhere."""
    from probing.reporting.text import line, marked, token_text

    token = example.token or token_text(adapter.token_bytes([example.token_id])[0])
    shown = marked(line(example.before), token, line(example.after))
    return f"{name}: {line(example.carrier_id)} token {example.position + 1}: {shown}"


def with_plan(command: Command) -> Command:
    """A command that shows the plan under `--plan`, and else is what it was.

    It takes its own options and those of `show_plan`; one that has no say in what was asked for is
    refused instead of ignored.
    """
    own = dict(inspect.signature(command).parameters)
    planned = {
        name: parameter
        for name, parameter in inspect.signature(show_plan).parameters.items()
        if name not in SHARED
    }
    twice = sorted(own.keys() & planned.keys())
    assert not twice, f"options of the command and of its plan: {twice}"
    asked = inspect.Parameter(
        "plan",
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[
            bool,
            typer.Option("--plan", help="Show which selectors would choose what on a sample."),
        ],
    )

    @functools.wraps(command)
    def either(*, plan: bool = False, **given: Any) -> None:
        if plan:
            _refuse_given(own, given, rule="has no say in --plan", but=SHARED)
            both = {name: given[name] for name in (*SHARED, *planned) if name in given}
            show_plan(**both)
            return
        _refuse_given(planned, given, rule="needs --plan")
        command(**{name: given[name] for name in own})

    parameters = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for each in (*own.values(), asked, *planned.values())
    ]
    # What Typer reads; `wraps` has copied the command's own.
    either.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    either.__annotations__ = {each.name: each.annotation for each in parameters}
    either.__doc__ = (
        f"{inspect.getdoc(command)}\n\nWith --plan and a tokenizer: what each selector would "
        "choose on a sample, before any scoring."
    )
    return either


def _refuse_given(
    parameters: Mapping[str, inspect.Parameter],
    given: Mapping[str, Any],
    *,
    rule: str,
    but: tuple[str, ...] = (),
) -> None:
    for name, parameter in parameters.items():
        if name not in but and given[name] != parameter.default:
            raise UsageFault(f"{_flag_name(parameter)} {rule}; see `probing carriers --help`")


def _flag_name(parameter: inspect.Parameter) -> str:
    """As it is written on the command line."""
    for note in getattr(parameter.annotation, "__metadata__", ()):
        # Inside `Annotated`, Typer takes the first name for the default and puts it right later.
        names = (getattr(note, "default", None), *(getattr(note, "param_decls", None) or ()))
        for name in names:
            if isinstance(name, str) and name.startswith("--"):
                return name
    return f"--{parameter.name.replace('_', '-')}"
