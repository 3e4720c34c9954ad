"""The extension module: see csrc/bindings."""

from collections.abc import Sequence

from svae.types import Array, Integers, Mask

def isa() -> str: ...
def set_num_threads(num_threads: int) -> None: ...
def get_num_threads() -> int: ...
def are_within(arrays: Sequence[Array], limit: float) -> bool: ...
def chain_calls() -> object: ...  # a capsule, svae/interop/native/chain_calls.h
def use_lapack(dgemm: int, dtrsm: int, dpotrf: int) -> None: ...
def multiply_add(rounds: int) -> tuple[int, float]: ...
def gaussian_chain(
    potentials: Sequence[Array],
    # init_J (N, D, D), init_h (N, D); J11, J12, J22 (N, 1|T-1, D, D);
    # node_J (N, T, D) or (N, T, D, D), node_h (N, T, D)
    noise: Array | None,  # (N, S, T, D)
    lengths: Integers,  # (N,)
    limit: float | None = None,  # numbers beyond are refused; None: known to be right
) -> tuple[Array, list[Array], Array | None]: ...
def gaussian_chain_vjp(
    potentials: Sequence[Array],
    noise: Array | None,
    lengths: Integers,
    stats_bar: Sequence[Array],
    samples_bar: Array | None,
) -> tuple[list[Array], Array | None]: ...
def switching_chain(
    nodes: Sequence[Array],  # init_J, init_h, node_J, node_h, as above
    rows: Array,  # (K, 3 D D) or (K, 3 D D + 2 D)
    weights: Array,  # (N, T-1, K)
    noise: Array | None,
    lengths: Integers,
    with_sums: bool,
) -> tuple[
    Array,
    list[Array],
    Array,  # products (N, T-1, K)
    Array | None,  # sums (N, K, F)
    Array | None,
]: ...
def switching_chain_vjp(
    nodes: Sequence[Array],
    rows: Array,
    weights: Array,
    noise: Array | None,
    lengths: Integers,
    stats_bar: Sequence[Array],
    products_bar: Array,
    sums_bar: Array | None,  # (K, F)
    statistics_weights: Array | None,  # (N, T-1, K); None: without sums
    samples_bar: Array | None,
) -> tuple[list[Array], Array, Array | None, Array | None]: ...
def gaussian_filter(
    potentials: Sequence[Array],
    lengths: Integers,
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array]]: ...
def markov_chain(
    init: Array,  # (N, K)
    pair: Array,  # (N, 1|T-1, K, K)
    node: Array,  # (N, T, K)
    lengths: Integers,  # (N,)
    limit: float | None = None,  # as above; -inf is not beyond it
) -> tuple[Array, tuple[Array, ...]]: ...
def markov_chain_vjp(
    init: Array,
    pair: Array,
    node: Array,
    lengths: Integers,
    stats_bar: Sequence[Array],
) -> tuple[Array, ...]: ...
def markov_filter(
    init: Array, pair: Array, node: Array, lengths: Integers
) -> tuple[tuple[Array, Array], tuple[Array, Array]]: ...
def viterbi(
    init: Array, pair: Array, node: Array, lengths: Integers
) -> tuple[Integers, Array]: ...
def sample_markov_chain(
    init: Array,
    pair: Array,
    node: Array,
    uniforms: Array,  # (N, S, T)
    lengths: Integers,
) -> Integers: ...

# Passes over the layers of networks; all arrays are contiguous.
def empty(shape: Sequence[int]) -> Array: ...
def exp(x: Array) -> Array: ...
def log(x: Array) -> Array: ...
def tanh(x: Array) -> Array: ...
def logistic(x: Array) -> Array: ...
def softplus(x: Array) -> Array: ...
def tanh_layer(
    values: Array,  # (N, R), unit by unit; written to
    bias: Array,  # (N,)
) -> None: ...
def tanh_layer_vjp(
    outputs: Array,  # (N, R)
    outputs_bar: Array,
) -> tuple[Array, Array]: ...  # of values (N, R) and of bias (N,)
def gaussian_head(
    location: Array,  # (N S T, P), written to: the slopes in it
    scale: Array,  # the same
    location_bias: Array,  # (P,)
    scale_bias: Array,
    data: Array,  # (N, T, P)
    observed: Mask | None,
    num_samples: int,
    logistic_mean: bool,
    offset: Array | None,  # (N S T, P)
    floor: Array | None,  # (P,)
) -> tuple[Array, Array | None]: ...  # (N S T,), slopes in the variance (N S T, P)
def adam(
    parameters: Sequence[Array],  # P entries altogether
    gradient: Sequence[Array],
    mean: Array,  # (P,), as the others
    square: Array,
    rate: float,
    epsilon: float,
    mean_decay: float,
    square_decay: float,
    new_vector: Array,  # these are written to
    new_mean: Array,
    new_square: Array,
) -> bool: ...  # whether the gradient is finite
def mixture(
    init: Array,  # (N, K)
    components: Array,  # (K, D D + D)
    constants: Array,  # (K,)
    tails: Sequence[Array] | None,  # offsets (K,), dofs (K, Q), weights (Q,)
    node: Sequence[Array],  # J (N, D) or (N, D, D), h (N, D)
    noise: Array | None,  # (N, S, D)
    observed: Array | None,  # (N,)
    starts: Array | None,  # (N, R, K)
    from_data: bool,
    from_prior: bool,
    tolerance: float,
    max_iterations: int,
) -> tuple[Array, ...]: ...
def mixture_vjp(
    init: Array,
    components: Array,
    constants: Array,
    tails: Sequence[Array] | None,
    node: Sequence[Array],
    noise: Array | None,
    observed: Array | None,
    fixed: Array,  # (N, K)
    bars: Sequence[Array],
    samples_bar: Array | None,  # (N, S, D)
    tolerance: float,
    max_iterations: int,
) -> tuple[Array, ...]: ...
def mixture_evidence(
    init: Array,
    components: Array,
    constants: Array,
    node: Sequence[Array],
    observed: Array | None,
    statistics: Array | None,  # (N, K)
) -> tuple[Array, Array, Array]: ...
def mixture_evidence_vjp(
    init: Array,
    components: Array,
    constants: Array,
    node: Sequence[Array],
    observed: Array | None,
    statistics: Array,
    evidence_bar: Array,
) -> tuple[Array, Array, Array]: ...
