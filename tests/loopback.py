"""A server on the loopback address in a thread of the test's own process, and clients for it."""

import contextlib
import http.client
import json
import threading
import time

import uvicorn

from tta.serving.app import make_app
from tta.serving.shutdown import bind

TOKEN = "a token for the tests 0123456789"


@contextlib.contextmanager
def serving(served, limits=None, token=TOKEN):
    """The port of a server that runs as long as the block."""
    app, bound = make_app(served, limits, token), bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=10))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    until = time.monotonic() + 60
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < until
        time.sleep(0.01)
    try:
        yield bound.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def ask(port, method, path, body=None, headers=None, connection=None):
    """Status, JSON (or text) and headers of an answer."""
    own = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    own.request(method, path, body, headers or {})
    response = own.getresponse()
    content = response.read()
    if connection is None:
        own.close()
    json_came = response.headers.get_content_type() == "application/json"
    return response.status, json.loads(content) if json_came else content.decode(), dict(response.headers)


def predict(port, body, kind="", connection=None):
    """The answer to an image; the request must succeed."""
    headers = {"Content-Type": kind} if kind else {}
    status, answer, _ = ask(port, "POST", "/predict", body, headers, connection)
    assert status == 200, answer
    return answer


def operate(port, path, values=None, token=TOKEN, method="POST"):
    """Status and JSON of an admin route."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return ask(port, method, path, None if values is None else json.dumps(values), headers)[:2]


def crowd(port, clients, bodies, requests):
    """All answers to what so many clients have asked at the same time, and the exceptions they met."""
    answers, failures = [], []

    def run(number):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            for k in range(requests):
                which = (number * requests + k) % len(bodies)
                answers.append((which, *ask(port, "POST", "/predict", bodies[which], connection=connection)))
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return answers, failures
