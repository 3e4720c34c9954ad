"""The arguments of a model as json: latent models and networks by class and fields.

A class of the package goes by its name; any other by its qualified one, which has a
dot, so that neither is ever taken for the other.  Back from json, a class is looked up
among those that are known, the package's and those that the caller gives: what a file
names is never imported, and never searched for in a module.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cached_property
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np

from svae import likelihoods, models, networks, priors
from svae.estimators.params import Params

__all__ = [
    "arguments",
    "classes",
    "from_json",
    "name_of",
    "restore",
    "to_json",
]

BUILT_IN: dict[str, type] = {
    part.__name__: part
    for part in (
        models.Gaussian,
        models.GMM,
        models.StudentMixture,
        models.HMM,
        models.LDS,
        models.SLDS,
        models.LinearEmission,
        networks.MLP,
        networks.Residual,
        networks.Linear,
    )
}
LIKELIHOODS = {
    f"svae.likelihoods.{part.__name__}": part
    for part in (likelihoods.Gaussian, likelihoods.Bernoulli)
}
"""They go by qualified names: `svae.Gaussian` is a latent model."""
PRIORS = {
    f"svae.priors.{part.__name__}": part
    for part in (priors.Dirichlet, priors.NIW, priors.MNIW, priors.Normal)
}
"""They go by qualified names, and look at their numbers themselves."""
OWN = BUILT_IN | LIKELIHOODS | PRIORS
NUMBERS = (bool, int, float)
ALLOWED = "numbers, strings, None, tuples or dicts of these, or dataclasses"

Known = Mapping[str, type]


def classes(parts: Iterable[type] | Mapping[str, type] | None) -> dict[str, type]:
    """Return the classes that are known, by the names they have in files.

    Parameters
    ----------
    parts : classes, or dict from str to class
        Those beside the package's own.  In a dict, by the names they had when they were
        saved.

    Raises
    ------
    TypeError
        If one is no class.
    """
    if parts is None:
        return dict(OWN)
    if isinstance(parts, type) or not isinstance(parts, Iterable):
        raise TypeError(f"parts must be a list of classes, got {parts!r}")
    given = parts.values() if isinstance(parts, Mapping) else tuple(parts)
    for part in given:
        if not isinstance(part, type):
            raise TypeError(f"parts must be classes, like MyNetwork, got {part!r}")
    if isinstance(parts, Mapping):
        return {**parts, **OWN}
    # files of earlier versions have names without a module
    bare = {part.__name__: part for part in given}
    return bare | {_qualified(part): part for part in given} | OWN


def name_of(part: type) -> str:
    """Return the name of a class in files."""
    if BUILT_IN.get(part.__name__) is part:
        return part.__name__
    return _qualified(part)


def arguments(model: Params) -> dict[str, Any]:
    """Return what json holds of the constructor's arguments of a model.

    Raises
    ------
    TypeError
        If one could not come back: an object that is no dataclass, or of which there is
        more than its fields, or a field that json does not hold; names it.
    """
    return {
        name: to_json(value, name)
        for name, value in model.get_params(deep=False).items()
    }


def restore(default: type, meta: Mapping[str, Any], known: Known) -> Any:
    """Return the model, not fitted, of the class and the arguments in a file.

    Raises
    ------
    ValueError
        If it has a class that is not known, with how to make it so; or is no
        ``default`` model.
    """
    known = {**known, name_of(default): default}
    content = {"class": name_of(default), **dict(meta["arguments"])}
    if "class" in meta:
        content["class"] = meta["class"]
    _check_known(content, known)
    if not issubclass(known[content["class"]], default):
        raise ValueError(f"its class {content['class']} is no {default.__name__}")
    return from_json(content, known)


def _check_known(content: Any, known: Known) -> None:
    """Raise ValueError if there is a class that is not known; names all of them."""
    found = dict(_named(content, "the model"))
    unknown = {name: role for name, role in found.items() if name not in known}
    if not unknown:
        return
    own = {part.__name__ for part in known.values() if part not in OWN.values()}
    short = {name: name.rpartition(".")[2] for name in unknown}
    remedy = f"[{', '.join(short.values())}]"
    if own & set(short.values()):  # it is known by another name
        entries = (f"{name!r}: {each}" for name, each in short.items())
        remedy = f"{{{', '.join(entries)}}}"
    are = ", ".join(f"{role} is a {name}" for name, role in unknown.items())
    raise ValueError(
        f"{are}: not among svae's own classes; read it with svae.load(path, "
        f"parts={remedy})"
    )


def _named(content: Any, role: str) -> Iterator[tuple[str, str]]:
    """Yield the names of classes and where they are."""
    if isinstance(content, list):
        for item in content:
            yield from _named(item, role)
    elif isinstance(content, dict):
        if "class" in content:
            yield str(content["class"]), role
        for name, item in content.items():
            yield from _named(item, name)


def to_json(value: Any, where: str) -> Any:
    """Return what json holds of a value; of a dataclass, its class and its fields.

    Lists come back as tuples.

    Raises
    ------
    TypeError
        If it could not come back; names ``where`` it is.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.generic) and value.dtype.kind in "biufU":
        return value.item()
    if isinstance(value, priors.Prior):
        return to_json(dict(value), where)
    if type(value) in (tuple, list):
        return [to_json(item, f"{where}[{n}]") for n, item in enumerate(value)]
    if type(value) is dict and "class" not in value:
        if all(type(key) is str for key in value):
            return {key: to_json(item, f"{where}.{key}") for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return _describe(value, where)
    name = _qualified(value if isinstance(value, type) else type(value))
    raise TypeError(
        f"{where} is a {name}, which cannot be saved: what a model is made of must be "
        f"{ALLOWED} (@dataclasses.dataclass) with such fields"
    )


def from_json(content: Any, known: Known) -> Any:
    """Return the value that `to_json` described, of classes that are known."""
    if isinstance(content, list):
        return tuple(from_json(item, known) for item in content)
    if not isinstance(content, dict):
        return content
    options = {name: from_json(item, known) for name, item in content.items()}
    if "class" not in content:
        return options
    kind = known[options.pop("class")]
    if kind not in PRIORS.values() and kind in OWN.values():
        _check_types(kind, options)
    return kind(**options)


def _check_types(kind: type, options: dict[str, Any]) -> None:
    """Raise ValueError if there is text where a class has a number, or the reverse."""
    hints = get_type_hints(kind)
    for name, value in options.items():
        if name in hints and not _fits(value, hints[name]):
            raise ValueError(f"{name} of {kind.__name__} is {value!r}")


def _fits(value: Any, hint: Any) -> bool:
    if hint in NUMBERS:  # one is as good as another, if it is of the same value
        return type(value) in NUMBERS
    if get_origin(hint) is priors.PriorArgument:  # the model looks at the factors
        return value is None or type(value) is dict
    if hint in (str, type(None)):
        return type(value) is hint
    if get_origin(hint) is tuple:
        items = get_args(hint)[0]
        return type(value) is tuple and all(_fits(each, items) for each in value)
    return any(_fits(value, each) for each in get_args(hint))


def _describe(part: Any, where: str) -> dict[str, Any]:
    """Return the description of a dataclass that it can be made of again."""
    kind, given = type(part), _fields(part, where)
    names = {field.name for field in fields(part)}
    more = [
        name
        for name in getattr(part, "__dict__", {})
        if name not in names
        and not isinstance(getattr(kind, name, None), cached_property)
    ]
    if more:
        raise TypeError(
            f"{where}: a {_qualified(kind)} cannot be saved: {more[0]} is no field of "
            "the dataclass, and would be lost; annotate it in the class"
        )
    try:
        again = kind(**{name: _tupled(getattr(part, name)) for name in given})
        same = json.dumps(_fields(again, where)) == json.dumps(given)
    except Exception as error:
        raise TypeError(
            f"{where}: a {_qualified(kind)} cannot be saved: it cannot be made again "
            f"from its fields ({error})"
        ) from error
    if not same:
        raise TypeError(
            f"{where}: a {_qualified(kind)} cannot be saved: made again from its "
            "fields it is another"
        )
    return {"class": name_of(kind), **given}


def _fields(part: Any, where: str) -> dict[str, Any]:
    values = {field.name: getattr(part, field.name) for field in fields(part)}
    return {
        field.name: to_json(values[field.name], f"{where}.{field.name}")
        for field in fields(part)
        if field.init and not _is_default_prior(values[field.name])
    }


def _is_default_prior(value: Any) -> bool:
    """Whether a prior has nothing to write; earlier versions know of no other."""
    return isinstance(value, priors.Prior) and not value


def _tupled(value: Any) -> Any:
    """Return a value as it comes back."""
    if type(value) in (tuple, list):
        return tuple(_tupled(item) for item in value)
    if type(value) is dict:
        return {key: _tupled(item) for key, item in value.items()}
    return value


def _qualified(part: type) -> str:
    return f"{part.__module__}.{part.__qualname__}"
