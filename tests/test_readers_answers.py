"""What a log says of answers and grades: the model's, the gold ones, and which of them count."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logs import RECORDS, Record, read, write
from typer.testing import CliRunner

from probing.carriers.grading import generator_rates, grade, grade_stream
from probing.carriers.readers.files import LOOKED_AT
from probing.carriers.readers.scales import CORRECT
from probing.cli import app
from probing.settings import Grading

MATH_500: Record = {
    "problem": "What is $1 + 1$?", "solution": r"We get $\boxed{2}$.", "answer": "2",
    "subject": "Prealgebra", "level": 1, "unique_id": "test/prealgebra/1.json",
}  # fmt: skip
GSM8K: Record = {
    "question": "Natalia sold 48 clips in April and half as many in May. How many in all?",
    "answer": "In May she sold 48/2 = <<48/2=24>>24 clips.\nIn all <<48+24=72>>72.\n#### 72",
}


def asked(of_the_data: Record, box: str, *, prompt: str) -> Record:
    """A row of a data set with the model's response put beside it."""
    return {**of_the_data, "prompt": of_the_data[prompt], "completion": box, "model": "m"}


def grades(path: Path, **inputs: Any) -> list[bool | None]:
    return [each.correct for each in grade(read(path, **inputs).carriers, Grading(workers=1))]


@pytest.mark.parametrize("columns", [{}, {"gold": "answer"}, {"gold": "solution"}])
def test_rows_of_math_500_are_graded_by_their_response(
    tmp_path: Path, columns: dict[str, str]
) -> None:
    rows = [asked(MATH_500, rf"so \boxed{{{n}}}", prompt="problem") for n in (2, 999)]
    for ending in (".jsonl", ".parquet"):
        path = write(tmp_path / f"in{ending}", rows)
        assert grades(path, columns=columns) == [True, False]


def test_rows_of_gsm8k_are_graded_where_the_gold_answer_is_named(tmp_path: Path) -> None:
    rows = [asked(GSM8K, rf"so \boxed{{{n}}}", prompt="question") for n in (72, 999)]
    path = write(tmp_path / "in.jsonl", rows)
    assert grades(path, columns={"gold": "answer"}) == [True, False]
    # Nothing else there is a gold answer: not graded is not wrong.
    assert grades(path) == [None, None]


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
@pytest.mark.parametrize("form", sorted(RECORDS.keys() - {"carrier"}))
def test_what_a_log_calls_answer_changes_no_grade(tmp_path: Path, form: str, ending: str) -> None:
    plain = [{**each, "gold": "7", "target": "7"} for each in RECORDS[form]()]
    rows = [{**each, "answer": "7"} for each in plain]
    # The task of the harness, and the ids of carriers, are told by the name of the file.
    kept, wanted = (
        read(write(tmp_path / folder / f"samples_x{ending}", each), generator="m").carriers
        for folder, each in (("with", rows), ("without", plain))
    )
    assert len(kept) == len(wanted) == 2
    assert [each.answer for each in kept] == [None, None]
    # A batch says of its line no more than what stands in the response.
    if form != "batch":
        assert [each.extra["answer_logged"] for each in kept] == ["7", "7"]
    exact = Grading(grader="exact", workers=1, regrade=True)
    assert [each.correct for each in grade(kept, exact)] == [
        each.correct for each in grade(wanted, exact)
    ]


def test_an_answer_that_is_named_is_the_models(tmp_path: Path) -> None:
    row = {"prompt": "1 + 1 =", "output": "two", "extracted": "2", "answer": "7", "gold": "2"}
    path = write(tmp_path / "in.jsonl", [{**row, "model": "m"}])
    assert grades(path) == [None]
    assert grades(path, columns={"answer": "extracted"}) == [True]
    assert grades(path, columns={"answer": "answer"}) == [False]
    # Our own format says whose it is.
    own = {**row, "carrier_id": "a", "problem_id": "p", "response": "two", "generator": "m"}
    assert grades(write(tmp_path / "own.jsonl", [own])) == [False]


def test_what_is_set_aside_displaces_nothing(tmp_path: Path) -> None:
    row = {"prompt": "x", "output": "y", "model": "m", "answer": "1", "answer_logged": "2"}
    (kept,) = read(write(tmp_path / "in.jsonl", [row])).carriers
    assert kept.extra == {"model": "m", "answer_logged": "2", "answer_logged_logged": "1"}


