"""A few lines for each failure of another package, which show it without this one.

Each is run as it stands when docs/verdicts.md is written, and its output is shown.
"""

from typing import NamedTuple

__all__ = ["SNIPPETS", "Snippet"]


class Snippet(NamedTuple):
    """A failure, in a sentence, and lines that show it."""

    says: str
    code: str


DIFFUSE = """\
A start of variance 1e10 in a system of position and velocity, and four positions: the
covariance of the first state given all is [[0.72465, -0.32561], [-0.32561, 0.28955]].
The recursion subtracts numbers of 1e10 that agree in their first ten digits."""

PRECISE = """\
A state of variance 1, observed with noise of variance 1e-12: its filtered variance is
1e-12 but for 1e-24, and is found as a difference of numbers of order one."""

SNIPPETS: dict[str, tuple[Snippet, ...]] = {
    "dynamax": (
        Snippet(
            "Every gain is solved with 1e-9 added to the diagonal of its matrix "
            "(`psd_solve(..., diagonal_boost=1e-9)`), which no argument of the filter "
            "changes. Nine digits are left for quantities of order one, and none for "
            "variances of 1e-12, such as those of positions in kilometres that are "
            "known to a millimetre. Data in other units are the cure.",
            """\
import jax, jax.numpy as jnp
jax.config.update("jax_enable_x64", True)
from dynamax.linear_gaussian_ssm.inference import lgssm_filter, make_lgssm_params
one = jnp.eye(1)
for unit in (1.0, 1e-6):  # prior and noise have one variance: halfway, of any unit
    var = unit**2 * one
    params = make_lgssm_params(jnp.zeros(1), var, one, var, one, var)
    found = lgssm_filter(params, unit * jnp.array([[1.0], [2.0]]))
    print(found.filtered_means[0, 0] / unit, "wanted 0.5")
""",
        ),
        Snippet(
            "The filter of hidden Markov models keeps positive probabilities above "
            "1e-15 when it normalises them (`_normalize(..., eps=1e-15)`). That shows "
            "where a state that was less likely than this is proven later, as in "
            "sticky chains that are sure of themselves and wrong.",
            """\
import jax, jax.numpy as jnp
jax.config.update("jax_enable_x64", True)
from dynamax.hidden_markov_model import hmm_filter
start, A = jnp.array([1.0, 1e-20]), jnp.eye(2)  # a state that is unlikely, and stays
node = jnp.array([[0.0, 0.0], [-100.0, 0.0]])  # and that the second datum proves
print(hmm_filter(start, A, node).marginal_loglik, "wanted", jnp.log(1e-20))
""",
        ),
        Snippet(
            "`hmm_smoother` drops states whose predicted probability is below 1e-8 "
            "(`isclose(predicted_probs_next, 0.0)`): a rare transition that the data "
            "prove is not seen in the smoothed probabilities before it. The smoother "
            "by two filters, `hmm_two_filter_smoother`, is the cure.",
            """\
import jax, jax.numpy as jnp
jax.config.update("jax_enable_x64", True)
from dynamax.hidden_markov_model import hmm_smoother, hmm_two_filter_smoother
start = jnp.array([0.5, 0.5, 0.0])  # the last state, which follows the second alone
A = jnp.array([[1.0, 0.0, 0.0], [0.0, 1 - 1e-9, 1e-9], [0.0, 0.0, 1.0]])
node = jnp.array([[0.0, 0.0, 0.0], [-50.0, -50.0, 0.0]])  # is what is seen at last
print(hmm_smoother(start, A, node).smoothed_probs[0], "wanted [0, 1, 0]")
print(hmm_two_filter_smoother(start, A, node).smoothed_probs[0])
""",
        ),
    ),
    "cuthbert": (
        Snippet(
            "The log likelihood loses digits as the noise of the observations "
            "vanishes, by the way in which two steps are combined; filtered means and "
            "covariances keep theirs.",
            """\
import jax, jax.numpy as jnp
jax.config.update("jax_enable_x64", True)
from cuthbert import filter
from cuthbert.gaussian import kalman
C, one, none = jnp.array([[-0.25, -0.5], [-0.75, -0.125]]), jnp.eye(2), jnp.zeros(2)
y = jnp.array([[-1.5, -1.0], [0.5, 2.0], [0.0, 0.0]])
build = kalman.build_filter(none, one, lambda t: (one * (t > 0), none, one),
                            lambda t: (C, none, 1e-6 * one, y[t]))
found = filter(build, jnp.arange(3), build.init_prepare())
print(found.log_normalizing_constant[-1], "wanted -18.739861375273")
""",
        ),
        Snippet(
            "The log likelihood is no number where a covariance is singular, such as "
            "that of a known first state or of a perfect sensor; filtered means and "
            "covariances are right there.",
            """\
import jax, jax.numpy as jnp
jax.config.update("jax_enable_x64", True)
from cuthbert import filter
from cuthbert.gaussian import kalman
one, none, y = jnp.eye(1), jnp.zeros(1), jnp.array([[1.0], [2.0]])
for sd in (1e-8, 0.0):  # of the first state
    build = kalman.build_filter(none, sd * one, lambda t: (one, none, one * (t > 0)),
                                lambda t: (one, none, one, y[t]))
    found = filter(build, jnp.arange(2), build.init_prepare())
    print(found.log_normalizing_constant[-1], "wanted -3.684451")
""",
        ),
        Snippet(
            "The smoother of hidden Markov models divides zero by zero where a state "
            "cannot have been reached yet, as in left-to-right chains.",
            """\
import jax, jax.numpy as jnp
from cuthbert import filter, smoother
from cuthbert.discrete import build_filter, build_smoother
start = jnp.array([1.0, 0.0, 0.0])
A = jnp.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]])
steps = jnp.stack([jnp.stack([start] * 3), A, A])
build = build_filter(start, lambda t: steps[t], lambda t: jnp.zeros(3))
found = filter(build, jnp.arange(3), build.init_prepare())
print(smoother(build_smoother(lambda t: steps[t]), found).dist[1:])
print("wanted [1, 0, 0], [0.5, 0.5, 0], [0.25, 0.5, 0.25]")
""",
        ),
    ),
    "pykalman": (
        Snippet(
            "A sequence of one step with two or more entries is taken for a sequence "
            "of several steps with one, and refused.",
            """\
import numpy as np
from pykalman import KalmanFilter
try:
    KalmanFilter(np.eye(2), np.eye(2)).filter(np.ones((1, 2)))
except ValueError as error:
    print(error)
""",
        ),
        Snippet(
            DIFFUSE.replace("\n", " "),
            """\
import numpy as np
from pykalman import KalmanFilter
A, start = np.array([[1.0, 1.0], [0.0, 1.0]]), 1e10 * np.eye(2)
kalman = KalmanFilter(
    A, [[1.0, 0.0]], 0.1 * np.eye(2), np.eye(1),
    initial_state_mean=np.zeros(2), initial_state_covariance=start,
)
print(kalman.smooth([[1.0], [2.0], [2.5], [4.0]])[1][0])
""",
        ),
        Snippet(
            PRECISE.replace("\n", " "),
            """\
import numpy as np
from pykalman import KalmanFilter
one = np.eye(1)
kalman = KalmanFilter(one, one, one, 1e-12 * one, initial_state_mean=[0.0],
                      initial_state_covariance=one)
print(kalman.filter([[1.0], [2.0]])[1][0])
""",
        ),
    ),
    "simdkalman": (
        Snippet(
            DIFFUSE.replace("\n", " "),
            """\
import numpy as np, simdkalman
A, C = np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[1.0, 0.0]])
kalman = simdkalman.KalmanFilter(A, 0.1 * np.eye(2), C, np.eye(1))
found = kalman.compute(
    np.array([[1.0, 2.0, 2.5, 4.0]]), 0,
    initial_value=np.zeros(2), initial_covariance=1e10 * np.eye(2),
)
print(found.smoothed.states.cov[0, 0])
""",
        ),
        Snippet(
            PRECISE.replace("\n", " "),
            """\
import numpy as np, simdkalman
one = np.eye(1)
kalman = simdkalman.KalmanFilter(one, one, one, 1e-12 * one)
found = kalman.compute(np.array([[1.0, 2.0]]), 0, initial_value=[0.0],
                       initial_covariance=one, filtered=True)
print(found.filtered.states.cov[0, 0])
""",
        ),
    ),
    "filterpy": (
        Snippet(
            DIFFUSE.replace("\n", " ")
            + " Its filter, in Joseph's form, keeps its digits; its smoother does not.",
            """\
import numpy as np
from filterpy.kalman import KalmanFilter
kalman = KalmanFilter(dim_x=2, dim_z=1)
kalman.F, kalman.H = np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[1.0, 0.0]])
kalman.P, kalman.Q = 1e10 * np.eye(2), 0.1 * np.eye(2)
means, covs, _, _ = kalman.batch_filter([1.0, 2.0, 2.5, 4.0], update_first=True)
print(kalman.rts_smoother(means, covs)[1][0])
""",
        ),
    ),
    "statsmodels": (
        Snippet(
            DIFFUSE.replace("\n", " ")
            + " Its exact diffuse start, `initialize_diffuse()`, is the cure where the "
            "limit of an infinite variance is meant.",
            """\
import numpy as np
from statsmodels.tsa.statespace.kalman_smoother import KalmanSmoother
s = KalmanSmoother(k_endog=1, k_states=2)
s.bind(np.array([[1.0, 2.0, 2.5, 4.0]]))
s["transition"], s["design"] = np.array([[1.0, 1.0], [0.0, 1.0]]), np.eye(1, 2)
s["selection"], s["state_cov"], s["obs_cov"] = np.eye(2), 0.1 * np.eye(2), np.eye(1)
for start in (lambda: s.initialize_known(np.zeros(2), 1e10 * np.eye(2)),
              s.initialize_diffuse):
    start()
    print(s.smooth().smoothed_state_cov[..., 0])
""",
        ),
        Snippet(
            PRECISE.replace("\n", " "),
            """\
import numpy as np
from statsmodels.tsa.statespace.kalman_filter import KalmanFilter
f = KalmanFilter(k_endog=1, k_states=1)
f.bind(np.array([[1.0, 2.0]]))
for name in ("design", "selection", "transition", "state_cov"):
    f[name] = np.eye(1)
f["obs_cov"] = 1e-12 * np.eye(1)
f.initialize_known(np.zeros(1), np.eye(1))
print(f.filter().filtered_state_cov[..., 0])
""",
        ),
    ),
}
