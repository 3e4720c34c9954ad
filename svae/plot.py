r"""Figures of a fit: its history, states, forecasts, dynamics, and what it decodes.

Every function returns a new `matplotlib.figure.Figure` and touches no global state:
no pyplot, no current figure, no choice of backend.  Keep one with
``figure.savefig(path)``; a notebook shows it as it is.

Data may have NaN: what is missing is grey.  A discrete state has the same colour in all
figures of a model, the first ones for those that q(theta) has seen most.
"""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from svae import data as data_
from svae import drawing, metrics, segments
from svae.families import dirichlet, mniw, product
from svae.models.base import draw_latents

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
IN_USE = 0.01  # share of the frames from which a state is shown
PROBABLE = 0.1  # probability from which a state is shown

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
    the covariances.  Of more than two dimensions, the first two are shown.  A
    `svae.Gaussian` counts as a mixture of one component (Johnson et al. 2016, Fig. 1c
    and 1d).

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
        raise TypeError(f"mixture: {_name(model)} has no components")
    sequences = data_.as_sequences(data)
    rows = np.concatenate(sequences)
    if rows.shape[-1] < 2 or model.latent.latent_dim < 2:
        raise ValueError("mixture: data and latent space need two dimensions or more")
    rng = np.random.default_rng(rng)
    posteriors = model.infer(sequences, num_samples=1, rng=rng)
    latents = np.concatenate([posterior.mean for posterior in posteriors])
    labels = np.concatenate([_labels(posterior) for posterior in posteriors])
    means, covs, dofs = _components(model)

    figure = drawing.new_figure(10.0, 5.0)
    left, right = figure.subplots(1, 2)
    counts = np.bincount(labels)
    for k, rank in _ranks(model).items():
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
        drawing.cloud(left, draws, rank, size=3, alpha=0.25, zorder=1)
        drawing.cloud(left, rows[members], rank, size=12, **edges)
        drawing.cloud(right, latents[members], rank, size=12, alpha=0.6)
        drawing.ellipses(right, means[k, :2], covs[k, :2, :2], rank)
        if len(means) > 1:
            right.text(*means[k, :2], str(k), ha="center", va="center", weight="bold")
    drawing.view(left, rows)
    left.set(title="data, over draws from each component", xlabel="$y_1$")
    left.set_ylabel("$y_2$")
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
    _need_states(model, "ethogram")
    sequence = np.asarray(sequence, dtype=np.float64)
    times = np.arange(len(sequence))[start:stop]
    if len(times) == 0:
        raise ValueError(f"no frames in {start}:{stop} of {len(sequence)}")
    path = model.predict(sequence)
    probs = model.infer(sequence, num_samples=1).states[times]
    ranks = _ranks(model)
    strips = [("state", path, ranks)]
    if labels is not None:
        labels = np.asarray(labels)
        strips.append(("label", labels, _ranks_of_labels(labels, path, ranks)))

    figure = drawing.new_figure(10.0, 4.6 + 0.4 * len(strips))
    heights = [4.0, *[0.7] * len(strips), 1.6]
    axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    limits = drawing.observed_limits(sequence[times])
    image = drawing.data_panel(axes[0], sequence[times], times[0], limits)
    if image is not None:
        figure.colorbar(image, ax=[axes[0]], pad=0.01, fraction=0.03, label="value")
    for ax, (title, states, its) in zip(axes[1:], strips, strict=False):
        drawing.state_band(ax, states[times], times[0], its, title)
    shown = _probable(probs, path[times], ranks)
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
        raise TypeError(f"transitions: {_name(model)} has no transitions")
    from matplotlib.colors import PowerNorm

    ranks, used = _ranks(model), _used(model, sequences)
    full = dirichlet.mean(model.parameters_.natparams["transitions"])
    matrix = full[np.ix_(used, used)]
    durations = 1 / (1 - matrix.diagonal())

    figure = drawing.new_figure(9.5, 4.5)
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1.0])
    # of states that last, all but the diagonal is small
    image = left.imshow(matrix, cmap="cividis", norm=PowerNorm(0.5, 0.0, 1.0))
    figure.colorbar(image, ax=[left], pad=0.02, label="probability")
    if len(used) <= 12:
        for (row, column), value in np.ndenumerate(matrix):
            text = f"{value:.2f}".removeprefix("0") if value < 0.995 else "1.0"
            color = "white" if value < 0.25 else "black"
            options = {"ha": "center", "va": "center", "fontsize": "small"}
            left.text(column, row, text, color=color, **options)
    places = np.arange(len(used))
    colors = [drawing.color_of(ranks[k]) for k in used]
    bars = right.barh(places, durations, color=colors, height=0.7)
    right.bar_label(bars, fmt="%.1f", padding=3, fontsize="small")
    for ax in (left, right):
        ax.set_yticks(places, [str(k) for k in used])
    left.set_xticks(places, [str(k) for k in used])
    left.set(title=r"$\mathrm{E}[\pi]$", xlabel="to state", ylabel="from state")
    right.set(title="expected durations", xlabel="frames")
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
        ranks = _ranks(model)
        states = _probable(probs, probs.argmax(axis=1), ranks)
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
        raise TypeError(f"dynamics: {_name(model)} has no dynamics")
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
        ranks = _ranks(model)
        for k in _used(model, sequences):
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


