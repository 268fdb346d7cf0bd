"""Examples, their context and what a page or a terminal may show of them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages_run import HIDDEN, TOP_K, WARM, PagesRun, hidden
from rows import plain_statistics

from probing.reporting import tables
from probing.reporting.examples import Order
from probing.reporting.text import MARKS, marked, plain, visible
from probing.settings import Decoding
from probing.store.reader import Run

SAMPLE = range(0, 1300, 37)


@pytest.mark.parametrize("decoding", [Decoding(), WARM, Decoding(temperature=0.0)])
def test_example_lists_each_models_own_top_tokens(
    written: PagesRun, run: Run, decoding: Decoding
) -> None:
    for row in SAMPLE:
        table = tables.example_table(run, row, other="ssd", decoding=decoding)
        for side, model in (("baseline", 0), ("other", 1)):
            logits = written.logits[row, model].astype(np.float64)
            order = np.argsort(-logits, kind="stable")[: len(table)]
            assert table[f"{side}_id"].tolist() == order.tolist()
            texts = [written.vocabulary[i].decode(errors="backslashreplace") for i in order]
            assert table[f"{side}_token"].tolist() == texts
            if decoding.temperature == 0:
                assert table[f"{side}_kept_prob"].tolist() == [1.0] + [0.0] * (len(table) - 1)
                continue
            p = np.exp(logits / decoding.temperature)
            p /= p.sum()
            np.testing.assert_allclose(table[f"{side}_prob"], p[order], atol=1e-4)
            size = plain_statistics(written.logits[row, model], decoding=decoding).nucleus_size
            kept = table[f"{side}_kept_prob"].to_numpy()
            assert (kept > 0).sum() == min(size, len(table))
            mass = np.sort(p)[::-1][:size].sum()
            np.testing.assert_allclose(kept[kept > 0], (p[order] / mass)[kept > 0], atol=1e-4)


def test_example_says_how_far_the_others_tokens_moved(written: PagesRun, run: Run) -> None:
    unknown = 0
    for row in SAMPLE:
        table = tables.example_table(run, row, other="control", decoding=Decoding(), top=30)
        for found in table.to_dict("records"):
            a, b = written.logits[row, 0], written.logits[row, 2]
            before = 1 + int((a > a[found["other_id"]]).sum())
            now = 1 + int((b > b[found["other_id"]]).sum())
            if pd.isna(found["other_baseline_rank"]):
                unknown += 1
                assert before > TOP_K
                assert pd.isna(found["rank_change"])
            else:
                assert found["other_baseline_rank"] == before
                assert found["rank_change"] == before - now
    assert unknown > 0


def test_context_is_prompt_and_response_around_the_token(run: Run) -> None:
    for row in range(len(run)):
        context = tables.example_context(run, row)
        carrier = run.carriers()[int(run.positions().carrier[row])]
        whole = context.prompt + carrier.response
        assert context.before + context.token + context.after in whole
        assert (carrier.prompt or "") in context.prompt
    with pytest.raises(IndexError, match="row must be in 0 … "):
        tables.example_context(run, len(run))


def test_ranked_positions_descend_and_leave_out_what_is_not_measured(
    comparison: pd.DataFrame,
) -> None:
    holed = comparison.copy()
    holed.loc[::7, "tail_mass_delta"] = np.nan
    values = {
        order: tables.ranked_positions(holed, by="tail_mass", order=order)["tail_mass_delta"]
        for order in (Order.INCREASE, Order.DECREASE, Order.CHANGE)
    }
    assert values[Order.INCREASE].is_monotonic_decreasing
    assert values[Order.DECREASE].is_monotonic_increasing
    assert values[Order.CHANGE].abs().is_monotonic_decreasing
    assert all(len(found) == holed["tail_mass_delta"].notna().sum() for found in values.values())
    drawn = [
        tables.ranked_positions(holed, by="tail_mass", order=Order.RANDOM, seed=seed)["row"]
        for seed in (0, 0, 1)
    ]
    assert drawn[0].tolist() == drawn[1].tolist()
    assert drawn[0].tolist() != drawn[2].tolist()
    assert sorted(drawn[2]) == sorted(holed["row"])


# Text


@given(st.text(st.one_of(st.characters(), st.characters(categories=HIDDEN))))
def test_nothing_stays_hidden(text: str) -> None:
    assert not hidden(visible(text))
    assert " " not in visible(text)
    assert hidden(plain(text)) <= {"\n", "\t"}


@given(st.text(), st.text(), st.text())
def test_the_marks_stand_around_the_token_and_nowhere_else(
    before: str, token: str, after: str
) -> None:
    text = marked(f"{before}⟦", f"{token}⟧", f"⟦{after}")
    opening, closing = MARKS
    assert text.count(opening) == text.count(closing) == 1
    assert text.index(opening) < text.index(closing)
