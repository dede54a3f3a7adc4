"""--workers, --cluster and --results: where the runs of a command are done, and the file that keeps them."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, fields

from fastlenet.cli.command import UsageError
from fastlenet.cli.flags import add_flags
from fastlenet.cli.settings import Value, a_path, build, flags_for
from fastlenet.distributed.cluster import ClusterError, connect, slurm
from fastlenet.distributed.local import LocalWorkers
from fastlenet.distributed.results import Results, opened
from fastlenet.distributed.scheduling import RunError
from fastlenet.fields import Values
from fastlenet.files import CheckpointError, save_somewhere
from fastlenet.signals import StoppedBySignal
from fastlenet.streams import one_line, tell

__all__ = ["ERRORS", "StoppedRuns", "Workers", "add_worker_flags", "kept"]

ERRORS = (ClusterError, RunError)


@dataclass(frozen=True)
class Workers:
    """Where runs are done. cluster: an address, or "slurm" and its options as NAME=VALUE."""

    workers: int | None = None
    cluster: tuple[str, ...] = ()
    results: str | None = a_path(
        "FILE", "append each run to FILE as soon as it is done (JSON lines); runs that FILE has are not repeated"
    )

    def __post_init__(self) -> None:
        if self.workers is not None:
            Values(int, "an integer in 1..4096", 1, 4096).convert("workers", self.workers)
        if self.workers is not None and self.cluster:
            raise UsageError("--workers starts processes here, --cluster uses those elsewhere; give one of them")

    @classmethod
    def of(cls, given: dict[str, Value]) -> Workers:
        """Takes its flags out of those that were given. Raises UsageError."""
        with flags_for():
            return build(cls, {entry.name: given.pop(entry.name) for entry in fields(cls) if entry.name in given})

    @property
    def asked_for(self) -> bool:
        """Whether there are any, beside this process."""
        return self.workers is not None or bool(self.cluster)

    @contextmanager
    def executor(self) -> Iterator[Executor | None]:
        """A context with the Executor; None is this process. Raises UsageError and ClusterError."""
        if self.workers is not None:
            with LocalWorkers(self.workers) as local:
                yield local
        elif self.cluster:
            with self._cluster() as cluster:
                yield cluster
        else:
            yield None

    def _cluster(self) -> Executor:
        address, *options = self.cluster
        if address == "slurm":
            with flags_for():
                return slurm(dict(map(_option, options)))
        if options:
            raise UsageError(f"--cluster {address}: expects an address alone, got {' '.join(options)} too")
        return connect(address)


def _option(text: str) -> tuple[str, int | str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise UsageError(f"--cluster slurm: expects options as NAME=VALUE, got {text}")
    return name, int(value) if value.isdecimal() else value


def add_worker_flags(parser: argparse.ArgumentParser) -> None:
    """Add --workers, --cluster and --results in a group."""
    group = parser.add_argument_group(
        "workers", "Do several runs at a time, each on one thread unless --threads is given. docs/distributed.md has examples."
    )
    group.add_argument("--workers", type=int, default=argparse.SUPPRESS, metavar="N", help="use N processes on this machine")
    group.add_argument(
        "--cluster",
        nargs="+",
        default=argparse.SUPPRESS,
        metavar="ADDRESS",
        help="use the workers of a Dask scheduler (extra cluster), such as tcp://127.0.0.1:8786; or let Slurm start workers: "
        "slurm jobs=4 cores=2 memory=4GB interface=ib0",
    )
    add_flags(group, Workers, ("results",))


class StoppedRuns(KeyboardInterrupt):
    """The command was stopped by a signal; code: its exit code. Finished runs are kept, and it has printed how to continue."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


@contextmanager
def kept(path: str | None, about: Mapping[str, object], command: Sequence[str], **notes: object) -> Iterator[Results]:
    """A context with the finished runs of a file. A signal ends it with a line that says how to go on, and StoppedRuns.

    Without a file they are saved when the signal comes. command: the command line that was given. notes: as of opened.
    """
    with opened(path, about, **notes) as results:
        try:
            yield results
        except KeyboardInterrupt as error:
            tell("\n" + one_line(_how_to_go_on(results, path, command)))
            raise StoppedRuns(128 + (error.number if isinstance(error, StoppedBySignal) else 2)) from None
        except (RunError, CheckpointError):
            if path is None and results.outcomes:
                tell(one_line(_how_to_go_on(results, path, command).replace("interrupted; ", "", 1)))
            raise


def _how_to_go_on(results: Results, path: str | None, command: Sequence[str]) -> str:
    count = len(results.outcomes)
    again = list(command)
    if not count:
        return "interrupted"
    if path is None:
        try:
            path = str(save_somewhere(results.save, "fastlenet-runs.jsonl"))
        except CheckpointError as error:
            return f"interrupted; the {count} finished runs could not be saved: {error}"
        again += ["--results", path]
    runs = "the finished run is" if count == 1 else f"the {count} finished runs are"
    return f"interrupted; {runs} in {path}. To continue: {shlex.join(again)}"
