"""The output of a training run on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, NoReturn, SupportsFloat

from fastlenet.streams import one_line, tell
from fastlenet.training.callbacks.base import Callback, Run
from fastlenet.training.history import Epoch

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Console", "shows_bars"]


def shows_bars() -> bool:
    """Whether standard error is a terminal, or this is a notebook that has the widgets which tqdm makes a bar of."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if "IPKernelApp" in getattr(shell, "config", ()):
        return find_spec("ipywidgets") is not None
    return sys.stderr is not None and sys.stderr.isatty()


class Console(Callback):
    """Prints a line per epoch. Within an epoch it shows a progress bar, and a line every log_interval batches.

    quiet: print no lines and show no bar. log_interval: 0 prints no lines within an epoch. bar: whether to show the bar; None
    shows it on a terminal and in a notebook. write: takes each line; None prints it.
    """

    def __init__(
        self,
        quiet: bool = False,
        log_interval: int = 0,
        *,
        bar: bool | None = None,
        write: Callable[[str], None] | None = None,
    ) -> None:
        self.quiet, self.log_interval = quiet, log_interval
        self._write = write or partial(print, flush=True)
        self._bar: tqdm[NoReturn] | None = None
        self._has_bar = not quiet and (shows_bars() if bar is None else bar)

    def say(self, text: str = "") -> None:
        """Print a line, above the bar if there is one; nothing if quiet."""
        if self.quiet:
            return
        self._on_bar("clear")
        self._write(text)
        self._on_bar("refresh")

    def warn(self, text: str) -> None:
        """Print a line on standard error, above the bar, even if quiet. Does nothing if standard error is closed."""
        self._on_bar("clear")
        tell(one_line(text))
        self._on_bar("refresh")

    def _open_bar(self, run: Run, done: int, what: str, total: int) -> None:
        try:
            from tqdm.auto import tqdm

            self._bar = tqdm(
                desc=f"{what} {run.state.epoch + 1}/{run.state.recipe.epochs}",
                total=total,
                initial=done,
                unit=" images",
                leave=False,
                mininterval=0.1,
            )
        except Exception:
            self._has_bar = False

    def _on_bar(self, method: str, *arguments: object) -> object:
        """Call a method of the bar, if there is one. After any error there is no bar any more, since it must not stop a
        training.

        tqdm may raise anything if one of its TQDM_ variables is wrong or the terminal is closed.
        """
        if self._bar is None:
            return None
        try:
            return getattr(self._bar, method)(*arguments)
        except Exception:
            self._bar, self._has_bar = None, False
            return None

    def taught(self, run: Run, images: int) -> None:
        total = len(run.state.data.train_images)
        if self._has_bar and self._bar is None:
            self._open_bar(run, 0, "teacher, epoch", total)
        self._on_bar("update", images)
        if self._bar is not None and self._bar.n >= total:
            self.close()

    def batch(self, run: Run, loss: SupportsFloat, images: int) -> None:
        if self._has_bar and self._bar is None:
            self._open_bar(run, run.state.images - images, "epoch", run.state.images_per_epoch)
        if self._has_bar and self._on_bar("update", images):  # redrawn, at most ten times a second
            self._on_bar("set_postfix_str", f"loss {run.mean_loss():.4f}")
        if self.log_interval and run.state.position % self.log_interval == 0:
            seen, total = run.state.images, len(run.state.data.train_images)
            self.say(f"Train Epoch: {run.state.epoch + 1} [{seen}/{total} ({seen / total:.0%})]\tLoss: {float(loss):.6f}")

    def epoch(self, run: Run, epoch: Epoch) -> None:
        self.close()
        self.say(f"epoch {epoch.epoch}/{run.state.recipe.epochs}   {epoch}")

    def close(self) -> None:
        self._on_bar("close")
        self._bar = None
