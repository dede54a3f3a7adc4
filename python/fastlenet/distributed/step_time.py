"""A model of the time of a training step that several hosts share, and its constants."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["NETWORKS", "Compute", "Network", "speed_up", "step_seconds"]


@dataclass(frozen=True)
class Compute:
    """What a step costs one host: `fixed` seconds, for the optimizer and for Python, and `image` seconds for each image.

    parameters: of the model, in float32. add: seconds to add one byte of a gradient to another.
    """

    fixed: float
    image: float
    parameters: int
    add: float = 0.0


@dataclass(frozen=True)
class Network:
    """latency: seconds of a message without contents. bandwidth: bytes a second in each direction, while both are used."""

    latency: float
    bandwidth: float


# Assumed: 94 % of the nominal bandwidth, what TCP leaves of Ethernet, and the usual latencies of TCP and of RDMA.
# Under mpiexec, fastlenet bench --scaling measures those of the network at hand instead.
NETWORKS: Mapping[str, Network] = {
    "1 Gbit/s": Network(50e-6, 0.94 * 1e9 / 8),
    "10 Gbit/s": Network(50e-6, 0.94 * 10e9 / 8),
    "25 Gbit/s": Network(50e-6, 0.94 * 25e9 / 8),
    "100 Gbit/s, RDMA": Network(3e-6, 0.94 * 100e9 / 8),
}


def step_seconds(batch: int, hosts: int, compute: Compute, network: Network) -> float:
    """Returns the seconds of a step. hosts: a power of two, each of which computes batch / hosts images.

    The exchange halves the gradient log2(hosts) times and puts it together again: 2 * log2(hosts) messages, which carry
    2 * (hosts - 1) / hosts of the gradient, half of it to be added. log2(hosts) short messages carry the losses. Nothing of it
    overlaps with the computation.
    """
    own = compute.fixed + compute.image * math.ceil(batch / hosts)
    if hosts == 1:
        return own
    levels, share = math.log2(hosts), (hosts - 1) / hosts
    gradient = 4 * compute.parameters * share
    return own + 3 * levels * network.latency + 2 * gradient / network.bandwidth + gradient * compute.add


def speed_up(batch: int, hosts: int, compute: Compute, network: Network) -> float:
    """Returns how many times as fast as one host they are."""
    return step_seconds(batch, 1, compute, network) / step_seconds(batch, hosts, compute, network)
