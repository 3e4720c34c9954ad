r"""NUTS on exact marginal likelihoods: a structural time series, and a Gaussian HMM.

    pip install "svae[pytensor]" pymc pymc-extras
    python examples/interop_pytensor.py runs/nuts

PyMC samples the parameters, and `svae.interop.pytensor` sums and integrates the states
out, with gradients: once of a local level with a season of twelve months, like that of
the drivers killed on British roads (Harvey and Durbin 1986), and once of a hidden
Markov model.  The same models are sampled with what pymc-extras has for them, its
Kalman filter and its marginalised Markov chain.  ``nuts.csv`` has the largest R-hat,
the smallest effective sample size, and this over the processor's seconds.

The structural model has two noises and twelve states, so that its Q is singular:

    y_t = l_t + g_t + N(0, s_y^2),
    l_{t+1} = l_t + N(0, s_l^2),    g_{t+1} = -(g_t + ... + g_{t-10}) + N(0, s_g^2).

`svae.standard` takes it as it is, in square roots of covariances, which are not
compiled.  The compiled chain takes it a year at a time: the 24 levels and seasons of a
year are one state, every month has noises of its own, and so all precisions exist.
They are linear in 1 / s^2, which is what natural parameters are good for.
"""

import argparse
import csv
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import pymc as pm
import pymc_extras as pmx
import pytensor
import pytensor.tensor as pt
from pymc_extras.statespace.filters import StandardFilter

from svae import standard
from svae.interop.pytensor import gaussian_chain, hmm_log_likelihood

MONTHS = 12
SCALES = {"observation": 0.06, "level": 0.03, "season": 0.01}
PRIOR = 1.0
"""Variance of the first level, about the first observation, and of seasons."""
LOG_2PI = float(np.log(2 * np.pi))


