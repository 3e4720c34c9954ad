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
from svae.metrics.bouts import bouts
from svae.plot import drawing
from svae.plot import states as visible
from svae.plot.directions import directions_of
from svae.plot.gallery import manifold, onsets, state_frames
from svae.types import Rng

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
    "onsets",
    "state_frames",
    "transitions",
]

MANY_LATENTS = 6  # dimensions from which forecasts show principal directions
Undo = Callable[[np.ndarray], np.ndarray]
LASTING = 0.9  # modulus from which the period of an eigenvalue is written

PARTS = {
    "objective": "objective",
    "reconstruction": "reconstruction",
    "local_kl": "local KL",
    "global_kl": "global KL",
}


def bound(
    history: dict[str, Any],
    num_frames: int | None = None,
    start: dict[str, float] | None = None,
) -> "Figure":
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
    start : dict of float, optional
        ``start_`` of a fitted `svae.SVAE`: a dashed line shows the bound before the
        first step, and its parts.

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
        if start is not None:
            level = start[name] / (num_frames or 1)
            ax.axhline(level, color="black", linewidth=0.8, linestyle="dashed")
            limits = min(limits[0], level), max(limits[1], level)
        ax.set(title=PARTS[name], ylabel=unit, ylim=limits)
    for ax in axes[2:]:
        ax.set_xlabel("step")
    return figure


def trial(scores: dict[str, Any]) -> "Figure":
    """Show how data that a trial left out were scored, and which step that chose.

    Parameters
    ----------
    scores : dict of (K,) arrays
        ``trial_`` of a fitted `svae.SVAE`.

    Returns
    -------
    matplotlib.figure.Figure
        One axes: the score over the steps of the trial, a dashed line at the best.
    """
    figure = drawing.new_figure(6.0, 3.5)
    ax = figure.subplots()
    step, score = np.asarray(scores["step"]), np.asarray(scores["score"])
    ax.plot(step, score, color=drawing.color_of(0), marker="o", markersize=4)
    if np.isfinite(score).any():
        best = int(step[np.nanargmax(score)])
        ax.axvline(best, color="black", linewidth=0.8, linestyle="dashed")
        ax.set_title(
            f"trial: the best score of what was left out is after {best} steps"
        )
    ax.set(xlabel="step", ylabel="nats per frame left out")
    return figure


