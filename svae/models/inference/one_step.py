r"""Mean-field inference of independent rows, compiled: a mixture of one step.

What `svae.models.inference.switching` finds for chains of any length, and defines: here
all of it, the alternation and either factor, is one kernel and its adjoint another.  A
step of training on rows is too short for anything else: each has a handful of numbers.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as onp
from autograd.extend import defvjp_argnums, primitive

from svae import kernels
from svae.autodiff.operations import joined, value_of
from svae.autodiff.tuples import Outputs
from svae.autodiff.vjp import Cotangents
from svae.models.base import Diagnostics, Local
from svae.models.evidence import Evidence, first_states
from svae.models.inference.fixed_point import (
    GRADIENT_ITERATIONS,
    GRADIENT_TOLERANCE,
    warn_of_gradient,
    warn_of_inference,
)

__all__ = ["Ascent", "local_factor"]


class Ascent(NamedTuple):
    """How to find the fixed point; constants."""

    tolerance: float
    max_iterations: int
    names: tuple[str, ...]
    """Where to start, unless ``starts`` are given."""
    starts: Sequence[onp.ndarray] | None
    """Probabilities of the states (N, 1, K)."""

    def settings(self) -> dict[str, Any]:
        """Return them as the kernel takes them."""
        starts = None
        if self.starts is not None:
            starts = onp.stack([value_of(start)[:, 0] for start in self.starts], axis=1)
        return {
            "starts": starts,
            "from_data": starts is None and "data" in self.names,
            "from_prior": starts is None and "prior" in self.names,
            "tolerance": self.tolerance,
            "max_iterations": self.max_iterations,
        }


def local_factor(
    switch: Any, ascent: Ascent, message: Any, evidence: Evidence, noise: Any
) -> Local:
    """Return the local factor of N points, sequences of one step.

    Parameters
    ----------
    switch : Emission
    ascent : Ascent
    message, evidence, noise
        As in `LatentModel.infer`.
    """
    init = first_states(message["weights"][0], evidence.belief)
    observed = evidence.observed
    if observed is not None:
        observed = observed[:, 0].astype(onp.float64)
    conditionals = switch.conditionals(switch.rows(message))
    found = solve(ascent, observed, init, *conditionals, *evidence.node, noise)
    _, iterations, residual, half_log_det = value_of(found).parts[:NUM_CONSTANTS]
    outputs = [found[k] for k in range(NUM_CONSTANTS, len(found.shapes))]
    kl, log_normalizer, mean, second_moment, states, potentials, *samples = outputs
    return Local(
        samples[0] if samples else None,
        kl,
        mean,
        second_moment,
        log_normalizer,
        states,
        potentials,
        half_log_det,
        Diagnostics(iterations, residual),
    )


NUM_CONSTANTS = 4


@primitive
def solve(
    ascent: Ascent,
    observed: Any,
    init: Any,
    components: Any,
    constants: Any,
    offsets: Any,
    dofs: Any,
    weights: Any,
    node_J: Any,
    node_h: Any,
    noise: Any,
) -> Outputs:
    """Return s, iterations, residuals and half log determinants, which are constants.

    And what is differentiable in the potentials, with an axis of one step: KL, the
    surrogate, mean, second moment, states, their potentials and samples.
    """
    arguments = _as_rows(
        observed,
        init,
        components,
        constants,
        offsets,
        dofs,
        weights,
        node_J,
        node_h,
        noise,
    )
    (
        fixed,
        iterations,
        residual,
        log_normalizer,
        evidence,
        half_log_det,
        second_moment,
        mean,
        states,
        potentials,
        samples,
    ) = kernels.mixture(*arguments, **ascent.settings())
    warn_of_inference(residual, ascent.tolerance, ascent.max_iterations)
    outputs = (
        fixed[:, None],
        iterations,
        residual,
        half_log_det,
        # KL(q(x) q(z) || exp E log p), as `switching` has it
        evidence - log_normalizer,
        log_normalizer,
        mean[:, None],
        second_moment[:, None],
        states[:, None],
        potentials[:, None],
    )
    return Outputs.of(outputs if samples is None else (*outputs, samples[:, :, None]))


def _as_rows(
    observed: Any,
    init: Any,
    components: Any,
    constants: Any,
    offsets: Any,
    dofs: Any,
    weights: Any,
    node_J: Any,
    node_h: Any,
    noise: Any,
) -> tuple[Any, Any, Any, Any, Any]:
    """Arrays as the kernel takes them: without the axis of one step."""
    return (
        (onp.broadcast_to(init, (len(node_h), len(constants))), components, constants),
        None if dofs is None else (offsets, dofs, weights),
        (node_J[:, 0], node_h[:, 0]),
        None if noise is None else noise[:, :, 0],
        observed,
    )


def _solve_vjp(argnums: Sequence[int], ans: Any, args: Any, kwargs: Any) -> Any:
    _, *arguments = args
    observed, init = arguments[:2]
    node_J, _, noise = arguments[-3:]
    fixed, mean, second_moment = ans[0][:, 0], ans[6][:, 0], ans[7][:, 0]

    def pull_back(g: Any) -> Any:
        kl_bar, log_normalizer_bar, mean_bar, *rest = (
            g[k] for k in range(NUM_CONSTANTS, len(ans.shapes))
        )
        second_moment_bar, states_bar, potentials_bar, *samples_bar = rest
        # kl = <r, t(x)> - log normalizer
        surrogate_bar = log_normalizer_bar - kl_bar
        outputs_bar = (
            surrogate_bar,
            kl_bar,
            second_moment_bar[:, 0],
            mean_bar[:, 0],
            states_bar[:, 0],
            potentials_bar[:, 0],
        )
        (
            init_bar,
            constants_bar,
            evidence_bar,
            J_bar,
            h_bar,
            dofs_bar,
            noise_bar,
            iterations,
            residual,
        ) = kernels.mixture_vjp(
            *_as_rows(*arguments),
            fixed,
            outputs_bar,
            samples_bar[0][:, :, 0] if samples_bar else None,
            GRADIENT_TOLERANCE,
            GRADIENT_ITERATIONS,
        )
        warn_of_gradient(residual, GRADIENT_TOLERANCE)
        counted = fixed if observed is None else fixed * observed[:, None]

        def components_bar() -> Any:
            # e = P E[f(x)], and P's are potentials of x
            features = joined(1, second_moment, mean)
            of_x = joined(1, J_bar, h_bar)
            return evidence_bar.T @ features + counted.T @ of_x

        def node_J_bar() -> Any:
            bar = J_bar + kl_bar[:, None, None] * second_moment
            if node_J.ndim == 3:
                bar = onp.diagonal(bar, axis1=-1, axis2=-2)
            return bar[:, None]

        cotangents: dict[int, Callable[[], Any]] = {
            2: lambda: init_bar if init.ndim == 2 else init_bar.sum(axis=0),
            3: components_bar,
            4: lambda: constants_bar.sum(axis=0),
            # e = .. + b, and log Z_x has b's
            5: lambda: (evidence_bar + surrogate_bar[:, None] * counted).sum(axis=0),
            6: lambda: dofs_bar.sum(axis=0).reshape(arguments[5].shape),
            8: node_J_bar,
            9: lambda: (h_bar + kl_bar[:, None] * mean)[:, None],
            10: lambda: noise_bar[:, :, None],
        }
        return Cotangents(
            (cotangents[argnum]() for argnum in argnums),
            [Diagnostics(iterations, residual)],
        )

    return pull_back


defvjp_argnums(solve, _solve_vjp)
