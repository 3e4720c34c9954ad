"""The chains inside of JAX: values, derivatives of both modes, vmap, errors."""

import re
import runpy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from autograd import grad

from svae import kernels, standard
from svae.autodiff.trees import leaves
from svae.testing import (
    assert_close,
    cotangents,
    fill_past_lengths,
    gaussian_problem,
    markov_problem,
    random_like,
)
from svae.testing.chains import describe

jax = pytest.importorskip("jax")
jnp = jax.numpy
ravel_pytree = pytest.importorskip("jax.flatten_util").ravel_pytree

LENGTHS = np.array([4, 1, 3])
GAUSSIAN = [
    dict(N=3, T=4, D=2, lengths=LENGTHS),
    dict(N=3, T=4, D=3, dense=True, S=0),
    dict(N=2, T=1, D=2, S=1),
    dict(N=2, T=200, D=2, lengths=np.array([200, 140])),  # in chunks
]
SHARING = ("shared", "mixed")
MARKOV = [
    dict(N=3, T=4, K=3, lengths=LENGTHS),
    dict(N=2, T=1, K=2),
    dict(N=9, T=5, K=4),
]
FAILURE = (ValueError, jax.errors.JaxRuntimeError)  # in the call, or after it


@pytest.fixture(autouse=True)
def in_float64():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def chains():
    """Give the functions, of a library that is built: else its error says how."""
    from svae.interop import jax as chains

    return chains


def plain(outputs):
    return [np.asarray(x) for x in jax.tree.leaves(outputs)]


def gaussian(module, lengths, has_noise):
    """Return `gaussian_chain` from flat arguments to flat outputs."""

    def outputs(J0, h0, J11, J12, J22, Jn, hn, *noise):
        parts = (J0, h0), (J11, J12, J22), (Jn, hn), *(noise or [None])
        found = module.gaussian_chain(*parts, lengths)
        return leaves(found) if module is kernels else jax.tree.leaves(found)

    return outputs


def markov(module, lengths):
    def outputs(init, pair, node):
        found = module.markov_chain(init, pair, node, lengths)
        return leaves(found) if module is kernels else jax.tree.leaves(found)

    return outputs


def check(ours, definition, args, rng):
    """Compare outputs, and cotangents of all arguments."""
    want = definition(*args)
    assert_close(plain(jax.jit(ours)(*args)), want, 1e-10)
    bars = random_like(rng, want)
    got = plain(jax.jit(lambda x, bars: jax.vjp(ours, *x)[1](bars))(args, bars))
    assert_close(got, cotangents(definition, args, bars), 1e-10)


@pytest.mark.parametrize("shape", GAUSSIAN, ids=describe)
@pytest.mark.parametrize("sharing", SHARING)
def test_gaussian_chain(chains, rng, shape, sharing):
    problem = gaussian_problem(rng, sharing=sharing, **shape)
    args = leaves(problem[:4])
    functions = (gaussian(m, problem.lengths, shape) for m in (chains, kernels))
    check(*functions, args, rng)


@pytest.mark.parametrize("shape", MARKOV, ids=describe)
@pytest.mark.parametrize("sharing", SHARING)
def test_markov_chain(chains, rng, shape, sharing):
    problem = markov_problem(rng, sharing=sharing, **shape)
    functions = (markov(m, problem.lengths) for m in (chains, kernels))
    check(*functions, list(problem[:3]), rng)


def test_outside_of_jit(chains, rng):
    problem = gaussian_problem(rng, lengths=np.array([5, 2, 4]))
    got = chains.gaussian_chain(*problem)
    assert_close(plain(got), leaves(kernels.gaussian_chain(*problem)), 1e-10)


