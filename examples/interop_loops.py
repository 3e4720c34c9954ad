"""Compiled chains inside of PyTorch or PyTensor beside loops of the framework itself.

The log likelihood and its gradient, in dynamics and data, of linear dynamical systems
and hidden Markov models, N sequences of T steps: by the compiled chains, and by a
Kalman filter or a forward pass as one writes them in the framework, a loop of PyTorch
with or without `torch.compile` of its step, or `pytensor.scan`.  The loops share
covariances over sequences.  One thread each; times are those of the processor, medians
of rounds in which all take turns.  What they find is compared, too:

    python examples/interop_loops.py torch
    python examples/interop_loops.py pytensor
"""

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from svae import kernels

LOG_2PI = float(np.log(2 * np.pi))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("framework", choices=["torch", "pytensor"])
    parser.add_argument("--num-timesteps", type=int, default=1000)
    parser.add_argument("--num-sequences", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--latent-dims", type=int, nargs="*", default=[4, 10, 20])
    parser.add_argument("--num-states", type=int, nargs="*", default=[10, 50])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-compile", action="store_true", help="no torch.compile")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    kernels.set_num_threads(1)
    if options.framework == "torch":
        version, ways = torch_ways(not options.no_compile)
    else:
        version, ways = pytensor_ways()
    names = [name for name in ways["lds"] if name != "svae"]
    print(f"{version}, {kernels.isa()}, T = {options.num_timesteps}, milliseconds\n")
    print("| model | N | svae | " + " | ".join(names) + " | difference |")
    print("|" + "---|" * (4 + len(names)))
    sizes = {"lds": options.latent_dims, "hmm": options.num_states}
    lines = [
        (k, size, N) for k in sizes for size in sizes[k] for N in options.num_sequences
    ]
    for kind, size, N in lines:
        problem = {"lds": lds_problem, "hmm": hmm_problem}[kind]
        args = problem(np.random.default_rng(0), N, options.num_timesteps, size)
        calls = {name: make(*args) for name, make in ways[kind].items()}
        times, results = medians(calls, options.rounds)
        worst = max(difference(results[n], results["svae"]) for n in names)
        letter = {"lds": "D", "hmm": "K"}[kind]
        cells = [f"{kind}, {letter} = {size}", str(N), f"{times['svae'] * 1e3:.3g}"]
        for name in names:
            ratio = times[name] / times["svae"]
            cells.append(f"{times[name] * 1e3:.3g} ({ratio:.2g}x)")
        print("| " + " | ".join([*cells, f"{worst:.0e}"]) + " |", flush=True)
    args = hmm_problem(np.random.default_rng(0), 1, 1, 2)
    calls = {
        "inside": ways["hmm"]["svae"](*args),
        "outside": lambda: [kernels.markov_chain(*args)[0]],
    }
    times, _ = medians(calls, 5 * options.rounds)
    print(
        f"\nOne step of two states: value and gradient {times['inside'] * 1e6:.0f} us, "
        f"the value from NumPy, {times['outside'] * 1e6:.0f} us."
    )


def lds_problem(rng: np.random.Generator, N: int, T: int, D: int) -> tuple:
    """Return A, Q, R (T, D) and y (N, T, D).

    x_1 ~ N(0, I), x_{t+1} ~ N(A x_t, Q), y_t ~ N(x_t, diag R_t).
    """
    rotation = np.linalg.qr(rng.standard_normal((D, D)))[0]
    root = 0.3 * rng.standard_normal((D, D))
    Q = root @ root.T + 0.1 * np.eye(D)
    return 0.95 * rotation, Q, rng.uniform(0.5, 2.0, (T, D)), rng.normal(size=(N, T, D))


def hmm_problem(rng: np.random.Generator, N: int, T: int, K: int) -> tuple:
    """Return log start, log transition and log likelihoods (N, T, K)."""
    transition = rng.dirichlet(np.ones(K), K) + 0.5 * np.eye(K)
    transition /= transition.sum(1, keepdims=True)
    return np.full(K, -np.log(K)), np.log(transition), 2 * rng.normal(size=(N, T, K))


def natural(Q: Any, R: Any, shape: tuple) -> tuple:
    """Return Q^-1, init, J of the nodes, and what log Z lacks beside squares of y."""
    N, T, D = shape
    P = np.linalg.inv(Q)
    init = -np.eye(D) / 2, np.zeros(D)
    log_det = (T - 1) * np.linalg.slogdet(Q)[1] + np.log(R).sum()
    constant = -N * (log_det / 2 + T * D * LOG_2PI)
    return P, init, np.broadcast_to(-0.5 / R, (N, T, D)).copy(), constant


def torch_ways(compiles: bool) -> tuple[str, dict]:
    """Return the version, and what makes calls of value and gradient."""
    import torch

    from svae.interop.torch import gaussian_chain, markov_chain

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)

    def call(total: Callable[..., Any], arrays: tuple, leaves: tuple) -> Callable:
        tensors = [torch.from_numpy(x) for x in arrays]
        roots = [tensors[k].requires_grad_() for k in leaves]

        def run() -> list:
            value = total(*tensors)
            slopes = torch.autograd.grad(value, roots)
            return [value.item(), *(x.numpy() for x in slopes)]

        return run

    def ours(A: Any, Q: Any, R: Any, y: Any) -> Any:
        P, init, J, constant = natural(Q.numpy(), R.numpy(), y.shape)
        P = torch.from_numpy(P)
        pair = -A.T @ P @ A / 2, A.T @ P, -P / 2
        logZ, _, _ = gaussian_chain(init, pair, (torch.from_numpy(J), y / R))
        return logZ.sum() - (y**2 / R).sum() / 2 + constant

    def filter_step(m: Any, P: Any, A: Any, Q: Any, R_t: Any, y_t: Any) -> tuple:
        L = torch.linalg.cholesky(P + torch.diag(R_t))
        v = y_t - m
        e = torch.linalg.solve_triangular(L, v.T, upper=False)
        gain = torch.cholesky_solve(P, L).T
        density = -(e**2).sum() / 2 - len(v) * torch.log(torch.diagonal(L)).sum()
        m, P = m + v @ gain.T, P - gain @ P
        return m @ A.T, A @ P @ A.T + Q, density

    def kalman(step: Callable[..., Any]) -> Callable[..., Any]:
        def total(A: Any, Q: Any, R: Any, y: Any) -> Any:
            m, P, value = torch.zeros(y[:, 0].shape), torch.eye(len(A)), 0.0
            for R_t, y_t in zip(R.unbind(0), y.unbind(1), strict=True):
                m, P, density = step(m, P, A, Q, R_t, y_t)
                value = value + density
            return value - y.numel() * LOG_2PI / 2

        return total

    def forward_step(alpha: Any, A: Any, weight: Any) -> tuple:
        alpha = alpha * weight
        scale = alpha.sum(-1, keepdim=True)
        return (alpha / scale) @ A, torch.log(scale).sum()

    def forward(step: Callable[..., Any]) -> Callable[..., Any]:
        def total(init: Any, pair: Any, node: Any) -> Any:
            largest = node.amax(-1, keepdim=True).detach()
            alpha, A, value = torch.exp(init), torch.exp(pair), largest.sum()
            for weight in torch.exp(node - largest).unbind(1):
                alpha, density = step(alpha, A, weight)
                value = value + density
            return value

        return total

    def chain(init: Any, pair: Any, node: Any) -> Any:
        return markov_chain(init, pair, node)[0].sum()

    ways: dict = {"lds": {}, "hmm": {}}
    ways["lds"]["svae"] = lambda *x: call(ours, x, (0, 3))
    ways["hmm"]["svae"] = lambda *x: call(chain, x, (0, 1, 2))
    ways["lds"]["loop"] = lambda *x: call(kalman(filter_step), x, (0, 3))
    ways["hmm"]["loop"] = lambda *x: call(forward(forward_step), x, (0, 1, 2))
    if compiles:
        of_filter, of_forward = map(torch.compile, (filter_step, forward_step))
        ways["lds"]["compiled step"] = lambda *x: call(kalman(of_filter), x, (0, 3))
        ways["hmm"]["compiled step"] = lambda *x: call(
            forward(of_forward), x, (0, 1, 2)
        )
    return f"PyTorch {torch.__version__}", ways


