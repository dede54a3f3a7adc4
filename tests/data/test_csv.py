"""`load` reads tables of labels and pixels in the dialects that programs write, and refuses wrong ones."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest

from fastlenet.data import load
from helpers.data_files import IMAGES, LABELS, refused, table


@pytest.mark.parametrize(
    "text",
    [
        table(),
        table(header=False),
        table(label="Class"),
        table().replace("\n", "\r\n"),
        "\ufeff" + table(),
        "\n" + table() + "\n\n",
        table().rstrip("\n"),
        table().replace(",", ";"),
        table().replace(",", "\t"),
        table(labels=[f"{label}.0" for label in LABELS]),
        re.sub(r"(\w+)", r'"\1"', table()),
    ],
    ids=["kaggle", "no header", "Class", "CRLF", "BOM", "blank", "no end", "semicolons", "tabs", "floats", "quoted"],
)
def test_tables(text: str, tmp_path: Path) -> None:
    path = tmp_path / "digits.csv"
    path.write_bytes(text.encode())
    data = load(path)
    assert repr(data) == "Dataset('digits', 20 training images of 1x6x6 uint8, 5 classes)"
    np.testing.assert_array_equal(data.train_images, IMAGES)
    np.testing.assert_array_equal(data.train_labels, LABELS)


def test_a_label_at_the_end_and_floats(tmp_path: Path) -> None:
    """As pandas writes them, compressed."""
    frame = pytest.importorskip("pandas").DataFrame((IMAGES / 255).reshape(20, -1))
    frame["letter"] = list("abcde" * 4)
    frame.to_csv(tmp_path / "letters.csv.gz", index=False)
    data = load(tmp_path / "letters.csv.gz")
    assert data.class_names == tuple("abcde") and data.train_images.dtype == np.float32
    np.testing.assert_allclose(data.train_images, IMAGES / 255, atol=1e-7)
    frame.to_csv(tmp_path / "indexed.csv")
    refused(tmp_path / "indexed.csv", r"columns expects .*got a column without a name; pandas' to_csv\(index=False\)")


def test_tables_for_training_and_testing(tmp_path: Path) -> None:
    """The folder, or the file; Kaggle's table for testing has no labels, and is left out."""
    (tmp_path / "mnist_train.csv").write_text(table(header=False))
    (tmp_path / "mnist_test.csv").write_text(table(IMAGES[:5], LABELS[:5], header=False))
    for source in (tmp_path, tmp_path / "mnist_train.csv"):
        data = load(source)
        assert len(data.train_labels) == 20 and data.test_labels.tolist() == LABELS[:5].tolist()
    (tmp_path / "mnist_test.csv").write_text(table(label=None))
    assert len(load(tmp_path).test_labels) == 0


def changed(line: int, column: int, value: str) -> str:
    lines = table().splitlines()
    fields = lines[line - 1].split(",")
    fields[column - 1] = value
    lines[line - 1] = ",".join(fields)
    return "\n".join(lines)


BAD_TABLES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "rows expects at least one, got an empty file"),
    "header alone": (table().splitlines()[0].encode(), "rows expects at least one, got none below the header"),
    "words": (changed(4, 3, "x").encode(), "line 4, column 3 expects a number, got 'x'"),
    "missing": (changed(4, 3, "").encode(), "line 4, column 3 expects a number, got ''"),
    "a column more": (changed(4, 3, "1,1").encode(), "line 4 expects 37 columns, as the first line has, got 38"),
    "negative": (changed(4, 3, "-5").encode(), r"pixels expects pixels in 0..255, .* got float32 in -5.0..255.0"),
    "NaN": (changed(4, 3, "nan").encode(), "pixels expects pixels in 0..255, .*got float32 in nan..nan"),
    "no square": (b"label,a,b,c\n1,2,3,4\n", r"pixels expects .* where h\*w is a square, got shape \(1, 3\)"),
    "binary": (bytes(range(256)) * 20, "line 2 expects 2 columns, as the first line has, got 3"),
    "damaged gzip": (gzip.compress(table().encode())[:-20], "truncated, the gzip stream ends too early"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_tables(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content, message = BAD_TABLES[name]
    Path("bad.csv").write_bytes(content)
    refused("bad.csv", rf"^bad\.csv: {message}")


def test_a_line_without_an_end(tmp_path: Path) -> None:
    path = tmp_path / "long.csv.gz"
    path.write_bytes(gzip.compress(b"1," * (9 << 20), 1))
    refused(path, "file expects at most .* bytes, in lines of fewer than 16,777,216, got more; is it a table")
