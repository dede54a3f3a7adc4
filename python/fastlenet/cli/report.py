"""fastlenet report: how good a model is and what is inside it, as one page."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fastlenet._core import DeviceError
from fastlenet.cli.command import UsageError, run_command
from fastlenet.cli.judging import Judging, add_judging_flags, judging, of_data
from fastlenet.cli.parser import Parser, file_name, flag_of
from fastlenet.cli.settings import Settings
from fastlenet.data import DataError
from fastlenet.files import CheckpointError, expect_writable
from fastlenet.quantization import QuantizedModel
from fastlenet.reports.reporting import make_report
from fastlenet.streams import one_line
from fastlenet.training.logs import read_log

__all__ = ["main", "make_parser"]

_DEFAULT = "report.html"
_OF_DATA = ("data", "data_dir", "image_size")


def make_parser(prog: str) -> Parser:
    parser = Parser(
        prog,
        "Write a page about a model: accuracy, confusions, calibration, the worst errors, filters, activations, costs, recipe.",
        [
            (f"{prog} m.safetensors", "judge by the test images of MNIST; write report.html"),
            (f"{prog} m.safetensors -o page.html", "write another file"),
            (f"{prog} m.safetensors --data photos", "judge by the pictures in photos/CLASS/"),
            (f"{prog} m.safetensors --log log.jsonl", "show the learning curves of train --log-json log.jsonl"),
        ],
        "The page is one file that needs no network: open it in a browser, or send it to somebody. Its numbers are those of "
        "fastlenet evaluate. Exit codes: 0 success, 2 wrong usage or input, 70 a fault in fastlenet, 130 Ctrl-C.",
    )
    output = f"the file to write (default: {_DEFAULT})"
    parser.add_argument("-o", "--output", type=file_name, metavar="FILE", default=_DEFAULT, help=output)
    log = "the file that fastlenet train --log-json wrote, for the learning curves"
    parser.add_argument("--log", type=file_name, metavar="FILE", help=log)
    add_judging_flags(parser, ("threads",))
    return parser


def main(arguments: Sequence[str] | None = None, prog: str = "fastlenet report") -> int:
    """Run the command line. Returns the exit code; exits with 2 for flags that do not exist."""
    expected = (CheckpointError, DataError, DeviceError)
    return run_command(prog, lambda: _report(make_parser(prog).parse(arguments), prog), *expected)


def _report(given: argparse.Namespace, prog: str) -> int:
    for name in ("model", "log"):
        read = getattr(given, name)
        if read is not None and Path(read).resolve() == Path(given.output).resolve():
            raise UsageError(f"--output {given.output}: the command reads this file; choose another name")
    expect_writable(given.output)
    histories = [] if given.log is None else read_log(given.log)
    found = judging(given, prog)
    if isinstance(found.model, QuantizedModel):
        cure = "report on the network that it was made of; fastlenet evaluate judges this one"
        raise UsageError(f"{found.name}: a quantized network, whose layers a report does not show; {cure}")
    with of_data(found.data):
        report = make_report(
            found.model,
            found.data,
            None,
            found.part,
            found.settings.test_batch_size,
            found.tta,
            histories=histories,
            source=_source(found),
        )
    report.save(given.output)
    low, high = report.interval
    words = f"accuracy {report.accuracy:.2%}, 95 % interval {low:.2%} to {high:.2%}, {len(report.errors):,} errors"
    print(f"{one_line(given.output)}: {words}", flush=True)
    return 0


def _source(given: Judging) -> list[str]:
    """The flags that name the data, as train takes them."""
    values = {name: getattr(given.settings, name) for name in _OF_DATA}
    named = {name: value for name, value in values.items() if value != getattr(Settings, name)}
    return [word for name, value in named.items() for word in (flag_of(name), str(value))]
