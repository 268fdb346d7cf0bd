"""Labels by people: the form below an example, the draw at random, and where labels are kept."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from probing.dashboard.controls import PINNED, Choice
from probing.dashboard.filtering import URL
from probing.dashboard.parts import text_frame
from probing.dashboard.saying import said
from probing.errors import ProbingError
from probing.reporting import labels_shown
from probing.reporting.examples import Order, position_name
from probing.reporting.filters import Filters
from probing.reporting.happenings import EVENT_NAMES
from probing.reporting.labels import label_table
from probing.reporting.quantities import QUANTITIES
from probing.reporting.remaking import Ranking
from probing.store.labels import (
    LONGEST_NAME,
    LONGEST_NOTE,
    Label,
    LabelFile,
    Offer,
    Offered,
    ReadLabels,
    current,
    now,
)
from probing.store.reader import Run
from probing.vocabulary import Event, Kind

DRAWN, DRAWN_AS, REVEALED = "drawn", "drawn_as", "revealed"
"""The name of the position that was last drawn at random, among which it was drawn, and what of
any run this session has shown with its kind: names of positions, ids of whole responses."""

NAME, KEPT_HERE, SAID = "labeller", "labels_here", "label_said"
"""Of the session: the typed name, labels that cannot be kept beside their run, the last message."""

ANY, LABELLED, UNLABELLED, DISAGREE = "any", "labelled", "not labelled", "people disagree"


def labeller() -> str:
    """Who labels: the address of who is signed in, else the name typed in this session."""
    if st.user.get("is_logged_in") and st.user.get("email"):
        return str(st.user["email"])[:LONGEST_NAME]
    return str(st.session_state.get(NAME, ""))


def file_of(run: Run) -> LabelFile | None:
    """The file in which labels of a run can be kept; None where there can be none."""
    file = LabelFile.beside(run.location)
    return file if file is not None and file.writable else None


def labels_of(run: Run) -> ReadLabels:
    """All labels beside a run, and those of this session; what is none of either is said."""
    file = LabelFile.beside(run.location)
    found = ReadLabels() if file is None else _read(str(file.path), file.stamp)
    here = st.session_state.get(KEPT_HERE, {}).get(run.fingerprint, ())
    return found._replace(labels=(*found.labels, *here))


@st.cache_resource(max_entries=8, show_spinner=False)
def _read(path: str, stamp: tuple[int, int]) -> ReadLabels:
    return LabelFile(Path(path)).read()


def keep(run: Run, labels: tuple[Label, ...]) -> int:
    """Keep labels beside the run, or in this session; how many were new.

    Raises:
        UnwritablePath: the file cannot be written after all.
    """
    file = file_of(run)
    if file is not None:
        return file.append(labels)
    every = st.session_state.setdefault(KEPT_HERE, {})
    known = every.get(run.fingerprint, ())
    new = tuple(label for label in dict.fromkeys(labels) if label not in known)
    every[run.fingerprint] = (*known, *new)
    return len(new)


def of_pair(choice: Choice) -> tuple[Label, ...]:
    """The labels in force of this run and pair."""
    return tuple(
        label
        for label in current(labels_of(choice.run).labels)
        if label.run == choice.run.fingerprint and label.other == choice.other
    )


def table_of(choice: Choice) -> pd.DataFrame:
    """Labels beside what the heuristic says with the settings in force."""
    return label_table(
        of_pair(choice),
        choice.every,
        fingerprint=choice.run.fingerprint,
        other=choice.other,
        assignment=choice.filters.assignment,
        weighting=choice.weighting,
    )


# Which positions


def narrowed(choice: Choice, kept: pd.DataFrame, wanted: str) -> pd.DataFrame:
    """Of the kept positions, those that people did or did not label."""
    if wanted == ANY:
        return kept
    table = table_of(choice)
    if wanted == DISAGREE:
        apart = [
            table[of].notna() & (table[of] != table[f"heuristic_{of}"]) for of in ("kind", "event")
        ]
        table = table[apart[0] | apart[1]]
    known = pd.MultiIndex.from_frame(table[["carrier_id", "position"]])
    own = pd.MultiIndex.from_frame(kept[["carrier_id", "position"]])
    inside = own.isin(known)
    return kept[~inside if wanted == UNLABELLED else inside]


def filter_box() -> str:
    """The control that says which."""
    return str(
        st.selectbox(
            "Labels",
            [ANY, LABELLED, UNLABELLED, DISAGREE],
            key="example_labels",
            bind=URL,
            help="By people, of this pair of models. People disagree: with the heuristic, in kind "
            "or event.",
        )
    )


def draw_next(choice: Choice, seed: int) -> None:
    """Show the next position of the seeded order that this person has not labelled as drawn.

    One labelled out of a ranking is drawn like any other: to pass it over would leave out what is
    extreme.
    """
    who = labeller()
    done = {
        label.position
        for label in of_pair(choice)
        if label.who == who and label.order.how is Offered.RANDOM
    }
    order = np.random.default_rng(seed).permutation(len(choice.kept))
    for place in order:
        name = position_name(choice.kept.iloc[place])
        if name not in done:
            st.session_state[PINNED] = st.session_state[DRAWN] = name
            st.session_state[DRAWN_AS] = Offer(
                how=Offered.RANDOM,
                seed=seed,
                among=choice.filters.selector,
                filtered=_filtered(choice),
            )
            return
    st.session_state[SAID] = "You have labelled every position that passes these filters."


def draw_button(choice: Choice, seed: int) -> None:
    """A button for the next."""
    st.button(
        "Next unlabelled, drawn at random",
        key="draw_label",
        on_click=draw_next,
        args=(choice, seed),
        icon=":material/casino:",
        help="For labels that can speak for the run: the order is that of the seed, the same for "
        "everybody, and the heuristic's answer is hidden until you save yours.",
    )


@dataclass(frozen=True)
class Seen:
    """A position before the eyes of a person.

    Attributes:
        name: of the position.
        mine: what this person says of it already.
        others: everybody's labels of it.
        drawn: whether it was drawn at random.
        revealed: whether another page has shown what the heuristic says of it.
    """

    name: str
    mine: Label | None
    others: tuple[Label, ...]
    drawn: bool
    revealed: bool

    @property
    def blind(self) -> bool:
        """Whether the heuristic's answer and other people's are hidden: until one has one's own."""
        return self.drawn and self.mine is None and not self.revealed


