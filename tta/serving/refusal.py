"""A request that is not answered as asked: its status, one line that says why, and how both are sent."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from tta.errors import TTAError

#: Seconds for which the rest of a body is read and thrown away after it was refused.
LINGER = 2.0


class Refusal(TTAError):
    """What a client gets instead of an answer; the message says what was expected, what came and what to do.

    Args:
        status: HTTP status, 4xx or 5xx.
        message: One line.
        headers: Of the response.
    """

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers or {}


class Refused(JSONResponse):
    """The answer to a request that is refused before its body was read to the end.

    A connection that is closed while its client still sends is reset, and the answer is lost with it. So the answer
    goes out at once, and what still comes is read and thrown away: to the end of the body, for two seconds at most.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(_discard(receive), LINGER)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _discard(receive: Receive) -> None:
    more = True
    while more:
        more = (await receive()).get("more_body", False)
