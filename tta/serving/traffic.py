"""Requests in numbers, and the layer around the application that counts them."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tta.guard.metrics import BUCKETS, Histogram

#: Upper ends of the histogram of batch sizes.
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Traffic:
    """Counts requests by route and status, and measures how long they took."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.seconds = {"predict": Histogram(BUCKETS), "other": Histogram(BUCKETS)}
        self.batches = Histogram(SIZES)
        self.places = 0

    def prometheus(self) -> str:
        """The exposition format 0.0.4."""
        lines = ["# HELP tta_http_requests_total Requests answered.", "# TYPE tta_http_requests_total counter"]
        for (method, route, status), count in sorted(self.requests.items()):
            lines.append(f'tta_http_requests_total{{method="{method}",route="{route}",status="{status}"}} {count}')
        lines += ["# HELP tta_http_images_waiting Images that wait for an answer.",
                  "# TYPE tta_http_images_waiting gauge", f"tta_http_images_waiting {self.places}"]  # fmt: skip
        lines += ["# HELP tta_http_request_seconds From the first byte of a request to the last of its answer.",
                  "# TYPE tta_http_request_seconds histogram"]  # fmt: skip
        for name, each in self.seconds.items():
            lines += histogram("tta_http_request_seconds", each, f'route="{name}"')
        lines += ["# HELP tta_http_batch_images Images that were answered together.",
                  "# TYPE tta_http_batch_images histogram"]  # fmt: skip
        return "\n".join([*lines, *histogram("tta_http_batch_images", self.batches)]) + "\n"


def histogram(name: str, each: Histogram, label: str = "") -> list[str]:
    """The lines of a histogram."""
    lines, total, prefix = [], 0, f"{label}," if label else ""
    for end, count in zip((*map(str, each.buckets), "+Inf"), each.counts, strict=True):
        total += count
        lines.append(f'{name}_bucket{{{prefix}le="{end}"}} {total}')
    labels = f"{{{label}}}" if label else ""
    return [*lines, f"{name}_sum{labels} {each.sum:.6g}", f"{name}_count{labels} {total}"]


class Counted:
    """Counts what goes through an application.

    Args:
        app: The application.
        traffic: Where the counts go.
    """

    def __init__(self, app: ASGIApp, traffic: Traffic) -> None:
        self.app, self.traffic = app, traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As an ASGI application."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, sending)
        finally:
            route: Any = scope.get("route")
            path = getattr(route, "path", "other")  # never what the client has made up
            method = scope["method"] if scope["method"] in ("GET", "POST", "HEAD") else "other"
            self.traffic.requests[method, path, status] += 1
            which = "predict" if path == "/predict" else "other"
            self.traffic.seconds[which].add(time.perf_counter() - started)