def test_forward_mode_is_the_transpose_of_reverse_mode(chains, rng):
    problem = gaussian_problem(rng, S=0, sharing="mixed")
    f, args = gaussian(chains, None, False), leaves(problem[:3])
    outputs = jax.jit(f)(*args)
    dots, bars = random_like(rng, args), random_like(rng, plain(outputs))
    outputs_dot = jax.jit(lambda x, dx: jax.jvp(f, x, dx)[1])(tuple(args), tuple(dots))
    args_bar = jax.jit(lambda x, bars: jax.vjp(f, *x)[1](bars))(args, bars)

    def inner(a, b):
        return sum(float(np.vdot(x, y)) for x, y in zip(a, b, strict=True))

    assert_close(inner(bars, plain(outputs_dot)), inner(plain(args_bar), dots), 1e-12)


def test_shared_potentials_of_unequal_cotangents(chains, rng):
    """What is shared has the cotangents of each sequence, not of their sum."""
    for problem, name, cut in (
        (gaussian_problem(rng, S=0), "gaussian_chain", 3),
        (markov_problem(rng), "markov_chain", 3),
    ):
        weights = rng.standard_normal(3)

        def objective(arguments, module, name=name, weights=weights):
            return (getattr(module, name)(*arguments)[0] * weights).sum()

        arguments = tuple(problem[:cut])
        got = jax.jit(jax.grad(lambda x, f=objective: f(x, chains)))(arguments)
        assert_close(plain(got), leaves(grad(objective)(arguments, kernels)), 1e-10)


def test_gradient_of_log_normalizer_calls_no_adjoint(chains, rng):
    problem = gaussian_problem(rng)
    text = str(
        jax.make_jaxpr(jax.grad(lambda p: chains.gaussian_chain(*p)[0].sum()))(
            tuple(problem[:3])
        )
    )
    assert "gaussian_chain" in text
    assert "vjp" not in text and "tangent" not in text


@pytest.mark.parametrize("name", ["gaussian_chain", "markov_chain"])
def test_second_order_of_log_normalizers(chains, rng, name):
    if name == "gaussian_chain":
        problem = gaussian_problem(rng, N=2, T=3, D=2, S=0, lengths=np.array([3, 2]))
    else:
        problem = markov_problem(rng, N=2, T=3, K=2, lengths=np.array([3, 2]))
    lengths, weights = problem.lengths, np.array([1.0, -0.4])
    flat, build = ravel_pytree(tuple(problem[:3]))

    def objective(x, module, build):
        chain = getattr(module, name)
        logZ = chain(*build(x), lengths=lengths)[0]
        return (logZ * weights).sum()

    def of_jax(x):
        return objective(x, chains, build)

    shapes = [np.shape(x) for x in leaves(tuple(problem[:3]))]

    def build_plain(x):
        parts, at = [], 0
        for shape in shapes:
            size = int(np.prod(shape))
            parts.append(x[at : at + size].reshape(shape))
            at += size
        if name == "markov_chain":
            return parts
        return parts[:2], parts[2:5], parts[5:]

    gradient = grad(lambda x: objective(x, kernels, build_plain))
    x = np.asarray(flat)
    want = np.stack([grad(lambda x, k=k: gradient(x)[k])(x) for k in range(x.size)])
    forward = jax.jit(jax.hessian(of_jax))(flat)
    assert_close(np.asarray(forward), want, 1e-10)
    for hessian in (jax.jacrev(jax.grad(of_jax)), jax.jacfwd(jax.jacfwd(of_jax))):
        assert_close(np.asarray(jax.jit(hessian)(flat)), want, 1e-10)


def test_third_derivatives_are_refused(chains, rng):
    problem = markov_problem(rng, N=1, T=3, K=2)

    def entropy(node):
        states = chains.markov_chain(problem.init, problem.pair, node)[1][2]
        return (states**2).sum()

    jax.grad(entropy)(problem.node)
    with pytest.raises((NotImplementedError, *FAILURE), match="one derivative"):
        jax.block_until_ready(jax.jit(jax.hessian(entropy))(problem.node))


def test_tangents_of_samples_are_refused(chains, rng):
    problem = gaussian_problem(rng)

    def samples(h):
        node = problem.node[0], h
        return chains.gaussian_chain(problem.init, problem.pair, node, problem.noise)[2]

    h = problem.node[1]
    with pytest.raises(FAILURE, match="in reverse mode"):
        jax.block_until_ready(jax.jit(lambda h: jax.jvp(samples, (h,), (h,)))(h))


