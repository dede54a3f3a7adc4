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
from fastlenet.cli.models import Model, load_model
from fastlenet.cli.parser import Parser, file_name
from fastlenet.data.folder import SUFFIXES
from fastlenet.files import CheckpointError, expect_writable, user_path
from fastlenet.formats.foreign import FORMATS
from fastlenet.images.framing import SIDE
from fastlenet.images.predict import Prediction, predict_image, predict_page
from fastlenet.images.reading import ImageError, pillow
from fastlenet.images.showing import as_blocks, expect_picture_name, save_sheet
from fastlenet.inference.facts import Label
from fastlenet.streams import one_line, tell

__all__ = ["add_arguments", "main", "make_parser", "run"]

DOUBTFUL = 3  # the exit code where a picture is blank, has no digit or several, or its digit is uncertain
_UNREADABLE = 2


class _Result(NamedTuple):
    """What was read on one picture. label: of a class, or a number if several were to be read, or None. digits: each shape."""

    several: bool

    label: Label | None
    probability: float
    digits: tuple[Prediction, ...]
    warnings: tuple[str, ...]


def make_parser(prog: str) -> Parser:
    parser = Parser(
        prog,
        "Read the handwritten digit on each picture: a photograph, a scan, a drawing.",
        [
            (f"{prog} photo.jpg", "read one digit with the package's network"),
            (f"{prog} model.safetensors scans", "read all pictures in a folder with your own network"),
            (f"{prog} --all page.jpg", "read a number of several digits, from left to right"),
            (f"{prog} --json *.png", "print one JSON object per picture"),
        ],
        "Exit codes: 0 every digit is clear, 3 a picture is blank, has no digit or several shapes, or its digit is uncertain, "
        "2 wrong usage, or a file that cannot be read, 70 a fault in fastlenet, 130 Ctrl-C.",
    )
    add_arguments(parser)
    return parser


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="+",
        type=file_name,
        metavar="[MODEL] IMAGE",
        help="pictures, or folders of pictures; the first file may be a model that fastlenet train --save-model wrote "
        "(default: the package's network)",
    )
    parser.add_argument("--all", action="store_true", help="read all digits on a picture, line by line, from left to right")
    parser.add_argument("--json", action="store_true", help="print one JSON object per picture, each on one line")
    parser.add_argument("--tta", action="store_true", help="average over the image and its four shifts by one pixel")
    parser.add_argument("--show", type=file_name, metavar="FILE", help="save what the network saw, 28x28 pixels, to FILE")


def main(arguments: Sequence[str] | None = None, prog: str = "fastlenet predict") -> int:
    """Run the command line. Returns the exit code; exits with 2 for flags that do not exist."""
    return run_command(prog, lambda: run(make_parser(prog).parse(arguments), prog), CheckpointError, ImageError)


def run(given: argparse.Namespace, prog: str) -> int:
    first, *others = given.files
    has_model = _is_model(first)
    if has_model and not others:
        raise UsageError(f"{first} is a model; name the pictures after it")
    pillow()  # once, not for every picture
    if given.show is not None:
        expect_picture_name(given.show)
        expect_writable(given.show)
    model = _load(first if has_model else None, prog)
    code, seen = 0, []
    for path in _pictures(others if has_model else given.files):
        try:
            result = _read(model, path, several=given.all, tta=given.tta)
        except ImageError as error:
            tell(f"{prog}: error: {one_line(str(error))}")
            code = _UNREADABLE
            continue
        print(_as_json(path, result) if given.json else _as_text(path, result), flush=True)
        seen += [digit.image for digit in result.digits]
        if result.warnings:
            code = code or DOUBTFUL
    if given.show is not None:
        if seen:
            save_sheet(seen, given.show)
        else:
            tell(f"{prog}: {one_line(given.show)} was not written, since no digit was found")
    return code


def _is_model(path: str) -> bool:
    """Whether it is named as a file of a model, or is one: after eight bytes its header of JSON begins."""
    if path.lower().endswith((".safetensors", *(suffix for kind in FORMATS.values() for suffix in kind.suffixes))):
        return True
    try:
        with user_path(path).open("rb") as file:
            return file.read(9)[8:] == b"{"
    except OSError:  # that of reading it says more
        return False


def _load(path: str | None, prog: str) -> Model:
    """The model of a file, or the package's. Raises UsageError, before a picture is read, if it is not for such pictures."""
    model = load_model(path, prog)
    try:
        predict_image(model, np.zeros((SIDE, SIDE)))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from None
    return model


def _pictures(names: Sequence[str]) -> Iterator[str]:
    """Files as they are named, and the pictures of folders by name. Raises ImageError for a folder without any picture."""
    for name in names:
        if not Path(name).is_dir():
            yield name
            continue
        try:
            visible = [path for path in Path(name).iterdir() if not path.name.startswith(".")]
        except OSError as error:
            raise ImageError(f"{name}: cannot be read ({error.strerror or error})") from None
        inside = sorted(path for path in visible if path.suffix.lower() in SUFFIXES)
        if not inside:
            raise ImageError(
                f"{name}: a folder without pictures ({', '.join(SUFFIXES[:3])}, ...); its subfolders are not searched"
            )
        yield from map(str, inside)


def _read(model: Model, path: str, *, several: bool, tta: bool) -> _Result:
    if not several:
        one = predict_image(model, path, tta=tta)
        warnings = tuple(warning.replace("predict_page reads", "--all reads") for warning in one.warnings)
        return _Result(False, one.label, one.probability, (one,), warnings)
    page = predict_page(model, path, tta=tta)
    probability = float(np.prod([digit.probability for digit in page.digits])) if page.digits else 0.0
    return _Result(True, page.number or None, probability, page.digits, page.warnings)


def _as_json(path: str, result: _Result) -> str:
    scores = [[round(float(score), 6) for score in digit.probabilities] for digit in result.digits]
    return json.dumps(
        {
            "file": path,
            "label": result.label,
            "probability": round(result.probability, 6),
            "probabilities": scores if result.several else scores[0],
            "warnings": list(result.warnings),
        }
    )


def _as_text(path: str, result: _Result) -> str:
    """The name, the label, the three most probable classes; on a terminal what the network saw, too; then the warnings."""
    words = ["-"] if result.label is None else str(result.label).split("\n") if result.several else [str(result.label)]
    number = "\n".join(map(one_line, words))
    lines = [f"{one_line(path)}: {number}"]
    shown = sys.stdout.isatty() and shutil.get_terminal_size().columns >= SIDE
    for digit in result.digits:
        if digit.label is None:
            continue
        if shown:
            lines.append(as_blocks(digit.image, sys.stdout.encoding))
        lines.append("  " + "   ".join(f"{one_line(str(name))} {probability:6.2%}" for name, probability in _top(digit)))
    lines += [f"  {one_line(warning)}" for warning in result.warnings]
    return "\n".join(lines)


def _top(digit: Prediction) -> list[tuple[Label, float]]:
    """The three most probable classes."""
    order = np.argsort(-digit.probabilities, kind="stable")[:3]
    return [(digit.class_names[place], float(digit.probabilities[place])) for place in order]
