"""What a page of methods shows of a run: models, noise floor, sample, what was left out."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from probing.carriers.record import Skipped
from probing.carriers.sampling import cell_rows
from probing.reporting.display import NOT_MEASURED, Column, labelled, number, percent
from probing.reporting.provenance import NOT_RECORDED
from probing.reporting.quantities import QUANTITIES
from probing.store.reader import Run

MODEL_LABELS = {
    "model": Column("Model", "The baseline first."),
    "dtype": Column("Dtype", "In which the backbone ran; heads run in float32."),
    "attention": Column("Attention", "Its implementation."),
    "changed_stored": Column("Weights changed", "Share of the compared weights, as stored."),
    "changed_cast": Column("As cast", "The same share once cast to the run's dtype."),
    "weights": Column("Weights", "The first digits of their SHA-256."),
}

NOISE_LABELS = {
    "quantity": Column("Quantity", "Absolute difference, at T = 1."),
    "median": Column("Median", "Over the positions compared."),
    "p95": Column("95th percentile", "Over the positions compared."),
    "maximum": Column("Maximum", "A difference below it may be rounding alone."),
}
NOISE_QUANTITIES = {
    "logit": "Largest difference of any logit",
    "top1_prob": QUANTITIES["top1_prob"].label,
    "entropy_nats": QUANTITIES["entropy_nats"].label,
    "kl_nats": "KL (nats)",
}

SKIPPED_LABELS = {
    "reason": Column("Reason", "Why records were left out."),
    "records": Column("Records", "How many."),
    "first": Column("First", "Where the first of them stands."),
    "detail": Column("Detail", "What was said of it."),
}

DEFINITION_LABELS = {
    "label": Column("Quantity", "As on every page."),
    "name": Column("Column", "As in every CSV."),
    "explanation": Column("What it is", "Formulas are in docs/method.md.", width=720),
}


def model_rows(run: Run) -> pd.DataFrame:
    """Every model of the run; columns are those of `MODEL_LABELS`."""
    return pd.DataFrame([_model(run, name) for name in run.model_names], columns=[*MODEL_LABELS])


def _model(run: Run, name: str) -> dict[str, object]:
    known: Mapping[str, Any] = run.manifest.models.get(name, {})
    changed = known.get("changed_weights") or {}
    return {
        "model": name,
        "dtype": known.get("dtype", NOT_RECORDED),
        "attention": known.get("attention", NOT_RECORDED),
        "changed_stored": changed.get("changed_stored", float("nan")),
        "changed_cast": changed.get("changed_cast", float("nan")),
        "weights": str(known.get("weights_sha256", NOT_RECORDED)),
    }


def shown_models(table: pd.DataFrame) -> pd.DataFrame:
    """As text."""
    shares = {name: table[name].map(percent) for name in ("changed_stored", "changed_cast")}
    return labelled(table.assign(**shares, weights=table["weights"].str[:12]), MODEL_LABELS)


def noise_rows(run: Run) -> pd.DataFrame:
    """The noise floor; columns are those of `NOISE_LABELS`, no row where it was not measured."""
    floor = run.noise_floor
    rows = [
        {"quantity": label, **vars(getattr(floor, name))}
        for name, label in NOISE_QUANTITIES.items()
        if floor is not None
    ]
    return pd.DataFrame(rows, columns=[*NOISE_LABELS])


def shown_noise(table: pd.DataFrame) -> pd.DataFrame:
    """As text."""
    shown = {name: table[name].map(number) for name in ("median", "p95", "maximum")}
    return labelled(table.assign(**shown), NOISE_LABELS)


def skipped_rows(run: Run) -> pd.DataFrame:
    """Records left out, one row each: `file`, `line`, `reason`, `detail`."""
    rows = [vars(record) for record in run.manifest.skipped]
    return pd.DataFrame(rows, columns=["file", "line", "reason", "detail"])


def shown_skipped(run: Run) -> pd.DataFrame:
    """The reasons, the most frequent first, with the first record of each."""
    by_reason: dict[str, list[Skipped]] = {}
    for record in run.manifest.skipped:
        by_reason.setdefault(record.reason, []).append(record)
    rows = [
        {
            "reason": reason,
            "records": len(records),
            "first": records[0].place,
            "detail": records[0].detail,
        }
        for reason, records in sorted(by_reason.items(), key=lambda item: -len(item[1]))
    ]
    return labelled(pd.DataFrame(rows, columns=[*SKIPPED_LABELS]), SKIPPED_LABELS)


def sample_rows(run: Run) -> pd.DataFrame:
    """The sample's table: its strata, `wanted`, `available`, `taken`; no row where none is kept."""
    by = run.manifest.settings.sampling.by
    rows = cell_rows(run.manifest.sample or (), by=by)
    return pd.DataFrame(rows, columns=[*by, "wanted", "available", "taken"])


def definitions() -> pd.DataFrame:
    """Every quantity in words, with the columns of `DEFINITION_LABELS`."""
    rows = [
        {"label": each.label, "name": each.name, "explanation": each.explanation or NOT_MEASURED}
        for each in QUANTITIES.values()
    ]
    return labelled(pd.DataFrame(rows), DEFINITION_LABELS)
