r"""Stochastic variational inference for conjugate models of the data: no networks.

The bound on the log evidence of N sequences is ``l(m) - KL(q(theta) || p(theta))`` with
``l`` the local log normalizer under expected statistics m of q(theta), and a step along
its natural gradient (Hoffman et al. 2013; Johnson et al. 2016, Section 3.1 and Eq. 2)

.. math:: \eta \leftarrow (1 - \rho_t)\,\eta
          + \rho_t \Big(\eta^0 + \frac{N}{M} \sum_{n \in B} \nabla_m l_n(m)\Big)

is a convex combination of natural parameters, hence always in the domain.  On the whole
data with rho = 1 it is coordinate ascent (variational Bayes), and never lowers the
bound; on minibatches steps shrink as ``rho_t = (t + delay)^-forgetting``.

The same holds for a `StudentMixture` of fixed degrees of freedom.  Those that are
learned are not conjugate: a step may leave the domain or lower the bound of its batch,
and is halved until it does not (see `svae.conjugate`).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast, overload

import autograd.numpy as np
import numpy as onp
from numpy.typing import NDArray

from svae import conjugate, store
from svae import data as data_
from svae.autodiff.trees import check_alike
from svae.conjugate.ahead import OneStep, one_step_ahead
from svae.conjugate.exact_models import (
    Emitted,
    Known,
    check_missing,
    observed_model,
)
from svae.data import Windows
from svae.errors import not_fitted
from svae.estimators import parts
from svae.estimators.scikit_learn import (
    Estimator,
    available_if,
    columns,
    takes_labels,
)
from svae.families import product
from svae.models import LinearEmission
from svae.models.base import check_positive_int
from svae.queries.ahead import Filtered, Prediction, check_ahead
from svae.queries.posteriors import (
    Posterior,
    arrange,
    at_least_one,
    by_sequence,
    chunks,
)
from svae.training import diagnostics
from svae.training.batches import excerpt, shuffled, spread
from svae.training.history import check_history
from svae.training.progress import progress_bars
from svae.types import Array, Integers, Message, Rng

__all__ = ["SVI"]

KIND = "svae.SVI"
HISTORY = ("objective", "local", "global_kl", "step_size", "backtracks", "seconds")
"""What is recorded for each step."""

BETTER_STATES = (
    "try more clusterings (num_restarts), columns of mean 0 and variance 1, or fewer "
    "states"
)
THETAS = ("posterior", "mean")
"""What `SVI.score` puts in the place of theta: the expected t(theta), or the mean."""


class Schedule(NamedTuple):
    """Sizes of the steps."""

    constant: float | None
    delay: float
    forgetting: float

    def at(self, step: int) -> float:
        """Return rho of a step, counted from 1 (Robbins and Monro 1951)."""
        if self.constant is not None:
            return self.constant
        return float((step + self.delay) ** -self.forgetting)


has_emission = available_if(
    lambda model: isinstance(model._model(), Emitted),
    "the data themselves are the x of {}",
)
has_states = available_if(
    lambda model: isinstance(model._model(), Known), "{} has no discrete states"
)


class SVI(Estimator):
    r"""Conjugate model of the data, fitted by stochastic variational inference.

    For `GMM`, `StudentMixture` and `HMM` the data are x, for `SLDS` too, which makes it
    an autoregressive hidden Markov model; they must have ``latent_dim`` dimensions.
    For `LDS` they are linear in x: ``y_t = C x_t + d + v_t``, with a conjugate prior of
    C, d and the covariance of v.  The priors are of fixed scale: standardise the data.

    Parameters
    ----------
    latent : latent model
        `svae.GMM`, `svae.StudentMixture`, `svae.HMM`, `svae.LDS` or `svae.SLDS`.
    emission : svae.LinearEmission, optional
        Prior of the emission of an `LDS`.

    Attributes
    ----------
    natparams_ : dict
        Natural parameters of q(theta), factor by factor; with an LDS also of its
        ``emission``, over ``[C d]`` and the precision of the noise.
    history_ : dict of str to arrays
        For each step: the bound ``objective = local - global_kl`` at its start, in nats
        for the whole data (estimated from a minibatch), ``step_size`` after
        ``backtracks`` halvings, which only degrees of freedom that are learned need,
        and ``seconds``.
    obs_dim_, n_features_in_ : int
        P.
    feature_names_in_ : (P,) array of str
        Names of the columns, of data that are data frames.

    Examples
    --------
    >>> import svae
    >>> points, labels = svae.data.pinwheel(rng=0)
    >>> model = svae.SVI(svae.GMM(num_states=5, latent_dim=2)).fit(points, rng=0)
    >>> model.predict(points).shape == labels.shape
    True
    """

    def __init__(self, latent: Any, emission: LinearEmission | None = None) -> None:
        self.latent = latent
        self.emission = emission

    @takes_labels
    def fit(
        self,
        data: Any,
        num_steps: int = 100,
        batch_size: int | None = None,
        window: int | None = None,
        step_size: float | None = None,
        rng: Any = None,
        progress: bool = False,
        callback: Callable[[int, dict[str, float]], None] | None = None,
        tolerance: float | None = None,
        delay: float = 1.0,
        forgetting: float = 0.7,
        num_restarts: int = 3,
    ) -> "SVI":
        """Fit q(theta).

        It starts from clusterings of the data, the best after a few steps; for an LDS
        from principal components of short stretches of frames in the place of x.

        Parameters
        ----------
        data : (T, P), (N, T, P) or list of (T_n, P) arrays
            For a mixture all rows are independent.  A frame may be missing (NaN in
            every dimension), except in the data of an `SLDS`; a single entry may not.
        y : ignored
            Labels or None, as scikit-learn gives them.  Settings by position may also
            follow the data: ``fit(data, 500)`` takes 500 steps.
        num_steps : int
        batch_size : int, optional
            Rows (mixtures) or windows (chains) in a step; default: all data, which are
            then read into memory.
        window : int, optional
            Length of the windows that sequences are cut into; default: not cut.  Each
            window counts as a sequence of its own, which starts from the initial
            factor.
        step_size : float, optional
            The same rho for all steps, at most 1.  Default: 1 on all data, and
            ``(t + delay) ** -forgetting`` at step t = 1, 2, ... on minibatches.
        rng : int or numpy.random.Generator, optional
            Of clusterings and minibatches.
        progress : bool
            Show a progress bar with the bound and its parts, per frame.
        callback : callable, optional
            Called as ``callback(step, record)`` with each new record of `history_`.
        tolerance : float, optional
            Stop when a step on all data has raised the bound by less than this share
            of it.
        delay, forgetting : float
            Of the default steps on minibatches, ``delay >= 0`` and
            ``0.5 < forgetting <= 1``.
        num_restarts : int
            Clusterings of each kind to start from.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For malformed data or arguments; names what is wrong and where.
        FloatingPointError
            If the bound stops being finite.  The last good parameters are kept.

        Warns
        -----
        UserWarning
            Of data that can hardly be meant so, and of states that are not told apart.
        """
        model, sequences = self._model(), data_.as_sequences(data)
        names = columns(data)
        check_positive_int(num_steps=num_steps, num_restarts=num_restarts)
        schedule = make_schedule(batch_size, step_size, delay, forgetting)
        check_tolerance(tolerance, batch_size)
        model.prior(sequences[0].shape[1])  # refuses data of another dimension
        check_missing(model, sequences)
        summary = data_.summarize(sequences)  # refuses data without any
        num_states = getattr(self.latent, "num_states", None)
        diagnostics.tell(
            diagnostics.of_data(summary, num_states=num_states), stacklevel=3
        )
        num_frames = summary.num_frames
        if window is None:
            window = max(len(sequence) for sequence in sequences)
        windows = data_.windows(sequences, 1 if self.latent.independent else window)
        rng = onp.random.default_rng(rng)

        few = spread(windows, conjugate.MAX_FRAMES)
        points = data_.batch(sequences, few)
        prior = model.prior_given(points)
        start = model.start(prior, points, rng, num_restarts)
        scale = len(windows) / len(few)
        self.obs_dim_ = sequences[0].shape[1]
        self._keep_columns(names)
        self.natparams_ = conjugate.extrapolate(model.family, prior, start, scale)
        records: list[dict[str, float]] = []
        source = minibatches(sequences, windows, batch_size, rng)
        try:
            with progress_bars(num_frames, progress) as show:
                for step in range(1, num_steps + 1):
                    started = time.perf_counter()
                    self.natparams_, record = take_step(
                        model, self.natparams_, prior, *next(source), schedule.at(step)
                    )
                    record["seconds"] = time.perf_counter() - started
                    records.append(record)
                    show(None, num_steps, step, record)
                    if callback is not None:
                        callback(step, record)
                    if tolerance is not None and has_converged(records, tolerance):
                        break
        finally:
            self.history_ = {
                name: onp.array([record[name] for record in records])
                for name in HISTORY
            }
        if num_states is not None:
            states = self._states(model, sequences, excerpt(sequences, windows))
            is_chain = not self.latent.independent
            messages = diagnostics.of_states(states, is_chain, BETTER_STATES)
            diagnostics.tell(messages, stacklevel=3)
        return self

    @overload
    def infer(self, data: NDArray[Any]) -> Posterior: ...

    @overload
    def infer(self, data: Sequence[Any]) -> list[Posterior]: ...

    @overload
    def infer(self, data: object) -> Posterior | list[Posterior]: ...

    def infer(self, data: Any) -> Any:
        """Return the posterior of each sequence under q(theta).

        Parameters
        ----------
        data : as in `fit`

        Returns
        -------
        Posterior
            For a list of sequences, a list of them.  ``mean`` and ``cov`` of x are
            there for an LDS, ``states`` for all others.  The ``log_normalizer``
            ``log sum exp E log p(y, x, z | theta)`` is also the ``elbo``.
        """
        model, stats = self._model(), self._stats("posterior")
        independent, results = self.latent.independent, []
        for points in self._chunks(data):
            *steps, values = model.posterior(stats, points)
            parts = by_sequence(independent, points.num_steps, steps, [values])
            results += [
                Posterior(mean, cov, states, value, value)
                for (mean, cov, states), (value,) in parts
            ]
        return arrange(data, results)

    @overload
    def transform(self, data: NDArray[Any]) -> Array: ...

    @overload
    def transform(self, data: Sequence[Any]) -> list[Array]: ...

    @overload
    def transform(self, data: object) -> Array | list[Array]: ...

    @has_emission
    def transform(self, data: Any) -> Any:
        """Return posterior means of x: (T, D), (N, T, D) or a list of (T_n, D).

        Raises
        ------
        TypeError
            If the data are x.
        """
        posteriors = self.infer(data)
        if isinstance(posteriors, list):
            means = [posterior.mean for posterior in posteriors]
            return self._in_container(data, means)
        return self._in_container(data, posteriors.mean)

    @overload
    def predict(self, data: NDArray[Any]) -> Integers: ...

    @overload
    def predict(self, data: Sequence[Any]) -> list[Integers]: ...

    @overload
    def predict(self, data: object) -> Integers | list[Integers]: ...

    @has_states
    def predict(self, data: Any) -> Any:
        """Return the most likely path of discrete states: (T,) int64, (N, T) or a list.

        Raises
        ------
        TypeError
            If there are no discrete states.
        """
        model = cast(Known, self._model())
        stats, results = self._stats("posterior"), []
        for points in self._chunks(data):
            paths = model.most_likely_states(stats, points)
            independent = self.latent.independent
            parts = by_sequence(independent, points.num_steps, [paths], [])
            results += [path for (path,), _ in parts]
        return arrange(data, results)

    @overload
    def filter(self, data: NDArray[Any]) -> Filtered: ...

    @overload
    def filter(self, data: Sequence[Any]) -> list[Filtered]: ...

    @overload
    def filter(self, data: object) -> Filtered | list[Filtered]: ...

    def filter(self, data: Any) -> Any:
        """Return what is known of the latents of each frame from the frames up to it.

        Exactly, at the mean of q(theta).

        Parameters
        ----------
        data : as in `fit`

        Returns
        -------
        Filtered
            For a list of sequences, a list of them.  ``mean`` and ``cov`` of x are
            there for an LDS, ``states`` for all others.
        """
        results = []
        for points, found in self._one_step(data):
            steps = *found.filtered, found.log_density
            results += [Filtered(*fields) for fields in self._cut(points, steps)]
        return arrange(data, results)

    @overload
    def predict_next(self, data: NDArray[Any]) -> Prediction: ...

    @overload
    def predict_next(self, data: Sequence[Any]) -> list[Prediction]: ...

    @overload
    def predict_next(self, data: object) -> Prediction | list[Prediction]: ...

    def predict_next(self, data: Any) -> Any:
        """Predict each frame from the frames before it, the first from none.

        Exactly, at the mean of q(theta): log densities add up to the log likelihood
        there.  Of independent rows all have the same law.

        Parameters
        ----------
        data : as in `fit`

        Returns
        -------
        Prediction
            With ``mean`` and ``var`` (T, P) and ``log_density`` (T,); for a list of
            sequences, a list of them.
        """
        results = []
        for points, found in self._one_step(data):
            steps = *found[:3], *found.predicted
            results += [Prediction(*fields) for fields in self._cut(points, steps)]
        return arrange(data, results)

    @takes_labels
    def score(
        self, data: Any, theta: str = "posterior", *, ahead: int | None = None
    ) -> float:
        """Return the log likelihood of held-out data, in nats for each frame with data.

        Parameters
        ----------
        data : as in `fit`
        y : ignored
            As in `fit`.
        theta : {"posterior", "mean"}
            The local bound on ``log E_q(theta) p(y | theta)`` of each sequence, or the
            exact ``log p(y | theta)`` at the mean of q(theta).
        ahead : 1, optional
            Score predictions from the past alone, one step ahead, at the mean of
            q(theta); they add up to the latter.
        """
        if ahead is not None:
            check_ahead(ahead)
            theta = "mean"
        if theta not in THETAS:
            raise ValueError(f"theta must be one of {THETAS}, got {theta!r}")
        model, stats = self._model(), self._stats(theta)
        total, num_frames = 0.0, 0
        for points in self._chunks(data):
            total += float(onp.sum(model.local(stats, points)))
            num_frames += int(onp.sum(points.scored_frames))
        return total / at_least_one(num_frames)

    def sample(self, num_steps: int, rng: Rng = None) -> Array:
        """Draw ``num_steps`` frames (num_steps, P) from the model, theta ~ q(theta)."""
        check_positive_int(num_steps=num_steps)
        model, rng = self._model(), onp.random.default_rng(rng)
        theta = product.sample(model.family, self._fitted(), rng)
        return model.draw(theta, num_steps, rng)

    def save(self, path: str | Path) -> None:
        """Write the fitted model to one ``.npz`` file; `svae.load` reads it.

        Raises
        ------
        TypeError
            If a part of the model is no dataclass that could come back; see
            `svae.SVAE.save`.
        """
        tree = {"natparams": self._fitted(), "history": self.history_}
        meta = {
            "kind": KIND,
            "class": parts.name_of(type(self)),
            "obs_dim": self.obs_dim_,
            "arguments": parts.arguments(self),
            **self._save_columns(),
        }
        store.save(path, tree, meta)

    @classmethod
    def restore(
        cls, tree: Any, meta: dict[str, Any], known: Mapping[str, type]
    ) -> "SVI":
        """Return the model of which `save` wrote this.

        Raises
        ------
        ValueError
            If it is of other classes than are known, or does not fit together.
        """
        model: SVI = parts.restore(cls, meta, known)
        model.obs_dim_ = meta["obs_dim"]
        check_positive_int(obs_dim=model.obs_dim_)
        model._restore_columns(meta)
        observed = model._model()
        natparams = tree["natparams"]
        check_alike(natparams, observed.prior(model.obs_dim_), "natparams")
        if not product.in_domain(observed.family, natparams):
            raise ValueError("natparams are of no distribution")
        model.natparams_, model.history_ = natparams, check_history(tree["history"])
        return model

    def _one_step(self, data: Any) -> Iterator[tuple[Windows, OneStep]]:
        model = self._model()
        theta = product.mean(model.family, self._fitted())
        for points in self._chunks(data):
            yield points, one_step_ahead(model, theta, points)

    def _cut(self, points: Windows, steps: Any) -> Iterator[list[Any]]:
        independent = self.latent.independent
        for fields, _ in by_sequence(independent, points.num_steps, steps, ()):
            yield fields

    def _states(
        self, model: Known | Emitted, sequences: Any, windows: onp.ndarray
    ) -> onp.ndarray:
        """Return the probabilities (T, K) of the states of observed frames."""
        points = data_.batch(sequences, windows)
        states = model.posterior(self._stats("posterior"), points)[2]
        return onp.asarray(states)[points.scored_frames]

    def _model(self) -> Known | Emitted:
        return observed_model(self.latent, self.emission)

    def _fitted(self) -> Any:
        if not hasattr(self, "natparams_"):
            raise not_fitted("this SVI is not fitted yet: call fit(data) first")
        return self.natparams_

    def _stats(self, theta: str) -> Any:
        family, natparams = self._model().family, self._fitted()
        if theta == "posterior":
            return product.expected_stats(family, natparams)
        return product.stats(family, product.mean(family, natparams))

    def _chunks(self, data: Any) -> Iterator[Windows]:
        """Yield the data in chunks of sequences, or the rows of one sequence each."""
        self._check_columns(data)
        sequences = data_.as_sequences(data)
        obs_dim = sequences[0].shape[1]
        if obs_dim != self.obs_dim_:
            raise ValueError(
                f"data has {obs_dim} dimensions, the model was fitted to "
                f"{self.obs_dim_}"
            )
        check_missing(self._model(), sequences)
        for chunk, cut in chunks(sequences, self.latent.independent):
            yield data_.batch(chunk, cut)


def take_step(
    model: Known | Emitted,
    natparams: Any,
    prior: Message,
    points: Windows,
    scale: float,
    step_size: float,
) -> tuple[Any, dict[str, float]]:
    """Take a natural gradient step; return where it ends and what it began with.

    Parameters
    ----------
    model : Known or Emitted
    natparams, prior : dict
        Of q(theta) and p(theta).
    points : Windows
        A batch.
    scale : float
        Windows in the data over windows in the batch, N/M.
    step_size : float
    """
    moved, bound, num_backtracks = conjugate.climb(
        lambda stats: scale * np.sum(model.local(stats, points)),
        model.family,
        natparams,
        prior,
        step_size,
        model.ascends,
    )
    global_kl = float(product.kl(model.family, natparams, prior))
    record = {
        "objective": bound,
        "local": bound + global_kl,
        "global_kl": global_kl,
        "step_size": step_size / 2**num_backtracks,
        "backtracks": num_backtracks,
    }
    return moved, record


def minibatches(
    sequences: Any,
    windows: onp.ndarray,
    batch_size: int | None,
    rng: onp.random.Generator,
) -> Iterator[tuple[Windows, float]]:
    """Yield batches of windows and their scale N/M for ever: all data, or minibatches.

    Of minibatches every epoch has each window once, in a random order.
    """
    if batch_size is None:
        points = data_.batch(sequences, windows)
        while True:
            yield points, 1.0
    for chosen in shuffled(len(windows), batch_size, rng):
        yield data_.batch(sequences, windows[chosen]), len(windows) / len(chosen)


def make_schedule(
    batch_size: int | None, step_size: float | None, delay: float, forgetting: float
) -> Schedule:
    """Return the sizes of steps, or raise ValueError naming an argument."""
    if batch_size is not None:
        check_positive_int(batch_size=batch_size)
    elif step_size is None:
        step_size = 1.0
    if step_size is not None and not 0 < step_size <= 1:
        raise ValueError(f"step_size must be in (0, 1], got {step_size!r}")
    if not 0 <= delay < onp.inf:
        raise ValueError(f"delay must not be negative, got {delay!r}")
    if not 0.5 < forgetting <= 1:
        raise ValueError(f"forgetting must be in (0.5, 1], got {forgetting!r}")
    return Schedule(step_size, delay, forgetting)


def check_tolerance(tolerance: float | None, batch_size: int | None) -> None:
    """Raise ValueError unless it is None, or not negative and for steps on all data."""
    if tolerance is None:
        return
    if not 0 <= tolerance < onp.inf:
        raise ValueError(f"tolerance must not be negative, got {tolerance!r}")
    if batch_size is not None:
        raise ValueError(
            "tolerance: the bound of a minibatch does not tell whether steps converged"
        )


def has_converged(records: list[dict[str, float]], tolerance: float) -> bool:
    """Whether the last step began with hardly more than the one before it."""
    if len(records) < 2:
        return False
    before, now = (record["objective"] for record in records[-2:])
    return now - before <= tolerance * abs(now)
