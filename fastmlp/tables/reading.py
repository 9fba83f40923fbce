"""Read tables from files and streams; formats are detected from the content."""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import json
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from fastmlp.exceptions import TableWarning, warn
from fastmlp.tables import text

__all__ = ["read_table"]

AnyPath: TypeAlias = str | os.PathLike[str]

#: First bytes of compressed files, and pyarrow's name of the codec.
_CODECS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}

#: First bytes of files that are not tables, and their formats.
_FOREIGN = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"%PDF": "a PDF document",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save it as CSV",
    b"SQLite format 3": "an SQLite data base; read a table of it with pandas.read_sql",
    b"\x89HDF": "an HDF5 file; read a table of it with pandas.read_hdf",
    b"ORC": "an ORC file; read it with pandas.read_orc",
    b"\xfd7zXZ": "compressed with xz; unpack it first",
    b"7z\xbc\xaf": "a 7z archive; unpack it first",
    b"Rar!": "a RAR archive; unpack it first",
    b"\x7fELF": "a program",
    b"\x80\x02": "a pickle, which could run any code; save the table as Parquet",
    b"\x80\x03": "a pickle, which could run any code; save the table as Parquet",
    b"\x80\x04": "a pickle, which could run any code; save the table as Parquet",
    b"\x80\x05": "a pickle, which could run any code; save the table as Parquet",
    b"\x00\x00\x08": "an IDX file; fastmlp.idx.read reads it",
    b"\x00\x00\x0b": "an IDX file; fastmlp.idx.read reads it",
    b"\x00\x00\x0d": "an IDX file; fastmlp.idx.read reads it",
}

#: Number of bytes used to detect the format of a file, and the delimiter of a text.
_HEAD = 1 << 18

#: Bytes that are read at a time; also the maximum length of a row.
_BLOCK = 1 << 23

#: Number of rows used to detect delimiter and header.
_SAMPLE_ROWS = 200

#: Delimiters, in order of preference; followed by blanks.
_DELIMITERS = "\t;|,"

#: The delimiter for texts with a single column.
_NO_DELIMITER = "\x1f"

#: Numbers with a larger offset, in units of their range, need more precision than float32.
_MAX_OFFSET = 4096

#: Minimum fraction of numbers in a column of numbers; others are treated as errors.
_MOSTLY = 0.9

_NAMES_OF_X = ("x", "data", "x_train", "features", "arr_0")
_NAMES_OF_Y = ("y", "target", "label", "labels", "class", "targets", "y_train")


def read_table(path: AnyPath | BinaryIO) -> pd.DataFrame:
    r"""Read a table from a file or stream.

    The format is detected from the content: CSV with any delimiter (comma, semicolon, tab, bar,
    blanks), in UTF-8, UTF-16 or Windows-1252, with a decimal point or comma; Parquet; Feather and
    Arrow; NPY and NPZ (a matrix gives columns x0, x1 ...); JSON lines. Text may be compressed with
    gzip, bzip2 or zstd.

    Parameters
    ----------
    path : path or binary stream
        A stream is read to its end.

    Returns
    -------
    frame : DataFrame
        Integers, float32 (float64 if digits would be lost), booleans, dates (datetime64), and text
        as categories. Empty cells and the words NA, N/A, NaN, null and ? are missing values.

    Raises
    ------
    ValueError
        If it is not a table or is malformed; the message names the line if possible.
    OSError
        If it cannot be opened.

    Warns
    -----
    TableWarning
        If something was guessed: an encoding, names of columns, the order of day and month.

    Examples
    --------
    >>> import io
    >>> read_table(io.BytesIO(b"size;price;sold\n3;1,5;2024-05-01\n4;;2024-05-02\n")).dtypes
    size              int32
    price           float32
    sold     datetime64[us]
    dtype: object
    """
    source = TableSource(*_content(path))
    try:
        _uncompress(source)
        frame = _read(source)
    except (pa.ArrowException, zipfile.BadZipFile) as error:
        raise ValueError(f"{source.name} cannot be read: {_first_line(error)}.") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError(
            f"{source.name} is damaged: {_first_line(error)}; download or write it again."
        ) from error
    if not len(frame.columns):
        raise ValueError(f"{source.name} has no columns; a table needs at least one.")
    if not len(frame):
        raise ValueError(
            f"{source.name} has a header and no rows: {_some(frame.columns)}; a table needs rows."
        )
    return frame


