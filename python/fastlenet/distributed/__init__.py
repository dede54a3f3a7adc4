"""Many runs on many processes or machines: of a recipe over seeds, of a search, of an ensemble.

Each function takes any concurrent.futures.Executor. `LocalWorkers` is one of processes on this machine.
"""

from fastlenet.distributed.cluster import ClusterError, connect, slurm
from fastlenet.distributed.local import LocalWorkers, WorkerDiedError
from fastlenet.distributed.runs import Runs, speedrun, train_ensemble
from fastlenet.distributed.scheduling import RunError
from fastlenet.distributed.searches import (
    CrossValidated,
    CrossValidation,
    Range,
    Space,
    Trial,
    Trials,
    cross_validate,
    read_trials,
    search,
)
from fastlenet.distributed.source import Source
from fastlenet.distributed.task import Outcome

__all__ = [
    "ClusterError",
    "CrossValidated",
    "CrossValidation",
    "LocalWorkers",
    "Outcome",
    "Range",
    "RunError",
    "Runs",
    "Source",
    "Space",
    "Trial",
    "Trials",
    "WorkerDiedError",
    "connect",
    "cross_validate",
    "read_trials",
    "search",
    "slurm",
    "speedrun",
    "train_ensemble",
]
