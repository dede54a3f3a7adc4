"""LeNet in scikit-learn: a search over its parameters in a pipeline, on scikit-learn's digits (8x8 pixels).

pip install '.[sklearn]'
python examples/scikit_learn.py
"""

from __future__ import annotations

from sklearn.datasets import load_digits
from sklearn.metrics import classification_report
from sklearn.model_selection import GridSearchCV, train_test_split

from fastlenet.sklearn import LeNetClassifier


def main() -> float:
    """Returns the accuracy on the images that the search has not seen."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, stratify=y, random_state=0)
    search = GridSearchCV(LeNetClassifier(random_state=0), {"epochs": [5, 10], "shift": [0, 2]}, cv=3, n_jobs=2)
    search.fit(X_train, y_train)
    print(f"best parameters {search.best_params_}, accuracy in cross-validation {search.best_score_:.2%}")
    print(classification_report(y_test, search.predict(X_test), digits=3))
    return float(search.score(X_test, y_test))


if __name__ == "__main__":
    main()
