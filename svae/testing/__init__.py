"""Problems, exact answers and gradient checks, for tests of models and of kernels.

Three kinds of thing are here. *Problems* are arguments of order one with gradients of
order one: of chains (`gaussian_problem`, `switching_problem`, `markov_problem`), of
state-space models (`state_space_problem`) and of latent models (`latent_model`,
`local_problem`, `typical_natparams`, `typical_theta`).
*Oracles* know the exact answer to a small problem by another way than message passing:
the inverse of the dense joint Gaussian and the sum over all paths in 50 digits
(`gaussian_oracle`, `gaussian_adjoint_oracle`, `state_space_oracle`, `markov_oracle`,
`markov_marginals`), which need mpmath, and a Gaussian for every path of the states
(`enumerated`). *Checks* compare, each array by its own relative error:
`check_gradients` with differences, `check_against` with another implementation.

>>> import numpy as np
>>> from svae import kernels, testing
>>> problem = testing.gaussian_problem(np.random.default_rng(0), N=2, T=3, D=2)
>>> want = testing.gaussian_oracle(problem)
>>> testing.assert_close(kernels.gaussian_chain(*problem), want, rtol=1e-10)

Not imported by ``import svae``, and pytest is not needed.
"""

from svae.testing.chains import (
    GaussianProblem,
    MarkovProblem,
    SwitchingProblem,
    fill_past_lengths,
    gaussian_problem,
    lds_pair_potentials,
    markov_problem,
    sequence,
    switching_problem,
)
from svae.testing.enumeration import (
    DenseJoint,
    Enumerated,
    enumerated,
    path_joint,
    paths_of,
)
from svae.testing.gradients import (
    assert_close,
    assert_identical,
    check_against,
    check_gradients,
    cotangents,
    differences,
    hessian_vector_product,
    random_like,
    relative_error,
)
from svae.testing.oracles import (
    gaussian_adjoint_oracle,
    gaussian_oracle,
    markov_marginals,
    markov_oracle,
)
from svae.testing.problems import (
    latent_model,
    local_problem,
    random_belief,
    typical_graph,
    typical_natparams,
    typical_theta,
)
from svae.testing.state_space import (
    StateSpaceProblem,
    state_space_oracle,
    state_space_problem,
    state_space_slope,
)

__all__ = [
    "DenseJoint",
    "Enumerated",
    "GaussianProblem",
    "MarkovProblem",
    "StateSpaceProblem",
    "SwitchingProblem",
    "assert_close",
    "assert_identical",
    "check_against",
    "check_gradients",
    "cotangents",
    "differences",
    "enumerated",
    "fill_past_lengths",
    "gaussian_adjoint_oracle",
    "gaussian_oracle",
    "gaussian_problem",
    "hessian_vector_product",
    "latent_model",
    "lds_pair_potentials",
    "local_problem",
    "markov_marginals",
    "markov_oracle",
    "markov_problem",
    "path_joint",
    "paths_of",
    "random_belief",
    "random_like",
    "relative_error",
    "sequence",
    "state_space_oracle",
    "state_space_problem",
    "state_space_slope",
    "switching_problem",
    "typical_graph",
    "typical_natparams",
    "typical_theta",
]
