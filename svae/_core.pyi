"""The extension module: see csrc/bindings."""

from collections.abc import Sequence

from numpy import bool_, float64, int64
from numpy.typing import NDArray

_Array = NDArray[float64]

def isa() -> str: ...
def set_num_threads(num_threads: int) -> None: ...
def get_num_threads() -> int: ...
def are_within(arrays: Sequence[_Array], limit: float) -> bool: ...
def use_lapack(dgemm: int, dtrsm: int, dpotrf: int) -> None: ...
def multiply_add(rounds: int) -> tuple[int, float]: ...
def gaussian_chain(
    potentials: Sequence[_Array],
    # init_J (N, D, D), init_h (N, D); J11, J12, J22 (N, 1|T-1, D, D);
    # node_J (N, T, D) or (N, T, D, D), node_h (N, T, D)
    noise: _Array | None,  # (N, S, T, D)
    lengths: NDArray[int64],  # (N,)
) -> tuple[_Array, list[_Array], _Array | None]: ...
def gaussian_chain_vjp(
    potentials: Sequence[_Array],
    noise: _Array | None,
    lengths: NDArray[int64],
    stats_bar: Sequence[_Array],
    samples_bar: _Array | None,
) -> tuple[list[_Array], _Array | None]: ...
def markov_chain(
    init: _Array,  # (N, K)
    pair: _Array,  # (N, 1|T-1, K, K)
    node: _Array,  # (N, T, K)
    lengths: NDArray[int64],  # (N,)
) -> tuple[_Array, tuple[_Array, ...]]: ...
def markov_chain_vjp(
    init: _Array,
    pair: _Array,
    node: _Array,
    lengths: NDArray[int64],
    stats_bar: Sequence[_Array],
) -> tuple[_Array, ...]: ...
def viterbi(
    init: _Array, pair: _Array, node: _Array, lengths: NDArray[int64]
) -> tuple[NDArray[int64], _Array]: ...
def sample_markov_chain(
    init: _Array,
    pair: _Array,
    node: _Array,
    uniforms: _Array,  # (N, S, T)
    lengths: NDArray[int64],
) -> NDArray[int64]: ...

# Passes over the layers of networks; all arrays are contiguous.
def empty(shape: Sequence[int]) -> _Array: ...
def exp(x: _Array) -> _Array: ...
def log(x: _Array) -> _Array: ...
def tanh(x: _Array) -> _Array: ...
def logistic(x: _Array) -> _Array: ...
def softplus(x: _Array) -> _Array: ...
def tanh_layer(
    values: _Array,  # (N, R), unit by unit; written to
    bias: _Array,  # (N,)
) -> None: ...
def tanh_layer_vjp(
    outputs: _Array,  # (N, R)
    outputs_bar: _Array,
) -> tuple[_Array, _Array]: ...  # of values (N, R) and of bias (N,)
def gaussian_head(
    location: _Array,  # (N S T, P), written to: the slopes in it
    scale: _Array,  # the same
    location_bias: _Array,  # (P,)
    scale_bias: _Array,
    data: _Array,  # (N, T, P)
    observed: NDArray[bool_] | None,
    num_samples: int,
    logistic_mean: bool,
    offset: _Array | None,  # (N S T, P)
    floor: _Array | None,  # (P,)
) -> tuple[_Array, _Array | None]: ...  # (N S T,), slopes in the variance (N S T, P)
def adam(
    parameters: Sequence[_Array],  # P entries altogether
    gradient: Sequence[_Array],
    mean: _Array,  # (P,), as the others
    square: _Array,
    rate: float,
    epsilon: float,
    mean_decay: float,
    square_decay: float,
    new_vector: _Array,  # these are written to
    new_mean: _Array,
    new_square: _Array,
) -> bool: ...  # whether the gradient is finite
def mixture(
    init: _Array,  # (N, K)
    components: _Array,  # (K, D D + D)
    constants: _Array,  # (K,)
    tails: Sequence[_Array] | None,  # offsets (K,), dofs (K, Q), weights (Q,)
    node: Sequence[_Array],  # J (N, D) or (N, D, D), h (N, D)
    noise: _Array | None,  # (N, S, D)
    observed: _Array | None,  # (N,)
    starts: _Array | None,  # (N, R, K)
    from_data: bool,
    from_prior: bool,
    tolerance: float,
    max_iterations: int,
) -> tuple[_Array, ...]: ...
def mixture_vjp(
    init: _Array,
    components: _Array,
    constants: _Array,
    tails: Sequence[_Array] | None,
    node: Sequence[_Array],
    noise: _Array | None,
    observed: _Array | None,
    fixed: _Array,  # (N, K)
    bars: Sequence[_Array],
    samples_bar: _Array | None,  # (N, S, D)
    tolerance: float,
    max_iterations: int,
) -> tuple[_Array, ...]: ...
def mixture_evidence(
    init: _Array,
    components: _Array,
    constants: _Array,
    node: Sequence[_Array],
    observed: _Array | None,
    statistics: _Array | None,  # (N, K)
) -> tuple[_Array, _Array, _Array]: ...
def mixture_evidence_vjp(
    init: _Array,
    components: _Array,
    constants: _Array,
    node: Sequence[_Array],
    observed: _Array | None,
    statistics: _Array,
    evidence_bar: _Array,
) -> tuple[_Array, _Array, _Array]: ...