def manifold(
    model: Any,
    shape: tuple[int, int],
    data: Any = None,
    axes: tuple[int, int] = (0, 1),
    grid: int = 12,
    center: Any = None,
    undo: Callable[[np.ndarray], np.ndarray] | None = None,
    rng: Any = 0,
) -> "Figure":
    """Show the images that the decoder makes of a plane in latent space.

    Left, the means of the frames at the points of a grid, each a tile around its point.
    Right, where the data are in that plane: their posterior means, coloured by most
    likely state.  The plane has 95 % of them along each of its axes; without data,
    95 % of draws from the model (theta from q(theta), then x).

    Parameters
    ----------
    model : SVAE
        Fitted, with two latent dimensions or more.
    shape : (rows, columns)
        Of the image that a frame is, row by row.
    data : (T, P), (N, T, P) or list of (T_n, P) arrays, optional
    axes : (int, int)
        Coordinates of x, from 0, that vary along the plane: to the right and upwards.
    grid : int
        Points along each axis, two or more.
    center : (D,) array, optional
        What the other coordinates are.  Default: the mean of the posterior means or
        draws.
    undo : callable, optional
        Brings frames (..., P) to the units they are shown in.
    rng : int or numpy.random.Generator
        Of draws from the model.

    Returns
    -------
    matplotlib.figure.Figure
        Axes for the images and, if there are data, for the posterior means, then the
        color bar.

    Raises
    ------
    ValueError
        If a frame has not ``rows * columns`` values, ``axes`` are no two coordinates of
        x, or ``center`` or ``grid`` has a wrong size.
    """
    dim = model.latent.latent_dim
    _check_shape(shape, model.obs_dim_)
    if len({*axes}) != 2 or not {*axes} <= {*range(dim)}:
        raise ValueError(f"axes must be two of 0..{dim - 1}, got {axes}")
    if grid < 2:
        raise ValueError(f"grid must be 2 or more, got {grid}")
    if data is None:
        latents, labels = _drawn(model, rng), None
    else:
        posteriors = model.infer(data_.as_sequences(data), num_samples=1)
        latents = np.concatenate([posterior.mean for posterior in posteriors])
        labels = np.concatenate([_labels(posterior) for posterior in posteriors])
    center = latents.mean(axis=0) if center is None else np.asarray(center)
    if center.shape != (dim,):
        raise ValueError(f"center has shape {center.shape}, expected ({dim},)")

    low, high = np.quantile(latents[:, axes], [0.025, 0.975], axis=0)
    across, up = np.linspace(low, high, grid).T
    points = np.tile(center, (grid, grid, 1))
    points[..., axes[0]], points[..., axes[1]] = across, up[::-1, None]
    frames = model.decode(points)[0]
    images = (undo(frames) if undo else frames).reshape(grid, grid, *shape)
    half = (high - low) / (2 * (grid - 1))
    (left, bottom), (right, top) = low - half, high + half

    figure = drawing.new_figure(6.5 if labels is None else 12.0, 6.0)
    panels = figure.subplots(1, 1 if labels is None else 2, squeeze=False)[0]
    image = drawing.mosaic(panels[0], images, (left, right, bottom, top))
    figure.colorbar(image, ax=[panels[0]], pad=0.02, shrink=0.8, label="value")
    panels[0].set_title("means of frames, decoded from a plane")
    if labels is not None:
        ranks = {k: r for k, r in _ranks(model).items() if k in labels}
        for k, rank in ranks.items():
            drawing.cloud(panels[1], latents[labels == k][:, axes], rank, 6, alpha=0.5)
        if hasattr(model.latent, "num_states"):
            drawing.legend(figure, ranks, "state")
        panels[1].set(title="posterior means of $x$")
        panels[1].set_box_aspect(panels[0].get_box_aspect())
    for ax in panels:
        ax.set(xlim=(left, right), ylim=(bottom, top))
        ax.set(xlabel=f"$x_{{{axes[0] + 1}}}$", ylabel=f"$x_{{{axes[1] + 1}}}$")
    return figure


