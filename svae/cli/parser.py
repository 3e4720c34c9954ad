"""The parser of the command line: commands, their options and their help."""

import argparse
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

import svae
from svae import profile
from svae.cli import ahead, crosscheck, fit, queries, runs, timing
from svae.cli.settings import (
    AUTO,
    CONSTRUCTOR,
    FIT,
    LATENT_WORDS,
    MODELS,
    NETWORKS,
    SCALINGS,
    STARTS,
    default_of_field,
    defaults_of,
    models_with,
    option_of,
)
from svae.likelihoods import BY_NAME, VARIANCES
from svae.models.student import TAILS
from svae.networks import ACTIVATIONS, DECODER_POSTERIORS, MEANS
from svae.objective.bound import NATURAL_GRADIENTS, PARTS
from svae.objective.model import INFERENCES
from svae.queries.posteriors import THETAS
from svae.training.plan import MOST_STEPS
from svae.training.settings import LEARNING_RATES

__all__ = ["parse"]

EXIT_STATUS = "exit status: 0; 1 after an error, 2 for wrong usage, 130 if interrupted"


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
        fit.fit,
        "fit a model to data",
        "gmm pinwheel",
        "slds recording.npy --num-states 10 --affine --out runs/a",
        "--config settings.toml --num-steps 5000",
        "--config runs/a/run.json --rng 1 --out runs/b",
        "--resume runs/a --num-steps 20000",
    )
    add_fit_options(sub)
    about = "print versions; check the gradients of both chains"
    add("info", queries.info, about, "")
    add_queries(add)
    sub = add(
        "profile",
        timing.time_kernels,
        "time the compiled chains",
        "--kernel hmm",
        "--compare runs/here/profile.json runs/there/profile.json",
    )
    add_profile_options(sub)
    about = "judge another implementation by certified values"
    sub = add("crosscheck", crosscheck.run_it, about, "run mine.py", "list", "export d")
    crosscheck.add_commands(sub)
    return parser


