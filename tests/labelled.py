"""Labels for tests: of positions of the run for pages, by people who err as they are told."""

import numpy as np
import pandas as pd

from probing.reporting.comparison import kind_column
from probing.reporting.examples import position_name
from probing.reporting.filters import HEADLINE, Filters, keep
from probing.reporting.happenings import event_column
from probing.store.labels import Label, Offer, Offered
from probing.store.reader import Run
from probing.vocabulary import Assignment, Event, Kind

DRAWN = Offer(how=Offered.RANDOM, seed=0, among=HEADLINE, blind=True)
RANKED = Offer(how=Offered.RANKED, by="largest change of Top-1 probability", among=HEADLINE)


def label_of(run: Run, position: pd.Series, *, who: str = "Ada", **changed: object) -> Label:
    """By default what the heuristic says by the mean."""
    said: dict[str, object] = {
        "kind": Kind(position[kind_column(Assignment.MEAN)]),
        "event": Event(position[event_column(Assignment.MEAN)]),
        "order": DRAWN,
        "time": "2026-01-02T03:04:05.000+00:00",
    }
    return Label(
        run=run.fingerprint, other="ssd", position=position_name(position), who=who,
        **(said | changed),
    )  # type: ignore[arg-type]  # fmt: skip


def drawn_labels(
    run: Run, comparison: pd.DataFrame, *, who: str, count: int, errs: float, seed: int = 0
) -> list[Label]:
    """Labels of the first positions of the draw; so large a share is another kind, at random."""
    kept = keep(comparison, filters=Filters())
    order = np.random.default_rng(0).permutation(len(kept))[:count]
    rng = np.random.default_rng(seed)
    found = []
    for place in order:
        position = kept.iloc[place]
        own = label_of(run, position, who=who)
        if rng.random() < errs:
            others = [kind for kind in Kind if kind is not own.kind]
            own = label_of(run, position, who=who, kind=others[rng.integers(3)])
        found.append(own)
    return found
