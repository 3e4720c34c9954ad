"""What a chain says of each step, given the steps up to it or those before it.

The same functions as in `svae.reference`, which defines them and has their derivatives:
these here refuse to be differentiated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from autograd.tracer import isbox

from svae.kernels import gaussian, markov
from svae.kernels.arguments import as_arrays
from svae.types import Array, Integers

__all__ = ["gaussian_filter", "markov_filter"]

Moments = tuple[Array, Array, Array]


def gaussian_filter(
    init: Iterable[Array],
    pair: Iterable[Array],
    node: Iterable[Array],
    lengths: Integers | None = None,
) -> tuple[Moments, Moments]:
    """Log normalizers and moments of the last step of every prefix of Gaussian chains.

    The prefix of t steps has the potential of x_1, those of the nodes 1..t and those of
    the pairs (1, 2)..(t-1, t): it is a chain of its own, and knows nothing of what
    follows. Pairs that are conditional densities, ones that integrate to one over
    x_{t+1} for any x_t, make it the chain's x_t given the evidence up to t, the Kalman
    filter; of others it is what `gaussian_chain` says of the last of t steps. Not
    differentiable; `svae.reference.gaussian_filter` is.

    Parameters
    ----------
    init, pair, node, lengths : as in `gaussian_chain`

    Returns
    -------
    filtered : (logZ (N, T), mean (N, T, D), covariance (N, T, D, D))
        Of the prefix of t steps: its log normalizer, and the moments of its x_t.
    predicted : (logZ (N, T), mean (N, T, D), covariance (N, T, D, D))
        The same without its last node. The difference of the log normalizers is what
        the evidence of step t says, given that of the steps before it. All are zero
        past a length.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or holds a number that is not finite.
    NotPositiveDefinite
        If a prefix, with or without its last node, has no proper Gaussian.
    FloatingPointError
        If a result is too large for a float.
    TypeError
        Under autograd.
    """
    init, pair, node, _, lengths = gaussian.as_chain(init, pair, node, None, lengths)
    _refuse_boxes("gaussian_filter", [*init, *pair, *node])
    return gaussian.filter_forward((*init, *pair, *node), lengths)


def markov_filter(
    init: Array, pair: Array, node: Array, lengths: Integers | None = None
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Log normalizers and probabilities of the last step of every prefix.

    The prefix of t steps has the potentials of z_1, of the nodes 1..t and of the pairs
    (1, 2)..(t-1, t), as in `gaussian_filter`. Rows of pairs that sum to one make it the
    chain's z_t given the evidence up to t (Rabiner 1989, Eq. 20). Not differentiable;
    `svae.reference.markov_filter` is.

    Parameters and errors as in `markov_chain`; TypeError under autograd.

    Returns
    -------
    filtered : (logZ (N, T), probabilities (N, T, K))
        Of the prefix of t steps: its log normalizer, and the law of its z_t.
    predicted : (logZ (N, T), probabilities (N, T, K))
        The same without its last node. All are zero past a length.
    """
    init, pair, node = as_arrays((init, pair, node), "init", "pair", "node")
    _refuse_boxes("markov_filter", [init, pair, node])
    lengths = markov.checked_lengths(init, pair, node, lengths)
    return markov.filter_forward(init, pair, node, lengths)


def _refuse_boxes(name: str, arrays: Sequence[Array]) -> None:
    if any(map(isbox, arrays)):
        raise TypeError(
            f"svae.kernels.{name} has no derivatives: differentiate "
            f"svae.reference.{name}"
        )
