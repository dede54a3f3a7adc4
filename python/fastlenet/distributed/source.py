"""Where a worker gets its images from, and the checksum by which it proves that they are the same."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace

from fastlenet.data import Dataset, load, named
from fastlenet.data.dataset import PARTS

__all__ = ["Source", "checksum"]


def checksum(data: Dataset) -> str:
    """Returns the MD5 sum of all parts of a data set, and of how its images are normalised: what a run's accuracy depends on.

    Dataset.fingerprint covers the training images alone.
    """
    import hashlib  # loads OpenSSL

    digest = hashlib.md5(repr((data.classes, data.mean, data.std)).encode(), usedforsecurity=False)
    for part in PARTS:
        arrays = data.part(part)
        digest.update(f"{part} {arrays.images.shape} {arrays.images.dtype}".encode())
        digest.update(arrays.images.data)
        digest.update(arrays.labels.data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Source:
    """A data set that each worker reads by itself, or that travels to it.

    name: the name of a data set, or a path that is valid on every host. root: the folder of named data sets. side: to which
    images are scaled. validation: the number of training images at the end that are held out for evaluation; the test images
    are then left out. share: the share of the training images that is held out, or 0. given: a data set that is sent with
    every run, instead of all these. folds, fold: the part of the training images, of so many, that is held out instead, as
    Dataset.fold does; 0 folds: none.
    """

    name: str = "mnist"
    root: str | None = None
    side: int | None = None
    validation: int = 0
    share: float = 0.0
    given: Dataset | None = None
    folds: int = 0
    fold: int = 0

    @classmethod
    def of(cls, data: str | os.PathLike[str] | Dataset, *, validation: int = 0) -> Source:
        """Returns the source of a name, a path or a data set. Paths become absolute."""
        if isinstance(data, Dataset):
            return cls(data.name, validation=validation, given=data)
        return cls(os.fspath(data), validation=validation).absolute()

    def absolute(self) -> Source:
        """The same with whole paths, which mean the same in a worker's folder."""
        if named(self.name):
            return self if self.root is None else replace(self, root=os.path.abspath(self.root))
        return replace(self, name=os.path.abspath(os.path.expanduser(self.name)))

    def load(self) -> Dataset:
        """Returns the data set. Raises DataError or FieldError."""
        data = self.given
        if data is None:
            data = load(self.name, root=self.root, size=None if self.side is None else (self.side, self.side))
        if self.folds:
            return data.fold(self.folds, self.fold)
        if self.validation:
            return data.hold_out(self.validation)
        return data.split(self.share) if self.share else data

    def as_message(self) -> dict[str, object]:
        """The fields as plain values, and the data set, if one is given, as it is."""
        return {**asdict(replace(self, given=None)), "given": self.given}
