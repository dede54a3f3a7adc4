"""Stops a run that no longer improves."""

from __future__ import annotations

import numpy as np

from fastlenet.fields import INT64_MAX, Values
from fastlenet.files import CheckpointError
from fastlenet.formats.state import expect_arrays
from fastlenet.training.callbacks.base import Callback, Run
from fastlenet.training.history import METRICS, Epoch

__all__ = ["EarlyStopping"]

_MONITOR = Values(str, choices=METRICS)
_MODE = Values(str, choices=("auto", "min", "max"))
_PATIENCE = Values(int, "a non-negative integer", 0, INT64_MAX)
_DELTA = Values(float, "a non-negative number", 0)
_SWITCH = Values(bool)
# The arrays that a checkpoint stores: the weights of the best epoch, and its number.
_BEST, _OF_EPOCH = "early_stopping.best", "early_stopping.epoch"


class EarlyStopping(Callback):
    """Stops a run once an epoch's number no longer improves. The names and rules are those of Keras.

    monitor: "loss", "accuracy", "val_loss" or "val_accuracy". patience: the number of epochs without an improvement after which
    the run stops; 0 and 1 stop at the first one. min_delta: a smaller change is no improvement. mode: "min" or "max", the
    direction of an improvement; "auto" is "max" for an accuracy and "min" for a loss. restore_best: give the model the weights
    of its best epoch at the end of the run, also if the run ends by itself or by Ctrl-C.

    A run that is stopped and resumed from its checkpoint stops at the same epoch, and restores the same weights, as one without
    interruption. best: the best number so far, or None. best_epoch: its epoch, from 1, or 0. Raises TypeError or ValueError for
    a wrong argument.

        >>> from fastlenet import EarlyStopping, LeNet, fit
        >>> from fastlenet.data import load_mnist
        >>> stopping = EarlyStopping("val_accuracy", patience=3, restore_best=True)
        >>> history = fit(LeNet(), load_mnist(), epochs=50, callbacks=[stopping])  # doctest: +SKIP
        >>> history.stopped  # doctest: +SKIP
        'val_accuracy has not improved for 3 epochs; the model has the weights of epoch 12'
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        patience: int = 0,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best: bool = False,
    ) -> None:
        where = "EarlyStopping: "
        self.monitor = _MONITOR.convert(f"{where}monitor", monitor)
        self.patience = _PATIENCE.convert(f"{where}patience", patience)
        self.min_delta = _DELTA.convert(f"{where}min_delta", min_delta)
        mode = _MODE.convert(f"{where}mode", mode)
        self.mode = ("max" if "accuracy" in self.monitor else "min") if mode == "auto" else mode
        self.restore_best = _SWITCH.convert(f"{where}restore_best", restore_best)
        self.best: float | None = None
        self.best_epoch = self._without = 0

    def begin(self, run: Run) -> None:
        self.best, self.best_epoch, self._without = None, 0, 0
        for epoch in run.state.history.epochs:
            self._judge(epoch)
        self._check_weights(run)
        self._stop_if_due(run)

    def epoch(self, run: Run, epoch: Epoch) -> None:
        if self._judge(epoch) and self.restore_best:
            with run.state.averaged():
                run.state.passengers[_BEST] = run.state.model.parameter_buffer.copy()
            run.state.passengers[_OF_EPOCH] = np.array([epoch.epoch], np.int64)
        self._stop_if_due(run)

    def end(self, run: Run) -> None:
        if self.restore_best and _BEST in run.state.passengers:
            run.state.model.parameter_buffer[...] = run.state.passengers[_BEST]

    def _judge(self, epoch: Epoch) -> bool:
        """Whether the epoch is the best so far. NaN is never an improvement."""
        value: float | None = getattr(epoch, self.monitor)
        if value is None:
            return False
        sign = 1.0 if self.mode == "max" else -1.0
        better = value == value if self.best is None else sign * (value - self.best) > self.min_delta
        self._without += 1
        if better:
            self.best, self.best_epoch, self._without = value, epoch.epoch, 0
        return better

    def _stop_if_due(self, run: Run) -> None:
        if self._without < max(1, self.patience):
            return
        epochs = "an epoch" if self._without == 1 else f"{self._without} epochs"
        reason = f"{self.monitor} has not improved for {epochs}"
        if self.restore_best and _BEST in run.state.passengers:
            reason += f"; the model has the weights of epoch {self.best_epoch}"
        run.stop(reason)

    def _check_weights(self, run: Run) -> None:
        """Leave out weights of a checkpoint that are not of the best epoch, as after a run with another monitor. Raises
        CheckpointError if they are not of such a model.
        """
        passengers = run.state.passengers
        stored = {name: np.asarray(passengers[name]) for name in (_BEST, _OF_EPOCH) if name in passengers}
        if not stored:
            return
        own = {_BEST: run.state.model.parameter_buffer, _OF_EPOCH: np.zeros(1, np.int64)}
        try:
            expect_arrays("its best weights", stored, own)
        except ValueError as error:
            raise CheckpointError(f"the checkpoint does not fit this run; {error}") from None
        if stored[_OF_EPOCH][0] != self.best_epoch:
            del passengers[_BEST], passengers[_OF_EPOCH]
