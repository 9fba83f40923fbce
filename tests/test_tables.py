"""Tables: read from files of any format, described, and learned from."""

import bz2
import gzip
import io
import os
import pickle
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
import sklearn
from scipy.sparse import csr_matrix, issparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

pd = pytest.importorskip("pandas", reason="tables need pandas: fastmlp[tables]")
pa = pytest.importorskip("pyarrow", reason="tables need pyarrow: fastmlp[tables]")

from fastmlp.exceptions import TableWarning  # noqa: E402
from fastmlp.tables import (  # noqa: E402
    RobustSmoothScaler,
    TableColumns,
    TableOneHotEncoder,
    columns,
    describe,
    find_target,
    find_task,
    make_table_pipeline,
    read_table,
    take_target,
)


def read(content, encoding="utf-8"):
    """Read a table from bytes or text; a warning is an error, as everywhere here."""
    return read_table(io.BytesIO(content.encode(encoding) if isinstance(content, str) else content))


def when(text):
    """A moment, as pandas gives it."""
    return pd.Timestamp(text)


def values(frame):
    """The cells of a frame as Python's objects, None where one is missing."""
    return {
        name: [None if pd.isna(value) else value for value in frame[name].tolist()]
        for name in frame.columns
    }


# ---------------------------------------------------------------------------------------- formats

FRAME = pd.DataFrame(
    {
        "count": [3, 1, 2, -40_000],
        "size": np.array([0.5, np.nan, -2.25, 1e6], np.float32),
        "name": ["Zoë", "a, b; c\td|e", 'say "no"', None],
        "sold": pd.to_datetime(["2024-05-01 10:30", "2023-12-31 23:59", None, "1969-07-20 20:17"]),
        "ripe": [True, False, False, True],
        "maybe": pd.array([True, None, False, True], dtype="boolean"),
    }
)


def csv(**options):
    return FRAME.to_csv(index=False, **options)


def buffer(write):
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def arrow_stream():
    table = pa.Table.from_pandas(FRAME)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def records(**options):
    return FRAME.to_json(orient="records", date_format="iso", **options).encode()


FORMATS = {
    "comma": lambda: csv().encode(),
    "semicolon": lambda: csv(sep=";").encode(),
    "decimal comma": lambda: csv(sep=";", decimal=",").encode(),
    "tab": lambda: csv(sep="\t").encode(),
    "bar": lambda: csv(sep="|").encode(),
    "blanks": lambda: csv(sep=" ", na_rep="NA").encode(),
    "carriage returns": lambda: csv(lineterminator="\r\n").encode(),
    "old carriage returns": lambda: csv(lineterminator="\r").encode(),
    "all quoted": lambda: csv(quoting=1).encode(),
    "declared delimiter": lambda: b"sep=;\n" + csv(sep=";").encode(),
    "UTF-8 with BOM": lambda: csv().encode("utf-8-sig"),
    "UTF-16": lambda: csv().encode("utf-16"),
    "UTF-16 without BOM": lambda: csv().encode("utf-16-le"),
    "UTF-16 big endian": lambda: csv().encode("utf-16-be"),
    "UTF-32": lambda: csv().encode("utf-32"),
    "gzip": lambda: gzip.compress(csv().encode()),
    "gzip twice": lambda: gzip.compress(gzip.compress(csv().encode())),
    "gzip of UTF-16": lambda: gzip.compress(csv().encode("utf-16")),
    "bzip2": lambda: bz2.compress(csv().encode()),
    "zstd": lambda: pa.compress(csv().encode(), codec="zstd", asbytes=True),
    "blank lines": lambda: b"\n\n" + csv().encode() + b"\n\n",
    "Parquet": lambda: buffer(FRAME.to_parquet),
    "Parquet with an index": lambda: buffer(FRAME[::-1].sort_index().iloc[:4].to_parquet),
    "Feather": lambda: buffer(FRAME.to_feather),
    "Arrow stream": arrow_stream,
    "JSON lines": lambda: records(lines=True),
    "JSON": records,
}


def assert_is_frame(frame):
    assert list(frame.columns) == list(FRAME.columns)
    assert values(frame) == values(FRAME)
    assert frame["count"].dtype == np.int32 and frame["size"].dtype == np.float32
    assert frame["name"].dtype == "category" and frame["sold"].dtype.kind == "M"
    assert frame["ripe"].dtype == bool


@pytest.mark.parametrize("kind", FORMATS)
def test_formats(kind, tmp_path):
    content = FORMATS[kind]()
    assert_is_frame(read_table(io.BytesIO(content)))
    path = tmp_path / "table.dat"  # a name says nothing
    path.write_bytes(content)
    assert_is_frame(read_table(path))
    assert_is_frame(read_table(str(path)))
    with path.open("rb") as file:
        assert_is_frame(read_table(file))


def test_windows_1252(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(csv().encode("cp1252"))
    with pytest.warns(TableWarning, match=r"table.csv: line 2 is not UTF-8 \(byte 0xEB\)"):
        assert_is_frame(read_table(path))


def test_utf8_after_many_blocks(monkeypatch):
    """Letters that a block of bytes ends in, and a byte that is wrong only far down."""
    from fastmlp.tables import reading

    monkeypatch.setattr(reading, "_BLOCK", 7)
    monkeypatch.setattr(reading, "_HEAD", 7)
    source = reading.TableSource("t", pa.py_buffer(("n\n" + "äöüß€\n" * 20).encode()))
    assert reading._encoding(source, source.head()) == ("utf-8", False)
    source = reading.TableSource("t", pa.py_buffer(("n\n" + "äöü\n" * 20).encode() + b"\xe4\n"))
    monkeypatch.setattr(reading, "_BLOCK", 1 << 20)
    with pytest.warns(TableWarning, match="line 22 is not UTF-8"):
        assert reading._encoding(source, source.head()) == ("cp1252", True)


def test_pipes():
    for as_path in (False, True):
        if as_path and not os.path.exists("/dev/fd"):
            continue
        reader, writer = os.pipe()
        os.write(writer, b"a,b\n1,x\n")
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            frame = read_table(f"/dev/fd/{reader}" if as_path else stream)
        assert values(frame) == {"a": [1], "b": ["x"]}


def test_standard_input_has_a_name():
    class Input(io.BytesIO):
        name = "<stdin>"

    with pytest.raises(ValueError, match="^standard input, line 2: every row must have 2 cells"):
        read_table(Input(b"a,b\n1\n"))


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"x": np.eye(2)}, {"x0": [1, 0], "x1": [0, 1]}),
        ({"X": np.eye(2), "y": [5, 6]}, {"x0": [1, 0], "x1": [0, 1], "y": [5, 6]}),
        ({"y": [[5], [6]], "data": np.eye(2)}, {"x0": [1, 0], "x1": [0, 1], "y": [5, 6]}),
        ({"data": [[1], [2]], "target": ["a", "b"]}, {"x0": [1, 2], "target": ["a", "b"]}),
        ({"length": [1, 2], "kind": [b"u", b"v"]}, {"length": [1, 2], "kind": ["u", "v"]}),
        ({"arr_0": np.array([1.5, np.nan])}, {"x0": [1.5, None]}),
        ({"x": np.array([[True], [False]])}, {"x0": [True, False]}),
        ({"x": np.array([[1, 2]], dtype=">i8")}, {"x0": [1], "x1": [2]}),
        ({"x": np.array(["2024-01-01"], "datetime64[D]")}, {"x0": [when("2024-01-01")]}),
        ({"x": np.array([(1, "a")], [("n", int), ("t", "U1")])}, {"n": [1], "t": ["a"]}),
    ],
)
def test_arrays(arrays, expected):
    assert values(read(buffer(lambda file: np.savez(file, **arrays)))) == expected
    if len(arrays) == 1:
        (array,) = arrays.values()
        assert values(read(buffer(lambda file: np.save(file, array)))) == expected


