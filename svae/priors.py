r"""Priors of a model's parameters in standard terms, factor by factor.

A model's prior is a product of conjugate families, and its ``prior`` argument replaces
factors of it, or some numbers of a factor, by others::

    svae.GMM(
        10,
        6,
        prior={
            "weights": svae.priors.Dirichlet(0.05 / 10),
            "components": svae.priors.NIW(mean=0, kappa=0.5, scale=6.5, dof=12.5),
        },
    )

is the prior of Lin, Hubacher and Khan (2018) for K = 10 and L = 6.  Numbers that are
not given are those of the model's default, and so are factors that are not named.  A
number is for all states and dimensions: of a covariance or a scale matrix it multiplies
the identity, of the mean of dynamics too.  A vector is a mean, or the diagonal of a
matrix.  With an axis of K in front, every state has its own.

The ``prior`` of a model shows what was given; called, it returns the natural parameters
of the whole.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from types import ModuleType
from typing import Any, ClassVar, Generic, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike

from svae.families import dirichlet, gaussian, mniw, niw
from svae.families.arrays import is_positive_definite
from svae.types import Array

__all__ = [
    "MNIW",
    "NIW",
    "Dirichlet",
    "HasPrior",
    "Normal",
    "Prior",
    "PriorArgument",
    "Standard",
    "check_said_once",
]

NatParams = tuple[Any, ...]
Model = TypeVar("Model")

VECTOR, MATRIX = 1, 2
"""Axes of one value of a standard parameter; a number has none."""


@dataclass(frozen=True, repr=False)
class Standard:
    """A factor of a prior in its standard parameters; None stands for the default's.

    Fields are kept as numbers or nested tuples, so that two that are alike are equal.
    """

    family: ClassVar[ModuleType]
    axes: ClassVar[dict[str, int]]
    """How many axes one value of each parameter has."""
    positive: ClassVar[frozenset[str]]
    """Parameters that must be positive, or matrices positive definite."""

    def __post_init__(self) -> None:
        """Keep plain numbers; refuse those that no default could make right."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            array = numbers(value, f"{type(self).__name__}: {field.name}")
            self._check_positive(field.name, array)
            object.__setattr__(self, field.name, nested(array.tolist()))

    def __repr__(self) -> str:
        """Return the call of the constructor, with what is given."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        given = [f"{name}={v!r}" for name, v in values.items() if v is not None]
        return f"{type(self).__name__}({', '.join(given)})"

    def natparams(self, default: NatParams, where: str) -> NatParams:
        """Return natural parameters, with what is not given from the default's.

        Parameters
        ----------
        default : tuple
            Natural parameters of the same family, which say the shapes too.
        where : str
            The name of this factor in errors.

        Raises
        ------
        ValueError
            If a parameter has a shape that does not fit, or too few degrees of freedom.
        """
        standard = dict(zip(self.axes, self.family.to_standard(default), strict=True))
        for name, axes in self.axes.items():
            value = getattr(self, name)
            if value is not None:
                place = f"{where}.{name}"
                standard[name] = expanded(value, standard[name].shape, axes, place)
        self._check_dof(standard, where)
        natparams: NatParams = self.family.from_standard(*standard.values())
        return natparams

    def _check_positive(self, name: str, array: Array) -> None:
        if name not in self.positive:
            return
        if self.axes[name] == MATRIX and array.ndim >= MATRIX:
            square = array.shape[-1] == array.shape[-2]
            symmetric = square and np.allclose(array, np.swapaxes(array, -1, -2))
            if not symmetric or not is_positive_definite(array):
                raise ValueError(
                    f"{type(self).__name__}: {name} must be symmetric and positive "
                    f"definite, got {array.tolist()}"
                )
        elif not (array > 0).all():
            raise ValueError(
                f"{type(self).__name__}: {name} must be positive, got {array.tolist()}"
            )

    def _check_dof(self, standard: dict[str, Array], where: str) -> None:
        """Raise ValueError unless an inverse Wishart has more than D - 1 of them."""
        if "dof" not in standard:
            return
        least = standard["scale"].shape[-1] - 1
        if not (standard["dof"] > least).all():
            raise ValueError(
                f"{where}.dof must be more than {least}, the dimension less 1, got "
                f"{self.dof!r}"  # type: ignore[attr-defined]
            )


@dataclass(frozen=True, repr=False)
class Dirichlet(Standard):
    """Dirichlet prior of probabilities.

    Parameters
    ----------
    concentration : float, (K,) array, or (K, K) array for transitions
        Its parameters alpha, pseudo-counts; 1 is uniform.  For transitions a vector is
        for every row.
    """

    concentration: ArrayLike

    family: ClassVar[ModuleType] = dirichlet
    axes: ClassVar[dict[str, int]] = {"concentration": VECTOR}
    positive: ClassVar[frozenset[str]] = frozenset({"concentration"})


@dataclass(frozen=True, repr=False)
class NIW(Standard):
    r"""Normal-inverse-Wishart prior of a mean and covariance.

    .. math:: \Sigma \sim \mathcal{IW}(S, \nu), \qquad
              \mu \mid \Sigma \sim \mathcal{N}(m, \Sigma / \kappa)

    Parameters
    ----------
    mean : float, (D,) or (K, D) array, optional
        m.
    kappa : float or (K,) array, optional
        The weight of ``mean``, in observations.
    scale : float, (D,), (D, D) or (K, D, D) array, optional
        S, with E[Sigma] = S / (nu - D - 1) where that exists.
    dof : float or (K,) array, optional
        nu > D - 1, degrees of freedom.
    """

    mean: ArrayLike | None = None
    kappa: ArrayLike | None = None
    scale: ArrayLike | None = None
    dof: ArrayLike | None = None

    family: ClassVar[ModuleType] = niw
    axes: ClassVar[dict[str, int]] = {
        "mean": VECTOR,
        "kappa": 0,
        "scale": MATRIX,
        "dof": 0,
    }
    positive: ClassVar[frozenset[str]] = frozenset({"kappa", "scale", "dof"})


@dataclass(frozen=True, repr=False)
class MNIW(Standard):
    r"""Matrix-normal-inverse-Wishart prior of linear dynamics.

    .. math:: Q \sim \mathcal{IW}(S, \nu), \qquad
              A \mid Q \sim \mathcal{MN}(M, Q, C)

    Dynamics with a bias are ``[A b]``: all that has Din columns has one more for b.

    Parameters
    ----------
    mean : float, (D, Din) or (K, D, Din) array, optional
        M.
    column_cov : float, (Din,), (Din, Din) or (K, Din, Din) array, optional
        C: how far, in units of Q, columns of A are from those of M.
    scale : float, (D,), (D, D) or (K, D, D) array, optional
        S, with E[Q] = S / (nu - D - 1) where that exists.
    dof : float or (K,) array, optional
        nu > D - 1, degrees of freedom.
    """

    mean: ArrayLike | None = None
    column_cov: ArrayLike | None = None
    scale: ArrayLike | None = None
    dof: ArrayLike | None = None

    family: ClassVar[ModuleType] = mniw
    axes: ClassVar[dict[str, int]] = {
        "mean": MATRIX,
        "column_cov": MATRIX,
        "scale": MATRIX,
        "dof": 0,
    }
    positive: ClassVar[frozenset[str]] = frozenset({"column_cov", "scale", "dof"})


@dataclass(frozen=True, repr=False)
class Normal(Standard):
    """Normal prior, of the log degrees of freedom of a Student-t mixture.

    Parameters
    ----------
    mean : float, (D,) or (K, D) array, optional
    cov : float, (D,), (D, D) or (K, D, D) array, optional
    """

    mean: ArrayLike | None = None
    cov: ArrayLike | None = None

    family: ClassVar[ModuleType] = gaussian
    axes: ClassVar[dict[str, int]] = {"mean": VECTOR, "cov": MATRIX}
    positive: ClassVar[frozenset[str]] = frozenset({"cov"})


KINDS: dict[ModuleType, type[Standard]] = {
    kind.family: kind for kind in (Dirichlet, NIW, MNIW, Normal)
}
NaturalPrior = Callable[[Any], dict[str, NatParams]]
Given = Mapping[str, Standard] | None


class Prior(Mapping[str, Standard]):
    """The prior of a model: what was given of it and, called, all of it.

    As a mapping it has the factors that were given, in standard terms.
    """

    def __init__(self, model: Any, given: Given, default: NaturalPrior) -> None:
        """Belong to a model; see `PriorArgument`."""
        self._model, self._given, self._default = model, given or {}, default

    def __call__(self) -> dict[str, Any]:
        """Return natural parameters of p(theta), factor by factor."""
        natparams = self._default(self._model)
        replaced = {
            name: factor.natparams(natparams[name], f"prior[{name!r}]")
            for name, factor in self._given.items()
        }
        return natparams | replaced

    def check(self) -> None:
        """Raise ValueError, naming the argument, if what was given does not fit."""
        if not isinstance(self._given, Mapping):
            raise ValueError(
                "prior must be a dict from the name of a factor to "
                f"svae.priors.Dirichlet(...) or another, got {self._given!r}"
            )
        family = self._model.family
        for name, factor in self._given.items():
            if name not in family:
                raise ValueError(
                    f"prior: {type(self._model).__name__} has no factor {name!r}; it "
                    f"has {', '.join(map(repr, family))}"
                )
            kind = KINDS[family[name]]
            if not isinstance(factor, kind):
                raise ValueError(
                    f"prior[{name!r}] must be svae.priors.{kind.__name__}(...), got "
                    f"{factor!r}"
                )
        if self._given:
            self()

    def __getitem__(self, name: str) -> Standard:
        """Return a factor that was given."""
        return self._given[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the factors that were given."""
        return iter(self._given)

    def __len__(self) -> int:
        """Return how many factors were given."""
        return len(self._given)

    def __hash__(self) -> int:
        """Return one hash for all that are equal."""
        return hash(frozenset(self._given.items()))

    def __repr__(self) -> str:
        """Return what was given, or None."""
        return repr(dict(self._given) or None)


