"""Training: `fit`, a run from its first step, or from a checkpoint, to its end."""

from __future__ import annotations

import os
import signal
import warnings
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from fastlenet.data.dataset import Dataset
from fastlenet.files import reserve
from fastlenet.nn import Sequential
from fastlenet.signals import StopSignals
from fastlenet.training.callbacks.base import Callback
from fastlenet.training.callbacks.saver import SECONDS, Saver
from fastlenet.training.evaluation import BATCH_SIZE
from fastlenet.training.history import History
from fastlenet.training.recipe import Recipe, named_recipe
from fastlenet.training.trainer import InterruptedRunError, Trainer

__all__ = ["fit"]


def fit(
    model: Sequential,
    data: Dataset,
    recipe: str | Recipe = "default",
    *,
    test_batch_size: int = BATCH_SIZE,
    evaluate_every_epoch: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 10.0,
    resume: str | os.PathLike[str] | None = None,
    allow_level_change: bool = False,
    callbacks: tuple[Callback, ...] = (),
    **changes: Any,
) -> History:
    """Train a model on a data set and return the history.

    recipe: a Recipe, or the name of one in fastlenet.RECIPES; changes: fields of it, epochs=3, lr=0.1 and so on.
    checkpoint: a file to write after every epoch and every checkpoint_seconds; resume: one to go on from, to the same bits as
    if nothing had happened. epochs may be another number than the checkpoint was made for, if no fewer than are done, even
    where that run was finished: the learning rate then follows the schedule of the new length from the step at hand on.
    allow_level_change: take a checkpoint of another instruction-set level or backend; the last bits will differ. A checkpoint
    that exists is replaced only by a run that goes on from it, and no other run may write it meanwhile. Where a save fails, a
    RuntimeWarning says so, and the next time it is tried again.

    The result depends on the model, the data and the recipe alone: not on the number of threads, nor on evaluate_every_epoch.

    Ctrl-C ends the training after the step at hand, and so does a callback that calls trainer.stop(): the checkpoint, if there
    is one, is written, and history.interrupted is True. A second Ctrl-C raises KeyboardInterrupt. However the training ends,
    the model is in evaluation mode.

    Raises, before the first step, TypeError for a field that there is not or an argument of another type, ValueError for a
    recipe that makes no sense or a model and data that do not go together, CheckpointError for a file that does not fit,
    exists, or cannot be written; and DivergedError when the loss is no longer finite.
    """
    if not isinstance(recipe, (str, Recipe)):
        raise TypeError(f"recipe expects a Recipe or the name of one, got {type(recipe).__name__}")
    if not isinstance(callbacks, (tuple, list)) or not all(isinstance(callback, Callback) for callback in callbacks):
        raise TypeError(f"callbacks expects a tuple of Callback objects, got {callbacks!r}")
    checkpoint_seconds = SECONDS.convert("checkpoint_seconds", checkpoint_seconds)
    try:
        recipe = named_recipe(recipe, **changes) if isinstance(recipe, str) else replace(recipe, **changes)
    except TypeError as error:
        raise TypeError(f"fit: {error}") from None
    trainer = Trainer(model, data, recipe, test_batch_size=test_batch_size, evaluate_every_epoch=evaluate_every_epoch)
    with nullcontext() if checkpoint is None else reserve(checkpoint, resume):
        if resume is not None:
            trainer.restore(resume, allow_level_change=allow_level_change)
        saver = None if checkpoint is None else Saver(checkpoint, checkpoint_seconds)
        return _run(trainer, callbacks, saver)


def _run(trainer: Trainer, callbacks: tuple[Callback, ...], saver: Saver | None) -> History:
    """To the end, or until it is stopped; the model then holds what can be used, and the checkpoint all the rest."""
    with StopSignals(signal.SIGINT, stop=trainer.stop):
        try:
            trainer.run(*callbacks, *(() if saver is None else (saver,)))
        except InterruptedRunError:
            trainer.state.history.interrupted = True
            if saver is not None:
                saver.save(trainer)
            trainer.state.take_average()
    if saver is not None and saver.error is not None:
        warnings.warn(f"{saver.error}; the model has its weights, the checkpoint has not", RuntimeWarning, stacklevel=3)
    return trainer.state.history