# ------------------------------------------------------------------------------------------ source


@dataclass
class TableSource:
    """A file or the bytes of a stream, which can be read repeatedly."""

    name: str
    content: str | pa.Buffer
    codec: str | None = None

    def open(self) -> pa.NativeFile:
        """Return a new stream of its decompressed bytes."""
        return pa.input_stream(self.content, compression=self.codec)

    def file(self) -> Any:
        """Return a file or buffer with random access."""
        if isinstance(self.content, str) and self.codec is None:
            return pa.OSFile(self.content)
        with self.open() as stream:
            return pa.BufferReader(stream.read())

    def head(self) -> bytes:
        """Return the first bytes."""
        with self.open() as stream:
            return stream.read(_HEAD)


def _content(path: AnyPath | BinaryIO) -> tuple[str, str | pa.Buffer]:
    """Return the name of a path or stream, and the path or the content of the stream."""
    if isinstance(path, str | os.PathLike):
        return os.fspath(path), _on_disk(Path(path))
    content = path.read()
    name = getattr(path, "name", None)
    name = name.replace("<stdin>", "standard input") if isinstance(name, str) else "the stream"
    if isinstance(content, str):
        raise ValueError(
            f"{name} is a stream of text; pass one of bytes, such as sys.stdin.buffer."
        )
    return name, pa.py_buffer(content)


def _uncompress(source: TableSource) -> None:
    """Detect compression, possibly nested."""
    for _ in range(2):
        head = source.head()
        codec = next((c for magic, c in _CODECS.items() if head.startswith(magic)), None)
        if codec is None:
            break
        if source.codec is not None:
            source.content = source.file().read_buffer()
        source.codec = codec


def _on_disk(path: Path) -> str | pa.Buffer:
    """Return the path of a regular file, or the content of a pipe."""
    if path.is_dir():
        raise ValueError(f"{path} is a directory; use a file in it.")
    if path.is_file():
        return os.fspath(path)
    if path.exists():
        return pa.py_buffer(path.read_bytes())
    folder = path.parent
    names = os.listdir(folder) if folder.is_dir() else []
    close = difflib.get_close_matches(path.name, names, n=1)
    hint = f"; did you mean {os.fspath(folder / close[0])}?" if close else "."
    raise FileNotFoundError(2, f"there is no file {path}{hint}")


def _read(source: TableSource) -> pd.DataFrame:
    """Detect the format of a source and read it."""
    head = source.head()
    if not head.strip():
        raise ValueError(f"{source.name} is empty; a table needs a header and rows.")
    if head.startswith(b"PAR1"):
        import pyarrow.parquet

        return from_arrow(pyarrow.parquet.read_table(source.file()), source)
    if head.startswith((b"ARROW1", b"FEA1")):
        import pyarrow.feather

        return from_arrow(pyarrow.feather.read_table(source.file()), source)
    if head.startswith(b"\xff\xff\xff\xff"):
        with source.open() as stream, pa.ipc.open_stream(stream) as reader:
            return from_arrow(reader.read_all(), source)
    if head.startswith(b"\x93NUMPY"):
        return _from_arrays({"x": _load_arrays(source)}, source)
    if head.startswith(b"PK"):
        return _from_zip(source)
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            _refuse(source, what)
    return _from_text(source, head)


def _refuse(source: TableSource, what: str) -> NoReturn:
    hint = "" if ";" in what else "; a table is CSV, Parquet, Feather, NPZ or JSON lines"
    raise ValueError(f"{source.name} is {what.replace(';', ', not a table;', 1)}{hint}.")


def _first_line(error: BaseException) -> str:
    """Return the first line of a message, without a full stop."""
    line = next(iter(str(error).splitlines()), type(error).__name__).strip().rstrip(".")
    return line.removeprefix("Could not open Parquet input source '<Buffer>': ")


def _some(names: Any, n: int = 5) -> str:
    """Return some names in words."""
    names = [repr(str(name)) for name in names]
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return ", ".join(names[:n]) + more


