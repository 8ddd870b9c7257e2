"""A driver for tests of the lease of OUT: each line that it reads lets it begin or end, and each
line that it writes is a JSON list of what happened: held, done, refused or lost, and more."""

import json
import sys

from raylab.errors import LeaseError
from raylab.store.filesystem import Store
from raylab.store.lease import Intervals, hold_lease
from raylab.store.retry import RetryPolicy

FAST = Intervals(heartbeat=0.2, expiry=1.2, settle=0.6)
PATIENCE = RetryPolicy(
    stop_after=5,
    first_wait=0.02,
    longest_wait=0.1,
    connect_timeout=1,
    request_timeout=2,
    max_attempts=1,
)


def say(*words):
    print(json.dumps(words), flush=True)


def drive(store: Store) -> None:
    try:
        with hold_lease(store, FAST) as held:
            say("held", held.lease.owner)
            sys.stdin.readline()
    except LeaseError as error:
        what = "lost" if "taken over" in error.message else "refused"
        say(what, error.message, error.exit_status)
    else:
        say("done")


def main(out: str) -> None:
    store = Store(out, PATIENCE)
    say("ready")
    while sys.stdin.readline():
        drive(store)


if __name__ == "__main__":
    main(sys.argv[1])
