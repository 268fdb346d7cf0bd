"""Signing in on the way to a link: the visitor ends up where the link leads."""

from typing import Final
from urllib.parse import quote, unquote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Message, Scope, Send
from streamlit import config
from streamlit.auth_util import get_origin_from_redirect_uri
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

COOKIE: Final = "probing_place"
SECONDS: Final = 600
LONGEST: Final = 3000
"""Characters of a place; a longer one is forgotten."""


def to_the_page(scope: Scope, send: Send, *, signs_in: bool) -> Send:
    """Keep the page in a cookie when a sign-in begins, and go there when it has ended.

    Args:
        scope: of the request to Streamlit's own addresses of a sign-in.
        send: of its answer.
        signs_in: whether it begins.
    """
    place = _place_before(scope) if signs_in else _place_kept(scope)

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start" and place:
            headers = MutableHeaders(scope=message)
            if signs_in:
                _add_cookie(headers, place)
            elif _has_signed_in(headers):
                headers["Location"] = place
                _add_cookie(headers, "")
        await send(message)

    return sent


def _base() -> str:
    inner = (config.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{inner}/" if inner else "/"


def safe_place(path: str) -> str:
    """A path and query of this dashboard as they may stand in `Location`; else nothing.

    Examples:
        >>> safe_place("/deltas?kind=lock-like"), safe_place("//example.org/")
        ('/deltas?kind=lock-like', '')
    """
    fine = path.isascii() and path.isprintable() and not set(path) & set(' "\\<>;')
    inside = path.startswith(_base()) and not path.startswith("//")
    return path if fine and inside and len(path) <= LONGEST else ""


def _place_before(scope: Scope) -> str:
    try:
        page = urlsplit(Headers(scope=scope).get("referer", ""))
    except ValueError:
        return ""
    if f"{page.scheme}://{page.netloc}" != get_origin_from_redirect_uri():
        return ""
    return safe_place(page.path + (f"?{page.query}" if page.query else ""))


def _place_kept(scope: Scope) -> str:
    return safe_place(unquote(HTTPConnection(scope).cookies.get(COOKIE, "")))


def _has_signed_in(headers: MutableHeaders) -> bool:
    made = f"{USER_COOKIE_NAME}="
    return any(
        cookie.startswith(made) and not cookie.startswith(f'{made}""')
        for cookie in headers.getlist("set-cookie")
    )


def _add_cookie(headers: MutableHeaders, place: str) -> None:
    """Set the cookie, or take it away where there is no place."""
    answer = Response()
    answer.set_cookie(
        COOKIE,
        quote(place, safe=""),
        max_age=SECONDS if place else 0,
        path=_base(),
        httponly=True,
        samesite="lax",
    )
    headers.append("set-cookie", answer.headers["set-cookie"])
