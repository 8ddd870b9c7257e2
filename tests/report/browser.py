"""A headless Chromium that tests drive over the DevTools protocol.

Model: a Browser is one process with an empty profile of its own, a Tab one page of it. A call is
sent, and all messages before its answer are read: a tab keeps the messages of its console, its
exceptions and its requests to the network.
Invariant: nothing is polled. A later change of a page is awaited as an event, or as a promise in
the page, for TIMEOUT seconds at most. The process is ended by its own id.
"""

from __future__ import annotations

import asyncio
import base64
import json
import queue
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

TIMEOUT = 30.0
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_LOCAL = ("file:", "data:", "blob:", "about:")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
# A promise in the page: resolved when `test` holds, seen whenever something below `root` changes.
_WHEN = """(root, test) => new Promise((done) => {
  if (test()) return done();
  const watcher = new MutationObserver(() => {
    if (test()) { watcher.disconnect(); done(); }
  });
  watcher.observe(root, {subtree: true, childList: true, attributes: true, characterData: true});
})"""
# The middle of an element after it was scrolled to the middle of the window.
_MIDDLE = """(element) => {
  element.scrollIntoView({block: "center", inline: "center"});
  const box = element.getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2];
}"""


class Browser:
    """One Chromium process. `ask` is a call of the DevTools protocol."""

    def __init__(self, program: str, profile: Path) -> None:
        command = [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self._runner = asyncio.Runner()
        self._tabs: dict[str, Tab] = {}
        self._last = 0
        try:
            self._runner.run(self._connect(_address(self._process)))
        except BaseException:
            self._process.kill()
            raise

    async def _connect(self, address: str) -> None:
        self._http = aiohttp.ClientSession()
        self._socket = await self._http.ws_connect(address, max_msg_size=0)

    def close(self) -> None:
        """End the process."""
        self._runner.run(self._http.close())
        self._runner.close()
        self._process.terminate()
        self._process.wait(TIMEOUT)

    def ask(self, method: str, session: str = "", **values: Any) -> Any:
        """The answer to a call. Raises AssertionError where Chromium refuses it."""
        return self._runner.run(asyncio.wait_for(self._ask(method, session, values), TIMEOUT))

    async def _ask(self, method: str, session: str, values: dict[str, Any]) -> Any:
        self._last += 1
        number = self._last
        message = {"id": number, "method": method, "params": values}
        await self._socket.send_json(message | ({"sessionId": session} if session else {}))
        while True:
            found = await self._read()
            if found.get("id") == number:
                assert "error" not in found, f"{method}: {found['error']}"
                return found["result"]

    async def _read(self) -> dict[str, Any]:
        found: dict[str, Any] = await self._socket.receive_json()
        tab = self._tabs.get(found.get("sessionId", ""))
        if tab is not None and "method" in found:
            tab.record_event(found["method"], found["params"])
        return found

    def wait(self, tab: Tab, event: str) -> None:
        """Read on until the tab has had an event."""

        async def reading() -> None:
            while event not in tab.events:
                await self._read()

        self._runner.run(asyncio.wait_for(reading(), TIMEOUT))

    @contextmanager
    def tab(
        self, width: int = 1280, scheme: str = "light", *, scripts: bool = True
    ) -> Iterator[Tab]:
        """A new page, closed at the end."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = self._tabs[session] = Tab(self, session)
        try:
            tab.prepare(width, scheme, scripts=scripts)
            yield tab
        finally:
            del self._tabs[session]
            self.ask("Target.closeTarget", targetId=target)


def _address(process: subprocess.Popen[str]) -> str:
    """The address where the process listens, from stderr; the rest of stderr is dropped."""
    found: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        lines = []
        for line in process.stderr or ():
            lines.append(line)
            if match := re.match(r"DevTools listening on (ws://\S+)", line):
                found.put(match[1])
        found.put("")

    threading.Thread(target=read, daemon=True).start()
    address = found.get(timeout=TIMEOUT)
    assert address, "Chromium ended before it listened"
    return address


class Tab:
    """One page.

    `console` are the warnings and errors of its console, `exceptions` those that it did not
    catch, `requests` the addresses that it requested from the network.
    """

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session
        self.console: list[str] = []
        self.exceptions: list[str] = []
        self.requests: list[str] = []
        self.events: set[str] = set()

    def prepare(self, width: int, scheme: str, *, scripts: bool) -> None:
        """Enable events, and set the width and the colours of the window."""
        for domain in ("Page", "Runtime", "Log", "Network", "DOM", "CSS"):
            self.ask(f"{domain}.enable")
        self.resize(width)
        self.emulate(scheme)
        self.ask("Emulation.setFocusEmulationEnabled", enabled=True)
        self.ask("Emulation.setScriptExecutionDisabled", value=not scripts)

    def record_event(self, event: str, values: dict[str, Any]) -> None:
        """Keep the content of an event."""
        self.events.add(event)
        if event == "Runtime.exceptionThrown":
            details = values["exceptionDetails"]
            self.exceptions.append(details.get("exception", {}).get("description", details["text"]))
        elif event == "Runtime.consoleAPICalled" and values["type"] in (
            "warning",
            "error",
            "assert",
        ):
            self.console.append(" ".join(str(a.get("value", a)) for a in values["args"]))
        elif event == "Log.entryAdded" and values["entry"]["level"] in ("warning", "error"):
            self.console.append(values["entry"]["text"])
        elif event == "Network.requestWillBeSent":
            address = values["request"]["url"]
            self.requests += [] if address.startswith(_LOCAL) else [address]

    def ask(self, method: str, **values: Any) -> Any:
        """A call of the DevTools protocol to this page."""
        return self._browser.ask(method, self._session, **values)

    def open(self, address: str) -> None:
        """Go to an address and wait until it is loaded, its scripts run."""
        self.events.clear()
        failed = self.ask("Page.navigate", url=address).get("errorText")
        assert not failed, f"{address}: {failed}"
        self._browser.wait(self, "Page.loadEventFired")

    def resize(self, width: int, height: int = 900) -> None:
        """Set the size of the window; below 600 pixels it is that of a telephone."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1}
        self.ask("Emulation.setDeviceMetricsOverride", **size, mobile=width < 600)

    def emulate(self, scheme: str, medium: str = "") -> None:
        """Set the colours, light or dark, and a medium such as print."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", media=medium, features=features)

    def run(self, function: str, *values: Any) -> Any:
        """The result of a JavaScript function of plain values; a promise is awaited."""
        call = f"({function})({', '.join(map(json.dumps, values))})"
        found = self.ask("Runtime.evaluate", expression=call, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def when(self, selector: str, test: str) -> None:
        """Wait until `test`, an expression of `root`, holds for the element of a selector."""
        self.run(
            f"(found) => {{ const root = document.querySelector(found);"
            f" return ({_WHEN})(root, () => {test}); }}",
            selector,
        )

    def click(self, element: str) -> None:
        """Click with the mouse on the element that a JavaScript expression gives."""
        x, y = self.run(f"() => ({_MIDDLE})({element})")
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            button = {"button": "left", "clickCount": 1} if kind != "mouseMoved" else {}
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def type(self, text: str) -> None:
        """Type into the element that has the focus."""
        self.ask("Input.insertText", text=text)

    def allow(self, name: str, setting: str) -> None:
        """Give the page a permission ("granted"), or refuse it ("denied")."""
        self._browser.ask("Browser.setPermission", permission={"name": name}, setting=setting)

    def pasted(self) -> str:
        """The text on the clipboard."""
        self.allow("clipboard-read", "granted")
        return str(self.run("() => navigator.clipboard.readText()"))

    def fonts(self, selector: str) -> dict[str, int]:
        """How many glyphs of an element's own text are drawn from which font."""
        root = self.ask("DOM.getDocument", depth=0)["root"]["nodeId"]
        node = self.ask("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        found = self.ask("CSS.getPlatformFontsForNode", nodeId=node)["fonts"]
        return {font["familyName"]: font["glyphCount"] for font in found}

    def pdf(self) -> bytes:
        """The page as printed."""
        return base64.b64decode(self.ask("Page.printToPDF", printBackground=True)["data"])
