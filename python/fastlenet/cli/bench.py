"""fastlenet bench: the time of each op, at LeNet's shapes and some others."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fastlenet import ops, reference
from fastlenet.cli.command import UsageError, run_command
from fastlenet.cli.flags import add_flags
from fastlenet.cli.parser import Parser
from fastlenet.cli.settings import Options, build, flags_for
from fastlenet.config import config, get_num_threads, set_num_threads
from fastlenet.fields import Values, a_field, expect_fields
from fastlenet.testing.timing import Line, alternate, lines, peak
from fastlenet.training.ranks import RanksError

__all__ = ["main", "make_parser"]


@dataclass(frozen=True)
class _Settings:
    """What is measured, and how."""

    only: str = field(default="", metadata={"values": Values(str), "metavar": "TEXT", "help": "only lines that contain TEXT"})
    rounds: int = a_field(5, Values(int, "an integer in 1..1000", 1, 1000), "repeat each measurement N times; take the median")
    scaling: bool = a_field(
        False,
        Values(bool),
        "predict how fast 1 to 1,024 hosts would train, by batch and network; under mpiexec, compare these ranks with it",
    )
    amx_soak: bool = a_field(
        False,
        Values(bool),
        "look for lost AMX tiles instead: more threads than cores load tiles, give up their core, and compare",
    )
    seconds: float = a_field(60.0, Values(float, "a number in 0..86400", 0, 86400), "the duration of --amx-soak")
    numpy: bool = a_field(False, Values(bool), "time the same ops in NumPy too (fastlenet.reference); takes minutes")

    def __post_init__(self) -> None:
        expect_fields(self)


class _Timed(NamedTuple):
    """seconds: per call. share: of the multiply-add peak, or None for an op that only moves memory."""

    line: Line
    seconds: float
    numpy_seconds: float | None
    share: float | None


def make_parser(prog: str) -> Parser:
    parser = Parser(
        prog,
        "Time each op at LeNet's shapes and some others, and compare it with what this CPU could reach.",
        [
            (prog, "time all ops, a quarter of a minute"),
            (f"{prog} --only conv2d --threads 1", "time the convolutions on one thread"),
            (f"{prog} --only linear --numpy", "compare with the same ops in NumPy"),
            (f"{prog} --scaling", "predict the speed of several hosts"),
            (f"{prog} --amx-soak", "whether this machine loses AMX tiles, one minute"),
        ],
        "Run no other program meanwhile. The rate counts every product of a dense pass, even if an op skips products with "
        "zeros, so it can exceed the peak. For ops that only move memory, the rate is in GB/s. Exit codes: 0 success, 1 "
        "--amx-soak found a loss that the kernels would not notice, 2 wrong usage or no AMX to soak, 70 a fault in fastlenet, "
        "130 Ctrl-C.",
    )
    add_flags(parser, _Settings)
    add_flags(parser, Options, ("threads", "json"))
    return parser


def main(arguments: Sequence[str] | None = None, prog: str = "fastlenet bench") -> int:
    """Run the command line. Returns the exit code; exits with 2 for flags that do not exist."""

    def command() -> int:
        given = vars(make_parser(prog).parse(arguments))
        with flags_for():
            options = build(Options, {name: given.pop(name) for name in ("threads", "json") if name in given})
            settings = build(_Settings, given)
        return _bench(settings, options)

    return run_command(prog, command, RanksError)


def _bench(settings: _Settings, options: Options) -> int:
    if options.threads is not None:
        set_num_threads(options.threads)
    if settings.amx_soak:
        from fastlenet.cli.soak import soak

        return soak(settings.seconds, options.json)
    if settings.scaling:
        from fastlenet.cli.scaling import scaling  # imports all that trains

        return scaling(settings.rounds, options.json)
    threads = get_num_threads()
    if next(lines(settings.only), None) is None:
        raise UsageError(f"--only {settings.only!r} is in no line; the lines begin with the names of fastlenet.ops")
    top = peak(threads)
    timed = _timed(settings, top)
    if options.json:
        facts = {"version": config()["version"], "level": config()["level"], "threads": threads, "peak_flops": top}
        print(json.dumps({**facts, "lines": [_as_json(one) for one in timed]}), flush=True)
        return 0
    print(f"level {config()['level']}   threads {threads}   multiply-add peak {top / 1e9:,.0f} GFLOP/s\n")
    print(_row("", "time", "rate", "of peak", "over NumPy" if settings.numpy else ""))
    name = ""
    for one in timed:
        if one.line.op.name != name:
            name = one.line.op.name
            print(f"\n{name}" if one.line.label else "")
        print(_as_text(one), flush=True)
    return 0


def _timed(settings: _Settings, top: float) -> Iterator[_Timed]:
    """One line after the other."""
    backends = {"fastlenet": ops} | ({"numpy": reference} if settings.numpy else {})
    for line in lines(settings.only):
        times = alternate({name: line.call(backend) for name, backend in backends.items()}, settings.rounds)
        medians = {name: statistics.median(seconds) for name, seconds in times.items()}
        ours = medians["fastlenet"]
        yield _Timed(line, ours, medians.get("numpy"), line.flops / ours / top if line.flops else None)


def _as_text(one: _Timed) -> str:
    line = one.line
    rate = f"{line.flops / one.seconds / 1e9:,.0f} GFLOP/s" if line.flops else f"{line.bytes / one.seconds / 1e9:,.1f} GB/s"
    share = "" if one.share is None else f"{one.share:.0%}"
    over = "" if one.numpy_seconds is None else f"{one.numpy_seconds / one.seconds:,.1f} x"
    label = f"  {line.label.lstrip(' ,')}" if line.label else line.op.name
    return _row(label, f"{one.seconds * 1e6:,.1f} us", rate, share, over)


def _row(label: str, time: str, rate: str, share: str, over: str) -> str:
    return f"{label:<35}{time:>12}{rate:>14}{share:>8}{over:>11}".rstrip()


def _as_json(one: _Timed) -> dict[str, object]:
    line = one.line
    facts = {"op": line.op.name, "label": line.label.lstrip(" ,"), "seconds": one.seconds, "numpy_seconds": one.numpy_seconds}
    return facts | {"flops": line.flops, "bytes": line.bytes, "of_peak": one.share}
