"""Who gets in: addresses and domains, whole and in any case; everything else stays out."""

import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pages_run import HIDDEN
from streamlit import config

from probing.dashboard import gate, guard, returning
from probing.dashboard.access import Rules, Standing, judge, mark, read_rules
from probing.errors import AccessNotSetUp

NOW = 1_800_000_000.0
AUTH = {"cookie_secret": "c" * 32}
RULES = Rules(addresses=frozenset({"ann@example.com"}), domains=frozenset({"example.org"}))


def claims(email: object, **more: Any) -> dict[str, Any]:
    known = {"is_logged_in": True, "email": email, "email_verified": True, "iat": NOW - 10}
    return known | {"iss": "p", "sub": "1", "nonce": "n"} | more


def standing(email: object, rules: Rules = RULES, **more: Any) -> Standing:
    return judge(rules, claims(email, **more), now=NOW).standing


@pytest.mark.parametrize(
    "email", ["ann@example.com", "ANN@Example.COM", "anybody@example.org", "x+y@EXAMPLE.ORG"]
)
def test_listed_addresses_and_domains_get_in_in_any_case(email: str) -> None:
    ruled = judge(RULES, claims(email), now=NOW)
    assert ruled.enters
    assert ruled.address == email.lower()


HOSTILE_ADDRESSES = (
    "ben@example.com",
    "xann@example.com",
    "ann@example.com.evil.org",
    "x@evil-example.org",
    "x@example.org.evil.com",
    "x@sub.example.org",
    "x@example.org.",
    "a@b@example.org",
    "@example.org",
    "example.org",
    '"a@b"@example.org',
    "a b@example.org",
    "x@example.org\n",
    "\nx@example.org",
    "x\x00@example.org",
    "x\u202e@example.org",
    "x@example\u3002org",
    "x@ｅxample.org",
    "x@example.org\u200b",
    "<x@example.org>",
    "x@[example.org]",
    f"{'x' * 65}@example.org",
    "",
    " ",
    None,
    7,
    ["ann@example.com"],
    {"ann@example.com": True},
)


@pytest.mark.parametrize("email", HOSTILE_ADDRESSES)
def test_whatever_is_not_wholly_listed_is_refused(email: object) -> None:
    assert standing(email) is Standing.REFUSED


def test_a_letter_that_becomes_ascii_in_lower_case_is_not_that_letter() -> None:
    rules = Rules(addresses=frozenset(), domains=frozenset({"kelvin.org"}))
    assert "x@\u212aelvin.org".lower() == "x@kelvin.org"
    assert standing("x@\u212aelvin.org", rules) is Standing.REFUSED


@given(st.text(max_size=40))
@example("x@example.org")
def test_only_one_form_of_address_is_ever_let_in(email: str) -> None:
    if judge(RULES, claims(email), now=NOW).enters:
        assert email.isascii()
        assert email.count("@") == 1
        assert email.lower() == "ann@example.com" or email.lower().endswith("@example.org")


@pytest.mark.parametrize("verified", [False, None, "false", "True", 1, 0, "", []])
def test_an_unverified_address_is_refused_however_it_is_said(verified: object) -> None:
    lenient = Rules(**{**vars(RULES), "unstated_is_verified": True})
    for rules in (RULES, lenient):
        assert standing("ann@example.com", rules, email_verified=verified) is Standing.REFUSED


def test_an_unstated_verification_counts_only_where_the_secrets_say_so() -> None:
    user = claims("ann@example.com")
    del user["email_verified"]
    lenient = Rules(**{**vars(RULES), "unstated_is_verified": True})
    assert judge(RULES, user, now=NOW).standing is Standing.REFUSED
    assert judge(lenient, user, now=NOW).standing is Standing.ALLOWED
    assert standing("ann@example.com", email_verified="true") is Standing.ALLOWED


@pytest.mark.parametrize("logged", [False, None, "true", 1])
def test_who_did_not_sign_in_is_signed_out_whatever_else_is_claimed(logged: object) -> None:
    assert standing("ann@example.com", is_logged_in=logged) is Standing.SIGNED_OUT
    assert judge(RULES, {}, now=NOW).standing is Standing.SIGNED_OUT


def test_a_sign_in_ends_after_its_hours() -> None:
    rules = Rules(**{**vars(RULES), "hours": 2.0})
    for age, expected in ((7199, Standing.ALLOWED), (7201, Standing.SIGNED_OUT)):
        assert standing("ann@example.com", rules, iat=NOW - age) is expected
    for began in (None, "yesterday", True):
        assert standing("ann@example.com", rules, iat=began) is Standing.SIGNED_OUT


def test_a_sign_in_that_ended_lets_nobody_in_again() -> None:
    user, later = claims("ann@example.com"), claims("ann@example.com", nonce="other")
    ended = frozenset({mark(user)})
    assert judge(RULES, user, now=NOW, ended=ended).standing is Standing.SIGNED_OUT
    assert judge(RULES, later, now=NOW, ended=ended).standing is Standing.ALLOWED
    assert "ann" not in mark(user)


