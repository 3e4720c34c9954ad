"""Figures of frames: of a plane in latent space, and of each discrete state."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from svae import data as data_
from svae.families import product
from svae.metrics import bouts as segments
from svae.models.base import draw_latents
from svae.plot import drawing
from svae.plot import states as visible
from svae.plot.directions import Directions, directions_of
from svae.types import Rng

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["manifold", "onsets", "state_frames"]

LONGEST = 200
"""Frames of a bout that are shown at most."""

Undo = Callable[[np.ndarray], np.ndarray]


def manifold(
    model: Any,
    shape: tuple[int, int],
    data: Any = None,
    axes: tuple[int, int] | None = None,
    grid: int = 9,
    center: Any = None,
    undo: Undo | None = None,
    rng: Rng = 0,
    label: str = "value",
) -> "Figure":
    """Show the images that the decoder makes of latents, and how they change with x.

    Left, the means of the frames at the points of a plane in latent space, each a tile
    around its point.  Then, where the data are in that plane: their posterior means,
    coloured by most likely state.  The plane has -2 to 2 standard deviations of the
    aggregate posterior along its first two principal directions, as
    `svae.plot.directions` finds them; without data, of draws from the model (theta from
    q(theta), then x).  If there are more dimensions than two, a last panel has a row of
    images for each of the first directions, everything else at the mean.

    Parameters
    ----------
    model : SVAE
        Fitted, with two latent dimensions or more.
    shape : (rows, columns)
        Of the image that a frame is, row by row.
    data : (T, P), (N, T, P) or list of (T_n, P) arrays, optional
    axes : (int, int), optional
        Coordinates of x, from 0, to show instead of principal directions, along 95 % of
        the posterior means, or draws: to the right and upwards.
    grid : int
        Points along each axis, two or more.
    center : (D,) array, optional
        The point from which the plane goes out.  Default: the mean of the aggregate
        posterior; with ``axes``, of the posterior means, or of the draws.
    undo : callable, optional
        Brings frames (..., P) to the units they are shown in.
    rng : int or numpy.random.Generator
        Of draws from the model.
    label : str
        What the values are, for the color bar.

    Returns
    -------
    matplotlib.figure.Figure
        Axes for the images, then for the posterior means if there are data, then for
        the directions if there are more than two.

    Raises
    ------
    ValueError
        If a frame has not ``rows * columns`` values, ``axes`` are no two coordinates of
        x, or ``center`` or ``grid`` has a wrong size.
    """
    _check_shape(shape, model.obs_dim_)
    _check_plane(model.latent.latent_dim, axes, grid, center)
    if data is None:
        samples, labels = _drawn(model, rng), None
        means = samples
    else:
        means, samples, labels = _inferred(model, data)
    plane = _plane_of(model, means, samples, axes, center)

    def decoded(points: np.ndarray) -> np.ndarray:
        frames = model.decode(points)[0]
        return (undo(frames) if undo else frames).reshape(*points.shape[:-1], *shape)

    across, up = np.linspace(plane.low, plane.high, grid).T
    coordinates = np.stack(np.meshgrid(across, up[::-1]), axis=-1)
    images = decoded(plane.points(coordinates))
    # tiles reach half a step beyond the points in their centers
    half = (plane.high - plane.low) / (2 * (grid - 1))
    (left, bottom), (right, top) = plane.low - half, plane.high + half
    rows = None
    if plane.directions is not None and len(plane.directions.steps) > 2:
        steps = np.linspace(-2.0, 2.0, grid)
        shown = min(len(plane.directions.steps), grid)
        along = np.eye(shown)[:, None] * steps[:, None]  # (R, grid, R)
        rows = decoded(plane.directions.points(along))
    pooled = images if rows is None else np.concatenate([images, rows])
    limits = drawing.image_limits(pooled)

    columns = 1 + (labels is not None) + (rows is not None)
    figure = drawing.new_figure({1: 6.8, 2: 12.0, 3: 17.5}[columns], 5.8)
    panels = list(figure.subplots(1, columns, squeeze=False)[0])
    drawing.mosaic(panels[0], images, (left, right, bottom, top), limits, label)
    panels[0].set_title("images decoded on a plane of $x$")
    for ax in panels[: 1 + (labels is not None)]:
        ax.set(xlim=(left, right), ylim=(bottom, top))
        ax.set(xlabel=plane.names[0], ylabel=plane.names[1])
    if labels is not None:
        ranks = {k: r for k, r in visible.ranks_of(model).items() if k in labels}
        places = plane.coordinates(means)
        for k, rank in ranks.items():
            drawing.cloud(panels[1], places[labels == k], rank, 6)
        if hasattr(model.latent, "num_states"):
            drawing.legend(figure, ranks, "state")
        panels[1].set(title="where the frames are: posterior means of $x$")
        panels[1].set_box_aspect(panels[0].get_box_aspect())
        if axes is None:  # frames beyond the plane are shown as well
            drawing.outline(panels[1], (left, right), (bottom, top))
            reach = 1.05 * max(right, float(np.quantile(np.abs(places), 0.995)))
            panels[1].set(xlim=(-reach, reach), ylim=(-reach, reach))
    if rows is not None:
        _show_directions(panels[-1], rows, limits)
    return figure


def _check_plane(
    dim: int, axes: tuple[int, int] | None, grid: int, center: Any
) -> None:
    """Raise ValueError unless there is such a plane in D dimensions."""
    if dim < 2:
        raise ValueError("manifold: the latent space needs two dimensions or more")
    if axes is not None and (len({*axes}) != 2 or not {*axes} <= {*range(dim)}):
        raise ValueError(f"axes must be two of 0..{dim - 1}, got {axes}")
    if grid < 2:
        raise ValueError(f"grid must be 2 or more, got {grid}")
    if center is not None and np.shape(center) != (dim,):
        raise ValueError(f"center has shape {np.shape(center)}, expected ({dim},)")


class _Plane(NamedTuple):
    """A plane in latent space, and which part of it is shown."""

    origin: np.ndarray
    """(D,)"""
    steps: np.ndarray
    """(2, D), which way a step of 1 along each axis goes."""
    inverse: np.ndarray
    """(D, 2), so that coordinates are ``(x - zero) @ inverse``."""
    zero: np.ndarray
    """(D,), where coordinates are 0."""
    low: np.ndarray
    high: np.ndarray
    names: tuple[str, str]
    directions: Directions | None = None

    def points(self, coordinates: np.ndarray) -> np.ndarray:
        """Return the points (..., D) at coordinates (..., 2)."""
        return np.asarray(self.origin + coordinates @ self.steps)

    def coordinates(self, latents: np.ndarray) -> np.ndarray:
        """Return the coordinates (T, 2) of latents (T, D)."""
        return np.asarray((latents - self.zero) @ self.inverse)


def _plane_of(
    model: Any,
    means: np.ndarray,
    samples: np.ndarray,
    axes: tuple[int, int] | None,
    center: Any,
) -> _Plane:
    """Return the plane of two coordinates, or of the first two directions."""
    dim = means.shape[1]
    if axes is not None:
        steps, zero = np.eye(dim)[list(axes)], np.zeros(dim)
        origin = np.array(means.mean(axis=0) if center is None else center, float)
        origin[list(axes)] = 0.0
        low, high = _span(means[:, list(axes)])
        first, second = (f"$x_{{{axis + 1}}}$" for axis in axes)
        return _Plane(origin, steps, steps.T, zero, low, high, (first, second))
    directions = directions_of(
        model, samples, None if center is None else np.asarray(center, float)
    )
    steps, inverse = np.zeros((2, dim)), np.zeros((dim, 2))
    steps[: len(directions.steps)] = directions.steps[:2]
    inverse[:, : len(directions.steps)] = directions.inverse[:, :2]
    reach = np.full(2, 2.0)
    return _Plane(
        directions.center,
        steps,
        inverse,
        directions.center,
        -reach,
        reach,
        ("direction 1 (standard deviations)", "direction 2 (standard deviations)"),
        directions,
    )


def _show_directions(
    ax: "Axes", images: np.ndarray, limits: tuple[float, float]
) -> None:
    """Show a row of images (R, C, height, width) for each direction, from -2 to 2."""
    rows, columns = images.shape[:2]
    half = 2.0 / (columns - 1)
    extent = (-2 - half, 2 + half, rows + 0.5, 0.5)
    drawing.mosaic(ax, images, extent, limits, None)
    ax.set_yticks(np.arange(1, rows + 1))
    ax.set_xticks(np.arange(-2, 3))
    ax.tick_params(length=0)
    ax.set(title="images along each principal direction of $x$")
    ax.set(xlabel="standard deviations from the mean", ylabel="direction")


def state_frames(
    model: Any,
    data: Any,
    shape: tuple[int, int] | None = None,
    num_frames: int = 8,
    undo: Undo | None = None,
    label: str = "value",
) -> "Figure":
    """Show what frames of each discrete state are like, the most frequent one first.

    Of images, each state in use has a row: the mean of its frames, then examples.  They
    are spread evenly over its longest bout or, where rows are independent, from the
    frame nearest to the mean to the farthest.  Frames with missing pixels are no
    examples as long as the state has others.

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
    label : str
        What the values are, for color bars.

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
        return _courses(courses, bouts, names, label)

    means, examples = [], []
    for each in used:
        frames = _frames_in(sequences, paths, each)
        means.append(_mean_and_deviation(frames)[0])
        if model.latent.independent:
            frames = _from_the_mean(_complete(frames), means[-1])
        else:
            bout = _complete(_longest_bout(sequences, paths, each))
            frames = bout if len(bout) else _complete(frames)
        examples.append(_spread(frames, num_frames))
    if shape is None:
        return _curves(means, examples, names, colors, label)
    return _rows_of_images(means, examples, shape, names, colors, label)


