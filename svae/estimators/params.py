"""The arguments of a constructor, by name: the habits of scikit-learn.

A constructor stores its arguments untouched, under their names, so that they can be
read, replaced and copied: `sklearn.base.clone` and searches over parameters need no
more.  Fields of an argument that is a dataclass have names with two underscores, like
``latent__num_states``.
"""

import inspect
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

__all__ = ["Params"]

Self = TypeVar("Self", bound="Params")


class Params:
    """Get and set the arguments of the constructor."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments by name.

        Parameters
        ----------
        deep : bool
            Whether to return the fields of arguments that are dataclasses too, as
            ``argument__field``.
        """
        names = list(inspect.signature(type(self)).parameters)
        params = {name: getattr(self, name) for name in names}
        if deep:
            for name in names:
                for field in _fields(params[name]):
                    params[f"{name}__{field}"] = getattr(params[name], field)
        return params

    def set_params(self: Self, **params: Any) -> Self:
        """Replace arguments of the constructor, or fields of them; return self.

        Raises
        ------
        ValueError
            If there is no such argument; nothing is changed.
        """
        known = self.get_params(deep=False)
        whole = {name: value for name, value in params.items() if "__" not in name}
        changed = known | whole
        for name in params.keys() - whole.keys():
            argument, _, field = name.partition("__")
            if argument not in known or field not in _fields(changed[argument]):
                raise self._unknown(name)
            changed[argument] = replace(changed[argument], **{field: params[name]})
        for name in whole.keys() - known.keys():
            raise self._unknown(name)
        for name, value in changed.items():
            setattr(self, name, value)
        return self

    def _unknown(self, name: str) -> ValueError:
        """Return the error for a name that is none of the parameters."""
        from difflib import get_close_matches  # of use where something is wrong

        near = get_close_matches(name, self.get_params(), 1)
        hint = (
            f"is it {near[0]!r}?" if near else f"it has {list(self.get_params(False))}"
        )
        return ValueError(f"{_name(self)} has no parameter {name!r}; {hint}")

    def __repr__(self) -> str:
        """Return the call of the constructor, without what it takes by default."""
        defaults = inspect.signature(type(self)).parameters
        given = (
            f"{name}={value!r}"
            for name, value in self.get_params(deep=False).items()
            if defaults[name].default is inspect.Parameter.empty
            or value != defaults[name].default
        )
        return f"{_name(self)}({', '.join(given)})"


def _fields(value: Any) -> list[str]:
    if not is_dataclass(value) or isinstance(value, type):
        return []
    return [field.name for field in fields(value)]


def _name(estimator: Any) -> str:
    return type(estimator).__name__
