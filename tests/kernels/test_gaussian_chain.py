"""The Gaussian chain: values, gradients and invariants of both implementations."""

import autograd.numpy as np
import pytest
from autograd import grad, make_vjp

from svae.autodiff.trees import leaves
from svae.testing import (
    assert_close,
    assert_identical,
    check_gradients,
    cotangents,
    fill_past_lengths,
    gaussian_oracle,
    gaussian_problem,
    hessian_vector_product,
    random_like,
    sequence,
)
from svae.testing.chains import SHARING, describe

SMALL = [
    dict(N=3, T=4, D=2, lengths=np.array([4, 1, 3])),
    dict(N=2, T=1, D=2),
    dict(N=1, T=2, D=3, dense=True),
    dict(N=9, T=3, D=1, dense=True, lengths=np.array([3, 2, 1, 3, 2, 1, 3, 2, 1])),
]
LARGE = [
    dict(N=17, T=20, D=4, lengths=np.arange(17) + 4),
    dict(N=3, T=6, D=10, dense=True),
    dict(N=5, T=4, D=17),
    dict(N=2, T=3, D=33, dense=True, S=1),
    dict(N=2, T=3, D=64, S=1),
    dict(N=2, T=3, D=97, S=1),
]
small_problems = pytest.mark.parametrize("shape", SMALL, ids=describe)
large_problems = pytest.mark.parametrize("shape", LARGE, ids=describe)
each_sharing = pytest.mark.parametrize("sharing", SHARING)


def chain(module, lengths=None):
    """Return `gaussian_chain` from flat arguments to flat outputs."""

    def outputs(J0, h0, J11, J12, J22, Jn, hn, noise=None):
        init, pair, node = (J0, h0), (J11, J12, J22), (Jn, hn)
        return leaves(module.gaussian_chain(init, pair, node, noise, lengths))

    return outputs


def arguments(problem):
    """Flat arguments of `chain`."""
    return leaves(problem[:4])


@small_problems
@each_sharing
def test_equals_the_inverse_of_the_dense_joint(chains, rng, shape, sharing):
    problem = gaussian_problem(rng, sharing=sharing, **shape)
    assert_close(chains.gaussian_chain(*problem), gaussian_oracle(problem), 1e-10)


@large_problems
@each_sharing
def test_equals_reference(kernels, reference, rng, shape, sharing):
    problem = gaussian_problem(rng, sharing=sharing, **shape)
    want = reference.gaussian_chain(*problem)
    assert_close(kernels.gaussian_chain(*problem), want, 1e-10)


def check_against_reference(kernels, reference, rng, problem):
    """Outputs and cotangents of all arguments."""
    f, g = both(kernels, reference, problem)
    args = arguments(problem)
    want = g(*args)
    assert_close(f(*args), want, 1e-10)
    outputs_bar = random_like(rng, want)
    got = cotangents(f, args, outputs_bar)
    assert_close(got, cotangents(g, args, outputs_bar), 1e-9)


@pytest.mark.parametrize("sharing", ["shared", "mixed"])
@pytest.mark.parametrize("D", [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 16, 21])
def test_any_dimension(kernels, reference, rng, D, sharing):
    """Tiles of every size, also padded ones; blocks of steps that are not full."""
    lengths = np.array([19, 8, 9, 16, 17, 1, 7, 19, 2, 15])
    problem = gaussian_problem(rng, N=10, T=19, D=D, sharing=sharing, lengths=lengths)
    check_against_reference(kernels, reference, rng, problem)


@pytest.mark.parametrize("sharing", ["shared", "mixed"])
def test_time_in_segments(kernels, reference, rng, sharing):
    """Of so long a chain a pack keeps a part, and computes the rest once more."""
    lengths = np.array([900, 871])
    problem = gaussian_problem(
        rng, N=2, T=900, D=40, S=1, sharing=sharing, lengths=lengths
    )
    check_against_reference(kernels, reference, rng, problem)


@small_problems
@each_sharing
def test_gradients_equal_differences(chains, rng, shape, sharing):
    problem = gaussian_problem(rng, sharing=sharing, **shape)
    check_gradients(chain(chains, problem.lengths), arguments(problem), rng)


@pytest.mark.parametrize("shape", SMALL + LARGE, ids=describe)
@each_sharing
def test_gradients_equal_reference(kernels, reference, rng, shape, sharing):
    problem = gaussian_problem(rng, sharing=sharing, **shape)
    args, (f, definition) = arguments(problem), both(kernels, reference, problem)
    outputs_bar = random_like(rng, f(*args))
    got, want = (cotangents(g, args, outputs_bar) for g in (f, definition))
    assert_close(got, want, 1e-10)


def both(kernels, reference, problem):
    return chain(kernels, problem.lengths), chain(reference, problem.lengths)


@small_problems
@each_sharing
def test_statistics_are_the_gradient_of_the_log_normalizer(chains, rng, shape, sharing):
    problem = gaussian_problem(rng, sharing=sharing, S=0, **shape)
    f, args = chain(chains, problem.lengths), arguments(problem)
    logZ, *stats = f(*args)
    assert_close(
        cotangents(lambda *a: f(*a)[:1], args, [np.ones(len(logZ))]), stats, 1e-10
    )


