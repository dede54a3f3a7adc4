"""`fit` trains a model: a run from its first step, or from a checkpoint, to its end."""

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
    """Train a model on a data set. Returns the history of its epochs.

    recipe: a Recipe, or the name of one in fastlenet.RECIPES. changes: fields of the recipe, such as epochs=3 or lr=0.1.
    test_batch_size: images at a time in evaluation. evaluate_every_epoch: if false, evaluate after the last epoch only.
    checkpoint: a file to write after every epoch and every checkpoint_seconds. It must not exist, unless this run resumes from
    it, and no other run may write it meanwhile. If a save fails, a RuntimeWarning reports it, and the next save tries again.
    resume: a checkpoint to continue from; the result has the same bits as a run without interruption. You may change epochs,
    even after the run has finished, but not to fewer than are done; from the current step on, the learning rate then follows
    the schedule of the new length.
    allow_level_change: accept a checkpoint of another instruction-set level or backend; the last bits will differ.
    callbacks: Callback objects, called after each step and each epoch.

    The result depends on the model, the data and the recipe alone, not on the number of threads or on evaluate_every_epoch.

    Ctrl-C, or a callback that calls trainer.stop(), ends the training after the current step. The checkpoint, if any, is
    written, and history.interrupted is True. A second Ctrl-C raises KeyboardInterrupt. The model is in evaluation mode after
    the training, however it ends.

    Raises before the first step: TypeError for an unknown field or a wrong type, ValueError for a wrong recipe or a model that
    does not match the data, CheckpointError for a file that does not match, exists, or cannot be written. Raises DivergedError
    if the loss is no longer finite.
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
    """Train to the end, or until stopped. The model then has the weights to use, and the checkpoint the whole state."""
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
