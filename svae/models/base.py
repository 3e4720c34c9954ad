r"""What every latent model provides.

A latent model is ``p(theta) p(x | theta)`` with ``x`` continuous, perhaps with discrete
``z`` beside it.  It knows its global family (a dict from factor to
`svae.families` module), its prior, and how to combine the *prior's message*

.. math:: m = \mathbb{E}_{q(\theta)}[t(\theta)]

with node potentials ``r(y; phi)`` into the local factor ``q(x)`` (Johnson et al. 2016,
Section 4).  The message m *is* the natural parameter of the local model, so everything
a model does is a differentiable function of m and of the node potentials.  The same
functions serve a single theta: with t(theta) in the place of m they speak of
p(x | theta).
"""

from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as onp

from svae.autodiff.operations import value_of
from svae.autodiff.vjp import Diagnostics
from svae.data.masks import valid_steps
from svae.families import gaussian, product
from svae.models.evidence import Belief, Evidence
from svae.types import Array, Integers, Mask, Message

__all__ = [
    "Diagnostics",
    "Draw",
    "Exact",
    "LatentModel",
    "Local",
    "StructuredModel",
    "belief_after",
    "check_positive_int",
    "check_range",
    "draw_latents",
    "exact_local",
    "half_log_det",
]


LOG_2PI = onp.log(2.0 * onp.pi)
LARGEST = 1e300
"""Of x that can be decoded: sums of it with weights are numbers still."""


class Local(NamedTuple):
    r"""The local factor q(x) (and q(z)) for a batch of N sequences.

    All but ``half_log_det`` and ``diagnostics`` are differentiable in m and in the
    node potentials.
    """

    samples: Any
    """(N, S, T, D), reparameterised samples of q(x), or None without noise.  Where they
    are given z, of all its values: there are S K."""
    kl: Array
    r"""(N,), :math:`\mathrm{KL}(q(x) q(z) \| \exp \mathbb{E} \log p(x, z|\theta))`."""
    mean: Array
    """(N, T, D), posterior means of x."""
    second_moment: Array
    """(N, T, D, D) or its diagonal (N, T, D): E[x x']."""
    log_normalizer: Array
    r"""(N,), log of the integral of ``exp(E log p(x|theta) + <r, t(x)>)``; where q is
    a mean-field factor, its lower bound; of a structured inference network that of its
    own graph with the evidence, log Z(phi)."""
    states: Any
    """(N, T, K), probabilities of the discrete states, or None."""
    state_potentials: Any
    """(N, T, K), node potentials of the Markov chain q(z), or None."""
    half_log_det: Any
    """(N,), half the log determinant of the precision of q(x); None where q(x) is not
    Gaussian."""
    diagnostics: Diagnostics
    weights: Any = None
    """(N, S, T), probabilities of the samples of each step, where these stand for all
    values of z; None where each has the same."""


class Exact(NamedTuple):
    r"""A graph with evidence, :math:`q(x, z) = e^{<\phi, t(z, x)> + <r, t(x)>} / Z`.

    Fields that `Local` has too mean the same.
    """

    log_normalizer: Array
    """(N,), log Z."""
    expected_evidence: Array
    """(N,), the expectation of <r, t(x)>."""
    mean: Any
    second_moment: Any
    samples: Any
    weights: Any
    statistics: Any
    """E[t(z, x)] of each sequence, as the model's ``expected_log_density`` reads it."""
    states: Any = None
    state_potentials: Any = None
    half_log_det: Any = None


class Draw(NamedTuple):
    """S paths of H steps from p(x, z | theta).

    Numbers beyond the range of float64, which growing dynamics reach, are ``inf`` or
    ``-inf``; none is NaN.
    """

    states: Any
    """(S, H) int64, or None without discrete states."""
    latents: Array
    """(S, H, D), x given the states."""
    mean: Array
    """(S, H, D), mean of x given the states."""
    cov: Array
    """(S, H, D, D), covariance of each x given the states."""