def seen(choice: Choice, position: pd.Series) -> Seen:
    """What is known of the labels of a position."""
    name, who = position_name(position), labeller()
    here = tuple(label for label in of_pair(choice) if label.position == name)
    mine = next((label for label in here if label.who == who), None)
    drawn = name == st.session_state.get(PINNED) == st.session_state.get(DRAWN)
    return Seen(name, mine, here, drawn, revealed=_revealed(choice, name))


def _revealed(choice: Choice, name: str) -> bool:
    """Whether this person has seen what the heuristic says of a position."""
    shown = st.session_state.get(REVEALED, frozenset())
    labelled = any(
        label.of == (choice.run.fingerprint, choice.other, name, labeller())
        for label in labels_of(choice.run).labels
    )
    whole = name.rpartition(":")[0]
    return labelled or any((*_pair(choice), one) in shown for one in (name, whole))


def reveal(choice: Choice, names: Iterable[str]) -> None:
    """Say that a page shows kinds, so that labels to come of these are not blind.

    Args:
        choice: the run and whom it compares.
        names: of positions, or ids of whole responses.
    """
    shown = st.session_state.setdefault(REVEALED, set())
    shown.update((*_pair(choice), name) for name in names)


def _pair(choice: Choice) -> tuple[str, str]:
    return choice.run.fingerprint, choice.other


def offer_of(choice: Choice, ranking: Ranking, shown: Seen, *, narrowed_by: str) -> Offer:
    """How the position came before the eyes of the person."""
    if shown.drawn:
        # As it was when the draw was made: filters may have changed since.
        drawn: Offer = st.session_state[DRAWN_AS]
        return replace(drawn, blind=shown.blind)
    if st.session_state.get(PINNED) is not None:
        return Offer(how=Offered.LINK)
    among = Offer(
        how=Offered.RANKED,
        by=f"{ranking.order} of {QUANTITIES[ranking.by].label}",
        among=choice.filters.selector,
        filtered=_filtered(choice) or narrowed_by != ANY,
    )
    if ranking.order is Order.RANDOM:
        return replace(among, how=Offered.RANDOM, by="", seed=ranking.seed)
    return among


