"""A request that is not answered as asked: its status, and one line that says why."""

from __future__ import annotations

from tta.errors import TTAError


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