BATCH = 3


def stacked(rng, problem, axes):
    """Give axes of a batch to some of the arguments, others are shared."""
    return [
        x if axis is None else np.stack([x * s for s in (1.0, 0.9, 1.1)], axis)
        for x, axis in zip(problem, axes, strict=True)
    ]


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ((None, None, None, None, None, None, 0, None), (1, 5)),  # over sequences
        ((0, 0, None, None, None, None, None, None), (3, 4)),  # nodes are shared
        ((None, None, None, None, None, None, None, 1), (3, 4)),
        ((0, 1, 0, 1, 2, 0, 1, 2), (3, 4)),
    ],
)
def test_vmap_of_gaussian_chains(chains, rng, axes, shape):
    N, T = shape
    lengths = None if N == 1 else LENGTHS
    problem = gaussian_problem(rng, N=N, T=T, D=2, lengths=lengths)
    args = stacked(rng, leaves(problem[:4]), axes)
    f = gaussian(chains, lengths, True)
    definition = gaussian(kernels, lengths, True)
    each = [
        [x if a is None else np.take(x, b, a) for x, a in zip(args, axes, strict=True)]
        for b in range(BATCH)
    ]
    want = [definition(*one) for one in each]
    mapped = jax.vmap(f, axes)
    got = plain(jax.jit(mapped)(*args))
    assert_close(got, [np.stack(x) for x in zip(*want, strict=True)], 1e-10)

    bars = random_like(rng, got)
    got = plain(jax.jit(lambda x, bars: jax.vjp(mapped, *x)[1](bars))(args, bars))
    of_each = [
        cotangents(definition, one, [bar[b] for bar in bars])
        for b, one in enumerate(each)
    ]
    want = [
        np.sum(x, 0) if axis is None else np.stack(x, axis)
        for x, axis in zip(zip(*of_each, strict=True), axes, strict=True)
    ]
    assert_close(got, want, 1e-10)


def test_vmap_of_gradients_and_gradients_of_vmap(chains, rng):
    """Of sequences one by one: potentials shared by in_axes None, unequal weights."""
    problem = markov_problem(rng, N=4, T=6, K=3)
    weights = rng.standard_normal(4)

    def one(init, pair, node):
        return chains.markov_chain(init, pair, node[None])[0][0]

    def objective(*args):
        return (jax.vmap(one, (None, None, 0))(*args) * weights).sum()

    def whole(*args):
        return (kernels.markov_chain(*args)[0] * weights).sum()

    args = tuple(problem[:3])
    want = [grad(whole, k)(*args) for k in range(3)]
    assert_close(plain(jax.jit(jax.grad(objective, (0, 1, 2)))(*args)), want, 1e-10)
    each = jax.jit(jax.vmap(jax.grad(one, (0, 1, 2)), (None, None, 0)))(*args)
    summed = [np.tensordot(weights, np.asarray(x), 1) for x in each[:2]]
    assert_close(summed, want[:2], 1e-10)


def test_vmap_repeats_nothing_that_is_shared(chains, rng):
    problem = gaussian_problem(rng, N=1, T=7, D=2, S=0)
    h = np.concatenate([problem.node[1]] * 5)

    def logZ(h):
        node = problem.node[0], h[None]
        return chains.gaussian_chain(problem.init, problem.pair, node)[0][0]

    equations = jax.make_jaxpr(jax.vmap(jax.grad(logZ)))(h).eqns
    (call,) = [e for e in equations if e.primitive.name == "svae_gaussian_chain"]
    shapes = [x.aval.shape for x in call.invars]
    assert shapes[1:4] == [(1, 1, 2, 2), (1, 1, 2), (1, 1, 1, 2, 2)]
    assert shapes[6:8] == [(1, 1, 7, 2), (5, 1, 7, 2)]


