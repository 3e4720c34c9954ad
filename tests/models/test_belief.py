"""Beliefs: sequences in two parts, the second of which begins where the first ended."""

import numpy as np
import pytest
from scipy.special import logsumexp

from svae.autodiff.trees import leaves, rebuild
from svae.autodiff.vjp import trace
from svae.families import product
from svae.models import Belief, belief_after
from svae.models.evidence import Evidence
from svae.testing import (
    latent_model,
    local_problem,
    path_joint,
    paths_of,
    relative_error,
    typical_natparams,
    typical_theta,
)

EXACT = ["lds", "affine-lds"]
SWITCHING = ["hmm", "slds", "affine-slds"]


def chain(name, rng, kind="expectation"):
    """A model, its message and dense potentials of three sequences of 7 steps.

    With ``kind`` "certain" the states go round and round, and inference is exact.
    """
    latent = latent_model(name)
    if kind == "expectation":
        natparams = typical_natparams(latent, rng)
        stats = product.expected_stats(latent.family, natparams)
    else:
        theta = typical_theta(latent, rng)
        if kind == "certain":
            theta["weights"] = np.array([1.0, 0.0, 0.0])
            theta["transitions"] = np.eye(3)[[1, 2, 0]]
        stats = product.stats(latent.family, theta)
    _, node, _ = local_problem(latent, rng, (7, 7, 7), dense=True)
    return latent, stats, node


def cut(latent, stats, node, step):
    """Return the whole, the part before ``step``, and the rest given what it says.

    The rest begins with the last frame of the first part, whose potential the belief
    has used up already.
    """
    J, h = (part[:, step - 1 :].copy() for part in node)
    J[:, 0], h[:, 0] = 0.0, 0.0
    whole = latent.infer(stats, Evidence(*node))
    first = latent.infer(stats, Evidence(*tuple(part[:, :step] for part in node)))
    observed = np.ones(h.shape[:2], dtype=bool)
    observed[:, 0] = False
    rest = latent.infer(
        stats, Evidence(J, h, observed=observed, belief=belief_after(first, None))
    )
    return whole, first, rest


@pytest.mark.parametrize("step", [1, 3, 6])
@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in EXACT for kind in ("expectation", "theta")]
    + [(name, "certain") for name in SWITCHING],
)
def test_two_parts_say_what_the_whole_says(name, kind, step, rng):
    """log p(y) = log p(y_1) + log p(y_2 | y_1); smoothing goes on from the filter."""
    latent, stats, node = chain(name, rng, kind)
    whole, first, rest = cut(latent, stats, node, step)
    total = first.log_normalizer + rest.log_normalizer
    assert relative_error(total, whole.log_normalizer) < 1e-10
    later = slice(1, None) if name == "hmm" else slice(None)  # see the test below
    for field in ("mean", "second_moment"):
        got, want = getattr(rest, field), getattr(whole, field)[:, step - 1 :]
        assert relative_error(got[:, later], want[:, later]) < 1e-10
    if rest.states is not None:
        np.testing.assert_allclose(rest.states, whole.states[:, step - 1 :], atol=1e-12)


@pytest.mark.parametrize("name", EXACT)
def test_divergences_of_the_parts_add_up(name, rng):
    """KL of the whole against the prior chain: evidence - log normalizer."""
    latent, stats, node = chain(name, rng)
    whole, first, rest = cut(latent, stats, node, 4)
    evidence = sum(
        np.einsum("ntij,ntij->n", J, local.second_moment)
        + np.einsum("nti,nti->n", h, local.mean)
        for local, J, h in (
            (first, node[0][:, :4], node[1][:, :4]),
            (rest, *(zero_first(part[:, 3:]) for part in node)),
        )
    )
    total = first.log_normalizer + rest.log_normalizer
    assert relative_error(first.kl + rest.kl, evidence - total) < 1e-10
    assert relative_error(total, whole.log_normalizer) < 1e-10


def zero_first(part):
    part = part.copy()
    part[:, 0] = 0.0
    return part


@pytest.mark.parametrize("name", [*EXACT, *SWITCHING])
def test_belief_after_is_the_law_of_the_last_step(name, rng):
    latent, stats, node = chain(name, rng)
    lengths = np.array([7, 1, 4])
    local = latent.infer(stats, Evidence(*node, lengths))
    belief = belief_after(local, lengths)
    assert belief.given.all()
    for n, last in enumerate(lengths - 1):
        mean = local.mean[n, last]
        cov = local.second_moment[n, last] - np.outer(mean, mean)
        precision = np.linalg.inv(cov)
        assert relative_error(belief.J[n], -0.5 * precision) < 1e-10
        assert relative_error(belief.h[n], precision @ mean) < 1e-10
        if name in SWITCHING:
            want = np.log(local.states[n, last])
            np.testing.assert_allclose(belief.states[n], want, rtol=1e-12)
    if name in EXACT:
        assert belief.states is None
    full = belief_after(latent.infer(stats, Evidence(*node)), None)
    alone = belief_after(
        latent.infer(stats, Evidence(*tuple(part[:1] for part in node))), None
    )
    assert relative_error(full.J[:1], alone.J) < 1e-12