def test_arrays_that_are_left_out_are_named():
    with pytest.warns(TableWarning, match="arrays 'x_train', 'y_train' are read, 'x_test' are not"):
        frame = read(
            buffer(lambda f: np.savez(f, x_train=np.eye(2), y_train=[1, 2], x_test=np.eye(2)))
        )
    assert list(frame.columns) == ["x0", "x1", "y_train"]


# -------------------------------------------------------------------- strange and malformed tables

#: Name -> what is read, what comes of it, and the words of a warning, if there is one.
SENSIBLE = {
    "one column": ("a\n1\n2\n", {"a": [1, 2]}),
    "one column of text with commas": ("t\nhello, you\nbye\n", {"t": ["hello, you", "bye"]}),
    "no end of line": ("a,b\n1,2", {"a": [1], "b": [2]}),
    "missing words": (
        "a,b\n1,NA\nNaN,x\n,null\n?,N/A\n",
        {"a": [1, None, None, None], "b": [None, "x", None, None]},
    ),
    "all missing": ("a,b\n1,\n2,NA\n", {"a": [1, 2], "b": [None, None]}),
    "infinity": ("a\n1\ninf\n-inf\n", {"a": [1, np.inf, -np.inf]}),
    "booleans as text": ("a,b\nTrue,yes\nFalse,no\n", {"a": [True, False], "b": ["yes", "no"]}),
    "booleans in small letters": ("a\ntrue\nfalse\n", {"a": [True, False]}),
    "mixed types": ("a\nx\n2\n3.5\n", {"a": ["x", "2", "3.5"]}),
    "quotes in cells": ('a,b\n"x ""y""",1\n', {"a": ['x "y"'], "b": [1]}),
    "a quote inside a cell": ('a,b\n5" pipe,1\n', {"a": ['5" pipe'], "b": [1]}),
    "newlines in cells": ('a,b\n"x\ny",1\n"u\r\nv",2\n', {"a": ["x\ny", "u\r\nv"], "b": [1, 2]}),
    "a newline in the header": ('"a\nb",c\n1,2\n', {"a\nb": [1], "c": [2]}),
    "blanks after commas": ("id, name\n1, joe\n2, NA\n", {"id": [1, 2], "name": ["joe", None]}),
    "blanks around names": (" a ,b\t\n1,2\n", {"a": [1], "b": [2]}),
    "huge integers": ("a\n12345678901234567890123\n1\n", {"a": [12345678901234567890123.0, 1.0]}),
    "integers beyond 32 bits": ("a\n5000000000\n1\n", {"a": [5000000000, 1]}),
    "large integers with gaps": (
        "a,b\n16777217,1\n,2\n1,3\n",
        {"a": [16777217, None, 1], "b": [1, 2, 3]},
    ),
    "an exponent out of range": ("a\n1e39\n1\n", {"a": [1e39, 1.0]}),
    "ISO dates": ("a\n2024-02-29\n2023-01-01\n", {"a": [when("2024-02-29"), when("2023-01-01")]}),
    "dates and gaps": ("a\n2024-02-29\nNA\n", {"a": [when("2024-02-29"), None]}),
    "dates with points": (
        "a\n29.2.2024\n01.12.2023\n",
        {"a": [when("2024-02-29"), when("2023-12-01")]},
    ),
    "American dates": (
        "a\n02/29/2024\n12/01/2023\n",
        {"a": [when("2024-02-29"), when("2023-12-01")]},
    ),
    "British dates": (
        "a\n29/02/2024\n01/12/2023\n",
        {"a": [when("2024-02-29"), when("2023-12-01")]},
    ),
    "a time zone": ("a\n2024-01-05T10:00:00+02:00\n", {"a": [when("2024-01-05 08:00")]}),
    "dates of an old millennium": ("a\n1066-10-14\n", {"a": [when("1066-10-14")]}),
    "dates that are none": ("a\n2024-02-30\n2024-01-01\n", {"a": ["2024-02-30", "2024-01-01"]}),
    "times": ("a\n00:01:30\n12:00:00\n", {"a": [90, 43200]}),
    "versions": ("a\n1.2.3\n1.2.4\n", {"a": ["1.2.3", "1.2.4"]}),
    "numbers with units": ("a\n10kg\n20kg\n", {"a": ["10kg", "20kg"]}),
    "hexadecimal": ("a\n0x1F\n0x20\n", {"a": [31, 32]}),
    "underscores": ("a\n1_000\n2_000\n", {"a": ["1_000", "2_000"]}),
    "many columns": (
        ",".join(f"c{i}" for i in range(3000)) + "\n" + ",".join("1" * 3000) + "\n",
        {f"c{i}": [1] for i in range(3000)},
    ),
    "10^5 categories": (
        "a,b\n" + "".join(f"t{i},{i % 2}\n" for i in range(100_000)),
        {"a": [f"t{i}" for i in range(100_000)], "b": [0, 1] * 50_000},
    ),
    "a long cell": ("a,b\n" + "x" * 200_000 + ",1\n", {"a": ["x" * 200_000], "b": [1]}),
    "names that are numbers and text": (
        "2019,2020,sum\n1,2,3\n",
        {"2019": [1], "2020": [2], "sum": [3]},
    ),
    "empty JSON values": ('{"a": null, "b": 1}\n{"b": 2}\n', {"a": [None, None], "b": [1, 2]}),
    "blanks of several kinds": ("a  b\n 1.5\t2\n  3   4  \n", {"a": [1.5, 3], "b": [2, 4]}),
    "quotes among blanks": ('a b\n1 "x y"\n2 z\n', {"a": [1, 2], "b": ["x y", "z"]}),
    "a thin space": (
        "a;b\n1\u202f000;1\n2\u202f500,5;2\n",
        {"a": [1000, 2500.5], "b": [1, 2]},
        "between thousands",
    ),
    "thousands": ('a\n"1,234"\n"2,345,678"\n', {"a": [1234, 2345678]}, r"'1,234' is read as 1234"),
    "thousands with decimals": (
        "a;b\n1.234,5;1\n2,25;2\n",
        {"a": [1234.5, 2.25], "b": [1, 2]},
        "1234.5",
    ),
    "decimal commas in quotes": (
        'a,b\n"1,5",1\n"2,25",2\n',
        {"a": [1.5, 2.25], "b": [1, 2]},
        "1.5",
    ),
    "decimal commas far down": (
        "a;b\n" + "1;x\n" * 90_000 + "2,5;y\n",
        {"a": [1] * 90_000 + [2.5], "b": ["x"] * 90_000 + ["y"]},
        "2.5",
    ),
    "day or month first": (
        "a\n01/02/2024\n03/04/2024\n",
        {"a": [when("2024-01-02"), when("2024-03-04")]},
        "month first",
    ),
    "a word among numbers": (
        "a\n" + "1\n" * 30 + "abc\n",
        {"a": [1] * 30 + [None]},
        "'abc' in row 31",
    ),
    "duplicated names": (
        "a,a,b,a\n1,2,3,4\n",
        {"a": [1], "a_2": [2], "b": [3], "a_3": [4]},
        "'a_2', 'a_3'",
    ),
    "a name that is taken": ("a,a,a_2\n1,2,3\n", {"a": [1], "a_3": [2], "a_2": [3]}, "'a_3'"),
    "unnamed columns": (
        ",b,\nu,2,3\n",
        {"x0": ["u"], "b": [2], "x2": [3]},
        "without a name are named 'x0', 'x2'",
    ),
    "an unnamed column whose name is taken": ("x1,\n1,2\n", {"x1": [1], "x1_2": [2]}, "'x1_2'"),
    "no header": ("1,2.5\n3,4\n", {"x0": [1, 3], "x1": [2.5, 4]}, "no header"),
    "no header and gaps": (
        "1,,3\n4,5,6\n",
        {"x0": [1, 4], "x1": [None, 5], "x2": [3, 6]},
        "no header",
    ),
    "no header and text": (
        "5.1,setosa\n4.9,setosa\n",
        {"x0": [np.float32(5.1), np.float32(4.9)], "x1": ["setosa"] * 2},
        "no header",
    ),
    "no header and decimal commas": (
        "1,5;2,5\n2,5;3,5\n",
        {"x0": [1.5, 2.5], "x1": [2.5, 3.5]},
        "no header",
    ),
    "Windows-1252": (b"a\n\x80\xfc\n", {"a": ["€ü"]}, "Windows-1252"),
    "lists in JSON": ('{"a": [1], "b": 2}\n', {"a": [[1]], "b": [2]}, "cannot be used"),
}


