"""Callbacks: objects that a run calls after each step and each epoch."""

from fastlenet.training.callbacks.base import Callback
from fastlenet.training.callbacks.console import Console
from fastlenet.training.callbacks.early_stopping import EarlyStopping
from fastlenet.training.callbacks.json_log import JsonLog
from fastlenet.training.callbacks.plot import Plot
from fastlenet.training.callbacks.saver import Saver
from fastlenet.training.callbacks.step_times import StepTimes

__all__ = ["Callback", "Console", "EarlyStopping", "JsonLog", "Plot", "Saver", "StepTimes"]
