"""Structured inference networks in training: evidences, natural steps, an SVAE."""

import itertools
from dataclasses import replace
from typing import Any, NamedTuple

import autograd.numpy as anp
import numpy as np
import pytest
from scipy import stats as scipy_stats
from scipy.special import digamma

import svae
from svae import GMM, HMM, LDS, Linear
from svae import data as data_
from svae.autodiff.trees import leaves, rebuild, to_vector, tree_map
from svae.autodiff.vjp import trace
from svae.data.masks import valid_steps
from svae.families import dirichlet, niw, product
from svae.families.arrays import free_root
from svae.models.inference import structured
from svae.networks import recognize
from svae.objective.batch import Batch, Noise
from svae.objective.bound import bound, bound_and_gradients
from svae.objective.local import infer, local_terms, log_proposal
from svae.objective.model import Parameters, initial_encoder
from svae.queries import forecasts as generate
from svae.queries.importance import importance_scores
from svae.queries.posteriors import inferences
from svae.testing import (
    Enumerated,
    assert_close,
    assert_identical,
    enumerated,
    random_belief,
    relative_error,
)
from svae.training.step import first_state, make_settings
from tests.helpers.exact import (
    concentrated,
    estimator,
    log_evidence,
    quadrature,
    with_gaps,
    world,
)
from tests.helpers.problems import (
    central_difference,
    generative,
    problem,
    quadrature_by_step,
    read_windows,
    shifted,
    symmetric_basis,
    take_step,
)

NAMES = ("gmm", "hmm", "lds", "affine-lds")
LINEAR = ("gmm", "hmm", "lds")


class World(NamedTuple):
    """A linear-Gaussian model with a structured inference network."""

    model: Any
    stats: Any
    theta: Any
    parameters: Any

    def bounds(self, frames, stats=None):
        """E log p(y|x) - KL of every sequence, or of every row, by quadrature."""
        batch = Batch.of(data_.batch([frames], self.cut(frames)))
        shape = batch.values.shape[:2]
        mixture = hasattr(self.model.latent, "num_states")
        noise = quadrature_by_step(*shape) if mixture else quadrature(*shape, 2)
        stats = self.stats if stats is None else stats
        terms, local = local_terms(
            self.model,
            stats,
            self.parameters.encoder,
            self.parameters.decoder,
            batch,
            noise,
        )
        return terms - local.kl

    def cut(self, frames):
        steps = 1 if self.model.latent.independent else len(frames)
        return data_.windows([frames], steps)

    def evidence(self, frames):
        """Log p(y | theta)."""
        return log_evidence(self.theta, self.parameters.decoder, frames)

    def fitted(self):
        """Return the model as an SVAE would have it after `fit`."""
        return estimator(self.model, self.parameters)


def known_world(name, count=1e12):
    """A theta, and the graph and the network whose q is the exact posterior.

    ``count`` is what q(theta) has seen of everything.
    """
    this = world(name)
    coordinates = {
        factor: dirichlet.to_free(dirichlet.stats(draw))
        if factor in ("weights", "transitions")
        else niw.to_free(niw.stats(draw))
        for factor, draw in this.theta.items()
        if factor != "dynamics"
    }
    if "dynamics" in this.theta:
        A, precision = this.theta["dynamics"]
        # nothing beside the precision of A x: e^-60
        coordinates["dynamics"] = (
            A,
            free_root(precision),
            -30.0 * np.eye(2),
            np.array(0.0),
        )
    encoder = {"network": this.parameters.encoder, "graph": coordinates}
    parameters = this.parameters._replace(
        natparams=concentrated(this.theta, count), encoder=encoder
    )
    model = this.model._replace(inference="sin")
    return World(model, this.stats, this.theta, parameters)


def disturbed(this, rng, size=0.2):
    """Return the world with another network and another graph."""
    encoder = this.parameters.encoder
    moved = shifted(encoder, size * rng.standard_normal(to_vector(encoder).size))
    return this._replace(parameters=this.parameters._replace(encoder=moved))


