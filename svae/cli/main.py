"""The command line: ``svae fit MODEL DATA``, and what can be done with a fit."""

import argparse
import csv
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from difflib import get_close_matches
from functools import partial
from importlib.util import find_spec
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TextIO

import numpy as np

import svae
from svae import kernels, metrics, plot, profile, store
from svae.cli import config, runs, selfcheck
from svae.cli.runs import Run
from svae.likelihoods import BY_NAME
from svae.metrics import bouts as segments
from svae.models.student import TAILS
from svae.networks import ACTIVATIONS, DECODER_POSTERIORS, MEANS
from svae.objective.bound import NATURAL_GRADIENTS
from svae.objective.model import INFERENCES
from svae.plot.charts import PARTS
from svae.queries.posteriors import THETAS
from svae.store import remove_stale, replacing
from svae.training.checkpoint import FINISHED, MODEL, content
from svae.training.lock import locked

MODELS: dict[str, Any] = {
    "gaussian": svae.Gaussian,
    "gmm": svae.GMM,
    "student": svae.StudentMixture,
    "hmm": svae.HMM,
    "lds": svae.LDS,
    "slds": svae.SLDS,
}
NETWORKS = {"mlp": svae.MLP, "residual": svae.Residual}

# What holds for words that the command line leaves open; later tables go first.
DEFAULTS: dict[str, Any] = {
    "num_steps": 1000,
    "num_samples": 1,
    "learning_rate": 3e-3,
    "natural_step": 0.1,
    "network": "mlp",
    "hidden": (50,),
    "decoder_mean": "linear",
    "likelihood": "gaussian",
    "decoder_posterior": "point",
    "natural_gradient": "full",
    "inference": "svae",
    "rng": 0,
}
MIXTURE: dict[str, Any] = {
    "latent_dim": 2,
    "num_states": 15,
    "batch_size": 50,
    "network": "residual",
    "hidden": (40, 40),
}
WARPED: dict[str, Any] = {
    "num_steps": 3000,
    "learning_rate": 1e-2,
    "natural_step": 0.02,
}
MODEL_DEFAULTS: dict[str, dict[str, Any]] = {
    "gaussian": {"latent_dim": 2, "batch_size": 50},
    "gmm": MIXTURE,
    "student": MIXTURE,
    "hmm": {"latent_dim": 2, "num_states": 10, "batch_size": 8, "window": 200},
    "lds": {"latent_dim": 10, "batch_size": 8, "window": 200},
    "slds": {"latent_dim": 10, "num_states": 10, "batch_size": 8, "window": 200},
}
RECIPES: dict[tuple[str, str], dict[str, Any]] = {
    ("gaussian", "pinwheel"): {
        "num_steps": 3000,
        "learning_rate": 1e-2,
        "network": "residual",
        "hidden": (40, 40),
    },
    ("gmm", "pinwheel"): WARPED,
    ("student", "pinwheel"): WARPED,
    ("lds", "dots"): {"num_steps": 1100, "window": 50, "decoder_mean": "sigmoid"},
    ("slds", "switching"): {
        "latent_dim": 2,
        "num_states": 2,
        "num_steps": 400,
        "warmup": 100,
        "batch_size": 2,
        "learning_rate": 1.5e-2,
        "standardize": True,
    },
}
# What `svae profile` times, unless it is told.
PROFILE: dict[str, Any] = {
    "sizes": None,
    "num_sequences": 64,
    "num_timesteps": 1000,
    "repeats": 9,
}
QUICK: dict[str, Any] = {
    "sizes": (2, 4),
    "num_sequences": 16,
    "num_timesteps": 100,
    "repeats": 3,
}
MEMORY: dict[str, Any] = {"sizes": (10,), "num_sequences": 1, "num_timesteps": 10**6}
STEP_WORDS = ("learning_rate", "natural_step", "num_samples")
CHAIN_WORDS = ("window", "context", "hide")
ITERATION_WORDS = ("warm_start", "tolerance", "max_iterations")
FIT_WORDS = (
    *("num_steps", "batch_size", "warmup", "warm_start", "rng"),
    *("n_init", "score_every", "patience"),
    *STEP_WORDS,
    *CHAIN_WORDS,
)
NETWORK_WORDS = ("activation", "weight_scale")
# Fields of latent models, with what a model lacks that has no such field.
LATENT_WORDS = {
    "latent_dim": "latents",
    "num_states": "discrete states",
    "sticky": "transitions between discrete states",
    "concentration": "transitions between discrete states",
    "affine": "linear dynamics",
    "noise_variance": "linear dynamics",
    "dof": "degrees of freedom",
    "learn_dof": "degrees of freedom",
    "tails": "degrees of freedom",
    "initial_spread": "discrete states",
    "tolerance": "iterations",
    "max_iterations": "iterations",
}
ERRORS = (ValueError, OSError, FloatingPointError, MemoryError, ImportError)
EXIT_STATUS = "exit status: 0; 1 after an error, 2 for wrong usage, 130 if interrupted"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 0, 1 for an error, 130 if interrupted.

    Raises
    ------
    SystemExit
        With status 2 for wrong usage, with 0 after ``--help``.
    """
    options = parse(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = say_warning
            return int(options.command(options))
    except KeyboardInterrupt:
        print("svae: interrupted", file=sys.stderr)
        return 130
    except ERRORS as error:
        message = " ".join(str(error).split()) or "the memory does not suffice"
        print(f"svae: error: {message}", file=sys.stderr)
        return 1


def say_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning as a line, without the place in the code that gave it."""
    print(f"svae: warning: {' '.join(str(message).split())}", file=sys.stderr)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line says.

    An optional DATA may stand behind options: older versions of argparse take it for
    absent at the first of them, and have it left over.
    """
    parser = build_parser()
    options, left = parser.parse_known_args(arguments)
    if left and not left[0].startswith("-") and getattr(options, "data", "") is None:
        options.data = left.pop(0)
    if left:
        options.usage(f"unrecognized arguments: {' '.join(left)}{meant(options, left)}")
    return options


def meant(options: argparse.Namespace, left: Sequence[str]) -> str:
    """Return which options of a command are near to those that it does not have."""
    there = re.findall(r"--[\w-]+", options.synopsis())
    pairs = [
        (word, get_close_matches(word.partition("=")[0], there, 1)) for word in left
    ]
    return "".join(f"; for {word}, is it {near[0]}?" for word, near in pairs if near)


def fit(options: argparse.Namespace) -> int:
    """Fit a model or go on with one, fill the run's folder and say how it went."""
    say = (lambda text: None) if options.quiet else print
    folder, record = begun(options) if options.resume else started(options)
    settings, going_on = record["settings"], options.resume is not None
    model = build_model(record["model"], settings)
    given = not going_on or options.data is not None
    sequences = runs.read(record["data"]) if given else runs.read_own(folder, record)
    missing, found = runs.survey(sequences)
    describe_missing(missing, say)
    record["num_frames"] = missing.frames_with_data
    if going_on:
        scaling = runs.Scaling.load(folder, record)
    else:
        scaling = found if wants_scaling(options, settings) else None
    if scaling is not None:
        sequences = scaling.apply(sequences)
        say("columns standardised to mean 0 and variance 1 (--no-standardize: as is)")
    with locked(folder):
        if not going_on:
            make_room(folder, options.force)
        write_start(folder, record, scaling)
        return train(options, folder, record, scaling, model, sequences, say)


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
    say: Callable[[str], None],
) -> int:
    """Train the model of a run; add what came of it to the folder, and print it."""
    settings = record["settings"]
    words = {word: settings[word] for word in FIT_WORDS if word in settings}
    if words.get("warmup") == "none":
        words["warmup"] = None
    if "held_out" in settings:
        held_out = runs.read(settings["held_out"])
        words["held_out"] = held_out if scaling is None else scaling.apply(held_out)
    words["progress"] = not options.quiet and find_spec("tqdm") is not None
    words["checkpoint"], words["resume"] = folder, options.resume is not None
    if options.workers is not None:
        # none of this process's threads and locks is copied into the workers
        context = get_context("spawn")
        words["executor"] = partial(ProcessPoolExecutor, options.workers, context)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "interrupted")
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
    if shown is not sequences:
        say(f"states in use, and figures: of the first {sum(map(len, shown))} frames")
    if can_draw(say):
        undo = None if scaling is None else scaling.undo
        figures = plot.figures(model, shown, None, undo, record["num_frames"])
        save_figures(folder, figures)
    say(f"written to {folder}")
    return 0


