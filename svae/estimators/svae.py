"""The face of the package: `SVAE`, a latent model between two networks.

The constructor stores its arguments, `SVAE.fit` learns attributes that end in ``_``,
and every other method needs them.  The work is done in `svae.training` and in
`svae.queries`.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from svae import store
from svae.autodiff.trees import check_alike
from svae.errors import Impossible, NotPositiveDefinite
from svae.estimators import parts
from svae.estimators.queries import Queries
from svae.estimators.scikit_learn import check_columns, takes_labels
from svae.estimators.scikit_learn import columns as named_columns
from svae.likelihoods import Gaussian, Likelihood
from svae.models import ConvergenceWarning
from svae.models.base import check_positive_int
from svae.networks import Residual
from svae.networks.units import check_units
from svae.objective.model import check_natparams, check_parameters
from svae.queries.posteriors import mean_bound, state_probabilities
from svae.training import course, diagnostics
from svae.training.batches import excerpt
from svae.training.checkpoint import (
    TRIAL,
    Checkpoint,
    alone,
    began_without,
    begin,
)
from svae.training.continuation import Fitted
from svae.training.history import (
    check_first,
    check_history,
    check_trial,
    columns,
    write_csv,
)
from svae.training.loop import (
    INTERRUPTED,
    TRAINING,
    TrainingState,
    equipped,
    result,
    result_of_warm_up,
    run,
)
from svae.training.plan import TrainingPlan, make_plan
from svae.training.trial import Trial, hold_trial

__all__ = ["SVAE"]

DEFAULT_NETWORK = Residual((200, 200), weight_scale=None)
DEFAULT_LIKELIHOOD = Gaussian(variance="shared")
KIND = "svae.SVAE"
BETTER_STEPS = (
    "take smaller steps (learning_rate, natural_step), or more frames in each "
    "(batch_size, num_samples)"
)
ENDINGS = ("steps", "patience", INTERRUPTED, "failed", "running")
LESS_HALVING = (
    "start from the linear model of the data (start='linear') with one variance for "
    "all columns (likelihood=svae.likelihoods.Gaussian(variance='shared')), fit fewer "
    "columns (principal components, say), or use "
    "natural_gradient='conjugate', whose steps need no halving"
)
KEPT_STATES = (
    "give the prior the scale of the latents (noise_variance='data'), take smaller "
    "natural steps, or choose fewer states"
)
BETTER_STATES = (
    "train for longer, with a longer warmup or several starts (n_init), or choose "
    "fewer states or latent dimensions"
)


class SVAE(Queries):
    r"""Structured variational autoencoder (Johnson et al. 2016; Lin et al. 2018).

    Parameters
    ----------
    latent : latent model
        `svae.Gaussian`, `svae.GMM`, `svae.StudentMixture`, `svae.HMM`, `svae.LDS` or
        `svae.SLDS`.
    encoder, decoder : networks
        Recognition network and observation network: `svae.MLP`, `svae.Residual` or
        `svae.Linear`; by default residual networks with two layers of 200 tanh units,
        which can begin as the linear model of the data.
    likelihood : {"gaussian", "bernoulli"} or likelihood
        The law of frames given what the decoder says: a word, or an object such as
        ``svae.likelihoods.Gaussian(variance="shared")``, the default; see
        `svae.Likelihood`.  ``"gaussian"`` has its variance from the decoder.
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
        ``backtracks`` (halvings of the natural step, of the factor and the state that
        took the most) and ``seconds``.
        Of models with discrete states also ``states_in_use``: those with 1 % or more of
        the frames of the step.  With ``held_out`` data also their score, NaN at steps
        without one.
    best_step_ : int
        The step whose parameters these are: the last, or that of the best score, 0 for
        those before the first step.
    ended_ : {"steps", "patience", "interrupted", "failed", "running"}
        Why training ended: all steps were taken, no better score was found, Ctrl-C, or
        an error; it had not when a checkpoint was written.
    obs_dim_, n_features_in_ : int
        P.
    feature_names_in_ : (P,) array of str
        Names of the columns, of data that are data frames.
    fill_ : (P,) array
        Mean of the training data, which the encoder gets for a missing entry.
    sees_mask_ : bool
        Whether the encoder also gets a mask of missing entries: if the training data
        had frames that were partly observed.
    units_ : Units
        The units in which networks see data and speak of x, of a linear start: center
        (P,) and scale of the data, and precision (D,) of evidence.
    prior_ : dict
        Natural parameters of p(theta), which may be centred on the data.
    start_ : dict of float, or None
        After a linear start the bound before the first step and its parts, named as in
        ``history_``, and ``linear``, the log likelihood of the principal components as
        which the networks began; all in nats for the whole data.  With ``held_out``
        data also their score, in nats for each frame.
    trial_ : dict of (K,) arrays, or None
        Of a fit that was told no number of steps: ``score``, in nats for each frame
        that the trial left out, and the ``step`` before it.

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
        likelihood: str | Likelihood = DEFAULT_LIKELIHOOD,
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

    @partial(takes_labels, none_is_label=True)
    def fit(
        self,
        data: Any,
        num_steps: int | None = None,
        batch_size: int | None = None,
        window: int | None = None,
        rng: Any = None,
        progress: bool = False,
        checkpoint: str | Path | None = None,
        num_samples: int = 1,
        learning_rate: float | None = None,
        natural_step: float = 0.1,
        context: int = 0,
        hide: int = 0,
        warm_start: bool = False,
        warmup: int | None | str = "auto",
        callback: Callable[[int, dict[str, float]], None] | None = None,
        *,
        start: "str | SVAE | None" = None,
        schedule: str = "constant",
        natural_schedule: str = "constant",
        weight_decay: float = 0.0,
        freeze: Sequence[str] = (),
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
        y : ignored
            Labels or None, as scikit-learn gives them.  Settings by position may also
            follow the data: ``fit(data, 500)`` takes 500 steps.
        num_steps : int, optional
            By default 1000; after a linear start without ``held_out`` data as many as a
            trial tells, none at least and 1000 at most.  The trial is a fit to all but
            a fifth of the data, scored on the fifth every ``score_every`` steps, that
            ends after 3 scores without a better one.
        batch_size : int, optional
            Rows (independent models, default 50) or windows (chains, default 8) in a
            step.
        window : int, optional
            Length of the windows that sequences are cut into; by default 200 if one is
            longer than 1000 frames, else they are not cut.
        rng : int or numpy.random.Generator, optional
        progress : bool
            Show a progress bar with the bound and its parts, per frame.
        checkpoint : path, optional
            Folder that receives ``checkpoint.npz``, from which training can go on,
            ``model.npz`` and ``history.csv``: while it runs, at the end, and also when
            it stops early.
        num_samples : int
            Samples of x for each sequence in a step.
        learning_rate : float or dict of float
            Of Adam, for both networks, or of each: ``{"encoder": 1e-3, "decoder":
            1e-4}``.  By default 3e-4 after a linear start or from a fitted model, and
            3e-3 after a random start.
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
        start : {"linear", "random"} or fitted SVAE, optional
            What the networks begin as: the principal components of the data, by default
            if networks and likelihood can; random numbers; or those of a fitted model,
            with its q(theta) if that is of the same family and sizes, or else one that
            is fitted to the latents that its encoder gives.
        schedule, natural_schedule : str
            How the learning rates and the natural step change over the steps of
            training: ``"constant"``; ``"cosine"``, from the full rate to nothing at the
            last step, or ``"cosine:N"`` at step N; ``"exponential:R:N"``, by a factor R
            in N steps (``"exponential:0.95:1000"``).  In the warm-up rates are
            constant.
        weight_decay : float
            The share, times the learning rate, by which a step draws the matrices of
            both networks toward zero, beside its gradient (AdamW).  Biases, the linear
            map of a ``skip``, parameters of the likelihood and a Gaussian q(gamma) are
            left alone.
        freeze : sequence of {"latent", "encoder", "decoder"}
            What is not learned: q(theta) of the latent model, the encoder (with the
            graph of a structured inference network), or the decoder (with parameters
            of the likelihood).  It stays what the start, or the fit of q(theta) to the
            latents of a warm-up, has made it, bit for bit.
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
            Steps between scores, also those of a trial; the parameters before the first
            step and after the last are scored too.
        patience : int, optional
            Number of scores without a better one after which training stops.
        executor : concurrent.futures.Executor, dask client or callable, optional
            Where the windows of a step are evaluated: the executor, or a function that
            makes one, also in the place of one that broke: a pool of processes does if
            one of them dies.  Its workers are processes that can import this package,
            on this or other machines; each keeps the shards of the data that it is
            given.  Results are those without an executor, to rounding.  A step that
            loses a worker is done again.
        num_workers : int, optional
            Into how many parts steps are divided.  The default is the number of workers
            of a dask client, the ``num_workers`` of an executor that has this
            attribute, or else the number of CPUs of this machine: a pool of
            `concurrent.futures` does not tell its size, so give that.
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
            natural steps that were halved more than once on average, of a trial in
            which no step improved the score.  After 100 steps
            or more also of states that are not in use, not told apart, or lost in
            training, and of a held-out score that falls while the bound rises.
        ConvergenceWarning
            If inference did not converge for more than 1 % of the sequences.
        """
        if resume and checkpoint is None:
            raise ValueError("resume: there is no folder to resume from (checkpoint=)")
        if resume and overwrite:
            raise ValueError("resume, overwrite: a fit is resumed, or it is replaced")
        names = named_columns(data)
        check_columns(held_out, names)
        arguments = {} if checkpoint is None else parts.arguments(self)
        plan = make_plan(
            self._constructed(),
            data,
            num_steps=num_steps,
            start=start._as_start() if isinstance(start, SVAE) else start,
            warmup=warmup,
            n_init=n_init,
            held_out=held_out,
            score=mean_bound,
            score_every=score_every,
            patience=patience,
            identify=checkpoint is not None,
            batch_size=batch_size,
            window=window,
            num_samples=num_samples,
            learning_rate=learning_rate,
            natural_step=natural_step,
            schedule=schedule,
            natural_schedule=natural_schedule,
            weight_decay=weight_decay,
            freeze=freeze,
            natural_gradient=self.natural_gradient,
            context=context,
            hide=hide,
            warm_start=warm_start,
        )
        saved, of_trial = None, None
        if checkpoint is not None:
            folder, identity = Path(checkpoint), {"model": arguments, **plan.identity}
            saved = Checkpoint(folder, identity, checkpoint_interval)
            if plan.trial is not None:
                identity = {"model": arguments, **plan.trial.identity}
                of_trial = Checkpoint(folder, identity, checkpoint_interval, TRIAL)

        def visit(training: TrainingState) -> None:
            if training.phase == TRAINING and training.record is not None:
                self.parameters_ = training.state.parameters
                if callback is not None:
                    callback(training.state.step, training.record)
            if saved is not None and saved.is_due():
                keep(training, "running")

        def keep(training: TrainingState, ended: str) -> None:
            if trial is not None and trial.ended == INTERRUPTED:
                ended = INTERRUPTED
            self._keep(plan, training, ended, saved)

        trial: Trial | None = None
        how = executor, num_workers, progress
        with alone(saved):
            if saved is not None and not (resume or overwrite):
                saved.refuse_another()
            if plan.trial is not None and not (resume and began_without(of_trial)):
                trial = hold_trial(plan.trial, rng, of_trial, resume, overwrite, *how)
                plan, overwrite = plan._replace(num_steps=trial.num_steps), False
            self.trial_ = trial and {"step": trial.step, "score": trial.score}
            training, generator = begin(plan, rng, saved, resume, overwrite)
            with equipped(plan, training, *how) as (evaluate, show):
                self.obs_dim_, self.ended_ = plan.obs_dim, "running"
                self._keep_columns(names)
                self.fill_, self.sees_mask_ = plan.model.fill, plan.model.sees_mask
                self.units_, self.prior_ = plan.model.units, dict(plan.training.prior)
                run(plan, training, evaluate, generator, show, visit, keep)
        if self.ended_ != INTERRUPTED:
            self._look_back(plan)
        return self

    def _keep(
        self,
        plan: TrainingPlan,
        training: TrainingState,
        ended: str,
        saved: Checkpoint | None,
    ) -> None:
        """Take the best fit so far for the model's own, and write both."""
        self.ended_ = ended
        if saved is not None:
            saved.save(training)
        best = result(plan, training)
        if best is None and ended == INTERRUPTED:
            best = result_of_warm_up(plan, training)
        if best is None:  # there is no q(theta) yet
            return
        self.parameters_, self.best_step_ = best.parameters, best.step
        self.start_ = training.first
        self.history_ = columns(best.records, plan.recorded)
        if saved is not None:
            self.save(saved.folder / "model.npz")
            write_csv(self.history_, saved.folder / "history.csv")

    def _look_back(self, plan: TrainingPlan) -> None:
        """Warn of what went wrong in a fit that came to its end."""
        history, num_windows = self.history_, len(plan.training.windows)
        unconverged = diagnostics.of_inference(
            history["unconverged"],
            min(plan.settings.batch_size, num_windows),
            getattr(self.latent, "max_iterations", 0),
        )
        diagnostics.tell(unconverged, ConvergenceWarning, stacklevel=4)
        halvings = history["backtracks"], LESS_HALVING
        messages = diagnostics.of_natural_steps(*halvings)
        messages = messages or course.of_halvings(*halvings)
        if hasattr(self.latent, "num_states") and plan.num_steps >= diagnostics.SHORT:
            messages += self._look_at_states(plan)
        if plan.score is not None and self.ended_ != "patience":
            messages += course.of_held_out(
                history["held_out"],
                history["objective"],
                self.best_step_,
                plan.num_frames,
            )
        if self.start_ is not None:
            messages += course.below_start(
                self.start_["objective"],
                history["objective"],
                plan.num_frames,
                BETTER_STEPS,
            )
        if self.trial_ is not None and len(history["objective"]) == 0:
            messages += course.of_trial(self.trial_["step"], self.trial_["score"])
        diagnostics.tell(messages, stacklevel=4)

    def _as_start(self) -> Fitted:
        """Return what another fit needs of this one to go on from it."""
        parameters = self._fitted()
        model = self._constructed()
        model = model._replace(fill=self.fill_, sees_mask=self.sees_mask_)
        return Fitted(model, self.units_, parameters, self.obs_dim_)

    def _look_at_states(self, plan: TrainingPlan) -> list[str]:
        """Look at the states of frames from everywhere in the data."""
        few = excerpt(plan.sequences, plan.training.windows)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                states = state_probabilities(
                    plan.model, self.parameters_, plan.sequences, few
                )
        except (NotPositiveDefinite, Impossible, FloatingPointError) as error:
            return [f"inference with the fitted parameters fails: {error}"]
        is_chain = not self.latent.independent
        messages = diagnostics.of_states(states, is_chain, BETTER_STATES)
        if messages or not is_chain:  # a mixture may well have had some to spare
            return messages
        in_use = self.history_["states_in_use"]
        return course.of_falling_states(in_use, states.shape[1], KEPT_STATES)

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
            "units": self.units_._asdict(),
            "prior": self.prior_,
            "start": self.start_,
            "trial": self.trial_,
            "history": self.history_,
            "fill": self.fill_,
        }
        meta = {
            "kind": KIND,
            "class": parts.name_of(type(self)),
            "obs_dim": self.obs_dim_,
            "sees_mask": self.sees_mask_,
            "best_step": self.best_step_,
            "ended": self.ended_,
            "arguments": parts.arguments(self),
            **self._save_columns(),
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
        model: SVAE = parts.restore(cls, meta, known)
        model.obs_dim_, model.sees_mask_ = meta["obs_dim"], meta["sees_mask"]
        check_positive_int(obs_dim=model.obs_dim_)
        model._restore_columns(meta)
        if type(model.sees_mask_) is not bool:
            raise ValueError(f"sees_mask is {model.sees_mask_!r}")
        check_alike(tree["fill"], np.zeros(model.obs_dim_), "fill")
        model.fill_ = tree["fill"]
        # fits of version 0.1.0 start at random: networks see data as they are
        latent = model.latent
        model.units_ = check_units(tree.get("units"), model.obs_dim_, latent.latent_dim)
        model.prior_ = latent.prior()
        if "prior" in tree:
            model.prior_ = check_natparams(latent, tree["prior"], "prior")
        model.start_ = check_first(tree.get("start"))
        model.trial_ = check_trial(tree.get("trial"))
        model.parameters_ = check_parameters(
            model._generative(), tree["parameters"], model.obs_dim_
        )
        model.history_ = check_history(tree["history"])
        # files of version 0.1.0 have neither: their fits took all steps
        num_steps = len(model.history_["objective"])
        model.best_step_ = meta.get("best_step", num_steps)
        model.ended_ = meta.get("ended", "steps")
        if type(model.best_step_) is not int or not 0 <= model.best_step_ <= num_steps:
            raise ValueError(f"best_step is {model.best_step_!r}")
        if model.ended_ not in ENDINGS:
            raise ValueError(f"it ended by {model.ended_!r}")
        return model
