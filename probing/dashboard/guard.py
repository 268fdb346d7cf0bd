"""What stands before the server's addresses: what a page shows, only its visitor can load.

Streamlit serves a download to whoever has its address. Here the cookie of the sign-in is asked for.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.message import DecodeError
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import config
from streamlit.auth_util import get_cookie_with_chunks, get_origin_from_redirect_uri
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.web.server.server_util import get_cookie_secret
from streamlit.web.server.starlette.starlette_app_utils import decode_signed_value
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from probing.dashboard import returning, visiting
from probing.dashboard.access import Ruling, Standing
from probing.errors import AccessNotSetUp

CORE: Final = "_stcore"
CLOSED: Final = frozenset({"media", "component", "app", CORE})
"""First parts of the addresses that carry what pages show, take files, or drive the server."""

OPEN_CORE: Final = frozenset({"health", "host-config", "stream"})
"""What a page needs before its visitor signs in; over the stream goes what the frame draws."""

LOGIN, LOGOUT, CALLBACK = "auth/login", "auth/logout", "oauth2callback"


class Guard:
    """Between the web server and Streamlit: refuses what a visitor may not have."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        visiting.guard_stands()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 403."""
        if scope["type"] == "websocket":
            await self.app(scope, _Stream(visitor(scope), receive).receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        root = scope.get("root_path", "")
        place = _below_base(scope["path"], root)
        if place == LOGOUT:
            visiting.end_sign_in(visitor(scope))
        if place in {LOGIN, CALLBACK}:
            send = returning.to_the_page(scope, send, signs_in=place == LOGIN)
        if not is_closed(scope["path"], root=root):
            await self.app(scope, receive, send)
            return
        ruled = _ruled(visitor(scope))
        if ruled.enters:
            await self.app(scope, receive, _private(send) if ruled.address else send)
        else:
            refusal = PlainTextResponse(
                "Sign in to the dashboard first.\n", 403, headers={"Cache-Control": "no-store"}
            )
            await refusal(scope, receive, send)


MIDDLEWARE: Final = (Middleware(Guard),)


def visitor(scope: Scope) -> Mapping[str, Any]:
    """Claims of who signed in, from the cookie that Streamlit signed; empty for anybody else."""
    cookies, secret = HTTPConnection(scope).cookies, get_cookie_secret()

    def signed(name: str) -> bytes | None:
        raw = cookies.get(name)
        return decode_signed_value(secret, name, raw) if raw and secret else None

    content = get_cookie_with_chunks(signed, USER_COOKIE_NAME)
    user = json.loads(content) if content else {}
    # As on the stream: a cookie counts where it was made.
    return user if user and user.pop("origin", None) == get_origin_from_redirect_uri() else {}


def _ruled(user: Mapping[str, Any]) -> Ruling:
    try:
        return visiting.ruling(user)
    except AccessNotSetUp:
        return Ruling(Standing.REFUSED)


def _below_base(path: str, root: str) -> str:
    """A path without its slashes and what a server and `server.baseUrlPath` put before it."""
    inner = path.strip("/")
    for before in (root, config.get_option("server.baseUrlPath") or ""):
        base = before.strip("/")
        if base and (inner == base or inner.startswith(f"{base}/")):
            inner = inner[len(base) :].strip("/")
    return inner


def is_closed(path: str, *, root: str = "") -> bool:
    """Whether an address needs a visitor who enters; those of pages and their code do not.

    Args:
        path: of the request.
        root: where the server is mounted, if it is.
    """
    for place in {path, _below_base(path, root)}:
        parts = [part for part in place.split("/") if part not in {"", ".", ".."}]
        if parts and parts[0] in CLOSED and not (parts[0] == CORE and set(parts[1:]) <= OPEN_CORE):
            return True
    return False


class _Stream:
    """A page's websocket. Who may not enter, or no longer, gets whole runs of the frame alone.

    A fragment, a callback or a deferred file would pass by the frame's door.
    """

    def __init__(self, user: Mapping[str, Any], receive: Receive) -> None:
        self.user, self._receive = user, receive
        self.entered = _ruled(user).enters

    async def receive(self) -> Message:
        """The next message that this visitor may send."""
        while True:
            message = await self._receive()
            if message["type"] != "websocket.receive" or _ruled(self.user).enters:
                return message
            if whole := whole_run(message.get("bytes") or b"", afresh=self.entered):
                self.entered = False
                return {"type": "websocket.receive", "bytes": whole}


def whole_run(content: bytes, *, afresh: bool) -> bytes:
    """What a page sends, with nothing in it but a run of the whole frame; empty for the rest.

    Args:
        content: a serialised message to Streamlit.
        afresh: whether it comes from a page drawn for a visitor who could enter: then no widget of
            that page is heard.
    """
    try:
        asked = BackMsg.FromString(content)
    except DecodeError:
        return b""
    if afresh:
        return bytes(BackMsg(rerun_script=ClientState()).SerializeToString())
    if asked.WhichOneof("type") != "rerun_script":
        return b""
    asked.rerun_script.ClearField("fragment_id")
    return bytes(asked.SerializeToString())


def _private(send: Send) -> Send:
    """Nothing between the server and this visitor keeps a copy."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["Cache-Control"] = "private, no-store"
        await send(message)

    return sent