@pytest.mark.parametrize("kind", ["none", "frames", "all"])
@pytest.mark.parametrize("name", LINEAR)
def test_the_bound_of_the_posterior_is_the_evidence(name, kind):
    """With theta known: no mean field lies between. Any other q is worse."""
    this = known_world(name)
    rng = np.random.default_rng(1)
    frames = with_gaps(rng, (4, 3), kind)
    want = this.evidence(frames)
    assert abs(np.sum(this.bounds(frames)) - want) < 1e-10 * max(1.0, abs(want))
    if kind != "all":
        for _ in range(5):
            assert np.sum(disturbed(this, rng).bounds(frames)) < want - 1e-4


@pytest.mark.parametrize("name", LINEAR)
def test_unsure_of_theta_the_bound_is_lower(name):
    """E log p and not log p at the mean of theta, which is larger (Jensen)."""
    frames = np.random.default_rng(2).standard_normal((4, 3))
    this = known_world(name, 20.0)
    family = this.model.latent.family
    message = product.expected_stats(family, this.parameters.natparams)
    point = product.stats(family, product.mean(family, this.parameters.natparams))
    assert relative_error(to_vector(point), to_vector(this.stats)) < 1e-10
    assert np.sum(this.bounds(frames, message)) < this.evidence(frames) - 0.05


def test_the_bound_of_a_mixture_term_by_term():
    """E log p in digammas, the sum over components, N/M, KL(q(theta) || p(theta))."""
    model, parameters, prior, batch, noise = problem("sin-gmm")
    got = bound(model, parameters, prior, batch, noise)
    alpha = parameters.natparams["weights"][0] + 1.0
    log_pi = digamma(alpha) - digamma(alpha.sum())
    graph = product.from_free(model.latent.family, parameters.encoder["graph"])
    J, h = recognize(model.encoder, parameters.encoder["network"], batch.values)
    components = list(
        zip(*niw.to_standard(parameters.natparams["components"]), strict=True)
    )
    reconstruction = local_kl = 0.0
    for n, y in enumerate(batch.values[:, 0]):
        law = Enumerated(model.latent, graph, (J[n], h[n]))
        log_z = np.log(law.probs)
        for k, (mean, kappa, scale, nu) in enumerate(components):
            of_x = scipy_stats.multivariate_normal(
                law.means[k], law.seconds[k] - np.outer(law.means[k], law.means[k])
            )
            D = 2
            log_det = np.sum(digamma((nu - np.arange(D)) / 2)) + D * np.log(2)
            log_det -= np.linalg.slogdet(scale)[1]
            S_inv = np.linalg.inv(scale)
            centered = law.seconds[k] - np.outer(law.means[k], mean)
            centered += np.outer(mean, mean) - np.outer(mean, law.means[k])
            log_p = 0.5 * (log_det - D * np.log(2 * np.pi) - D / kappa)
            log_p -= 0.5 * nu * np.sum(S_inv * centered)
            local_kl += law.probs[k] * (log_z[k] - of_x.entropy() - log_pi[k] - log_p)
            # samples given z are mean + L^-T noise with precision L L'
            precision = np.linalg.inv(of_x.cov)
            roots = np.linalg.inv(np.linalg.cholesky(precision))
            x = law.means[k] + noise.latents[n, :, 0] @ roots
            location, variance = model.decoder.apply(parameters.decoder, x)
            logs = scipy_stats.norm(location, np.sqrt(variance)).logpdf(y).sum(axis=-1)
            reconstruction += law.probs[k] * logs.mean()
    assert relative_error(got.reconstruction, 2.5 * reconstruction) < 1e-10
    assert relative_error(got.local_kl, 2.5 * local_kl) < 1e-10
    of_theta = product.kl(model.latent.family, parameters.natparams, prior)
    assert got.global_kl == pytest.approx(of_theta, rel=1e-12)
    total = 2.5 * (reconstruction - local_kl) - of_theta
    assert got.objective == pytest.approx(total, rel=1e-10)


