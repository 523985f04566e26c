"""Running the explorer: on the loopback address, for the person whose browser holds the link."""

import asyncio
import secrets
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from mammi.errors import InputError
from mammi.store.run import Run
from mammi.web.app import UPLOADS, create_app
from mammi.web.guard import Guard

__all__ = ["HOST", "serve"]

HOST = "127.0.0.1"
#: Seconds a connection may be open without asking for anything.
PATIENCE = 15.0


class _Impatient(H11Protocol):  # type: ignore[misc]
    """Closes a connection that asks for nothing, or asks letter by letter: for its first page or for a later one."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._overdue = self.loop.call_later(PATIENCE, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._overdue.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._overdue.cancel()
        self._overdue = self.loop.call_later(PATIENCE, self._give_up)

    def _give_up(self) -> None:
        if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
            self.transport.close()


def serve(
    run: Run,
    *,
    with_images: bool = False,
    port: int = 0,
    beside: Run | None = None,
    ready: Callable[[str], Any] = lambda link: None,
) -> None:
    """Run the explorer until it is interrupted.

    Nothing of what is looked at or searched for is logged.

    Args:
        run: a complete run.
        with_images: show pictures of the films: pictures of patients.
        port: to listen on, at the loopback address; 0 for any that is free.
        beside: a second run to compare with.
        ready: called with the link that lets its holder in, once connections are taken.

    Raises:
        InputError: if the port is taken.
    """
    token = secrets.token_urlsafe(32)
    app = Guard(create_app(run, with_images=with_images, beside=beside), token, uploads=UPLOADS)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
        except OSError as error:
            raise InputError(f"port {port} cannot be used ({error.strerror}): choose another --port") from error
        listening.listen(64)
        ready(f"http://{HOST}:{listening.getsockname()[1]}/?token={token}")
        config = uvicorn.Config(
            app,
            http=_Impatient,
            ws="none",
            lifespan="on",
            access_log=False,
            log_level="warning",
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=2**14,
            timeout_graceful_shutdown=3,
        )
        uvicorn.Server(config).run(sockets=[listening])