def test_calls_of_several_threads(chains, rng):
    problem = markov_problem(rng, N=64, T=200, K=8)
    f = jax.jit(chains.markov_chain)
    want = plain(f(*problem[:3]))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: plain(f(*problem[:3])), range(8)))
    for got in found:
        for x, y in zip(got, want, strict=True):
            np.testing.assert_array_equal(x, y)


def test_nested_vmap(chains, rng):
    """Axes that no stride unites: potentials of the inner one, nodes of the outer."""
    problem = markov_problem(rng, N=2, T=5, K=3)
    inits = rng.standard_normal((4, 3))
    nodes = rng.standard_normal((3, 2, 5, 3))

    def logZ(init, node):
        return chains.markov_chain(init, problem.pair, node)[0]

    over_both = jax.vmap(jax.vmap(logZ, (0, None)), (None, 0))
    want = [
        [kernels.markov_chain(i, problem.pair, node)[0] for i in inits]
        for node in nodes
    ]
    assert_close(np.asarray(over_both(inits, nodes)), np.array(want), 1e-10)
    many = rng.standard_normal((20, 3))  # more than nodes: the axis of sequences
    want = [
        [kernels.markov_chain(i, problem.pair, node)[0] for i in many] for node in nodes
    ]
    assert_close(np.asarray(over_both(many, nodes)), np.array(want), 1e-10)


def test_paths(chains, rng):
    problem = markov_problem(rng, N=3, T=4, K=3, lengths=LENGTHS)
    uniforms = rng.random((3, 2, 4))
    paths, logprob = jax.jit(chains.viterbi)(*problem)
    want = kernels.viterbi(*problem)
    np.testing.assert_array_equal(paths, want[0])
    assert_close(np.asarray(logprob), want[1], 1e-12)
    drawn = jax.jit(chains.sample_markov_chain)(*problem[:3], uniforms, LENGTHS)
    np.testing.assert_array_equal(
        drawn, kernels.sample_markov_chain(*problem[:3], uniforms, LENGTHS)
    )
    of_nodes = jax.vmap(chains.viterbi, (None, None, 0, None))
    nodes = np.stack([problem.node, -problem.node])
    paths, _ = of_nodes(problem.init, problem.pair, nodes, LENGTHS)
    for path, node in zip(paths, nodes, strict=True):
        want = kernels.viterbi(problem.init, problem.pair, node, LENGTHS)[0]
        np.testing.assert_array_equal(path, want)


def test_what_is_past_a_length_is_not_read(chains, rng):
    problem = gaussian_problem(rng, N=3, T=4, D=2, sharing="step", lengths=LENGTHS)
    filled = fill_past_lengths(problem, np.nan)
    want = leaves(kernels.gaussian_chain(*problem))
    assert_close(plain(jax.jit(chains.gaussian_chain)(*filled)), want, 1e-12)


def test_forbidden_transitions(chains):
    pair = np.array([[0.0, -np.inf], [-np.inf, 0.0]])
    args = np.zeros(2), pair, np.array([[[1.0, 0.0], [0.0, 3.0]]])
    got = jax.jit(chains.markov_chain)(*args)
    assert_close(plain(got), leaves(kernels.markov_chain(*args)), 1e-12)


