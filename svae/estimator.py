"""The face of the package: `SVAE`, a latent model between two networks.

The constructor stores its arguments, `SVAE.fit` learns attributes that end in ``_``,
and every other method needs them.  All the work is done elsewhere.
"""

import csv
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from svae import data as data_
from svae import fit as fit_
from svae import generate, models, networks, store
from svae.evaluate import Posterior, arrange, posteriors
from svae.generative import Generative, Parameters, check_data, check_model
from svae.models.base import check_positive_int
from svae.networks import MLP
from svae.progress import progress_bar

__all__ = ["SVAE", "NotFitted", "load"]

DEFAULT_NETWORK = MLP()
KIND = "svae.SVAE"


class NotFitted(ValueError, AttributeError):
    """A method that needs a fitted model was called before `SVAE.fit`."""


class SVAE:
    r"""Structured variational autoencoder (Johnson et al. 2016).

    Parameters
    ----------
    latent : latent model
        `svae.Gaussian`, `svae.GMM` or `svae.LDS`.
    encoder, decoder : networks
        Recognition network and observation network: `svae.MLP`, `svae.Residual` or
        `svae.Linear`; by default perceptrons with two layers of 200 tanh units.
    likelihood : {"gaussian", "bernoulli"}
    decoder_posterior : {"point", "gaussian"}
        A point estimate of the decoder's weights gamma, or a mean-field Gaussian
        q(gamma) with prior N(0, I) whose KL is part of the bound (Algorithm 1).

    Attributes
    ----------
    parameters_ : Parameters
        ``natparams`` of q(theta), weights of the ``encoder`` and the ``decoder`` (for a
        Gaussian q(gamma): a dict of its ``mean`` and ``log_std``).
    history_ : dict of str to (num_steps,) arrays
        For each step: ``objective`` and its parts ``reconstruction``, ``local_kl`` and
        ``global_kl`` (``objective = reconstruction - local_kl - global_kl``, in nats
        for the whole data); ``decoder_kl``, the share of q(gamma) in ``global_kl``;
        mean ``iterations`` of inference, ``unconverged`` (its convergence warnings),
        ``backtracks`` (halvings of the natural step) and ``seconds``.
    obs_dim_ : int
        P.

    Examples
    --------
    >>> import svae
    >>> frames = svae.data.dots(num_frames=500, rng=0)
    >>> model = svae.SVAE(svae.LDS(latent_dim=4), svae.MLP((50,)), svae.MLP((50,)))
    >>> model = model.fit(frames, num_steps=2, window=50, rng=0)
    >>> model.transform(frames).shape
    (500, 4)
    """

    def __init__(
        self,
        latent: Any,
        encoder: Any = DEFAULT_NETWORK,
        decoder: Any = DEFAULT_NETWORK,
        likelihood: str = "gaussian",
        decoder_posterior: str = "point",
    ) -> None:
        self.latent = latent
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.decoder_posterior = decoder_posterior

    def fit(
        self,
        data: Any,
        num_steps: int = 1000,
        batch_size: int | None = None,
        window: int | None = None,
        rng: Any = None,
        progress: bool = False,
        checkpoint: str | Path | None = None,
        num_samples: int = 1,
        learning_rate: float = 3e-3,
        natural_step: float = 0.1,
        callback: Callable[[int, dict[str, float]], None] | None = None,
    ) -> "SVAE":
        """Fit the model by stochastic natural-gradient variational inference.

        Parameters
        ----------
        data : (T, P), (N, T, P) or list of (T_n, P) arrays
            Finite.  For `Gaussian` and `GMM` all rows are independent.
        num_steps : int
        batch_size : int, optional
            Rows (independent models, default 50) or windows (chains, default 8) in a
            step.
        window : int, optional
            Length of the windows that sequences are cut into; default: not cut.
        rng : int or numpy.random.Generator, optional
        progress : bool
            Show a progress bar with the bound and its parts, per frame.
        checkpoint : path, optional
            Folder that receives ``model.npz`` and ``history.csv`` at the end, also when
            training stops early.
        num_samples : int
            Samples of x for each sequence in a step.
        learning_rate : float
            Of Adam, for both networks.
        natural_step : float
            Step size of the natural gradient; 1 replaces q(theta) in one step.
        callback : callable, optional
            Called as ``callback(step, record)`` with each new record of `history_`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For malformed data or arguments; names what is wrong and where.
        FloatingPointError
            If the bound or a gradient stops being finite.  The last good parameters
            are kept.
        """
        model = self._generative()
        sequences = data_.as_sequences(data)
        _refuse_missing_for_now(sequences)
        check_data(model, sequences)
        check_positive_int(num_steps=num_steps)
        settings = fit_.make_settings(
            self.latent.independent,
            batch_size,
            window,
            num_samples,
            learning_rate,
            natural_step,
        )
        rng = np.random.default_rng(rng)
        self.obs_dim_ = sequences[0].shape[1]
        state = fit_.initial_state(model, self.obs_dim_, rng)
        self.parameters_, records = state.parameters, []
        num_frames = sum(len(sequence) for sequence in sequences)

        with progress_bar(num_steps, num_frames, progress) as show:

            def keep(state: fit_.State, record: dict[str, float]) -> None:
                self.parameters_ = state.parameters
                records.append(record)
                show(record)
                if callback is not None:
                    callback(state.step, record)

            prior = self.latent.prior()
            try:
                fit_.run(model, state, prior, sequences, num_steps, settings, rng, keep)
            finally:
                self.history_ = {
                    name: np.array([record[name] for record in records])
                    for name in fit_.HISTORY
                }
                if checkpoint is not None:
                    self._write_run(Path(checkpoint))
        return self

    def infer(self, data: Any, num_samples: int = 10, rng: Any = 0) -> Any:
        """Return the posterior over latents of each sequence.

        Parameters
        ----------
        data : as in `fit`
        num_samples : int
            Samples of x that estimate ``elbo``.
        rng : int or numpy.random.Generator

        Returns
        -------
        Posterior
            For a list of sequences, a list of them.
        """
        return arrange(data, list(self._posteriors(data, num_samples, rng)))

    def transform(self, data: Any) -> Any:
        """Return posterior means of x: (T, D), (N, T, D) or a list of (T_n, D)."""
        return _field(self.infer(data, num_samples=1), "mean")

    def predict(self, data: Any) -> Any:
        """Return the most likely discrete states: (T,) int64, (N, T) or a list."""
        if not hasattr(self.latent, "num_states"):
            name = type(self.latent).__name__
            raise TypeError(f"predict: {name} has no discrete states")
        states = _field(self.infer(data, num_samples=1), "states")
        if isinstance(states, list):
            return [probabilities.argmax(axis=-1) for probabilities in states]
        return states.argmax(axis=-1)

    def score(self, data: Any, num_samples: int = 10, rng: Any = 0) -> float:
        """Return the bound on held-out data, in nats for each frame.

        The local part of the objective, ``E log p(y | x) - KL(q(x) || p(x))`` with
        q(theta) as fitted, over the number of frames.
        """
        posteriors = list(self._posteriors(data, num_samples, rng))
        num_frames = sum(len(posterior.mean) for posterior in posteriors)
        return float(sum(posterior.elbo for posterior in posteriors) / num_frames)

    def sample(self, num_steps: int, rng: Any = None) -> np.ndarray:
        """Draw ``num_steps`` frames (num_steps, P) from the model, theta ~ q(theta)."""
        check_positive_int(num_steps=num_steps)
        parameters, rng = self._fitted(), np.random.default_rng(rng)
        latents = self.latent.simulate(parameters.natparams, num_steps, rng)
        mean, variance = self.decode(latents)
        return generate.draw_frames(self.likelihood, mean, variance, rng)

    def decode(self, latents: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance of the frames (..., P) at latents (..., D)."""
        latents = np.asarray(latents, dtype=np.float64)
        if latents.shape[-1:] != (self.latent.latent_dim,):
            raise ValueError(
                f"latents has shape {latents.shape}, expected (..., "
                f"{self.latent.latent_dim})"
            )
        return generate.decode(self._generative(), self._fitted(), latents)

    def forecast(
        self, data: Any, horizon: int, num_samples: int = 50, rng: Any = 0
    ) -> Any:
        """Predict the ``horizon`` frames after each sequence.

        Returns
        -------
        Forecast
            For a list of sequences, a list of them; stacked for (N, T, P).

        Raises
        ------
        TypeError
            If the rows of the latent model are independent.
        """
        check_positive_int(horizon=horizon, num_samples=num_samples)
        if self.latent.independent:
            name = type(self.latent).__name__
            raise TypeError(f"forecast: the rows of {name} are independent")
        parameters, rng = self._fitted(), np.random.default_rng(rng)
        forecasts = [
            generate.forecast(
                self._generative(), parameters, sequence, horizon, num_samples, rng
            )
            for sequence in self._sequences(data)
        ]
        return arrange(data, forecasts)

    def save(self, path: str | Path) -> None:
        """Write the fitted model to one ``.npz`` file (arrays and json, no pickle)."""
        tree = {"parameters": tuple(self._fitted()), "history": self.history_}
        arguments = {
            "latent": _describe(self.latent),
            "encoder": _describe(self.encoder),
            "decoder": _describe(self.decoder),
            "likelihood": self.likelihood,
            "decoder_posterior": self.decoder_posterior,
        }
        meta = {"kind": KIND, "obs_dim": self.obs_dim_, "arguments": arguments}
        store.save(path, tree, meta)

    def _write_run(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.save(folder / "model.npz")
        columns = zip(*self.history_.values(), strict=True)
        with store.replacing(folder / "history.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["step", *self.history_])
            writer.writerows([step, *row] for step, row in enumerate(columns))

    def _generative(self) -> Generative:
        model = Generative(
            self.latent,
            self.encoder,
            self.decoder,
            self.likelihood,
            self.decoder_posterior,
        )
        check_model(model)
        return model

    def _fitted(self) -> Parameters:
        if not hasattr(self, "parameters_"):
            raise NotFitted("this SVAE is not fitted yet: call fit(data) first")
        return self.parameters_

    def _sequences(self, data: Any) -> list[np.ndarray]:
        sequences = data_.as_sequences(data)
        _refuse_missing_for_now(sequences)
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


def load(path: str | Path) -> SVAE:
    """Read a model that `SVAE.save` wrote.

    Raises
    ------
    ValueError
        If the file is damaged or holds something else.
    """
    tree, meta = store.load(path)
    if meta.get("kind") != KIND:
        raise ValueError(f"{path}: not a saved model")
    arguments = dict(meta["arguments"])
    arguments["latent"] = _construct(models, arguments["latent"])
    for role in ("encoder", "decoder"):
        arguments[role] = _construct(networks, arguments[role])
    model = SVAE(**arguments)
    model.parameters_ = Parameters(*tree["parameters"])
    model.history_ = tree["history"]
    model.obs_dim_ = meta["obs_dim"]
    return model


def _describe(part: Any) -> dict[str, Any]:
    return {"class": type(part).__name__, **asdict(part)}


def _construct(module: Any, description: dict[str, Any]) -> Any:
    options = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in description.items()
        if name != "class"
    }
    return getattr(module, description["class"])(**options)


def _refuse_missing_for_now(sequences: list[Any]) -> None:
    """Raise ValueError for a NaN: temporary, until inference knows missing values."""
    for index, start, frames in data_.stretches(sequences):
        missing = np.argwhere(np.isnan(frames))
        if len(missing):
            step, dim = missing[0]
            raise ValueError(
                f"data is not finite: nan at sequence {index}, step {start + step}, "
                f"dimension {dim}"
            )


def _field(results: Any, name: str) -> Any:
    if isinstance(results, list):
        return [getattr(result, name) for result in results]
    return getattr(results, name)
