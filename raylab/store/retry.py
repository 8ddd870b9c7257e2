"""Trying again what a store failed to do, where the fault may pass by itself.

Model: an operation is called until it succeeds, fails for good, or the patience with it is at an
end. Between two tries lies a random wait whose bound doubles, so that many workers do not come
back at once. What passes: the errors of a shared disk in TRANSIENT, and whatever an object store
says that is not in PERMANENT. What lasts (no access, no bucket, a full disk) is said at once.
Invariant: an operation that is given up is one StoreError; that nothing is at a key is no fault.
"""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_before_delay
from tenacity.wait import wait_random_exponential

from raylab.errors import StoreError

Result = TypeVar("Result")


@dataclass(frozen=True)
class RetryPolicy:
    """Seconds, and how often pyarrow itself asks an object store before it reports a fault."""

    stop_after: float = 120.0
    """No further try of an operation begins after these."""
    first_wait: float = 0.25
    """Bound of the first wait; it doubles from there."""
    longest_wait: float = 10.0
    """Bound of every wait."""
    connect_timeout: float = 5.0
    request_timeout: float = 20.0
    """The longest silence of an object store on an open connection."""
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
_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of the disk is used up",
    errno.EFBIG: "a file may not be as large as that here",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "access is denied",
    errno.EPERM: "access is denied",
}
_WARN_AT = 3

_log = logging.getLogger("raylab.store")


def is_transient(error: BaseException) -> bool:
    """Whether the fault behind `error` may be gone when the same is tried again."""
    if not isinstance(error, OSError):
        return False
    if error.errno is not None:
        return error.errno in TRANSIENT
    return _lasting(error) is None


def _lasting(error: OSError) -> str | None:
    """What a fault that lasts means, in words; object stores give no number for theirs."""
    if error.errno is not None:
        return _FULL.get(error.errno)
    return next((words for pattern, words in PERMANENT if re.search(pattern, str(error))), None)


def with_retries(operation: Callable[[], Result], policy: RetryPolicy, what: str) -> Result:
    """The result of `operation`; `what` says in an error what could not be done.

    Raises StoreError.
    """
    tries = Retrying(
        retry=retry_if_exception(is_transient),
        wait=wait_random_exponential(multiplier=policy.first_wait, max=policy.longest_wait),
        stop=stop_before_delay(policy.stop_after),
        before_sleep=lambda state: _warn(state, what),
        reraise=True,
    )
    try:
        return tries(operation)
    except OSError as error:
        raise _given_up(error, tries.statistics, what) from error


def _warn(state: RetryCallState, what: str) -> None:
    """One line for an operation that takes long, so that nobody watches a silent driver."""
    if state.attempt_number == _WARN_AT and state.outcome is not None:
        _log.warning("%s, and is tried again: %s", what, state.outcome.exception())


def _given_up(error: OSError, statistics: dict[str, float], what: str) -> StoreError:
    if is_transient(error):
        count, seconds = statistics["attempt_number"], statistics["delay_since_first_attempt"]
        return StoreError(
            what,
            found=f"{error} (tried {count} times in {seconds:.0f} s)",
            expected="a store that answers",
            todo="give the same command again when it does: what is finished is kept",
        )
    words = _lasting(error)
    return StoreError(
        what,
        found=f"{words}: {error}" if words else str(error),
        expected="a place that can be read and written" if words else "",
        todo="free some space, or check the path and the permissions" if words else "",
    )
