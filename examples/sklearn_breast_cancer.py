"""Benign or malignant, from 30 measurements of a cell: a linear model of scikit-learn, trained by three hospitals.

    python examples/data.py breast_cancer --trainer examples/sklearn_breast_cancer.py:BreastCancer --into trial

writes their data, configurations and the run, and says what to start.
"""

from sklearn.linear_model import SGDClassifier

from primep2p.adapters.base import Settings
from primep2p.adapters.sklearn import SklearnTrainer


class BreastCancer(SklearnTrainer):
    """Logistic regression, a minibatch at a time."""

    settings = {**SklearnTrainer.settings, "alpha": 0.001}  # noqa: RUF012

    def model(self, settings: Settings) -> SGDClassifier:
        return SGDClassifier(
            loss="log_loss", alpha=settings["alpha"], learning_rate="constant", eta0=settings["learning_rate"]
        )
