"""Who may see the runs: what the secrets say, and what follows for a visitor."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from probing.errors import AccessNotSetUp

AUTH, ACCESS = "auth", "access"
"""Sections of the secrets: Streamlit's own, and the list of who gets in."""

ADDRESS = re.compile(
    r"[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?P<domain>[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*)",
    re.ASCII | re.IGNORECASE,
)
DOMAIN = re.compile(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*", re.ASCII | re.IGNORECASE)
SHORTEST_SECRET = 32
"""Characters of the secret that signs cookies: who guesses it signs in as anybody."""

LONGEST_ADDRESS = 254
"""Characters, as mail servers have it."""

TO_WRITE = """\
[access]
addresses = ["ann@example.org"]
domains = ["example.com"]
"""
"""A list of who gets in, as it stands in the secrets."""


class Standing(StrEnum):
    """Where a visitor stands."""

    OPEN = "open"
    SIGNED_OUT = "signed out"
    REFUSED = "refused"
    ALLOWED = "allowed"


@dataclass(frozen=True)
class Ruling:
    """What the rules say of one visitor.

    Attributes:
        standing: nobody but `OPEN` and `ALLOWED` sees anything of a run.
        address: of who signed in; empty where nobody did.
        reason: why a visitor is refused, as a sentence.
    """

    standing: Standing
    address: str = ""
    reason: str = ""

    @property
    def enters(self) -> bool:
        """Whether runs are shown."""
        return self.standing in {Standing.OPEN, Standing.ALLOWED}


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Who gets in; case does not count.

    Attributes:
        addresses: whole addresses, in lower case.
        domains: what may stand behind the @, whole and in lower case: not its subdomains.
        hours: after which a sign-in ends, counted from the provider's `iat`; None: with the cookie.
        unstated_is_verified: what it means when the provider does not say whether it verified an
            address. An address it calls unverified is refused either way.
    """

    addresses: frozenset[str]
    domains: frozenset[str]
    hours: float | None = None
    unstated_is_verified: bool = False


def read_rules(secrets: Mapping[str, Any]) -> Rules | None:
    """The rules of some secrets; None where they do not ask for signing in.

    Raises:
        AccessNotSetUp: `[auth]` is there and `[access]` is not, or cannot be read. The message
            repeats nothing of the secrets: whoever opens the page sees it.
    """
    if AUTH not in secrets:
        return None
    auth, access = secrets[AUTH], secrets.get(ACCESS)
    secret = auth.get("cookie_secret") if isinstance(auth, Mapping) else None
    if not isinstance(secret, str) or len(secret) < SHORTEST_SECRET:
        raise AccessNotSetUp(
            f"[auth] cookie_secret must be a random text of {SHORTEST_SECRET} characters or more: "
            "`python -c 'import secrets; print(secrets.token_hex(32))'`"
        )
    if not isinstance(access, Mapping):
        raise AccessNotSetUp("the secrets have [auth], and no [access] that says who gets in")
    if unknown := access.keys() - {"addresses", "domains", "hours", "unstated_is_verified"}:
        raise AccessNotSetUp(
            "[access] knows addresses, domains, hours and unstated_is_verified; it has "
            f"{len(unknown)} other names"
        )
    rules = Rules(
        addresses=_listed(access, "addresses", ADDRESS),
        domains=_listed(access, "domains", DOMAIN),
        hours=_hours(access.get("hours")),
        unstated_is_verified=_flag(access, "unstated_is_verified"),
    )
    if not rules.addresses and not rules.domains:
        raise AccessNotSetUp("[access] lists no address and no domain")
    return rules


def _listed(access: Mapping[str, Any], name: str, form: re.Pattern[str]) -> frozenset[str]:
    entries = access.get(name, [])
    if not isinstance(entries, list):
        raise AccessNotSetUp(f'[access] {name} must be a list of texts, as {name} = ["…"]')
    for place, entry in enumerate(entries, start=1):
        if not isinstance(entry, str) or not form.fullmatch(entry):
            raise AccessNotSetUp(
                f"[access] {name}, entry {place}: it must be one whole "
                f"{'address' if form is ADDRESS else 'domain, without @ and *'}"
            )
    return frozenset(entry.lower() for entry in entries)


def _hours(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise AccessNotSetUp("[access] hours must be a number above 0")
    return float(value)


def _flag(access: Mapping[str, Any], name: str) -> bool:
    value = access.get(name, False)
    if not isinstance(value, bool):
        raise AccessNotSetUp(f"[access] {name} must be true or false")
    return value


def judge(
    rules: Rules, user: Mapping[str, Any], *, now: float, ended: frozenset[str] = frozenset()
) -> Ruling:
    """What the rules say of a visitor.

    Args:
        rules: who gets in.
        user: claims of the provider's id token, checked by Streamlit, with its `is_logged_in`.
        now: seconds since the epoch.
        ended: marks of sign-ins that were signed out.
    """
    if user.get("is_logged_in") is not True or mark(user) in ended:
        return Ruling(Standing.SIGNED_OUT)
    address = user.get("email")
    if not isinstance(address, str) or not address:
        return Ruling(Standing.REFUSED, "", "The provider sends no address (the claim email).")
    if fault := _fault(rules, user, address):
        return Ruling(Standing.REFUSED, address, fault)
    if _over(rules, user, now):
        return Ruling(Standing.SIGNED_OUT)
    return Ruling(Standing.ALLOWED, address.lower())


def _fault(rules: Rules, user: Mapping[str, Any], address: str) -> str:
    form = ADDRESS.fullmatch(address) if len(address) <= LONGEST_ADDRESS else None
    if form is None:
        return "This is not written as an address."
    verified = user.get("email_verified", rules.unstated_is_verified)
    if verified is not True and verified != "true":
        return (
            "Only addresses that the provider has verified get in (the claim email_verified), and "
            "it does not say so of this one."
        )
    if address.lower() in rules.addresses or form["domain"].lower() in rules.domains:
        return ""
    return "This address is not on the list of those who may see this dashboard."


def _over(rules: Rules, user: Mapping[str, Any], now: float) -> bool:
    if rules.hours is None:
        return False
    began = user.get("iat")
    if isinstance(began, bool) or not isinstance(began, int | float):
        return True
    return now - began > rules.hours * 3600


def mark(user: Mapping[str, Any]) -> str:
    """A short name of one sign-in, the same in each of its tabs: nothing of it can be read back."""
    names = ("iss", "sub", "iat", "nonce")
    told = json.dumps([str(user.get(name, "")) for name in names])
    return hashlib.sha256(told.encode()).hexdigest()
