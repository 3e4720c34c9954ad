"""The compiled mixtures take arrays of the shapes they document, and no others.

A shape of one row or one state broadcasts in NumPy, but the core reads as many numbers
as the rows are: it once read past the end of such arrays.
"""

import numpy as np
import pytest

from svae import _core, kernels
from svae.errors import Impossible
from svae.testing import assert_identical

N, K, D, S, Q = 4, 3, 2, 2, 3


def problem(rng):
    """Return arguments of `kernels.mixture` that are right, by name."""
    J = np.broadcast_to(-np.eye(D), (K, D, D))
    mean = rng.standard_normal((K, D))
    return {
        "init": rng.standard_normal((N, K)),
        "components": np.concatenate([J.reshape(K, -1), 2 * mean], 1),
        "constants": rng.standard_normal(K),
        "offsets": -np.sum(mean**2, 1),
        "degrees of freedom": rng.uniform(3, 9, (K, Q)),
        "weights": np.full(Q, 1 / Q),
        "node J": -rng.uniform(0.1, 1, (N, D)),
        "node h": rng.standard_normal((N, D)),
        "noise": rng.standard_normal((N, S, D)),
        "observed": np.ones(N),
        "starts": rng.dirichlet(np.ones(K), (N, 2)),
    }


def mixture(p, tolerance=1e-10, max_iterations=500, from_data=True, from_prior=False):
    """Call `kernels.mixture` with arguments by name."""
    return kernels.mixture(
        *shared(p),
        p["starts"],
        from_data,
        from_prior,
        tolerance,
        max_iterations,
    )


def shared(p):
    """Return the arguments that the adjoint has too."""
    return (
        (p["init"], p["components"], p["constants"]),
        (p["offsets"], p["degrees of freedom"], p["weights"]),
        (p["node J"], p["node h"]),
        p["noise"],
        p["observed"],
    )


def bars(rng):
    """Return cotangents of the results that have any, by name."""
    return {
        "log_normalizer_bar": rng.standard_normal(N),
        "evidence_bar": rng.standard_normal(N),
        "second_moment_bar": rng.standard_normal((N, D, D)),
        "mean_bar": rng.standard_normal((N, D)),
        "states_bar": rng.standard_normal((N, K)),
        "potentials_bar": rng.standard_normal((N, K)),
    }


def mixture_vjp(p, fixed, bars, samples_bar):
    return kernels.mixture_vjp(
        *shared(p), fixed, list(bars.values()), samples_bar, 1e-10, 100
    )


def cut_to_one(x, axis):
    return x[(slice(None),) * axis + (slice(0, 1),)]


CUTS = [
    *[("init", 0), ("init", 1), ("components", 0), ("constants", 0), ("offsets", 0)],
    *[("degrees of freedom", 0), ("degrees of freedom", 1), ("weights", 0)],
    *[("node J", 0), ("node J", 1), ("node h", 0), ("noise", 0), ("observed", 0)],
    *[("starts", 0), ("starts", 2)],
]


@pytest.mark.parametrize(("name", "axis"), CUTS)
def test_an_axis_of_one_does_not_broadcast(rng, name, axis):
    p = problem(rng)
    p[name] = cut_to_one(p[name], axis)
    with pytest.raises(ValueError, match=r"has shape \(.*\), wanted \("):
        mixture(p)


@pytest.mark.parametrize("name", ["components", "observed", "states", "node J"])
def test_nor_in_the_evidence(rng, name):
    p = problem(rng)
    p["states"] = rng.dirichlet(np.ones(K), N)
    arguments = lambda: (  # noqa: E731
        p["components"],
        (p["node J"], p["node h"]),
        p["observed"],
        p["states"],
    )
    bar = rng.standard_normal((N, K))
    kernels.mixture_evidence(*arguments())
    kernels.mixture_evidence_vjp(*arguments(), bar)
    for evidence_bar in (cut_to_one(bar, 0), cut_to_one(bar, 1)):
        with pytest.raises(ValueError, match="evidence_bar has shape"):
            kernels.mixture_evidence_vjp(*arguments(), evidence_bar)
    p[name] = cut_to_one(p[name], 0)
    with pytest.raises(ValueError, match=r"has shape \(.*\), wanted \("):
        kernels.mixture_evidence(*arguments())
    with pytest.raises(ValueError, match=r"has shape \(.*\), wanted \("):
        kernels.mixture_evidence_vjp(*arguments(), bar)


@pytest.mark.parametrize("name", [*bars(np.random.default_rng(0)), "fixed", "samples"])
def test_nor_in_the_adjoint(rng, name):
    p = problem(rng)
    fixed = mixture(p)[0]
    arguments = {"fixed": fixed, "samples": rng.standard_normal((N, S, D)), **bars(rng)}

    def call():
        rest = dict(arguments)
        return mixture_vjp(
            p, rest.pop("fixed"), samples_bar=rest.pop("samples"), bars=rest
        )

    call()
    arguments[name] = cut_to_one(arguments[name], 0)
    with pytest.raises(ValueError, match=f"{name}.* has shape"):
        call()