def _tell(source: TableSource, message: str) -> None:
    warn(f"{source.name}: {message}", TableWarning)


# -------------------------------------------------------------------------------------------- text


@dataclass
class _Layout:
    """Layout of a text table."""

    encoding: str
    delimiter: str
    has_header: bool
    skip_lines: int = 0  # before the header
    decimal_comma: bool = False
    has_quotes: bool = False

    def rows(self, source: TableSource) -> Iterator[tuple[int, list[str]]]:
        """Yield the rows as read by Python's csv module, each with its first line number."""
        with (
            source.open() as stream,
            io.TextIOWrapper(stream, self.encoding, errors="replace", newline="") as lines,
        ):
            reader = csv.reader(lines, delimiter=self.delimiter, strict=False)
            before = 0
            for row in reader:
                if row and before >= self.skip_lines:
                    yield before + 1, row
                before = reader.line_num


def _from_text(source: TableSource, head: bytes) -> pd.DataFrame:
    encoding, has_quotes = _encoding(source, head)
    sample = head.decode(encoding, errors="ignore").removeprefix("\ufeff")
    if not sample.strip():
        raise ValueError(f"{source.name} is empty; a table needs a header and rows.")
    start = sample.lstrip()
    if re.match(r"(?i)<(!doctype|html|\?xml)", start):
        _refuse(source, "a page or document of markup")
    if re.match(r'\{\s*("|\})', start) or re.match(r"\[\s*\{", start):
        return _from_json(source, encoding, is_list=start[0] == "[")
    layout = _layout(sample, encoding, is_whole=len(head) < _HEAD)
    layout.has_quotes = has_quotes
    if layout.delimiter == " ":
        source, layout = _without_blanks(source, layout)
    return _from_csv(source, layout)


def _encoding(source: TableSource, head: bytes) -> tuple[str, bool]:
    """Return the encoding of a text, and whether it has quotes; refuse binary content."""
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF32_LE, "utf-32"),  # begins with UTF-16's
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if head.startswith(mark):
            encoding = name
            break
    else:
        # Latin letters in UTF-16 have a NUL byte each.
        nul = [head[start : 1 << 12 : 2].count(0) / (len(head[start : 1 << 12 : 2]) or 1)
               for start in (0, 1)]  # fmt: skip
        encoding = "utf-8"
        if max(nul) > 0.4 and min(nul) < 0.1:
            encoding = "utf-16-le" if nul[1] > nul[0] else "utf-16-be"
    decoder = codecs.getincrementaldecoder(encoding)()
    has_quotes, n_lines, is_single = False, 0, encoding.startswith("utf-8")
    with source.open() as stream:
        while chunk := stream.read(_BLOCK):
            has_quotes = has_quotes or b'"' in chunk
            if is_single and (place := chunk.find(b"\0")) >= 0:
                line = n_lines + chunk.count(b"\n", 0, place) + 1
                raise ValueError(
                    f"{source.name}, line {line}: text must not hold NUL bytes, got one; is it a "
                    "binary file? A table is CSV, Parquet, Feather, NPZ or JSON lines."
                )
            try:
                if not (is_single and chunk.isascii() and not decoder.getstate()[0]):
                    decoder.decode(chunk)
            except UnicodeDecodeError as error:
                line = n_lines + chunk.count(b"\n", 0, error.start) + 1
                return _other_encoding(source, encoding, line, error), True
            n_lines += chunk.count(b"\n")
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return _other_encoding(source, encoding, n_lines + 1, error), True
    return encoding, has_quotes


def _other_encoding(
    source: TableSource, encoding: str, line: int, error: UnicodeDecodeError
) -> str:
    """Return Windows-1252 for a text that is not valid in its encoding, or refuse it."""
    byte = error.object[error.start]
    name = encoding.upper().removesuffix("-SIG")
    if encoding == "utf-8":
        with source.open() as stream:
            content = stream.read(_BLOCK)
        # Text has no other control characters and no undefined bytes.
        foreign = len(content.translate(None, bytes([*range(9, 14), 26, *range(32, 256)])))
        foreign += sum(map(content.count, (b"\x81", b"\x8d", b"\x8f", b"\x90", b"\x9d")))
        if not foreign:
            _tell(
                source,
                f"line {line} is not UTF-8 (byte 0x{byte:02X}), so the text is read as "
                "Windows-1252; check accented letters, or save it as UTF-8.",
            )
            return "cp1252"
    raise ValueError(
        f"{source.name}, line {line}: byte 0x{byte:02X} is not {name}; save the text as UTF-8, or "
        "is it a binary file? A table is CSV, Parquet, Feather, NPZ or JSON lines."
    )


