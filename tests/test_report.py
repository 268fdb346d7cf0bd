"""The report in both forms: figures as in the tables, text that is inert."""

import re
from dataclasses import replace
from pathlib import Path

import browsing
import pages_run
import pytest
from pages_run import hidden, write_pages_run
from playwright.sync_api import sync_playwright
from report_reading import (
    DECODING,
    LIVE,
    MARKDOWN,
    NAMES,
    RULE,
    TEXTS,
    TRAINING,
    Read,
    asked_of,
    read,
)

from probing.reporting import display, evidence, headlines, mechanism, tables
from probing.reporting.curves import MATCHED_QUANTITIES
from probing.reporting.document import Card, Excerpt, Facts, Form, Grid, Head, Paragraph, Report
from probing.reporting.document import Section as Part
from probing.reporting.drawing import chart_svg
from probing.reporting.drifting import DriftAsked, DriftNull
from probing.reporting.filters import Filters, keep
from probing.reporting.provenance import Compared
from probing.reporting.quantities import QUANTITIES, delta_column
from probing.reporting.report import report
from probing.reporting.report_examples import EXAMPLE_LISTS
from probing.reporting.report_html import html_text
from probing.reporting.report_markdown import markdown_text
from probing.reporting.text import visible
from probing.store.reader import Run, open_run
from probing.vocabulary import Assignment, Stratum


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("report") / "pages.zarr"
    write_pages_run(path)
    return open_run(str(path))


@pytest.fixture(scope="module")
def made(run: Run) -> Report:
    return report(run, asked=asked_of(run), target="r.html")


@pytest.fixture(scope="module")
def page(made: Report) -> Read:
    return read(html_text(made))


@pytest.fixture(scope="module")
def compared(run: Run) -> dict:
    return tables.all_comparisons(run, other="ssd", control="control", decoding=DECODING, rule=RULE)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("hostile") / "run`|<b>.zarr"
    assert len(TEXTS) == len(pages_run.HOSTILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages_run, "HOSTILE", TEXTS)
        write_pages_run(path, models=NAMES)
    return open_run(str(path))


@pytest.fixture(scope="module")
def hostile_made(hostile: Run) -> Report:
    return report(hostile, asked=asked_of(hostile, examples=25), target="r`|<b>.html")


def test_evidence_is_that_of_the_table(run: Run, page: Read) -> None:
    asked = mechanism.Asked(training=TRAINING)
    found = mechanism.mechanism(run, ("ssd", "control"), asked=asked)
    table = tables.evidence_table(found, asked=asked)
    head, *rows = page.tables["Every figure, and what it would be without an effect"]
    assert head[:6] == ["Primary", "Figure", "Comparison", "Estimate", "95 % interval", "Reads"]
    assert len(rows) == len(table)
    for primary, *row in rows:
        want = table[(table["figure"].map(evidence.TITLES) == row[0])]
        want = want[want["comparison"] == row[1]].iloc[0]
        measured = want["low"] == want["low"]
        interval = f"{display.signed(want['low'])} to {display.signed(want['high'])}"
        assert primary == want["primary"]
        assert row[2:5] == [
            display.signed(want["estimate"]),
            interval if measured else "",
            want["reads"],
        ]
        nulls = [display.signed(want[name]) for name in ("null_exchange", "null_drift")]
        last = [display.number(want[name]) for name in ("p_adjusted", "detectable")]
        assert row[5:] == [*nulls, *last]
    text = "".join(page.text)
    for name, one in found.models.items():
        assert f"Verdict on {name}{one.verdict.mechanism}{one.verdict.rule}." in text
    for figure in table["figure"].unique():
        assert evidence.sentence(table, figure) in text
    for note in tables.evidence_notes(table, found=found, asked=asked):
        assert note in text


def test_figures_on_each_generators_text_are_those_of_its_filter(run: Run, page: Read) -> None:
    asked = mechanism.Asked(training=TRAINING)
    names = ("ssd", "control")
    by_text = tables.evidence_by_text(run, names, asked=asked)
    generators = sorted(by_text["text"].unique())
    assert generators == ["baseline", "ssd"]
    head, *rows = page.tables["Figures on the text of each generator"]
    assert head[2:] == generators
    own = replace(asked, filters=Filters(generator=("ssd",)))
    table = tables.evidence_table(mechanism.mechanism(run, names, asked=own), asked=own)
    for figure, comparison, *cells in rows:
        want = table[table["figure"].map(evidence.TITLES) == figure]
        want = want[want["comparison"] == comparison].iloc[0]
        assert cells[-1].startswith(display.signed(want["estimate"]))
    one = tables.evidence_by_text(run, names, asked=own)
    assert one.empty


