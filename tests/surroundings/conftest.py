"""What the usual surroundings give, and the library that stands before C's."""

from __future__ import annotations

import subprocess

import pytest

from helpers.surroundings import JOBS, job


@pytest.fixture(scope="session")
def usual(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the job prints in these surroundings."""
    done = job(tmp_path_factory.mktemp("usual"))
    assert done.returncode == 0 and not done.stderr, done
    return done.stdout


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = tmp_path_factory.mktemp("shim") / "shim.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", made, JOBS / "shim.c", "-ldl"], check=True)
    return str(made)
