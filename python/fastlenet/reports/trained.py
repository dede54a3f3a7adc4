"""The sections on how the model was trained: the learning curves, the recipe, the command that repeats it."""

from __future__ import annotations

from dataclasses import replace

from fastlenet.reports.charts import learning_curves
from fastlenet.reports.findings import Findings
from fastlenet.reports.markup import Markup, join, tag
from fastlenet.reports.tables import scrolled, table

__all__ = ["curves", "recipe"]


def curves(findings: Findings) -> Markup:
    """The learning curves, or how to give the report some."""
    histories = findings.histories
    if not histories:
        words = (
            "This report was made without a history of the training. To show its curves, pass history=... in Python, or a log "
            "to the command."
        )
        return tag("p", words, class_="note")
    notes = ["loss and accuracy belong to the training images, val_loss and val_accuracy to images that are not trained on."]
    if len(histories) > 1:
        notes.append(f" {len(histories)} networks, a curve for each.")
    recipe = histories[0].recipe or findings.training.recipe
    if note := replace(histories[0], recipe=recipe).note:
        notes.append(f" {note}")
    if stopped := histories[-1].stopped:
        notes.append(f" The run was stopped: {stopped}.")
    charts = [tag("div", chart, class_="chart") for chart in learning_curves(histories)]
    return join(tag("div", *charts, class_="pair"), tag("p", *notes, class_="note"))


def recipe(findings: Findings) -> Markup:
    """The recipe's fields, and the command and the lines of Python that repeat the training."""
    training = findings.training
    doubts = tag("p", " ".join(training.doubts), class_="note")
    if training.recipe is None:
        rows: list[list[object]] = [[name, value] for name, value in training.settings.items()]
        return join(doubts, table(["field", "value"], rows, caption="recipe") if rows else None)
    changed = ", ".join(name for name in training.changes if name != "seed")
    words = f"The recipe “{training.name}”{f' with other values of {changed}' if changed else ''}, seed {training.recipe.seed}."
    shown = tag(
        "details", tag("summary", "the settings in use"), scrolled(Markup(training.recipe._repr_html_()), label="recipe")
    )
    command = tag("pre", tag("code", training.command)) if training.command else None
    python = tag("details", tag("summary", "in Python"), tag("pre", tag("code", training.call)))
    return join(tag("p", words), command, doubts, python, shown)
