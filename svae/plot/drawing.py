"""What the figures of `svae.plot` are drawn with: colours, images, lines and bands.

Matplotlib is imported where a figure is made, and nowhere else.  Missing values have a
colour of their own, ``MISSING``, and limits come from what is there.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from svae.errors import needing
from svae.metrics.bouts import bouts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLORS",
    "FEW",
    "LINES",
    "MARKERS",
    "MISSING",
    "at_most",
    "bands",
    "cloud",
    "color_of",
    "data_panel",
    "ellipses",
    "image",
    "image_limits",
    "legend",
    "lines",
    "mosaic",
    "new_figure",
    "observed_limits",
    "outline",
    "probabilities",
    "running_limits",
    "state_band",
    "strip_times",
    "tiles_in_strip",
    "view",
]

# Okabe and Ito (2008): told apart with any colour vision.  Their yellow is too light
# for white paper, their black left for text.  Then, one after the other, the colour
# farthest from those before it, to all eyes: differences in Oklab, also as protanopes
# and deuteranopes see them (Machado et al. 2009).
COLORS = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"),
    *("#5A1E00", "#2D0096", "#A50F5A", "#A5F069", "#9669FF", "#5A005A", "#96C396"),
    *("#964B00", "#5A2DC3", "#4B4B87", "#FF4B69", "#96D2FF", "#875A87", "#005A5A"),
)
MARKERS = ("o", "^", "s", "D", "v")
LINES = ("-", "--", ":", "-.")
MISSING = "0.88"
FEW = 4
"""Channels up to which data are lines and not an image."""


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure whose axes make room for each other."""
    with needing("matplotlib", "figures"):
        from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=120)


def color_of(rank: int) -> str:
    """Return the colour of a rank; after 20 they come again."""
    return COLORS[rank % len(COLORS)]


