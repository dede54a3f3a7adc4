"""A run of `fastlenet train`. However it ends, it saves what was trained and prints where."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from signal import SIGINT
from typing import NoReturn

from fastlenet._core import DeviceError
from fastlenet.backend import Array
from fastlenet.cli.result import Result
from fastlenet.cli.settings import Options
from fastlenet.files import CheckpointError, save_somewhere
from fastlenet.formats.parameters import save_model
from fastlenet.signals import StopSignals
from fastlenet.streams import discard_output, one_line, tell
from fastlenet.training.callbacks.base import Callback, Writer
from fastlenet.training.callbacks.console import Console
from fastlenet.training.callbacks.saver import Saver
from fastlenet.training.ensemble import EnsembleRun, join_members
from fastlenet.training.ranks import RanksError
from fastlenet.training.state import DivergedError
from fastlenet.training.trainer import InterruptedRunError, Trainer

__all__ = ["COMMAND", "finish", "run_and_save"]

State = dict[str, Array]

COMMAND = ("python", "-m", "fastlenet.train")


def run_and_save(
    run: EnsembleRun,
    console: Console,
    callbacks: Sequence[Callback],
    options: Options,
    result: Result,
    signals: StopSignals,
    weigh: bool = False,
) -> int:
    """Train, save and report. Closes the callbacks. Returns the exit code."""
    savers = [callback for callback in callbacks if isinstance(callback, Saver)]
    checkpoint = savers[0].path if savers else None
    if run.trainer.state.recipe.epochs:
        signals.stop = run.stop
    try:
        states = _train(run, console, callbacks, checkpoint, signals)
    except DivergedError as error:
        raise DivergedError(f"{error}; a smaller --lr may help{_kept(run, checkpoint, options)}") from None
    except DeviceError as error:
        raise DeviceError(f"{error}{_kept(run, checkpoint, options)}") from None
    except RanksError as error:
        raise RanksError(f"{error}{_kept(run, checkpoint, options)}") from None
    except BaseException:  # too little memory, a second Ctrl-C, a fault
        kept = _kept(run, checkpoint, options).removeprefix("; ")
        if kept:
            console.close()
            tell(one_line(kept))
        raise
    finally:
        for callback in callbacks:
            callback.close()
    return states if isinstance(states, int) else finish(run, states, console, callbacks, options, result, weigh)


def _train(
    run: EnsembleRun, console: Console, callbacks: Sequence[Callback], checkpoint: Path | None, signals: StopSignals
) -> list[State] | int:
    """Train. Returns the networks' parameters, or the exit code of a run that was stopped and saved."""
    try:
        return run.run(*callbacks, started=lambda trainer: _say_start(console, run, trainer))
    except InterruptedRunError:
        console.close()
        return _save_stopped(run, checkpoint, signals)
    except OSError:  # the output was closed, as by closing the terminal; this happens between two steps too
        if run.finished or run.trainer.state.optimizer.steps:
            _save_stopped(run, checkpoint, signals)
        if signals.number is None:
            raise
        discard_output()
        return 128 + signals.number


def _save_stopped(run: EnsembleRun, checkpoint: Path | None, signals: StopSignals) -> int:
    """Save the state of a run that stopped between two steps, and print how to continue. Returns the exit code."""
    trouble = ""
    path = checkpoint
    if path is not None:
        try:
            run.trainer.save(path)
        except CheckpointError as error:
            trouble, path = f"{error}; ", None
    if path is None:
        try:
            path = save_somewhere(run.trainer.save, "fastlenet-interrupted.safetensors")
        except CheckpointError as error:
            return _save_weights(run, f"{trouble}{error}")
    tell("\n" + one_line(f"interrupted; {trouble}saved. To continue: {shlex.join([*COMMAND, '--resume', str(path)])}"))
    return 2 if trouble else 128 + (signals.number or SIGINT)


