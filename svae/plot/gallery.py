"""Figures of frames: of a plane in latent space, and of each discrete state."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from svae import data as data_
from svae.families import product
from svae.metrics import bouts as segments
from svae.models.base import draw_latents
from svae.plot import drawing
from svae.plot import states as visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["manifold", "state_frames"]

LONGEST = 200
"""Frames of a bout that are shown at most."""

Undo = Callable[[np.ndarray], np.ndarray]


def manifold(
    model: Any,
    shape: tuple[int, int],
    data: Any = None,
    axes: tuple[int, int] | None = None,
    grid: int = 12,
    center: Any = None,
    undo: Undo | None = None,
    rng: Any = 0,
) -> "Figure":
    """Show the images that the decoder makes of a plane in latent space.

    Left, the means of the frames at the points of a grid, each a tile around its point.
    Right, where the data are in that plane: their posterior means, coloured by most
    likely state.  The plane has 95 % of them along each of its axes; without data, 95 %
    of draws from the model (theta from q(theta), then x).

    Parameters
    ----------
    model : SVAE
        Fitted, with two latent dimensions or more.
    shape : (rows, columns)
        Of the image that a frame is, row by row.
    data : (T, P), (N, T, P) or list of (T_n, P) arrays, optional
    axes : (int, int), optional
        Coordinates of x, from 0, that vary along the plane: to the right and upwards.
        Default: the two in which the posterior means, or draws, vary most.
    grid : int
        Points along each axis, two or more.
    center : (D,) array, optional
        What the other coordinates are.  Default: the mean of the posterior means, or of
        the draws.
    undo : callable, optional
        Brings frames (..., P) to the units they are shown in.
    rng : int or numpy.random.Generator
        Of draws from the model.

    Returns
    -------
    matplotlib.figure.Figure
        Axes for the images and, if there are data, for the posterior means.

    Raises
    ------
    ValueError
        If a frame has not ``rows * columns`` values, ``axes`` are no two coordinates of
        x, or ``center`` or ``grid`` has a wrong size.
    """
    dim = model.latent.latent_dim
    _check_shape(shape, model.obs_dim_)
    if dim < 2:
        raise ValueError("manifold: the latent space needs two dimensions or more")
    if axes is not None and (len({*axes}) != 2 or not {*axes} <= {*range(dim)}):
        raise ValueError(f"axes must be two of 0..{dim - 1}, got {axes}")
    if grid < 2:
        raise ValueError(f"grid must be 2 or more, got {grid}")
    if data is None:
        latents, labels = _drawn(model, rng), None
    else:
        latents, labels = _inferred(model, data)
    center = latents.mean(axis=0) if center is None else np.asarray(center)
    if center.shape != (dim,):
        raise ValueError(f"center has shape {center.shape}, expected ({dim},)")
    chosen = _widest(latents) if axes is None else list(axes)
    low, high = _span(latents[:, chosen])

    across, up = np.linspace(low, high, grid).T
    points = np.tile(center, (grid, grid, 1))
    points[..., chosen[0]], points[..., chosen[1]] = across, up[::-1, None]
    frames = model.decode(points)[0]
    images = (undo(frames) if undo else frames).reshape(grid, grid, *shape)
    # tiles reach half a step beyond the points in their centers
    half = (high - low) / (2 * (grid - 1))
    (left, bottom), (right, top) = low - half, high + half

    figure = drawing.new_figure(6.8 if labels is None else 12.0, 5.6)
    panels = figure.subplots(1, 1 if labels is None else 2, squeeze=False)[0]
    drawing.mosaic(panels[0], images, (left, right, bottom, top))
    panels[0].set_title("frames decoded on a grid of $x$")
    if labels is not None:
        ranks = {k: r for k, r in visible.ranks_of(model).items() if k in labels}
        for k, rank in ranks.items():
            drawing.cloud(panels[1], latents[labels == k][:, chosen], rank, 6)
        if hasattr(model.latent, "num_states"):
            drawing.legend(figure, ranks, "state")
        panels[1].set(title="posterior means of $x$")
        panels[1].set_box_aspect(panels[0].get_box_aspect())
    for ax in panels:
        ax.set(xlim=(left, right), ylim=(bottom, top))
        ax.set(xlabel=f"$x_{{{chosen[0] + 1}}}$", ylabel=f"$x_{{{chosen[1] + 1}}}$")
    return figure


def state_frames(
    model: Any,
    data: Any,
    shape: tuple[int, int] | None = None,
    num_frames: int = 8,
    undo: Undo | None = None,
) -> "Figure":
    """Show what frames of each discrete state are like, the most frequent one first.

    Of images, each state in use has a row: the mean of its frames, then examples.  They
    are spread evenly over its longest bout or, where rows are independent, from the
    frame nearest to the mean to the farthest.

    Of other frames where rows are independent, each state has a panel: the mean over
    examples, as curves over the channels.  Of a chain, it has two.  Left, the average
    course of a bout: frames after the onset as long as the bout lasts, and some before
    it; with bands of one standard deviation if there are few channels.  Right, its
    longest bout, of 200 frames at most.

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
        Of images, one axes; else one or two for each state, then, of courses of many
        channels, the color bar.

    Raises
    ------
    TypeError
        If the model has no discrete states.
    ValueError
        If a frame has not ``rows * columns`` values, or there are to be no examples.
    """
    visible.require_states(model, "state_frames")
    if num_frames < 1:
        raise ValueError(f"num_frames must be 1 or more, got {num_frames}")
    sequences = [np.asarray(each) for each in data_.as_sequences(data)]
    if shape is not None:
        _check_shape(shape, sequences[0].shape[1])
    paths, ranks = model.predict(sequences), visible.ranks_of(model)
    if undo is not None:
        sequences = [undo(sequence) for sequence in sequences]
    used = [each for each in segments.usage(paths) if each.share >= visible.IN_USE]
    names = [f"{each.state} ({100 * each.share:.0f} %)" for each in used]
    colors = [drawing.color_of(ranks[each.state]) for each in used]
    if shape is None and not model.latent.independent:
        courses = [_aligned(sequences, paths, each) for each in used]
        bouts = [_longest_bout(sequences, paths, each)[:LONGEST] for each in used]
        return _courses(courses, bouts, names)

    means, examples = [], []
    for each in used:
        frames = _frames_in(sequences, paths, each)
        means.append(_mean_and_deviation(frames)[0])
        if model.latent.independent:
            frames = _from_the_mean(frames, means[-1])
        else:
            frames = _longest_bout(sequences, paths, each)
        examples.append(_spread(frames, num_frames))
    if shape is None:
        return _curves(means, examples, names, colors)
    return _rows_of_images(means, examples, shape, names, colors)


def _check_shape(shape: tuple[int, int], obs_dim: int) -> None:
    if len(shape) != 2 or shape[0] * shape[1] != obs_dim:
        raise ValueError(f"shape is {tuple(shape)}, frames have {obs_dim} values")


def _drawn(model: Any, rng: Any, times: int = 50, num_steps: int = 40) -> np.ndarray:
    """Draw x (times * num_steps, D) from the model, theta each time from q(theta)."""
    latent, rng = model.latent, np.random.default_rng(rng)
    thetas = (
        product.sample(latent.family, model.parameters_.natparams, rng)
        for _ in range(times)
    )
    drawn = [draw_latents(latent, theta, num_steps, rng).latents for theta in thetas]
    return np.concatenate(drawn).reshape(times * num_steps, -1)


def _inferred(model: Any, data: Any) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means (T, D) and most likely states (T,) of all rows."""
    posteriors = model.infer(data_.as_sequences(data), num_samples=1)
    labels = [visible.labels_of(posterior) for posterior in posteriors]
    means = [posterior.mean for posterior in posteriors]
    return np.concatenate(means), np.concatenate(labels)


