"""Settings of a fit on the command line: defaults, a file, options, and what they make.

Words, their defaults and the models that they are for come from the constructors and
from `svae.SVAE.fit` themselves; only what the command line chooses otherwise is
here.
"""

import argparse
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import svae
from svae import likelihoods
from svae.cli import config, runs
from svae.networks.architectures import starts_affine
from svae.training.linear_start import STARTS as OWN_STARTS
from svae.training.settings import default_batch_size

__all__ = [
    "AUTO",
    "CONSTRUCTOR",
    "FIT",
    "LATENT_WORDS",
    "MODELS",
    "NETWORKS",
    "SCALINGS",
    "STARTS",
    "build_model",
    "choose_settings",
    "default_of_field",
    "defaults",
    "defaults_of",
    "fit_words",
    "models_with",
    "option_of",
    "refuse",
    "scaling_for",
    "with_earlier",
]

MODELS: dict[str, Any] = {
    "gaussian": svae.Gaussian,
    "gmm": svae.GMM,
    "student": svae.StudentMixture,
    "hmm": svae.HMM,
    "lds": svae.LDS,
    "slds": svae.SLDS,
}
NETWORKS: dict[str, Any] = {"mlp": svae.MLP, "residual": svae.Residual}


def defaults_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the defaults of arguments that have one, by name."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }


def _fields_of(part: Any) -> dict[str, Any]:
    """Return the defaults of the fields of a dataclass that have one, by name."""
    return {
        field.name: field.default
        for field in fields(part)
        if field.default is not MISSING
    }


CONSTRUCTOR, FIT = defaults_of(svae.SVAE), defaults_of(svae.SVAE.fit)
"""Defaults of the words of `svae.SVAE` and of `svae.SVAE.fit`."""

WITHOUT_OPTION = ("starts", "prior")
"""Fields of latent models whose values are no words of a command line."""
LATENT_WORDS = tuple(
    dict.fromkeys(
        field.name
        for model in MODELS.values()
        for field in fields(model)
        if field.name not in WITHOUT_OPTION
    )
)
"""Fields of latent models that are options."""
LACKING = {
    "latent_dim": "latents",
    "num_states": "discrete states",
    "sticky": "transitions between discrete states",
    "concentration": "transitions between discrete states",
    "affine": "linear dynamics",
    "noise_variance": "linear dynamics",
    "column_precision": "linear dynamics",
    "dof": "degrees of freedom",
    "learn_dof": "degrees of freedom",
    "tails": "degrees of freedom",
    "initial_spread": "discrete states",
    "tolerance": "iterations",
    "max_iterations": "iterations",
}
"""What a model has not that has no such field, for the error that says so."""
SCALINGS = ("column", "shared", "none")
"""What columns are divided by: each by its own deviation, all by one, or by nothing."""
CHAIN_WORDS = ("window", "context", "hide")
ITERATION_WORDS = ("warm_start", "tolerance", "max_iterations")
VARIANCE_WORDS = ("variance", "relative_floor")
"""Fields of a Gaussian likelihood that are options."""
SHARED_WORDS = (
    *("network", "hidden", "activation", "weight_scale", "decoder_mean"),
    *("likelihood", *VARIANCE_WORDS, "decoder_posterior"),
)
"""What a fit that goes on from a run takes from it, beside its latent model's words."""
AUTO = "auto"
"""In the place of a default that depends on other words."""
STARTS = (AUTO, *OWN_STARTS)

# What the command line chooses itself.
CHOSEN: dict[str, Any] = {"network": "residual", "rng": 0}
NETWORK_CHOSEN: dict[str, dict[str, Any]] = {
    "residual": {
        "hidden": CONSTRUCTOR["encoder"].hidden,
        "weight_scale": AUTO,  # as the default network of the library has it
    },
    "mlp": {"hidden": (50,)},
}
MIXTURE: dict[str, Any] = {
    "hidden": svae.Residual().hidden,
    "weight_scale": svae.Residual().weight_scale,
}
WARPING: dict[str, Any] = MIXTURE | {"variance": "network", "learning_rate": 3e-3}
"""Of mixtures: by the scores of held-out points of the pinwheel and of cars, from a
linear start, which a tenth of this rate leaves too slowly."""
CHAIN: dict[str, Any] = {"window": 200}
MODEL_CHOSEN: dict[str, dict[str, Any]] = {
    "gmm": WARPING,
    "student": WARPING,
    "hmm": CHAIN,
    "lds": CHAIN,
    "slds": CHAIN,
}
PAPERS: dict[str, Any] = {"variance": "network", "start": "random"}
"""Of recipes: the papers' experiments, which their figures are compared with."""
WARPED: dict[str, Any] = PAPERS | {
    "network": "residual",
    "num_steps": 3000,
    "learning_rate": 1e-2,
    "natural_step": 0.02,
}
RECIPES: dict[tuple[str, str], dict[str, Any]] = {
    ("gaussian", "pinwheel"): PAPERS
    | MIXTURE
    | {"num_steps": 3000, "learning_rate": 1e-2, "network": "residual"},
    ("gmm", "pinwheel"): WARPED,
    ("student", "pinwheel"): WARPED,
    ("lds", "dots"): PAPERS
    | {
        "network": "mlp",
        "num_steps": 1100,
        "window": 50,
        "decoder_mean": "sigmoid",
        "noise_variance": 2.0,
    },
    ("slds", "switching"): PAPERS
    | {
        "network": "mlp",
        "noise_variance": 2.0,
        "latent_dim": 2,
        "num_states": 2,
        "num_steps": 400,
        "warmup": 100,
        "batch_size": 2,
        "learning_rate": 1.5e-2,
        "standardize": True,
    },
}


