"""What a model knows about its images, its classes and its training, and how a file stores it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from fastlenet.config import config
from fastlenet.fields import FieldTypeError, FieldValueError, Values, shown
from fastlenet.normalisation import PerChannel, expect_normalisation
from fastlenet.preprocessing import Preprocessing

__all__ = ["Label", "ModelFacts", "Setting"]

Label = str | int
Setting = bool | int | float | str

_NOTHING = Preprocessing()
_SIZE = Values(int, "positive integers below 2^31", 1, 2**31 - 1)
_MOST_AXES, _MOST_CLASSES, _MOST_SETTINGS = 8, 1 << 16, 1000
_INTEGER = Values(int, "integers of 64 bits", -(2**63), 2**63 - 1)


@dataclass(frozen=True)
class ModelFacts:
    """What a model knows beside its layers. A fact that is not known is None, or empty.

    input_shape: the shape of one example; (c, h, w) for an image. mean, std: they normalise the pixels, scaled to [0, 1]; a
    number, or one for each channel. class_names: the label of each output, as the training labels were: all words or all
    integers. recipe: the fields of the recipe that trained the model. preprocessing: what is done to each image before it is
    normalised, or its fields by name. Raises FieldTypeError or FieldValueError, which names the fact.
    """

    input_shape: tuple[int, ...] | None = None
    mean: PerChannel | None = None
    std: PerChannel | None = None
    class_names: tuple[Label, ...] = ()
    recipe: Mapping[str, Setting] | None = None
    preprocessing: Preprocessing = _NOTHING

    def __post_init__(self) -> None:
        shape = None if self.input_shape is None else expect_example_shape("input_shape", self.input_shape)
        checked: dict[str, object] = {"input_shape": shape, "class_names": _class_names(self.class_names)}
        checked["preprocessing"] = _preprocessing(self.preprocessing)
        if self.recipe is not None:
            checked["recipe"] = _recipe(self.recipe)
        if (self.mean is None) != (self.std is None):
            missing, given = ("mean", "std") if self.mean is None else ("std", "mean")
            raise FieldValueError(missing, None, f"a number beside {given}")
        if self.mean is not None:
            channels = shape[0] if shape is not None and len(shape) == 3 else _length(self.mean)
            checked["mean"], checked["std"] = expect_normalisation(self.mean, self.std, channels)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def as_metadata(self) -> dict[str, str]:
        """Returns the known facts as the words of a file: each as JSON, and the version of fastlenet."""
        import json  # here, since only files need it

        facts = asdict(self)
        if not self.preprocessing:
            del facts["preprocessing"]
        known = {name: json.dumps(value) for name, value in facts.items() if value not in (None, ())}
        return {"fastlenet_version": config()["version"], **known}

    @classmethod
    def of_metadata(cls, metadata: Mapping[str, str]) -> ModelFacts:
        """Returns the facts that as_metadata wrote; other words are ignored. Raises FieldValueError or FieldTypeError."""
        names = [entry.name for entry in fields(cls) if entry.name in metadata]
        return cls(**{name: from_json(name, metadata[name]) for name in names})  # type: ignore[arg-type]  # checked there


def from_json(name: str, text: str) -> object:
    """Returns what the JSON of a file's metadata says. Raises FieldValueError for text that is no JSON."""
    import json

    try:
        value: object = json.loads(text)
    except MemoryError:
        raise
    except Exception:  # RecursionError too
        raise FieldValueError(name, text, "JSON") from None
    return value


def expect_example_shape(name: str, value: object) -> tuple[int, ...]:
    """Returns the shape of one example as a tuple. Raises FieldTypeError or FieldValueError."""
    owner, colon, field = name.rpartition(": ")
    expected = "the shape of one example, such as (1, 28, 28)"
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise FieldTypeError(field, value, expected, owner + colon)
    if not 1 <= len(value) <= _MOST_AXES:
        raise FieldValueError(field, value, expected, owner + colon)
    return tuple(_SIZE.convert(name, size) for size in value)


def _length(value: object) -> int:
    return max(1, len(value)) if isinstance(value, (tuple, list)) else 1


def _class_names(names: object) -> tuple[Label, ...]:
    if not isinstance(names, (tuple, list)):
        raise FieldTypeError("class_names", names, "a tuple of words, or of integers")
    if len(names) > _MOST_CLASSES:
        raise FieldValueError("class_names", names, f"at most {_MOST_CLASSES:,} classes", got=f"{len(names):,}")
    made: tuple[Label, ...]
    if names and not isinstance(names[0], str):
        made = tuple(_INTEGER.convert(f"class_names[{place}]", name) for place, name in enumerate(names))
    else:
        made = tuple(Values(str).convert(f"class_names[{place}]", name) for place, name in enumerate(names))
    if len(set(made)) < len(made):
        raise FieldValueError("class_names", names, "a different name for each class")
    return made


def _preprocessing(given: object) -> Preprocessing:
    names = {entry.name for entry in fields(Preprocessing)}
    if isinstance(given, Mapping) and given.keys() <= names:
        return Preprocessing(**given)
    if not isinstance(given, Preprocessing):
        raise FieldTypeError("preprocessing", given, f"a Preprocessing, or an object of {' and '.join(sorted(names))}")
    return given


def _recipe(recipe: object) -> dict[str, Setting]:
    expected = "the fields of a recipe: numbers, words, true or false, by name"
    if not isinstance(recipe, Mapping):
        raise FieldTypeError("recipe", recipe, expected)
    if len(recipe) > _MOST_SETTINGS:
        raise FieldValueError("recipe", recipe, f"at most {_MOST_SETTINGS} fields", got=f"{len(recipe):,}")
    for name, value in recipe.items():
        fits = isinstance(value, (bool, int, str))
        if not isinstance(name, str) or not (fits or (isinstance(value, float) and abs(value) < float("inf"))):
            raise FieldValueError("recipe", recipe, expected, got=f"{shown(name)}: {shown(value)}")
    return dict(recipe)
