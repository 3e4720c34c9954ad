"""What scikit-learn asks of an estimator, which is imported only when it asks.

The classes inherit nothing of scikit-learn's.  They have the methods that its
pipelines, searches and checks look for: tags, whether a model is fitted, the names of
columns, and data frames as answers.  Labels are ignored, as those of its density
estimators are.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from svae.errors import NotFitted, Unavailable, needing
from svae.estimators.params import Params
from svae.types import Integers

__all__ = [
    "Estimator",
    "available_if",
    "check_columns",
    "columns",
    "takes_labels",
]

Method = TypeVar("Method", bound=Callable[..., Any])
CONTAINERS = ("default", "pandas")
COLUMNS = "feature_names"


def takes_labels(method: Method, none_is_label: bool = False) -> Method:
    """Let a method take scikit-learn's ``y`` after the data, and ignore it.

    Its pipelines and searches call ``fit(X, y, **settings)`` and ``score(X, y)``, where
    y are labels or None.  Methods of this package may have a setting in this place,
    ``fit(data, 500)``, which is not mistaken for labels: these are an array or a list
    with an entry for each row of the data, or each sequence.  Of None in this place,
    before other settings, ``none_is_label`` says which it is, if None is a value of the
    setting.
    """
    signature = inspect.signature(method)
    of_model, of_data, *others = signature.parameters.values()
    labels = inspect.Parameter("y", of_data.kind, default=None)
    none_is_no_setting = none_is_label or others[0].default is not None

    @functools.wraps(method)
    def called(
        model: Any, data: Any, *settings: Any, y: Any = None, **named: Any
    ) -> Any:
        if settings and settings[0] is None:
            is_label = none_is_no_setting or len(settings) == 1
        else:
            is_label = bool(settings) and _are_labels(settings[0], data)
        settings = settings[1:] if is_label else settings
        return method(model, data, *settings, **named)

    shown = signature.replace(parameters=[of_model, of_data, labels, *others])
    cast(Any, called).__signature__ = shown
    return cast(Method, called)


def _are_labels(value: Any, data: Any) -> bool:
    if isinstance(value, (str, bytes)) or not hasattr(value, "__len__"):
        return False
    shape = getattr(data, "shape", ())
    if not shape and not hasattr(data, "__len__"):  # no data, which is said later
        return True
    num_rows = shape[0] if shape else len(data)
    return np.ndim(value) > 0 and len(value) == num_rows


class available_if:
    """A method that models have only if they meet a condition: `hasattr` says whether.

    Parameters
    ----------
    condition : callable
        Takes the model.
    reason : str
        What the error says of a model that does not; ``{}`` is its latent model.
    """

    def __init__(self, condition: Callable[[Any], bool], reason: str) -> None:
        self.condition = condition
        self.reason = reason

    def __call__(self, method: Method) -> Method:
        """Return the method as an attribute of the class."""
        return cast(Method, _Conditional(method, self))


class _Conditional:
    """The method of a class that `available_if` decorates."""

    def __init__(self, method: Callable[..., Any], when: available_if) -> None:
        self.method = method
        self.when = when
        self.__doc__ = method.__doc__

    def __get__(self, model: Any, owner: type) -> Any:
        """Return the method, bound to the model; of the class, the function."""
        if model is None:
            return self.method
        if not self.when.condition(model):
            name = type(model.latent).__name__
            reason = self.when.reason.format(name)
            raise Unavailable(f"{self.method.__name__}: {reason}")
        return self.method.__get__(model, owner)


with_transform = available_if(
    lambda model: model._has("transform"), "there are no latents of {} beside the data"
)


class Estimator(Params):
    """The part of a face that scikit-learn sees."""

    latent: Any
    obs_dim_: int
    feature_names_in_: NDArray[np.object_]

    @with_transform
    def fit_transform(self, data: Any, y: Any = None, **settings: Any) -> Any:
        """Return ``fit(data, **settings).transform(data)``; ``y`` is ignored."""
        return cast(Any, self).fit(data, **settings).transform(data)

    @available_if(lambda model: model._has("predict"), "{} has no discrete states")
    def fit_predict(self, data: Any, y: Any = None, **settings: Any) -> Integers:
        """Return ``fit(data, **settings).predict(data)``; ``y`` is ignored."""
        found: Integers = cast(Any, self).fit(data, **settings).predict(data)
        return found

    @property
    def n_features_in_(self) -> int:
        """P of the data that the model was fitted to."""
        return self.obs_dim_

    @with_transform
    def get_feature_names_out(
        self, input_features: ArrayLike | None = None
    ) -> NDArray[np.object_]:
        """Return names of the latents (D,): ``svae0``, ``svae1``, ...

        Parameters
        ----------
        input_features : sequence of str, optional
            Names of the columns of the data, which those of latents do not follow.

        Raises
        ------
        ValueError
            If they are not as many as the columns that were fitted, or other names.
        """
        self._fitted()
        if input_features is not None:
            given = list(np.asarray(input_features, dtype=object))
            if given != list(getattr(self, "feature_names_in_", given)):
                raise ValueError("input_features is not equal to feature_names_in_")
            if len(given) != self.obs_dim_:
                raise ValueError(
                    "input_features should have length equal to number of features "
                    f"({self.obs_dim_}), got {len(given)}"
                )
        prefix = type(self).__name__.lower()
        names = [f"{prefix}{number}" for number in range(self.latent.latent_dim)]
        return np.array(names, dtype=object)

    def set_output(self, *, transform: str | None = None) -> Any:
        """Choose what `transform` returns for sequences (T, P); return self.

        Parameters
        ----------
        transform : {"default", "pandas"}, optional
            Arrays, or data frames with the names of `get_feature_names_out` and the
            index of the data.  None changes nothing.  A list of sequences becomes a
            list of data frames; an array (N, T, P) stays an array.
        """
        if transform is not None:
            _check_container(transform)
            self._sklearn_output_config = {"transform": transform}
        return self

    def _fitted(self) -> Any:
        raise NotImplementedError

    def _has(self, method: str) -> bool:
        """Whether there is such a method for this latent model."""
        try:
            return hasattr(self, method)
        except (TypeError, ValueError):  # what it was constructed with is no model
            return False

    def _takes_missing(self) -> bool:
        """Whether single entries of the data may be missing."""
        return False

    def _keep_columns(self, names: list[str] | None) -> None:
        """Keep the names of the columns that are fitted, if they have any."""
        if names is not None:
            self.feature_names_in_ = np.array(names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _check_columns(self, data: Any) -> None:
        """Raise ValueError if named columns are not those of `fit`, in their order."""
        names = getattr(self, "feature_names_in_", None)
        check_columns(data, None if names is None else list(names))

    def _save_columns(self) -> dict[str, list[str]]:
        """Return what a file says of the names of columns."""
        names = getattr(self, "feature_names_in_", None)
        return {} if names is None else {COLUMNS: list(names)}

    def _restore_columns(self, meta: Mapping[str, Any]) -> None:
        """Take the names of columns from a file.

        Raises
        ------
        ValueError
            If they are no names, or not one for each column.
        """
        names = meta.get(COLUMNS)
        if names is None:
            return
        are_names = isinstance(names, list) and all(type(n) is str for n in names)
        if not are_names or len(names) != self.obs_dim_:
            raise ValueError(f"{COLUMNS} are {names!r}, of {self.obs_dim_} columns")
        self._keep_columns(names)

    def _in_container(self, data: Any, results: Any) -> Any:
        """Return latents of the data as what `set_output` chose."""
        if self._container() == "default":
            return results
        if isinstance(results, list):
            pairs = zip(data, results, strict=True)
            return [self._data_frame(each, latents) for each, latents in pairs]
        return self._data_frame(data, results) if results.ndim == 2 else results

    def _container(self) -> str:
        own = getattr(self, "_sklearn_output_config", {}).get("transform")
        loaded = sys.modules.get("sklearn")
        if own is None and loaded is not None:
            own = loaded.get_config()["transform_output"]
        return _check_container(own or "default")

    def _data_frame(self, data: Any, latents: NDArray[Any]) -> Any:
        with needing("pandas", "set_output(transform='pandas')"):
            import pandas
        return pandas.DataFrame(
            latents,
            columns=self.get_feature_names_out(),
            index=data.index if _is_data_frame(data) else None,
        )

    def __sklearn_is_fitted__(self) -> bool:
        """Whether `sklearn.utils.validation.check_is_fitted` is content."""
        try:
            self._fitted()
        except NotFitted:
            return False
        return True

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn should know of the model."""
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        transforms = TransformerTags(preserves_dtype=["float64"])
        return Tags(
            estimator_type="density_estimator",
            target_tags=TargetTags(required=False),
            transformer_tags=transforms if self._has("transform") else None,
            input_tags=InputTags(
                three_d_array=True, allow_nan=self._takes_missing(), string=False
            ),
        )


