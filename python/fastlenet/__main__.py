"""Runs python -m fastlenet; the command is in cli/main.py."""

from fastlenet.cli.main import main
from fastlenet.signals import exit_with

if __name__ == "__main__":
    exit_with(main())