LIMITS = ("length", "max_tokens", "max_length", "max_output_tokens", "model_length")


@pytest.mark.parametrize(
    ("reason", "cut"),
    [
        *[(spelt, 1.0) for name in LIMITS for spelt in (name, name.upper(), name.title())],
        *[({"type": name, "length": 9}, 1.0) for name in LIMITS],
        *[(name, 0.0) for name in ("stop", "STOP", "eos_token", "tool_calls", "lengthy")],
        ({"type": "stop", "matched": 2}, 0.0),
        *[(reason, None) for reason in (None, {}, {"type": 7}, ["length"], True)],
    ],
)
def test_a_response_cut_by_its_length_is_told_however_its_log_spells_that(
    tmp_path: Path, reason: Any, cut: float | None
) -> None:
    row = {"prompt": "x", "output": "y", "model": "m", "finish_reason": reason}
    with grade_stream(read(write(tmp_path / "in.jsonl", [row])).carriers) as stream:
        kept = list(stream)
    (rates,) = generator_rates(kept)
    assert (stream.report.cut_by_length, rates.finish_unknown) == (cut == 1, cut is None)
    assert cut is None or rates.cut_by_length == cut
    # What was no text is kept whole.
    if isinstance(reason, dict) and cut is not None:
        assert kept[0].extra["finish_reason_logged"] == reason


SCORES = st.sampled_from([0, 1, 1.0, 0.0, 0.5, True, False, None, "7", "no", 7, 10, -1, 1e9])


def is_scale(score: Any) -> bool:
    return not isinstance(score, str | bool | None) and not 0 <= score <= 1


@given(
    name=st.sampled_from(CORRECT),
    few=st.lists(SCORES, min_size=1, max_size=8),
    before=st.sampled_from([0, LOOKED_AT - 4, LOOKED_AT]),
)
def test_a_score_on_a_scale_is_no_grade(
    tmp_path_factory: pytest.TempPathFactory, name: str, few: list[Any], before: int
) -> None:
    scores = [True] * before + few
    rows = [{"prompt": "x", "output": "y", "model": "m", name: score} for score in scores]
    result = read(write(tmp_path_factory.mktemp("rows") / "in.jsonl", rows))
    # Slowly: the first records tell, and else the first one that does, for those from it on.
    scaled = next((n for n, score in enumerate(scores) if is_scale(score)), len(scores))
    told_first = scaled < min(LOOKED_AT, len(scores))
    graded = [] if told_first else scores[:scaled]
    wanted = [bool(score) if score in (0, 1) and score is not None else None for score in graded]
    wanted += [None] * (len(scores) - len(wanted))
    assert [each.correct for each in result.carriers] == wanted
    lost = sum(
        score is not None and grade is None for score, grade in zip(scores, wanted, strict=True)
    )
    assert len(result.notes) == (lost > 0)
    for note in result.notes:
        assert f"values of `{name}` that are no grade: {lost}; " in note
        assert ("none of them counts" in note) is (scaled < len(scores))
    # What was logged stays with its carrier.
    for each, score, right in zip(result.carriers, scores, wanted, strict=True):
        kept = {each.extra.get(name), each.extra.get(f"{name}_logged"), each.correct}
        assert score is None or score in kept or right is not None


def test_a_grade_beside_a_score_counts_and_the_command_says_what_does_not(tmp_path: Path) -> None:
    row = {"prompt": "x", "output": "y", "model": "m"}
    judged = write(
        tmp_path / "a.jsonl", [{**row, "score": n, "is_passed": n > 3} for n in range(1, 10)]
    )
    result = read(judged)
    assert [each.correct for each in result.carriers] == [n > 3 for n in range(1, 10)]
    assert result.notes == ()
    scored = write(tmp_path / "b.jsonl", [{**row, "score": n} for n in range(1, 10)])
    named = read(scored, columns={"correct": "score"})
    assert [each.correct for each in named.carriers] == [None] * 9
    done = CliRunner().invoke(app, ["carriers", str(judged), str(scored)])
    assert done.exit_code == 0
    said = " ".join(done.output.split())
    assert said.count("are no grade") == 1
    assert f"note: {scored}: values of `score` that are no grade: 9; it holds numbers" in said
