"""Optimizers with PyTorch's names and rules, and schedules of their learning rate.

A step calls ops on the model's flat buffers.

>>> from fastlenet import LeNet, optim
>>> model, steps = LeNet(), 100
>>> optimizer = optim.AdamW(model, lr=0.001)
>>> for step in range(steps):
...     optimizer.lr = optim.schedules.cosine(step, steps, peak=0.001)  # then forward, loss, backward, optimizer.step()
"""

from fastlenet.optim import schedules
from fastlenet.optim.adam import Adam, AdamW
from fastlenet.optim.base import Optimizer
from fastlenet.optim.muon import Muon
from fastlenet.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Muon", "Optimizer", "schedules"]
