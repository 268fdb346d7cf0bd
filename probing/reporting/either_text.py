"""The evidence on the responses that each model wrote (method.md section 10, item 9)."""

import dataclasses
from collections.abc import Sequence

import pandas as pd

from probing.errors import NoCarriersLeft
from probing.reporting.mechanism import Asked, mechanism, places_beside
from probing.reporting.predictions import EVIDENCE_COLUMNS, evidence_table
from probing.store.reader import Run
from probing.vocabulary import Stratum

TEXT = "text"
"""Column that says whose responses a row rests on."""


def evidence_by_text(run: Run, names: Sequence[str], *, asked: Asked) -> pd.DataFrame:
    """The evidence on each generator's responses, one below the other, told apart by `TEXT`.

    Without rows where the filters leave one generator, whose evidence is the whole. A generator
    none of whose positions count is left out.

    Args:
        run: the run.
        names: the other model, and a control if there is one.
        asked: settings; its filters apply.
    """
    written = places_beside(run, names[0])[Stratum.GENERATOR].astype(str)
    wanted = asked.filters.generator
    generators = sorted(name for name in written.unique() if not wanted or name in wanted)
    parts = []
    for generator in generators if len(generators) > 1 else ():
        own = dataclasses.replace(
            asked, filters=dataclasses.replace(asked.filters, generator=(generator,))
        )
        try:
            found = mechanism(run, names, asked=own)
        except NoCarriersLeft:
            continue
        parts.append(evidence_table(found, asked=own).assign(**{TEXT: generator}))
    if not parts:
        return pd.DataFrame(columns=[*EVIDENCE_COLUMNS, TEXT])
    return pd.concat(parts, ignore_index=True)