class LatentModel(Protocol):
    """A latent graphical model, p(theta) p(x | theta), with a conjugate prior.

    A class that has these attributes and methods is a latent model; it need not
    inherit.  The object holds sizes and settings alone: q(theta) comes as an argument.
    To be saved with a model it is a dataclass (`svae.SVAE.save`).  Statistics and
    natural parameters are dicts with the names of `family`, and each factor is the
    tuple of arrays that its module describes.  ``svae.models`` has the records that go
    in and out, and `exact_local`, which makes a `Local` of an exact q.

    Some things are optional:

    ``num_states``, ``most_likely_states(stats, state_potentials, lengths)``
        The number K of discrete states, and their most likely path (N, T) int64, by
        ``state_potentials`` (N, T, K) of `Local`: for `svae.SVAE.predict`.
    ``transition_laws(theta)``
        A (K, D, D), b (K, D) and Q (K, D, D) of ``x' = A x + b + N(0, Q)`` in each
        state, one where there are none, with ``theta`` as draws of q(theta) are: for
        posteriors of frames without data at the end of a sequence.  A model does
        without whose factor ``dynamics``, or ``components`` if x is not coupled, has
        pairs of a matrix or a vector and a precision; probabilities of states are those
        of a factor ``transitions``.
    ``initial_laws(theta)``
        The probabilities (K,) of z_1, and mean (K, D) and covariance (K, D, D) of x_1
        in each state: beside ``transition_laws``, for `svae.SVAE.filter` and
        `svae.SVAE.predict_next`.  A model does without whose factor ``init``, or
        ``components`` if x is not coupled, has pairs of a mean and a precision;
        probabilities are those of a factor ``weights``.
    ``prefixes(graph, evidence)``
        What the graph of a structured inference network says of each step, given the
        evidence up to it, as `svae.models.inference.prediction.ByState`: for the same.
    ``tolerance``, ``max_iterations``
        When inference that iterates has converged, and how often it may.
    the methods of `svae.models.base.StructuredModel`
        For a structured inference network, ``SVAE(inference="sin")``.
    """

    @property
    def latent_dim(self) -> int:
        """D."""

    independent: ClassVar[bool]
    """Whether the points of the data are independent, each a sequence of length 1."""
    coupled: ClassVar[bool]
    """Whether x_t depends on x_{t-1} given z."""

    @property
    def family(self) -> dict[str, Any]:
        """Name of each factor of p(theta) -> module of `svae.families`.

        Empty where nothing is learned.  A module may be one's own, with the functions
        of the table in ``help(svae.families)``.
        """

    def prior(self) -> dict[str, Any]:
        """Return the natural parameters of p(theta)."""

    def initial_posterior(self, rng: onp.random.Generator) -> dict[str, Any]:
        """Return natural parameters of q(theta) to start from.

        Those of the prior, unless states must differ to begin with.
        """

    def infer(
        self,
        message: Message,
        evidence: Evidence,
        noise: Array | None = None,
        starts: Any = None,
    ) -> Local:
        """Return the local factor given m = ``message`` and node potentials.

        It must be written in autograd's NumPy, or with `svae.kernels`: gradients are
        taken in the message, J and h.

        Parameters
        ----------
        message : dict
            Expected statistics of q(theta), factor by factor.
        evidence : Evidence
            Of N sequences of T steps, J (N, T, D), or (N, T, D, D) where second moments
            are wanted as matrices.  What lies past the lengths must not matter; see
            `Evidence.cleared`.
        noise : (N, S, T, D) array, optional
            Standard normal draws, which make samples of x.
        starts : sequence of (N, T, K) arrays, optional
            Probabilities of the discrete states from which to iterate; the best local
            optimum is kept.  Default: the model's own.

        Returns
        -------
        Local
            With fields of None where they do not apply.

        The derivative of a mean-field factor is found by a linear solve: the
        `Cotangents` that `svae.autodiff.vjp.trace` pulls back tell how it ended.
        """

    def log_density(
        self,
        stats: Message,
        latents: Array,
        lengths: Integers | None = None,
        observed: Mask | None = None,
    ) -> Array:
        """Return log p(x | theta) (N,), z summed out, of latents (N, T, D).

        With m in the place of t(theta): log of the sum of exp E log p(x, z | theta).

        Parameters
        ----------
        stats : dict
            t(theta), or the message.
        latents : (N, T, D) array
        lengths : (N,) int array, optional
        observed : (N, T) bool array, optional
            Frames whose x counts: a factor does if all x in it do.
        """

    def draw(
        self,
        stats: Message,
        uniforms: onp.ndarray,
        noise: onp.ndarray,
        belief: Belief | None = None,
    ) -> Draw:
        """Draw S paths of H steps.

        Each step is drawn given the one before it, whatever follows, so that a longer
        path begins with a shorter one; of an expectation E[t(theta)] in the place of
        t(theta) the law of each step is normalised.

        Parameters
        ----------
        stats : dict
            t(theta), with S in front of every array if each path has its own.
        uniforms : (S, H) array
            In [0, 1), for z.
        noise : (S, H, D) array
            Standard normal draws, for x.
        belief : Belief, optional
            About the first step of every path.  Where x_t is tied to no other given z,
            only what it says of z matters, and x_1 is drawn given z_1.
        """