EARLIER: dict[str, Any] = {"variance": "network", "start": "random"}
"""What runs did whose records have no ``start``."""
EARLIER_NOISE = 2.0


def with_earlier(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings in the record of a run, with words that came later.

    What a run of an earlier version did without being told is what is said now.

    Parameters
    ----------
    name : str
        Of the model.
    settings : dict
        As recorded; returned as they are if nothing lacks.
    """
    if "start" in settings or name not in MODELS:
        return settings
    words, network = EARLIER.copy(), NETWORKS.get(settings.get("network", ""))
    if settings.get("likelihood") == "bernoulli":
        del words["variance"]
    if network is not None:
        scale = _fields_of(network)["weight_scale"]
        words["weight_scale"] = AUTO if scale is None else scale
    if "noise_variance" in _fields_of(MODELS[name]):
        words["noise_variance"] = EARLIER_NOISE
    return words | settings


def defaults(name: str, network: str | None = None) -> dict[str, Any]:
    """Return the settings of a fit of a model that nothing else is said of.

    But perhaps of what kind its networks are.
    """
    model = MODELS[name]
    fit = ("num_samples", "natural_step")
    constructor = CONSTRUCTOR.keys() - {"encoder", "decoder", "likelihood"}
    sizes = {"latent_dim", "num_states"} & _fields_of(model).keys()
    of_model = MODEL_CHOSEN.get(name, {})
    network = network or CHOSEN["network"]
    if network == "mlp":
        of_model = {k: v for k, v in of_model.items() if k != "weight_scale"}
    return (
        {word: FIT[word] for word in fit}
        | {"num_steps": AUTO, "learning_rate": AUTO, "start": AUTO}
        | {"likelihood": "gaussian", "variance": CONSTRUCTOR["likelihood"].variance}
        | {word: CONSTRUCTOR[word] for word in sorted(constructor)}
        | {word: _fields_of(model)[word] for word in sorted(sizes)}
        | {"decoder_mean": CONSTRUCTOR["decoder"].mean}
        | {"batch_size": default_batch_size(model.independent)}
        | CHOSEN
        | NETWORK_CHOSEN[network]
        | of_model
    )


def option_of(word: str) -> str:
    """Return the option of a word."""
    return f"--{word.replace('_', '-')}"


def default_of_field(word: str) -> Any:
    """Return the default of a field of latent models, in the first that has it."""
    parts = map(_fields_of, MODELS.values())
    return next(part[word] for part in parts if word in part)


def models_with(word: str) -> str:
    """Return the names of the models that have a field, for a help text."""
    return ", ".join(n for n, model in MODELS.items() if word in _fields_of(model))


def choose_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Merge the tables of defaults with what a file and the command line say."""
    written = read_config(options)
    recipe = RECIPES.get((options.model, options.data), {})
    words = sorted(options.words.keys() - {"model", "data"})
    typed = {word: getattr(options, word) for word in words}
    networks = (typed["network"], written.get("network"), recipe.get("network"))
    settings = defaults(options.model, next(filter(None, networks), None)) | recipe
    origin = typed["start_from"] or written.get("start_from")
    if origin is not None:
        settings |= words_of_origin(options, origin)
    # what holds anyway is never idle: the settings of a run can be read again
    written = {k: value for k, value in written.items() if settings.get(k) != value}
    if typed["standardize"] is not None and typed["scaling"] is None:
        written.pop("scaling", None)  # of a run that is made again otherwise
    given = written | {k: value for k, value in typed.items() if value is not None}
    refuse_idle_words(options, given)
    settings |= given
    if "patience" in settings and "held_out" not in settings:
        refuse(options, "patience", "only with --held-out")
    if "score_every" in settings and not (
        "held_out" in settings or holds_trial(settings)
    ):
        why = "only with --held-out, or for a trial: without --num-steps, linear start"
        refuse(options, "score_every", why)
    if settings.get("tails") == "sampled" and settings["inference"] != "sin":
        refuse(options, "tails", "sampled ones need --inference sin")
    return settings


def holds_trial(settings: dict[str, Any]) -> bool:
    """Whether a trial tells the number of steps, which it does of a linear start."""
    decoder = NETWORKS[settings["network"]](mean=settings["decoder_mean"])
    is_anew = settings["start"] != "random" and "start_from" not in settings
    law = likelihoods.named(likelihood_of(settings))
    can_start = starts_affine(decoder) and hasattr(law, "rescaled")
    return settings["num_steps"] == AUTO and is_anew and can_start


def words_of_origin(options: argparse.Namespace, folder: str) -> dict[str, Any]:
    """Return the settings that a fit has from the run from which it goes on."""
    for word in ("start", "scaling", "standardize"):
        if getattr(options, word) is not None:
            refuse(options, word, "--start-from has that of the run")
    record = runs.read_record(Path(folder))
    settings = with_earlier(record["model"], record["settings"])
    known = {*SHARED_WORDS, *_fields_of(MODELS[options.model])} & options.words.keys()
    taken = {word: settings[word] for word in sorted(known) if word in settings}
    return {k: tuple(v) if isinstance(v, list) else v for k, v in taken.items()}


def read_config(options: argparse.Namespace) -> dict[str, Any]:
    """Read what ``--config`` names; take model and data from it if they lack."""
    written: dict[str, Any] = {}
    if options.config is not None:
        try:
            written = config.read(options.config, options.words, with_earlier)
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
    known = set(_fields_of(model))
    iterates, structured = "max_iterations" in known, given.get("inference") == "sin"
    is_binary = given.get("likelihood") == "bernoulli"
    for word in given:
        reason = None
        if word in LATENT_WORDS and word not in known:
            reason = f"{name} has no {LACKING.get(word, word)}"
        elif word in CHAIN_WORDS and model.independent:
            reason = f"the rows of {name} are independent"
        elif word == "inference" and not hasattr(model, "expected_log_density"):
            reason = f"{name} has no structured inference network"
        elif word in ITERATION_WORDS and not iterates:
            reason = f"inference of {name} has no iterations"
        elif word in ITERATION_WORDS and structured:
            reason = "structured inference networks have no iterations"
        elif word in VARIANCE_WORDS and is_binary:
            reason = "bernoulli data have no variance of their own"
        elif word == "warmup" and not model.family:
            reason = f"{name} has no q(theta) to fit after it"
        if reason is not None:
            refuse(options, word, reason)


def refuse(options: argparse.Namespace, word: str, reason: str) -> None:
    """Stop with a usage error that says where a word was set."""
    option = option_of(word)
    if getattr(options, word) is None:
        option = f"--config: {options.config}: {word}"
    options.usage(f"argument {option}: {reason}")


def scaling_for(
    options: argparse.Namespace, settings: dict[str, Any], are_images: bool
) -> str:
    """Return how columns are scaled: as told, else by what the data are.

    Columns of files by their own standard deviations; those of images, which have one
    unit, by one for all; data that come with the package not at all.
    """
    told, wanted = settings.get("scaling"), settings.get("standardize")
    if settings["likelihood"] == "bernoulli":
        if told not in (None, "none") or wanted:
            word = "standardize" if wanted else "scaling"
            refuse(options, word, "bernoulli data must stay in [0, 1]")
        return "none"
    if told is not None:
        if options.standardize is not None and wanted != (told != "none"):
            refuse(options, "standardize", f"it says another thing than {told} scaling")
        return str(told)
    if not (options.data not in runs.BUILT_IN if wanted is None else wanted):
        return "none"
    return "shared" if are_images else "column"


def build_model(name: str, settings: dict[str, Any]) -> svae.SVAE:
    """Make the model that settings describe."""
    latent = {word: settings[word] for word in LATENT_WORDS if word in settings}
    network = NETWORKS[settings["network"]]
    shape = {word: settings[word] for word in _fields_of(network) if word in settings}
    if shape.get("weight_scale") == AUTO:
        shape["weight_scale"] = None
    words = {word: settings[word] for word in CONSTRUCTOR if word in settings}
    return svae.SVAE(
        MODELS[name](**latent),
        network(**shape),
        network(**shape, mean=settings["decoder_mean"]),
        **words | {"likelihood": likelihood_of(settings)},
    )


def likelihood_of(settings: dict[str, Any]) -> Any:
    """Return the likelihood that settings describe.

    By its word if that says all, as checkpoints of earlier runs have it.
    """
    if settings["likelihood"] != "gaussian":
        return settings["likelihood"]
    words = {word: settings[word] for word in VARIANCE_WORDS if word in settings}
    law = svae.likelihoods.Gaussian(**words)
    return "gaussian" if law == svae.likelihoods.Gaussian() else law


def fit_words(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that are arguments of `svae.SVAE.fit`."""
    words = {word: settings[word] for word in FIT if word in settings}
    if words.get("warmup") == "none":
        words["warmup"] = None
    for word in ("num_steps", "start", "learning_rate"):
        if words.get(word) == AUTO:
            words[word] = None
    return words
