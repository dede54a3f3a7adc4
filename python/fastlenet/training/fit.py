"""`fit` trains a model: a run from its first step, or from a checkpoint, to its end."""

from __future__ import annotations

import inspect
import os
import signal
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from fastlenet.data.dataset import Dataset
from fastlenet.fields import FieldTypeError, FieldValueError, integer
from fastlenet.files import reserve
from fastlenet.nn import Sequential
from fastlenet.signals import StopSignals
from fastlenet.training.arrays import dataset_of, with_validation
from fastlenet.training.callbacks.base import Callback
from fastlenet.training.callbacks.console import Console
from fastlenet.training.callbacks.early_stopping import EarlyStopping
from fastlenet.training.callbacks.saver import SECONDS, Saver
from fastlenet.training.evaluation import BATCH_SIZE
from fastlenet.training.history import History
from fastlenet.training.recipe import RECIPES, ChangesButSchedule, Recipe, expect_recipe_fields, named_recipe
from fastlenet.training.schedule import Schedule
from fastlenet.training.trainer import InterruptedRunError, Trainer

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["fit"]


def fit(
    model: Sequential,
    data: object,
    y: object = None,
    recipe: str | Recipe | None = None,
    *,
    validation_data: tuple[object, object] | None = None,
    callbacks: Sequence[Callback] = (),
    schedule: str | Schedule | None = None,
    sample_weight: object = None,
    teacher: object = None,
    teacher_cache: str | os.PathLike[str] | None = None,
    verbose: int | str = "auto",
    test_batch_size: int = BATCH_SIZE,
    evaluate_every_epoch: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 10.0,
    resume: str | os.PathLike[str] | None = None,
    allow_level_change: bool = False,
    **changes: Unpack[ChangesButSchedule],
) -> History:
    """Train a model on a data set, or on images and their labels. Returns the history of its epochs.

    data, y: a Dataset, without y; or images and a label for each of them.
    recipe: a Recipe, or the name of one in fastlenet.RECIPES, by default "default"; after a Dataset it may be the third
    argument. changes: fields of the recipe, such as epochs=3 or lr=0.1.
    schedule: the recipe's field; or a function, such as those in optim.schedules, that takes the step (counted from 0) and the
    number of steps and returns the share of the peak rate lr at that step.
    loss: the recipe's field; "cross_entropy", or "mse", the squared error of the probabilities, averaged over the classes.
    class_weight: the recipe's field; how much the images of a class count in the training loss. "balanced" gives all classes
    the same share of it, as in scikit-learn; or weights by class, {8: 2.0}, where the others weigh 1; or a weight for each
    class in order.
    sample_weight: a weight for each training image, as an array or a list. It is multiplied by the weight of the image's class.
    The loss of a batch is the sum of weight * loss over its images, divided by the number of images, as in Keras. PyTorch
    divides by the sum of the weights instead. So weights of mean 1 keep the size of the steps, and doubling all weights doubles
    the gradient. Label smoothing is applied before the weights. history's "loss" is weighted; "accuracy" and "val_loss" are
    not.
    teacher: a trained model, an Ensemble, or a list of them; the model then learns from the mean of their probabilities too.
    Before each epoch they predict its images as the model will see them. The loss of an image is (1 - mix) times its
    cross-entropy with the label, smoothed as the recipe says, plus mix * temperature^2 times the cross-entropy of
    softmax(logits / temperature) with the teacher's softmax(logits / temperature); mix and temperature are the recipe's fields.
    The logits of several networks are the logarithms of their mean probabilities. Source: Hinton, Vinyals and Dean 2015.
    teacher_cache: a folder that keeps what the teacher predicts, for other runs that see the same images: those with the same
    augmentation and the same augmentation_seed.
    validation_data: a pair of images and labels, on which each epoch is evaluated. Without it, the validation part of the data
    set is used, or else its test part. If the data have neither, there is no evaluation.
    callbacks: Callback objects, called after each step and each epoch, such as EarlyStopping.
    verbose: "auto", or True or 1 for a progress bar and a line per epoch, 2 for the lines alone, False or 0 for no output.
    "auto" shows the bar on a terminal and in a notebook only.
    test_batch_size: the number of images at a time in evaluation.
    evaluate_every_epoch: if false, evaluate after the last epoch only.
    checkpoint: a file to write after every epoch and every checkpoint_seconds. It must not exist yet, unless this run resumes
    from it. No other run may write it meanwhile. If a save fails, a RuntimeWarning reports it, and the next save tries again.
    resume: a checkpoint to continue from; the result has the same bits as a run without interruption. You may change epochs,
    even after the run has finished, but not to fewer than are done; from the current step on, the learning rate then follows
    the schedule of the new length.
    allow_level_change: accept a checkpoint of another instruction-set level or backend; the last bits will differ.

    The result depends on the model, the data and the recipe alone, not on the number of threads or on evaluate_every_epoch.

    Ctrl-C, or a callback that calls run.stop(), ends the training after the current step. The checkpoint, if any, is written,
    and the history is returned; history.stopped says why the training stopped, and history.interrupted whether it was Ctrl-C.
    A second Ctrl-C raises KeyboardInterrupt. The model is in evaluation mode after the training, however it ends.

    Raises before the first step: TypeError for an unknown field or a wrong type, ValueError for a wrong recipe or a model that
    does not match the data, CheckpointError for a file that does not match, exists, or cannot be written. Raises DivergedError
    if the loss is no longer finite.

        >>> import fastlenet
        >>> from fastlenet.data import load_mnist
        >>> data = load_mnist()
        >>> model = fastlenet.LeNet()
        >>> images, labels = data.train_images[:640], data.train_labels[:640]
        >>> validation = data.test_images[:100], data.test_labels[:100]
        >>> history = fastlenet.fit(model, images, labels, epochs=2, validation_data=validation, verbose=0)
        >>> sorted(history.history)
        ['accuracy', 'loss', 'val_accuracy', 'val_loss']
    """
    expect_recipe_fields("fit", changes, inspect.signature(fit).parameters)
    if recipe is None and isinstance(data, Dataset) and isinstance(y, (str, Recipe)):
        y, recipe = None, y
    full = _recipe(recipe, changes, schedule)
    if not isinstance(callbacks, Sequence) or not all(isinstance(callback, Callback) for callback in callbacks):
        raise FieldTypeError("callbacks", callbacks, "a list of Callback objects")
    console = _console(verbose)
    checkpoint_seconds = SECONDS.convert("checkpoint_seconds", checkpoint_seconds)
    dataset = dataset_of(data, y)
    if validation_data is not None:
        dataset = with_validation(dataset, validation_data)
    trainer = Trainer(
        model,
        dataset,
        full,
        test_batch_size=test_batch_size,
        evaluate_every_epoch=evaluate_every_epoch,
        schedule=schedule if callable(schedule) else None,
        sample_weight=sample_weight,
        teacher=teacher,
        teacher_cache=teacher_cache,
    )
    _expect_monitored(callbacks, trainer)
    with nullcontext() if checkpoint is None else reserve(checkpoint, resume):
        if resume is not None:
            trainer.restore(resume, allow_level_change=allow_level_change)
        saver = None if checkpoint is None else Saver(checkpoint, checkpoint_seconds)
        return _run(trainer, callbacks, console, saver)


