"""A process that runs an adapter, so that nothing an adapter does can end ours.

`svae.crosscheck.run` starts it with the name of an adapter; it reads pickled requests
``(kind, inputs)`` from its input and answers each with a word and what it is about:
``("answers", dict)``, ``("not judged", why)`` or ``("failed", why)``.  What the adapter
prints goes to the standard error.
"""

import importlib
import importlib.util
import os
import pickle
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

__all__ = ["answer", "describe", "load_adapter", "main", "serve"]


def load_adapter(name: str) -> ModuleType:
    """Import an adapter.

    Parameters
    ----------
    name : str
        The path of a Python file, or the name of a module of
        `svae.crosscheck.adapters`, with ``ours`` for this package.

    Raises
    ------
    Exception
        Whatever the file raises when it is run.
    """
    if name == "ours":
        return importlib.import_module("svae.crosscheck.ours")
    path = Path(name)
    if path.suffix != ".py":
        return importlib.import_module(f"svae.crosscheck.adapters.{name}")
    spec = importlib.util.spec_from_file_location(f"adapter_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.append(str(path.resolve().parent))
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def describe(adapter: ModuleType) -> dict[str, Any]:
    """Return what an adapter says of itself."""
    default = adapter.__name__.rpartition(".")[2].removeprefix("adapter_")
    return {
        "name": str(getattr(adapter, "name", default)),
        "version": str(getattr(adapter, "version", "")),
        "expected_failures": dict(getattr(adapter, "expected_failures", {})),
        "functions": [
            name
            for name, x in vars(adapter).items()
            if callable(x) and not name.startswith("_")
        ],
    }


def answer(adapter: ModuleType, kind: str, inputs: dict[str, Any]) -> tuple[str, Any]:
    """Ask an adapter; whatever it raises is an answer too."""
    function = getattr(adapter, kind, None)
    if function is None:
        return "not judged", f"the adapter has no function {kind}"
    try:
        found = function(inputs)
        if not isinstance(found, dict):
            return "failed", f"{kind} returned {type(found).__name__}, wanted a dict"
        return "answers", {str(name): plain(x) for name, x in found.items()}
    except NotImplementedError as why:
        return "not judged", str(why) or "not implemented"
    except (Exception, SystemExit) as error:  # noqa: BLE001  an adapter may do anything
        return "failed", last_line(error)


def plain(x: Any) -> Any:
    """Return an array of NumPy, or text that says what it was instead."""
    try:
        array = np.asarray(x)
    except Exception as error:  # noqa: BLE001  of an array of any package
        return f"no array: {error}"
    return array if array.dtype.kind in "biufc" else f"an array of {array.dtype}"


def last_line(error: BaseException) -> str:
    """Return an error and the line of the adapter that it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" (line {frames[1].lineno} of {frames[1].name})" if len(frames) > 1 else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{place}"


def serve(name: str, requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer requests until there are no more."""

    def reply(word: str, about: Any) -> None:
        pickle.dump((word, about), replies)
        replies.flush()

    try:
        adapter = load_adapter(name)
        reply("ready", describe(adapter))
    except (Exception, SystemExit) as error:  # noqa: BLE001
        reply("failed", f"{type(error).__name__}: {error}")
        return
    while True:
        try:
            kind, inputs = pickle.load(requests)
        except EOFError:
            return
        reply(*answer(adapter, kind, inputs))


def main(name: str) -> None:
    """Serve on the standard streams; what an adapter prints is an error's."""
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(name, sys.stdin.buffer, channel)
