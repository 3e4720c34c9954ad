"""Synthetic data: that of the papers, and videos in the likeness of theirs.

`pinwheel` and `dots` are the data of Johnson et al. (2016), Figures 1 and 4;
`switching_lds` and `switching_dots` come from experiments in the code they published;
`depth_video` stands in for their videos of mice, which they did not publish.  Every
function draws from its `rng` alone.

States follow the convention of the package: :math:`z_t` selects the dynamics of the
pair (t-1, t).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "POSE",
    "DepthVideo",
    "SwitchingLDS",
    "depth_images",
    "depth_video",
    "dots",
    "pinwheel",
    "switching_dots",
    "switching_lds",
]

FRAMES_PER_SECOND = 30  # of the depth video
POSE = ("elongation", "bend", "rear", "head", "sway", "bob")
"""What the coordinates of a pose in the depth video do."""


class SwitchingLDS(NamedTuple):
    """A sequence that switches between linear dynamics."""

    frames: np.ndarray
    """(T, 2), the observations."""
    states: np.ndarray
    """(T,) int64, :math:`z_t`."""
    dynamics: np.ndarray
    """(K, 2, 2), :math:`A_k`."""


class DepthVideo(NamedTuple):
    """A video of an animal from above, with what moves it."""

    frames: np.ndarray
    """(T, W * W), heights in the rows of the image one after the other."""
    states: np.ndarray
    """(T,) int64, the behaviour :math:`z_t`."""
    poses: np.ndarray
    """(T, 6), the pose behind each frame, its coordinates named by `POSE`."""


def pinwheel(
    num_classes: int = 5,
    num_per_class: int = 100,
    radial_std: float = 0.3,
    tangential_std: float = 0.05,
    rate: float = 0.25,
    rng: Any = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw points from a pinwheel: Gaussian blades, bent around the origin.

    Parameters
    ----------
    num_classes, num_per_class : int
        Blades, and points in each.
    radial_std, tangential_std : float
        Along a blade and across it, before the scaling by 10.
    rate : float
        How much blades bend.
    rng : seed or numpy.random.Generator

    Returns
    -------
    data : (N, 2) array
        In random order.
    labels : (N,) int64
        The blade of each point.

    References
    ----------
    Johnson et al. (2016), Figure 1.
    """
    rng = np.random.default_rng(rng)
    labels = np.repeat(np.arange(num_classes), num_per_class)
    features = rng.standard_normal((len(labels), 2)) * (radial_std, tangential_std)
    features[:, 0] += 1.0
    angles = 2 * np.pi * labels / num_classes + rate * np.exp(features[:, 0])
    cos, sin = np.cos(angles), np.sin(angles)
    along, across = features.T
    points = np.stack([along * cos + across * sin, across * cos - along * sin], 1)
    order = rng.permutation(len(labels))
    return 10 * points[order], labels[order]


def dots(
    image_width: int = 20,
    num_frames: int = 5000,
    duration: float = 500.0,
    velocity: float = 0.75,
    render_sigma: float = 0.15,
    noise_sigma: float = 0.1,
    x0: float = 0.0,
    rng: Any = 0,
) -> np.ndarray:
    """Render a one-dimensional video of a dot that bounces between two walls.

    Parameters
    ----------
    image_width : int
        W, pixels on [-1, 1].
    num_frames : int
        T, frames at equal steps over ``[0, duration]``.
    duration, velocity : float
        A bounce there and back takes ``2 / velocity``: 26.7 frames by default.
    render_sigma, noise_sigma : float
        Width of the dot, and standard deviation of the noise in each pixel.
    x0 : float
        Where the dot starts: at triangle(velocity (1 + x0) / 2), which goes from -1
        at 0 to 1 at 1 and back.
    rng : seed or numpy.random.Generator

    Returns
    -------
    (T, W) array

    References
    ----------
    Johnson et al. (2016), Figure 4.
    """
    times = np.linspace(0.0, duration, num_frames)
    phases = velocity * (times + (1 + x0) / 2)
    return _film_dot(phases, image_width, render_sigma, noise_sigma, rng)


