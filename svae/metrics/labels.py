r"""Inferred discrete states compared with labels.

Names of states mean nothing: only which steps share one does.  So everything here but
the change points depends on the contingency table alone,

.. math:: n_{lk} = \#\{t : \text{label } l \text{ and state } k \text{ at step } t\},

with sums :math:`n_l, n_k` over its rows and columns and :math:`n` over all of it.

Labels and states are integers, (T,) of one sequence, or a list of such arrays (or the
rows of one array (N, T)), whose steps are pooled.  A negative label says that the step
has none, and the step is left out.  A negative state, which `kernels.viterbi` writes
past the length of a sequence, is refused at a step that has a label.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy

__all__ = [
    "ChangePointScores",
    "Contingency",
    "accuracy",
    "adjusted_rand_index",
    "align_states",
    "change_point_scores",
    "change_points",
    "contingency",
    "entropy",
    "normalized_mutual_information",
    "purity",
    "states_in_use",
]


class Contingency(NamedTuple):
    """How often each label meets each state."""

    counts: np.ndarray
    """(L, K) int64, :math:`n_{lk}`; no row and no column is zero."""
    labels: np.ndarray
    """(L,) int64, the labels that occur, ascending: names of the rows."""
    states: np.ndarray
    """(K,) int64, the states that occur, ascending: names of the columns."""


class ChangePointScores(NamedTuple):
    """How well found change points agree with the true ones."""

    precision: float
    """Matched share of those found; 1 if none was found."""
    recall: float
    """Matched share of the true ones; 1 if there are none."""
    f1: float
    """Harmonic mean of both; 1 if there are neither true nor found ones."""


def contingency(labels: Any, states: Any) -> Contingency:
    """Count the steps of each pair of label and state.

    Parameters
    ----------
    labels, states : (T,) integers, or list of such arrays
        Of the same lengths; a step whose label is negative is left out.

    Returns
    -------
    Contingency

    Raises
    ------
    ValueError
        If an argument is empty, not of integers, or not one-dimensional; if numbers or
        lengths of sequences differ; if no step has a label; if a step that has a label
        has a negative state.
    """
    labels, states = _paired(labels, states)
    label_names, rows = np.unique(labels, return_inverse=True)
    state_names, columns = np.unique(states, return_inverse=True)
    shape = (len(label_names), len(state_names))
    cells = rows * shape[1] + columns
    counts = np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)
    return Contingency(counts, label_names, state_names)


def assignment(counts: Any) -> tuple[Any, Any]:
    """Return rows and columns (min(L, K),) of counts (L, K) whose sum is largest."""
    return scipy.optimize.linear_sum_assignment(counts, maximize=True)


def align_states(labels: Any, states: Any) -> dict[int, int]:
    """Match states with labels, one to one, so that they agree at most steps.

    Parameters
    ----------
    labels, states : (T,) integers, or list of such arrays
        As `contingency` takes them, with what it raises.

    Returns
    -------
    dict
        From state to label, min(L, K) of them: where there are more states than labels,
        those that would add least agreement have no label, and the reverse.

    References
    ----------
    Kuhn (1955), "The Hungarian method for the assignment problem"; the solver is
    `scipy.optimize.linear_sum_assignment`.
    """
    counts, label_names, state_names = contingency(labels, states)
    rows, columns = assignment(counts)
    names = zip(state_names[columns].tolist(), label_names[rows].tolist(), strict=True)
    return dict(sorted(names))


def accuracy(labels: Any, states: Any) -> float:
    """Return the share of steps that agree after the matching of `align_states`.

    Parameters
    ----------
    labels, states : (T,) integers, or list of such arrays
        As `contingency` takes them, with what it raises.

    Returns
    -------
    float
        In (0, 1].  A state without a label agrees nowhere.
    """
    counts = contingency(labels, states).counts
    return float(counts[assignment(counts)].sum() / counts.sum())


def adjusted_rand_index(labels: Any, states: Any) -> float:
    """Return the agreement on pairs of steps, corrected for chance.

    Parameters
    ----------
    labels, states : (T,) integers, or list of such arrays
        As `contingency` takes them, with what it raises.

    Returns
    -------
    float
        1 for the same partition, 0 on average for random ones, and negative for less
        agreement than that.

    References
    ----------
    Hubert and Arabie (1985), "Comparing partitions".
    """
    counts = contingency(labels, states).counts
    # exact: products of two numbers of pairs leave the range of int64
    both, by_label, by_state, pairs = (
        int((n * (n - 1) // 2).sum())
        for n in (counts, counts.sum(1), counts.sum(0), counts.sum())
    )
    by_chance = by_label * by_state  # times 1 / pairs, on which we multiply through
    at_most = (by_label + by_state) * pairs
    if at_most == 2 * by_chance:  # both have one class, or both one for every step
        return 1.0
    return 2 * (both * pairs - by_chance) / (at_most - 2 * by_chance)


def normalized_mutual_information(labels: Any, states: Any) -> float:
    """Return the mutual information over the arithmetic mean of both entropies.

    Parameters
    ----------
    labels, states : (T,) integers, or list of such arrays
        As `contingency` takes them, with what it raises.

    Returns
    -------
    float
        In [0, 1]: 0 where labels and states are independent, 1 where they are the same
        partition, also if that has a single class.

    References
    ----------
    Vinh, Epps and Bailey (2010), "Information theoretic measures for clusterings
    comparison", where it is called NMI_sum.
    """
    counts = contingency(labels, states).counts
    n, by_label, by_state = counts.sum(), counts.sum(1), counts.sum(0)
    if counts.size == 1:
        return 1.0
    rows, columns = np.nonzero(counts)
    n_lk = counts[rows, columns]
    ratio = n * n_lk / (by_label[rows] * by_state[columns])
    information = np.sum(n_lk / n * np.log(ratio))
    entropies = [np.sum(m / n * np.log(n / m)) for m in (by_label, by_state)]
    return float(information / np.mean(entropies))


def purity(labels: Any, states: Any) -> float:
    """Return the share of steps with the most frequent label of their state.

    Parameters
    ----------
    labels, states : (T,) integers, or list of such arrays
        As `contingency` takes them, with what it raises.

    Returns
    -------
    float
        In (0, 1].  More states never lower it, so compare equal numbers of them.

    References
    ----------
    Manning, Raghavan and Schütze (2008), "Introduction to Information Retrieval",
    section 16.3; Lin et al. (2018) report it.
    """
    counts = contingency(labels, states).counts
    return float(counts.max(0).sum() / counts.sum())


def entropy(labels: Any, states: Any) -> float:
    r"""Return the entropy of the label given the state, in nats.

    .. math:: H(l \mid k) = \sum_k \frac{n_k}{n} \sum_l
        \frac{n_{lk}}{n_k} \log \frac{n_k}{n_{lk}}

    Parameters
    ----------
    labels, states : (T,) integers, or list of such arrays
        As `contingency` takes them, with what it raises.

    Returns
    -------
    float
        From 0, where every state is pure, to the entropy of the labels, where states
        say nothing about them.

    References
    ----------
    Lin et al. (2018) report it as "entropy".
    """
    counts = contingency(labels, states).counts
    rows, columns = np.nonzero(counts)
    n_lk, n_k = counts[rows, columns], counts.sum(0)[columns]
    return float(np.sum(n_lk * np.log(n_k / n_lk)) / counts.sum())


def states_in_use(states: Any, share: float = 0.01) -> int:
    """Count the states that hold at least a share of all steps.

    Parameters
    ----------
    states : (T,) integers, or list of such arrays
        Negative ones are left out.
    share : float
        In [0, 1]; with 0 every state that occurs counts.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If `states` is malformed (as in `contingency`) or nowhere a state, or if `share`
        is not in [0, 1].
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share must be in [0, 1], got {share!r}")
    pooled = np.concatenate(_as_sequences("states", states))
    pooled = pooled[pooled >= 0]
    if pooled.size == 0:
        raise ValueError("states is negative at every step")
    _, counts = np.unique(pooled, return_counts=True)
    return int(np.count_nonzero(counts >= share * pooled.size))