def running_limits(values: np.ndarray) -> tuple[float, float]:
    """Range of all but the twentieth of the values farthest from the last ones."""
    last = np.median(values[-max(1, len(values) // 10) :])
    distance = np.abs(values - last)
    near = values[distance <= np.quantile(distance, 0.95)]
    margin = 0.05 * (near.max() - near.min()) + 1e-3 * abs(last) + 1e-9
    return float(near.min() - margin), float(near.max() + margin)


def observed_limits(frames: np.ndarray) -> tuple[float, float]:
    """Range of what is not missing, (0, 1) if nothing is there."""
    there = frames[~np.isnan(frames)]
    return (float(there.min()), float(there.max())) if there.size else (0.0, 1.0)


def data_panel(
    ax: "Axes",
    frames: np.ndarray,
    start: int,
    limits: tuple[float, float],
    label: str = "value",
) -> Any:
    """Show frames (T, P) as an image, or as lines of few channels.

    Returns the image for a color bar, or None.
    """
    if frames.shape[1] > FEW:
        from matplotlib.ticker import MaxNLocator

        ax.set_ylabel("channel")
        ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        return image(ax, frames, start, limits)
    lines(ax, np.arange(start, start + len(frames)), frames)
    margin = 0.05 * (limits[1] - limits[0]) or 1.0
    ax.set(ylabel=label, ylim=(limits[0] - margin, limits[1] + margin))
    return None


def image(
    ax: "Axes",
    frames: np.ndarray,
    start: int,
    limits: tuple[float, float],
    cmap: str = "cividis",
) -> Any:
    """Show frames (T, P), a column each; what is missing is grey."""
    from matplotlib import colormaps

    steps, channels = frames.shape
    extent = (start - 0.5, start + steps - 0.5, channels - 0.5, -0.5)
    return ax.imshow(
        frames.T,
        aspect="auto",
        interpolation="nearest",
        cmap=colormaps[cmap].with_extremes(bad=MISSING),
        extent=extent,
        vmin=limits[0],
        vmax=limits[1],
    )


def mosaic(
    ax: "Axes",
    images: np.ndarray,
    extent: tuple[float, float, float, float],
    limits: tuple[float, float] | None = None,
    label: str | None = "value",
) -> Any:
    """Lay images (R, C, height, width) out in R rows of C tiles; NaN is grey.

    ``extent`` has the coordinates left, right, bottom and top; the first row of tiles
    is at the top.  Pixels are square, and a color bar, with its ``label`` if that is
    not None, is as high as the image.  Returns the image.
    """
    from matplotlib import colormaps

    rows, columns, height, width = images.shape
    left, right, bottom, top = extent
    low, high = image_limits(images) if limits is None else limits
    shown = ax.imshow(
        images.transpose(0, 2, 1, 3).reshape(rows * height, columns * width),
        aspect="auto",
        interpolation="nearest",
        cmap=colormaps["cividis"].with_extremes(bad=MISSING),
        extent=extent,
        vmin=low,
        vmax=high,
    )
    _leave_out(ax, np.isnan(images).all(axis=(2, 3)), extent)
    line: dict[str, Any] = {"color": "white", "linewidth": 0.8}
    ax.vlines(np.linspace(left, right, columns + 1)[1:-1], bottom, top, **line)
    ax.hlines(np.linspace(bottom, top, rows + 1)[1:-1], left, right, **line)
    ax.set_box_aspect(rows * height / (columns * width))
    if label is not None:
        # one inside of the axes follows their box, which has an aspect of its own
        bar = ax.inset_axes((1.02, 0.0, 0.025, 1.0))
        ax.figure.colorbar(shown, cax=bar, label=label)
    return shown


def _leave_out(
    ax: "Axes", absent: np.ndarray, extent: tuple[float, float, float, float]
) -> None:
    """Cover the tiles (R, C) that are absent: grey is for missing pixels of others."""
    from matplotlib.patches import Rectangle

    left, right, bottom, top = extent
    width, height = (right - left) / absent.shape[1], (bottom - top) / absent.shape[0]
    for row, column in np.argwhere(absent):
        corner = left + width * column, top + height * row
        ax.add_patch(Rectangle(corner, width, height, facecolor="white", linewidth=0))


def image_limits(images: np.ndarray) -> tuple[float, float]:
    """Range of all but a thousandth of the pixels at either end, dust for example."""
    there = images[~np.isnan(images)]
    if not there.size:
        return 0.0, 1.0
    low, high = np.quantile(there, [0.001, 0.999])
    return (float(low), float(high)) if high > low else observed_limits(there)


def strip_times(frames: np.ndarray, start: int, number: int) -> np.ndarray:
    """Return the times (number,) of frames (T, P) that a strip shows, evenly spread.

    Each is the one nearest to the middle of its stretch that is not missing, if there
    is one, and rather complete.
    """
    edges = np.linspace(0, len(frames), number + 1)
    missing = np.isnan(frames).mean(axis=1)
    times = []
    for left, right in zip(edges[:-1], edges[1:], strict=True):
        own = np.arange(int(left), max(int(left) + 1, int(right)))
        distance = np.abs(own - (left + right - 1) / 2)
        times.append(own[np.lexsort((distance, missing[own]))[0]])
    return start + np.array(times)


def tiles_in_strip(shape: tuple[int, int], steps: int) -> int:
    """Return how many images of a shape a strip has, each of them large enough."""
    return int(min(steps, np.clip(round(12 * shape[0] / shape[1]), 3, 24)))


def lines(ax: "Axes", times: np.ndarray, frames: np.ndarray) -> None:
    """Show each channel of frames (T, P) as a line, frames without data in grey."""
    for p, channel in enumerate(frames.T):
        line = LINES[p // len(COLORS) % len(LINES)]
        # a value between missing ones is no line: the dots show it
        alone = ~np.isnan(channel) & ~_beside(~np.isnan(channel))
        ax.plot(times, channel, line, color=color_of(p), linewidth=1.0)
        if alone.any():
            ax.plot(times[alone], channel[alone], ".", color=color_of(p), markersize=3)
    for absent, onset, duration in zip(*bouts(np.isnan(frames).all(1)), strict=True):
        if absent:
            left = times[onset] - 0.5
            ax.axvspan(left, left + duration, color=MISSING, linewidth=0, zorder=0)


def bands(
    ax: "Axes", times: np.ndarray, means: np.ndarray, spreads: np.ndarray
) -> None:
    """Show means (T, D) as lines in bands of ``spreads`` (T, D) to both sides."""
    for d, (mean, spread) in enumerate(zip(means.T, spreads.T, strict=True)):
        color, line = color_of(d), LINES[d // len(COLORS) % len(LINES)]
        ax.fill_between(
            times, mean - spread, mean + spread, color=color, alpha=0.15, linewidth=0
        )
        ax.plot(times, mean, line, color=color, linewidth=1.2)


def at_most(ax: "Axes", low: np.ndarray, high: np.ndarray, times: float = 3.0) -> None:
    """Cut the vertical axis at so many times the range from ``low`` to ``high``."""
    bottom, top = float(low.min()), float(high.max())
    middle, reach = (bottom + top) / 2, times * (top - bottom) / 2 or 1.0
    shown = ax.get_ylim()
    ax.set_ylim(max(shown[0], middle - reach), min(shown[1], middle + reach))


def state_band(
    ax: "Axes",
    path: np.ndarray,
    start: int,
    ranks: dict[int, int],
    title: str,
) -> None:
    """Show a path of states (T,) as a coloured band; a negative one has no colour.

    ``ranks`` gives the rank of each state's colour.  Stretches wide enough for it have
    their state's number.
    """
    from matplotlib.colors import to_rgb

    names = np.unique(path)
    colors = np.ones((int(names.max(initial=0)) + 2, 3))
    for name in names[names >= 0]:
        colors[name] = to_rgb(color_of(ranks[int(name)]))
    colors[-1] = to_rgb(MISSING)  # what an index of -1 finds
    extent = (start - 0.5, start + len(path) - 0.5, 0.0, 1.0)
    ax.imshow(
        colors[np.maximum(path, -1)][None],
        aspect="auto",
        interpolation="nearest",
        extent=extent,
    )
    for state, onset, duration in zip(*bouts(path), strict=True):
        wide = 0.012 * len(str(state)) * len(path)
        if state >= 0 and duration >= wide:
            light = colors[state] @ (0.30, 0.59, 0.11) > 0.55
            ax.text(
                start + onset + (duration - 1) / 2,
                0.5,
                str(state),
                ha="center",
                va="center_baseline",
                fontsize="small",
                color="black" if light else "white",
            )
    ax.set_yticks([])
    ax.set_ylabel(title, rotation=0, ha="right", va="center")


def probabilities(
    ax: "Axes",
    times: np.ndarray,
    probs: np.ndarray,
    ranks: dict[int, int],
    shown: Sequence[int],
) -> None:
    """Stack the probabilities (T, K) of the states ``shown``, the others in grey."""
    edges = np.append(times - 0.5, times[-1] + 0.5)
    lower = np.zeros(len(times))
    for state in shown:
        upper = lower + probs[:, state]
        # edges of one step meet where neither is smoothed
        ax.stairs(
            upper,
            edges,
            baseline=lower,
            fill=True,
            color=color_of(ranks[state]),
            antialiased=False,
        )
        lower = upper
    if np.any(lower < 1 - 1e-3):
        ax.stairs(np.ones(len(times)), edges, baseline=lower, fill=True, color=MISSING)
    ax.set(ylim=(0, 1), yticks=[0, 0.5, 1], ylabel="probability")


def legend(figure: "Figure", ranks: dict[int, int], title: str) -> None:
    """Name the colours of states, right of all axes."""
    from matplotlib.patches import Patch

    handles = [
        Patch(color=color_of(rank), label=str(state)) for state, rank in ranks.items()
    ]
    figure.legend(
        handles=handles,
        title=title,
        loc="outside right center",
        frameon=False,
        ncols=1 + (len(handles) - 1) // 16,
        handlelength=1.0,
    )


def cloud(
    ax: "Axes", points: np.ndarray, rank: int, size: float, **options: Any
) -> None:
    """Scatter the first two columns of points in the colour and marker of a rank."""
    marker = MARKERS[rank // len(COLORS) % len(MARKERS)]
    options = {"edgecolors": "none", "marker": marker, "s": size, **options}
    ax.scatter(*points[:, :2].T, color=color_of(rank), **options)


def ellipses(ax: "Axes", mean: np.ndarray, cov: np.ndarray, rank: int) -> None:
    """Outline one and two standard deviations of a Gaussian in the plane."""
    angles = np.linspace(0, 2 * np.pi, 100)
    circle = np.stack([np.cos(angles), np.sin(angles)])
    outline = np.linalg.cholesky(cov) @ circle
    for radius, width in ((1, 1.6), (2, 0.8)):
        x, y = mean[:, None] + radius * outline
        ax.plot(x, y, color=color_of(rank), linewidth=width)


def outline(ax: "Axes", across: tuple[float, float], up: tuple[float, float]) -> None:
    """Outline the rectangle of which another panel shows more."""
    from matplotlib.patches import Rectangle

    corner, size = (across[0], up[0]), (across[1] - across[0], up[1] - up[0])
    ax.add_patch(Rectangle(corner, *size, fill=False, edgecolor="0.5", linewidth=1))


def view(ax: "Axes", data: np.ndarray) -> None:
    """Show the data's range and a margin: far draws must not shrink the rest."""
    limits = np.array([observed_limits(column) for column in data[:, :2].T])
    low, high = limits.T
    margin = np.where(high > low, 0.15 * (high - low), 1.0)
    ax.set_xlim(low[0] - margin[0], high[0] + margin[0])
    ax.set_ylim(low[1] - margin[1], high[1] + margin[1])


def _beside(there: np.ndarray) -> np.ndarray:
    """Whether the step before or after is there."""
    padded = np.concatenate([[False], there, [False]])
    return padded[:-2] | padded[2:]
