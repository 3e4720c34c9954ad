r"""Figures of a fit: its history, states, forecasts, dynamics, and what it decodes.

Every function returns a new `matplotlib.figure.Figure` and touches no global state:
no pyplot, no current figure, no choice of backend.  Keep one with
``figure.savefig(path)``; a notebook shows it as it is.

Data may have NaN: what is missing is grey.  A discrete state has the same colour in all
figures of a model, the first ones for those that q(theta) has seen most.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from svae import data as data_
from svae.families import dirichlet, mniw, product
from svae.plot import drawing
from svae.plot import states as visible
from svae.plot.gallery import manifold, state_frames

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "bound",
    "dynamics",
    "ethogram",
    "figures",
    "forecast",
    "manifold",
    "mixture",
    "state_frames",
    "transitions",
]

LASTING = 0.9  # modulus from which the period of an eigenvalue is written

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
    figure = drawing.new_figure(8.0, 5.0)
    axes = figure.subplots(2, 2, sharex=True).ravel()
    unit = "nats" if num_frames is None else "nats per frame"
    steps = np.arange(1, len(history["objective"]) + 1)
    for rank, (ax, name) in enumerate(zip(axes, PARTS, strict=True)):
        color = drawing.color_of(rank)
        values = np.asarray(history[name]) / (num_frames or 1)
        width = max(1, len(values) // 50)
        ax.plot(steps, values, color=color, linewidth=0.5, alpha=0.4)
        smooth = np.convolve(values, np.full(width, 1 / width), mode="valid")
        centers = steps[width // 2 :][: len(smooth)]
        ax.plot(centers, smooth, color=color, linewidth=1.8)
        limits = drawing.running_limits(values)
        ax.set(title=PARTS[name], ylabel=unit, ylim=limits)
    for ax in axes[2:]:
        ax.set_xlabel("step")
    return figure


def mixture(model: Any, data: Any, num_samples: int = 4000, rng: Any = 0) -> "Figure":
    """Show a warped mixture in data space and, beside it, in latent space.

    Left, the data coloured by most likely component, over faint draws from each
    component in use, sent through the decoder.  Right, the components' ellipses of
    one and two standard deviations with the posterior means of the data; the ellipses
    of a `svae.StudentMixture` are those of its scale matrices, which are smaller than
    the covariances.  Of data of more than two dimensions, the first two principal
    components are shown; of such latents, the first two coordinates.  A `svae.Gaussian`
    counts as a mixture of one component (Johnson et al. 2016, Fig. 1c and 1d).

    Parameters
    ----------
    model : SVAE
        Fitted, with a `svae.GMM`, `svae.StudentMixture`, `svae.HMM` or `svae.Gaussian`
        latent model.
    data : (T, P), (N, T, P) or list of (T_n, P) arrays
        Points with a missing coordinate are not among the data shown.
    num_samples : int
        Draws from all components together.
    rng : int or numpy.random.Generator

    Returns
    -------
    matplotlib.figure.Figure
        Two axes.

    Raises
    ------
    TypeError
        If the latent model has dynamics.
    ValueError
        If the data or the latent space has only one dimension.
    """
    if "dynamics" in model.latent.family:
        raise TypeError(f"mixture: {visible.name_of(model)} has no components")
    sequences = data_.as_sequences(data)
    rows = np.concatenate(sequences)
    if rows.shape[-1] < 2 or model.latent.latent_dim < 2:
        raise ValueError("mixture: data and latent space need two dimensions or more")
    origin, plane = _plane(rows)
    rows = (rows - origin) @ plane
    rng = np.random.default_rng(rng)
    posteriors = model.infer(sequences, num_samples=1, rng=rng)
    latents = np.concatenate([posterior.mean for posterior in posteriors])
    labels = np.concatenate([visible.labels_of(posterior) for posterior in posteriors])
    means, covs, dofs = _components(model)

    figure = drawing.new_figure(10.0, 5.0)
    left, right = figure.subplots(1, 2)
    counts = np.bincount(labels)
    for k, rank in visible.ranks_of(model).items():
        if k >= len(counts) or counts[k] == 0:
            continue
        members = labels == k
        size = round(num_samples * counts[k] / len(labels))
        drawn = rng.multivariate_normal(np.zeros(len(means[k])), covs[k], size)
        if dofs is not None:
            drawn /= np.sqrt(rng.chisquare(dofs[k], (size, 1)) / dofs[k])
        location, variance = model.decode(means[k] + drawn)
        draws = location + np.sqrt(variance) * rng.standard_normal(location.shape)
        edges = {"edgecolors": "black", "linewidths": 0.3}
        draws = (draws - origin) @ plane
        drawing.cloud(left, draws, rank, size=3, alpha=0.25, zorder=1)
        drawing.cloud(left, rows[members], rank, size=12, **edges)
        drawing.cloud(right, latents[members], rank, size=12, alpha=0.6)
        drawing.ellipses(right, means[k, :2], covs[k, :2, :2], rank)
        if len(means) > 1:
            right.text(*means[k, :2], str(k), ha="center", va="center", weight="bold")
    drawing.view(left, rows)
    name = "$y_{}$" if len(plane) == 2 else "principal component {}"
    left.set(title="data, over draws from each component")
    left.set(xlabel=name.format(1), ylabel=name.format(2))
    shown = "components" if dofs is None else "scale matrices"
    right.set(title=f"posterior means of $x$, and {shown}", xlabel="$x_1$")
    right.set_ylabel("$x_2$")
    return figure


def ethogram(
    model: Any,
    sequence: Any,
    labels: Any = None,
    start: int = 0,
    stop: int | None = None,
) -> "Figure":
    """Show which discrete state a sequence is in, and when.

    Top, the data.  Below, the most likely path of states as a coloured band, the labels
    as another if there are any, and the probabilities of the states at each frame;
    those that are never probable are grey.

    Parameters
    ----------
    model : SVAE
        Fitted, with a latent model that has discrete states.
    sequence : (T, P) array
    labels : (T,) integers, optional
        What is known of the true states; negative where nothing is.  A label has the
        colour of the state with which `svae.metrics.align_states` matches it.
    start, stop : int
        The frames that are shown.  All are used.

    Returns
    -------
    matplotlib.figure.Figure
        Axes for data, path, labels if there are any, and probabilities, then the color
        bar of an image.

    Raises
    ------
    TypeError
        If the model has no discrete states.
    ValueError
        If there are no frames to show, or there is not one label for each.
    """
    visible.require_states(model, "ethogram")
    sequence = np.asarray(sequence, dtype=np.float64)
    times = np.arange(len(sequence))[start:stop]
    if len(times) == 0:
        raise ValueError(f"no frames in {start}:{stop} of {len(sequence)}")
    path = model.predict(sequence)
    probs = model.infer(sequence, num_samples=1).states[times]
    ranks = visible.ranks_of(model)
    strips = [("state", path, ranks)]
    if labels is not None:
        labels = np.asarray(labels)
        strips.append(("label", labels, visible.ranks_of_labels(labels, path, ranks)))

    figure = drawing.new_figure(10.0, 4.6 + 0.4 * len(strips))
    heights = [4.0, *[0.7] * len(strips), 1.6]
    axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    limits = drawing.observed_limits(sequence[times])
    image = drawing.data_panel(axes[0], sequence[times], times[0], limits)
    if image is not None:
        figure.colorbar(image, ax=[axes[0]], pad=0.01, fraction=0.03, label="value")
    for ax, (title, states, its) in zip(axes[1:], strips, strict=False):
        drawing.state_band(ax, states[times], times[0], its, title)
    shown = visible.probable_states(probs, path[times], ranks)
    drawing.probabilities(axes[-1], times, probs, ranks, shown)
    drawing.legend(figure, {k: ranks[k] for k in shown}, "state")
    axes[0].set_title("data, and the states of the model")
    axes[-1].set(xlabel="frame", xlim=(times[0] - 0.5, times[-1] + 0.5))
    return figure


def transitions(model: Any, sequences: Any = None) -> "Figure":
    """Show how states follow each other and how long they last.

    Left, the expected transition matrix: from the state of a row to that of a column.
    Right, the expected durations ``1 / (1 - E[pi_kk])``.  Only states in use are shown.

    Parameters
    ----------
    model : SVAE
        Fitted, with a `svae.HMM` or `svae.SLDS` latent model.
    sequences : as in `svae.SVAE.fit`, optional
        States in use are those of at least 1 % of these frames; by default, of what
        q(theta) counts.

    Returns
    -------
    matplotlib.figure.Figure
        Axes for the matrix and the durations, then the color bar.

    Raises
    ------
    TypeError
        If the states of the latent model are no Markov chain.
    """
    if "transitions" not in model.latent.family:
        raise TypeError(f"transitions: {visible.name_of(model)} has no transitions")
    ranks, used = visible.ranks_of(model), visible.used_states(model, sequences)
    full = dirichlet.mean(model.parameters_.natparams["transitions"])
    matrix = full[np.ix_(used, used)]
    leaving = 1 - matrix.diagonal()
    # the only state of a model is never left, and no bar is as long
    durations = np.divide(1, leaving, where=leaving > 0, out=np.zeros_like(leaving))
    labels = [f"{duration:.1f}" if duration else "never left" for duration in durations]

    figure = drawing.new_figure(9.5, 4.5)
    from matplotlib.colors import PowerNorm

    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1.0])
    # of states that last, all but the diagonal is small
    image = left.imshow(matrix, cmap="cividis", norm=PowerNorm(0.5, 0.0, 1.0))
    figure.colorbar(image, ax=[left], pad=0.02)
    if len(used) <= 12:
        for (row, column), value in np.ndenumerate(matrix):
            text = f"{value:.2f}".removeprefix("0") if value < 0.995 else "1.0"
            color = "white" if value < 0.25 else "black"
            options = {"ha": "center", "va": "center", "fontsize": "small"}
            left.text(column, row, text, color=color, **options)
    places = np.arange(len(used))
    colors = [drawing.color_of(ranks[k]) for k in used]
    bars = right.barh(places, durations, color=colors, height=0.7)
    right.bar_label(bars, labels, padding=3, fontsize="small")
    for ax in (left, right):
        ax.set_yticks(places, [str(k) for k in used])
    left.set_xticks(places, [str(k) for k in used])
    title = "expected probabilities of transitions"
    left.set(title=title, xlabel="to state", ylabel="from state")
    right.set(title="expected durations", xlabel="frames", ylabel="state")
    right.set(ylim=(len(used) - 0.5, -0.5))
    right.margins(x=0.15)
    return figure


def forecast(
    model: Any,
    sequence: Any,
    prefix: int,
    horizon: int,
    context: int | None = None,
    num_samples: int = 50,
    theta: str = "mean",
    rng: Any = 0,
) -> "Figure":
    """Show what a model expects after the first frames of a sequence.

    Top, the data with time on the horizontal axis.  Middle, means of the frames given
    the data up to the vertical line: reconstructions before it, predictions after it.
    Below, the latent states, with bands of two standard deviations (Johnson et al.
    2016, Fig. 4).  Of a model with discrete states, last, their probabilities: after
    the line, the shares of sampled paths.

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
    theta : {"mean", "sample"}
        As in `svae.SVAE.forecast`.
    rng : int or numpy.random.Generator

    Returns
    -------
    matplotlib.figure.Figure
        Axes for data, means, latents and discrete states, if there are any, then the
        color bar of images.

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
    future = model.forecast(
        seen, horizon, num_samples=num_samples, theta=theta, rng=rng
    )
    past = _frames(model, posterior, num_samples, rng)
    frames = np.concatenate([past[0], future.mean])
    deviations = np.sqrt(np.concatenate([past[1], future.variance]))
    means = np.concatenate([posterior.mean, future.latent_mean])
    variances = np.concatenate(
        [np.diagonal(each, 0, -2, -1) for each in (posterior.cov, future.latent_cov)]
    )
    start = 0 if context is None else max(0, prefix - context)
    times = np.arange(start, prefix + horizon)
    switching = posterior.states is not None

    figure = drawing.new_figure(10.0, 8.0 if switching else 6.5)
    axes = figure.subplots(3 + switching, 1, sharex=True)
    top, middle, latent = axes[:3]
    shown = sequence[start : prefix + horizon]
    few = shown.shape[1] <= drawing.FEW
    limits = drawing.observed_limits(shown)
    drawing.data_panel(top, shown, start, limits)
    image = drawing.data_panel(middle, frames[start:], start, limits)
    if image is not None:
        figure.colorbar(image, ax=[top, middle], pad=0.01, fraction=0.03, label="value")
    if few:
        drawing.bands(middle, times, frames[start:], 2 * deviations[start:])
    drawing.bands(latent, times, means[start:], 2 * np.sqrt(variances[start:]))
    if switching:
        counts = np.eye(posterior.states.shape[1])[future.states].mean(axis=0)
        probs = np.concatenate([posterior.states, counts])[start:]
        ranks = visible.ranks_of(model)
        states = visible.probable_states(probs, probs.argmax(axis=1), ranks)
        drawing.probabilities(axes[3], times, probs, ranks, states)
        drawing.legend(figure, {k: ranks[k] for k in states}, "state")
        axes[3].set_title("discrete states, and shares of sampled ones")
    for ax in axes:
        ax.axvline(prefix - 0.5, color="#D55E00", linewidth=1.5)
    top.set_title("data")
    middle.set_title(f"means given the first {prefix} frames")
    latent.set(title="latents, $\\pm$ 2 standard deviations", ylabel="$x_t$")
    axes[-1].set(xlabel="frame", xlim=(start - 0.5, prefix + horizon - 0.5))
    return figure


