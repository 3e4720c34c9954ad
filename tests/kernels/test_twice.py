"""Every kernel has a definition: one name, one signature, the same values and slopes.

The chains and the layers with compiled passes have tests of their own beside this; here
are the mixtures, and what is true of all names.
"""

import inspect

import numpy as np
import pytest
from autograd import jacobian

from svae import kernels, reference
from svae.autodiff.vjp import trace
from svae.errors import Impossible, NotPositiveDefinite
from svae.reference import MeanField
from svae.testing import cotangents, random_like, relative_error

N, K, D, S, Q = 7, 3, 2, 2, 3
NOT_DEFINED = {"LinearSolve", "get_num_threads", "isa", "set_num_threads"}
CONSTANT = ("fixed", "iterations", "residual", "half_log_det")


def test_every_name_is_defined_with_the_same_signature():
    assert set(kernels.__all__) - NOT_DEFINED == set(reference.__all__) - {"MeanField"}
    for name in sorted(set(kernels.__all__) - NOT_DEFINED):
        functions = (getattr(module, name) for module in (kernels, reference))
        ours, theirs = (  # autograd's primitives have theirs in an attribute
            inspect.signature(getattr(f, "fun", f)).parameters.values()
            for f in functions
        )
        assert [(p.name, p.default) for p in ours] == [
            (p.name, p.default) for p in theirs
        ], name


def problem(rng, tails=False, dense=False, partly=False):
    """Return the arrays of a mixture that are differentiated, and which rows count."""
    means = rng.standard_normal((K, D))
    J = -0.5 * np.eye(D) + 0.1 * rng.standard_normal((K, D, D))
    h = -np.einsum("kij,kj->ki", J + np.swapaxes(J, 1, 2), means)
    arrays = {
        "init": rng.standard_normal((N, K)),
        "components": np.concatenate([J.reshape(K, -1), h], 1),
        "constants": rng.standard_normal(K),
        "node J": -rng.uniform(0.1, 1.0, (N, D)),
        "node h": rng.standard_normal((N, D)),
        "noise": rng.standard_normal((N, S, D)),
    }
    if dense:
        arrays["node J"] = -0.5 * np.eye(D) + 0.1 * rng.standard_normal((N, D, D))
        arrays["init"] = arrays["init"][0]  # which all rows share
    if tails:
        arrays["offsets"] = -0.5 * np.einsum("ki,ki->k", h, means)
        arrays["dofs"] = rng.uniform(3.0, 9.0, (K, Q))
    return arrays, (rng.random(N) < 0.6).astype(float) if partly else None


def mean_field(module, names, observed, adjoint=None, **options):
    """Return the outputs of a mixture that have derivatives, of the arrays by name."""
    options = {"from_data": True, "from_prior": False, "starts": None} | options
    options = {"tolerance": 1e-14, "max_iterations": 5000} | options

    def run(*arrays):
        p = dict(zip(names, arrays, strict=True))
        tails = (p["offsets"], p["dofs"], np.full(Q, 1 / Q)) if "dofs" in p else None
        q = module.mixture(
            (p["init"], p["components"], p["constants"]),
            tails,
            (p["node J"], p["node h"]),
            p["noise"],
            observed,
            **options,
            adjoint=adjoint,
        )
        return [x for field, x in q._asdict().items() if field not in CONSTANT]

    return run


KINDS = [(tails, dense, not dense) for tails in (False, True) for dense in (0, 1)]


