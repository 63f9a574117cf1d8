"""A headless Chromium, driven over its DevTools protocol: what a page logs, asks for and looks like."""

import base64
import contextlib
import json
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

PATIENCE_S = 60.0


class Tab:
    """One tab. ``console`` holds what the page logged and threw, ``requests`` the URLs it asked for,
    ``dialogs`` what it alerted."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._number, self._session = socket, 0, ""
        self._loaded: set[str] = set()
        self.console: list[str] = []
        self.requests: list[str] = []
        self.dialogs: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its answer."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        self._socket.send(json.dumps(message | ({"sessionId": self._session} if self._session else {})))
        while True:
            answer = json.loads(self._socket.recv(timeout=PATIENCE_S))
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])
            self._heard(answer.get("method", ""), answer.get("params", {}))

    def _heard(self, event: str, parameters: Mapping[str, Any]) -> None:
        if event == "Runtime.consoleAPICalled":
            self.console.append(" ".join(str(part.get("value", part.get("description"))) for part in parameters["args"]))
        elif event == "Runtime.exceptionThrown":
            self.console.append(json.dumps(parameters["exceptionDetails"])[:2000])
        elif event == "Log.entryAdded":
            self.console.append(parameters["entry"]["text"])
        elif event == "Page.javascriptDialogOpening":
            self.dialogs.append(str(parameters["message"]))
        elif event == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif event == "Page.lifecycleEvent" and parameters["name"] == "load":
            self._loaded.add(parameters["loaderId"])

    def look(self, width: int, height: int = 900, dark: bool = False, touch: bool = False) -> None:
        """Set the size of the window, in CSS pixels, and the reader's colour scheme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, file: Path) -> None:
        """Load a file and wait until it has loaded.

        The browser answers before the new document is there: until that one has loaded, a question would still be
        put to the old.
        """
        loader = self.call("Page.navigate", url=file.resolve().as_uri())["loaderId"]
        limit = time.monotonic() + PATIENCE_S
        while not (self.ask("true") and loader in self._loaded):
            if time.monotonic() > limit:
                raise TimeoutError(f"{file.name} had not loaded within {PATIENCE_S:.0f} s; it logged {self.console}")
            time.sleep(0.05)

    @contextlib.contextmanager
    def without_scripts(self) -> Iterator[None]:
        """What is opened here runs no script of its own; ``ask`` works."""
        self.call("Emulation.setScriptExecutionDisabled", value=True)
        try:
            yield
        finally:
            self.call("Emulation.setScriptExecutionDisabled", value=False)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def screenshot(self, whole: bool = True) -> bytes:
        """A PNG of the whole page, or of what the window shows."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(answer["data"])

    def pdf(self) -> bytes:
        """The page as it is printed."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True, paperWidth=8.27, paperHeight=11.69)["data"])


@contextlib.contextmanager
def browser(program: str, folder: Path) -> Iterator[Tab]:
    """The Chromium at ``program`` with a profile of its own in ``folder``; it is gone afterwards."""
    command = [
        program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        assert process.stderr is not None
        found = next((found for line in process.stderr if (found := re.search(r"ws://\S+", line))), None)
        if found is None:
            raise RuntimeError(f"chromium ended with {process.wait()} before it listened")
        with connect(found[0], max_size=None) as socket:
            yield Tab(socket)
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)