def dynamics(model: Any, sequences: Any = None) -> "Figure":
    """Show the eigenvalues of E[A] in the complex plane, with the unit circle.

    Their absolute values say how slowly a latent direction decays, their angles how
    fast it turns.  The periods of oscillations that last are written: beside the
    eigenvalues of an `svae.LDS`, beside the names of the states of an `svae.SLDS`, the
    longest three.

    Parameters
    ----------
    model : SVAE
        Fitted, with a `svae.LDS` or `svae.SLDS` latent model.
    sequences : as in `svae.SVAE.fit`, optional
        Of several states, those of at least 1 % of these frames are shown; by default,
        of what q(theta) counts.

    Returns
    -------
    matplotlib.figure.Figure
        One axes.

    Raises
    ------
    TypeError
        If the latent model has no dynamics.
    """
    if "dynamics" not in model.parameters_.natparams:
        raise TypeError(f"dynamics: {visible.name_of(model)} has no dynamics")
    mean = mniw.to_standard(model.parameters_.natparams["dynamics"])[0]
    eigenvalues = np.linalg.eigvals(mean[..., : mean.shape[-2]])  # a bias comes last
    switching = mean.ndim == 3
    figure = drawing.new_figure(7.6 if switching else 5.0, 5.0)
    ax = figure.subplots()
    circle = np.exp(1j * np.linspace(0, 2 * np.pi, 400))
    ax.plot(circle.real, circle.imag, color="0.6", linewidth=1)
    ax.axhline(0, color="0.85", linewidth=0.8, zorder=0)
    ax.axvline(0, color="0.85", linewidth=0.8, zorder=0)
    if switching:
        ranks = visible.ranks_of(model)
        for k in visible.used_states(model, sequences):
            values, rank = eigenvalues[k], ranks[k]
            periods = [f"{period:.1f}" for _, period in _periods(values)[:3]]
            label = f"{k}: {', '.join(periods)}" if periods else str(k)
            points = np.stack([values.real, values.imag], axis=1)
            marker = drawing.MARKERS[rank % len(drawing.MARKERS)]
            options = {"marker": marker, "edgecolors": "white", "linewidths": 0.4}
            drawing.cloud(ax, points, rank, 36, label=label, zorder=3, **options)
        title = "state: periods in frames"
        ax.legend(
            title=title, frameon=False, loc="upper left", bbox_to_anchor=(1.02, 1.0)
        )
    else:
        ax.scatter(
            eigenvalues.real, eigenvalues.imag, color=drawing.color_of(0), zorder=3
        )
        _write_periods(ax, _periods(eigenvalues))
    name = "A_k" if switching else "A"
    ax.set(title=rf"eigenvalues of $\mathrm{{E}}[{name}]$", aspect="equal")
    ticks = [-1.0, -0.5, 0.0, 0.5, 1.0]
    ax.set(xlabel="real part", ylabel="imaginary part", xticks=ticks, yticks=ticks)
    return figure


