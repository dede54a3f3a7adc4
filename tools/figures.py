#!/usr/bin/env python3
"""Keep the figures of the documentation equal to those of benchmarks/results.

    tools/figures.py              rewrites the pages
    tools/figures.py --check      fails when a page differs from what this would write
    tools/figures.py --without    lists the rows of figures that have no rule

A rule names a page, a place in it, a file of results and the figures at that place. The place is a table's row, found by its
first cell, or a sentence, found by a pattern whose groups are the figures. The rule leaves the row's other cells as they are.
If the file of results does not exist yet, the rule is listed, with the command that makes the file, and changes nothing.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = ["README.md", "docs/performance.md", "docs/speedrun.md", "docs/design.md", "docs/predict.md"]
NAMES = {"pytorch": "PyTorch", "tensorflow": "TensorFlow", "jax": "JAX", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}

Cells = list[str]


@functools.cache
def results(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


@dataclass(frozen=True)
class Row:
    """The cells after the first one of the row that starts with `key`."""

    page: str
    key: str
    source: str  # benchmarks/results/SOURCE.json
    cells: Callable[[Any], Cells]

    def write(self, text: str) -> str:
        pattern = rf"^\| {re.escape(self.key)} \|(.*)\|$"
        found = re.findall(pattern, text, re.MULTILINE)
        if len(found) != 1:
            raise ValueError(f"{self.page}: expected one row that starts with {self.key!r}, found {len(found)}")
        old = [cell.strip() for cell in found[0].split("|")]
        new = self.cells(results(self.source))
        new += old[len(new) :]
        row = "".join(f"| {cell} " if cell else "| " for cell in [self.key, *new]) + "|"
        return re.sub(pattern, lambda _: row, text, flags=re.MULTILINE)


@dataclass(frozen=True)
class Sentence:
    """The groups of a pattern; a space in it is any white space."""

    page: str
    pattern: str
    source: str
    figures: Callable[[Any], list[str]]

    def write(self, text: str) -> str:
        found = list(re.finditer(self.pattern.replace(" ", r"\s+"), text))
        if len(found) != 1:
            raise ValueError(f"{self.page}: expected one sentence like {self.pattern!r}, found {len(found)}")
        spans = found[0].regs[1:]
        for (start, end), figure in reversed(list(zip(spans, self.figures(results(self.source)), strict=True))):
            text = text[:start] + figure + text[end:]
        return text


# Formats.


def count(value: float) -> str:
    return f"{value:,.0f}"


def times(*values: float) -> str:
    return ", ".join(f"{value:.1f} x" for value in values)


def percent(value: float, digits: int) -> str:
    return f"{100 * value:.{digits}f} %"


# What benchmarks/bench_train.py and bench_inference.py write: contenders by name.


def medians(contenders: dict[str, Any]) -> dict[str, float]:
    return {name: contender["median"] for name, contender in contenders.items()}


def precision_of(name: str) -> str:
    return next((precision for precision in ("bf16", "int8") if name.partition(":")[2].startswith(precision)), "float32")


def best_peer(contenders: dict[str, Any], precision: str = "float32") -> str:
    """The fastest peer of a precision."""
    value = medians(contenders)
    peers = [name for name in value if not name.startswith("fastlenet") and precision_of(name) == precision]
    return max(peers, key=value.__getitem__)


def label(name: str) -> str:
    return NAMES[name.partition(":")[0]]


def beside_peers(contenders: dict[str, Any], shown: Callable[[float], str] = count) -> Cells:
    """Ours, ours with Winograd's algorithm, the best peer, ours over it, ours over PyTorch."""
    value, best = medians(contenders), best_peer(contenders)
    ours = value["fastlenet"], value["fastlenet:winograd"]
    over = [times(*(mine / value[peer] for mine in ours)) for peer in (best, "pytorch")]
    return [*map(shown, ours), f"{label(best)} {shown(value[best])}", *over]


def in_precision(contenders: dict[str, Any], precision: str, shown: Callable[[float], str] = count) -> Cells:
    """Ours, the best peer of the same precision, ours over it, ours over our float32 with Winograd's algorithm."""
    value, best = medians(contenders), best_peer(contenders, precision)
    ours = value[f"fastlenet:{precision}"]
    over = [f"{ours / value[name]:.2f} x" for name in (best, "fastlenet:winograd")]
    return [shown(ours), f"{label(best)} {shown(value[best])}", *over]