@pytest.mark.parametrize("case", SENSIBLE)
def test_strange_but_sensible(case):
    content, expected, *words = SENSIBLE[case]
    if words:
        with pytest.warns(TableWarning, match=re.escape(words[0])) as caught:
            frame = read(content)
        assert all(issubclass(one.category, TableWarning) for one in caught)
        assert all(str(one.message).startswith("the stream: ") for one in caught)
        assert all(one.filename == __file__ for one in caught)
    else:
        frame = read(content)
    assert list(frame.columns) == list(expected)
    got = values(frame)
    for name in expected:
        assert len(got[name]) == len(expected[name])
        for one, other in zip(got[name], expected[name], strict=True):
            if isinstance(other, list):
                assert list(one) == other
            else:
                assert one == other, name


MALFORMED = {
    "empty": (b"", "the stream is empty; a table needs a header and rows."),
    "blank": (b" \n\n \n", "is empty"),
    "a mark of order and nothing else": (b"\xef\xbb\xbf", "is empty"),
    "an empty gz": (gzip.compress(b""), "is empty"),
    "header only": (b"a,b\n", "has a header and no rows: 'a', 'b'; a table needs rows."),
    "a row too long": (
        b"a,b\n1,2\n3,4,5\n6,7\n",
        "line 3: every row must have 2 cells, as the first row has, got 3 cells: '3,4,5'.",
    ),
    "a row too short": (b"a,b\n1,2\n3\n", "line 3: every row must have 2 cells"),
    "a row too long after newlines in cells": (b'a,b\n"x\n\ny",2\n3,4,5\n', "line 5: every row"),
    "rows with names": (b"a,b\nr,1,2\ns,3,4\n", "line 2: every row must have 2 cells"),
    "ragged far down": (b"a;b\n" + b"1;2\n" * 300_000 + b"3\n", "line 300002: every row"),
    "ragged among blanks": (b"a b\n1 2\n3 4 5\n" + b"1 2\n" * 30, "line 3: every row"),
    "an open quote in the last column": (b'a,b\n1,"x\n2,y\n', "line 2: a quotation mark must"),
    "an open quote in the last row": (b'a,b\n1,x\n2,"y\n', "line 3: a quotation mark must"),
    "an open quote in the first column": (b'a,b\n"1,x\n2,y\n', "line 2: a quotation mark must"),
    "an open quote before much": (
        b'a,b\n"1,x\n' + b"2,y\n" * 100_000,
        "line 2: a quotation mark must",
    ),
    "NUL bytes": (b"a,b\n1,2\n3,\x00\n", "line 3: text must not hold NUL bytes, got one"),
    "random bytes": (bytes(np.random.RandomState(0).bytes(3000)), "A table is CSV, Parquet"),
    "neither UTF-8 nor Windows-1252": (b"a\n\x81\x01\n", "line 2: byte 0x81 is not UTF-8"),
    "half a letter in UTF-16": ("a,b\n1,2\n".encode("utf-16")[:-1], "is not UTF-16"),
    "a picture": (b"\x89PNG\r\n\x1a\n", "is a PNG picture; a table is CSV"),
    "a PDF": (b"%PDF-1.7", "is a PDF document"),
    "a pickle": (pickle.dumps(1), "is a pickle, which could run any code, not a table; save"),
    "a web page": (b"<!DOCTYPE html><html>", "is a page or document of markup"),
    "XML": (b"<?xml version='1.0'?><a/>", "is a page or document of markup"),
    "IDX": (b"\x00\x00\x08\x01\x00\x00\x00\x01\x05", "is an IDX file, not a table; fastmlp.idx"),
    "an old workbook": (b"\xd0\xcf\x11\xe0\xa1\xb1", "save it as CSV"),
    "half a gz": (gzip.compress(csv().encode())[:60], "is damaged: Truncated compressed stream"),
    "a gz with wrong bytes": (gzip.compress(b"a,b\n" * 99)[:20] + b"?" * 9, "is damaged"),
    "half a Parquet file": (FORMATS["Parquet"]()[:-99], "Parquet magic bytes not found"),
    "the start of Parquet": (b"PAR1", "the stream cannot be read"),
    "half a Feather file": (FORMATS["Feather"]()[:-99], "Not an Arrow file"),
    "half an Arrow stream": (FORMATS["Arrow stream"]()[:99], "the stream "),
    "half an NPZ file": (buffer(lambda f: np.savez(f, x=np.eye(9)))[:99], "is a damaged archive"),
    "half an NPY file": (buffer(lambda f: np.save(f, np.eye(9)))[:-9], "EOF: reading array data"),
    "a broken NPY header": (
        buffer(lambda f: np.save(f, np.eye(9))).replace(b"}", b"("),
        "the stream cannot be read",
    ),
    "images": (
        buffer(lambda f: np.save(f, np.zeros((5, 2, 2)))),
        "got shape (5, 2, 2); reshape it to (5",
    ),
    "a number": (buffer(lambda f: np.save(f, 3)), "got shape ()"),
    "Python's objects": (buffer(lambda f: np.save(f, np.array([{}]))), "it holds Python objects"),
    "complex numbers": (buffer(lambda f: np.save(f, np.array([1j]))), "got complex128"),
    "arrays of different length": (
        buffer(lambda f: np.savez(f, x=np.eye(2), y=[1])),
        "the same number of rows",
    ),
    "an NPZ file without rows": (
        buffer(lambda f: np.save(f, np.eye(2)[:0])),
        "has a header and no",
    ),
    "an NPZ file without arrays": (buffer(lambda f: np.savez(f)), "the stream "),
    "broken JSON": (b'{"a": 1}\n{"a": \n', "line 2: every line must be a JSON object"),
    "JSON of mixed kinds": (b'{"a": 1}\n{"a": "x"}\n', "line 2: every line must be a JSON object"),
    "a broken JSON list": (b'[{"a": 1},', "is not JSON: Expecting"),
    "a JSON list of numbers": (b'[{"a": 1}, 2]', "must hold objects only"),
    "a table without columns": (buffer(pd.DataFrame(index=range(3)).to_parquet), "has no columns"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed(case):
    content, words = MALFORMED[case]
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        read(content)
    sentence = str(caught.value)
    assert sentence.startswith("the stream") and sentence.endswith((".", "?"))
    assert "\n" not in sentence and len(sentence) < 300


def test_zip_archives(tmp_path):
    import zipfile

    for name, words in (
        ("xl/workbook.xml", "is an Excel workbook, not a table; save it as CSV"),
        ("table.csv", "is an archive of 'table.csv', not a table; unpack it"),
    ):
        with zipfile.ZipFile(tmp_path / "t.csv", "w") as archive:
            archive.writestr(name, "a,b\n1,2\n")
        with pytest.raises(ValueError, match=words):
            read_table(tmp_path / "t.csv")


def test_paths(tmp_path):
    (tmp_path / "prices.csv").write_text("a,b\n1,2,3\n")
    with pytest.raises(
        FileNotFoundError, match=r"there is no file .*price.csv; did you mean .*s.c"
    ):
        read_table(tmp_path / "price.csv")
    with pytest.raises(ValueError, match="is a directory; use a file in it"):
        read_table(tmp_path)
    with pytest.raises(ValueError, match=r"prices\.csv, line 2: every row must have 2 cells"):
        read_table(tmp_path / "prices.csv")
    with pytest.raises(ValueError, match="a stream of text; pass one of bytes"):
        read_table(io.StringIO("a,b\n1,2\n"))


@pytest.mark.slow
def test_mutated_files():
    """Whatever happens to a file: a sentence or a table, which can be described."""
    rng = np.random.RandomState(0)
    seeds = [(FORMATS[kind]()) for kind in ("comma", "decimal comma", "blanks", "gzip", "UTF-16",
             "Parquet", "Feather", "Arrow stream", "JSON lines", "JSON")]  # fmt: skip
    seeds += [buffer(lambda f: np.savez(f, x=np.eye(3), y=["a", "b", "c"]))]
    tokens = [b",", b"\n", b'"', b";", b" ", b"\0", b"\xff", b"{", b"1e999", b"NA", b"9" * 40]
    n_read = 0
    for number in range(200):
        content = bytearray(seeds[number % len(seeds)])
        for _ in range(rng.randint(1, 4)):
            place = rng.randint(len(content))
            content[place : place + rng.randint(3)] = tokens[rng.randint(len(tokens))]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TableWarning)
            try:
                frame = read(bytes(content))
            except ValueError as error:
                assert str(error).startswith("the stream")
            else:
                n_read += 1
                assert len(describe(frame)) == frame.shape[1]
    assert 25 < n_read < 175  # both do occur


def test_numbers_keep_their_digits():
    """float32 where that is enough, float64 where the offset is large."""
    frame = read("a,b,c,d\n2459000.25,0.1,1e300,7.5\n2459000.75,0.2,1,7.5\n")
    assert list(map(str, frame.dtypes)) == ["float64", "float32", "float64", "float32"]
    assert frame["a"].tolist() == [2459000.25, 2459000.75]


def test_parquet_types():
    import decimal

    table = pa.table(
        {
            "decimal": pa.array([decimal.Decimal("1.5"), None]),
            "half": pa.array(np.array([1, 2], np.float16)),
            "time": pa.array([90, 30], pa.time32("s")),
            "duration": pa.array([1500, None], pa.duration("ms")),
            "date": pa.array([1, None], pa.date32()),
            "zone": pa.array([0, 3_600_000], pa.timestamp("ms", "Europe/Berlin")),
            "old": pa.array([-40_000_000_000, 0], pa.timestamp("s")),
            "null": pa.nulls(2),
            "codes": pa.array([7, 8]).dictionary_encode(),
            "words": pa.array(["u", None]).dictionary_encode(),
            "long": pa.array(["u", "v"], pa.large_string()),
            "view": pa.array(["u", "v"]),
            "unsigned": pa.array([2**63, 1], pa.uint64()),
        }
    )
    import pyarrow.parquet

    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file)
    frame = read(file.getvalue())
    assert values(frame) == {
        "decimal": [1.5, None],
        "half": [1, 2],
        "time": [90, 30],
        "duration": [1.5, None],
        "date": [when("1970-01-02"), None],
        "zone": [when("1970-01-01"), when("1970-01-01 01:00")],
        "old": [when(np.datetime64(-40_000_000_000, "s")), when("1970-01-01")],
        "null": [None, None],
        "codes": [7, 8],
        "words": ["u", None],
        "long": ["u", "v"],
        "view": ["u", "v"],
        "unsigned": [2**63, 1],
    }
    assert [column.kind for column in describe(frame)].count("number") >= 5


