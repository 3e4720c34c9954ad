"""Mistakes in the chains, each in the place of one function of `svae.reference`."""

from collections.abc import Callable
from typing import Any

import autograd.numpy as np
import numpy as onp
from autograd.extend import defvjp, primitive
from autograd.tracer import getval

from svae import reference
from svae.crosscheck.museum.gallery import mistake
from svae.types import Array

Function = Callable[..., Any]
GAUSSIAN, MARKOV = ("gaussian_chain",), ("markov_chain",)
BOTH = GAUSSIAN + MARKOV


def plain(x: Any) -> Any:
    """Return arrays through which no gradient flows."""
    if isinstance(x, (tuple, list)):
        return tuple(map(plain, x))
    while hasattr(x, "_value"):
        x = getval(x)
    return x


@mistake(
    "dropped-pair-gradient",
    "no gradient reaches the potentials of the first step and of pairs",
    GAUSSIAN,
    (reference, "gaussian_chain"),
    ("gaussian-chain-small",),
)
def _dropped_pair_gradient(right: Function) -> Function:
    """The code of the 2016 paper has it.

    Its compiled filter has derivatives in the node potentials alone, so that the
    natural gradient of a linear dynamical system cannot be had in full.
    """

    def wrong(init: Any, pair: Any, node: Any, *rest: Any) -> Any:
        return right(plain(tuple(init)), plain(tuple(pair)), node, *rest)

    return wrong


@mistake(
    "extra-predict-step",
    "the filter predicts once more after the last step, and log Z counts that pair",
    GAUSSIAN,
    (reference, "gaussian_chain"),
    ("gaussian-chain-small",),
)
def _extra_predict_step(right: Function) -> Function:
    """A PyTorch rewrite of the 2016 code has it.

    It integrates a pair potential once past the last frame; its local KL is off by
    that.
    """

    def wrong(
        init: Any, pair: Any, node: Any, noise: Any = None, lengths: Any = None
    ) -> Any:
        node = tuple(node)
        N, T, D = node[1].shape
        _, stats, samples = right(init, pair, node, noise, lengths)
        longer = [
            J
            if J.ndim == 2 or J.shape[1] == 1
            else np.concatenate((J, J[:, -1:]), axis=1)
            for J in pair
        ]
        further = [np.concatenate((x, 0.0 * x[:, :1]), axis=1) for x in node]
        lengths = None if lengths is None else onp.asarray(lengths) + 1
        logZ = right(init, longer, further, None, lengths)[0]
        return logZ, stats, samples

    return wrong


@mistake(
    "short-pair-statistics",
    "sums over pairs leave out the last pair: T-2 of T-1",
    GAUSSIAN,
    (reference, "gaussian_chain"),
    ("gaussian-chain-small",),
)
def _short_pair_statistics(right: Function) -> Function:
    """Loops over range(T - 2) have it.

    Whether T steps have T-1 or T-2 transitions to sum is the question of dynamax's
    issue 310.
    """

    def wrong(
        init: Any, pair: Any, node: Any, noise: Any = None, lengths: Any = None
    ) -> Any:
        node, pair = tuple(node), tuple(pair)
        N, T, D = node[1].shape
        logZ, (of_init, of_pair, of_node), samples = right(
            init, pair, node, noise, lengths
        )
        each = [J + np.zeros((N, max(T - 1, 0), D, D)) for J in pair]
        single = right(init, each, node, None, lengths)[1][1]
        ends = onp.full(N, T) if lengths is None else onp.asarray(lengths)
        kept = (onp.arange(max(T - 1, 0)) < ends[:, None] - 2)[..., None, None]
        short = tuple(
            reference._like(J, np.where(kept, S, 0.0))
            for J, S in zip(pair, single, strict=True)
        )
        return logZ, (of_init, short, of_node), samples

    return wrong


@mistake(
    "transposed-pair",
    "J12 is transposed: it multiplies x_{t+1} x_t'",
    GAUSSIAN,
    (reference, "_block_tridiagonal"),
    ("gaussian-chain-small",),
)
def _transposed_pair(right: Function) -> Function:
    """Nobody in particular; papers write A' Q^-1 and Q^-1 A.

    Which of x_t and x_{t+1} is the row is a convention that a symmetric A hides.
    """

    def wrong(*arguments: Any) -> Any:
        precision, coupling, h = right(*arguments)
        return precision, reference._transpose(coupling), h

    return wrong


