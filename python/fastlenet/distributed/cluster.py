"""Workers of dask.distributed as an Executor: of a scheduler that runs somewhere, or of jobs that Slurm starts."""

from __future__ import annotations

import inspect
import logging
import os
import platform
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

from fastlenet.distributed.task import seed_of
from fastlenet.fields import integer
from fastlenet.streams import one_line

if TYPE_CHECKING:
    import distributed

__all__ = ["ClusterError", "DaskWorkers", "connect", "slurm"]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_SECONDS = 10.0  # to reach a scheduler, which may be starting
_FRESH = 1.0  # seconds for which an answer of the scheduler is used again


class ClusterError(Exception):
    """A cluster cannot be reached or started. The message is one line with the cure."""


@contextmanager
def _importing(what: str, package: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ClusterError(f"{what} needs {package} ({error}); pip install '{package}'") from None


class Closable(Protocol):
    """What ends with the Executor."""

    def close(self) -> object: ...


class DaskWorkers(Executor):
    """An Executor of the workers of a scheduler; `connect` and `slurm` make one.

    A run whose worker dies is tried again by the scheduler, on another worker, up to `distributed.scheduler.allowed-failures`
    times (3). Workers may come and go meanwhile. A worker should do one call at a time: `dask worker --nthreads 1`.
    """

    def __init__(self, client: distributed.Client, *others: Closable) -> None:
        self._client, self._others = client, others  # others: what ends with it, such as a cluster
        self._running: dict[object, distributed.Future] = {}
        self._excluded: set[str] = set()
        self._places: dict[str, str] = {}
        self._threads: tuple[float, dict[str, int]] = 0.0, {}

    def _workers(self) -> dict[str, int]:
        """The number of threads of each worker, by its address."""
        when, found = self._threads
        if time.monotonic() - when > _FRESH:
            with suppress(OSError):  # a scheduler that is gone cancels the calls
                found = dict(self._client.nthreads())
            self._threads = time.monotonic(), found
        return {address: threads for address, threads in found.items() if address not in self._excluded}

    @property
    def slots(self) -> int:
        """Twice as many calls as the workers have threads: enough that none waits, few enough that a new worker gets some."""
        return max(2 * sum(self._workers().values()), 2)

    def submit(
        self, fn: Callable[Parameters, Result], /, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Future[Result]:
        made: Future[Result] = Future()
        how = {"workers": list(self._workers()), "allow_other_workers": False} if self._excluded else {}
        key = f"fastlenet-seed-{seed_of(args)}-{os.urandom(8).hex()}"  # Dask's pages show it, and our table
        there = self._client.submit(fn, *args, **kwargs, key=key, pure=False, **how)
        self._running[made] = there
        there.add_done_callback(lambda done: self._hand_over(done, made))
        made.add_done_callback(lambda made: there.cancel() if made.cancelled() else None)
        return made

    def _hand_over(self, done: distributed.Future, made: Future[Result]) -> None:
        """Pass the answer on, and forget it on the cluster, which would compute it again if its worker died."""
        self._running.pop(made, None)
        if done.status == "cancelled":
            made.cancel()
        if made.set_running_or_notify_cancel():
            try:
                made.set_result(done.result(timeout=_SECONDS))
            except Exception as error:
                made.set_exception(error)
        done.release()

    def exclude(self, worker: str) -> bool:
        """Hand nothing more to the worker of this name, which holds its address. Returns whether another one is left."""
        self._excluded.update(re.findall(r"\w+://[^\s()]+", worker))
        self._threads = 0.0, {}
        return self.workers_left() > 0

    def workers_left(self) -> int:
        """Returns the number of workers that are connected and not left out."""
        return len(self._workers())

    def busy(self) -> dict[str, str]:
        """Returns what each worker does, by host and process."""
        try:
            keys = self._client.processing()
            if keys.keys() - self._places.keys():
                self._places |= self._client.run(_place, on_error="ignore")
        except (OSError, TimeoutError):
            return {}
        return {
            self._places.get(address, address): " ".join(str(of[0]).split("-")[1:3]) if of else ""
            for address, of in keys.items()
        }

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if cancel_futures:
            self._client.cancel(list(self._running.values()))
        if wait:
            for there in list(self._running.values()):
                there.exception()
        for thing in (self._client, *self._others):
            thing.close()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.shutdown(wait=kind is None, cancel_futures=kind is not None)


def _place() -> str:
    return f"{platform.node()}:{os.getpid()}"


def connect(address: str, *others: Closable) -> DaskWorkers:
    """Returns the workers of a Dask scheduler as an Executor, for a `with` statement.

    address: "tcp://HOST:PORT", or "tls://HOST:PORT" with the certificates that Dask's configuration names. A scheduler has no
    authentication without TLS: whoever reaches its port runs code as you. Raises ClusterError, in one line, without
    dask.distributed, and if there is no scheduler.
    """
    with _importing("a cluster", "fastlenet[cluster]"):
        import distributed
    for name in ("distributed", "distributed.client"):  # fastlenet itself reports a lost connection, in one line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        _expect_listening(address)
        if address.startswith("tls:") and distributed.Security().get_connection_args("client")["ssl_context"] is None:
            raise ValueError("TLS needs certificates: name them in Dask's configuration, distributed.comm.tls")
        client = distributed.Client(address, timeout=_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise ClusterError(f"{address}: no Dask scheduler answers ({_reason(error)})") from None
    return DaskWorkers(client, *others)


def _expect_listening(address: str) -> None:
    """Raise OSError or ValueError unless something listens there: Dask itself would take long, and leave a thread behind."""
    found = re.fullmatch(r"(?:tcp|tls)://\[?([^\[\]/]+?)\]?:(\d{1,5})", address)
    if found is None:
        raise ValueError("an address is tcp://HOST:PORT or tls://HOST:PORT")
    end = time.monotonic() + _SECONDS / 2
    while True:
        try:
            socket.create_connection((found[1], int(found[2])), timeout=_SECONDS).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def _reason(error: Exception) -> str:
    return one_line(str(error).splitlines()[0] if str(error) else type(error).__name__)


def slurm(options: Mapping[str, int | str]) -> DaskWorkers:
    """Returns workers that Slurm starts, as an Executor, for a `with` statement. Needs dask-jobqueue. The jobs end with it.

    options: jobs, how many (1), and those of dask_jobqueue.SLURMCluster: queue, account, cores, memory, walltime and others.
    `interface` (such as "ib0") or `host` must be among them: the network on which the scheduler listens, since whoever reaches
    its port there runs code as you. Each job has a worker for each core. Raises ClusterError, in one line.
    """
    if not options.keys() & {"interface", "host"}:
        raise ClusterError(
            "slurm needs interface=NAME or host=ADDRESS, the network on which the scheduler listens; choose one that only you "
            "and the jobs can reach"
        )
    with _importing("a cluster", "fastlenet[cluster]"):
        import distributed  # noqa: F401
    with _importing("slurm", "dask-jobqueue"):
        from dask_jobqueue import SLURMCluster
        from dask_jobqueue.core import Job, JobQueueCluster
    makers = (JobQueueCluster, Job, SLURMCluster.job_cls)
    known = {name for maker in makers for name in inspect.signature(maker.__init__).parameters} - {"self", "kwargs"}
    unknown = options.keys() - known - {"jobs", "host"}
    if unknown:
        raise ClusterError(f"slurm: {min(unknown)} is not an option of dask_jobqueue.SLURMCluster")
    given: dict[str, object] = dict(options)
    jobs = integer("jobs", given.pop("jobs", 1), 1, 100_000)
    if "host" in given:
        given["scheduler_options"] = {"host": given.pop("host"), "dashboard": False}
    given = {"cores": 1, "memory": "2GB", "processes": given.get("cores", 1)} | given
    try:
        cluster = SLURMCluster(worker_extra_args=["--nthreads", "1"], **given)
        with _failures_of("tornado.application") as failures:
            cluster.scale(jobs=jobs)
            cluster.sync(cluster._correct_state)  # returns when the jobs are submitted
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise ClusterError(f"slurm: cannot start the jobs ({_reason(error)})") from None
    if failures:
        with suppress(AssertionError):  # it expects its jobs to have been submitted
            cluster.close()
        words = [line for line in str(failures[-1]).splitlines() if line.strip()]
        raise ClusterError(f"slurm: cannot submit the jobs ({one_line(words[-1])})")
    return connect(cluster.scheduler_address, cluster)


@contextmanager
def _failures_of(logger: str) -> Iterator[list[BaseException]]:
    """A context with the errors that a library only logs."""
    found: list[BaseException] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and record.exc_info[1]:
                found.append(record.exc_info[1])

    log = logging.getLogger(logger)
    before = log.handlers, log.propagate
    log.handlers, log.propagate = [Handler()], False
    try:
        yield found
    finally:
        log.handlers, log.propagate = before
