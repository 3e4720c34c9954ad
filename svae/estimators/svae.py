"""The face of the package: `SVAE`, a latent model between two networks.

The constructor stores its arguments, `SVAE.fit` learns attributes that end in ``_``,
and every other method needs them.  All the work is done elsewhere.
"""

import csv
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from svae import data as data_
from svae import likelihoods, models, store
from svae.autodiff.trees import check_alike
from svae.data.sources.reference import naming
from svae.errors import Impossible, NotFitted, NotPositiveDefinite
from svae.estimators import parts as parts_
from svae.estimators import svi
from svae.estimators.params import Params
from svae.likelihoods import Likelihood
from svae.models.base import check_positive_int
from svae.networks import MLP
from svae.objective.model import (
    Generative,
    Parameters,
    check_data,
    check_model,
    check_parameters,
)
from svae.queries import forecasts as generate
from svae.queries.importance import ImportanceScore, importance_score
from svae.queries.posteriors import (
    THETAS,
    Posterior,
    arrange,
    mean_bound,
    most_likely_states,
    posteriors,
    reconstructions,
    state_probabilities,
)
from svae.training import diagnostics
from svae.training import step as fit_
from svae.training.batches import excerpt, window_length
from svae.training.checkpoint import Keeper, fingerprint
from svae.training.loop import (
    TRAINING,
    WARM_UP,
    Course,
    Job,
    begin,
    ended,
    generator_at,
    go_on,
    on_few_threads,
    on_workers,
    result,
    stage,
    train,
)
from svae.training.progress import progress_bars
from svae.training.workers import evaluate

__all__ = ["SVAE", "NotFitted", "load"]

DEFAULT_NETWORK = MLP()
KIND = "svae.SVAE"
ENDINGS = ("steps", "patience", "interrupted", "failed", "running")
LESS_HALVING = (
    "fit fewer columns (principal components, say), or use "
    "natural_gradient='conjugate', whose steps need no halving"
)
BETTER_STATES = (
    "train for longer, with a longer warmup or several starts (n_init), or choose "
    "fewer states or latent dimensions"
)


