"""Any call of a kernel is refused by name, or agrees with the definition.

    python tests/fuzz/kernels.py --calls 100000 --seed 0

The arguments have random sizes, axes of zero and of one entry too; random guises:
other strides, types and places in memory; numbers that are none past the lengths; and
often one that is wrong. A call that fails may raise only ValueError, TypeError,
LinAlgError or FloatingPointError, and names an argument, a sequence or a row. Otherwise
its results, and of some calls the gradients, are those of `svae.reference` or, of
mixtures, of `svae.testing.mixtures`. README.md in this folder tells how to run it under
sanitizers.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from svae import kernels, reference
from svae.errors import Impossible, NotPositiveDefinite
from svae.kernels import passes
from svae.testing import mixtures
from svae.testing.campaign import main
from svae.testing.disguises import (
    chance,
    disguised,
    numbers,
    replaced,
    spoiled,
    wrong_lengths,
)
from svae.testing.mixtures import AUTOGRAD, pulled_back

Generator = np.random.Generator
REFUSALS = (ValueError, TypeError, np.linalg.LinAlgError, FloatingPointError)
TOLERANCE = 1e-8
HUGE = 1e100  # results of such numbers have no digits that can be compared


class Case(NamedTuple):
    """A call of a kernel."""

    name: str
    arguments: tuple
    """Arrays or None, in nested tuples."""
    names: dict[tuple[int, ...], str]
    """What errors call the array at each place."""
    call: Callable[..., list]
    """The kernel, of these arguments."""
    define: Callable[..., list]
    """The definition, of plain arrays and of what the kernel returned."""
    lengths: tuple[int, ...] | None = None
    """The place of lengths."""
    gradient: Callable[[Generator], None] | None = None
    """Compares gradients."""


def fuzz(rng: Generator) -> str:
    """Make a call and judge it."""
    return CASES[rng.integers(len(CASES))](rng)


def judged(case: Case, rng: Generator) -> str:
    """Call a kernel with arguments in disguise, one perhaps spoiled."""
    arguments = dressed(case, rng)
    place = None
    if chance(rng, 0.35):
        arguments, place = one_spoiled(case, arguments, rng)
    try:
        got = case.call(*arguments)
    except REFUSALS as error:
        judge_refusal(case, place, error)
        return f"{case.name}: refused"
    plain = [plainly(part) for part in arguments]
    if place is not None and is_masked(at(arguments, place)):
        raise AssertionError(f"{case.name} takes masked {case.names[place]}")
    with np.errstate(all="ignore"):
        want = case.define(*plain, got)
    compare(case, got, want, may_differ=is_huge(plain))
    if place is None and case.gradient is not None and chance(rng, 0.3):
        case.gradient(rng)
        return f"{case.name}: agrees, with its adjoint"
    return f"{case.name}: agrees" + ("" if place is None else ", if odd")


def dressed(case: Case, rng: Generator) -> tuple:
    """Return the arguments in disguise."""
    arguments = case.arguments
    for place in case.names:
        value = at(arguments, place)
        if value is None:
            continue
        if place == case.lengths:
            kinds = [np.int64, np.int32, np.uint8, ">i8"]
            value = value.astype(kinds[rng.integers(4)])
            value = value.tolist() if value.size and chance(rng, 0.2) else value
        else:
            value = disguised(value, rng)
        arguments = replaced(arguments, place, value)
    return arguments


def one_spoiled(case: Case, arguments: tuple, rng: Generator) -> tuple[tuple, Any]:
    """Spoil one argument; return all, and its place."""
    places = [place for place in case.names if at(case.arguments, place) is not None]
    place = places[rng.integers(len(places))]
    value = at(case.arguments, place)
    value = wrong_lengths(value, rng) if place == case.lengths else spoiled(value, rng)
    return replaced(arguments, place, value), place


def judge_refusal(case: Case, place: Any, error: Exception) -> None:
    """Refusals name what is wrong; what is not wrong is refused by the definition."""
    if isinstance(error, NotPositiveDefinite | Impossible):
        if place is None:
            same_refusal(case, error)
        return
    if place is None and not case.name.startswith("layers"):
        raise AssertionError(f"{case.name} refuses good arguments") from error
    names = [*case.names.values(), "observed", "sequence", "row", "argument [0-9]+ of"]
    if not re.search("|".join(names), str(error)):
        raise AssertionError(f"{case.name} names nothing: {error}") from error


def same_refusal(case: Case, error: Any) -> None:
    """The definition fails in the same way, at the same sequence and step."""
    try:
        with np.errstate(all="ignore"):
            case.define(*case.arguments, None)
    except type(error) as other:
        assert (other.sequence, other.step) == (error.sequence, error.step), error
        return
    raise AssertionError(f"{case.name} fails, its definition does not") from error


def compare(case: Case, got: list, want: list, may_differ: bool) -> None:
    """Results are finite, and those wanted, each relative to its largest entry."""
    assert len(got) == len(want), case.name
    for k, (a, b) in enumerate(zip(got, want, strict=True)):
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape, f"{case.name} {k}: {a.shape}, wanted {b.shape}"
        if may_differ and not case.name.startswith("layers"):
            assert not np.isnan(a).any(), f"{case.name} {k} is no number"
            continue
        same = np.isneginf(a) & np.isneginf(b)
        if case.name.startswith("layers"):  # which go entry by entry, numbers or not
            same |= (np.isnan(a) & np.isnan(b)) | (np.isposinf(a) & np.isposinf(b))
        a, b = np.where(same, 0.0, a), np.where(same, 0.0, b)
        assert np.isfinite(a).all(), f"{case.name} {k} is not finite"
        error = np.max(np.abs(a - b), initial=0.0)
        scale = np.max(np.abs(b), initial=1.0)
        assert error <= TOLERANCE * scale, f"{case.name} {k}: {error} of {scale}"


def at(tree: Any, place: tuple[int, ...]) -> Any:
    """Look up a place in nested tuples."""
    for index in place:
        if tree is None:
            return None
        tree = tree[index]
    return tree


def plainly(tree: Any) -> Any:
    """Return plain arrays of floats in nested tuples."""
    if tree is None or isinstance(tree, bool):
        return tree
    if isinstance(tree, tuple):
        return tuple(map(plainly, tree))
    return np.array(tree, float)


def is_masked(x: Any) -> bool:
    """Tell whether an array has masked entries."""
    return isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x)


def is_huge(tree: Any) -> bool:
    """Tell whether an array holds a number so large that digits cannot be compared."""
    if isinstance(tree, (tuple, list)):
        return any(map(is_huge, tree))
    if tree is None:
        return False
    size = np.abs(tree)
    return bool(np.any(np.isfinite(size) & (size > HUGE)))


# Chains


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


def negative(rng: Generator, *shape: int) -> Any:
    """Draw negative definite matrices, which need not be symmetric."""
    root = numbers(rng, *shape, shape[-1]) / np.sqrt(shape[-1])
    J = -0.3 * root @ np.swapaxes(root, -1, -2) - 0.6 * np.eye(shape[-1])
    if chance(rng, 0.3):
        J = J + root - np.swapaxes(root, -1, -2)
    return J.astype(np.float32).astype(float)


def pair_lead(rng: Generator, N: int, T: int) -> tuple[int, ...]:
    """Return how a potential of pairs is shared."""
    leads: list[tuple[int, ...]] = [(), (N, T - 1), (N, 1), (1, T - 1), (1, 1)]
    return leads[rng.integers(5)]


def gaussian_chain(rng: Generator) -> str:
    N, T, D = sizes(rng)
    if chance(rng, 0.002):
        N, T, D = 2, 2, 97  # blocked algebra
    lengths = maybe_lengths(rng, N, T)
    init_lead = (N,) if chance(rng, 0.5) else ()
    init = negative(rng, *init_lead, D), numbers(rng, *init_lead, D)
    coupling = numbers(rng, *pair_lead(rng, N, T), D, D) * 0.375 / np.ceil(np.sqrt(D))
    pair = (
        negative(rng, *pair_lead(rng, N, T), D),
        coupling,
        negative(rng, *pair_lead(rng, N, T), D),
    )
    if chance(rng, 0.5):
        Jn = negative(rng, N, T, D)
    else:
        Jn = -np.abs(numbers(rng, N, T, D))
    if chance(rng, 0.06) and N > 0:
        index = tuple(rng.integers(Jn.shape[:3]))
        Jn[(*index, index[2]) if Jn.ndim == 4 else index] = 64.0
    node = Jn, numbers(rng, N, T, D)
    pair = tuple(hidden(J, lengths, 1, 1, rng) if J.ndim == 4 else J for J in pair)
    node = tuple(hidden(part, lengths, 1, 0, rng) for part in node)
    noise = None
    if chance(rng, 0.5):
        noise = hidden(numbers(rng, N, rng.integers(4), T, D), lengths, 2, 0, rng)
    names = {
        **{(0, 0): "init J", (0, 1): "init h", (1, 0): "pair J11", (1, 1): "pair J12"},
        **{(1, 2): "pair J22", (2, 0): "node J", (2, 1): "node h", (3,): "noise"},
        (4,): "lengths",
    }

    def call(init, pair, node, noise, lengths):
        return flat(kernels.gaussian_chain(init, pair, node, noise, lengths))

    def define(init, pair, node, noise, lengths, got):
        lengths = None if lengths is None else lengths.astype(int)
        return flat(reference.gaussian_chain(init, pair, node, noise, lengths))

    def gradient(rng):
        arrays = [*init, *pair, *node] + ([] if noise is None else [noise])

        def of(chains):
            def chain(*x):
                more = x[7] if len(x) > 7 else None
                return flat(chains.gaussian_chain(x[:2], x[2:5], x[5:7], more, lengths))

            return chain

        same_gradients("gaussian_chain", of, arrays, rng)

    case = Case(
        "gaussian_chain",
        (init, pair, node, noise, lengths),
        names,
        call,
        define,
        (4,),
        gradient,
    )
    return judged(case, rng)


def flat(tree: Any) -> list:
    """Return the arrays of nested tuples in order, None left out."""
    if tree is None:
        return []
    if isinstance(tree, (tuple, list)):
        return [leaf for branch in tree for leaf in flat(branch)]
    return [tree]


def same_gradients(name: str, of: Any, arrays: list, rng: Generator) -> None:
    """Cotangents, for random ones of all results, are the definition's."""
    with AUTOGRAD:
        bars = [rng.standard_normal(y.shape) for y in of(kernels)(*arrays)]
        got, want = (
            pulled_back(of(module), arrays, bars) for module in (kernels, reference)
        )
    for k, (a, b) in enumerate(zip(got, want, strict=True)):
        scale = np.max(np.abs(b), initial=1.0)
        error = np.max(np.abs(a - b), initial=0.0)
        assert error <= TOLERANCE * scale, f"{name}, gradient {k}: {error} of {scale}"


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


