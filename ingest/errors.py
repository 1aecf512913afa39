"""The error tree. Every class carries its exit code; only the command line exits with it.

    IngestError 1
      ConfigError 2           the command or a setting is wrong; nothing was read or sent
      SourceError 3           a file cannot be used: Unreadable, UnsupportedMedia, Encrypted, TooLarge
      ModelError 4            the model's endpoint did not serve the call
        retryable             RateLimited, Overloaded, CallTimeout, Disconnected, ServerFailed
        terminal              DeadlinePassed, AuthRejected, QuotaExhausted, RequestRejected, ContextExceeded,
                              ContentRefused
      ReplyError 5            an answer came and cannot be used: Truncated, Malformed, OffSchema
      BudgetReached 1         the limit on money would be passed; what was bought is kept
      Cancelled 1             the caller wanted it to end; what was bought is kept
      LedgerError 6           Busy (retryable), NewerVersion
      OutputError 7           a result cannot be written

Errors hold plain positional values so that they survive pickling between processes.
"""

from __future__ import annotations

from typing import ClassVar


class IngestError(Exception):
    """Base of every error this package raises on purpose.

    `message` says what happened, to which file, and what to do next. `part_index` (from 0) is set when one
    page or frame is to blame.
    """

    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False
    code: ClassVar[str] = "error"

    record: object = None
    """The record that the error stands for, where the caller wants errors and not records."""

    def __init__(self, message: str, part_index: int | None = None) -> None:
        super().__init__(message, part_index)
        self.message = message
        self.part_index = part_index

    def __str__(self) -> str:
        return self.message


class ConfigError(IngestError):
    """The command, a setting, a recipe or a schema is wrong; nothing was read or sent."""

    exit_code = 2
    code = "config"


class NothingFound(ConfigError):
    """There is no document where documents were looked for: an empty folder, or one that is not mounted."""

    code = "nothing_found"


class SourceError(IngestError):
    """A file cannot be used."""

    exit_code = 3
    code = "source"


class Unreadable(SourceError):
    """The file is damaged, empty, vanished, or a page or frame of it cannot be read."""

    code = "unreadable"


class UnsupportedMedia(SourceError):
    """No extractor reads this kind of file."""

    code = "unsupported_media"


class Encrypted(SourceError):
    """The file needs a password that was not given."""

    code = "encrypted"


class TooLarge(SourceError):
    """The file passes a configured bound: pixels, pages, bytes, time or memory."""

    code = "too_large"


class ModelError(IngestError):
    """The model's endpoint did not serve the call. `retry_after_s` is set when the server named a waiting time."""

    exit_code = 4
    code = "model"

    def __init__(
        self,
        message: str,
        part_index: int | None = None,
        http_status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, part_index)
        self.args = (message, part_index, http_status, retry_after_s)
        self.http_status = http_status
        self.retry_after_s = retry_after_s


class RateLimited(ModelError):
    """Requests or tokens per minute were passed (429)."""

    retryable = True
    code = "rate_limited"


class Overloaded(ModelError):
    """The service has no capacity now; wait longer and send less at once."""

    retryable = True
    code = "overloaded"


class CallTimeout(ModelError):
    """No whole answer within the call's time."""

    retryable = True
    code = "call_timeout"


class Disconnected(ModelError):
    """The connection failed, or a stream ended without its closing event."""

    retryable = True
    code = "disconnected"


class ServerFailed(ModelError):
    """The server failed (5xx)."""

    retryable = True
    code = "server_failed"


class DeadlinePassed(ModelError):
    """The time given to the run is over; what was not answered stays open for the next run."""

    code = "deadline_passed"


class AuthRejected(ModelError):
    """The key is missing, wrong, or not allowed; the run stops."""

    code = "auth_rejected"


class QuotaExhausted(ModelError):
    """The account has no credit or passed a spending cap; the run stops."""

    code = "quota_exhausted"


class RequestRejected(ModelError):
    """The server refused the request as malformed (4xx); sending it again cannot help."""

    code = "request_rejected"


class ContextExceeded(ModelError):
    """The request is longer than the model's window; the chunk must be split."""

    code = "context_exceeded"


class ContentRefused(ModelError):
    """A content filter refused the input or stopped the answer; the chunk is bisected to the part to blame."""

    code = "content_refused"


class ReplyError(IngestError):
    """An answer came and cannot be used."""

    exit_code = 5
    code = "reply"


class Truncated(ReplyError):
    """The answer was cut off at the output limit. `answer` holds what was complete of it, in chunk form, or None."""

    code = "truncated"

    def __init__(self, message: str, part_index: int | None = None, answer: object = None) -> None:
        super().__init__(message, part_index)
        self.args = (message, part_index, answer)
        self.answer = answer


class Malformed(ReplyError):
    """The answer is not JSON, even after repair."""

    code = "malformed"


class OffSchema(ReplyError):
    """The answer is JSON but does not fit the schema."""

    code = "off_schema"


class BudgetReached(IngestError):
    """The next call could pass the limit on money. It was not sent; everything bought so far is kept."""

    code = "budget"


class Cancelled(IngestError):
    """The caller ended what was under way; everything answered so far is kept."""

    code = "cancelled"


class LedgerError(IngestError):
    """The ledger cannot be used."""

    exit_code = 6
    code = "ledger"


class Busy(LedgerError):
    """Another process holds the ledger."""

    retryable = True
    code = "ledger_busy"


class NewerVersion(LedgerError):
    """The ledger was written by a newer version of this program."""

    code = "ledger_newer"


class OutputError(IngestError):
    """A result cannot be written."""

    exit_code = 7
    code = "output"
