"""fastlenet export: a model as a file for other programs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fastlenet.cli.command import UsageError, run_command
from fastlenet.cli.data import fields_given, load_data
from fastlenet.cli.flags import add_flags
from fastlenet.cli.models import load_model
from fastlenet.cli.parser import Parser, file_name
from fastlenet.cli.settings import Settings, build, flags_for
from fastlenet.data import DataError, Dataset
from fastlenet.data.dataset import PART_WORDS
from fastlenet.exports import FORMATS, Exported, ExportError, export
from fastlenet.exports.writing import format_of
from fastlenet.fields import FieldError
from fastlenet.files import CheckpointError
from fastlenet.inference.forward import BATCH_SIZE
from fastlenet.inference.raw import reported_part
from fastlenet.models.ensemble import Ensemble
from fastlenet.nn import Sequential
from fastlenet.streams import one_line
from fastlenet.training.evaluation import has_images

__all__ = ["main", "make_parser"]


def make_parser(prog: str) -> Parser:
    formats = "; ".join(f"{suffix}: {kind.sentence}" for suffix, kind in FORMATS.items())
    parser = Parser(
        prog,
        "Write a model to a file for other programs. The ending of the file's name chooses the format.",
        [
            (f"{prog} m.safetensors m.onnx", "write it for ONNX Runtime and other programs that read ONNX"),
            (
                f"{prog} m.onnx --int8 --with-normalisation",
                "write the package's network; it takes bytes and gives probabilities",
            ),
            (f"{prog} m.safetensors m.h --int8", "write it in C, in integers of 8 bits"),
            (f"{prog} m.html", "write the package's network as a page to draw digits on"),
        ],
        f"{formats}. Exit codes: 0 success, 2 wrong usage or input, 70 a fault in fastlenet, 130 Ctrl-C.",
    )
    what = "a file that fastlenet train --save-model or model.save wrote (default: the package's network)"
    parser.add_argument("model", nargs="?", type=file_name, metavar="MODEL", help=what)
    parser.add_argument("file", type=file_name, metavar="FILE", help="the file to write; it is replaced if it exists")
    parser.add_argument("--int8", action="store_true", help="write integers of 8 bits, a quarter of the size")
    normalising = (
        "for .onnx: raw images in, probabilities out (default: normalised images in, or raw ones with --int8, scores out)"
    )
    parser.add_argument("--with-normalisation", action="store_true", help=normalising)
    add_flags(parser, Settings, ("data", "data_dir", "image_size"))
    return parser


def main(arguments: Sequence[str] | None = None, prog: str = "fastlenet export") -> int:
    """Run the command line. Returns the exit code; exits with 2 for flags that do not exist."""
    expected = (CheckpointError, DataError, ExportError)
    return run_command(prog, lambda: _export(make_parser(prog).parse(arguments), prog), *expected)


def _export(given: argparse.Namespace, prog: str) -> int:
    with flags_for():
        settings = build(Settings, fields_given(Settings, given))
    kind = format_of(given.file)
    if given.with_normalisation and not kind.with_normalisation:
        raise UsageError(f"--with-normalisation: {given.file} always takes raw images; leave the flag out")
    model = load_model(given.model, prog)
    if isinstance(model, Ensemble):
        raise UsageError(f"{given.model}: has {len(model)} networks; in Python, fastlenet.export(ensemble[0], ...) exports one")
    integers = isinstance(model, Sequential) and (given.int8 or kind.int8 == "always")
    data = load_data(settings) if integers else None
    try:
        written = export(model, given.file, int8=given.int8, with_normalisation=given.with_normalisation, data=data)
    except FieldError as error:
        raise ExportError(f"{one_line(given.file)}: {error}") from None
    lines = [f"{one_line(given.file)}: {written.bytes:,} bytes", *written.lines]
    if isinstance(model, Sequential) and data is not None:
        lines += _accuracies(model, written, data)
    print("\n".join(lines), flush=True)
    return 0


def _accuracies(model: Sequential, written: Exported, data: Dataset) -> list[str]:
    """The accuracy of both models on the part of the data that is reported on, and how many answers differ."""
    assert written.quantized is not None
    part = reported_part(data) if has_images(data) else "train"
    float32, int8 = (
        network._judged("evaluate", data, None, part, BATCH_SIZE, tta=False) for network in (model, written.quantized)
    )
    changed = int((float32.probabilities.argmax(1) != int8.probabilities.argmax(1)).sum())
    shares = f"{int8.evaluation.accuracy:.2%} in integers of 8 bits, {float32.evaluation.accuracy:.2%} in float32"
    images = f"{len(int8.labels):,} {PART_WORDS[part]} images of {one_line(data.name)}"
    return [f"accuracy on the {images}: {shares}; {changed:,} answers differ"]