def main() -> None:
    """Sample either model in either way; write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for the table")
    parser.add_argument("--num-years", type=int, default=16)
    parser.add_argument("--num-frames", type=int, default=300, help="of the HMM")
    sizes = "draws, as many to tune, and chains"
    parser.add_argument("--draws", type=int, nargs=2, default=[1000, 4], help=sizes)
    parser.add_argument(
        "--draws-beside", type=int, nargs=2, default=[200, 2], help="of pymc-extras"
    )
    parser.add_argument("--only", choices=["svae", "pymc-extras"])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, way, model in models(options.num_years, options.num_frames):
        if options.only in (None, way):
            size = options.draws if way == "svae" else options.draws_beside
            rows.append({"model": name, "way": way, **sampled(model, *size)})
            print(*(f"{key} {value}" for key, value in rows[-1].items()), sep=", ")
            write(options.out / "nuts.csv", rows)


def models(
    num_years: int, num_frames: int
) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """Yield what is sampled, what integrates, and how the model is made."""
    y = drivers(np.random.default_rng(0), num_years * MONTHS)
    check_structural(y)
    yield "level and season", "svae", lambda: structural_model(y, by_years)
    frames = states_and_frames(np.random.default_rng(1), num_frames)
    yield "hidden Markov", "svae", lambda: hidden_markov_model(frames)
    yield "level and season", "pymc-extras", lambda: structural_model(y, by_months)
    yield "hidden Markov", "pymc-extras", lambda: marginalised_model(frames)


def sampled(make_model: Callable[[], Any], num_draws: int, num_chains: int) -> dict:
    """Sample a model, and say how well that went."""
    started: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with make_model() as model:
            evaluate = model.logp_dlogp_function(ravel_inputs=True)
            evaluate.set_extra_values({})
            point = pm.blocking.DictToArrayBijection.map(model.initial_point())
            evaluate(point)
            begin, calls = time.process_time(), 20
            for _ in range(calls):
                _, slopes = evaluate(point)
            gradient = (time.process_time() - begin) / calls
            if not np.isfinite(slopes).all():
                return {"ms a gradient": f"{1e3 * gradient:.2f}", "ended": "not finite"}
            draws = pm.sample(
                draws=num_draws,
                tune=num_draws,
                chains=num_chains,
                cores=1,
                random_seed=0,
                progressbar=False,
                compute_convergence_checks=False,
                callback=lambda trace, draw: (
                    started or started.append(time.process_time())
                ),
            )
    seconds = time.process_time() - started[0]
    names = [x.name for x in model.free_RVs]
    size = min(float(x.min()) for x in az.ess(draws, var_names=names).values())
    rhat = max(float(x.max()) for x in az.rhat(draws, var_names=names).values())
    stats = draws.sample_stats
    return {
        "ms a gradient": f"{1e3 * gradient:.2f}",
        "R-hat": f"{rhat:.4f}",
        "effective size": f"{size:.0f}",
        "seconds": f"{seconds:.1f}",
        "effective a second": f"{size / seconds:.1f}",
        "divergences": int(stats["diverging"].sum()),
        "means": " ".join(f"{draws.posterior[x].mean():.4g}" for x in names),
        "ended": "",
    }


def drivers(rng: np.random.Generator, num_months: int) -> np.ndarray:
    """Draw logarithms of monthly counts."""
    level, season = 7.4, list(rng.normal(0.0, 0.1, MONTHS - 1))
    y = np.empty(num_months)
    for t in range(num_months):
        y[t] = level + season[-1] + SCALES["observation"] * rng.standard_normal()
        level += SCALES["level"] * rng.standard_normal()
        following = -sum(season) + SCALES["season"] * rng.standard_normal()
        season = [*season[1:], following]
    return y


def structural_model(y: np.ndarray, log_likelihood: Callable[..., Any]) -> Any:
    """Return a model of PyMC for the scales of the noises."""
    with pm.Model() as model:
        scales = [pm.HalfNormal(name, 0.1) for name in SCALES]
        pm.Potential("y", log_likelihood(y, *scales))
    return model


def by_years(y: np.ndarray, s_y: Any, s_l: Any, s_g: Any) -> Any:
    """Return the log likelihood as a chain over years, of levels and seasons each.

    The first year ends in the first month that was observed, and holds the seasons
    before; what is not in the model there is standard normal.
    """
    num_years, D = 1 + -(-(len(y) - 1) // MONTHS), 2 * MONTHS
    # noises of a year as rows in the states of the year before (D) and its own (D)
    rows = np.zeros((2, MONTHS, 2 * D))
    for month in range(MONTHS):
        now = D + month
        rows[0, month, [MONTHS - 1 if month == 0 else now - 1, now]] = -1.0, 1.0
        last_year = MONTHS + np.arange(month + 1, MONTHS)
        rows[1, month, [*last_year, *(D + MONTHS + np.arange(month + 1))]] = 1.0
    squares = -np.einsum("kmi,kmj->kij", rows, rows) / 2
    J = squares[0] / s_l**2 + squares[1] / s_g**2
    pair = J[:D, :D], 2 * J[:D, D:], J[D:, D:]
    first = np.ones(D)  # precisions
    first[MONTHS - 1] = first[MONTHS + 1 :] = 1 / PRIOR
    h = np.zeros(D)
    h[MONTHS - 1] = y[0] / PRIOR
    seen = np.zeros((num_years, MONTHS))
    seen.flat[MONTHS - 1 : MONTHS - 1 + len(y)] = 1.0
    values = np.zeros_like(seen)
    values[seen > 0] = y
    sums = np.concatenate((np.eye(MONTHS), np.eye(MONTHS)), 1)  # l + g, (12, D)
    node = (
        -np.einsum("tm,mi,mj->tij", seen, sums, sums)[None] / 2,
        (values @ sums)[None],
    )
    logZ, _, _ = gaussian_chain(
        (-np.diag(first) / 2, h), pair, [x / s_y**2 for x in node]
    )
    noises = (num_years - 1) * MONTHS
    log_det = 2 * noises * (pt.log(s_l) + pt.log(s_g)) + 2 * len(y) * pt.log(s_y)
    log_det += D * LOG_2PI - np.log(first).sum() + (2 * noises + len(y)) * LOG_2PI
    squares = (y**2).sum() / s_y**2 + y[0] ** 2 / PRIOR
    return logZ[0] - (squares + log_det) / 2


def matrices(y: np.ndarray, s_y: Any, s_l: Any, s_g: Any) -> tuple[Any, ...]:
    """Return A, Q, C, R, m0, P0 of the model, whose state is of months."""
    A = np.zeros((MONTHS, MONTHS))
    A[0, 0], A[1, 1:] = 1.0, -1.0
    A[2:, 1:-1] = np.eye(MONTHS - 2)
    C = np.zeros((1, MONTHS))
    C[0, :2] = 1.0
    of_level, of_season = (np.diag(np.eye(MONTHS)[k]) for k in (0, 1))
    m0 = y[0] * np.eye(MONTHS)[0]
    Q, R = of_level * s_l**2 + of_season * s_g**2, np.eye(1) * s_y**2
    return A, Q, C, R, m0, PRIOR * np.eye(MONTHS)


def by_months(y: np.ndarray, *scales: Any) -> Any:
    """Return the log likelihood by the Kalman filter of pymc-extras."""
    A, Q, C, R, m0, P0 = map(pt.as_tensor_variable, matrices(y, *scales))
    none, identity = pt.zeros((MONTHS,)), pt.eye(MONTHS)
    *_, density = StandardFilter().build_graph(
        pt.as_tensor_variable(y[:, None]),
        *(m0, P0, none, pt.zeros((1,)), A, C, identity, R, Q),
        cov_jitter=0.0,
    )
    return density.sum()


def check_structural(y: np.ndarray) -> None:
    """Compare both with the standard function, which takes the singular Q as it is.

    Raises
    ------
    AssertionError
        If one is off by more than 1e-9 of the value.
    """
    scales = tuple(SCALES.values())
    params = standard.LinearGaussian(*matrices(y, *scales))
    want = standard.log_likelihood(params, y[:, None])
    variables = [pt.dscalar(name) for name in SCALES]
    for log_likelihood in (by_years, by_months):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = log_likelihood(y, *variables)
            found = pytensor.function(variables, value)(*scales)
        error = abs(found / want - 1)
        print(f"{log_likelihood.__name__}: {float(found):.6f}, off by {error:.1e}")
        assert error < 1e-9


def states_and_frames(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """Draw frames of a Gaussian HMM with three states."""
    z, frames = 0, np.empty(num_frames)
    for t in range(num_frames):
        z = z if rng.random() < 0.9 else int(rng.integers(3))
        frames[t] = (-2.0, 0.0, 3.0)[z] + 0.7 * rng.standard_normal()
    return frames


def parameters() -> tuple[Any, Any, Any]:
    """Return transition, means and scale, in the model that is being made."""
    transition = pm.Dirichlet("transition", np.ones((3, 3)))
    lowest, gaps = pm.Normal("lowest", 0.0, 3.0), pm.HalfNormal("gaps", 3.0, shape=2)
    means = pt.concatenate((lowest[None], lowest + pt.cumsum(gaps)))
    return transition, means, pm.HalfNormal("scale", 1.0)


def hidden_markov_model(frames: np.ndarray) -> Any:
    """Return a model whose states are summed out by the compiled chain."""
    with pm.Model() as model:
        transition, means, scale = parameters()
        logs = pm.logp(pm.Normal.dist(means, scale), frames[:, None])
        start = np.full(3, 1 / 3)
        pm.Potential("y", hmm_log_likelihood(start, transition, logs))
    return model


def marginalised_model(frames: np.ndarray) -> Any:
    """Return a model whose states pymc-extras marginalises."""
    with pm.Model() as model:
        transition, means, scale = parameters()
        start = pm.Categorical.dist(p=np.full(3, 1 / 3))
        states = pmx.DiscreteMarkovChain(
            "states", P=transition, init_dist=start, steps=len(frames) - 1
        )
        pm.Normal("y", means[states], scale, observed=frames)
    return pmx.marginalize(model, ["states"])


def write(path: Path, rows: list[dict]) -> None:
    """Write a table, whose columns are those of the longest row."""
    columns = max(rows, key=len)
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(columns))
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main()