def state_frames(
    model: Any,
    data: Any,
    shape: tuple[int, int] | None = None,
    num_frames: int = 8,
    undo: Callable[[np.ndarray], np.ndarray] | None = None,
) -> "Figure":
    """Show what frames of each discrete state are like, the most frequent one first.

    Of images, each state in use has a row: the mean of its frames, then examples, which
    are spread evenly over its longest bout or, where rows are independent, from the
    frame nearest to the mean to the farthest.

    Of other frames, each state has a panel.  Where rows are independent, it shows the
    mean over examples, as curves over the channels.  Of a chain, it shows the average
    course of a bout: frames after the onset as long as the bout lasts, and some before
    it; with bands of one standard deviation if there are few channels.

    Parameters
    ----------
    model : SVAE
        Fitted, with a latent model that has discrete states.
    data : (T, P), (N, T, P) or list of (T_n, P) arrays
        States in use are those of at least 1 % of these frames.
    shape : (rows, columns), optional
        Of the image that a frame is, row by row.
    num_frames : int
        Examples of each state.
    undo : callable, optional
        Brings frames (..., P) to the units they are shown in.

    Returns
    -------
    matplotlib.figure.Figure
        Of images, one axes, else one for each state; then the color bar of images.

    Raises
    ------
    TypeError
        If the model has no discrete states.
    ValueError
        If a frame has not ``rows * columns`` values, or there are to be no examples.
    """
    _need_states(model, "state_frames")
    if num_frames < 1:
        raise ValueError(f"num_frames must be 1 or more, got {num_frames}")
    sequences = [np.asarray(each) for each in data_.as_sequences(data)]
    if shape is not None:
        _check_shape(shape, sequences[0].shape[1])
    paths, ranks = model.predict(sequences), _ranks(model)
    used = [each for each in segments.usage(paths) if each.share >= IN_USE]
    if undo is not None:
        sequences = [undo(sequence) for sequence in sequences]
    if shape is None and not model.latent.independent:
        return _courses(sequences, paths, used, ranks)
    examples = _members if model.latent.independent else _longest_bout
    means, chosen = [], []
    for usage in used:
        pairs = zip(sequences, paths, strict=True)
        frames = np.concatenate([y[path == usage.state] for y, path in pairs])
        means.append(_mean_and_deviation(frames)[0])
        chosen.append(examples(sequences, paths, usage.state, num_frames))
    if shape is None:
        return _curves(means, chosen, used, ranks)
    return _rows_of_images(means, chosen, used, ranks, shape)


def figures(
    model: Any,
    sequences: list[np.ndarray],
    shape: tuple[int, int] | None = None,
    undo: Callable[[np.ndarray], np.ndarray] | None = None,
) -> "dict[str, Figure]":
    """Return the figures that suit a fitted model, by name.

    Parameters
    ----------
    model : SVAE
    sequences : list of (T_n, P) arrays
        Of a mixture, and for frames of states, the first 5000 rows are shown; of a
        chain the first 200 frames, the second half of them forecast from the first; of
        discrete states the first 600.
    shape : (rows, columns), optional
        Of the image that a frame is: with it, there are images.
    undo : callable, optional
        Brings frames (..., P) to the units in which images and courses are shown.

    Returns
    -------
    dict of str to matplotlib.figure.Figure
    """
    family, num_frames = model.latent.family, sum(map(len, sequences))
    drawn, head = {"bound": bound(model.history_, num_frames)}, _head(sequences, 5000)
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


def _name(model: Any) -> str:
    return type(model.latent).__name__


def _need_states(model: Any, figure: str) -> None:
    if not hasattr(model.latent, "num_states"):
        raise TypeError(f"{figure}: {_name(model)} has no discrete states")


def _check_shape(shape: tuple[int, int], obs_dim: int) -> None:
    if len(shape) != 2 or shape[0] * shape[1] != obs_dim:
        raise ValueError(f"shape is {tuple(shape)}, frames have {obs_dim} values")


def _labels(posterior: Any) -> np.ndarray:
    if posterior.states is None:
        return np.zeros(len(posterior.mean), dtype=np.int64)
    return np.asarray(posterior.states.argmax(axis=-1))


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


