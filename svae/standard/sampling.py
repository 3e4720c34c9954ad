"""Draws of states and observations: from the model, and of states given data."""

from __future__ import annotations

from typing import Any

import autograd.numpy as np
import numpy as onp

from svae import kernels
from svae.autodiff.operations import value_of
from svae.kernels.arguments import as_array, require_shape
from svae.standard import arrays, forms, information, score
from svae.standard.records import LinearGaussian, Sampled
from svae.standard.system import System, as_system, at_step
from svae.types import Array, Integers, Rng

__all__ = ["sample", "sample_posterior"]


def sample(
    params: LinearGaussian,
    num_steps: int,
    num_samples: int = 1,
    u: Array | None = None,
    rng: Rng = None,
    noise: Array | None = None,
) -> Sampled:
    """Draw states and observations from a linear-Gaussian state-space model.

    Covariances may be singular. Differentiable, but in a singular covariance along
    what it has no variance in.

    Parameters
    ----------
    params : LinearGaussian
        Of one sequence.
    num_steps, num_samples : int
        T and S.
    u : (T, U) array, optional
    rng : seed or generator
    noise : (S, T, D + P) array of standard normal draws, optional
        In place of ``rng``: for x, then for y.

    Returns
    -------
    Sampled
        ``x`` (S, T, D) and ``y`` (S, T, P).
    """
    P = onp.shape(value_of(params.C))[-2]
    system = as_system(params, onp.zeros((num_steps, P)), u)
    shape = num_samples, num_steps, value_of(system.A).shape[-1] + P
    noise = _noise(noise, shape, rng, ("S", *shape[1:]))
    return Sampled(*_draws(system, noise[None], num_steps))


def sample_posterior(
    params: LinearGaussian,
    y: Array,
    num_samples: int = 1,
    u: Array | None = None,
    lengths: Integers | None = None,
    rng: Rng = None,
    noise: Array | None = None,
    form: str = "auto",
) -> Array:
    """Draw the states of a state-space model given all observations.

    In the information form by backward sampling, mean + L^-T noise with L the lower
    Cholesky factor of the joint precision in time order. In the covariance form by
    conditioning draws of the model on the data (Durbin and Koopman 2002), which takes
    singular covariances. Both have the same law, but other draws. Differentiable.

    Parameters
    ----------
    params, y, u, lengths, form
        As in `svae.standard.log_likelihood`.
    num_samples : int
        S.
    rng : seed or generator
    noise : (N, S, T, D) array of standard normal draws, optional
        In place of ``rng``; (N, S, T, D + P) in the covariance form.

    Returns
    -------
    (N, S, T, D) array, zero past a length; (S, T, D) for y (T, P)
    """
    system = as_system(params, y, u, lengths)
    N, T, P = system.seen.shape
    D, chosen = value_of(system.A).shape[-1], forms.choose(system, form)
    shape = N, num_samples, T, D + (P if chosen == "covariance" else 0)
    if noise is not None and system.is_single and onp.ndim(value_of(noise)) == 3:
        noise = as_array("noise", noise)[None]
    noise = _noise(noise, shape, rng, (N, "S", *shape[2:]))
    if chosen == "information":
        init, pair, node, _, known = information.potentials(system)
        chain = kernels.gaussian_chain(init, pair, node, noise, known)
        draws: Any = chain[2]
    else:
        draws = _conditioned(system, noise)
    return draws[0] if system.is_single else draws


def _noise(noise: Array | None, shape: tuple[int, ...], rng: Rng, wanted: Any) -> Array:
    if noise is None:
        return onp.random.default_rng(rng).standard_normal(shape)
    noise = as_array("noise", noise)
    require_shape("noise", noise, wanted)
    return noise


def _draws(system: System, noise: Array, num_steps: int) -> tuple[Array, Array]:
    """Return states and observations of every sequence, one for each draw of noise.

    Parameters
    ----------
    noise : (N, S, T, D + P) array

    Returns
    -------
    x, y : (N S, T, ...) arrays
    """
    N, S, T, _ = value_of(noise).shape
    D = value_of(system.A).shape[-1]
    root_Q, root_R = arrays.root(system.Q), arrays.root(system.R)
    x = system.m0[:, None] + _spread(arrays.root(system.P0), noise[:, :, 0, :D])
    xs, ys = [], []
    for t in range(num_steps):
        C, d = at_step(system.C, t), at_step(system.d, t)
        e = _spread(at_step(root_R, t), noise[:, :, t, D:])
        ys.append(_spread(C, x) + d[:, None] + e)
        xs.append(x)
        if t + 1 < num_steps:
            w = _spread(at_step(root_Q, t), noise[:, :, t + 1, :D])
            moved = _spread(at_step(system.A, t), x)
            moved = moved + at_step(system.b, t)[:, None] + w
            x = np.where(system.live[:, t + 1, None, None], moved, x)
    return tuple(np.reshape(np.stack(z, 2), (N * S, T, -1)) for z in (xs, ys))


def _conditioned(system: System, noise: Array) -> Array:
    """Return draws of the model, moved by what the data say of their errors."""
    N, S, T, _ = value_of(noise).shape
    D = value_of(system.A).shape[-1]
    x, y = _draws(system, np.where(system.live[:, None, :, None], noise, 0.0), T)
    error = np.repeat(system.y, S, 0) - y
    each = {name: _repeated(getattr(system, name), S) for name in ("A", "Q", "C", "R")}
    of_errors = System(
        **each,
        m0=onp.zeros((1, D)),
        P0=_repeated(system.P0, S),
        b=onp.zeros((1, 1, D)),
        d=onp.zeros((1, 1, y.shape[-1])),
        y=error,
        seen=onp.repeat(system.seen, S, 0),
        lengths=onp.repeat(system.lengths, S),
        is_single=False,
    )
    draws = x + score.moments(of_errors, smooth=True).smoothed_mean
    draws = np.reshape(draws, (N, S, T, D))
    return np.where(system.live[:, None, :, None], draws, 0.0)


def _repeated(x: Array, times: int) -> Array:
    return np.repeat(x, times, 0) if len(x) > 1 else x


def _spread(matrix: Array, vectors: Array) -> Array:
    """Apply matrices (N or 1, M, D) to vectors (N, S, D)."""
    return vectors @ np.swapaxes(matrix, -1, -2)