# ------------------------------------------------------------------------- columns, target and task


def some_rows(n=60):
    rng = np.random.RandomState(0)
    return pd.DataFrame(
        {
            "row": np.arange(n),
            "customer_id": rng.permutation(np.arange(n)) * 1000 + 7,
            "size": np.where(np.arange(n) % 7, rng.normal(size=n), np.nan).astype(np.float32),
            "rooms": rng.randint(1, 9, n),
            "kind": rng.choice(["a", "b", "c"], n),
            "rare": ["often"] * (n - 3) + ["x", "y", None],
            "paid": rng.choice(["Yes", "No"], n),
            "new": rng.rand(n) > 0.5,
            "when": when("2024-01-01") + pd.to_timedelta(rng.randint(0, 300, n), "D"),
            "day": [f"2024-01-{1 + number % 28:02d}" for number in range(n)],
            "note": [f"note {number}" for number in range(n)],
            "review": [f"words {number % (n - 5)}" for number in range(n)],
            "one": 1,
            "one or none": [1.0] * (n - 1) + [np.nan],
            "nothing": None,
            "lists": [[number] for number in range(n)],
            "year": np.arange(1950, 1950 + n),
        }
    )


def test_describe():
    found = {column.name: column for column in describe(some_rows(), "new")}
    filled = ", the missing ones filled with the median and marked"
    assert {name: (column.kind, column.action) for name, column in found.items()} == {
        "row": ("identifier", "left out: it numbers the rows"),
        "customer_id": ("identifier", "left out: a different value in every row"),
        "size": ("number", f"scaled{filled}"),
        "rooms": ("number", "scaled"),
        "kind": ("category", "one-hot of 3"),
        "rare": ("category", "one-hot of 1, 2 rare ones share another, missing is one more"),
        "paid": ("boolean", "as 0 and 1"),
        "new": ("boolean", "target"),
        "when": ("date", "as days since 1970, scaled"),
        "day": ("date", "as days since 1970, scaled"),
        "note": ("identifier", "left out: a different value in every row"),
        "review": ("text", "left out: free text, 55 different in 60 rows"),
        "one": ("constant", "left out: constant"),
        "one or none": ("number", f"scaled{filled}"),
        "nothing": ("constant", "left out: all values are missing"),
        "lists": ("text", "left out: neither numbers, text nor dates"),
        "year": ("number", "scaled"),
    }
    assert (found["size"].n_missing, found["size"].n_distinct) == (9, 51)
    assert (found["rare"].n_missing, found["rare"].n_distinct) == (1, 3)
    assert found["nothing"].n_missing == 60 and not found["nothing"].is_used
    with pytest.raises(AttributeError):
        found["size"].name = "other"


