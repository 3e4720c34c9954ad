"""The compiled kernels as functions that autograd differentiates.

Every function here has the name, the arguments and the meaning of the one in
`svae.reference`, which defines it in plain autograd NumPy.  `gaussian` and `markov`
have the chains, `switching` a Gaussian one whose pairs are mixtures, `filters` what
either says of its steps given those before, `mixture` the mean field of independent
points, `evidence` what points or frames say of their states, `layers` what networks are
made of, `densities` what is left of a density whose variance is that of all frames, and
`optimizer` a step of Adam.

Behind them, `chain_primitive` turns the kernel of an exponential family and its adjoint
into a differentiable function, `arguments` and `mixture_arguments` refuse what is
malformed, and `passes` has the layers' calls of the core.  No other room imports the
compiled core.  No kernel warns or knows a tolerance: both are handed in.

Loops inside of the package check what they are given once, and then call
`unchecked_gaussian_chain`, `unchecked_switching_gaussian_chain`,
`unchecked_markov_chain` and `unchecked_mixture_evidence`.
"""

from svae._core import (
    empty as empty,
)
from svae._core import (
    get_num_threads,
    isa,
    set_num_threads,
)
from svae._core import (
    multiply_add as multiply_add,
)
from svae.kernels.arguments import are_finite as are_finite
from svae.kernels.arguments import require_all_finite as require_all_finite
from svae.kernels.densities import homoscedastic_log_density
from svae.kernels.evidence import mixture_evidence
from svae.kernels.evidence import mixture_evidence_vjp as mixture_evidence_vjp
from svae.kernels.evidence import (
    unchecked_mixture_evidence as unchecked_mixture_evidence,
)
from svae.kernels.filters import gaussian_filter, markov_filter
from svae.kernels.gaussian import as_nodes as as_nodes
from svae.kernels.gaussian import gaussian_chain
from svae.kernels.gaussian import unchecked_gaussian_chain as unchecked_gaussian_chain
from svae.kernels.layers import (
    affine,
    bounded_exp,
    exp,
    gaussian_head,
    gaussian_log_density,
    log,
    logistic,
    sigmoid,
    softplus,
    tanh,
    tanh_layer,
)
from svae.kernels.markov import markov_chain, sample_markov_chain, viterbi
from svae.kernels.markov import unchecked_markov_chain as unchecked_markov_chain
from svae.kernels.mixture import LinearSolve, mixture
from svae.kernels.mixture import mixture_vjp as mixture_vjp
from svae.kernels.optimizer import adam
from svae.kernels.switching import switching_gaussian_chain
from svae.kernels.switching import (
    unchecked_switching_gaussian_chain as unchecked_switching_gaussian_chain,
)

__all__ = [
    "LinearSolve",
    "adam",
    "affine",
    "bounded_exp",
    "exp",
    "gaussian_chain",
    "gaussian_filter",
    "gaussian_head",
    "gaussian_log_density",
    "get_num_threads",
    "homoscedastic_log_density",
    "isa",
    "log",
    "logistic",
    "markov_chain",
    "markov_filter",
    "mixture",
    "mixture_evidence",
    "sample_markov_chain",
    "set_num_threads",
    "sigmoid",
    "softplus",
    "switching_gaussian_chain",
    "tanh",
    "tanh_layer",
    "viterbi",
]