def _drawn(model: Any, rng: Any, times: int = 50, num_steps: int = 40) -> np.ndarray:
    """Draw x (times * num_steps, D) from the model, theta each time from q(theta)."""
    latent, rng = model.latent, np.random.default_rng(rng)
    thetas = (
        product.sample(latent.family, model.parameters_.natparams, rng)
        for _ in range(times)
    )
    drawn = [draw_latents(latent, theta, num_steps, rng).latents for theta in thetas]
    return np.concatenate(drawn).reshape(times * num_steps, -1)


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


def _counts(model: Any) -> np.ndarray:
    """Frames (K,) that q(theta) counts for each state: of it beyond the prior."""
    posterior, prior = model.parameters_.natparams, model.latent.prior()
    counts = np.zeros(getattr(model.latent, "num_states", 1))
    for name in ("weights", "transitions"):
        if name in posterior:
            gained = posterior[name][0] - prior[name][0]
            counts += np.atleast_2d(gained).sum(axis=0)  # of transitions, into a state
    return np.maximum(counts, 0.0)


def _ranks(model: Any) -> dict[int, int]:
    """Rank of each state by what q(theta) has seen of it, in the order of ranks."""
    order = np.argsort(-_counts(model), kind="stable")
    return {int(state): rank for rank, state in enumerate(order)}


def _used(model: Any, sequences: Any) -> list[int]:
    """States that have a share of the frames, ascending; all if none has."""
    if sequences is None:
        counts = _counts(model)
    else:
        paths = model.predict(sequences)
        pooled = np.concatenate(paths) if isinstance(paths, list) else paths.ravel()
        counts = np.bincount(pooled, minlength=model.latent.num_states)
    return np.flatnonzero(counts >= IN_USE * counts.sum()).tolist()


