"""Mean-field inference of independent rows, compiled, against the alternation."""

import os
import pickle
import warnings

import numpy as np
import pytest
from scipy.special import logsumexp

import svae
from svae import (
    GMM,
    ConvergenceWarning,
    NotPositiveDefinite,
    kernels,
)
from svae.autodiff.trees import leaves, rebuild
from svae.autodiff.vjp import trace
from svae.errors import Impossible
from svae.families import product
from svae.models import Belief
from svae.models.inference.mixture import filled
from svae.models.inference.switches import Given
from svae.models.inference.switching import Switching
from svae.testing import (
    latent_model,
    local_problem,
    relative_error,
    typical_natparams,
    typical_theta,
)

every_mixture = pytest.mark.parametrize("name", ["gmm", "student", "learned-student"])
OUTPUTS = (
    "kl",
    "mean",
    "second_moment",
    "states",
    "samples",
    "log_normalizer",
    "state_potentials",
)


def problem(latent, rng, number=11, dense=False, num_samples=2):
    """Return the message m, node potentials of rows, and noise."""
    stats, node, _ = local_problem(latent, rng, (1,) * number, dense=dense)
    return stats, node, rng.standard_normal((number, num_samples, 1, latent.latent_dim))


def by_definition(latent, stats, node, noise=None, **known):
    """Return the local factor that the alternation of chains finds."""
    given = Given(
        np.ones(len(node[1]), dtype=np.int64),
        known.get("observed"),
        known.get("belief"),
    )
    starts = known.get("starts")
    local = Switching.local_factor(latent, stats, node, noise, given, starts)
    if given.observed is None:
        return local
    return filled(latent.switch, latent.switch.rows(stats), local, noise, given)


def assert_same_local(got, want, tolerance=1e-11):
    for field, wanted in want._asdict().items():
        for a, b in zip(leaves(getattr(got, field)), leaves(wanted), strict=True):
            assert relative_error(a, b) < tolerance, field


def gradients(infer, stats, node, noise, bars, **known):
    """Cotangents of m, of the node potentials and of noise."""
    inputs = stats, node, noise

    def outputs(*boxes):
        stats, node, noise = rebuild(inputs, boxes)
        local = infer(stats, node, noise, **known)
        return tuple(getattr(local, output) for output in OUTPUTS)

    pull_back, values = trace(outputs, leaves(inputs))
    return [
        pull_back(*[None] * k, bar.reshape(np.shape(value)))
        for k, (bar, value) in enumerate(zip(bars(values), values, strict=True))
    ]


def assert_same_gradients(latent, stats, node, noise, rng, tolerance=1e-8, **known):
    """Compare all but node potentials of rows without data."""
    drawn, observed = [], known.get("observed")
    rows = slice(None) if observed is None else observed[:, 0]

    def bars(values):
        if not drawn:
            drawn.extend(rng.standard_normal(np.shape(value)) for value in values)
        return drawn

    def definition(*args, **options):
        return by_definition(latent, *args, **options)

    want = gradients(definition, stats, node, noise, bars, **known)
    got = gradients(latent.infer, stats, node, noise, bars, **known)
    for output, of_got, of_want in zip(OUTPUTS, got, want, strict=True):
        scale = max(np.max(np.abs(x), initial=0.0) for x in of_want)
        pairs = zip(of_got, of_want, strict=True)
        for position, (a, b) in enumerate(pairs):
            if len(a) == len(node[1]):
                a, b = a[rows], b[rows]
            close = np.max(np.abs(a - b), initial=0.0) < tolerance * (1 + scale)
            assert close, (output, position)