@small_problems
@pytest.mark.parametrize("sharing", ["shared", "mixed"])
@pytest.mark.parametrize("S", [0, 2])
@pytest.mark.parametrize(
    "scalar", [np.sum, lambda z: np.sum(z**2), lambda z: np.sum(np.sin(z) * z[0])]
)
def test_second_derivatives_of_the_log_normalizer(
    kernels, reference, rng, shape, sharing, S, scalar
):
    problem = gaussian_problem(rng, sharing=sharing, S=S, **shape)
    args = arguments(problem)
    direction = random_like(rng, args)
    got, want = (
        hessian_vector_product(lambda *a, f=f: scalar(f(*a)[0]), args, direction)
        for f in both(kernels, reference, problem)
    )
    assert_close(got, want, 1e-8)


def test_second_derivatives_of_statistics_are_refused(kernels, rng):
    problem = gaussian_problem(rng)
    args, f = arguments(problem), chain(kernels)
    for output in range(1, 9):
        with pytest.raises(NotImplementedError):
            hessian_vector_product(
                lambda *a, o=output: np.sum(f(*a)[o]), args, random_like(rng, args)
            )


def test_second_derivatives_through_the_cotangent_of_samples_are_refused(kernels, rng):
    """A cotangent of samples that depends on samples: their tangent comes in."""
    args, f = arguments(gaussian_problem(rng)), chain(kernels)
    fixed = args[0]

    def of_noise(noise):
        return np.sum(f(*args[:-1], noise)[-1] ** 2)

    def of_both(h, noise):
        *_, samples = f(fixed, h, *args[2:-1], noise)
        return np.sum(samples**3) + np.sum(h)

    direction = random_like(rng, args)
    with pytest.raises(NotImplementedError, match="have one derivative"):
        hessian_vector_product(of_noise, [args[-1]], direction[-1:])
    with pytest.raises(NotImplementedError, match="have one derivative"):
        hessian_vector_product(
            of_both, [args[1], args[-1]], [direction[1], direction[-1]]
        )


def test_the_cotangent_of_samples_is_a_variable(kernels, reference, rng):
    """d/dc of a VJP with cotangent c is the JVP, which no kernel computes."""
    args = arguments(gaussian_problem(rng))
    samples_bar, noise_bar_bar = (rng.standard_normal(args[-1].shape) for _ in range(2))

    def pulled_back(module, samples_bar):
        def samples_of(noise):
            return chain(module)(*args[:-1], noise)[-1]

        return np.sum(make_vjp(samples_of)(args[-1])[0](samples_bar) * noise_bar_bar)

    want = grad(lambda bar: pulled_back(reference, bar))(samples_bar)
    assert np.isfinite(want).all()
    with pytest.raises(NotImplementedError, match="svae.reference"):
        grad(lambda bar: pulled_back(kernels, bar))(samples_bar)


@pytest.mark.parametrize("S", [0, 2])
def test_third_derivatives_are_refused(kernels, rng, S):
    args, f = arguments(gaussian_problem(rng, S=S)), chain(kernels)
    direction, outputs_bar = random_like(rng, args), random_like(rng, args)

    def second(*args):
        return hessian_vector_product(lambda *a: np.sum(f(*a)[0] ** 2), args, direction)

    with pytest.raises(NotImplementedError):
        cotangents(second, args, outputs_bar)


@pytest.mark.parametrize("sharing", ["shared", "step"])
@pytest.mark.parametrize("dense", [False, True])
def test_entries_past_a_length_are_never_read(chains, rng, sharing, dense):
    lengths = np.array([4, 1, 3])
    problem = gaussian_problem(rng, T=4, sharing=sharing, dense=dense, lengths=lengths)
    results = []
    for filler in (0.0, np.nan):
        args = arguments(fill_past_lengths(problem, filler))
        outputs = chain(chains, lengths)(*args)
        outputs_bar = [np.cos(np.arange(y.size)).reshape(y.shape) for y in outputs]
        results.append(
            [*outputs, *cotangents(chain(chains, lengths), args, outputs_bar)]
        )
    assert_identical(*results)


@pytest.mark.parametrize("sharing", ["shared", "sequence", "mixed"])
@pytest.mark.parametrize("D", [1, 3, 10, 96])
def test_a_sequence_alone_is_the_same_in_a_batch(kernels, rng, sharing, D):
    lengths = np.array([5, 1, 3, 5, 2, 4, 5, 5, 3, 1, 2])
    problem = gaussian_problem(rng, N=11, D=D, sharing=sharing, lengths=lengths)
    logZ, (_, pair_stats, node_stats), samples = kernels.gaussian_chain(*problem)
    outputs_bar = random_like(rng, [*node_stats, samples])
    node_bars = node_cotangents(kernels, problem, outputs_bar)
    for n, T in enumerate(lengths):
        alone = sequence(problem, n)
        one_logZ, (_, one_pair, one_node), one_samples = kernels.gaussian_chain(*alone)
        one_bars = node_cotangents(
            kernels, alone, [g[n : n + 1, ..., :T, :] for g in outputs_bar]
        )
        assert one_logZ[0] == logZ[n]
        in_batch = [*node_stats, samples, *node_bars]
        by_itself = [*one_node, one_samples, *one_bars]
        for whole, one in zip(in_batch, by_itself, strict=True):
            assert_identical(one[0], whole[n, ..., :T, :])
            assert not np.any(whole[n, ..., T:, :])
        for potential, whole, one in zip(
            problem.pair, pair_stats, one_pair, strict=True
        ):
            if potential.ndim == 4:
                assert_identical(one[0], whole[n, : one.shape[1]])


