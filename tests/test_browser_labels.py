"""Labels in a real browser: given, kept over a reload, compared, taken away and brought back."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browsing import (
    Site,
    View,
    compared,
    context,
    downloaded,
    kept_positions,
    parsed,
    settle,
)
from labelled import label_of
from pages_run import HOSTILE
from playwright.sync_api import Page, expect
from test_labels import digest

from probing.reporting import labels as tables
from probing.reporting import labels_shown
from probing.reporting.comparison import kind_column
from probing.reporting.display import event_text
from probing.reporting.examples import Order, position_name, ranked_positions
from probing.reporting.labels import label_table
from probing.store.labels import LabelFile, lines_of
from probing.vocabulary import Assignment, Kind

pytestmark = pytest.mark.browser


@pytest.fixture
def file(site: Site) -> Iterator[LabelFile]:
    """That of the run whose page is open; gone afterwards."""
    found = LabelFile.beside(str(site.runs["pages.zarr"].path))
    assert found is not None
    yield found
    found.path.unlink(missing_ok=True)


def drawn(page: Page) -> str:
    """Draw a position; its name."""
    page.get_by_role("button", name="Next unlabelled, drawn at random").click()
    settle(page)
    return page.evaluate("new URLSearchParams(location.search).get('at')")


def save(page: Page, *, kind: str = "", event: str = "", note: str = "", who: str = "") -> None:
    box = page.locator(".st-key-labelling")
    if who:
        box.get_by_role("textbox", name="Your name").fill(who)
    if kind:
        box.locator("button:visible", has_text=kind).first.click()
    if event:
        field = box.get_by_role("combobox")
        field.click()
        field.fill(event)
        page.get_by_role("option", name=event).first.click()
    if note:
        box.get_by_role("textbox", name="Note").fill(note)
    page.get_by_role("button", name="Save label").click()
    settle(page)


def rows(page: Page, key: str) -> list[list[str]]:
    """What the drawn part of the table in this place says."""
    table = page.locator(f".st-key-{key}").get_by_test_id("stDataFrame")
    table.scroll_into_view_if_needed()
    found = table.locator("tbody [role=row]")
    found.first.wait_for(state="attached")
    return [
        [cell.strip() for cell in row.locator("[role=gridcell]").all_text_contents()]
        for row in found.all()
    ]


def opened(site: Site, place: str, query: str = "") -> Page:
    page = site.visit(query, place=place)
    page.locator("h1").first.wait_for()
    settle(page)
    return page


def test_a_label_is_kept_beside_the_run_and_is_there_again(site: Site, file: LabelFile) -> None:
    before = digest(site.runs["pages.zarr"].path)
    page = opened(site, "examples", "run=pages.zarr")
    ranked = ranked_positions(kept_positions(site, View()), by="top1_prob", order=Order.CHANGE)
    name = position_name(ranked.iloc[0])
    save(page, who="Ada", kind="fork-like", event="swap", note=HOSTILE[0])
    expect(page.get_by_text("Saved.", exact=True)).to_be_visible()
    (label,) = file.read().labels
    assert (label.position, label.who, label.kind, label.event) == (
        name,
        "Ada",
        "fork-like",
        "swap",
    )
    assert (label.note, label.run) == (HOSTILE[0], site.runs["pages.zarr"].open().fingerprint)
    assert label.order.by == "largest change of Top-1 probability"
    assert not label.order.blind
    page.reload()
    settle(page)
    (given,) = rows(page, "given_labels")
    assert given[:4] == ["Ada", "fork-like", "swap", HOSTILE[0]]
    assert page.locator("[data-testid=stMain] script, [data-testid=stMain] img").count() == 0
    # A second session, of another person.
    other = opened(site, "examples", f"run=pages.zarr&at={name}")
    save(other, who="Bob", kind="lock-like")
    assert [one.who for one in file.read().labels] == ["Ada", "Bob"]
    assert file.read().labels[1].order.how == "link"
    other.get_by_role("button", name="Withdraw").click()
    settle(other)
    assert file.read().labels[-1].withdrawn
    assert digest(site.runs["pages.zarr"].path) == before
    for one in (page, other):
        one.context.close()
    assert site.complaints == []
    assert site.foreign == []


def test_a_form_without_name_or_answer_saves_nothing(site: Site, file: LabelFile) -> None:
    page = opened(site, "examples", "run=pages.zarr")
    save(page, kind="mixed")
    expect(page.get_by_text("Not saved: type your name.")).to_be_visible()
    save(page, who="heuristic")
    expect(page.get_by_text("Not saved: who must be another name")).to_be_visible()
    save(page, kind="mixed", who="Ada")  # A second click takes the choice back.
    expect(page.get_by_text("Not saved: choose a kind or an event.")).to_be_visible()
    assert not file.path.exists()
    page.context.close()


def test_the_draw_is_blind_and_its_agreement_is_the_stores(site: Site, file: LabelFile) -> None:
    page = opened(site, "examples", "run=pages.zarr")
    kept = kept_positions(site, View())
    order = ranked_positions(kept, by="top1_prob", order=Order.RANDOM)
    run = site.runs["pages.zarr"].open()
    for place, kind in enumerate(("lock-like", "fork-like", "mixed", "lock-like")):
        position = order.iloc[place]
        assert drawn(page) == position_name(position)
        main = page.get_by_test_id("stMain")
        expect(main).to_contain_text("What happened here?")
        expect(main).not_to_contain_text(event_text(position))
        expect(main).not_to_contain_text("by mean")
        expect(page.locator(".st-key-given_labels")).to_have_count(0)
        save(page, kind=kind, who="" if place else "Ada")
        expect(main).to_contain_text(event_text(position))
        expect(page.locator(".st-key-given_labels")).to_have_count(1)
    labels = file.read().labels
    assert all(one.order.how == "random" and one.order.blind for one in labels)
    comparison = compared(site, View())["ssd"]
    table = label_table(labels, comparison, fingerprint=run.fingerprint, other="ssd")
    page.get_by_role("link", name="Methods", exact=True).click()
    page.locator("h1", has_text="Methods").wait_for()
    settle(page)
    expect(page.get_by_test_id("stMain")).to_contain_text(labels_shown.basis_text(table))
    for key, want in (
        ("agreement", tables.agreement_table(table)),
        ("confusion", tables.confusion_table(table)),
        ("label-deltas", tables.label_deltas(table, comparison)),
        ("labels", table),
    ):
        got = parsed(downloaded(page, f"{key}_csv"))
        assert got.columns.tolist() == want.columns.tolist()
        for column in want.select_dtypes("number"):
            assert got[column].tolist() == pytest.approx(want[column].tolist(), nan_ok=True)
    cells = rows(page, "agreed")[0]
    first = labels_shown.shown_agreement(tables.agreement_table(table)).iloc[0].tolist()
    assert cells[:6] == [str(cell) for cell in first[:6]]
    assert downloaded(page, "labels_jsonl").encode() == lines_of(labels)
    page.context.close()
    assert site.complaints == []


def test_whoever_looks_at_the_response_first_is_not_blind(site: Site, file: LabelFile) -> None:
    page = opened(site, "examples", "run=pages.zarr")
    name = drawn(page)
    main = page.get_by_test_id("stMain")
    expect(main).not_to_contain_text("by mean")
    page.get_by_role("link", name="Carrier", exact=True).click()
    page.locator("h1", has_text="Carrier").wait_for()
    settle(page)
    page.get_by_role("link", name="Examples", exact=True).click()
    page.locator("h1", has_text="Examples").wait_for()
    settle(page)
    expect(main).to_contain_text("by mean")
    save(page, kind="mixed", who="Ada")
    (label,) = file.read().labels
    assert label.position == name
    assert label.order.how == "random"
    assert not label.order.blind
    page.context.close()
    assert site.complaints == []


def test_whoever_withdraws_has_seen_the_answer(site: Site, file: LabelFile) -> None:
    page = opened(site, "examples", "run=pages.zarr")
    drawn(page)
    save(page, kind="mixed", who="Ada")
    page.get_by_role("button", name="Withdraw").click()
    settle(page)
    expect(page.get_by_test_id("stMain")).to_contain_text("by mean")
    save(page, kind="lock-like")
    assert [label.order.blind for label in file.read().labels if not label.withdrawn] == [
        True,
        False,
    ]
    page.get_by_role("button", name="Withdraw").click()
    settle(page)
    page.context.close()
    # Who comes back another day has seen it all the same.
    page = opened(site, "examples", "run=pages.zarr")
    drawn(page)
    save(page, kind="mixed", who="Ada")
    *_, before, after = [label for label in file.read().labels if not label.withdrawn]
    assert (after.position, after.who, after.order.blind) == (before.position, "Ada", False)
    page.context.close()
    assert site.complaints == []


def test_an_upload_is_taken_line_by_line(site: Site, file: LabelFile, tmp_path: Path) -> None:
    run = site.runs["pages.zarr"].open()
    comparison = compared(site, View())["ssd"]
    good = label_of(run, comparison.iloc[3], who="<b>Eve</b>", note="=1+1")
    foreign = replace(good, run="0" * 64)
    page = opened(site, "methods", "run=pages.zarr")
    box = page.locator(".st-key-labels_upload input[type=file]")
    source = tmp_path / "theirs.jsonl"
    source.write_bytes(lines_of([good]) + b"{bad\n" + lines_of([foreign]))
    box.set_input_files(source)
    expect(page.get_by_text("1 labels added, 0 were there already.")).to_be_visible()
    expect(page.get_by_text("2 lines left out")).to_be_visible()
    settle(page)
    assert file.read().labels == (good,)
    source.write_bytes(lines_of([foreign]))
    page.locator(".st-key-labels_upload input[type=file]").set_input_files(source)
    expect(page.get_by_text("got 1 of another run")).to_be_visible()
    settle(page)
    assert file.read().labels == (good,)
    cell = parsed(downloaded(page, "labels_csv"))
    assert cell["note"].tolist() == ["'=1+1"]
    assert page.locator("[data-testid=stMain] b", has_text="Eve").count() == 0
    page.context.close()


def test_examples_are_narrowed_to_what_people_call_otherwise(site: Site, file: LabelFile) -> None:
    run = site.runs["pages.zarr"].open()
    kept = kept_positions(site, View())
    same, apart = kept.iloc[3], kept.iloc[40]
    wrong = next(kind for kind in Kind if kind != apart[kind_column(Assignment.MEAN)])
    file.append([label_of(run, same), label_of(run, apart, kind=wrong)])
    page = opened(site, "examples", "run=pages.zarr&example_labels=people disagree")
    expect(page.get_by_role("spinbutton", name="Example, 1 to 1")).to_be_visible()
    assert page.evaluate("new URLSearchParams(location.search).get('at')") == position_name(apart)
    found = parsed(downloaded(page, "positions_csv"))
    assert found["position"].tolist() == [apart["position"]]
    page.context.close()
    page = opened(site, "examples", "run=pages.zarr&example_labels=labelled")
    expect(page.get_by_role("spinbutton", name="Example, 1 to 2")).to_be_visible()
    expect(context(page)).to_be_visible()
    page.context.close()


def test_beside_a_run_that_is_read_only_labels_stay_in_the_session(
    site: Site, file: LabelFile, tmp_path: Path
) -> None:
    # What stands in the file's place is no file: as on a disk mounted read-only, none can be made.
    file.path.mkdir()
    try:
        page = opened(site, "examples", "run=pages.zarr")
        expect(page.get_by_text("Labels cannot be kept beside this run")).to_be_visible()
        save(page, who="Ada", kind="mixed")
        expect(page.get_by_text("Saved.", exact=True)).to_be_visible()
        expect(page.locator(".st-key-given_labels")).to_have_count(1)
        page.get_by_role("link", name="Methods", exact=True).click()
        page.locator("h1", has_text="Methods").wait_for()
        settle(page)
        (line,) = downloaded(page, "labels_jsonl").splitlines()
        assert json.loads(line)["who"] == "Ada"
        page.context.close()
        again = opened(site, "methods", "run=pages.zarr")
        expect(again.get_by_text("Nobody has labelled a position of this pair")).to_be_visible()
        again.context.close()
    finally:
        file.path.rmdir()