def over_roofline(batch: dict[str, Any]) -> Cells:
    value, peer = medians(batch["contenders"]), best_peer(batch["contenders"])
    return [f"{value[name] / batch['dense_roofline']:.2f} x" for name in ("fastlenet", "fastlenet:winograd", peer)]


def at_level(contenders: dict[str, Any], level: str) -> Cells:
    value = medians(contenders)
    ours = [value[f"{name}, {level}"] for name in ("fastlenet", "fastlenet:winograd")]
    return [*map(count, ours), "", "", times(*(mine / value["pytorch"] for mine in ours))]


def memory(contenders: dict[str, Any]) -> Cells:
    used = {name: contender["memory_mb"] for name, contender in contenders.items()}
    peer = min((name for name in used if not name.startswith("fastlenet")), key=used.__getitem__)
    shown = [f"{used[name]:.0f} MB" for name in ("fastlenet", "fastlenet:winograd", peer)]
    return [*shown[:2], f"{label(peer)} {shown[2]}", "", f"{used['fastlenet'] / used['pytorch']:.2f} x"]


def microseconds(images_per_second: float) -> str:
    return f"{1e6 / images_per_second:.0f}"


def smaller_batches(batches: dict[str, Any]) -> list[str]:
    value = {batch: medians(batches[batch]["contenders"])["fastlenet"] for batch in ("128", "64", "32")}
    return [f"{value[batch] / value['128']:.2f}" for batch in ("64", "32")]


# The trials by which the named recipes were chosen, before there was fastlenet search.


def of_lenet5(search: dict[str, Any]) -> list[str]:
    """The number of trials, and the mean accuracies on the validation split of the first, which is `default`, and the best."""
    means = [trial["accuracy_mean"] for trial in search["trials"]]
    return [str(len(means)), percent(means[0], 2), percent(max(means), 2)]


# What benchmarks/bench_kernels.py --step and python -m fastlenet.speedrun --json write.


def kernel_cells(kernel: dict[str, float]) -> Cells:
    """The bound and the measured time in us per image, and the bound's share of the time."""
    bound = kernel["flops"] / kernel["peak"]
    limit, share = (f"{bound * 1e6:.3g}", percent(bound / kernel["seconds"], 0)) if bound else ("", "")
    return [limit, f"{kernel['seconds'] * 1e6:.3g}", share]


TANH_CYCLES = 22 / 8  # instructions for so many elements, one each cycle


def op_cells(op: str, figures: dict[str, float]) -> Cells:
    """An op of benchmarks/bench_lenet5.py: its time over that of a copy, its cycles, and the share of its bound."""
    share = TANH_CYCLES / figures["cycles"] if op == "tanh forward" else 1 / figures["over_copy"]
    return [f"{figures['over_copy']:.2f} x", f"{figures['cycles']:.2f}", percent(share, 0)]


def of_fastlenet(run: dict[str, Any]) -> dict[str, Any]:
    """What a speedrun measured of fastlenet, whose name there ends with its version."""
    [ours] = (found for name, found in run["results"].items() if name.startswith("fastlenet "))
    return dict(ours)


def seeds_cells(run: dict[str, Any]) -> Cells:
    """Epochs, seeds, mean, deviation, lowest, and how many reach the target."""
    ours = of_fastlenet(run)
    seeds = len(ours["runs"])
    figures = [percent(ours["accuracy_mean"], 3), percent(ours["accuracy_deviation"], 3), percent(ours["accuracy_lowest"], 2)]
    return [str(run["recipe"]["epochs"]), f"0 to {seeds - 1}", *figures, f"{ours['share_at_target'] * seeds:.0f} of {seeds}"]


def seeds_summary(run: dict[str, Any]) -> Cells:
    ours = of_fastlenet(run)
    deviation = f"{100 * ours['accuracy_deviation']:.2f}"
    return [str(run["recipe"]["epochs"]), f"{percent(ours['accuracy_mean'], 2)} ± {deviation} ({len(ours['runs'])} seeds)"]


def ensemble_cells(run: dict[str, Any]) -> Cells:
    """The accuracy of all together."""
    (one,) = of_fastlenet(run)["runs"]
    return [percent(one["accuracy"], 2)]


def leader(run: dict[str, Any]) -> list[str]:
    """The mean and its interval."""
    ours = of_fastlenet(run)
    low, high = ours["accuracy_interval"]
    return [percent(ours["accuracy_mean"], 3), f"{100 * low:.3f}", percent(high, 3)]


