"""What an operator asks of a running server, behind a token."""

from __future__ import annotations

import hmac
import json
import os
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from tta.errors import TTAError
from tta.serving.batching import Batcher
from tta.serving.body import read_body
from tta.serving.refusal import Refusal
from tta.serving.served import Served

#: Of the environment: the token of the admin routes.
TOKEN = "TTA_ADMIN_TOKEN"
MIN_TOKEN, MAX_BODY, SECONDS = 16, 1_000_000, 10.0


def find_token(file: Path | None) -> str | None:
    """The token: the first line of a file, or the environment's; None switches the admin routes off.

    Raises:
        TTAError: The file is not there, or the token is short.
    """
    if file is not None and not file.is_file():
        raise TTAError(f"--token-file {file} is not there; put a token of at least {MIN_TOKEN} characters into it")
    token = file.read_text().partition("\n")[0].strip() if file is not None else os.environ.get(TOKEN)
    if token is not None and len(token) < MIN_TOKEN:
        where = f"--token-file {file}" if file is not None else TOKEN
        raise TTAError(f"the token in {where} has {len(token)} characters; take at least {MIN_TOKEN} random ones")
    return token


def admin_routes(served: Served, batcher: Batcher[Any, Any], token: str | None) -> APIRouter:
    """The routes. Everything they do happens between two batches."""
    router = APIRouter()

    async def asked(request: Request) -> dict[str, Any]:
        """The JSON object of a request whose token is right; its body is not read before."""
        check_token(request.headers.get("authorization"), token)
        body = await read_body(request, MAX_BODY, SECONDS)
        try:
            values = json.loads(body) if body.strip() else {}
        except (ValueError, RecursionError) as error:
            raise Refusal(422, f"the body is no JSON ({error}); send an object, or nothing") from error
        if not isinstance(values, dict):
            raise Refusal(422, f"the body is a JSON {type(values).__name__}; send an object, or nothing")
        return values

    async def done(function: Any, *arguments: Any) -> JSONResponse:
        try:
            return JSONResponse(await batcher.between(function, *arguments))
        except TTAError as error:
            raise Refusal(409, str(error)) from error
        except OSError as error:
            raise Refusal(507, f"the disk refuses ({error.strerror or error}); make room, and ask again") from error

    @router.post("/snapshot")
    async def snapshot(request: Request) -> JSONResponse:
        """Writes a snapshot."""
        fields(await asked(request))
        return await done(served.snapshot)

    @router.get("/snapshots")
    async def snapshots(request: Request) -> JSONResponse:
        """Lists the snapshots."""
        check_token(request.headers.get("authorization"), token)
        return await done(lambda: {"snapshots": served.deployed.versions()})

    @router.post("/rollback")
    async def rollback(request: Request) -> JSONResponse:
        """Goes back to {"snapshot": N}, or to the newest."""
        values = fields(await asked(request), snapshot=int)
        return await done(served.rollback, values.get("snapshot"))

    @router.post("/reset")
    async def reset(request: Request) -> JSONResponse:
        """Goes back to the source model."""
        fields(await asked(request))
        return await done(served.reset)

    @router.post("/freeze")
    async def freeze(request: Request) -> JSONResponse:
        """Stops learning; {"frozen": false} goes on."""
        values = fields(await asked(request), frozen=bool)
        return await done(served.freeze, values.get("frozen", True))

    @router.post("/audit")
    async def audit(request: Request) -> JSONResponse:
        """Takes {"ids": [...], "labels": [...]}."""
        values = fields(await asked(request), ids=list, labels=list)
        ids, labels = values.get("ids", []), values.get("labels", [])
        if not all(type(one) is str for one in ids) or not all(type(one) is int for one in labels):
            raise Refusal(422, "ids are the strings of the answers and labels are class indices")
        return await done(served.audit, ids, labels)

    return router


def check_token(header: str | None, token: str | None) -> None:
    """Refuses whoever does not bring the token; how long that takes tells nothing about it."""
    if token is None:
        raise Refusal(403, f"the admin routes are off: start the server with {TOKEN} or --token-file")
    scheme, _, came = (header or "").partition(" ")
    right = hmac.compare_digest(came.strip().encode(), token.encode())
    if scheme.lower() != "bearer" or not right:
        raise Refusal(
            401, "the token is missing or wrong; send Authorization: Bearer TOKEN", {"www-authenticate": "Bearer"}
        )


def fields(values: dict[str, Any], **types: type) -> dict[str, Any]:
    """The object, if it has these fields at most, each of its type or null."""
    for name, value in values.items():
        if name not in types:
            raise Refusal(422, f"unknown field {name[:40]!r}; this route takes {', '.join(types) or 'no fields'}")
        if value is not None and type(value) is not types[name]:
            raise Refusal(422, f"{name} is a {type(value).__name__}; send a {types[name].__name__}")
    return {name: value for name, value in values.items() if value is not None}