def mixture(
    model: Any,
    data: Any,
    num_samples: int = 4000,
    rng: Rng = 0,
    undo: Undo | None = None,
) -> "Figure":
    """Show a warped mixture in data space and, beside it, in latent space.

    Left, the data coloured by most likely component, over faint draws from each
    component in use, decoded and with the noise of the likelihood.  Right, the
    components' ellipses of one and two standard deviations with the posterior means of
    the data; the ellipses of a `svae.StudentMixture` are those of its scale matrices,
    which are smaller than the covariances.  Of data of more than two dimensions, the
    first two principal components are shown; of such latents, the first two
    coordinates.  A `svae.Gaussian` counts as a mixture of one component (Johnson et al.
    2016, Fig. 1c and 1d).

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
    undo : callable, optional
        Brings frames (..., P) to the units they are shown in.

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
    if undo is not None:
        rows = undo(rows)
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
        draws = model.sample_frames(means[k] + drawn, rng)
        edges = {"edgecolors": "black", "linewidths": 0.3}
        draws = ((draws if undo is None else undo(draws)) - origin) @ plane
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
    shape: tuple[int, int] | None = None,
    undo: Undo | None = None,
    label: str = "value",
) -> "Figure":
    """Show which discrete state a sequence is in, and when.

    Top, the data; of images, some frames, evenly spread, and below them the leading
    principal components of all, in standard deviations.  Below, the most likely path of
    states as a coloured band, the labels as another if there are any, and the
    probabilities of the states at each frame; those that are never probable are grey.

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
    shape : (rows, columns), optional
        Of the image that a frame is, row by row.
    undo : callable, optional
        Brings frames (..., P) to the units they are shown in.
    label : str
        What the values are.

    Returns
    -------
    matplotlib.figure.Figure
        Axes for data (of images, two), path, labels if there are any, and
        probabilities, then the color bar of an image.

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

    shown_frames = sequence[times] if undo is None else undo(sequence[times])
    top = [4.0] if shape is None else [1.4, 2.6]
    figure = drawing.new_figure(10.0, 4.6 + 0.4 * len(strips) + 0.6 * (len(top) - 1))
    heights = [*top, *[0.7] * len(strips), 1.6]
    axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    bar: dict[str, Any] = {"pad": 0.01, "fraction": 0.03}
    if shape is None:
        limits = drawing.observed_limits(shown_frames)
        image = drawing.data_panel(axes[0], shown_frames, times[0], limits, label)
        if image is not None:
            figure.colorbar(image, ax=[axes[0]], label=label, **bar)
    else:
        chosen = _strip_times(shown_frames, shape)
        limits = drawing.image_limits(shown_frames[chosen])
        image = _strip(axes[0], shown_frames[chosen], shape, times, limits)
        figure.colorbar(image, ax=[axes[0]], label=label, **bar)
        scores = _principal_scores(sequence)[times]
        image = drawing.image(axes[1], scores, times[0], (-3.0, 3.0), cmap="RdBu_r")
        figure.colorbar(image, ax=[axes[1]], label="standard deviations", **bar)
        number = scores.shape[1]
        axes[1].set_yticks(np.arange(0, number, 3), np.arange(1, number + 1, 3))
        axes[1].set(ylabel="component", title="principal components of the frames")
    for ax, (title, states, its) in zip(axes[len(top) :], strips, strict=False):
        drawing.state_band(ax, states[times], times[0], its, title)
    shown = visible.probable_states(probs, path[times], ranks)
    drawing.probabilities(axes[-1], times, probs, ranks, shown)
    drawing.legend(figure, {k: ranks[k] for k in shown}, "state")
    title = "data" if shape is None else "frames"
    axes[0].set_title(f"{title}, and the states of the model")
    axes[-1].set(xlabel="frame", xlim=(times[0] - 0.5, times[-1] + 0.5))
    return figure


def transitions(model: Any, sequences: Any = None) -> "Figure":
    """Show how states follow each other and how long they last.

    Left, the expected transition matrix: from the state of a row to that of a column.
    With data, beside it on the same scale, how often these follow each other on the
    most likely path.  Right, the expected durations ``1 / (1 - E[pi_kk])``; with data,
    also the mean durations of bouts on that path, as diamonds.  Only states in use are
    shown, the most frequent one first.

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
        Axes for the matrix, for the durations, for the matrix of the path if there are
        data, then the color bar.

    Raises
    ------
    TypeError
        If the states of the latent model are no Markov chain.
    """
    if "transitions" not in model.latent.family:
        raise TypeError(f"transitions: {visible.name_of(model)} has no transitions")
    paths = None if sequences is None else visible.paths_of(model, sequences)
    ranks, used = visible.ranks_of(model), visible.used_states(model, None, paths)
    full = dirichlet.mean(model.parameters_.natparams["transitions"])
    matrices = {"expected probabilities of transitions": full}
    if paths is not None:
        matrices["transitions on the most likely path"] = _followers(paths, len(full))
    durations = _durations(full)[used]
    labels = [f"{duration:.1f}" if duration else "never left" for duration in durations]

    width = 4.6 + 5.2 * len(matrices)
    figure = drawing.new_figure(width, 4.8)
    ratios = [1.15] * len(matrices) + [1.0]
    grid = figure.add_gridspec(1, len(ratios), width_ratios=ratios)
    left, right = figure.add_subplot(grid[0]), figure.add_subplot(grid[-1])
    panels = [left, *(figure.add_subplot(grid[n]) for n in range(1, len(matrices)))]
    for ax, (title, matrix) in zip(panels, matrices.items(), strict=True):
        image = _transition_matrix(ax, matrix[np.ix_(used, used)], used)
        ax.set(title=title, xlabel="to state", ylabel="from state")
    figure.colorbar(image, ax=panels, pad=0.02, label="probability")
    places = np.arange(len(used))
    colors = [drawing.color_of(ranks[k]) for k in used]
    means = [_mean_duration(paths or [], state) for state in used]
    right.barh(places, durations, color=colors, height=0.7)
    for place, text, *ends in zip(places, labels, durations, means, strict=True):
        if paths is not None and ends[0] and not np.isnan(ends[1]):
            text = f"{text}, {ends[1]:.1f}"
        beside = {"xytext": (8, 0), "textcoords": "offset points", "va": "center"}
        options: dict[str, Any] = beside | {"fontsize": "small"}
        right.annotate(text, (float(np.nanmax(ends)), place), **options)
    right.set_yticks(places, [str(k) for k in used])
    right.set(title="expected durations", xlabel="frames", ylabel="state")
    right.set(ylim=(len(used) - 0.5, -0.5))
    if paths is not None:
        right.plot(means, places, "kD", markeredgecolor="white", markersize=8)
        right.set_title(
            "durations: expected (bars), mean on\nthe most likely path (diamonds)"
        )
    right.margins(x=0.28)
    if (idle := len(full) - len(used)) > 0:
        share = f"{100 * visible.IN_USE:.0f} %"
        note = f"{len(used)} of {len(full)} states are in use"
        note += f"; the other {idle} have less than {share} of the frames each"
        figure.supxlabel(note, fontsize="small")
    return figure