def onsets(
    model: Any,
    data: Any,
    shape: tuple[int, int],
    num_examples: int = 2,
    num_frames: int = 7,
    undo: Undo | None = None,
    label: str = "value",
) -> "Figure":
    """Show how each discrete state begins: frames before and after its onset.

    Each state in use has a row, the most frequent one first, with examples side by
    side: bouts of the most typical duration, a different one each, with few missing
    frames around their onset.  A bar above a tile has the colour of the state that its
    frame is in.  The times are those of all rows, and reach as far as most bouts.

    Parameters
    ----------
    model : SVAE
        Fitted, with a `svae.HMM` or `svae.SLDS` latent model.
    data : (T, P), (N, T, P) or list of (T_n, P) arrays
        States in use are those of at least 1 % of these frames.
    shape : (rows, columns)
        Of the image that a frame is, row by row.
    num_examples, num_frames : int
        Examples of each state, and frames of each of these.
    undo : callable, optional
        Brings frames (..., P) to the units they are shown in.
    label : str
        What the values are, for the color bar.

    Returns
    -------
    matplotlib.figure.Figure
        One axes.

    Raises
    ------
    TypeError
        If the states of the latent model are no Markov chain.
    ValueError
        If a frame has not ``rows * columns`` values, or there are to be no examples or
        fewer than two frames.
    """
    if "transitions" not in model.latent.family:
        raise TypeError(f"onsets: {visible.name_of(model)} has no bouts of states")
    if num_examples < 1 or num_frames < 2:
        raise ValueError(
            "onsets: num_examples must be 1 or more and num_frames 2 or more, got "
            f"{num_examples} and {num_frames}"
        )
    sequences = [np.asarray(each) for each in data_.as_sequences(data)]
    _check_shape(shape, sequences[0].shape[1])
    paths, ranks = model.predict(sequences), visible.ranks_of(model)
    used = [each for each in segments.usage(paths) if each.share >= visible.IN_USE]
    times = _times_around(used, num_frames)
    columns = num_examples * num_frames
    tiles = np.full((len(used), columns, sequences[0].shape[1]), np.nan)
    states = np.full((len(used), columns), -1)
    for row, each in enumerate(used):
        chosen = _typical_onsets(sequences, paths, each, times, num_examples)
        for example, (n, onset) in enumerate(chosen):
            steps = onset + times
            there = (steps >= 0) & (steps < len(paths[n]))
            places = example * num_frames + np.flatnonzero(there)
            tiles[row, places] = sequences[n][steps[there]]
            states[row, places] = paths[n][steps[there]]
    if undo is not None:
        tiles = undo(tiles)
    return _rows_of_onsets(tiles, states, shape, used, times, ranks, label)


