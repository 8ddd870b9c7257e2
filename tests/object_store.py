"""A real S3 server on loopback, and the addresses of stores behind a proxy that fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pyarrow import fs

from raylab.store.retry import RetryPolicy
from tests.store.faults import FaultyProxy

BUCKET = "bucket"
# As the default, but for tests: pyarrow's own asks are few, so that most faults reach raylab.
QUICK = RetryPolicy(
    stop_after=20,
    first_wait=0.02,
    longest_wait=0.2,
    connect_timeout=1,
    request_timeout=2,
    max_attempts=1,
)
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "any",
    "AWS_SECRET_ACCESS_KEY": "any",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def uri_through(port: int, prefix: str) -> str:
    """The URI of a store below `prefix`, by way of a port of this machine."""
    options = f"scheme=http&endpoint_override=127.0.0.1:{port}&region=us-east-1"
    return f"s3://{BUCKET}/{prefix}?{options}"


@contextmanager
def moto_server() -> Iterator[tuple[str, int]]:
    """The address of moto's S3, which holds one bucket."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    maker = fs.S3FileSystem(
        access_key="any", secret_key="any", region="us-east-1", scheme="http",
        endpoint_override=f"{host}:{port}", allow_bucket_creation=True,
    )  # fmt: skip
    maker.create_dir(BUCKET)
    yield host, port
    server.stop()


@contextmanager
def proxy_before(server: tuple[str, int]) -> Iterator[FaultyProxy]:
    """A proxy before `server`, which lets everything through until it is told to fail."""
    proxy = FaultyProxy(server)
    threading.Thread(target=proxy.server.serve_forever, daemon=True).start()
    yield proxy
    proxy.server.shutdown()
    proxy.server.server_close()
