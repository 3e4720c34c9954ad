"""The command ``svae fit``: a new run, or one that goes on."""

import argparse
import math
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

import svae
from svae import metrics, plot, store
from svae.cli import ahead, config, output, runs
from svae.cli.output import Say
from svae.cli.settings import (
    build_model,
    choose_settings,
    defaults,
    fit_words,
    refuse,
    scaling_for,
    with_earlier,
)
from svae.plot.charts import PARTS
from svae.training.checkpoint import FINISHED, MODEL, content
from svae.training.lock import locked

__all__ = ["fit"]

SMALLEST_IMAGE = 8


def fit(options: argparse.Namespace) -> int:
    """Fit a model or go on with one, fill the run's folder and say how it went."""
    say = output.speaker(options)
    folder, record = resumed(options) if options.resume else new(options)
    settings, is_resumed = record["settings"], options.resume is not None
    model = build_model(record["model"], settings)
    origin = None
    if "start_from" in settings:
        origin = runs.Run.load(settings["start_from"])
    given = not is_resumed or options.data is not None
    if not is_resumed:
        settings.setdefault("frame_shape", "auto")
    if given:
        read = runs.open_data(record["data"], runs.frame_shape_in(record))
    else:
        read = runs.read_own(folder, record)
    sequences = read.sequences
    describe_data(read, say)
    if is_resumed:
        missing, _ = runs.survey(sequences)
        scaling = runs.Scaling.load(folder, record)
    else:
        settings["frame_shape"] = read.frame_shape or "none"
        if read.quantity is not None:
            record["quantity"] = read.quantity
        missing, scaling = choose_scaling(options, settings, read, origin)
    describe_missing(missing, say)
    record["num_frames"] = missing.frames_with_data
    if scaling is not None:
        sequences = scaling.apply(sequences)
        describe_scaling(scaling, settings, say)
    with locked(folder):
        if not is_resumed:
            make_room(folder, options.force)
        write_start(folder, record, scaling)
        return train(options, folder, record, scaling, model, sequences, origin, say)


def choose_scaling(
    options: argparse.Namespace,
    settings: dict[str, Any],
    read: runs.Data,
    origin: runs.Run | None,
) -> tuple[runs.Missing, runs.Scaling | None]:
    """Go through the data; return what is missing, and the scaling of a new run.

    That of the run from which it goes on, if there is one: its networks know no other.
    """
    if origin is not None:
        missing, _ = runs.survey(read.sequences)
        scaling = runs.Scaling.load(origin.folder, origin.record)
        said = origin.record["settings"].get("scaling", "column")
        settings["scaling"] = "none" if scaling is None else said
        return missing, scaling
    kind = scaling_for(options, settings, read.frame_shape is not None)
    settings["scaling"] = kind
    missing, found = runs.survey(read.sequences, kind)
    return missing, None if kind == "none" else found


def write_start(
    folder: Path, record: dict[str, Any], scaling: runs.Scaling | None
) -> None:
    """Write what a run begins with; the record last."""
    if scaling is None:
        (folder / runs.SCALING).unlink(missing_ok=True)
    else:
        scaling.save(folder)
    record["standardize"] = scaling is not None
    store.write_json(folder / runs.RECORD, record)


def train(
    options: argparse.Namespace,
    folder: Path,
    record: dict[str, Any],
    scaling: runs.Scaling | None,
    model: svae.SVAE,
    sequences: list[Any],
    origin: runs.Run | None,
    say: Say,
) -> int:
    """Train the model of a run; add what came of it to the folder, and print it."""
    settings = record["settings"]
    words = fit_words(settings)
    if origin is not None:
        words["start"] = origin.model
    if "held_out" in settings:
        shape = runs.frame_shape_in(record)
        held_out = runs.open_data(settings["held_out"], shape).sequences
        words["held_out"] = held_out if scaling is None else scaling.apply(held_out)
    words["progress"] = output.shows_progress(options)
    words["checkpoint"], words["resume"] = folder, options.resume is not None
    if options.workers is not None:
        # none of this process's threads and locks is copied into the workers
        context = get_context("spawn")
        words["executor"] = partial(ProcessPoolExecutor, options.workers, context)
        words["num_workers"] = options.workers
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "interrupted")
        if isinstance(runs.frame_shape_in(record), tuple):
            # a short video has more pixels than frames, and is not the other way round
            warnings.filterwarnings("ignore", "data: fewer rows")
        model.fit(sequences, **words)
    if model.ended_ == "interrupted":
        print(
            f"svae: interrupted; go on with: svae fit --resume {folder}",
            file=sys.stderr,
        )
        return 130
    shown = runs.excerpt(sequences)
    record["result"] = summarise(model, record["num_frames"], shown)
    store.write_json(folder / runs.RECORD, record)
    describe(record["result"], say)
    if scaling is not None:
        bound = record["result"]["objective"] + scaling.log_density(sequences)
        say(f"bound in the units of the data, as svae score has it: {bound:.4f}")
    if shown is not sequences:
        say(f"states in use, and figures: of the first {sum(map(len, shown))} frames")
    if not options.quiet:
        describe_errors(model, scaling, shown, words.get("held_out"), say)
    if output.can_draw(say):
        undo = None if scaling is None else scaling.undo
        shape = runs.frame_shape_in(record)
        figures = plot.figures(
            model,
            shown,
            shape if isinstance(shape, tuple) else None,
            undo,
            record["num_frames"],
            **runs.words_of_figures(record),
        )
        output.save_figures(folder, figures)
    say(f"written to {folder}")
    return 0


