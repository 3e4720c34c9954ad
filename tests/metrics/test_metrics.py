"""Discrete states against labels, against hand computation and brute force."""

from itertools import combinations, permutations

import numpy as np
import pytest

from svae import metrics

AGREEMENTS = [
    metrics.accuracy,
    metrics.adjusted_rand_index,
    metrics.normalized_mutual_information,
    metrics.purity,
    metrics.entropy,
]
each_agreement = pytest.mark.parametrize("metric", AGREEMENTS)

# six steps: state 7 is pure, state 3 holds one label 1 and two labels 2
LABELS = [0, 0, 0, 1, 2, 2]
STATES = [7, 7, 7, 3, 3, 3]


def draw(seed, num_labels=3, num_states=4, num_steps=12):
    """Labels and states that agree more than by chance."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_labels, size=num_steps)
    noise = rng.integers(num_states, size=num_steps)
    states = np.where(rng.random(num_steps) < 0.5, labels % num_states, noise)
    return labels, states


def best_agreement(labels, states):
    """Largest number of equal steps over all one-to-one maps from states to names."""
    used = np.unique(states)
    names = [*np.unique(labels), *(-np.arange(2, 2 + len(used)))]  # or to no label
    return max(
        num_equal(labels, states, dict(zip(used, choice, strict=True)))
        for choice in permutations(names, len(used))
    )


def num_equal(labels, states, matching):
    return np.sum(labels == [matching.get(state, -1) for state in states])


# By hand


def test_contingency_by_hand():
    counts, labels, states = metrics.contingency(LABELS, STATES)
    np.testing.assert_array_equal(counts, [[0, 3], [1, 0], [2, 0]])
    np.testing.assert_array_equal(labels, [0, 1, 2])
    np.testing.assert_array_equal(states, [3, 7])
    assert counts.dtype == labels.dtype == states.dtype == np.int64


def test_agreement_by_hand():
    assert metrics.align_states(LABELS, STATES) == {3: 2, 7: 0}
    assert metrics.accuracy(LABELS, STATES) == 5 / 6
    assert metrics.purity(LABELS, STATES) == 5 / 6
    # of 15 pairs: 4 together in both, 4 by label, 6 by state; expected 4 * 6 / 15
    index = (4 - 1.6) / (5 - 1.6)
    assert metrics.adjusted_rand_index(LABELS, STATES) == pytest.approx(index, 1e-14)
    given_state = (np.log(3) + 2 * np.log(3 / 2)) / 6
    assert metrics.entropy(LABELS, STATES) == pytest.approx(given_state, rel=1e-14)
    of_labels = np.log(2) / 2 + np.log(6) / 6 + np.log(3) / 3
    information = of_labels - given_state
    expected = information / ((of_labels + np.log(2)) / 2)
    found = metrics.normalized_mutual_information(LABELS, STATES)
    assert found == pytest.approx(expected, rel=1e-14)


def test_more_states_than_labels_and_the_reverse():
    labels, states = [0, 0, 0, 1, 1], [4, 4, 5, 6, 6]
    assert metrics.align_states(labels, states) == {4: 0, 6: 1}
    assert metrics.accuracy(labels, states) == 4 / 5
    assert metrics.align_states(states, labels) == {0: 4, 1: 6}
    assert metrics.accuracy(states, labels) == 4 / 5


def test_the_greedy_matching_is_not_the_best():
    """Taking the largest count first, 5, leaves 0; the best is 4 + 4."""
    labels = np.repeat([0, 0, 1], [5, 4, 4])
    states = np.repeat([0, 1, 0], [5, 4, 4])
    assert metrics.align_states(labels, states) == {0: 1, 1: 0}
    assert metrics.accuracy(labels, states) == 8 / 13


def test_states_in_use():
    states = np.repeat([0, 1, 2, -1], [980, 10, 9, 5000])
    assert metrics.states_in_use(states[:999]) == 2
    assert metrics.states_in_use(states) == 2  # of the 999 that have a state
    assert metrics.states_in_use(states, share=0) == 3
    assert metrics.states_in_use(states, share=0.5) == 1
    assert metrics.states_in_use([[3, 3], [4]], share=0.4) == 1
    assert metrics.states_in_use([3, 4], share=0.5) == 2


# Brute force


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("sizes", [(3, 4), (4, 3), (2, 5), (1, 3), (3, 1)])
def test_accuracy_is_the_best_over_permutations(seed, sizes):
    labels, states = draw(seed, *sizes)
    best = best_agreement(labels, states)
    assert metrics.accuracy(labels, states) == best / len(labels)
    matching = metrics.align_states(labels, states)
    assert num_equal(labels, states, matching) == best
    assert len(matching) == min(len(set(labels)), len(set(states)))
    assert len(set(matching.values())) == len(matching)
    assert set(matching) <= set(states) and set(matching.values()) <= set(labels)


@pytest.mark.parametrize("seed", range(8))
def test_adjusted_rand_index_counts_pairs(seed):
    labels, states = draw(seed)
    pairs = list(combinations(range(len(labels)), 2))
    by_label = np.array([labels[i] == labels[j] for i, j in pairs])
    by_state = np.array([states[i] == states[j] for i, j in pairs])
    expected = by_label.sum() * by_state.sum() / len(pairs)
    largest = (by_label.sum() + by_state.sum()) / 2
    index = ((by_label & by_state).sum() - expected) / (largest - expected)
    found = metrics.adjusted_rand_index(labels, states)
    assert found == pytest.approx(index, rel=1e-12, abs=1e-14)


def test_adjusted_rand_index_is_zero_on_average_over_permutations():
    labels, states = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 1]
    found = [metrics.adjusted_rand_index(labels, p) for p in permutations(states)]
    assert min(found) < -0.1 and max(found) > 0.5
    assert np.mean(found) == pytest.approx(0.0, abs=1e-14)


@pytest.mark.parametrize("seed", range(8))
def test_information_from_the_joint_distribution(seed):
    labels, states = draw(seed)

    def entropy(*columns):
        _, counts = np.unique(np.stack(columns), axis=1, return_counts=True)
        return -np.sum(counts / len(labels) * np.log(counts / len(labels)))

    both, one, other = entropy(labels, states), entropy(labels), entropy(states)
    assert metrics.entropy(labels, states) == pytest.approx(both - other, abs=1e-13)
    found = metrics.normalized_mutual_information(labels, states)
    assert found == pytest.approx(2 * (one + other - both) / (one + other), abs=1e-13)


@pytest.mark.parametrize("seed", range(8))
def test_purity_is_the_vote_of_each_state(seed):
    labels, states = draw(seed)
    votes = sum(np.bincount(labels[states == k]).max() for k in np.unique(states))
    assert metrics.purity(labels, states) == votes / len(labels)


# Invariances


@each_agreement
@pytest.mark.parametrize("seed", range(4))
def test_names_and_order_do_not_matter(metric, seed):
    labels, states = draw(seed)
    rng = np.random.default_rng(100 + seed)
    value = metric(labels, states)
    renamed = metric(rng.permutation(50)[labels], rng.permutation(50)[states])
    order = rng.permutation(len(labels))
    assert renamed == pytest.approx(value, rel=1e-13, abs=1e-14)
    assert metric(labels[order], states[order]) == value


@pytest.mark.parametrize("seed", range(4))
def test_two_partitions_are_compared_alike_from_both_sides(seed):
    labels, states = draw(seed)
    for metric in AGREEMENTS[:3]:
        swapped = metric(states, labels)
        assert metric(labels, states) == pytest.approx(swapped, rel=1e-13, abs=1e-14)


@each_agreement
def test_sequences_are_pooled(metric):
    labels, states = draw(0)
    value = metric(labels, states)
    cut = metric([labels[:5], labels[5:]], [states[:5], states[5:]])
    assert cut == metric(labels.reshape(2, 6), states.reshape(2, 6)) == value
    assert metric(labels.tolist(), tuple(states.tolist())) == value
    assert metric([labels.astype(np.uint8)], [states.astype(np.int32)]) == value


@each_agreement
def test_steps_without_a_label_are_left_out(metric):
    labels, states = draw(0)
    value = metric(labels, states)
    longer = np.append(labels, [-1, -5, -1]), np.append(states, [0, 9, -1])
    assert metric(*longer) == value


@each_agreement
@pytest.mark.parametrize("classes", [[0] * 6, [0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 2, 2]])
def test_the_same_partition(metric, classes):
    best = 0.0 if metric is metrics.entropy else 1.0
    assert metric(classes, 5 - np.array(classes)) == pytest.approx(best, abs=1e-15)


def test_independent_states_say_nothing():
    labels, states = np.repeat([0, 1], 6), np.tile([0, 1, 2], 4)
    assert metrics.normalized_mutual_information(labels, states) == 0.0
    assert metrics.normalized_mutual_information(labels, np.zeros(12, int)) == 0.0
    assert metrics.entropy(labels, states) == pytest.approx(np.log(2), rel=1e-15)
    assert metrics.adjusted_rand_index(labels, np.zeros(12, int)) == 0.0
    assert metrics.adjusted_rand_index(labels, states) < 0.0


def test_a_single_step():
    for metric in AGREEMENTS:
        assert metric([3], [8]) == (0.0 if metric is metrics.entropy else 1.0)


def test_pairs_of_a_million_steps_do_not_overflow():
    labels = np.repeat(np.arange(4), 500_000)
    states = np.where(np.arange(2_000_000) % 10 == 0, (labels + 1) % 4, labels)
    # pairs of n steps, nearly n^2 / 2: together in both, by label or by state, all
    both, one, every = 4 * (0.225**2 + 0.025**2), 4 * 0.25**2, 1.0
    index = (both - one * one / every) / (one - one * one / every)
    found = metrics.adjusted_rand_index(labels, states)
    assert found == pytest.approx(index, rel=1e-5)
    assert metrics.accuracy(labels, states) == 0.9


# Change points


def test_change_points():
    np.testing.assert_array_equal(metrics.change_points([5, 5, 2, 2, 2, 5]), [2, 5])
    assert metrics.change_points([1]).shape == metrics.change_points([1, 1]).shape
    assert metrics.change_points([1]).dtype == np.int64
    one, two = metrics.change_points([np.array([0, 1]), np.array([2, 2, 3])])
    np.testing.assert_array_equal(one, [1])
    np.testing.assert_array_equal(two, [2])
    # what borders on a step without a state is no known change
    gaps = metrics.change_points([0, 0, -1, -1, 1, 2, -1])
    np.testing.assert_array_equal(gaps, [5])


def test_change_point_scores_by_hand():
    scores = metrics.change_point_scores([10, 20, 30], [12, 13, 29, 50], tolerance=2)
    assert scores == (2 / 4, 2 / 3, 4 / 7)
    assert scores.precision == 2 / 4 and scores.recall == 2 / 3
    precision, recall, f1 = scores
    assert f1 == pytest.approx(2 * precision * recall / (precision + recall), rel=1e-15)
    assert metrics.change_point_scores([10], [12], tolerance=1.9) == (0, 0, 0)
    assert metrics.change_point_scores([10, 11], [11, 10], tolerance=0) == (1, 1, 1)
    # one find close to two changes counts for one of them
    assert metrics.change_point_scores([10, 12], [11], tolerance=1) == (1, 1 / 2, 2 / 3)


def test_change_point_scores_without_changes():
    assert metrics.change_point_scores([], [], 3) == (1, 1, 1)
    assert metrics.change_point_scores([4], [], 3) == (1, 0, 0)
    assert metrics.change_point_scores([], [4], 3) == (0, 1, 0)


def test_change_points_are_matched_within_their_sequence():
    changes, found = [[5], [20], []], [[20], [5, 21], []]
    assert metrics.change_point_scores(changes, found, 1) == (1 / 3, 1 / 2, 2 / 5)


def largest_matching(changes, found, tolerance):
    """Size of a largest matching, over all choices for the first change."""
    if not changes:
        return 0
    rest = changes[1:]
    sizes = [largest_matching(rest, found, tolerance)]
    for j, step in enumerate(found):
        if abs(changes[0] - step) <= tolerance:
            left = found[:j] + found[j + 1 :]
            sizes.append(1 + largest_matching(rest, left, tolerance))
    return max(sizes)


@pytest.mark.parametrize("seed", range(40))
def test_the_matching_of_change_points_is_a_largest_one(seed):
    rng = np.random.default_rng(seed)
    changes = rng.choice(25, size=rng.integers(1, 7), replace=False).tolist()
    found = rng.choice(25, size=rng.integers(1, 7), replace=False).tolist()
    tolerance = int(rng.integers(0, 6))
    hits = largest_matching(changes, found, tolerance)
    scores = metrics.change_point_scores(changes, found, tolerance)
    assert scores.precision == hits / len(found)
    assert scores.recall == hits / len(changes)


# Refusals


@each_agreement
@pytest.mark.parametrize(
    ("labels", "states", "message"),
    [
        ([0, 1], [0, 1, 2], "labels has 2 steps, states has 3"),
        ([[0], [0, 1]], [[0], [0]], r"labels\[1\] has 2 steps, states\[1\] has 1"),
        ([[0], [0, 1]], [0, 0, 1], "labels has 2 sequences, states has 1"),
        ([0.0, 1.0], [0, 1], "labels has dtype float64, wanted integers"),
        ([0, 1], [0, np.nan], "states has dtype float64, wanted integers"),
        ([0, 1], ["a", "b"], "states has dtype <U1, wanted integers"),
        ([[0], [0.5]], [[0], [0]], r"labels\[1\] has dtype float64"),
        ([], [], "labels is empty"),
        ([0], np.array([], int), "states is empty"),
        ([[0], []], [[0], []], r"labels\[1\] is empty"),
        (3, 3, r"labels has shape \(\), wanted \(T,\)"),
        ([[[0]]], [[[0]]], r"labels\[0\] has shape \(1, 1\), wanted \(T,\)"),
        ([-1, -2], [0, 1], "labels is negative at every step"),
        ([-1, 2, 0], [-1, 0, -1], "states is -1 at step 2 of all, where labels is 0"),
    ],
)
def test_refuses(metric, labels, states, message):
    with pytest.raises(ValueError, match=message):
        metric(labels, states)


@pytest.mark.parametrize("share", [-0.1, 1.5, np.nan])
def test_states_in_use_refuses_a_share_outside_of_0_to_1(share):
    with pytest.raises(ValueError, match=r"share must be in \[0, 1\]"):
        metrics.states_in_use([0], share)


def test_states_in_use_refuses_no_states():
    with pytest.raises(ValueError, match="states is negative at every step"):
        metrics.states_in_use([-1, -1])
    with pytest.raises(ValueError, match="states is empty"):
        metrics.states_in_use([])


def test_change_points_refuses():
    with pytest.raises(ValueError, match="states has dtype float64"):
        metrics.change_points([0.0, 1.0])
    with pytest.raises(ValueError, match="changes has dtype float64"):
        metrics.change_point_scores([0.5], [1], 1)
    with pytest.raises(ValueError, match=r"found has shape \(\)"):
        metrics.change_point_scores([1], 1, 1)
    with pytest.raises(ValueError, match="changes has 2 sequences, found has 1"):
        metrics.change_point_scores([[1], [2]], [1, 2], 1)
    for tolerance in (-1, np.nan):
        with pytest.raises(ValueError, match="tolerance must not be negative"):
            metrics.change_point_scores([1], [1], tolerance)
