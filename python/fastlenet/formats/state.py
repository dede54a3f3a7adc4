"""Checks that named arrays fit a network, before any of the network's own arrays changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from fastlenet.backend import Array

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
    problems = [f"{_shown(name)} is missing" for name in own.keys() - shapes.keys()]
    problems += [f"{_shown(name)} is unexpected" for name in shapes.keys() - own.keys()]
    for name in own.keys() & shapes.keys():
        if shapes[name] != own[name]:
            problems.append(f"{_shown(name)} expects shape {own[name]}, got {shapes[name]}")
    if problems:
        more = [f"{len(problems) - _LISTED} more"] if len(problems) > _LISTED else []
        raise ValueError("; ".join(sorted(problems)[:_LISTED] + more))


def as_parameters(arrays: Mapping[str, Array], own: Mapping[str, Array]) -> dict[str, Array]:
    """Returns floats of any size converted to the dtypes of `own`. Raises ValueError, which names the array, if an array has
    another shape, or numbers that are not finite in the new dtype.
    """
    expect_shapes(_shapes(arrays), _shapes(own))
    odd = [f"{name} expects floats, got {array.dtype}" for name, array in sorted(arrays.items()) if array.dtype.kind != "f"]
    if odd:
        raise ValueError("; ".join(odd))
    converted = {}
    for name, array in arrays.items():
        with np.errstate(over="ignore"):
            converted[name] = array.astype(own[name].dtype, copy=False)
        if not np.isfinite(converted[name]).all():
            reason = "not finite" if not np.isfinite(array).all() else f"too large for {own[name].dtype}"
            raise ValueError(f"{name} holds a number that is {reason}")
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
            raise ValueError(f"{what}: {name} expects {own[name].dtype}, got {array.dtype}")
        if not np.isfinite(array).all():
            raise ValueError(f"{what}: {name} holds a number that is not finite")


def _shapes(arrays: Mapping[str, Array]) -> dict[str, Shape]:
    for name, array in arrays.items():
        if not hasattr(array, "shape"):
            raise TypeError(f"{name} expects an array, got {type(array).__name__}")
    return {name: array.shape for name, array in arrays.items()}


def _shown(name: str) -> str:
    """A name for an error message, shortened or escaped if it does not fit in one line."""
    return name if name.isprintable() and len(name) <= 80 else f"{name[:80]!r}"
