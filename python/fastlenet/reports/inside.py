"""The sections on what is inside the model: filters, activations, and what each layer costs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fastlenet.backend import Array
from fastlenet.inference.facts import Label
from fastlenet.reports.findings import Example, Findings
from fastlenet.reports.markup import Markup, join, tag
from fastlenet.reports.pictures import image_address, shrunk, signed_address, tiled
from fastlenet.reports.tables import percent, scrolled

__all__ = ["activations", "filters", "layer_costs"]

_LARGEST = 0.99  # the share of a convolution's weights that are not in the strongest colour
_FILTERS, _CHANNELS, _LAYERS = 64, 32, 4  # of a convolution that are shown, and convolutions
_TILES, _SIDE, _VECTOR, _DEEPEST = 64, 48, 2048, 24  # of an example: channels, pixels a side, numbers of a vector, layers
_SAME = ("Dropout", "Flatten")  # layers whose output has the same numbers as their input
_BARS = 5  # classes whose probability is drawn
_OF_FILTERS, _OF_LAYERS = (620, 12), (500, 8)  # pixels of a picture on the page; times that it is enlarged at most


def _picture(array: Array, words: str, limits: tuple[int, int]) -> Markup:
    """Numbers (h, w) as a picture that is enlarged without blur. limits: its width, and how much it is enlarged."""
    h, w = array.shape
    width = w * min(limits[1], max(1, limits[0] // w))
    height = round(width * h / w)
    return tag("img", src=signed_address(array), alt=words, width=width, height=height, class_="pixels signed")


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


# --- filters -------------------------------------------------------------------------------------------------------------


def filters(findings: Findings) -> Markup:
    """The weights of the convolutions."""
    if not findings.filters:
        return tag("p", "This network has no convolution.")
    words = "Orange weights are positive, blue ones negative. The largest 1 % of a layer have the strongest colour."
    note = tag("p", words, class_="note")
    return join(note, *(_filter(name, weights) for name, weights in list(findings.filters.items())[:_LAYERS]))


def _filter(name: str, weights: Array) -> Markup:
    k, c, r, s = weights.shape
    most = float(np.quantile(np.abs(weights), _LARGEST))  # one large weight would leave the others pale
    shown = np.clip(weights, -most, most)[:_FILTERS, :_CHANNELS]
    kept, channels = shown.shape[:2]
    if c == 1:
        picture, words = tiled(shown[:, 0]), f"{k} filters of {r}x{s}"
    else:
        # A row for each channel of the input, a column for each filter.
        picture = tiled(shown.transpose(1, 0, 2, 3).reshape(kept * channels, r, s), kept)
        words = f"{k} filters of {r}x{s} over {c} channels: a column for each filter, a row for each channel of its input"
    cut = f"; the first {kept} filters and {channels} channels are shown" if (kept, channels) != (k, c) else ""
    caption = tag("figcaption", tag("b", name), f" {words}{cut}")
    return tag("figure", caption, _picture(picture, f"the weights of {name}, {words}", _OF_FILTERS))


# --- activations ---------------------------------------------------------------------------------------------------------


def activations(findings: Findings, group: str) -> Markup:
    """A few images and the output of each layer for them. One opens at a time. group: a name that nothing else has."""
    notes = [
        "The output of each layer: a picture for each channel of a convolution, a cell for each number of a linear layer. "
        "Orange numbers are positive, blue ones negative, each layer with a scale of its own."
    ]
    if findings.subject.networks > 1:
        notes.append(" The activations are those of the first network, the probabilities those of all of them.")
    kinds = {layer.name: layer.kind for layer in findings.layers}
    names = findings.evaluation.class_names
    examples = [_example(example, kinds, names, group, first=not place) for place, example in enumerate(findings.examples)]
    return join(tag("p", *notes, class_="note"), *examples)


def _example(example: Example, kinds: dict[str, str], names: Sequence[Label], group: str, *, first: bool) -> Markup:
    right = example.label == example.predicted
    verdict = [", recognised"] if right else [" taken for ", tag("bdi", example.predicted)]
    small = tag("img", src=image_address(shrunk(example.image, _SIDE)), alt="", width=40, height=40, class_="pixels")
    share = percent(float(example.probabilities.max()))
    line = tag(
        "span",
        tag("b", tag("bdi", example.label), *verdict),
        tag("span", f" {share} · image {example.index:,}", class_="muted"),
    )
    layers = [
        _layer(name, kinds.get(name, ""), array)
        for name, array in list(example.activations.items())[:_DEEPEST]
        if kinds.get(name) not in _SAME and array.size
    ]
    body = tag("div", _bars(example, names), *layers, class_="layers")
    return tag("details", tag("summary", small, line), body, name=group, open=first, class_="example")


def _bars(example: Example, names: Sequence[Label]) -> Markup:
    """The probabilities of the likeliest classes."""
    order = np.argsort(-example.probabilities, kind="stable")[:_BARS].tolist()
    rows = [
        tag(
            "tr",
            tag("th", names[number], scope="row"),
            tag("td", tag("span", class_="bar", style=f"width:{100 * example.probabilities[number]:.1f}%"), class_="track"),
            tag("td", percent(float(example.probabilities[number]))),
        )
        for number in order
    ]
    return tag("table", tag("caption", "probabilities"), tag("tbody", *rows), class_="bars")


def _layer(name: str, kind: str, array: Array) -> Markup:
    words, cut = f"{kind} {_shape(array.shape)}", ""
    if array.ndim == 3:
        picture = tiled(shrunk(array[:_TILES], _SIDE))
        cut = f"; the first {_TILES} channels are shown" if len(array) > _TILES else ""
    else:
        flat = array.reshape(-1)[:_VECTOR]
        columns = len(flat) if len(flat) <= 32 else math.ceil(len(flat) / math.ceil(len(flat) / 50))
        picture = np.full((-(-len(flat) // columns), columns), np.nan)
        picture.reshape(-1)[: len(flat)] = flat
        cut = f"; the first {_VECTOR:,} numbers are shown" if array.size > _VECTOR else ""
    caption = tag("figcaption", tag("b", name), f" {words}{cut}")
    return tag("figure", caption, _picture(picture, f"the output of {name}, {words}", _OF_LAYERS))


# --- costs ---------------------------------------------------------------------------------------------------------------


def layer_costs(findings: Findings) -> Markup:
    """What each layer costs: parameters, multiply-adds, bytes, and the measured time of the layers that run as one."""
    layers = findings.layers
    times = {timed.layers[0]: timed for timed in findings.times}
    totals = [sum(numbers) for numbers in zip(*((c.parameters, c.multiply_adds, c.bytes) for c in layers), strict=True)]
    seconds = sum(timed.seconds for timed in findings.times)
    rows = []
    for cost in layers:
        cells = [tag("th", cost.name, scope="row"), tag("td", cost.kind), tag("td", _shape(cost.shape))]
        numbers = (cost.parameters, cost.multiply_adds, cost.bytes)
        cells += [_share(f"{number:,}", number / (total or 1)) for number, total in zip(numbers, totals, strict=True)]
        if cost.name in times:
            timed = times[cost.name]
            share = timed.seconds / (seconds or 1)
            rows_of_one = len(timed.layers) if len(timed.layers) > 1 else None
            cells.append(_share(f"{timed.seconds * 1e6:.2f}", share, rows_of_one))
            cells.append(tag("td", f"{share:.0%}".replace("%", " %"), rowspan=rows_of_one))
        rows.append(tag("tr", *cells))
    sums = [tag("td", f"{total:,}") for total in totals]
    ends = [tag("th", "total", scope="row"), tag("td"), tag("td"), *sums, tag("td", f"{seconds * 1e6:.2f}"), tag("td", "100 %")]
    head = ["layer", "type", "output", "parameters", "multiply-adds", "bytes", "µs", "of the time"]
    caption = "what each layer costs for one image"
    whole = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *(tag("th", word, scope="col") for word in head))),
        tag("tbody", *rows),
        tag("tfoot", tag("tr", *ends)),
        class_="costs",
    )
    return join(tag("p", _about_times(findings), class_="note"), scrolled(whole, label=caption))


def _about_times(findings: Findings) -> str:
    images = findings.times[0].images
    of_one = " These are the costs of one of the networks." if findings.subject.networks > 1 else ""
    return (
        "Bytes are those of the parameters and of the output, in float32. The time was measured when the report was made: the "
        f"best of several passes, for an image in a batch of {images} ({findings.subject.machine}). Layers that run as one op "
        f"share one time.{of_one}"
    )


def _share(text: str, share: float, rowspan: int | None = None) -> Markup:
    """A number, and its share of the total as a bar below it."""
    return tag("td", text, class_="share", style=f"--share:{100 * share:.1f}%", rowspan=rowspan)
