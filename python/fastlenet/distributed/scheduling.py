"""Hands runs to an Executor, and those of lost or refused workers to others."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from queue import Empty, SimpleQueue
from typing import Protocol, runtime_checkable

from fastlenet.distributed.local import WorkerDiedError
from fastlenet.distributed.task import Outcome, Refusal, Task
from fastlenet.distributed.working import run_task
from fastlenet.fields import FieldError
from fastlenet.streams import one_line

__all__ = ["Excluding", "Here", "RunError", "completed"]

_DEATHS = 3  # of the workers of one run, after which the run itself is to blame
_REFUSALS = 20  # of one run, by an Executor that cannot leave a worker out
_PAUSE = 0.2  # seconds before a refused run is handed out again: a refusal takes no time, and would be repeated at once


class RunError(Exception):
    """A run failed on every worker that tried it, or there is no worker for it. The message is one line."""


@runtime_checkable
class Excluding(Protocol):
    """An Executor that can leave a worker out."""

    def exclude(self, worker: str) -> bool:
        """Hand nothing to this worker from now on. Returns whether another one is left."""

    def workers_left(self) -> int:
        """Returns the number of workers that calls may go to now."""


class Here(Executor):
    """Calls in this process, one at a time, when they are submitted."""

    slots = 1

    def submit(self, fn: Callable[..., object], /, *args: object, **kwargs: object) -> Future[object]:  # type: ignore[override]
        future: Future[object] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def completed(
    executor: Executor,
    tasks: Iterable[Task],
    *,
    slots: int | None = None,
    tell: Callable[[str], None],
    tick: Callable[[list[Task]], None] = lambda running: None,
) -> Iterator[tuple[Task, Outcome]]:
    """Yields each task with its outcome, as they are finished, each task once.

    tasks: taken one by one, when there is room. slots: the most runs that are handed out at a time; None is the executor's
    `slots`, or all. tell: takes the lines about lost and refused workers. tick: called twice a second with the runs at hand.

    A run whose worker died goes to another worker, at most three times in all; so does a run whose worker refused it. Raises
    RunError, in one line, if a run fails, or if no worker is left. When the iteration ends early, the waiting runs are
    cancelled.
    """
    runs = _Runs(executor, iter(tasks), slots, tell)
    try:
        while runs.hand_out():
            tick(list(runs.running.values()))
            future = runs.next_finished(0.5)
            if future is None:
                continue
            task = runs.running.pop(future)
            outcome = runs.outcome(task, future)
            if outcome is not None:
                yield task, outcome
    finally:
        for future in runs.running:
            future.cancel()


class _Runs:
    """The runs that are handed out, and those that go out again."""

    def __init__(self, executor: Executor, tasks: Iterator[Task], slots: int | None, tell: Callable[[str], None]) -> None:
        self._executor, self._tasks, self._slots, self._tell = executor, tasks, slots, tell
        self.running: dict[Future[Outcome | Refusal], Task] = {}
        self._again: list[Task] = []
        self._finished: SimpleQueue[Future[Outcome | Refusal]] = SimpleQueue()
        self._deaths: Counter[Task] = Counter()
        self._refusals: Counter[Task] = Counter()
        self._refused: set[str] = set()
        self._lonely = False  # no worker is there

    def hand_out(self) -> bool:
        """Fill the room. Returns whether any run is handed out."""
        slots = self._slots if self._slots is not None else getattr(self._executor, "slots", None)
        while slots is None or len(self.running) < slots:
            task = self._again.pop() if self._again else next(self._tasks, None)
            if task is None:
                break
            try:
                future: Future[Outcome | Refusal] = self._executor.submit(run_task, task.as_message())
            except BrokenExecutor as error:
                raise _broken(error) from None
            self.running[future] = task
            future.add_done_callback(self._finished.put)
        return bool(self.running)

    def next_finished(self, seconds: float) -> Future[Outcome | Refusal] | None:
        try:
            return self._finished.get(timeout=seconds)
        except Empty:
            lonely = isinstance(self._executor, Excluding) and self._executor.workers_left() == 0
            if lonely and not self._lonely:
                self._tell("no worker is connected; the runs wait for one")
            self._lonely = lonely
            return None

    def outcome(self, task: Task, future: Future[Outcome | Refusal]) -> Outcome | None:
        """What the run came to; None if it goes out again."""
        try:
            answer = future.result()
        except WorkerDiedError as error:
            self._after_death(task, error)
            return None
        except BrokenExecutor as error:
            raise _broken(error) from None
        except CancelledError:
            raise RunError(
                f"seed {task.recipe.seed}: was cancelled; the executor was shut down, or lost its scheduler"
            ) from None
        except FieldError:
            raise
        except Exception as error:
            if type(error).__name__ == "KilledWorker":  # of Dask, which has tried it on several workers
                raise RunError(f"seed {task.recipe.seed}: its workers died ({_shown(error)})") from None
            raise RunError(f"seed {task.recipe.seed}: {type(error).__name__}: {_shown(error)}") from error
        if isinstance(answer, Refusal):
            self._after_refusal(task, answer)
            return None
        return answer

    def _after_death(self, task: Task, error: WorkerDiedError) -> None:
        self._deaths[task] += 1
        if self._deaths[task] == _DEATHS:
            raise RunError(f"seed {task.recipe.seed}: {error}, the third worker that it has ended") from None
        self._tell(f"{error}; seed {task.recipe.seed} goes to another")
        self._again.append(task)

    def _after_refusal(self, task: Task, refusal: Refusal) -> None:
        if refusal.worker not in self._refused:
            self._refused.add(refusal.worker)
            self._tell(str(refusal))
        if isinstance(self._executor, Excluding):
            if not self._executor.exclude(refusal.worker):
                raise RunError(f"no worker is left; {refusal}")
        else:
            time.sleep(_PAUSE)
        self._refusals[task] += 1
        if self._refusals[task] == _REFUSALS:
            raise RunError(f"seed {task.recipe.seed}: no other worker takes it; {refusal}")
        self._again.append(task)


def _broken(error: BrokenExecutor) -> RunError:
    cure = "the finished runs are kept; call again with a new executor, or with LocalWorkers, which replaces a dead process"
    return RunError(f"the executor is broken ({_shown(error)}); {cure}")


def _shown(error: Exception) -> str:
    """Its message as one line, at most 300 characters of it."""
    text = one_line(str(error))
    return text if len(text) <= 300 else f"{text[:300]}..."
