"""Many runs on many processes or machines: of a recipe over seeds, of a search, of an ensemble.

Each function takes any concurrent.futures.Executor. `LocalWorkers` is one of processes on this machine.
"""

from fastlenet.distributed.local import LocalWorkers, WorkerDiedError
from fastlenet.distributed.runs import Runs, speedrun, train_ensemble
from fastlenet.distributed.scheduling import RunError
from fastlenet.distributed.source import Source
from fastlenet.distributed.task import Outcome

__all__ = ["LocalWorkers", "Outcome", "RunError", "Runs", "Source", "WorkerDiedError", "speedrun", "train_ensemble"]
