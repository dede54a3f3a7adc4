"""The corpus of the fuzzer, and what the fuzzer found: each reader takes or refuses these files as it should."""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

import fastlenet
from fastlenet.distributed.task import Outcome
from fuzzing.make_corpus import SPACE, archive, runs
from fuzzing.readers import CORPUS, READERS, FindingError, Reader, judge

FILES = [(name, path.name) for name in READERS for path in sorted((CORPUS / name).iterdir())]


def laid(name: str, content: bytes, folder: Path) -> Path:
    path = folder / READERS[name].file
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("name", "file"), FILES)
def test_corpus(name: str, file: str, tmp_path: Path) -> None:
    """Those that the fuzzer learned from may be refused; all others are valid."""
    taken = judge(READERS[name], laid(name, (CORPUS / name / file).read_bytes(), tmp_path))
    assert taken or file.startswith("learned-")


def test_what_is_a_finding(tmp_path: Path) -> None:
    """Errors that are not documented, long or empty lines, lines without the file's name."""

    def raising(error: Exception) -> Reader:
        def read(path: Path) -> object:
            raise error

        return Reader("file", read, (ValueError,), 1)

    path = tmp_path / "file"
    assert not judge(raising(ValueError("no file")), path)
    for message in ("", "two\nlines", "x" * 2000):
        with pytest.raises(FindingError):
            judge(raising(ValueError(message)), path)
    with pytest.raises(FindingError, match="does not name"):
        judge(raising(fastlenet.data.DataError("damaged"))._replace(refuses=(fastlenet.data.DataError,)), path)
    with pytest.raises(KeyError):
        judge(raising(KeyError("x")), path)


def test_every_module_that_reads_a_file_is_known() -> None:
    """Whoever adds a reader adds it to the table of the fuzzer, or says here why not."""
    calls = re.compile(r"\bopen\(|\.read_(?:bytes|text)\(|fromfile|loadtxt|np\.load\b|ifstream|fopen")
    readers = {
        *("cli/sample_weight.py", "data/csv.py", "data/folder.py", "data/npz.py", "data/reading.py", "distributed/results.py"),
        *("distributed/searches/space.py", "formats/archives.py", "formats/opening.py", "formats/tensor_file.py"),
        *("images/reading.py", "speedrun/checking.py", "training/logs.py"),
    }
    others = {
        "cli/predict.py": "nine bytes, to tell a model from a picture",
        "cli/ranks.py": "/dev/null",
        "data/mnist.py": "files of the package",
        "distributed/working.py": "/proc/cpuinfo",
        "exports/c_header.py": "files of the package",
        "exports/html.py": "files of the package",
        "files.py": "the lock file, of which an int and a word are taken",
        "reports/page.py": "files of the package",
        "speedrun/pytorch_twin.py": "a job that its parent wrote, and bundled data",
        "streams.py": "/dev/null",
        "training/callbacks/json_log.py": "writes only",
    }
    package = Path(fastlenet.__file__).parent
    found = {str(path.relative_to(package)) for path in package.rglob("*.py") if calls.search(path.read_text())}
    assert found == readers | others.keys()


def test_the_session_says_when_there_is_no_atheris() -> None:
    code = "import runpy, sys; sys.modules['atheris'] = None; runpy.run_path(sys.argv[1], run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code, CORPUS.parent / "fuzz_reader.py", "idx"], capture_output=True, text=True)
    assert done.returncode == 1 and "FAILED: no atheris for cpython" in done.stderr


# --- what the fuzzer found: each raised another error, or took more memory, before it was mended ---


def row(**changes: object) -> bytes:
    lines = runs().splitlines()
    return b"\n".join([lines[0], json.dumps(json.loads(lines[1]) | changes).encode(), b""])


def space(**changes: object) -> bytes:
    return json.dumps(SPACE | changes).encode()


def epoch(**changes: object) -> bytes:
    values = {"epoch": 1, "loss": 1.0, "accuracy": 0.5, "seconds": 1.0, "images_per_second": 1.0}
    return json.dumps({"seed": 0, "val_loss": None, "val_accuracy": None, **values, **changes}).encode()


def png(width: int, height: int) -> bytes:
    """A picture of one byte of pixels, whatever its header says."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def half_a_character() -> bytes:
    content = (CORPUS / "state" / "start").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    name = next(name for name in header if name != "__metadata__")
    text = json.dumps({("\ud800" if key == name else key): value for key, value in header.items()}).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def quantized(**words: object) -> bytes:
    """The quantized network of one layer, with other words in its metadata."""
    content = (CORPUS / "quantized" / "one_layer").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] |= {name: json.dumps(value) for name, value in words.items()}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def npy(header: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def answer(**changes: object) -> bytes:
    good = {"config": None, "by_name": True, "layers": [["dense", [["<f4", [1]]]]]}
    return json.dumps(good | changes).encode() + b"\n" + bytes(4)


def answer_of_a_layer(name: bytes) -> bytes:
    """The corpus' model with another name of its last layer, of which one weight is NaN."""
    good = (CORPUS / "keras_answer" / "keras3_nested.h5").read_bytes()
    renamed = good.replace(rb"\"dense_3\"", rb"\"" + name.replace(b"\\", rb"\\") + rb"\"").replace(
        b'"dense_3"', b'"' + name + b'"'
    )
    return renamed[:-4] + np.float32(np.nan).tobytes()


