"""From the first request to the last: runs the server until it is told to stop."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from tta.errors import TTAError

#: Connections that wait to be taken, that are open at a time (more get 503), and seconds that one may stay idle.
BACKLOG, CONNECTIONS, IDLE = 1024, 1000, 75


def bind(host: str, port: int) -> socket.socket:
    """A socket with that address, on which nobody listens yet; port 0 takes any that is free.

    Raises:
        TTAError: The address is taken, or not of this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # so that asyncio sends at once
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except (OSError, OverflowError) as error:
        raise TTAError(f"cannot take {host}:{port}: {error}; give another --host or --port") from error
    return bound


def serve(app: FastAPI, bound: socket.socket, patience: float) -> None:
    """Answers requests until SIGTERM or SIGINT: then no new connections are taken, and what was asked is answered.

    Args:
        app: The application.
        bound: Where requests come in; closed at the end.
        patience: Seconds that answers may take after the signal. A second SIGINT ends it at once.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=max(1, round(patience)),
    )
    with orderly():
        uvicorn.Server(config).run(sockets=[bound])


@contextmanager
def orderly() -> Iterator[None]:
    """Within, a signal to stop is no reason to die: uvicorn raises it once more when it has stopped."""
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(each, lambda *_: None) for each in signals]
    try:
        yield
    finally:
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)