def _layout(sample: str, encoding: str, *, is_whole: bool) -> _Layout:
    """Detect the layout of a text from its first lines."""
    skip_lines = 0
    delimiter = None
    if declared := re.match(r"sep=(.)\r?\n", sample):  # as Excel writes and reads
        delimiter, skip_lines, sample = declared[1], 1, sample[declared.end() :]
    if not is_whole:
        sample = sample[: max(sample.rfind("\n"), sample.rfind("\r")) + 1] or sample
    if delimiter is None:
        delimiter = _delimiter(sample)
    if delimiter == " ":
        sample = sample.replace("\t", " ")
    rows = _sample_rows(sample, delimiter)
    cells = [cell.strip() for row in rows for cell in row]
    comma = re.compile(r"[-+]?[0-9]+,[0-9]+")
    point = re.compile(r"[-+]?[0-9]+\.[0-9]+")
    return _Layout(
        encoding,
        delimiter,
        has_header=_has_header(rows),
        skip_lines=skip_lines,
        decimal_comma=delimiter != ","
        and any(map(comma.fullmatch, cells))
        and not any(map(point.fullmatch, cells)),
    )


def _sample_rows(sample: str, delimiter: str) -> list[list[str]]:
    """Return the first non-empty rows of a text."""
    rows: list[list[str]] = []
    try:
        reader = csv.reader(
            io.StringIO(sample, newline=""), delimiter=delimiter, skipinitialspace=delimiter == " "
        )
        for row in reader:
            if delimiter == " " and row and row[-1] == "":  # blanks at the end
                row.pop()
            if row:
                rows.append(row)
            if len(rows) == _SAMPLE_ROWS:
                break
    except csv.Error:  # an unterminated cell, which is reported when the whole file is read
        pass
    return rows or [[sample]]


def _delimiter(sample: str) -> str:
    """Return the delimiter with the same count in the first and most other rows."""
    best, best_share = _NO_DELIMITER, 0.0
    for delimiter in _DELIMITERS:
        rows = _sample_rows(sample, delimiter)
        n_columns = len(rows[0])
        share = sum(len(row) == n_columns for row in rows) / len(rows)
        if n_columns > 1 and share > best_share:
            best, best_share = delimiter, share
    if best == _NO_DELIMITER:
        rows = _sample_rows(sample.replace("\t", " "), " ")
        n_columns = len(rows[0])
        share = sum(len(row) == n_columns for row in rows) / len(rows)
        if n_columns > 1 and share > 0.9 and len(rows) > 1:
            return " "
    return best


def _has_header(rows: list[list[str]]) -> bool:
    """Return whether the first row contains names, not values.

    It contains values if all its cells are numbers, or if some are in numeric columns and the
    others occur again below.
    """
    first, below = rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]
    numeric = [text.is_number(cell) for cell in first]
    missing = [cell.strip() in text.MISSING_WORDS for cell in first]
    if not any(numeric):
        return True
    if all(n or m for n, m in zip(numeric, missing, strict=True)):
        return False
    for place, cell in enumerate(first):
        values = [row[place] for row in below]
        if missing[place]:
            continue
        if numeric[place]:
            n_numbers = sum(map(text.is_number, values))
            if not values or n_numbers < _MOSTLY * len(values):
                return True
        elif cell not in values:
            return True
    return False


def _without_blanks(source: TableSource, layout: _Layout) -> tuple[TableSource, _Layout]:
    """Replace runs of blanks between cells by tabs."""
    with source.open() as stream:
        content = stream.read()
    content = content.decode(layout.encoding).encode()
    content = re.sub(rb"(?m)^[ \t]+|[ \t]+(?=\r?$)", b"", content)
    if layout.has_quotes:
        content = re.sub(rb'("(?:[^"]|"")*")|[ \t]+', lambda match: match[1] or b"\t", content)
    else:
        content = re.sub(rb"[ \t]+", b"\t", content)
    layout.encoding, layout.delimiter = "utf-8", "\t"
    return TableSource(source.name, pa.py_buffer(content)), layout