def _save_weights(run: EnsembleRun, trouble: str) -> NoReturn:
    """Save the weights of a stopped run whose state could not be saved; they take at most half of the space.

    Raises CheckpointError, which names what was saved where.
    """
    states = [*run.finished, dict(run.trainer.state.model.state_dict())]
    saved = _save_networks(run, states, None, "the weights so far")
    raise CheckpointError(f"interrupted; the training state could not be saved: {trouble}; {saved}")


def finish(
    run: EnsembleRun,
    states: list[State],
    console: Console,
    callbacks: Sequence[Callback],
    options: Options,
    result: Result,
    weigh: bool = False,
) -> int:
    """Save the trained networks and report on them. weigh: choose their weights on the validation images before. Raises
    CheckpointError after the report if a file was not written.
    """
    failed = [callback.error for callback in callbacks if isinstance(callback, Writer) and callback.error is not None]
    savers = [callback for callback in callbacks if isinstance(callback, Saver)]
    is_kept = any(saver.error is None for saver in savers)
    if weigh:
        run.choose_weights(states, report=console.say)
    if options.save_model is not None:
        try:
            _save(run, options.save_model, states)
            is_kept = True
            console.say(f"saved {one_line(options.save_model)}")
        except CheckpointError as error:
            failed.append(error)
    if (savers or options.save_model is not None) and not is_kept:
        failed.append(CheckpointError(_save_networks(run, states, None, _networks(states))))
    accuracy, loss = run.evaluate(states, report=console.say)
    result = result.finished(run, accuracy, loss)
    if options.json:
        print(result.as_json(), flush=True)
    else:
        if options.times:
            taught = {} if run.trainer.state.teaching is None else {"of it the teacher": run.teaching_seconds}
            training = ("data", "training")  # in this order, then the part of it that a teacher took
            times = {name: result.seconds[name] for name in training} | taught | result.seconds
            print("   ".join(f"{name} {value:.3f} s" for name, value in times.items()))
        print(f"final accuracy {accuracy:.2%}", flush=True)
    if failed:
        raise CheckpointError("; ".join(map(str, failed)))
    return 0


def _save(run: EnsembleRun, path: str | Path, states: Sequence[State]) -> None:
    """Save networks of the run, with what a file says of them."""
    save_model(path, join_members(states), run.metadata(len(states)))


def _save_networks(run: EnsembleRun, states: Sequence[State], path: str | None, what: str) -> str:
    """Save networks at a path, or elsewhere if that fails or there is none. Returns a sentence with the file, or the reason."""

    def save(path: str | Path) -> None:
        _save(run, path, states)

    trouble = ""
    if path is not None:
        try:
            save(path)
            return f"{path} holds {what}, for --load-model"
        except CheckpointError as error:
            trouble = f"{error}; "
    try:
        return f"{trouble}{save_somewhere(save, 'fastlenet-finished.safetensors')} holds {what}, for --load-model"
    except CheckpointError as error:
        return f"{trouble}{what} could not be saved elsewhere: {error}"


def _networks(states: Sequence[State]) -> str:
    return "the network" if len(states) == 1 else f"the {len(states)} networks"


def _kept(run: EnsembleRun, checkpoint: Path | None, options: Options) -> str:
    """What remains of a failed run, in words: the last checkpoint, and the finished networks, which are saved here."""
    kept = f"; {checkpoint} holds the last good state" if checkpoint is not None and checkpoint.exists() else ""
    if not run.finished:
        return kept
    return f"{kept}; {_save_networks(run, run.finished, options.save_model, f'{_networks(run.finished)} finished before')}"


def _say_start(console: Console, run: EnsembleRun, trainer: Trainer) -> None:
    state = trainer.state
    if run.count > 1:
        look = f", {state.recipe.preprocessing}" if run.looks else ""
        console.say(f"\nnetwork {run.member + 1} of {run.count}, seed {state.recipe.seed}{look}")
    if state.epoch or state.position:
        console.say(f"resumed in epoch {state.epoch + 1} at step {state.position}")
        if state.schedule_note:
            console.say(state.schedule_note)
    elif not console.quiet:
        console.say(f"before training   accuracy {trainer.evaluate()[0]:7.2%}")
