r"""A control variate for the expected log likelihood.

The likelihood of a frame, as a function of x, is much like the evidence of the
recognition network, ``<r, t(x)>``, whose expectation under q(x) is known.  So

.. math:: \mathbb{E}_q \log p(y \mid x) = \langle r, \mathbb{E}_q[t(x)] \rangle
          + \mathbb{E}_q [\log p(y \mid x) - \langle r, t(x) \rangle],

and only what is left is estimated by samples: where the likelihood is linear-Gaussian
and the network knows it, that is a constant.  The potentials r are constants here, so
that the estimate and its gradients in q(x) and in the decoder have the same
expectations as without.
"""

from typing import Any

import numpy as np
from autograd.extend import defvjp_argnums

from svae.autodiff.primitive import primitive

__all__ = ["control_variate"]


@primitive
def control_variate(
    mean: Any, second_moment: Any, samples: Any, weights: Any, J: Any, h: Any
) -> Any:
    r"""Return ``<r, E_q[t(x)]>`` less its estimate by samples, for each sequence, (N,).

    Parameters
    ----------
    mean : (N, T, D) array
        E[x].
    second_moment : (N, T, D) or (N, T, D, D) array
        E[x^2], or E[x x'].
    samples : (N, S, T, D) array
        Of x.
    weights : (N, S, T) array, or None
        Probabilities of the samples; by default all of a sequence have the same.
    J, h : (N, T, D) arrays
        Node potentials r, constants; zero where nothing is known.
    """
    squares = second_moment
    if second_moment.ndim != mean.ndim:
        squares = np.einsum("ntdd->ntd", second_moment)
    expectation = np.einsum("ntd,ntd->n", J, squares)
    expectation += np.einsum("ntd,ntd->n", h, mean)
    values = (J[:, None] * samples + h[:, None]) * samples
    if weights is None:
        return expectation - values.sum(axis=(1, 2, 3)) / samples.shape[1]
    return expectation - np.einsum("nst,nstd->n", weights, values)


def _vjp(argnums: Any, ans: Any, args: Any, kwargs: Any) -> Any:
    mean, second_moment, samples, weights, J, h = args

    def vjp(g: Any) -> Any:
        rows = g[:, None, None]
        # of <r, t(x)> in a sample x
        slopes = 2.0 * J[:, None] * samples + h[:, None]
        cotangents: dict[int, Any] = {0: rows * h, 1: rows * J}
        if second_moment.ndim != mean.ndim:
            cotangents[1] = cotangents[1][..., None] * np.eye(J.shape[-1])
        if weights is None:
            cotangents[2] = -(rows[..., None] / samples.shape[1]) * slopes
        else:
            cotangents[2] = -(rows * weights)[..., None] * slopes
            values = ((J[:, None] * samples + h[:, None]) * samples).sum(axis=-1)
            cotangents[3] = -rows * values
        return [cotangents[argnum] for argnum in argnums]

    return vjp


defvjp_argnums(control_variate, _vjp)
