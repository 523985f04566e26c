"""Who may ask, what may be asked, and how much may be sent: in front of every page, before any of its code runs.

The server listens on the loopback address. What can still reach it are other users of the machine and web pages open
in the user's own browser; against them stand:

* a token, as long as a key: in the printed link once, then in a cookie that scripts cannot read and that no other site's
  page can make the browser send;
* the ``Host`` of every request must be this machine's own name and port, so that a foreign name that is made to point
  here (DNS rebinding) is of no use;
* what is sent here must come from a page of ours (``Origin``, ``Sec-Fetch-Site``), and only pages may be called up from
  elsewhere, not their parts;
* paths hold letters, digits, dots, dashes and slashes and nothing else; bodies are bounded, in bytes and seconds, and
  kept in memory; few are taken at a time, and one is worked on;
* every answer carries headers that let a page load nothing but our own assets, and be framed, stored or read by nobody.

It does not keep out who can read this user's memory, terminal or browser.
"""

import asyncio
import hmac
import json
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from html import escape
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlencode

__all__ = ["MAX_BODY", "Guard", "Refusal", "answer_of"]

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Bytes of an upload, at most.
MAX_BODY = 64 * 2**20
#: Bytes of a request's target, at most.
MAX_TARGET = 4096
#: Uploads taken at a time: one is worked on, the others wait with their bytes in memory.
PLACES = 4
#: Seconds an upload may take to arrive.
PATIENCE = 60.0
#: What is read and thrown away of a refused upload, so that the browser comes to read why: bytes, and seconds.
DRAINED, DRAINED_FOR = 2**30, 20.0
_PATH = re.compile(r"/[A-Za-z0-9._/-]*")
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
    b"base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class Refusal(Exception):
    """A request that is answered with a status and a sentence."""

    def __init__(self, status: int, words: str, **headers: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words
        self.headers = headers


def answer_of(refusal: Refusal, path: str) -> tuple[bytes, str]:
    """Return body and media type of a refusal: JSON for a path that ends so, else a page; no trace, no file name."""
    title = f"{refusal.status} {HTTPStatus(refusal.status).phrase}"
    if path.endswith(".json"):
        body = {"status": refusal.status, "title": title, "reason": refusal.words}
        return json.dumps(body).encode(), "application/json"
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title} · mammi</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="stylesheet" href="/assets/style.css"></head><body><header class="top"><p class="brand"><a href="/">mammi</a></p></header><main id="main">'
        f'<h1>{title}</h1><p id="reason" role="alert">{escape(refusal.words)}</p><p><a href="/">To the overview</a></p>'
        '</main><footer><p class="notice">A research and audit tool, not a diagnostic device.</p></footer></body></html>'
    )
    return page.encode(), "text/html; charset=utf-8"