def _widest(latents: np.ndarray) -> list[int]:
    """Return the two coordinates that vary most, in their order."""
    low, high = _span(latents)
    order: list[int] = np.argsort(low - high, kind="stable")[:2].tolist()
    return sorted(order)


def _span(latents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Range of 95 % of each coordinate; of 2 where all are the same."""
    low, high = np.quantile(latents, [0.025, 0.975], axis=0)
    none = low == high
    return np.where(none, low - 1, low), np.where(none, high + 1, high)


def _frames_in(
    sequences: list[np.ndarray], paths: list[np.ndarray], usage: segments.Usage
) -> np.ndarray:
    """Return the frames (T, P) of a state."""
    pairs = zip(sequences, paths, strict=True)
    return np.concatenate([frames[path == usage.state] for frames, path in pairs])


def _from_the_mean(frames: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Sort frames by their mean squared distance from the mean where observed."""
    frames = frames[~np.isnan(frames).all(axis=1)]
    distances, _ = _mean_and_deviation(((frames - mean) ** 2).T)
    return frames[np.argsort(distances, kind="stable")]


def _spread(frames: np.ndarray, number: int) -> np.ndarray:
    """Return so many of the frames, or all, spread evenly from first to last."""
    number = min(number, len(frames))
    return frames[np.linspace(0, len(frames) - 1, number).round().astype(int)]


def _longest_bout(
    sequences: list[np.ndarray], paths: list[np.ndarray], usage: segments.Usage
) -> np.ndarray:
    """Return the frames (T, P) of the first of the longest bouts of a state."""
    longest = np.empty((0, sequences[0].shape[1]))
    for sequence, path in zip(sequences, paths, strict=True):
        for state, onset, duration in zip(*segments.bouts(path), strict=True):
            if state == usage.state and duration > len(longest):
                longest = sequence[onset : onset + duration]
    return longest


def _aligned(
    sequences: list[np.ndarray], paths: list[np.ndarray], usage: segments.Usage
) -> np.ndarray:
    """Return frames (B, T, P) around the onsets of a state's bouts.

    T is a median duration and a quarter of it before the onset.  NaN before a sequence
    begins, and after a bout ends.
    """
    after = max(1, round(usage.median_duration))
    before = max(1, after // 4)
    courses = []
    for sequence, path in zip(sequences, paths, strict=True):
        for state, onset, duration in zip(*segments.bouts(path), strict=True):
            if state == usage.state:
                first, last = max(0, onset - before), onset + min(after, duration)
                course = np.full((before + after, sequence.shape[1]), np.nan)
                start = first - onset + before
                course[start : start + last - first] = sequence[first:last]
                courses.append(course)
    return np.stack(courses)


def _before(courses: np.ndarray) -> int:
    """Return how many frames before the onset `_aligned` has kept."""
    return max(1, courses.shape[1] // 5)


def _mean_and_deviation(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over the first axis, NaN where nothing is there."""
    there = ~np.isnan(frames)
    count = np.where(there.any(axis=0), there.sum(axis=0), np.nan)
    mean = np.where(there, frames, 0.0).sum(axis=0) / count
    squares = np.where(there, (frames - mean) ** 2, 0.0).sum(axis=0)
    return mean, np.sqrt(squares / count)


def _rows_of_images(
    means: list[np.ndarray],
    examples: list[np.ndarray],
    shape: tuple[int, int],
    names: list[str],
    colors: list[str],
) -> "Figure":
    """Show a row of tiles for each state: its mean, then examples."""
    num_rows, columns = len(names), 1 + max(map(len, examples))
    tiles = np.full((num_rows, columns, len(means[0])), np.nan)
    for row, mean, frames in zip(tiles, means, examples, strict=True):
        row[0], row[1 : 1 + len(frames)] = mean, frames
    aspect = num_rows * shape[0] / (columns * shape[1])
    width = min(8.0, 15.0 / aspect)
    figure = drawing.new_figure(width + 2.4, width * aspect + 0.9)
    ax = figure.subplots()
    images = tiles.reshape(num_rows, columns, *shape)
    drawing.mosaic(ax, images, (0.0, columns, num_rows, 0.0))
    ax.axvline(1.0, color="white", linewidth=5)
    ax.set_yticks(np.arange(num_rows) + 0.5, names)
    for label, color in zip(ax.get_yticklabels(), colors, strict=True):
        label.set(color=color, fontweight="bold")
    ax.set_xticks([0.5, 0.5 * (1 + columns)], ["mean", "examples"])
    ax.tick_params(length=0)
    ax.set(title="frames of each state", ylabel="state (share of the frames)")
    return figure


def _curves(
    means: list[np.ndarray],
    examples: list[np.ndarray],
    names: list[str],
    colors: list[str],
) -> "Figure":
    """Show a panel for each state: its mean over examples, as curves of channels."""
    columns = min(len(names), 4)
    num_rows = -(-len(names) // columns)
    figure = drawing.new_figure(1.0 + 2.5 * max(columns, 2), 0.8 + 2.0 * num_rows)
    panels = figure.subplots(num_rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax in panels.ravel()[len(names) :]:
        ax.remove()
    for ax, name, mean, frames, color in zip(
        panels.ravel(), names, means, examples, colors, strict=False
    ):
        ax.plot(frames.T, color="0.6", linewidth=0.6)
        ax.plot(mean, color=color, linewidth=2.0)
        ax.set_title(f"state {name}")
    figure.supxlabel("channel", fontsize="medium")
    figure.supylabel("value", fontsize="medium")
    return figure


def _courses(
    courses: list[np.ndarray], bouts: list[np.ndarray], names: list[str]
) -> "Figure":
    """Show two panels for each state: its average bout, and its longest."""
    from matplotlib.ticker import MaxNLocator

    figure = drawing.new_figure(10.0, 0.8 + 1.6 * len(names))
    panels = figure.subplots(
        len(names), 2, sharex="col", sharey=True, squeeze=False, width_ratios=[1, 1.5]
    )
    limits = drawing.observed_limits(np.concatenate(bouts))
    image = None
    for (left, right), course, bout, name in zip(
        panels, courses, bouts, names, strict=True
    ):
        image = drawing.data_panel(right, bout, 0, limits)
        _average(left, course, limits)
        right.set_ylabel("")
        bouts_of_it = "1 bout" if len(course) == 1 else f"{len(course)} bouts"
        left.set_title(f"state {name}: mean of {bouts_of_it}")
        right.set_title("its longest bout")
    # an image sets the limits of all that share its axis
    before = max(_before(course) for course in courses)
    after = max(course.shape[1] - _before(course) for course in courses)
    panels[0, 0].set_xlim(-before - 0.5, after - 0.5)
    panels[0, 1].set_xlim(-0.5, max(map(len, bouts)) - 0.5)
    for ax in panels[-1]:
        ax.set_xlabel("frames from the onset")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if image is not None:
        figure.colorbar(image, ax=panels.ravel().tolist(), label="value", pad=0.02)
    return figure


def _average(ax: "Axes", courses: np.ndarray, limits: tuple[float, float]) -> None:
    """Show the mean of courses (B, T, P) and mark the onset."""
    (mean, deviation), before = _mean_and_deviation(courses), _before(courses)
    if mean.shape[1] <= drawing.FEW:
        drawing.bands(ax, np.arange(len(mean)) - before, mean, deviation)
        ax.set_ylabel("value")
    else:
        drawing.image(ax, mean, -before, limits)
        ax.set_ylabel("channel")
    ax.axvline(-0.5, color="#D55E00", linewidth=1.5)
