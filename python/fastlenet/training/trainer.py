"""The trainer: runs the steps of a training and calls the callbacks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import NoReturn

import numpy as np

from fastlenet import ops
from fastlenet.backend import Array
from fastlenet.data.dataset import Dataset, Part
from fastlenet.fields import FieldValueError, Values, integer
from fastlenet.nn import Dropout, Sequential
from fastlenet.normalisation import PerChannel
from fastlenet.training.callbacks.base import Callback
from fastlenet.training.checkpoint import restore_state, save_state
from fastlenet.training.evaluation import BATCH_SIZE, evaluate, expect_fit, has_images
from fastlenet.training.history import Epoch, History
from fastlenet.training.host_step import HostStep
from fastlenet.training.ranks import Ranks, RanksError
from fastlenet.training.recipe import Recipe
from fastlenet.training.schedule import Schedule
from fastlenet.training.sharded_step import ShardedStep
from fastlenet.training.state import DivergedError, RunState
from fastlenet.training.step import TrainingStep
from fastlenet.training.teacher import Teacher
from fastlenet.training.teaching import Teaching

__all__ = ["InterruptedRunError", "Trainer"]


class InterruptedRunError(Exception):
    """The run was stopped, between two steps."""


def _teaching(teacher: object, cache: str | os.PathLike[str] | None, data: Dataset, recipe: Recipe) -> Teaching | None:
    """What a run learns from beside the labels. Raises FieldTypeError, FieldValueError or CheckpointError."""
    if teacher is None:
        if cache is not None:
            raise FieldValueError(
                "teacher_cache", str(cache), "a teacher", cure="give teacher too, or leave it out", got="none"
            )
        return None
    if recipe.loss != "cross_entropy":
        raise FieldValueError("loss", recipe.loss, "cross_entropy with a teacher", cure="leave out loss, or the teacher")
    teaching = Teaching(teacher if isinstance(teacher, Teacher) else Teacher(teacher), recipe.temperature, cache)
    teaching.expect_fit(data, map(recipe.transforms(*data.input_shape[1:]), range(recipe.epochs)))
    return teaching


class Trainer:
    """A run in progress. It applies steps to its `state`, epoch by epoch.

    To stop it after the current step, call stop(), also from a signal handler or another thread. The model takes the recipe's
    algorithm and precision.

    test_batch_size: images at a time in evaluation. evaluate_every_epoch: if false, evaluate only after the last epoch. rate: a
    function from a step, counted from 0, to its learning rate, instead of the recipe's; on a GPU it is called for all steps of
    an epoch at its beginning. teacher, teacher_cache: as fit takes them; or a Teacher. ranks: the processes that share the run,
    each with such a Trainer, or None; the callbacks of a rank are its own. RunState describes the other arguments. Raises
    TypeError or ValueError for a model, data and recipe that do not match.
    """

    def __init__(
        self,
        model: Sequential,
        data: Dataset,
        recipe: Recipe,
        *,
        test_batch_size: int = BATCH_SIZE,
        evaluate_every_epoch: bool = True,
        rate: Callable[[int], float] | None = None,
        ranks: Ranks | None = None,
        batches_per_epoch: int | None = None,
        schedule: Schedule | None = None,
        sample_weight: object = None,
        teacher: object = None,
        teacher_cache: str | os.PathLike[str] | None = None,
        settings: Mapping[str, object] | None = None,
        passengers: Mapping[str, Array] | None = None,
    ) -> None:
        if not isinstance(recipe, Recipe):
            raise TypeError(f"recipe expects a Recipe, got {type(recipe).__name__}")
        self.test_batch_size = integer("test_batch_size", test_batch_size, 1)
        if batches_per_epoch is not None:
            batches_per_epoch = integer("batches_per_epoch", batches_per_epoch, 1)
        expect_fit(model, data)
        for probability in (recipe.dropout, recipe.dropout_fc1):
            if probability and not any(isinstance(layer, Dropout) and layer.p == probability for layer in model.layers):
                raise ValueError(f"dropout expects a model with nn.Dropout({probability}), as LeNet.of(recipe) makes it")
        self.evaluate_every_epoch = Values(bool).convert("evaluate_every_epoch", evaluate_every_epoch)
        self.state = RunState(
            model,
            data,
            recipe,
            batches_per_epoch=batches_per_epoch,
            schedule=schedule,
            sample_weight=sample_weight,
            teaching=_teaching(teacher, teacher_cache, data, recipe),
            settings=settings,
            passengers=passengers,
        )
        model.algorithm = recipe.algorithm
        model.precision = recipe.precision
        self.evaluation_seconds = 0.0
        self.stop_requested, self.stop_reason = False, ""
        self._rate, self._ranks = rate, ranks
        self._compared_at = -1  # the step after which the ranks were last found to have the same parameters
        if ranks is not None and recipe.shards % ranks.size:
            raise FieldValueError("shards", recipe.shards, f"a multiple of the {ranks.size} ranks")
        self._step = self._make_step()

    @property
    def evaluates(self) -> bool:
        """Whether every epoch is evaluated."""
        return self.evaluate_every_epoch and has_images(self.state.data)

    def _make_step(self) -> TrainingStep:
        rate = self._rate or self.state.rate
        if self.state.recipe.shards > 1:
            return ShardedStep(self.state, rate, self._ranks)
        if issubclass(self.state.model.ops.Graph, ops.Graph):  # the CPU's kernels, timed by a profiler or not
            return HostStep(self.state, rate)
        if not self.state.model.ops.Graph.captures_steps:
            return TrainingStep(self.state, rate)
        from fastlenet.training.cuda_step import CapturedStep

        return CapturedStep(self.state, rate)

    def __getstate__(self) -> dict[str, object]:
        self._step.wait()
        return {name: value for name, value in vars(self).items() if name != "_step"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._step = self._make_step()

    # --- running ---

    def run(self, *callbacks: Callback) -> History:
        """Train to the end, and return the history. The model then has the weights that were evaluated: their average, if the
        recipe has one.

        Raises InterruptedRunError after stop(), between two steps, and DivergedError. The model is in evaluation mode
        afterwards, however the run ends.
        """
        state = self.state
        state.tell_model()  # only now: what refuses a run leaves the model as it was
        state.model.train()
        try:
            for callback in callbacks:
                callback.begin(self)
            if self._stopping() and state.epoch < state.recipe.epochs:
                self._interrupt()
            while state.epoch < state.recipe.epochs:
                self._run_epoch(callbacks)
            for callback in callbacks:
                callback.finish(self)
        finally:
            state.model.eval()
        state.take_average()
        return state.history

    def _run_epoch(self, callbacks: tuple[Callback, ...]) -> None:
        state, starts = self.state, self.state.starts
        start = time.perf_counter()
        self._step.start()
        if state.teaching is not None:
            self._learn_from(state.teaching, callbacks)
        while state.position < state.batches:
            images = starts[state.position + 1] - starts[state.position]
            loss = self._step.run(images)
            state.position += 1
            state.images += images
            if state.position == state.batches:
                self._step.wait()
            state.seconds += time.perf_counter() - start
            if self._ranks is not None and self._ranks.comparing:
                self._compare_ranks()
            for callback in callbacks:
                callback.batch(self, loss, images)
            if self.told_to_stop and state.position < state.batches:
                self._interrupt()
            start = time.perf_counter()
        self._finish_epoch(callbacks)

    def _learn_from(self, teaching: Teaching, callbacks: tuple[Callback, ...]) -> None:
        """Let the teacher predict the epoch's images. stop() ends this too."""

        def proceed(images: int) -> bool:
            for callback in callbacks:
                callback.taught(self, images)
            return not self.stop_requested

        self._step.learn_from(teaching, proceed)
        if self._stopping():
            self._interrupt()

    def _finish_epoch(self, callbacks: tuple[Callback, ...]) -> None:
        state = self.state
        state.expect_finite()
        self._compare_ranks()
        val_accuracy = val_loss = None
        last = state.epoch + 1 == state.recipe.epochs
        if has_images(state.data) and (self.evaluate_every_epoch or last):
            val_accuracy, val_loss = self._evaluate(None, self._ranks)
        epoch = Epoch(
            epoch=state.epoch + 1,
            loss=state.loss_sum / state.images,
            accuracy=state.correct / state.images,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            seconds=state.seconds,
            images_per_second=state.images / state.seconds,
        )
        state.history.epochs.append(epoch)
        state.epoch += 1
        state.begin_epoch()
        for callback in callbacks:
            callback.epoch(self, epoch)
        if self._stopping() and not last:
            self._interrupt()

    def stop(self, reason: str = "a callback stopped it") -> None:
        """Stop the run after the current step, by an InterruptedRunError. history.stopped then gives the reason.

        A run that several ranks share stops on all of them, after the next step.
        """
        self.stop_requested, self.stop_reason = True, reason
        if self._ranks is not None:
            self._ranks.stop = True

    @property
    def told_to_stop(self) -> bool:
        """Whether to stop; the same on all ranks."""
        return self.stop_requested if self._ranks is None else self._ranks.stopping

    def _stopping(self) -> bool:
        """Whether to stop, after the ranks have agreed on it."""
        if self._ranks is not None:
            self._ranks.gather(np.empty(0))
        return self.told_to_stop

    def _interrupt(self) -> NoReturn:
        self._compare_ranks()
        raise InterruptedRunError

    def _compare_ranks(self) -> None:
        """Raise RanksError unless all ranks have the same finite parameters and the same state of the optimizer."""
        ranks, state = self._ranks, self.state
        if ranks is None or self._compared_at == state.optimizer.steps:
            return
        import zlib  # loads a library

        state.expect_finite()  # here, on all ranks, since only one of them saves
        digest = 0
        for array in (state.model.parameter_buffer, *state.optimizer.state_dict().values(), *state.average.values()):
            digest = zlib.crc32(np.asarray(array).data, digest)
        digests = ranks.gather(np.array([float(digest)]))[:, 0]
        odd = np.flatnonzero(digests != digests[0])
        if odd.size:
            where = f"in epoch {state.epoch + 1} after step {state.position}"
            raise RanksError(f"{ranks.names[odd[0]]} has other parameters than {ranks.names[0]} {where}")
        self._compared_at = state.optimizer.steps

    # --- what it can be asked for ---

    def mean_loss(self) -> float:
        """Returns the mean loss of the epoch so far."""
        self._step.wait()
        return self.state.loss_sum / self.state.images

    @property
    def watched(self) -> Part:
        """The part of the data that is evaluated after each epoch: validation, or test if there are no validation images."""
        return "validation" if len(self.state.data.validation_labels) else "test"

    def evaluate(self, part: Part | None = None) -> tuple[float, float]:
        """Returns the accuracy, a fraction, and loss, with the recipe's averaged weights and test-time augmentation.

        part: of the data; None is the watched part.
        """
        return self._evaluate(part, None)

    def _evaluate(self, part: Part | None, ranks: Ranks | None) -> tuple[float, float]:
        """The same; the ranks share the images."""
        state, recipe, start = self.state, self.state.recipe, time.perf_counter()
        with state.averaged(), state.told():
            result = evaluate(
                state.model,
                state.data,
                self.test_batch_size,
                tta=recipe.tta,
                part=part or self.watched,
                loss=recipe.loss,
                ranks=ranks,
            )
        self.evaluation_seconds += time.perf_counter() - start
        return result

    def may_save(self) -> bool:
        """Whether a checkpoint may be written now. Ranks must compare their parameters; they do so after the next step."""
        if self._ranks is None or self._compared_at == self.state.optimizer.steps:
            return True
        self._ranks.compare = True
        return False

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint, as save_state does."""
        self._step.wait()
        save_state(self.state, path)

    def restore(self, path: str | os.PathLike[str], *, allow_level_change: bool = False) -> None:
        """Continue from a checkpoint, as restore_state does."""
        with suppress(DivergedError):  # in steps that are discarded
            self._step.wait()
        with self._on_other_data():
            restore_state(self.state, path, allow_level_change=allow_level_change)

    def normalise(self, mean: PerChannel, std: PerChannel) -> None:
        """Normalise the images by this mean and standard deviation from now on."""
        with self._on_other_data():
            self.state.normalise(mean, std)

    @contextmanager
    def _on_other_data(self) -> Iterator[None]:
        """A context for a block that may replace the data, since the step may have copied them to a device."""
        data = self.state.data
        yield
        if self.state.data is not data:
            self._step = self._make_step()