def _followers(paths: list[np.ndarray], num_states: int) -> np.ndarray:
    """Return how often states follow a state on paths: rows sum to 1, or are NaN."""
    counts = np.zeros((num_states, num_states))
    for path in paths:
        np.add.at(counts, (path[:-1], path[1:]), 1.0)
    total = counts.sum(axis=1, keepdims=True)
    return counts / np.where(total > 0, total, np.nan)


def _durations(matrix: np.ndarray) -> np.ndarray:
    """Return the expected durations (K,); 0 for a state that is never left."""
    leaving = 1 - matrix.diagonal()
    # the only state of a model is never left, and no bar is as long
    return np.divide(1, leaving, where=leaving > 0, out=np.zeros_like(leaving))


def _mean_duration(paths: list[np.ndarray], state: int) -> float:
    """Return the mean duration of the bouts of a state."""
    found = [bouts(path) for path in paths]
    own = [each.durations[each.states == state] for each in found]
    durations = np.concatenate([np.empty(0), *own])
    return float(durations.mean()) if len(durations) else float("nan")


def _transition_matrix(ax: "Axes", matrix: np.ndarray, used: list[int]) -> Any:
    """Show a matrix of probabilities, with numbers if there is room; return it."""
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm

    # of states that last, all but the diagonal is small
    image = ax.imshow(
        matrix,
        cmap=colormaps["cividis"].with_extremes(bad=drawing.MISSING),
        norm=PowerNorm(0.5, 0.0, 1.0),
    )
    if len(used) <= 12:
        size = "small" if len(used) <= 8 else "x-small"
        for (row, column), value in np.ndenumerate(matrix):
            if np.isnan(value):
                continue
            text = f"{value:.2f}".removeprefix("0") if value < 0.995 else "1.0"
            color = "white" if value < 0.25 else "black"
            options: dict[str, Any] = {"ha": "center", "va": "center"}
            options["fontsize"] = size
            ax.text(column, row, text, color=color, **options)
    places, names = np.arange(len(used)), [str(k) for k in used]
    ax.set_yticks(places, names)
    ax.set_xticks(places, names)
    return image


