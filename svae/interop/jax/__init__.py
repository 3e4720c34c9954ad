"""The chains as functions of JAX: compiled kernels inside of `jit`, `grad` and `vmap`.

`gaussian_chain`, `markov_chain`, `viterbi` and `sample_markov_chain` are those of
`svae.kernels`, with the same arguments and the same meaning, on arrays of float64. They
are calls of the core through XLA's foreign function interface: no copies, no lock of
Python's, the core's own threads. `jax.grad`, `jax.jvp` and `jax.hessian` know
them, `jax.vmap` repeats nothing that is shared, and cotangents of what is shared are
summed over the sequences, each with its own.

`log_likelihood`, `kalman_smoother`, `lds_to_natural`, `hmm_log_likelihood`,
`hmm_smoother` and `hmm_viterbi` are those of `svae.standard`, over these chains.

The library that they call is built against the JAX that is installed::

    python -m svae.interop.build_jax

>>> import jax
>>> jax.config.update("jax_enable_x64", True)
>>> import jax.numpy as jnp
>>> from svae.interop.jax import markov_chain
>>> log_normalizer = lambda node: markov_chain(jnp.zeros(2), jnp.zeros((2, 2)), node)[0]
>>> jax.jit(log_normalizer)(jnp.zeros((1, 3, 2))).round(4).tolist()
[2.0794]
"""

from svae.errors import needing

with needing("jax", "svae.interop.jax"):
    import jax as _jax  # noqa: F401

from svae.interop.jax.chains import (  # noqa: E402
    gaussian_chain,
    markov_chain,
    sample_markov_chain,
    viterbi,
)
from svae.interop.jax.extension import register  # noqa: E402
from svae.interop.jax.standard import (  # noqa: E402
    hmm_log_likelihood,
    hmm_smoother,
    hmm_viterbi,
    kalman_smoother,
    lds_to_natural,
    log_likelihood,
)

register()

__all__ = [
    "gaussian_chain",
    "hmm_log_likelihood",
    "hmm_smoother",
    "hmm_viterbi",
    "kalman_smoother",
    "lds_to_natural",
    "log_likelihood",
    "markov_chain",
    "sample_markov_chain",
    "viterbi",
]
