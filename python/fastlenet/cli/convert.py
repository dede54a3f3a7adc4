"""fastlenet convert: a model in a file of another program becomes a model in a file of fastlenet."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fastlenet.cli.command import UsageError, run_command
from fastlenet.cli.parser import Parser, file_name, flag_of
from fastlenet.fields import FieldError
from fastlenet.files import CheckpointError, expect_writable, shown_path, user_path
from fastlenet.inference.facts import Label
from fastlenet.models import NETWORKS
from fastlenet.models.ensemble import Ensemble
from fastlenet.models.loading import Loaded, UndecidedFileError, read_model
from fastlenet.nn import Sequential
from fastlenet.normalisation import PerChannel
from fastlenet.quantization import QuantizedModel
from fastlenet.streams import one_line

__all__ = ["main", "make_parser"]

_SUFFIX = ".safetensors"


def make_parser(prog: str) -> Parser:
    parser = Parser(
        prog,
        "Convert a model of PyTorch, Keras, Caffe, ONNX or NumPy to a file of fastlenet, which describes its layers too.",
        [
            (f"{prog} lenet.pt m.safetensors", "a state_dict that torch.save wrote"),
            (f"{prog} lenet.pt m.safetensors --mean 0.5 --std 0.5", "its images were normalised by these numbers"),
            (f"{prog} net.keras m.safetensors --class-names cat,dog", "name the classes"),
            (f"{prog} lenet5.pth m.safetensors --network lenet5", "name the network of a file that has arrays alone"),
        ],
        "Nothing in SOURCE is executed. Exit codes: 0 success, 2 wrong usage or input, 70 a fault in fastlenet, 130 Ctrl-C.",
    )
    parser.add_argument("source", type=file_name, metavar="SOURCE", help="a .pt, .keras, .h5, .caffemodel, .onnx or .npz file")
    parser.add_argument("target", type=file_name, metavar="TARGET", help="the file to write, with the ending .safetensors")
    what = "the network of a file of arrays alone (default: a LeNet, if its shapes are those of one)"
    parser.add_argument("--network", choices=tuple(NETWORKS), help=what)
    parser.add_argument("--image-size", type=_size, metavar="N", help="pixels a side of its images, N or HEIGHTxWIDTH")
    of_pixels = "numbers that normalise the pixels, scaled to [0, 1]; several are separated by commas"
    parser.add_argument("--mean", type=_numbers, metavar="M", help=of_pixels)
    parser.add_argument("--std", type=_numbers, metavar="S", help=of_pixels)
    parser.add_argument("--class-names", type=_names, metavar="A,B,...", help="the label of each output")
    return parser


def main(arguments: Sequence[str] | None = None, prog: str = "fastlenet convert") -> int:
    """Run the command line. Returns the exit code; exits with 2 for flags that do not exist."""
    return run_command(prog, lambda: _convert(make_parser(prog).parse(arguments)), CheckpointError)


def _size(text: str) -> tuple[int, int]:
    rows, _, columns = text.partition("x")
    try:
        return int(rows), int(columns or rows)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expects N or HEIGHTxWIDTH in pixels, got {text!r}") from None


def _numbers(text: str) -> PerChannel:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expects a number, or one for each channel, got {text!r}") from None
    return numbers if len(numbers) > 1 else numbers[0]


def _names(text: str) -> tuple[Label, ...]:
    """Words, or integers if all are integers."""
    words = tuple(text.split(","))
    return tuple(map(int, words)) if all(word.isascii() and word.removeprefix("-").isdecimal() for word in words) else words


def _convert(given: argparse.Namespace) -> int:
    asked = {name: value for name, value in vars(given).items() if value is not None}
    _expect_target(given.source, given.target)
    try:
        loaded = read_model(given.source, network=asked.get("network"), image_size=asked.get("image_size"))
        if isinstance(loaded.model, QuantizedModel):
            cure = "convert the network that it was made of; fastlenet export writes this one for other programs"
            raise UsageError(f"{shown_path(given.source)}: a quantized network already is a file of fastlenet; {cure}")
        facts = {name: asked[name] for name in ("mean", "std", "class_names") if name in asked}
        model = loaded.model[0] if isinstance(loaded.model, Ensemble) else loaded.model
        for member in loaded.model if isinstance(loaded.model, Ensemble) else [model]:
            member.set_facts(**facts)
    except UndecidedFileError as error:
        raise CheckpointError(error.worded(flag_of(error.field))) from None
    except FieldError as error:
        raise UsageError(error.worded(flag_of(error.field))) from None
    if model.mean is None:
        numbers = "such as 0.1307 and 0.3081 for MNIST in PyTorch, or 0 and 1 for pixels in [0, 1]"
        cure = f"give {flag_of('mean')} and {flag_of('std')}, {numbers}"
        raise CheckpointError(f"{shown_path(given.source)}: does not say how its images are normalised; {cure}")
    print(_report(given.source, loaded, model, "mean" in facts), flush=True)
    loaded.model.save(given.target)
    print(f"saved {one_line(given.target)}", flush=True)
    return 0


def _expect_target(source: str, target: str) -> None:
    """Raise UsageError or CheckpointError unless the target can be written, and is another file."""
    if Path(target).suffix != _SUFFIX:
        cure = "; fastlenet export writes files of other programs" if Path(target).suffix in (".onnx", ".h", ".html") else ""
        raise UsageError(f"{target}: the name of the file to write expects the ending {_SUFFIX}{cure}")
    if user_path(target).exists() and user_path(source).exists() and user_path(target).samefile(user_path(source)):
        raise UsageError(f"{target}: is the file to convert; give the new file another name")
    expect_writable(target)


def _report(source: str, loaded: Loaded, model: Sequential, is_told: bool) -> str:
    """What was understood of the file. is_told: whether the normalisation was given."""
    several = f", {len(loaded.model)} networks" if isinstance(loaded.model, Ensemble) else ""
    wide = max(map(len, model.names), default=0)
    layers = [f"  {one_line(name):<{wide}}  {layer!r}" for name, layer in zip(model.names, model.layers, strict=True)]
    shape = "x".join(map(str, model.input_shape or ()))
    names = ", ".join(one_line(str(name)) for name in model.class_names) or "numbered, since it does not name them"
    taken = [f"assumed: {note.text}" for note in loaded.notes if not (note.of_pixels and is_told)]
    return "\n".join(
        [
            f"{one_line(source)}: {loaded.kind}, {type(model).__name__}{several}",
            *layers,
            f"images {shape or 'of any shape'}, normalised by mean {model.mean} and std {model.std}"
            + (f", after {model.preprocessing}" if model.preprocessing else ""),
            f"classes {names}",
            *map(one_line, taken),
        ]
    )