def _recipe(recipe: str | Recipe | None, changes: ChangesButSchedule, schedule: str | Schedule | None) -> Recipe:
    if recipe is None:
        recipe = "default"
    if isinstance(recipe, str):
        recipe = named_recipe(recipe)
    if not isinstance(recipe, Recipe):
        raise FieldTypeError("recipe", recipe, f"a Recipe, or one of {', '.join(RECIPES)}")
    recipe = replace(recipe, **changes)
    return recipe if schedule is None or callable(schedule) else replace(recipe, schedule=schedule)


def _console(verbose: int | str) -> Console:
    if isinstance(verbose, str):
        if verbose != "auto":
            raise FieldValueError("verbose", verbose, '"auto", 0, 1 or 2')
        return Console()
    level = integer("verbose", int(verbose) if isinstance(verbose, bool) else verbose, 0, 2)
    return Console(quiet=level == 0, bar=level == 1)


def _expect_monitored(callbacks: Sequence[Callback], trainer: Trainer) -> None:
    """Raises ValueError if an EarlyStopping monitors numbers that this run does not compute."""
    for callback in callbacks:
        if isinstance(callback, EarlyStopping) and callback.monitor.startswith("val_") and not trainer.evaluates:
            raise ValueError(
                f"EarlyStopping: monitor {callback.monitor} expects an evaluation after every epoch, got none; give fit "
                "validation_data, or monitor loss"
            )


def _run(trainer: Trainer, callbacks: Sequence[Callback], console: Console, saver: Saver | None) -> History:
    """Train to the end, or until stopped. The model then has the weights to use, and the checkpoint the whole state."""
    history = trainer.state.history
    with StopSignals(signal.SIGINT, stop=lambda: trainer.stop("interrupted by Ctrl-C")) as signals:
        try:
            trainer.run(*callbacks, console, *(() if saver is None else (saver,)))
        except InterruptedRunError:
            history.interrupted, history.stopped = signals.number is not None, trainer.stop_reason
            if saver is not None:
                saver.save(trainer)
            trainer.state.take_average()
        finally:
            console.close()
        for callback in callbacks:
            callback.end(trainer)
    if history.stopped:
        console.say(f"stopped: {history.stopped}")
    if saver is not None and saver.error is not None:
        warnings.warn(f"{saver.error}; the model has its weights, the checkpoint has not", RuntimeWarning, stacklevel=3)
    return history
