"""What stands before every request: who may ask this server at all, and how much. Pure ASGI.

A page on another site can make a browser send requests here. It cannot choose their Host (so a name that is rebound to
127.0.0.1 is seen), nor their Origin, nor set our cookie along (SameSite=Strict), nor read the token of a form.
"""

from collections.abc import Collection
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_BYTES = 16_384  # a vote has 300
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # An address may hold a token, which nobody else is told. With `no-referrer` forms would say `Origin: null`.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


class TooLarge(Exception):
    """A body beyond `BODY_BYTES`."""


class Guard:
    """Refuses what does not come from our own pages, and puts what a browser must obey on every response."""

    def __init__(self, app: ASGIApp, *, origins: Collection[str]) -> None:
        self.app = app
        self.origins = frozenset(origins)
        self.hosts = frozenset(origin.partition("://")[2] for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no page of ours opens a socket
            await send({"type": "websocket.close", "code": 1008})
            return

        async def hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if refusal := self._refusal(scope["method"], Headers(scope=scope)):
            status, reason = refusal
            await PlainTextResponse(f"{reason}\n", status)(scope, receive, hardened)
            return
        try:
            await self.app(scope, _limited(receive), hardened)
        except TooLarge:
            await PlainTextResponse("Too large.\n", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)(scope, receive, hardened)

    def _refusal(self, method: str, headers: Headers) -> tuple[int, str] | None:
        if headers.getlist("host") != [headers.get("host")] or headers["host"].lower() not in self.hosts:
            return HTTPStatus.MISDIRECTED_REQUEST, "This desk is not served under that name."
        if method in ("GET", "HEAD"):
            return None
        if method != "POST":
            return HTTPStatus.METHOD_NOT_ALLOWED, "Not a method of this desk."
        if headers.get("origin") not in self.origins:  # every browser sends it with a POST
            return HTTPStatus.FORBIDDEN, "Votes are taken from this desk's own pages only."
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > BODY_BYTES:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Too large."
        return None


def _limited(receive: Receive) -> Receive:
    """The same body, as long as it is small: a chunked one says no length before it comes."""
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > BODY_BYTES:
            raise TooLarge
        return message

    return limited
