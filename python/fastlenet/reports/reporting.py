"""`report`: how good a model is and what is inside it, as a page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastlenet.backend import Array
from fastlenet.config import get_num_threads
from fastlenet.data.dataset import Dataset
from fastlenet.fields import FieldTypeError
from fastlenet.files import write_atomically
from fastlenet.inference.facts import Label
from fastlenet.inference.forward import BATCH_SIZE
from fastlenet.inference.raw import reported_part
from fastlenet.models.ensemble import Ensemble
from fastlenet.nn import Sequential
from fastlenet.reports.calibration import Calibration
from fastlenet.reports.findings import (
    Findings,
    Subject,
    costs_of,
    errors_of,
    examples_of,
    filters_of,
    label_errors_of,
)
from fastlenet.reports.page import as_fragment, as_page
from fastlenet.reports.repeating import training_of
from fastlenet.training.history import History
from fastlenet.training.logs import read_log

if TYPE_CHECKING:
    from fastlenet.data.dataset import Part

__all__ = ["Report", "report"]


class Report(Findings):
    """How good a model is on images whose labels are known, and what is inside it. `fastlenet.report` makes it.

    A notebook shows it as a page. Its fields are those of the page: see Findings.
    """

    @property
    def accuracy(self) -> float:
        """The share of the images that were classified correctly."""
        return self.evaluation.accuracy

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy, by Wilson's formula."""
        return self.evaluation.interval

    @property
    def loss(self) -> float:
        """The mean of -log p[label]."""
        return self.evaluation.loss

    @property
    def confusion_matrix(self) -> Array:
        """int64 (classes, classes); row i, column j counts the images of class i that were taken for class j."""
        return self.evaluation.confusion_matrix

    @property
    def precision(self) -> Array:
        """The share of the images taken for a class that belong to it, float64 (classes,); NaN if none was taken for it."""
        return self.evaluation.precision

    @property
    def recall(self) -> Array:
        """The accuracy on the images of each class, float64 (classes,); NaN for a class without images."""
        return self.evaluation.recall

    @property
    def class_names(self) -> tuple[Label, ...]:
        """The label of each class."""
        return self.evaluation.class_names

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page to a file, such as "report.html". It needs no other file and no network.

        If the file exists, it is replaced as a whole. Raises CheckpointError if it cannot be written.
        """
        write_atomically(path, as_page(self).encode())

    def as_html(self) -> str:
        """Returns the page that `save` writes."""
        return as_page(self)

    def _repr_html_(self) -> str:
        """The same for a notebook; its style applies to nothing else there."""
        return as_fragment(self)

    def __repr__(self) -> str:
        return f"Report({self.evaluation!r}, {self.calibration!r}, {len(self.errors):,} errors)"


def report(
    model: Sequential | Ensemble,
    data: object,
    labels: object = None,
    *,
    part: Part | None = None,
    batch_size: int = BATCH_SIZE,
    tta: bool = False,
    history: object = None,
) -> Report:
    """Evaluate a model, look inside it, and return what was found as an object that notebooks show and `save` writes as a page.

    data: images, with a label for each of them as `labels`; or a Dataset. part, batch_size, tta: as in model.evaluate.
    history: what `fit` returned, or the file that JsonLog or `fastlenet train --log-json` wrote; its curves are shown.

    The numbers are those of model.evaluate. The times of the layers are measured, so they differ from call to call. Filters,
    activations and times of an ensemble are those of its first network. Raises the errors of model.evaluate, TypeError for a
    history of another type, and LogError for a file that is no log.

        >>> import fastlenet
        >>> from fastlenet.data import load_mnist
        >>> data = load_mnist()
        >>> found = fastlenet.report(fastlenet.LeNet.pretrained(), data.test_images[:1000], data.test_labels[:1000])
        >>> [(error.label, error.predicted, str(error.label_error)) for error in found.errors if error.label_error]
        [(8, 9, '5 of 5 people saw a 9')]
        >>> found.save("report.html")
    """
    return make_report(model, data, labels, part, batch_size, tta, histories=_histories(history), source=None)


def make_report(
    model: Sequential | Ensemble,
    data: object,
    labels: object,
    part: Part | None,
    batch_size: int,
    tta: bool,
    *,
    histories: Sequence[History],
    source: Sequence[str] | None,
) -> Report:
    """The report of these arguments of `report`.

    histories: one for each network that is shown. source: the command's arguments that name `data`, if the caller knows them.
    """
    if not isinstance(model, (Sequential, Ensemble)):
        raise FieldTypeError("model", model, "a model such as LeNet, or an Ensemble", "report: ")
    first = model[0] if isinstance(model, Ensemble) else model
    networks = len(model) if isinstance(model, Ensemble) else 1
    judged = model._judged("report", data, labels, part, batch_size, tta)
    known = label_errors_of(judged)
    errors = errors_of(judged, known)
    layers, times = costs_of(first, judged.raw, batch_size)
    return Report(
        subject=Subject(
            type(first).__name__,
            networks,
            model.facts.input_shape or (),
            data.name if isinstance(data, Dataset) else "",
            reported_part(data, part) if isinstance(data, Dataset) else None,
            tta,
            _machine(first),
        ),
        evaluation=judged.evaluation,
        calibration=Calibration.of(judged.probabilities, judged.labels),
        errors=errors,
        label_errors=known,
        filters=filters_of(first),
        examples=examples_of(first, judged, errors),
        layers=layers,
        times=times,
        histories=tuple(histories),
        training=training_of(first, networks, _source(first, data, source)),
    )


def _machine(model: Sequential) -> str:
    """What the times depend on: the backend, and for kernels on a CPU their level and the threads."""
    name, level, threads = model.ops.name, model.level(), get_num_threads()
    return name if name == level else f"{name}, level {level}, {threads} thread{'s' * (threads > 1)}"


def _source(model: Sequential, data: object, source: Sequence[str] | None) -> Sequence[str] | None:
    """The command's arguments for the training data, if these data may be those: if they are normalised by the same numbers."""
    if not isinstance(data, Dataset) or (data.mean, data.std) != (model.mean, model.std):
        return None
    return () if source is None and data.name == "MNIST" else source


def _histories(history: object) -> list[History]:
    if history is None:
        return []
    if isinstance(history, History):
        return [history]
    if isinstance(history, (str, os.PathLike)):
        return read_log(history)
    if isinstance(history, Sequence) and history and all(isinstance(entry, History) for entry in history):
        return list(history)
    raise FieldTypeError("history", history, "a History, a list of them, or the file of a log", "report: ")
