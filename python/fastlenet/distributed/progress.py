"""What a terminal shows of many runs: a bar with the mean and the spread so far, and a line for each worker."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, NoReturn, Protocol, runtime_checkable

from fastlenet.distributed.task import Outcome, Task
from fastlenet.fields import FieldValueError, integer
from fastlenet.streams import one_line, tell
from fastlenet.training.callbacks.console import shows_bars

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Progress", "Watched", "spread"]

_ROWS = 12  # workers that the table shows


@runtime_checkable
class Watched(Protocol):
    """An Executor that knows what its workers do."""

    def busy(self) -> dict[str, str]:
        """Returns, by the name of each worker, "host:pid", what it does now, or "" if it waits."""


def spread(accuracies: Sequence[float]) -> str:
    """The mean of accuracies and their deviation, in words."""
    if not accuracies:
        return "no accuracy yet"
    deviation = f" ± {100 * statistics.stdev(accuracies):.3f}" if len(accuracies) > 1 else ""
    return f"{statistics.mean(accuracies):.3%}{deviation}"


class Progress:
    """Shows runs as they are finished: a line for each, and on a terminal a bar, with a table of the workers below.

    total: the number of runs, done ones included, or None if it is not known ahead. verbose: as of fit: "auto", 0, 1 or 2.
    write: takes each line.
    """

    def __init__(
        self,
        executor: Executor,
        total: int | None,
        before: Sequence[Outcome] = (),
        *,
        verbose: int | str = "auto",
        write: Callable[[str], None] | None = None,
    ) -> None:
        if isinstance(verbose, str) and verbose != "auto":
            raise FieldValueError("verbose", verbose, '"auto", 0, 1 or 2')
        level = -1 if isinstance(verbose, str) else integer("verbose", int(verbose), 0, 2)
        self._executor, self._quiet = executor, level == 0
        self._write = write or partial(print, flush=True)
        self._done: Counter[str] = Counter()
        self._last: dict[str, Outcome] = {}
        self._accuracies = [run.accuracy for run in before if run.accuracy is not None]
        self._bars: list[tqdm[NoReturn]] = []
        if level == 1 or (level < 0 and shows_bars()):
            self._open(total, len(before))

    def _open(self, total: int | None, before: int) -> None:
        try:
            from tqdm.auto import tqdm

            self._bars = [tqdm(total=total, initial=before, unit=" runs", leave=False, mininterval=0.1)]
        except Exception:  # a wrong TQDM_ variable, or a closed terminal, must not end the runs
            self._bars = []

    def finished(self, outcome: Outcome, trial: object = None) -> None:
        """Show a run that is done. trial: its number in a search."""
        self._done[outcome.worker] += 1
        self._last[outcome.worker] = outcome
        if outcome.accuracy is not None:
            self._accuracies.append(outcome.accuracy)
        what = outcome.diverged or f"accuracy {outcome.accuracy or 0.0:.2%}"
        seconds = sum(outcome.seconds.values())
        whose = "" if trial is None else f"trial {trial:<5} "
        self.say(f"{whose}seed {outcome.seed:<6} {what}   {seconds:.2f} s on {outcome.worker}")
        self._on_bars(lambda bar: bar.update(1), self._bars[:1])

    def say(self, text: str) -> None:
        """Print a line above the bar, unless quiet."""
        if not self._quiet:
            self._on_bars(lambda bar: bar.clear())
            self._write(text)
            self._on_bars(lambda bar: bar.refresh())

    def warn(self, text: str) -> None:
        """Print a line on standard error, above the bar, even if quiet."""
        self._on_bars(lambda bar: bar.clear())
        tell(one_line(text))
        self._on_bars(lambda bar: bar.refresh())

    def tick(self, running: list[Task]) -> None:
        """Show the mean so far, and the workers."""
        if not self._bars:
            return
        rows = self._table(running)
        self._on_bars(lambda bar: bar.set_postfix_str(spread(self._accuracies)), self._bars[:1])
        for number, text in enumerate(rows, 1):
            if number == len(self._bars):
                self._add_row(number)
            if number < len(self._bars):
                self._on_bars(partial(_describe, text), [self._bars[number]])

    def _add_row(self, number: int) -> None:
        from tqdm.auto import tqdm

        self._on_bars(lambda _: self._bars.append(tqdm(bar_format="{desc}", position=number, leave=False)), self._bars[:1])

    def _table(self, running: list[Task]) -> list[str]:
        """A row for each worker: host and process, threads, runs done, and the seed at hand, or the last one if unknown."""
        now = self._executor.busy() if isinstance(self._executor, Watched) else {}
        names = sorted({*now, *self._done})
        rows = [f"{'worker':<28} {'threads':>7} {'runs':>6}   now"] * bool(names)
        for name in names[:_ROWS]:
            last = self._last.get(name)
            threads = last.threads if last else running[0].threads if running else 0
            doing = now.get(name) or (f"after seed {last.seed}" if last else "")
            rows.append(f"{name:<28} {threads:>7} {self._done[name]:>6}   {doing}")
        if len(names) > _ROWS:
            rows.append(f"and {len(names) - _ROWS} more workers")
        return rows

    def close(self) -> None:
        """Remove the bar and the table."""
        for bar in reversed(self._bars):
            self._on_bars(lambda bar: bar.close(), [bar])
        self._bars = []

    def _on_bars(self, action: Callable[[tqdm[NoReturn]], object], bars: Sequence[tqdm[NoReturn]] | None = None) -> None:
        for bar in list(self._bars if bars is None else bars):
            try:
                action(bar)
            except Exception:  # of tqdm, which may raise anything where the terminal is closed
                self._bars = []


def _describe(text: str, bar: tqdm[NoReturn]) -> None:
    bar.set_description_str(text)
