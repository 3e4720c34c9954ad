"""Structured inference networks: natural steps and gradients."""

from dataclasses import replace

import autograd.numpy as anp
import numpy as np
import pytest

from svae import GMM
from svae.autodiff.trees import leaves, to_vector, tree_map
from svae.autodiff.vjp import trace
from svae.families import niw, product
from svae.models.evidence import Evidence
from svae.models.inference import structured
from svae.objective.bound import bound, bound_and_gradients
from svae.objective.local import infer
from svae.testing import (
    assert_close,
    assert_identical,
    random_belief,
    relative_error,
)
from svae.training.settings import make_settings
from svae.training.step import first_state
from tests.helpers.inference_networks import NAMES, is_told, laws_of_batch, with_gap
from tests.helpers.problems import (
    central_difference,
    problem,
    shifted,
    symmetric_basis,
    take_step,
)


def counted(model, parameters, batch):
    """Sum E_q[t(z, x)] over a batch."""
    total = tree_map(lambda part: 0.0 * part, parameters.natparams)
    for law in laws_of_batch(model, parameters, batch):
        if model.latent.independent and not is_told(law):
            continue  # a row without data is no datum
        counts = law.counted(parameters.natparams)
        total = tree_map(lambda a, b: a + b, total, counts)
    return total


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_natural_gradient_is_the_counted_statistics(name, gaps):
    """Scaled by N/M, with nothing to correct: q does not move with q(theta)."""
    model, parameters, prior, batch, noise = problem(f"sin-{name}")
    batch = with_gap(batch) if gaps else batch
    arguments = model, parameters, prior, batch, noise
    full = bound_and_gradients(*arguments).gradients
    want = tree_map(
        lambda eta0, eta, count: eta0 - eta + 2.5 * count,
        prior,
        parameters.natparams,
        counted(model, parameters, batch),
    )
    for factor, parts in full.natparams.items():
        for got, part in zip(parts, want[factor], strict=True):
            assert relative_error(got, part) < 1e-10, factor
    conjugate = bound_and_gradients(*arguments, natural_gradient="conjugate").gradients
    assert_close(leaves(conjugate.natparams), leaves(full.natparams), 1e-12)
    assert_identical(leaves(conjugate[1:]), leaves(full[1:]))


@pytest.mark.parametrize("rho", [0.05, 0.7, 1.0])
@pytest.mark.parametrize("name", NAMES)
def test_a_natural_step_is_a_convex_combination(name, rho):
    """Proper for every rho up to 1, from wherever it starts: never halved."""
    model, parameters, prior, batch, noise = problem(f"sin-{name}")
    far = tree_map(lambda part: 1e3 * part, parameters.natparams)
    for natparams in (parameters.natparams, far, prior):
        this = parameters._replace(natparams=natparams)
        settings = make_settings(
            model.latent.independent,
            batch_size=4,
            window=None,
            num_samples=1,
            learning_rate=1e-3,
            natural_step=rho,
        )
        state = first_state(this)
        rng = np.random.default_rng(0)
        moved, info, _ = take_step(model, state, prior, batch, settings, rng)
        assert info.backtracks == 0
        assert info.iterations == info.gradient_iterations == info.unconverged == 0
        counts = counted(model, this, batch)
        want = tree_map(
            lambda eta0, eta, count: (1 - rho) * eta + rho * (eta0 + 2.5 * count),
            prior,
            natparams,
            counts,
        )
        assert (
            relative_error(to_vector(moved.parameters.natparams), to_vector(want))
            < 1e-10
        )
        assert product.in_domain(model.latent.family, moved.parameters.natparams)
        for part in ("network", "graph"):  # not what lies above a diagonal
            got = to_vector(moved.parameters.encoder[part])
            assert np.mean(got != to_vector(this.encoder[part])) > 0.6, part


def test_of_steps_of_one_the_counts_are_those_of_all_the_data():
    """Published code forgets N/M: q(theta) is as sure as one batch makes it."""
    model, parameters, prior, batch, noise = problem("sin-gmm")
    batch = replace(batch, scale=20.0)
    natural = bound_and_gradients(model, parameters, prior, batch, noise).gradients
    moved = tree_map(lambda a, b: a + b, parameters.natparams, natural.natparams)
    more = tree_map(lambda a, b: a - b, moved, prior)
    assert np.sum(more["weights"][0]) == pytest.approx(20.0 * 4)
    assert np.sum(more["components"][2]) == pytest.approx(20.0 * 4)
    assert np.sum(more["components"][3]) == pytest.approx(20.0 * 4)


def test_statistics_pair_each_component_with_its_own_x():
    """Published code pairs responsibilities with draws from the whole mixture.

    With r = (0.6, 0.4) and means (0, 10), r_k E[x | k] is (0, 4), not (2.4, 1.6).
    """
    latent = GMM(2, 1)
    components = niw.stats((np.array([[0.0], [10.0]]), np.ones((2, 1, 1))))
    graph = {"weights": (np.log([0.6, 0.4]),), "components": components}
    silent = np.zeros((1, 1, 1))
    message = product.expected_stats(latent.family, latent.prior())

    def divergence(h):
        J, _, *rest = message["components"]
        stats = message | {"components": (J, h, *rest)}
        local = structured.infer(latent, graph, stats, Evidence(silent, silent))
        return (anp.sum(local.kl),)

    slope = trace(divergence, [message["components"][1]])[0](1.0)[0]
    assert np.max(np.abs(-slope[:, 0] - [0.0, 4.0])) < 1e-12


