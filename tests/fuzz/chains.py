"""Any call of a chain is refused by name, or agrees with `svae.reference`.

    python tests/fuzz/chains.py --calls 100000 --seed 0

`svae.testing.calls` makes and judges the calls.
"""

from typing import Any

import numpy as np

from svae import kernels, reference
from svae.testing.calls import Case, flat, judged, same_gradients
from svae.testing.campaign import main, one_of
from svae.testing.disguises import chance, negative_definite, numbers

Generator = np.random.Generator


def sizes(rng: Generator) -> tuple[int, int, int]:
    """Draw numbers of sequences, steps and dimensions, mostly small."""
    N = int(rng.choice([0, 1, 2, 3, 5, 8, 9, 20], p=[0.03, *[0.15] * 6, 0.07]))
    T = int(rng.choice([1, 2, 3, 5, 8, 30], p=[0.15, 0.2, 0.25, 0.25, 0.13, 0.02]))
    D = int(
        rng.choice([1, 2, 3, 4, 5, 6, 9, 17], p=[0.2, *[0.15] * 4, 0.1, 0.07, 0.03])
    )
    return N, T, D


def maybe_lengths(rng: Generator, N: int, T: int) -> Any:
    """Return lengths, or None."""
    return rng.integers(1, T + 1, N) if chance(rng, 0.6) else None


def integers(lengths: Any) -> Any:
    """Return lengths of any type as the definition takes them."""
    return None if lengths is None else lengths.astype(int)


def hidden(x: Any, lengths: Any, axis: int, ahead: int, rng: Generator) -> Any:
    """Put what is no number past the lengths, sometimes."""
    if lengths is None or not len(lengths) or len(x) != len(lengths):
        return x
    if x.ndim <= axis or x.shape[axis] < 2 or chance(rng, 0.5):
        return x
    steps = np.arange(ahead, x.shape[axis] + ahead)
    live = steps < lengths[:, None]
    live = np.expand_dims(live, [a for a in range(1, x.ndim) if a != axis])
    return np.where(live, x, rng.choice([np.nan, np.inf, 1e308]))


def pair_lead(rng: Generator, N: int, T: int) -> tuple[int, ...]:
    """Return how a potential of pairs is shared."""
    leads: list[tuple[int, ...]] = [(), (N, T - 1), (N, 1), (1, T - 1), (1, 1)]
    return leads[rng.integers(5)]


def gaussian_problem(rng: Generator) -> tuple[Any, Any, Any, Any]:
    """Return potentials of a Gaussian chain, and lengths; some are improper."""
    N, T, D = sizes(rng)
    if chance(rng, 0.002):
        N, T, D = 2, 2, 97  # blocked algebra
    elif chance(rng, 0.01):
        N, T = 1, int(rng.integers(64, 90))  # in chunks of time
    lengths = maybe_lengths(rng, N, T)
    init_lead = (N,) if chance(rng, 0.5) else ()
    init = negative_definite(rng, *init_lead, D), numbers(rng, *init_lead, D)
    coupling = numbers(rng, *pair_lead(rng, N, T), D, D) * 0.375 / np.ceil(np.sqrt(D))
    pair = (
        negative_definite(rng, *pair_lead(rng, N, T), D),
        coupling,
        negative_definite(rng, *pair_lead(rng, N, T), D),
    )
    if chance(rng, 0.5):
        Jn = negative_definite(rng, N, T, D)
    else:
        Jn = -np.abs(numbers(rng, N, T, D))
    if chance(rng, 0.06) and N > 0:
        index = tuple(rng.integers(Jn.shape[:3]))
        Jn[(*index, index[2]) if Jn.ndim == 4 else index] = 64.0
    node = Jn, numbers(rng, N, T, D)
    pair = tuple(hidden(J, lengths, 1, 1, rng) if J.ndim == 4 else J for J in pair)
    return init, pair, tuple(hidden(x, lengths, 1, 0, rng) for x in node), lengths


GAUSSIAN_NAMES = {
    **{(0, 0): "init J", (0, 1): "init h", (1, 0): "pair J11", (1, 1): "pair J12"},
    **{(1, 2): "pair J22", (2, 0): "node J", (2, 1): "node h"},
}


