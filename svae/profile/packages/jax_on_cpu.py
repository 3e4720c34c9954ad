"""JAX, on which some packages stand: on one core, in double precision, compiled.

Each function here makes a `Prepared` problem of what a package does with one sequence;
sequences are vectorised, and results are waited for.
"""

import os
from collections.abc import Callable
from typing import Any

from svae.profile.packages.prepared import (
    HIDDEN_MARKOV,
    LINEAR_SYSTEM,
    Model,
    Prepared,
    weights,
)

__all__ = ["hmm", "hmm_gradient", "lds", "lds_gradient"]

OneSequence = Callable[..., Any]
OVER_SEQUENCES_OF_LDS = (None, None, None, None, 0, 0)
OVER_SEQUENCES_OF_HMM = (None, None, 0)


def lds(model: Model, smooth: OneSequence) -> Prepared:
    """Smooth the sequences of a linear system.

    Parameters
    ----------
    model : dict of str to numpy.ndarray
        In everyday parameters.
    smooth : callable
        Returns log likelihood, means and variances of a sequence, and whatever else
        the chain of this package returns, of the values of `LINEAR_SYSTEM`.
    """
    jax = _import_jax()
    over = jax.vmap(smooth, OVER_SEQUENCES_OF_LDS)
    return _prepared(jax, over, _arrays(jax, model, LINEAR_SYSTEM), slice(3))


def lds_gradient(model: Model, smooth: OneSequence) -> Prepared:
    """Differentiate a weighted sum of means and variances in all parameters and data.

    Parameters
    ----------
    model, smooth
        As in `lds`.
    """
    jax = _import_jax()
    of_mean, of_variance = jax.numpy.asarray(weights(model["y"].shape))
    over = jax.vmap(smooth, OVER_SEQUENCES_OF_LDS)

    def value(*parameters: Any) -> Any:
        _, means, variances, *_ = over(*parameters)
        return (of_mean * means + of_variance * variances).sum()

    gradient = jax.grad(value, argnums=tuple(range(len(LINEAR_SYSTEM))))
    y = LINEAR_SYSTEM.index("y")
    parameters = _arrays(jax, model, LINEAR_SYSTEM)
    return _prepared(jax, gradient, parameters, slice(y, y + 1))


def hmm(model: Model, smooth: OneSequence) -> Prepared:
    """Smooth the sequences of a hidden Markov model.

    Parameters
    ----------
    model : dict of str to numpy.ndarray
        In everyday parameters.
    smooth : callable
        Returns log likelihood and probabilities of a sequence, and the sums of the
        pairs', of the values of `HIDDEN_MARKOV`.
    """
    jax = _import_jax()
    over = jax.vmap(smooth, OVER_SEQUENCES_OF_HMM)
    return _prepared(jax, over, _arrays(jax, model, HIDDEN_MARKOV), slice(2))


def hmm_gradient(model: Model, log_likelihood: OneSequence) -> Prepared:
    """Differentiate the log likelihood in all parameters and data.

    Parameters
    ----------
    model
        As in `hmm`.
    log_likelihood : callable
        Of a sequence, of the values of `HIDDEN_MARKOV`.
    """
    jax = _import_jax()
    over = jax.vmap(log_likelihood, OVER_SEQUENCES_OF_HMM)
    gradient = jax.grad(lambda *x: over(*x).sum(), argnums=(0, 1, 2))
    parameters = _arrays(jax, model, HIDDEN_MARKOV)
    return _prepared(jax, gradient, parameters, slice(2, 3))


def _import_jax() -> Any:
    flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ.setdefault("XLA_FLAGS", flags)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax

    jax.config.update("jax_enable_x64", True)
    return jax


def _arrays(jax: Any, model: Model, names: tuple[str, ...]) -> list[Any]:
    return [jax.numpy.asarray(model[name]) for name in names]


def _prepared(jax: Any, function: Any, arguments: Any, answers: slice) -> Prepared:
    compiled = jax.jit(function)
    return Prepared(
        lambda: jax.block_until_ready(compiled(*arguments)), lambda x: x[answers]
    )
