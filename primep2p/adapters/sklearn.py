"""A trainer whose model is a linear estimator of scikit-learn with `partial_fit`. Needs the extra:
pip install 'primep2p[sklearn]'.

`coef_` and `intercept_` are the params. An estimator's own counters begin anew each round, so its learning rate must
not fall with them: take `learning_rate="constant"`. Averaging linear models is sound where all see x in the same units:
see `shift` and `scale`.
"""

from abc import abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import is_classifier

from primep2p.adapters.base import Adapter, Examples, Learner, Settings, cross_entropy
from primep2p.plugin.api import Arrays, Metrics, Misconfigured, Params

__all__ = ["SklearnTrainer"]

Array = npt.NDArray[Any]


class SklearnTrainer(Adapter):
    """A subclass says `model`: SGDClassifier, SGDRegressor, Perceptron, or another that has `partial_fit`, `coef_` and
    `intercept_`. `features` and `classes` are as the creator's data has where they are 0."""

    settings = {**Adapter.settings, "features": 0, "classes": 0}  # noqa: RUF012  # see Adapter

    @abstractmethod
    def model(self, settings: Settings) -> Any:
        """An estimator that is not fitted."""

    def first(self, settings: Settings, seed: int, examples: Examples | None) -> Params:
        """Zeros: these problems are convex."""
        is_about_classes = is_classifier(self.model(settings))
        if examples is None and not (settings["features"] and (settings["classes"] or not is_about_classes)):
            raise Misconfigured("trainer_config.features and classes must be set, or trainer.data of the run's creator")
        features = settings["features"] or examples.x.shape[1]  # type: ignore[union-attr]
        rows = 1
        if is_about_classes:
            classes = settings["classes"] or int(examples.y.max()) + 1  # type: ignore[union-attr]
            rows = classes if classes > 2 else 1
        return {"coef": np.zeros((rows, features), np.float32), "intercept": np.zeros(rows, np.float32)}

    def learner(self, params: Params, settings: Settings) -> Learner:
        """See `Adapter`."""
        estimator = self.model(settings)
        return _Classifier(estimator, params) if is_classifier(estimator) else _Regressor(estimator, params)

    def metrics(self, outputs: Array, y: Array) -> Metrics:
        """See `Adapter`; of numbers the mean squared error."""
        return super().metrics(outputs, y) if outputs.ndim == 2 else {"loss": float(((outputs - y) ** 2).mean())}

    def answers(self, outputs: Array) -> Arrays:
        """See `Adapter`."""
        return super().answers(outputs) if outputs.ndim == 2 else {"y": outputs}


class _Classifier:
    """Scores are those of `decision_function`; of two classes the first has none of its own."""

    def __init__(self, estimator: Any, params: Params) -> None:
        rows, features = params["coef"].shape
        self._classes = np.arange(max(2, rows))
        self._estimator = estimator
        blank = np.zeros((len(self._classes), features))
        estimator.partial_fit(blank, self._classes, classes=self._classes)  # makes its arrays
        estimator.coef_ = params["coef"].astype(np.float64)
        estimator.intercept_ = params["intercept"].astype(np.float64)

    def step(self, x: Array, y: Array) -> float:
        loss = cross_entropy(self.outputs(x), y)
        self._estimator.partial_fit(x.astype(np.float64), y)  # as its arrays are
        return loss

    def outputs(self, x: Array) -> Array:
        scores = self._estimator.decision_function(x.astype(np.float64))
        return np.stack([np.zeros_like(scores), scores], axis=1) if scores.ndim == 1 else scores

    def params(self) -> Params:
        return _params_of(self._estimator)


class _Regressor:
    def __init__(self, estimator: Any, params: Params) -> None:
        self._estimator = estimator
        estimator.partial_fit(np.zeros((1, params["coef"].shape[1])), np.zeros(1))
        estimator.coef_ = params["coef"][0].astype(np.float64)
        estimator.intercept_ = params["intercept"].astype(np.float64)

    def step(self, x: Array, y: Array) -> float:
        loss = float(((self.outputs(x) - y) ** 2).mean())
        self._estimator.partial_fit(x.astype(np.float64), y)  # as its arrays are
        return loss

    def outputs(self, x: Array) -> Array:
        outputs: Array = self._estimator.predict(x.astype(np.float64))
        return outputs

    def params(self) -> Params:
        return _params_of(self._estimator)


def _params_of(estimator: Any) -> Params:
    coef = np.atleast_2d(estimator.coef_).astype(np.float32)
    return {"coef": coef, "intercept": np.atleast_1d(estimator.intercept_).astype(np.float32)}
