"""Evidence of frames for states, compiled, against the Gaussian chain without pairs."""

import numpy as np
import pytest

import svae
from svae import NotPositiveDefinite, kernels
from svae.autodiff.vjp import trace
from svae.models.evidence import Evidence
from svae.models.inference.potentials import independent, split
from svae.models.inference.switches import Emission, dense, linear_potentials_of_factor
from svae.testing import latent_model, local_problem, relative_error


def problem(rng, dense_nodes, dim=3, num_states=4):
    """Return a switch, rows, node potentials, probabilities of states and lengths."""
    latent = latent_model("hmm", latent_dim=dim, num_states=num_states)
    stats, node, lengths = local_problem(latent, rng, (5, 3, 1, 4), dense=dense_nodes)
    live = np.arange(5) < lengths[:, None]
    node = tuple(np.where(live[(...,) + (None,) * (x.ndim - 2)], x, 0.0) for x in node)
    states = rng.dirichlet(np.ones(num_states), (4, 5)) * live[..., None]
    return latent.switch, latent.switch.natparams(stats), node, states, lengths


@pytest.mark.parametrize("dim", [1, 2, 4, 6])
@pytest.mark.parametrize("dense_nodes", [False, True], ids=["diagonal", "dense"])
@pytest.mark.parametrize("partly", [False, True], ids=["all", "partly-observed"])
def test_evidence_and_its_gradient_are_those_of_the_chain(
    dim, dense_nodes, partly, rng
):
    switch, rows, node, states, lengths = problem(rng, dense_nodes, dim)
    observed = rng.random((4, 5)) < 0.7 if partly else None

    def evidence(of):
        def outputs(states, P, J, h):
            evidence = Evidence(J, h, lengths, observed)
            return (of(states, (P, rows[1]), evidence),)

        return trace(outputs, [states, rows[0], *node])

    compiled, (got,) = evidence(switch.linear_potentials_given)
    chain, (want,) = evidence(lambda *a: linear_potentials_of_factor(switch, *a))
    assert relative_error(got, want) < 1e-12
    bar = rng.standard_normal(got.shape)
    kept = np.arange(5) < lengths[:, None]
    kept = kept if observed is None else kept & observed
    for position, (a, b) in enumerate(zip(compiled(bar), chain(bar), strict=True)):
        if position == 0:  # what they say of frames that tell nothing has no use
            a, b = a * kept[..., None], b * kept[..., None]
        assert relative_error(a, b) < 1e-11, position


@pytest.mark.parametrize("dense_nodes", [False, True], ids=["diagonal", "dense"])
def test_evidence_of_each_state_is_a_log_normalizer(dense_nodes, rng):
    _, rows, node, states, _ = problem(rng, dense_nodes)
    J, h = split(rows[0], 3)
    J, h = dense(node[0])[:, :, None] + J, node[1][:, :, None] + h
    got = kernels.mixture_evidence(rows[0], node, None, None)[0]
    assert got.shape == states.shape
    assert relative_error(got, independent(J, h)[0]) < 1e-13


@pytest.mark.parametrize("call", ["evidence", "evidence_of_each"])
def test_an_improper_frame_is_named(call, rng):
    switch, rows, (J, h), states, lengths = problem(rng, False)
    J[1, 2] = 1e3
    with pytest.raises(NotPositiveDefinite) as caught:
        if call == "evidence":
            switch.linear_potentials_given(states, rows, Evidence(J, h, lengths))
        else:
            switch.start(rows, Evidence(J, h))
    assert (caught.value.sequence, caught.value.step) == (1, 2)


@pytest.mark.parametrize("name", ["gmm", "hmm", "student", "slds"])
def test_a_number_that_is_not_finite_is_named(name, rng):
    latent = latent_model(name, latent_dim=3, num_states=4)
    steps = 5 if latent.coupled else 1
    stats, (J, h), _ = local_problem(latent, rng, (steps,) * 4)
    h[1, steps - 1, 1] = np.nan
    with pytest.raises(ValueError, match=rf"node h\[1, {steps - 1}, 1\] is nan"):
        latent.infer(stats, Evidence(J, h))


def test_an_ascent_looks_at_its_evidence_before_its_first_step(rng):
    latent = latent_model("slds", latent_dim=3, num_states=4)
    stats, (J, h), _ = local_problem(latent, rng, (5,) * 4)
    noise = rng.standard_normal((4, 2, 5, 3))
    starts = [rng.dirichlet(np.ones(4), (4, 5))]
    noise[3, 1, 2, 0] = np.inf
    with pytest.raises(ValueError, match=r"noise\[3, 1, 2, 0\] is inf"):
        latent.infer(stats, Evidence(J, h), noise, starts)
    with pytest.raises(ValueError, match=r"node J has shape \(4, 4, 3\)"):
        latent.infer(stats, Evidence(J[:, 1:], h), None, starts)
    J[2, 4, 1] = np.inf
    with pytest.raises(ValueError, match=r"node J\[2, 4, 1\] is inf"):
        latent.infer(stats, Evidence(J, h), None, starts)


def test_a_message_that_is_no_number_is_refused(rng):
    latent = latent_model("hmm", latent_dim=3, num_states=4)
    stats, node, _ = local_problem(latent, rng, (5,) * 4)
    components = [x.copy() for x in stats["components"]]
    components[1][2, 0] = np.nan
    with pytest.raises(ValueError, match=r"natparams 0\[2, 9\] is nan"):
        latent.infer(stats | {"components": components}, Evidence(*node))
    transitions = stats["transitions"][0].copy()
    transitions[1, 2] = np.nan
    with pytest.raises(ValueError, match=r"pair\[1, 2\] is nan"):
        latent.infer(stats | {"transitions": (transitions,)}, Evidence(*node))


def test_a_sequence_alone_and_any_number_of_threads_give_the_same_bits(rng):
    number, steps, dim, num_states = 40, 60, 3, 4
    J = -rng.uniform(0.1, 0.5, (number, steps, dim))
    h = rng.standard_normal((number, steps, dim))
    _, rows, _, _, _ = problem(rng, False, dim, num_states)
    states = rng.dirichlet(np.ones(num_states), (number, steps))
    bar = rng.standard_normal(states.shape)

    def run(chosen):
        count = len(states[chosen])
        lengths = np.full(count, steps)

        def outputs(states, J, h):
            evidence = Evidence(J, h, lengths)
            return (Emission(dim).linear_potentials_given(states, rows, evidence),)

        pull_back, (value,) = trace(outputs, [x[chosen] for x in (states, J, h)])
        return [value, *pull_back(bar[chosen])]

    before = svae.get_num_threads()
    try:
        svae.set_num_threads(1)
        want = run(slice(None))
        svae.set_num_threads(3)
        for a, b in zip(run(slice(None)), want, strict=True):
            np.testing.assert_array_equal(a, b)
    finally:
        svae.set_num_threads(before)
    for n in range(0, number, 7):
        for a, b in zip(run(slice(n, n + 1)), want, strict=True):
            np.testing.assert_array_equal(a, b[n : n + 1])
