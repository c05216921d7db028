"""A headless Chromium, spoken to through pipes: what a page logs, asks the network for, and answers."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def chromium():
    """The path of a Chromium; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One tab.

    Attributes:
        events: What the browser has told, in its order: (method, parameters).
    """

    def __init__(self, folder):
        pipes = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (*os.pipe(), *os.pipe())]
        ours, theirs = (pipes[2], pipes[1]), (pipes[0], pipes[3])
        options = [
            "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-background-networking",
            "--no-first-run", f"--user-data-dir={folder}", "--remote-debugging-pipe",
        ]  # fmt: skip

        def connect():  # it reads from 3 and writes to 4
            os.dup2(theirs[0], 3)
            os.dup2(theirs[1], 4)

        self.process = subprocess.Popen(
            [chromium(), *options], preexec_fn=connect, close_fds=False, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for end in theirs:
            os.close(end)
        self.out, self.into = ours
        self.number, self.events, self.unread, self.session = 0, [], b"", None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method, **params):
        """The result of a command."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.into, json.dumps(message).encode() + b"\0")
        while (answer := self.read()).get("id") != self.number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def read(self, seconds=120):
        """The next message; events are kept."""
        until = time.monotonic() + seconds
        while b"\0" not in self.unread:
            ready, _, _ = select.select([self.out], [], [], max(0, until - time.monotonic()))
            content = os.read(self.out, 2**20) if ready else b""
            assert content, "the browser says nothing more"
            self.unread += content
        line, _, self.unread = self.unread.partition(b"\0")
        message = json.loads(line)
        if "method" in message:
            self.events.append((message["method"], message["params"]))
        return message

    def open(self, url):
        """Loads a page, to its end."""
        self.events.clear()
        self.ask("Page.navigate", url=url)
        while "Page.loadEventFired" not in [method for method, _ in self.events]:
            self.read()

    def evaluate(self, script):
        """The value of an expression in the page."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def complaints(self):
        """What the page has complained about: errors, and what its own rules forbade."""
        found = [p for m, p in self.events if m == "Runtime.exceptionThrown"]
        found += [p for m, p in self.events if m == "Log.entryAdded" and p["entry"]["level"] in ("error", "warning")]
        found += [p for m, p in self.events if m == "Runtime.consoleAPICalled"]
        return found

    def requests(self):
        """What the page has asked for, beside what it brings itself."""
        urls = [p["request"]["url"] for m, p in self.events if m == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith("data:")]

    def close(self):
        """Ends the browser."""
        os.write(self.into, json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.into)
        os.close(self.out)
