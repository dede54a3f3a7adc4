"""A page to draw on: the trained network in one HTML file, which runs in any browser, without a server.

    python examples/browser_page.py [MODEL] [PAGE]

MODEL is a file that fastlenet train --save-model wrote (default: the package's network), PAGE the file to write (digit.html).
"""

from __future__ import annotations

import sys
from pathlib import Path

import fastlenet
from fastlenet.data import load_mnist
from fastlenet.exports import Exported


def main(model_file: str | None = None, page: str | Path = "digit.html") -> Exported:
    model = fastlenet.LeNet.pretrained() if model_file is None else fastlenet.load(model_file)
    if not isinstance(model, fastlenet.nn.Sequential):
        raise SystemExit(f"{model_file}: has several networks; export one of them: fastlenet.export(ensemble[0], ...)")
    data = load_mnist()  # the ranges of the integers are measured on its training images
    written = fastlenet.export(model, page, data=data)
    assert written.quantized is not None
    images, labels = data.test_images[:1000], data.test_labels[:1000]
    in_integers, in_floats = (network.evaluate(images, labels).accuracy for network in (written.quantized, model))
    print(f"accuracy on 1,000 test images: {in_integers:.2%} in 8-bit integers, {in_floats:.2%} in float32")
    print(f"{written.bytes / 1e6:.2f} MB; open it in a browser and draw: {written.path.resolve().as_uri()}")
    return written


if __name__ == "__main__":
    main(*sys.argv[1:3])