def check_columns(data: Any, fitted: list[str] | None) -> None:
    """Raise ValueError if columns have names, but not those that were fitted."""
    given = columns(data)
    if given is None or fitted is None or given == fitted:
        return
    missing = [name for name in fitted if name not in given]
    unseen = [name for name in given if name not in fitted]
    wrong = f"unseen: {unseen}, missing: {missing}"
    if not missing and not unseen:
        wrong = "they are in another order"
    raise ValueError(
        "The feature names should match those that were passed during fit: "
        f"{wrong}. Select them as frame[model.feature_names_in_]"
    )


def columns(data: Any) -> list[str] | None:
    """Return the names of the columns of data frames; None if they have none.

    Raises
    ------
    ValueError
        If the data frames of a list differ in theirs.
    """
    frames = data if isinstance(data, (list, tuple)) else [data]
    found: list[str] | None = None
    for index, frame in enumerate(frames):
        if not _is_data_frame(frame):
            continue
        names = list(frame.columns)
        if not all(isinstance(name, str) for name in names):
            continue
        if found is not None and names != found:
            raise ValueError(
                f"sequence {index} has the columns {names}, one before it has {found}"
            )
        found = names
    return found


def _is_data_frame(data: Any) -> bool:
    return hasattr(data, "columns") and hasattr(data, "iloc")


def _check_container(word: str) -> str:
    if word not in CONTAINERS:
        raise ValueError(f"transform must be one of {CONTAINERS}, got {word!r}")
    return word