def _mean_and_deviation(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over the first axis, NaN where nothing is there."""
    there = ~np.isnan(frames)
    count = np.where(there.any(axis=0), there.sum(axis=0), np.nan)
    mean = np.where(there, frames, 0.0).sum(axis=0) / count
    squares = np.where(there, (frames - mean) ** 2, 0.0).sum(axis=0)
    return mean, np.sqrt(squares / count)


def _longest_bout(
    sequences: list[np.ndarray], paths: list[np.ndarray], state: int, num_frames: int
) -> np.ndarray:
    """Frames (<= num_frames, P) spread evenly over the longest bout of a state."""
    found = [
        (duration, -n, -onset)
        for n, path in enumerate(paths)
        for other, onset, duration in zip(*segments.bouts(path), strict=True)
        if other == state
    ]
    duration, n, onset = max(found)
    steps = np.linspace(0, duration - 1, min(num_frames, duration)).round()
    return sequences[-n][steps.astype(int) - onset]


def _members(
    sequences: list[np.ndarray], paths: list[np.ndarray], state: int, num_frames: int
) -> np.ndarray:
    """Frames (<= num_frames, P) of a state, from the nearest to its mean on."""
    frames = np.concatenate(sequences)[np.concatenate(paths) == state]
    frames = frames[~np.isnan(frames).all(axis=1)]
    errors = (frames - _mean_and_deviation(frames)[0]) ** 2
    order = np.argsort(_mean_and_deviation(errors.T)[0], kind="stable")
    places = np.linspace(0, len(frames) - 1, min(num_frames, len(frames))).round()
    return frames[order[places.astype(int)]]


def _probable(probs: np.ndarray, path: np.ndarray, ranks: dict[int, int]) -> list[int]:
    """States that are probable at a frame or on the path, in the order of ranks."""
    probable = np.flatnonzero(probs.max(axis=0) >= PROBABLE).tolist()
    return [state for state in ranks if state in {*probable, *path.tolist()}]


def _ranks_of_labels(
    labels: np.ndarray, path: np.ndarray, ranks: dict[int, int]
) -> dict[int, int]:
    """Rank of each label: that of its state, or one that no state on the path has."""
    found = {
        label: ranks[state]
        for state, label in metrics.align_states(labels, path).items()
    }
    others = sorted(set(labels[labels >= 0].tolist()) - set(found))
    taken = {ranks[state] for state in path.tolist()}
    free = (rank for rank in itertools.count() if rank not in taken)
    return found | dict(zip(others, free, strict=False))


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


def _rows_of_images(
    means: list[np.ndarray],
    chosen: list[np.ndarray],
    used: list[segments.Usage],
    ranks: dict[int, int],
    shape: tuple[int, int],
) -> "Figure":
    """Show a row of tiles for each state: its mean, then examples."""
    columns = 1 + max(map(len, chosen))
    tiles = np.full((len(used), columns, len(means[0])), np.nan)
    for row, mean, frames in zip(tiles, means, chosen, strict=True):
        row[0], row[1 : 1 + len(frames)] = mean, frames
    images = tiles.reshape(*tiles.shape[:2], *shape)
    height = len(used) * shape[0] / (columns * shape[1])
    figure = drawing.new_figure(10.0, min(1.0 + 8.5 * height, 16.0))
    ax = figure.subplots()
    image = drawing.mosaic(ax, images, (0.0, columns, len(used), 0.0))
    figure.colorbar(image, ax=[ax], pad=0.02, label="value")
    ax.axvline(1.0, color="white", linewidth=5)
    labels = [f"{each.state} ({100 * each.share:.0f} %)" for each in used]
    ax.set_yticks(np.arange(len(used)) + 0.5, labels)
    for tick, each in zip(ax.get_yticklabels(), used, strict=True):
        tick.set(color=drawing.color_of(ranks[each.state]), fontweight="bold")
    ax.set_xticks([0.5, 0.5 * (1 + columns)], ["mean", "examples"])
    ax.tick_params(length=0)
    ax.set(title="frames of each state", ylabel="state (share of the frames)")
    return figure


def _curves(
    means: list[np.ndarray],
    chosen: list[np.ndarray],
    used: list[segments.Usage],
    ranks: dict[int, int],
) -> "Figure":
    """Show a panel for each state: its mean over examples, as curves of channels."""
    figure, panels = _panels(used)
    for ax, each, mean, frames in zip(panels, used, means, chosen, strict=True):
        ax.plot(frames.T, color="0.6", linewidth=0.6)
        ax.plot(mean, color=drawing.color_of(ranks[each.state]), linewidth=2.0)
    figure.supxlabel("channel")
    figure.supylabel("value")
    return figure


def _courses(
    sequences: list[np.ndarray],
    paths: list[np.ndarray],
    used: list[segments.Usage],
    ranks: dict[int, int],
) -> "Figure":
    """Show a panel for each state: the average course of its bouts."""
    figure, panels = _panels(used)
    images = []
    for ax, each in zip(panels, used, strict=True):
        after = max(2, round(each.median_duration))
        before = max(1, after // 4)
        aligned = _aligned(sequences, paths, each.state, before, after)
        mean, deviation = _mean_and_deviation(aligned)
        if mean.shape[1] <= drawing.FEW:
            drawing.bands(ax, np.arange(-before, after), mean, deviation)
        else:
            images.append(drawing.image(ax, mean, -before, (0.0, 1.0)))
        ax.axvline(-0.5, color="#D55E00", linewidth=1.5)
        ax.set_xlim(-before - 0.5, after - 0.5)
    if images:
        shown = [image.get_array().compressed() for image in images]
        limits = drawing.observed_limits(np.concatenate(shown))
        for image in images:
            image.set_clim(*limits)
        figure.colorbar(images[0], ax=panels, label="value", pad=0.02)
    figure.supxlabel("frames from the onset")
    figure.supylabel("channel" if images else "mean $\\pm$ standard deviation")
    return figure


def _panels(used: list[segments.Usage]) -> "tuple[Figure, list[Axes]]":
    """Return a figure with a panel for each state, under its name and share."""
    columns = min(len(used), 4)
    rows = -(-len(used) // columns)
    figure = drawing.new_figure(1.0 + 2.6 * max(columns, 2), 0.8 + 2.2 * rows)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel().tolist()
    for ax in panels[len(used) :]:
        ax.remove()
    for ax, each in zip(panels, used, strict=False):
        ax.set_title(
            f"state {each.state} ({100 * each.share:.0f} %)", fontsize="medium"
        )
    return figure, panels[: len(used)]


def _aligned(
    sequences: list[np.ndarray],
    paths: list[np.ndarray],
    state: int,
    before: int,
    after: int,
) -> np.ndarray:
    """Frames (B, before + after, P) around the onsets of a state's bouts.

    NaN before a sequence begins, and after a bout ends.
    """
    courses = []
    for sequence, path in zip(sequences, paths, strict=True):
        for other, onset, duration in zip(*segments.bouts(path), strict=True):
            if other == state:
                first, last = max(0, onset - before), onset + min(after, duration)
                course = np.full((before + after, sequence.shape[1]), np.nan)
                start = first - onset + before
                course[start : start + last - first] = sequence[first:last]
                courses.append(course)
    return np.stack(courses)
