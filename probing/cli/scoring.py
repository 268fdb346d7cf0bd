"""Commands that make runs: demo, score, carriers, verify."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from probing.cli.console import EXIT_FAULT, BarProgress, err, out, print_skipped
from probing.cli.options import RunArgument
from probing.cli.pricing import print_cells, show_price
from probing.cli.reading import summary
from probing.errors import UsageFault
from probing.run_file import load_run_file, parse_run_file, run_settings
from probing.settings import RunSettings, require
from probing.vocabulary import Stratum

DEMO_RUN_FILE = Path("examples/ssd_smollm2/demo.toml")
BUNDLED_RUN_FILE = Path("examples/ssd_smollm2/bundled.toml")
DEMO_ALL = Path("cache/demo_all.zarr")
"""Where the run over every response goes, beside the sampled one."""


def demo(
    bundled: Annotated[
        bool, typer.Option("--bundled", help="Make cache/bundled.zarr, the small run that ships.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Score every committed response, not a sample.")
    ] = False,
) -> None:
    """Score the demo's three models on its committed responses and print what training did."""
    from probing.scoring.bundled import taught_model

    run_file = BUNDLED_RUN_FILE if bundled else DEMO_RUN_FILE
    require(
        run_file.exists(),
        "the demo runs in a clone of the repository, where its data live; cd there first",
        str(Path.cwd()),
    )
    settings = load_run_file(run_file)
    if everything:
        whole = dataclasses.replace(settings.sampling, carriers=0)
        settings = dataclasses.replace(settings, sampling=whole, out=str(DEMO_ALL))
    with err.status("Preparing the demo's baseline (made once, then reused) …"):
        taught_model(Path("cache"), adapter_dir=run_file.parent / "adapters" / "baseline")
    score_settings(settings)
    summary(settings.out, by=[Stratum.KIND])


def score(
    run_file: Annotated[
        Path | None, typer.Argument(metavar="[RUN_FILE]", help="See examples/run.toml.")
    ] = None,
    carriers: Annotated[
        list[str] | None, typer.Option(help="Carrier file; may be given several times.")
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="Folder of the baseline.")] = None,
    other: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FOLDER", help="A full checkpoint.")
    ] = None,
    adapter: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FOLDER", help="A LoRA over the baseline.")
    ] = None,
    output: Annotated[str | None, typer.Option("--out", "-o", help="Where the run goes.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Score one carrier, say what all take, keep nothing.")
    ] = False,
) -> None:
    """Run every model at the chosen positions and store what is needed for any temperature.

    A run file says it all; the flags build a small one, or replace its `out` and `carriers`.
    A stopped run goes on with the same command.
    """
    flags = {"carriers": carriers, "baseline": baseline, "out": output}
    settings = _settings_from(run_file, flags=flags, others=other or [], adapters=adapter or [])
    if dry_run:
        show_price(settings)
    else:
        score_settings(settings)


def verify(run: RunArgument) -> None:
    """Compare every object of a run with its digest."""
    from probing.store.verify import verify as verify_run

    report = verify_run(run)
    for fault in report.faults:
        out.print(str(fault), style="red")
    out.print(report.sentence())
    if report.faults:
        raise typer.Exit(EXIT_FAULT)


def _settings_from(
    run_file: Path | None,
    *,
    flags: dict[str, Any],
    others: Sequence[str],
    adapters: Sequence[str],
) -> RunSettings:
    """Run settings from a file, from flags, or from a file whose fields flags replace."""
    given = {key: value for key, value in flags.items() if value}
    if run_file is None and not (given or others or adapters):
        raise UsageFault(
            "probing score needs a RUN_FILE (see examples/run.toml), or the flags "
            "--out, --carriers, --baseline and --other or --adapter"
        )
    document: dict[str, Any] = parse_run_file(run_file) if run_file is not None else {}
    document |= {key: given[key] for key in ("out", "carriers") if key in given}
    if "baseline" in given:
        document["baseline"] = {"path": given["baseline"]}
    models = {}
    for kind, pairs in (("path", others), ("adapter", adapters)):
        for pair in pairs:
            name, equals, folder = pair.partition("=")
            require(bool(name and equals and folder), "a model is given as NAME=FOLDER", pair)
            models[name] = {kind: folder}
    if models:
        document["others"] = models
    return run_settings(document, where=str(run_file or "the command line"))


def score_settings(settings: RunSettings) -> None:
    """Score with progress on the terminal, then say what was read, skipped and made."""
    from probing.scoring.run import score as score_run

    with BarProgress() as progress:
        report = score_run(settings, progress=progress)
    print_skipped(report.skipped)
    print_cells(report.cells, settings.sampling)
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in report.counts.items())
    reused = f" ({report.reused_units} reused)" if report.reused_units else ""
    for line in (
        *(
            f"{change.name}: {change.changed_stored:.1%} of its weights changed, "
            f"{change.changed_cast:.1%} once cast (of a LoRA: of its B matrices)"
            for change in report.changes
        ),
        *(
            f"{check.name}: two passes against one differ by {check.difference:.1e} alone, "
            f"{check.shape_difference:.1e} in a batch"
            for check in report.checks
        ),
        *([report.noise.sentence()] if report.noise is not None else []),
        *([report.casting.sentence()] if report.casting is not None else []),
        *(f"warning: {each}" for each in report.warnings),
        f"carriers: {counts}",
        f"{report.out}: {report.units} units{reused}, models {' / '.join(report.models)}",
    ):
        out.print(line, markup=False)