def _from_csv(source: TableSource, layout: _Layout) -> pd.DataFrame:
    from pyarrow import csv as arrow_csv

    with source.open() as stream:
        try:
            table = arrow_csv.read_csv(
                stream,
                arrow_csv.ReadOptions(
                    encoding="utf-8" if layout.encoding.startswith("utf-8") else layout.encoding,
                    block_size=_BLOCK,
                    skip_rows=layout.skip_lines,
                    autogenerate_column_names=not layout.has_header,
                ),
                arrow_csv.ParseOptions(
                    delimiter=layout.delimiter, newlines_in_values=layout.has_quotes
                ),
                arrow_csv.ConvertOptions(
                    null_values=list(text.MISSING_WORDS),
                    strings_can_be_null=True,
                    auto_dict_encode=True,
                    auto_dict_max_cardinality=1 << 30,
                    decimal_point="," if layout.decimal_comma else ".",
                ),
            )
        except (pa.ArrowInvalid, UnicodeError) as error:
            _explain(source, layout, error)
    if layout.has_quotes:
        _check_last_quote(source, layout)
    if not layout.has_header:
        names = [f"x{number}" for number in range(len(table.column_names))]
        _tell(
            source,
            "the first row holds values, so there is no header and the columns are "
            f"called {names[0]}" + (f" to {names[-1]}." if len(names) > 1 else "."),
        )
        table = table.rename_columns(names)
    return from_arrow(table, source, _Refine(source, decimal_comma=layout.delimiter != ","))


def _explain(source: TableSource, layout: _Layout, error: Exception) -> NoReturn:
    """Locate the error in a malformed text, which pyarrow does not report."""
    expected = line = n_rows = 0
    try:
        for line, row in layout.rows(source):
            expected = expected or len(row)
            n_rows += 1
            if len(row) == expected:
                continue
            cells = f"{len(row)} cell{'s' if len(row) > 1 else ''}"
            begin = layout.delimiter.join(row)
            if "\n" in begin[:-1] and begin.count("\n") > 1:
                _refuse_quote(source, line)
            begin = repr(begin[:60] + "..." * (len(begin) > 60))
            raise ValueError(
                f"{source.name}, line {line}: every row must have {expected} cells, as the first "
                f"row has, got {cells}: {begin}. Correct the line, or quote text that "
                f"contains {layout.delimiter!r}."
            ) from error
    except csv.Error:
        _refuse_quote(source, line + 1)
    if n_rows == 1:  # without a newline
        raise ValueError(
            f"{source.name} has a header and no rows: {_some(row)}; a table needs rows."
        ) from error
    raise ValueError(f"{source.name} cannot be read: {_first_line(error)}.") from error


def _refuse_quote(source: TableSource, line: int) -> NoReturn:
    raise ValueError(
        f"{source.name}, line {line}: a quotation mark must have a closing one, got none; "
        "write it twice if it is part of the text."
    )


def _check_last_quote(source: TableSource, layout: _Layout) -> None:
    """Refuse a text with an unclosed quotation mark, which pyarrow accepts."""
    n_marks = 0
    with source.open() as stream:
        while chunk := stream.read(_BLOCK):
            n_marks += chunk.count(b'"')
    if n_marks % 2 == 0:
        return
    # An odd number of marks is valid if one is inside an unquoted cell.
    last: tuple[int, list[str]] = 0, []
    try:
        for row in layout.rows(source):
            last = row
    except csv.Error:
        _refuse_quote(source, last[0] + 1)
    if any("\n" in cell for cell in last[1]):
        _refuse_quote(source, last[0])


# ---------------------------------------------------------------------------------- other formats