@pytest.mark.parametrize(("tails", "dense", "partly"), KINDS)
def test_a_mean_field_and_all_its_slopes(tails, dense, partly, rng):
    arrays, observed = problem(rng, tails, dense, partly)
    names, values = list(arrays), list(arrays.values())
    exactly = kernels.LinearSolve(1e-14, 1000)
    compiled = mean_field(kernels, names, observed, exactly)
    defined = mean_field(reference, names, observed)
    outputs = compiled(*values)
    for got, want in zip(outputs, defined(*values), strict=True):
        assert relative_error(got, want) < 1e-10
    bars = random_like(rng, outputs)
    got, want = (cotangents(f, values, bars) for f in (compiled, defined))
    for name, a, b in zip(names, got, want, strict=True):
        assert a.shape == b.shape
        assert relative_error(a, b) < 1e-10, name


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(("tails", "dense", "partly"), KINDS)
def test_a_mean_field_of_frames_is_that_of_as_many_points(
    tails, dense, partly, steps, rng
):
    arrays, _ = problem(rng, tails, dense)
    J, h, noise = (rng.uniform(0.1, 1.0, (N, steps, *e)) for e in ((D,), (D,), (S, D)))
    J = -J[..., None] * np.eye(D) - 0.05 if dense else -J
    observed = (rng.random((N, steps)) < 0.6).astype(float) if partly else None
    starts = rng.dirichlet(np.ones(K), (N, 2, steps))
    init = arrays["init"]
    each = {"node J": J, "node h": h, "noise": noise}
    of_points = {name: x.reshape(N * steps, *x.shape[2:]) for name, x in each.items()}
    if init.ndim == 2:
        of_points["init"] = np.repeat(init, steps, axis=0)
    of_points = arrays | of_points
    of_frames = arrays | each | {"noise": np.swapaxes(noise, 1, 2)}
    exactly = kernels.LinearSolve(1e-14, 1000)

    def results(module, arrays, observed, starts):
        run = mean_field(module, list(arrays), observed, exactly, starts=starts)
        outputs = run(*arrays.values())
        bars = [
            np.cos(k + np.arange(x.size)).reshape(x.shape)
            for k, x in enumerate(outputs)
        ]
        return outputs, cotangents(run, list(arrays.values()), bars)

    (got, got_bars), (want, want_bars) = (
        results(module, of_frames, observed, starts) for module in (kernels, reference)
    )
    for a, b in zip([*got, *got_bars], [*want, *want_bars], strict=True):
        assert a.shape == b.shape
        assert relative_error(a, b) < 1e-10
    flat = None if observed is None else observed.reshape(-1)
    lined_up = np.swapaxes(starts, 1, 2).reshape(N * steps, 2, K)
    log_normalizer, *_, mean, states, _, samples = results(
        kernels, of_points, flat, lined_up
    )[0]
    summed = log_normalizer.reshape(N, steps).sum(axis=1)
    np.testing.assert_array_equal(got[0], summed)
    np.testing.assert_array_equal(got[3], mean.reshape(N, steps, D))
    np.testing.assert_array_equal(got[4], states.reshape(N, steps, K))
    in_order = np.swapaxes(samples.reshape(N, steps, S, D), 1, 2)
    np.testing.assert_array_equal(got[6], in_order)


@pytest.mark.parametrize("module", [kernels, reference])
def test_a_frame_without_a_law_is_named(module, rng):
    arrays, _ = problem(rng)
    J = -rng.uniform(0.1, 1.0, (N, 3, D))
    arrays |= {
        "node J": J,
        "node h": np.zeros((N, 3, D)),
        "noise": np.zeros((N, S, 3, D)),
    }
    J[4, 2] = 1e3
    with pytest.raises(NotPositiveDefinite) as caught:
        mean_field(module, list(arrays), None)(*arrays.values())
    assert (caught.value.sequence, caught.value.step) == (4, 2)


@pytest.mark.parametrize("tails", [False, True])
def test_where_it_starts_and_how_it_ends(tails, rng):
    arrays, observed = problem(rng, tails, partly=True)
    starts = rng.dirichlet(np.ones(K), (N, 2))
    for from_data, from_prior, own in ((1, 0, None), (0, 1, None), (1, 1, starts)):
        results = [
            module.mixture(
                (arrays["init"], arrays["components"], arrays["constants"]),
                (arrays["offsets"], arrays["dofs"], np.full(Q, 1 / Q))
                if tails
                else None,
                (arrays["node J"], arrays["node h"]),
                None,
                observed,
                own,
                from_data=bool(from_data),
                from_prior=bool(from_prior),
                tolerance=1e-4,
                max_iterations=3,
            )
            for module in (kernels, reference)
        ]
        for field, got, want in zip(MeanField._fields, *results, strict=True):
            if want is None:
                assert got is None
            elif own is None or field != "residual":
                assert relative_error(got, want) < 1e-8, field