@pytest.mark.parametrize("n_categories", [3, 511, 512, 513, 600])
@pytest.mark.parametrize("with_gap", [False, True])
@pytest.mark.parametrize("with_rare", [False, True])
def test_described_inputs_are_those_that_there_are(n_categories, with_gap, with_rare):
    """The words of `describe` agree with the encoder."""
    words = [f"c{number}" for number in range(n_categories)] * 4
    words += ["rare"] * with_rare + [None] * 4 * with_gap
    frame = pd.DataFrame({"kind": words})
    (column,) = describe(frame)
    numbers = re.match(r"one-hot of (\d+)(?:, \d+ rare ones (share another))?(?:, (missing))?", column.action)  # noqa: E501  # fmt: skip
    described = int(numbers[1]) + bool(numbers[2]) + bool(numbers[3])
    pipeline = make_table_pipeline("classification")[:-1]
    assert pipeline.fit_transform(frame).shape == (len(words), described)


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([1, None, 3], dtype="Int64"),
        pd.Series([1, None, 3], dtype="int64[pyarrow]"),
        pd.Series([1, None, 3], dtype=object),
        pd.Series(["1", None, "3"]),
        pd.Series(["1", "", "3"], dtype=object),
        pd.Series([1, None, 3]).astype("category"),
        pd.Series(["1", None, "3"]).astype("category"),
        pd.Series([1, None, 3], dtype=pd.SparseDtype(float)),
        pd.Series(pd.to_timedelta([1, None, 3], "s")),
    ],
    ids=lambda values: f"{values.dtype}",
)
def test_numbers_of_any_dtype(values):
    family, array = columns.plain(values)
    assert family == "number"
    np.testing.assert_array_equal(array, [1, np.nan, 3])


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([True, None, False], dtype="boolean"),
        pd.Series([True, None, False], dtype="bool[pyarrow]"),
        pd.Series([True, None, False], dtype=object),
        pd.Series([True, None, False], dtype="category"),
    ],
    ids=lambda values: f"{values.dtype}",
)
def test_booleans_of_any_dtype(values):
    family, array = columns.plain(values)
    assert family == "boolean"
    np.testing.assert_array_equal(array, [1, np.nan, 0])


@pytest.mark.parametrize(
    "values",
    [
        pd.Series(["2024-01-02", None]),
        pd.Series(pd.to_datetime(["2024-01-02", None])),
        pd.Series(pd.to_datetime(["2024-01-02", None], utc=True)).dt.tz_convert("Asia/Tokyo"),
        pd.Series(pd.to_datetime(["2024-01-02", None])).astype("timestamp[ns][pyarrow]"),
        pd.Series([when("2024-01-02").date(), None], dtype=object),
        pd.Series(pd.to_datetime(["2024-01-02", None])).astype("category"),
        pd.Series(pd.PeriodIndex(["2024-01-02", None], freq="D")),
    ],
    ids=lambda values: f"{values.dtype}",
)
def test_dates_of_any_dtype(values):
    family, array = columns.plain(values)
    assert family == "date"
    assert str(array.astype("datetime64[D]")[0]) == "2024-01-02" and np.isnat(array[1])


def test_text_of_any_dtype():
    for values in (
        pd.Series(["x", None, "y"]),
        pd.Series(["x", None, "y"], dtype=object),
        pd.Series(["x", None, "y"], dtype="string"),
        pd.Series(["x", None, "y"], dtype="category"),
        pd.Series(["x", None, "y"], dtype=pd.ArrowDtype(pa.string())),
    ):
        family, array = columns.plain(values)
        assert (family, list(array.categories), list(array.codes)) == (
            "text",
            ["x", "y"],
            [0, -1, 1],
        )
    family, array = columns.plain(pd.Series([1, "1", 1.0, 2.5, True, None], dtype=object))
    assert (family, list(array.astype(object))[:5]) == ("text", ["1", "1", "1", "2.5", "True"])


@pytest.mark.parametrize(
    ("names", "target", "expected"),
    [
        (["a", "b"], None, ("b", "it is the last column")),
        (["y", "a"], None, ("y", "it is called 'y'")),
        (["y", "Target", "a"], None, ("Target", "it is called 'Target'")),
        (["CLASS", "a"], None, ("CLASS", "it is called 'CLASS'")),
        (["label", "a"], "a", ("a", "it was asked for")),
    ],
)
def test_target(names, target, expected):
    assert find_target(pd.DataFrame([range(len(names))], columns=names), target) == expected