def _times_around(used: list[segments.Usage], num_frames: int) -> np.ndarray:
    """Return frames (num_frames,) around an onset at 0, evenly spaced."""
    before = 1 if num_frames < 6 else 2
    typical = np.median([each.median_duration for each in used])
    step = max(1, round(float(typical) / (num_frames - before - 1)))
    return step * (np.arange(num_frames) - before)


def _typical_onsets(
    sequences: list[np.ndarray],
    paths: list[np.ndarray],
    usage: segments.Usage,
    times: np.ndarray,
    number: int,
) -> list[tuple[int, int]]:
    """Return sequence and onset of so many bouts of a state, or of all there are.

    Those come first around which least is missing, and of these the ones whose duration
    is nearest to the median.
    """
    found = []
    for n, (sequence, path) in enumerate(zip(sequences, paths, strict=True)):
        for state, onset, duration in zip(*segments.bouts(path), strict=True):
            if state == usage.state:
                steps = onset + times
                there = steps[(steps >= 0) & (steps < len(path))]
                present = 1 - np.isnan(sequence[there]).mean(axis=1)
                # whole frames count, not the odd pixel
                missing = round(len(times) - float(present.sum()))
                unlike = abs(float(duration) - usage.median_duration)
                found.append((missing, unlike, n, int(onset)))
    return [(n, onset) for *_, n, onset in sorted(found)[:number]]


