"""Accuracy and time of LeNetClassifier on scikit-learn's digits, beside two of scikit-learn's own classifiers.

    python benchmarks/bench_sklearn.py [--seeds 10]

A quarter of the 1,797 images is the test set. The classifiers have their default parameters, except that MLPClassifier gets
standardised pixels and may train until it converges. The defaults of LeNetClassifier were chosen by cross-validation on the
other three quarters. The classifiers take turns, seed by seed. A time is the median of one `fit` with one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from fastlenet.sklearn import LeNetClassifier
from measuring import print_machine, print_table, save

CLASSIFIERS: dict[str, Callable[[int], Any]] = {
    "LeNetClassifier": lambda seed: LeNetClassifier(random_state=seed, threads=1),
    "MLPClassifier": lambda seed: make_pipeline(StandardScaler(), MLPClassifier(random_state=seed, max_iter=1000)),
    "SVC": lambda seed: SVC(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    print_machine()
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, stratify=y, random_state=0)
    accuracies: dict[str, list[float]] = {name: [] for name in CLASSIFIERS}
    seconds: dict[str, list[float]] = {name: [] for name in CLASSIFIERS}
    for seed in range(arguments.seeds):
        for name, make in CLASSIFIERS.items():
            classifier = make(seed)
            start = time.perf_counter()
            with threadpool_limits(limits=1):
                classifier.fit(X_train, y_train)
            seconds[name].append(time.perf_counter() - start)
            accuracies[name].append(classifier.score(X_test, y_test))
    found = {
        name: {
            "accuracy": statistics.mean(accuracies[name]),
            "deviation": statistics.stdev(accuracies[name]) if arguments.seeds > 1 else 0.0,
            "seconds": statistics.median(seconds[name]),
        }
        for name in CLASSIFIERS
    }
    rows = [[n, f"{f['accuracy']:.2%}", f"{f['deviation']:.2%}", f"{f['seconds']:.2f}"] for n, f in found.items()]
    print_table(["classifier", "accuracy", "deviation", "seconds of fit"], rows)
    save("bench_sklearn", {"seeds": arguments.seeds, "classifiers": found})


if __name__ == "__main__":
    main()