def _from_json(source: TableSource, encoding: str, *, is_list: bool) -> pd.DataFrame:
    from pyarrow import json as arrow_json

    with source.open() as stream:
        content = stream.read()
    if is_list or not encoding == "utf-8":
        characters = content.decode(encoding)
        if is_list:
            try:
                records = json.loads(characters)
            except (ValueError, RecursionError) as error:
                raise ValueError(
                    f"{source.name} is not JSON: {_first_line(error)}; write one object per line."
                ) from error
            if not all(isinstance(record, dict) for record in records):
                raise ValueError(
                    f"{source.name} must hold objects only, with a value per column, got others; "
                    "write one object per line."
                )
            characters = "\n".join(map(json.dumps, records))
        content = characters.encode()
    block = max(_BLOCK, min(len(content) + 1, 1 << 30))
    try:
        table = arrow_json.read_json(
            pa.BufferReader(content), arrow_json.ReadOptions(block_size=block)
        )
    except pa.ArrowInvalid as error:
        what = _first_line(error).removeprefix("JSON parse error: ")
        place = ""
        if row := re.search(r" ?in row ([0-9]+)$", what):
            what, place = what[: row.start()].rstrip("."), f", line {int(row[1]) + 1}"
        raise ValueError(
            f"{source.name}{place}: every line must be a JSON object with the same kinds of "
            f"values, got: {what}."
        ) from error
    return from_arrow(table, source, _Refine(source, dates_only=True))


def _from_zip(source: TableSource) -> pd.DataFrame:
    try:
        with zipfile.ZipFile(source.file()) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise ValueError(f"{source.name} is a damaged archive; replace it.") from error
    if any(name.startswith("xl/") for name in names):
        _refuse(source, "an Excel workbook; save it as CSV")
    if not names or not all(name.endswith(".npy") for name in names):
        _refuse(source, f"an archive of {_some(names)}; unpack it first")
    return _from_arrays(_load_arrays(source), source)


