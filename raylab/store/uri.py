"""OUT as a user writes it -> a place of files and a root within it.

Model: OUT is a path, or a URI in the form of pyarrow.fs, whose query may hold options (`region`,
`endpoint_override`, `scheme` ...). Credentials come from the environment only.
Invariant: a URI with a secret in it is rejected before it is used, and no error message repeats it;
therefore the URI of a store is never a secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from raylab.errors import OutError, StoreError
from raylab.store.files import Disk, Files
from raylab.store.retry import RetryPolicy

EXPECTED = (
    "a directory or a URI (file://, s3://, gs:// or gcs://, abfs:// or abfss://, hdfs://, hf://) "
    "that can be written"
)
_URI = re.compile(r"^(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<host>[^/?#]*)")
_SECRET = re.compile(
    # `credential_kind` names a way to find credentials, such as `environment`.
    r"[?&;#](?!credential_kind=)[^=&]*(key|secret|token|password|passwd|credential|sig)[^=&]*=",
    re.I,
)
_OF_BUCKETS = ("s3", "gs", "gcs", "hf")
"""Schemes whose addresses begin with a bucket, or with a kind of repository."""
_PORT = re.compile(r"^(\[[^\]]*\]|[^:]*)(:\d*)?$")
"""A host, by name or as an IPv6 address in brackets, and perhaps a port."""


@dataclass(frozen=True)
class Address:
    """A place of files, the root of a store within it, and the URI by which workers open it."""

    files: Files
    root: str
    uri: str

    @property
    def scheme(self) -> str:
        """`s3://` and so on; empty for a local path."""
        found = _URI.match(self.uri)
        local = found is None or isinstance(self.files, Disk)
        return "" if local else f"{found['scheme']}://"  # type: ignore[index]


def reject_credentials(address: str) -> None:
    """Raise OutError if `address` is a URI with a password, key or token in it.

    A port is none, nor is a name before the host, such as a user of HDFS or Azure's container.
    """
    found = _URI.match(address)
    if not found:
        return
    query = unquote(address.partition("?")[2])
    scheme = found["scheme"].lower()
    in_host = _has_secret(scheme, unquote(found["host"]))
    # A secret may hold a slash: then its beginning looks like a port.
    in_host |= scheme in _OF_BUCKETS and ":" in found["host"] and "@" in address
    if in_host or "@" in query or _SECRET.search(f"?{query}"):
        raise OutError(
            "an address holds credentials",
            found=f"{found['scheme']}://... (not repeated here)",
            expected="credentials in the environment, such as AWS_ACCESS_KEY_ID or a role",
            todo="take them out of the address, and change them if others could read it",
        )


def _has_secret(scheme: str, authority: str) -> bool:
    """Whether the part of a URI between its slashes holds more than a name, a host and a port.

    A secret may hold a slash; the authority then ends within it, before its `@`.
    """
    name, _, host = authority.rpartition("@")
    # A bucket has no user, nor has a hub: what stands before it is an access key or a token.
    has_user = bool(name) and scheme in ("s3", "hf")
    return has_user or ":" in name or not _PORT.match(host)


def _reject_port(out: str) -> None:
    """Raise OutError if `out` gives a port to a bucket: pyarrow would leave it out in silence."""
    found = _URI.match(out)
    host = found["host"].rpartition("@")[2] if found else ""
    if found and found["scheme"].lower() in _OF_BUCKETS and ":" in host:
        raise OutError(
            "a bucket has no port",
            found=f"{found['scheme']}://{host}",
            expected=f"{found['scheme']}://BUCKET/FOLDER",
            todo=f"name a server of your own as in s3://BUCKET/FOLDER?endpoint_override={host}"
            "&scheme=http",
        )


def open_address(out: str, policy: RetryPolicy) -> Address:
    """The place and root of `out`; nothing is read or written. Raises OutError."""
    reject_credentials(out)
    _reject_port(out)
    if not _URI.match(out):
        root = str(Path(out).expanduser().resolve())
        return Address(Disk(), root, root)
    # pyarrow takes longer to load than most commands take with a local store.
    from raylab.store.object_store import open_uri

    try:
        return Address(*open_uri(out, policy), out)
    except (OSError, ValueError, StoreError) as error:
        reason = error.found if isinstance(error, StoreError) else error
        raise OutError(
            "OUT is no address of a store", found=f"{out}: {reason}", expected=EXPECTED
        ) from error
