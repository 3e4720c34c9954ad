"""The plainest predictions of a frame from those before it, and errors beside theirs.

Whoever predicts one step ahead has to beat them: the mean frame of what was learned
from, the previous frame, and a vector autoregression of principal components.  All take
data to predict and data to learn from, and return predictions arranged like the former;
row t knows frames before t alone, and the first row of a sequence is the mean frame.
NaN is missing.
"""

from typing import Any

import numpy as np

__all__ = [
    "autoregression",
    "mean_frame",
    "mean_squared_error",
    "previous_frame",
]


def mean_squared_error(data: Any, predictions: Any) -> float:
    """Return the mean squared error of an entry, over all that were observed.

    Parameters
    ----------
    data : (T, P) or (N, T, P) array, or list of (T_n, P)
    predictions
        Of the same shapes, finite wherever something was observed.

    Raises
    ------
    ValueError
        If shapes differ, nothing was observed, or a prediction is not finite.
    """
    frames, predicted = _sequences("data", data), _sequences("predictions", predictions)
    shapes, others = ([each.shape for each in some] for some in (frames, predicted))
    if shapes != others:
        raise ValueError(f"predictions have shapes {others}, data {shapes}")
    total, number = 0.0, 0
    for index, (each, other) in enumerate(zip(frames, predicted, strict=True)):
        observed = ~np.isnan(each)
        errors = each[observed] - other[observed]
        if not np.isfinite(errors).all():
            raise ValueError(f"predictions: not finite somewhere in sequence {index}")
        total, number = total + float(np.sum(errors**2)), number + errors.size
    if number == 0:
        raise ValueError("data has no observed value: every entry is NaN")
    return total / number


def mean_frame(data: Any, train: Any) -> Any:
    """Predict every frame by the mean of each column in ``train``.

    Parameters
    ----------
    data, train : (T, P) or (N, T, P) array, or list of (T_n, P)

    Returns
    -------
    Arrays like ``data``.
    """
    mean = _mean(_sequences("train", train))
    frames = _sequences("data", data, len(mean))
    return _arranged(data, [np.tile(mean, (len(each), 1)) for each in frames])


def previous_frame(data: Any, train: Any) -> Any:
    """Predict every frame by the one before it: persistence.

    Each entry is the last value of its column that was observed, or the mean in
    ``train`` before there is one.  Parameters and result as of `mean_frame`.
    """
    mean = _mean(_sequences("train", train))
    return _arranged(
        data, [_carried(each, mean) for each in _sequences("data", data, len(mean))]
    )


def autoregression(
    data: Any, train: Any, num_components: int, ridge: float = 1e-3
) -> Any:
    r"""Predict every frame by a vector autoregression of principal components.

    VAR(1): the scores z of ``train`` on its D leading components are regressed,
    ``z' = A z + b``, with the penalty ``ridge * tr(Z'Z) / D`` on squares of A.  To the
    regression a missing entry is the mean, to predictions what was predicted of it.

    Parameters
    ----------
    data, train : (T, P) or (N, T, P) array, or list of (T_n, P)
    num_components : int
        D; not more than there are.
    ridge : float

    Returns
    -------
    Arrays like ``data``.

    Raises
    ------
    ValueError
        If there is no pair of neighbouring frames in ``train``.
    """
    learned = _sequences("train", train)
    mean = _mean(learned)
    centred = [each - mean for each in learned]
    known = [~np.isnan(each).all(axis=1) for each in centred]
    filled = [np.where(np.isnan(each), 0.0, each) for each in centred]
    rows = np.concatenate([f[k] for f, k in zip(filled, known, strict=True)])
    axes = _leading(rows, num_components)
    before, after = [], []
    for frames, some in zip(filled, known, strict=True):
        scores, both = frames @ axes, some[1:] & some[:-1]
        before.append(scores[:-1][both])
        after.append(scores[1:][both])
    x, y = np.concatenate(before), np.concatenate(after)
    if len(x) == 0:
        raise ValueError("train has no two frames next to each other")
    center, target = x.mean(axis=0), y.mean(axis=0)
    square = (x - center).T @ (x - center)
    penalty = ridge * np.trace(square) / len(square)
    cross = (x - center).T @ (y - target)
    # of components that never vary nothing is to be known
    A = np.linalg.lstsq(square + penalty * np.eye(len(square)), cross, rcond=None)[0].T
    b = target - A @ center
    results = []
    for frames in _sequences("data", data, len(mean)):
        predicted, now = [], mean
        for frame in frames:
            predicted.append(now)
            score = (np.where(np.isnan(frame), now, frame) - mean) @ axes
            now = mean + axes @ (A @ score + b)
        results.append(np.stack(predicted))
    return _arranged(data, results)


def _leading(rows: np.ndarray, number: int) -> np.ndarray:
    """Return the leading principal axes of rows (M, P), as columns (P, D)."""
    number = min(number, *rows.shape)
    if rows.shape[1] <= rows.shape[0]:
        return np.linalg.eigh(rows.T @ rows)[1][:, ::-1][:, :number]
    values, vectors = np.linalg.eigh(rows @ rows.T)
    axes = rows.T @ vectors[:, ::-1][:, :number]
    norms = np.sqrt(np.maximum(values[::-1][:number], np.finfo(float).tiny))
    return np.asarray(axes / norms)


def _carried(frames: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return what was last observed of every entry before each frame."""
    before = np.concatenate([mean[None], frames[:-1]])
    steps = np.arange(len(before))[:, None]
    last = np.maximum.accumulate(np.where(np.isnan(before), 0, steps), axis=0)
    return np.take_along_axis(before, last, axis=0)


def _mean(sequences: list[np.ndarray]) -> np.ndarray:
    """Return the mean of each column where it is observed, else 0."""
    observed = sum(np.sum(~np.isnan(each), axis=0) for each in sequences)
    total = sum(np.nansum(each, axis=0) for each in sequences)
    return np.asarray(total / np.maximum(observed, 1))


def _sequences(name: str, data: Any, columns: int | None = None) -> list[np.ndarray]:
    """Return sequences (T, P) of one number of columns."""
    several = not hasattr(data, "shape") or len(data.shape) == 3
    found = [
        np.asarray(each, dtype=np.float64)
        for each in (list(data) if several else [data])
    ]
    if not found:
        raise ValueError(f"{name} is empty")
    columns = found[0].shape[-1] if columns is None and found[0].ndim else columns
    for index, each in enumerate(found):
        if each.ndim != 2 or each.shape[1] != columns or not each.size:
            place = f"{name}[{index}]" if several else name
            raise ValueError(f"{place} has shape {each.shape}, wanted (T, {columns})")
    return found


def _arranged(data: Any, results: list[np.ndarray]) -> Any:
    """Arrange results of sequences as the data are."""
    if not hasattr(data, "shape"):
        return results
    return np.stack(results) if len(data.shape) == 3 else results[0]
