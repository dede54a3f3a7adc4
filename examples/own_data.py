"""Trains a network on your own images: here on colour images of shapes that this program draws.

    python examples/own_data.py

Replace `draw` by a function that returns your images, (n, h, w) or (n, h, w, 3), of uint8 or of floats in [0, 1], and their
labels, which may be words.
"""

import numpy as np

import fastlenet
from fastlenet.backend import Array
from fastlenet.data import Dataset
from fastlenet.training.evaluation import evaluate

SHAPES = ("circle", "cross", "square")


def draw(count: int, seed: int = 0) -> tuple[Array, Array]:
    """Returns images (count, 20, 20, 3) of uint8, each of one shape anywhere in any colour, and the shapes' names (count,)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((20, 20))
    images, names = rng.integers(0, 40, (count, 20, 20, 3), np.uint8), rng.choice(SHAPES, count)
    for image, name in zip(images, names, strict=True):
        (top, left), size = rng.integers(6, 14, 2), rng.integers(4, 7)
        down, right = abs(rows - top), abs(columns - left)
        if name == "circle":
            inside = down**2 + right**2 <= size**2
        elif name == "cross":
            inside = (np.minimum(down, right) <= 1) & (np.maximum(down, right) <= size)
        else:
            inside = np.maximum(down, right) <= size - 1
        image[inside] = rng.integers(100, 256, 3)
    return images, names


def main() -> float:
    """Trains the network. Returns the share of the test images that it classifies correctly."""
    data = Dataset.from_arrays(*draw(1500), validation=0.1, test=draw(300, seed=1), name="shapes")
    print(data, "of", ", ".join(data.class_names))
    model = fastlenet.LeNet(input_shape=data.input_shape, classes=data.classes)
    fastlenet.fit(model, data, epochs=3)
    images, names = data.test_images[:8], [data.class_names[number] for number in data.test_labels[:8]]
    x = fastlenet.ops.gather_images(images, range(8), mean=data.mean, std=data.std)
    for name, scores in zip(names, model(x), strict=True):
        print(f"a {name} looks like a {data.class_names[int(scores.argmax())]}")
    return evaluate(model, data)[0]


if __name__ == "__main__":
    print(f"{main():.1%} of the test images are classified correctly")
