r"""Structured inference networks: a graph of their own in the place of the prior's.

.. math:: q(x, z \mid y, \phi) = \tfrac{1}{Z(\phi)}\, q(x, z \mid \phi_{PGM})
          \prod_n e^{\langle r(y_n; \phi_{NN}),\, t(x_n) \rangle},

Lin, Hubacher and Khan (2018), Section 3.  The graph has the structure of p(x, z |
theta), and natural parameters phi_PGM that belong to inference alone, where the
structured autoencoder has the prior's message m.  Nothing is iterated, and as q does
not depend on q(theta), the bound's gradient in m is E_q[t(z, x)]: the natural gradient
has no correction, and a step is a convex combination (their Section 4).  With
phi_PGM = m this is the exact inference of a linear dynamical system again.
"""

from typing import Any

import numpy as np

from svae.models.base import Local, StructuredModel, exact_local
from svae.models.evidence import Evidence
from svae.models.inference.potentials import dense

__all__ = ["infer", "log_density"]


def infer(
    latent: StructuredModel,
    graph: Any,
    message: Any,
    evidence: Evidence,
    noise: Any = None,
    uniforms: Any = None,
) -> Local:
    """Return the local factor of a structured inference network.

    Parameters
    ----------
    latent : StructuredModel
    graph : dict
        phi_PGM, like expected statistics of the q(theta) of ``latent.graph``.
    message : dict
        Expected statistics of q(theta), m.
    evidence, noise
        As in `LatentModel.infer`.
    uniforms : (N, S, T) array, optional
        In [0, 1): samples of x are then drawn with z, and constants.  Without these,
        samples given every z are there, with weights.

    Returns
    -------
    Local
    """
    without_data = latent.without_data(message)
    q = latent.graph.exact(
        graph, evidence, noise, uniforms=uniforms, without_data=without_data
    )
    of_graph = latent.graph.expected_log_density(graph, q)
    return exact_local(q, of_graph - latent.expected_log_density(message, q))


def log_density(
    latent: StructuredModel, graph: Any, evidence: Evidence, local: Local
) -> Any:
    """Return log q(x) (N, S), z summed out, at the samples (N, S, T, D) of a local q.

    Of sequences without a belief; the other arguments are those of `infer`.
    """
    samples = local.samples
    terms = np.einsum("ntij,nsti,nstj->nst", dense(evidence.J), samples, samples)
    terms += np.einsum("nti,nsti->nst", evidence.h, samples)
    # x of a frame without data is part of q where others are tied to it
    observed = None if latent.coupled else evidence.observed
    of_graph = [
        latent.graph.log_density(graph, samples[:, s], evidence.lengths, observed)
        for s in range(samples.shape[1])
    ]
    return (
        np.sum(np.where(evidence.valid[:, None], terms, 0.0), axis=-1)
        + np.stack(of_graph, axis=1)
        - local.log_normalizer[:, None]
    )
