"""Tables of labels as a page or a terminal shows them."""

import pandas as pd

from probing.reporting.display import Column, bounded, labelled, number, percent, whole
from probing.reporting.labels import DRAWN, NAMES
from probing.reporting.quantities import QUANTITIES
from probing.reporting.text import line
from probing.store.labels import HEURISTIC, PEOPLE, Label, Offer, Offered

AGREEMENT_LABELS = {
    "basis": Column("Labels", "Only those drawn at random speak for the run."),
    "of": Column("Of", "Kind or event.", width=60),
    "first": Column("Who", "A person, or everybody who labelled."),
    "second": Column("Against", "The heuristic with the settings in force, or another person."),
    "share": Column("Agree", "Share of positions with the same answer."),
    "interval": Column("95 % interval", "Whole problems are resampled."),
    "kappa": Column("Kappa", "Cohen's: agreement beyond chance; 1 is full, 0 what chance gives."),
    "positions": Column("Positions", "That both say something of."),
    "problems": Column("Problems", "What is resampled."),
    "blind": Column("Blind", "Labels given while the heuristic's answer was hidden."),
    "note": Column("Note", "What to beware of."),
}

DELTA_LABELS = {
    "kind": Column("Kind", "As people or as the heuristic give it."),
    "quantity": Column("Quantity", "Its mean delta, other − baseline."),
    PEOPLE: Column("By people", "Where people say this kind, with its 95 % interval."),
    HEURISTIC: Column("By heuristic", "Where the heuristic says it, of the same labels."),
    "difference": Column("Difference", "People less heuristic; a problem is drawn for both."),
    "labels": Column("Labels", "With this kind by people / by the heuristic."),
    "problems": Column("Problems", "Of the side that has fewer."),
}

HERE_LABELS = {
    "who": Column("Who", "Names are as people gave them."),
    "kind": Column("Kind", "What this person says."),
    "event": Column("Event", "What this person says."),
    "note": Column("Note", "In their words.", width=320),
    "offered": Column("Offered", "How they came to the position."),
    "time": Column("When", "UTC."),
}

SKIPPED_LABELS = {
    "line": Column("Line", "Of the file."),
    "reason": Column("Reason", "Why it was left out."),
    "detail": Column("Detail", "What is wrong with it.", width=480),
}

CORNER = "People ↓ heuristic →"
NOTHING = ""


def shown_agreement(table: pd.DataFrame) -> pd.DataFrame:
    """A table of agreement as text, names with nothing hidden.

    Args:
        table: of `agreement_table`.
    """
    texts = {
        "first": table["first"].map(line),
        "second": table["second"].map(line),
        "share": table["share"].map(percent),
        "interval": table["low"].map(percent) + " to " + table["high"].map(percent),
        "kappa": table["kappa"].map(number),
    }
    return labelled(table.assign(**texts)[[*AGREEMENT_LABELS]], AGREEMENT_LABELS)


def shown_label_deltas(table: pd.DataFrame, *, basis: str) -> pd.DataFrame:
    """Deltas by people's and by the heuristic's kinds, as text.

    Args:
        table: of `label_deltas`.
        basis: on which labels they rest.
    """
    table = table[table["basis"] == basis]
    counts = (table[f"{side}_labels"].map(whole) for side in (PEOPLE, HEURISTIC))
    texts = {
        "quantity": table["quantity"].map(lambda name: QUANTITIES[name].label),
        "labels": next(counts) + " / " + next(counts),
    }
    for side in (PEOPLE, HEURISTIC, "difference"):
        ends = [table[name].astype(float) for name in (side, f"{side}_low", f"{side}_high")]
        found = [bounded(*each) for each in zip(*ends, strict=True)]
        texts[side] = pd.Series(found, index=table.index, dtype="str")
    return labelled(table.assign(**texts)[[*DELTA_LABELS]], DELTA_LABELS)


def shown_confusion(table: pd.DataFrame, *, of: str, basis: str) -> pd.DataFrame:
    """People's answers down, the heuristic's across, labels counted; answers that occur.

    Args:
        table: of `confusion_table`.
        of: kind or event.
        basis: which labels.
    """
    own = table[(table["of"] == of) & (table["basis"] == basis)]
    wide = own.pivot_table(
        index="people", columns=HEURISTIC, values="labels", aggfunc="sum", fill_value=0
    )
    order = [name for name in NAMES[of] if name in wide.index]
    across = [name for name in NAMES[of] if name in wide.columns]
    counts = wide.loc[order, across].rename_axis(index=CORNER, columns=None)
    return counts.reset_index()


def shown_labels(labels: tuple[Label, ...]) -> pd.DataFrame:
    """Labels of one position for a page, the newest first, nothing in them hidden."""
    rows = [
        {
            "who": line(label.who),
            "kind": NOTHING if label.kind is None else label.kind.value,
            "event": NOTHING if label.event is None else label.event.value,
            "note": line(label.note),
            "offered": offer_text(label.order),
            "time": label.time[:16].replace("T", " "),
        }
        for label in sorted(labels, key=lambda one: one.time, reverse=True)
    ]
    return labelled(pd.DataFrame(rows, columns=[*HERE_LABELS]), HERE_LABELS)


def offer_text(offer: Offer) -> str:
    """How a position was offered, in words."""
    if offer.how is Offered.LINK:
        return "by its link"
    seed = "" if offer.seed is None else f", seed {offer.seed}"
    named = f"{DRAWN}{seed}" if offer.how is Offered.RANDOM else line(offer.by)
    some = ", some filtered out" if offer.filtered else ""
    return f"{named}{some}{', blind' if offer.blind else ''}"


def basis_text(table: pd.DataFrame) -> str:
    """On how many labels the tables rest, and what they can speak for.

    Args:
        table: of `label_table`.
    """
    drawn = int((table["drawn"] & (table["weight"] > 0)).sum())
    people = table["who"].nunique()
    texts = [
        f"{whole(len(table))} label{'s' * (len(table) != 1)} by {people} "
        f"{'person' if people == 1 else 'people'}"
    ]
    if drawn:
        texts.append(f"{whole(drawn)} of positions {DRAWN}: only these speak for the run")
    else:
        texts.append(
            f"none of a position {DRAWN}: agreement is that of these positions, not of the run"
        )
    return "; ".join(texts)


def delta_notes(table: pd.DataFrame) -> list[str]:
    """The warnings of a table of deltas, each once, with the kinds it is about.

    Args:
        table: of `label_deltas`.
    """
    noted = table[table["note"] != ""]
    grouped = noted["kind"].groupby(noted["note"], sort=False)
    return [f"{', '.join(dict.fromkeys(kinds))}: {note}" for note, kinds in grouped]


def agreement_notes(table: pd.DataFrame) -> list[str]:
    """The warnings of a table of agreement, each once, with whom it is about.

    Args:
        table: of `agreement_table`.
    """
    noted = table[table["note"] != ""]
    whose = noted["first"].map(line) + " against " + noted["second"].map(line)
    grouped = whose.groupby(noted["note"], sort=False)
    return [f"{', '.join(dict.fromkeys(names))}: {note}" for note, names in grouped]