class SVAE(Params):
    r"""Structured variational autoencoder (Johnson et al. 2016; Lin et al. 2018).

    Parameters
    ----------
    latent : latent model
        `svae.Gaussian`, `svae.GMM`, `svae.StudentMixture`, `svae.HMM`, `svae.LDS` or
        `svae.SLDS`.
    encoder, decoder : networks
        Recognition network and observation network: `svae.MLP`, `svae.Residual` or
        `svae.Linear`; by default perceptrons with two layers of 200 tanh units.
    likelihood : {"gaussian", "bernoulli"} or likelihood
        The law of frames given what the decoder says: a word, or an object such as
        ``svae.likelihoods.Gaussian(variance="shared")``; see `svae.Likelihood`.
    decoder_posterior : {"point", "gaussian"}
        A point estimate of the decoder's weights gamma, or a mean-field Gaussian
        q(gamma) with prior N(0, I) whose KL is part of the bound (Algorithm 1).
    natural_gradient : {"full", "conjugate", "none"}
        Direction of the steps of q(theta): Eq. (4) with every term; its conjugate part,
        without the correction for the network's likelihood, as earlier code has it; or
        the plain gradient of the objective in the natural parameters.
    inference : {"svae", "sin"}
        Whether the graph of inference is the prior's, under q(theta), or has free
        parameters: a structured inference network (Lin et al. 2018), for `GMM`,
        `StudentMixture`, `HMM` and `LDS`.  Then q(x, z) is exact, nothing is iterated,
        and the natural gradient has no correction.

    Attributes
    ----------
    parameters_ : Parameters
        ``natparams`` of q(theta), weights of the ``encoder`` and the ``decoder`` (for a
        Gaussian q(gamma): a dict of its ``mean`` and ``log_std``).  A structured
        inference network has a dict for its encoder: the weights of the ``network`` and
        the free coordinates of the ``graph``.
    history_ : dict of str to (num_steps,) arrays
        For each step: ``objective`` and its parts ``reconstruction``, ``local_kl`` and
        ``global_kl`` (``objective = reconstruction - local_kl - global_kl``, in nats
        for the whole data); ``decoder_kl``, the share of q(gamma) in ``global_kl``;
        mean ``iterations`` of inference and ``gradient_iterations`` of the linear solve
        in its gradient, ``unconverged`` (sequences that one of the two did not finish),
        ``backtracks`` (halvings of the natural step) and ``seconds``.
        With ``held_out`` data also their score, NaN at steps without one.
    best_step_ : int
        The step whose parameters these are: the last, or that of the best score.
    ended_ : {"steps", "patience", "interrupted", "failed", "running"}
        Why training ended: all steps were taken, no better score was found, Ctrl-C, or
        an error; it had not when a checkpoint was written.
    obs_dim_ : int
        P.
    fill_ : (P,) array
        Mean of the training data, which the encoder gets for a missing entry.
    sees_mask_ : bool
        Whether the encoder also gets a mask of missing entries: if the training data
        had frames that were partly observed.

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
        likelihood: str | Likelihood = "gaussian",
        decoder_posterior: str = "point",
        natural_gradient: str = "full",
        inference: str = "svae",
    ) -> None:
        self.latent = latent
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.decoder_posterior = decoder_posterior
        self.natural_gradient = natural_gradient
        self.inference = inference

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
        context: int = 0,
        hide: int = 0,
        warm_start: bool = False,
        warmup: int | None | str = "auto",
        callback: Callable[[int, dict[str, float]], None] | None = None,
        *,
        resume: bool = False,
        checkpoint_interval: float = 30.0,
        n_init: int = 1,
        held_out: Any = None,
        score_every: int = 100,
        patience: int | None = None,
        executor: Any = None,
        num_workers: int | None = None,
        overwrite: bool = False,
    ) -> "SVAE":
        """Fit the model by stochastic natural-gradient variational inference.

        Ctrl-C ends training early, with what is fitted so far (of a fit that is still
        in its warm-up, with q(theta) fitted to the latents as they are).

        Parameters
        ----------
        data : (T, P), (N, T, P) or list of (T_n, P) arrays
            NaN where a value is missing: an entry, or a whole frame.  For `Gaussian`,
            `GMM` and `StudentMixture` all rows are independent.  Memory maps and HDF5
            datasets are read window by window, after one pass for the mean of the data.
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
            Folder that receives ``checkpoint.npz``, from which training can go on,
            ``model.npz`` and ``history.csv``: while it runs, at the end, and also when
            it stops early.
        num_samples : int
            Samples of x for each sequence in a step.
        learning_rate : float
            Of Adam, for both networks.
        natural_step : float
            Step size of the natural gradient; 1 replaces q(theta) in one step.
        context : int
            Frames before a window from which it gets a belief about its first state; 0
            lets every window start from the initial factor.  See
            `svae.training.batches` for the estimators and their biases.
        hide : int
            Length of a random stretch of every window that the encoder does not see and
            the likelihood scores: the model learns to predict.
        warm_start : bool
            Start mean-field inference of a window from the states it ended with when
            the window was last seen; not with ``inference="sin"``.
        warmup : int, None or "auto"
            Steps for which the networks are trained as a variational autoencoder, after
            which q(theta) is fitted to clusterings of its latents (the best of several
            coordinate ascents).  None starts from ``latent.initial_posterior``, which
            is "auto" except for an `HMM` or `SLDS` of several states: there it is a
            quarter of ``num_steps``, 500 at most.
        callback : callable, optional
            Called as ``callback(step, record)`` with each new record of `history_`.
        resume : bool
            Go on from the checkpoint in the folder, to what the fit would have been
            without a stop, bit for bit; start if there is none yet.  The data and all
            arguments must be the same (``rng`` is not read), but ``num_steps`` may be
            another, and how things are run: executor, bars, times.  The values of the
            data are compared, by a digest, not where they are.
        checkpoint_interval : float
            Seconds between checkpoints; 0 for one after every step.
        n_init : int
            How many times training starts anew, warm-up included.  The best is kept: by
            its held-out score, or its bound (a mean over the last tenth of the steps).
        held_out : as ``data``, optional
            Data to score the model on (`score`, with 10 samples and a fixed seed).  The
            parameters with the best score are kept.
        score_every : int
            Steps between scores; the last step is scored too.
        patience : int, optional
            Number of scores without a better one after which training stops.
        executor : concurrent.futures.Executor or callable, optional
            Where the windows of a step are evaluated: the executor, or a function that
            makes one, also in the place of one that broke.  Its workers are processes
            that can import this package, on this or other machines; each keeps the
            shards of the data that it is given.  Results are those without an executor,
            to rounding.  A step that loses a worker is done again.
        num_workers : int, optional
            Into how many parts steps are divided; default: what the executor tells.
        overwrite : bool
            Whether a fit that is in the folder already, ended or not, is removed and
            replaced by this one.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For malformed data or arguments; names what is wrong and where.  For a
            checkpoint that is damaged or of another fit, which is left as it is; for a
            folder with a fit, unless that is to go on or to be overwritten; for one in
            which another fit is running.
        TypeError
            If there is a folder, and a network or latent model that cannot be saved
            (see `save`).
        FloatingPointError
            If the bound or a gradient stops being finite.  The last good parameters
            are kept.

        Warns
        -----
        UserWarning
            When Ctrl-C ended training, or when other versions of the package or of what
            it needs began it.  Of data and settings that can hardly be meant so, of
            natural steps that were nearly always halved, and of states that are not in
            use or not told apart after 100 steps or more.
        ConvergenceWarning
            If inference did not converge for more than 1 % of the sequences.
        """
        sequences = data_.as_sequences(data)
        check_data(self._generative(), sequences)
        settings = fit_.make_settings(
            self.latent.independent,
            self.inference,
            batch_size=batch_size,
            window=window,
            num_samples=num_samples,
            learning_rate=learning_rate,
            natural_step=natural_step,
            natural_gradient=self.natural_gradient,
            context=context,
            hide=hide,
            warm_start=warm_start,
        )
        check_positive_int(num_steps=num_steps, n_init=n_init, score_every=score_every)
        if patience is not None:
            check_positive_int(patience=patience)
            if held_out is None:
                raise ValueError("patience: there are no held-out data to score")
        if resume and checkpoint is None:
            raise ValueError("resume: there is no folder to go on from (checkpoint=)")
        if resume and overwrite:
            raise ValueError("resume, overwrite: a fit goes on, or it is replaced")
        keeps = checkpoint is not None
        arguments = parts_.arguments(self) if keeps else {}
        summary = data_.summarize(sequences, digest=keeps)
        num_states = getattr(self.latent, "num_states", None)
        diagnostics.tell(
            diagnostics.of_data(summary, self.likelihood, num_states), stacklevel=2
        )
        model = self._generative()._replace(
            fill=summary.mean, sees_mask=summary.partly_observed
        )
        job = Job(
            model,
            self.latent.prior(),
            sequences,
            data_.windows(sequences, window_length(model, sequences, window)),
            partial(evaluate, sequences=sequences),
            settings,
            num_steps,
            _warmup_steps(self.latent, warmup, num_steps),
            n_init,
            score_every=score_every,
            patience=patience,
        )
        lengths = job.windows[:, 2] - job.windows[:, 1]
        fit_.check_stretch(hide, int(lengths.max()))
        diagnostics.tell(
            diagnostics.of_settings(
                learning_rate,
                context,
                int(lengths.max()),
                len(lengths) > len(sequences),
            ),
            stacklevel=2,
        )
        told = {
            "model": arguments,
            "fit": settings._asdict() | {"warmup": warmup, "n_init": n_init},
            "data": fingerprint(sequences, summary),
        }
        if held_out is not None:
            kept = data_.as_sequences(held_out)
            check_data(model, kept)
            if kept[0].shape[1] != sequences[0].shape[1]:
                raise ValueError(
                    f"held_out has {kept[0].shape[1]} dimensions, data "
                    f"{sequences[0].shape[1]}"
                )
            job = job._replace(score=partial(mean_bound, model, sequences=kept))
            told["held_out"] = fingerprint(kept, data_.summarize(kept, digest=keeps))
            told["fit"] |= {"score_every": score_every, "patience": patience}
        keeper = course = None
        if checkpoint is not None:
            keeper = Keeper(Path(checkpoint), told, checkpoint_interval)
        with nullcontext() if keeper is None else keeper.alone():
            if keeper is not None and resume:
                course = keeper.load(job)
            elif keeper is not None and not overwrite:
                keeper.refuse_another()
            rng = generator_at(course.rng) if course else np.random.default_rng(rng)
            course = go_on(job, course) if course else begin(job, rng)
            if keeper is not None:
                keeper.prepare(course, overwrite)
            with (
                on_workers(job, executor, num_workers) as working,
                on_few_threads(job, course),
            ):
                self._train(
                    working, course, rng, keeper, progress, callback, summary.num_frames
                )
        self._look_back(job)
        return self

    def _train(
        self,
        job: Job,
        course: Course,
        rng: np.random.Generator,
        keeper: Keeper | None,
        progress: bool,
        callback: Callable[[int, dict[str, float]], None] | None,
        num_frames: int,
    ) -> None:
        """Train from a course to the end, or until stopped; keep what was reached."""
        self.obs_dim_ = job.sequences[0].shape[1]
        self.fill_, self.sees_mask_ = job.model.fill, job.model.sees_mask
        self.ended_ = "running"
        with progress_bars(num_frames, progress) as show:
            try:
                for reached in train(job, course, rng):
                    course = reached
                    record, step = course.record, course.state.step
                    if record is not None:
                        show(*stage(job, course), step, record)
                    if course.phase == TRAINING and record is not None:
                        self.parameters_ = course.state.parameters
                        if callback is not None:
                            callback(step, record)
                    if keeper is not None and keeper.is_due():
                        self._keep(job, course, keeper)
                self.ended_ = ended(job, course)
            except KeyboardInterrupt:
                self.ended_ = "interrupted"
                warnings.warn(
                    f"interrupted in step {course.state.step + 1} of the "
                    f"{course.phase}: the model is what was fitted so far",
                    stacklevel=3,
                )
            except BaseException:
                self.ended_ = "failed"
                raise
            finally:
                self._keep(job, course, keeper)

    def _look_back(self, job: Job) -> None:
        """Warn of what went wrong in a fit that came to its end."""
        if self.ended_ == "interrupted":
            return
        history, num_sequences = self.history_, job.settings.batch_size
        unconverged = diagnostics.of_inference(
            history["unconverged"],
            min(num_sequences, len(job.windows)),
            getattr(self.latent, "max_iterations", 0),
        )
        diagnostics.tell(unconverged, models.ConvergenceWarning, stacklevel=3)
        messages = diagnostics.of_natural_steps(history["backtracks"], LESS_HALVING)
        if hasattr(self.latent, "num_states") and job.num_steps >= diagnostics.SHORT:
            messages += self._look_at_states(job)
        diagnostics.tell(messages, stacklevel=3)

    def _look_at_states(self, job: Job) -> list[str]:
        """Look at the states of frames from everywhere in the data."""
        few = excerpt(job.sequences, job.windows)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", models.ConvergenceWarning)
                states = state_probabilities(
                    job.model, self.parameters_, job.sequences, few
                )
        except (NotPositiveDefinite, Impossible, FloatingPointError) as error:
            return [f"inference with the fitted parameters fails: {error}"]
        is_chain = not self.latent.independent
        return diagnostics.of_states(states, is_chain, BETTER_STATES)

    def _keep(self, job: Job, course: Course, keeper: Keeper | None) -> None:
        """Take the best fit so far for the model's own, and write both."""
        if keeper is not None:
            keeper.save(course)
        no_theta = course.phase == WARM_UP and course.champion is None
        if no_theta and self.ended_ != "interrupted":
            return
        fitted = result(job, course)
        self.parameters_, self.best_step_ = fitted.parameters, fitted.step
        names = [*fit_.HISTORY, *(["held_out"] if job.score is not None else [])]
        self.history_ = {
            name: np.array([record[name] for record in fitted.records])
            for name in names
        }
        if keeper is not None:
            self._write_run(keeper.folder)

    def infer(self, data: Any, num_samples: int = 10, rng: Any = 0) -> Any:
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

    def transform(self, data: Any) -> Any:
        """Return posterior means of x: (T, D), (N, T, D) or a list of (T_n, D)."""
        return _field(self.infer(data, num_samples=1), "mean")

    def reconstruct(self, data: Any, num_samples: int = 10, rng: Any = 0) -> Any:
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

    def predict(self, data: Any) -> Any:
        """Return the most likely path of discrete states: (T,) int64, (N, T) or a list.

        Viterbi's path in q(z); of a mixture, each row's most likely component.
        """
        if not hasattr(self.latent, "num_states"):
            name = type(self.latent).__name__
            raise TypeError(f"predict: {name} has no discrete states")
        parameters, sequences = self._fitted(), self._sequences(data)
        paths = most_likely_states(
            self._generative(), parameters, sequences, np.random.default_rng(0)
        )
        return arrange(data, list(paths))

    def score(
        self,
        data: Any,
        num_samples: int = 10,
        num_importance_samples: int | None = None,
        theta: str = "mean",
        rng: Any = 0,
        *,
        detailed: bool = False,
    ) -> Any:
        r"""Return the bound on held-out data, in nats for each frame with data.

        The local part of the objective, ``E log p(y | x) - KL(q(x) || p(x))`` with
        q(theta) and q(gamma) as fitted, over the number of frames of which a value was
        observed at least.  With importance samples, the bound
        ``E log mean_s p(y | x_s) p(x_s | theta) / q(x_s)`` of each sequence, which
        grows to its log likelihood with their number (Burda et al. 2016).

        Frames without data at the end of a sequence change nothing.  Those at its
        beginning or between others have no likelihood, but cost what the message of
        q(theta) makes of them.

        Parameters
        ----------
        data : as in `fit`
        num_samples : int
            Samples of x in the bound, and of gamma where it has a Gaussian q(gamma).
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

        Returns
        -------
        float, or ImportanceScore
            With ``detailed``: ``score``, ``effective_samples`` (N,) of each sequence,
            and the ``standard_error`` of the score.

        Raises
        ------
        ValueError
            If no value at all is observed.  For ``theta="sample"`` or ``detailed``
            without importance samples.
        """
        _check_word("theta", theta, THETAS)
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
        check_positive_int(num_samples=num_samples)
        parameters, sequences = self._fitted(), self._sequences(data)
        return mean_bound(self._generative(), parameters, sequences, num_samples, rng)

    def sample(self, num_steps: int, rng: Any = None) -> np.ndarray:
        """Draw ``num_steps`` frames (num_steps, P) from the model.

        One theta is drawn from q(theta), and one gamma from a Gaussian q(gamma).
        """
        check_positive_int(num_steps=num_steps)
        parameters, rng = self._fitted(), np.random.default_rng(rng)
        return generate.sample(self._generative(), parameters, num_steps, rng)[0]

    def decode(self, latents: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance of the frames (..., P) at latents (..., D).

        At one gamma: the point estimate, or the mean of a Gaussian q(gamma).
        """
        latents = np.asarray(latents, dtype=np.float64)
        if latents.shape[-1:] != (self.latent.latent_dim,):
            raise ValueError(
                f"latents has shape {latents.shape}, expected (..., "
                f"{self.latent.latent_dim})"
            )
        return generate.decode(self._generative(), self._fitted(), latents)

    def forecast(
        self,
        data: Any,
        horizon: int,
        num_samples: int = 50,
        theta: str = "mean",
        rng: Any = 0,
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

    def impute(
        self, data: Any, num_samples: int = 50, num_passes: int = 1, rng: Any = 0
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

    def save(self, path: str | Path) -> None:
        """Write the fitted model to one ``.npz`` file (arrays and json, no pickle).

        Latent models and networks that are not the package's own are saved if they are
        dataclasses of numbers, strings, None, tuples or dicts of these, or such
        dataclasses; by their qualified names and their fields.  `load` needs to be told
        of their classes.

        Raises
        ------
        TypeError
            If a part of the model is another object; names it.
        """
        tree = {
            "parameters": tuple(self._fitted()),
            "history": self.history_,
            "fill": self.fill_,
        }
        meta = {
            "kind": KIND,
            "class": parts_.name_of(type(self)),
            "obs_dim": self.obs_dim_,
            "sees_mask": self.sees_mask_,
            "best_step": self.best_step_,
            "ended": self.ended_,
            "arguments": parts_.arguments(self),
        }
        store.save(path, tree, meta)

    @classmethod
    def restore(
        cls, tree: Any, meta: dict[str, Any], known: Mapping[str, type]
    ) -> "SVAE":
        """Return the model of which `save` wrote this.

        Raises
        ------
        ValueError
            If it is of other classes than are known, or does not fit together.
        """
        model: SVAE = parts_.restore(cls, meta, known)
        model.obs_dim_, model.sees_mask_ = meta["obs_dim"], meta["sees_mask"]
        check_positive_int(obs_dim=model.obs_dim_)
        if type(model.sees_mask_) is not bool:
            raise ValueError(f"sees_mask is {model.sees_mask_!r}")
        check_alike(tree["fill"], np.zeros(model.obs_dim_), "fill")
        model.fill_ = tree["fill"]
        model.parameters_ = check_parameters(
            model._generative(), tree["parameters"], model.obs_dim_
        )
        model.history_ = fit_.check_history(tree["history"])
        # files of version 0.1.0 have neither: their fits took all steps
        num_steps = len(model.history_["objective"])
        model.best_step_ = meta.get("best_step", num_steps)
        model.ended_ = meta.get("ended", "steps")
        if type(model.best_step_) is not int or not 0 <= model.best_step_ <= num_steps:
            raise ValueError(f"best_step is {model.best_step_!r}")
        if model.ended_ not in ENDINGS:
            raise ValueError(f"it ended by {model.ended_!r}")
        return model

    def _write_run(self, folder: Path) -> None:
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
            likelihoods.named(self.likelihood),
            self.decoder_posterior,
            getattr(self, "fill_", 0.0),
            getattr(self, "sees_mask_", False),
            self.inference,
        )
        check_model(model)
        return model

    def _fitted(self) -> Parameters:
        if not hasattr(self, "parameters_"):
            raise NotFitted("this SVAE is not fitted yet: call fit(data) first")
        return self.parameters_

    def _sequences(self, data: Any) -> list[np.ndarray]:
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


def load(
    path: str | Path, parts: Iterable[type] | Mapping[str, type] | None = None
) -> Any:
    """Read a model that `SVAE.save` or `SVI.save` wrote.

    Parameters
    ----------
    path : path
    parts : list of classes, or dict from str to class, optional
        The classes of latent models and networks, or of the model, that are not the
        package's own: ``[MyNetwork]``.  They are found by their qualified names; for a
        class that has another name now, ``{"__main__.MyNetwork": MyNetwork}``.

    Returns
    -------
    SVAE or SVI

    Raises
    ------
    ValueError
        If the file is damaged, holds something else, or has a class that is neither the
        package's own nor among the ``parts``; names the file.
    TypeError
        If ``parts`` are no classes.
    """
    known = parts_.classes(parts)
    tree, meta = store.load(path)
    with naming(str(path)):
        if meta.get("kind") == svi.KIND:
            return svi.SVI.restore(tree, meta, known)
        if meta.get("kind") == KIND:
            return SVAE.restore(tree, meta, known)
        raise ValueError("not a saved model")


def _warmup_steps(latent: Any, warmup: Any, num_steps: int) -> int | None:
    if warmup == "auto":
        switching = getattr(latent, "num_states", 1) > 1 and not latent.independent
        return min(num_steps // 4, 500) if switching else None
    if warmup is None:
        return None
    if isinstance(warmup, (int, np.integer)) and warmup >= 0:
        return int(warmup)
    raise ValueError(
        f"warmup must be an integer from 0 on, None or 'auto', got {warmup!r}"
    )


def _check_word(name: str, word: Any, words: tuple[str, ...]) -> None:
    if word not in words:
        raise ValueError(f"{name} must be one of {words}, got {word!r}")


def _field(results: Any, name: str) -> Any:
    if isinstance(results, list):
        return [getattr(result, name) for result in results]
    return getattr(results, name)
