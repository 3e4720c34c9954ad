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

from svae.data.masks import valid_steps
from svae.models.base import Belief, Local, StructuredModel, exact_local
from svae.models.inference.potentials import dense

__all__ = ["infer", "log_density"]


def infer(
    latent: StructuredModel,
    graph: Any,
    stats: Any,
    node: Any,
    noise: Any = None,
    lengths: Any = None,
    *,
    observed: Any = None,
    belief: Belief | None = None,
    uniforms: Any = None,
) -> Local:
    """Return the local factor of a structured inference network.

    Parameters
    ----------
    latent : StructuredModel
    graph : dict
        phi_PGM, like expected statistics of the q(theta) of ``latent.graph``.
    stats : dict
        Expected statistics of q(theta), the message m.
    node, noise, lengths, observed, belief
        As in `LatentModel.infer`.
    uniforms : (N, S, T) array, optional
        In [0, 1): samples of x are then drawn with z, and constants.  Without these,
        samples given every z are there, with weights.

    Returns
    -------
    Local
    """
    q = latent.graph.exact(
        graph,
        node,
        noise,
        lengths,
        observed=observed,
        belief=belief,
        uniforms=uniforms,
        without_data=latent.without_data(stats),
    )
    of_graph = latent.graph.expected_log_density(graph, q)
    return exact_local(q, of_graph - latent.expected_log_density(stats, q))


def log_density(
    latent: StructuredModel,
    graph: Any,
    node: Any,
    local: Local,
    lengths: Any = None,
    observed: Any = None,
) -> Any:
    """Return log q(x) (N, S), z summed out, at the samples (N, S, T, D) of a local q.

    Of sequences without a belief; the other arguments are those of `infer`.
    """
    samples = local.samples
    evidence = np.einsum("ntij,nsti,nstj->nst", dense(node[0]), samples, samples)
    evidence += np.einsum("nti,nsti->nst", node[1], samples)
    live = valid_steps(lengths, node[1])
    of_graph = [
        latent.graph.log_density(graph, samples[:, s], lengths, observed)
        for s in range(samples.shape[1])
    ]
    return (
        np.sum(np.where(live[:, None], evidence, 0.0), axis=-1)
        + np.stack(of_graph, axis=1)
        - local.log_normalizer[:, None]
    )