def test_failures_name_sequence_and_step(chains, rng):
    J, h = -np.ones((3, 4, 2)), np.zeros((3, 4, 2))
    zero = np.zeros((2, 2))
    J[1, 2] = 5.0

    def chain(J, h):
        return chains.gaussian_chain((-np.eye(2), np.zeros(2)), (zero,) * 3, (J, h))[0]

    for f in (chain, jax.jit(chain), jax.grad(lambda J, h: chain(J, h).sum())):
        with pytest.raises(FAILURE, match="NotPositiveDefinite: sequence 1, step 2"):
            jax.block_until_ready(f(J, h))
    with pytest.raises(
        FAILURE, match=r"NotPositiveDefinite: sequence \[1, 0\], step 2"
    ):
        jax.block_until_ready(jax.vmap(chain)(J[:, None], h[:, None]))
    with pytest.raises(FAILURE, match="FloatingPointError: sequence 2: its log norm"):
        large = h + 1e200 * (np.arange(3) == 2)[:, None, None]
        jax.block_until_ready(chain(-np.ones_like(J), large))
    h[2, 3, 1] = np.nan
    with pytest.raises(FAILURE, match="node h of sequence 2, step 3 holds what is no"):
        jax.block_until_ready(chain(J, h))
    pair = np.full((2, 2), -np.inf)
    with pytest.raises(FAILURE, match="Impossible: sequence 0, step 1"):
        out = chains.markov_chain(np.zeros(2), pair, np.zeros((1, 3, 2)))
        jax.block_until_ready(out)
    with pytest.raises(FAILURE, match=r"lengths\[1\] is 9, wanted 1 to 3"):
        out = chains.markov_chain(np.zeros(2), zero, np.zeros((2, 3, 2)), [1, 9])
        jax.block_until_ready(out)
    with pytest.raises(FAILURE, match="uniforms, sample 0"):
        out = chains.sample_markov_chain(
            np.zeros(2), zero, np.zeros((1, 3, 2)), np.ones((1, 1, 3))
        )
        jax.block_until_ready(out)


def test_shapes_are_refused_when_traced(chains):
    with pytest.raises(ValueError, match=r"pair has shape \(2, 3\), wanted \(2, 2\)"):
        jax.jit(chains.markov_chain)(np.zeros(2), np.zeros((2, 3)), np.zeros((1, 3, 2)))
    with pytest.raises(ValueError, match="node h has shape"):
        chains.gaussian_chain(
            (-np.eye(2), np.zeros(2)), (np.eye(2),) * 3, (np.zeros(2), np.zeros(2))
        )


def test_float32_is_refused(chains):
    args = np.zeros(2), np.zeros((2, 2)), np.zeros((1, 3, 2))
    with pytest.raises(TypeError, match="node has dtype float32, wanted float64"):
        chains.markov_chain(*args[:2], jnp.zeros((1, 3, 2), jnp.float32))
    jax.config.update("jax_enable_x64", False)
    with pytest.raises(RuntimeError, match="jax_enable_x64"):
        chains.markov_chain(*args)


def test_without_the_library_the_import_says_how_to_build_it(run_python):
    done = run_python(
        "import svae.interop.build_jax as b, pathlib\n"
        "b.LIBRARY = pathlib.Path('nowhere/_jax.so')\n"
        "import svae.interop.jax"
    )
    assert "ImportError" in done.stderr
    assert "python -m svae.interop.build_jax" in done.stderr


def test_without_jax_the_import_says_how_to_get_it(run_python):
    done = run_python("import sys; sys.modules['jax'] = None; import svae.interop.jax")
    assert "needs jax, which is not installed (pip install jax)" in done.stderr


def test_numbers_of_threads_change_no_digit(chains, rng):
    problem = gaussian_problem(rng, N=33, T=20, D=4, S=0)
    before = kernels.get_num_threads()
    found = []
    for threads in (1, 2):
        kernels.set_num_threads(threads)
        found.append(plain(jax.jit(chains.gaussian_chain)(*problem)))
    kernels.set_num_threads(before)
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


STATE_SPACES = {
    "ragged, per step, inputs": dict(per_step=True, ragged=True, inputs=True),
    "missing entries": dict(missing=True),
    "one sequence": dict(single=True),
}


def state_space(
    rng, per_step=False, ragged=False, inputs=False, missing=False, single=False
):
    """Return parameters, y, u and lengths of a regular state-space model."""
    N, T, D, P, U = 3, 5, 2, 3, 2

    def covariance(*lead, size):
        root = rng.standard_normal((*lead, size, size))
        return root @ np.swapaxes(root, -1, -2) / size + 0.5 * np.eye(size)

    lead = (T - 1,) if per_step else ()
    model = standard.LinearGaussian(
        A=0.5 * rng.standard_normal((*lead, D, D)),
        Q=covariance(*lead, size=D),
        C=rng.standard_normal((P, D)),
        R=covariance(size=P),
        m0=rng.standard_normal(D),
        P0=covariance(size=D),
        B=rng.standard_normal((D, U)) if inputs else None,
        D=rng.standard_normal((P, U)) if inputs else None,
    )
    y = rng.standard_normal((N, T, P))
    if missing:
        y[rng.random(y.shape) < 0.3] = np.nan
        y[0, 2] = np.nan
    lengths = np.array([5, 1, 3]) if ragged else None
    u = rng.standard_normal((N, T, U)) if inputs else None
    return model, y[0] if single else y, u, lengths