# What benchmarks/learning.py writes.


def trial_cells(run: dict[str, Any], name: str) -> Cells:
    """Folds, and the mean differences from the recipe as it is: points, points with augmentation, calibrated loss x 1000."""
    of_fold = {(one["name"], one["fold"]): one for one in run["runs"]}
    folds = [fold for trial, fold in of_fold if trial == name]
    pairs = [(of_fold[name, fold], of_fold["as it is", fold]) for fold in folds]
    figures = [
        factor * statistics.mean(one[key] - base[key] for one, base in pairs)
        for key, factor in (("accuracy", 100), ("accuracy_tta", 100), ("calibrated", 1000))
    ]
    return [str(len(folds)), *(f"{figure:+.{digits}f}" for figure, digits in zip(figures, (3, 3, 1), strict=True))]


# What benchmarks/bench_cifar.py writes.


def cifar_cells(run: dict[str, Any], name: str) -> Cells:
    """Images/s, and fastlenet's by Winograd's algorithm over it."""
    median = medians(run["paddings"]["1"]["contenders"])
    return [count(median[name]), f"{median['cifar_fastlenet:winograd'] / median[name]:.2f} x"]


# What benchmarks/views.py writes.


def views_cells(run: dict[str, Any], name: str) -> Cells:
    """The number of views, the mean accuracy of the folds in %, and its gain over the image alone."""
    mean, alone = (statistics.mean(run["sets"][key]["accuracies"]) for key in (name, "the image alone"))
    return [str(run["sets"][name]["views"]), f"{mean:.3f} %", f"{mean - alone:+.3f}"]


# What benchmarks/bench_pictures.py writes: rows of its tables.


def limits_cells(run: dict[str, Any], key: str) -> Cells:
    """What a pair of limits does."""
    return next(row[2:] for row in run["limits"] if ", ".join(row[:2]) == key)


STYLES = ["pen width", "colour", "size", "place", "slant", "noise", "uneven light", "photo-like blur", "inverted", "JPEG"]
NO_DIGITS = ["letters", "letters without look-alikes", "the letter A", "blank pages"]
NO_DIGITS += [f"pages of lines, {kind}" for kind in ("ruled", "squared", "hatched", "scribbles", "text")]
LIMITS = ["0.0, 0.0", "0.0, 0.8", "0.1, 0.6", "0.3, 0.6", "0.5, 0.8"]

# What benchmarks/bench_sklearn.py writes.


def classifier_cells(run: dict[str, Any], name: str) -> Cells:
    found = run["classifiers"][name]
    return [f"{percent(found['accuracy'], 2)} ± {100 * found['deviation']:.2f}", f"{found['seconds']:.2f}"]