def _load_arrays(source: TableSource) -> Any:
    """Return the array of an NPY file, or a dict of the arrays of an NPZ file."""
    try:
        loaded = np.load(io.BytesIO(source.file().read()), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except Exception as error:  # parsers may raise any exception for a damaged file
        what = _first_line(error)
        if "allow_pickle" in what:
            what = (
                "it holds Python objects, which could run any code; save arrays of numbers or of "
                "text (astype(str))"
            )
        raise ValueError(f"{source.name} cannot be read: {what}.") from error


def _from_arrays(arrays: dict[str, NDArray[Any]], source: TableSource) -> pd.DataFrame:
    """Return a matrix, with its targets if available, or columns as a frame."""
    lower = {name.lower(): name for name in arrays}
    matrix = next((lower[name] for name in _NAMES_OF_X if name in lower), None)
    if matrix is None and len(arrays) > 1:
        matrix = next((name for name, array in arrays.items() if array.ndim > 1), None)
    elif matrix is None:
        matrix = next(iter(arrays), None)
    columns: dict[str, Any] = {}
    X = arrays[matrix] if matrix is not None else None
    if X is not None:
        if X.ndim not in (1, 2):
            raise ValueError(
                f"{source.name}: an array must have a row per sample and a column per feature, got "
                f"shape {X.shape}; reshape it to ({X.shape[0] if X.ndim else 1}, -1)."
            )
        if X.dtype.names:
            columns |= {name: X[name] for name in X.dtype.names}
        elif X.ndim == 2:
            columns |= {f"x{number}": X[:, number] for number in range(X.shape[1])}
        else:
            columns["x0"] = X
    y = next((lower[name] for name in _NAMES_OF_Y if name in lower), None)
    rest = [y] if y is not None else [] if X is not None else list(arrays)
    for name in rest:
        array = arrays[name]
        columns[name] = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    ignored = [name for name in arrays if name not in (matrix, *rest)]
    if ignored:
        taken = [name for name in (matrix, y) if name is not None]
        _tell(source, f"the arrays {_some(taken)} are read, {_some(ignored)} are not.")
    sizes = Counter(len(array) if array.ndim == 1 else -1 for array in columns.values())
    if len(sizes) > 1 or -1 in sizes:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(
            f"{source.name}: arrays of one table must have the same number of rows, and targets a "
            f"single column, got {shapes}."
        )
    return pd.DataFrame(
        {name: _from_array(name, array, source) for name, array in columns.items()}, copy=False
    )


def _from_array(name: str, array: NDArray[Any], source: TableSource) -> Any:
    """Return a column of numbers, booleans, dates or text."""
    if array.ndim != 1 or array.dtype.kind not in "biufMSU":
        raise ValueError(
            f"{source.name}: columns must hold numbers, booleans, dates or text, got {array.dtype} "
            f"of shape {array.shape} in {name!r}."
        )
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind == "U":
        return _Refine(source)(pd.Categorical(array.astype(object)), name)
    if array.dtype.kind == "M":
        return array.astype("datetime64[us]")
    return _narrow(array.astype(array.dtype.newbyteorder("="), copy=False))


# ----------------------------------------------------------------------------- from Arrow to pandas


def from_arrow(table: pa.Table, source: TableSource, refine: _Refine | None = None) -> pd.DataFrame:
    """Return a frame; each column of the table is released after its conversion."""
    names = _unique_names(table.column_names, source)
    columns = table.columns
    del table
    converted: dict[str, Any] = {}
    for name in names:
        column = columns.pop(0)
        if name is not None:
            converted[name] = _column(column, name, source, refine)
        del column
    return pd.DataFrame(converted, copy=False)


def _unique_names(given: list[str], source: TableSource) -> list[str | None]:
    """Return unique names, and None for the stored index of pandas."""
    names: list[str | None] = []
    taken = {name.strip() for name in given}
    seen: set[str] = set()
    unnamed, renamed = [], []
    for number, name in enumerate(given):
        unique = name.strip()
        if re.fullmatch(r"__index_level_[0-9]+__", unique):
            names.append(None)
            continue
        if not unique:
            base, counter = f"x{number}", 1
            unique = base
        else:
            base, counter = unique, 1
        while unique in seen or (counter > 1 or not name.strip()) and unique in taken:
            counter += 1
            unique = f"{base}_{counter}"
        if not name.strip():
            unnamed.append(unique)
        elif counter > 1:
            renamed.append(unique)
        seen.add(unique)
        names.append(unique)
    if unnamed:
        _tell(source, f"columns without a name are named {_some(unnamed)}.")
    if renamed:
        _tell(source, f"duplicate names are changed to {_some(renamed)}.")
    return names


def _column(values: pa.ChunkedArray, name: str, source: TableSource, refine: _Refine | None) -> Any:
    """Convert a column to a NumPy or pandas array with the smallest lossless dtype."""
    kind = values.type
    if pa.types.is_dictionary(kind) and not (
        pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type)
    ):
        values = values.cast(kind.value_type)
        kind = values.type
    if pa.types.is_boolean(kind):
        return pd.array(values.to_numpy(), dtype="boolean" if values.null_count else "bool")
    if pa.types.is_decimal(kind):
        values, kind = values.cast(pa.float64()), pa.float64()
    if pa.types.is_time(kind) or pa.types.is_duration(kind):  # in seconds
        unit = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}[kind.unit]
        whole = pa.int32() if kind.bit_width == 32 else pa.int64()
        return _narrow(values.cast(whole).to_numpy() / unit)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _narrow(values.to_numpy())
    if pa.types.is_null(kind):
        return np.full(len(values), np.nan, np.float32)
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return _dates(values)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        values, kind = values.dictionary_encode(), None
    if kind is None or pa.types.is_dictionary(kind):
        words = values.unify_dictionaries().to_pandas().array
        return words if refine is None else refine(words, name)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        _tell(source, f"column {name!r} holds bytes, which cannot be used.")
    else:
        _tell(source, f"column {name!r} holds {kind}, which cannot be used.")
    return values.to_pandas().array


def _dates(values: pa.ChunkedArray) -> Any:
    """Return dates without a time zone (UTC), in the finest unit that can represent them all."""
    if pa.types.is_date(values.type):
        values = values.cast(pa.date64() if values.type == pa.date64() else pa.timestamp("s"))
    unit = getattr(values.type, "unit", "ms")
    unit = "us" if unit in ("s", "ms") else unit
    try:
        values = values.cast(pa.timestamp(unit))
    except pa.ArrowInvalid:  # out of the range of that unit
        values = values.cast(pa.timestamp("s"), safe=False)
    return values.to_numpy()