def switching_lds(
    num_blocks: int = 20,
    block_length: int = 100,
    num_states: int = 2,
    radius: float = 0.95,
    process_sigma: float = 0.1,
    noise_sigma: float = 0.1,
    rng: Any = 0,
) -> SwitchingLDS:
    r"""Draw from rotations that take turns, and observe them in noise.

    .. math:: x_t = A_{z_t} x_{t-1} + \sigma_x \epsilon_t, \quad
        y_t = x_t + \sigma_y \epsilon'_t, \quad
        A_k = r \begin{pmatrix} \cos\omega_k & -\sin\omega_k \\
        \sin\omega_k & \cos\omega_k \end{pmatrix}, \quad
        \omega_k = \frac{k}{K} \frac{\pi}{2}

    Parameters
    ----------
    num_blocks, block_length : int
        T is their product; the state of block b is b mod K.
    num_states : int
        K.  State 0 does not turn at all.
    radius : float
        r in [0, 1), the modulus of all eigenvalues.
    process_sigma, noise_sigma : float
        Standard deviations of each coordinate: the recipe says "noise .1", and that it
        means them, not variances, is our reading.
    rng : seed or numpy.random.Generator

    Returns
    -------
    SwitchingLDS

    Notes
    -----
    As :math:`A_k A_k' = r^2 I` for every k, the covariance
    :math:`\sigma_x^2 / (1 - r^2)\, I` is stationary however states switch;
    :math:`x_1` is drawn from it.

    References
    ----------
    The synthetic SLDS experiment in the code of Johnson et al. (2016).
    """
    if not 0.0 <= radius < 1.0:
        raise ValueError(f"radius must be in [0, 1), got {radius!r}")
    rng = np.random.default_rng(rng)
    dynamics = radius * _rotations(
        np.linspace(0, np.pi / 2, num_states, endpoint=False)
    )
    states = _blocks(num_blocks, block_length, num_states)
    latents = process_sigma * rng.standard_normal((len(states), 2))
    latents[0] /= np.sqrt(1.0 - radius**2)
    for t in range(1, len(states)):
        latents[t] += dynamics[states[t]] @ latents[t - 1]
    frames = latents + noise_sigma * rng.standard_normal(latents.shape)
    return SwitchingLDS(frames, states, dynamics)


