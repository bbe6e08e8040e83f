"""What matched pairs add to accuracy: the texts of their rows read, and judged by the rules of their deployment."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from service.domain.deployment import Deployment, TargetType
from service.domain.stats.accuracy import PAIR_STRIDE, Accuracy, class_accuracy, predicted_class, regression_accuracy
from service.wire.values import Prediction, class_label, decode_predictions

_label = msgspec.json.Decoder(str)
_numbers = msgspec.json.Decoder(list[float])
_ABSENT = float("nan")


def accuracy_of(
    deployment: Deployment,
    models: Sequence[str],
    predictions: Sequence[bytes],
    actuals: Sequence[bytes],
    signs: NDArray[np.int64],
    groups: NDArray[np.int64],
    count: int,
) -> list[Accuracy]:
    """Accuracy added to each of `count` groups by the pairs (n,) of matched rows, given by their model and their texts.

    `signs` is -1 where a pair is taken away.
    """
    if deployment.target_type is TargetType.REGRESSION:
        return regression_accuracy(groups, count, signs, _floats(actuals), _floats(predictions))
    values = decode_predictions(predictions)
    classes = {actual: deployment.class_index[_label.decode(actual)] for actual in set(actuals)}
    truths = np.array([classes[actual] for actual in actuals], dtype=np.int64)
    judge = _judged_binary if deployment.target_type is TargetType.BINARY else _judged
    predicted, shares = judge(deployment, models, values, truths)
    return class_accuracy(groups, count, signs, truths * PAIR_STRIDE + predicted, shares)


def _floats(texts: Sequence[bytes]) -> NDArray[np.float64]:
    return np.array(_numbers.decode(b"[" + b",".join(texts) + b"]"), dtype=np.float64)


def _judged_binary(
    deployment: Deployment, models: Sequence[str], values: Sequence[Prediction | None], truths: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """As `_judged`, by columns."""
    if set(map(type, values)) != {dict}:
        return _judged(deployment, models, values, truths)
    positive, negative = _two_classes(deployment)
    scores = np.array([_score(value, positive, negative) for value in values])  # type: ignore[arg-type]
    limits = {model: deployment.threshold_of(model) for model in set(models)}
    reached = scores >= np.array([limits[model] for model in models])
    place = deployment.class_index[positive]
    predicted = np.where(reached, place, deployment.class_index[negative])
    return predicted, np.where(truths == place, scores, 1 - scores)


def _two_classes(deployment: Deployment) -> tuple[str, str]:
    """The positive and the other class of a binary deployment."""
    labels = list(deployment.class_index)
    positive = deployment.positive_class or labels[-1]
    return positive, next(label for label in labels if label != positive)


def _score(shares: Mapping[str, float], positive: str, negative: str) -> float:
    """Probability of the positive class; of two classes, one share gives the other."""
    return shares[positive] if positive in shares else 1 - shares[negative]


def _judged(
    deployment: Deployment, models: Sequence[str], values: Sequence[Prediction | None], truths: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Predicted class of each row, and the share it gave to the true class (NaN: it gave a label only)."""
    index = deployment.class_index
    labels = list(index)
    predicted, shares = [], []
    for model, value, truth in zip(models, values, truths.tolist(), strict=True):
        if isinstance(value, dict):
            full = _completed(deployment, value)
            predicted.append(predicted_class(full, index, deployment.positive_class, deployment.threshold_of(model)))
            shares.append(full.get(labels[truth], 0.0))
        else:
            predicted.append(index[class_label(value)])  # type: ignore[arg-type]
            shares.append(_ABSENT)
    return np.array(predicted, dtype=np.int64), np.array(shares)


def _completed(deployment: Deployment, shares: Mapping[str, float]) -> Mapping[str, float]:
    if deployment.target_type is not TargetType.BINARY:
        return shares
    positive, negative = _two_classes(deployment)
    score = _score(shares, positive, negative)
    return {positive: score, negative: 1 - score}