def integers(lengths: Any) -> Any:
    return None if lengths is None else lengths.astype(int)


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


# Mixtures


def mixture_problem(rng: Generator) -> tuple[Any, ...]:
    """Return components, offsets, node, and which rows have data."""
    N = int(rng.choice([0, 1, 2, 4, 8, 9, 17], p=[0.04, *[0.16] * 6]))
    K, D = int(rng.integers(1, 5)), int(rng.choice([1, 2, 3, 4, 5, 9]))
    J, mean = negative(rng, K, D), numbers(rng, K, D)
    h = -((J + np.swapaxes(J, -1, -2)) @ mean[..., None])[..., 0]
    offsets = -0.5 * np.sum(h * mean, -1)
    node_J = negative(rng, N, D) if chance(rng, 0.5) else -np.abs(numbers(rng, N, D))
    observed = None
    if chance(rng, 0.4):
        observed = (rng.random(N) < 0.7).astype(float)
    components = np.concatenate([J.reshape(K, -1), h], 1)
    return components, offsets, (node_J, numbers(rng, N, D)), observed


MIXTURE_NAMES = {
    **{(0, 0): "init", (0, 1): "components", (0, 2): "constants", (1, 0): "offsets"},
    **{(1, 1): "degrees of freedom", (1, 2): "weights", (2, 0): "node J"},
    **{(2, 1): "node h", (3,): "noise", (4,): "observed", (5,): "starts"},
    **{(6,): "tolerance", (7,): "max_iterations"},
}


