"""LeNetClassifier keeps scikit-learn's rules, and works where scikit-learn's own classifiers do."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastlenet import Recipe, get_num_threads, set_num_threads
from fastlenet.sklearn import LeNetClassifier

X, Y = load_digits(return_X_y=True)
WORDS = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])[Y]


def classifier(**parameters: Any) -> LeNetClassifier:
    return LeNetClassifier(**{"epochs": 2, "random_state": 0} | parameters)


def same_bits(one: LeNetClassifier, other: LeNetClassifier) -> bool:
    return one.model_.parameter_buffer.tobytes() == other.model_.parameter_buffer.tobytes()


# The rules that it does not keep, and why.
EXCEPTIONS = {
    "check_sample_weight_equivalence_on_dense_data": "An image that is left out or repeated changes the batches, and so the "
    "steps, as in scikit-learn's own classifiers that train by mini-batches.",
}


@pytest.mark.slow
@parametrize_with_checks([LeNetClassifier()])
def test_rules_of_scikit_learn(estimator: LeNetClassifier, check: Callable[[LeNetClassifier], None]) -> None:
    name = getattr(check, "func", check).__name__
    if name == "check_array_api_input":
        return  # it is about estimators that take arrays of other libraries, and skips all others
    if name in EXCEPTIONS:
        with pytest.raises(AssertionError):
            check(estimator)
    else:
        check(estimator)


def test_digits() -> None:
    fitted = classifier(epochs=6).fit(X[:1400], WORDS[:1400])
    probabilities = fitted.predict_proba(X[1400:])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(fitted.classes_[probabilities.argmax(axis=1)], fitted.predict(X[1400:]))
    np.testing.assert_array_equal(fitted.decision_function(X[1400:]).argmax(axis=1), probabilities.argmax(axis=1))
    np.testing.assert_allclose(fitted.predict_log_proba(X[1400:]), np.log(probabilities), rtol=1e-4, atol=1e-5)
    assert fitted.score(X[1400:], WORDS[1400:]) > 0.9
    assert list(fitted.classes_) == sorted(set(WORDS)) and fitted.n_features_in_ == 64
    assert fitted.n_iter_ == len(fitted.loss_curve_) == 6 and fitted.loss_ == fitted.loss_curve_[-1]
    assert not fitted.model_.training


def test_two_classes() -> None:
    of_two = Y < 2
    fitted = classifier().fit(X[of_two], WORDS[of_two])
    decisions = fitted.decision_function(X[of_two])
    np.testing.assert_array_equal(fitted.classes_[(decisions > 0).astype(int)], fitted.predict(X[of_two]))


def test_layouts_and_types_of_images_change_nothing() -> None:
    """Rows, images, images with a channel on either side; bytes are scaled by 255, whatever occurs."""
    rows = classifier().fit(X[:200], Y[:200])
    for images in (X.reshape(-1, 8, 8), X.reshape(-1, 1, 8, 8), X.reshape(-1, 8, 8, 1)):
        other = classifier().fit(images[:200], Y[:200])
        assert same_bits(rows, other)
        np.testing.assert_array_equal(other.predict_proba(images[200:300]), rows.predict_proba(X[200:300]))
    scaled = classifier().fit(X[:200] * 64 - 512, Y[:200])  # a power of two, and a whole number: exact in float32
    np.testing.assert_array_equal(scaled.predict_proba(X[200:300] * 64 - 512), rows.predict_proba(X[200:300]))
    with_bytes = classifier().fit((X[:200] * 15.9375).astype(np.uint8), Y[:200])
    assert with_bytes.score((X[:200] * 15.9375).astype(np.uint8), Y[:200]) > 0.5


def test_bytes_and_numbers_beyond_the_range_are_read_as_the_training_images_were() -> None:
    fitted = classifier(epochs=1).fit(X[:100], Y[:100])
    expected = fitted.predict_proba(X[100:150])
    np.testing.assert_array_equal(fitted.predict_proba(X[100:150].astype(np.uint8)), expected)
    loud = np.where(X[100:150] == 16, 99, np.where(X[100:150] == 0, -5, X[100:150]))
    np.testing.assert_array_equal(fitted.predict_proba(loud), expected)
    dim, first = X[:100].clip(max=15), classifier(warm_start=True, epochs=1)
    online = [clone(first).partial_fit(dim, Y[:100], classes=range(10)).partial_fit(x, Y[:100]) for x in (dim, X[:100])]
    assert same_bits(*online)  # 16 counts as 15
    assert same_bits(*(clone(first).fit(dim, Y[:100]).fit(x, Y[:100]) for x in (dim, X[:100])))


def test_images_of_another_shape_are_refused() -> None:
    """Though they have as many pixels."""
    fitted = classifier(epochs=0).fit(X[:50].reshape(-1, 8, 8), Y[:50])
    assert len(fitted.predict(X[:5])) == len(fitted.predict(X[:5].reshape(-1, 8, 8, 1))) == 5
    with pytest.raises(ValueError, match=r"X expects images of shape \(1, 8, 8\), .* got shape \(1, 4, 16\)"):
        fitted.predict(X[:5].reshape(-1, 4, 16))
    of_rows = classifier(epochs=0).fit(X[:50], Y[:50])
    assert len(of_rows.predict(X[:5].reshape(-1, 8, 8))) == 5
    with pytest.raises(ValueError, match=r"X expects images of shape \(1, 8, 8\)"):
        of_rows.predict(X[:5].reshape(-1, 16, 4))


def test_colours() -> None:
    colours = np.stack([X.reshape(-1, 8, 8)] * 3, axis=-1)
    fitted = classifier().fit(colours[:200], Y[:200])
    rows = np.moveaxis(colours, -1, 1).reshape(len(X), -1)
    of_rows = classifier(image_shape=(3, 8, 8)).fit(rows[:200], Y[:200])
    assert fitted.model_.input_shape == (3, 8, 8)
    assert same_bits(fitted, of_rows)


def test_threads_change_no_bit() -> None:
    fitted = [classifier(threads=threads).fit(X[:300], Y[:300]) for threads in (1, 2)]
    assert same_bits(*fitted)


def test_the_number_of_threads_is_restored() -> None:
    before = get_num_threads()
    set_num_threads(3)
    try:
        classifier(threads=1).fit(X[:50], Y[:50]).predict(X[:50])
        assert get_num_threads() == 3
    finally:
        set_num_threads(before)


def test_overlapping_fits_restore_the_number_of_threads() -> None:
    """As of two Python threads, where the first one ends first."""
    before = get_num_threads()
    one, two = (classifier(threads=threads)._own_threads() for threads in (before + 1, before + 2))
    for context in (one, two):
        context.__enter__()
    assert get_num_threads() == before + 2
    for context in (one, two):
        context.__exit__(None, None, None)
    assert get_num_threads() == before


_IN_WORKERS = """
import joblib
from fastlenet import get_num_threads, set_num_threads
from fastlenet.sklearn import LeNetClassifier