@mistake(
    "half-J",
    "J is taken for minus the precision, without the half",
    GAUSSIAN,
    (reference, "_block_tridiagonal"),
    ("gaussian-chain-small",),
)
def _half_precision(right: Function) -> Function:
    """Two conventions that live side by side in one code.

    J is minus half the precision where statistics are x x', and the precision itself in
    many an information filter.
    """

    def wrong(*arguments: Any) -> Any:
        precision, coupling, h = right(*arguments)
        return precision / 2, coupling, h

    return wrong


@mistake(
    "missing-two-pi",
    "log Z lacks the constant (D/2) log 2 pi of every step",
    GAUSSIAN,
    (reference, "gaussian_chain"),
    ("gaussian-chain-small",),
)
def _missing_two_pi(right: Function) -> Function:
    """Wherever only differences of a bound matter.

    It is missed where bounds are compared. The variational Gaussian HMM of hmmlearn
    leaves such a constant out, as its source says.
    """

    def wrong(
        init: Any, pair: Any, node: Any, noise: Any = None, lengths: Any = None
    ) -> Any:
        node = tuple(node)
        N, T, D = node[1].shape
        logZ, *rest = right(init, pair, node, noise, lengths)
        steps = onp.full(N, T) if lengths is None else onp.asarray(lengths)
        return (logZ - steps * D / 2 * onp.log(2 * onp.pi), *rest)

    return wrong


@mistake(
    "lengths-ignored",
    "the steps behind the ends of short sequences are counted",
    BOTH,
    (reference, "_live"),
    ("gaussian-chain-ragged", "markov-chain-ragged"),
)
def _lengths_ignored(right: Function) -> Function:
    """Padded batches without a mask.

    Of the five earlier codes of structured variational autoencoders none takes ragged
    lengths in full.
    """

    def wrong(lengths: Any, num_sequences: int, num_timesteps: int) -> Any:
        return right(None, num_sequences, num_timesteps)

    return wrong


@mistake(
    "statistic-averaged",
    "the statistic of a shared potential is a mean over sequences, not a sum",
    BOTH,
    (reference, "_like"),
    ("gaussian-chain-small", "markov-chain-small"),
)
def _statistic_averaged(right: Function) -> Function:
    """A mean over the batch where the sum belongs.

    The posterior of the parameters then weighs a data set as if it were one sequence.
    """

    def wrong(potential: Any, stat: Any) -> Any:
        shared = stat.ndim > potential.ndim
        return right(potential, stat) / (len(stat) if shared else 1)

    return wrong


@mistake(
    "samples-without-gradient",
    "no gradient flows through the samples",
    GAUSSIAN,
    (reference, "_sampler"),
    ("gaussian-chain-small",),
)
def _samples_without_gradient(right: Function) -> Function:
    """A sampler outside of the traced computation.

    What is differentiated is then the other factor of the expectation alone.
    """

    def wrong(factors: Any, noise: Any, live: Any) -> Any:
        return right(plain([plain(factor) for factor in factors]), plain(noise), live)

    return wrong


@mistake(
    "sampler-jitter",
    "samples have a covariance with 1e-3 added to its diagonal",
    GAUSSIAN,
    (reference, "_sampler"),
    ("gaussian-chain-small",),
)
def _sampler_jitter(right: Function) -> Function:
    """A revisit of structured variational autoencoders, with parallel scans, has it.

    Its sampler adds 1e-3 I to the covariances that it draws from, twice, so that
    samples and moments disagree.
    """

    def wrong(factors: Any, noise: Any, live: Any) -> Any:
        D = factors[0][0].shape[-1]
        moved = []
        for L, W, w in factors:
            root = np.linalg.inv(L)
            cov = np.swapaxes(root, -1, -2) @ root + 1e-3 * np.eye(D)
            jittered = np.linalg.cholesky(np.linalg.inv(cov))
            ratio = np.linalg.solve(jittered, L)
            moved.append((jittered, ratio @ W, (ratio @ w[..., None])[..., 0]))
        return right(moved, noise, live)

    return wrong