def describe_errors(
    model: svae.SVAE,
    scaling: runs.Scaling | None,
    shown: list[Any],
    held_out: list[Any] | None,
    say: Say,
) -> None:
    """Print errors one step ahead beside baselines, of held-out data if there are.

    Independent points have no next one.
    """
    if model.latent.independent:
        return
    if scaling is None:
        scaling = runs.Scaling(np.zeros(model.obs_dim_), np.ones(model.obs_dim_))
    try:
        line = ahead.errors(model, scaling, held_out or shown, shown)
    except FloatingPointError as error:  # dynamics that grow where data are missing
        line = f"no errors one step ahead: {error}"
    say(line if held_out is None else f"held out, {line}")


def new(options: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """Return the folder of a new run, and the record of how it is made.

    Raises
    ------
    ValueError
        If the folder has a run already.
    """
    settings = choose_settings(options)
    name = f"{options.model}-{runs.name_of(options.data)}"
    folder = Path(options.out or Path("runs", name))
    if "start_from" in settings:
        if folder.resolve() == Path(settings["start_from"]).resolve():
            refuse(options, "start_from", "the new run needs another folder (--out)")
    if folder.is_dir():
        with locked(folder):  # one in which a fit is running is no other's
            if not options.force:
                refuse_another(folder)
    return folder, {
        "model": options.model,
        "data": options.data,
        "settings": settings,
        "standardize": False,
        "versions": store.versions(),
    }


def refuse_another(folder: Path) -> None:
    """Raise ValueError if a folder has a fit: its work would be lost."""
    found = content(folder)
    if found is None:
        return
    more = " --num-steps N" if found == FINISHED else ""
    going_on = f"go on with `svae fit --resume {folder}{more}`, "
    raise ValueError(
        f"{folder} has {found}: {going_on if found != MODEL else ''}replace it with "
        "--force, or choose another folder with --out"
    )


def make_room(folder: Path, force: bool) -> None:
    """Make sure that a folder has no run, by removing one if that is wanted."""
    store.remove_stale(folder / "figures")
    if force:
        runs.clear(folder)
    refuse_another(folder)


def resumed(options: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """Return the folder of the run to go on with, and its record.

    Only the number of steps may be another; and the place of the data, if they moved.
    """
    folder = Path(options.resume)
    fixed = options.words.keys() - {"model", "data", "num_steps"}
    for word in sorted(fixed | {"config", "out"}):
        if getattr(options, word) is not None:
            refuse(options, word, "that was settled when the fit began")
    if options.force:
        options.usage(
            "argument --force: --resume goes on with a run, and replaces none"
        )
    record = runs.read_record(folder)
    path, name = folder / runs.RECORD, record["model"]
    record["settings"] = config.read(path, options.words, with_earlier)
    for word in ("model", "data"):
        del record["settings"][word]
    lacking = defaults(name).keys() - record["settings"].keys()
    if lacking:
        raise ValueError(f"{path}: damaged, its settings lack {min(lacking)}")
    if options.model not in (None, name):
        options.usage(f"argument MODEL: {folder} is the run of a {name}")
    record["data"] = options.data or record["data"]
    if options.num_steps is not None:
        record["settings"]["num_steps"] = options.num_steps
    return folder, record


def describe_data(read: runs.Data, say: Say) -> None:
    """Print how the data were read: what is a sequence, a frame, an image."""
    lengths = [len(each) for each in read.sequences]
    size = read.sequences[0].shape[1]
    said = f"{lengths[0]} frames"
    if len(lengths) > 1:
        shortest, longest = min(lengths), max(lengths)
        each = f"{shortest}" if shortest == longest else f"{shortest} to {longest}"
        said = f"{len(lengths)} sequences of {each} frames"
    if read.frame_shape is not None:
        rows, columns = read.frame_shape
        say(f"data: {said}, images of {rows} x {columns} pixels")
        return
    hint = ""
    if (side := math.isqrt(size)) ** 2 == size and side >= SMALLEST_IMAGE:
        hint = f" (if these are the pixels of an image: --frame-shape {side}x{side})"
    say(f"data: {said}, {size} column{'s' * (size > 1)}{hint}")


def describe_scaling(scaling: runs.Scaling, settings: dict[str, Any], say: Say) -> None:
    """Print what is subtracted from columns, and what they are divided by."""
    if settings.get("scaling") == "shared":
        say(
            "scaling: the mean frame is subtracted, and all columns are divided by one "
            f"standard deviation, {scaling.scale[0]:.4g} (--scaling shared; column: "
            "each by its own; none: as is)"
        )
    else:
        say(
            "scaling: columns standardised to mean 0 and variance 1 (--scaling column; "
            "shared: all divided by one number; none: as is)"
        )


def describe_missing(missing: runs.Missing, say: Say) -> None:
    """Print how much of the data is missing, if any is."""
    if missing.values:
        share = 100 * missing.values / missing.num_values
        say(
            f"missing: {missing.values} of {missing.num_values} values "
            f"({share:.2g} %), with {missing.frames} whole frames "
            f"of {missing.num_frames}"
        )


def summarise(model: svae.SVAE, num_frames: int, shown: list[Any]) -> dict[str, Any]:
    """Return what the fit came to, the bound as a mean over its last tenth.

    It is that of each of ``num_frames`` frames with data.  States in use are those of
    the sequences that are ``shown``.
    """
    history = model.history_
    if not len(history["objective"]) and model.start_ is not None:
        # a trial has told to take no step
        history = {name: np.zeros(1) for name in history}
        history |= {part: np.array([model.start_[part]]) for part in PARTS}
    last = max(1, len(history["objective"]) // 10)
    result = {part: history[part][-last:].mean() / num_frames for part in PARTS}
    if model.start_ is not None:
        bound = {k: v for k, v in model.start_.items() if k != "held_out"}
        result["start"] = {k: float(v) / num_frames for k, v in bound.items()}
    result["steps_averaged"] = min(last, len(model.history_["objective"]))
    if model.trial_ is not None:
        result["trial"] = {name: x.tolist() for name, x in model.trial_.items()}
    result["seconds_per_step"] = float(np.median(history["seconds"]))
    for name in ("iterations", "gradient_iterations"):
        result[name] = float(history[name][-last:].mean())
    for name in ("unconverged", "backtracks"):
        result[name] = int(history[name].sum())
    if hasattr(model.latent, "num_states"):
        result["states_used"] = metrics.states_in_use(model.predict(shown))
        result["num_states"] = model.latent.num_states
    return result


def of_trial(step: list[int], score: list[float]) -> str:
    """Say what a trial came to."""
    scores = np.array(score)
    if not np.isfinite(scores).any():
        return (
            "trial: no score on the fifth of the data that was left out, so all steps"
        )
    best = int(np.nanargmax(scores))
    remedy = "--num-steps N takes N steps"
    if best == len(scores) - 1:
        remedy = f"still rising at the end: {remedy}, which may be more"
    return (
        f"trial: of {step[-1]} steps on four fifths of the data, {step[best]} had the "
        f"best score of the rest: {scores[best]:.4f} per frame, {scores[0]:.4f} at the "
        f"start, {scores[-1]:.4f} at the end ({remedy})"
    )


def describe(result: dict[str, Any], say: Say) -> None:
    """Print a summary."""
    if "start" in result:
        say(
            f"step 0: bound {result['start']['objective']:.4f} per frame; linear model "
            f"(principal components) {result['start']['linear']:.4f}"
        )
    if "trial" in result:
        say(of_trial(**result["trial"]))
    say(
        f"bound {result['objective']:.4f} = "
        f"reconstruction {result['reconstruction']:.4f} "
        f"- local KL {result['local_kl']:.4f} - global KL {result['global_kl']:.4f}"
    )
    steps = result["steps_averaged"]
    when = f"mean of the last {steps} steps" if steps else "before the first step"
    say(f"  (nats per frame, {when})")
    if "num_states" in result:
        used, all_of_them = result["states_used"], result["num_states"]
        say(f"states in use: {used} of {all_of_them} (in 1 % of the frames or more)")
    if result["iterations"]:
        say(
            f"iterations: {result['iterations']:.1f} of inference, "
            f"{result['gradient_iterations']:.1f} of its gradient"
        )
    if steps:
        say(f"time per step: {1e3 * result['seconds_per_step']:.1f} ms")
    if result["unconverged"]:
        say(f"sequences whose inference did not converge: {result['unconverged']}")
    if result["backtracks"]:
        say(f"natural steps that left the domain: {result['backtracks']} halvings")
