"""The compiled kernels as functions that autograd differentiates.

Every function here has the name, the arguments and the meaning of the one in
`svae.reference`, which defines it in plain autograd NumPy.  `chains` has the Gaussian
and the Markov chain, `mixture` inference of independent points, `layers` what stands
between the matrix products of a network, and `passes` what of that is compiled;
`chain_primitive` turns the kernel of an
exponential family and its adjoint into a differentiable function.  No other room
imports the compiled core.
"""

from svae._core import empty, get_num_threads, isa, multiply_add, set_num_threads
from svae.kernels.chains import (
    are_finite,
    gaussian_chain,
    markov_chain,
    sample_markov_chain,
    viterbi,
)
from svae.kernels.mixture import (
    mixture,
    mixture_evidence,
    mixture_evidence_vjp,
    mixture_vjp,
)
from svae.kernels.passes import (
    adam,
    exp,
    gaussian_head,
    log,
    logistic,
    softplus,
    tanh,
    tanh_layer,
    tanh_layer_vjp,
)

__all__ = [
    "are_finite",
    "adam",
    "empty",
    "exp",
    "gaussian_chain",
    "gaussian_head",
    "get_num_threads",
    "isa",
    "log",
    "logistic",
    "markov_chain",
    "mixture",
    "mixture_evidence",
    "mixture_evidence_vjp",
    "mixture_vjp",
    "multiply_add",
    "sample_markov_chain",
    "set_num_threads",
    "softplus",
    "tanh",
    "tanh_layer",
    "tanh_layer_vjp",
    "viterbi",
]
