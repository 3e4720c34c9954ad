"""Other packages on the same problems, in turns with the chains of this one.

Each gets the model in everyday parameters, as it wants to have it, before the clock
starts; compilation is not timed either. A package that wants one sequence at a time is
given the first `FEW` of a batch, and its time is that per step all the same. All use
one core. A ratio of times is given only where the answers agree.
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from svae import kernels
from svae.autodiff.vjp import trace
from svae.profile.bars import steps_of
from svae.profile.cases import (
    KERNELS,
    Case,
    Problem,
    largest_error,
    log_constant,
    potentials,
)
from svae.profile.clock import Timed, interleave

__all__ = ["AGREE", "PEERS", "Comparison", "cases", "compare", "missing"]

AGREE = 1e-6
"""Largest relative error of answers that are taken for the same."""
FEW = 4
SIZES = {"lds": (4, 10, 20), "hmm": (10, 30, 100)}

LINEAR_SYSTEM = ("m1", "V1", "A", "Q", "y", "R")
HIDDEN_MARKOV = ("start", "transition", "log_likelihoods")
PER_SEQUENCE = ("y", "R", "log_likelihoods")

Model = dict[str, np.ndarray]
Answers = tuple[np.ndarray, ...]
"""Log likelihoods (N,) with means and variances (N, T, D) or probabilities (N, T, K);
of a gradient, that in the data (N, T, D)."""


@dataclass(frozen=True)
class Comparison:
    """A package beside this one, on one core; nanoseconds per step of one sequence."""

    peer: str
    task: str
    """``"lds"`` and ``"hmm"``: filter and smoother. ``"lds gradient"``: a weighted sum
    of means and variances, and its gradient in all parameters and data."""
    size: int
    num_sequences: int
    num_timesteps: int
    svae_ns: float
    peer_ns: float
    ratio: float
    """Time of the peer over that of this package; NaN unless the answers agree."""
    largest_error: float
    note: str


class Prepared(NamedTuple):
    """A call to be timed, and what makes answers of its result."""

    call: Callable[[], Any]
    answers: Callable[[Any], Answers]


class Peer(NamedTuple):
    """How to put a problem to a package."""

    package: str
    task: str
    prepare: Callable[[Model], Prepared]
    batched: bool = False

    def count(self, num_sequences: int) -> int:
        """Return how many sequences of a batch it gets."""
        return num_sequences if self.batched else min(FEW, num_sequences)


def cases(
    kernel: str = "all",
    sizes: Sequence[int] | None = None,
    num_sequences: Sequence[int] = (64, 1),
    num_timesteps: int = 1000,
) -> list[Case]:
    """List the problems: a batch and a single sequence of every size."""
    return [
        Case(name, size, N, num_timesteps, 0)
        for name in ("lds", "hmm")
        if name in KERNELS[kernel]
        for size in sizes or SIZES[name]
        for N in num_sequences
    ]


def missing() -> list[str]:
    """Name the packages that are not installed."""
    names = dict.fromkeys(peer.package for peer in PEERS)
    return [name for name in names if find_spec(name) is None]


def compare(
    chosen: Sequence[Case] | None = None,
    repeats: int = 5,
    budget: float = 4.0,
    rng: int = 0,
    progress: bool = False,
) -> list[Comparison]:
    """Time the packages that are installed beside this one.

    Parameters
    ----------
    chosen : sequence of Case, optional
        Of kernels ``"lds"`` and ``"hmm"`` without variants; by default `cases`.
    repeats, budget, rng, progress
        As in `svae.profile.run`.

    Returns
    -------
    list of Comparison
        Without those that `missing` names; a package that fails says so in its note.
    """
    absent = missing()
    found = []
    for case in steps_of(cases() if chosen is None else chosen, progress, "case"):
        model = Problem.make(case, rng).model
        for task in _tasks(case):
            peers = [p for p in PEERS if p.task == task and p.package not in absent]
            if peers:
                found += _beside(case, task, model, peers, repeats, budget)
    return found


def _tasks(case: Case) -> list[str]:
    """List what there is to do; what JAX keeps for a gradient grows fast with D."""
    with_gradient = case.kernel == "lds" and case.size <= 10
    return [case.kernel, "lds gradient"] if with_gradient else [case.kernel]


def _beside(
    case: Case,
    task: str,
    model: Model,
    peers: Sequence[Peer],
    repeats: int,
    budget: float,
) -> list[Comparison]:
    ours = OURS[task](model)
    expected = ours.answers(ours.call())
    calls, errors, notes = {"": Timed(ours.call)}, {}, {}
    for name, peer in ((peer.package, peer) for peer in peers):
        few = peer.count(case.num_sequences)
        try:
            prepared = peer.prepare(_first(model, few))
            got = prepared.answers(prepared.call())
            errors[name] = largest_error(got, tuple(x[:few] for x in expected))
        except Exception as error:  # whatever another package makes of our problem
            notes[name] = f"failed: {type(error).__name__}: {error}"[:120]
            continue
        calls[name] = Timed(prepared.call)
        if not errors[name] <= AGREE:
            notes[name] = "answers differ"
    seconds = interleave(calls, repeats, budget)
    svae_ns = 1e9 * seconds[""] / case.num_steps

    def comparison(peer: Peer) -> Comparison:
        name, steps = peer.package, peer.count(case.num_sequences) * case.num_timesteps
        peer_ns = 1e9 * seconds.get(name, math.nan) / steps
        return Comparison(
            f"{name} {version(name)}",
            task,
            case.size,
            case.num_sequences,
            case.num_timesteps,
            svae_ns,
            peer_ns,
            math.nan if name in notes else peer_ns / svae_ns,
            errors.get(name, math.nan),
            notes.get(name, ""),
        )

    return [comparison(peer) for peer in peers]


def _first(model: Model, count: int) -> Model:
    """Keep the first sequences of a batch."""
    return {k: x[:count] if k in PER_SEQUENCE else x for k, x in model.items()}


def _weights(shape: tuple[int, ...]) -> np.ndarray:
    """Draw what gradients weigh means and variances with."""
    return np.random.default_rng(1).standard_normal((2, *shape))


def _our_lds(model: Model) -> Prepared:
    arguments, constant = potentials(model), log_constant(model)

    def answers(result: Any) -> Answers:
        logZ, (_, _, (square, mean)), _ = result
        return logZ + constant, mean, square - mean**2

    return Prepared(lambda: kernels.gaussian_chain(*arguments), answers)


def _our_lds_gradient(model: Model) -> Prepared:
    init, pair, node = potentials(model)
    of_mean, of_variance = _weights(model["y"].shape)

    def value(*flat: Any) -> tuple[Any]:
        _, (_, _, (square, mean)), _ = kernels.gaussian_chain(
            flat[:2], flat[2:5], flat[5:]
        )
        return ((of_mean * mean + of_variance * (square - mean**2)).sum(),)

    def call() -> Any:
        pull_back, _ = trace(value, (*init, *pair, *node))
        return pull_back(1.0)

    # h_t = y_t / R_t is the last potential
    return Prepared(call, lambda potentials_bar: (potentials_bar[6] / model["R"],))


def _our_hmm(model: Model) -> Prepared:
    arguments = potentials(model)
    return Prepared(
        lambda: kernels.markov_chain(*arguments),
        lambda result: (result[0], result[1][2]),
    )


def _jax() -> Any:
    """Import JAX for one core and double precision."""
    flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ.setdefault("XLA_FLAGS", flags)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax

    jax.config.update("jax_enable_x64", True)
    return jax


def _dynamax_lds(model: Model) -> Prepared:
    """Vectorise over sequences, and return the statistics that our chain returns."""
    jax = _jax()
    m1, V1, A, Q, y, R = (jax.numpy.asarray(model[name]) for name in LINEAR_SYSTEM)

    def smooth(y: Any, R: Any) -> Any:
        posterior, variances = _dynamax_smoother(m1, V1, A, Q, y, R)
        total = posterior.smoothed_covariances.sum(0)
        pairs = posterior.smoothed_cross_covariances.sum(0)
        loglik, means = posterior.marginal_loglik, posterior.smoothed_means
        return loglik, means, variances, total, pairs

    compiled = jax.jit(jax.vmap(smooth))
    return Prepared(lambda: jax.block_until_ready(compiled(y, R)), lambda x: x[:3])


def _dynamax_lds_gradient(model: Model) -> Prepared:
    jax = _jax()
    parameters = [jax.numpy.asarray(model[name]) for name in LINEAR_SYSTEM]
    of_mean, of_variance = jax.numpy.asarray(_weights(model["y"].shape))

    def value(*parameters: Any) -> Any:
        smooth = jax.vmap(_dynamax_smoother, (None, None, None, None, 0, 0))
        posterior, variances = smooth(*parameters)
        return (of_mean * posterior.smoothed_means + of_variance * variances).sum()

    compiled = jax.jit(jax.value_and_grad(value, argnums=tuple(range(6))))
    return Prepared(
        lambda: jax.block_until_ready(compiled(*parameters)), lambda x: (x[1][4],)
    )


def _dynamax_smoother(m1: Any, V1: Any, A: Any, Q: Any, y: Any, R: Any) -> Any:
    import jax.numpy as jnp
    from dynamax.linear_gaussian_ssm.inference import lgssm_smoother, make_lgssm_params

    posterior = lgssm_smoother(
        make_lgssm_params(m1, V1, A, Q, jnp.eye(len(m1)), R),  # R (T, D): diagonals
        y,
    )
    return posterior, jnp.diagonal(posterior.smoothed_covariances, 0, -2, -1)


def _dynamax_hmm(model: Model) -> Prepared:
    """Vectorise over sequences, with the sums of the pairs' probabilities."""
    jax = _jax()
    from dynamax.hidden_markov_model.inference import hmm_smoother

    start, transition, nodes = (jax.numpy.asarray(model[k]) for k in HIDDEN_MARKOV)

    def smooth(log_likelihoods: Any) -> Any:
        posterior = hmm_smoother(start, transition, log_likelihoods)
        probs, pairs = posterior.smoothed_probs, posterior.trans_probs
        return posterior.marginal_loglik, probs, pairs

    compiled = jax.jit(jax.vmap(smooth))
    return Prepared(lambda: jax.block_until_ready(compiled(nodes)), lambda x: x[:2])


