"""Processes on this machine as an Executor. If a process dies, only its own call fails, and a new process replaces it."""

from __future__ import annotations

import multiprocessing
import os
import platform
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from types import TracebackType
from typing import ParamSpec, TypeVar, cast

from fastlenet.distributed.task import seed_of
from fastlenet.fields import integer

__all__ = ["LocalWorkers", "WorkerDiedError"]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_SPAWN = multiprocessing.get_context("spawn")  # a forked process would have a thread pool without threads


class WorkerDiedError(Exception):
    """The process of a call ended before it answered. The message says how."""


class LocalWorkers(Executor):
    """An Executor of `count` processes on this machine, started when they are first needed.

    Unlike those of ProcessPoolExecutor, its other processes go on when one is killed: the call of that process raises
    WorkerDiedError, and the next call gets a new process. The processes ignore Ctrl-C, and end with this process, however it
    ends. `with LocalWorkers(2) as workers` waits for the calls at its end, or, after an exception, ends the processes at once.

    As with all processes that Python starts, a program's main module is imported in each: put what it does below
    `if __name__ == "__main__":`.
    """

    def __init__(self, count: int) -> None:
        self.slots = integer("LocalWorkers: count", count, 1, 4096)
        self._threads = ThreadPoolExecutor(self.slots, thread_name_prefix="fastlenet-worker")
        self._processes = [_Process() for _ in range(self.slots)]
        self._idle: SimpleQueue[_Process] = SimpleQueue()
        for process in self._processes:
            self._idle.put(process)

    def submit(
        self, fn: Callable[Parameters, Result], /, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Future[Result]:
        return self._threads.submit(self._call, fn, args, kwargs)

    def _call(self, function: Callable[..., Result], arguments: Sequence[object], named: Mapping[str, object]) -> Result:
        process = self._idle.get()
        try:
            return cast(Result, process.call(function, arguments, named))
        finally:
            self._idle.put(process)

    def busy(self) -> dict[str, str]:
        """Returns what each process does, by host and process."""
        host = platform.node()
        return {f"{host}:{process.pid}": process.doing for process in self._processes if process.pid is not None}

    def pids(self) -> list[int]:
        """Returns the processes that are alive."""
        return [process.pid for process in self._processes if process.pid is not None]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)
        if wait:
            for process in self._processes:
                process.close()

    def kill(self) -> None:
        """End the processes at once, and cancel what waits."""
        for process in self._processes:
            process.kill()
        self.shutdown(cancel_futures=True)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if kind is None:
            self.shutdown()
        else:
            self.kill()


class _Process:
    """A process, which is started anew after it died."""

    def __init__(self) -> None:
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._closed = False
        self.doing = ""  # the seed at hand
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.is_alive() else None

    def call(self, function: Callable[..., object], arguments: Sequence[object], named: Mapping[str, object]) -> object:
        process, connection = self._started()
        seed = seed_of(arguments)
        self.doing = "" if seed is None else f"seed {seed}"
        try:
            connection.send((function, arguments, named))
            fine, answer = connection.recv()
        except (EOFError, OSError):
            process.join()
            connection.close()
            code = process.exitcode or 0
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            self._process = None
            raise WorkerDiedError(f"process {process.pid} {how}") from None
        finally:
            self.doing = ""
        if fine:
            return answer
        raise answer

    def _started(self) -> tuple[multiprocessing.process.BaseProcess, Connection]:
        with self._lock:  # not between kill's look at the process and its end
            if self._closed:
                raise WorkerDiedError("the workers are shut down")
            if self._process is None or self._connection is None:
                self._connection, theirs = _SPAWN.Pipe()
                self._process = _SPAWN.Process(target=_serve, args=(theirs,), daemon=True)
                self._process.start()
                theirs.close()  # so that recv ends when the process does
            return self._process, self._connection

    def kill(self) -> None:
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """End an idle process."""
        self._closed = True
        if self._process is not None and self._connection is not None:
            self._connection.close()
            self._process.join()


def _serve(connection: Connection) -> None:
    """Answer calls until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what ends
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            function, arguments, named = connection.recv()
        except EOFError:
            return
        try:
            answer: tuple[bool, object] = True, function(*arguments, **named)
        except Exception as error:
            answer = False, error
        try:
            connection.send(answer)
        except BrokenPipeError:
            return
        except Exception as error:  # an answer that cannot be pickled
            connection.send((False, TypeError(f"{type(error).__name__}: {error}")))


def _end_with_parent() -> None:
    """End this process as soon as its parent is gone, also in the middle of a run, which nobody waits for any more."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
