"""A network that is trained here, goes to PyTorch, is trained there, and comes back. Needs PyTorch: pip install '.[torch]'.

python examples/pytorch_bridge.py
"""

import numpy as np
import torch

import fastlenet
from fastlenet import ops
from fastlenet.data import load_mnist


def main(images: int = 12_800) -> tuple[float, float]:
    """Prints the accuracy after the training here, and after some steps in PyTorch. Returns both."""
    data = load_mnist()
    model = fastlenet.LeNet()
    fastlenet.fit(model, data.train_images[:images], data.train_labels[:images], epochs=1, verbose=False)
    here = model.evaluate(data.test_images[:2000], data.test_labels[:2000]).accuracy

    module = model.to_torch().train()  # conv1, relu1, pool1, ...: the same names as here
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    for start in range(0, images // 4, 64):
        index = np.arange(start, start + 64)
        x = ops.gather_images(data.train_images, index, mean=data.mean, std=data.std)  # normalised, as both take them
        loss = torch.nn.functional.cross_entropy(module(torch.from_numpy(x)), torch.from_numpy(data.train_labels[index]).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    model.load_state_dict(module.state_dict())  # the way back
    there = model.evaluate(data.test_images[:2000], data.test_labels[:2000]).accuracy
    print(f"trained here: {here:.2%}; and some steps in PyTorch: {there:.2%}")
    return here, there


if __name__ == "__main__":
    main()