def change_points(states: Any) -> np.ndarray | list[np.ndarray]:
    """Return the steps at which the state is not that of the step before.

    Parameters
    ----------
    states : (T,) integers, or list of such arrays
        Next to a negative one nothing is known of a change, and none is returned.

    Returns
    -------
    (C,) int64, ascending, or list of such arrays
        Of each sequence for itself: its first step is no change.

    Raises
    ------
    ValueError
        If `states` is malformed, as in `contingency`.
    """
    found = []
    for sequence in _as_sequences("states", states):
        before, after = sequence[:-1], sequence[1:]
        changed = (before != after) & (before >= 0) & (after >= 0)
        found.append(np.flatnonzero(changed) + 1)
    return found if _is_several(states) else found[0]


def change_point_scores(
    changes: Any, found: Any, tolerance: float
) -> ChangePointScores:
    """Compare found change points with true ones, of which each counts once.

    A true and a found one may be matched if they are at most `tolerance` steps apart;
    the scores are those of a largest one-to-one matching.

    Parameters
    ----------
    changes, found : (C,) integers, or list of such arrays
        Steps in any order, as `change_points` returns them; possibly none.  Of several
        sequences, the matches are counted in each and added up.
    tolerance : float
        Steps, not negative.

    Returns
    -------
    ChangePointScores

    Raises
    ------
    ValueError
        If an argument is not of integers or not one-dimensional, if the numbers of
        sequences differ, or if `tolerance` is negative or NaN.
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance must not be negative, got {tolerance!r}")
    truth = _as_sequences("changes", changes, allow_empty=True)
    guess = _as_sequences("found", found, allow_empty=True)
    if len(truth) != len(guess):
        raise ValueError(
            f"changes has {len(truth)} sequences, found has {len(guess)} of them"
        )
    hits = sum(map(_num_matches, truth, guess, [tolerance] * len(truth)))
    num_true, num_found = sum(map(len, truth)), sum(map(len, guess))

    def share(part: int, whole: int) -> float:
        return part / whole if whole else 1.0

    return ChangePointScores(
        share(hits, num_found),
        share(hits, num_true),
        share(2 * hits, num_true + num_found),
    )


def _num_matches(changes: np.ndarray, found: np.ndarray, tolerance: float) -> int:
    """Size of a largest matching, greedily in time.

    The earliest change and the earliest find are matched if they may be: whichever two
    a matching gives them instead are later, and so may take each other.  If they may
    not, the earlier of them is too early for all that remain.
    """
    left, right = sorted(changes.tolist()), sorted(found.tolist())
    i = j = hits = 0
    while i < len(left) and j < len(right):
        if abs(left[i] - right[j]) <= tolerance:
            i, j, hits = i + 1, j + 1, hits + 1
        elif left[i] < right[j]:
            i += 1
        else:
            j += 1
    return hits


def _paired(labels: Any, states: Any) -> tuple[np.ndarray, np.ndarray]:
    """Labels and states of all steps that have a label."""
    rows, columns = _as_sequences("labels", labels), _as_sequences("states", states)
    if len(rows) != len(columns):
        raise ValueError(
            f"labels has {len(rows)} sequences, states has {len(columns)} of them"
        )
    for index, (row, column) in enumerate(zip(rows, columns, strict=True)):
        if len(row) != len(column):
            place = f"[{index}]" if len(rows) > 1 else ""
            raise ValueError(
                f"labels{place} has {len(row)} steps, states{place} has {len(column)}"
            )
    label, state = np.concatenate(rows), np.concatenate(columns)
    labelled = label >= 0
    if not labelled.any():
        raise ValueError("labels is negative at every step: none has a label")
    if (state[labelled] < 0).any():
        step = np.flatnonzero(labelled & (state < 0))[0]
        raise ValueError(
            f"states is {state[step]} at step {step} of all, where labels is "
            f"{label[step]}: only steps without a label may go without a state"
        )
    return label[labelled], state[labelled]


def _is_several(x: Any) -> bool:
    """Whether x is a list of arrays, or an array of rows, rather than one array."""
    if isinstance(x, (list, tuple)):
        return any(np.ndim(item) > 0 for item in x)
    return np.ndim(x) == 2


def _as_sequences(name: str, x: Any, *, allow_empty: bool = False) -> list[np.ndarray]:
    """Return one (T,) int64 array for each sequence."""
    if not _is_several(x):
        return [_as_sequence(name, x, allow_empty)]
    return [
        _as_sequence(f"{name}[{index}]", item, allow_empty)
        for index, item in enumerate(x)
    ]


def _as_sequence(name: str, x: Any, allow_empty: bool) -> np.ndarray:
    array = np.asarray(x)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}, wanted (T,)")
    if array.size == 0 and not allow_empty:
        raise ValueError(f"{name} is empty")
    if array.size and array.dtype.kind not in "biu":
        raise ValueError(f"{name} has dtype {array.dtype}, wanted integers")
    return array.astype(np.int64)