def threads_inside(classifier):
    set_num_threads(2)
    with classifier._own_threads():
        return get_num_threads()

print(threads_inside(LeNetClassifier()))
for backend in ("loky", "threading"):
    for classifier in (LeNetClassifier(), LeNetClassifier(threads=3)):
        print(joblib.Parallel(n_jobs=2, backend=backend)([joblib.delayed(threads_inside)(classifier)]))
"""


@pytest.mark.slow
def test_a_worker_of_joblib_computes_with_one_thread() -> None:
    """Unless it is told otherwise."""
    done = subprocess.run([sys.executable, "-c", _IN_WORKERS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "[1]", "[3]", "[1]", "[3]"]


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_in_a_pipeline_and_a_search(n_jobs: int) -> None:
    pipeline = make_pipeline(MinMaxScaler(clip=True), classifier())
    search = GridSearchCV(pipeline, {"lenetclassifier__epochs": [0, 3]}, cv=2, n_jobs=n_jobs)
    search.fit(X[:200], WORDS[:200])
    assert search.best_params_ == {"lenetclassifier__epochs": 3}
    again = clone(pipeline).set_params(lenetclassifier__epochs=3).fit(X[:200], WORDS[:200])
    assert same_bits(search.best_estimator_[-1], again[-1])


def test_in_cross_validation() -> None:
    scores = cross_val_score(classifier(epochs=3), X[:400], WORDS[:400], cv=2)
    assert scores.shape == (2,) and min(scores) > 0.5


def test_saved_by_joblib() -> None:
    fitted = classifier().fit(X[:200], WORDS[:200])
    file = io.BytesIO()
    joblib.dump(fitted, file)
    file.seek(0)
    loaded = joblib.load(file)
    np.testing.assert_array_equal(loaded.predict_proba(X[200:]), fitted.predict_proba(X[200:]))


def test_weights() -> None:
    """Of a class, those of its images; the product of both, where both are given."""
    of_images = np.where(Y[:300] == 3, 2.0, 1.0)
    by_class = classifier(class_weight={3: 2.0}).fit(X[:300], Y[:300])
    by_image = classifier().fit(X[:300], Y[:300], sample_weight=of_images)
    assert same_bits(by_class, by_image)
    assert not same_bits(by_image, classifier().fit(X[:300], Y[:300]))
    both = classifier(class_weight={3: 2.0}).fit(X[:300], Y[:300], sample_weight=of_images)
    assert same_bits(both, classifier().fit(X[:300], Y[:300], sample_weight=of_images**2))
    balanced = classifier(class_weight="balanced").fit(X[:300], Y[:300])
    counts = np.bincount(Y[:300])
    assert same_bits(balanced, classifier().fit(X[:300], Y[:300], sample_weight=(300 / 10 / counts)[Y[:300]]))


@pytest.mark.parametrize(
    ("weights", "message"),
    [(np.ones(3), "one weight for each image"), (np.zeros(50), "zero for all"), (np.full(50, np.nan), "sample_weight")],
    ids=["length", "zeros", "nan"],
)
def test_wrong_weights(weights: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classifier().fit(X[:50], Y[:50], sample_weight=weights)


def test_early_stopping() -> None:
    fitted = classifier(epochs=30, early_stopping=True, n_iter_no_change=2, validation_fraction=0.2).fit(X[:500], Y[:500])
    assert fitted.n_iter_ == len(fitted.validation_scores_) < 30
    assert fitted.best_validation_score_ == max(fitted.validation_scores_)
    assert fitted.validation_scores_.index(fitted.best_validation_score_) == fitted.n_iter_ - 3
    assert "has not improved for 2 epochs" in fitted.history_.stopped
    assert classifier().fit(X[:50], Y[:50]).best_validation_score_ is None


def test_early_stopping_validates_on_no_image_of_weight_zero() -> None:
    """However few have a weight: one of them is trained on, too."""
    for pair in ((0, 1), (11, 12), (3, 49)):
        weights = np.zeros(50)
        weights[list(pair)] = 1
        fitted = classifier(epochs=1, early_stopping=True).fit(X[:50], Y[:50], sample_weight=weights)
        assert fitted.best_validation_score_ in (0.0, 1.0)  # of one image
    with pytest.raises(ValueError, match="early_stopping expects at least two images of a weight above 0, got 1"):
        classifier(early_stopping=True).fit(X[:50], Y[:50], sample_weight=np.eye(50)[7])


def test_partial_fit() -> None:
    online = classifier()
    for start in range(0, 1200, 200):
        online.partial_fit(X[start : start + 200], WORDS[start : start + 200], classes=np.unique(WORDS))
    assert online.score(X[1200:], WORDS[1200:]) > 0.7
    assert online.n_iter_ == len(online.loss_curve_) == 6
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        classifier().partial_fit(X[:50], WORDS[:50])
    with pytest.raises(ValueError, match=r"y expects labels that are in classes, .* got \['ten'\]"):
        online.partial_fit(X[:2], ["one", "ten"])
    with pytest.raises(ValueError, match="classes expects those of the first call"):
        online.partial_fit(X[:2], ["one", "two"], classes=["one", "two"])
    with pytest.raises(ValueError, match="features"):
        online.partial_fit(X[:2, :49], ["one", "two"])


def test_warm_start() -> None:
    warm = classifier(warm_start=True, epochs=3).fit(X[:300], Y[:300])
    first = warm.loss_
    assert warm.fit(X[:300], Y[:300]).loss_ < first
    assert warm.n_iter_ == 3
    with pytest.raises(ValueError, match="warm_start expects the classes of the last fit"):
        warm.fit(X[:300], WORDS[:300])
    with pytest.raises(ValueError, match="warm_start expects images of the last fit's shape"):
        warm.fit(np.zeros((300, 7, 7)) + Y[:300, None, None], Y[:300])
    cold = classifier(epochs=3).fit(X[:300], Y[:300])
    kept = cold.model_.parameter_buffer.tobytes()
    assert cold.fit(X[:300], Y[:300]).model_.parameter_buffer.tobytes() == kept


def test_a_refused_fit_leaves_the_fitted_one_whole() -> None:
    """Its labels too: those of the refused fit would stand beside the network of the first."""
    fitted = classifier().fit(X[:200], Y[:200])
    expected = fitted.predict(X[200:220])
    with pytest.raises(ValueError, match="zero for all"):
        fitted.fit(X[:200], WORDS[:200], sample_weight=np.zeros(200))
    np.testing.assert_array_equal(fitted.predict(X[200:220]), expected)


def test_rows_that_are_no_squares() -> None:
    """Features that are no pixels fill the smallest square; image_shape says it otherwise."""
    fitted = classifier(epochs=10).fit(X[:600, 8:40], Y[:600])
    assert fitted.model_.input_shape == (1, 6, 6)
    assert fitted.score(X[600:, 8:40], Y[600:]) > 0.6
    assert classifier(image_shape=(4, 8)).fit(X[:50, 8:40], Y[:50]).model_.input_shape == (1, 4, 8)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"image_shape": (7, 9)}, r"image_shape .*whose product is 64, the number of features.*\(7, 9\)"),
        ({"recipe": "fats"}, "did you mean fast"),
        ({"recipe": 3}, "recipe .*a Recipe, or the name of one"),
        ({"epochs": -1}, "epochs"),
        ({"threads": 0}, "threads"),
        ({"image_shape": 8}, r"image_shape expects \(h, w\) or \(c, h, w\), got 8"),
        ({"early_stopping": 1}, "early_stopping"),
        ({"early_stopping": True, "validation_fraction": 1.0}, "validation_fraction"),
        ({"class_weight": "even"}, "class_weight"),
    ],
    ids=str,
)
def test_wrong_parameters(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        classifier(**parameters).fit(X[:100], Y[:100])


def test_a_recipe_of_ones_own() -> None:
    recipe = Recipe(optimizer="sgd", epochs=1, batch_size=8, shift=0)
    fitted = classifier(recipe=recipe, epochs=None, batch_size=None).fit(X[:100], Y[:100])
    assert fitted.n_iter_ == 1
    assert same_bits(fitted, classifier(recipe=recipe, epochs=1, batch_size=8).fit(X[:100], Y[:100]))


def test_the_network_answers_with_the_labels() -> None:
    images = (X[:60] * 15).astype(np.uint8)
    fitted = classifier(epochs=1).fit(images, Y[:60] + 1)
    assert fitted.model_.class_names == tuple(range(1, 11))
    np.testing.assert_array_equal(fitted.model_.predict(images.reshape(-1, 8, 8)), fitted.predict(images))
    assert classifier(epochs=0).fit(images, Y[:60] > 4).model_.class_names == ("False", "True")


def test_without_scikit_learn() -> None:
    program = "import sys; sys.modules['sklearn'] = None\nimport fastlenet.sklearn"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert "fastlenet.sklearn needs scikit-learn 1.6 or newer" in line and "pip install 'fastlenet[sklearn]'" in line
