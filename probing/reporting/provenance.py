"""What a run was made from, and what cannot be concluded from it, as sentences."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pandas as pd

from probing.reporting import display
from probing.reporting.deltas import DEFAULT_FILTERS, DEFAULT_WEIGHTING
from probing.reporting.filters import Filters, Weighting, count, keep
from probing.settings import Decoding, KindRule, Selection, Training
from probing.store.reader import Run
from probing.vocabulary import DISTRIBUTION, Stratum

NOT_RECORDED = "not recorded"
TRAINING, NOISE = "Training samples", "Noise floor"
"""Facts by these names."""
TRAINING_OPTIONS = ("temperature", "top_k", "top_p")
FLOAT32 = "float32"


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What a report asks of a run.

    Attributes:
        other: the model that is looked at.
        control: the model beside it, if any.
        training: how the samples were drawn that the other model was trained on.
        decoding: of every figure.
        rule: thresholds of the kinds.
        examples: how many positions each list of examples shows.
        filters: which positions carry figures.
        weighting: what each counts.
    """

    other: str
    control: str | None
    training: Training
    decoding: Decoding
    rule: KindRule
    examples: int
    filters: Filters = DEFAULT_FILTERS
    weighting: Weighting = DEFAULT_WEIGHTING

    @property
    def others(self) -> tuple[str, ...]:
        """The other model and, where there is one, the control."""
        return (self.other,) if self.control is None else (self.other, self.control)


def run_name(run: Run) -> str:
    """The last part of where a run lies: what stands above it is the machine's own."""
    return run.location.rstrip("/").rsplit("/", 1)[-1]


def facts(
    run: Run, comparison: pd.DataFrame, *, asked: Compared, kind_decoding: Decoding
) -> tuple[tuple[str, str], ...]:
    """What was compared: names and sentences.

    Args:
        run: the run.
        comparison: of the other model, all positions.
        asked: what the report asks.
        kind_decoding: under which kinds are taken.
    """
    manifest = run.manifest
    counts = count(keep(comparison, filters=asked.filters))
    return (
        ("Run", f"{run_name(run)}, fingerprint {run.fingerprint}"),
        ("Baseline", _model(run, run.model_names[0])),
        ("Other", _model(run, asked.other)),
        ("Control", "none" if asked.control is None else _model(run, asked.control)),
        ("Delta", f"other − baseline: {asked.other} − {run.model_names[0]}"),
        ("Responses", f"{counts.carriers:,} to {counts.problems:,} problems; {_sampled(run)}"),
        ("Written by", _shares(comparison)),
        (
            "Positions",
            f"{counts.positions:,} carry the figures, of {len(run):,} stored; "
            f"{selection_text(manifest.settings.selection)}",
        ),
        ("Decoding", display.decoding_text(asked.decoding)),
        ("Kinds", f"at {display.decoding_text(kind_decoding)}: {display.rule_text(asked.rule)}"),
        (TRAINING, asked.training.said),
        ("Scored with", _versions(run)),
        (
            NOISE,
            "not measured" if run.noise_floor is None else _upper(run.noise_floor.sentence()),
        ),
        ("Cast", _cast(run)),
    )


def selection_text(selection: Selection) -> str:
    """How positions were chosen, in words."""
    if selection.all_positions:
        return "every response token was taken"
    parts = []
    if selection.interval_every:
        parts.append(f"every {selection.interval_every}th response token from a random start")
    if selection.random_count:
        parts.append(f"{selection.random_count} random ones a response")
    if selection.marker_window >= 0:
        near = f" and {selection.marker_window} tokens around" if selection.marker_window else ""
        parts.append(f"lexicon words{near} (no figure here rests on these alone)")
    return ", ".join(parts)


def _model(run: Run, name: str) -> str:
    """A model's name, how it ran, and how much of it training changed."""
    known: Mapping[str, Any] = run.manifest.models.get(name, {})
    ran = [str(known[key]) for key in ("dtype", "attention") if key in known]
    parts = [name, f"in {', '.join(ran)}" if ran else f"dtype {NOT_RECORDED}"]
    if changed := known.get("changed_weights"):
        cast = changed["changed_cast"]
        parts.append(
            f"{changed['changed_stored']:.2%} of the compared weights differ from the "
            f"baseline's as stored, {cast:.2%} as cast"
        )
    if fingerprint := known.get("weights_sha256"):
        parts.append(f"weights {str(fingerprint)[:12]}…")
    return "; ".join(parts)


def _sampled(run: Run) -> str:
    counts = run.manifest.counts
    if not counts:
        return f"how many were read is {NOT_RECORDED}"
    sampling = run.manifest.settings.sampling
    drawn = f"{sampling.allocation} over {', '.join(sampling.by)}, seed {sampling.seed}"
    return (
        f"{counts['carriers_sampled']:,} sampled of {counts['carriers_available']:,} read"
        f"{f' ({drawn})' if sampling.carriers else ''}, "
        f"{counts['records_skipped']:,} records skipped"
    )