FOUND = {
    "a row without pixels": ("csv", b"1,\n2,5\n", "line 1, column 2 expects a number, got ''"),
    "rows without pixels": ("csv", b"1,\n", "expects a number, got ''"),
    "a label in a column that is not there": ("csv", b"a,label,b,c,d\n1,2,3,4,5\n1\n", "line 3 expects 5 columns"),
    "a name that cannot be printed": ("npz_data", archive(**{"a\nb": np.ones(1)}), r"got a\\nb"),
    "an archive whose names are no text": (
        "npz_data",
        archive(a=np.ones(1)).replace(b"a.npy", b"\xff.npy").replace(b"-\0\0\0\0\0\0\0!\0", b"-\0\0\x08\0\0\0\0!\0"),
        "not a NumPy archive",
    ),
    "text of no characters": ("npz_data", archive(X=np.ones((1, 2, 2)), y=np.array([2**31], "u4").view("U1")), "expects text"),
    "an argument with a line's end": ("results", row(recipe={"é\n": 1}), r"unexpected argument 'é\\n'"),
    "an argument that is half a character": ("results_resumed", row(recipe={"\ud800": 1}), r"unexpected argument '\\ud800'"),
    "a loss beyond all floats": ("results", row(loss=10**400), "loss in a run expects a number"),
    "an epoch of words": ("results", row(epochs=[{"loss": "x"}]), "epochs in a run expects"),
    "an integer that no float holds": ("log", epoch(seconds=10**400), "expects a 'seconds'"),
    "a field that cannot be printed": ("space_json", space(fields={"\ud800": [1]}), r"unexpected argument '\\ud800'"),
    "a setting that cannot be printed": ("space_json", space(**{"\ud800": 1}), r"unexpected argument '\\ud800'"),
    "a trial beyond all floats": ("space_json", space(trial=[{"lr": 10**400}]), "lr expects"),
    "a step that is almost nothing": (
        "space_json",
        space(fields={"lr": {"low": 0.1, "high": 1, "step": 5e-324}}),
        "at most 100,000",
    ),
    "a step that gives billions of values": (
        "space_json",
        space(fields={"lr": {"low": 0.1, "high": 1, "step": 1e-9}}),
        "at most 100,000",
    ),
    "a tensor named by half a character": ("state", half_a_character(), "damaged"),
    "a deviation that is almost nothing": ("quantized", quantized(std=5e-324), "std expects a number that pixels can be"),
    "no means at all": (
        "quantized",
        quantized(mean=[], std=[], input_shape=[9]),
        "mean expects a number for each of 1 channels",
    ),
    "a layer whose name cannot be printed": (
        "quantized",
        (CORPUS / "quantized" / "one_layer").read_bytes().replace(rb"\"name\": \"1\"", b'\\"name\\": \\"\x7f\\"'),
        r"expect a tensor '\\x7f.weight', which is missing",
    ),
    "a header that does not end": ("weights_npy", npy(b"{'descr': (\n"), "cannot be read as weights"),
    "a shape of lists": ("keras_answer", answer(layers=[["d", [["<f4", [[1, 2], 2**31 - 1, 3]]]]]), "no answer"),
    "a type that is none": ("keras_answer", answer(layers=[["d", [["<f9", [1]]]]]), "no answer"),
    "a layer's name of two lines": (
        "keras_answer",
        answer_of_a_layer(rb"a\n"),
        r"'a\\n.bias' holds a number that is not finite",
    ),
    "pixels that no byte is there for": ("picture", png(13_000, 13_000), "169,000,000 pixels, where at most 40,000,000"),
    "the same in a folder": ("folder", png(9_000, 9_000), "at most 40,000,000 pixels"),
}


@pytest.mark.parametrize("case", FOUND)
def test_found(case: str, tmp_path: Path) -> None:
    name, content, message = FOUND[case]
    path = laid(name, content, tmp_path)
    assert not judge(READERS[name], path)
    with pytest.raises(READERS[name].refuses, match=message):
        READERS[name].read(path)


def test_a_long_thin_picture_takes_no_more_memory_than_others(tmp_path: Path) -> None:
    """8 x 262,152 pixels are averaged by 263: a strip was padded to 263 columns, which took 2 GB."""
    import tracemalloc

    from PIL import Image

    made = io.BytesIO()
    Image.fromarray(np.zeros((262_152, 8, 4), np.uint8)).save(made, "png")
    path = laid("picture", made.getvalue(), tmp_path)
    tracemalloc.start()
    try:
        assert judge(READERS["picture"], path)
        assert tracemalloc.get_traced_memory()[1] < 150 << 20
    finally:
        tracemalloc.stop()


def test_an_outcome_is_read_as_it_was_written() -> None:
    for line in runs().splitlines()[1:]:
        row = {name: value for name, value in json.loads(line).items() if name != "trial"}
        assert json.loads(json.dumps(Outcome.of_row(row).as_row())) == row


def test_gzip_of_the_corpus_is_gzip() -> None:
    assert gzip.decompress((CORPUS / "idx_gzip" / "three").read_bytes()) == (CORPUS / "idx" / "three").read_bytes()
