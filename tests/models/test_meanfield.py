"""The mean-field fixed point and its implicit derivative."""

import warnings
from functools import partial

import numpy as np
import pytest
from autograd.core import make_vjp

from svae import GMM, ConvergenceWarning, NotPositiveDefinite, kernels
from svae.autodiff.trees import from_vector, leaves, rebuild, to_vector
from svae.autodiff.vjp import trace
from svae.families import product
from svae.models import Diagnostics
from svae.models.evidence import Evidence
from svae.models.inference.fixed_point import GRADIENT_TOLERANCE, conjugate_gradients
from svae.models.inference.switching import markov_potentials, solver, state_potentials
from svae.networks import recognize
from svae.objective.bound import bound_and_gradients
from svae.objective.local import infer
from svae.testing import (
    differences,
    latent_model,
    local_problem,
    relative_error,
    typical_theta,
)
from svae.testing.problems import MEAN_FIELD, STUDENT
from tests.helpers.problems import problem

every_model = pytest.mark.parametrize("name", (*MEAN_FIELD, *STUDENT))


@every_model
@pytest.mark.parametrize("start", ["data", "prior"])
def test_every_update_raises_the_surrogate(name, start):
    stats, node, lengths = far_apart(name)
    values = []
    for rounds in range(1, 15):
        capped = latent_model(
            name, tolerance=0.0, max_iterations=rounds, starts=(start,)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            values.append(capped.infer(stats, Evidence(*node, lengths)).log_normalizer)
    assert np.all(np.diff(values, axis=0) > -1e-12)
    assert np.any(np.diff(values, axis=0) > 1e-6)


def far_apart(name):
    """One problem of 30 sequences with optima that depend on the start.

    Tight laws of the states that are far apart, and vague observations.
    """
    latent, rng = latent_model(name), np.random.default_rng(0)
    theta = typical_theta(latent, rng, precision=4.0, spread=2.0)
    lengths = tuple(rng.integers(1, 9, 30))
    _, (J, h), lengths = local_problem(latent, rng, lengths)
    return product.stats(latent.family, theta), (2 * J, 6 * h), lengths


@every_model
def test_of_two_starts_the_higher_end_is_kept(name):
    stats, node, lengths = far_apart(name)

    def ends(*starts):
        return latent_model(name, starts=starts).infer(stats, Evidence(*node, lengths))

    data, prior, both = ends("data"), ends("prior"), ends("data", "prior")
    heights = data.log_normalizer, prior.log_normalizer
    np.testing.assert_allclose(both.log_normalizer, np.max(heights, axis=0), atol=1e-12)
    spent = data.diagnostics.iterations + prior.diagnostics.iterations
    np.testing.assert_array_equal(both.diagnostics.iterations, spent)
    for n, higher in enumerate(np.argmax(heights, axis=0)):
        if abs(heights[0][n] - heights[1][n]) > 1e-9:
            want = (data, prior)[higher].states[n]
            np.testing.assert_allclose(both.states[n], want, atol=1e-12)
    assert np.any(np.abs(heights[0] - heights[1]) > 1e-3), "one optimum is no test"


@every_model
def test_a_warm_start_at_the_fixed_point_stays_there(name, rng):
    latent = latent_model(name, tolerance=1e-8)
    stats, node, lengths = local_problem(latent, rng)
    cold = latent.infer(stats, Evidence(*node, lengths))
    assert cold.diagnostics.iterations.max() > 3
    warm = latent.infer(stats, Evidence(*node, lengths), starts=[cold.states])
    if name not in STUDENT:  # where a start says nothing of the scales
        assert warm.diagnostics.iterations.max() <= 2
    np.testing.assert_allclose(warm.states, cold.states, rtol=0, atol=1e-7)
    np.testing.assert_allclose(warm.log_normalizer, cold.log_normalizer, rtol=1e-12)


@every_model
def test_given_starts_compete(name):
    """The best of several starts is kept, sequence by sequence."""
    stats, node, lengths = far_apart(name)
    latent = latent_model(name)
    fallback = latent.infer(stats, Evidence(*node, lengths))
    rng = np.random.default_rng(1)
    draws = rng.dirichlet(np.ones(3), (4, *node[1].shape[:2]))
    each = [
        latent.infer(stats, Evidence(*node, lengths), starts=[draw]).log_normalizer
        for draw in draws
    ]
    together = latent.infer(stats, Evidence(*node, lengths), starts=list(draws))
    np.testing.assert_allclose(together.log_normalizer, np.max(each, 0), atol=1e-12)
    assert np.max(np.abs(np.max(each, 0) - np.min(each, 0))) > 0
    assert together.states.shape == fallback.states.shape


OUTPUTS = (
    "kl",
    "mean",
    "second_moment",
    "states",
    "samples",
    "log_normalizer",
    "state_potentials",
)


@every_model
@pytest.mark.parametrize("dense", [False, True], ids=["diagonal", "dense"])
def test_implicit_gradient_equals_differences_of_the_fixed_point(name, dense, rng):
    """Of every output in every leaf of m and of the node potentials."""
    latent = latent_model(name, tolerance=1e-14)
    stats, node, lengths = local_problem(latent, rng, dense=dense)
    inputs = stats, node
    noise = rng.standard_normal((4, 2, *node[1].shape[1:]))

    def evaluate(tree):
        stats, node = tree
        local = latent.infer(stats, Evidence(*node, lengths), noise)
        return [getattr(local, output) for output in OUTPUTS]

    pull_back, values = trace(
        lambda *boxes: tuple(evaluate(rebuild(inputs, boxes))), leaves(inputs)
    )
    bars = [rng.standard_normal(np.shape(value)) for value in values]
    gradients = [pull_back(*[None] * k, bar) for k, bar in enumerate(bars)]
    start = to_vector(inputs)
    for position, leaf in enumerate(leaves(inputs)):
        directions = [np.zeros(np.shape(x)) for x in leaves(inputs)]
        directions[position] = draw = symmetric_draw(leaf, rng)
        slopes = differences(
            lambda x: evaluate(from_vector(inputs, x)), start, to_vector(directions)
        )
        for k, output in enumerate(OUTPUTS):
            got = np.sum(gradients[k][position] * draw)
            want = np.sum(slopes[k] * bars[k])
            assert relative_error(got, want) < 1e-6, (output, position)


def symmetric_draw(leaf, rng):
    """Draw a small direction, symmetric where the leaf holds symmetric matrices."""
    draw = 0.25 * rng.standard_normal(np.shape(leaf))
    if draw.ndim >= 2 and draw.shape[-1] == draw.shape[-2]:
        transposed = np.swapaxes(leaf, -1, -2)
        if np.allclose(leaf, transposed, rtol=0, atol=1e-12):
            draw = draw + np.swapaxes(draw, -1, -2)
    return draw


@every_model
def test_cotangents_of_symmetric_matrices_are_symmetric(name, rng):
    latent = latent_model(name)
    *inputs, lengths = local_problem(latent, rng, dense=True)

    def kl(*boxes):
        stats, node = rebuild(inputs, boxes)
        local = latent.infer(stats, Evidence(*node, lengths))
        return (local.kl @ np.arange(1.0, 5.0),)

    pull_back, _ = trace(kl, leaves(inputs))
    stats_bar, node_bar = rebuild(inputs, pull_back(1.0))
    matrices = {"node": node_bar[0]}
    for factor in ("components", "init"):
        if factor in stats_bar:
            matrices[factor] = stats_bar[factor][0]
    if "dynamics" in stats_bar:
        matrices["J11"], _, matrices["J22"], _ = stats_bar["dynamics"]
    for label, bar in matrices.items():
        assert relative_error(bar, np.swapaxes(bar, -1, -2)) < 1e-12, label


@every_model
def test_truncated_gradient_would_be_wrong(name):
    """One more block update, as earlier code had it, is not the derivative."""
    latent, rng = latent_model(name, tolerance=1e-14), np.random.default_rng(0)
    stats, (J, h), lengths = local_problem(latent, rng)
    if lengths is None:
        lengths = np.ones(len(h), dtype=int)
    known, switch = Evidence(None, None, lengths), latent.switch
    rows, (init, pair) = switch.natparams(stats), markov_potentials(stats)
    solve = solver(switch, 1e-14, 1000, ("data",))
    solved = partial(solve, None, known, init, pair, *rows, J)
    fixed = solved(h)[0]
    cotangent = rng.standard_normal(fixed.shape)

    def update(h):
        evidence = known.with_node(J, h)
        linear = switch.factor(fixed, rows, evidence).linear
        linear, potentials = state_potentials(switch, linear, rows, evidence)
        states = kernels.markov_chain(init, pair, potentials, lengths)[1][2]
        return states if switch.conjugate else states * switch.gain(linear, rows)

    np.testing.assert_allclose(update(h), fixed, rtol=0, atol=1e-13)
    full = make_vjp(lambda h: solved(h)[0], h)[0](cotangent)
    truncated = make_vjp(update, h)[0](cotangent)
    assert relative_error(truncated, full) > 0.05


@every_model
def test_a_sequence_does_not_depend_on_its_neighbours(name, rng):
    """Up to rounding: BLAS multiplies all frames of a batch at once."""
    latent = latent_model(name, tolerance=1e-10)
    stats, node, lengths = local_problem(latent, rng, (5, 3, 1, 4, 9, 2, 2, 7, 6))
    noise = rng.standard_normal((9, 2, *node[1].shape[1:]))
    together = latent.infer(stats, Evidence(*node, lengths), noise)
    for n in range(len(node[1])):
        one = slice(n, n + 1)
        steps = node[1].shape[1] if lengths is None else lengths[n]
        alone = latent.infer(
            stats, Evidence(*tuple(x[one, :steps] for x in node)), noise[one, :, :steps]
        )
        assert alone.diagnostics.iterations[0] == together.diagnostics.iterations[n]
        for field in ("kl", "log_normalizer", "half_log_det"):
            got, want = getattr(together, field)[n], getattr(alone, field)[0]
            assert abs(got - want) < 1e-13 * (1 + abs(want)), field
        for field in ("mean", "second_moment", "states", "state_potentials"):
            got, want = getattr(together, field)[n, :steps], getattr(alone, field)[0]
            np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-13)
        got = together.samples[n, :, :steps]
        np.testing.assert_allclose(got, alone.samples[0], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("filler", [1e3, np.nan])
@pytest.mark.parametrize("name", ["hmm", "lds", "affine-lds", "slds", "affine-slds"])
def test_what_lies_past_the_lengths_is_not_read(name, filler, rng):
    latent = latent_model(name)
    stats, node, lengths = local_problem(latent, rng)
    noise = rng.standard_normal((4, 2, *node[1].shape[1:]))
    past = np.arange(node[1].shape[1]) >= lengths[:, None]
    dirty = tuple(np.where(past[..., None], filler, x) for x in node)
    want = latent.infer(stats, Evidence(*node, lengths), noise)
    got = latent.infer(stats, Evidence(*dirty, lengths), noise)
    for name, field in want._asdict().items():
        for a, b in zip(leaves(getattr(got, name)), leaves(field), strict=True):
            np.testing.assert_array_equal(a, b)
    assert got.states is None or np.all(got.states[past] == 0)
    assert np.all(got.mean[past] == 0)


@every_model
@pytest.mark.parametrize("start", ["data", "prior"])
def test_an_improper_potential_is_named(name, start, rng):
    latent = latent_model(name, starts=(start,))
    stats, (J, h), lengths = local_problem(latent, rng)
    step = 0 if latent.independent else 2
    J[1, step] = 1e3
    with pytest.raises(NotPositiveDefinite) as caught:
        latent.infer(stats, Evidence(J, h, lengths))
    assert (caught.value.sequence, caught.value.step) == (1, step)


@every_model
def test_unconverged_inference_warns_and_shows_its_residual(name, rng):
    stats, node, lengths = local_problem(latent_model(name), rng)
    latent = latent_model(name, tolerance=1e-12, max_iterations=2)
    with pytest.warns(ConvergenceWarning, match="iteration 2"):
        local = latent.infer(stats, Evidence(*node, lengths))
    assert local.diagnostics.residual.max() > 1e-12
    assert local.diagnostics.iterations.max() == 2


def test_conjugate_gradients_solves_the_system(rng):
    states = rng.dirichlet(np.ones(5), size=3)
    H = np.array([np.diag(s) - np.outer(s, s) for s in states])
    root = rng.standard_normal((3, 5, 5))
    K = np.einsum("nij,nkj->nik", root, root) * 0.1
    target = rng.standard_normal((3, 5))
    solution, got, iterations, residual = conjugate_gradients(
        lambda a: np.einsum("nij,nj->ni", H, a),
        lambda a: np.einsum("nij,nj->ni", K, a),
        target,
        states,
        tolerance=1e-12,
    )
    want = np.linalg.solve(np.eye(5) - H @ K, (H @ target[..., None]))[..., 0]
    assert relative_error(got, want) < 1e-9
    # the solution counts up to constants, which H does not see
    assert relative_error(np.einsum("nij,nj->ni", H, solution), want) < 1e-9
    assert residual.max() <= 1e-12
    assert np.all((iterations > 0) & (iterations <= 6))


def test_negative_curvature_is_reported():
    states = np.full((1, 2), 0.5)
    H = np.diag(states[0]) - np.outer(states[0], states[0])
    with pytest.warns(ConvergenceWarning, match="inexact for 1 of 1"):
        _, _, _, residual = conjugate_gradients(
            lambda a: a @ H, lambda a: 10.0 * a, np.array([[1.0, -1.0]]), states
        )
    assert residual[0] == 1.0


@every_model
def test_both_solves_report_how_they_ended(name):
    model, *rest = problem(name)
    step = bound_and_gradients(model, *rest)
    assert np.all(step.inference.iterations > 0)
    assert np.all(step.inference.residual <= model.latent.tolerance)
    # one state at one step has only its own probabilities to solve for
    assert np.all(step.gradient_solve.iterations > 0)
    assert np.all(step.gradient_solve.residual <= GRADIENT_TOLERANCE)
    assert step.states.shape == (*rest[2].values.shape[:2], 3)


@pytest.mark.parametrize("name", ["gaussian", "lds", "affine-lds"])
def test_exact_inference_needs_no_iterations(name):
    step = bound_and_gradients(*problem(name))
    for diagnostics in (step.inference, step.gradient_solve):
        assert isinstance(diagnostics, Diagnostics)
        np.testing.assert_array_equal(diagnostics, np.zeros((2, 4)))
    assert step.states is None


def test_unconverged_inference_shows_in_the_step():
    model, *rest = problem("slds")
    capped = model._replace(latent=latent_model("slds", 1e-12, max_iterations=1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        step = bound_and_gradients(capped, *rest)
    assert np.all(step.inference.iterations == 1)
    assert np.sum(step.inference.residual > 1e-12) >= 3


def test_one_component_is_exact(rng):
    """K = 1 has no alternation: x has the potentials of its component."""
    latent = GMM(1, 2)
    stats, node, _ = local_problem(latent, rng)
    local = latent.infer(stats, Evidence(*node))
    J, h = stats["components"][0][0], stats["components"][1][0]
    precision = -2 * (J + node[0][..., None] * np.eye(2))
    mean = np.linalg.solve(precision, (h + node[1])[..., None])[..., 0]
    assert relative_error(local.mean, mean) < 1e-12
    assert np.all(local.states == 1.0)
    assert local.diagnostics.iterations.max() == 1


def test_node_potentials_of_a_network_are_a_problem_like_any(rng):
    """What `infer` hands to the model is what `recognize` makes."""
    model, parameters, _, batch, noise = problem("slds")
    stats = product.expected_stats(model.latent.family, parameters.natparams)
    node = recognize(model.encoder, parameters.encoder, batch.values)
    want = model.latent.infer(stats, Evidence(*node, batch.lengths), noise.latents)
    got = infer(model, stats, parameters.encoder, batch, noise.latents)
    np.testing.assert_array_equal(got.kl, want.kl)
    np.testing.assert_array_equal(got.samples, want.samples)
