"""Runs python -m fastlenet.train; the command is in cli/train.py."""

from fastlenet.cli.train import main
from fastlenet.signals import exit_with

__all__ = ["main"]

if __name__ == "__main__":
    exit_with(main())