def node_cotangents(module, problem, outputs_bar):
    """Cotangents of diagonal node potentials and noise, from those of their outputs."""
    f = chain(module, problem.lengths)
    return cotangents(lambda *a: f(*a)[-3:], arguments(problem), outputs_bar)[-3:]


@each_sharing
def test_only_the_symmetric_part_of_J_counts(chains, rng, sharing):
    problem = gaussian_problem(rng, sharing=sharing, dense=True)
    f, args = chain(chains), arguments(problem)
    skewed = list(args)
    for k in (0, 2, 4, 5):
        skew = rng.standard_normal(args[k].shape)
        skewed[k] = args[k] + skew - np.swapaxes(skew, -1, -2)
    assert_close(f(*skewed), f(*args), 1e-12)
    args_bar = cotangents(f, skewed, random_like(rng, f(*args)))
    for k in (0, 2, 4, 5):
        assert_close([np.swapaxes(args_bar[k], -1, -2)], [args_bar[k]], 1e-14)


def test_samples_are_the_mean_and_a_root_of_the_covariance(chains, rng):
    problem = gaussian_problem(rng, N=2, T=3, D=2, S=0, sharing="step")
    basis = np.concatenate((np.zeros((1, 6)), np.eye(6))).reshape(1, 7, 3, 2)
    noise = np.repeat(basis, 2, axis=0)
    _, stats, samples = chains.gaussian_chain(*problem[:3], noise)
    (_, _), (_, ExxnT, _), (ExxT, Ex) = stats
    assert_close(samples[:, 0], Ex, 1e-12)
    root = samples[:, 1:] - samples[:, :1]
    second = np.einsum("nkti,nkuj->ntuij", root, root)
    second = second + np.einsum("nti,nuj->ntuij", Ex, Ex)
    steps = np.arange(3)
    assert_close(np.einsum("nttii->nti", second), ExxT, 1e-12)
    assert_close(second[:, steps[:-1], steps[1:]], ExxnT, 1e-12)


def test_unobserved_steps_leave_the_prior(chains, rng):
    N, T, D = 2, 6, 3
    A, Q, P0 = 0.5 * rng.standard_normal((D, D)), np.eye(D) / 2, np.eye(D) * 2
    precision = np.linalg.inv(Q)
    pair = -A.T @ precision @ A / 2, A.T @ precision, -precision / 2
    m0 = rng.standard_normal(D)
    init = -np.linalg.inv(P0) / 2, np.linalg.solve(P0, m0)
    node = np.zeros((N, T, D, D)), np.zeros((N, T, D))
    logZ, (_, _, (ExxT, Ex)), _ = chains.gaussian_chain(init, pair, node)
    mean, cov = m0, P0
    for t in range(T):
        assert_close([Ex[0, t], ExxT[1, t]], [mean, cov + np.outer(mean, mean)], 1e-12)
        mean, cov = A @ mean, A @ cov @ A.T + Q
    log_dets = np.linalg.slogdet(2 * np.pi * P0)[1], np.linalg.slogdet(2 * np.pi * Q)[1]
    want = (m0 @ init[1] + log_dets[0] + (T - 1) * log_dets[1]) / 2
    assert_close([logZ], [np.full(N, want)], 1e-12)


def test_accepts_lists_keywords_and_any_memory_layout(chains, rng):
    problem = gaussian_problem(rng, sharing="step", dense=True)
    want = chains.gaussian_chain(*problem)

    def strided(x):
        x = np.moveaxis(np.repeat(np.moveaxis(x, 0, -1), 2, axis=-1)[..., ::2], -1, 0)
        x.flags.writeable = False
        return x

    init, pair, node = ([strided(x) for x in part] for part in problem[:3])
    got = chains.gaussian_chain(
        noise=strided(problem.noise), node=node, pair=pair, init=init, lengths=[5, 5, 5]
    )
    assert_identical(got, want)


def test_integers_are_converted(chains):
    init, pair = (-np.eye(2, dtype=int), np.ones(2, int)), [np.zeros((2, 2), int)] * 3
    node = -np.ones((1, 3, 2), int), np.ones((1, 3, 2), int)
    floats = [tuple(x.astype(float) for x in part) for part in (init, pair, node)]
    assert_close(
        chains.gaussian_chain(init, pair, node), chains.gaussian_chain(*floats), 0.0
    )


def test_without_noise_there_are_no_samples(chains, rng):
    assert chains.gaussian_chain(*gaussian_problem(rng, S=0))[2] is None
