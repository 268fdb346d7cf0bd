"""Who is at the door, as Streamlit knows it: secrets in force, sign-ins that ended."""

import os
import threading
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamlit import config
from streamlit.runtime.secrets import secrets_singleton

from probing.dashboard.access import Rules, Ruling, Standing, judge, mark, read_rules
from probing.errors import AccessNotSetUp

SECRETS_VARIABLE = "PROBING_SECRETS"
"""The text of a secrets.toml, where a host gives secrets as variables and not as files."""

SIGN_IN_VARIABLE = "PROBING_SIGN_IN"
REQUIRED = "required"
"""Without [auth] nobody gets in, instead of everybody: for what listens to a network."""


class _Door:
    """What one server process remembers: whether it ever asked for signing in, and who left."""

    def __init__(self) -> None:
        self.guarded = False
        self.closed = os.environ.get(SIGN_IN_VARIABLE, "") == REQUIRED
        self.ended: frozenset[str] = frozenset()
        self.lock = threading.Lock()


_door = _Door()


def secrets_of_environment() -> dict[str, Any] | None:
    """Secrets in the environment; None where there are none.

    Raises:
        AccessNotSetUp: they are not TOML.
    """
    text = os.environ.get(SECRETS_VARIABLE)
    if not text:
        return None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise AccessNotSetUp(
            f"{SECRETS_VARIABLE} must hold the text of a secrets.toml, and is no TOML"
        ) from None


def guard_stands() -> None:
    """Say that the address of a download is guarded too; without it nobody gets in by name."""
    _door.guarded = True


def rules_in_force() -> Rules | None:
    """The rules of the secrets as they are now; None where everybody gets in.

    Streamlit reads the secrets again when their file changes. A server that asked for signing in
    once asks for it until it ends, also while the file is away.

    Raises:
        AccessNotSetUp: nobody can get in.
    """
    rules = read_rules(_secrets())
    if rules is None:
        if _door.closed:
            raise AccessNotSetUp(
                "this dashboard shows its runs to those who sign in, and the secrets have no [auth]"
            )
        return None
    _door.closed = True
    if not _door.guarded:
        raise AccessNotSetUp(
            "downloads are not guarded; start the dashboard with `probing dashboard` or "
            "`streamlit run streamlit_app.py`"
        )
    return rules


def _secrets() -> Mapping[str, Any]:
    if secrets_singleton.load_if_toml_exists():
        return secrets_singleton.to_dict()
    if any(Path(place).exists() for place in config.get_option("secrets.files")):
        _door.closed = True
        raise AccessNotSetUp("the secrets are there and cannot be read; the server's log says why")
    return {}


def ruling(user: Mapping[str, Any]) -> Ruling:
    """What the rules in force say of a visitor.

    Args:
        user: as Streamlit keeps it, empty where nobody signed in.

    Raises:
        AccessNotSetUp: as `rules_in_force`.
    """
    rules = rules_in_force()
    if rules is None:
        return Ruling(Standing.OPEN)
    return judge(rules, user, now=time.time(), ended=_door.ended)


def end_sign_in(user: Mapping[str, Any]) -> None:
    """Let nobody in by this sign-in again: not in another tab, nor by a copy of its cookie."""
    with _door.lock:
        _door.ended |= {mark(user)}
