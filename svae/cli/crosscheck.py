"""The command ``svae crosscheck``: another implementation beside certified values."""

import argparse
import json
import shutil
from collections.abc import Callable
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import Any

from svae.crosscheck import adapters, cases, compare, guess, report, run
from svae.crosscheck.cases import Case
from svae.crosscheck.compare import Verdict
from svae.store import replacing

__all__ = ["STATUS", "add_commands", "export", "judge_answers", "list_cases", "run_it"]

STATUS = (
    "exit status: 0 if nothing is wrong, 1 if something is, 2 for wrong usage and for "
    "answers\nthat cannot be read, 130 if interrupted"
)
Command = Callable[[argparse.Namespace], int]
README = """\
Certified cases of svae {version}: `svae crosscheck list NAME` says what a case is.

Each folder holds case.json (what the problem is, by which conventions), inputs.npz (its
inputs, exact float64) and expected.npz (of each quantity Q its value Q.hi + Q.lo, and a
bound Q.radius on the error of that).

Write your answers to NAME.npz in a folder of their own, any of the quantities that
case.json lists, as float64 arrays of the shapes given there, and run

    svae crosscheck compare {folder} ANSWERS
"""


def usage_errors(command: Command) -> Command:
    """Let a command end with status 2 for what cannot be read."""

    @wraps(command)
    def guarded(options: argparse.Namespace) -> int:
        try:
            return command(options)
        except BrokenPipeError:
            raise
        except (ValueError, OSError) as error:
            options.usage(" ".join(str(error).split()))
            raise

    return guarded


@usage_errors
def list_cases(options: argparse.Namespace) -> int:
    """Print what cases there are, or what one of them is."""
    if options.name is None:
        for case in chosen(options):
            sizes = " ".join(f"{k}={v}" for k, v in case.sizes.items())
            print(f"{case.name:34} {case.kind:18} {sizes:22} {', '.join(case.tags)}")
        return 0
    case = cases.load(known(options.name))
    print(f"{case.name}: {case.kind}\n{case.origin}")
    if case.catches:
        print(f"catches: {', '.join(case.catches)}")
    print("\nconventions")
    for word, says in case.conventions.items():
        print(f"  {word:20} {says}")
    print("\ninputs")
    for name, x in case.inputs.items():
        print(f"  {name:20} {x.shape}")
    print("\nquantities")
    for name, x in case.expected.items():
        condition = case.quantities[name].get("condition")
        about = "" if condition is None else f"condition {condition:.3g}"
        print(f"  {name:20} {x.hi.shape!s:20} {about}".rstrip())
    return 0


@usage_errors
def export(options: argparse.Namespace) -> int:
    """Write cases into a folder."""
    import svae

    folder = Path(options.folder)
    picked = chosen(options)
    folder.mkdir(parents=True, exist_ok=True)
    for case in picked:
        shutil.copytree(
            cases.CERTIFIED / case.name, folder / case.name, dirs_exist_ok=True
        )
    text = README.format(version=svae.__version__, folder=folder)
    (folder / "README.txt").write_text(text)
    print(f"{len(picked)} cases written to {folder}")
    return 0


@usage_errors
def judge_answers(options: argparse.Namespace) -> int:
    """Judge files of answers to exported cases."""
    verdicts = []
    folder = Path(options.folder)
    for one in compare.compare(folder, options.answers):
        if one.verdict == "wrong" and not options.no_guess:
            case = cases.load(folder / one.case)
            given = compare.read_answers(Path(options.answers) / f"{one.case}.npz")
            verdicts.append(guess.with_guess(case, given, one))
        else:
            verdicts.append(one)
    found = run.Report(Path(options.answers).name, "", verdicts)
    print(report.table(found, options.verbose))
    return finish(found, options)


@usage_errors
def run_it(options: argparse.Namespace) -> int:
    """Run an adapter on the cases."""

    def show(verdict: Verdict) -> None:
        print(report.line(verdict, options.verbose), flush=True)

    found = run.run(
        options.adapter,
        chosen(options),
        options.seconds,
        not options.no_guess,
        progress=show,
        relations=options.relations,
    )
    return finish(found, options)


def finish(found: run.Report, options: argparse.Namespace) -> int:
    """Print the summary, write the files, and return the status."""
    print(report.summary(found))
    if options.json is not None:
        with replacing(options.json, "w", encoding="utf-8") as file:
            json.dump(report.as_json(found), file, indent=1)
    if options.html is not None:
        with replacing(options.html, "w", encoding="utf-8") as file:
            file.write(report.as_page(found))
    return 0 if found.well else 1


def chosen(options: argparse.Namespace) -> list[Case]:
    """Return the cases that are asked for, of all of the package."""
    wanted = [known(name) for name in options.case or cases.names()]
    loaded = [cases.load(name) for name in wanted]
    return [case for case in loaded if options.kind in (None, case.kind)]


def known(name: str) -> str:
    """Raise ValueError, with a near name, if there is no such case."""
    everything = cases.names()
    if name not in everything:
        near = get_close_matches(name, everything, 1)
        raise ValueError(
            f"there is no case {name!r}"
            + (f"; is it {near[0]}?" if near else " (svae crosscheck list)")
        )
    return name


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add what can be done."""
    raw = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(required=True, metavar="WHAT")

    def add(name: str, command: Command, about: str, example: str) -> Any:
        epilog = f"example:\n  svae crosscheck {name} {example}\n\n{STATUS}"
        sub = commands.add_parser(
            name, help=about, description=about, epilog=epilog, formatter_class=raw
        )
        sub.set_defaults(command=command, usage=sub.error, synopsis=sub.format_usage)
        return sub

    about = "list the cases, or say what one of them is"
    sub = add("list", list_cases, about, "gaussian-chain-small")
    sub.add_argument("name", metavar="NAME", nargs="?", help="of a case")
    add_choice(sub)
    sub = add("export", export, "write the cases into a folder", "cases")
    sub.add_argument("folder", metavar="DIR")
    add_choice(sub)
    about = "judge answers, a file NAME.npz for each case"
    sub = add("compare", judge_answers, about, "cases answers --html verdict.html")
    sub.add_argument("folder", metavar="DIR", help="written by svae crosscheck export")
    sub.add_argument("answers", metavar="ANSWERS", help="folder of files NAME.npz")
    add_output(sub)
    about = "run an implementation on the cases, and judge its answers"
    sub = add("run", run_it, about, "mine.py --kind lds")
    names = ", ".join(adapters.NAMES)
    about = f"a Python file with functions named after kinds, or one of {names}"
    sub.add_argument("adapter", metavar="ADAPTER", help=about)
    add_choice(sub)
    about = (
        "try what must hold when problems are changed, which needs no certified value"
    )
    sub.add_argument("--relations", action="store_true", help=about)
    about = f"that a case may take; default: {run.SECONDS:g}"
    sub.add_argument(
        "--seconds", type=float, default=run.SECONDS, metavar="X", help=about
    )
    add_output(sub)


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Add which cases are meant."""
    about = "cases of one kind alone"
    parser.add_argument("--kind", choices=cases.KINDS, help=about)
    about = "this case, and others named so, alone"
    parser.add_argument("--case", action="append", metavar="NAME", help=about)


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add what is said, and where it is written."""
    about = "show the digits of every quantity"
    parser.add_argument("--verbose", action="store_true", help=about)
    about = "do not look for the cause of what is wrong"
    parser.add_argument("--no-guess", action="store_true", help=about)
    parser.add_argument("--json", metavar="FILE", help="write the verdicts as json")
    parser.add_argument("--html", metavar="FILE", help="write the verdicts as a page")