def test_the_definition_of_a_mean_field_has_two_derivatives():
    """Against differences of the first one."""
    rng = np.random.default_rng(2)
    arrays, _ = problem(rng, tails=True)
    names, values = list(arrays), list(arrays.values())
    place = names.index("constants")
    run = mean_field(reference, names, None)

    def bound(x):
        return run(*values[:place], x, *values[place + 1 :])[4].sum(0)[0]

    slopes, step = jacobian(bound), 1e-5
    found = jacobian(slopes)(values[place])
    wanted = [
        (slopes(values[place] + e) - slopes(values[place] - e)) / (2 * step)
        for e in step * np.eye(K)
    ]
    assert relative_error(found, np.array(wanted)) < 1e-6
    with pytest.raises(NotImplementedError, match="has one derivative"):
        run = mean_field(kernels, names, None)
        jacobian(slopes)(values[place])


def test_how_the_gradient_was_solved_is_returned_and_watched(rng):
    arrays, _ = problem(rng)
    names, seen = list(arrays), []
    adjoint = kernels.LinearSolve(1e-9, 50, seen.append)
    run = mean_field(kernels, names, None, adjoint)
    pull_back, values = trace(lambda *a: tuple(run(*a)), list(arrays.values()))
    assert seen == []
    (solve,) = pull_back(np.ones(N)).diagnostics
    np.testing.assert_array_equal(seen, [solve.residual])
    assert solve.iterations.max() >= 1
    assert solve.residual.max() < 1e-9


@pytest.mark.parametrize("lead", [(N,), (3, 4)])
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("partly", [False, True])
def test_evidence_and_all_its_slopes(lead, dense, partly, rng):
    arrays, _ = problem(rng)
    J = -rng.uniform(0.1, 1.0, (*lead, D))
    J = J[..., None] * np.eye(D) - 0.05 if dense else J
    observed = (rng.random(lead) < 0.6).astype(float) if partly else None
    values = [
        arrays["components"],
        *(J, rng.standard_normal((*lead, D)), rng.dirichlet(np.ones(K), lead)),
    ]

    def evidence(module):
        return lambda P, J, h, s: [module.mixture_evidence(P, (J, h), observed, s)[0]]

    bars = [rng.standard_normal((*lead, K))]
    got, want = (
        [*f(*values), *cotangents(f, values, bars)]
        for f in map(evidence, (kernels, reference))
    )
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape
        assert relative_error(a, b) < 1e-10
    for states in (values[3], None):
        got, want = (
            module.mixture_evidence(values[0], (J, values[2]), observed, states)
            for module in (kernels, reference)
        )
        for a, b in zip(got, want, strict=True):
            assert a is b or relative_error(a, b) < 1e-10


@pytest.mark.parametrize("module", [kernels, reference])
def test_they_fail_alike(module, rng):
    arrays, _ = problem(rng)
    run = mean_field(module, list(arrays), None)
    for name, row, value, error in (
        ("node J", 3, 1e3, NotPositiveDefinite),
        ("init", 2, -np.inf, Impossible),
    ):
        wrong = {key: x.copy() for key, x in arrays.items()}
        wrong[name][row] = value
        with pytest.raises(error) as caught:
            run(*wrong.values())
        assert (caught.value.sequence, caught.value.step) == (row, 0)
    J, h = -np.ones((2, 4, D)), np.ones((2, 4, D))
    J[1, 2] = 1e3
    with pytest.raises(NotPositiveDefinite) as caught:
        module.mixture_evidence(arrays["components"], (J, h), None, None)
    assert (caught.value.sequence, caught.value.step) == (1, 2)


@pytest.mark.parametrize("module", [kernels, reference])
def test_adam_takes_vectors_in_parts_and_refuses_what_is_no_number(module, rng):
    vector, gradient, mean = rng.standard_normal((3, 8))
    words = mean, rng.random(8), 0.01, 1e-8, 0.9, 0.999
    want = reference.adam(vector, gradient, *words)
    parts = [(x[:3], x[3:].reshape(5, 1)) for x in (vector, gradient)]
    np.testing.assert_allclose(module.adam(*parts, *words), want, rtol=1e-13)
    gradient[1] = np.nan
    with pytest.raises(FloatingPointError, match="gradient is not finite"):
        module.adam(vector, gradient, *words)
