r"""Exponential families: natural parameters, statistics, log normalizers.

A member of a family has the density

.. math:: p(x) = h(x) \exp\{\langle \eta, t(x) \rangle - \log Z(\eta)\},

and every module here is one family, with the same functions:

=====================================  ===============================================
``from_standard(...)``                 standard parameters -> natural parameters
``to_standard(natparams)``             and back, as the arguments of ``from_standard``
``log_normalizer(natparams)``          log Z, one number for each batch element
``expected_stats(natparams)``          E[t(x)], the gradient of the sum of log Z
``measure(natparams)``                 E[t(x)] and log Z at once, where that saves work
``stats(x)``                           t(x) of what ``sample`` returns
``mean(natparams)``                    E[x] of what ``sample`` returns, where x is a
                                       number
``sample(natparams, rng, size=())``    draws of x, shape ``(*size, *batch, *event)``
``in_domain(natparams)``               whether all batch elements are proper
``to_free(stats)``, ``from_free``      unconstrained coordinates of a message, in the
                                       priors of x and z (Dirichlet, NIW, MNIW)
=====================================  ===============================================

Natural parameters and statistics are plain tuples of arrays of equal shapes, with any
leading batch axes.  `kl` serves all families, `svae.families.product` joins them into
the q(theta) of a model.

Convention
----------
Natural parameters are literal, what multiplies ``t(x)`` and nothing else: no factor 1/2
is left to remember, and log normalizers are true integrals, against the base measure h
that each module states.  Of a symmetric matrix only the symmetric part counts.

===========  =============================================  ============================
family       t(x)                                           natural parameter
===========  =============================================  ============================
gaussian     (x x', x), or (x * x, x)                       (-P/2, P mean), P = cov^-1
categorical  one-hot of z                                   log potentials
dirichlet    log pi                                         alpha - 1
wishart      (-L/2, log|L|/2)                               (S, nu)
niw          (-L/2, L mu, -mu'L mu/2, log|L|/2)             (S + k m m', k m, k, nu)
mniw         (-A'L A/2, A'L, -L/2, log|L|/2)                (V, V M', S + M V M', nu)
===========  =============================================  ============================

with L the precision (Sigma^-1, Q^-1) and V = K^-1.  A datum adds 1 to nu (and to
kappa), so nu is the ordinary number of degrees of freedom.

Other implementations choose other constants.  To convert *from* them:

===========  ===========================  ==========================  =================
family       mattjj/svae [1]_,            emtiyaz/vmp-for-svae [2]_   SVAE-Implicit [3]_
             JohanvandenHeuvel/SVAE
===========  ===========================  ==========================  =================
dirichlet    the same; their scripts      the same                    the same
             pass alpha *as* eta, so
             alpha is 1 more than named
niw          the same numbers, packed     nu = (4th slot) - D - 2     nu = (4th) - D - 2
             in a (D+2, D+2) matrix
mniw         the same                     none                        order reversed,
                                                                      M = [A | bias],
                                                                      nu = (that of L)
                                                                      - D - Din - 1
gaussian     the same; 2 pi left out      -                           -
             of log Z
===========  ===========================  ==========================  =================

Such offsets of nu move powers of ``|L|`` into the base measure, so KL divergences and
natural gradients agree, but expected statistics need the true nu.

The paper's symbols in the code: eta_theta^0 is ``prior``, eta_theta ``natparams``,
E t_theta(theta) ``expected_stats`` (the prior's message), eta_x the chain's
potentials, r(y; phi) the ``node`` potentials made by the ``encoder`` (phi), gamma the
weights of the ``decoder``.

References
----------
.. [1] Johnson, Duvenaud, Wiltschko, Datta and Adams (2016), "Composing graphical models
   with neural networks for structured representations and fast inference".
.. [2] Lin, Hubacher and Khan (2018), "Variational message passing with structured
   inference networks".
.. [3] Bendekgey, Hope and Sudderth (2023), "Unbiased learning of deep generative models
   with structured discrete representations".
"""

from typing import Any

import autograd.numpy as np
import numpy as onp
from autograd.tracer import getval

__all__ = ["kl"]


def kl(
    family: Any,
    q: tuple[Any, ...],
    p: tuple[Any, ...],
    stats: Any = None,
    log_normalizers: tuple[Any, Any] = (None, None),
) -> Any:
    r"""Kullback-Leibler divergence between two members of one family.

    .. math:: \langle \eta_q - \eta_p, \mathbb{E}_q t \rangle
              - \log Z(\eta_q) + \log Z(\eta_p)

    Parameters
    ----------
    family : module of `svae.families`
    q, p : natural parameters
        Their batch shapes broadcast.
    stats : tuple, optional
        Expected statistics of q, if they are known already.
    log_normalizers : pair of (batch) arrays
        Those of q and of p, None where they are not known already.

    Returns
    -------
    (batch) array
        KL(q || p) of each batch element; infinite where p forbids what q allows.
    """
    of_q, of_p = (
        family.log_normalizer(natparams) if known is None else known
        for natparams, known in zip((q, p), log_normalizers, strict=True)
    )
    divergence = of_p - of_q
    batch_ndim = onp.ndim(divergence)
    stats = family.expected_stats(q) if stats is None else stats
    for eta_q, eta_p, stat in zip(q, p, stats, strict=True):
        term = _difference(eta_q, eta_p) * stat
        divergence = divergence + term.sum(tuple(range(batch_ndim, onp.ndim(term))))
    return divergence


def _difference(eta_q: Any, eta_p: Any) -> Any:
    """Subtract natural parameters, giving 0 for what q forbids: 0 log 0 = 0."""
    forbidden = onp.equal(getval(eta_q), -onp.inf)
    if not forbidden.any():
        return eta_q - eta_p
    return np.where(forbidden, 0.0, eta_q) - np.where(forbidden, 0.0, eta_p)
