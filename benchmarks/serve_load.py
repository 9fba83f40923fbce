"""How fast `fastmlp serve` answers: a load generator.

    python benchmarks/serve_load.py model.npz

starts a server of a model of images or numbers on this machine, and measures

- single: one request at a time, of one row, as JSON;
- load: many connections, each of which sends the next request once it has the answer to the last;
  every answer is compared with `predict_proba`'s numbers, and the memory of the server is that
  before and after;
- binary: one request of many rows as a binary tensor of the Open Inference Protocol, compared with
  the prediction of the same array in Python, and with the transfer of its bytes and of those of the
  answer by plain sockets, in turns.

Server and generator share the machine, so the rates are those of both together.
"""

import argparse
import asyncio
import json
import re
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit
from urllib.request import urlopen

import numpy as np

import fastmlp

_BODIES = 64  # different rows that are sent
_DATATYPES = {"UINT8": np.uint8, "FP32": np.float32, "FP64": np.float64}


@contextmanager
def server(model, *options):
    """Start a server; yield its host and port."""
    command = [sys.executable, "-m", "fastmlp", "serve", str(model), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        for line in process.stdout:
            if found := re.match(r"http://\S+", line):
                url = urlsplit(found[0])
                yield url.hostname, url.port
                break
    finally:
        process.terminate()
        process.wait()


def some_rows(model, n_rows, seed=0):
    """Return rows such as a model could get; images are mostly black, as digits are."""
    random = np.random.RandomState(seed)
    n_features = model.n_features_in_
    if getattr(model, "metadata_", {}).get("kind") != "images":
        return random.normal(size=(n_rows, n_features)).round(3)
    images = random.randint(0, 256, (n_rows, n_features))
    images[random.uniform(size=images.shape) < 0.81] = 0  # as many as of MNIST
    return images.astype(np.uint8)


def request(name, row):
    """Return a request for the prediction of one row."""
    body = json.dumps({"rows": [row.tolist()]}).encode()
    head = (
        f"POST /models/{quote(name)}/predict HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Client(asyncio.Protocol):
    """A connection that sends requests, one after the other."""

    def __init__(self, load, number):
        self.load, self.number = load, number
        self.received = b""

    def connection_made(self, transport):
        self.transport = transport
        self.send()

    def send(self):
        if self.load.n_left <= 0:
            self.transport.close()
            return
        self.load.n_left -= 1
        self.number = (self.number + 1) % len(self.load.requests)
        self.started = time.perf_counter()
        self.transport.write(self.load.requests[self.number])

    def data_received(self, data):
        self.received += data
        is_right = self.received.endswith(self.load.answers[self.number])
        if not is_right and not _is_whole(self.received):
            return
        self.load.seconds.append(time.perf_counter() - self.started)
        self.load.errors += not (is_right and self.received.startswith(b"HTTP/1.1 200 "))
        self.received = b""
        self.send()

    def connection_lost(self, error):
        self.load.errors += error is not None or bool(self.received)
        self.load.n_open -= 1
        if not self.load.n_open:
            self.load.done.set()


def _is_whole(data):
    """Return whether an answer has arrived, whatever it is."""
    head, separator, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return bool(separator) and (length is None or len(body) >= int(length[1]))


class Load:
    """Many connections at once."""

    def __init__(self, requests, answers, n_requests, n_connections):
        self.requests, self.answers = requests, answers
        self.n_left, self.n_open = n_requests, n_connections
        self.seconds, self.errors = [], 0

    async def run(self, host, port):
        """Send all requests; return how long that took."""
        loop = asyncio.get_running_loop()
        self.done = asyncio.Event()
        started = time.perf_counter()
        for number in range(self.n_open):
            await loop.create_connection(lambda number=number: _Client(self, number), host, port)
        await self.done.wait()
        return time.perf_counter() - started


def answered(host, port, content):
    """Return the body of the answer to a request."""
    with socket.create_connection((host, port)) as connection:
        connection.sendall(content)
        return received(connection)[1]


def received(connection):
    """Return the headers and the body of an answer."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(1 << 16)
    head, _, rest = data.partition(b"\r\n\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    body = bytearray(int(headers[b"content-length"]))
    body[: len(rest)] = rest
    view, at = memoryview(body), len(rest)
    while at < len(body):
        at += connection.recv_into(view[at:])
    return headers, body


def resident_megabytes(host, port):
    """Return the memory of the server, as it says itself."""
    text = urlopen(f"http://{host}:{port}/metrics").read().decode()
    found = re.search(r"^process_resident_memory_bytes (\S+)", text, re.MULTILINE)
    return float("nan") if found is None else float(found[1]) / 2**20  # only on Linux


def check(model, rows, answers):
    """Compare answers with the prediction in Python."""
    for row, answer in zip(rows, answers, strict=True):
        document = json.loads(answer)
        wanted = model.predict(row[np.newaxis])
        if hasattr(model, "predict_proba"):
            wanted = model.predict_proba(row[np.newaxis])
        found = np.array(document.get("probabilities", document["predictions"]))
        assert (found == wanted).all(), "the server predicts something else"


def measure_load(name, model, host, port, n_requests, n_connections):
    """Measure one connection, or many."""
    rows = some_rows(model, _BODIES)
    if rows.dtype != np.uint8:
        rows = rows.astype(model.coefs_[0].dtype)
    requests = [request(name, row) for row in rows]
    answers = [bytes(answered(host, port, content)) for content in requests]
    check(model, rows, answers)
    before = resident_megabytes(host, port)
    load = Load(requests, answers, n_requests, n_connections)
    seconds = asyncio.run(load.run(host, port))
    after = resident_megabytes(host, port)
    p50, p99 = (1e3 * np.percentile(load.seconds, q) for q in (50, 99))
    print(
        f"{n_connections} connection{'s' * (n_connections > 1)}: {len(load.seconds):,} requests, "
        f"{len(load.seconds) / seconds:,.0f}/s, median {p50:.2f} ms, 99% below {p99:.2f} ms, "
        f"longest {1e3 * max(load.seconds):.0f} ms, {load.errors} errors, memory {before:.0f} MB "
        f"before, {after:.0f} MB after"
    )


def measure_binary(name, model, host, port, n_rows, n_times):
    """Measure many rows at once, of each datatype."""
    rows = some_rows(model, n_rows)
    datatypes = _DATATYPES if rows.dtype == np.uint8 else {"FP32": np.float32, "FP64": np.float64}
    with connected(host, port) as connection:
        for datatype, dtype in datatypes.items():
            X = np.ascontiguousarray(rows, dtype)
            wanted = model.predict_proba(X)
            found = [infer(connection, name, X, datatype) for _ in range(3)]
            assert all((proba.reshape(wanted.shape) == wanted).all() for proba in found)
            with plain_socket(X.nbytes, wanted.nbytes) as bare_connection:
                ways = {
                    "bare": lambda X=X: model.predict_proba(X),
                    "transfer": lambda X=X, c=bare_connection, n=wanted.nbytes: transfer(c, X, n),
                    "served": lambda X=X, d=datatype: infer(connection, name, X, d),
                }
                seconds = {way: [] for way in ways}
                for _ in range(n_times):
                    for way, call in ways.items():
                        started = time.perf_counter()
                        call()
                        seconds[way].append(time.perf_counter() - started)
            bare, sent, served = (np.median(seconds[way]) for way in ways)
            print(
                f"{n_rows:,} rows of {datatype}, {X.nbytes / 1e6:.1f} MB: "
                + ", ".join(f"{way} {_quartiles(found)} ms" for way, found in seconds.items())
                + f"; served is {served / bare:.2f} times bare, {served / (bare + sent):.2f} times "
                "bare and transfer"
            )


@contextmanager
def connected(host, port):
    """Open a connection."""
    with socket.create_connection((host, port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


_SINK = """
import socket, sys
n_in, n_out = map(int, sys.argv[1:])
content, answer = memoryview(bytearray(n_in)), bytes(n_out)
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    connection, _ = listener.accept()
    at = 0
    while n := connection.recv_into(content[at:]):
        at += n
        if at == n_in:
            connection.sendall(answer)
            at = 0
"""


@contextmanager
def plain_socket(n_in, n_out):
    """Connect to a process that receives some bytes, and sends others back."""
    command = [sys.executable, "-c", _SINK, str(n_in), str(n_out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with connected("127.0.0.1", int(process.stdout.readline())) as connection:
        yield connection
    process.wait()


def transfer(connection, X, n_bytes):
    """Send an array, and receive some bytes."""
    connection.sendall(X.data.cast("B"))
    answer = memoryview(bytearray(n_bytes))
    at = 0
    while at < n_bytes:
        at += connection.recv_into(answer[at:])


def _quartiles(seconds):
    low, middle, high = 1e3 * np.percentile(seconds, (25, 50, 75))
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def infer(connection, name, X, datatype):
    """Return the probabilities for a binary tensor."""
    document = {
        "inputs": [
            {
                "name": "input",
                "datatype": datatype,
                "shape": X.shape,
                "parameters": {"binary_data_size": X.nbytes},
            }
        ],
        "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}],
    }
    text = json.dumps(document).encode()
    head = (
        f"POST /v2/models/{quote(name)}/infer HTTP/1.1\r\nHost: localhost\r\n"
        f"Inference-Header-Content-Length: {len(text)}\r\nContent-Length: {len(text) + X.nbytes}"
        "\r\n\r\n"
    )
    connection.sendall(head.encode() + text)
    connection.sendall(X.data.cast("B"))
    headers, body = received(connection)
    n_json = int(headers[b"inference-header-content-length"])
    output = json.loads(body[:n_json])["outputs"][0]
    return np.frombuffer(body, _DATATYPES[output["datatype"]], offset=n_json)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, help="a file of a classifier of images or numbers")
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=10_000, help="of the binary tensor")
    parser.add_argument("--times", type=int, default=20, help="that it is sent")
    parser.add_argument("--only", choices=["single", "load", "binary"])
    options = parser.parse_args()
    model, name = fastmlp.load(options.model), options.model.stem
    with server(options.model) as (host, port):
        if options.only in (None, "single"):
            measure_load(name, model, host, port, options.requests // 10, 1)
        if options.only in (None, "load"):
            measure_load(name, model, host, port, options.requests, options.connections)
        if options.only in (None, "binary"):
            measure_binary(name, model, host, port, options.rows, options.times)


if __name__ == "__main__":
    main()