class PriorArgument(Generic[Model]):
    """The field ``prior`` of a model, a dataclass: kept as given, read as a `Prior`.

    Parameters
    ----------
    default : callable, optional
        From the model to the natural parameters of its default prior; by default its
        method ``default_prior``.
    """

    def __init__(self, default: NaturalPrior | None = None) -> None:
        """Take the default prior from a function, or from the model's method."""
        self.default = default or _default_prior

    @overload
    def __get__(self, model: None, owner: type) -> None: ...

    @overload
    def __get__(self, model: Model, owner: type) -> Prior: ...

    def __get__(self, model: Model | None, owner: type) -> Prior | None:
        """Return the prior of a model; of its class, the default of the argument."""
        if model is None:
            return None
        return Prior(model, vars(model).get("prior"), self.default)

    def __set__(self, model: Model, given: Given) -> None:
        """Keep what was given, on its own."""
        if isinstance(given, Mapping):
            given = dict(given) or None
        vars(model)["prior"] = given


def _default_prior(model: Any) -> Any:
    """Return what the model's method says; `pickle` finds a function by its name."""
    return model.default_prior()


class HasPrior:
    """A model whose prior can be set; a subclass may have a ``prior`` method instead.

    What is given replaces factors of what the method returns.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Take a method ``prior`` of a subclass for its default."""
        super().__init_subclass__(**options)
        own = vars(cls).get("prior")
        if callable(own):
            cls.prior = PriorArgument(own)  # type: ignore[attr-defined]