def with_gap(batch):
    """Hide some entries and some frames of a batch."""
    observed = np.ones(batch.values.shape, dtype=bool)
    observed[0, 0], observed[1, :, 0], observed[3, -1:] = False, False, False
    if batch.lengths is not None:  # as `data.batch` has it
        observed &= valid_steps(batch.lengths, observed)[..., None]
    return replace(batch, observed=observed)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("name", ["lds", "affine-lds"])
def test_tied_to_the_prior_it_is_the_structured_autoencoder(name, gaps):
    """Value and gradients of both networks; that of m is split in two by the tie."""
    model, parameters, prior, batch, noise = problem(name)
    batch = with_gap(batch) if gaps else batch
    message = product.expected_stats(model.latent.family, parameters.natparams)
    graph = product.to_free(model.latent.family, message)
    encoder = {"network": parameters.encoder, "graph": graph}
    tied = bound_and_gradients(
        model._replace(inference="sin"),
        parameters._replace(encoder=encoder),
        prior,
        batch,
        noise,
    )
    free = bound_and_gradients(model, parameters, prior, batch, noise)
    assert_close(tied.bound, free.bound, 1e-10)
    for got, want in (
        (tied.gradients.encoder["network"], free.gradients.encoder),
        (tied.gradients.decoder, free.gradients.decoder),
    ):
        assert relative_error(to_vector(got), to_vector(want)) < 1e-10
    through_q = tree_map(
        lambda a, b: a - b, free.gradients.natparams, tied.gradients.natparams
    )

    def pairing(*coordinates):
        moved = product.from_free(model.latent.family, rebuild(graph, coordinates))
        pairs = zip(leaves(moved), leaves(through_q), strict=True)
        return (sum(anp.sum(a * b) for a, b in pairs),)

    want = trace(pairing, leaves(graph))[0](1.0)
    got = to_vector(tied.gradients.encoder["graph"])
    assert np.max(np.abs(got)) > 0.1
    assert relative_error(got, to_vector(want)) < 1e-9