class Guard:
    """An ASGI application around another that lets through what is meant for it.

    Args:
        app: what is guarded.
        token: the secret of the printed link.
        uploads: paths that a body may be sent to.
        patience: seconds an upload may take to arrive.
    """

    def __init__(self, app: App, token: str, *, uploads: frozenset[str], patience: float = PATIENCE) -> None:
        self.app = app
        self.uploads = uploads
        self.patience = patience
        self._token = token.encode()
        self._cookie = secrets.token_urlsafe(32)
        self._taken = 0
        self._working = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        answer = _Answer(scope, send)
        try:
            entry = self._admit(scope)
            if entry is not None:
                await answer.give(*entry)
            elif scope["method"] == "POST":
                await self._upload(scope, receive, answer.send)
            else:
                await self.app({**scope, "method": "GET"}, _whole(b"", receive), answer.send)
        except Refusal as refusal:
            with suppress(TimeoutError, ConnectionError):
                await _drain(scope, receive)
            body, media = answer_of(refusal, scope["path"])
            # Whatever was not read would be taken for the next request.
            close = {"connection": "close"} if scope["method"] == "POST" else {}
            await answer.give(refusal.status, body, media, {**refusal.headers, **close})
        # The last wall: whatever a page's code raises, its trace is for the terminal and the server lives on.
        except Exception:
            logging.getLogger("mammi.web").exception("a page failed")
            if not answer.begun:
                failed = Refusal(500, "This page failed. The terminal in which the explorer runs says why.")
                await answer.give(500, *answer_of(failed, scope["path"]), {})

    def _admit(self, scope: Scope) -> tuple[int, bytes, str, dict[str, str]] | None:
        """Refuse, or return the answer that lets a holder of the link in, or None for a request that may pass."""
        method, path = scope["method"], scope["path"]
        raw = scope.get("raw_path") or path.encode()
        if len(raw) + len(scope["query_string"]) > MAX_TARGET:
            raise Refusal(414, f"This address is longer than {MAX_TARGET:,} characters.")
        if method not in ("GET", "HEAD") and not (method == "POST" and path in self.uploads):
            raise Refusal(405, "This address can only be looked at.", allow="GET, HEAD")
        segments = path.split("/")
        if raw != path.encode() or not _PATH.fullmatch(path) or {".", ".."} & {*segments} or "//" in path:
            raise Refusal(400, "This address holds what no address here holds.")
        host = self._check_host(scope)
        self._check_source(scope, host)
        try:
            fields = parse_qsl(scope["query_string"].decode("ascii"), keep_blank_values=True, max_num_fields=64)
        except ValueError as error:
            raise Refusal(400, "The part of this address behind the question mark cannot be read.") from error
        given = [value for name, value in fields if name == "token"]
        if given and method != "POST":
            if not hmac.compare_digest(given[0].encode(), self._token):
                raise _unknown()
            rest = urlencode([(name, value) for name, value in fields if name != "token"])
            return self._welcome(scope, path + (f"?{rest}" if rest else ""))
        name = _cookie_name(scope).encode() + b"="
        cookies = [part.strip() for value in _headers(scope, b"cookie") for part in value.split(b";")]
        if not any(
            hmac.compare_digest(part.removeprefix(name), self._cookie.encode())
            for part in cookies
            if part.startswith(name)
        ):
            raise _unknown()
        return None

    def _check_host(self, scope: Scope) -> str:
        port = scope["server"][1]
        known = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}
        if port == 80:
            known |= {"127.0.0.1", "localhost", "[::1]"}
        hosts = [value.decode("latin-1").lower() for value in _headers(scope, b"host")]
        if len(hosts) != 1 or hosts[0] not in known:
            raise Refusal(403, "This server answers to its own address only: use the link that 'mammi serve' printed.")
        return hosts[0]

    def _check_source(self, scope: Scope, host: str) -> None:
        """Refuse what a page of another site, or of another port of this machine, makes the browser send."""
        site = b"".join(_headers(scope, b"sec-fetch-site"))
        origin = b"".join(_headers(scope, b"origin"))
        foreign = Refusal(403, "This request comes from a page of another site.")
        if scope["method"] == "POST":
            # A page that sends no referrer says "null" for its origin, so that alone proves nothing either way.
            ours = origin == f"http://{host}".encode() or (origin == b"null" and site == b"same-origin")
            if not ours or site not in (b"", b"same-origin"):
                raise foreign
        elif site not in (b"", b"none", b"same-origin"):
            wants = b"".join(_headers(scope, b"sec-fetch-mode")), b"".join(_headers(scope, b"sec-fetch-dest"))
            if wants != (b"navigate", b"document"):
                raise foreign

    def _welcome(self, scope: Scope, there: str) -> tuple[int, bytes, str, dict[str, str]]:
        cookie = f"{_cookie_name(scope)}={self._cookie}; Path=/; HttpOnly; SameSite=Strict"
        headers = {"set-cookie": cookie}
        if b"".join(_headers(scope, b"sec-fetch-site")) in (b"", b"none", b"same-origin"):
            return 303, b"", "text/plain", {**headers, "location": there}
        # From another site's page a redirect would arrive without the cookie; a page of ours may lead on with it.
        page = f'<!doctype html><meta http-equiv="refresh" content="0; url={escape(there)}"><title>mammi</title>'
        return 200, page.encode(), "text/html; charset=utf-8", headers

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take a body whole into memory, wait for the one before, and pass it on."""
        if self._taken >= PLACES:
            raise Refusal(503, "Other films are being looked at: try again in a moment.", retry_after="5")
        self._taken += 1
        try:
            body = await self._body(scope, receive)
            async with self._working:
                await self.app(scope, _whole(body, receive), send)
        finally:
            self._taken -= 1

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        too_large = Refusal(413, f"This file is larger than {MAX_BODY // 2**20} MiB, the most that is taken.")
        lengths = _headers(scope, b"content-length")
        if lengths and (not lengths[0].isdigit() or int(lengths[0]) > MAX_BODY):
            raise too_large
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.patience):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal(400, "The upload broke off.")
                    part = message.get("body", b"")
                    size += len(part)
                    if size > MAX_BODY:
                        raise too_large
                    parts.append(part)
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError as error:
            raise Refusal(408, f"The upload took longer than {self.patience:.0f} seconds.") from error


class _Answer:
    """Sends an answer with the headers that every answer has, and without a body where only the head was asked for."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.begun = False
        self._send = send
        self._head_only = scope["method"] == "HEAD"

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            own = [(name.lower(), value) for name, value in message.get("headers", ())]
            names = {name for name, _ in own}
            message = {**message, "headers": [*own, *(pair for pair in _HEADERS if pair[0] not in names)]}
        elif self._head_only and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)

    async def give(self, status: int, body: bytes, media: str, headers: dict[str, str]) -> None:
        if self.begun:
            return
        fields = {"content-type": media, "content-length": str(len(body)), **headers}
        pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in fields.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": body})


def _unknown() -> Refusal:
    return Refusal(
        401,
        "This explorer opens with the link that 'mammi serve' printed in its terminal; the one used here is not it, "
        "or its time is over.",
    )


def _cookie_name(scope: Scope) -> str:
    # A browser keeps one jar for all ports of a host: two explorers must not take each other's cookie away.
    return f"mammi-{scope['server'][1]}"


def _headers(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key == name]


async def _drain(scope: Scope, receive: Receive) -> None:
    """Read what a refused client still sends and forget it: most browsers listen only when they have said all."""
    waits = any(value.lower() == b"100-continue" for value in _headers(scope, b"expect"))
    has_body = _headers(scope, b"transfer-encoding") or any(v != b"0" for v in _headers(scope, b"content-length"))
    if waits or not has_body:
        return
    size = 0
    async with asyncio.timeout(DRAINED_FOR):
        while size < DRAINED:
            message = await receive()
            size += len(message.get("body", b""))
            if message["type"] == "http.disconnect" or not message.get("more_body"):
                return


def _whole(body: bytes, receive: Receive) -> Receive:
    """Hand out a body that was read already, then what comes after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return messages.pop() if messages else await receive()

    return next_message