@mistake(
    "precision-jitter",
    "1e-6 is added to the diagonal of precisions before they are factorised",
    GAUSSIAN,
    (reference, "_block_tridiagonal"),
    ("gaussian-chain-small",),
)
def _precision_jitter(right: Function) -> Function:
    """Common in code for single precision.

    A helper, often named psd, adds a small multiple of the identity to whatever it is
    given.
    """

    def wrong(*arguments: Any) -> Any:
        precision, coupling, h = right(*arguments)
        return precision + 1e-6 * np.eye(h.shape[-1]), coupling, h

    return wrong


@primitive
def _with_mean_cotangent(logZ: Any) -> Any:
    return logZ


defvjp(
    _with_mean_cotangent,
    lambda ans, logZ: lambda g: np.mean(g) * onp.ones(onp.shape(plain(logZ))),
)


@mistake(
    "one-cotangent-for-all",
    "every sequence has the mean of the cotangents of log Z",
    GAUSSIAN,
    (reference, "gaussian_chain"),
    ("gaussian-chain-small",),
)
def _one_cotangent_for_all(right: Function) -> Function:
    """A custom gradient over summed statistics.

    What is kept is the statistics of shared potentials, summed over sequences, and
    these can only be multiplied by one number: right as long as all sequences have one
    cotangent, as they do in most tests.
    """

    def wrong(*arguments: Any) -> Any:
        logZ, *rest = right(*arguments)
        return (_with_mean_cotangent(logZ), *rest)

    return wrong


@mistake(
    "covariance-as-second-moment",
    "E[x x'] is the covariance: the product of the means is missing",
    GAUSSIAN,
    (reference, "_outer"),
    ("gaussian-chain-small",),
)
def _covariance_as_second_moment(right: Function) -> Function:
    """Moments and covariances change places easily.

    Here a statistic lacks the product of the means.
    """

    def wrong(a: Array, b: Array) -> Array:
        return 0.0 * right(a, b)

    return wrong


@mistake(
    "log-sum-exp-without-maximum",
    "exponentials are summed without the largest taken out",
    MARKOV,
    (reference, "_finite_max"),
    ("markov-chain-spread-1000",),
)
def _log_sum_exp_without_maximum(right: Function) -> Function:
    """As it is written in papers.

    Log potentials above 709 overflow and those below -745 vanish; an issue of
    pymc-extras (720) reports gradients that are NaN from about 90 steps on.
    """

    def wrong(x: Any, axis: Any) -> Any:
        return onp.max(onp.zeros(onp.shape(plain(x))), axis, keepdims=True)

    return wrong


@mistake(
    "transposed-pair-of-states",
    "pair[i, j] is from j to i",
    MARKOV,
    (reference, "_over_steps"),
    ("markov-chain-small",),
)
def _transposed_transitions(right: Function) -> Function:
    """Nobody in particular; in half of the literature columns sum to one.

    A symmetric matrix hides the difference, and a sticky one most of it.
    """

    def wrong(init: Any, pair: Any, node: Any, live: Any) -> Any:
        return right(init, np.swapaxes(pair, -1, -2), node, live)

    return wrong


@mistake(
    "marginals-for-viterbi",
    "each step has its own most likely state, not that of the most likely path",
    ("viterbi",),
    (reference, "viterbi"),
    ("viterbi-small",),
)
def _marginals_for_viterbi(right: Function) -> Function:
    """The most likely states, taken for the most likely path.

    Such a path may even be impossible.
    """

    def wrong(init: Any, pair: Any, node: Any, lengths: Any = None) -> Any:
        paths, logprob = right(init, pair, node, lengths)
        probs = reference.markov_chain(init, pair, node, lengths)[1][2]
        return onp.where(paths < 0, -1, onp.argmax(probs, -1)), logprob

    return wrong


@mistake(
    "viterbi-without-start",
    "the most likely path begins in any state for nothing",
    ("viterbi",),
    (reference, "_over_steps"),
    ("viterbi-small",),
)
def _viterbi_without_start(right: Function) -> Function:
    """The recursion, begun with the evidence of the first step alone."""

    def wrong(init: Any, pair: Any, node: Any, live: Any) -> Any:
        return right(0.0 * onp.where(onp.isfinite(init), init, 0.0), pair, node, live)

    return wrong
