"""The application: who may ask, what is answered, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, Response

import tta
from tta.errors import TTAError
from tta.serving.admin import admin_routes
from tta.serving.batching import Batcher
from tta.serving.body import read_body
from tta.serving.images import describe, read_images
from tta.serving.refusal import Refusal, Refused
from tta.serving.served import Given, Served
from tta.serving.traffic import Counted, Traffic

#: Threads that decode images; the decoders let go of the interpreter's lock.
DECODERS = 2
#: Seconds for which a failure of the model makes the server unready, so that a balancer tries it again afterwards.
FAILING = 30.0


@dataclass(frozen=True)
class Limits:
    """What the server takes on. What one image may be is in `tta.serving.images.Format`.

    Attributes:
        max_batch: Images that are answered together, and most images of a request.
        max_wait: Seconds that an image waits for others.
        max_body: Bytes of a request.
        queue: Images of all requests that may wait for an answer; more are refused with 503.
        timeout: Seconds for the body to come, and for the answer to be given.

    Raises:
        TTAError: Numbers that make no server.
    """

    max_batch: int = 32
    max_wait: float = 0.005
    max_body: int = 10_000_000
    queue: int = 256
    timeout: float = 30.0

    def __post_init__(self) -> None:
        if self.max_batch < 1 or self.max_wait < 0:
            raise TTAError(
                f"a batch has at least 1 image and waits at least 0 ms, got {self.max_batch} and"
                f" {self.max_wait * 1000:g} ms"
            )
        if self.queue < self.max_batch or self.max_body < 1 or self.timeout <= 0:
            raise TTAError(
                f"the queue has room for a batch at least, a body for a byte, and a time-out is positive; got"
                f" {self.queue} (batch {self.max_batch}), {self.max_body} and {self.timeout:g}"
            )


class Server:
    """What the routes share: the deployment, the batcher, and the places in the queue."""

    def __init__(self, served: Served, limits: Limits) -> None:
        self.served, self.limits, self.traffic = served, limits, Traffic()
        self.form = replace(served.form, max_images=limits.max_batch)
        self.batcher: Batcher[np.ndarray, Given] = Batcher(self._answer, limits.max_batch, limits.max_wait)
        self.decoders = ThreadPoolExecutor(DECODERS, "tta-decode")
        self.stopping, self.failure = False, ("", 0.0)

    def _answer(self, images: list[np.ndarray]) -> Sequence[Given]:
        self.traffic.batches.add(len(images))
        try:
            given = self.served.answer(images)
        except Exception as error:
            self.failure = f"the model failed: {describe(error)}", time.monotonic()
            logging.getLogger("tta.serving").exception("the model failed on a batch of %d images", len(images))
            raise Refusal(500, f"{self.failure[0]}; the server's log tells more") from error
        self.failure = "", 0.0
        return given

    @contextlib.contextmanager
    def places(self, count: int) -> Iterator[None]:
        """Places in the queue, as long as they are needed.

        Raises:
            Refusal: 503, there are not as many.
        """
        if self.traffic.places + count > self.limits.queue:
            message = f"{self.traffic.places} images wait and there is room for {self.limits.queue}; come back later"
            raise Refusal(503, message, {"retry-after": "1", "connection": "close"})
        self.traffic.places += count
        try:
            yield
        finally:
            self.traffic.places -= count

    async def predict(self, request: Request) -> list[Given]:
        """The answers to the images of a request."""
        limits, loop = self.limits, asyncio.get_running_loop()
        with self.places(1):
            body = await read_body(request, limits.max_body, limits.timeout)
            declared = request.headers.get("content-type", "")
            images = await loop.run_in_executor(self.decoders, read_images, body, declared, self.form)
            del body
            with self.places(len(images) - 1):
                try:
                    return await asyncio.wait_for(self.batcher.ask([*images]), limits.timeout)
                except asyncio.TimeoutError:
                    message = f"no answer within {limits.timeout:g} seconds; come back later"
                    raise Refusal(504, message, {"retry-after": "1"}) from None

    def health(self) -> dict[str, Any]:
        """Whether the server is ready to answer. After a failure it is not for a while, or until an answer is given."""
        why, when = self.failure
        failing = bool(why) and time.monotonic() - when < FAILING
        state = "stopping" if self.stopping else "failing" if failing else "ready"
        deployed = self.served.deployed
        return {"status": state, "version": deployed.version, "frozen": deployed.frozen, "why": why or None}


def make_app(served: Served, limits: Limits | None = None, token: str | None = None) -> FastAPI:
    """The application around a deployment; it does not close it.

    Args:
        served: The deployment.
        limits: What it takes on.
        token: Of the admin routes; None switches them off.

    Raises:
        TTAError: The limits contradict each other.
    """
    server = Server(served, limits or Limits())

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        server.batcher.start()
        yield
        server.stopping = True
        await server.batcher.close()
        server.decoders.shutdown()

    # No pages that load scripts from elsewhere; the schema alone.
    app = FastAPI(title="tta serve", version=tta.__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.server = server
    app.add_middleware(Counted, traffic=server.traffic)
    app.include_router(admin_routes(served, server.batcher, token))
    add_predict(app, server)
    add_health(app, server)
    add_errors(app)
    return app


def add_predict(app: FastAPI, server: Server) -> None:
    """The route that images are sent to."""
    body: dict[str, Any] = {
        "content": {name: {} for name in ("image/png", "image/jpeg", "image/webp", "application/x-npy")}
    }

    @app.post("/predict", openapi_extra={"requestBody": body | {"required": True}})
    async def predict(request: Request) -> JSONResponse:
        """The class of an image; of several, {"answers": [...]} in their order."""
        if "origin" in request.headers:
            raise Refusal(403, "pages in a browser may not ask, for any page could teach the model; ask from a server")
        given = await server.predict(request)
        if not all(one.finite for one in given):
            raise Refusal(500, "the model gives no finite answer to this image; its version is left as it is")
        answers = [shown(one) for one in given]
        return JSONResponse(answers[0] if len(answers) == 1 else {"answers": answers})


def shown(given: Given) -> dict[str, Any]:
    """An answer as JSON."""
    return {
        "class": given.index, "label": given.label, "probability": round(given.probability, 6),
        "version": given.version, "by_adapter": given.by_adapter, "id": given.id,
    }  # fmt: skip


def add_health(app: FastAPI, server: Server) -> None:
    """The routes for who watches the server."""

    @app.get("/health/live")
    async def live() -> JSONResponse:
        """The process runs."""
        return JSONResponse({"status": "live"})

    @app.get("/health/ready")
    @app.get("/health")
    async def ready() -> JSONResponse:
        """The server answers images; 503 if it stops or the model has failed."""
        health = server.health()
        return JSONResponse(health, 200 if health["status"] == "ready" else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Numbers of the deployment and of the requests, for Prometheus."""
        text = await server.batcher.between(server.served.deployed.prometheus)
        return PlainTextResponse(text + server.traffic.prometheus(), media_type="text/plain; version=0.0.4")


def add_errors(app: FastAPI) -> None:
    """Everything that is refused is told as {"error": ...}."""

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> JSONResponse:
        answer = JSONResponse if getattr(request.state, "body_read", False) else Refused
        return answer({"error": str(error)}, error.status, error.headers)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> JSONResponse:
        routes = "/predict, /health, /metrics, /snapshot, /snapshots, /rollback, /reset, /freeze, /audit"
        message = f"{error.detail}: there are {routes}; images are sent to /predict with POST"
        return JSONResponse({"error": message}, error.status_code, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=499)  # nobody reads it; it is counted

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": f"the server failed ({type(error).__name__}); its log tells more"}, 500)