def gaussian_chain(rng: Generator) -> str:
    init, pair, node, lengths = gaussian_problem(rng)
    noise = None
    if chance(rng, 0.5):
        N, T, D = node[1].shape
        noise = hidden(numbers(rng, N, rng.integers(4), T, D), lengths, 2, 0, rng)

    def call(*arguments):
        return flat(kernels.gaussian_chain(*arguments))

    def define(init, pair, node, noise, lengths, got):
        return flat(
            reference.gaussian_chain(init, pair, node, noise, integers(lengths))
        )

    def gradient(rng):
        arrays = [*init, *pair, *node] + ([] if noise is None else [noise])

        def of(chains):
            def chain(*x):
                more = x[7] if len(x) > 7 else None
                return flat(chains.gaussian_chain(x[:2], x[2:5], x[5:7], more, lengths))

            return chain

        same_gradients("gaussian_chain", of, arrays, rng)

    names = {**GAUSSIAN_NAMES, (3,): "noise", (4,): "lengths"}
    arguments = init, pair, node, noise, lengths
    case = Case("gaussian_chain", arguments, names, call, define, (4,), gradient)
    return judged(case, rng)


def switching_gaussian_chain(rng: Generator) -> str:
    N, T, D = sizes(rng)
    K, lengths = int(rng.integers(1, 8)), maybe_lengths(rng, N, T)
    init_lead = (N,) if chance(rng, 0.5) else ()
    init = negative_definite(rng, *init_lead, D), numbers(rng, *init_lead, D)
    coupling = numbers(rng, K, D, D) * 0.375 / np.ceil(np.sqrt(D))
    pairs: tuple = negative_definite(rng, K, D), coupling, negative_definite(rng, K, D)
    if chance(rng, 0.5):
        pairs = (*pairs, numbers(rng, K, D), numbers(rng, K, D))
    weights = rng.dirichlet(np.ones(K), (N, T - 1)).astype(np.float32).astype(float)
    if chance(rng, 0.3):
        weights = np.eye(K)[rng.integers(K, size=(N, T - 1))]
    Jn = (
        negative_definite(rng, N, T, D)
        if chance(rng, 0.5)
        else -np.abs(numbers(rng, N, T, D))
    )
    if chance(rng, 0.06) and N > 0:
        index = tuple(rng.integers(Jn.shape[:3]))
        Jn[(*index, index[2]) if Jn.ndim == 4 else index] = 64.0
    node = tuple(hidden(x, lengths, 1, 0, rng) for x in (Jn, numbers(rng, N, T, D)))
    noise = None
    if chance(rng, 0.5):
        noise = hidden(numbers(rng, N, rng.integers(4), T, D), lengths, 2, 0, rng)
    of_pairs = ("pairs J11", "pairs J12", "pairs J22", "pairs h1", "pairs h2")
    names = {
        **{(0, 0): "init J", (0, 1): "init h", (2,): "weights"},
        **{(1, k): name for k, name in enumerate(of_pairs[: len(pairs)])},
        **{(3, 0): "node J", (3, 1): "node h", (4,): "noise", (5,): "lengths"},
    }

    def call(*arguments):
        return flat(kernels.switching_gaussian_chain(*arguments))

    def define(*arguments):
        *arguments, lengths, _ = arguments
        return flat(reference.switching_gaussian_chain(*arguments, integers(lengths)))

    def gradient(rng):
        arrays = [*init, *pairs, weights, *node] + ([] if noise is None else [noise])
        n = 2 + len(pairs)

        def of(chains):
            def chain(*x):
                more = x[n + 3] if len(x) > n + 3 else None
                arguments = x[:2], x[2:n], x[n], x[n + 1 : n + 3], more, lengths
                return flat(chains.switching_gaussian_chain(*arguments))

            return chain

        same_gradients("switching_gaussian_chain", of, arrays, rng)

    weights = hidden(weights, lengths, 1, 1, rng)
    arguments = (init, pairs, weights, node, noise, lengths)
    name = "switching_gaussian_chain"
    return judged(Case(name, arguments, names, call, define, (5,), gradient), rng)


