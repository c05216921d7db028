"""The body of a request, read up to a limit of bytes and of time."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from tta.serving.refusal import Refusal


async def read_body(request: Request, limit: int, seconds: float) -> bytes:
    """The whole body.

    What Content-Length says is believed only where it is too much; all bytes are counted as they come. The request's
    state tells afterwards whether the body was read (`body_read`).

    Args:
        request: Whose body has not been read.
        limit: Most bytes.
        seconds: Most time.

    Raises:
        Refusal: 413 for too many bytes, 408 for too much time, 400 for a length that is no number.
    """
    declared = request.headers.get("content-length")
    if declared is not None and not declared.isdecimal():
        raise Refusal(400, "Content-Length is no number")
    if declared is not None and int(declared) > limit:
        raise too_large(limit, f"{int(declared):,}")
    try:
        body = await asyncio.wait_for(_read(request, limit), seconds)
    except asyncio.TimeoutError:
        raise Refusal(408, f"the body did not come within {seconds:g} seconds; send it again") from None
    request.state.body_read = True
    return body


async def _read(request: Request, limit: int) -> bytes:
    parts, count = list[bytes](), 0
    async for part in request.stream():
        count += len(part)
        if count > limit:
            raise too_large(limit, f"more than {limit:,}")
        parts.append(part)
    return b"".join(parts)


def too_large(limit: int, came: str) -> Refusal:
    """The refusal of a body that is too large; the rest of it is not read."""
    message = f"the body has {came} bytes; send at most {limit:,}"
    return Refusal(413, message, {"connection": "close"})