def test_rules_are_those_of_the_secrets() -> None:
    listed = {"addresses": ["Ann@Example.com"], "domains": ["EXAMPLE.org"], "hours": 12}
    rules = read_rules({"auth": AUTH, "access": listed})
    assert rules == Rules(
        addresses=frozenset({"ann@example.com"}), domains=frozenset({"example.org"}), hours=12.0
    )
    assert read_rules({}) is None
    assert read_rules({"access": listed}) is None


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        (None, r"no \[access\]"),
        ({}, "no address and no domain"),
        ({"addresses": [], "domains": []}, "no address and no domain"),
        ({"domains": "example.org"}, "domains must be a list"),
        ({"domains": ["example.org", "*.example.org"]}, "domains, entry 2"),
        ({"domains": ["@example.org"]}, "domains, entry 1"),
        ({"domains": [""]}, "domains, entry 1"),
        ({"domains": ["example.org\n"]}, "domains, entry 1"),
        ({"addresses": ["ann"]}, "addresses, entry 1"),
        ({"addresses": [7]}, "addresses, entry 1"),
        ({"adresses": ["secret@example.org"]}, "1 other name"),
        ({"domains": ["example.org"], "hours": 0}, "hours must be"),
        ({"domains": ["example.org"], "hours": "12"}, "hours must be"),
        ({"domains": ["example.org"], "hours": float("nan")}, "hours must be"),
        ({"domains": ["example.org"], "unstated_is_verified": "no"}, "true or false"),
    ],
)
def test_secrets_that_cannot_be_read_let_nobody_in(listed: object, said: str) -> None:
    secrets = {"auth": AUTH} | ({} if listed is None else {"access": listed})
    with pytest.raises(AccessNotSetUp, match=said) as refused:
        read_rules(secrets)
    assert "secret@example.org" not in str(refused.value)


@pytest.mark.parametrize("secret", [None, "", "short", 7, "x" * 31])
def test_a_cookie_secret_that_can_be_guessed_lets_nobody_in(secret: object) -> None:
    secrets = {"auth": {"cookie_secret": secret}, "access": {"domains": ["example.org"]}}
    with pytest.raises(AccessNotSetUp, match="cookie_secret must be"):
        read_rules(secrets)


# What stands before the addresses


@pytest.mark.parametrize(
    "path",
    [
        "/media/a.csv",
        "//media/a.csv",
        "/./media/a.csv",
        "/media",
        "/_stcore/upload_file/s/f",
        "/component/x",
        "/_stcore/metrics",
        "/_stcore/agent/interact",
        "/_stcore/agent/mcp",
        "/_stcore/bidi-components/x",
        "/app/static/x",
        "/_stcore/health/../metrics",
        "/_stcore/x",
    ],
)
def test_addresses_that_carry_something_are_closed(path: str) -> None:
    assert guard.is_closed(path)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/deltas",
        "/static/js/main.js",
        "/static/media/font.woff2",
        "/auth/login",
        "/oauth2callback",
        "/medial",
        "/favicon.png",
        "/_stcore/health",
        "/_stcore/host-config",
        "/_stcore/stream",
    ],
)
def test_addresses_that_signing_in_needs_are_open(path: str) -> None:
    assert not guard.is_closed(path)


@pytest.mark.parametrize("path", ["/media/a.csv", "/_stcore/metrics", "/component/x"])
def test_they_are_closed_below_a_path_too(path: str) -> None:
    before = config.get_option("server.baseUrlPath")
    config.set_option("server.baseUrlPath", "/team/probing/")
    try:
        assert guard.is_closed(f"/team/probing{path}")
        assert guard.is_closed(path)
        assert guard.is_closed(f"/mount/team/probing{path}", root="/mount")
        assert not guard.is_closed("/team/probing/deltas")
        assert not guard.is_closed("/team/probing/_stcore/health")
    finally:
        config.set_option("server.baseUrlPath", before)
    assert guard.is_closed(f"/mount{path}", root="/mount")


@pytest.mark.parametrize(
    "place",
    [
        "//evil.example/",
        "/\\evil.example",
        "https://evil.example/",
        "/a\r\nX: y",
        "",
        "a",
        "/é",
        "/a b",
    ],
)
def test_signing_in_leads_to_no_other_host(place: str) -> None:
    assert returning.safe_place(place) == ""
    assert returning.safe_place("/" + "a" * 4000) == ""
    assert returning.safe_place("/examples?at=c001:7&kind=lock-like") != ""


# What is logged


@given(st.text(max_size=400), st.text(max_size=400))
@example('a" user="root', "b\nvisit user=root")
@example("\u202e\x1b[31m\u2028", "\r\n")
def test_names_cannot_forge_a_line(user: str, run: str) -> None:
    line = gate.visit_line(user=user, page="Deltas", run=run)
    assert len(line.splitlines()) == 1
    assert not {unicodedata.category(char) for char in line} & set(HIDDEN)
    assert line.count('"') == 6
    assert len(line) < 500