def random_belief(rng, given, states):
    number = len(given)
    root = rng.standard_normal((number, 2, 2))
    J = -0.5 * (root @ np.swapaxes(root, -1, -2) + np.eye(2))
    log_probs = np.log(rng.dirichlet(np.ones(3), number)) if states else None
    return Belief(np.asarray(given), J, rng.standard_normal((number, 2)), log_probs)


@pytest.mark.parametrize("name", [*EXACT, *SWITCHING])
def test_only_sequences_that_have_a_belief_use_it(name, rng):
    latent, stats, node = chain(name, rng)
    lengths = np.array([4, 7, 2])
    belief = random_belief(rng, [True, False, True], name in SWITCHING)
    everyone = belief._replace(given=np.ones(3, dtype=bool))
    mixed = latent.infer(stats, Evidence(*node, lengths, belief=belief))
    with_it = latent.infer(stats, Evidence(*node, lengths, belief=everyone))
    without = latent.infer(stats, Evidence(*node, lengths))
    for field in ("kl", "log_normalizer", "mean", "second_moment", "half_log_det"):
        got = getattr(mixed, field)
        for n, want in enumerate((with_it, without, with_it)):
            np.testing.assert_allclose(got[n], getattr(want, field)[n], atol=1e-11)
    difference = with_it.log_normalizer - without.log_normalizer
    assert np.all(np.abs(difference) > 1e-3)


@pytest.mark.parametrize("name", [*EXACT, *SWITCHING])
def test_a_belief_takes_the_place_of_the_initial_factor(name, rng):
    """No gradient comes back for the factor that was not used."""
    latent, stats, node = chain(name, rng)
    belief = random_belief(rng, [True, True, True], name in SWITCHING)

    def value(*boxes):
        stats_, node_ = rebuild((stats, node), boxes)
        local = latent.infer(stats_, Evidence(*node_, belief=belief))
        return (np.sum(np.array([1.0, 2.0, 3.0]) * local.kl),)

    pull_back, _ = trace(value, leaves((stats, node)))
    stats_bar, _ = rebuild((stats, node), pull_back(1.0))
    unused = set(stats) & {"init", "weights"}
    for factor, parts in stats_bar.items():
        largest = max(np.max(np.abs(part)) for part in parts)
        assert (largest == 0.0) == (factor in unused), factor


@pytest.mark.parametrize("name", ["slds", "affine-slds"])
@pytest.mark.parametrize("kind", ["expectation", "theta"])
def test_the_surrogate_given_a_belief_is_below_every_path(name, kind, rng):
    latent, stats, node = chain(name, rng, kind)
    node = tuple(part[:, :4] for part in node)
    belief = random_belief(rng, [True, True, True], True)
    local = latent.infer(stats, Evidence(*node, belief=belief))
    for n in range(3):
        joints = [
            path_joint(
                stats,
                path,
                2,
                tuple(part[n] for part in node),
                (belief.J[n], belief.h[n], belief.states[n]),
            )
            for path in paths_of(3, 4)
        ]
        exact = logsumexp([joint.log_integral() for joint in joints])
        assert 1e-6 < exact - local.log_normalizer[n] < 4.0


@pytest.mark.parametrize("name", EXACT)
def test_the_normalizer_given_a_belief_is_that_of_the_dense_joint(name, rng):
    latent, stats, node = chain(name, rng)
    belief = random_belief(rng, [True, True, True], False)
    local = latent.infer(stats, Evidence(*node, belief=belief))
    for n in range(3):
        potentials = tuple(part[n] for part in node)
        given = belief.J[n], belief.h[n], None
        joint = path_joint(stats, (0,) * 7, 2, potentials, given)
        assert relative_error(local.log_normalizer[n], joint.log_integral()) < 1e-11
        assert relative_error(local.half_log_det[n], joint.half_log_det) < 1e-10
        assert relative_error(local.mean[n].ravel(), joint.mean) < 1e-11


def test_the_frame_of_a_belief_says_nothing_of_an_hmm_twice(rng):
    """Its x is tied to the rest by the state alone: q(x) there is the components'."""
    latent, stats, node = chain("hmm", rng)
    _, first, rest = cut(latent, stats, node, 3)
    belief = belief_after(first, None)
    np.testing.assert_allclose(np.exp(belief.states).sum(1), 1.0, rtol=1e-12)
    J, h = stats["components"][:2]
    means = np.linalg.solve(-(J + np.swapaxes(J, -1, -2)), h[..., None])[..., 0]
    assert relative_error(rest.mean[:, 0], rest.states[:, 0] @ means) < 1e-11