def mixture(rng: Generator) -> str:
    components, offsets, node, observed = mixture_problem(rng)
    (N, D), K = node[1].shape, len(components)
    init, constants = numbers(rng, N, K), numbers(rng, K)
    if chance(rng, 0.15):
        init[rng.random((N, K)) < 0.2] = -np.inf
        constants[rng.random(K) < 0.2] = -np.inf
    tails = None
    if chance(rng, 0.4):
        Q = int(rng.integers(1, 4))
        tails = offsets, rng.uniform(2.0, 9.0, (K, Q)), rng.dirichlet(np.ones(Q))
    noise = numbers(rng, N, rng.integers(3), D) if chance(rng, 0.5) else None
    starts = None
    if chance(rng, 0.3):
        starts = rng.dirichlet(np.ones(K), (N, rng.integers(4)))
    from_data, from_prior = chance(rng, 0.7), chance(rng, 0.4)
    if not (from_data or from_prior or (starts is not None and starts.shape[1])):
        from_data = True
    tolerance, max_iterations = float(rng.choice([1e-13, 1e-4])), 2000
    if chance(rng, 0.04):
        tolerance = [np.nan, -1.0, None, "small"][rng.integers(4)]
    if chance(rng, 0.04):
        max_iterations = [0, -3, 1.5, None][rng.integers(4)]

    def call(potentials, tails, node, noise, observed, starts):
        results = kernels.mixture(
            potentials,
            tails,
            node,
            noise,
            observed,
            starts,
            from_data,
            from_prior,
            tolerance,
            max_iterations,
        )
        return flat((results[0], *results[3:], *results[1:3]))

    def define(potentials, tails, node, noise, observed, starts, got):
        if got is None:
            rows = np.ones(N) if observed is None else observed
            level = potentials[0] + np.where(rows[:, None] > 0, potentials[2], 0.0)
            raise_impossible(level)
            return []
        fixed, residual = got[0], got[-1]
        updated, results = mixtures.mixture(
            fixed, potentials, tails, node, noise, observed
        )
        has_digits = not is_huge((potentials, tails, node))
        if has_digits and np.all(residual < 1e-12):
            scale = np.max(np.abs(fixed), initial=1.0)
            error = np.max(np.abs(updated - fixed), initial=0.0)
            assert error < TOLERANCE * scale, "no fixed point"
        return [fixed, *results, *got[-2:]]

    def gradient(rng):
        if tolerance != 1e-13 or not all(
            (x > -np.inf).all() for x in (init, constants)
        ):
            return
        potentials = init, components, constants
        with AUTOGRAD:
            mixtures.same_mixture_gradients(
                potentials, tails, node, noise, observed, from_data, rng
            )

    arguments = (init, components, constants), tails, node, noise, observed, starts
    names = {p: name for p, name in MIXTURE_NAMES.items() if p[0] < len(arguments)}
    if tolerance not in (1e-13, 1e-4) or max_iterations != 2000:
        return refused_settings(call, arguments)
    case = Case("mixture", arguments, names, call, define, None, gradient)
    return judged(case, rng)


