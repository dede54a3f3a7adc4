"""Pictures in folders, one for each class: digits/train/7/a.png, or digits/7/a.png. Needs Pillow."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastlenet.data.dataset import Dataset
from fastlenet.data.idx import Bytes
from fastlenet.data.labels import as_numbers
from fastlenet.data.reading import DataError, at_most, pixels_at_most, wrong
from fastlenet.fields import FieldError, FieldTypeError, integer
from fastlenet.files import shown_path, user_path

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    Opener = Callable[[Path], AbstractContextManager[Picture]]

__all__ = ["SUFFIXES", "holds_pictures", "load_folder"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
_PARTS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}
_GRAY = ("1", "L", "LA", "I;16")


class _Pictures(NamedTuple):
    """The pictures of a part, and the class of each."""

    paths: list[Path]
    labels: list[str]


class _Form(NamedTuple):
    """What all pictures are brought to."""

    height: int
    width: int
    channels: int


def holds_pictures(path: Path) -> bool:
    """Whether it is a folder with a folder of pictures in it, or in its folder for training."""
    if not path.is_dir():
        return False
    root = _part(path, "train") or path
    return any(_pictures(entry) for entry in root.iterdir() if entry.is_dir())


def load_folder(path: str | os.PathLike[str], *, size: tuple[int, int] | None = None) -> Dataset:
    """Returns the data set of the pictures in a folder, which has a folder for each class, with the name of the class.

    Or the folder has folders train (or training), test (testing) and validation (val, valid), with the folders of the classes
    in them; only the first is needed. Pictures: PNG, JPEG, BMP, GIF, WebP, TIFF, PNM; files with other endings are left out. If
    all pictures are gray, the images have one channel; else all have three: red, green, blue. Transparent parts become white.
    size: (height, width) to which all pictures are resized; without it they must have one size. Memory: a byte for each pixel
    and channel, in all at most 200 MiB, or 20 times the files' size if that is more.

    Raises DataError, in one line that names the file, and if Pillow is not installed.
    """
    root, open_picture = user_path(path), _opener()
    if size is not None:
        if not isinstance(size, (tuple, list)) or len(size) != 2:
            raise FieldTypeError("size", size, "a pair of integers, height and width", "load_folder: ")
        h, w = size
        size = integer("load_folder: size[0]", h, 1), integer("load_folder: size[1]", w, 1)
    try:
        parts = _find(root)
        form = _survey(root, [picture for part in parts.values() for picture in part.paths], open_picture, size)
        arrays = {name: (_read(part.paths, open_picture, form), as_numbers(part.labels)) for name, part in parts.items()}
    except OSError as error:
        raise DataError(f"{shown_path(error.filename or root)}: cannot be read ({error.strerror or error})") from None
    try:
        others = {name: arrays[name] for name in ("validation", "test") if name in arrays}
        return Dataset.from_arrays(*arrays["train"], **others, name=root.resolve().name)
    except FieldError as error:
        raise wrong(root, error.field, error.expected, error.got, error.cure) from None


# --- which pictures ------------------------------------------------------------------------------------------------------


def _part(root: Path, part: str) -> Path | None:
    """The folder of a part, of whichever of its names."""
    return next((entry for entry in sorted(root.iterdir()) if entry.is_dir() and entry.name.lower() in _PARTS[part]), None)


def _pictures(folder: Path) -> list[Path]:
    """Those in a folder, and in folders in it, in the order of their names."""
    paths = (Path(base) / name for base, _, names in os.walk(folder) for name in names if not name.startswith("."))
    return sorted(path for path in paths if path.suffix.lower() in SUFFIXES)


def _find(root: Path) -> dict[str, _Pictures]:
    """The pictures by part; of the training part at least."""
    if not root.is_dir():
        raise DataError(f"{shown_path(root)}: {'not a folder' if root.exists() else 'no such folder'}")
    train = _part(root, "train")
    if train is None:
        return {"train": _of_classes(root)}
    folders = {"train": train, "validation": _part(root, "validation"), "test": _part(root, "test")}
    return {name: _of_classes(folder) for name, folder in folders.items() if folder is not None}


def _of_classes(folder: Path) -> _Pictures:
    """The pictures of a part, whose folders are the classes."""
    found = _Pictures([], [])
    for entry in sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        paths = _pictures(entry)
        if not paths:
            raise wrong(entry, "class", f"at least one picture ({', '.join(SUFFIXES[:3])}, ...)", "none", "remove the folder")
        found.paths.extend(paths)
        found.labels.extend([entry.name] * len(paths))
    if not found.paths:
        cure = "put the pictures of each class into a folder of its name"
        raise wrong(folder, "folder", "a folder of pictures for each class", "none", cure)
    return found


# --- reading them --------------------------------------------------------------------------------------------------------


def _opener() -> Opener:
    """Pillow's way to open a picture, with DataError for all that it raises."""
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(f"pictures need Pillow ({error}); pip install 'fastlenet[image]'") from None

    @contextmanager
    def opened(path: Path) -> Iterator[Picture]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of odd metadata
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(path) as picture:
                    yield picture
        except (DataError, FileNotFoundError, PermissionError):
            raise
        except Exception as error:  # what a stranger's bytes make Pillow raise is not to be listed
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            raise DataError(f"{shown_path(path)}: not a picture that can be read ({reason})") from None

    return opened


