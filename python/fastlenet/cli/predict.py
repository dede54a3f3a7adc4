"""fastlenet predict: reads the digits on pictures."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastlenet.cli.command import UsageError, run_command
from fastlenet.cli.parser import Parser, file_name
from fastlenet.data.folder import SUFFIXES
from fastlenet.files import CheckpointError, expect_writable
from fastlenet.formats.tensor_file import TensorFile
from fastlenet.images.framing import SIDE
from fastlenet.images.predict import Prediction, predict_image, predict_page
from fastlenet.images.reading import ImageError, pillow
from fastlenet.images.showing import as_blocks, expect_picture_name, save_sheet
from fastlenet.models.lenet import LeNet
from fastlenet.streams import one_line, tell
from fastlenet.training.ensemble import load_members

__all__ = ["add_arguments", "main", "make_parser", "run"]

DOUBTFUL = 3  # the exit code where a picture is blank, has no digit or several, or its digit is uncertain
_UNREADABLE = 2


class _Result(NamedTuple):
    """What was read on one picture. label: a digit, a number (with --all), or None. digits: each shape that was read."""

    label: int | str | None
    probability: float
    digits: tuple[Prediction, ...]
    warnings: tuple[str, ...]


def make_parser(prog: str) -> Parser:
    parser = Parser(
        prog,
        "Read the handwritten digit on each picture: a photograph, a scan, a drawing.",
        [
            (f"{prog} photo.jpg", "by the network that the package carries"),
            (f"{prog} model.safetensors scans", "by your own network, all pictures of a folder"),
            (f"{prog} --all page.jpg", "read a number, left to right"),
            (f"{prog} --json *.png", "one JSON object a picture"),
        ],
        "Exit codes: 0 every digit is clear, 3 a picture is blank, has no digit or several shapes, or its digit is uncertain; "
        "2 wrong usage, or a file that cannot be read.",
    )
    add_arguments(parser)
    return parser


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="+",
        type=file_name,
        metavar="[MODEL] IMAGE",
        help="a file of --save-model (.safetensors), if it comes first; then pictures, or folders of pictures",
    )
    parser.add_argument("--all", action="store_true", help="read all digits on a picture, left to right, line by line")
    parser.add_argument("--json", action="store_true", help="print one JSON object a picture, on a line of its own")
    parser.add_argument("--show", type=file_name, metavar="FILE", help="save what the network saw, 28x28 pixels, as a picture")


def main(arguments: Sequence[str] | None = None, prog: str = "fastlenet predict") -> int:
    """Run the command line. Returns the exit code; exits with 2 for flags that do not exist."""
    return run_command(prog, lambda: run(make_parser(prog).parse(arguments), prog), CheckpointError, ImageError)


def run(given: argparse.Namespace, prog: str) -> int:
    first, *others = given.files
    has_model = first.endswith(".safetensors")
    if has_model and not others:
        raise UsageError(f"{first} is a model; name the pictures after it")
    pillow()  # once, not for every picture
    if given.show is not None:
        expect_picture_name(given.show)
        expect_writable(given.show)
    models = _load(first) if has_model else [LeNet.pretrained()]
    code, seen = 0, []
    for path in _pictures(others if has_model else given.files):
        try:
            result = _read(models, path, several=given.all)
        except ImageError as error:
            tell(f"{prog}: error: {one_line(str(error))}")
            code = _UNREADABLE
            continue
        print(_as_json(path, result) if given.json else _as_text(path, result), flush=True)
        seen += [digit.image for digit in result.digits]
        if result.warnings:
            code = code or DOUBTFUL
    if given.show is not None and seen:
        save_sheet(seen, given.show)
    return code


def _load(path: str) -> list[LeNet]:
    """The network of a file, or the networks of an ensemble, for as many classes as they were trained on."""
    shapes = TensorFile(path).shapes
    classes = next((shape[0] for name, shape in shapes.items() if name.endswith("fc2.bias") and len(shape) == 1), 10)
    models = []
    for state in load_members(path, LeNet(classes=classes)):
        models.append(LeNet(classes=classes))
        models[-1].load_state_dict(state)
    return models


def _pictures(names: Sequence[str]) -> Iterator[str]:
    """Files as they are named, and the pictures of folders by name. Raises ImageError for a folder without any picture."""
    for name in names:
        if not Path(name).is_dir():
            yield name
            continue
        inside = sorted(path for path in Path(name).iterdir() if path.suffix.lower() in SUFFIXES)
        if not inside:
            raise ImageError(
                f"{name}: a folder without pictures ({', '.join(SUFFIXES[:3])}, ...); folders in it are not searched"
            )
        yield from map(str, inside)


def _read(models: Sequence[LeNet], path: str, *, several: bool) -> _Result:
    if not several:
        one = predict_image(models, path)
        warnings = tuple(warning.replace("predict_page reads", "--all reads") for warning in one.warnings)
        return _Result(one.label, one.probability, (one,), warnings)
    page = predict_page(models, path)
    probability = float(np.prod([digit.probability for digit in page.digits])) if page.digits else 0.0
    return _Result(page.number or None, probability, page.digits, page.warnings)


def _as_json(path: str, result: _Result) -> str:
    scores = [[round(float(score), 6) for score in digit.probabilities] for digit in result.digits]
    return json.dumps(
        {
            "file": path,
            "label": result.label,
            "probability": round(result.probability, 6),
            "probabilities": scores if isinstance(result.label, str) or not scores else scores[0],
            "warnings": list(result.warnings),
        }
    )


def _as_text(path: str, result: _Result) -> str:
    """The name, the label, the three most probable classes; on a terminal what the network saw, too; then the warnings."""
    lines = [f"{one_line(path)}: {'-' if result.label is None else result.label}"]
    shown = sys.stdout.isatty() and shutil.get_terminal_size().columns >= SIDE
    for digit in result.digits:
        if digit.label is None:
            continue
        if shown:
            lines.append(as_blocks(digit.image, sys.stdout.encoding))
        lines.append("  " + "   ".join(f"{label} {digit.probabilities[label]:6.2%}" for label in _top(digit)))
    lines += [f"  {warning}" for warning in result.warnings]
    return "\n".join(lines)


def _top(digit: Prediction) -> list[int]:
    return [int(label) for label in np.argsort(-digit.probabilities, kind="stable")[:3]]
