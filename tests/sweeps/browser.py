"""A real browser without a window: Debian's chromium, driven by chromedriver over its plain HTTP protocol."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Browser", "missing", "open_browser"]

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,900"),
)

#: Seconds that a busy machine may take for one answer.
_PATIENCE = 120


def missing() -> str:
    """What there is too little of to open a browser; empty where all is there."""
    lacking = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"not installed: {', '.join(lacking)} (apt-get install chromium chromium-driver)" if lacking else ""


class Browser:
    """One window.

    Args:
        address: of chromedriver, without the session.
        flags: more of them for the browser.
    """

    def __init__(self, address: str, profile: Path, flags: tuple[str, ...] = ()) -> None:
        options = {"binary": shutil.which("chromium"), "args": [*_FLAGS, f"--user-data-dir={profile}", *flags]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        self._address = f"{address}/session"
        self._address += f"/{self._ask('', {'capabilities': {'alwaysMatch': wanted}})['sessionId']}"
        self._ask("/timeouts", {"script": 1000 * _PATIENCE})
        self._ask("/url", {"url": "about:blank"})
        self.requests()  # those of the browser's own first page

    def open(self, page: Path) -> None:
        """Open a file and wait until its script is through."""
        self._ask("/url", {"url": page.absolute().as_uri()})
        wait = """
            const done = arguments[arguments.length - 1];
            const look = () => document.documentElement.dataset.state === "ready" ? done(true) : setTimeout(look, 20);
            look();"""
        self._ask("/execute/async", {"script": wait, "args": []})

    def run(self, script: str) -> Any:
        """Run a script in the page; what it returns."""
        return self._ask("/execute/sync", {"script": script, "args": []})

    def devtools(self, command: str, **parameters: Any) -> Any:
        """Send a command of the browser's development tools."""
        return self._ask("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def console(self) -> list[str]:
        """Messages of the console since the last call."""
        return [entry["message"] for entry in self._ask("/se/log", {"type": "browser"})]

    def requests(self) -> list[str]:
        """What was fetched since the last call: files, and anything over a network.

        Pictures within the page are none, nor is what the page's own policy stopped (the console tells of that).
        """
        events = [json.loads(entry["message"])["message"] for entry in self._ask("/se/log", {"type": "performance"})]
        asked = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        failed = [event["params"] for event in events if event["method"] == "Network.loadingFailed"]
        stopped = {each["requestId"] for each in failed if each.get("blockedReason") == "csp"}
        fetched = [each["request"]["url"] for each in asked if each["requestId"] not in stopped]
        return [address for address in fetched if not address.startswith(("data:", "blob:"))]

    def screenshot(self, path: Path, height: int | None = None, width: int = 1280) -> None:
        """Take a picture of the whole page, or of so many pixels of its top."""
        height = height or self.run("return document.documentElement.scrollHeight")
        area = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        taken = self.devtools("Page.captureScreenshot", captureBeyondViewport=True, clip=area)
        path.write_bytes(base64.b64decode(taken["data"]))

    def close(self) -> None:
        """Close the window and end the browser."""
        request = urllib.request.Request(self._address, method="DELETE")
        urllib.request.urlopen(request, timeout=_PATIENCE).close()

    def _ask(self, what: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"{self._address}{what}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"chromedriver: {error.read().decode()[:2000]}") from error


@contextmanager
def open_browser(*flags: str) -> Iterator[Browser]:
    """A browser with a profile of its own, gone afterwards."""
    # Proxies of the environment are for the world outside; the driver is on this machine.
    local = {**os.environ, "no_proxy": "127.0.0.1,localhost", "NO_PROXY": "127.0.0.1,localhost"}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        driver = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=local
        )
        try:
            assert driver.stdout is not None
            port = next(found[1] for line in driver.stdout if (found := re.search(r"successfully on port (\d+)", line)))
            browser = Browser(f"http://127.0.0.1:{port}", Path(profile), flags)
            try:
                yield browser
            finally:
                browser.close()
        finally:
            driver.terminate()
            driver.wait(timeout=_PATIENCE)
            if driver.stdout is not None:
                driver.stdout.close()
