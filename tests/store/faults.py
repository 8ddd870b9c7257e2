"""An HTTP proxy that fails on purpose, between a store and a real S3 server on loopback.

Model: every request is answered by the first rule of `faults` that names one of FAULTS for it;
where none does, it goes through. What was asked and what was done to it is kept in `seen`.
"""

from __future__ import annotations

import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "content-length"}


def error_page(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>x</Message></Error>".encode()


STATUSES = {
    "slow_down": (503, error_page("SlowDown")),
    "internal": (500, error_page("InternalError")),
    "denied": (403, error_page("AccessDenied")),
    "no_bucket": (404, error_page("NoSuchBucket")),
}
DROPS = ("dropped", "answer_lost", "answer_cut", "silent")
FAULTS = (*STATUSES, *DROPS)


@dataclass(frozen=True)
class Request:
    """What a rule may look at."""

    method: str
    path: str
    number: int

    @property
    def operation(self) -> str:
        """The S3 operation, as far as tests tell them apart."""
        query = self.path.partition("?")[2]
        if re.search(r"(^|&)uploads(=|&|$)", query):
            return "create_upload"
        if "partNumber=" in query:
            return "upload_part"
        if "uploadId=" in query:
            return {"POST": "complete_upload", "DELETE": "abort_upload"}.get(self.method, "")
        return {"PUT": "put", "GET": "get", "HEAD": "head", "DELETE": "delete"}.get(self.method, "")


Rule = Callable[[Request], str | None]


def some(share: float, seed: int, kinds: tuple[str, ...]) -> Rule:
    """A seeded share of all requests fail, in the ways of `kinds`."""
    draw, lock = random.Random(seed), threading.Lock()

    def rule(request: Request) -> str | None:
        with lock:
            return draw.choice(kinds) if draw.random() < share else None

    return rule


class FaultyProxy:
    """The proxy; `port` is where it listens."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.rules: list[Rule] = []
        self.seen: list[tuple[Request, str | None]] = []
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]

    @property
    def injected(self) -> Counter[str]:
        """How often each fault was done."""
        return Counter(fault for _, fault in self.seen if fault)

    def operations(self) -> Counter[str]:
        """How often each operation was asked."""
        return Counter(request.operation for request, _ in self.seen)

    @contextmanager
    def failing(self, *rules: Rule):
        """Within, requests meet `rules`, and `seen` holds what came since."""
        self.seen.clear()
        self.rules = list(rules)
        try:
            yield self
        finally:
            self.rules = []

    def fault_of(self, method: str, path: str) -> str | None:
        with self.lock:
            request = Request(method, path, len(self.seen))
            fault = next((f for rule in self.rules if (f := rule(request))), None)
            assert fault is None or fault in FAULTS
            self.seen.append((request, fault))
            return fault


def _handler(proxy: FaultyProxy):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)

        def relay(self) -> None:
            body = self.body()
            fault = proxy.fault_of(self.command, self.path)
            if fault in STATUSES:
                self.answer(*STATUSES[fault], {"Content-Type": "application/xml"})
            elif fault == "silent":
                time.sleep(30)
                self.drop()
            elif fault == "dropped":
                self.drop()
            else:
                self.forward(body, fault)

        def forward(self, body: bytes, fault: str | None) -> None:
            connection = HTTPConnection(*proxy.target, timeout=60)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP}
            connection.request(self.command, self.path, body, headers)
            reply = connection.getresponse()
            data = reply.read()
            known = {k: v for k, v in reply.getheaders() if k.lower() not in HOP}
            if self.command == "HEAD":
                known["Content-Length"] = reply.headers.get("Content-Length", "0")
            connection.close()
            if fault == "answer_lost" or (fault == "answer_cut" and not data):
                self.drop()
            else:
                self.answer(reply.status, data, known, cut=fault == "answer_cut")

        def answer(self, status: int, data: bytes, headers: dict, cut: bool = False) -> None:
            self.send_response_only(status)
            for key, value in headers.items():
                self.send_header(key, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(data)))
            elif "Content-Length" not in headers:
                self.send_header("Content-Length", "0")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data[: len(data) // 2] if cut else data)
            if cut:
                self.drop()

        def drop(self) -> None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = relay

    return Handler