@pytest.mark.parametrize(
    ("names", "target", "words"),
    [
        (["price", "size"], "prize", "got 'prize'; did you mean 'price'?"),
        (["price", "size"], "PRICE", "did you mean 'price'?"),
        (["price", "size"], "zzz", "there are 'price', 'size'."),
        (["price"], None, "needs another column than the target, got only 'price'"),
        ([], None, "has no columns"),
        (["a", "y", "y"], "y", "must be one column, got 2 named 'y'"),
    ],
)
def test_no_target(names, target, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        find_target(pd.DataFrame([range(len(names))], columns=names), target)


@pytest.mark.parametrize(
    ("values", "task", "reason"),
    [
        (["a", "b", None], "classification", "the target is text with 2 different values"),
        ([True, False], "classification", "the target is booleans with 2 different values"),
        (pd.Categorical(["a", "b"]), "classification", "the target is text with 2"),
        ([0.5, 1.0], "regression", "the target has numbers with fractions"),
        ([0, 1, 2] * 4, "classification", "only 3 distinct integers"),
        ([0.0, 1.0, np.nan] * 4, "classification", "only 2 distinct integers"),
        (range(50), "regression", "50 distinct integers"),
        ([1, 2, 3, 4], "regression", "4 distinct integers"),
        (pd.Series([1, 2] * 9, dtype="category"), "classification", "only 2 distinct integers"),
    ],
)
def test_task(values, task, reason):
    found, why = find_task(pd.Series(values))
    assert found == task and reason in why
    assert find_task(pd.Series(values), task) == (task, "it was asked for")


def test_task_that_was_asked_for():
    assert find_task([0, 1, 2] * 4, "regression") == ("regression", "it was asked for")
    assert find_task(range(50), "classification") == ("classification", "it was asked for")
    assert find_task([True, False], "regression") == ("regression", "it was asked for")


@pytest.mark.parametrize(
    ("values", "task", "words"),
    [
        (["a", "b"], "clasification", "got 'clasification'; did you mean 'classification'?"),
        (["a", "b"], "regression", "regression needs a numeric target, got text such as 'a'"),
        ([0.5, 1.5], "classification", "got numbers with fractions; choose task 'regression'"),
        ([None, None], None, "has only missing values"),
        ([1, 1], None, "must have at least two distinct values, got only"),
        ([1.5, np.inf], None, "must be finite, got infinity"),
        ([[1], [2]], None, "must be classes or numbers, got neither"),
        (pd.to_datetime(["2024-01-01", "2024-01-02"]), None, "got dates"),
        ([f"a{number}" for number in range(30)], None, "a different text in every row"),
    ],
)
def test_no_task(values, task, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        find_task(pd.Series(values), task)


def test_take_target():
    frame = pd.DataFrame({"a": [1, 2, 3, 4], "y": ["u", None, "v", "u"], "z": [1.5, 2, 3, 4]})
    with pytest.warns(TableWarning, match="1 of 4 rows have no 'y' and are dropped"):
        X, y = take_target(frame, "y", "classification")
    assert list(X.columns) == ["a", "z"] and X["a"].tolist() == [1, 3, 4]
    assert y.tolist() == ["u", "v", "u"]
    X, y = take_target(frame, "z", "regression")
    assert y.dtype == np.float64 and len(X) == 4
    _, y = take_target(frame.assign(y=[True, False] * 2), "y", "classification")
    assert y.dtype == bool
    with pytest.warns(TableWarning, match="rows have no 'y'"):
        _, y = take_target(frame.assign(y=[1, None, 2, 1]), "y", "classification")
    assert y.dtype == np.int64 and y.tolist() == [1, 2, 1]


# ----------------------------------------------------------------------------------------- pipeline


def mixed(n=200, seed=0):
    """A table of mixed columns, and classes that depend on them."""
    rng = np.random.RandomState(seed)
    frame = pd.DataFrame(
        {
            "size": rng.normal(size=n).astype(np.float32),
            "rooms": rng.randint(1, 9, n),
            "color": rng.choice(["red", "green", "blue"], n),
            "paid": rng.choice(["yes", "no"], n),
            "new": rng.rand(n) > 0.5,
            "when": when("2024-01-01") + pd.to_timedelta(rng.randint(0, 300, n), "D"),
        }
    )
    y = np.where(frame["size"] + (frame["color"] == "red") + (frame["paid"] == "yes") > 1, "A", "B")
    frame.loc[::9, "size"] = np.nan
    frame.loc[1::9, "color"] = None
    frame.loc[2::9, "when"] = pd.NaT
    return frame, y


def fit(pipeline, X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the schedule ends with the last epoch
        return pipeline.fit(X, y)


@pytest.fixture(scope="module")
def fitted():
    X, y = mixed()
    pipeline = make_table_pipeline("classification", n_rows=len(X), random_state=0, max_iter=30)
    return fit(pipeline, X, y)


@pytest.mark.slow
def test_pipeline_learns(fitted):
    X, y = mixed()
    new, answers = mixed(seed=1)
    assert fitted.score(X, y) > 0.9 and fitted.score(new, answers) > 0.8
    assert fitted.classes_.tolist() == ["A", "B"]
    regressor = make_table_pipeline("regression", n_rows=len(X), random_state=0, max_iter=30)
    prices = 1e5 + 2e4 * X["rooms"].to_numpy()
    assert fit(regressor, X, prices).score(X, prices) > 0.9


def test_names_of_inputs(fitted):
    names = fitted[:-1].get_feature_names_out()
    assert names.tolist() == [
        "numbers__size", "numbers__rooms", "numbers__paid", "numbers__new", "numbers__when",
        "numbers__missingindicator_size", "numbers__missingindicator_when",
        "categories__color_blue", "categories__color_green", "categories__color_red",
        "categories__color_nan",
    ]  # fmt: skip
    assert fitted.n_features_in_ == 6 and fitted.feature_names_in_[0] == "size"


def test_inputs_by_hand():
    frame = pd.DataFrame(
        {
            "number": [0, 10, 20, 30, np.nan],
            "flag": [True, False, True, True, False],
            "day": pd.to_datetime(["1970-01-01", "1970-01-02", "1970-01-03", "1970-01-04", None]),
            "word": ["no", "yes", "yes", "no", None],
            "kind": ["a", "a", "a", "a", "b"],
        }
    )
    inputs = make_table_pipeline("regression")[:-1].set_output(transform="pandas")
    got = inputs.fit_transform(frame)
    smooth = [
        x / np.sqrt(1 + (x / 3) ** 2) for x in (-1, -1 / 3, 1 / 3, 1, 0)
    ]  # quartiles: 1 apart
    expected = {
        "numbers__number": smooth,
        "numbers__flag": [0, -1, 0, 0, -1],
        "numbers__day": smooth,
        "numbers__word": [0, 1, 1, 0, 0],
        "numbers__missingindicator_number": [0, 0, 0, 0, 1],
        "numbers__missingindicator_day": [0, 0, 0, 0, 1],
        "numbers__missingindicator_word": [0, 0, 0, 0, 1],
        "categories__kind_a": [1, 1, 1, 1, 0],
        "categories__kind_infrequent_sklearn": [0, 0, 0, 0, 1],
    }
    assert list(got.columns) == list(expected)
    np.testing.assert_allclose(got.to_numpy(), pd.DataFrame(expected).to_numpy(), rtol=1e-6)
    assert set(map(str, got.dtypes)) == {"float32"}


def test_float32_throughout(fitted):
    assert {coef.dtype for coef in fitted[-1].estimators_[0].coefs_} == {np.dtype(np.float32)}
    assert fitted[:-1].transform(mixed()[0]).dtype == np.float32
    for dtype in (np.float64, np.int64, np.uint8):
        X = np.arange(60).reshape(20, 3).astype(dtype)
        pipeline = fit(make_table_pipeline("regression", n_rows=20, max_iter=2), X, X[:, 0] * 1.5)
        assert pipeline[-1].estimators_[-1].coefs_[0].dtype == np.float32


def _with_many_categories(X):
    """Give a table so many categories that less than a tenth of its inputs are not 0."""
    words = [f"m{number % 50}" for number in range(len(X))]
    return X.assign(**{f"many{number}": words for number in range(4)})


@pytest.mark.slow
def test_wide_one_hot_reaches_the_estimator_as_csr(monkeypatch):
    X, y = mixed()
    wide = _with_many_categories(X)
    pipeline = make_table_pipeline("classification", n_rows=len(X), random_state=0, max_iter=2)
    seen = []
    estimator = type(pipeline[-1])
    monkeypatch.setattr(
        estimator, "fit", lambda self, X, y, _fit=estimator.fit: seen.append(X) or _fit(self, X, y)
    )
    fit(pipeline, wide, y)
    (inputs,) = seen
    assert issparse(inputs) and inputs.format == "csr" and inputs.dtype == np.float32
    assert issparse(pipeline[:-1].transform(wide.iloc[:3]))
    assert pipeline[-1].estimators_[0].coefs_[0].dtype == np.float32
    fit(pipeline, X.assign(many=wide["many0"]), y)  # over a tenth is not 0: dense is faster
    assert not issparse(seen.pop())
    fit(pipeline, X, y)  # the same pipeline suits another table
    assert not issparse(seen[1]) and seen[1].dtype == np.float32


def test_columns_are_matched_by_name(fitted):
    X, _ = mixed(seed=2)
    expected = fitted.predict_proba(X)
    other = X[X.columns[::-1]].assign(extra="?", unheard=[[1]] * len(X))
    np.testing.assert_array_equal(fitted.predict_proba(other), expected)
    other = pd.DataFrame(
        {
            "when": X["when"].dt.strftime("%Y-%m-%d"),  # another dtype for all of them
            "new": X["new"].astype(int),
            "paid": X["paid"].str.upper().astype("category"),
            "color": X["color"].astype("string"),
            "rooms": X["rooms"].astype(str),
            "size": X["size"].astype("Float64"),
        }
    )
    np.testing.assert_allclose(fitted.predict_proba(other), expected, rtol=1e-6)


def test_unseen_and_missing_values(fitted):
    X, _ = mixed(seed=3)
    X = X.astype({"color": object, "paid": object, "new": object, "rooms": float})
    X.loc[:50, "color"] = "mauve"
    X.loc[10:60, ["rooms", "size"]] = np.nan
    X.loc[20:70, ["paid", "new", "color"]] = None
    X.loc[0, "size"] = np.inf
    X.loc[1, "size"] = X["size"].dtype.type(1e300 if X["size"].dtype == np.float64 else 3e38)
    assert np.isfinite(fitted.predict_proba(X)).all()
    empty = pd.DataFrame({name: [None, None] for name in X.columns})
    assert np.isfinite(fitted.predict_proba(empty)).all()
    assert len(fitted.predict(X.iloc[:1])) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda X: X.drop(columns=["size"]), "lacks the column 'size' that the model was"),
        (lambda X: X[["new"]], "lacks the columns 'size', 'rooms', 'color', 'paid', 'when' that"),
        (lambda X: X.rename(columns={"size": "Size"}), "(did you mean 'Size'?); add it"),
        (lambda X: X.assign(rooms="many"), "'rooms' must hold numbers, as in training, got text"),
        (lambda X: X.assign(rooms=["3"] * 199 + ["x"]), "got text such as 'x'; correct"),
        (lambda X: X.assign(when=3.5), "'when' must hold dates, as in training, got numbers"),
        (lambda X: X.assign(when="soon"), "'when' must hold dates, as in training, got text"),
        (lambda X: X.assign(size=X["when"]), "'size' must hold numbers, as in training, got dates"),
        (lambda X: X.assign(paid="perhaps"), "must hold 'no', 'yes' only, as in training, got"),
        (lambda X: X.assign(paid=2), "must hold 'no', 'yes' only, as in training, got numbers"),
        (lambda X: X.assign(new=2), "'new' must hold booleans, as in training, got numbers"),
        (lambda X: X.assign(size=[[1]] * len(X)), "'size' must hold numbers, as in training, got"),
        (lambda X: X.assign(color=[[1]] * len(X)), "'color' must hold one text per row"),
        (lambda X: pd.concat([X, X[["size"]]], axis=1), "must have one column 'size', got several"),
        (lambda X: X.to_numpy()[:, :3], "X must have 6 columns, as in training, got 3"),
        (lambda X: csr_matrix((3, 6)), "got a sparse matrix; pass it to MLPClassifier"),
        (lambda X: X["size"].to_numpy(), "must have rows and columns, got an array of shape (200"),
    ],
)
def test_tables_that_do_not_fit(fitted, change, words):
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        fitted.predict(change(mixed()[0]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (pd.DataFrame({"a": [1, 1, 1]}), "got none (a: constant)"),
        (pd.DataFrame(index=range(3)), "got none (it has no columns)"),
        (pd.DataFrame([[1, 2]] * 3, columns=["a", "a"]), "different names, got 'a' more than once"),
        (csr_matrix((3, 6)), "got a sparse matrix"),
    ],
)
def test_tables_that_teach_nothing(frame, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        make_table_pipeline("regression").fit(frame, [1.0, 2.0, 3.0])


def test_columns_without_text_names():
    X = pd.DataFrame({0: [1.0, 2.0, 4.0] * 9, 1: ["a", "b", "a"] * 9})
    pipeline = fit(make_table_pipeline("regression", n_rows=27, max_iter=2), X, X[0])
    assert pipeline[:-1].get_feature_names_out().tolist() == [
        "numbers__0", "categories__1_a", "categories__1_b"
    ]  # fmt: skip
    assert pipeline.predict(X[[1, 0]]).tolist() == pipeline.predict(X).tolist()


def test_clone_pickle_and_repeat(fitted):
    X, y = mixed()
    again = fit(clone(fitted), X, y)
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    copied = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copied.predict_proba(X), fitted.predict_proba(X))