def check_said_once(model: Any, given: Mapping[str, bool]) -> None:
    """Raise ValueError if a field is given that the given prior makes mute.

    Parameters
    ----------
    model : dataclass
    given : dict from str to bool
        For each field, whether the prior says all that it would.
    """
    defaults = {field.name: field.default for field in fields(model)}
    for name, replaced in given.items():
        if replaced and getattr(model, name) != defaults[name]:
            raise ValueError(
                f"{name}={getattr(model, name)!r} has no effect beside prior="
                f"{model.prior!r}, which replaces what it says: leave it out"
            )


def numbers(value: Any, where: str) -> Array:
    """Return an array of finite numbers; raise ValueError naming ``where`` it is."""
    try:
        array = np.asarray(value)
        right = array.dtype.kind in "biuf" and bool(np.isfinite(array).all())
    except ValueError:  # nested sequences of several lengths
        right = False
    if not right:
        raise ValueError(f"{where} must be finite numbers, got {value!r}")
    return array.astype(np.float64)


def nested(value: Any) -> Any:
    """Return nested lists as nested tuples."""
    return tuple(map(nested, value)) if isinstance(value, list) else value


def expanded(value: Any, shape: tuple[int, ...], axes: int, where: str) -> Array:
    """Return a parameter in full shape (..., event), with ``axes`` axes of an event.

    Raises
    ------
    ValueError
        If it has another shape; names ``where`` it is.
    """
    array = np.asarray(value, dtype=np.float64)
    event = shape[len(shape) - axes :]
    if axes == MATRIX and array.ndim == 0:
        array = array * np.eye(event[0], event[1])
    elif axes == MATRIX and array.ndim == 1 and event[0] == event[1]:
        array = np.diag(array)
    if array.ndim == 0 or array.shape in (event, shape):
        return np.broadcast_to(array, shape)
    diagonal = [event[:1]] if axes == MATRIX and event[0] == event[1] else []
    shapes = dict.fromkeys(str(each) for each in (*diagonal, event, shape) if each)
    wanted = " or ".join(["a number", *shapes])
    raise ValueError(f"{where} must be {wanted} in shape, got {array.shape}")
