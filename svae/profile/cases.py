"""The chains that are timed: their sizes, their stated flops, and random instances.

Potentials are made from a model in everyday parameters, so that other packages can be
given the same problem: a linear dynamical system that observes its state in noise of
known, changing variance (``C = I`` and a diagonal ``R_t``, hence diagonal node
potentials ``J_t = -1 / (2 R_t)``, ``h_t = y_t / R_t``), or a hidden Markov model.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from svae import kernels
from svae.autodiff.trees import leaves
from svae.kernels import gaussian, markov, switching

__all__ = [
    "FLOPS",
    "KERNELS",
    "Case",
    "Problem",
    "cases",
    "largest_error",
    "log_constant",
    "potentials",
    "shorter",
]

FLOPS: dict[str, tuple[str, Callable[[int, int], int]]] = {
    "lds": ("7 D^3 + 15 D^2", lambda D, S: 7 * D**3 + 15 * D**2),
    "lds filter": ("13/3 D^3 + 10 D^2", lambda D, S: 13 * D**3 // 3 + 10 * D**2),
    "hmm": ("6 K^2", lambda K, S: 6 * K**2),
    "hmm filter": ("2 K^2", lambda K, S: 2 * K**2),
    "viterbi": ("2 K^2", lambda K, S: 2 * K**2),
    "sampling": ("2 K^2 + 2 K S", lambda K, S: 2 * K**2 + 2 * K * S),
}
"""Floating-point operations of a step of one sequence, stated and not counted: what
filter, smoother and one sample need (lds, with S = 1), two covariances and the next
precision (lds filter), forward, backward and pair counts (hmm), the forward pass (hmm
filter) and S draws (sampling). Exponentials and copies are none.
"""

FUNCTIONS = {
    "lds": "gaussian_chain",
    "lds filter": "gaussian_filter",
    "hmm": "markov_chain",
    "hmm filter": "markov_filter",
    "viterbi": "viterbi",
    "sampling": "sample_markov_chain",
}
"""Names of the functions of `svae.kernels` and `svae.reference`."""

SIZES = {
    "lds": (2, 4, 10, 20, 32),
    "lds filter": (4, 10),
    "hmm": (2, 10, 30, 100),
    "hmm filter": (10, 30),
    "viterbi": (10, 30),
    "sampling": (10, 30),
}
VARIANTS = ("", "dense nodes", "varying pairs", "switching")
SWITCHED_STATES = 10
OF_LDS = ("lds", "lds filter")
KERNELS = {
    "lds": OF_LDS,
    "hmm": tuple(kernel for kernel in FUNCTIONS if kernel not in OF_LDS),
    "all": tuple(FUNCTIONS),
}


@dataclass(frozen=True)
class Case:
    """What is timed: a kernel, and the size of the problem."""

    kernel: str
    size: int
    """Latent dimensions D, or states K."""
    num_sequences: int
    num_timesteps: int
    num_samples: int = 1
    variant: str = ""
    """Of an lds: ``"dense nodes"``, ``"varying pairs"`` or, of an slds with ten states,
    ``"switching"``."""

    def __post_init__(self) -> None:
        """Refuse what there is not."""
        variants = VARIANTS if self.kernel == "lds" else ("",)
        for name, known in (("kernel", tuple(FLOPS)), ("variant", variants)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r} is none of {known}")
        least = {"size": 1, "num_sequences": 1, "num_timesteps": 2, "num_samples": 0}
        for name, number in least.items():
            if getattr(self, name) < number:
                value = getattr(self, name)
                raise ValueError(f"{name} is {value}, wanted {number} or more")

    @property
    def num_steps(self) -> int:
        """Steps of all sequences."""
        return self.num_sequences * self.num_timesteps

    @property
    def flops(self) -> int:
        """Stated floating-point operations of one call."""
        return self.num_steps * FLOPS[self.kernel][1](self.size, self.num_samples)

    @property
    def letter(self) -> str:
        """What the size is called."""
        return "D" if self.kernel in OF_LDS else "K"

    @property
    def name(self) -> str:
        """Short label."""
        text = f"{self.kernel} {self.letter}={self.size} {self.variant}".rstrip()
        return f"{text} N={self.num_sequences}"


def cases(
    kernel: str = "all",
    sizes: Sequence[int] | None = None,
    num_sequences: int = 64,
    num_timesteps: int = 1000,
) -> list[Case]:
    """List what `svae.profile.run` times; given sizes leave out the variants."""

    def make(name: str, size: int, num: int = num_sequences, **words: Any) -> Case:
        return Case(name, size, num, num_timesteps, **words)

    found = []
    for name in KERNELS[kernel]:
        found += [make(name, size) for size in sizes or SIZES[name]]
    if sizes is None and "lds" in KERNELS[kernel]:
        found += [make("lds", 10, variant=v) for v in VARIANTS[1:]]
        found += [make("lds", size, num) for size in (4, 10) for num in (1, 2)]
    return found


class Problem(NamedTuple):
    """An instance of a case."""

    case: Case
    arguments: tuple[Any, ...]
    """Of the function of `svae.kernels` and `svae.reference`."""
    model: dict[str, np.ndarray]
    """The same in everyday parameters."""

    @classmethod
    def make(cls, case: Case, rng: Any = 0) -> "Problem":
        """Draw an instance."""
        rng = np.random.default_rng(rng)
        shape = case.num_sequences, case.num_samples, case.num_timesteps
        if case.kernel in OF_LDS:
            model = _linear_system(case, rng)
            extra = rng.standard_normal((*shape, case.size))
        else:
            model = _hidden_markov_model(case, rng)
            extra = rng.random(shape)
        arguments = potentials(model)
        if case.variant == "switching":
            arguments = (*arguments[:2], model["weights"], arguments[2])
        if case.kernel in ("lds", "sampling"):
            arguments = (*arguments, extra)
        return cls(case, arguments, model)

    def forward(self, implementation: ModuleType = kernels) -> Callable[[], Any]:
        """Return the public function, with its arguments, as a call without any."""
        name = FUNCTIONS[self.case.kernel]
        if self._switches:
            name = "switching_gaussian_chain"
        return partial(getattr(implementation, name), *self.arguments)

    def compiled(self) -> Callable[[], Any] | None:
        """Return the forward pass without the checks of the public function.

        None for filters and paths.
        """
        forward = {"lds": gaussian.forward, "hmm": markov.forward}
        if self.case.kernel not in forward:
            return None
        if self._switches:
            inputs = self._switching_inputs()
            return partial(switching.forward, self._lengths(), False, *inputs)
        return partial(forward[self.case.kernel], self._lengths(), *self._inputs())

    def adjoint(self, rng: Any = 0) -> Callable[[], Any] | None:
        """Return the compiled adjoint for random cotangents; None without one.

        That is the VJP in all potentials and the noise of all statistics and samples,
        called alone, without what autograd adds around it. It keeps nothing of an
        earlier forward pass, so that one is done again inside, and is in its time.
        """
        adjoint = {"lds": gaussian.adjoint, "hmm": markov.adjoint}
        if self.case.kernel not in adjoint:
            return None
        if self._switches:
            return self._switching_adjoint(np.random.default_rng(rng))
        rng, inputs = np.random.default_rng(rng), self._inputs()
        bars = [rng.standard_normal(x.shape) for x in inputs]
        return partial(adjoint[self.case.kernel], self._lengths(), inputs, bars)

    @property
    def _switches(self) -> bool:
        return self.case.variant == "switching"

    def _switching_inputs(self) -> list[np.ndarray]:
        init, pairs, weights, node, noise = self.arguments
        rows = [part.reshape(len(part), -1) for part in pairs]
        first = [np.broadcast_to(x, (self.case.num_sequences, *x.shape)) for x in init]
        return [*first, *node, np.concatenate(rows, axis=1), weights, noise]

    def _switching_adjoint(self, rng: np.random.Generator) -> Callable[[], Any]:
        """Return the adjoint but for sums by state, which models have no use for."""
        inputs = self._switching_inputs()
        bars = [rng.standard_normal(x.shape) for x in inputs]
        bars[switching.ROWS][:] = 0.0
        of_logZ = rng.standard_normal(self.case.num_sequences)
        return partial(switching.adjoint, self._lengths(), inputs, bars, of_logZ, True)

    def _lengths(self) -> np.ndarray:
        return np.full(self.case.num_sequences, self.case.num_timesteps, np.int64)

    def _inputs(self) -> list[np.ndarray]:
        """Arguments as the kernels see them, per sequence, in one list."""
        init, pair, node, *extra = (
            x if isinstance(x, tuple) else (x,) for x in self.arguments
        )

        def repeat(x: np.ndarray) -> np.ndarray:
            return np.broadcast_to(x, (self.case.num_sequences, *x.shape[1:]))

        inits = [repeat(x[None]) for x in init]
        pairs = [x if x.ndim == 4 else repeat(x[None, None]) for x in pair]
        return [*inits, *pairs, *node, *(x for group in extra for x in group)]


def shorter(case: Case, num_timesteps: int) -> Case:
    """Return a case of fewer steps."""
    return replace(case, num_timesteps=min(num_timesteps, case.num_timesteps))


def largest_error(got: Any, expected: Any) -> float:
    """Return the largest error of any array, relative to its largest entry.

    Of arrays of integers, how many entries differ, relative to their number.
    """

    def error(a: np.ndarray, b: np.ndarray) -> float:
        if np.issubdtype(a.dtype, np.integer):
            return float(np.mean(a != b))
        scale = np.max(np.abs(b))
        return float(np.max(np.abs(a - b)) / (scale or 1.0))

    pairs = zip(leaves(got), leaves(expected), strict=True)
    return max(error(np.asarray(a), np.asarray(b)) for a, b in pairs)


def potentials(model: dict[str, np.ndarray]) -> tuple[Any, ...]:
    """Return the potentials (init, pair, node) of a model in everyday parameters."""
    if "start" in model:
        start, transition = np.log(model["start"]), np.log(model["transition"])
        return start, transition, model["log_likelihoods"]
    A, precision = model["A"], np.linalg.inv(model["Q"])
    coupling = np.swapaxes(A, -1, -2) @ precision
    init_precision = np.linalg.inv(model["V1"])
    init = (-0.5 * init_precision, init_precision @ model["m1"])
    pair = (-0.5 * coupling @ A, coupling, -0.5 * precision + np.zeros(A.shape))
    y, R = model["y"], model["R"]
    if R.ndim == y.ndim:
        return init, pair, (-0.5 / R, y / R)
    weights = np.linalg.inv(R)
    return init, pair, (-0.5 * weights, np.squeeze(weights @ y[..., None], -1))


def log_constant(model: dict[str, np.ndarray]) -> np.ndarray:
    """Return what the potentials of a linear system leave out, with `R` diagonal.

    Log density of the data less the log normalizer of the chain, (N,).
    """
    y, R, m1 = model["y"], model["R"], model["m1"]
    constant = -0.5 * np.sum(np.log(2 * math.pi * R) + y**2 / R, axis=(-2, -1))
    quadratic = m1 @ np.linalg.solve(model["V1"], m1)
    init = np.linalg.slogdet(2 * math.pi * model["V1"])[1] + quadratic
    pair = np.linalg.slogdet(2 * math.pi * model["Q"])[1]
    return constant - 0.5 * (init + (y.shape[1] - 1) * pair)


def _linear_system(case: Case, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw a turning, well-conditioned system, and observations of any kind."""
    N, T, D = case.num_sequences, case.num_timesteps, case.size
    A = 0.95 * np.linalg.qr(rng.standard_normal((D, D)))[0]
    if case.variant == "varying pairs":
        A = A * (1 + 0.05 * rng.standard_normal((N, T - 1, 1, 1)))
    more = {}
    if case.variant == "switching":
        A = A * (1 + 0.05 * rng.standard_normal((SWITCHED_STATES, 1, 1)))
        more["weights"] = rng.dirichlet(np.ones(SWITCHED_STATES), (N, T - 1))
    factor = np.eye(D) + 0.2 * rng.standard_normal((D, D)) / math.sqrt(D)
    R = np.exp(0.5 * rng.standard_normal((N, T, D)))
    if case.variant == "dense nodes":
        mixing = 0.3 * rng.standard_normal((D, D)) / math.sqrt(D)
        R = R[..., None] * np.eye(D) + mixing @ mixing.T
    return {
        "m1": rng.standard_normal(D),
        "V1": np.eye(D),
        "A": A,
        "Q": 0.1 * factor @ factor.T,
        "y": rng.standard_normal((N, T, D)),
        "R": R,
        **more,
    }


def _hidden_markov_model(case: Case, rng: np.random.Generator) -> dict[str, np.ndarray]:
    N, T, K = case.num_sequences, case.num_timesteps, case.size
    transition = rng.random((K, K)) + K * 0.5 * np.eye(K)
    return {
        "start": np.full(K, 1 / K),
        "transition": transition / transition.sum(axis=1, keepdims=True),
        "log_likelihoods": -0.5 * rng.standard_normal((N, T, K)) ** 2,
    }
