"""Checks that named arrays fit a network, before any of the network's own arrays changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from fastlenet.backend import Array
from fastlenet.fields import named

__all__ = ["as_parameters", "expect_arrays", "expect_shapes", "own_names"]

Shape = tuple[int, ...]

# The prefixes that torch.nn.DataParallel, DistributedDataParallel and torch.compile add to every name.
_WRAPPERS = ("module.", "_orig_mod.")
_LISTED = 8  # problems in an error; a language model's file has hundreds of names


def own_names(names: Iterable[str], own: Iterable[str]) -> dict[str, str]:
    """Maps each name to the name without a wrapper's prefix, if all have the prefix and none is already one of `own`."""
    bare = {name: name for name in names}
    if set(bare) & set(own):
        return bare
    while bare:
        for prefix in _WRAPPERS:
            if all(name.startswith(prefix) for name in bare.values()):
                bare = {name: short.removeprefix(prefix) for name, short in bare.items()}
                break
        else:
            break
    return bare


def expect_shapes(shapes: Mapping[str, Shape], own: Mapping[str, Shape]) -> None:
    """Raise ValueError unless the shapes are `own`. It lists arrays that are missing, unexpected or of another shape."""
    problems = [f"{named(name)} is missing" for name in own.keys() - shapes.keys()]
    problems += [f"{named(name)} is unexpected" for name in shapes.keys() - own.keys()]
    for name in own.keys() & shapes.keys():
        if shapes[name] != own[name]:
            problems.append(f"{named(name)} expects shape {own[name]}, got {shapes[name]}")
    _expect_none(problems)


def as_parameters(arrays: Mapping[str, Array], own: Mapping[str, Array]) -> dict[str, Array]:
    """Returns floats of any size converted to the dtypes of `own`. Raises ValueError, which names the array, if an array has
    another shape, or numbers that are not finite in the new dtype.
    """
    expect_shapes(_shapes(arrays), _shapes(own))
    odd = [(name, array.dtype) for name, array in arrays.items() if array.dtype.kind != "f"]
    _expect_none(f"{named(name)} expects floats, got {dtype}" for name, dtype in odd)
    converted = {}
    for name, array in arrays.items():
        with np.errstate(over="ignore"):
            converted[name] = array.astype(own[name].dtype, copy=False)
        if not np.isfinite(converted[name]).all():
            reason = "not finite" if not np.isfinite(array).all() else f"too large for {own[name].dtype}"
            raise ValueError(f"{named(name)} holds a number that is {reason}")
    return converted


def expect_arrays(what: str, arrays: Mapping[str, Array], own: Mapping[str, Array]) -> None:
    """Raise ValueError, which names the array, unless the arrays have the names, shapes and dtypes of `own`, and finite
    numbers. Raise TypeError for an object that is no array.
    """
    try:
        expect_shapes(_shapes(arrays), _shapes(own))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{what}: {error}") from None
    for name, array in arrays.items():
        if array.dtype != own[name].dtype:
            raise ValueError(f"{what}: {named(name)} expects {own[name].dtype}, got {array.dtype}")
        if not np.isfinite(array).all():
            raise ValueError(f"{what}: {named(name)} holds a number that is not finite")


def _expect_none(problems: Iterable[str]) -> None:
    if found := sorted(problems):
        more = [f"{len(found) - _LISTED} more"] if len(found) > _LISTED else []
        raise ValueError("; ".join(found[:_LISTED] + more))


def _shapes(arrays: Mapping[str, Array]) -> dict[str, Shape]:
    for name, array in arrays.items():
        if not hasattr(array, "shape"):
            raise TypeError(f"{named(name)} expects an array, got {type(array).__name__}")
    return {name: array.shape for name, array in arrays.items()}
