"""A real S3 server on loopback, and a proxy before it that fails when it is told to."""

from __future__ import annotations

import logging
import threading
import uuid

import pytest
from pyarrow import fs

from raylab.store.paths import Store
from raylab.store.patience import Patience
from tests.store.faults import FaultyProxy

# As the default, but for tests: pyarrow's own asks are few, so that most faults reach raylab.
QUICK = Patience(total=20, first=0.02, longest=0.2, connect=1, answer=2, asks=1)
BUCKET = "bucket"


@pytest.fixture(scope="session")
def s3_server():
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


@pytest.fixture(scope="session")
def proxy(s3_server):
    """The proxy before the server."""
    proxy = FaultyProxy(s3_server)
    threading.Thread(target=proxy.server.serve_forever, daemon=True).start()
    yield proxy
    proxy.server.shutdown()
    proxy.server.server_close()


@pytest.fixture
def credentials(monkeypatch):
    """What S3 asks for, in the environment, and nothing else of this machine's."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)


def uri_through(port: int, prefix: str) -> str:
    options = f"scheme=http&endpoint_override=127.0.0.1:{port}&region=us-east-1"
    return f"s3://{BUCKET}/{prefix}?{options}"


@pytest.fixture
def out(proxy, credentials):
    """A new OUT on S3, behind the proxy."""
    return uri_through(proxy.port, f"studies/{uuid.uuid4().hex[:8]}")


@pytest.fixture
def remote(out):
    """A patient store there."""
    return Store(out, QUICK)


@pytest.fixture
def behind(s3_server, out):
    """The same store, read without the proxy."""
    _, port = s3_server
    return Store(uri_through(port, out.partition("?")[0].partition(f"{BUCKET}/")[2]), QUICK)
