"""Probing in Python: score models, open a run, and ask it what the commands ask, as DataFrames."""

import logging
import operator
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsFloat, SupportsIndex, TypeAlias, TypeVar

import pandas as pd

from probing.carriers.sampling import cell_rows
from probing.errors import MissingPackage
from probing.reporting import tables
from probing.reporting.examples import Order
from probing.reporting.filters import filters_where
from probing.reporting.mechanism import Asked
from probing.reporting.quantities import QUANTITIES
from probing.reporting.questions import (
    Examples,
    Judgement,
    Question,
    answer,
    beside_drift,
    examples,
    incomplete_text,
    judge,
)
from probing.reporting.remaking import Ranking
from probing.reporting.text import line
from probing.run_file import load_run_file, run_settings
from probing.settings import (
    DEFAULT_ASSIGNMENT,
    DEFAULT_EXAMPLES,
    DEFAULT_GROUPS,
    DEFAULT_RANKED_BY,
    DEFAULT_RANKING,
    DEFAULT_RANKING_SEED,
    Decoding,
    KindRule,
    RunSettings,
    Training,
    preset_rule,
    require,
)
from probing.store.manifest import Manifest
from probing.store.reader import Run
from probing.store.reader import open_run as open_stored
from probing.vocabulary import Assignment, Stratum

if TYPE_CHECKING:
    from probing.scoring.run import Progress, ScoreReport

Given = TypeVar("Given")
Used = TypeVar("Used")

logger = logging.getLogger(__name__)

Where: TypeAlias = Mapping[str, str | Iterable[str]]
"""By stratum, the label that is kept, or several."""

DEFAULT, DEFAULT_PRESET = Decoding(), KindRule().preset


