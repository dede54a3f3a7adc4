"""Tables of pixels (.csv): Kaggle's digit recognizer, MNIST and EMNIST as CSV, data frames as pandas writes them."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterator, Sequence
from io import BufferedIOBase
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastlenet.data.dataset import Dataset
from fastlenet.data.images import Array, Images
from fastlenet.data.labels import as_numbers
from fastlenet.data.reading import DataError, limit_of, opened, wrong
from fastlenet.fields import FieldError
from fastlenet.files import shown_path, user_path

__all__ = ["holds_csv", "load_csv"]

_LABEL_WORDS = ("label", "labels", "class", "target", "digit", "letter", "character", "y")
_LINES = 1000  # parsed at a time
_LONGEST = 16 << 20  # bytes of a line: 2,000 x 2,000 pixels


class _Table(NamedTuple):
    """How a table is laid out: the place of the label among its columns, None where there is none; the pixels of a row."""

    label: int | None
    columns: int
    header: bool

    @property
    def pixels(self) -> int:
        return self.columns - (self.label is not None)


def holds_csv(path: Path) -> bool:
    """Whether it is a table, or a folder that has a table for training."""
    return (path.is_file() and _is_table(path.name)) or (path.is_dir() and _training_table(path) is not None)


def _is_table(name: str) -> bool:
    return re.search(r"\.(csv|csv\.gz)$", name.lower()) is not None


def _training_table(folder: Path) -> Path | None:
    """The one table in a folder, or the one whose name has "train" in it."""
    tables = sorted(path for path in folder.iterdir() if path.is_file() and _is_table(path.name))
    training = [path for path in tables if "train" in path.name.lower()] or tables
    return training[0] if len(training) == 1 else None


def load_csv(path: str | os.PathLike[str]) -> Dataset:
    """Returns the data set in a table. Each row has a label and the pixels of a square image, in 0..255 or 0..1.

    path: the table, .csv or .csv.gz, or a folder with one. If the header names a column label, class, target, ..., this column
    has the labels, else the first column has them. Labels may be words. The test part is read from the file beside it that has
    "test" for "train" in its name, if this file has labels (Kaggle's has none, and is left out). Memory: at most five times the
    size of the tables, which may decompress to 200 MiB, or to 20 times their size if that is more. Raises DataError, in one
    line that names file, line and column.
    """
    path = user_path(path)
    if path.is_dir():
        found = _training_table(path)
        if found is None:
            raise DataError(f"{shown_path(path)}: expects one .csv, or one with train in its name; name the file")
        path = found
    images, labels = _read(path)
    test = _test_of(path, images.shape[1])
    try:
        return Dataset.from_arrays(images, labels, test=test, name=path.name.split(".")[0])
    except FieldError as error:
        place = _test_path(path) if error.field.startswith("test") else path
        field = {"X": "pixels", "test[0]": "pixels", "y": "labels", "test[1]": "labels"}.get(error.field, error.field)
        raise wrong(place, field, error.expected, error.got, error.cure) from None


def _test_path(path: Path) -> Path:
    """The name of the table for testing: with test in the place of train."""
    return path.with_name(re.sub("train(ing)?", "test", path.name, flags=re.IGNORECASE))


def _test_of(path: Path, pixels: int) -> tuple[Images, Array] | None:
    """Images and labels of the table for testing; None without one, or where it has no labels."""
    other = _test_path(path)
    if other == path or not other.is_file():
        return None
    with opened(other) as (other, stream):
        table = _layout(other, _lines(other, stream))
    return None if table.label is None or table.pixels != pixels else _read(other)


def _read(path: Path) -> tuple[Images, Array]:
    """The pixels (n, h*w) and the labels of a table."""
    with opened(path) as (path, stream):
        table = _layout(path, _lines(path, stream))
    if table.label is None:
        cure = "name the column of labels 'label', or put it first"
        raise wrong(path, "columns", "a label and the pixels of a square image", f"{table.columns} columns", cure)
    blocks: list[Images] = []
    labels: list[str] = []
    with opened(path) as (path, stream):
        lines = enumerate(_lines(path, stream), 1)
        for block in iter(lambda: list(itertools.islice(lines, _LINES)), []):
            rows = block[1:] if table.header and block[0][0] == 1 else block
            if rows:
                _expect_columns(path, rows, table)
                labels += [_split(line, table)[0] for _, line in rows]
                blocks.append(_pixels(path, rows, table))
    if not labels:
        raise wrong(path, "rows", "at least one", "none below the header" if table.header else "none")
    if any(block.dtype == np.float32 for block in blocks):
        blocks = [block.astype(np.float32) for block in blocks]
    return np.concatenate(blocks), as_numbers(labels)


def _lines(path: Path, stream: BufferedIOBase) -> Iterator[str]:
    """The lines that are not blank, without their ends. Raises DataError for too many bytes, or a line without an end."""
    limit, total, separator = limit_of(path), 0, ""
    while line := stream.readline(_LONGEST):
        total += len(line)
        if total > limit or len(line) == _LONGEST:
            raise wrong(path, "file", f"at most {limit:,} bytes, in lines of fewer than {_LONGEST:,}", "more", "is it a table?")
        text = line.decode("utf-8-sig" if total == len(line) else "utf-8", "backslashreplace").rstrip("\r\n")
        if text:
            separator = separator or next((sign for sign in ",;\t" if sign in text), ",")
            yield text.replace(separator, ",")


def _layout(path: Path, lines: Iterator[str]) -> _Table:
    first = next(lines, None)
    if first is None:
        raise wrong(path, "rows", "at least one", "an empty file")
    fields = [_unquoted(field) for field in first.split(",")]
    words = [field.lower() for field in fields]
    label = next((words.index(word) for word in _LABEL_WORDS if word in words), None)
    header = label is not None or sum(not _is_number(field) for field in fields) > 1
    if header and words[0] in ("", "unnamed: 0"):
        raise wrong(path, "columns", "a label and pixels", "a column without a name", "pandas' to_csv(index=False) writes none")
    if label is None and not _is_square(len(fields)) and _is_square(len(fields) - 1):
        label = 0
    return _Table(label, len(fields), header)


def _is_square(count: int) -> bool:
    return count > 0 and math.isqrt(count) ** 2 == count


def _unquoted(field: str) -> str:
    return field.strip().strip('"').strip()


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _split(line: str, table: _Table) -> tuple[str, str]:
    """The label and the pixels of a row."""
    if table.label == 0:
        label, _, pixels = line.partition(",")
    elif table.label == table.columns - 1:
        pixels, _, label = line.rpartition(",")
    else:
        fields = line.split(",")
        label = fields.pop(table.label or 0)
        pixels = ",".join(fields)
    return _label(_unquoted(label)), pixels


def _label(text: str) -> str:
    """Whole numbers as integers are written: 7 for 7.0."""
    return str(int(float(text))) if re.fullmatch(r"\d+\.0*", text) else text


def _expect_columns(path: Path, rows: Sequence[tuple[int, str]], table: _Table) -> None:
    for number, line in rows:
        columns = line.count(",") + 1
        if columns != table.columns:
            raise wrong(path, f"line {number}", f"{table.columns} columns, as the first line has", f"{columns}")


def _pixels(path: Path, rows: Sequence[tuple[int, str]], table: _Table) -> Images:
    """Of some rows, with their numbers: bytes where all are whole numbers in 0..255, else floats."""
    texts = [_split(line, table)[1] for _, line in rows]
    if not all(text.strip() for text in texts):  # NumPy would leave the row out
        raise _not_a_number(path, rows, table)
    try:
        values = np.loadtxt(texts, np.float32, comments=None, delimiter=",", ndmin=2, quotechar='"')
    except ValueError:
        raise _not_a_number(path, rows, table) from None
    whole: Images = values.astype(np.uint8) if ((values >= 0) & (values <= 255)).all() else values
    return whole if (whole == values).all() else values


def _not_a_number(path: Path, rows: Sequence[tuple[int, str]], table: _Table) -> DataError:
    for number, line in rows:
        for column, field in enumerate(line.split(",")):
            if column != table.label and not _is_number(_unquoted(field)):
                return wrong(path, f"line {number}, column {column + 1}", "a number", repr(field[:40]))
    return wrong(path, f"lines from {rows[0][0]} on", "numbers, separated by commas", "something else")
