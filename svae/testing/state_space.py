"""Linear-Gaussian state-space models: problems of order one, and their exact answers.

The oracle conditions the dense joint Gaussian of all states on what was observed, in 50
digits: no filter and no inverse but that of the covariance of the observations, so that
Q, R and P0 may be singular.  It needs mpmath.
"""

from typing import Any, NamedTuple

import numpy as np

from svae.standard import Filtered, LinearGaussian, Predicted, Smoothed
from svae.testing.oracles import exact, with_digits

__all__ = [
    "StateSpaceProblem",
    "state_space_oracle",
    "state_space_problem",
    "state_space_slope",
]


class StateSpaceProblem(NamedTuple):
    """Arguments of the functions of `svae.standard`, in order."""

    params: LinearGaussian
    y: Any
    """(N, T, P), NaN for missing entries."""
    u: Any = None
    """(N, T, U), or None."""
    lengths: Any = None
    """(N,), or None if all sequences have T steps."""


def state_space_problem(
    rng: np.random.Generator,
    N: int = 3,
    T: int = 4,
    D: int = 2,
    P: int = 2,
    U: int = 0,
    *,
    per_step: str = "",
    missing: float = 0.0,
    lengths: Any = None,
) -> StateSpaceProblem:
    """Draw a stable system of order one with dense covariances, and data of order one.

    Parameters
    ----------
    rng : numpy.random.Generator
    N, T, D, P, U : int
        Sequences, steps, and dimensions of states, observations and inputs.
    per_step : str
        Matrices that depend on time ("T") or on sequence and time ("NT"); "" for none.
    missing : float
        Share of entries of y that are missing.
    lengths : (N,) int array, optional
    """
    leads = {"": ((), ()), "T": ((T - 1,), (T,)), "NT": ((N, T - 1), (N, T))}
    move, look = leads[per_step]
    first = (N,) if per_step == "NT" else ()
    params = LinearGaussian(
        A=0.4 * np.eye(D) + 0.5 * rng.standard_normal((*move, D, D)) / np.sqrt(D),
        Q=_covariance(rng, *move, D),
        C=rng.standard_normal((*look, P, D)),
        R=_covariance(rng, *look, P),
        m0=rng.standard_normal((*first, D)),
        P0=_covariance(rng, *first, D),
        B=rng.standard_normal((*move, D, U)) if U else None,
        D=rng.standard_normal((*look, P, U)) if U else None,
    )
    y = rng.standard_normal((N, T, P))
    y[rng.random(y.shape) < missing] = np.nan
    u = rng.standard_normal((N, T, U)) if U else None
    return StateSpaceProblem(params, y, u, lengths)


@with_digits
def state_space_oracle(
    problem: StateSpaceProblem,
) -> tuple[Filtered, Predicted, Smoothed]:
    """Return what `svae.standard` does, from the dense joint of every sequence.

    Parameters
    ----------
    problem : StateSpaceProblem
        Small: the joint of a sequence has T (D + P) rows.
    """
    import mpmath

    params, y, _, lengths = problem
    N, T, P = y.shape
    D = np.shape(params.m0)[-1]
    shape, square = (N, T, D), (N, T, D, D)
    filtered = Filtered(np.zeros(shape), np.zeros(square), np.zeros(N))
    smoothed = Smoothed(
        np.zeros(shape), np.zeros(square), np.zeros((N, T - 1, D, D)), np.zeros(N)
    )
    predicted = Predicted(
        np.zeros(shape),
        np.zeros(square),
        np.zeros(y.shape),
        np.zeros((*y.shape, P)),
        np.zeros((N, T)),
    )
    for n in range(N):
        length = T if lengths is None else int(lengths[n])
        joint = _Joint(problem, n, length)
        total = mpmath.mpf(0)
        for t in range(length):
            x, of_y = slice(t * D, t * D + D), joint.row(t, slice(0, P))
            mean, cov = joint.given(joint.seen(t))
            predicted.mean[n, t], predicted.cov[n, t] = mean[x], cov[x, x]
            predicted.y_mean[n, t] = mean[of_y]
            predicted.y_cov[n, t] = cov[np.ix_(of_y, of_y)]
            before, total = total, joint.log_density(joint.seen(t + 1))
            predicted.log_density[n, t] = total - before
            mean, cov = joint.given(joint.seen(t + 1))
            filtered.mean[n, t], filtered.cov[n, t] = mean[x], cov[x, x]
        smoothed.log_likelihood[n] = filtered.log_likelihood[n] = total
        for t in range(length):
            x, after = slice(t * D, t * D + D), slice(t * D + D, t * D + 2 * D)
            smoothed.mean[n, t], smoothed.cov[n, t] = mean[x], cov[x, x]
            if t + 1 < length:
                smoothed.cross_cov[n, t] = cov[x, after]
    return filtered, predicted, smoothed


