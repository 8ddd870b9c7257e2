"""A hub on loopback: what huggingface_hub asks of one to make a repository and a commit.

It keeps the bytes of every file by repository, and the headers and JSON of every call.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_of_this_test"


class Hub:
    def __init__(self) -> None:
        self.made: dict[str, dict] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.objects: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.url = ""

    def commit(self, repo: str, lines: list[dict]) -> None:
        kept = self.files.setdefault(repo, {})
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                assert value["encoding"] == "base64"
                kept[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                kept[value["path"]] = self.objects[value["oid"]]

    def answer(self, method: str, path: str, body: bytes, token: str) -> tuple[int, dict]:
        place = path.partition("?")[0].strip("/")
        if method == "PUT":
            self.objects[place.rpartition("/")[2]] = body
            return 200, {}
        if token != f"Bearer {TOKEN}":
            return 401, {"error": "Invalid credentials"}
        if place == "api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.made[name] = asked
            return 200, {"url": f"{self.url}/{name}"}
        if place == "api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if place.endswith(".git/info/lfs/objects/batch"):
            objects = [self._upload_of(item) for item in json.loads(body)["objects"]]
            return 200, {"transfer": "basic", "objects": objects}
        return self._of_repository(method, place.split("/"), body)

    def _upload_of(self, item: dict) -> dict:
        return {**item, "actions": {"upload": {"href": f"{self.url}/objects/{item['oid']}"}}}

    def _of_repository(self, method: str, parts: list[str], body: bytes) -> tuple[int, dict]:
        repo, verb = "/".join(parts[2:4]), parts[4] if len(parts) > 4 else ""
        if verb == "preupload":
            names = [file["path"] for file in json.loads(body)["files"]]
            return 200, {"files": [self._mode(name) for name in names]}
        if verb == "commit":
            self.commit(repo, [json.loads(line) for line in body.splitlines()])
            found = {"commitUrl": f"{self.url}/{repo}/commit/{'a' * 40}", "commitOid": "a" * 40}
            return 200, {"success": True, **found}
        return 200, {"id": repo, "sha": "b" * 40, "siblings": []}

    def _mode(self, name: str) -> dict:
        kind = "lfs" if name.endswith(".safetensors") else "regular"
        return {"path": name, "uploadMode": kind, "shouldIgnore": False, "oid": None}


@contextmanager
def hub_server() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hub.calls.append(f"{self.command} {self.path}")
            token = self.headers.get("Authorization", "")
            status, found = hub.answer(self.command, self.path, body, token)
            data = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_HEAD = _serve

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