@pytest.fixture(scope="module")
def null(run: Run) -> DriftNull:
    asked = DriftAsked(other="ssd", control="control", decoding=DECODING, rule=RULE)
    return tables.drift_null(run, asked)


def test_deltas_by_kind_are_those_of_the_table(page: Read, compared: dict, null: DriftNull) -> None:
    quantities = ("top1_prob", "tail_mass", "entropy_kept_nats")
    table = tables.delta_tables(compared, by=[Stratum.KIND], quantities=quantities)
    table = tables.with_drift(table, null)
    assert table["null_drift"].notna().all()
    for quantity in quantities:
        title = f"{QUANTITIES[quantity].label} by kind: change, interval and nulls"
        own = table[table["quantity"] == quantity].set_index(["kind", "comparison"])
        _, *rows = page.tables[title]
        assert {(row[0], row[1]) for row in rows} == set(own.index)
        for kind, comparison, *cells in rows:
            want = own.loc[(kind, comparison)]
            ends = f"{display.signed(want['low'])} to {display.signed(want['high'])}"
            assert cells == [
                display.number(want["baseline"]),
                display.signed(want["delta"]),
                display.interval_shown(ends),
                display.signed(want["null"]),
                display.signed(want["null_drift"]),
                display.p_value(want["p_adjusted"]),
                want["reads"],
                f"{want['problems']:,}",
            ]


def test_assignments_are_those_of_the_table(page: Read, compared: dict, null: DriftNull) -> None:
    table = tables.with_drift(tables.assignment_tables(compared), null)
    keys = ["kind", "quantity", "comparison", "assignment"]
    own = table.set_index(keys).sort_index()
    _, *rows = page.tables["Headline deltas under the three assignments"]
    named = {label: (kind.value, quantity) for kind, quantity, label in headlines.HEADLINES}
    assert len(rows) == len(named) * (2 * len(Assignment) + 1)
    for label, comparison, by, *cells in rows:
        assert (by == "all models") == ("−" in comparison)
        for each in Assignment if by == "all models" else (by,):
            want = own.loc[(*named[label], comparison, str(each))]
            ends = f"{display.signed(want['low'])} to {display.signed(want['high'])}"
            interval = display.interval_shown(ends)
            nulls = [display.signed(want[name]) for name in ("null", "null_drift")]
            assert cells == [display.signed(want["delta"]), interval, *nulls]
    shares = tables.kind_shares(keep(compared["ssd"], filters=Filters()))
    _, *rows = page.tables["Share of positions of each kind, by assignment"]
    for assignment, *cells in rows:
        want = shares[shares["assignment"] == assignment]["share"]
        assert cells == [display.percent(share) for share in want]


def test_events_and_transitions_are_those_of_the_tables(page: Read, compared: dict) -> None:
    events = tables.event_tables(compared).set_index(["kind", "event", "comparison"])
    _, *rows = page.tables["Events"]
    assert {tuple(row[:3]) for row in rows} == set(events.index)
    for row in rows:
        want = events.loc[tuple(row[:3])]
        form = display.signed_percent if "−" in row[2] else display.percent
        null = "by symmetry" if want["null_by_symmetry"] else form(want["null"])
        assert row[3:6] == [form(want["share"]), form(want["share_of_kind"]), null]
    moved = tables.transition_tables(compared).set_index(["baseline", "other", "comparison"])
    _, *rows = page.tables["Kind under the baseline and under the other model"]
    occurring = moved[moved["positions"].fillna(0) > 0]
    assert {tuple(row[:3]) for row in rows} >= set(occurring.index)
    for row in rows:
        want = moved.loc[tuple(row[:3])]
        form = display.signed_percent if "−" in row[2] else display.percent
        assert row[3:] == [form(want["share"]), display.whole(want["positions"])]


def test_examples_are_the_extremes_with_both_lists(run: Run, page: Read, compared: dict) -> None:
    shown = [rows for rows in page.rows if rows[0][0] == "Rank"]
    expected = []
    for which in EXAMPLE_LISTS:
        frame = compared["ssd"][compared["ssd"]["headline"]]
        if which.kind is not None:
            frame = frame[frame["kind_mean"] == which.kind.value]
        values = frame[delta_column(which.quantity)]
        falls = "fall" in which.title
        extreme = sorted(values.dropna(), reverse=not falls)[:2]
        expected += [frame[values == value].iloc[0] for value in extreme]
    assert len(shown) == len(expected) == len(page.marks) == 10
    for rows, position in zip(shown, expected, strict=True):
        table = tables.example_table(run, int(position["row"]), other="ssd", decoding=DECODING)
        for cells, want in zip(rows[1:], table.to_dict("records"), strict=False):
            assert cells[1] == visible(want["baseline_token"])
            assert cells[2] == display.number(want["baseline_prob"])
            assert cells[3] == display.kept(want["baseline_kept_prob"])
            assert cells[4] == visible(want["other_token"])
            assert cells[5] == display.number(want["other_prob"])
        assert len(rows) == 7


