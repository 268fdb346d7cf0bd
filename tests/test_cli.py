"""The command line as a newcomer meets it: exit codes, messages, files."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
from pages_run import write_pages_run
from tiny import tiny_pair

from probing.cli import EXIT_FAULT, EXIT_USAGE, app, main
from probing.reporting import display
from probing.reporting.drifting import BY_KIND_ALONE, DriftAsked, DriftNull
from probing.reporting.filters import Filters
from probing.reporting.shares import BY_SYMMETRY, printed_shares
from probing.reporting.tables import (
    all_comparisons,
    assignment_tables,
    delta_tables,
    drift_null,
    event_tables,
    transition_tables,
    with_drift,
)
from probing.settings import Decoding, KindRule
from probing.store.reader import open_run
from probing.vocabulary import Stratum

README = Path("README.md")
FILTERS = Filters()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("cli") / "small.zarr"
    write_pages_run(path)
    return str(path)


def trio(run: str) -> dict[str, pd.DataFrame]:
    return all_comparisons(
        open_run(run), other="ssd", control="control", decoding=Decoding(), rule=KindRule()
    )


def drift(run: str, *, filters: Filters = FILTERS) -> DriftNull:
    return drift_null(open_run(run), DriftAsked(other="ssd", control="control", filters=filters))


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def probing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command line in this process; lines are joined, so that wrapping does not matter."""

    def call(*arguments: str, code: int = 0) -> Ended:
        monkeypatch.setattr(sys, "argv", ["probing", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        got = Ended(int(ended.value.code or 0), captured.out, captured.err)
        assert got.code == code, got
        return got

    return call


def test_summary_csv_is_the_table(run: str, tmp_path: Path, probing: Command) -> None:
    target = tmp_path / "deltas.csv"
    probing("summary", run, "-T", "1.5", "--by", "generator", "--csv", str(target))
    want = delta_tables(
        all_comparisons(
            open_run(run),
            other="ssd",
            control="control",
            decoding=Decoding(temperature=1.5),
            rule=KindRule(),
        ),
        by=[Stratum.GENERATOR],
    )
    got = pd.read_csv(target)
    pd.testing.assert_series_equal(got["delta"], want["delta"], rtol=1e-12)
    for name in ("comparison", "generator", "quantity"):
        assert list(got[name]) == list(want[name])


def test_summary_prints_every_kind_and_its_problems(run: str, probing: Command) -> None:
    out = probing("summary", run).out
    header, *rows = [line.split() for line in out.replace("ssd − control", "both").splitlines()[1:]]
    assert header[-5:] == ["null", "drift", "p", "n", "reads"]
    table = with_drift(delta_tables(trio(run), by=[Stratum.KIND]), drift(run))
    figures = [row for row in rows if row[0] in {"all", *table["kind"]}]
    assert len(figures) == len(table)
    assert {row[2] for row in figures} == {"ssd", "control", "both"}
    own = [row for row in figures if row[2] == "ssd"]
    wanted = table[table["comparison"] == "ssd"].to_dict("records")
    for want, got in zip(wanted, own, strict=True):
        shown = ("delta", "low", "high", "null", "null_drift")
        signed = [display.signed(want[name]) for name in shown]
        test = [display.p_value(want["p_adjusted"]), str(want["problems"]), *want["reads"].split()]
        names = [want["kind"], want["quantity"], "ssd"]
        assert got == [*names, display.number(want["baseline"]), *signed, *test]
    assert f"over the {table['p_value'].notna().sum()} tests of this table" in out
    assert max(map(len, out.splitlines())) <= 120


def test_summary_says_where_the_drift_null_is_not_known(run: str, probing: Command) -> None:
    for arguments, known in (
        ((), True),
        (("--table", "assignments"), True),
        (("--by", "generator"), False),
        (("--by", "kind", "--by", "generator"), False),
        (("--where", "event=swap"), False),
    ):
        out = probing("summary", run, *arguments).out
        assert (f"note: {BY_KIND_ALONE}" in out) != known, arguments
    for table in ("transitions", "events"):
        assert BY_KIND_ALONE not in probing("summary", run, "--table", table).out


@pytest.mark.parametrize("table", ["assignments", "transitions", "events"])
def test_summary_tables_are_those_of_the_page(
    run: str, tmp_path: Path, probing: Command, table: str
) -> None:
    target, where = tmp_path / "table.csv", ("--where", "generator=ssd")
    probing("summary", run, "--table", table, *where, "--csv", str(target))
    build = {
        "assignments": assignment_tables,
        "transitions": transition_tables,
        "events": event_tables,
    }[table]
    chosen = Filters(generator=("ssd",))
    want, columns = build(trio(run), filters=chosen), ["share", "positions"]
    if table == "assignments":
        want = with_drift(want, drift(run, filters=chosen))
        assert want["null_drift"].notna().any()
        columns.append("null_drift")
    got = pd.read_csv(target)
    assert list(got) == list(want)
    assert list(got["comparison"]) == list(want["comparison"])
    for column in columns:
        wanted = want[column].astype("float64")
        pd.testing.assert_series_equal(got[column].astype("float64"), wanted, rtol=1e-12)
    out = probing("summary", run, "--table", table, *where).out
    for word in ("comparison", "ssd", "control", "lock-like", "positions", "note: "):
        assert word in out


@pytest.mark.parametrize("build", [transition_tables, event_tables])
def test_printed_shares_keep_every_occurring_row_and_sign_only_differences(
    run: str, build: Callable[..., pd.DataFrame]
) -> None:
    table = build(trio(run))
    keys = list(table.columns[1:3])
    shown = printed_shares(table)
    counted = table.groupby(keys)["positions"].transform("sum") > 0
    assert set(shown.index) == set(table.index if "event" in table else table.index[counted])
    groups = shown[keys].apply(tuple, axis=1)
    assert (groups != groups.shift()).sum() == groups.nunique()
    apart = shown["comparison"].str.contains("−")
    assert shown.loc[apart, "share"].str.match(r"[+-]\d").all()
    assert shown.loc[~apart, "share"].str.match(r"\d").all()
    assert shown.loc[apart, "positions"].eq(display.NOT_MEASURED).all()
    if "event" in table:
        symmetric = table.loc[shown.index, "null_by_symmetry"]
        assert (shown["null"] == BY_SYMMETRY).equals(symmetric)


def test_tables_that_group_themselves_take_no_groups(run: str, probing: Command) -> None:
    for table in ("assignments", "transitions", "events"):
        err = probing("summary", run, "--by", "kind", "--table", table, code=EXIT_USAGE).err
        assert "--by groups the deltas" in err
    err = probing("summary", run, "--table", "colours", code=EXIT_USAGE).err
    assert "'transitions'" in err


def test_groups_by_selector_are_said_to_overlap(run: str, probing: Command) -> None:
    assert "these groups overlap" in probing("summary", run, "--by", "selectors").out


def test_summary_keeps_what_where_names(run: str, tmp_path: Path, probing: Command) -> None:
    where = ("--where", "kind=lock-like,fork-like", "--where", "generator=ssd")
    target = tmp_path / "kept.csv"
    probing("summary", run, *where, "--by", "event", "--control", "control", "--csv", str(target))
    compared = trio(run)
    chosen = Filters(kind=("lock-like", "fork-like"), generator=("ssd",))
    want = delta_tables(compared, by=[Stratum.EVENT], filters=chosen)
    got = pd.read_csv(target)
    assert list(got["event"]) == list(want["event"])
    for name in ("delta", "null", "positions"):
        pd.testing.assert_series_equal(got[name], want[name], rtol=1e-12)


@pytest.mark.parametrize("command", ["summary", "examples"])
@pytest.mark.parametrize(
    ("where", "listed"), [("kind=lock", "lock-like"), ("event=x", "swap"), ("generator=z", "ssd")]
)
def test_labels_that_nothing_has_are_refused(
    run: str, probing: Command, command: str, where: str, listed: str
) -> None:
    assert listed in probing(command, run, "--where", where, code=EXIT_USAGE).err


def test_examples_keep_what_where_names_and_show_the_control(run: str, probing: Command) -> None:
    out = probing("examples", run, "--where", "event=swap", "-n", "2").out
    assert out.count("Swap, lock-like") == 2
    assert "control_token" in out
    none = probing("examples", run, "--where", "event=swap,", code=EXIT_USAGE)
    assert "event takes" in none.err


@pytest.mark.parametrize("where", ["kind", "color=red", "selector=all", "assignment=mean"])
def test_summary_refuses_what_is_no_filter(run: str, probing: Command, where: str) -> None:
    assert "--where takes" in probing("summary", run, "--where", where, code=EXIT_USAGE).err


def test_positions_to_csv_and_parquet_agree(run: str, tmp_path: Path, probing: Command) -> None:
    probing("positions", run, "--csv", str(tmp_path / "p.csv"))
    probing("positions", run, "--parquet", str(tmp_path / "p.parquet"))
    opened = open_run(run)
    csv, parquet = pd.read_csv(tmp_path / "p.csv"), pd.read_parquet(tmp_path / "p.parquet")
    assert len(csv) == len(parquet) == len(opened.model_names) * len(opened)
    pd.testing.assert_series_equal(csv["top1_prob"], parquet["top1_prob"], rtol=1e-12)
    for column in (
        "carrier_id",
        "problem_id",
        "generator",
        "correct",
        "token_id",
        "phase",
        "model",
    ):
        assert column in csv


def test_a_failed_write_keeps_what_stood_there(run: str, tmp_path: Path, probing: Command) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for flag in ("--csv", "--parquet"):
        ended = probing("positions", run, flag, str(folder), code=EXIT_FAULT)
        assert "no regular file" in " ".join(ended.err.split())
    assert folder.is_dir()
    both = ["--csv", str(tmp_path / "a.csv"), "--parquet", str(tmp_path / "a.parquet")]
    probing("positions", run, *both)
    assert {item.name for item in tmp_path.iterdir()} == {"folder", "a.csv", "a.parquet"}


def test_a_run_that_is_being_written_is_said_to_be(tmp_path: Path, probing: Command) -> None:
    path = tmp_path / "half.zarr"
    write_pages_run(path, finish=False)
    for command in ("summary", "positions"):
        assert "is incomplete" in probing(command, str(path)).err


def test_greedy_divergences_are_not_measured(run: str, probing: Command) -> None:
    rows = [line.split() for line in probing("summary", run, "-T", "0").out.splitlines()]
    found = [row for row in rows if "kl_baseline_other" in row]
    assert found
    # Baseline, delta, interval and null: nothing was measured.
    assert all(row[-7:-2] == ["–"] * 5 for row in found)


def test_a_tail_range_that_cannot_be_finished_is_refused_at_once(
    tmp_path: Path, probing: Command
) -> None:
    text = Path("examples/run.toml").read_text(encoding="utf-8")
    for line in ("temperature_min = 3.0", "temperature_min = 1.5", "temperature_min = 0"):
        file = tmp_path / "run.toml"
        file.write_text(text.replace("temperature_min = 0.25", line), encoding="utf-8")
        assert "temperature_min" in probing("score", str(file), code=EXIT_USAGE).err


def test_examples_show_both_lists_and_write_them(
    run: str, tmp_path: Path, probing: Command
) -> None:
    out = probing("examples", run, "-n", "2", "--by", "entropy_nats").out
    assert out.count("baseline_token") == 2
    assert out.count("⟦") == 2
    assert "␣" in out
    assert "\x1b" not in out
    probing("examples", run, "-n", "2", "--csv", str(tmp_path / "e.csv"))
    assert pd.read_csv(tmp_path / "e.csv")["row"].nunique() == 2


def test_verify_finds_a_changed_byte(run: str, tmp_path: Path, probing: Command) -> None:
    assert "all as they were written" in probing("verify", run).out
    hurt = tmp_path / "hurt.zarr"
    write_pages_run(hurt)
    shard = next(path for path in (hurt / "logit").rglob("*") if path.name == "0")
    shard = shard if shard.is_file() else next(p for p in shard.rglob("*") if p.is_file())
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert "logit" in probing("verify", str(hurt), code=EXIT_FAULT).out


def test_doctor_names_packages_and_runs(probing: Command) -> None:
    out = probing("doctor").out
    for word in ("streamlit", "torch", "device", "free disk"):
        assert word in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["summary", "absent.zarr"], EXIT_FAULT, "absent.zarr"),
        (["verify", "README.md"], EXIT_FAULT, "README.md"),
        (["summary", "README.md"], EXIT_FAULT, "it is a file"),
        (["summary", "RUN", "--control", "ssd"], EXIT_USAGE, "must differ from the baseline and"),
        (["summary", "RUN", "--control", "nobody"], EXIT_USAGE, "one of control, got 'nobody'"),
        (["dashboard", "--port", "70000"], EXIT_USAGE, "port must be 1 to 65535, got 70000"),
        (["dashboard", "--port", "-1"], EXIT_USAGE, "port must be 1 to 65535, got -1"),
        (["dashboard", "absent.zarr"], EXIT_FAULT, "absent.zarr is not a run"),
        (["dashboard", "RUN", "README.md"], EXIT_FAULT, "it is a file"),
        ([], EXIT_USAGE, ""),
        (["score"], EXIT_USAGE, "RUN_FILE"),
        (["score", "absent.toml"], EXIT_USAGE, "examples/run.toml"),
        (["score", "README.md"], EXIT_USAGE, "not valid TOML"),
        (["score", "--out", "x", "--other", "ssd"], EXIT_USAGE, "NAME=FOLDER"),
        (["summary", "RUN", "--preset", "mild"], EXIT_USAGE, "post, strict"),
        (["summary", "RUN", "--temperature", "-1"], EXIT_USAGE, "temperature must be >= 0"),
        (["summary", "RUN", "--temperature", "9"], EXIT_USAGE, "0.25"),
        (["summary", "RUN", "--temperature", "inf"], EXIT_USAGE, "finite"),
        (["summary", "RUN", "--other", "nobody"], EXIT_USAGE, "other must be one of"),
        (["examples", "RUN", "--by", "colour"], EXIT_USAGE, "top1_prob"),
        (["examples", "RUN", "--order", "best"], EXIT_USAGE, "largest change"),
        (["summary", "RUN", "--csv", "absent/x.csv"], EXIT_FAULT, "cannot write"),
        (["nonsense"], EXIT_USAGE, "error: no such command 'nonsense'; see `probing --help`"),
        (["summary"], EXIT_USAGE, "missing argument 'RUN'; see `probing summary --help`"),
        (["summary", "RUN", "--by", "colour"], EXIT_USAGE, "'--by': 'colour' is not one of"),
        (["summary", "RUN", "--colour"], EXIT_USAGE, "--colour; see `probing summary --help`"),
        (["carriers", "absent.jsonl"], EXIT_FAULT, "absent.jsonl"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_faults_say_what_and_exit_as_stated(
    run: str,
    probing: Command,
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    given = [run if argument == "RUN" else argument for argument in arguments]
    assert words in " ".join(probing(*given, code=code).err.split())


def test_a_busy_port_is_named_with_the_next_step(
    run: str, probing: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[list[str]] = []

    def serve(_: str, command: list[str]) -> None:
        served.append(command)
        raise SystemExit(0)

    monkeypatch.setattr("os.execv", serve)
    monkeypatch.chdir(Path.cwd())
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        err = probing("dashboard", run, "--port", port, code=EXIT_FAULT).err
        assert f"port {port}" in err
        assert "`probing dashboard --port N`" in " ".join(err.split())
        assert served == []
    probing("dashboard", run, "--port", port)
    assert served[0][-3:] == [port, "--", str(Path(run).resolve())]


def test_scoring_by_flags_then_again_reuses_it(tmp_path: Path, probing: Command) -> None:
    pair = tiny_pair(tmp_path)
    carriers = tmp_path / "in.jsonl"
    record = {"problem_id": "p", "prompt": "Sum?", "response": "Let x be 3. " * 4, "generator": "m"}
    lines = [json.dumps(record | {"carrier_id": f"c{i}"}) for i in range(3)]
    carriers.write_text("\n".join([*lines, "{bad", lines[0]]), encoding="utf-8")
    flags = [
        "score", "--out", str(tmp_path / "run.zarr"), "--carriers", str(carriers),
        "--baseline", str(pair.baseline), "--other", f"tuned={pair.trained}",
    ]  # fmt: skip
    _, out, err = probing(*flags)
    assert "in.jsonl:4: bad JSON" in "".join(err.split("\n"))
    assert "in.jsonl:5: duplicate id" in "".join(err.split("\n"))
    assert "2 records skipped" in " ".join(out.split())
    assert open_run(str(tmp_path / "run.zarr")).model_names == ("baseline", "tuned")
    assert "reused" in probing(*flags).out


def test_carriers_prints_rates_and_writes_graded_records(tmp_path: Path, probing: Command) -> None:
    source = tmp_path / "in.jsonl"
    record = {"problem_id": "p", "prompt": "1 + 1?", "gold": "2", "generator": "m"}
    responses = (r"\boxed{2}", r"\boxed{3}", "none")
    source.write_text(
        "\n".join(
            json.dumps(record | {"carrier_id": str(i), "response": text})
            for i, text in enumerate(responses)
        ),
        encoding="utf-8",
    )
    target = tmp_path / "out.parquet"
    out = probing("carriers", str(source), "-o", str(target)).out
    assert "3 records read, 3 kept, 0 skipped" in out
    assert list(pd.read_parquet(target)["correct"]) == [True, False, None]


def test_every_command_is_in_the_readme() -> None:
    text = README.read_text(encoding="utf-8")
    names = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert [name for name in names if f"probing {name}" not in text] == []


def test_a_whole_process_shows_no_traceback_and_debug_shows_one() -> None:
    command = [sys.executable, "-m", "probing.cli", "summary", "absent.zarr"]
    quiet = subprocess.run(command, capture_output=True, text=True, check=False)
    loud = subprocess.run([*command, "--debug"], capture_output=True, text=True, check=False)
    assert (quiet.returncode, loud.returncode) == (EXIT_FAULT, EXIT_FAULT)
    assert "Traceback" not in quiet.stderr
    assert "NotARun" in loud.stderr