def _survey(root: Path, paths: Sequence[Path], opened: Opener, size: tuple[int, int] | None) -> _Form:
    """What all pictures are brought to, to judge by their headers. Raises DataError for different sizes, or too many pixels."""
    gray, first, total = True, size, 0
    for path in paths:
        total += path.stat().st_size
        with opened(path) as picture:
            width, height = picture.size
            most = pixels_at_most(path.stat().st_size)
            if width * height > most:
                expected = f"at most {most:,} pixels in a file of this size"
                raise wrong(path, "picture", expected, f"{width * height:,}", "make it smaller")
            gray = gray and picture.mode in _GRAY
        if size is None and first is not None and first != (height, width):
            expected = f"{first[0]}x{first[1]} pixels, as {shown_path(paths[0])} has"
            cure = "bring all to one size, or give size=(height, width)"
            raise wrong(path, "picture", expected, f"{height}x{width}", cure)
        first = first or (height, width)
    assert first is not None
    form = _Form(*first, 1 if gray else 3)
    limit, claimed = at_most(total), len(paths) * form.height * form.width * form.channels
    if claimed > limit:
        cure = "size=(height, width) makes them smaller"
        raise wrong(root, "pictures", f"at most {limit:,} bytes of pixels", f"{claimed:,}", cure)
    return form


def _read(paths: Sequence[Path], opened: Opener, form: _Form) -> Bytes:
    """(n, h, w), or (n, h, w, 3)."""
    images = np.empty((len(paths), form.height, form.width, form.channels), np.uint8)
    for number, path in enumerate(paths):
        with opened(path) as picture:
            images[number] = _pixels(picture, form)
    return images[..., 0] if form.channels == 1 else images


def _pixels(picture: Picture, form: _Form) -> Bytes:
    """One picture as (h, w, c)."""
    if picture.mode == "I;16":
        picture = _of_16_bits(picture)
    if "A" in picture.mode or "transparency" in picture.info:
        colours = picture.convert("RGBA")
        white = colours.copy()
        white.paste((255, 255, 255, 255), (0, 0, *colours.size))
        picture = white.copy()
        picture.alpha_composite(colours)
    picture = picture.convert("L" if form.channels == 1 else "RGB")
    if picture.size != (form.width, form.height):
        picture = picture.resize((form.width, form.height))
    return np.asarray(picture, np.uint8).reshape(form.height, form.width, form.channels)


def _of_16_bits(picture: Picture) -> Picture:
    from PIL import Image

    values = np.asarray(picture).astype(np.uint32)
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
