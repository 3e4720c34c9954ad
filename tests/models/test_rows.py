"""Mean-field inference of independent rows, compiled, against the alternation."""

import os
import pickle
from functools import partial

import numpy as np
import pytest
from scipy.special import logsumexp

import svae
from svae.autodiff.trees import leaves
from svae.autodiff.vjp import trace
from svae.models import Belief
from svae.models.evidence import Evidence
from svae.testing import (
    latent_model,
    relative_error,
)
from tests.helpers.mixture_rows import (
    assert_same_gradients,
    assert_same_local,
    by_definition,
    by_kernel,
    every_mixture,
    gradients,
    problem,
)


@every_mixture
@pytest.mark.parametrize("dim", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("dense", [False, True], ids=["diagonal", "dense"])
def test_it_is_what_the_alternation_finds(name, dim, dense, rng):
    latent = latent_model(name, latent_dim=dim)
    stats, node, noise = problem(latent, rng, dense=dense)
    got, want = (
        latent.infer(stats, Evidence(*node), noise),
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
    got, want = latent.infer(stats, Evidence(*node)), by_definition(latent, stats, node)
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
        solved(partial(by_kernel, latent)),
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
    got = by_kernel(latent, stats, node, noise, **known)
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
    got = latent.infer(stats, Evidence(J, h, observed=observed), noise)
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
        local = latent.infer(
            stats, Evidence(*tuple(x[rows] for x in node)), noise[rows]
        )
        pull_back, _ = trace(
            lambda J, h: (latent.infer(stats, Evidence(J, h), noise[rows]).kl,),
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
            partial(by_kernel, latent),
            stats,
            node,
            noise,
            lambda values: [bars.standard_normal(np.shape(v)) for v in values],
        )
        return leaves(latent.infer(stats, Evidence(*node), noise)), leaves(of_all)

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
from svae.models import Evidence
with open({path!r}, "rb") as file:
    latent, stats, node, noise = pickle.load(file)
local = latent.infer(stats, Evidence(*node), noise)
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
    want = latent.infer(stats, Evidence(*node), noise)
    for a, b in zip(leaves(got), leaves(tuple(want)[:7]), strict=True):
        assert relative_error(a, b) < 1e-10


@every_mixture
def test_one_component_and_one_dimension(name, rng):
    latent = latent_model(name, num_states=1, latent_dim=1)
    stats, node, noise = problem(latent, rng)
    local = latent.infer(stats, Evidence(*node), noise)
    np.testing.assert_array_equal(local.states, 1.0)
    want, drop = by_definition(latent, stats, node, noise), {"diagnostics": None}
    assert_same_local(local._replace(**drop), want._replace(**drop), 1e-10)
    assert_same_gradients(latent, stats, node, noise, rng)
