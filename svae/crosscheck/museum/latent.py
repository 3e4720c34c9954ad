"""Mistakes in families and latent models: digammas, degrees of freedom, bounds."""

from collections.abc import Callable
from typing import Any

import autograd.numpy as np
import numpy as onp

from svae import families
from svae.autodiff.operations import value_of
from svae.autodiff.special import digamma
from svae.autodiff.trees import tree_map
from svae.crosscheck import our_models
from svae.crosscheck.museum.gallery import mistake
from svae.families import dirichlet, wishart
from svae.models import lds
from svae.models.inference import fixed_point, mixture, structured
from svae.objective import bound
from svae.types import Array

Function = Callable[..., Any]
FAMILY, NATURAL = ("family",), ("natural_gradient",)
MIXTURE, SWITCHING = ("mixture_bound",), ("switching_bound",)
NETWORK = ("inference_network",)


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
    """A constant of one setting, kept for all.

    In the switching system of jax-moseq 0.3.7 the degrees of freedom of noise scales
    grow by 3 whatever the dimension of the data; here such a constant stands in another
    place.
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


@mistake(
    "correction-dropped",
    "the natural gradient is its conjugate part alone",
    NATURAL,
    (bound, "contribution"),
    ("gmm-natural-gradient", "lds-natural-gradient", "slds-natural-gradient"),
)
def _correction_dropped(right: Function) -> Function:
    """The code of the 2016 paper has it, and its rewrite in PyTorch.

    What the networks say of the latents beside the surrogate is missing; it vanishes
    where recognition is conjugate and exact.
    """

    def wrong(*arguments: Any) -> Any:
        return right(*arguments[:6], "conjugate")

    return wrong


@mistake(
    "algorithm-1-as-printed",
    "the correction is the gradient of E[log p(y|x)], not of E[log p(y|x) - psi]",
    NATURAL,
    (bound, "contribution"),
    ("gmm-natural-gradient", "lds-natural-gradient", "slds-natural-gradient"),
)
def _as_printed(right: Function) -> Function:
    """Algorithm 1 of the 2016 paper, read literally.

    The surrogate's own gradient vanishes at its optimum, so that its evidence has to be
    taken out of the likelihood: see docs/errata.md.
    """

    def wrong(*arguments: Any) -> Any:
        model, message, encoder, decoder, batch, noise, kind = arguments[:7]
        full = right(*arguments)
        if kind != "full":
            return full
        conjugate = right(*arguments[:6], "conjugate").message
        # the likelihood of a decoder that does not look at x has no gradient in m
        blind = tree_map(onp.zeros_like, decoder) | {"variance": decoder["variance"]}
        without = right(model, message, encoder, blind, batch, noise, "full").message
        printed = tree_map(lambda c, f, w: c + f - w, conjugate, full.message, without)
        return full._replace(message=printed)

    return wrong


@mistake(
    "minibatch-not-scaled",
    "a batch of M of N data counts as M data",
    NATURAL,
    (our_models, "Batch"),
    ("gmm-natural-gradient", "lds-natural-gradient"),
)
def _not_scaled(right: Function) -> Function:
    """The code of Lin et al. (2018) has it in the statistics of q(theta).

    The posterior is then as concentrated as if the batch were all there is.
    """

    def wrong(*arguments: Any, **options: Any) -> Any:
        return right(*arguments, **(options | {"scale": 1.0}))

    return wrong


@mistake(
    "solve-skipped",
    "the fixed point's own feedback is left out of gradients",
    NATURAL,
    (fixed_point, "conjugate_gradients"),
    ("slds-natural-gradient",),
)
def _solve_skipped(right: Function) -> Function:
    """The code of the 2016 paper has it for mixtures and switching systems.

    Labels are found by a loop that is not differentiated, and one more update is: a
    third of the gradient in a small example.
    """

    def wrong(hessian: Any, coupling: Any, g: Any, *rest: Any, **options: Any) -> Any:
        _, _, iterations, residual = right(hessian, coupling, g, *rest, **options)
        return g, hessian(g), iterations, residual

    return wrong


@mistake(
    "series-cut-short",
    "the implicit gradient is a series cut after ten terms",
    NATURAL,
    (fixed_point, "conjugate_gradients"),
    ("slds-natural-gradient",),
)
def _series_cut(right: Function) -> Function:
    """A later implementation of structured autoencoders in JAX has it.

    Richardson's iteration, damped by a half, goes ten steps, however far it has come.
    """

    def wrong(hessian: Any, coupling: Any, g: Any, *rest: Any, **options: Any) -> Any:
        _, _, iterations, residual = right(hessian, coupling, g, *rest, **options)
        solution = g
        for _ in range(10):
            solution = 0.5 * solution + 0.5 * (coupling(hessian(solution)) + g)
        return solution, hessian(solution), iterations, residual

    return wrong


@mistake(
    "bound-counts-a-term-twice",
    "the bound counts the expected log density of x given z in both of its factors",
    MIXTURE + SWITCHING,
    (our_models, "inner"),
    ("gmm-bound", "slds-bound"),
)
def _term_twice(right: Function) -> Function:
    """A PyTorch rewrite of the 2016 code has it in the local KL of mixtures.

    The log normalizers of q(x) and q(z) both contain the term that couples them.
    """

    def wrong(a: Any, b: Any) -> Any:
        return 0.0 * right(a, b)

    return wrong


@mistake(
    "sign-of-the-local-divergence",
    "the local KL divergence has the other sign",
    NATURAL,
    (bound, "_assemble"),
    ("gmm-natural-gradient", "lds-natural-gradient"),
)
def _local_sign(right: Function) -> Function:
    """Two models in the code of the 2016 paper return minus what the bound expects."""

    def wrong(*arguments: Any) -> Any:
        *others, local_kl, decoder_kl = arguments
        return right(*others, -local_kl, decoder_kl)

    return wrong


@mistake(
    "global-divergence-forgotten",
    "the objective lacks KL(q(theta) || p(theta))",
    NATURAL,
    (bound, "_assemble"),
    ("gmm-natural-gradient", "lds-natural-gradient"),
)
def _global_forgotten(right: Function) -> Function:
    """The code of Lin et al. (2018) prints such a number as its bound."""

    def wrong(*arguments: Any) -> Any:
        found = right(*arguments)
        objective = found.reconstruction - found.local_kl
        return found._replace(objective=objective, global_kl=0.0)

    return wrong


@mistake(
    "normalizer-of-t-transitions",
    "a chain of T steps has the constants of T transitions",
    NETWORK + NATURAL,
    (lds, "combination"),
    ("lds-inference-network", "lds-natural-gradient"),
)
def _t_transitions(right: Function) -> Function:
    """A later implementation of structured inference networks in JAX has it.

    The bound is off by a constant that depends on theta, whose gradient is then wrong.
    """

    def wrong(beside: Any, counts: Any, *constants: Any) -> Any:
        of_init = 2  # the quadratic term of the mean, and the log determinant
        several = [*counts[:of_init], *(count + 1.0 for count in counts[of_init:])]
        return right(beside, several, *constants)

    return wrong


@mistake(
    "samples-alike",
    "samples given each state count alike, not by the probability of the state",
    NETWORK,
    (mixture, "stacked"),
    ("gmm-inference-network", "hmm-inference-network"),
)
def _samples_alike(right: Function) -> Function:
    """Samples for every state, averaged as if they were draws of the mixture."""

    def wrong(samples: Any, states: Any) -> Any:
        drawn, weights = right(samples, states)
        return drawn, onp.full(onp.shape(value_of(weights)), 1.0 / drawn.shape[1])

    return wrong


@mistake(
    "graph-without-gradient",
    "no gradient reaches the parameters of the graph of inference",
    NETWORK,
    (structured, "infer"),
    ("gmm-inference-network", "lds-inference-network", "hmm-inference-network"),
)
def _graph_constant(right: Function) -> Function:
    """Where the graph is the prior's message it needs none; one of its own does."""

    def wrong(latent: Any, graph: Any, *rest: Any) -> Any:
        return right(latent, tree_map(value_of, graph), *rest)

    return wrong


@mistake(
    "inverse-of-evidence",
    "evidence is a mean and a covariance, which a frame without data has not",
    NETWORK,
    (mixture, "given_states"),
    ("gmm-inference-network-nothing-observed",),
)
def _inverse_of_evidence(right: Function) -> Function:
    """The code of Lin et al. (2018) has it.

    Probabilities of states are densities of the encoder's mean, for which its precision
    is inverted.
    """

    def wrong(graph: Any, evidence: Any, noise: Any) -> Any:
        onp.linalg.inv(-2.0 * value_of(evidence.J))
        return right(graph, evidence, noise)

    return wrong