def test_many_rows_and_an_array_of_one(rng):
    """Three million rows: what is read past one number ends the process."""
    number = 3_000_000
    node = np.broadcast_to(-1.0, (number, 1)), np.broadcast_to(0.0, (number, 1))
    with pytest.raises(
        ValueError, match=r"observed has shape \(1,\), wanted \(3000000,\)"
    ):
        kernels.mixture_evidence(np.array([[-1.0, 0.0]]), node, np.ones(1), None)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("observed", (1,)), ("components", (1, D * D + D)), ("init", (1, K))],
)
def test_the_core_itself_refuses_them(rng, name, shape):
    p = problem(rng)
    p[name] = np.ones(shape)
    node = [p["node J"], p["node h"]]
    arguments = p["init"], p["components"], p["constants"], node, p["observed"], None
    with pytest.raises(ValueError, match=f"{name} has shape .*, wanted"):
        _core.mixture_evidence(*arguments)


GUISES = {
    "not aligned": lambda x: askew(x),
    "reversed": lambda x: x[::-1].copy()[::-1],
    "with gaps": lambda x: np.repeat(x, 2, -1)[..., ::2],
    "float32": lambda x: x.astype(np.float32).astype(">f4"),
    "lists": lambda x: x.tolist(),
}


def askew(x):
    """Return the same numbers at an odd address."""
    view = np.zeros(x.nbytes + 1, np.uint8)[1:].view(np.float64).reshape(x.shape)
    view[...] = x
    return view


@pytest.mark.parametrize("guise", GUISES)
def test_how_arrays_lie_in_memory_is_no_matter(rng, guise):
    p = {name: x.astype(np.float32).astype(float) for name, x in problem(rng).items()}
    fixed, bar = mixture(p)[0].astype(np.float32).astype(float), bars(rng)
    bar = {name: x.astype(np.float32).astype(float) for name, x in bar.items()}
    change = GUISES[guise]
    q = {name: change(x) for name, x in p.items()}
    assert_identical(list(mixture(q)), list(mixture(p)))
    other = {name: change(x) for name, x in bar.items()}
    samples_bar = p["noise"]
    assert_identical(
        list(mixture_vjp(q, change(fixed), other, change(samples_bar))),
        list(mixture_vjp(p, fixed, bar, samples_bar)),
    )


@pytest.mark.parametrize("name", problem(np.random.default_rng(0)))
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_named(rng, name, value):
    p = problem(rng)
    p[name].flat[-1] = value
    with pytest.raises(ValueError, match=name):
        mixture(p)


@pytest.mark.parametrize("name", problem(np.random.default_rng(0)))
def test_masked_entries_are_refused(rng, name):
    p = problem(rng)
    p[name] = np.ma.array(
        p[name], mask=np.arange(p[name].size).reshape(p[name].shape) < 1
    )
    with pytest.raises(ValueError, match=f"{name} has masked entries"):
        mixture(p)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": np.nan}, "tolerance is nan"),
        ({"tolerance": -1.0}, "tolerance is -1"),
        ({"tolerance": None}, "tolerance is None"),
        ({"max_iterations": 0}, "max_iterations is 0"),
        ({"max_iterations": 2.5}, "max_iterations is 2.5"),
    ],
)
def test_what_says_not_how_long_to_iterate(rng, options, message):
    with pytest.raises(ValueError, match=message):
        mixture(problem(rng), **options)


@pytest.mark.parametrize("starts", [None, np.ones((N, 0, K))])
def test_nowhere_to_start(rng, starts):
    with pytest.raises(ValueError, match="nowhere to start"):
        mixture({**problem(rng), "starts": starts}, from_data=False)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("observed", 0.5, r"observed\[0\] is 0.5, wanted 0 or 1"),
        ("degrees of freedom", 0.0, "wanted positive"),
        ("weights", -1.0, "wanted 0 or more"),
    ],
)
def test_values_out_of_range(rng, name, value, message):
    p = problem(rng)
    p[name].flat[0] = value
    with pytest.raises(ValueError, match=message):
        mixture(p)


def test_a_state_that_is_forbidden_is_no_matter_to_a_row_without_data(rng):
    """Zero times -inf is no number."""
    p = problem(rng)
    p["constants"][1], p["observed"][2] = -np.inf, 0.0
    states = mixture(p)[8]
    assert np.isfinite(states).all()
    assert (states[[0, 1, 3], 1] == 0).all()
    weights = np.exp(p["init"][2])
    np.testing.assert_allclose(states[2], weights / weights.sum(), rtol=1e-12)


@pytest.mark.parametrize("from_prior", [False, True])
def test_a_row_without_a_possible_state(rng, from_prior):
    p = {**problem(rng), "starts": None}
    p["init"][2, :2], p["constants"][2] = -np.inf, -np.inf
    with pytest.raises(Impossible) as caught:
        mixture(p, from_data=not from_prior, from_prior=from_prior)
    assert (caught.value.sequence, caught.value.step) == (2, 0)


def test_results_too_large_for_a_float(rng):
    p = problem(rng)
    p["node h"][3] = 1e200
    with pytest.raises(FloatingPointError, match="row 3"):
        mixture(p)


def test_moments_that_nobody_computes_are_none(rng):
    p = problem(rng)
    node = p["node J"], p["node h"]
    evidence, *moments = kernels.mixture_evidence(p["components"], node, None, None)
    assert evidence.shape == (N, K)
    assert moments == [None, None]
