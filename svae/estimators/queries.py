"""What one asks of a fitted model: the methods of `SVAE` that need no more training.

The work is done in `svae.queries`; here data become sequences, and answers the form
that the data had.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from svae import data as data_
from svae import likelihoods
from svae.errors import not_fitted
from svae.estimators.scikit_learn import Estimator, available_if, takes_labels
from svae.likelihoods import Likelihood
from svae.models.base import check_positive_int
from svae.networks.units import NONE, Units
from svae.objective.model import (
    Generative,
    Parameters,
    check_data,
    check_model,
    in_units,
)
from svae.queries import ahead as ahead_
from svae.queries import forecasts as generate
from svae.queries.ahead import Filtered, Prediction, check_ahead
from svae.queries.forecasts import Forecast, FrameLaw
from svae.queries.importance import ImportanceScore, importance_score
from svae.queries.posteriors import (
    THETAS,
    Posterior,
    Reconstruction,
    arrange,
    mean_bound,
    most_likely_states,
    posteriors,
    reconstructions,
)
from svae.types import Array, Integers, Rng

__all__ = ["Queries"]

NUM_DRAWS = 100
"""Of x one step ahead."""


has_states = available_if(
    lambda model: hasattr(model.latent, "num_states"), "{} has no discrete states"
)


class Queries(Estimator):
    """Questions to a fitted model; each raises NotFitted before `fit`."""

    latent: Any
    encoder: Any
    decoder: Any
    likelihood: str | Likelihood
    decoder_posterior: str
    natural_gradient: str
    inference: str
    parameters_: Parameters
    obs_dim_: int
    fill_: Array
    sees_mask_: bool
    units_: Units

    @overload
    def infer(
        self, data: NDArray[Any], num_samples: int = 10, rng: Rng = 0
    ) -> Posterior: ...

    @overload
    def infer(
        self, data: Sequence[Any], num_samples: int = 10, rng: Rng = 0
    ) -> list[Posterior]: ...

    @overload
    def infer(
        self, data: object, num_samples: int = 10, rng: Rng = 0
    ) -> Posterior | list[Posterior]: ...

    def infer(self, data: Any, num_samples: int = 10, rng: Rng = 0) -> Any:
        """Return the posterior over latents of each sequence.

        Parameters
        ----------
        data : as in `fit`
        num_samples : int
            Samples of x, and of gamma where it has a Gaussian q(gamma), that estimate
            ``elbo``.
        rng : int or numpy.random.Generator

        Returns
        -------
        Posterior
            For a list of sequences, a list of them.
        """
        return arrange(data, list(self._posteriors(data, num_samples, rng)))

    @overload
    def transform(self, data: NDArray[Any]) -> Array: ...

    @overload
    def transform(self, data: Sequence[Any]) -> list[Array]: ...

    @overload
    def transform(self, data: object) -> Array | list[Array]: ...

    def transform(self, data: Any) -> Any:
        """Return posterior means of x: (T, D), (N, T, D) or a list of (T_n, D)."""
        return self._in_container(data, _field(self.infer(data, num_samples=1), "mean"))

    @overload
    def reconstruct(
        self, data: NDArray[Any], num_samples: int = 10, rng: Rng = 0
    ) -> Reconstruction: ...

    @overload
    def reconstruct(
        self, data: Sequence[Any], num_samples: int = 10, rng: Rng = 0
    ) -> list[Reconstruction]: ...

    @overload
    def reconstruct(
        self, data: object, num_samples: int = 10, rng: Rng = 0
    ) -> Reconstruction | list[Reconstruction]: ...

    def reconstruct(self, data: Any, num_samples: int = 10, rng: Rng = 0) -> Any:
        """Encode and decode each sequence, gamma drawn from q(gamma) for each sample.

        Parameters
        ----------
        data : as in `fit`
        num_samples : int
            Samples of x in the expectations; of structured inference networks for each
            value of z, whose sum is exact.
        rng : int or numpy.random.Generator

        Returns
        -------
        Reconstruction
            Expected ``mean`` (T, P) of the frames and the expected ``squared_error``
            (T,), a sum over dimensions; for a list of sequences, a list of them.
        """
        check_positive_int(num_samples=num_samples)
        parameters, rng = self._fitted(), np.random.default_rng(rng)
        sequences, model = self._sequences(data), self._generative()
        results = reconstructions(model, parameters, sequences, num_samples, rng)
        return arrange(data, list(results))

    @overload
    def predict(self, data: NDArray[Any]) -> Integers: ...

    @overload
    def predict(self, data: Sequence[Any]) -> list[Integers]: ...

    @overload
    def predict(self, data: object) -> Integers | list[Integers]: ...

    @has_states
    def predict(self, data: Any) -> Any:
        """Return the most likely path of discrete states: (T,) int64, (N, T) or a list.

        Viterbi's path in q(z); of a mixture, each row's most likely component.
        """
        parameters, sequences = self._fitted(), self._sequences(data)
        paths = most_likely_states(
            self._generative(), parameters, sequences, np.random.default_rng(0)
        )
        return arrange(data, list(paths))

    @overload
    def score(
        self,
        data: Any,
        num_samples: int | None = None,
        num_importance_samples: int | None = None,
        theta: str = "mean",
        rng: Rng = 0,
        *,
        detailed: Literal[False] = False,
        ahead: int | None = None,
    ) -> float: ...

    @overload
    def score(
        self,
        data: Any,
        num_samples: int | None = None,
        num_importance_samples: int | None = None,
        theta: str = "mean",
        rng: Rng = 0,
        *,
        detailed: Literal[True],
        ahead: int | None = None,
    ) -> ImportanceScore: ...

    @overload
    def score(
        self,
        data: Any,
        num_samples: int | None = None,
        num_importance_samples: int | None = None,
        theta: str = "mean",
        rng: Rng = 0,
        *,
        detailed: bool,
        ahead: int | None = None,
    ) -> float | ImportanceScore: ...

    @takes_labels
    def score(
        self,
        data: Any,
        num_samples: int | None = None,
        num_importance_samples: int | None = None,
        theta: str = "mean",
        rng: Rng = 0,
        *,
        detailed: bool = False,
        ahead: int | None = None,
    ) -> float | ImportanceScore:
        r"""Return the bound on held-out data, in nats for each frame with data.

        The local part of the objective, ``E log p(y | x) - KL(q(x) || p(x))`` with
        q(theta) and q(gamma) as fitted, over the number of frames of which a value was
        observed at least.  With importance samples, the bound
        ``E log mean_s p(y | x_s) p(x_s | theta) / q(x_s)`` of each sequence, which
        grows to its log likelihood with their number (Burda et al. 2016).

        Frames without data at the end of a sequence change nothing.  Those at its
        beginning or between others have no likelihood, but cost what the message of
        q(theta) makes of them.

        With ``ahead=1`` the mean log density of each frame given those before it, at
        the mean of q(theta); see `predict_next`.

        Parameters
        ----------
        data : as in `fit`
        y : ignored
            As in `fit`.
        num_samples : int, optional
            Samples of x in the bound, 10 by default, and of gamma where it has a
            Gaussian q(gamma); one step ahead as in `predict_next`.
        num_importance_samples : int, optional
            Samples of x in the importance-weighted bound.
        theta : {"mean", "sample"}
            Of the importance-weighted bound: the means of q(theta) and of q(gamma) for
            all samples, or a draw from both for each, which integrates them out.  The
            mean is one theta, E[pi], E[mu] or E[A], and covariances are inverses of
            mean precisions; see `svae.families.product.mean`.  The bound itself is
            always an expectation over both.
        rng : int or numpy.random.Generator
        detailed : bool
            Return an importance-weighted bound with what tells how far to trust it.
        ahead : 1, optional
            Score predictions from the past alone, one step ahead.

        Returns
        -------
        float, or ImportanceScore
            With ``detailed``: ``score``, ``effective_samples`` (N,) of each sequence,
            and the ``standard_error`` of the score.

        Raises
        ------
        ValueError
            If no value at all is observed.  For ``theta="sample"`` or ``detailed``
            without importance samples, for these with ``ahead``, or an ``ahead`` other
            than 1.
        """
        _check_word("theta", theta, THETAS)
        if ahead is not None:
            check_ahead(ahead)
            if num_importance_samples is not None:
                raise ValueError(
                    "num_importance_samples: of the bound; a score one step ahead has "
                    "none"
                )
        if num_importance_samples is not None:
            check_positive_int(num_importance_samples=num_importance_samples)
            parameters, sequences = self._fitted(), self._sequences(data)
            found: ImportanceScore = importance_score(
                self._generative(),
                parameters,
                sequences,
                num_importance_samples,
                theta,
                np.random.default_rng(rng),
            )
            return found if detailed else found.score
        for asked, word in (
            (theta == "sample", "theta='sample'"),
            (detailed, "detailed"),
        ):
            if asked:
                raise ValueError(
                    f"{word} is of the importance-weighted bound: give "
                    "num_importance_samples. The bound without them is an expectation "
                    "over q(theta) already"
                )
        if num_samples is None:
            num_samples = 10 if ahead is None else NUM_DRAWS
        check_positive_int(num_samples=num_samples)
        parameters, sequences = self._fitted(), self._sequences(data)
        if ahead is not None:
            return ahead_.score_ahead(
                self._generative(),
                parameters,
                sequences,
                num_samples,
                np.random.default_rng(rng),
            )
        return mean_bound(self._generative(), parameters, sequences, num_samples, rng)

    @overload
    def filter(self, data: NDArray[Any]) -> Filtered: ...

    @overload
    def filter(self, data: Sequence[Any]) -> list[Filtered]: ...

    @overload
    def filter(self, data: object) -> Filtered | list[Filtered]: ...

    def filter(self, data: Any) -> Any:
        """Return what is known of the latents of each frame from the frames up to it.

        The evidence are the node potentials of the recognition network.  Of an `LDS`,
        and of a structured inference network, row t is the last row of what `infer`
        says of the frames up to t.  Of other models it is filtered at the mean of
        q(theta): exactly for an `HMM`; for an `SLDS` by an interacting multiple model
        filter, which keeps a Gaussian of x for each state.  Of independent rows it is
        the posterior.

        Parameters
        ----------
        data : as in `fit`
            Frames without data say nothing.

        Returns
        -------
        Filtered
            With ``mean`` (T, D), ``cov`` (T, D, D), ``states`` (T, K) or None, and
            ``log_evidence`` (T,); for a list of sequences, a list of them.

        Raises
        ------
        TypeError
            If the recognition network sees more than one frame at a time, or a latent
            model cannot tell its laws (see `svae.LatentModel`).
        """
        parameters, sequences = self._fitted(), self._sequences(data)
        found = ahead_.filtered(self._generative(), parameters, sequences)
        return arrange(data, list(found))

    @overload
    def predict_next(
        self, data: NDArray[Any], num_samples: int = 100, rng: Rng = 0
    ) -> Prediction: ...

    @overload
    def predict_next(
        self, data: Sequence[Any], num_samples: int = 100, rng: Rng = 0
    ) -> list[Prediction]: ...

    @overload
    def predict_next(
        self, data: object, num_samples: int = 100, rng: Rng = 0
    ) -> Prediction | list[Prediction]: ...

    def predict_next(self, data: Any, num_samples: int = 100, rng: Rng = 0) -> Any:
        """Predict each frame from the frames before it.

        Row t is the law of frame t given frames before t, that of a `forecast` of one
        step, and row 0 that of the initial factor; see `filter` for how exact it is.
        Of independent rows all have the prior's marginal.

        Parameters
        ----------
        data : as in `fit`
            Frames without data say nothing.
        num_samples : int
            Draws of x, in pairs with opposite noise, of which means and variances are;
            as many again help to estimate log densities, which are a little too low on
            average, the less the more draws there are.
        rng : int or numpy.random.Generator
            The draws of a frame do not depend on how many follow.

        Returns
        -------
        Prediction
            With ``mean`` and ``var`` (T, P), ``log_density`` (T,) of what was observed,
            and mean, covariance and state probabilities of the latents; for a list of
            sequences, a list of them.

        Raises
        ------
        TypeError
            As in `filter`.
        """
        check_positive_int(num_samples=num_samples)
        parameters, sequences = self._fitted(), self._sequences(data)
        found = ahead_.predictions(
            self._generative(),
            parameters,
            sequences,
            num_samples,
            np.random.default_rng(rng),
        )
        return arrange(data, list(found))

    def sample(self, num_steps: int, rng: Rng = None) -> Array:
        """Draw ``num_steps`` frames (num_steps, P) from the model.

        One theta is drawn from q(theta), and one gamma from a Gaussian q(gamma).
        """
        check_positive_int(num_steps=num_steps)
        parameters, rng = self._fitted(), np.random.default_rng(rng)
        return generate.sample(self._generative(), parameters, num_steps, rng)[0]

    def decode(self, latents: ArrayLike) -> tuple[Array, Array]:
        """Return mean and variance of the frames (..., P) at latents (..., D).

        At one gamma: the point estimate, or the mean of a Gaussian q(gamma).
        """
        law = self._law_at(latents)
        return law.mean(), law.var()

    def sample_frames(self, latents: ArrayLike, rng: Rng = None) -> Array:
        """Draw a frame from the likelihood at each of latents (..., D): (..., P).

        At the gamma of `decode`.
        """
        return self._law_at(latents).sample(np.random.default_rng(rng))

    def _law_at(self, latents: ArrayLike) -> FrameLaw:
        points = np.asarray(latents, dtype=np.float64)
        if points.shape[-1:] != (self.latent.latent_dim,):
            raise ValueError(
                f"latents has shape {points.shape}, expected (..., "
                f"{self.latent.latent_dim})"
            )
        return generate.law_at(self._generative(), self._fitted(), points)

    @overload
    def forecast(
        self,
        data: NDArray[Any],
        horizon: int,
        num_samples: int = 50,
        theta: str = "mean",
        rng: Rng = 0,
    ) -> Forecast: ...

    @overload
    def forecast(
        self,
        data: Sequence[Any],
        horizon: int,
        num_samples: int = 50,
        theta: str = "mean",
        rng: Rng = 0,
    ) -> list[Forecast]: ...

    @overload
    def forecast(
        self,
        data: object,
        horizon: int,
        num_samples: int = 50,
        theta: str = "mean",
        rng: Rng = 0,
    ) -> Forecast | list[Forecast]: ...

    def forecast(
        self,
        data: Any,
        horizon: int,
        num_samples: int = 50,
        theta: str = "mean",
        rng: Rng = 0,
    ) -> Any:
        """Predict the ``horizon`` frames after each sequence.

        Parameters
        ----------
        data : as in `fit`
        horizon : int
        num_samples : int
            Sampled paths.
        theta : {"mean", "sample"}
            Whether all paths follow the means of q(theta) and of q(gamma), as in
            `score`, or each has a theta and a gamma drawn from these.
        rng : int or numpy.random.Generator

        Returns
        -------
        Forecast
            For a list of sequences, a list of them; stacked for (N, T, P).

            The law of a frame is the same whatever the horizon, and of a longer one
            the first frames are the same, draw by draw.

        Raises
        ------
        TypeError
            If the rows of the latent model are independent.
        FloatingPointError
            If dynamics grow to the end of the range of numbers in ``horizon`` steps,
            naming path and step.
        """
        check_positive_int(horizon=horizon, num_samples=num_samples)
        _check_word("theta", theta, THETAS)
        if self.latent.independent:
            name = type(self.latent).__name__
            raise TypeError(f"forecast: the rows of {name} are independent")
        parameters, rng = self._fitted(), np.random.default_rng(rng)
        forecasts = [
            generate.forecast(
                self._generative(),
                parameters,
                sequence,
                horizon,
                num_samples,
                theta,
                rng,
            )
            for sequence in self._sequences(data)
        ]
        return arrange(data, forecasts)

    @overload
    def impute(
        self,
        data: NDArray[Any],
        num_samples: int = 50,
        num_passes: int = 1,
        rng: Rng = 0,
    ) -> Array: ...

    @overload
    def impute(
        self,
        data: Sequence[Any],
        num_samples: int = 50,
        num_passes: int = 1,
        rng: Rng = 0,
    ) -> list[Array]: ...

    @overload
    def impute(
        self, data: object, num_samples: int = 50, num_passes: int = 1, rng: Rng = 0
    ) -> Array | list[Array]: ...

    def impute(
        self, data: Any, num_samples: int = 50, num_passes: int = 1, rng: Rng = 0
    ) -> Any:
        """Return the data with missing values replaced by their expectations.

        Over x, over the states of a mixture, and over gamma where it has a Gaussian
        q(gamma).  Frames after the last one with data are forecast, at the mean of
        q(theta).

        Parameters
        ----------
        data : as in `fit`
        num_samples : int
            Samples of x in the expectations.
        num_passes : int
            In each pass after the first the encoder gets partly observed frames as the
            last pass completed them.
        rng : int or numpy.random.Generator

        Returns
        -------
        Arrays like the data: (T, P), (N, T, P) or a list of (T_n, P).
        """
        check_positive_int(num_samples=num_samples, num_passes=num_passes)
        parameters, rng = self._fitted(), np.random.default_rng(rng)
        model = self._generative()
        completed = [
            generate.impute(model, parameters, sequence, num_samples, num_passes, rng)
            for sequence in self._sequences(data)
        ]
        return arrange(data, completed)

    def _constructed(self) -> Generative:
        """Return the model as constructed, for data of any kind."""
        model = Generative(
            self.latent,
            self.encoder,
            self.decoder,
            likelihoods.named(self.likelihood),
            self.decoder_posterior,
            inference=self.inference,
        )
        check_model(model)
        return model

    def _generative(self) -> Generative:
        """Return the model as it was fitted, or as constructed before that."""
        model = self._constructed()
        if not hasattr(self, "fill_"):
            return model
        model = model._replace(fill=self.fill_, sees_mask=self.sees_mask_)
        units = getattr(self, "units_", NONE)
        return model if units.are_trivial else in_units(model, units)

    def _takes_missing(self) -> bool:
        return True

    def _fitted(self) -> Parameters:
        if not hasattr(self, "parameters_"):
            raise not_fitted("this SVAE is not fitted yet: call fit(data) first")
        return self.parameters_

    def _sequences(self, data: Any) -> list[np.ndarray]:
        self._check_columns(data)
        sequences = data_.as_sequences(data)
        check_data(self._generative(), sequences)
        if sequences[0].shape[1] != self.obs_dim_:
            raise ValueError(
                f"data has {sequences[0].shape[1]} dimensions, the model was fitted "
                f"to {self.obs_dim_}"
            )
        return sequences

    def _posteriors(self, data: Any, num_samples: int, rng: Any) -> Iterator[Posterior]:
        check_positive_int(num_samples=num_samples)
        parameters, rng = self._fitted(), np.random.default_rng(rng)
        sequences = self._sequences(data)
        return posteriors(self._generative(), parameters, sequences, num_samples, rng)


def _check_word(name: str, word: Any, words: tuple[str, ...]) -> None:
    if word not in words:
        raise ValueError(f"{name} must be one of {words}, got {word!r}")


def _field(results: Any, name: str) -> Any:
    if isinstance(results, list):
        return [getattr(result, name) for result in results]
    return getattr(results, name)