def _shares(comparison: pd.DataFrame) -> str:
    """Who wrote the responses, and how many of them are right."""
    carriers = comparison.drop_duplicates("carrier")
    parts = []
    for name, own in carriers.groupby(Stratum.GENERATOR.value, sort=True, observed=True):
        right = Counter(own[Stratum.CORRECT.value].astype("str"))
        graded = ", ".join(f"{number:,} {label}" for label, number in sorted(right.items()))
        parts.append(f"{name}: {len(own):,} ({graded})")
    return "; ".join(parts)


def _versions(run: Run) -> str:
    known = run.manifest.versions
    text = ", ".join(f"{name} {known[name]}" for name in sorted(known))
    return f"{text or NOT_RECORDED} (a run keeps no time of day)"


def _cast(run: Run) -> str:
    """What the run's dtype does beside float32."""
    if run.casting is not None:
        return f"{_upper(run.casting.sentence())}"
    dtypes = {model.get("dtype") for model in run.manifest.models.values()}
    return "none: scored in float32" if dtypes == {FLOAT32} else "its effect was not measured"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def limits(
    run: Run,
    comparison: pd.DataFrame,
    *,
    asked: Compared,
    tables: Mapping[str, pd.DataFrame],
) -> tuple[str, ...]:
    """What a reader cannot conclude, in sentences: what is missing, small, or not asked.

    Args:
        run: the run.
        comparison: of the other model, all positions.
        asked: what the report asks.
        tables: delta tables by kind, by a name for each; their notes are told.
    """
    own = [*_missing_parts(run), *_precision(run, asked)]
    for name, table in tables.items():
        by = [column for column in ("kind",) if column in table]
        if text := display.notes(table, by=by):
            own.append(f"{name}, small groups: {text}.")
        own += _unmeasured(name, table)
    if asked.control is None:
        own.append(
            "No control: whether training as long on plain samples would have done the same "
            "cannot be told."
        )
    left = [name for name in run.model_names[1:] if name not in asked.others]
    if left:
        own.append(f"Not looked at: {', '.join(left)}.")
    writers = comparison[Stratum.GENERATOR.value].nunique()
    if writers == 1:
        own.append("One model wrote all responses: what happens on other text is not known.")
    return (*own, *ALWAYS)


ALWAYS = (
    "A verdict says which of a few mechanisms the change looks like, beside its nulls. Every model "
    "is one training run: another seed may differ.",
    "Kinds are thresholds on probabilities, not a property of the text. Where the three "
    "assignments disagree, no direction is claimed.",
    "Examples are the extremes of their lists, so they are not typical.",
    "Whether answers became better is not asked here: the figures are of single tokens.",
)


def _missing_parts(run: Run) -> list[str]:
    found = []
    if not run.complete:
        found.append(
            f"The run is incomplete: {len(run.committed)} of {len(run.plan.units)} units are "
            "scored, and responses are scored in order of length."
        )
    reasons = Counter(record.reason for record in run.manifest.skipped)
    if reasons:
        listed = ", ".join(f"{reason} {number:,}" for reason, number in reasons.most_common())
        found.append(f"Skipped records: {sum(reasons.values()):,} ({listed}).")
    elif run.manifest.counts:
        found.append("Skipped records: none.")
    if without := run.manifest.counts.get("carriers_without_positions"):
        found.append(f"Responses without any position: {without:,}.")
    return found


def _precision(run: Run, asked: Compared) -> list[str]:
    """What arithmetic may have done."""
    found = []
    if run.casting is not None:
        found += [f"{_upper(warning)}." for warning in run.casting.warnings]
    for name in (run.model_names[0], *asked.others):
        half = run.logit_grid(name)
        if half is not None:
            found.append(f"Logits of {name} sit on the grid of {half}: near neighbours are ties.")
    return found


def _unmeasured(name: str, table: pd.DataFrame) -> list[str]:
    most = int(table["missing"].max())
    if most == 0:
        return []
    names = ", ".join(table.loc[table["missing"] > 0, "quantity"].unique())
    return [
        f"{name}: up to {most:,} positions are not measured ({names}); they are left out, never "
        "counted as 0."
    ]


def command(run: Run, *, asked: Compared, target: str) -> str:
    """The command that makes the same report again, in the folder that holds the run.

    Args:
        run: the run.
        asked: what the report asks.
        target: name of the file that it writes.
    """
    training = [name for name in TRAINING_OPTIONS if name not in asked.training.assumed]
    options: Sequence[tuple[str, object]] = (
        ("other", asked.other),
        *((("control", asked.control),) if asked.control is not None else ()),
        ("preset", asked.rule.preset),
        *((f"train-{name.replace('_', '-')}", getattr(asked.training, name)) for name in training),
        ("temperature", asked.decoding.temperature),
        ("top-k", asked.decoding.top_k),
        ("top-p", asked.decoding.top_p),
        ("min-p", asked.decoding.min_p),
        ("decode", asked.decoding.order),
        ("examples", asked.examples),
    )
    words = ["probing", "report", run_name(run), "-o", target]
    return shlex.join([*words, *(f"--{name}={value}" for name, value in options)])


def package_version() -> str:
    """Of this package."""
    return version(DISTRIBUTION)
