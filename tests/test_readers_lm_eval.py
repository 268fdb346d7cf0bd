"""Samples of lm-evaluation-harness: one response a document and prompt, as it was sent."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logs import QUESTIONS, lm_eval_records, plainly, read, write

from probing.carriers.readers.lm_eval import REPEATED, model_name, task_name
from probing.carriers.readers.sources import Source
from probing.carriers.reading import read_carriers
from probing.errors import NoCarriersLeft, RecordFault
from probing.vocabulary import Template

DATE = "2000-01-01T00-00-00.000000"


def samples(folder: Path, records: list[dict[str, Any]] | None = None, date: str = DATE) -> Path:
    return write(folder / f"samples_my_sums_{date}.jsonl", records or lm_eval_records())


def results(folder: Path, content: Any, date: str = DATE) -> Path:
    path = folder / f"results_{date}.json"
    path.write_text(json.dumps(content, indent=2))
    return path


def test_a_document_gives_this_carrier(tmp_path: Path) -> None:
    path = samples(tmp_path)
    results(tmp_path, {"config": {"model": "hf", "model_args": "pretrained=hub/m,dtype=float32"}})
    result = read(path)
    first, second = result.carriers
    (record, *_) = lm_eval_records()
    kept = {key: value for key, value in record.items() if key not in ("arguments", "resps")}
    assert plainly(first) == {
        "prompt": f"Q: {QUESTIONS[0]}\nA:", "response": "so 0", "generator": "hub/m",
        "template": Template.ALREADY_APPLIED, "gold": "7", "correct": False, "temperature": 0.5,
        "source": "my_sums", "extra": kept,
    }  # fmt: skip
    assert (first.carrier_id, second.carrier_id) == (f"{path}:1", f"{path}:3")
    assert second.correct is True
    assert [(each.line, each.reason) for each in result.skipped] == [(2, REPEATED), (4, REPEATED)]
    assert "flexible-extract" in result.skipped[0].detail


def test_another_filter_is_no_fault_and_another_response_is_none_repeated(tmp_path: Path) -> None:
    path = samples(tmp_path)
    assert len(read_carriers([str(path)], strict=True).carriers) == 2
    # Two models' samples in one file; the harness of an earlier day wrote no hash.
    others = [{**each, "resps": [["other"]]} for each in lm_eval_records()]
    both = [*lm_eval_records(), *others]
    for each in both:
        del each["prompt_hash"]
    result = read(samples(tmp_path, both))
    assert [each.response for each in result.carriers] == ["so 0", "so 1", "other", "other"]
    assert len(result.skipped) == 4


def test_a_row_at_fault_is_none_that_others_repeat(tmp_path: Path) -> None:
    records = lm_eval_records()
    records[0]["arguments"] = records[1]["arguments"] = {}
    records[2]["resps"] = [["\ud800"]]
    path = tmp_path / "samples_x.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    result = read(path)
    assert [each.carrier_id for each in result.carriers] == [f"{path}:4"]
    assert [(each.line, each.reason) for each in result.skipped] == [
        (1, "wrong type"),
        (2, "wrong type"),
        (3, "invalid text"),
    ]
    with pytest.raises(RecordFault, match="wrong type"):
        read_carriers([str(path)], strict=True)


def test_several_responses_of_a_document_are_told_apart(tmp_path: Path) -> None:
    record = {**lm_eval_records()[0], "resps": [["a", "b"], ["a"]]}
    path = samples(tmp_path, [record])
    kept = read(path).carriers
    assert [each.carrier_id for each in kept] == [f"{path}:1.0", f"{path}:1.1", f"{path}:1.2"]
    assert [each.response for each in kept] == ["a", "b", "a"]
    assert len({each.problem_id for each in kept}) == 1


def test_a_chat_left_to_a_server_keeps_its_messages(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "3 + 4?"}]
    as_text = {"gen_args_0": {"arg_0": json.dumps(chat), "arg_1": {}}}
    as_list = {"gen_args_0": {"arg_0": chat}}
    pairs = [["Q", {"temperature": 0}], ["Q2", {}]]
    texts = ['[{"role": "user"', '[{"role"}]']
    records = [
        {"doc_id": n, "arguments": arguments, "resps": [["7"]], "model": "m"}
        for n, arguments in enumerate(
            [as_text, as_list, pairs, *({"gen_args_0": {"arg_0": text}} for text in texts)]
        )
    ]
    kept = read(samples(tmp_path, records)).carriers
    assert [each.messages for each in kept[:2]] == [tuple(chat)] * 2
    assert [each.template for each in kept[:2]] == [Template.CHAT] * 2
    assert [each.problem_id for each in kept] == [f"my_sums/{n}" for n in range(5)]
    assert [each.prompt for each in kept[2:]] == ["Q", *texts]
    assert [each.template for each in kept[2:]] == [Template.ALREADY_APPLIED] * 3
    assert kept[2].temperature == 0


@pytest.mark.parametrize("hashed", [True, False])
def test_models_share_a_problem_whatever_template_each_was_asked_by(
    tmp_path: Path, hashed: bool
) -> None:
    templates = ("<user>{}<assistant>", "[INST] {} [/INST]", "{}")
    files = []
    for n, template in enumerate(templates):
        records = lm_eval_records()
        for each in records:
            sent = template.format(each["doc"]["question"])
            each["arguments"] = {"gen_args_0": {"arg_0": sent}}
            if not hashed:
                del each["doc_hash"]
        # Folders of several days and of other tools, which store whole numbers with a point.
        if n == 2:
            records = [{**each, "doc_id": float(each["doc_id"])} for each in records]
        ending = (".jsonl", ".jsonl.gz", ".parquet")[n]
        name = f"samples_my_sums_2000-01-0{n + 1}T00-00-00.000000{ending}"
        files.append(write(tmp_path / str(n) / name, records))
    problems = [[each.problem_id for each in read(path).carriers] for path in files]
    digests = ["d0", "d1"] if hashed else ["0", "1"]
    assert problems == [[f"my_sums/{each}" for each in digests]] * 3
    # Another task has other documents under the same numbers.
    other = files[0].with_name("samples_parity_2000-01-01T00-00-00.000000.jsonl")
    others = {each.problem_id for each in read(files[0].rename(other)).carriers}
    assert others.isdisjoint(problems[0])


@pytest.mark.parametrize(
    ("name", "task"),
    [
        (f"samples_my_sums_{DATE}.jsonl", "my_sums"),
        (f"samples_my_sums_{DATE}.jsonl.zst", "my_sums"),
        (f"samples_gsm8k_cot_2024_{DATE}.json", "gsm8k_cot_2024"),
        ("samples_my_sums.parquet", "my_sums"),
        ("samples_v1.0.jsonl", "v1.0"),
        ("mine.jsonl", None),
    ],
)
def test_the_task_is_in_the_name_of_the_file(tmp_path: Path, name: str, task: str | None) -> None:
    assert task_name(Source(f"folder/{name}")) == task
    content = write(tmp_path / "in.jsonl", lm_eval_records()).read_bytes()
    path = tmp_path / "named.bin" if task is None else tmp_path / f"samples_{task}_{DATE}.jsonl"
    path.write_bytes(content)
    kept = read(path).carriers
    assert [each.source for each in kept] == [task] * 2
    # Without a task the digest of a document tells it, and its number would not.
    assert [each.problem_id for each in kept] == [
        f"{task}/d{n}" if task else f"d{n}" for n in (0, 1)
    ]
    for each in (records := lm_eval_records()):
        del each["doc_hash"]
    path.write_bytes(write(tmp_path / "in.jsonl", records).read_bytes())
    problems = [each.problem_id for each in read(path).carriers]
    assert problems == [f"{task}/{n}" for n in (0, 1)] if task else len(set(problems)) == 2
    assert task or all(each.startswith("prompt:") for each in problems)


def test_columns_name_gold_answer_and_problem_of_a_sample(tmp_path: Path) -> None:
    record = {**lm_eval_records()[0], "final": "8", "row": 3.0}
    path = samples(tmp_path, [record])
    (kept,) = read(path, columns={"gold": "final", "problem_id": "row"}).carriers
    assert (kept.gold, kept.problem_id) == ("8", "3")


SKIPPED: list[tuple[str, dict[str, Any]]] = [
    ("no response", {"resps": [[[-1.5, False]]]}),
    ("no response", {"resps": []}),
    ("no response", {"resps": ["7"]}),
    ("no response", {"resps": None}),
    ("no response", {"resps": [["7", None]]}),
    ("wrong type", {"arguments": None}),
    ("wrong type", {"arguments": {"gen_args_0": "x"}}),
    ("wrong type", {"arguments": {"gen_args_0": {}}}),
    ("wrong type", {"arguments": [7]}),
    ("wrong type", {"arguments": {"gen_args_0": {"arg_0": [7]}}}),
    ("empty response", {"resps": [[""]]}),
]


@pytest.mark.parametrize(("reason", "fault"), SKIPPED)
def test_a_sample_at_fault_is_skipped_and_named(
    tmp_path: Path, reason: str, fault: dict[str, Any]
) -> None:
    good = lm_eval_records()[0]
    result = read(samples(tmp_path, [good, {**good, **fault}]))
    assert [(each.line, each.reason) for each in result.skipped] == [(2, reason)]


@pytest.mark.parametrize(
    ("change", "grade", "temperature", "gold"),
    [
        ({"metrics": ["bleu", "exact_match"], "bleu": 0.3, "exact_match": 1}, True, 0.5, "7"),
        ({"metrics": ["exact_match"], "exact_match": float("nan")}, None, 0.5, "7"),
        ({"metrics": 7}, None, 0.5, "7"),
        ({"metrics": [["exact_match"], None]}, None, 0.5, "7"),
        ({"metrics": None}, None, 0.5, "7"),
        ({"target": 7}, False, 0.5, "7"),
        ({"target": ["7"]}, False, 0.5, None),
        ({"target": {"a": 1}}, False, 0.5, None),
        ({"arguments": [["Q", {"temperature": True}]]}, False, None, "7"),
        ({"arguments": [["Q", {"temperature": 10**400}]]}, False, None, "7"),
        ({"arguments": [["Q", {"temperature": float("nan")}]]}, False, None, "7"),
        ({"arguments": [["Q", "greedy"]]}, False, None, "7"),
    ],
)
def test_grade_temperature_and_gold_of_a_sample(
    tmp_path: Path, change: dict[str, Any], grade: bool | None, temperature: Any, gold: str | None
) -> None:
    (kept,) = read(samples(tmp_path, [{**lm_eval_records()[0], **change}])).carriers
    assert (kept.correct, kept.temperature, kept.gold) == (grade, temperature, gold)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"model_name": "org/m", "config": {"model_args": "pretrained=x"}}, "org/m"),
        ({"config": {"model": "hf", "model_args": {"pretrained": "x", "peft": "y"}}}, "y"),
        ({"config": {"model": "hf", "model_args": "pretrained=x,peft=y=z"}}, "y=z"),
        ({"config": {"model": "local-completions", "model_args": "model=x,a"}}, "x"),
        ({"config": {"model": "dummy", "model_args": ""}}, "dummy"),
        ({"config": {"model": "dummy", "model_args": 7}}, "dummy"),
        ({"config": "dummy", "model_name": ["x"]}, None),
        ({"results": {}}, None),
        ([], None),
        ("text", None),
    ],
)
def test_the_model_is_named_beside_the_samples(
    tmp_path: Path, content: Any, named: str | None
) -> None:
    path = samples(tmp_path)
    results(tmp_path, content)
    assert model_name(Source(str(path))) == named
    for url in (f"file://{path}",):
        assert model_name(Source(url)) == named


def test_results_of_the_same_date_count_then_the_last_that_can_be_read(tmp_path: Path) -> None:
    early, late = "2000-01-01T00-00-00.000000", "2000-01-02T00-00-00.000000"
    results(tmp_path, {"model_name": "early"}, early)
    results(tmp_path, {"model_name": "late"}, late)
    assert [model_name(Source(str(samples(tmp_path, date=d)))) for d in (early, late, "other")] == [
        "early",
        "late",
        "late",
    ]
    (tmp_path / f"results_{late}.json").write_text("[" * 100_000)
    assert model_name(Source(str(samples(tmp_path, date=late)))) == "early"
    (tmp_path / f"results_{late}.json").unlink()
    (tmp_path / f"results_{late}.json").symlink_to("nowhere")
    assert model_name(Source(str(samples(tmp_path, date=late)))) == "early"


def test_nobody_says_which_model_it_was(tmp_path: Path) -> None:
    records = [{k: v for k, v in each.items() if k != "model"} for each in lm_eval_records()]
    path = samples(tmp_path, records)
    with pytest.raises(NoCarriersLeft, match="give --generator NAME"):
        read(path)
    assert {each.generator for each in read(path, generator="m").carriers} == {"m"}


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["q", "r"]), st.sampled_from(["a", "b"])),
        min_size=1,
        max_size=12,
    )
)
def test_each_response_counts_once(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str, str]]
) -> None:
    records = [
        {
            "doc_id": doc, "arguments": {"gen_args_0": {"arg_0": prompt}}, "resps": [[said]],
            "filter": f"f{n}", "model": "m",
        }
        for n, (doc, prompt, said) in enumerate(rows)
    ]  # fmt: skip
    result = read(samples(tmp_path_factory.mktemp("rows"), records))
    kept = [(each.extra["doc_id"], each.prompt, each.response) for each in result.carriers]
    assert kept == list(dict.fromkeys(rows))
    assert {each.reason for each in result.skipped} <= {REPEATED}