def state_space_slope(problem: StateSpaceProblem, name: str, direction: Any) -> float:
    """Return the derivative of the sum of log likelihoods in a parameter.

    By a difference in 100 digits, so that its own errors are far below those of floats.

    Parameters
    ----------
    problem : StateSpaceProblem
    name : str
        A field of the parameters.
    direction : array in the shape of the parameter, symmetric for covariances
    """
    import mpmath

    N, T, _ = problem.y.shape
    lengths = [T] * N if problem.lengths is None else problem.lengths

    def total(step: Any) -> Any:
        x = exact(getattr(problem.params, name)) + step * exact(direction)
        params = problem.params._replace(**{name: x})
        joints = (
            _Joint(problem._replace(params=params), n, int(length))
            for n, length in enumerate(lengths)
        )
        return sum(joint.log_density(joint.seen(T)) for joint in joints)

    with mpmath.workdps(100):
        step = mpmath.mpf(10) ** -35
        return float((total(step) - total(-step)) / (2 * step))


class _Joint:
    """Mean and covariance of x_1..x_T, y_1..y_T of a sequence, in mpmath's numbers."""

    def __init__(self, problem: StateSpaceProblem, n: int, length: int) -> None:
        params, y, u, _ = problem
        P, D = y.shape[2], np.shape(params.m0)[-1]
        self.P, self.start, self.y = (
            P,
            length * D,
            exact(np.nan_to_num(y[n, :length].ravel())),
        )
        self.known = ~np.isnan(y[n, :length].ravel())

        def of(x: Any, t: int, ndim: int = 2) -> Any:
            x = np.asarray(x)
            if x.ndim == ndim + 2:
                x = x[n if len(x) > 1 else 0]
            elif x.ndim == ndim + 1 and ndim == 1:
                return exact(x[n])
            return exact(x[t if len(x) > 1 else 0] if x.ndim == ndim + 1 else x)

        mean, cov = of(params.m0, 0, 1), exact(_first(params.P0, n))
        means = [mean]
        cov_all = np.full((length * D, length * D), exact(0.0)[()], object)
        cov_all[:D, :D] = cov
        for t in range(length - 1):
            A, Q = of(params.A, t), of(params.Q, t)
            here, after = slice(t * D, t * D + D), slice(t * D + D, t * D + 2 * D)
            mean = A @ mean
            if params.B is not None:
                mean = mean + of(params.B, t) @ exact(u[n, t])
            means.append(mean)
            past = A @ cov_all[here, : t * D + D]
            cov_all[after, : t * D + D], cov_all[: t * D + D, after] = past, past.T
            cov_all[after, after] = A @ cov_all[here, here] @ A.T + Q
        H = np.full((length * P, length * D), exact(0.0)[()], object)
        noise = np.full((length * P, length * P), exact(0.0)[()], object)
        offset = []
        for t in range(length):
            of_y = slice(t * P, t * P + P)
            H[of_y, t * D : t * D + D] = of(params.C, t)
            noise[of_y, of_y] = of(params.R, t)
            d = exact(np.zeros(P))
            if params.D is not None:
                d = of(params.D, t) @ exact(u[n, t])
            offset.append(d)
        m = np.concatenate(means)
        self.mean = np.concatenate((m, H @ m + np.concatenate(offset)))
        of_xy = cov_all @ H.T
        top = np.concatenate((cov_all, of_xy), 1)
        self.cov = np.concatenate(
            (top, np.concatenate((of_xy.T, H @ of_xy + noise), 1))
        )

    def row(self, t: int, entries: slice) -> Any:
        """Return the places of entries of y_t in the joint."""
        return self.start + t * self.P + np.arange(self.P)[entries]

    def seen(self, steps: int) -> Any:
        """Return the entries of y that the first steps have seen."""
        return np.flatnonzero(self.known[: steps * self.P])

    def given(self, entries: Any) -> tuple[Any, Any]:
        """Return mean and covariance of all, given entries of y."""
        if not len(entries):
            return self.mean, self.cov
        places = self.start + entries
        inverse = self._inverse(places)
        gain = self.cov[:, places] @ inverse
        mean = self.mean + gain @ (self.y[entries] - self.mean[places])
        return mean, self.cov - gain @ self.cov[places]

    def log_density(self, entries: Any) -> Any:
        """Return the log density of entries of y."""
        import mpmath

        if not len(entries):
            return mpmath.mpf(0)
        places = self.start + entries
        v = self.y[entries] - self.mean[places]
        F = mpmath.matrix((self.cov[np.ix_(places, places)]).tolist())
        L = mpmath.cholesky(F)
        log_det = 2 * sum(mpmath.log(L[i, i]) for i in range(len(entries)))
        quadratic = v @ self._inverse(places) @ v
        return -(quadratic + log_det + len(entries) * mpmath.log(2 * mpmath.pi)) / 2

    def _inverse(self, places: Any) -> Any:
        import mpmath

        F = mpmath.matrix(self.cov[np.ix_(places, places)].tolist())
        return np.array((F**-1).tolist(), dtype=object).reshape(len(places), -1)


def _first(P0: Any, n: int) -> Any:
    P0 = np.asarray(P0)
    return P0[n if len(P0) > 1 else 0] if P0.ndim == 3 else P0


def _covariance(rng: np.random.Generator, *shape: int) -> Any:
    root = rng.standard_normal((*shape, shape[-1])) / np.sqrt(shape[-1])
    return root @ np.swapaxes(root, -1, -2) + 0.5 * np.eye(shape[-1])