@pytest.mark.slow
@pytest.mark.parametrize("many", [False, True])
def test_set_output(many):
    X, y = mixed()
    if many:
        X = _with_many_categories(X)
    make = make_table_pipeline("classification", n_rows=len(X), random_state=0, max_iter=3)
    expected = fit(clone(make), X, y)
    frames = clone(clone(make).set_output(transform="pandas"))
    fit(frames, X, y)
    assert frames[-1].feature_names_in_.tolist() == frames[:-1].get_feature_names_out().tolist()
    inputs = frames[:-1].transform(X[::-1])
    assert isinstance(inputs, pd.DataFrame) and inputs.index.tolist() == X.index[::-1].tolist()
    # dense inputs are added up in another order
    np.testing.assert_allclose(frames.predict_proba(X), expected.predict_proba(X), atol=1e-4)
    with sklearn.config_context(transform_output="pandas"):
        assert isinstance(fit(clone(make), X, y)[:-1].transform(X), pd.DataFrame)
    frames.set_output(transform="default")
    assert issparse(fit(frames, X, y)[:-1].transform(X)) == many


@pytest.mark.slow
def test_grid_search():
    X, y = mixed()
    pipeline = make_table_pipeline("classification", n_rows=len(X), random_state=0, max_iter=3)
    grid = {
        "mlp__estimator__hidden_layer_sizes": [(5,), (20, 20)],
        "encode__categories__max_categories": [2],
    }
    search = GridSearchCV(pipeline, grid, cv=2)
    assert fit(search, X, y).best_score_ > 0.4
    assert search.best_estimator_[:-1].transform(X).shape[1] == 9  # two inputs for colours


def test_it_prints_whole():
    pipeline = make_table_pipeline("classification", n_rows=5000, random_state=0)
    printed = repr(pipeline)
    assert "..." not in printed and " at 0x" not in printed
    for part in ("TableColumns()", "RobustSmoothScaler()", "SimpleImputer(", "TableOneHotEncoder(",
                 "ColumnsOfDtype('number')", "MLPEnsemble(", "MLPClassifier(",
                 "(64, 64)"):  # fmt: skip
        assert "".join(part.split()) in "".join(printed.split())
    assert "TableColumns" in pipeline._repr_html_()


def test_parameters():
    def parameters(*args, **kwargs):
        last = make_table_pipeline(*args, **kwargs)[-1]
        return getattr(last, "estimator", last).get_params()

    small, large = parameters("classification", n_rows=100), parameters("regression", n_rows=10**6)
    assert not small["early_stopping"] and small["batch_size"] == 16
    assert large["early_stopping"] and large["batch_size"] == 256
    assert parameters("regression", n_rows=20)["batch_size"] == "auto"
    assert small["max_iter"] == 32 > large["max_iter"] == large["n_iter_no_change"]
    assert small["label_smoothing"] == 0.03 and large["target_scale"] == "standard"
    given = parameters("regression", random_state=3, alpha=0.5, target_scale=None, max_iter=7)
    assert (given["alpha"], given["max_iter"], given["n_iter_no_change"]) == (0.5, 7, 7)
    assert given["target_scale"] is None
    assert parameters("regression", n_rows=10**6, max_iter=99)["n_iter_no_change"] == 99
    with pytest.raises(ValueError, match=r"of MLPRegressor, got 'alfa'; did you mean 'alpha'\?"):
        make_table_pipeline("regression", alfa=1)
    with pytest.raises(ValueError, match=r"got 'regresion'; did you mean 'regression'\?"):
        make_table_pipeline("regresion")
    for wrong in (0, 1.5, "3"):
        with pytest.raises(ValueError, match="n_estimators must be an integer >= 1"):
            make_table_pipeline("regression", n_estimators=wrong)


