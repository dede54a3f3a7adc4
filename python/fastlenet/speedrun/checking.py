"""`fastlenet speedrun --check FILE`: whether a result file keeps the schema and the rules, and what its runs come to."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import count, islice
from pathlib import Path

from fastlenet.fields import shown
from fastlenet.files import CheckpointError, shown_path, user_path
from fastlenet.intervals import Mean, mean_of
from fastlenet.speedrun.schema import Json, broken
from fastlenet.streams import one_line, tell

__all__ = ["CATEGORIES", "Category", "Checked", "NoResultError", "check", "check_file", "read_result"]

_MOST_BYTES = 64 << 20
_MOST_FAULTS = 100  # lines about one file
_TEST_IMAGES = 10_000
_NEAR = 1e-9  # of a figure that is recomputed
_PARTS = ("start_up", "data", "training", "evaluation")

Result = Json  # a file that keeps the schema


@dataclass(frozen=True)
class Category:
    """What a result must be to enter. seeds: at least so many. target: for the mean; it must be reached in cold processes."""

    seeds: int
    epochs: int | None = None
    target: float | None = None
    taught: bool | None = False
    ensemble: bool | None = False

    def misses(self, result: Result, mean: Mean) -> str | None:
        """Why the result does not belong here, or None."""
        members = result.get("members", 1)
        if result.get("network", "lenet") != "lenet":
            return f"expects the network lenet, got {shown(result['network'])}"
        if self.ensemble is not None and (members > 1) != self.ensemble:
            return f"expects {'several networks' if self.ensemble else 'one network'}, got {members}"
        if self.taught is not None and ("teacher" in result) != self.taught:
            return "expects a teacher, with its command and seconds" if self.taught else "expects no teacher"
        if mean.count < self.seeds:
            return f"expects at least {self.seeds} seeds, got {mean.count}"
        if self.epochs is not None and result["recipe"]["epochs"] != self.epochs:
            return f"expects {self.epochs} epoch, got {result['recipe']['epochs']}"
        if self.target is not None and result["way"] != "cold processes":
            return "expects cold processes, whose times count"
        if self.target is not None and mean.mean < self.target - 1e-12:
            return f"expects a mean of at least {self.target:.2%}, got {mean.mean:.3%}"
        return None


CATEGORIES: Mapping[str, Category] = {
    "one epoch": Category(seeds=20, epochs=1),
    "time to 99.25": Category(seeds=10, target=0.9925),
    "time to 99.50": Category(seeds=10, target=0.995),
    "best single": Category(seeds=10),
    "taught": Category(seeds=10, taught=True),
    "ensemble": Category(seeds=1, taught=None, ensemble=True),
}


@dataclass(frozen=True)
class Checked:
    """What a file came to. faults: a line each; without any, figures and categories are those of its first contender."""

    faults: tuple[str, ...]
    lines: tuple[str, ...] = ()


class NoResultError(CheckpointError):
    """A file is there, and no result at all."""


@cache
def _schema() -> Json:
    loaded: Json = json.loads((Path(__file__).parent / "result.schema.json").read_text())
    return loaded


def read_result(path: str | Path) -> object:
    """Returns what the JSON file holds. Raises CheckpointError, in one line, for a file that cannot be read, and NoResultError
    for one that is no JSON.
    """
    file = user_path(path)
    try:
        with file.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise CheckpointError(f"{shown_path(file)}: cannot be read ({error.strerror or error})") from None
    if len(content) > _MOST_BYTES:
        raise NoResultError(f"{shown_path(file)}: more than {_MOST_BYTES >> 20} MiB, which no result has")
    try:
        value: object = json.loads(content, object_pairs_hook=_without_twins, parse_constant=_no_constant, parse_float=_finite)
    except MemoryError:
        raise
    except UnicodeDecodeError:
        raise NoResultError(f"{shown_path(file)}: not JSON, since it is not text in UTF-8") from None
    except RecursionError:
        raise NoResultError(f"{shown_path(file)}: not a result: nested too deeply") from None
    except ValueError as error:
        raise NoResultError(f"{shown_path(file)}: not JSON ({one_line(str(error))})") from None
    return value


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name occurs twice in one object")
    return made


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{shown(text)} is beyond all floats")
    return value


def check(value: object) -> Checked:
    """Returns the faults of a result, or else its figures, recomputed from its runs."""
    faults = tuple(islice(broken(value, _schema()), _MOST_FAULTS))
    if faults:
        return Checked(faults)
    assert isinstance(value, dict)
    means = {name: mean_of([run["accuracy"] for run in entry["runs"]]) for name, entry in value["results"].items()}
    faults = tuple(islice(_faults(value, means), _MOST_FAULTS))
    return Checked(faults) if faults else Checked((), tuple(_lines(value, means)))


def _faults(result: Result, means: Mapping[str, Mean]) -> Iterator[str]:
    """What a file that keeps the schema breaks of the rules."""
    for name, entry in result["results"].items():
        where = f"results: {one_line(name)[:60]}"
        yield from _wrong_runs(result, entry["runs"], where)
        yield from _wrong_figures(result, entry, means[name], where)
    category = result.get("category")
    if category is not None:
        missed = CATEGORIES[category].misses(result, next(iter(means.values())))
        if missed is not None:
            yield f"category {category} {missed}"


def _wrong_runs(result: Result, runs: list[Json], where: str) -> Iterator[str]:
    seen: set[int] = set()
    for place, run in enumerate(runs):
        name = f"{where}: runs[{place}]"
        if run["seed"] in seen:
            yield f"{name}: seed {shown(run['seed'])} occurs twice"
        seen.add(run["seed"])
        right = run["accuracy"] * _TEST_IMAGES
        if abs(right - round(right)) > 1e-6:
            yield f"{name}: accuracy expects a number of the {_TEST_IMAGES:,} test images, got {run['accuracy']}"
        if result["way"] == "cold processes":
            yield from _wrong_seconds(run, name)
    least = int(min(seen))
    if int(max(seen)) - least >= len(seen):
        gap = next(seed for seed in count(least) if seed not in seen)
        yield f"{where}: seed {shown(gap)} is missing; all seeds count, one after the other"


def _wrong_seconds(run: Json, name: str) -> Iterator[str]:
    seconds = run.get("seconds")
    if not isinstance(seconds, (int, float)):
        yield f"{name} lacks seconds, those of the whole process"
    elif all(part in run for part in _PARTS):
        whole = sum(run[part] for part in _PARTS)
        if abs(whole - seconds) > 1e-6 * max(seconds, 1):
            yield f"{name}: seconds expects the sum of its parts, {whole:.6g}, got {shown(seconds)}"


def _wrong_figures(result: Result, entry: Json, mean: Mean, where: str) -> Iterator[str]:
    accuracies = [run["accuracy"] for run in entry["runs"]]
    expected: dict[str, float] = {
        "accuracy_mean": mean.mean,
        "accuracy_deviation": mean.deviation,
        "accuracy_lowest": min(accuracies),
        "share_at_target": _share(accuracies, result["target"]),
    }
    if "median" in entry:
        times = [run["seconds"] for run in entry["runs"] if isinstance(run.get("seconds"), (int, float))]
        if times:
            expected["median: seconds"] = statistics.median(times)
    for name, number in expected.items():
        given = entry["median"]["seconds"] if name == "median: seconds" else entry[name]
        if abs(given - number) > _NEAR * max(1, abs(number)):
            yield f"{where}: {name} expects {number:.6g}, which its runs give, got {shown(given)}"
    if "accuracy_interval" in entry:
        given, own = entry["accuracy_interval"], mean.interval
        fits = given is own if given is None or own is None else max(map(abs, (given[0] - own[0], given[1] - own[1]))) < 1e-8
        if not fits:
            words = "null, for one run" if own is None else f"[{own[0]:.6g}, {own[1]:.6g}], which its runs give"
            yield f"{where}: accuracy_interval expects {words}, got {shown(given)}"


def _share(accuracies: list[float], target: float) -> float:
    return sum(accuracy >= target for accuracy in accuracies) / len(accuracies)


def _lines(result: Result, means: Mapping[str, Mean]) -> Iterator[str]:
    """The categories and the figures of a file without faults."""
    first = next(iter(means.values()))
    missed = {name: category.misses(result, first) for name, category in CATEGORIES.items()}
    entered = [name for name, why in missed.items() if why is None]
    if "category" in result:
        entered = [result["category"]]
    tta = ", with test-time augmentation: a row of its own" if result["recipe"].get("tta") else ""
    yield f"category: {', '.join(entered)}{tta}" if entered else f"category: none; best single {missed['best single']}"
    for name, entry in result["results"].items():
        mean = means[name]
        interval = mean.interval
        words = "no interval of one run" if interval is None else f"95 % in {interval[0]:.3%}..{interval[1]:.3%}"
        share = _share([run["accuracy"] for run in entry["runs"]], result["target"])
        seeds = "1 seed" if mean.count == 1 else f"{mean.count} seeds"
        yield (
            f"{one_line(name)[:60]}: {seeds}, mean {mean.mean:.3%}, deviation {mean.deviation:.3%}, {words}, "
            f"lowest {min(run['accuracy'] for run in entry['runs']):.2%}, {share:.0%} at {result['target']:.2%}"
        )
        times = [run["seconds"] for run in entry["runs"] if isinstance(run.get("seconds"), (int, float))]
        if times and result["way"] == "cold processes":
            yield f"{one_line(name)[:60]}: {statistics.median(times):.2f} s, the median of the whole process"


def check_file(path: str, write: Callable[[str], None] = print) -> int:
    """Print what a file comes to, or its faults, one a line on standard error. Returns the exit code: 0, or 1 with faults."""
    try:
        checked = check(read_result(path))
    except NoResultError as error:
        tell(one_line(str(error)))
        return 1
    for fault in checked.faults:
        tell(one_line(f"{shown_path(path)}: {fault}"))
    for line in checked.lines:
        write(line)
    return 1 if checked.faults else 0