@pytest.mark.parametrize("hide", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_what_padding_holds_changes_no_bit_of_bound_and_gradients(name, hide):
    model, parameters, prior, batch, noise = problem(f"sin-{name}")
    batch = with_gap(batch)
    if hide:
        shown = np.ones(batch.values.shape[:2], dtype=bool)
        shown[2] = False
        batch = replace(batch, shown=shown)
    scored = batch.scored
    first, *others = (
        bound_and_gradients(
            model,
            parameters,
            prior,
            replace(batch, values=np.where(scored, batch.values, garbage)),
            noise,
        )
        for garbage in (0.0, 1.0, -1e60)
    )
    assert not np.all(scored)
    assert all(np.all(np.isfinite(leaf)) for leaf in leaves(first.gradients))
    for other in others:
        assert_identical(leaves((other.bound, other.gradients)), leaves(first[:2]))


def test_rows_without_data_are_as_deleted():
    model, parameters, prior, batch, noise = problem("sin-gmm")
    batch = with_gap(batch)
    kept = batch.observed.any(axis=(1, 2))
    assert 0 < np.sum(~kept)
    fewer = Batch(batch.values[kept], None, batch.observed[kept], batch.scale)
    want = bound_and_gradients(
        model, parameters, prior, fewer, noise._replace(latents=noise.latents[kept])
    )
    got = bound_and_gradients(model, parameters, prior, batch, noise)
    assert_close(got.bound, want.bound, 1e-12)
    assert_close(leaves(got.gradients), leaves(want.gradients), 1e-12)


def log_mean_exp(logs):
    return np.logaddexp.reduce(logs) - np.log(len(logs))


@pytest.mark.parametrize("name", ["gmm", "lds"])
def test_coordinate_ascent_stays_below_the_evidence(name):
    """Theta integrated out too. Of a mixture it ends above what a mean field ends at.

    With exact potentials and the graph of q(theta) both steps are optimal.
    """
    latent = GMM(2, 1, tolerance=1e-12) if name == "gmm" else LDS(1)
    rng = np.random.default_rng(6)
    decoder = {"location": (np.array([[1.0]]), np.zeros(1)), "log_scale": np.zeros(1)}
    values = 2 * rng.standard_normal((3, 1, 1) if name == "gmm" else (1, 3, 1))
    batch, prior = Batch(values), latent.prior()
    steps = values.shape[1] if name == "lds" else 1
    points = np.sqrt(steps) * np.concatenate([np.eye(steps), -np.eye(steps)])
    noise = Noise(np.tile(points[..., None], (len(values), 1, 1, 1)), np.zeros(0))

    def ascend(inference):
        model = generative(latent, Linear())._replace(inference=inference)
        natparams, bounds = latent.initial_posterior(np.random.default_rng(0)), []
        for _ in range(60):
            encoder = initial_encoder(model, natparams, decoder)
            parameters = Parameters(natparams, encoder, decoder)
            step = bound_and_gradients(model, parameters, prior, batch, noise)
            bounds.append(step.bound.objective)
            natparams = tree_map(
                lambda a, b: a + b, natparams, step.gradients.natparams
            )
        return np.array(bounds)

    bounds = ascend("sin")
    assert np.all(np.diff(bounds) > -1e-9)
    draws = product.sample(latent.family, prior, rng, 200_000)
    if name == "gmm":
        mean, precision = draws["components"]
        variance, logs = 1 / precision[..., 0, 0] + 1.0, 0.0
        for y in values[:, 0, 0]:
            parts = -0.5 * (y - mean[..., 0]) ** 2 / variance
            parts = parts - 0.5 * np.log(2 * np.pi * variance)
            parts = parts + np.log(draws["weights"])
            logs = logs + np.logaddexp.reduce(parts, axis=-1)
        assert bounds[-1] > ascend("svae")[-1] + 1e-3
    else:
        mean, precision = (x.reshape(-1) for x in draws["init"])
        A, of_noise = (x.reshape(-1) for x in draws["dynamics"])
        variance, logs = 1 / precision, 0.0
        for y in values[0, :, 0]:
            total = variance + 1.0
            logs = logs - 0.5 * ((y - mean) ** 2 / total + np.log(2 * np.pi * total))
            gain = variance / total
            mean, variance = mean + gain * (y - mean), variance * (1 - gain)
            mean, variance = A * mean, A**2 * variance + 1 / of_noise
        assert bounds[-1] == pytest.approx(ascend("svae")[-1], rel=1e-9)
    evidence = log_mean_exp(logs)
    assert evidence - 4.0 < bounds[-1] < evidence - 1e-3


# Variational message passing


def laws_of_batch(model, parameters, batch):
    """Enumerate q of every sequence of a batch."""
    message = product.expected_stats(model.latent.family, parameters.natparams)
    graph = product.from_free(model.latent.family, parameters.encoder["graph"])
    network = parameters.encoder["network"]
    node = recognize(
        model.encoder, network, batch.values, batch.shown_entries, model.fill
    )
    known = batch.lengths, batch.observed_frames, batch.belief
    return enumerated(model.latent, graph, message, node, *known)


def is_told(law):
    """Whether there are data of any step."""
    return law.observed is None or law.observed.any()


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
        local = structured.infer(latent, graph, stats, (silent, silent))
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


# Importance-weighted scores


def wide_world(name, count=1e12):
    """A world whose network believes less than it could: q covers the posterior."""
    this = known_world(name, count)
    network = this.parameters.encoder["network"]
    share = np.exp(-0.5)
    wider = {
        "location": tuple(share * part for part in network["location"]),
        "log_scale": network["log_scale"] - 0.5,
    }
    encoder = this.parameters.encoder | {"network": wider}
    return this._replace(parameters=this.parameters._replace(encoder=encoder))


def scores(this, sequences, count, theta="mean", seed=0):
    """Importance scores of all sequences, (N,)."""
    rng = np.random.default_rng(seed)
    arguments = this.model, this.parameters, sequences, count, theta, rng
    return np.array(list(importance_scores(*arguments)))


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("kind", ["none", "frames", "all"])
@pytest.mark.parametrize("name", LINEAR)
def test_every_weight_of_the_posterior_is_the_evidence(name, kind, count):
    """However many there are: published code subtracts S in the place of log S."""
    this = known_world(name)
    frames = with_gaps(np.random.default_rng(3), (4, 3), kind)
    want = this.evidence(frames)
    (got,) = scores(this, [frames], count)
    # what concentrated() leaves of the uncertainty of theta
    assert abs(got - want) < 1e-8 * max(1.0, abs(want))


@pytest.mark.parametrize("theta", ["mean", "sample"])
@pytest.mark.parametrize("name", LINEAR)
def test_every_weight_is_what_the_definition_says(name, theta):
    this = disturbed(known_world(name, 20.0), np.random.default_rng(4))
    family, natparams = this.model.latent.family, this.parameters.natparams
    frames = with_gaps(np.random.default_rng(0), (4, 3), "frames")
    got = scores(this, [frames], 3, theta, seed=5)[0]
    rng = np.random.default_rng(5)  # the same draws again, in the same order
    (inference,) = inferences(this.model, this.parameters, [frames], 3, rng, joint=True)
    thetas = [this.theta] * 3
    if theta == "sample":
        draws = product.sample(family, natparams, rng, 3)
        thetas = [
            {
                name: tuple(x[s] for x in draw) if isinstance(draw, tuple) else draw[s]
                for name, draw in draws.items()
            }
            for s in range(3)
        ]
    batch, local = inference.batch, inference.local
    laws = laws_of_batch(this.model, this.parameters, batch)
    logs = np.zeros(local.samples.shape[:2])
    for m, law in enumerate(laws):
        seen = batch.observed[m].any(axis=-1)
        if this.model.latent.independent and not seen.any():
            continue
        for s, x in enumerate(local.samples[m]):
            location, scale = this.model.decoder.apply(this.parameters.decoder, x)
            terms = scipy_stats.norm(location, np.sqrt(scale)).logpdf(batch.values[m])
            logs[m, s] = np.sum(terms[batch.observed[m]])
            stats = product.stats(family, thetas[s])
            log_prior = [law.joint(stats, path).log_density(x) for path in law.paths]
            logs[m, s] += np.logaddexp.reduce(log_prior) - law.log_density(x)
    want = np.sum(np.logaddexp.reduce(logs, axis=1) - np.log(3))
    assert abs(got - want) < 1e-8 * abs(want)
    proposals = log_proposal(this.model, this.parameters.encoder, batch, local)
    for law, samples, got in zip(laws, local.samples, proposals, strict=True):
        if is_told(law):
            assert np.max(np.abs(got - [law.log_density(x) for x in samples])) < 1e-10


@pytest.mark.parametrize("name", LINEAR)
def test_scores_grow_to_the_evidence(name):
    """Of sequences as of any others; with draws of a certain theta as well."""
    this = wide_world(name)
    frames = np.random.default_rng(6).standard_normal((4, 3))
    want = this.evidence(frames)
    few = np.mean(scores(this, [frames] * 100, 1))
    assert few < want - 0.3
    for theta in ("mean", "sample"):
        (many,) = scores(this, [frames], 4000, theta)
        assert abs(many - want) < 0.05
    fitted = this.fitted()
    assert fitted.score(frames, num_importance_samples=50) == pytest.approx(
        scores(this, [frames], 50)[0] / 4
    )


# The face


SMALL = svae.MLP((6,))
LATENTS = {
    "gmm": lambda: GMM(3, 2),
    "hmm": lambda: HMM(3, 2),
    "lds": lambda: LDS(2),
    "affine-lds": lambda: LDS(2, affine=True),
}


def recordings(rng, gaps=False, likelihood="gaussian"):
    """Draw ragged sequences, perhaps with gaps of all kinds."""
    kinds = ("frames", "entries", "none", "all") if gaps else ("none",) * 4
    sizes = (9, 5, 12, 4)
    sequences = [
        with_gaps(rng, (T, 3), kind) for T, kind in zip(sizes, kinds, strict=True)
    ]
    if likelihood == "bernoulli":
        sequences = [np.where(np.isnan(s), s, 1.0 * (s > 0)) for s in sequences]
    return sequences


def network(name, **options):
    """Return an SVAE to be fitted."""
    return svae.SVAE(LATENTS[name](), SMALL, SMALL, inference="sin", **options)


def history(model):
    """Columns of the history that do not depend on the clock."""
    return [c for n, c in model.history_.items() if n != "seconds"]


def everything(model, sequences):
    """Call every method that takes data, and return all that they return."""
    results = [
        [tuple(posterior) for posterior in model.infer(sequences, num_samples=2)],
        model.transform(sequences),
        [tuple(r) for r in model.reconstruct(sequences, num_samples=2)],
        model.score(sequences),
        model.score(sequences, num_importance_samples=3),
        model.score(sequences, num_importance_samples=3, theta="sample"),
        model.impute(sequences, num_samples=3, num_passes=2),
        model.sample(5, rng=1),
    ]
    if hasattr(model.latent, "num_states"):
        results.append(model.predict(sequences))
    if not model.latent.independent:
        for theta in ("mean", "sample"):
            forecasts = model.forecast(sequences, 2, num_samples=3, theta=theta)
            results.append([tuple(f) for f in forecasts])
    return results


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("name", NAMES)
def test_an_svae_does_with_it_all_it_does_without(
    name, likelihood, gaps, rng, tmp_path
):
    """Same seed, same result; and what is saved is what was fitted."""
    sequences = recordings(rng, gaps, likelihood)
    options = {"likelihood": likelihood, "decoder_posterior": "gaussian"}
    first, again = (
        network(name, **options).fit(sequences, num_steps=6, batch_size=3, rng=0)
        for _ in range(2)
    )
    assert_identical(history(again), history(first))
    assert not np.any(first.history_["iterations"])
    assert not np.any(first.history_["unconverged"])
    want = everything(first, sequences)
    assert all(np.all(np.isfinite(part)) for part in flat_numbers(want))
    first.save(tmp_path / "model.npz")
    loaded = svae.load(tmp_path / "model.npz")
    assert loaded.inference == "sin"
    assert_identical(everything(loaded, sequences), want)
    assert_identical(everything(again, sequences), want)
    if likelihood == "bernoulli":
        frames = first.impute(sequences[0])
        assert np.all((frames >= 0) & (frames <= 1))


def flat_numbers(tree):
    """List the arrays of a tree; None left out."""
    if tree is None:
        return []
    if isinstance(tree, (tuple, list)):
        return [leaf for branch in tree for leaf in flat_numbers(branch)]
    return [np.asarray(tree, dtype=float)]


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_sequence_alone_has_the_posterior_it_has_among_others(name, gaps, rng):
    sequences = recordings(rng, gaps)
    model = network(name).fit(sequences, num_steps=4, rng=0)
    among = model.infer(sequences, num_samples=1)
    for sequence, want in zip(sequences, among, strict=True):
        alone = model.infer(sequence, num_samples=1)
        assert_identical(tuple(alone)[:-1], tuple(want)[:-1])
    assert_identical(model.transform(sequences), [p.mean for p in among])


@pytest.mark.parametrize(
    "options",
    [
        {"context": 3},
        {"hide": 2},
        {"context": 2, "hide": 3},
        {"warmup": 3},
        {"warmup": 0},
    ],
    ids=["context", "hide", "both", "warm-up", "clusters"],
)
@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("name", ["hmm", "lds", "affine-lds"])
def test_windows_and_warm_ups(name, options, gaps, rng):
    sequences = recordings(rng, gaps)
    arguments = {"num_steps": 5, "window": 4, "batch_size": 4, "rng": 0} | options
    model, again = (network(name).fit(sequences, **arguments) for _ in range(2))
    assert all(np.all(np.isfinite(column)) for column in history(model))
    assert_identical(history(again), history(model))
    assert np.all(np.isfinite(model.transform(sequences[1])))


@pytest.mark.parametrize("name", ["hmm", "lds"])
def test_context_is_what_q_says_of_the_frame_before(name, rng):
    """The belief of a window comes from the graph, not from the prior."""
    model, parameters, *_ = problem(f"sin-{name}")
    frames = rng.standard_normal((9, 3))
    cut = np.array([[0, 0, 4], [0, 4, 9]])
    batch, unconverged = read_windows(model, parameters, [frames], cut, rng, context=4)
    assert unconverged == 0
    first = replace(
        batch, values=frames[None, :4], lengths=None, observed=None, belief=None
    )
    (law,) = laws_of_batch(model, parameters, first)
    cov = law.second_moment[3] - np.outer(law.mean[3], law.mean[3])
    assert relative_error(np.linalg.inv(-2 * batch.belief.J[1]), cov) < 1e-10
    if name == "hmm":
        assert np.max(np.abs(np.exp(batch.belief.states[1]) - law.states[3])) < 1e-12
    message = product.expected_stats(model.latent.family, parameters.natparams)
    local = infer(model, message, parameters.encoder, batch)
    laws = laws_of_batch(model, parameters, batch)
    assert relative_error(local.kl, [law.kl(message) for law in laws]) < 1e-10


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_starts_as_the_message(name, rng):
    """After a warm-up, too, when q(theta) is fitted to the latents."""
    sequences = recordings(rng)
    starts = []

    def keep(step, record):
        raise StopIteration

    for options in ({"warmup": None}, {"warmup": 2}):
        if name == "gmm" and options["warmup"]:
            continue
        model = network(name)
        with pytest.raises(StopIteration):
            model.fit(
                sequences,
                1,
                rng=0,
                callback=keep,
                learning_rate=1e-12,
                natural_step=1e-12,
                **options,
            )
        parameters = model.parameters_
        family = model.latent.family
        message = product.expected_stats(family, parameters.natparams)
        got, want = parameters.encoder["graph"], product.to_free(family, message)
        assert relative_error(to_vector(got), to_vector(want)) < 1e-8
        starts.append(to_vector(want))
    assert len(starts) == 1 or np.max(np.abs(starts[0] - starts[1])) > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_training_raises_the_bound(name, rng):
    sequences = [np.cumsum(rng.standard_normal((20, 3)), axis=0) / 3 for _ in range(3)]
    model = network(name).fit(sequences, num_steps=60, learning_rate=1e-2, rng=0)
    objective = model.history_["objective"]
    assert np.mean(objective[-10:]) > np.mean(objective[:10]) + 50
    assert not np.any(model.history_["backtracks"])


def test_a_path_is_the_most_likely_one_in_q(rng):
    model, parameters, *_ = problem("sin-hmm")
    fitted = estimator(model, parameters)
    frames = [2 * rng.standard_normal((T, 3)) for T in (5, 1, 4)]
    for path, sequence in zip(fitted.predict(frames), frames, strict=True):
        batch = Batch(sequence[None])
        (law,) = laws_of_batch(model, parameters, batch)
        assert_identical(path, np.array(law.best_path))


def test_reconstructions_sum_over_the_states(rng):
    """Expected mean and squared error: of a linear decoder known, but for the noise."""
    this = known_world("hmm")
    frames = with_gaps(rng, (4, 3), "entries")
    batch = Batch(np.nan_to_num(frames)[None], None, ~np.isnan(frames)[None])
    (law,) = laws_of_batch(this.model, this.parameters, batch)
    got = this.fitted().reconstruct(frames, num_samples=20_000)
    matrix, offset = this.parameters.decoder["location"]
    assert np.max(np.abs(got.mean - (law.mean @ matrix + offset))) < 0.03
    for t, (mean, second) in enumerate(zip(law.mean, law.second_moment, strict=True)):
        cov = matrix.T @ (second - np.outer(mean, mean)) @ matrix
        squares = (frames[t] - mean @ matrix - offset) ** 2 + np.diag(cov)
        want = np.sum(squares[~np.isnan(frames[t])])
        assert abs(got.squared_error[t] - want) < 0.05 * want


@pytest.mark.parametrize("name", LINEAR)
def test_an_imputation_is_the_expectation_over_states_and_x(name, rng):
    this = known_world(name)
    frames = with_gaps(rng, (4, 3), "entries")
    batch = Batch(np.nan_to_num(frames)[None], None, ~np.isnan(frames)[None])
    if this.model.latent.independent:
        rows, observed = (
            np.swapaxes(part, 0, 1) for part in (batch.values, batch.observed)
        )
        batch = Batch(rows, None, observed)
    laws = laws_of_batch(this.model, this.parameters, batch)
    mean = np.concatenate([law.mean for law in laws])
    matrix, offset = this.parameters.decoder["location"]
    want = np.where(np.isnan(frames), mean @ matrix + offset, frames)
    got = this.fitted().impute(frames, num_samples=20_000)
    assert_identical(got[~np.isnan(frames)], frames[~np.isnan(frames)])
    assert np.max(np.abs(got - want)) < 0.03


@pytest.mark.parametrize("name", ["gmm", "hmm", "lds"])
def test_every_copy_and_pass_of_an_imputation_has_noise_of_its_own(
    name, rng, monkeypatch
):
    """Published code draws the noise of all copies from one seed."""
    drawn = []
    honest = generate.infer

    def spy(model, stats, encoder, batch, noise=None, **options):
        drawn.append((noise, options["uniforms"], batch.values))
        return honest(model, stats, encoder, batch, noise, **options)

    monkeypatch.setattr(generate, "infer", spy)
    frames = with_gaps(rng, (5, 3), "entries")
    this = known_world(name)
    this.fitted().impute(frames, num_samples=4, num_passes=3)
    assert len(drawn) == 3
    noise = np.concatenate([part.ravel() for part, _, _ in drawn])
    assert len(np.unique(noise)) == noise.size == 3 * 4 * 5 * 2
    uniforms = np.concatenate([part.ravel() for _, part, _ in drawn[:2]])
    assert len(np.unique(uniforms)) == uniforms.size
    assert drawn[2][1] is None  # the last pass averages, with weights
    # what the encoder gets changes from pass to pass, where it was missing alone
    seen = ~np.isnan(frames).reshape(drawn[0][2].shape)
    for (_, _, before), (_, _, after) in itertools.pairwise(drawn):
        assert_identical(before[seen], after[seen])
        assert np.all(before[~seen] != after[~seen])


def test_wrong_words_are_refused(rng):
    frames = rng.standard_normal((6, 3))
    with pytest.raises(ValueError, match="inference must be one of .*'san'"):
        svae.SVAE(LDS(2), SMALL, SMALL, inference="san").fit(frames, num_steps=1)
    for latent in (svae.SLDS(2, 2), svae.Gaussian(2)):
        with pytest.raises(ValueError, match=f"'sin': {type(latent).__name__} has no"):
            svae.SVAE(latent, SMALL, SMALL, inference="sin").fit(frames, num_steps=1)
    for name in ("hmm", "lds"):
        with pytest.raises(ValueError, match="warm_start"):
            network(name).fit(frames, num_steps=1, warm_start=True)