class StructuredModel(LatentModel, Protocol):
    """A latent model that can have a structured inference network.

    See `svae.models.inference.structured`.
    """

    @property
    def graph(self) -> Any:
        """The latent model that inference has; its ``exact`` returns an `Exact`."""

    def without_data(self, stats: Message) -> Any:
        """Return what ``exact`` needs to know of the law of x where there are no data.

        None where steps without data are tied to their neighbours.
        """

    def expected_log_density(self, stats: Message, q: Exact) -> Array:
        """Return the expectation of E log p(x, z | theta), (N,), under an exact q.

        Linear in m = ``stats`` where p(x, z | theta) is conjugate.
        """


def exact_local(q: Exact, divergence: Any = None) -> Local:
    """Return an exact q as a local factor.

    ``divergence`` (N,) is the expectation of ``<phi, t(z, x)> - E log p(x, z|theta)``,
    None if phi is the message itself.
    """
    kl = q.expected_evidence - q.log_normalizer
    no_iterations = onp.zeros(len(q.mean))
    return Local(
        q.samples,
        kl if divergence is None else kl + divergence,
        q.mean,
        q.second_moment,
        q.log_normalizer,
        q.states,
        q.state_potentials,
        q.half_log_det,
        Diagnostics(no_iterations, no_iterations),
        q.weights,
    )


def half_log_det(
    logZ: Any, h: Array, mean: Array, lengths: Integers | None
) -> onp.ndarray:
    """Half the log determinant of a chain's precision, (N,).

    ``log Z = h'mean / 2 - log|P| / 2 + (T D / 2) log 2 pi``, h (N, T, D) being all the
    linear terms.
    """
    logZ, h, mean = value_of(logZ), value_of(h), value_of(mean)
    sizes = mean.shape[-1] * valid_steps(lengths, mean).sum(axis=1)
    return 0.5 * (h * mean).sum(axis=(1, 2)) + 0.5 * LOG_2PI * sizes - logZ


def belief_after(local: Local, lengths: onp.ndarray | None) -> Belief:
    """Return what q says of the last step of every sequence.

    ``local`` must have dense second moments.
    """
    mean, second_moment = value_of(local.mean), value_of(local.second_moment)
    rows = onp.arange(len(mean))
    last = onp.full(len(mean), mean.shape[1] - 1) if lengths is None else lengths - 1
    mean, second_moment = mean[rows, last], second_moment[rows, last]
    cov = second_moment - mean[:, :, None] * mean[:, None, :]
    J, h = gaussian.from_standard(mean, cov)
    states = None
    if local.states is not None:
        with onp.errstate(divide="ignore"):
            states = onp.log(value_of(local.states)[rows, last])
    return Belief(onp.ones(len(mean), dtype=bool), J, h, states)


def draw_latents(
    latent: LatentModel, theta: Any, num_steps: int, rng: onp.random.Generator
) -> Draw:
    """Draw a sequence of ``num_steps`` steps given theta, or as many independent rows.

    ``theta`` may have factors beside those of the latent model.

    Raises
    ------
    FloatingPointError
        If dynamics grow beyond what can be decoded; see `check_range`.
    """
    shape = (num_steps, 1) if latent.independent else (1, num_steps)
    stats = product.stats(latent.family, theta)
    uniforms = rng.random(shape)
    noise = rng.standard_normal((*shape, latent.latent_dim))
    drawn = latent.draw(stats, uniforms, noise)
    check_range(drawn.latents)
    return drawn


def check_range(*paths: onp.ndarray) -> None:
    """Raise FloatingPointError if paths (S, H, D) of x grow beyond `LARGEST`."""
    for path in paths:
        beyond = onp.argwhere(~(onp.abs(path) <= LARGEST).all(axis=-1))
        if len(beyond):
            number, step = beyond[0]
            raise FloatingPointError(
                f"path {number} has grown beyond {LARGEST:g} at step {step} of "
                f"{path.shape[1]}: the dynamics of its theta grow from step to step, "
                "and leave the range of numbers. Ask for fewer steps"
            )


def check_positive_int(**arguments: int) -> None:
    """Raise ValueError naming the first argument that is not a positive integer."""
    for name, value in arguments.items():
        if not isinstance(value, (int, onp.integer)) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}")
