"""Secrets in force: what a server does before, while and after its secrets can be read."""

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit import config
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.WidgetStates_pb2 import WidgetState, WidgetStates
from streamlit.runtime.secrets import secrets_singleton

from probing.dashboard import guard, visiting
from probing.dashboard.access import Standing, read_rules
from probing.errors import AccessNotSetUp

EXAMPLE = Path(__file__).parent.parent / ".streamlit" / "secrets.example.toml"
GOOD = f'[auth]\ncookie_secret = "{"c" * 32}"\n[access]\ndomains = ["example.org"]\n'
Write = Callable[[str | None], None]
ANN = {"is_logged_in": True, "email": "ann@example.org", "email_verified": True, "sub": "1"}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """A fresh server process, as far as it remembers anything, and its secrets file."""
    place, before = tmp_path / "secrets.toml", config.get_option("secrets.files")
    monkeypatch.delenv(visiting.SIGN_IN_VARIABLE, raising=False)
    monkeypatch.setattr(visiting, "_door", visiting._Door())
    monkeypatch.setattr(secrets_singleton, "_file_watchers_installed", True, raising=False)
    config.set_option("secrets.files", [str(place)])

    def written(text: str | None) -> None:
        place.unlink(missing_ok=True)
        if text is not None:
            place.write_text(text)
        secrets_singleton._reset()

    written(None)
    yield written
    written(None)
    config.set_option("secrets.files", before)


def test_without_secrets_everybody_gets_in(write: Write) -> None:
    assert visiting.ruling({}).standing is Standing.OPEN
    write('other = "thing"\n')
    assert visiting.ruling({}).standing is Standing.OPEN


def test_a_server_that_must_have_secrets_is_shut_without(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(visiting.SIGN_IN_VARIABLE, visiting.REQUIRED)
    monkeypatch.setattr(visiting, "_door", visiting._Door())
    with pytest.raises(AccessNotSetUp, match=r"no \[auth\]"):
        visiting.ruling({})


def test_nobody_gets_in_where_downloads_are_not_guarded(
    write: Write,
) -> None:
    write(GOOD)
    with pytest.raises(AccessNotSetUp, match="downloads are not guarded"):
        visiting.ruling(ANN)
    visiting.guard_stands()
    assert visiting.ruling(ANN).enters


@pytest.mark.parametrize("later", [None, "", "[auth\n", GOOD.partition("[access]")[0]])
def test_a_server_that_asked_once_never_opens(write: Write, later: str | None) -> None:
    visiting.guard_stands()
    write(GOOD)
    assert visiting.ruling({}).standing is Standing.SIGNED_OUT
    write(later)
    with pytest.raises(AccessNotSetUp):
        visiting.ruling(ANN)
    write(GOOD)
    assert visiting.ruling(ANN).enters


def test_secrets_that_cannot_be_read_are_not_no_secrets(
    write: Write,
) -> None:
    write("[auth\n")
    with pytest.raises(AccessNotSetUp, match="cannot be read"):
        visiting.ruling({})


def test_a_sign_in_that_ended_stays_ended(write: Write) -> None:
    visiting.guard_stands()
    write(GOOD)
    visiting.end_sign_in(ANN)
    assert visiting.ruling(ANN).standing is Standing.SIGNED_OUT
    assert visiting.ruling(ANN | {"sub": "2"}).enters


def test_secrets_come_from_a_variable_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(visiting.SECRETS_VARIABLE, raising=False)
    assert visiting.secrets_of_environment() is None
    monkeypatch.setenv(visiting.SECRETS_VARIABLE, GOOD)
    found = visiting.secrets_of_environment()
    assert found is not None
    assert read_rules(found) is not None
    monkeypatch.setenv(visiting.SECRETS_VARIABLE, "[auth\nclient_secret = words")
    with pytest.raises(AccessNotSetUp, match="is no TOML") as refused:
        visiting.secrets_of_environment()
    assert "words" not in str(refused.value)


def test_the_example_lets_nobody_in_before_it_is_filled_in() -> None:
    text = EXAMPLE.read_text()
    with pytest.raises(AccessNotSetUp, match="cookie_secret"):
        read_rules(tomllib.loads(text))
    filled = text.replace('cookie_secret = ""', f'cookie_secret = "{"c" * 64}"')
    rules = read_rules(tomllib.loads(filled))
    assert rules is not None
    assert (rules.addresses, rules.hours) == ({"ann@example.org"}, 12.0)


# What of a page's messages passes where its visitor may not enter


def test_only_whole_runs_pass_the_door() -> None:
    states = WidgetStates(widgets=[WidgetState(id="button", trigger_value=True)])
    asked = BackMsg(rerun_script=ClientState(fragment_id="part", widget_states=states))
    passed = BackMsg.FromString(guard.whole_run(asked.SerializeToString(), afresh=False))
    assert passed.rerun_script.fragment_id == ""
    assert passed.rerun_script.widget_states == states
    afresh = BackMsg.FromString(guard.whole_run(asked.SerializeToString(), afresh=True))
    assert afresh == BackMsg(rerun_script=ClientState())


@pytest.mark.parametrize("content", [BackMsg(clear_cache=True).SerializeToString(), b"", b"\xff"])
def test_nothing_else_passes_the_door(content: bytes) -> None:
    assert guard.whole_run(content, afresh=False) == b""