def add_queries(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands that ask something of a run."""
    about = "write the state of each frame, how probable it is and how long it lasts"
    sub = add("segment", queries.segment, about, "runs/slds-switching")
    add_run(sub)
    about = "default: segments.csv in the folder of the run"
    sub.add_argument("--out", metavar="FILE", help=about)

    _add_score(add)

    usual = defaults_of(svae.SVAE.predict_next)
    about = "predict each frame from those before it, beside baselines"
    sub = add("predict-next", ahead.predict_next, about, "runs/lds-dots dots")
    add_run(sub)
    about = "default: predictions.npz in the folder of the run"
    sub.add_argument("--out", metavar="FILE", help=about)
    about = f"draws of x; default: {usual['num_samples']}"
    sub.add_argument(
        "--num-samples",
        type=positive,
        default=usual["num_samples"],
        metavar="N",
        help=about,
    )
    sub.add_argument("--rng", type=seed, default=usual["rng"], metavar="SEED")

    usual = defaults_of(svae.SVAE.forecast)
    about = "predict the frames after each sequence"
    sub = add("forecast", queries.forecast, about, "runs/lds-dots dots --horizon 50")
    add_run(sub)
    sub.add_argument("--horizon", type=int, required=True, metavar="H")
    about = (
        "paths follow q(theta)'s mean, or each a draw of its own; "
        f"default: {usual['theta']}"
    )
    sub.add_argument("--theta", choices=THETAS, default=usual["theta"], help=about)
    sub.add_argument("--rng", type=int, default=usual["rng"], metavar="SEED")

    sub = add("sample", queries.sample, "draw frames", "runs/lds-dots --num-steps 200")
    add_run(sub, data=False)
    sub.add_argument("--num-steps", type=int, required=True, metavar="N")
    sub.add_argument("--rng", type=int, default=0, metavar="SEED")

    sub = add(
        "plot",
        queries.draw,
        "draw the figures of a run again, perhaps for other data",
        "runs/gmm-pinwheel",
        "runs/a video.npy",
        "runs/b --shape 1 20",
    )
    add_run(sub)
    about = "rows and columns of a frame that is an image; default: as at the fit"
    sub.add_argument(
        "--shape", type=positive, nargs=2, metavar=("ROWS", "COLUMNS"), help=about
    )


def _add_score(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command that scores data."""
    usual = defaults_of(svae.SVAE.score)
    about = "print the bound of data, and errors one step ahead beside baselines'"
    examples = "runs/lds-dots dots", "runs/lds-dots dots --ahead 1"
    sub = add("score", queries.score, about, *examples)
    add_run(sub)
    drawn = defaults_of(svae.SVAE.predict_next)["num_samples"]
    about = f"of x in the bound; default: 10, with --ahead {drawn}"
    sub.add_argument("--num-samples", type=positive, metavar="N", help=about)
    about = "print the log density of each frame given those before it, 1 step ahead"
    sub.add_argument("--ahead", type=int, choices=(1,), help=about)
    about = "of an importance-weighted bound, which is tighter"
    sub.add_argument("--num-importance-samples", type=positive, metavar="K", help=about)
    about = (
        "of that bound: q(theta)'s mean, or a draw for each sample; "
        f"default: {usual['theta']}"
    )
    sub.add_argument("--theta", choices=THETAS, help=about)
    sub.add_argument("--rng", type=seed, default=usual["rng"], metavar="SEED")


def add_run(parser: argparse.ArgumentParser, data: bool = True) -> None:
    """Add the folder of a run, and data for it."""
    parser.add_argument("run", metavar="RUN", help="folder written by svae fit")
    if data:
        known = ", ".join(runs.BUILT_IN)
        about = f"{known}, or {runs.FILES}; default: what was fitted"
        parser.add_argument("data", metavar="DATA", nargs="?", help=about)


LATENT_HELP = {
    "latent_dim": "dimensions of x",
    "num_states": "of z",
    "sticky": (
        "pseudo-count of each state's transition to itself; K states last "
        "(K + X)/(K - 1) steps in the prior; default: 0, or of an slds whose noise "
        "variance is the data's 10 steps"
    ),
    "concentration": "Dirichlet parameter of every transition",
    "affine": "whether dynamics have a bias",
    "noise_variance": (
        "of the dynamics, in the prior: a number, or data, which after a linear start "
        "is what a regression of the latents leaves"
    ),
    "column_precision": (
        "of A around I in the prior; default: 2 D, or 20 D if the noise variance is "
        "the data's"
    ),
    "dof": "degrees of freedom; if learned, their prior median",
    "learn_dof": "whether each component learns its own",
    "tails": "one scale for each point, or for each sample of x, with sin",
    "initial_spread": "of component means, of the entries of A (slds), at the start",
    "tolerance": "of mean-field inference: where it stops",
    "max_iterations": "of mean-field inference at most",
}
CHOICES = {"tails": TAILS}
KINDS: dict[type, dict[str, Any]] = {
    int: {"type": int, "metavar": "N"},
    float: {"type": float, "metavar": "X"},
    bool: {"action": argparse.BooleanOptionalAction},
    str: {},
}
"""How an option takes the values of a field, by the type of its default."""

SCHEDULES = "constant, cosine, cosine:N or exponential:R:N"
"""Of `svae.training.schedules`."""

Add = Callable[..., None]


def add_fit_options(parser: argparse.ArgumentParser) -> None:
    """Add the words of the constructors and of `svae.SVAE.fit`."""
    words: dict[str, argparse.Action] = {}

    def add(option: str, **rest: Any) -> None:
        action = parser.add_argument(option, **rest)
        words[action.dest] = action

    known = ", ".join(runs.BUILT_IN)
    add("model", metavar="MODEL", nargs="?", choices=MODELS, help=", ".join(MODELS))
    add("data", metavar="DATA", nargs="?", help=f"{known}, or {runs.FILES}")
    add_latent_options(add)
    add_training_options(add)
    add_network_options(add)
    add_selection_options(add)
    parser.set_defaults(words=words)
    add_run_options(parser)


def number_or_data(text: str) -> float | str:
    """Parse a number or ``data``."""
    return text if text == "data" else float(text)


FIELD_KINDS: dict[str, dict[str, Any]] = {
    "noise_variance": {"type": number_or_data, "metavar": "X"},
    "column_precision": {"type": float, "metavar": "X"},
    "sticky": {"type": float, "metavar": "X"},
}
"""How an option takes the values of a field whose default does not tell."""


def add_latent_options(add: Add) -> None:
    """Add the fields of latent models."""
    for word in LATENT_WORDS:
        models = models_with(word)
        about = LATENT_HELP.get(word, "")
        about += "" if models == ", ".join(MODELS) else f" ({models})"
        kind = FIELD_KINDS.get(word) or KINDS[type(default_of_field(word))]
        choices = {"choices": CHOICES[word]} if word in CHOICES else {}
        add(option_of(word), **kind, **choices, help=about.strip())


def add_training_options(add: Add) -> None:
    """Add what training takes: steps, batches, windows, rates."""
    chains = ", ".join(name for name, model in MODELS.items() if not model.independent)
    points = ", ".join(name for name, model in MODELS.items() if model.independent)
    about = (
        "of training; default: auto, after a linear start as many as a trial on four "
        f"fifths of the data tells, else {MOST_STEPS}"
    )
    add("--num-steps", type=steps, metavar="N", help=about)
    about = f"points ({points}) or windows in a step"
    add("--batch-size", type=int, metavar="N", help=about)
    about = f"frames that sequences are cut into ({chains})"
    add("--window", type=int, metavar="N", help=about)
    structured = (n for n, m in MODELS.items() if hasattr(m, "expected_log_density"))
    about = f"sin: a structured inference network ({', '.join(structured)})"
    add("--inference", choices=INFERENCES, help=about)
    about = f"samples of x in a step; default: {FIT['num_samples']}"
    add("--num-samples", type=int, metavar="N", help=about)
    about = (
        "of Adam, for the networks; for each: encoder=X,decoder=X; default: auto, "
        f"{LEARNING_RATES['linear']:g} after a linear start, else "
        f"{LEARNING_RATES['random']:g}"
    )
    add("--learning-rate", type=rates, metavar="X", help=about)
    about = f"step size for q(theta); default: {FIT['natural_step']:g}"
    add("--natural-step", type=float, metavar="X", help=about)
    about = f"of the learning rate: {SCHEDULES}; default: {FIT['schedule']}"
    add("--schedule", metavar="WORD", help=about)
    about = "of the natural step, likewise"
    add("--natural-schedule", metavar="WORD", help=about)
    about = f"of the networks' matrices; default: {FIT['weight_decay']:g}"
    add("--weight-decay", type=float, metavar="X", help=about)
    about = f"default: {CONSTRUCTOR['natural_gradient']}"
    add("--natural-gradient", choices=NATURAL_GRADIENTS, help=about)
    about = f"frames before a window that tell how it begins ({chains})"
    add("--context", type=int, metavar="N", help=about)
    about = f"frames of a window that the encoder does not see ({chains})"
    add("--hide", type=int, metavar="N", help=about)
    about = f"what is not learned, of {','.join(PARTS)}"
    add("--freeze", type=names, metavar="NAME,NAME", help=about)
    about = (
        "what the networks begin as: the principal components of the data, or random "
        "numbers; default: linear if networks (residual) and likelihood (gaussian) can"
    )
    add("--start", choices=STARTS, help=about)
    about = "a run whose networks, and q(theta) if it fits, are gone on from"
    add("--start-from", metavar="RUN", help=about)
    models = models_with("max_iterations")
    about = f"start inference from the states of last time ({models})"
    add("--warm-start", action="store_true", default=None, help=about)
    about = "steps as a plain autoencoder before q(theta) is fitted; auto or none"
    add("--warmup", type=warmup, metavar="N", help=about)


def add_network_options(add: Add) -> None:
    """Add what the networks and the likelihood are."""
    add("--hidden", type=widths, metavar="N,N", help="widths of the hidden layers")
    add("--network", choices=NETWORKS)
    add("--activation", choices=ACTIVATIONS)
    about = (
        "standard deviation of the first weights of both networks; auto: as the width "
        "of each layer asks for"
    )
    add("--weight-scale", type=number_or_auto, metavar="X", help=about)
    add("--decoder-mean", choices=MEANS)
    add("--likelihood", choices=tuple(BY_NAME))
    about = (
        "of the noise of a gaussian likelihood: one for all columns, one for each, or "
        "from the decoder"
    )
    add("--variance", choices=VARIANCES, help=about)
    about = "least variance of the noise, in units of the data's mean variance"
    add("--relative-floor", type=float, metavar="X", help=about)
    add("--decoder-posterior", choices=DECODER_POSTERIORS)


def add_selection_options(add: Add) -> None:
    """Add what chooses among parameters, the seed, and what happens to columns."""
    add("--n-init", type=positive, metavar="N", help="starts, of which the best stays")
    about = "data to score the model on; the best parameters are kept"
    add("--held-out", metavar="DATA", help=about)
    about = (
        "steps between scores of data that are held out, or that a trial leaves out; "
        f"default: {FIT['score_every']}"
    )
    add("--score-every", type=positive, metavar="N", help=about)
    about = "scores without a better one after which training stops"
    add("--patience", type=positive, metavar="N", help=about)
    add("--rng", type=int, metavar="SEED")
    add(
        "--standardize",
        action=argparse.BooleanOptionalAction,
        help="subtract the mean frame, and divide by scales; default: for files",
    )
    about = (
        "standard deviations that columns are divided by: column, each by its own; "
        "shared, all by one; default: shared for images, column for other files"
    )
    add("--scaling", choices=SCALINGS, help=about)
    about = (
        "rows and columns of the images that frames are, as 30x30; none: frames are no "
        "images; default: as the file says, and an array (T, H, H) is images if H is "
        "8 or more"
    )
    add("--frame-shape", type=frame_shape, metavar="HxW", help=about)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add how a fit is run, which is no setting of it."""
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
    add, usual = parser.add_argument, timing.DEFAULTS
    add("--kernel", choices=profile.KERNELS, default="all")
    add("--sizes", type=positive, nargs="+", metavar="N", help="D of lds, K of hmm")
    add(
        "--num-sequences",
        type=positive,
        metavar="N",
        help=f"default: {usual['num_sequences']}",
    )
    add(
        "--num-timesteps",
        type=several,
        metavar="N",
        help=f"default: {usual['num_timesteps']}",
    )
    add("--threads", type=positive, nargs="+", metavar="N", help="default: 1 and CPUs")
    about = f"samples of a time; default: {usual['repeats']}"
    add("--repeats", type=positive, metavar="N", help=about)
    add("--quick", action="store_true", help="small sizes, a few seconds")
    add_profile_modes(parser)
    add("--out", default="runs/profile", metavar="DIR")
    add("--rng", type=seed, default=0, metavar="SEED")
    add("--quiet", action="store_true", help="print nothing but warnings and errors")


def add_profile_modes(parser: argparse.ArgumentParser) -> None:
    """Add what is done beside timing all chains, or instead."""
    add = parser.add_mutually_exclusive_group().add_argument
    add("--peers", action="store_true", help="time other packages that are installed")
    length = timing.LONG["num_timesteps"]
    about = (
        f"time a single sequence instead, of 1000 to {length} steps, with 1, 2, 4... "
    )
    add("--long", action="store_true", help=about + "threads")
    about = "time whole training steps instead, beside their matrix products"
    add("--steps", action="store_true", help=about)
    length = timing.MEMORY["num_timesteps"]
    about = "print the peak memory of a call instead; default: one sequence of "
    add("--memory", action="store_true", help=f"{about}{length}")
    about = (
        "print the figures of two saved runs instead, of two machines say, and ratios"
    )
    add("--compare", nargs=2, metavar=("A.json", "B.json"), help=about)


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


def steps(text: str) -> int | str:
    """Parse a number of steps or ``auto``."""
    return text if text == AUTO else int(text)


def number_or_auto(text: str) -> float | str:
    """Parse a number or ``auto``."""
    return text if text == AUTO else float(text)


def rates(text: str) -> float | str | dict[str, float]:
    """Parse a number, ``auto``, or ``encoder=1e-3,decoder=1e-4``."""
    if "=" not in text:
        return number_or_auto(text)
    pairs = (part.partition("=") for part in text.split(","))
    return {name: float(number) for name, _, number in pairs}


def names(text: str) -> tuple[str, ...]:
    """Parse ``encoder,decoder``."""
    return tuple(text.split(","))


def frame_shape(text: str) -> tuple[int, int] | str:
    """Parse ``30x40``, ``30,40``, ``auto`` or ``none``."""
    if text in ("auto", "none"):
        return text
    rows, columns = (at_least(1, side) for side in re.split("[x,]", text))
    return rows, columns


def widths(text: str) -> tuple[int, ...]:
    """Parse ``40,40``."""
    return tuple(int(part) for part in text.split(","))