def switching_dots(
    num_blocks: int = 50,
    block_length: int = 100,
    speeds: Sequence[float] = (1.0, 1.9),
    image_width: int = 15,
    time_step: float = 0.1,
    render_sigma: float = 0.15,
    noise_sigma: float = 0.05,
    rng: Any = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Render a bouncing dot as `dots` does, but one whose speed switches.

    Parameters
    ----------
    num_blocks, block_length : int
        T is their product; block b has speed b mod K.  The length of a block is not in
        the recipe we have, and is that of `switching_lds`.
    speeds : K floats
        Velocities as in `dots`: there and back takes ``2 / speed`` in time, which by
        default is 20 frames at the first and 10.5 at the second.
    image_width : int
        W, pixels on [-1, 1].
    time_step : float
        Between frames: 0.1 in the `dots` of the paper.
    render_sigma, noise_sigma : float
        Width of the dot, and standard deviation of the noise in each pixel.
    rng : seed or numpy.random.Generator

    Returns
    -------
    frames : (T, W) array
        The first shows the dot at the wall at -1, from where it moves on through all
        switches without a jump.
    states : (T,) int64
        The index of the speed on the way from frame t-1 to frame t.

    References
    ----------
    The SLDS experiment with dots in the code of Johnson et al. (2016).
    """
    states = _blocks(num_blocks, block_length, len(speeds))
    steps = time_step * np.asarray(speeds)[states]
    steps[0] = 0.0  # frame 0 is where the dot starts
    frames = _film_dot(np.cumsum(steps), image_width, render_sigma, noise_sigma, rng)
    return frames, states


def depth_video(
    num_frames: int = 20_000,
    num_states: int = 10,
    image_width: int = 30,
    noise_sigma: float = 0.02,
    rng: Any = 0,
) -> DepthVideo:
    r"""Film an animal from above with a depth camera, at 30 frames per second.

    A stand-in for the videos of mice in Johnson et al. (2016), section 6.2, cropped
    and turned so that the animal stays in the middle and faces right.  Each behaviour
    k is an oscillation of the pose around a posture :math:`m_k` of its own,

    .. math:: p_t - m_k = \Phi_k (p_{t-1} - m_k) - r^2 (p_{t-2} - m_k)
        + V_k (\sigma_k \circ \epsilon_t), \qquad
        \Phi_k = V_k \operatorname{diag}(2 r \cos \omega_k) V_k',

    with k = :math:`z_t`: six modes, the columns of the orthogonal :math:`V_k`, each a
    noisy spring with eigenvalues :math:`r e^{\pm i \omega}`.  As two poses carry over
    into the next behaviour, the pose and its velocity pass switches without a jump.

    Parameters
    ----------
    num_frames : int
        T.
    num_states : int
        K, behaviours.  One lasts for 0.9 s on average, mostly 0.3 to 1.8 s (gamma
        distributed), and any other one follows.
    image_width : int
        W, pixels in the width and the height of the image.
    noise_sigma : float
        Standard deviation of the noise in each pixel; `depth_images` of the poses are
        the frames without it.
    rng : seed or numpy.random.Generator

    Returns
    -------
    DepthVideo
        Without noise, frames are in [0, 1]; noise is not clipped at the floor.

    References
    ----------
    Wiltschko et al. (2015), "Mapping sub-second structure in mouse behavior", for the
    video, the durations, and behaviours as autoregressions.
    """
    rng = np.random.default_rng(rng)
    states = _semi_markov(num_frames, num_states, rng)
    poses = _oscillate(states, num_states, rng)
    frames = np.empty((num_frames, image_width**2))
    for start in range(0, num_frames, 100):  # what stays in the cache
        some = slice(start, start + 100)
        frames[some] = depth_images(poses[some], image_width)
        frames[some] += noise_sigma * rng.standard_normal(frames[some].shape)
    return DepthVideo(frames, states, poses)


def depth_images(poses: np.ndarray, image_width: int = 30) -> np.ndarray:
    r"""Render poses as heights above the floor, with the head to the right.

    The animal is a row of overlapping domes from tail to snout, smoothly joined: with
    :math:`d_i` the distance from the axis of dome i in units of its radius,

    .. math:: h^4 = \sum_i h_i^4 \max(0, 1 - d_i^2)^3.

    Parameters
    ----------
    poses : (T, 6) array
        Coordinates as in `POSE`, each of which acts through its tanh:
        `elongation` stretches and thins the body, `bend` curves it sideways, `rear`
        lifts the front and foreshortens the body, `head` turns the head, `sway` and
        `bob` shift the whole to the side and ahead.  Positive ones point to the left
        of the animal, which is up in the image.
    image_width : int
        W.

    Returns
    -------
    (T, W * W) array
        In [0, 1], where 0 is the floor and 1 the height of the tallest animal.
    """
    x, y, radius, height = (a[..., None] for a in _domes(poses))
    grid = np.linspace(-1.0, 1.0, image_width)
    peak = height ** (4 / 3)  # h^4 (1 - d^2)^3 = (peak - peak d^2)^3
    across = peak * ((grid - x) / radius) ** 2  # (T, domes, W), of the columns
    along = peak * ((-grid - y) / radius) ** 2  # of the rows, which go down
    total = np.zeros((len(poses), image_width, image_width))
    for i in range(len(BODY)):
        dome = across[:, i, None, :] + along[:, i, :, None]
        dome = np.maximum(peak[:, i, :, None] - dome, 0.0)
        total += dome * dome * dome
    return np.sqrt(np.sqrt(total)).reshape(len(poses), image_width**2)


def _film_dot(
    phases: np.ndarray,
    image_width: int,
    render_sigma: float,
    noise_sigma: float,
    rng: Any,
) -> np.ndarray:
    """Frames (T, W) of a dot at -1 in phase 0, at 1 in phase 1, and back in phase 2."""
    rng = np.random.default_rng(rng)
    positions = 1.0 - 2.0 * np.abs(1.0 - phases % 2.0)
    grid = np.linspace(-1.0, 1.0, image_width)
    images = np.exp(-0.5 * ((positions[:, None] - grid) / render_sigma) ** 2)
    frames: np.ndarray = images + noise_sigma * rng.standard_normal(images.shape)
    return frames


def _blocks(num_blocks: int, block_length: int, num_states: int) -> np.ndarray:
    """States (T,) that take turns, a block each."""
    return np.repeat(np.arange(num_blocks) % num_states, block_length)


def _rotations(angles: np.ndarray) -> np.ndarray:
    """Matrices (K, 2, 2) that turn the plane by the angles (K,)."""
    cos, sin = np.cos(angles), np.sin(angles)
    return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)


# From tail to snout: place along the body, radius, height of a dome.
BODY = np.array(
    [
        (-1.50, 0.07, 0.11),
        (-1.38, 0.08, 0.13),
        (-1.25, 0.10, 0.16),
        (-1.10, 0.13, 0.20),
        (-0.90, 0.23, 0.30),
        (-0.70, 0.31, 0.40),
        (-0.42, 0.36, 0.47),
        (-0.12, 0.34, 0.47),
        (0.18, 0.27, 0.41),
        (0.46, 0.21, 0.35),
        (0.72, 0.23, 0.36),
        (0.92, 0.16, 0.30),
        (1.08, 0.09, 0.22),
    ]
)


def _domes(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Place (x, y), radius and height (T, domes) of the domes of the body."""
    elongation, bend, rear, head, sway, bob = np.tanh(poses.T)[..., None]
    along, radius, height = BODY.T
    front = np.maximum(1.0 + along, 0.0) ** 2 / 4  # 0 at the rump, 1 at the snout
    head_of = np.maximum(along - 0.3, 0.0)  # 0 up to the neck
    stretch = 1.0 + 0.2 * elongation
    upright = 0.5 * (1.0 + rear)  # 0 on all fours, 1 on the hind legs
    x = 0.08 + 0.6 * stretch * (along - 0.45 * upright * front) + 0.06 * bob
    y = 0.22 * bend * (along**2 - 0.4) + 0.4 * head * head_of + 0.08 * sway
    return x, y, radius / np.sqrt(stretch), height + 0.53 * upright * front


def _semi_markov(
    num_frames: int, num_states: int, rng: np.random.Generator
) -> np.ndarray:
    """States (T,) with gamma distributed durations; never the same twice in a row."""
    mean, shape = 0.9 * FRAMES_PER_SECOND, 4.0
    durations = rng.gamma(shape, mean / shape, num_frames).round().clip(1)
    jumps = rng.integers(1, max(num_states, 2), num_frames)
    visits = np.cumsum(jumps) % num_states
    ends = np.cumsum(durations)
    return visits[np.searchsorted(ends, np.arange(num_frames), side="right")]


def _oscillate(
    states: np.ndarray, num_states: int, rng: np.random.Generator
) -> np.ndarray:
    """Poses (T, 6) of the autoregressions of `depth_video`."""
    K, Q, r = num_states, len(POSE), 0.9
    postures = rng.normal(0.0, 0.8, (K, Q))
    modes = np.linalg.qr(rng.standard_normal((K, Q, Q)))[0]
    hertz = np.exp(rng.uniform(np.log(0.3), np.log(4.0), (K, Q)))
    deviations = rng.uniform(0.05, 0.4, (K, Q))
    first, second = 2 * r * np.cos(2 * np.pi * hertz / FRAMES_PER_SECOND), -(r**2)
    # the variance of a second-order autoregression, solved for that of its noise
    variances = (1 + second) * ((1 - second) ** 2 - first**2) / (1 - second)
    sigmas = deviations * np.sqrt(variances)
    lag = np.einsum("kij,kj,klj->kil", modes, first, modes)
    steady = postures - np.einsum("kij,kj->ki", lag, postures) - second * postures
    noise = rng.standard_normal((len(states), Q)) * sigmas[states]
    shocks = steady[states] + np.einsum("tij,tj->ti", modes[states], noise)
    poses = np.empty_like(shocks)
    before = pose = postures[states[0]]
    for t, state in enumerate(states):
        before, pose = pose, lag[state] @ pose + second * before + shocks[t]
        poses[t] = pose
    return poses
