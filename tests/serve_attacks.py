"""Requests that are malformed, hostile or slow, for `fastmlp serve`: a generator, and a command.

    python tests/serve_attacks.py http://127.0.0.1:8000 --model digits --number 1000

sends them, each on a connection of its own, and says how they were answered. The server must answer
each with a 4xx status and a sentence (or as usual, if it is harmless after all), or close the
connection, in time; and a good request after each. It must have a short --receive-seconds, or the
slow ones take long.
"""

import argparse
import asyncio
import gzip
import json
import random
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import quote, urlsplit

#: Seconds to wait before the next part of a request.
Pause = float


@dataclass
class Attack:
    """Parts that are sent one after the other, and whether the connection ends behind them."""

    kind: str
    parts: list[bytes | Pause]
    closes: bool = False


@dataclass
class Answer:
    kind: str
    status: int | None  # None: the connection was closed without an answer
    body: bytes
    seconds: float
    error: str = ""


@dataclass
class Target:
    """A served model."""

    name: str
    n_features: int
    columns: list[str] = field(default_factory=list)  # of tables


# -------------------------------------------------------------------------------------- generating


def attacks(target: Target, number: int, seed: int = 0, slow: int = 10) -> Iterator[Attack]:
    """Yield malformed requests, of each kind about as many; `slow` of them take time."""
    rng = random.Random(seed)
    kinds = [*_BODIES, *_TENSORS, *_HTTP, *_PATHS]
    for i in range(number):
        if i % (number // slow or 1) == 0:
            make = _SLOW[i // (number // slow or 1) % len(_SLOW)]
        else:
            make = kinds[i % len(kinds)]
        attack = make(rng, target)
        attack.kind = attack.kind or make.__name__.strip("_")
        yield attack


def request(
    path: str,
    body: bytes = b"",
    content_type: str | None = "application/json",
    method: str = "POST",
    headers: dict[str, str] | None = None,
) -> bytes:
    """Return a request of HTTP."""
    lines = {"Host": "localhost", "Content-Length": str(len(body))}
    if content_type is not None:
        lines["Content-Type"] = content_type
    lines |= headers or {}
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items())
    return head.encode("latin-1") + b"\r\n" + body


@cache
def bomb() -> bytes:
    """Return a small file of gzip with many bytes in it."""
    return gzip.compress(b"0," * 10_000_000)


@cache
def _compressed(content: bytes) -> bytes:
    return zlib.compress(content)


_ZEROS = bytes(10_000_000)


def _predict_path(rng: random.Random, target: Target) -> str:
    name = quote(target.name)
    return rng.choice(
        [
            f"/predict?model={name}",
            f"/models/{name}/predict",
            f"/models/{name}/explain",
            f"/invocations?model={name}",
            f"/v2/models/{name}/infer",
        ]
    )


def _json(rng: random.Random, target: Target, body: bytes) -> Attack:
    return Attack("", [request(_predict_path(rng, target), body)])


def _row(target: Target) -> list[float]:
    return [0.0] * target.n_features


def deep_json(rng: random.Random, target: Target) -> Attack:
    depth = rng.choice([50, 900, 5_000, 100_000, 1_000_000])
    opening, closing = rng.choice([("[", "]"), ('{"rows":', "}"), ('{"a":[', "]}")])
    closing = closing * depth if rng.random() < 0.5 else ""
    return _json(rng, target, (opening * depth + closing).encode())


def deep_data(rng: random.Random, target: Target) -> Attack:
    depth = rng.choice([3, 100, 400])
    data = "[" * depth + "1" + "]" * depth
    entry = f'{{"name":"input","datatype":"FP32","shape":[1,{target.n_features}],"data":{data}}}'
    return _json(rng, target, f'{{"inputs":[{entry}],"rows":{data}}}'.encode())


def huge_numbers(rng: random.Random, target: Target) -> Attack:
    number = rng.choice(
        ["1e999", "-1e999", "9" * 400, "9" * 5_000, "-" + "9" * 5_000, "1" + "0" * 309, "1e-999"]
        + ["1e308", "1" + "e1" * 3, "0x10", "1_000", "01", "+1", ".5", "1.", "١"]
    )
    row = [number] * max(target.n_features, 1)
    return _json(
        rng, target, f'{{"rows": [[{",".join(row)}]], "instances": [[{number}]]}}'.encode()
    )


def no_numbers(rng: random.Random, target: Target) -> Attack:
    word = rng.choice(["NaN", "Infinity", "-Infinity", "nan", "None", "undefined", "True", "'1'"])
    row = ",".join([word] * max(target.n_features, 1))
    return _json(rng, target, f'{{"rows": [[{row}]], "instances": [[{row}]]}}'.encode())


def wrong_types(rng: random.Random, target: Target) -> Attack:
    value = rng.choice([None, "x", "1", {}, [], [[]], {"a": 1}, "\ud800", "\0", [None]])
    row = _row(target)
    row[rng.randrange(len(row))] = value
    document = {
        "rows": [row],
        "instances": [row],
        "row": dict.fromkeys(target.columns, value),
        "pixels": row,
    }
    if target.columns:
        document["rows"] = [dict.fromkeys(target.columns, value)]
    return _json(rng, target, json.dumps(document).encode())


def wrong_structure(rng: random.Random, target: Target) -> Attack:
    document = rng.choice(
        [None, 1, "text", True, [], {}, [[]], [None], [1, 2], {"rows": None}, {"rows": {}}]
        + [{"rows": "x"}, {"rows": []}, {"rows": [[]]}, {"row": [_row(target)]}, {"inputs": 1}]
        + [{"rows": [_row(target), 5]}, {"rows": [_row(target), {}]}, {"instances": 3}]
        + [{"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}, {"dataframe_split": []}]
        + [{"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}]
        + [{"dataframe_split": {"columns": 5, "data": []}}, {"dataframe_records": {}}]
        + [{"dataframe_records": [1]}, {"inputs": {"a": 1}}, {"inputs": {"a": [1], "b": []}}]
        + [{"instances": [_row(target)], "inputs": [_row(target)]}, {"pixels": None}]
        + [{"pixels": [[0] * target.n_features]}, {"pixels": {}}, {"row": None}, {"row": {}}]
    )
    return _json(rng, target, json.dumps(document).encode())


def wrong_shape(rng: random.Random, target: Target) -> Attack:
    n = rng.choice([0, 1, target.n_features - 1, target.n_features + 1, 10 * target.n_features])
    row = [0.5] * max(n, 0)
    if n == target.n_features:
        row.append(1)
    rows = rng.choice([[row], [_row(target), row], [[row]], [row] * 50])
    return _json(rng, target, json.dumps({"rows": rows, "instances": rows, "pixels": row}).encode())


def many_rows(rng: random.Random, target: Target) -> Attack:
    return _json(rng, target, b'{"rows": [' + b"[]," * 200_000 + b"[]]}")


def duplicate_names(rng: random.Random, target: Target) -> Attack:
    row = json.dumps(_row(target))
    names = "".join(f'"k{i}": 0,' for i in range(rng.choice([0, 10, 50_000])))
    return _json(rng, target, f'{{{names}"rows": [{row}], "rows": [{row}]}}'.encode())


def many_names(rng: random.Random, target: Target) -> Attack:
    names = ",".join(f'"{"n" * rng.randrange(200)}{i}": 0' for i in range(20_000))
    return _json(rng, target, f'{{"rows": [{{{names}}}], "row": {{{names}}}}}'.encode())


def truncated_json(rng: random.Random, target: Target) -> Attack:
    body = json.dumps({"rows": [_row(target)]}).encode()
    return _json(rng, target, body[: rng.randrange(len(body))])


def invalid_text(rng: random.Random, target: Target) -> Attack:
    row = json.dumps({"rows": [_row(target)]})
    body = rng.choice(
        [b"\xff\xfe" + row.encode("utf-16-le"), row.encode("utf-16"), row.encode("utf-32")]
        + [b'{"rows": "\xff\xff"}', b'{"rows\xc3": 1}', b"\xef\xbb\xbf" + row.encode()]
        + [b"\x00" * 100, b'{"rows": "\xed\xa0\x80"}', b'{"ro\x00ws": [[1]]}', b'{"a": "\x01"}']
    )
    return _json(rng, target, body)


def random_bytes(rng: random.Random, target: Target) -> Attack:
    content_type = rng.choice(
        ["application/json", "text/csv", "image/png", "", "application/octet-stream", "a/b", "*/*"]
    )
    body = rng.randbytes(rng.choice([1, 10, 1000, 100_000]))
    return Attack("", [request(_predict_path(rng, target), body, content_type)])


def wrong_csv(rng: random.Random, target: Target) -> Attack:
    body = rng.choice(
        [b"", b"\n\n\n", b"a,b\n", b"1,2\n1\n", b"a,b\n1,2,3\n", b"a,a\n1,2\n", b'"', b'a\n"b']
        + [b"\0\0\0", b"," * 100_000, b"a," * 20_000 + b"\n" + b"1," * 20_000, b"x" * 1_000_000]
        + [b"a\n" * 200_000, bomb(), b"PK\x03\x04" + bytes(100)]
        + [b"PAR1" + bytes(100) + b"PAR1", b"\x93NUMPY" + bytes(100), b"BZh9" + bytes(50)]
        + [b'{"a": 1}\n', b"<html></html>", b"\xff\xfea\0,\0b\0", b"nan,inf\n", b"1;2;3\n4;5\n"]
        + [b"(" * 100_000, b"\xff\xff\xff\xff" + bytes(50), b"ARROW1" + bytes(50), b"=1+1\n=1\n"]
        + [b" " * 300_000, b"a b  c\n" * 1000, b"1e999\n" * 5, b'"""' * 10_000]
    )
    return Attack("", [request(_predict_path(rng, target), body, "text/csv")])


def wrong_picture(rng: random.Random, target: Target) -> Attack:
    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    def png(width: int, height: int, content: bytes = b"", depth: int = 8, color: int = 0) -> bytes:
        header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
        pixels = chunk(b"IDAT", _compressed(content))
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")

    text = chunk(b"zTXt", b"a\0\0" + _compressed(5 * _ZEROS))
    body = rng.choice(
        [png(60_000, 60_000), png(2**31 - 1, 2**31 - 1), png(9_000, 9_000), png(0, 0), png(1, 0)]
        + [png(28, 28), png(28, 28, bytes(100)), png(28, 28, _ZEROS), png(5, 5, b"", 3, 9)]
        + [png(1, 1, b"\0\0")[:-20], png(1, 1, b"\0\0")[:33] + text, b"\x89PNG", b"", b"GIF89a"]
        + [b"\xff\xd8\xff\xe0" + rng.randbytes(500), b"BM" + rng.randbytes(100), b"P5 9 9 255\n"]
        + [b"P6 99999999 99999999 255\n", b"RIFF\xff\xff\xff\xffWEBPVP8 ", b"II*\0" + bytes(8)]
        + [b"MM\0*\0\0\0\x08" + rng.randbytes(200), b"<svg xmlns='http://www.w3.org/2000/svg'/>"]
        + [b"%!PS\n/x 1 def", b"%PDF-1.4"]
    )
    kind = rng.choice(["image/png", "image/jpeg", "image/gif", "image/svg+xml", ""])
    return Attack("", [request(_predict_path(rng, target), body, kind)])


def wrong_kind(rng: random.Random, target: Target) -> Attack:
    kind = rng.choice(
        ["multipart/form-data; boundary=x", "application/xml", "x" * 1000, "application/json;" * 50]
        + ["application/json; charset=utf-16", "text/plain", ";;;", "image/", "\x80\xff"]
    )
    body = b'--x\r\nContent-Disposition: form-data; name="f"\r\n\r\n1\r\n--x--\r\n'
    return Attack("", [request(_predict_path(rng, target), body, kind)])


def encoded_body(rng: random.Random, target: Target) -> Attack:
    encoding = rng.choice(["gzip", "deflate", "br", "gzip, gzip", "x" * 300, ""])
    body = bomb()
    headers = {"Content-Encoding": encoding}
    return Attack("", [request(_predict_path(rng, target), body, headers=headers)])


_BODIES: list[Callable[[random.Random, Target], Attack]] = [
    deep_json, deep_data, huge_numbers, no_numbers, wrong_types, wrong_structure, wrong_shape,
    many_rows, duplicate_names, many_names, truncated_json, invalid_text, random_bytes, wrong_csv,
    wrong_picture, wrong_kind, encoded_body,
]  # fmt: skip


# ------------------------------------------------------------------ of the Open Inference Protocol


def _tensor(target: Target, **changes: object) -> dict[str, object]:
    n = target.n_features
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, n], "data": [0.0] * n}
    return {name: value for name, value in (tensor | changes).items() if value is not ...}


def _infer(
    target: Target, document: object, behind: bytes = b"", length: str | None = None
) -> Attack:
    head = json.dumps(document).encode() if not isinstance(document, bytes) else document
    headers = {"Inference-Header-Content-Length": str(len(head)) if length is None else length}
    path = f"/v2/models/{quote(target.name)}/infer"
    return Attack("", [request(path, head + behind, "application/octet-stream", headers=headers)])


def wrong_tensor(rng: random.Random, target: Target) -> Attack:
    n = target.n_features
    changes: dict[str, object] = rng.choice(
        [{"shape": shape} for shape in ([], [-1, n], [n], [2, n], [1, n + 1], "x", None, [1.0, n])]
        + [{"shape": shape} for shape in ([2**70, n], [1] * 40, [True, n], [0, n], [1, n, 0], ...)]
        + [
            {"datatype": t}
            for t in ("FP8", "", None, 5, "fp32", "BYTES", "BOOL", "UINT8;", [], ...)
        ]
        + [{"name": name} for name in ("", "nope", None, 5, "x" * 10_000, "input\0", ...)]
        + [{"data": d} for d in ([], None, "x", {}, [[0.0] * n] * 2, [None] * n, ["0"] * n, ...)]
        + [{"data": [[0.0]] * n + [1]}, {"data": [1e39] * n}, {"data": [0.0] * n * 1000}]
        + [{"datatype": "UINT8", "data": [v] * n} for v in (-1, 256, 0.5, 1e300, None)]
        + [{"datatype": "INT64", "data": [v] * n} for v in (2**63, 0.5, "1", 10**400)]
        + [{"parameters": p} for p in (5, [], {"shared_memory_region": "r"})]
        + [{"parameters": {"binary_data_size": s}} for s in (-1, 1.5, "4", None, True, 10**30)]
    )
    return _infer(target, {"inputs": [_tensor(target, **changes)]})


def wrong_tensors(rng: random.Random, target: Target) -> Attack:
    good = _tensor(target)
    document = rng.choice(
        [None, 5, [], {}, {"inputs": None}, {"inputs": {}}, {"inputs": [5]}, {"inputs": []}]
        + [{"inputs": [good, good]}, {"inputs": [good], "outputs": 5}, {"inputs": [good] * 1000}]
        + [{"inputs": [good], "outputs": [{"name": name}]} for name in ("nope", None, 5, "x" * 999)]
        + [{"inputs": [good], "outputs": [5]}, {"inputs": [good], "id": 5}, {"id": "x" * 10**5}]
        + [{"inputs": [good], "parameters": 5}, {"inputs": [good], "parameters": [1]}]
        + [{"inputs": [good], "outputs": [{"name": "label", "parameters": {"classification": 3}}]}]
    )
    return _infer(target, document)


def wrong_bytes(rng: random.Random, target: Target) -> Attack:
    n = target.n_features
    bytes_ = struct.pack(f"<{n}f", *[rng.choice([float("nan"), float("inf"), 1e30])] * n)
    size = rng.choice([4 * n, 4 * n - 1, 0, 8 * n, 10**12])
    datatype = rng.choice(["FP32", "FP64", "UINT8", "BYTES", "BOOL", "BF16", "FP16"])
    tensor = _tensor(target, data=..., datatype=datatype, parameters={"binary_data_size": size})
    behind = rng.choice([bytes_, bytes_[:-1], b"", bytes_ * 2, rng.randbytes(4 * n)])
    return _infer(target, {"inputs": [tensor]}, behind)


def wrong_texts(rng: random.Random, target: Target) -> Attack:
    behind = rng.choice(
        [b"\xff\xff\xff\xff", b"\x05\0\0\0ab", b"\x01\0\0", b"\x01\0\0\0\xff", b"\0\0\0\0" * 1000]
    )
    shape = [rng.choice([1, 2, 1000, 2**39])]
    parameters = {"binary_data_size": len(behind)}
    name = target.columns[0] if target.columns else "input"
    tensor = {"name": name, "datatype": "BYTES", "shape": shape, "parameters": parameters}
    return _infer(target, {"inputs": [tensor]}, behind)


def wrong_json_length(rng: random.Random, target: Target) -> Attack:
    length = rng.choice(
        ["-1", "x", "", "1e3", "99999999999999999999", "0", "3", "1.5", "\xb2", "+5"]
    )
    return _infer(target, {"inputs": [_tensor(target)]}, b"\0" * 100, length)


def large_and_wrong(rng: random.Random, target: Target) -> Attack:
    """A body that is large enough to be received into an array, and predicted in parts."""
    n = target.n_features
    n_rows = -(-(1 << 20) // (4 * n))
    value = rng.choice([b"\0\0\xc0\x7f", b"\0\0\x80\x7f"])  # NaN, infinity
    content = bytes(4 * n * (n_rows - 1)) + value * n
    n_said = rng.choice([n_rows, n_rows + 1, n_rows - 1, 10**9])
    size = rng.choice([len(content), len(content), len(content) + 1, 0])
    datatype = rng.choice(["FP32", "FP32", "FP64", "BYTES", "BF16"])
    parameters = {"binary_data_size": size}
    shape = [n_said, n]
    tensor = _tensor(target, data=..., datatype=datatype, shape=shape, parameters=parameters)
    attack = _infer(target, {"inputs": [tensor]}, content)
    if rng.random() < 0.3:  # half of it
        assert isinstance(attack.parts[0], bytes)
        attack.parts[0] = attack.parts[0][: len(content) // 2]
        attack.closes = True
    return attack


_TENSORS = [
    wrong_tensor, wrong_tensors, wrong_bytes, wrong_texts, wrong_json_length, large_and_wrong,
]  # fmt: skip


# ---------------------------------------------------------------------------------------- of HTTP


def no_http(rng: random.Random, target: Target) -> Attack:
    content = rng.choice(
        [b"\r\n\r\n", b"GET\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 1000]
        + [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(100), b"hello\r\n\r\n"]
        + [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\nHost: x\n\n", b"\n" * 1000]
        + [b"POST /predict HTTP/1.1\r\n\r\n", b"GET  /  HTTP/1.1\r\n\r\n", rng.randbytes(5000)]
        + [b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n", b"* / HTTP/1.1\r\n\r\n"]
        + [b"GET http://evil.test/ HTTP/1.1\r\nHost: localhost\r\n\r\n", b"A" * 200_000]
        + [b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n"]
        + [b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n"]
    )
    return Attack("", [content], closes=True)


def wrong_length(rng: random.Random, target: Target) -> Attack:
    value = rng.choice(
        ["-1", "x", "", "1e3", "99999999999999999999999", "0x10", "+5", "1, 2", "5.0", " ", "\xb2"]
        + ["18446744073709551615", str(10**10)]
    )
    head = request("/predict", headers={"Content-Length": value})
    return Attack("", [head + b"[[1]]"], closes=True)


def wrong_framing(rng: random.Random, target: Target) -> Attack:
    extra, body = rng.choice(
        [("Transfer-Encoding: chunked\r\nContent-Length: 5", b"0\r\n\r\n")]
        + [("Content-Length: 5\r\nContent-Length: 6", b"[[1]]")]
        + [("Transfer-Encoding: x", b"[[1]]"), ("Transfer-Encoding: chunked, x", b"[[1]]")]
        + [
            ("Transfer-Encoding: chunked", b)
            for b in (b"zz\r\n", b"-1\r\n", b"5\r\nabcdeX", b"\r\n")
        ]
        + [("Transfer-Encoding: chunked", b"ffffffffffffffffff\r\n")]
        + [("Transfer-Encoding: chunked", b"1;" + b"x" * 100_000 + b"\r\n[\r\n0\r\n\r\n")]
        + [("Transfer-Encoding: chunked", b"1\r\n[\r\n" * 3000 + b"0\r\n\r\n")]
        + [("Transfer-Encoding: chunked", b"1\r\n[\r\n0\r\n" + b"T: x\r\n" * 20_000 + b"\r\n")]
    )
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\n{extra}\r\n\r\n".encode()
    return Attack("", [head + body], closes=True)


def wrong_headers(rng: random.Random, target: Target) -> Attack:
    lines = rng.choice(
        [b"X: " + b"a" * 200_000, b"X" * 100_000 + b": 1", b"\r\n".join([b"A: b"] * 20_000)]
        + [
            b"X: a\r\n b",
            b"X : 1",
            b": 1",
            b"X: \0",
            b"X\0: 1",
            b"X: \xff\xff",
            b"X",
            b"X: a\nb: c",
        ]
        + [b"Host: evil.test", b"Host: ", b"Host: [", b"Host: localhost@evil.test", b"Host: a b"]
        + [
            b"Origin: http://evil.test",
            b"Expect: 100-continue",
            b"Expect: x",
            b"Accept: " + b"q" * 9999,
        ]
        + [b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x", b"Range: bytes=0-"]
        + [b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAA"]
        + [b"Authorization: Bearer " + b"x" * 5000, b"Cookie: " + b"a=b;" * 5000]
    )
    host = b"" if lines.startswith(b"Host") else b"Host: localhost\r\n"
    head = b"POST /predict HTTP/1.1\r\n" + host + lines + b"\r\nContent-Length: 2\r\n\r\n[]"
    return Attack("", [head])


def wrong_method(rng: random.Random, target: Target) -> Attack:
    method = rng.choice(["TRACE", "PUT", "DELETE", "PATCH", "BREW", "get", "OPTIONS", "PROPFIND"])
    path = rng.choice([_predict_path(rng, target), "/", "/metrics", "/models", "/v2"])
    return Attack("", [request(path, b"[]", method=method)])


def pipelined(rng: random.Random, target: Target) -> Attack:
    one = request(_predict_path(rng, target), b"[[]]")
    return Attack("", [one * rng.choice([2, 10, 500])])


_HTTP = [no_http, wrong_length, wrong_framing, wrong_headers, wrong_method, pipelined]


def wrong_path(rng: random.Random, target: Target) -> Attack:
    up = rng.choice(
        ["../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%5c", "..\\", "....//", "%252e%252e/"]
    )
    base = rng.choice(["/", "/models/", "/v2/models/", "/models/x/units/", "//", "/static/"])
    end = rng.choice(["etc/passwd", "etc/passwd%00", "proc/self/environ", "app.py", ".git/config"])
    return Attack("", [request(base + up * rng.randrange(1, 9) + end, method="GET")])


def wrong_name(rng: random.Random, target: Target) -> Attack:
    name = rng.choice(
        ["", ".", "..", "%00", "%ff", "%", "%zz", "a%2fb", "x" * 5_000, "%0d%0aX:1", "💥", "a b"]
        + [f"{target.name}.npz", f"{target.name}%00", f"{target.name}/", f"{target.name}%2e%2e"]
        + ["'; DROP TABLE models", "{{7*7}}", "<script>", "${x}", "%25s%25n", "con", "-1"]
    )
    path = rng.choice(
        ["/models/{}", "/models/{}/predict", "/v2/models/{}/infer", "/predict?model={}"]
        + [
            "/invocations?model={}",
            "/models/{}/explain",
            "/v2/models/{}/versions/1",
            "/{}",
            "/docs{}",
        ]
        + [f"/models/{quote(target.name)}/units/{{}}", "/v2/models/x/versions/{}/ready"]
        + [f"/v2/models/{quote(target.name)}/versions/{{}}/infer"]
    )
    path = quote(path.format(name), safe="/?=%&;:'<>{}$.*-_")
    method = "POST" if path.endswith(("predict", "infer", "explain")) or "?" in path else "GET"
    return Attack("", [request(path, b'{"rows": []}', method=method)])


_PATHS = [wrong_path, wrong_name]


# ------------------------------------------------------------------------------------ half and slow


def half_a_head(rng: random.Random, target: Target) -> Attack:
    head = request("/predict", b"[]")
    return Attack("", [head[: rng.randrange(1, 40)]], closes=rng.random() < 0.3)


def half_a_body(rng: random.Random, target: Target) -> Attack:
    n_bytes = rng.choice([100, 10_000, 1_000_000])
    whole = request("/predict", b" " * n_bytes)
    return Attack("", [whole[: len(whole) - n_bytes // 2]], closes=rng.random() < 0.3)


def slow_head(rng: random.Random, target: Target) -> Attack:
    parts: list[bytes | Pause] = [b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"]
    for i in range(200):
        parts += [0.1, f"X-{i}: 1\r\n".encode()]
    return Attack("", parts)


def slow_body(rng: random.Random, target: Target) -> Attack:
    parts: list[bytes | Pause] = [request("/predict", headers={"Content-Length": "1000"})]
    for _ in range(200):
        parts += [0.1, b" "]
    return Attack("", parts)


def slow_chunks(rng: random.Random, target: Target) -> Attack:
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    parts: list[bytes | Pause] = [head]
    for _ in range(200):
        parts += [0.1, b"1\r\n \r\n"]
    return Attack("", parts)


def slow_newlines(rng: random.Random, target: Target) -> Attack:
    parts: list[bytes | Pause] = []
    for _ in range(200):
        parts += [b"\r\n", 0.1]
    return Attack("", parts)


def slow_large_body(rng: random.Random, target: Target) -> Attack:
    parts: list[bytes | Pause] = [request("/predict", headers={"Content-Length": "1000000"})]
    for _ in range(200):
        parts += [0.1, b" " * 100]
    return Attack("", parts)


def nothing(rng: random.Random, target: Target) -> Attack:
    return Attack("", [])


_SLOW = [
    half_a_head, half_a_body, slow_head, slow_body, slow_chunks, slow_newlines, slow_large_body,
    nothing,
]  # fmt: skip


# ---------------------------------------------------------------------------------------- sending


async def send(host: str, port: int, attack: Attack, timeout: float) -> Answer:
    """Send an attack, and return how it was answered; its error is "hang" if it was not in time."""
    started = time.perf_counter()
    received = bytearray()
    error = ""
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                sending = asyncio.create_task(_send_parts(writer, attack))
                while not _is_answered(received) and (part := await reader.read(65536)):
                    received += part
                sending.cancel()
            finally:
                writer.close()
    except TimeoutError:
        error = "hang"
    except ConnectionError:  # the server has closed before it was sent everything
        pass
    status, body = _parsed(bytes(received))
    return Answer(attack.kind, status, body, time.perf_counter() - started, error)


async def _send_parts(writer: asyncio.StreamWriter, attack: Attack) -> None:
    try:
        for part in attack.parts:
            if isinstance(part, bytes):
                writer.write(part)
                await writer.drain()
            else:
                await asyncio.sleep(part)
        if attack.closes:
            writer.write_eof()
    except (ConnectionError, OSError):
        pass


def _is_answered(received: bytes) -> bool:
    status, body = _parsed(bytes(received))
    return status is not None and body is not None


def _parsed(received: bytes) -> tuple[int | None, bytes]:
    """Return the status and the body of the first answer; the body is None if it is not whole."""
    while received.startswith(b"HTTP/1.1 100"):
        received = received.partition(b"\r\n\r\n")[2]
    head, separator, rest = received.partition(b"\r\n\r\n")
    if not separator:
        return None, b""
    status = int(head.split(b" ", 2)[1])
    lengths = [
        int(line.partition(b":")[2])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length")
    ]
    if not lengths or len(rest) < lengths[0]:
        return status, None  # type: ignore[return-value]
    return status, rest[: lengths[0]]


async def send_all(
    host: str,
    port: int,
    found: Iterator[Attack],
    *,
    timeout: float,
    at_once: int = 8,
    check: Callable[[], object] | None = None,
) -> list[Answer]:
    """Send attacks, several at a time, and call `check` after each."""
    answers: list[Answer] = []

    async def work() -> None:
        for attack in found:
            answers.append(await send(host, port, attack, timeout))
            if check is not None:
                await asyncio.to_thread(check)

    await asyncio.gather(*(work() for _ in range(at_once)))
    return answers


def faults(answers: list[Answer]) -> list[str]:
    """Return what is wrong with answers."""
    found = []
    for answer in answers:
        if answer.error:
            found.append(f"{answer.kind}: {answer.error} after {answer.seconds:.1f} s")
        elif answer.status is not None and answer.status >= 500:
            found.append(f"{answer.kind}: {answer.status} {answer.body[:200]!r}")
        elif answer.status is not None and answer.status >= 400 and not _is_sentence(answer.body):
            found.append(
                f"{answer.kind}: {answer.status} without a sentence: {answer.body[:200]!r}"
            )
    return found


def _is_sentence(body: bytes | None) -> bool:
    try:
        sentence = json.loads(body or b"")["error"]
    except (ValueError, KeyError, TypeError):
        return False
    return isinstance(sentence, str) and sentence.endswith((".", "?")) and len(sentence) < 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("url")
    parser.add_argument("--model", required=True)
    parser.add_argument("--features", type=int, default=784)
    parser.add_argument("--columns", nargs="*", default=[])
    parser.add_argument("--number", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=60)
    options = parser.parse_args()
    url = urlsplit(options.url)
    target = Target(options.model, options.features, options.columns)
    made = attacks(target, options.number, options.seed)
    started = time.perf_counter()
    answers = asyncio.run(
        send_all(url.hostname or "", url.port or 80, made, timeout=options.timeout)
    )
    for kind in sorted({answer.kind for answer in answers}):
        statuses = Counter(str(answer.status) for answer in answers if answer.kind == kind)
        slowest = max(answer.seconds for answer in answers if answer.kind == kind)
        sys.stdout.write(f"{kind:18} {slowest:5.1f} s  {dict(statuses)}\n")
    wrong = faults(answers)
    seconds = time.perf_counter() - started
    lines = [*wrong, f"{len(answers)} in {seconds:.1f} s, {len(wrong)} faults"]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
