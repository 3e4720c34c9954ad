"""State-space models and hidden Markov models in the parameters of everybody else.

Everything is differentiable under autograd in every argument, unless it says otherwise.

Linear-Gaussian state-space models, x_{t+1} = A x_t + B u_t + N(0, Q) and
y_t = C x_t + D u_t + N(0, R) with x_1 ~ N(m0, P0), matrices constant or per step, NaN
for missing entries of y:

    `LinearGaussian` is the record of the parameters; `log_likelihood`,
    `kalman_filter`, `kalman_predict`, `kalman_smoother`, `sample` and
    `sample_posterior` take it and the data.

Hidden Markov models, from the probabilities of the first state and of transitions, and
log p(y_t | z_t):

    `hmm_log_likelihood`, `hmm_filter`, `hmm_predict`, `hmm_smoother`, `hmm_viterbi`,
    `hmm_sample`, `hmm_sample_posterior`.

To natural parameters, those of `svae.kernels`, and back:

    `lds_to_natural`, `lds_from_natural`, `moments_from_natural`, `hmm_to_natural`,
    `hmm_from_natural`.

The chains are those of `svae.kernels` where these have the digits (`information`).
Where Q, R or P0 is singular, or nearly so, the functions go over to square roots of
covariances (`arrays`, defined in `covariance`, differentiated in `score`); `forms` has
the criterion.

>>> import numpy as np
>>> from svae import standard
>>> walk = standard.LinearGaussian(
...     A=np.eye(1), Q=np.eye(1), C=np.eye(1), R=np.eye(1), m0=[0.0], P0=np.eye(1)
... )
>>> y = np.array([[1.0], [np.nan], [3.0]])
>>> standard.kalman_smoother(walk, y).mean[:, 0].round(3).tolist()
[0.857, 1.571, 2.286]
"""

from svae.standard.conversions import (
    Dynamics,
    GaussianMoments,
    hmm_from_natural,
    hmm_to_natural,
    lds_from_natural,
    lds_to_natural,
    moments_from_natural,
)
from svae.standard.hidden_markov import (
    hmm_filter,
    hmm_log_likelihood,
    hmm_predict,
    hmm_sample,
    hmm_sample_posterior,
    hmm_smoother,
    hmm_viterbi,
)
from svae.standard.information import Natural
from svae.standard.kalman import (
    kalman_filter,
    kalman_predict,
    kalman_smoother,
    log_likelihood,
)
from svae.standard.records import (
    Filtered,
    HMMFiltered,
    HMMSmoothed,
    LinearGaussian,
    Predicted,
    Sampled,
    Smoothed,
)
from svae.standard.sampling import sample, sample_posterior

__all__ = [
    "Dynamics",
    "Filtered",
    "GaussianMoments",
    "HMMFiltered",
    "HMMSmoothed",
    "LinearGaussian",
    "Natural",
    "Predicted",
    "Sampled",
    "Smoothed",
    "hmm_filter",
    "hmm_from_natural",
    "hmm_log_likelihood",
    "hmm_predict",
    "hmm_sample",
    "hmm_sample_posterior",
    "hmm_smoother",
    "hmm_to_natural",
    "hmm_viterbi",
    "kalman_filter",
    "kalman_predict",
    "kalman_smoother",
    "lds_from_natural",
    "lds_to_natural",
    "log_likelihood",
    "moments_from_natural",
    "sample",
    "sample_posterior",
]