def forecast(
    model: Any,
    sequence: Any,
    prefix: int,
    horizon: int,
    context: int | None = None,
    num_samples: int = 50,
    theta: str = "mean",
    rng: Rng = 0,
    shape: tuple[int, int] | None = None,
    undo: Undo | None = None,
    label: str = "value",
) -> "Figure":
    """Show what a model expects after the first frames of a sequence.

    Top, the data with time on the horizontal axis.  Middle, means of the frames given
    the data up to the vertical line: reconstructions before it, predictions after it.
    Below, the latent states, with bands of two standard deviations (Johnson et al.
    2016, Fig. 4); of more than six, along the first six principal directions.  Of a
    model with discrete states, last, their probabilities: after the line, the shares of
    sampled paths.

    Of images, the first two rows are frames and their means at the same times, on one
    scale, and below them is the error of each mean frame, beside that of the last frame
    seen, held, and of the mean of those seen.

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
    shape : (rows, columns), optional
        Of the image that a frame is, row by row.
    undo : callable, optional
        Brings frames (..., P) to the units they are shown in: an affine function.
    label : str
        What the values are.

    Returns
    -------
    matplotlib.figure.Figure
        Axes for data, means, errors (of images), latents and discrete states, if there
        are any, then the color bar of images.

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
    covs = np.concatenate([posterior.cov, future.latent_cov])
    variances, named, along = np.diagonal(covs, 0, -2, -1), "$x_t$", ""
    if means.shape[1] > MANY_LATENTS:
        means, variances = _along_directions(model, means, covs, prefix)
        named = "standard deviations"
        along = f", along the first {means.shape[1]} principal directions"
    start = 0 if context is None else max(0, prefix - context)
    times = np.arange(start, prefix + horizon)
    switching, images = posterior.states is not None, shape is not None
    if undo is not None:
        deviations = undo(frames + deviations) - undo(frames)
        frames, sequence = undo(frames), undo(sequence)

    figure = drawing.new_figure(10.0, 6.5 + 1.5 * switching)
    heights = [0.56 if images else 1.0] * 2 + [1.0] * (1 + switching + images)
    axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    top, middle, latent = axes[0], axes[1], axes[2 + images]
    shown = sequence[start : prefix + horizon]
    if shape is None:
        limits = drawing.observed_limits(shown)
        drawing.data_panel(top, shown, start, limits, label)
        image = drawing.data_panel(middle, frames[start:], start, limits, label)
    else:
        image = _strips(top, middle, shown, frames[start:], shape, times)
        _errors(axes[2], sequence, frames, prefix, times, label)
    if image is not None:
        figure.colorbar(image, ax=[top, middle], pad=0.01, fraction=0.03, label=label)
    if shown.shape[1] <= drawing.FEW and not images:
        drawing.bands(middle, times, frames[start:], 2 * deviations[start:])
    spreads = 2 * np.sqrt(variances)
    drawing.bands(latent, times, means[start:], spreads[start:])
    # dynamics that grow must not hide all that was seen
    drawing.at_most(latent, (means - spreads)[:prefix], (means + spreads)[:prefix])
    if switching:
        counts = np.eye(posterior.states.shape[1])[future.states].mean(axis=0)
        probs = np.concatenate([posterior.states, counts])[start:]
        _probable_states(figure, axes[-1], model, times, probs)
    for ax in axes:
        ax.axvline(prefix - 0.5, color="#D55E00", linewidth=1.5)
    top.set_title("frames" if images else "data")
    given = f"given the first {prefix} frames: reconstruction, then forecast"
    middle.set_title(f"mean frames {given}" if images else f"means {given}")
    latent.set(title=f"latents, $\\pm$ 2 standard deviations{along}", ylabel=named)
    axes[-1].set(xlabel="frame", xlim=(start - 0.5, prefix + horizon - 0.5))
    return figure


def _probable_states(
    figure: "Figure", ax: "Axes", model: Any, times: np.ndarray, probs: np.ndarray
) -> None:
    """Show probabilities (T, K) of states: inferred ones, then shares of samples."""
    ranks = visible.ranks_of(model)
    states = visible.probable_states(probs, probs.argmax(axis=1), ranks)
    drawing.probabilities(ax, times, probs, ranks, states)
    drawing.legend(figure, {k: ranks[k] for k in states}, "state")
    ax.set_title("discrete states, and shares of sampled ones")


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
    whose = "dynamics of each state" if switching else "dynamics of $x$"
    ax.set_title(rf"{whose}: eigenvalues of $\mathrm{{E}}[{name}]$")
    ax.set_aspect("equal")
    ticks = [-1.0, -0.5, 0.0, 0.5, 1.0]
    ax.set(xlabel="real part", ylabel="imaginary part", xticks=ticks, yticks=ticks)
    return figure


def figures(
    model: Any,
    sequences: list[np.ndarray],
    shape: tuple[int, int] | None = None,
    undo: Undo | None = None,
    num_frames: int | None = None,
    label: str = "value",
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
        Brings frames (..., P) to the units in which they are shown.
    num_frames : int, optional
        Of the data that the model was fitted to, with data: the bound is shown for each
        of them.  Default: those of ``sequences``.
    label : str
        What the values are, and their unit.

    Returns
    -------
    dict of str to matplotlib.figure.Figure
    """
    family, head = model.latent.family, _head(sequences, 5000)
    units: dict[str, Any] = {"undo": undo, "label": label}
    total = sum(map(len, sequences))
    num_frames = num_frames or data_.frames_with_data(sequences)
    drawn = {}
    if len(model.history_["objective"]):
        drawn["bound"] = bound(model.history_, num_frames, model.start_)
    if getattr(model, "trial_", None) is not None:
        drawn["trial"] = trial(model.trial_)
    planar = model.latent.latent_dim > 1 and sequences[0].shape[1] > 1
    if planar and "dynamics" not in family:
        drawn["mixture"] = mixture(model, head, undo=undo)
    if "dynamics" in family:
        drawn["dynamics"] = dynamics(model)
    if "transitions" in family:
        drawn["transitions"] = transitions(model, head)
        some = np.asarray(sequences[0][:600])
        drawn["ethogram"] = ethogram(model, some, shape=shape, **units)
    if "transitions" in family or (shape is not None and "weights" in family):
        drawn["states"] = state_frames(model, head, shape, **units)
    if "transitions" in family and shape is not None:
        drawn["onsets"] = onsets(model, head, shape, **units)
    if shape is not None and planar:
        drawn["manifold"] = manifold(model, shape, head, **units)
    for name in ("mixture", "transitions", "states", "onsets", "manifold"):
        if name in drawn and sum(map(len, head)) < total:
            note = f"from the first {sum(map(len, head))} of {total} frames"
            drawn[name].suptitle(note, fontsize="small")
    first = np.asarray(sequences[0][:200])
    prefix = len(first) // 2
    if prefix > 0 and not model.latent.independent:
        drawn["forecast"] = forecast(
            model, first, prefix, len(first) - prefix, shape=shape, **units
        )
    return drawn


