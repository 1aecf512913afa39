"""Refusals, and their bodies: in the gateway's envelope, the upstream service's (Ark), and that of messages."""

from __future__ import annotations

from typing import Any, Literal

Envelope = Literal["gateway", "ark", "messages"]

_GATEWAY_TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    404: "not_found_error",
    429: "rate_limit_error",
}
_MESSAGES_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_ARK_TYPES = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 429: "TooManyRequests"}
# The upstream's words for what the gateway has its own codes for.
_ARK_CODES = {
    "missing_api_key": "AuthenticationError",
    "invalid_api_key": "AuthenticationError",
    "insufficient_credits": "AccountOverdueError",
    "model_not_found": "InvalidEndpointOrModel.NotFound",
    "rate_limit_exceeded": "AccountRateLimitExceeded",
    "model_unavailable": "ServerOverloaded",
    "upstream_error": "InternalServiceError",
}
_ARK_STATUS = {"insufficient_credits": 403, "model_unavailable": 429, "upstream_error": 500}


class Refusal(Exception):
    """The request is not served. `code` is the API's word, `param` the field to blame (may be empty).

    `retry_after` is the value of that header, when one is sent.
    """

    def __init__(self, status: int, code: str, message: str, param: str = "", retry_after: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after = retry_after

    def shaped(self, envelope: Envelope, request_id: str) -> tuple[int, dict[str, Any]]:
        """HTTP status and body in the chosen envelope."""
        if envelope == "messages":
            kind = _MESSAGES_TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "api_error")
            error = {"type": kind, "message": self.message}
            return self.status, {"type": "error", "error": error, "request_id": request_id}
        if envelope == "ark":
            status = _ARK_STATUS.get(self.code, self.status)
            error = {
                "code": _ARK_CODES.get(self.code, self.code),
                "message": f"{self.message} Request id: {request_id}",
                "param": self.param,
                "type": _ARK_TYPES.get(status, "InternalServerError"),
            }
            return status, {"error": error}
        kind = _GATEWAY_TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "api_error")
        error_body = {"message": self.message, "type": kind, "param": self.param or None, "code": self.code}
        return self.status, {"error": error_body}


def invalid(param: str, reason: str) -> Refusal:
    """A 400 for a parameter with a wrong value."""
    message = f"The parameter `{param}` specified in the request are not valid: {reason}."
    return Refusal(400, "InvalidParameter", message, param)


def missing(param: str) -> Refusal:
    """A 400 for a parameter that must be there."""
    return Refusal(400, "MissingParameter", f"The request is missing the parameter `{param}`.", param)
