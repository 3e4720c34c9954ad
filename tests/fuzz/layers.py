"""Any pass of a layer is refused by name, or agrees with NumPy or `svae.reference`.

    python tests/fuzz/layers.py --calls 100000 --seed 0

`svae.testing.calls` makes and judges the calls.
"""

from typing import Any

import numpy as np

from svae import reference
from svae.kernels import passes
from svae.testing.calls import Case, judged
from svae.testing.campaign import main, one_of
from svae.testing.disguises import chance, numbers

Generator = np.random.Generator


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
        is_entrywise=True,
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
        is_entrywise=True,
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
        is_entrywise=True,
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
    case = Case(
        "layers.gaussian_head", arguments, names, call, define, is_entrywise=True
    )
    return judged(case, rng)


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
    case = Case("layers.adam", arguments, names, call, define, is_entrywise=True)
    return judged(case, rng)


def refused_overlap(function: Any, *arguments: Any) -> str:
    """What is written to may not overlap what else a pass uses."""
    try:
        function(*arguments)
    except ValueError as error:
        assert "shares memory" in str(error), error
        return "layers: overlap refused"
    raise AssertionError(f"{function} writes over what it reads")


fuzz = one_of(activation, tanh_layer, tanh_layer_vjp, gaussian_head, adam)


if __name__ == "__main__":
    main(fuzz, __doc__)