def _hmmlearn(model: Model) -> Prepared:
    """Call the compiled passes of hmmlearn, scaled, as its EM algorithm does."""
    from hmmlearn import _hmmc

    start, transition, nodes = (model[name] for name in HIDDEN_MARKOV)

    def one(log_likelihoods: np.ndarray) -> Any:
        node = np.exp(log_likelihoods)
        loglik, forward, scaling = _hmmc.forward_scaling(start, transition, node)
        backward = _hmmc.backward_scaling(start, transition, node, scaling)
        _hmmc.compute_scaling_xi_sum(forward, transition, backward, node)
        probs = forward * backward
        return loglik, probs / probs.sum(axis=1, keepdims=True)

    return _each(one, nodes)


def _statsmodels(model: Model) -> Prepared:
    """Fill the state-space representations before the clock starts."""
    from statsmodels.tsa.statespace import kalman_smoother as ks

    wanted = ks.SMOOTHER_STATE | ks.SMOOTHER_STATE_COV | ks.SMOOTHER_STATE_AUTOCOV
    D = len(model["m1"])

    def representation(y: np.ndarray, R: np.ndarray) -> Any:
        smoother = ks.KalmanSmoother(k_endog=D, k_states=D)
        smoother.bind(np.asfortranarray(y.T))
        smoother["design"] = smoother["selection"] = np.eye(D)
        smoother["transition"], smoother["state_cov"] = model["A"], model["Q"]
        smoother["obs_cov"] = R.T * np.eye(D)[..., None]
        smoother.initialize_known(model["m1"], model["V1"])
        return smoother

    def one(smoother: Any) -> Any:
        result = smoother.smooth(smoother_output=wanted)
        variances = np.diagonal(result.smoothed_state_cov, axis1=0, axis2=1)
        return result.llf, result.smoothed_state.T, variances

    return _each(one, list(map(representation, model["y"], model["R"])))


