"""A training that several processes share: how the command finds them, what they compare, and how they end together."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np

from fastlenet.backend import Array
from fastlenet.cli.command import explain
from fastlenet.cli.settings import Options, Settings
from fastlenet.config import config
from fastlenet.signals import StopSignals
from fastlenet.training.ensemble import EnsembleRun
from fastlenet.training.ranks import RanksError
from fastlenet.training.state import DivergedError, RunState
from fastlenet.training.trainer import InterruptedRunError, Trainer

if TYPE_CHECKING:  # distributed imports what a run alone does not need
    from fastlenet.distributed.mpi import MpiRanks
    from fastlenet.training.callbacks.base import Callback

__all__ = ["Prepared", "RankRun", "counted", "join", "launched", "only_first_speaks", "share_run", "silent"]

# Environment variables in which launchers tell a process how many they started, and which one it is: Open MPI's; MPICH's and
# Intel MPI's; MVAPICH's; Slurm's srun's (SLURM_NTASKS is set in every job, also for what srun did not start).
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
_NUMBERS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", "SLURM_PROCID")

# Settings that may differ from host to host: where things lie.
_PLACES = ("data", "data_dir", "sample_weight", "load_model", "teacher", "teacher_cache")


def _first_number(names: tuple[str, ...]) -> int | None:
    values = (os.environ.get(name, "") for name in names)
    return next((int(value) for value in values if value.isdecimal()), None)


def launched() -> int:
    """Returns how many processes a launcher of MPI started, as its environment variables tell; 1 if there are none."""
    return _first_number(_SIZES) or 1


def join(mpi: str) -> MpiRanks | None:
    """Returns the processes that share the run, or None if this one is alone. mpi: as in Options. Raises RanksError."""
    count = launched()
    if mpi == "off" or (mpi == "auto" and count == 1):
        return None
    from fastlenet.distributed.mpi import MpiRanks

    ranks = MpiRanks(count if count > 1 else None)
    return ranks if ranks.size > 1 else None


@contextlib.contextmanager
def only_first_speaks() -> Iterator[None]:
    """A context for what fails alike on all processes, before they know of each other: all but the first fail silently, with
    exit code 0, so that the launcher does not end the first before it has spoken.
    """
    if launched() == 1 or not _first_number(_NUMBERS):
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        try:
            yield
        except (SystemExit, Exception):
            raise SystemExit(0) from None


def silent(options: Options) -> Options:
    """The options of all ranks but the first: they print nothing and write no files."""
    quiet = replace(options, quiet=True, json=False, profile=False, times=False, log_interval=0)
    return replace(quiet, save_model=None, checkpoint=None, log_json=None, plot=None)


class RankRun(EnsembleRun):
    """A run that all ranks share. agreed: whether all of them have left the training after the same step."""

    agreed = False

    def run(self, *callbacks: Callback, started: Callable[[Trainer], None] = lambda trainer: None) -> list[dict[str, Array]]:
        try:
            states = super().run(*callbacks, started=started)
        except (InterruptedRunError, DivergedError, RanksError):  # which end it on all ranks after the same step
            self.agreed = True
            raise
        self.agreed = True
        return states


def _facts(settings: Settings, trainer: Trainer) -> dict[str, str]:
    """What must be the same on all ranks, in words by name."""
    import platform

    state, built = trainer.state, config()
    distorts = state.recipe.rotation or state.recipe.elastic  # by the sine, cosine and exponential of the C library
    facts: dict[str, object] = {
        "fastlenet": built["version"],
        "level": state.model.level(),
        "compiler": built["compiler"],
        "C library": " ".join(platform.libc_ver()) if distorts else "any",
        **{f"recipe's {name}": value for name, value in asdict(state.recipe).items()},
        **{name: value for name, value in asdict(settings).items() if name not in _PLACES},
        "training data": state.data.fingerprint,
        "evaluation data": _checksum(state.data.part(trainer.watched)),
        "evaluation after every epoch": trainer.evaluate_every_epoch,
        "teacher": "none" if state.teaching is None else state.teaching.teacher.fingerprint,
        "weights of images": "none" if state.weights is None else _checksum([state.weights]),
        "place in the run": f"epoch {state.epoch + 1}, step {state.position}",
        "parameters": _checksum(_arrays(state)),
    }
    return {name: str(value) for name, value in facts.items()}


def _arrays(state: RunState) -> list[Array]:
    return [array for arrays in state.tensors().values() for array in arrays.values()]


def _checksum(arrays: Iterable[Array]) -> str:
    import zlib

    digest = 0
    for array in arrays:
        digest = zlib.crc32(np.ascontiguousarray(array).data, digest)
    return f"{digest:08x}"


# A run that is ready to start: its settings, the run, and the function that trains and reports, for the first rank.
Prepared = tuple[Settings, EnsembleRun, Callable[[], int]]


def share_run(
    ranks: MpiRanks, name: str, expected: tuple[type[Exception], ...], signals: StopSignals, prepare: Callable[[], Prepared]
) -> int:
    """Train as one of several ranks, which start and end together. Returns the exit code.

    An error of all ranks is raised on the first one. An error of one rank alone, within the training, is printed with its name,
    and ends all ranks at once. name, expected: as in run_command.
    """
    from fastlenet.distributed.agreement import expect_same, together

    agreed = True  # whether all ranks are at the same point
    run: EnsembleRun | None = None
    try:
        settings, run, train = together(ranks, prepare)
        expect_same(ranks, _facts(settings, run.trainer))
        agreed = False
        code = train() if ranks.rank == 0 else _train_silently(run, signals)
    except BaseException as error:
        if not isinstance(error, Exception) or not (agreed or _left_together(run)):
            ranks.abort(explain(f"{name}: {ranks.names[ranks.rank]}" if ranks.rank else name, error, expected))
        ranks.leave()
        if ranks.rank:
            return 0
        raise
    if not _left_together(run):
        ranks.abort(code)
    ranks.leave()
    return code


def _left_together(run: EnsembleRun | None) -> bool:
    return isinstance(run, RankRun) and run.agreed


def _train_silently(run: EnsembleRun, signals: StopSignals) -> int:
    signals.stop = run.stop
    with contextlib.suppress(InterruptedRunError):
        run.run()
    return 0


def counted(ranks: MpiRanks | None) -> str:
    """How many ranks there are, for the first line."""
    if ranks is None:
        return ""
    hosts = len({name.rpartition(" ")[2] for name in ranks.names})
    return f"   {ranks.size} ranks on {hosts} host{'s' * (hosts > 1)}"