def _filtered(choice: Choice) -> bool:
    """Whether the sidebar leaves out some of the positions that its selector chose."""
    chosen = choice.filters
    return chosen != Filters(selector=chosen.selector, assignment=chosen.assignment)


# The form


def form(choice: Choice, shown: Seen, offer: Offer) -> None:
    """Draw what people say of a position, and let one more say it."""
    with st.container(key="labelling", border=True):
        st.subheader("Label", anchor=False)
        if not choice.run.complete:
            st.text("This run is still being written; its positions can be labelled afterwards.")
            return
        if file_of(choice.run) is None:
            st.info(
                "Labels cannot be kept beside this run: it is read-only here, or at a URL. They "
                "stay in this session; download them on *Methods*.",
                icon=":material/lock:",
            )
        _fields(choice, shown, offer)
        if told := st.session_state.pop(SAID, ""):
            said(told)
        if shown.others and not shown.blind:
            table = labels_shown.shown_labels(shown.others)
            with st.container(key="given_labels"):
                text_frame(table, labels_shown.HERE_LABELS, key="labels of this position")
        if shown.blind:
            st.caption("What the heuristic and other people say is hidden until you save yours.")


def _fields(choice: Choice, shown: Seen, offer: Offer) -> None:
    mark = zlib.crc32(f"{choice.run.fingerprint}\n{choice.other}\n{shown.name}".encode())
    mine = shown.mine
    with st.form(f"label_{mark}", border=False):
        if not (st.user.get("is_logged_in") and st.user.get("email")):
            st.text_input(
                "Your name",
                value=labeller(),
                max_chars=LONGEST_NAME,
                key=f"label_who_{mark}",
                help="Stands beside your labels; asked once a session.",
            )
        st.segmented_control(
            "Kind",
            [kind.value for kind in Kind],
            default=None if mine is None or mine.kind is None else mine.kind.value,
            key=f"label_kind_{mark}",
            help="What you would call the two models' distributions here.",
        )
        left, right = st.columns([1, 2])
        left.selectbox(
            "Event",
            EVENT_NAMES,
            index=None if mine is None or mine.event is None else list(Event).index(mine.event),
            placeholder="not said",
            key=f"label_event_{mark}",
            help="What you would say happened from the baseline to the other model.",
        )
        right.text_input(
            "Note",
            value="" if mine is None else mine.note,
            max_chars=LONGEST_NOTE,
            key=f"label_note_{mark}",
        )
        with st.container(horizontal=True):
            st.form_submit_button(
                "Save label",
                key="save_label",
                type="primary",
                on_click=_save,
                args=(choice, shown.name, offer, mark),
            )
            if mine is not None:
                st.form_submit_button(
                    "Withdraw", key="withdraw_label", on_click=_withdraw, args=(choice, mine, offer)
                )


def _save(choice: Choice, name: str, offer: Offer, mark: int) -> None:
    """Keep what the form says."""
    typed = st.session_state.get(f"label_who_{mark}")
    if typed is not None:
        st.session_state[NAME] = typed.strip()
    kind, event = (st.session_state.get(f"label_{of}_{mark}") for of in ("kind", "event"))
    if not labeller():
        st.session_state[SAID] = "Not saved: type your name."
        return
    if kind is None and event is None:
        st.session_state[SAID] = "Not saved: choose a kind or an event."
        return
    try:
        label = Label(
            run=choice.run.fingerprint,
            other=choice.other,
            position=name,
            who=labeller(),
            time=now(),
            # Whose name is typed just now may have labelled it another day.
            order=replace(offer, blind=offer.blind and not _revealed(choice, name)),
            kind=None if kind is None else Kind(kind),
            event=None if event is None else Event(event),
            note=(st.session_state.get(f"label_note_{mark}") or "").strip(),
        )
        keep(choice.run, (label,))
        st.session_state[SAID] = "Saved."
    except ProbingError as error:
        st.session_state[SAID] = f"Not saved: {error}"


def _withdraw(choice: Choice, mine: Label, offer: Offer) -> None:
    """Say that one's label no longer holds."""
    try:
        keep(choice.run, (replace(mine, time=now(), order=offer, kind=None, event=None, note=""),))
        st.session_state[SAID] = "Withdrawn."
    except ProbingError as error:
        st.session_state[SAID] = f"Not withdrawn: {error}"