@every_mixture
@pytest.mark.parametrize("dim", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("dense", [False, True], ids=["diagonal", "dense"])
def test_it_is_what_the_alternation_finds(name, dim, dense, rng):
    latent = latent_model(name, latent_dim=dim)
    stats, node, noise = problem(latent, rng, dense=dense)
    got, want = (
        latent.infer(stats, node, noise),
        by_definition(latent, stats, node, noise),
    )
    assert_same_local(
        got._replace(diagnostics=None), want._replace(diagnostics=None), 1e-10
    )
    assert_same_gradients(latent, stats, node, noise, rng)


@every_mixture
@pytest.mark.parametrize("names", [("data",), ("prior",), ("data", "prior")])
def test_iterations_are_counted_alike(name, names, rng):
    latent = latent_model(name, tolerance=1e-6, starts=names)
    stats, node, _ = problem(latent, rng, number=40)
    got, want = latent.infer(stats, node), by_definition(latent, stats, node)
    assert want.diagnostics.iterations.max() > 3
    np.testing.assert_array_equal(
        got.diagnostics.iterations, want.diagnostics.iterations
    )
    # of two ends in the same optimum rounding decides which one is kept
    tolerance = 1e-11 if len(names) == 1 else 1e-6
    if len(names) == 1:
        np.testing.assert_allclose(
            got.diagnostics.residual, want.diagnostics.residual, rtol=1e-6, atol=1e-15
        )
    drop = {"diagnostics": None}
    assert_same_local(got._replace(**drop), want._replace(**drop), tolerance)


@every_mixture
def test_the_linear_solve_ends_alike(name, rng):
    latent = latent_model(name)
    stats, node, noise = problem(latent, rng, number=30)

    def solved(infer):
        bars = np.random.default_rng(1)
        of_outputs = gradients(
            infer,
            stats,
            node,
            noise,
            lambda values: [bars.standard_normal(np.shape(v)) for v in values],
        )
        return [cotangents.diagnostics for cotangents in of_outputs]

    pairs = zip(
        solved(latent.infer),
        solved(lambda *a, **o: by_definition(latent, *a, **o)),
        strict=True,
    )
    for (got,), (want,) in pairs:
        np.testing.assert_array_equal(got.iterations, want.iterations)
        np.testing.assert_allclose(got.residual, want.residual, rtol=1e-3, atol=1e-12)


@every_mixture
def test_given_starts_and_beliefs(name, rng):
    latent = latent_model(name)
    stats, node, noise = problem(latent, rng)
    number = len(node[1])
    starts = list(rng.dirichlet(np.ones(3), (3, number, 1)))
    eye = np.tile(-0.5 * np.eye(2), (number, 1, 1))
    states = np.log(rng.dirichlet(np.ones(3), number))
    belief = Belief(rng.random(number) < 0.5, eye, np.zeros((number, 2)), states)
    known = {"starts": starts, "belief": belief}
    got = latent.infer(stats, node, noise, **known)
    want = by_definition(latent, stats, node, noise, **known)
    drop = {"diagnostics": None}
    assert_same_local(got._replace(**drop), want._replace(**drop), 1e-10)
    assert_same_gradients(latent, stats, node, noise, rng, **known)


@every_mixture
def test_rows_without_data(name, rng):
    latent = latent_model(name)
    stats, (J, h), noise = problem(latent, rng)
    observed = np.arange(len(h))[:, None] % 3 != 1
    J[~observed] = h[~observed] = 0.0
    got = latent.infer(stats, (J, h), noise, observed=observed)
    want = by_definition(latent, stats, (J, h), noise, observed=observed)
    # heavy tails have no second moment
    infinite = np.isinf(want.second_moment)
    np.testing.assert_array_equal(np.isinf(got.second_moment), infinite)
    got, want = (
        local._replace(
            diagnostics=None,
            second_moment=np.where(infinite, 0.0, local.second_moment),
        )
        for local in (got, want)
    )
    assert_same_local(got, want, 1e-10)
    total = logsumexp(stats["weights"][0])
    np.testing.assert_allclose(got.log_normalizer[~observed[:, 0]], total, rtol=1e-12)
    assert_same_gradients(latent, stats, (J, h), noise, rng, observed=observed)


@every_mixture
def test_a_row_alone_is_the_row_in_a_batch_bit_by_bit(name, rng):
    latent = latent_model(name, tolerance=1e-6, latent_dim=3)
    stats, node, noise = problem(latent, rng, number=37)

    def run(rows):
        local = latent.infer(stats, tuple(x[rows] for x in node), noise[rows])
        pull_back, _ = trace(
            lambda J, h: (latent.infer(stats, (J, h), noise[rows]).kl,),
            [x[rows] for x in node],
        )
        return leaves(local), pull_back(np.ones(37)[rows])

    together, together_bar = run(slice(None))
    for n in range(37):
        alone, alone_bar = run(slice(n, n + 1))
        for a, b in zip(alone + alone_bar, together + together_bar, strict=True):
            np.testing.assert_array_equal(a, b[n : n + 1])


@pytest.fixture
def num_threads():
    """Put the number of threads back when a test is done."""
    before = svae.get_num_threads()
    yield svae.set_num_threads
    svae.set_num_threads(before)


@every_mixture
def test_any_number_of_threads_gives_the_same_bits(name, rng, num_threads):
    latent = latent_model(name, tolerance=1e-6)
    stats, node, noise = problem(latent, rng, number=3000)

    def run():
        bars = np.random.default_rng(1)
        of_all = gradients(
            latent.infer,
            stats,
            node,
            noise,
            lambda values: [bars.standard_normal(np.shape(v)) for v in values],
        )
        return leaves(latent.infer(stats, node, noise)), leaves(of_all)

    num_threads(1)
    want = run()
    for count in (2, 5):
        num_threads(count)
        for got, wanted in zip(leaves(run()), leaves(want), strict=True):
            np.testing.assert_array_equal(got, wanted)


FOREIGN = """
import pickle, sys
import numpy as np
from svae import kernels
with open({path!r}, "rb") as file:
    latent, stats, node, noise = pickle.load(file)
local = latent.infer(stats, node, noise)
with open({path!r}, "wb") as file:
    pickle.dump((kernels.isa(), tuple(local)[:7]), file)
"""


@every_mixture
@pytest.mark.parametrize("isa", ["generic", "avx2", "avx512"])
def test_other_instruction_sets_find_the_same(name, isa, rng, run_python, tmp_path):
    latent = latent_model(name, latent_dim=3)
    arguments = stats, node, noise = problem(latent, rng)
    path = tmp_path / "problem.pickle"
    path.write_bytes(pickle.dumps((latent, *arguments)))
    paths = os.pathsep.join([os.path.dirname(os.path.dirname(svae.__file__))])
    done = run_python(FOREIGN.format(path=str(path)), SVAE_ISA=isa, PYTHONPATH=paths)
    if done.returncode and "is not among the instruction sets" in done.stderr:
        pytest.skip(f"no {isa} here")
    assert done.returncode == 0, done.stderr
    used, got = pickle.loads(path.read_bytes())
    assert used == isa
    want = latent.infer(stats, node, noise)
    for a, b in zip(leaves(got), leaves(tuple(want)[:7]), strict=True):
        assert relative_error(a, b) < 1e-10


@every_mixture
def test_one_component_and_one_dimension(name, rng):
    latent = latent_model(name, num_states=1, latent_dim=1)
    stats, node, noise = problem(latent, rng)
    local = latent.infer(stats, node, noise)
    np.testing.assert_array_equal(local.states, 1.0)
    want, drop = by_definition(latent, stats, node, noise), {"diagnostics": None}
    assert_same_local(local._replace(**drop), want._replace(**drop), 1e-10)
    assert_same_gradients(latent, stats, node, noise, rng)


@every_mixture
def test_states_that_are_impossible_or_certain(name, rng):
    latent = latent_model(name, tolerance=1e-11)
    theta = typical_theta(latent, rng, precision=400.0, spread=8.0)
    theta["weights"] = np.array([0.4, 0.0, 0.6])
    stats = product.stats(latent.family, theta)
    if "dof" in stats:  # a variance of 0 has no gradient
        square, mean = stats["dof"]
        stats["dof"] = square + 0.1, mean
    _, (J, h), noise = problem(latent, rng, number=60)
    J, h = 20 * J, 60 * h
    local = latent.infer(stats, (J, h), noise)
    assert np.all(local.states[..., 1] == 0)
    assert np.any(local.states > 1 - 1e-12)
    want = by_definition(latent, stats, (J, h), noise)
    assert_same_local(
        local._replace(diagnostics=None), want._replace(diagnostics=None), 1e-8
    )
    finite = dict(stats, weights=(np.array([-1.0, -700.0, -0.5]),))
    assert_same_gradients(latent, finite, (J, h), noise, rng, tolerance=1e-6)


def test_no_state_is_possible():
    latent = latent_model("gmm")
    stats, node, _ = problem(latent, np.random.default_rng(0))
    stats["weights"] = (np.full(3, -np.inf),)
    with pytest.raises(Impossible) as caught:
        latent.infer(stats, node)
    assert (caught.value.sequence, caught.value.step) == (0, 0)


@pytest.mark.parametrize("number", [4, 11])
def test_an_improper_row_is_named(number, rng):
    latent = latent_model("gmm")
    stats, (J, h), _ = problem(latent, rng, number=number)
    J[number - 1] = 1e3
    with pytest.raises(NotPositiveDefinite) as caught:
        latent.infer(stats, (J, h))
    assert (caught.value.sequence, caught.value.step) == (number - 1, 0)


@pytest.mark.parametrize(
    ("name", "index"), [("node J", (2, 0, 1)), ("node h", (1, 0, 0))]
)
def test_what_is_not_finite_is_named(name, index, rng):
    latent = latent_model("gmm")
    stats, node, _ = problem(latent, rng)
    node[name == "node h"][index] = np.nan
    with pytest.raises(ValueError, match=name):
        latent.infer(stats, node)


def test_a_saddle_is_reported():
    """Between two components x may stay, where the surrogate is no maximum."""
    latent = GMM(2, 1, tolerance=1e-12)
    theta = {
        "weights": np.array([0.5, 0.5]),
        "components": (np.array([[-2.0], [2.0]]), np.full((2, 1, 1), 4.0)),
    }
    stats = product.stats(latent.family, theta)
    node = np.full((1, 1, 1), -0.01), np.zeros((1, 1, 1))

    def infer(h):
        starts = [np.full((1, 1, 2), 0.5)]
        return latent.infer(stats, (node[0], h), starts=starts)

    np.testing.assert_allclose(infer(node[1]).states, 0.5)
    pull_back, _ = trace(lambda h: (infer(h).mean,), [node[1]])
    with pytest.warns(ConvergenceWarning, match="inexact for 1 of 1"):
        (diagnostics,) = pull_back(np.ones((1, 1, 1))).diagnostics
    np.testing.assert_array_equal(diagnostics, [[0.0], [1.0]])


@every_mixture
def test_unconverged_rows_show(name, rng):
    latent = latent_model(name, max_iterations=2)
    stats, node, _ = problem(latent, rng)
    with pytest.warns(ConvergenceWarning, match="iteration 2"):
        local = latent.infer(stats, node)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        want = by_definition(latent, stats, node)
    assert_same_local(local, want, 1e-10)


def test_many_components_of_many_dimensions(rng):
    latent = GMM(40, 12)
    stats = product.expected_stats(latent.family, typical_natparams(latent, rng))
    node = -rng.uniform(0.1, 0.5, (9, 1, 12)), rng.standard_normal((9, 1, 12))
    got = latent.infer(stats, node)
    assert_same_local(
        got._replace(diagnostics=None),
        by_definition(latent, stats, node)._replace(diagnostics=None),
        1e-9,
    )


def test_the_core_refuses_what_it_cannot_read():
    ones = np.ones((3, 2))
    potentials = np.ones((3, 4)), np.ones((4, 5)), np.ones(4)
    with pytest.raises(ValueError, match="components has shape"):
        kernels.mixture(
            (potentials[0], potentials[1], potentials[2]),
            None,
            (-ones, ones),
            None,
            None,
            None,
            True,
            False,
            1e-6,
            10,
        )
