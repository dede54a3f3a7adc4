"""What the package says of itself, installed or bundled."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import fastlenet


def test_the_version_is_that_of_the_project() -> None:
    project = Path(__file__).parents[2] / "pyproject.toml"
    version = re.search(r'^version = "(.+)"$', project.read_text(), re.MULTILINE)
    assert version is not None and fastlenet.config()["version"] == version[1]


def test_a_bundle_has_no_metadata_of_its_packages() -> None:
    """As in one that PyInstaller makes: the version, which the command and its checkpoints need, comes from the module."""
    code = """
import importlib.metadata, sys
def version(name):
    raise importlib.metadata.PackageNotFoundError(name)
importlib.metadata.version = importlib.metadata.distribution = version
import fastlenet
print(fastlenet.config()["version"])
fastlenet.show_config()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stderr == "" and done.stdout.splitlines()[0] == fastlenet.config()["version"]
    assert done.stdout.splitlines()[1].split() == ["version", fastlenet.config()["version"]]
