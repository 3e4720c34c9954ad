r"""Figures of a fit: its history, a warped mixture, a forecast, the dynamics.

Every function returns a new `matplotlib.figure.Figure` and touches no global state:
no pyplot, no current figure, no choice of backend.  Keep one with
``figure.savefig(path)``; a notebook shows it as it is.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from svae.families import mniw, niw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["bound", "dynamics", "figures", "forecast", "mixture"]

# Okabe and Ito (2008): told apart with any colour vision.  Their yellow is darkened for
# white paper, their black left for text; past seven, markers and line styles differ.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#C3B800")
LASTING = 0.9  # modulus from which the period of an eigenvalue is written
MARKERS = ("o", "^", "s", "D", "v")
LINES = ("-", "--", ":", "-.")

PARTS = {
    "objective": "objective",
    "reconstruction": "reconstruction",
    "local_kl": "local KL",
    "global_kl": "global KL",
}


def bound(history: dict[str, Any], num_frames: int | None = None) -> "Figure":
    """Show the objective and its parts over the steps of training.

    Thin lines are the noisy estimates of single steps, thick ones their running means.
    The vertical axes leave out the twentieth of the steps that is farthest from the
    last ones, as the first steps of training usually are.

    Parameters
    ----------
    history : dict of str to (num_steps,) arrays
        ``history_`` of a fitted `svae.SVAE`.
    num_frames : int, optional
        Divide by this number, to show nats for each frame.

    Returns
    -------
    matplotlib.figure.Figure
        Four axes: the objective, then reconstruction, local KL and global KL.
    """
    figure = _figure(8.0, 5.0)
    axes = figure.subplots(2, 2, sharex=True).ravel()
    unit = "nats" if num_frames is None else "nats per frame"
    steps = np.arange(1, len(history["objective"]) + 1)
    for ax, (name, title), color in zip(axes, PARTS.items(), COLORS, strict=False):
        values = np.asarray(history[name]) / (num_frames or 1)
        width = max(1, len(values) // 50)
        ax.plot(steps, values, color=color, linewidth=0.5, alpha=0.4)
        smooth = np.convolve(values, np.full(width, 1 / width), mode="valid")
        centers = steps[width // 2 :][: len(smooth)]
        ax.plot(centers, smooth, color=color, linewidth=1.8)
        ax.set(title=title, ylabel=unit, ylim=_limits(values))
    for ax in axes[2:]:
        ax.set_xlabel("step")
    return figure


def mixture(model: Any, data: Any, num_samples: int = 4000, rng: Any = 0) -> "Figure":
    """Show a warped mixture in data space and, beside it, in latent space.

    Left, the data coloured by most likely component, over faint draws from each
    component in use, sent through the decoder.  Right, the components' ellipses of
    one and two standard deviations with the posterior means of the data.  Of more than
    two dimensions, the first two are shown.  A `svae.Gaussian` counts as a mixture of
    one component (Johnson et al. 2016, Fig. 1c and 1d).

    Parameters
    ----------
    model : SVAE
        Fitted, with a `svae.GMM` or `svae.Gaussian` latent model.
    data : (T, P) array
    num_samples : int
        Draws from all components together.
    rng : int or numpy.random.Generator

    Returns
    -------
    matplotlib.figure.Figure
        Two axes.

    Raises
    ------
    ValueError
        If the data or the latent space has only one dimension.
    """
    data = np.asarray(data, dtype=np.float64)
    if data.shape[-1] < 2 or model.latent.latent_dim < 2:
        raise ValueError("mixture: data and latent space need two dimensions or more")
    rng = np.random.default_rng(rng)
    posterior = model.infer(data, num_samples=1, rng=rng)
    labels = _labels(posterior)
    means, covs = _components(model)

    figure = _figure(10.0, 5.0)
    left, right = figure.subplots(1, 2)
    counts = np.bincount(labels)
    used = [k for k in np.argsort(-counts, kind="stable") if counts[k] > 0]
    for rank, k in enumerate(used):
        rows = labels == k
        size = round(num_samples * counts[k] / len(labels))
        latents = rng.multivariate_normal(means[k], covs[k], size)
        location, variance = model.decode(latents)
        draws = location + np.sqrt(variance) * rng.standard_normal(location.shape)
        _cloud(left, draws, rank, size=3, alpha=0.25, zorder=1)
        _cloud(left, data[rows], rank, size=12, edgecolors="black", linewidths=0.3)
        _cloud(right, posterior.mean[rows], rank, size=12, alpha=0.6)
        _ellipses(right, means[k, :2], covs[k, :2, :2], rank)
        if len(means) > 1:
            right.text(*means[k, :2], str(k), ha="center", va="center", weight="bold")
    _window(left, data)
    left.set(title="data, over draws from each component", xlabel="$y_1$")
    left.set_ylabel("$y_2$")
    right.set(title="posterior means of $x$, and components", xlabel="$x_1$")
    right.set_ylabel("$x_2$")
    return figure


def forecast(
    model: Any,
    sequence: Any,
    prefix: int,
    horizon: int,
    context: int | None = None,
    num_samples: int = 50,
    rng: Any = 0,
) -> "Figure":
    """Show what a model expects after the first frames of a sequence.

    Top, the data with time on the horizontal axis.  Middle, means of the frames given
    the data up to the vertical line: reconstructions before it, predictions after it.
    Bottom, the latent states, with bands of two standard deviations (Johnson et al.
    2016, Fig. 4).

    Parameters
    ----------
    model : SVAE
        Fitted, with a latent model that is a chain over time.
    sequence : (T, P) array
        What lies past ``prefix`` is shown, not used; it may end before ``horizon``.
    prefix : int
        Number of frames that the model sees.
    horizon : int
        Number of frames to predict after them.
    context : int, optional
        Number of seen frames that are shown; default: all.
    num_samples : int
        Paths of x that represent the frames' distribution.
    rng : int or numpy.random.Generator

    Returns
    -------
    matplotlib.figure.Figure
        Axes for data, means and latent states, then the color bar.

    Raises
    ------
    ValueError
        If ``prefix`` is not in 1..T.
    """
    sequence = np.asarray(sequence, dtype=np.float64)
    if not 1 <= prefix <= len(sequence):
        raise ValueError(f"prefix must be in 1..{len(sequence)}, got {prefix}")
    seen = sequence[:prefix]
    posterior = model.infer(seen, num_samples=1, rng=rng)
    future = model.forecast(seen, horizon, num_samples=num_samples, rng=rng)
    reconstruction, _ = model.decode(posterior.mean)
    frames = np.concatenate([reconstruction, future.mean])
    means = np.concatenate([posterior.mean, future.latent_mean])
    covs = np.concatenate([posterior.cov, future.latent_cov])
    start = 0 if context is None else max(0, prefix - context)
    times = np.arange(start, prefix + horizon)

    figure = _figure(10.0, 6.5)
    top, middle, bottom = figure.subplots(3, 1, sharex=True)
    shown = sequence[start : prefix + horizon]
    limits = (float(shown.min()), float(shown.max()))
    _image(top, shown, start, limits)
    image = _image(middle, frames[start:], start, limits)
    figure.colorbar(image, ax=[top, middle], pad=0.01, fraction=0.03, label="value")
    _bands(bottom, times, means[start:], covs[start:])
    for ax in (top, middle, bottom):
        ax.axvline(prefix - 0.5, color="#D55E00", linewidth=1.5)
    top.set(title="data", ylabel="channel")
    middle.set(title=f"means given the first {prefix} frames", ylabel="channel")
    bottom.set(title="latent states, $\\pm$ 2 standard deviations", ylabel="$x_t$")
    bottom.set(xlabel="frame", xlim=(start - 0.5, prefix + horizon - 0.5))
    return figure


def dynamics(model: Any) -> "Figure":
    """Show the eigenvalues of E[A] in the complex plane, with the unit circle.

    Their absolute values say how slowly a latent direction decays, their angles how
    fast it turns; beside oscillations that last is written their period.

    Parameters
    ----------
    model : SVAE
        Fitted, with a `svae.LDS` latent model.

    Returns
    -------
    matplotlib.figure.Figure
        One axes.
    """
    mean = mniw.to_standard(model.parameters_.natparams["dynamics"])[0]
    eigenvalues = np.linalg.eigvals(mean)
    figure = _figure(5.0, 5.0)
    ax = figure.subplots()
    circle = np.exp(1j * np.linspace(0, 2 * np.pi, 400))
    ax.plot(circle.real, circle.imag, color="0.6", linewidth=1)
    ax.axhline(0, color="0.85", linewidth=0.8, zorder=0)
    ax.axvline(0, color="0.85", linewidth=0.8, zorder=0)
    ax.scatter(eigenvalues.real, eigenvalues.imag, color=COLORS[0], zorder=3)
    for value in eigenvalues[(eigenvalues.imag > 0) & (np.abs(eigenvalues) > LASTING)]:
        ax.annotate(
            f"{2 * np.pi / np.angle(value):.1f} frames",
            (value.real, value.imag),
            xytext=(-8, 0),
            textcoords="offset points",
            horizontalalignment="right",
            verticalalignment="center",
        )
    ax.set(title=r"eigenvalues of $\mathrm{E}[A]$", aspect="equal")
    ax.set(xlabel="real part", ylabel="imaginary part")
    return figure


def figures(model: Any, sequences: list[np.ndarray]) -> "dict[str, Figure]":
    """Return the figures that suit a fitted model, by name.

    Parameters
    ----------
    model : SVAE
    sequences : list of (T_n, P) arrays
        Of a mixture the first 5000 rows are shown; of a chain the first 200 frames,
        the second half of them forecast from the first.

    Returns
    -------
    dict of str to matplotlib.figure.Figure
    """
    rows = np.concatenate(sequences)
    drawn = {"bound": bound(model.history_, len(rows))}
    if model.latent.independent:
        if model.latent.latent_dim > 1 and rows.shape[1] > 1:
            drawn["mixture"] = mixture(model, rows[:5000])
        return drawn
    drawn["dynamics"] = dynamics(model)
    first = sequences[0][:200]
    prefix = len(first) // 2
    if prefix > 0:
        drawn["forecast"] = forecast(model, first, prefix, len(first) - prefix)
    return drawn


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=120)


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Range of all but the twentieth of the values farthest from the last ones."""
    last = np.median(values[-max(1, len(values) // 10) :])
    distance = np.abs(values - last)
    near = values[distance <= np.quantile(distance, 0.95)]
    margin = 0.05 * (near.max() - near.min()) + 1e-3 * abs(last) + 1e-9
    return float(near.min() - margin), float(near.max() + margin)


def _labels(posterior: Any) -> np.ndarray:
    if posterior.states is None:
        return np.zeros(len(posterior.mean), dtype=np.int64)
    return np.asarray(posterior.states.argmax(axis=-1))


def _components(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Means (K, D) and covariances (K, D, D) as inference uses them, E_q(theta)[t]."""
    dim = model.latent.latent_dim
    if "components" not in model.latent.family:
        return np.zeros((1, dim)), np.eye(dim)[None]
    J, h, *_ = niw.expected_stats(model.parameters_.natparams["components"])
    covs = np.linalg.inv(-2 * J)
    return np.einsum("kij,kj->ki", covs, h), covs


def _cloud(
    ax: "Axes", points: np.ndarray, rank: int, size: float, **options: Any
) -> None:
    marker = MARKERS[rank // len(COLORS) % len(MARKERS)]
    options = {"edgecolors": "none", "marker": marker, "s": size, **options}
    ax.scatter(*points[:, :2].T, color=COLORS[rank % len(COLORS)], **options)


def _ellipses(ax: "Axes", mean: np.ndarray, cov: np.ndarray, rank: int) -> None:
    angles = np.linspace(0, 2 * np.pi, 100)
    circle = np.stack([np.cos(angles), np.sin(angles)])
    outline = np.linalg.cholesky(cov) @ circle
    for radius, width in ((1, 1.6), (2, 0.8)):
        x, y = mean[:, None] + radius * outline
        ax.plot(x, y, color=COLORS[rank % len(COLORS)], linewidth=width)


def _window(ax: "Axes", data: np.ndarray) -> None:
    """Show the data's range and a margin: far draws must not shrink the rest."""
    low, high = data[:, :2].min(axis=0), data[:, :2].max(axis=0)
    margin = np.where(high > low, 0.15 * (high - low), 1.0)
    ax.set_xlim(low[0] - margin[0], high[0] + margin[0])
    ax.set_ylim(low[1] - margin[1], high[1] + margin[1])


def _image(
    ax: "Axes", frames: np.ndarray, start: int, limits: tuple[float, float]
) -> Any:
    steps, channels = frames.shape
    extent = (start - 0.5, start + steps - 0.5, channels - 0.5, -0.5)
    return ax.imshow(
        frames.T,
        aspect="auto",
        interpolation="nearest",
        cmap="cividis",
        extent=extent,
        vmin=limits[0],
        vmax=limits[1],
    )


def _bands(ax: "Axes", times: np.ndarray, means: np.ndarray, covs: np.ndarray) -> None:
    deviations = np.sqrt(np.diagonal(covs, axis1=-2, axis2=-1))
    for d in range(means.shape[1]):
        color, line = COLORS[d % len(COLORS)], LINES[d // len(COLORS) % len(LINES)]
        mean, spread = means[:, d], 2 * deviations[:, d]
        ax.fill_between(times, mean - spread, mean + spread, color=color, alpha=0.15)
        ax.plot(times, mean, line, color=color, linewidth=1.2)