def figures(
    model: Any,
    sequences: list[np.ndarray],
    shape: tuple[int, int] | None = None,
    undo: Callable[[np.ndarray], np.ndarray] | None = None,
    num_frames: int | None = None,
) -> "dict[str, Figure]":
    """Return the figures that suit a fitted model, by name.

    Parameters
    ----------
    model : SVAE
    sequences : list of (T_n, P) arrays
        Of a mixture, and for frames of states, the first 5000 rows are shown, which the
        figure says; of a chain the first 200 frames, the second half of them forecast
        from the first; of discrete states the first 600.
    shape : (rows, columns), optional
        Of the image that a frame is: with it, there are images.
    undo : callable, optional
        Brings frames (..., P) to the units in which images and courses are shown.
    num_frames : int, optional
        Of the data that the model was fitted to, with data: the bound is shown for each
        of them.  Default: those of ``sequences``.

    Returns
    -------
    dict of str to matplotlib.figure.Figure
    """
    family, head = model.latent.family, _head(sequences, 5000)
    total = sum(map(len, sequences))
    num_frames = num_frames or data_.frames_with_data(sequences)
    drawn = {"bound": bound(model.history_, num_frames)}
    planar = model.latent.latent_dim > 1 and sequences[0].shape[1] > 1
    if planar and "dynamics" not in family:
        drawn["mixture"] = mixture(model, head)
    if "dynamics" in family:
        drawn["dynamics"] = dynamics(model)
    if "transitions" in family:
        drawn["transitions"] = transitions(model)
        drawn["ethogram"] = ethogram(model, sequences[0][:600])
    if "transitions" in family or (shape is not None and "weights" in family):
        drawn["states"] = state_frames(model, head, shape, undo=undo)
    if shape is not None and planar:
        drawn["manifold"] = manifold(model, shape, head, undo=undo)
    for name in ("mixture", "states", "manifold"):
        if name in drawn and sum(map(len, head)) < total:
            note = f"from the first {sum(map(len, head))} of {total} frames"
            drawn[name].suptitle(note, fontsize="small")
    first = sequences[0][:200]
    prefix = len(first) // 2
    if prefix > 0 and not model.latent.independent:
        drawn["forecast"] = forecast(model, first, prefix, len(first) - prefix)
    return drawn