def _narrow(numbers: NDArray[Any]) -> NDArray[Any]:
    """Convert 64-bit numbers to 32 bits if no relevant precision is lost."""
    kind, size = numbers.dtype.kind, numbers.dtype.itemsize
    if kind == "f" and size == 2:
        return numbers.astype(np.float32)
    if kind == "f" and size > 8:
        numbers, size = numbers.astype(np.float64), 8
    if kind not in "iuf" or size < 8 or not numbers.size:
        return numbers
    if kind in "iu":
        info = np.iinfo(np.int32)
        fits = info.min <= numbers.min() and numbers.max() <= info.max
        return numbers.astype(np.int32) if fits else numbers
    finite = numbers[np.isfinite(numbers)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    largest = max(abs(low), abs(high))
    if (
        largest > float(np.finfo(np.float32).max)
        or (high > low and largest > _MAX_OFFSET * (high - low))
        # integers, of which some are missing
        or (largest > 2**24 and np.array_equal(finite, np.trunc(finite)))
    ):
        return numbers
    with np.errstate(under="ignore"):
        return numbers.astype(np.float32)


@dataclass
class _Refine:
    """Converts text to numbers and dates where possible, and cleans other text.

    Parameters
    ----------
    source : TableSource
        For warnings.
    decimal_comma : bool
        Whether "1,234" is a number less than 2.
    dates_only : bool
        Whether numbers have already been detected.
    """

    source: TableSource
    decimal_comma: bool = False
    dates_only: bool = False

    def __call__(self, column: pd.Categorical, name: str) -> Any:
        """Return a column with its actual type."""
        words = np.asarray(column.categories, dtype=object)
        codes = np.asarray(column.codes)
        if not self.dates_only and len(words) and all(word[:1] == " " for word in words):
            # Caused by a blank after each comma.
            column = _with_words(np.array([w.lstrip(" ") for w in words], dtype=object), codes)
            words = np.asarray(column.categories, dtype=object)
            codes = np.asarray(column.codes)
        if not len(words):
            return np.full(len(codes), np.nan, np.float32)
        if (dated := text.dates(words)) is not None:
            values, doubt = dated
            if doubt:
                shown = f"dates such as {words[0]!r} are read with {doubt}"
                _tell(self.source, f"column {name!r}: {shown}.")
            return np.append(values, np.datetime64("NaT"))[codes]
        if self.dates_only:
            return column
        if (found := text.numbers(words, decimal_comma=self.decimal_comma)) is not None:
            values, how = found
            if how:
                place = next(n for n, w in enumerate(words) if not w.strip("+-").isdigit())
                shown = f"{words[place]!r} is read as {values[place]:.15g} ({how})"
                _tell(self.source, f"column {name!r}: {shown}.")
            return _narrow(np.append(values, np.nan)[codes])
        return self._mostly_numbers(column, words, codes, name)

    def _mostly_numbers(
        self, column: pd.Categorical, words: NDArray[Any], codes: NDArray[Any], name: str
    ) -> Any:
        """Return numbers if nearly all values are; others become missing, with a warning."""
        glance = codes[:: len(codes) // _SAMPLE_ROWS or 1]
        if np.isfinite(text.some_numbers(words[glance[glance >= 0]])).mean() < _MOSTLY / 2:
            return column
        values = text.some_numbers(words)
        others = (codes >= 0) & np.isnan(values)[codes]
        n_others = int(others.sum())
        if n_others > (1 - _MOSTLY) * np.count_nonzero(codes >= 0):
            return column
        row = int(np.argmax(others))
        _tell(
            self.source,
            f"column {name!r} holds numbers, except for {n_others} of {len(codes)} rows, such as "
            f"{words[codes[row]]!r} in row {row + 1}, which are treated as missing.",
        )
        return _narrow(np.append(values, np.nan)[codes])


def _with_words(words: NDArray[Any], codes: NDArray[Any]) -> pd.Categorical:
    """Return text with new words, which may contain duplicates or missing values."""
    missing = set(text.MISSING_WORDS)
    places: dict[str, int] = {}
    moved = np.array(
        [-1 if word in missing else places.setdefault(word, len(places)) for word in words] + [-1]
    )
    return pd.Categorical.from_codes(moved[codes], categories=list(places))
