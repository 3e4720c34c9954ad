"""Settings in a file: the words of a command line's options, in TOML or JSON.

A word goes through the parser of its option, so what holds for one holds for the other.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

__all__ = ["read"]


def read(
    path: str | Path,
    actions: Mapping[str, argparse.Action],
    completed: Callable[[str, dict[str, Any]], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return the words that a file sets.

    Parameters
    ----------
    path : path
        A ``.toml`` or ``.json`` file.  The words of a table ``settings`` count like
        those beside it, and then what else is beside it is left alone: so the
        ``run.json`` of a run is such a file.
    actions : dict of str to argparse.Action
        The options that there are, by word; one of arity 0 is true or false.
    completed : callable, optional
        Called with the model and the ``settings`` of a run; returns these with the
        words that runs of earlier versions did not have.

    Raises
    ------
    ValueError
        If the file is none of the two formats, or a word is unknown or has a value
        that its option would not take; names file and word.
    """
    path = Path(path)
    content = _parse(path)
    if isinstance(settings := content.get("settings"), dict):
        about = {"model", "data"} & content.keys()
        if completed is not None and "model" in about:
            settings = completed(content["model"], settings)
        content = {word: content[word] for word in about} | settings
    for word in content:
        if word not in actions:
            near = get_close_matches(word, actions, 1)
            hint = f"; is it {near[0]}?" if near else ""
            raise ValueError(f"{path}: there is no word {word!r}{hint}")
    return {
        word: _value(path, word, value, actions[word])
        for word, value in content.items()
    }


def _parse(path: Path) -> dict[str, Any]:
    """Return the table that a file holds."""
    if path.suffix == ".json":
        loads = json.loads
    elif path.suffix == ".toml":
        loads = _toml(path).loads
    else:
        raise ValueError(f"{path}: a config file ends in .toml or .json")
    try:
        content = loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # also of tomllib and the codec
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds no table of words")
    return content


def _toml(path: Path) -> Any:
    """Return the module that reads TOML: part of Python from 3.11 on."""
    try:
        import tomllib
    except ModuleNotFoundError:
        try:
            import tomli as tomllib
        except ModuleNotFoundError as error:
            raise ValueError(
                f"{path}: TOML needs Python 3.11 or tomli (pip install tomli); json is "
                "always read"
            ) from error
    return tomllib


def _value(path: Path, word: str, value: Any, action: argparse.Action) -> Any:
    """Return the value of a word as its option would have it."""
    try:
        return _parsed(value, action)
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise ValueError(f"{path}: {word} is {value!r}: {error}") from error


def _parsed(value: Any, action: argparse.Action) -> Any:
    """Return a value that an option has parsed, and found to be just that value."""
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise ValueError("wanted true or false")
        return value
    parse: Any = action.type or str
    typed, meant = str(value), value
    if isinstance(value, list):
        typed, meant = ",".join(map(str, value)), tuple(value)
    elif isinstance(value, dict):
        typed = ",".join(f"{key}={number}" for key, number in value.items())
    elif value is None:
        typed = meant = "none"
    try:
        parsed = parse(typed)
    except (TypeError, ValueError) as error:
        raise ValueError(f"invalid {parse.__name__} value") from error
    if parsed != meant:
        raise ValueError(f"wanted {json.dumps(parsed)}")
    if action.choices is not None and parsed not in action.choices:
        raise ValueError(f"wanted one of {', '.join(map(str, action.choices))}")
    return parsed