def refused_settings(call: Any, arguments: tuple) -> str:
    """A tolerance or a number of iterations that is none is named."""
    try:
        call(*arguments)
    except ValueError as error:
        assert re.search("tolerance|max_iterations", str(error)), error
        return "mixture: settings refused"
    raise AssertionError("the settings are wrong, and are taken")


def raise_impossible(level: Any) -> None:
    """Raise for the first row all of whose states are impossible."""
    wrong = np.flatnonzero((level == -np.inf).all(1))
    if wrong.size:
        raise Impossible(int(wrong[0]), 0)


def mixture_evidence(rng: Generator) -> str:
    components, _, node, observed = mixture_problem(rng)
    N, K = len(node[1]), len(components)
    states = rng.dirichlet(np.ones(K), N) if chance(rng, 0.7) else None

    def call(*arguments):
        return flat(kernels.mixture_evidence(*arguments))

    def define(components, node, observed, states, got):
        return flat(mixtures.mixture_evidence(components, node, observed, states))

    def gradient(rng):
        if states is None:
            return
        evidence_bar = rng.standard_normal((N, K))
        got = kernels.mixture_evidence_vjp(
            components, node, observed, states, disguised(evidence_bar, rng)
        )
        with AUTOGRAD:
            states_bar, J_bar, h_bar = pulled_back(
                lambda s, J, h: [
                    mixtures.mixture_evidence(components, (J, h), observed, s)[0]
                ],
                [states, *node],
                [evidence_bar],
            )
        of_J = got[1] if node[0].ndim == 3 else np.einsum("ndd->nd", got[1])
        for a, b in zip(
            (got[0], of_J, got[2]), (states_bar, J_bar, h_bar), strict=True
        ):
            assert np.max(np.abs(a - b), initial=0.0) <= TOLERANCE * np.max(
                np.abs(b), initial=1.0
            ), "mixture_evidence_vjp"

    names = {
        **{(0,): "components", (1, 0): "node J", (1, 1): "node h"},
        **{(2,): "observed", (3,): "states"},
    }
    arguments = components, node, observed, states
    case = Case("mixture_evidence", arguments, names, call, define, None, gradient)
    return judged(case, rng)


