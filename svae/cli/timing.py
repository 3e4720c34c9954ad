"""The command ``svae profile``."""

import argparse
import inspect
from typing import Any

from svae import profile
from svae.cli import output
from svae.cli.output import Say
from svae.store import replacing

__all__ = ["DEFAULTS", "LONG", "MEMORY", "time_kernels"]

DEFAULTS: dict[str, Any] = {
    name: inspect.signature(function).parameters[name].default
    for function, names in (
        (profile.cases, ("sizes", "num_sequences", "num_timesteps")),
        (profile.run, ("repeats",)),
    )
    for name in names
}
"""What is timed, unless another is said."""
QUICK: dict[str, Any] = {
    "sizes": (2, 4),
    "num_sequences": 16,
    "num_timesteps": 100,
    "repeats": 3,
}
LONG: dict[str, Any] = {"sizes": (10,), "num_sequences": 1, "num_timesteps": 10**6}
LONG_QUICK: dict[str, Any] = LONG | {"sizes": (4,), "num_timesteps": 10**4}
MEMORY: dict[str, Any] = {"sizes": (10,), "num_sequences": 1, "num_timesteps": 10**6}


def time_kernels(options: argparse.Namespace) -> int:
    """Time the compiled chains; print the tables, write the files, draw the roofs."""
    say, show = output.speaker(options), output.shows_progress(options)
    if options.compare:
        print(profile.compare(*options.compare))
        return 0
    if options.steps:
        return time_steps(options, say, show)
    settings = _settings(options)
    sizes, num_timesteps = settings["sizes"], settings["num_timesteps"]
    problem = options.kernel, sizes, settings["num_sequences"], num_timesteps
    chosen = (profile.long_cases if options.long else profile.cases)(*problem)
    if options.memory:
        print(profile.memory_table(profile.peaks(chosen, progress=show)))
        return 0
    threads, name = options.threads, "profile"
    if options.long:
        threads, name = threads or profile.doubling_threads(), "long"
    compared = []
    if options.peers:
        compared = profile.peers.cases(
            options.kernel, sizes, num_timesteps=num_timesteps
        )
    report = profile.run(
        chosen,
        threads,
        settings["repeats"],
        memory=not (options.quick or options.long),
        compared=compared,
        rng=options.rng,
        progress=show,
        **({"budget": 0.1} if options.quick else {}),
    )
    say(profile.table(report))
    folder = profile.save(report, options.out, name)
    if not options.long and output.can_draw(say):
        with replacing(folder / "roofline.png") as file:
            profile.plot(report).savefig(file, format="png")
    say(f"written to {folder}")
    return 0


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return sizes and repeats: as said, or what is usual for what is measured."""
    settings = DEFAULTS | (QUICK if options.quick else {})
    if options.memory:
        settings |= MEMORY
    if options.long:
        settings |= LONG_QUICK if options.quick else LONG
    said = {name: getattr(options, name) for name in settings}
    return settings | {name: x for name, x in said.items() if x is not None}


def time_steps(options: argparse.Namespace, say: Say, show: bool) -> int:
    """Time training steps; print the table, write the files."""
    quick: dict[str, Any] = {}
    if options.quick:
        quick = {"chosen": ("pinwheel", "dots"), "budget": 0.1}
    repeats = options.repeats or (QUICK if options.quick else DEFAULTS)["repeats"]
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