def _strip_times(frames: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return which frames (T, P) a strip of images shows."""
    number = drawing.tiles_in_strip(shape, len(frames))
    return drawing.strip_times(frames, 0, number)


def _strip(
    ax: "Axes",
    frames: np.ndarray,
    shape: tuple[int, int],
    times: np.ndarray,
    limits: tuple[float, float],
) -> Any:
    """Show images (C, P) side by side over the times (T,) among which they are."""
    extent = (times[0] - 0.5, times[-1] + 0.5, 0.0, 1.0)
    shown = drawing.mosaic(ax, frames.reshape(1, -1, *shape), extent, limits, None)
    ax.set_yticks([])
    return shown


def _strips(
    top: "Axes",
    middle: "Axes",
    shown: np.ndarray,
    means: np.ndarray,
    shape: tuple[int, int],
    times: np.ndarray,
) -> Any:
    """Show frames and means at the same times, on one scale; return an image."""
    padded = np.full_like(means, np.nan)  # there may be no data to the end
    padded[: len(shown)] = shown
    chosen = _strip_times(padded, shape)
    limits = drawing.image_limits(np.concatenate([padded[chosen], means[chosen]]))
    _strip(top, padded[chosen], shape, times, limits)
    return _strip(middle, means[chosen], shape, times, limits)


def _errors(
    ax: "Axes",
    sequence: np.ndarray,
    means: np.ndarray,
    prefix: int,
    times: np.ndarray,
    label: str,
) -> None:
    """Show root mean squared errors over the observed pixels of each frame."""
    last = min(len(sequence), times[-1] + 1)
    shown = sequence[times[0] : last]
    seen = sequence[:prefix]
    complete = np.flatnonzero(~np.isnan(seen).all(axis=1))

    def error(expected: np.ndarray) -> np.ndarray:
        squares = (shown - expected) ** 2
        there = ~np.isnan(squares)
        count = np.where(there.any(axis=1), there.sum(axis=1), np.nan)
        return np.asarray(np.sqrt(np.where(there, squares, 0.0).sum(axis=1) / count))

    own = np.arange(times[0], last)
    after = own >= prefix
    lines = {"model": (error(means[times[0] : last]), drawing.color_of(0))}
    if len(complete):
        same = {"last frame held": seen[complete[-1]], "mean frame": _mean_of(seen)}
        for rank, (name, frame) in enumerate(same.items(), start=1):
            lines[name] = np.where(after, error(frame), np.nan), drawing.color_of(rank)
    for name, (values, color) in lines.items():
        ax.plot(own, values, color=color, linewidth=1.2, label=name)
    ax.set(title="root mean squared error of each frame", ylabel=label)
    ax.set_ylim(bottom=0.0)
    ax.legend(frameon=False, fontsize="small", loc="upper left", ncols=len(lines))


def _mean_of(frames: np.ndarray) -> np.ndarray:
    """Return the mean (P,) of what is observed of frames, NaN where nothing is."""
    there = ~np.isnan(frames)
    count = np.where(there.any(axis=0), there.sum(axis=0), np.nan)
    return np.asarray(np.where(there, frames, 0.0).sum(axis=0) / count)


def _along_directions(
    model: Any, means: np.ndarray, covs: np.ndarray, prefix: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return means and variances (T, C) along the leading principal directions.

    These are of the aggregate posterior of the first ``prefix`` frames.
    """
    noise = np.random.default_rng(0).standard_normal((prefix, means.shape[1]))
    roots = np.linalg.cholesky(covs[:prefix])
    samples = means[:prefix] + np.einsum("tij,tj->ti", roots, noise)
    directions = directions_of(model, samples)
    inverse = directions.inverse[:, :MANY_LATENTS]
    along = directions.coordinates(means)[:, :MANY_LATENTS]
    return along, np.einsum("ic,tij,jc->tc", inverse, covs, inverse)


def _principal_scores(sequence: np.ndarray, number: int = 10) -> np.ndarray:
    """Return leading principal components (T, C), in standard deviations; NaN if lost.

    Missing values count as the mean, and missing frames stay missing.
    """
    from scipy.sparse.linalg import svds

    missing = np.isnan(sequence)
    lost = missing.all(axis=1)
    mean = np.nan_to_num(_mean_of(sequence))
    centered = np.where(missing, 0.0, sequence - mean)
    number = min(number, min(centered.shape) - 1)
    if number < 1 or not centered.any():
        scores = np.zeros((len(sequence), 1))
    else:
        start = np.ones(min(centered.shape))  # the same from call to call
        left, scales, right = svds(centered, k=number, v0=start)
        most = np.abs(right).argmax(axis=1)  # the largest loading is positive
        signs = np.sign(right[np.arange(number), most])
        left = (left * signs)[:, ::-1]
        scores = left * np.sqrt(max(1, (~lost).sum()))
        scores[:, scales[::-1] <= 1e-9 * scales.max()] = 0.0
    scores[lost] = np.nan
    return np.asarray(scores)


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
    model: Any, posterior: Any, num_samples: int, rng: Rng
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