# Layers


def activation(rng: Generator) -> str:
    functions = {
        "exp": np.exp,
        "log": np.log,
        "tanh": np.tanh,
        "logistic": lambda x: 0.5 + 0.5 * np.tanh(0.5 * x),
        "softplus": lambda x: np.logaddexp(x, 0.0),
    }
    name = list(functions)[rng.integers(len(functions))]
    x = 8.0 * numbers(rng, *rng.integers(0, 6, rng.integers(4)))
    x = np.asarray(np.abs(x) if name == "log" else x)
    case = Case(
        f"layers.{name}",
        (x,),
        {(0,): "x"},
        lambda x: [getattr(passes, name)(x)],
        lambda x, got: [functions[name](x)],
    )
    return judged(case, rng)


def tanh_layer(rng: Generator) -> str:
    values, bias = numbers(rng, *rng.integers(0, 12, 2)), None
    bias = numbers(rng, len(values))
    if chance(rng, 0.1) and values.shape[1] == len(values) > 0:
        return refused_overlap(passes.tanh_layer, values, values[0])

    def call(values, bias):
        values = values.copy("K") if isinstance(values, np.ndarray) else values
        passes.tanh_layer(values, bias)
        return [values]

    case = Case(
        "layers.tanh_layer",
        (values, bias),
        {(0,): "values", (1,): "bias"},
        call,
        lambda values, bias, got: [np.tanh(values + bias[:, None])],
    )
    return judged(case, rng)


def tanh_layer_vjp(rng: Generator) -> str:
    outputs = np.tanh(numbers(rng, *rng.integers(0, 12, 2)))

    def define(outputs, outputs_bar, got):
        bar = outputs_bar * (1.0 - outputs**2)
        return [bar, bar.sum(1)]

    case = Case(
        "layers.tanh_layer_vjp",
        (outputs, numbers(rng, *outputs.shape)),
        {(0,): "outputs", (1,): "outputs_bar"},
        lambda *arguments: list(passes.tanh_layer_vjp(*arguments)),
        define,
    )
    return judged(case, rng)