# What makes a file of results that may not exist yet, and what it takes.
MADE_BY = {
    "speedrun_fast": "-m fastlenet.speedrun --recipe fast --json benchmarks/results/speedrun_fast.json: 20 runs, 2 minutes",
    "speedrun_default": "-m fastlenet.speedrun --json benchmarks/results/speedrun_default.json: 20 runs, 8 minutes",
    "lenet_step": "benchmarks/bench_kernels.py --step: only where nothing else runs, since it measures microseconds",
    "pictures": "benchmarks/bench_pictures.py",
    "pictures_best": "benchmarks/bench_pictures.py --calibrate best",
    "bench_sklearn": "benchmarks/bench_sklearn.py",
}
KERNELS = [
    "gather and normalise",
    *(f"{name} forward" for name in ("conv1", "conv2", "fc1", "relu", "fc2")),
    "conv2 forward by Winograd",
    "loss",
    *(f"{name} backward" for name in ("fc2", "relu", "fc1", "conv2", "conv1")),
    "SGD with momentum",
]
CLASSIFIERS = {  # of the README, as SUMMARIES
    "`LeNetClassifier()`": "LeNetClassifier",
    "`MLPClassifier(max_iter=1000)`": "MLPClassifier",
    "`SVC()`": "SVC",
}
SUMMARIES = {
    "`fast`": "fast",
    "default": "default",
    "`best`": "best",
    "- with test-time augmentation": "best_tta",
    "- taught by sixteen others": "taught",
    "default, for LeNet-5 of 1998": "lenet5",
}  # of the README: a row's first cell, and its recipe
VARIANTS = {  # of docs/speedrun.md: a row's first cell, and its file of results
    "`best --tta`": "best_tta",
    "longer": "best_longer",
    "longer, `--tta`": "best_longer_tta",
    "taught by sixteen": "taught",
    "taught by sixteen, `--tta`": "taught_tta",
}
ENSEMBLES = {
    "ten of `best`": "best",
    "ten of `best`, `--tta`": "best_tta",
    "ten of five looks": "looks",
    "ten of five looks, `--tta`": "looks_tta",
    "fifteen": "fifteen",
    "fifteen, `--tta`": "fifteen_tta",
    "fifteen of five looks": "fifteen_looks",
    "fifteen of five looks, `--tta`": "fifteen_looks_tta",
    "ten taught ones": "taught",
    "ten taught ones, `--tta`": "taught_tta",
}
CIFAR = {  # of docs/performance.md and benchmarks/bench_cifar.py
    "fastlenet, Winograd": "cifar_fastlenet:winograd",
    "fastlenet, exact": "cifar_fastlenet",
    "PyTorch, float32": "cifar_pytorch",
    "PyTorch, float32, channels last": "cifar_pytorch:channels_last",
    "PyTorch, bfloat16": "cifar_pytorch:bf16",
    "PyTorch, bfloat16, channels last": "cifar_pytorch:channels_last_bf16",
}
VIEWS = [  # of docs/speedrun.md and benchmarks/views.py
    "the image alone",
    "4 shifts",
    "8 shifts",
    "4 shifts by half a pixel",
    "4 shifts, 2 rotations by 7 degrees",
    "4 shifts, 2 scales by 5 %",
    "4 shifts, 2 shears by 0.1",
    "8 shifts, 2 rotations, 2 scales, 2 shears",
]
TRIALS = [  # of docs/speedrun.md and benchmarks/learning.py
    *("40 epochs, elastic 8", "40 epochs, wider", "40 epochs, wider, elastic 8", "60 epochs", "60 epochs, wider, elastic 8"),
    *("60 epochs, wider, elastic 8 to the end, dropout 0.1", "deskew", "dropout 0.5", "cutout 6"),
    *("sharp 0.03", "four tails", "average"),
]
RULES: list[Row | Sentence] = [
    Row(
        "README.md",
        "training, batch 128, images/s",
        "bench_train",
        lambda run: beside_peers(run["batches"]["128"]["contenders"]),
    ),
    Row("README.md", "- of the dense roofline", "bench_train", lambda run: over_roofline(run["batches"]["128"])),
    Row(
        "README.md",
        "- at level x86-64-v3 (AVX2), images/s",
        "bench_train",
        lambda run: at_level(run["batches"]["128"]["contenders"], "x86-64-v3"),
    ),
    Row("README.md", "- peak memory", "bench_train", lambda run: memory(run["batches"]["128"]["contenders"])),
    Row("README.md", "inference, batch 1000, images/s", "bench_inference", lambda run: beside_peers(run["results"]["1000"])),
    Row(
        "README.md",
        "one image, one thread, us",
        "bench_inference",
        lambda run: beside_peers(run["results"]["one image, one thread"], microseconds),
    ),
    *(
        Row(
            "README.md",
            f"inference in {precision}, batch 1000, images/s",
            "bench_inference",
            lambda run, precision=precision: in_precision(run["results"]["1000"], precision),
        )
        for precision in ("bf16", "int8")
    ),
    *(
        Row(
            "README.md",
            f"one image in {precision}, one thread, us",
            "bench_inference",
            lambda run, precision=precision: in_precision(run["results"]["one image, one thread"], precision, microseconds),
        )
        for precision in ("bf16", "int8")
    ),
    Sentence(
        "docs/performance.md",
        r"its last table \(([\d.]+), ([\d.]+)\)",
        "bench_train",
        lambda run: smaller_batches(run["batches"]),
    ),
    Sentence(
        "docs/performance.md",
        r"three epochs of plain SGD: ([\d.]+ %), standard deviation ([\d.]+)",
        "seeds_winograd",
        lambda run: [percent(run["mean"], 3), f"{100 * run['standard_deviation']:.3f}"],
    ),
    *(Row("docs/performance.md", key, "lenet_step", lambda run, key=key: kernel_cells(run["kernels"][key])) for key in KERNELS),
    *(
        Row("docs/performance.md", key, "lenet5_ops", lambda run, key=key: op_cells(key, run["ops"][key]))
        for key in (f"{op} {way}" for op in ("tanh", "avg pool", "leaky relu") for way in ("forward", "backward"))
    ),
    Row("docs/speedrun.md", "LeNet-5, `default`", "speedrun_lenet5", seeds_cells),
    Sentence(
        "docs/speedrun.md",
        r"search_lenet5\.json\), (\d+) trials of three seeds: `default` has ([\d.]+ %), the best ([\d.]+ %)",
        "search_lenet5",
        of_lenet5,
    ),
    *(Row("README.md", key, f"speedrun_{name}", seeds_summary) for key, name in SUMMARIES.items()),
    *(
        Row("README.md", key, "bench_sklearn", lambda run, name=name: classifier_cells(run, name))
        for key, name in CLASSIFIERS.items()
    ),
    *(Row("docs/speedrun.md", f"`{name}`", f"speedrun_{name}", seeds_cells) for name in ("fast", "default", "best")),
    *(Row("docs/speedrun.md", key, f"speedrun_{name}", seeds_cells) for key, name in VARIANTS.items()),
    *(Row("docs/speedrun.md", key, f"ensemble_{name}", ensemble_cells) for key, name in ENSEMBLES.items()),
    Row("README.md", "- fifteen networks of six looks", "ensemble_fifteen", lambda run: ["", *ensemble_cells(run)]),
    *(
        Sentence("docs/speedrun.md", rf"\| fastlenet,? {name} \| ([\d.]+ %), 95 % in ([\d.]+)\.\.([\d.]+ %)", source, leader)
        for name, source in (
            ("`best`", "speedrun_best"),
            (r"\[taught\]\(#results\)", "speedrun_taught"),
        )
    ),
    *(Row("docs/speedrun.md", name, "learning", lambda run, name=name: trial_cells(run, name)) for name in TRIALS),
    *(
        Row("docs/performance.md", key, "bench_cifar", lambda run, name=name: cifar_cells(run, name))
        for key, name in CIFAR.items()
    ),
    *(Row("docs/speedrun.md", name, "views", lambda run, name=name: views_cells(run, name)) for name in VIEWS),
    Sentence(
        "docs/speedrun.md", r"search_recipe\.json\), (\d+) trials", "search_recipe", lambda search: [str(len(search["trials"]))]
    ),
]