def _pylds(model: Model) -> Prepared:
    """Use the information form: precisions where ours has minus half of them."""
    from pylds.lds_messages_interface import info_E_step

    (J, h), (J11, J12, J22), (node_J, node_h) = potentials(model)
    T, D = node_h.shape[1:]
    precisions = -2 * node_J[..., None] * np.eye(D)
    pair = [np.tile(x, (T - 1, 1, 1)) for x in (-2 * J11, -J12.T, -2 * J22)]
    no_h, no_constants = np.zeros((T - 1, D)), np.zeros(T)

    def one(node: Any) -> Any:
        logZ, means, covs, _ = info_E_step(
            *(-2 * J, h, 0.0),
            *(*pair, no_h, no_h, no_constants[1:]),
            *(*node, no_constants),
        )
        return logZ, means, np.diagonal(covs, axis1=-2, axis2=-1)

    call, as_arrays = _each(one, list(zip(precisions, node_h, strict=True)))
    constant = log_constant(model)

    def answers(results: Any) -> Answers:
        logZ, means, variances = as_arrays(results)
        return logZ + constant, means, variances

    return Prepared(call, answers)


def _each(one: Callable[[Any], Any], sequences: Any) -> Prepared:
    """Take one sequence after the other."""
    return Prepared(
        lambda: [one(sequence) for sequence in sequences],
        lambda results: tuple(map(np.array, zip(*results, strict=True))),
    )


OURS = {"lds": _our_lds, "lds gradient": _our_lds_gradient, "hmm": _our_hmm}
PEERS = (
    Peer("dynamax", "lds", _dynamax_lds, batched=True),
    Peer("pylds", "lds", _pylds),
    Peer("statsmodels", "lds", _statsmodels),
    Peer("dynamax", "lds gradient", _dynamax_lds_gradient, batched=True),
    Peer("dynamax", "hmm", _dynamax_hmm, batched=True),
    Peer("hmmlearn", "hmm", _hmmlearn),
)