def gaussian_head(rng: Generator) -> str:
    N, S, T, P = (int(n) for n in rng.integers(0, 5, 4))
    P = int(rng.choice([0, 1, 3, 8, 11])) if chance(rng, 0.5) else P
    location, scale = numbers(rng, N * S * T, P), numbers(rng, N * S * T, P)
    observed = rng.random((N, T, P)) < 0.7 if chance(rng, 0.5) else None
    offset = numbers(rng, N * S * T, P) if chance(rng, 0.4) else None
    floor = rng.uniform(0.1, 1.0, P) if chance(rng, 0.4) else None
    mean = ("linear", "sigmoid")[rng.integers(2)]
    arguments = (
        *(location, scale, numbers(rng, P), numbers(rng, P), numbers(rng, N, T, P)),
        *(offset, floor),
    )
    if chance(rng, 0.1) and location.size:
        head = location, location, *arguments[2:5], None, S, False, None, None
        return refused_overlap(passes.gaussian_head, *head)

    def call(location, scale, location_bias, scale_bias, data, offset, floor):
        heads = [
            x.copy("K") if isinstance(x, np.ndarray) else x for x in (location, scale)
        ]
        density = passes.gaussian_head(
            *heads,
            location_bias,
            scale_bias,
            data,
            observed,
            S,
            mean == "sigmoid",
            offset,
            floor,
        )[0]
        return [density]

    def define(location, scale, location_bias, scale_bias, data, offset, floor, got):
        shape = data.shape[0], S, *data.shape[1:]
        if not (np.isfinite(location).all() and np.isfinite(scale).all()):
            return got  # of a product with zeros the definition makes NaN

        def head(rows, bias):  # one feature for each number, and no product
            return np.eye(shape[-1]), bias, rows.reshape(shape)

        offset = 0.0 if offset is None else offset.reshape(shape)
        matrix, bias, rows = head(location, location_bias)
        own = reference.gaussian_head(
            np.concatenate([rows, scale.reshape(shape)], -1),
            (np.concatenate([matrix, 0.0 * matrix]), bias),
            (np.concatenate([0.0 * matrix, matrix]), scale_bias),
            data,
            observed,
            mean,
            offset,
            floor,
        )
        return [own.reshape(-1)]

    places = (
        "location",
        "scale",
        "location_bias",
        "scale_bias",
        "data",
        "offset",
        "floor",
    )
    names = {(k,): name for k, name in enumerate(places)}
    return judged(Case("layers.gaussian_head", arguments, names, call, define), rng)


def adam(rng: Generator) -> str:
    counts = rng.integers(0, 20, rng.integers(1, 4))
    P = int(counts.sum())
    cuts = np.cumsum(counts)[:-1]
    settings = 0.01, 1e-8, 0.9, 0.999

    def call(vector, gradient, mean, square):
        new = [np.empty(P) for _ in range(3)]
        if not passes.adam(vector, gradient, mean, square, *settings, *new):
            raise FloatingPointError("gradient")
        return new

    def define(vector, gradient, mean, square, got):
        vector, gradient = (
            np.concatenate([np.ravel(part) for part in tree])
            for tree in (vector, gradient)
        )
        return list(reference.adam(vector, gradient, mean, square, *settings))

    vector, gradient, mean, square = numbers(rng, 4, P)
    arguments = (
        *(tuple(np.split(vector, cuts)), tuple(np.split(gradient, cuts))),
        *(mean.copy(), np.abs(square)),
    )
    if chance(rng, 0.1) and P > 1:
        memory = np.zeros(P + 1)
        news = memory[:-1], memory[1:], np.empty(P)
        return refused_overlap(passes.adam, *arguments, *settings, *news)
    names = {
        **{(0, k): "parameters" for k in range(len(counts))},
        **{(1, k): "gradient" for k in range(len(counts))},
        **{(2,): "mean", (3,): "square"},
    }
    return judged(Case("layers.adam", arguments, names, call, define), rng)


def refused_overlap(function: Any, *arguments: Any) -> str:
    """What is written to may not overlap what else a pass uses."""
    try:
        function(*arguments)
    except ValueError as error:
        assert "shares memory" in str(error), error
        return "layers: overlap refused"
    raise AssertionError(f"{function} writes over what it reads")


CASES: tuple[Callable[[Generator], str], ...] = (
    *(gaussian_chain, gaussian_chain, markov_chain, markov_chain, viterbi),
    *(sample_markov_chain, mixture, mixture, mixture_evidence),
    *(activation, tanh_layer, tanh_layer_vjp, gaussian_head, adam),
)


if __name__ == "__main__":
    main(fuzz, __doc__)