def test_markdown_holds_the_same_tables(made: Report, page: Read) -> None:
    text = markdown_text(made)
    again = read(MARKDOWN.render(text))
    assert len(again.rows) == len(page.rows) == 23
    for mine, theirs in zip(again.rows, page.rows, strict=True):
        bare = [[cell.strip() for cell in row] for row in theirs]
        assert [[cell.strip() for cell in row] for row in mine] == bare
    for item in (part for part in made.sections if part.anchor == "limits"):
        for sentence in item.blocks[0].items:
            assert sentence.replace("`", "") in "".join(again.text)
    assert "Charts are in the HTML report" in text


def test_sections_come_in_order_and_charts_are_inside(made: Report, page: Read) -> None:
    anchors = [part.anchor for part in made.sections]
    assert anchors == [
        "compared", "verdict", "evidence", "target", "texts", "settings", "deltas", "assignments",
        "transitions", "events", "examples", "limits", "again",
    ]  # fmt: skip
    assert [found["id"] for tag, found in page.elements if tag == "section"] == anchors
    links = [found["href"] for tag, found in page.elements if tag == "a"]
    assert links == [f"#{anchor}" for anchor in anchors]
    charts = [found for tag, found in page.elements if tag == "svg"]
    curves = 1 + len(MATCHED_QUANTITIES)
    assert len(charts) == len(evidence.CHARTED) + curves + 3 + 1 + 2
    ids = [found["id"] for _, found in page.elements if "id" in found]
    assert len(ids) == len(set(ids))
    used = re.findall(r"url\(#([^)]+)\)", str([found for _, found in page.elements]))
    assert set(used) <= set(ids)


def test_charts_draw_every_estimate(run: Run, page: Read) -> None:
    """A mark for each group and comparison: charts are not cut down to nothing."""
    texts = [text for text in page.text if text in ("ssd", "control", "ssd − control")]
    assert len(texts) > 3 * len(evidence.CHARTED)
    assert sum(tag == "path" for tag, _ in page.elements) > 60


def test_a_report_needs_nothing_from_elsewhere(made: Report) -> None:
    check_inert(html_text(made))


def check_inert(text: str) -> Read:
    """No script, no handler, no address, nothing hidden: whatever the texts hold."""
    found = read(text)
    allowed = {
        "html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "h3", "p", "nav",
        "ol", "ul", "li", "a", "main", "section", "dl", "dt", "dd", "div", "figure", "figcaption",
        "table", "caption", "thead", "tbody", "tr", "th", "td", "code", "pre", "mark", "svg", "g",
        "path", "line", "rect", "text", "tspan", "defs", "clippath",
    }  # fmt: skip
    assert {tag for tag, _ in found.elements} <= allowed
    for tag, attributes in found.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in {"src", "srcset", "action", "data", "xlink:href"}, (tag, name)
            assert name != "href" or value.startswith("#"), (tag, value)
            assert "url(" not in value or value.startswith("url(#"), (tag, value)
            assert name != "style" or re.fullmatch(r"color: #\w{6}; font-weight: 600", value)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "Content-Security-Policy" in text
    assert hidden(text) <= {"\n", "\t"}
    return found


def test_hostile_text_is_inert_in_html(hostile_made: Report) -> None:
    found = check_inert(html_text(hostile_made))
    text = "".join(found.text)
    for name in NAMES:  # shown as text, in the page and in its charts
        assert visible(name).replace("␣", " ") in text
    shown = "".join(found.marks) + "".join(c for rows in found.rows for row in rows for c in row)
    for word in ("<script>alert(1)</script>", "```", r"\x1b[31m", r"\u202eright-to-left", r"\x07"):
        assert word in shown, word
    drawn = [v for tag, found in found.elements if tag == "svg" for v in found.values()]
    assert any("<image href=http" in value for value in drawn)