def pytensor_ways() -> tuple[str, dict]:
    """Return the version, and what makes calls of value and gradient."""
    import pytensor
    import pytensor.tensor as pt
    from pytensor.tensor.slinalg import cholesky, solve_triangular

    from svae.interop.pytensor import gaussian_chain, markov_chain

    def call(total: Callable[..., Any], arrays: tuple, leaves: tuple) -> Callable:
        inputs = [pt.tensor(shape=arrays[k].shape, dtype="float64") for k in leaves]
        every: list = list(arrays)
        for k, x in zip(leaves, inputs, strict=True):
            every[k] = x
        value = total(*every)
        slopes = pytensor.grad(value, inputs)
        function = pytensor.function(inputs, [value, *slopes])
        chosen = [arrays[k] for k in leaves]
        return lambda: function(*chosen)

    def ours(A: Any, Q: Any, R: Any, y: Any) -> Any:
        P, init, J, constant = natural(Q, R, y.type.shape)
        pair = -A.T @ P @ A / 2, A.T @ P, -P / 2
        logZ, _, _ = gaussian_chain(init, pair, (J, y / R))
        return logZ.sum() - (y**2 / R).sum() / 2 + constant

    def kalman(A: Any, Q: Any, R: Any, y: Any) -> Any:
        N, T, D = y.type.shape

        def step(R_t: Any, y_t: Any, m: Any, P: Any, A: Any) -> list:
            L = cholesky(P + pt.diag(R_t))
            v = y_t - m
            e = solve_triangular(L, v.T, lower=True)
            half = solve_triangular(L, P, lower=True)
            gain = solve_triangular(L.T, half, lower=False).T
            density = -(e**2).sum() / 2 - N * pt.log(pt.diag(L)).sum()
            m, P = m + v @ gain.T, P - gain @ P
            return [m @ A.T, A @ P @ A.T + Q, density]

        start = [pt.zeros((N, D)), pt.eye(D), None]
        found, _ = pytensor.scan(
            step, [pt.as_tensor(R), y.transpose(1, 0, 2)], start, non_sequences=[A]
        )
        return found[2].sum() - N * T * D * LOG_2PI / 2

    def forward(init: Any, pair: Any, node: Any) -> Any:
        largest = pytensor.gradient.disconnected_grad(node.max(-1, keepdims=True))

        def step(weight: Any, alpha: Any, A: Any) -> list:
            alpha = alpha * weight
            scale = alpha.sum(-1, keepdims=True)
            return [(alpha / scale) @ A, pt.log(scale).sum()]

        N, _, K = node.type.shape
        weights = pt.exp(node - largest).transpose(1, 0, 2)
        start = pt.exp(init)[None] * np.ones((N, 1))
        found, _ = pytensor.scan(
            step, [weights], [start, None], non_sequences=[pt.exp(pair)]
        )
        return found[1].sum() + largest.sum()

    def chain(init: Any, pair: Any, node: Any) -> Any:
        return markov_chain(init, pair, node)[0].sum()

    ways: dict = {
        "lds": {
            "svae": lambda *x: call(ours, x, (0, 3)),
            "scan": lambda *x: call(kalman, x, (0, 3)),
        },
        "hmm": {
            "svae": lambda *x: call(chain, x, (0, 1, 2)),
            "scan": lambda *x: call(forward, x, (0, 1, 2)),
        },
    }
    linker = type(pytensor.compile.mode.get_default_mode().linker).__name__
    return f"PyTensor {pytensor.__version__} with {linker}", ways


def medians(calls: dict[str, Callable], rounds: int) -> tuple[dict, dict]:
    """Return the median time of each call, in turns, and its results."""
    results = {name: run() for name, run in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, run in calls.items():
            count, start = 0, time.process_time()
            while count == 0 or time.process_time() - start < 0.02:
                run()
                count += 1
            times[name].append((time.process_time() - start) / count)
    return {name: float(np.median(x)) for name, x in times.items()}, results


def difference(got: list, want: list) -> float:
    """Return the largest difference, each array relative to its largest entry."""
    pairs = zip(got, want, strict=True)
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


if __name__ == "__main__":
    main()
