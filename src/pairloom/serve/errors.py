"""Errors as a client sees them: a status, and OpenAI's ``{"error": {message, type, param, code}}``."""

from __future__ import annotations

from pairloom.errors import PairloomError


class RequestError(PairloomError):
    """A request that is not answered.

    Args:
        message: What is wrong, where, and what to do.
        status: Of HTTP.
        param: Which part of the request is wrong, such as ``input[3]``.
        code: A word for programs, such as ``model_not_found``.
        retry_after_s: When to try again, if that helps; it becomes the header ``Retry-After``.
    """

    def __init__(
        self,
        message: str,
        status: int = 400,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s

    @property
    def type(self) -> str:
        """The kind of error, in OpenAI's words."""
        if self.status == 401:
            return "authentication_error"
        if self.status == 403:
            return "permission_error"
        if self.status == 429:
            return "rate_limit_error"
        return "invalid_request_error" if self.status < 500 else "server_error"


class TooBusyError(RequestError):
    """There is more to do than can be done within the deadline."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(
            f"the server has more to do than it can within its deadline; try again in {max(1, round(retry_after_s))} s",
            429,
            code="too_busy",
            retry_after_s=retry_after_s,
        )