def test_several_networks_are_averaged():
    X, y = mixed()
    options = {"n_rows": len(X), "max_iter": 3}
    pipeline = fit(make_table_pipeline("classification", random_state=0, **options), X, y)
    networks = pipeline[-1].estimators_
    assert len(networks) == 5 and len({network.coefs_[0].sum() for network in networks}) == 5
    inputs = pipeline[:-1].transform(X)
    mean = np.mean([network.predict_proba(inputs) for network in networks], axis=0)
    np.testing.assert_allclose(pipeline.predict_proba(X), mean, atol=1e-6)
    again = fit(make_table_pipeline("classification", random_state=0, **options), X, y)
    np.testing.assert_array_equal(again.predict_proba(X), pipeline.predict_proba(X))
    one = make_table_pipeline("classification", n_estimators=1, random_state=3, **options)
    assert fit(one, X, y)[-1].random_state == 3 and one[-1].coefs_[0].shape[1] == 128
    assert make_table_pipeline("regression", n_rows=10**5)[-1].hidden_layer_sizes == (128, 128)


# -------------------------------------------------------------------------------------------- parts


def test_scaler():
    X = np.array(
        [
            [0, 7, 0, 5, 1, 1],
            [1, 7, 0, np.nan, 1, 0],
            [2, 7, 0, np.inf, 0, 0],
            [3, 7, 0, -np.inf, np.nan, 0],
            [4, 7, 90, 6, 1, 1],
        ],
        dtype=float,
    )
    scaler = RobustSmoothScaler().fit(X)
    np.testing.assert_allclose(scaler.center_, [2, 7, 0, 5.5, 1, 0])  # of 0 and 1: the median
    np.testing.assert_allclose(scaler.scale_[:4], [0.5, 0, 2 / 90, 2])
    got = scaler.transform(X)
    assert got.dtype == np.float32

    def smooth(x):
        return x / np.sqrt(1 + (np.asarray(x) / 3) ** 2)

    np.testing.assert_allclose(got[:, 0], smooth([-1, -0.5, 0, 0.5, 1]), rtol=1e-6)
    np.testing.assert_allclose(got[:, 1], 0)
    np.testing.assert_allclose(got[:, 2], [0, 0, 0, 0, smooth(2)], rtol=1e-6)
    np.testing.assert_allclose(got[:, 3], [smooth(-1), np.nan, 3, -3, smooth(1)], rtol=1e-6)
    np.testing.assert_array_equal(got[:, 4], [0, 0, -1, np.nan, 0])  # 0 is the median
    np.testing.assert_array_equal(got[:, 5], [1, 0, 0, 0, 1])
    with pytest.raises(ValueError, match="must have 6 features, as in training, got 2"):
        scaler.transform(X[:, :2])


def test_scaler_keeps_digits_that_float32_has_not():
    times = 1.7e9 + np.arange(100.0)
    got = RobustSmoothScaler().fit_transform(times[:, None])
    assert len(np.unique(got)) == 100
    frame = pd.DataFrame({"time": times})
    scaler = RobustSmoothScaler().fit(frame)
    np.testing.assert_array_equal(scaler.transform(frame), got)
    assert scaler.get_feature_names_out().tolist() == ["time"]


def test_encoder_is_scikit_learns():
    from sklearn.preprocessing import OneHotEncoder

    X = pd.DataFrame({"a": ["u", "v", "u", None], "b": ["1", "2", "3", "1"]})
    ours, theirs = TableOneHotEncoder(), OneHotEncoder(dtype=np.float32)
    got, expected = ours.fit_transform(X), theirs.fit_transform(X)
    assert (got != expected).nnz == 0 and got.dtype == np.float32
    frame = ours.set_output(transform="pandas").transform(X)
    np.testing.assert_array_equal(frame.to_numpy(), expected.toarray())
    assert list(frame.columns) == list(theirs.get_feature_names_out())
    assert ours.sparse_output and issparse(ours.set_output(transform="default").transform(X))
    parameters = OneHotEncoder().get_params()
    assert TableOneHotEncoder().get_params() == parameters | {"dtype": np.float32}


@pytest.mark.parametrize("seed", range(15))
def test_encoder_learns_what_scikit_learns_does(seed):
    """Categories are counted and encoded before rows are, which must not be seen."""
    from sklearn.preprocessing import OneHotEncoder

    rng = np.random.RandomState(seed)
    n = 300
    X = pd.DataFrame()
    for number in range(3):
        words = rng.permutation([f"c{k}" for k in range(rng.randint(1, 60))]).astype(object)
        values = words[np.minimum(rng.geometric(rng.uniform(0.02, 0.9), n) - 1, len(words) - 1)]
        values[rng.rand(n) < rng.choice([0, 0.01, 0.3])] = None
        X[f"x{number}"] = pd.Categorical(values, categories=rng.permutation(words))
    parameters = {
        "handle_unknown": rng.choice(["infrequent_if_exist", "ignore"]),
        "min_frequency": rng.choice([None, 1, 2, 4, 10, 0.02]),
        "max_categories": rng.choice([None, 1, 2, 3, 10]),
        "dtype": np.float32,
    }
    if parameters["min_frequency"] and parameters["min_frequency"] >= 1:
        parameters["min_frequency"] = int(parameters["min_frequency"])
    ours, theirs = (kind(**parameters).fit(X) for kind in (TableOneHotEncoder, OneHotEncoder))
    assert list(ours.get_feature_names_out()) == list(theirs.get_feature_names_out())
    new = pd.DataFrame({name: rng.permutation([*X[name], "new", "other", None]) for name in X})
    for rows in (X, X[:2], new.astype("category")):
        got, expected = ours.transform(rows), theirs.transform(rows)
        assert got.format == "csr" and got.dtype == np.float32 and got.has_canonical_format
        assert got.shape == expected.shape and (got != expected).nnz == 0
    if parameters["min_frequency"] is None and parameters["max_categories"] is None:
        return
    for one, other in zip(ours.infrequent_categories_, theirs.infrequent_categories_, strict=True):
        assert str(one) == str(other)


def test_encoder_encodes_each_category_once(monkeypatch):
    from sklearn.preprocessing import OneHotEncoder

    n_rows = {"fit": [], "transform": []}
    for name, counts in n_rows.items():
        real = getattr(OneHotEncoder, name)

        def counted(self, X, *args, real=real, counts=counts):
            counts.append(len(X))
            return real(self, X, *args)

        monkeypatch.setattr(OneHotEncoder, name, counted)
    X = pd.DataFrame({"a": pd.Categorical(["u", "v"] * 500), "b": pd.Categorical(["w"] * 1000)})
    got = TableOneHotEncoder(min_frequency=4).fit(X).transform(X)
    assert n_rows["transform"] == [2] and n_rows["fit"][0] < 20
    np.testing.assert_array_equal(got[:3].toarray(), [[1, 0, 1], [0, 1, 1], [1, 0, 1]])


def test_columns_do_not_change_the_table():
    X, _ = mixed()
    before = X.copy(deep=True)
    TableColumns().fit(X).transform(X)
    pd.testing.assert_frame_equal(X, before)


def test_columns_from_other_libraries():
    X, _ = mixed()
    expected = TableColumns().fit_transform(X)
    table = pa.Table.from_pandas(X)
    got = TableColumns().fit_transform(table)
    assert values(got) == values(expected)


def test_tables_need_their_packages():
    code = (
        "import sys; sys.modules['pandas'] = None\n"
        "try:\n    import fastmlp.tables\nexcept ImportError as error:\n    print(error)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == (
        "fastmlp.tables needs pandas and pyarrow: pip install 'fastmlp[tables]'.\n"
    )