def _head(sequences: list[np.ndarray], num_rows: int) -> list[np.ndarray]:
    """Return the first rows of all sequences together."""
    head: list[np.ndarray] = []
    for sequence in sequences:
        if num_rows <= 0:
            break
        head.append(np.asarray(sequence[:num_rows]))
        num_rows -= len(sequence)
    return head


def _plane(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Origin (P,) and axes (P, 2) of the plane in which data (T, P) are shown."""
    from scipy.sparse.linalg import svds

    dim = rows.shape[1]
    complete = rows[~np.isnan(rows).any(axis=1)]
    origin = complete.mean(axis=0) if len(complete) else np.zeros(dim)
    centered = complete - origin
    if dim == 2 or len(complete) < 3 or not centered.any():
        return np.zeros(dim), np.eye(dim, 2)
    # the start decides signs, which must not change from call to call
    *_, axes = svds(centered, k=2, v0=np.ones(min(centered.shape)))
    return origin, axes[::-1].T


def _components(model: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Means (K, D), scale matrices (K, D, D) and, if not Gaussian, dofs (K,).

    Of E_q(theta)[t], as inference uses them unless it has a graph of its own.
    """
    latent, natparams = model.latent, model.parameters_.natparams
    if "components" not in latent.family:
        return np.zeros((1, latent.latent_dim)), np.eye(latent.latent_dim)[None], None
    stats = product.expected_stats(latent.family, natparams)
    J, h, *_ = stats["components"]
    covs = np.linalg.inv(-2 * J)
    dofs = latent.dofs(stats) if hasattr(latent, "dofs") else None
    return np.einsum("kij,kj->ki", covs, h), covs, dofs


def _frames(
    model: Any, posterior: Any, num_samples: int, rng: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (T, P) of the frames, x drawn from its posterior."""
    shape = (num_samples, *posterior.mean.shape)
    noise = np.random.default_rng(rng).standard_normal(shape)
    roots = np.linalg.cholesky(posterior.cov)
    latents = posterior.mean + np.einsum("tij,stj->sti", roots, noise)
    mean, variance = model.decode(latents)
    return mean.mean(axis=0), variance.mean(axis=0) + mean.var(axis=0)


def _periods(eigenvalues: np.ndarray) -> list[tuple[complex, float]]:
    """Eigenvalues of oscillations that last, with their periods, the longest first."""
    lasting = (eigenvalues.imag > 0) & (np.abs(eigenvalues) > LASTING)
    values = sorted(eigenvalues[lasting], key=np.angle)
    return [(complex(value), float(2 * np.pi / np.angle(value))) for value in values]


def _write_periods(ax: "Axes", periods: list[tuple[complex, float]]) -> None:
    for value, period in periods:
        ax.annotate(
            f"{period:.1f} frames",
            (value.real, value.imag),
            xytext=(-8, 0),
            textcoords="offset points",
            horizontalalignment="right",
            verticalalignment="center",
        )