@pytest.mark.parametrize("kind", STATE_SPACES)
def test_state_space_models(chains, rng, kind):
    model, y, u, lengths = state_space(rng, **STATE_SPACES[kind])
    fields = [k for k, x in enumerate(model) if x is not None]
    given = model, y, u, lengths

    def function(module, **options):
        def total(*values):
            parts = dict(zip([model._fields[k] for k in fields], values, strict=True))
            found = module.log_likelihood(
                model._replace(**parts), *given[1:], **options
            )
            return found.sum() if module is chains else np.sum(found)

        return total

    values = [model[k] for k in fields]
    ours = function(chains)
    theirs = function(standard, form="information")
    got = jax.jit(jax.value_and_grad(ours, tuple(range(len(values)))))(*values)
    want = theirs(*values), *(grad(theirs, k)(*values) for k in range(len(values)))
    assert_close(plain(got), [np.asarray(x) for x in want], 1e-10)
    smoothed = plain(jax.jit(chains.kalman_smoother)(*given))
    want = standard.kalman_smoother(*given, form="information")
    assert_close(smoothed, [np.asarray(x) for x in want], 1e-10)


def test_a_covariance_without_an_inverse_is_refused(chains, rng):
    model, y, _, _ = state_space(rng)
    with pytest.raises(FAILURE, match="holds what is no number"):
        jax.block_until_ready(
            chains.log_likelihood(model._replace(Q=np.zeros((2, 2))), y)
        )
    with pytest.raises(ValueError, match=r"C has shape \(2, 3\), wanted \(3, 2\)"):
        chains.log_likelihood(model._replace(C=model.C.T), y)


def test_hidden_markov_models(chains, rng):
    start, transition = rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(3), 3)
    logs = rng.standard_normal((3, 4, 3))
    args = start, transition, logs

    def total(*args):
        return chains.hmm_log_likelihood(*args, LENGTHS).sum()

    def definition(*args):
        return standard.hmm_log_likelihood(*args, LENGTHS).sum()

    got = jax.jit(jax.value_and_grad(total, (0, 1, 2)))(*args)
    want = definition(*args), *(grad(definition, k)(*args) for k in range(3))
    assert_close(plain(got), [np.asarray(x) for x in want], 1e-10)
    for pairs in (False, True):
        got = chains.hmm_smoother(*args, LENGTHS, pairs=pairs)
        want = standard.hmm_smoother(*args, LENGTHS, pairs=pairs)
        for x, y in zip(got, want, strict=True):
            assert (x is None) == (y is None)
            if x is not None:
                assert_close(np.asarray(x), y, 1e-10)
    one = chains.hmm_viterbi(start, transition, logs[0])
    want = standard.hmm_viterbi(start, transition, logs[0])
    np.testing.assert_array_equal(one[0], want[0])
    assert_close(float(one[1]), float(want[1]), 1e-12)


def test_the_page_runs_as_it_stands(chains):
    page = Path(__file__).parents[2] / "docs" / "interop.md"
    section = page.read_text().partition("## JAX")[2].partition("\n## ")[0]
    namespace = {}
    for block in re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL):
        exec(block, namespace)
    assert namespace["log_normalizer"](namespace["A"], namespace["h"]).shape == (3,)


def test_the_example_learns(chains):
    path = Path(__file__).parents[2] / "examples" / "interop_jax.py"
    values = runpy.run_path(str(path))["main"](30)
    assert np.isfinite(values).all()
    assert np.mean(values[-5:]) > np.mean(values[:5]) + 0.5