def test_hostile_text_is_inert_in_markdown(hostile_made: Report) -> None:
    text = markdown_text(hostile_made)
    assert hidden(text) <= {"\n", "\t"}
    live = {"html_inline", "html_block", "link_open", "image", "heading_open", "code_block"}
    heads = 1 + len(hostile_made.sections) + 4 + len(EXAMPLE_LISTS)
    tokens = [t for block in MARKDOWN.parse(text) for t in (block, *(block.children or ()))]
    kinds = [token.type for token in tokens]
    assert {kind for kind in kinds if kind in live} == {"heading_open"}
    assert kinds.count("heading_open") == heads
    for token in tokens:
        if token.type == "text":
            assert not LIVE(token.content), token.content
    page, again = read(html_text(hostile_made)), read(MARKDOWN.render(text))
    for mine, theirs in zip(again.rows, page.rows, strict=True):
        assert [len(row) for row in mine] == [len(row) for row in theirs]
        for row, other in zip(mine, theirs, strict=True):
            bare = [cell.replace("\\|", "\\\\x7c").strip() for cell in other]
            assert [cell.strip() for cell in row] == bare


def whole(*blocks: object) -> Report:
    return Report("t", "l", (Part("a", "T", "Q?", blocks),))


@pytest.mark.parametrize("text", [*TEXTS, *NAMES, "1. x", "- x", "# x", "``", "a`", "\\", " x "])
def test_every_block_makes_its_text_inert(text: str) -> None:
    heads = (Head(text, text, Form.TEXT), Head("n", "", Form.TOKEN), Head("k", "", Form.KIND))
    one = whole(
        Paragraph(text),
        Facts(((text, text),)),
        Card(text, text, text),
        Excerpt(text, text, f"{text}\n{text}"),
        Grid(text, heads, ((text, visible(text), text),)),
    )
    check_inert(html_text(one))
    tokens = MARKDOWN.parse(markdown_text(one))
    kinds = [token.type for token in tokens]
    assert kinds.count("heading_open") == 2
    assert kinds.count("bullet_list_open") == 1
    assert kinds.count("fence") == kinds.count("table_open") == 1
    assert "ordered_list_open" not in kinds
    assert kinds.count("td_open") == kinds.count("th_open") == 3
    texts = [child for token in tokens for child in token.children or ()]
    assert not [child.content for child in texts if child.type == "text" and LIVE(child.content)]
    inner = {child.type for child in texts}
    assert inner <= {"text", "code_inline", "strong_open", "strong_close", "em_open", "em_close",
                     "hardbreak", "softbreak"}  # fmt: skip


def test_a_drawing_keeps_no_more_than_shapes_and_text(run: Run, compared: dict) -> None:
    from probing.reporting.charts import transition_chart

    chart = transition_chart(tables.transitions(compared["ssd"]), other=NAMES[1])
    drawn = chart_svg(chart, title=NAMES[2], width=300, name="n")
    found = read(drawn)
    assert {tag for tag, _ in found.elements} <= {
        "svg", "g", "path", "line", "rect", "text", "tspan", "defs", "clippath"
    }  # fmt: skip
    assert "under ssd|`x`|</text><image" in "".join(found.text)
    assert hidden(drawn) == set()
    assert drawn == chart_svg(chart, title=NAMES[2], width=300, name="n")


def test_an_unfinished_run_with_one_other_model_says_so(tmp_path: Path) -> None:
    write_pages_run(
        tmp_path / "part.zarr", problems=16, models=("baseline", "ssd"), finish=False, shard_rows=64
    )
    run = open_run(str(tmp_path / "part.zarr"))
    asked = Compared(
        other="ssd",
        control=None,
        training=TRAINING,
        decoding=DECODING,
        rule=RULE,
        examples=1,
    )
    text = markdown_text(report(run, asked=asked, target="r.md"))
    units = f"{len(run.committed)} of {len(run.plan.units)} units are scored"
    assert f"The run is incomplete: {units}" in text
    assert "No control" in text
    assert "small groups" in text
    assert "ssd −" not in text.replace("ssd − baseline", "")
    assert "--control" not in text


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_fetches_nothing_and_no_page_is_too_wide(
    hostile_made: Report, tmp_path: Path, scheme: str
) -> None:
    target = tmp_path / "r.html"
    target.write_text(html_text(hostile_made), encoding="utf-8")
    with sync_playwright() as playwright:
        path = str(browsing.CHROMIUM) if browsing.CHROMIUM.exists() else None
        browser = playwright.chromium.launch(executable_path=path, args=list(browsing.FLAGS))
        page = browser.new_context(
            viewport={"width": 390, "height": 800}, color_scheme=scheme
        ).new_page()
        asked, complaints = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(target.as_uri())
        assert asked == [target.as_uri()]
        assert complaints == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.locator("svg").first.bounding_box()["width"] > 100
        ink = page.evaluate("getComputedStyle(document.querySelector('svg text')).fill")
        assert ink == page.evaluate("getComputedStyle(document.body).color")
        browser.close()
