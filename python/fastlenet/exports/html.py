"""A model as one page of HTML to draw on: the quantized network answers in the browser, and nothing is asked of any server."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from pathlib import Path

import numpy as np

from fastlenet.backend import Shape
from fastlenet.config import config
from fastlenet.exports.content import Content, Request
from fastlenet.images.framing import SIDE
from fastlenet.nn import Sequential
from fastlenet.quantization import QuantizedLayer, QuantizedModel

__all__ = ["write"]

_PARTS = Path(__file__).parent / "page"
_SCRIPTS = ("figures.js", "framing.js", "network.js", "drawing.js", "page.js")
_FRAMED = (
    "The figure that you drew, scaled into 20x20 pixels, with its centre of mass in the middle of 28x28: as the images of "
    "MNIST were made."
)
_SHRUNK = "The whole drawing, averaged down to {h}x{w} pixels. Draw as large as the images that the network was trained on."
_CHANNELS = " Its gray is given to all {c} channels."


def write(request: Request) -> Content:
    """Returns the page with the quantized network, in UTF-8.

    Networks for gray images of 28x28 see a drawing as predict_image does, the largest figure framed as in MNIST; others see the
    whole drawing, averaged down, in all channels. The strokes are white on black, as in MNIST.
    """
    assert request.quantized is not None
    shape = request.quantized.facts.input_shape
    assert shape is not None and len(shape) == 3  # or it would not have been quantized
    text = _page(request.quantized, shape)
    return Content(text.encode(), ("open it in a browser and draw; it needs no server and no network",))


def _page(model: QuantizedModel, shape: Shape) -> str:
    names = [*map(str, model.facts.class_names or range(model.layers[-1].output_shape[0]))]
    digits = names == [*map(str, range(10))]
    style = (_PARTS / "page.css").read_text("utf-8")
    script = '"use strict";\n' + "\n".join((_PARTS / name).read_text("utf-8") for name in _SCRIPTS)
    weights = sum(vars(layer)[name].size for layer in model.layers for name in ("weight", "bias") if name in vars(layer))
    network = "The network" if model.network == Sequential.__name__ else model.network
    words = {
        "policy": _policy(style, script),
        "generator": f"fastlenet {config()['version']}",
        "heading": "Draw a digit" if digits else f"Draw one of {len(names)} classes",
        "lead": f"{network} reads the drawing while you draw. Everything is computed in this page; nothing leaves your device.",
        "framing": _framing(*shape),
        "facts": f"{network} in 8-bit integers: {weights:,} weights and biases.",
    }
    parts = {name: html.escape(text) for name, text in words.items()}
    parts |= {"style": style, "script": script, "model": _as_json(model, names, shape, digits)}
    template = (_PARTS / "page.html").read_text("utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], template)


def _framing(c: int, h: int, w: int) -> str:
    """What becomes of a drawing, in words."""
    if (c, h, w) == (1, SIDE, SIDE):
        return _FRAMED
    return _SHRUNK.format(h=h, w=w) + (_CHANNELS.format(c=c) if c > 1 else "")


def _policy(style: str, script: str) -> str:
    """The content security policy: this style and this script, images within the page, and nothing from anywhere else."""
    return (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _as_json(model: QuantizedModel, names: list[str], shape: Shape, digits: bool) -> str:
    """What the page's script reads, safe inside a script element."""
    arrays = bytearray()
    layers = []
    for layer in model.layers:
        layers.append({"input_shape": shape} | _described(layer, arrays))
        shape = layer.output_shape
    known = {
        "input_shape": model.facts.input_shape,
        "class_names": names,
        "invitation": "Draw a digit, and the answer appears here." if digits else "Draw, and the answer appears here.",
        "layers": layers,
        "bytes": base64.b64encode(arrays).decode(),
    }
    return json.dumps(known, allow_nan=False).replace("<", "\\u003c")


def _described(layer: QuantizedLayer, arrays: bytearray) -> dict[str, object]:
    """A layer's fields, its arrays appended to `arrays`: each as its type, its shape and the offset of its bytes."""
    fields: dict[str, object] = {"kind": type(layer).__name__.removeprefix("Quantized")}
    places = {}
    for name, value in vars(layer).items():
        if isinstance(value, np.ndarray):
            arrays += b"\0" * (-len(arrays) % value.itemsize)
            places[name] = {"type": value.dtype.name, "shape": value.shape, "offset": len(arrays)}
            arrays += np.ascontiguousarray(value, value.dtype.newbyteorder("<")).tobytes()
        elif name != "kind":
            fields[name] = value.item() if isinstance(value, np.generic) else value
    return fields | {"arrays": places}