def _rows_of_onsets(
    tiles: np.ndarray,
    states: np.ndarray,
    shape: tuple[int, int],
    used: list[segments.Usage],
    times: np.ndarray,
    ranks: dict[int, int],
    label: str,
) -> "Figure":
    """Show rows of tiles (R, C, P), and of the states (R, C) that they are in."""
    num_rows, columns = states.shape
    aspect = num_rows * shape[0] / (columns * shape[1])
    width = min(12.0, 16.0 / aspect)
    # with room to spare at the sides, where the names and the color bar are
    figure = drawing.new_figure(width + 4.2, width * aspect + 1.0)
    ax = figure.subplots()
    images = tiles.reshape(num_rows, columns, *shape)
    drawing.mosaic(ax, images, (0.0, columns, num_rows, 0.0), label=label)
    for (row, column), state in np.ndenumerate(states):
        if state >= 0:
            color = drawing.color_of(ranks[int(state)])
            bar: dict[str, Any] = {
                "color": color,
                "linewidth": 3.5,
                "solid_capstyle": "butt",
            }
            ax.plot([column, column + 1], [row + 0.04] * 2, **bar)
    for first in range(0, columns, len(times)):
        onset = first + np.flatnonzero(times == 0)[0]
        ax.axvline(onset, color="white", linewidth=2.5)
        if first:
            ax.axvline(first, color="white", linewidth=9)
    names = [
        f"{each.state}  ({100 * each.share:.0f} %, {each.num_bouts} bouts of "
        f"{each.median_duration:g})"
        for each in used
    ]
    ax.set_yticks(np.arange(num_rows) + 0.5, names)
    for tick, each in zip(ax.get_yticklabels(), used, strict=True):
        tick.set(color=drawing.color_of(ranks[each.state]), fontweight="bold")
    ticks = [str(time) for time in times.tolist()] * (columns // len(times))
    ax.set_xticks(np.arange(columns) + 0.5, ticks)
    ax.tick_params(length=0)
    ax.set(xlim=(0, columns), ylim=(num_rows, 0))
    title = "how each state begins: frames around the onsets of typical bouts"
    ax.set_title(f"{title}\n(share of the frames; bouts, and their median duration)")
    ax.set_xlabel("frames from the onset; a bar has the colour of the frame's state")
    ax.set_ylabel("state")
    return figure


def _check_shape(shape: tuple[int, int], obs_dim: int) -> None:
    if len(shape) != 2 or shape[0] * shape[1] != obs_dim:
        raise ValueError(f"shape is {tuple(shape)}, frames have {obs_dim} values")


def _drawn(model: Any, rng: Rng, times: int = 50, num_steps: int = 40) -> np.ndarray:
    """Draw x (times * num_steps, D) from the model, theta each time from q(theta)."""
    latent, rng = model.latent, np.random.default_rng(rng)
    thetas = (
        product.sample(latent.family, model.parameters_.natparams, rng)
        for _ in range(times)
    )
    drawn = [draw_latents(latent, theta, num_steps, rng).latents for theta in thetas]
    return np.concatenate(drawn).reshape(times * num_steps, -1)


def _inferred(model: Any, data: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Posterior means and samples (T, D), and most likely states (T,), of all rows."""
    posteriors = model.infer(data_.as_sequences(data), num_samples=1, rng=0)
    labels = [visible.labels_of(posterior) for posterior in posteriors]
    means = [posterior.mean for posterior in posteriors]
    covs = np.concatenate([posterior.cov for posterior in posteriors])
    pooled = np.concatenate(means)
    noise = np.random.default_rng(0).standard_normal(pooled.shape)
    samples = pooled + np.einsum("tij,tj->ti", np.linalg.cholesky(covs), noise)
    return pooled, samples, np.concatenate(labels)


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


def _complete(frames: np.ndarray) -> np.ndarray:
    """Return the frames without missing values; if there is none, with any value."""
    missing = np.isnan(frames)
    complete = frames[~missing.any(axis=1)]
    return complete if len(complete) else frames[~missing.all(axis=1)]


def _spread(frames: np.ndarray, number: int) -> np.ndarray:
    """Return so many of the frames, or all, spread evenly from first to last."""
    number = min(number, len(frames))
    return frames[np.linspace(0, len(frames) - 1, number).round().astype(int)]


def _longest_bout(
    sequences: list[np.ndarray], paths: list[np.ndarray], usage: segments.Usage
) -> np.ndarray:
    """Return the frames (T, P) of the first of the longest bouts of a state.

    Frames with missing values do not count, as they are no examples, unless there are
    no others.
    """
    longest, most = np.empty((0, sequences[0].shape[1])), (-1, -1)
    for sequence, path in zip(sequences, paths, strict=True):
        missing = np.isnan(sequence)
        whole, there = ~missing.any(axis=1), ~missing.all(axis=1)
        for state, onset, duration in zip(*segments.bouts(path), strict=True):
            own = slice(onset, onset + duration)
            count = int(whole[own].sum()), int(there[own].sum())
            if state == usage.state and count > most:
                longest, most = sequence[own], count
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
    label: str,
) -> "Figure":
    """Show a row of tiles for each state: its mean, then examples."""
    num_rows, columns = len(names), 1 + max(1, *map(len, examples))
    tiles = np.full((num_rows, columns, len(means[0])), np.nan)
    for row, mean, frames in zip(tiles, means, examples, strict=True):
        row[0], row[1 : 1 + len(frames)] = mean, frames
    aspect = num_rows * shape[0] / (columns * shape[1])
    width = min(8.0, 15.0 / aspect)
    figure = drawing.new_figure(width + 2.4, width * aspect + 0.9)
    ax = figure.subplots()
    images = tiles.reshape(num_rows, columns, *shape)
    drawing.mosaic(ax, images, (0.0, columns, num_rows, 0.0), label=label)
    ax.axvline(1.0, color="white", linewidth=5)
    ax.set_yticks(np.arange(num_rows) + 0.5, names)
    for tick, color in zip(ax.get_yticklabels(), colors, strict=True):
        tick.set(color=color, fontweight="bold")
    ax.set_xticks([0.5, 0.5 * (1 + columns)], ["mean", "examples"])
    ax.tick_params(length=0)
    ax.set(title="frames of each state", ylabel="state (share of the frames)")
    return figure


def _curves(
    means: list[np.ndarray],
    examples: list[np.ndarray],
    names: list[str],
    colors: list[str],
    label: str,
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
    figure.supylabel(label, fontsize="medium")
    return figure


def _courses(
    courses: list[np.ndarray], bouts: list[np.ndarray], names: list[str], label: str
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
        figure.colorbar(image, ax=panels.ravel().tolist(), label=label, pad=0.02)
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