@dataclass(frozen=True, repr=False, eq=False)
class OpenRun:
    """A run, and what can be asked of it; every table is that of the command of the same name.

    Settings that the methods share, all by keyword, with the defaults of the command line:

    - `other`: the model looked at, the first when left out; `control`: the model beside it, the one
      named `control` where there is one;
    - `where`: by stratum, the label that is kept or a list of them, `{"generator": "ssd"}`;
    - `temperature`, `top_k`, `top_p`, `min_p`, `order`: the decoding (see `Decoding`);
    - `preset`: thresholds of the kinds; `assignment`: whose distribution gives a position its kind,
      `mean`, `baseline` or `other`.

    What cannot be answered raises `UsageFault` (no such model, stratum or label) or
    `OutsideContract` (a temperature or top-k beyond what was stored).

    Attributes:
        run: as it is stored, for what no method here answers.
    """

    run: Run

    @property
    def models(self) -> tuple[str, ...]:
        """Baseline first, then the others."""
        return self.run.model_names

    @property
    def manifest(self) -> Manifest:
        """What the run was made from: settings, models, versions, counts, skipped records."""
        return self.run.manifest

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the manifest and what is scored."""
        return self.run.fingerprint

    @property
    def complete(self) -> bool:
        """Whether every unit is scored."""
        return self.run.complete

    @property
    def sample(self) -> pd.DataFrame | None:
        """Of every combination of the strata sampled over, what was wanted, available and taken.

        Carriers, or problems where the sample is paired. None where the run keeps no such table,
        since an earlier version made it.
        """
        if self.manifest.sample is None:
            return None
        by = self.manifest.settings.sampling.by
        return pd.DataFrame(
            cell_rows(self.manifest.sample, by=by), columns=[*by, "wanted", "available", "taken"]
        )

    def __len__(self) -> int:
        """Positions that can be read."""
        return len(self.run)

    def __repr__(self) -> str:
        baseline, *others = self.models
        text = (
            f"OpenRun({self.run.location!r}): {len(self):,} positions of "
            f"{len(self.run.carriers()):,} responses; {', '.join(others)} against {baseline}"
        )
        return line(text if self.complete else f"{text}; {incomplete_text(self.run)}")

    def positions(
        self,
        *,
        temperature: SupportsFloat = DEFAULT.temperature,
        top_k: SupportsIndex = DEFAULT.top_k,
        top_p: SupportsFloat = DEFAULT.top_p,
        min_p: SupportsFloat = DEFAULT.min_p,
        order: str = DEFAULT.order,
        preset: str = DEFAULT_PRESET,
    ) -> pd.DataFrame:
        """Every position under every model, one row each, with all statistics.

        As `probing positions`; columns are defined in docs/method.md.
        """
        decoding = _decoding(temperature, top_k, top_p, min_p=min_p, order=order)
        return tables.position_table(self.run, decoding=decoding, rule=preset_rule(preset))

    def deltas(
        self,
        *,
        by: str | Iterable[str] = DEFAULT_GROUPS,
        other: str | None = None,
        control: str | None = None,
        where: Where | None = None,
        temperature: SupportsFloat = DEFAULT.temperature,
        top_k: SupportsIndex = DEFAULT.top_k,
        top_p: SupportsFloat = DEFAULT.top_p,
        min_p: SupportsFloat = DEFAULT.min_p,
        order: str = DEFAULT.order,
        preset: str = DEFAULT_PRESET,
        assignment: str = DEFAULT_ASSIGNMENT,
    ) -> pd.DataFrame:
        """Mean deltas (other - baseline) of every group, with intervals, nulls and tests.

        As `probing summary`: other, control, and their difference, one under the other. `by` names
        the strata to group by, as `["kind", "generator"]`; empty, there is only the row over all.
        For the other settings see `OpenRun`.
        """
        decoding = _decoding(temperature, top_k, top_p, min_p=min_p, order=order)
        question = _question(other, control, where, decoding=decoding, kinds=(preset, assignment))
        groups = _groups(by)
        answered = answer(self.run, question)
        found = tables.delta_tables(answered.compared, by=groups, filters=question.filters)
        return beside_drift(self.run, question, answered, found, by=groups).table

    def assignments(
        self,
        *,
        other: str | None = None,
        control: str | None = None,
        where: Where | None = None,
        temperature: SupportsFloat = DEFAULT.temperature,
        top_k: SupportsIndex = DEFAULT.top_k,
        top_p: SupportsFloat = DEFAULT.top_p,
        min_p: SupportsFloat = DEFAULT.min_p,
        order: str = DEFAULT.order,
        preset: str = DEFAULT_PRESET,
    ) -> pd.DataFrame:
        """Deltas by kind under each of the three assignments.

        As `probing summary --table assignments`; for the settings see `OpenRun`.
        """
        decoding = _decoding(temperature, top_k, top_p, min_p=min_p, order=order)
        kinds = (preset, DEFAULT_ASSIGNMENT)
        question = _question(other, control, where, decoding=decoding, kinds=kinds)
        answered = answer(self.run, question)
        found = tables.assignment_tables(answered.compared, filters=question.filters)
        return beside_drift(self.run, question, answered, found, by=DEFAULT_GROUPS).table

    def events(
        self,
        *,
        other: str | None = None,
        control: str | None = None,
        where: Where | None = None,
        preset: str = DEFAULT_PRESET,
        assignment: str = DEFAULT_ASSIGNMENT,
    ) -> pd.DataFrame:
        """Shares of what happened to positions: strict lock, swap, true fork, and more.

        As `probing summary --table events`; for the settings see `OpenRun`.
        """
        question = _question(other, control, where, decoding=DEFAULT, kinds=(preset, assignment))
        return tables.event_tables(self._compared(question), filters=question.filters)

    def transitions(
        self,
        *,
        other: str | None = None,
        control: str | None = None,
        where: Where | None = None,
        preset: str = DEFAULT_PRESET,
        assignment: str = DEFAULT_ASSIGNMENT,
    ) -> pd.DataFrame:
        """Shares of positions by their kind under the baseline and under the other model.

        As `probing summary --table transitions`; for the settings see `OpenRun`.
        """
        question = _question(other, control, where, decoding=DEFAULT, kinds=(preset, assignment))
        return tables.transition_tables(self._compared(question), filters=question.filters)

    def examples(
        self,
        *,
        n: SupportsIndex = DEFAULT_EXAMPLES,
        by: str = DEFAULT_RANKED_BY,
        ranking: str = DEFAULT_RANKING,
        seed: int = DEFAULT_RANKING_SEED,
        other: str | None = None,
        control: str | None = None,
        where: Where | None = None,
        temperature: SupportsFloat = DEFAULT.temperature,
        top_k: SupportsIndex = DEFAULT.top_k,
        top_p: SupportsFloat = DEFAULT.top_p,
        min_p: SupportsFloat = DEFAULT.min_p,
        order: str = DEFAULT.order,
    ) -> Examples:
        """Single positions: the text around them and the models' top tokens side by side.

        As `probing examples`: the first `n` of those on which figures rest. `by` is the quantity
        whose delta ranks them; `ranking` is `largest change`, `largest increase`, `largest
        decrease`, or `random` with its `seed`. For the other settings see `OpenRun`. The result is
        a sequence with a `table`, and a notebook shows it.
        """
        count = _whole("n", n)
        require(count >= 1, "n must be >= 1", count)
        require(by in QUANTITIES, f"by takes {', '.join(QUANTITIES)}", by)
        known = [each.value for each in Order]
        require(ranking in known, f"ranking takes {', '.join(known)}", ranking)
        decoding = _decoding(temperature, top_k, top_p, min_p=min_p, order=order)
        kinds = (DEFAULT_PRESET, DEFAULT_ASSIGNMENT)
        question = _question(other, control, where, decoding=decoding, kinds=kinds)
        ranked = Ranking(by=by, order=Order(ranking), seed=seed)
        return examples(self.run, question, ranking=ranked, count=count)

    def verdict(
        self,
        *,
        train_temperature: SupportsFloat | None = None,
        train_top_k: SupportsIndex | None = None,
        train_top_p: SupportsFloat | None = None,
        other: str | None = None,
        control: str | None = None,
        where: Where | None = None,
        preset: str = DEFAULT_PRESET,
    ) -> Judgement:
        """What training did: SSD-like, temperature-like, a generic shift, mixed, or nothing to see.

        As `probing verdict`. The settings `train_…` say how the text was sampled that was trained
        on, since the target is made from it; where all are left out they are assumed, and the notes
        say so. For the others see `OpenRun`; `where` takes no kinds and no events.

        `mechanism` and `rule` of the result are of the model looked at, `models` holds those of
        each, `evidence` every figure beside its nulls, `notes` what its reader must know. A
        notebook shows it.
        """
        training = Training.told(
            temperature=_told(_number, "train_temperature", train_temperature),
            top_k=_told(_whole, "train_top_k", train_top_k),
            top_p=_told(_number, "train_top_p", train_top_p),
        )
        asked = Asked(
            training=training, rule=preset_rule(preset), filters=filters_where(_where(where))
        )
        return judge(self.run, asked=asked, other=other, control=control)

    def _compared(self, question: Question) -> dict[str, pd.DataFrame]:
        return answer(self.run, question).compared


def open_run(place: str | os.PathLike[str]) -> OpenRun:
    """Open a run, at a path or an fsspec URL; it may be still being written, and then says so.

    Raises:
        NotARun: nothing there, or something else; what there is, is listed.
        NewerSchema: it was written by a newer version.
        CorruptRun: a committed object is missing or differs; it is named.
    """
    run = open_stored(os.fspath(place))
    if not run.complete:
        logger.warning("%s", incomplete_text(run))
    return OpenRun(run)


def score(
    settings: RunSettings | Mapping[str, Any] | str | os.PathLike[str],
    *,
    progress: "Progress | None" = None,
) -> OpenRun:
    """Run every model at the chosen positions of the responses, and open the run that comes of it.

    Stopped by an interrupt, the same call goes on; a run that is complete is opened as it is.

    Args:
        settings: as they are, as the tables of a run file (see examples/run.toml), or the path of
            a run file.
        progress: what is told how far it is; the log (level INFO) when left out.

    Raises:
        UsageFault: a setting is unknown, missing or out of its range.
        MissingPackage: what scoring needs is not installed.
        ProbingError: as `probing score` would fail.
    """
    settled = _run_settings(settings)
    try:
        # Only here: torch is not needed to read a run.
        from probing.scoring.run import score as score_run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == __name__.partition(".")[0]:
            raise
        raise MissingPackage(
            f"scoring needs the package {error.name}, which is not installed; run "
            "`pip install 'ssd-probing[score]'`"
        ) from error
    report = score_run(settled, progress=progress or _Logged())
    _warn(report)
    return open_run(settled.out)


def _run_settings(given: RunSettings | Mapping[str, Any] | str | os.PathLike[str]) -> RunSettings:
    if isinstance(given, RunSettings):
        return given
    if isinstance(given, Mapping):
        return run_settings(dict(given), where="the settings")
    paths = isinstance(given, str | os.PathLike)
    require(paths, "score takes RunSettings, a dict of them, or a run file's path", given)
    return load_run_file(Path(given))


def _warn(report: "ScoreReport") -> None:
    """What must not go unsaid: records left out, and what arithmetic did."""
    if report.skipped:
        files = report.counts.get("files_left_out", 0)
        logger.warning(
            "%d records were skipped%s, the first %s; all of them: manifest.skipped",
            report.counts["records_skipped"],
            f" and {files} files left out" if files else "",
            next((each for each in report.skipped if each.line), report.skipped[0]),
        )
    for warning in report.warnings:
        logger.warning("%s", warning)


class _Logged:
    """Progress for the log."""

    def __init__(self) -> None:
        self._total = self._stored = 0

    def start(self, total_positions: int, *, stored: int) -> None:
        """Scoring begins."""
        self._total, self._stored = total_positions, stored
        logger.info("%d positions, %d of them stored before", total_positions, stored)

    def advance(self, positions: int) -> None:
        """So many more are stored."""
        self._stored += positions
        logger.info("%d of %d positions are stored", self._stored, self._total)

    def note(self, text: str) -> None:
        """A step begins."""
        logger.info("%s", text)


def _decoding(
    temperature: SupportsFloat,
    top_k: SupportsIndex,
    top_p: SupportsFloat,
    *,
    min_p: SupportsFloat,
    order: str,
) -> Decoding:
    """The decoding that a call names: NumPy's numbers are as good as Python's."""
    settings: dict[str, Any] = {
        "temperature": _number("temperature", temperature),
        "top_k": _whole("top_k", top_k),
        "top_p": _number("top_p", top_p),
        "min_p": _number("min_p", min_p),
        "order": order,
    }
    return Decoding(**settings)


def _question(
    other: str | None,
    control: str | None,
    where: Where | None,
    *,
    decoding: Decoding,
    kinds: tuple[str, str],
) -> Question:
    """What a call asks; `kinds` are a preset and an assignment."""
    preset, assignment = kinds
    known = [each.value for each in Assignment]
    require(assignment in known, f"assignment takes {', '.join(known)}", assignment)
    return Question(
        other=other,
        control=control,
        decoding=decoding,
        rule=preset_rule(preset),
        filters=filters_where(_where(where), assignment=Assignment(assignment)),
    )


def _where(where: Where | None) -> Where:
    rule = 'where takes a dict from stratum to label, as {"correct": "correct"}'
    require(where is None or isinstance(where, Mapping), rule, where)
    return where or {}


def _groups(by: str | Iterable[str]) -> list[str]:
    """Strata, each once, in their order."""
    known = [each.value for each in Stratum]
    several = isinstance(by, Iterable)
    require(several, f"by takes strata of {', '.join(known)}, or a list of them", by)
    wanted = [by] if isinstance(by, str) else list(by)
    for name in wanted:
        require(name in known, f"by takes strata of {', '.join(known)}", name)
    return list(dict.fromkeys(Stratum(name).value for name in wanted))


def _number(name: str, value: SupportsFloat) -> float:
    require(isinstance(value, SupportsFloat), f"{name} must be a number", value)
    return float(value)


def _whole(name: str, value: SupportsIndex) -> int:
    require(isinstance(value, SupportsIndex), f"{name} must be a whole number", value)
    return operator.index(value)


def _told(read: Callable[[str, Given], Used], name: str, value: Given | None) -> Used | None:
    return None if value is None else read(name, value)