RULES += [Row("docs/predict.md", key, "pictures", lambda run, key=key: list(run["styles"][key])) for key in STYLES]
RULES += [Row("docs/predict.md", key, "pictures", lambda run, key=key: list(run["no digits"][key])) for key in NO_DIGITS]
RULES += [Row("docs/predict.md", key, "pictures_best", lambda run, key=key: limits_cells(run, key)) for key in LIMITS]


def without_rule(page: str, text: str) -> list[str]:
    """The first cells of the page's table rows that have a figure and no rule."""
    known = {rule.key for rule in RULES if isinstance(rule, Row) and rule.page == page}
    rows = re.findall(r"^\| (.+?) \|(.*)\|$", text, re.MULTILINE)
    return [key for key, rest in rows if key not in known and re.search(r"\d", rest)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a page differs")
    parser.add_argument("--without", action="store_true", help="list the rows of figures that no rule covers")
    arguments = parser.parse_args()
    different = False
    missing = {rule.source for rule in RULES if not (RESULTS / f"{rule.source}.json").exists()}
    rules = [rule for rule in RULES if rule.source not in missing]
    for page in PAGES:
        path = ROOT / page
        old = new = path.read_text()
        for rule in rules:
            if rule.page == page:
                new = rule.write(new)
        for number, (was, now) in enumerate(zip(old.splitlines(), new.splitlines(), strict=True), 1):
            if was != now:
                different = True
                print(f"{page}:{number}\n  has          {was}\n  measured was {now}")
        if new != old and not arguments.check:
            path.write_text(new)
        if arguments.without:
            print(f"{page}: no rule for {len(rows := without_rule(page, new))} rows: {'; '.join(rows)}")
    for source in sorted(missing):
        places = sum(rule.source == source for rule in RULES)
        print(f"NOT CHECKED: {places} rows; benchmarks/results/{source}.json does not exist yet; python {MADE_BY[source]}")
    if arguments.check and different:
        print("FAILED: the documentation's figures are not those of benchmarks/results; tools/figures.py rewrites them")
        return 1
    print(f"{len(rules)} rows and sentences have the figures of benchmarks/results")
    return 0


if __name__ == "__main__":
    sys.exit(main())
