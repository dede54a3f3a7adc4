"""The recipe that trained a model, and the command that repeats the training."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from fastlenet.inference.facts import Setting
from fastlenet.models import NETWORKS, LeNet
from fastlenet.nn import Sequential
from fastlenet.training.recipe import RECIPES, Recipe

__all__ = ["Training", "named_and_changes", "training_of"]

PLACEHOLDER = ("--data", "DATA")


@dataclass(frozen=True)
class Training:
    """How a model was trained, as far as it is known.

    recipe: None if the model does not say, or says it in the words of another version: then `settings` has those. name: of the
    named recipe that is nearest. changes: the fields that differ from it. command: a line for a shell that repeats the
    training, "" if no command does. call: lines of Python that do. doubts: sentences on what the model does not say.
    """

    recipe: Recipe | None
    settings: Mapping[str, Setting]
    name: str
    changes: Mapping[str, Setting]
    command: str
    call: str
    doubts: tuple[str, ...]


def named_and_changes(recipe: Recipe) -> tuple[str, dict[str, Setting]]:
    """Returns the name of the recipe from which this one differs in the fewest fields, and the fields that differ."""
    values = asdict(recipe)
    changes = {
        name: {field: value for field, value in values.items() if value != getattr(named, field)}
        for name, named in RECIPES.items()
    }
    name = min(changes, key=lambda name: len(changes[name]))
    return name, changes[name]


def training_of(model: Sequential, networks: int, data: Sequence[str] | None) -> Training:
    """Returns how a model was trained, and what repeats it.

    networks: in its ensemble. data: the arguments of the command that name the training data, or None if they are not known.
    """
    settings = model.facts.recipe
    if settings is None:
        unknown = "The model does not say which recipe trained it. The seed and the training data are unknown too."
        return Training(None, {}, "", {}, "", "", (unknown,))
    try:
        recipe = Recipe(**settings)  # type: ignore[arg-type]  # which checks them
    except (TypeError, ValueError) as error:
        unknown = f"The recipe is not one of this version of fastlenet, so no command repeats it here ({error})."
        return Training(None, settings, "", {}, "", "", (unknown,))
    name, changes = named_and_changes(recipe)
    which = (
        "replace DATA by their name or path" if data is None else "the data of this report have its mean and standard deviation"
    )
    network = _network(model)
    doubts = [
        f"The model does not say which data trained it{f'; {which}' if network else ''}.",
        "The model does not say either whether the training started from other weights, held images out, weighted images, "
        "learnt from a teacher, or had a function as its schedule.",
    ]
    if network and model.seed != recipe.seed:
        doubts.append(
            f"Its first weights came from seed {model.seed}, all else from seed {recipe.seed}; the command has only the latter."
        )
    command = "" if network is None else _command(name, changes, network, networks, PLACEHOLDER if data is None else data)
    if network is None:
        doubts.append("The command trains the networks that have names; train this one in Python.")
    return Training(recipe, settings, name, changes, command, _call(name, changes, model), tuple(doubts))


def _network(model: Sequential) -> str | None:
    """The name under which the command knows the model's class, or None."""
    return next((name for name, kind in NETWORKS.items() if isinstance(kind, type) and kind is type(model)), None)


def _command(name: str, changes: Mapping[str, Setting], network: str, networks: int, data: Sequence[str]) -> str:
    words = ["fastlenet", "train", *data]
    if network != "lenet":
        words += ["--network", network]
    if networks > 1:
        words += ["--ensemble", str(networks)]
    if name != "default":
        words += ["--recipe", name]
    for field, value in changes.items():
        flag = field.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", str(value)]
    return shlex.join([*words, "--save-model", "model.safetensors"])


def _call(name: str, changes: Mapping[str, Setting], model: Sequential) -> str:
    """The same in Python, for `data` of the reader's."""
    if _network(model) is None:
        return f"fastlenet.fit(model, data, {name!r}{_keywords(changes)})"
    kind = "LeNet" if type(model) is LeNet else f"models.{type(model).__name__}"
    named = f"fastlenet.RECIPES[{name!r}]"
    return "\n".join(
        [
            *["from dataclasses import replace", ""] * bool(changes),
            f"recipe = {f'replace({named}{_keywords(changes)})' if changes else named}",
            f"model = fastlenet.{kind}.of(recipe, input_shape=data.input_shape, classes=data.classes)",
            "fastlenet.fit(model, data, recipe)",
        ]
    )


def _keywords(changes: Mapping[str, Setting]) -> str:
    return "".join(f", {field}={value!r}" for field, value in changes.items())