def test_a_graph_of_t_steps_has_t_minus_1_transitions():
    """Weights of its factors change log Z as often as they occur, and not q."""
    model, parameters, _, batch, _ = problem("sin-lds")
    message = product.expected_stats(model.latent.family, parameters.natparams)

    def local(init, dynamics):
        graph = parameters.encoder["graph"]
        weighted = {
            "init": (*graph["init"][:-1], graph["init"][-1] + init),
            "dynamics": (*graph["dynamics"][:-1], graph["dynamics"][-1] + dynamics),
        }
        encoder = parameters.encoder | {"graph": weighted}
        return infer(model, message, encoder, batch)

    usual, moved = local(0.0, 0.0), local(0.7, 0.3)
    difference = moved.log_normalizer - usual.log_normalizer
    assert relative_error(difference, 0.7 + 0.3 * (batch.lengths - 1)) < 1e-12
    assert relative_error(moved.kl, usual.kl) < 1e-12
    assert relative_error(moved.mean, usual.mean) < 1e-12
    # and so does the prior's, in the other direction
    heavier = dict(message)
    J11, J12, J22, half_log_det = message["dynamics"]
    heavier["dynamics"] = J11, J12, J22, half_log_det + 0.3
    other = infer(model, heavier, parameters.encoder, batch)
    assert relative_error(usual.kl - other.kl, 0.3 * (batch.lengths - 1)) < 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_frames_that_say_nothing_leave_the_graph_and_finite_gradients(name):
    """Published code inverts the evidence's precision, which is zero here."""
    model, parameters, prior, batch, noise = problem(f"sin-{name}")
    batch = replace(batch, shown=np.zeros(batch.values.shape[:2], dtype=bool))
    step = bound_and_gradients(model, parameters, prior, batch, noise)
    assert np.all(np.isfinite(to_vector(step.gradients)))
    # the network is not asked
    assert_identical(
        to_vector(step.gradients.encoder["network"]),
        0.0 * to_vector(parameters.encoder["network"]),
    )
    graph = to_vector(step.gradients.encoder["graph"])
    direction = np.random.default_rng(2).standard_normal(graph.size)

    def objective(moved):
        encoder = parameters.encoder | {
            "graph": shifted(parameters.encoder["graph"], moved)
        }
        moved = parameters._replace(encoder=encoder)
        return bound(model, moved, prior, batch, noise).objective

    want = central_difference(objective, direction)
    assert relative_error(graph @ direction, want) < 1e-8


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name in NAMES
        for kind in ("none", "gaps", "hidden", "belief")
        if (name, kind) != ("gmm", "belief")  # rows have no past
    ],
)
def test_gradients_of_every_part_are_differences(name, kind):
    """Of the graph leaf by leaf, of both networks and of q(theta)."""
    options = {"decoder_posterior": "gaussian"} if kind == "hidden" else {}
    model, parameters, prior, batch, noise = problem(f"sin-{name}", **options)
    rng = np.random.default_rng(5)
    if kind == "gaps":
        batch = with_gap(batch)
    if kind == "hidden":
        shown = np.ones(batch.values.shape[:2], dtype=bool)
        shown[1] = False
        batch = replace(batch, shown=shown)
    if kind == "belief":
        num_states = getattr(model.latent, "num_states", None)
        belief = random_belief(rng, [True, False, True, True], 2, num_states)
        observed = np.ones(batch.values.shape, dtype=bool)
        observed[belief.given, 0] = False
        batch = replace(batch, observed=observed, belief=belief)
    step = bound_and_gradients(model, parameters, prior, batch, noise)
    base = parameters, step.gradients

    def check(role, keys, tolerance=1e-7):
        tree, gradient = (getattr(part, role) for part in base)
        for key in keys:
            tree, gradient = tree[key], gradient[key]
        direction = rng.standard_normal(to_vector(tree).size)

        def moved(vector):
            new = shifted(tree, vector)
            for depth in range(len(keys), 0, -1):
                outer = getattr(parameters, role)
                for key in keys[: depth - 1]:
                    outer = outer[key]
                if isinstance(outer, dict):
                    new = outer | {keys[depth - 1]: new}
                else:
                    parts = list(outer)
                    parts[keys[depth - 1]] = new
                    new = tuple(parts)
            return parameters._replace(**{role: new})

        def objective(vector):
            return bound(model, moved(vector), prior, batch, noise).objective

        want = central_difference(objective, direction)
        got = to_vector(gradient) @ direction
        scale = np.sum(np.abs(to_vector(step.gradients.encoder["graph"])))
        assert abs(got - want) < tolerance * max(abs(want), 1e-2 * scale), keys

    for factor, parts in parameters.encoder["graph"].items():
        for i in range(len(parts)):
            check("encoder", ("graph", factor, i))
    check("encoder", ("network",))
    check("decoder", ())
    if kind == "hidden":
        assert step.bound.decoder_kl > 0
    # along v the gradient in eta is <natural gradient, dm>, dm the message's change
    basis = symmetric_basis(parameters.natparams)
    direction = basis @ rng.standard_normal(basis.shape[1])
    direction *= 0.1 / np.max(np.abs(direction))

    def of_eta(vector):
        natparams = shifted(parameters.natparams, vector)
        moved = parameters._replace(natparams=natparams)
        return bound(model, moved, prior, batch, noise).objective

    def message(vector):
        natparams = shifted(parameters.natparams, vector)
        return to_vector(product.expected_stats(model.latent.family, natparams))

    got = to_vector(step.gradients.natparams) @ central_difference(message, direction)
    assert relative_error(got, central_difference(of_eta, direction)) < 1e-7