def gaussian_filter(rng: Generator) -> str:
    def call(*arguments):
        return flat(kernels.gaussian_filter(*arguments))

    def define(init, pair, node, lengths, got):
        return flat(reference.gaussian_filter(init, pair, node, integers(lengths)))

    names = {**GAUSSIAN_NAMES, (3,): "lengths"}
    case = Case("gaussian_filter", gaussian_problem(rng), names, call, define, (3,))
    return judged(case, rng)


def markov_problem(rng: Generator) -> tuple[Any, Any, Any, Any]:
    N, T, K = sizes(rng)
    lengths = maybe_lengths(rng, N, T)
    scale = rng.choice([1.0, 8.0, 512.0])
    init = scale * numbers(rng, *((N,) if chance(rng, 0.5) else ()), K)
    pair = scale * numbers(rng, *pair_lead(rng, N, T), K, K)
    node = scale * numbers(rng, N, T, K)
    if chance(rng, 0.2):
        for x in (init, pair, node):
            x[rng.random(x.shape) < 0.15] = -np.inf
    pair = hidden(pair, lengths, 1, 1, rng) if pair.ndim == 4 else pair
    return init, pair, hidden(node, lengths, 1, 0, rng), lengths


MARKOV_NAMES = {(0,): "init", (1,): "pair", (2,): "node"}


def markov_chain(rng: Generator) -> str:
    init, pair, node, lengths = markov_problem(rng)
    arrays = [init, pair, node]

    def call(*arguments):
        return flat(kernels.markov_chain(*arguments))

    def define(init, pair, node, lengths, got):
        return flat(reference.markov_chain(init, pair, node, integers(lengths)))

    def gradient(rng):
        if not all((x > -np.inf).all() for x in arrays):
            return

        def of(chains):
            return lambda *x: flat(chains.markov_chain(*x, lengths))

        same_gradients("markov_chain", of, arrays, rng)

    names = {**MARKOV_NAMES, (3,): "lengths"}
    arguments = (*arrays, lengths)
    case = Case("markov_chain", arguments, names, call, define, (3,), gradient)
    return judged(case, rng)


def markov_filter(rng: Generator) -> str:
    def call(*arguments):
        return flat(kernels.markov_filter(*arguments))

    def define(init, pair, node, lengths, got):
        return flat(reference.markov_filter(init, pair, node, integers(lengths)))

    names = {**MARKOV_NAMES, (3,): "lengths"}
    case = Case("markov_filter", markov_problem(rng), names, call, define, (3,))
    return judged(case, rng)


def viterbi(rng: Generator) -> str:
    def define(init, pair, node, lengths, got):
        return flat(reference.viterbi(init, pair, node, integers(lengths)))

    def call(*arguments):
        return flat(kernels.viterbi(*arguments))

    names = {**MARKOV_NAMES, (3,): "lengths"}
    case = Case("viterbi", markov_problem(rng), names, call, define, (3,))
    return judged(case, rng)


def sample_markov_chain(rng: Generator) -> str:
    init, pair, node, lengths = markov_problem(rng)
    N, T, _ = node.shape
    uniforms = rng.random((N, rng.integers(4), T), np.float32).astype(float)
    uniforms = hidden(uniforms, lengths, 2, 0, rng)

    def call(*arguments):
        return [kernels.sample_markov_chain(*arguments)]

    def define(init, pair, node, uniforms, lengths, got):
        paths = reference.sample_markov_chain(
            init, pair, node, uniforms, integers(lengths)
        )
        return [paths]

    names = {**MARKOV_NAMES, (3,): "uniforms", (4,): "lengths"}
    arguments = init, pair, node, uniforms, lengths
    case = Case("sample_markov_chain", arguments, names, call, define, (4,))
    return judged(case, rng)


fuzz = one_of(
    *(gaussian_chain, gaussian_chain, switching_gaussian_chain, gaussian_filter),
    *(markov_chain, markov_chain, markov_filter, viterbi, sample_markov_chain),
)


if __name__ == "__main__":
    main(fuzz, __doc__)