def started(options: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """Return the folder of a new run, and the record of how it is made.

    Raises
    ------
    ValueError
        If the folder has a run already.
    """
    settings = choose_settings(options)
    name = f"{options.model}-{runs.name_of(options.data)}"
    folder = Path(options.out or Path("runs", name))
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
    remove_stale(folder / "figures")
    if force:
        runs.clear(folder)
    refuse_another(folder)


def begun(options: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
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
    record["settings"] = config.read(path, options.words)
    for word in ("model", "data"):
        del record["settings"][word]
    lacking = (DEFAULTS | MODEL_DEFAULTS[name]).keys() - record["settings"].keys()
    if lacking:
        raise ValueError(f"{path}: damaged, its settings lack {min(lacking)}")
    if options.model not in (None, name):
        options.usage(f"argument MODEL: {folder} is the run of a {name}")
    record["data"] = options.data or record["data"]
    if options.num_steps is not None:
        record["settings"]["num_steps"] = options.num_steps
    return folder, record


def choose_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Merge the tables of defaults with what a file and the command line say."""
    written = read_config(options)
    recipe = RECIPES.get((options.model, options.data), {})
    settings = DEFAULTS | MODEL_DEFAULTS[options.model] | recipe
    # what holds anyway is never idle: the settings of a run can be read again
    written = {k: value for k, value in written.items() if settings.get(k) != value}
    words = sorted(options.words.keys() - {"model", "data"})
    typed = {word: getattr(options, word) for word in words}
    given = written | {k: value for k, value in typed.items() if value is not None}
    refuse_idle_words(options, given)
    settings |= given
    for word in ("score_every", "patience"):
        if word in settings and "held_out" not in settings:
            refuse(options, word, "only with --held-out")
    if settings.get("tails") == "sampled" and settings["inference"] != "sin":
        refuse(options, "tails", "sampled ones need --inference sin")
    return settings


def read_config(options: argparse.Namespace) -> dict[str, Any]:
    """Read what ``--config`` names; take model and data from it if they lack."""
    written: dict[str, Any] = {}
    if options.config is not None:
        try:
            written = config.read(options.config, options.words)
        except ValueError as error:
            options.usage(f"argument --config: {error}")
    for word in ("model", "data"):
        value = written.pop(word, None)
        if getattr(options, word) is None:
            setattr(options, word, value)
    lacking = [word.upper() for word in ("model", "data") if not getattr(options, word)]
    if lacking:
        options.usage(f"the following arguments are required: {', '.join(lacking)}")
    return written


def refuse_idle_words(options: argparse.Namespace, given: dict[str, Any]) -> None:
    """Stop with a usage error at the first word that the model has no use for."""
    name, model = options.model, MODELS[options.model]
    known = {field.name for field in fields(model)}
    structured = given.get("inference") == "sin"
    for word in given:
        reason = None
        if word in LATENT_WORDS and word not in known:
            reason = f"{name} has no {LATENT_WORDS[word]}"
        elif word in CHAIN_WORDS and model.independent:
            reason = f"the rows of {name} are independent"
        elif word == "inference" and not hasattr(model, "expected_log_density"):
            reason = f"{name} has no structured inference network"
        elif word in ITERATION_WORDS and "num_states" not in known:
            reason = f"inference of {name} has no iterations"
        elif word in ITERATION_WORDS and structured:
            reason = "structured inference networks have no iterations"
        elif word == "warmup" and not model.family:
            reason = f"{name} has no q(theta) to fit after it"
        if reason is not None:
            refuse(options, word, reason)


def refuse(options: argparse.Namespace, word: str, reason: str) -> None:
    """Stop with a usage error that says where a word was set."""
    option = f"--{word.replace('_', '-')}"
    if getattr(options, word) is None:
        option = f"--config: {options.config}: {word}"
    options.usage(f"argument {option}: {reason}")


def wants_scaling(options: argparse.Namespace, settings: dict[str, Any]) -> bool:
    """Whether to standardise columns: as told, else those of files."""
    if settings["likelihood"] == "bernoulli":
        if settings.get("standardize"):
            refuse(options, "standardize", "bernoulli data must stay in [0, 1]")
        return False
    return bool(settings.get("standardize", options.data not in runs.BUILT_IN))


def build_model(name: str, settings: dict[str, Any]) -> svae.SVAE:
    """Make the model that settings describe."""
    words = LATENT_WORDS.keys() & settings.keys()
    latent = MODELS[name](**{word: settings[word] for word in words})
    network, hidden = NETWORKS[settings["network"]], settings["hidden"]
    shape = {word: settings[word] for word in NETWORK_WORDS if word in settings}
    return svae.SVAE(
        latent,
        network(hidden, **shape),
        network(hidden, mean=settings["decoder_mean"], **shape),
        settings["likelihood"],
        settings["decoder_posterior"],
        settings["natural_gradient"],
        settings["inference"],
    )


def describe_missing(missing: runs.Missing, say: Callable[[str], None]) -> None:
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
    last = max(1, len(history["objective"]) // 10)
    result = {part: history[part][-last:].mean() / num_frames for part in PARTS}
    result["steps_averaged"] = last
    result["seconds_per_step"] = float(np.median(history["seconds"]))
    for name in ("iterations", "gradient_iterations"):
        result[name] = float(history[name][-last:].mean())
    for name in ("unconverged", "backtracks"):
        result[name] = int(history[name].sum())
    if hasattr(model.latent, "num_states"):
        result["states_used"] = metrics.states_in_use(model.predict(shown))
        result["num_states"] = model.latent.num_states
    return result


def describe(result: dict[str, Any], say: Callable[[str], None]) -> None:
    """Print a summary."""
    say(
        f"bound {result['objective']:.4f} = "
        f"reconstruction {result['reconstruction']:.4f} "
        f"- local KL {result['local_kl']:.4f} - global KL {result['global_kl']:.4f}"
    )
    say(f"  (nats per frame, mean of the last {result['steps_averaged']} steps)")
    if "num_states" in result:
        used, all_of_them = result["states_used"], result["num_states"]
        say(f"states in use: {used} of {all_of_them} (in 1 % of the frames or more)")
    if result["iterations"]:
        say(
            f"iterations: {result['iterations']:.1f} of inference, "
            f"{result['gradient_iterations']:.1f} of its gradient"
        )
    say(f"time per step: {1e3 * result['seconds_per_step']:.1f} ms")
    if result["unconverged"]:
        say(f"sequences whose inference did not converge: {result['unconverged']}")
    if result["backtracks"]:
        say(f"natural steps that left the domain: {result['backtracks']} halvings")


def can_draw(say: Callable[[str], None]) -> bool:
    """Whether figures can be made; say so if not."""
    if find_spec("matplotlib") is None:
        say("no figures: they need matplotlib (pip install matplotlib)")
        return False
    return True


def save_figures(folder: Path, figures: dict[str, Any]) -> None:
    """Write figures as PNG files into a run's folder."""
    (folder / "figures").mkdir(exist_ok=True)
    for name, figure in figures.items():
        with replacing(folder / "figures" / f"{name}.png") as file:
            figure.savefig(file, format="png")


def score(options: argparse.Namespace) -> int:
    """Print the bound of data under a fitted model, in the units of the data."""
    if options.theta is not None and options.num_importance_samples is None:
        options.usage("argument --theta: only with --num-importance-samples")
    run = Run.load(options.run)
    sequences = run.read(options.data)
    weighted = options.num_importance_samples is not None
    found = run.model.score(
        sequences,
        options.num_samples,
        options.num_importance_samples,
        options.theta or "mean",
        options.rng,
        detailed=weighted,
    )
    bound = found.score if weighted else found
    print(f"{bound + run.scaling.log_density(sequences):.6f} nats per frame")
    if weighted:
        sizes = found.effective_samples
        print(
            f"standard error: {found.standard_error:.2g}; effective samples: "
            f"{sizes.min():.1f} to {sizes.max():.1f} "
            f"of {options.num_importance_samples}"
        )
    return 0


def segment(options: argparse.Namespace) -> int:
    """Write the state of each frame; say how much each state is used."""
    run = Run.load(options.run)
    if not hasattr(run.model.latent, "num_states"):
        options.usage(f"argument RUN: {run.record['model']} has no discrete states")
    sequences, paths = run.read(options.data), []
    path = Path(options.out or run.folder / "segments.csv")
    with replacing(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sequence", "frame", *segments.Segmentation._fields])
        for number, columns in enumerate(segmented(run.model, sequences)):
            rows = zip(*(column.tolist() for column in columns), strict=True)
            writer.writerows([number, frame, *row] for frame, row in enumerate(rows))
            paths.append(columns.state)
    for usage in segments.usage(paths):
        print(
            f"state {usage.state}: {100 * usage.share:.1f} % of the frames, "
            f"bouts: {usage.num_bouts}, "
            f"median duration: {usage.median_duration:g} frames"
        )
    print(f"written to {path}")
    return 0


def segmented(
    model: svae.SVAE, sequences: list[Any], num_frames: int = 100_000
) -> Iterator[segments.Segmentation]:
    """Yield what a model says of each sequence; those of so many frames at a time.

    Inference packs sequences, but all of their posteriors may not fit into memory.
    """
    ends = np.cumsum([len(sequence) for sequence in sequences])
    for _, group in groupby(range(len(ends)), lambda n: ends[n] // num_frames):
        some = [sequences[n] for n in group]
        posteriors = model.infer(some, num_samples=1)
        for path, posterior in zip(model.predict(some), posteriors, strict=True):
            yield segments.segmentation(path, posterior.states)


def forecast(options: argparse.Namespace) -> int:
    """Write predictions of the frames after each sequence, and draw the first."""
    run, horizon, theta = Run.load(options.run), options.horizon, options.theta
    if run.model.latent.independent:
        raise ValueError(f"{run.record['model']}: independent rows have no forecast")
    sequences = run.read(options.data)
    forecasts = run.model.forecast(sequences, horizon, theta=theta, rng=options.rng)
    path, scaling = run.folder / "forecast.npz", run.scaling
    arrays: dict[str, Any] = {
        "mean": scaling.undo(np.stack([each.mean for each in forecasts])),
        "variance": scaling.scale**2 * np.stack([each.variance for each in forecasts]),
        "samples": scaling.undo(np.stack([each.samples for each in forecasts])),
    }
    if forecasts[0].states is not None:
        arrays["states"] = np.stack([each.states for each in forecasts])
    with replacing(path) as file:
        np.savez(file, **arrays)
    shapes = (f"{name} {array.shape}" for name, array in arrays.items())
    print(f"written to {path}: {', '.join(shapes)}")

    if can_draw(print):
        first, context = sequences[0], 2 * horizon
        figure = plot.forecast(
            run.model, first, len(first), horizon, context, theta=theta, rng=options.rng
        )
        save_figures(run.folder, {"prediction": figure})
    return 0


def sample(options: argparse.Namespace) -> int:
    """Write frames drawn from a fitted model."""
    run = Run.load(options.run)
    frames = run.scaling.undo(run.model.sample(options.num_steps, rng=options.rng))
    path = run.folder / "sample.npy"
    with replacing(path) as file:
        np.save(file, frames)
    print(f"written to {path}: {frames.shape}")
    return 0


def draw(options: argparse.Namespace) -> int:
    """Draw the figures of a run again, perhaps for other data."""
    run = Run.load(options.run)
    sequences = runs.excerpt(run.read(options.data))
    figures = plot.figures(
        run.model,
        sequences,
        options.shape,
        run.scaling.undo,
        run.record.get("num_frames"),
    )
    save_figures(run.folder, figures)
    print(f"written to {run.folder / 'figures'}")
    return 0


def info(options: argparse.Namespace) -> int:
    """Print what is installed, and check the gradients of both chains."""
    facts = store.versions()
    facts |= {"instructions": kernels.isa(), "threads": str(svae.get_num_threads())}
    errors = selfcheck.gradient_errors()
    for name, error in errors.items():
        verdict = "right" if error < selfcheck.TOLERANCE else "WRONG"
        facts[name] = f"gradient {verdict}, relative error {error:.1e}"
    for name, fact in facts.items():
        print(f"{name:<16}{fact}")
    return 0 if max(errors.values()) < selfcheck.TOLERANCE else 1


def time_kernels(options: argparse.Namespace) -> int:
    """Time the compiled chains; print the tables, write the files, draw the roofs."""
    say = (lambda text: None) if options.quiet else print
    show = not options.quiet and find_spec("tqdm") is not None
    if options.steps:
        return time_steps(options, say, show)
    settings = PROFILE | (QUICK if options.quick else {})
    settings |= MEMORY if options.memory else {}
    settings |= {k: v for k in settings if (v := getattr(options, k)) is not None}
    sizes, num_timesteps = settings["sizes"], settings["num_timesteps"]
    problem = options.kernel, sizes, settings["num_sequences"], num_timesteps
    chosen = profile.cases(*problem)
    if options.memory:
        print(profile.memory_table(profile.peaks(chosen, progress=show)))
        return 0
    compared = []
    if options.peers:
        compared = profile.peers.cases(
            options.kernel, sizes, num_timesteps=num_timesteps
        )
    words: dict[str, Any] = {"budget": 0.1, "memory": False} if options.quick else {}
    report = profile.run(
        chosen,
        options.threads,
        settings["repeats"],
        compared=compared,
        rng=options.rng,
        progress=show,
        **words,
    )
    say(profile.table(report))
    folder = profile.save(report, options.out)
    if can_draw(say):
        with replacing(folder / "roofline.png") as file:
            profile.plot(report).savefig(file, format="png")
    say(f"written to {folder}")
    return 0


def time_steps(
    options: argparse.Namespace, say: Callable[[str], None], show: bool
) -> int:
    """Time training steps; print the table, write the files."""
    quick: dict[str, Any] = {}
    if options.quick:
        quick = {"chosen": ("pinwheel", "dots"), "budget": 0.1}
    repeats = options.repeats or (QUICK if options.quick else PROFILE)["repeats"]
    report = profile.run_steps(
        threads=options.threads,
        repeats=repeats,
        rng=options.rng,
        progress=show,
        **quick,
    )
    say(profile.steps_table(report))
    say(f"written to {profile.save_steps(report, options.out)}")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="svae",
        description="Structured variational autoencoders.",
        epilog=f"example: svae fit gmm pinwheel\n\n{EXIT_STATUS}",
        formatter_class=raw,
    )
    parser.add_argument(
        "--version", action="version", version=f"svae {svae.__version__}"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[..., int], about: str, *examples: str) -> Any:
        title = "example" if len(examples) == 1 else "examples"
        lines = [f"  svae {name} {example}".rstrip() for example in examples]
        epilog = "\n".join([f"{title}:", *lines, "", EXIT_STATUS])
        sub = commands.add_parser(
            name, help=about, description=about, epilog=epilog, formatter_class=raw
        )
        sub.set_defaults(command=command, usage=sub.error, synopsis=sub.format_usage)
        return sub

    sub = add(
        "fit",
        fit,
        "fit a model to data",
        "gmm pinwheel",
        "slds recording.npy --num-states 10 --affine --out runs/a",
        "--config settings.toml --num-steps 5000",
        "--config runs/a/run.json --rng 1 --out runs/b",
        "--resume runs/a --num-steps 20000",
    )
    add_fit_options(sub)
    add("info", info, "print versions; check the gradients of both chains", "")

    about = "write the state of each frame, how probable it is and how long it lasts"
    sub = add("segment", segment, about, "runs/slds-switching")
    add_run(sub)
    about = "default: segments.csv in the folder of the run"
    sub.add_argument("--out", metavar="FILE", help=about)

    sub = add("score", score, "print the bound of data", "runs/lds-dots dots")
    add_run(sub)
    sub.add_argument("--num-samples", type=positive, default=10, metavar="N")
    about = "of an importance-weighted bound, which is tighter"
    sub.add_argument("--num-importance-samples", type=positive, metavar="K", help=about)
    about = "of that bound: q(theta)'s mean, or a draw for each sample; default: mean"
    sub.add_argument("--theta", choices=THETAS, help=about)
    sub.add_argument("--rng", type=seed, default=0, metavar="SEED")

    sub = add(
        "forecast",
        forecast,
        "predict the frames after each sequence",
        "runs/lds-dots dots --horizon 50",
    )
    add_run(sub)
    sub.add_argument("--horizon", type=int, required=True, metavar="H")
    about = "paths follow q(theta)'s mean, or each a draw of its own; default: mean"
    sub.add_argument("--theta", choices=THETAS, default="mean", help=about)
    sub.add_argument("--rng", type=int, default=0, metavar="SEED")

    sub = add("sample", sample, "draw frames", "runs/lds-dots --num-steps 200")
    add_run(sub, data=False)
    sub.add_argument("--num-steps", type=int, required=True, metavar="N")
    sub.add_argument("--rng", type=int, default=0, metavar="SEED")

    sub = add(
        "plot",
        draw,
        "draw the figures of a run again, perhaps for other data",
        "runs/gmm-pinwheel",
        "runs/a video.npy --shape 30 30",
    )
    add_run(sub)
    about = "rows and columns of a frame: draws images of frames, in units of the data"
    sub.add_argument(
        "--shape", type=positive, nargs=2, metavar=("ROWS", "COLUMNS"), help=about
    )

    sub = add("profile", time_kernels, "time the compiled chains", "--kernel hmm")
    add_profile_options(sub)
    return parser


def add_run(parser: argparse.ArgumentParser, data: bool = True) -> None:
    """Add the folder of a run, and data for it."""
    parser.add_argument("run", metavar="RUN", help="folder written by svae fit")
    if data:
        known = ", ".join(runs.BUILT_IN)
        about = f"{known}, or {runs.FILES}; default: what was fitted"
        parser.add_argument("data", metavar="DATA", nargs="?", help=about)


def add_fit_options(parser: argparse.ArgumentParser) -> None:
    """Add the words of the constructors and of `svae.SVAE.fit`."""
    words: dict[str, argparse.Action] = {}

    def add(option: str, **rest: Any) -> None:
        action = parser.add_argument(option, **rest)
        words[action.dest] = action

    known = ", ".join(runs.BUILT_IN)
    models = ", ".join(MODELS)
    add("model", metavar="MODEL", nargs="?", choices=MODELS, help=models)
    add("data", metavar="DATA", nargs="?", help=f"{known}, or {runs.FILES}")
    add("--latent-dim", type=int, metavar="N", help="dimensions of x")
    add("--num-states", type=int, metavar="N", help="of z (gmm, student, hmm, slds)")
    add("--num-steps", type=int, metavar="N", help="of training; default: 1000")
    about = "rows (gaussian, gmm, student) or windows in a step"
    add("--batch-size", type=int, metavar="N", help=about)
    about = "frames that sequences are cut into (hmm, lds, slds)"
    add("--window", type=int, metavar="N", help=about)
    about = (
        "pseudo-count of each state's transition to itself; K states last "
        "(K + X)/(K - 1) steps in the prior (hmm, slds)"
    )
    add("--sticky", type=float, metavar="X", help=about)
    about = "Dirichlet parameter of every transition (hmm, slds)"
    add("--concentration", type=float, metavar="X", help=about)
    about = "whether dynamics have a bias (lds, slds)"
    add("--affine", action=argparse.BooleanOptionalAction, help=about)
    about = "of the dynamics, in the prior (lds, slds)"
    add("--noise-variance", type=float, metavar="X", help=about)
    about = "degrees of freedom; if learned, their prior median (student)"
    add("--dof", type=float, metavar="X", help=about)
    about = "whether each component learns its own (student)"
    add("--learn-dof", action=argparse.BooleanOptionalAction, help=about)
    about = "one scale for each point, or for each sample of x, with sin (student)"
    add("--tails", choices=TAILS, help=about)
    about = "of component means, of the entries of A (slds), at the start"
    add("--initial-spread", type=float, metavar="X", help=about)
    about = "of mean-field inference: where it stops (gmm, student, hmm, slds)"
    add("--tolerance", type=float, metavar="X", help=about)
    about = "of mean-field inference at most (gmm, student, hmm, slds)"
    add("--max-iterations", type=int, metavar="N", help=about)
    about = "sin: a structured inference network (gmm, student, hmm, lds)"
    add("--inference", choices=INFERENCES, help=about)
    add("--num-samples", type=int, metavar="N", help="samples of x in a step")
    add("--learning-rate", type=float, metavar="X", help="of Adam, for the networks")
    add("--natural-step", type=float, metavar="X", help="step size for q(theta)")
    add("--natural-gradient", choices=NATURAL_GRADIENTS, help="default: full")
    about = "frames before a window that tell how it begins (hmm, lds, slds)"
    add("--context", type=int, metavar="N", help=about)
    about = "frames of a window that the encoder does not see (hmm, lds, slds)"
    add("--hide", type=int, metavar="N", help=about)
    about = "start inference from the states of last time (gmm, student, hmm, slds)"
    add("--warm-start", action="store_true", default=None, help=about)
    about = "steps as a plain autoencoder before q(theta) is fitted; auto or none"
    add("--warmup", type=warmup, metavar="N", help=about)
    add("--hidden", type=widths, metavar="N,N", help="widths of the hidden layers")
    add("--network", choices=NETWORKS)
    add("--activation", choices=ACTIVATIONS)
    about = "standard deviation of the first weights of both networks"
    add("--weight-scale", type=float, metavar="X", help=about)
    add("--decoder-mean", choices=MEANS)
    add("--likelihood", choices=tuple(BY_NAME))
    add("--decoder-posterior", choices=DECODER_POSTERIORS)
    add("--n-init", type=positive, metavar="N", help="starts, of which the best stays")
    about = "data to score the model on; the best parameters are kept"
    add("--held-out", metavar="DATA", help=about)
    about = "steps between scores of held-out data; default: 100"
    add("--score-every", type=positive, metavar="N", help=about)
    about = "scores without a better one after which training stops"
    add("--patience", type=positive, metavar="N", help=about)
    add("--rng", type=int, metavar="SEED")
    add(
        "--standardize",
        action=argparse.BooleanOptionalAction,
        help="bring columns to mean 0 and variance 1; default: for files",
    )
    parser.set_defaults(words=words)
    about = "a .toml or .json file of settings, like num_states = 10; options go first"
    parser.add_argument("--config", metavar="FILE", help=about)
    about = "folder of the run; default: runs/MODEL-DATA"
    parser.add_argument("--out", metavar="DIR", help=about)
    about = "go on with the run in a folder (perhaps to another --num-steps)"
    parser.add_argument("--resume", metavar="DIR", help=about)
    about = "replace the run that the folder has, with all that svae wrote there"
    parser.add_argument("--force", action="store_true", help=about)
    about = "processes that share the windows of each step; default: this one"
    parser.add_argument("--workers", type=positive, metavar="N", help=about)
    about = "print nothing but warnings and errors"
    parser.add_argument("--quiet", action="store_true", help=about)


def add_profile_options(parser: argparse.ArgumentParser) -> None:
    """Add the words of `svae.profile`."""
    add = parser.add_argument
    add("--kernel", choices=profile.KERNELS, default="all")
    add("--sizes", type=positive, nargs="+", metavar="N", help="D of lds, K of hmm")
    add("--num-sequences", type=positive, metavar="N", help="default: 64")
    add("--num-timesteps", type=several, metavar="N", help="default: 1000")
    add("--threads", type=positive, nargs="+", metavar="N", help="default: 1 and CPUs")
    add("--repeats", type=positive, metavar="N", help="samples of a time; default: 9")
    add("--peers", action="store_true", help="time other packages that are installed")
    add("--quick", action="store_true", help="small sizes, a few seconds")
    about = "print the peak memory of a call instead; default: one sequence of 1000000"
    add("--memory", action="store_true", help=about)
    about = "time whole training steps instead, beside their matrix products"
    add("--steps", action="store_true", help=about)
    add("--out", default="runs/profile", metavar="DIR")
    add("--rng", type=seed, default=0, metavar="SEED")
    add("--quiet", action="store_true", help="print nothing but warnings and errors")


def seed(text: str) -> int:
    """Parse a number from 0 on."""
    return at_least(0, text)


def positive(text: str) -> int:
    """Parse a number from 1 on."""
    return at_least(1, text)


def several(text: str) -> int:
    """Parse a number from 2 on."""
    return at_least(2, text)


def at_least(least: int, text: str) -> int:
    """Parse a number; the error that argparse shows names its bound."""
    if (number := int(text)) < least:
        raise argparse.ArgumentTypeError(f"{number}, wanted {least} or more")
    return number


def warmup(text: str) -> int | str:
    """Parse a number from 0 on, ``auto`` or ``none``."""
    return text if text in ("auto", "none") else at_least(0, text)


def widths(text: str) -> tuple[int, ...]:
    """Parse ``40,40``."""
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
