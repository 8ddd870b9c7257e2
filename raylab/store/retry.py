"""Retries of store operations whose error may be transient.

Model: an operation is called until it succeeds, fails with a permanent error, or its time is over.
Between two attempts is a random wait whose bound doubles, so that many workers do not come back
at once. Transient are the errors of a shared disk in TRANSIENT, and every error of an object
store that is not in PERMANENT. A permanent error (no access, no bucket, a full disk) is raised at
once.
Invariant: an operation that fails for good raises one StoreError.
"""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from raylab.errors import StoreError

if TYPE_CHECKING:
    from tenacity import RetryCallState

Result = TypeVar("Result")


@dataclass(frozen=True)
class RetryPolicy:
    """Timeouts in seconds, and the attempts of pyarrow itself before it reports an error."""

    stop_after: float = 120.0
    """No further attempt begins after this time."""
    first_wait: float = 0.25
    """Bound of the first wait; it doubles after every attempt."""
    longest_wait: float = 10.0
    """Bound of every wait."""
    connect_timeout: float = 5.0
    request_timeout: float = 20.0
    """How long an object store may be silent on an open connection."""
    max_attempts: int = 3


TRANSIENT = frozenset(
    {
        errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR, errno.EBUSY,
        errno.ECONNRESET, errno.ECONNABORTED, errno.ECONNREFUSED, errno.EPIPE, errno.ENOTCONN,
        errno.ESHUTDOWN, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH,
        errno.ENETRESET, errno.EREMOTEIO, errno.ENFILE,
    }
)  # fmt: skip

PERMANENT = (
    ("ACCESS_DENIED|PERMISSION_DENIED|HTTP status 403", "access is denied"),
    ("NO_SUCH_BUCKET|Bucket '.*' not found", "there is no such bucket"),
    (
        "INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|INVALID_CLIENT_TOKEN_ID|UNAUTHENTICATED"
        "|UNRECOGNIZED_CLIENT|MISSING_AUTHENTICATION_TOKEN|ExpiredToken|HTTP status 401",
        "the credentials are not accepted",
    ),
    ("HTTP status (30[1278]|400|404|405|411|412|501)", "the request is refused"),
)
_PERMANENT_ERRNO = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of the disk is used up",
    errno.EFBIG: "the file is larger than this disk or user allows",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "access is denied",
    errno.EPERM: "access is denied",
}
_WARN_AT_ATTEMPT = 3

_log = logging.getLogger("raylab.store")


def is_transient(error: BaseException) -> bool:
    """Whether the operation may succeed if it is tried again."""
    if not isinstance(error, OSError):
        return False
    if error.errno is not None:
        return error.errno in TRANSIENT
    return _permanent_reason(error) is None


def _permanent_reason(error: OSError) -> str | None:
    """What a permanent error means, in words. An error of an object store has no errno."""
    if error.errno is not None:
        return _PERMANENT_ERRNO.get(error.errno)
    return next((words for pattern, words in PERMANENT if re.search(pattern, str(error))), None)


def with_retries(operation: Callable[[], Result], policy: RetryPolicy, what: str) -> Result:
    """The result of `operation`. what: the first part of the error's message.

    Raises StoreError.
    """
    try:
        return operation()
    except OSError as error:
        return _retried(operation, error, policy, what)


def _retried(
    operation: Callable[[], Result], first: OSError, policy: RetryPolicy, what: str
) -> Result:
    """`with_retries`, whose first attempt raised `first`."""
    # Most operations succeed at once, and tenacity takes longer to load than they take.
    from tenacity import Retrying, retry_if_exception, stop_before_delay
    from tenacity.wait import wait_random_exponential

    failures = [first]

    def attempt() -> Result:
        if failures:
            raise failures.pop()
        return operation()

    retrying = Retrying(
        retry=retry_if_exception(is_transient),
        wait=wait_random_exponential(multiplier=policy.first_wait, max=policy.longest_wait),
        stop=stop_before_delay(policy.stop_after),
        before_sleep=lambda state: _warn(state, what),
        reraise=True,
    )
    try:
        return retrying(attempt)
    except OSError as error:
        raise _store_error(error, retrying.statistics, what) from error


def _warn(state: RetryCallState, what: str) -> None:
    """Log one line for an operation that takes long, so that the driver is not silent."""
    if state.attempt_number == _WARN_AT_ATTEMPT and state.outcome is not None:
        _log.warning("%s; this is tried again: %s", what, state.outcome.exception())


def _store_error(error: OSError, statistics: dict[str, float], what: str) -> StoreError:
    if is_transient(error):
        count, seconds = statistics["attempt_number"], statistics["delay_since_first_attempt"]
        return StoreError(
            what,
            found=f"{error} (tried {count} times in {seconds:.0f} s)",
            expected="a store that answers",
            todo="give the same command again when it does; whatever is finished is kept",
        )
    reason = _permanent_reason(error)
    return StoreError(
        what,
        found=f"{reason}: {error}" if reason else str(error),
        expected="a place that can be read and written" if reason else "",
        todo="free some space, or check the path and the permissions" if reason else "",
    )
