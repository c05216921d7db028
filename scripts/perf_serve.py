"""How fast `tta serve` answers many clients, and whether every request gets one answer: a table of methods.

The server is a process of its own, with the embedded digits; each client keeps one connection and asks for the next
corrupted image as soon as it has its answer (a closed loop: with more clients the latency grows, not the rate). One
more client asks for one and the same image all the time. It teaches nothing, as it is a repeated one, so its answers
tell whether a version always says the same: with batch statistics they also depend on who is answered with it.
"""

import argparse
import contextlib
import http.client
import io
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import tta
from tta.datasets import Corrupted

CORRUPTIONS = ("gaussian_noise", "fog", "motion_blur", "contrast", "jpeg_compression")


def pictures() -> list[bytes]:
    """Corrupted digits as PNG; more than the guard remembers to tell repeated ones."""
    data, files = tta.load_data("digits"), []
    for name in CORRUPTIONS:
        for image in Corrupted(data, name, 3).images(slice(None)):
            file = io.BytesIO()
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "PNG")
            files.append(file.getvalue())
    return files


@contextlib.contextmanager
def server(words: list[str]) -> Iterator[tuple[int, int]]:
    """A server with these options; its port and its process."""
    command = [sys.executable, "-m", "tta", "serve", "--port", "0", *words]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.match(r"http://[^ ]+:(\d+) ", line)
        if match is None:
            sys.exit("the server has not started")
        try:
            yield int(match[1]), process.pid
        finally:
            process.terminate()
    if process.returncode != 0:
        sys.exit(f"the server ended with {process.returncode}")


def cpu(process: int) -> float:
    """Seconds of a process on the CPU, whatever else the machine does; nan where that is not told."""
    stat = Path(f"/proc/{process}/stat")
    if not stat.exists():
        return math.nan
    user, system = stat.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


class Client(threading.Thread):
    """Asks one request after another; what it sent and got."""

    def __init__(self, port: int, bodies: list[bytes], until: float) -> None:
        super().__init__()
        self.port, self.bodies, self.until = port, bodies, until
        self.sent, self.seconds, self.answers = 0, list[float](), list[tuple[int, dict[str, Any]]]()

    def run(self) -> None:
        """Until its time is over."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while time.monotonic() < self.until:
            body = self.bodies[self.sent % len(self.bodies)]
            self.sent += 1
            started = time.perf_counter()
            connection.request("POST", "/predict", body, {"Content-Type": "image/png"})
            response = connection.getresponse()
            self.answers.append((response.status, json.loads(response.read())))
            self.seconds.append(time.perf_counter() - started)
        connection.close()


def measure(words: list[str], files: list[bytes], clients: int, seconds: float) -> dict[str, Any]:
    """One server under load."""
    with server(words) as (port, process):
        before, until = cpu(process), time.monotonic() + seconds
        crowd = [Client(port, files[number::clients], until) for number in range(clients)]
        probe = Client(port, files[:1], until)
        for each in (*crowd, probe):
            each.start()
        for each in (*crowd, probe):
            each.join()
        spent = cpu(process) - before
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/metrics")
        numbers = dict(line.rsplit(" ", 1) for line in connection.getresponse().read().decode().splitlines())
        connection.close()
    everyone = [*crowd, probe]
    given = [answer for each in everyone for status, answer in each.answers if status == 200]
    said = defaultdict(list)
    for _, answer in probe.answers:
        said[answer.get("version"), answer.get("by_adapter")].append(answer.get("probability", 0.0))
    taken = 1000 * np.array([s for each in everyone for s in each.seconds])
    sent, answered = sum(each.sent for each in everyone), sum(len(each.answers) for each in everyone)
    return {
        "requests": sent, "lost": sent - answered,
        "refused": answered - len(given), "twice": len(given) - len({answer["id"] for answer in given}),
        "per_second": len(given) / seconds,
        **{f"p{q}_ms": float(np.percentile(taken, q)) for q in (50, 90, 99)}, "max_ms": float(taken.max()),
        "cpu_ms": 1000 * spent / answered,
        "per_batch": float(numbers["tta_http_batch_images_sum"]) / float(numbers["tta_http_batch_images_count"]),
        "versions": len({answer["version"] for answer in given}),
        "by_adapter": 100 * Counter(answer["by_adapter"] for answer in given)[True] / max(1, len(given)),
        "probe_spread": max(max(values) - min(values) for values in said.values()),
    }  # fmt: skip


def main() -> None:
    """Measures each method and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["source", "rotta", "tent"])
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="more options of tta serve, at the end")
    parser.add_argument("--out", type=Path, help="file to which each row is added as a JSON line")
    options = parser.parse_args()
    files = pictures()
    sys.stdout.write(f"torch {torch.__version__.split('+')[0]}, {os.cpu_count()} cores, {options.clients} clients\n")
    for name in options.methods:
        for more in ([], ["--background"]):
            with tempfile.TemporaryDirectory() as folder:
                words = ["--method", name, "--folder", folder, *more, *options.options]
                row = {"method": name, "options": " ".join([*more, *options.options])}
                row |= measure(words, files, options.clients, options.seconds)
            row = {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
            sys.stdout.write(json.dumps(row) + "\n")
            sys.stdout.flush()
            if options.out is not None:
                with options.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
