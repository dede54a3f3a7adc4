"""What a worker does: it checks that it is fit for a run, trains, and answers."""

from __future__ import annotations

import math
import os
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import cast

from fastlenet import ops
from fastlenet.config import config, own_threads
from fastlenet.data import DataError, Dataset
from fastlenet.distributed.source import Source, checksum
from fastlenet.distributed.task import Outcome, Refusal, made_of
from fastlenet.fields import FieldError
from fastlenet.models import NETWORKS
from fastlenet.streams import one_line
from fastlenet.training.recipe import Recipe
from fastlenet.training.state import DivergedError
from fastlenet.training.trainer import Trainer

__all__ = ["cpu_model", "run_task", "worker_name"]

_loaded: dict[str, Dataset] = {}  # by checksum: the data set of the last run, which the next one usually shares


def cpu_model() -> str:
    """The name of this CPU."""
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def worker_name() -> str:
    """The name of this worker: host and process, and before them what Dask calls it, with its address."""
    place = f"{platform.node()}:{os.getpid()}"
    dask = sys.modules.get("distributed")
    try:
        worker = dask.get_worker() if dask is not None else None
    except ValueError:  # this process is not a worker
        worker = None
    if worker is None:
        return place
    named = "" if worker.name == worker.address else f"{worker.name} at "
    return f"{named}{worker.address} ({place})"


def run_task(message: Mapping[str, object]) -> Outcome | Refusal:
    """Do the run of Task.as_message's result. The bits are those of the same run alone, for any number of threads.

    Returns a Refusal if this worker has another version, instruction-set level or data than the caller. Raises what training
    raises, except DivergedError, which is an outcome.
    """
    start = time.perf_counter()
    data = _fit_for(message)
    if isinstance(data, str):
        return Refusal(worker_name(), data)
    seconds = {"data": time.perf_counter() - start}
    recipe = made_of(Recipe, message["recipe"])
    threads = cast(int, message["threads"])
    with own_threads(threads):
        network = NETWORKS[str(message["network"])]
        model = network.of(recipe, input_shape=data.input_shape, classes=data.classes, ops=ops)
        trainer = Trainer(model, data, recipe, evaluate_every_epoch=False)
        accuracy = loss = training_loss = None
        diverged = ""
        try:
            trainer.run()
            last = trainer.state.history.epochs[-1] if recipe.epochs else None
            accuracy, loss = (last.val_accuracy, last.val_loss) if last else trainer.evaluate()
            training_loss = last.loss if last else None
        except DivergedError as error:
            diverged = str(error)
    epochs = trainer.state.history.epochs
    seconds |= {"training": sum(epoch.seconds for epoch in epochs), "evaluation": trainer.evaluation_seconds}
    weights = model.parameter_buffer.astype("<f4").tobytes() if message["weights"] and not diverged else None
    place = platform.node(), os.getpid(), cpu_model(), threads
    rows = tuple({name: _finite(value) for name, value in asdict(epoch).items()} for epoch in epochs)
    facts = config()
    made = facts["version"], facts["level"], weights
    return Outcome(recipe, accuracy, _finite(loss), training_loss, diverged, seconds, rows, *place, *made)


def _finite(value: float | None) -> float | None:
    """JSON has no infinity, which the loss of images may be even if all weights are finite."""
    return value if value is not None and math.isfinite(value) else None


def _fit_for(message: Mapping[str, object]) -> Dataset | str:
    """The data set of a run, or why this worker is not fit for it."""
    facts = config()
    for name, mine in (("version", facts["version"]), ("level", facts["level"])):
        if message.get(name) != mine:
            return f"it has {name} {mine}, this run needs {message.get(name)}"
    fingerprint = str(message["fingerprint"])
    loaded = _loaded.get(fingerprint)
    if loaded is not None:
        return loaded
    source = made_of(Source, message["source"])
    try:
        data = source.load()
    except (DataError, FieldError, OSError) as error:
        return f"it cannot read the data ({one_line(str(error))})"
    found = checksum(data)
    if found != fingerprint:
        return f"its data differ: {one_line(source.name)} has checksum {found} there, this run needs {fingerprint}"
    _loaded.clear()
    _loaded[fingerprint] = data
    return data
