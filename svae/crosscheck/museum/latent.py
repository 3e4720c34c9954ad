"""Mistakes in families and latent models: digammas, degrees of freedom, bounds."""

from collections.abc import Callable
from typing import Any

import autograd.numpy as np
import numpy as onp

from svae import families
from svae.autodiff.special import digamma
from svae.crosscheck.museum.gallery import mistake
from svae.families import dirichlet, wishart
from svae.types import Array

Function = Callable[..., Any]
FAMILY = ("family",)


def with_digammas(right: Function, arguments: Function) -> Function:
    """Return expected statistics of a Wishart with other arguments of the digammas."""

    def wrong(nu: Array, dim: int, inverse: Array, log_det_S: Array) -> Any:
        half_precision, half_log_det = right(nu, dim, inverse, log_det_S)
        several = wishart._gamma_arguments(nu, dim)
        change = arguments(np.reshape(nu, (*onp.shape(nu), 1)), onp.arange(dim))
        change = np.sum(change - digamma(several), axis=-1)
        return half_precision, half_log_det + 0.5 * change

    return wrong


@mistake(
    "digammas-of-nu-plus-i",
    "E[log|L|] has the digammas of (nu + 1 + i)/2 where (nu - i)/2 belong",
    FAMILY,
    (wishart, "_expected_stats"),
    ("family-wishart", "family-niw"),
)
def _digammas_plus(right: Function) -> Function:
    """The mixture that accompanies Lin et al. (2018) as a baseline has it.

    Its E-step runs the index of the digammas upwards; that of its Student-t mixture
    likewise, without the one.
    """
    return with_digammas(right, lambda nu, i: digamma((nu + 1 + i) / 2))


@mistake(
    "logarithm-for-digamma",
    "E[log|L|] is taken for log|E[L]|: logarithms where digammas belong",
    FAMILY,
    (wishart, "_expected_stats"),
    ("family-wishart", "family-niw"),
)
def _logarithms(right: Function) -> Function:
    """Means, plugged into a density.

    The bound of the code of Lin et al. (2018) puts the expectations of mean and
    precision into the logarithm of the Gaussian; that is no bound.
    """
    return with_digammas(right, lambda nu, i: np.log(nu / 2) + 0.0 * i)


@mistake(
    "one-more-degree-of-freedom",
    "there is one degree of freedom too many",
    FAMILY,
    (wishart, "_expected_stats"),
    ("family-wishart", "family-niw"),
)
def _one_more(right: Function) -> Function:
    """The mixture that accompanies Lin et al. (2018) as a baseline has it.

    Its M-step adds one to the prior's degrees of freedom and the number of points.
    """

    def wrong(nu: Array, *rest: Any) -> Any:
        return right(nu + 1, *rest)

    return wrong


@mistake(
    "three-for-any-dimension",
    "degrees of freedom have 3 where D + 1 belongs, which is right in two dimensions",
    FAMILY,
    (wishart, "_expected_stats"),
    ("family-wishart-one-dimension",),
)
def _three(right: Function) -> Function:
    """The switching system of jax-moseq 0.3.7 adds 3 whatever the dimension.

    Constants of a test in two dimensions stay in code for all.
    """

    def wrong(nu: Array, dim: int, *rest: Any) -> Any:
        return right(nu + 3 - (dim + 1), dim, *rest)

    return wrong


@mistake(
    "gammas-without-pi",
    "the multivariate gamma function lacks its powers of pi",
    FAMILY,
    (wishart, "_log_normalizer"),
    ("family-wishart", "family-niw", "family-mniw"),
)
def _gammas_without_pi(right: Function) -> Function:
    """Constants that cancel as long as only one bound is looked at."""

    def wrong(nu: Array, dim: int, log_det_S: Array) -> Any:
        constant = 0.25 * dim * (dim - 1) * wishart.LOG_PI
        return right(nu, dim, log_det_S) - constant

    return wrong


@mistake(
    "divergence-the-other-way",
    "the divergence is KL(p || q)",
    FAMILY,
    (families, "kl"),
    ("family-gaussian", "family-dirichlet", "family-niw"),
)
def _divergence_reversed(right: Function) -> Function:
    """Nobody in particular; libraries name the arguments in either order."""

    def wrong(family: Any, q: Any, p: Any) -> Any:
        return right(family, p, q)

    return wrong


@mistake(
    "digammas-without-the-total",
    "E[log pi] lacks the digamma of the sum",
    FAMILY,
    (dirichlet, "expected_stats"),
    ("family-dirichlet",),
)
def _without_total(right: Function) -> Function:
    """Exponentials of digammas, taken for probabilities and normalised afterwards.

    The states come out right, as the term is common to them, and the bound does not.
    """

    def wrong(natparams: Any) -> Any:
        total = np.sum(natparams[0] + 1.0, axis=-1, keepdims=True)
        return (right(natparams)[0] + digamma(total),)

    return wrong


@mistake(
    "alpha-for-its-natural-parameter",
    "the natural parameter is alpha, not alpha - 1",
    FAMILY,
    (dirichlet, "expected_stats"),
    ("family-dirichlet",),
)
def _alpha_for_natural(right: Function) -> Function:
    """Two conventions, by whether the base measure has the one.

    Of the codes of structured variational autoencoders some have one and some the
    other.
    """

    def wrong(natparams: Any) -> Any:
        return right((natparams[0] - 1.0,))

    return wrong
