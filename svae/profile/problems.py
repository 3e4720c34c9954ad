"""A random instance of a case, and the calls that are timed on it."""

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from svae import kernels
from svae.autodiff.trees import leaves
from svae.kernels import gaussian, markov, switching
from svae.profile.cases import OF_LDS, Case
from svae.profile.systems import hidden_markov_model, linear_system, potentials

__all__ = ["Problem", "largest_error"]

FUNCTIONS = {
    "lds": "gaussian_chain",
    "lds filter": "gaussian_filter",
    "hmm": "markov_chain",
    "hmm filter": "markov_filter",
    "viterbi": "viterbi",
    "sampling": "sample_markov_chain",
}
"""Names of the functions of `svae.kernels` and `svae.reference`."""


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
            model = linear_system(case, rng)
            extra = rng.standard_normal((*shape, case.size))
        else:
            model = hidden_markov_model(case, rng)
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
