"""What a command line of `fastlenet train` comes to, once the data are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from fastlenet.backend import Array
from fastlenet.cli.command import UsageError
from fastlenet.cli.settings import Options, Settings, flags_for
from fastlenet.data import DataError, Dataset
from fastlenet.devices import DEVICES
from fastlenet.fields import FieldError
from fastlenet.files import CheckpointError, user_path
from fastlenet.formats.foreign import foreign_format
from fastlenet.formats.tensor_file import TensorFile
from fastlenet.models import NETWORKS
from fastlenet.models.loading import read_model
from fastlenet.models.recognising import Note
from fastlenet.nn import Sequential
from fastlenet.normalisation import PerChannel
from fastlenet.preprocessing import Preprocessing
from fastlenet.profiling import Profiler
from fastlenet.streams import one_line
from fastlenet.training.ensemble import load_members, members_facts
from fastlenet.training.recipe import Recipe
from fastlenet.training.teacher import Teacher
from fastlenet.training.trainer import Trainer

if TYPE_CHECKING:
    from fastlenet.distributed.mpi import MpiRanks

__all__ = ["Job"]


@dataclass
class Job:
    """The run that a command line describes, with its data. recipe: of the first network."""

    options: Options
    settings: Settings
    recipe: Recipe
    data: Dataset
    profiler: Profiler | None
    evaluates: bool = True  # every epoch
    ranks: MpiRanks | None = None
    sample_weight: Array | None = None
    teacher: Teacher | None = None
    loaded: list[Sequential] = field(default_factory=list)
    normalisation: tuple[PerChannel, PerChannel] | None = None  # mean and std of a foreign file that says them
    looks: Sequence[Preprocessing] = ()  # of an ensemble's networks, in turn
    weights: tuple[float, ...] | None = None  # of an ensemble that was loaded
    notes: tuple[Note, ...] = ()  # how the arrays of a foreign file were taken

    def __post_init__(self) -> None:
        self.looks = self.settings.preprocessings

    def recipe_of(self, member: int) -> Recipe:
        look = self.looks[member % len(self.looks)] if self.looks else self.recipe.preprocessing
        return replace(self.recipe, seed=self.recipe.seed + member, width=look.width, deskew=look.deskew)

    def model(self, member: int, network: str | None = None) -> Sequential:
        """A network of an ensemble, as it starts. Raises DataError for images that it cannot take."""
        backend = self.profiler or DEVICES[self.settings.device].load()
        make, shape = NETWORKS[network or self.settings.network].of, self.data.input_shape
        try:
            return make(self.recipe_of(member), input_shape=shape, classes=self.data.classes, ops=backend)
        except FieldError as error:
            raise DataError(f"{one_line(self.data.name)}: {error}") from None

    def trainer(self, member: int) -> Trainer:
        settings = self.settings
        model = self.loaded[member] if self.loaded else self.model(member)
        with flags_for():  # of classes that the data do not have
            trainer = Trainer(
                model,
                self.data,
                self.recipe_of(member),
                test_batch_size=settings.test_batch_size,
                evaluate_every_epoch=self.evaluates,
                ranks=self.ranks,
                batches_per_epoch=1 if settings.dry_run else None,
                settings=settings.as_json(self.recipe.seed),
                sample_weight=self.sample_weight,
                teacher=self.teacher,
                teacher_cache=settings.teacher_cache,
            )
        if self.normalisation is not None:  # with which the loaded weights were trained
            trainer.normalise(*self.normalisation)
        return trainer

    def load_networks(self, path: str, changes: Mapping[str, object]) -> None:
        """Start from the networks in a file: several of an ensemble, which is only evaluated. changes: the fields of the recipe
        that were asked for; of the others, preprocessing is as the file says.
        """
        models = [self.model(0)]
        try:
            states = self._states(path, models[0])
        except CheckpointError as error:
            raise self._of_another_network(path) or error from None
        said = self._preprocessing(path, len(states))
        if not self.looks:
            given = {name: getattr(self.recipe, name) for name in asdict(said[0]) if name in changes}
            self.looks = [replace(look, **given) for look in said]
            self.recipe = replace(self.recipe, **asdict(self.looks[0]))
        if len(states) > 1:
            if changes.get("epochs"):
                raise UsageError(f"--epochs {changes['epochs']}: {path} is an ensemble, which can be evaluated, not trained on")
            self.recipe = replace(self.recipe, epochs=0)
        for number, state in enumerate(states):
            if number:
                models.append(self.model(number))
            try:
                models[number].load_state_dict(state)
            except ValueError as error:
                raise CheckpointError(f"{path}: {error}") from None
        self.loaded = models

    def _states(self, path: str, model: Sequential) -> list[dict[str, Array]]:
        """The parameters of each network in a file. model: one with these parameters, which a foreign file fills."""
        if foreign_format(user_path(path)) is None:
            return load_members(path, model)
        self.notes = read_model(path, network=model).notes
        if model.mean is not None and model.std is not None:
            self.normalisation = model.mean, model.std
        return [dict(model.state_dict())]

    def _preprocessing(self, path: str, count: int) -> list[Preprocessing]:
        """What the networks in a file were trained on. A foreign file says nothing of it."""
        if foreign_format(user_path(path)) is not None:
            return [Preprocessing()] * count
        try:
            kinds, self.weights = members_facts(TensorFile(path).metadata, count)
            return kinds
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: {error}") from None

    def _of_another_network(self, path: str) -> CheckpointError | None:
        """The error about a file of another network's parameters; None where it is of none that is known."""
        for name in NETWORKS.keys() - {self.settings.network}:
            try:
                self._states(path, self.model(0, name))
            except (CheckpointError, DataError):
                continue
            expected = f"{path}: network expects parameters of {self.settings.network}, got those of {name}"
            return CheckpointError(f"{expected}; pass --network {name}, or another file")
        return None
