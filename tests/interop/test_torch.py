"""The operators of PyTorch: values, derivatives, transformations, refusals."""

import doctest
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from svae import kernels, standard  # noqa: E402
from svae.errors import Impossible, NotPositiveDefinite  # noqa: E402
from svae.interop import torch as door  # noqa: E402
from svae.testing import (  # noqa: E402
    assert_close,
    cotangents,
    fill_past_lengths,
    gaussian_problem,
    hessian_vector_product,
    markov_problem,
    random_like,
)
from svae.testing.chains import SHARING  # noqa: E402
from tests.helpers.interop import NAMES, case  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "interop.md"
each_case = pytest.mark.parametrize("name", NAMES)
each_sharing = pytest.mark.parametrize("sharing", SHARING)


def leaves(arrays):
    return [torch.from_numpy(x.copy()).requires_grad_() for x in arrays]


def numbers(tensors):
    return [x.detach().numpy() for x in tensors]


@each_case
@each_sharing
def test_values_and_cotangents_are_those_of_the_kernels(rng, name, sharing):
    problem = case(rng, name, sharing)
    want = problem.outputs(kernels)(*problem.arguments)
    tensors = leaves(problem.arguments)
    outputs = problem.outputs(door)(*tensors)
    assert_close(numbers(outputs), want, rtol=1e-12)
    bars = random_like(rng, want)
    found = torch.autograd.grad(outputs, tensors, list(map(torch.from_numpy, bars)))
    of_kernels = cotangents(problem.outputs(kernels), problem.arguments, bars)
    assert_close(numbers(found), list(of_kernels), rtol=1e-11)


@each_case
def test_gradients_are_differences(rng, name):
    problem = case(rng, name)
    outputs = problem.outputs(door)
    assert torch.autograd.gradcheck(
        lambda *x: tuple(outputs(*x)), leaves(problem.arguments), fast_mode=True
    )


@pytest.mark.parametrize("name", ["diagonal", "dense", "markov"])
def test_second_derivatives_of_log_normalizers_are_differences(rng, name):
    problem = case(rng, name)
    outputs = problem.outputs(door)
    assert torch.autograd.gradgradcheck(
        lambda *x: outputs(*x)[0], leaves(problem.arguments), fast_mode=True
    )


@pytest.mark.parametrize("name", ["diagonal", "markov"])
def test_products_with_the_hessian_are_those_of_the_kernels(rng, name):
    problem = case(rng, name, "mixed")
    directions = random_like(rng, problem.arguments)
    want = hessian_vector_product(
        lambda *x: problem.outputs(kernels)(*x)[0].sum(), problem.arguments, directions
    )
    _, found = torch.autograd.functional.hvp(
        lambda *x: problem.outputs(door)(*x)[0].sum(),
        tuple(map(torch.from_numpy, problem.arguments)),
        tuple(map(torch.from_numpy, directions)),
    )
    assert_close(numbers(found), list(want), rtol=1e-11)


@each_case
@pytest.mark.parametrize("suffix", ["", "_vjp"])
def test_operators_are_as_pytorch_wants_them(rng, name, suffix):
    problem = case(rng, name)
    tensors = leaves(problem.inputs)
    arguments = [*tensors, torch.from_numpy(problem.lengths)]
    tests = ["test_schema", "test_autograd_registration", "test_faketensor"]
    if suffix:
        arguments += leaves(
            random_like(rng, [np.zeros((3, *x.shape[1:])) for x in tensors])
        )
    else:
        tests.append("test_aot_dispatch_dynamic")
    operator = getattr(torch.ops.svae, problem.chain.name + suffix)
    results = torch.library.opcheck(operator, arguments, test_utils=tests)
    assert set(results.values()) == {"SUCCESS"}


def test_operators_on_paths_are_as_pytorch_wants_them(rng):
    problem = case(rng, "markov")
    inputs = list(map(torch.from_numpy, problem.inputs))
    lengths = torch.from_numpy(problem.lengths)
    uniforms = torch.rand((3, 2, 5), dtype=torch.float64)
    torch.library.opcheck(torch.ops.svae.viterbi, (*inputs, lengths))
    torch.library.opcheck(
        torch.ops.svae.sample_markov_chain, (*inputs, uniforms, lengths)
    )


def test_paths_are_those_of_the_kernels(rng):
    init, pair, node, lengths = markov_problem(rng, lengths=np.array([4, 1, 3]))
    uniforms = rng.uniform(size=(3, 5, 4))
    tensors = list(map(torch.from_numpy, (init, pair, node)))
    paths, logprob = door.viterbi(*tensors, lengths)
    assert_close(
        numbers([paths, logprob]), kernels.viterbi(init, pair, node, lengths), rtol=0
    )
    found = door.sample_markov_chain(*tensors, torch.from_numpy(uniforms), lengths)
    want = kernels.sample_markov_chain(init, pair, node, uniforms, lengths)
    assert (found.numpy() == want).all()


@each_case
def test_a_compiled_function_keeps_one_node(rng, name):
    problem = case(rng, name)
    outputs, graphs = problem.outputs(door), []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(
        lambda *x: outputs(*x)[0].sum(), backend=backend, fullgraph=True
    )
    tensors = leaves(problem.arguments)
    compiled(*tensors).backward()
    (graph,) = graphs
    calls = [str(n.target) for n in graph.graph.nodes if "svae" in str(n.target)]
    assert calls == [f"svae.{problem.chain.name}.default"] or calls == [
        f"svae.{problem.chain.name}"
    ]
    plain = leaves(problem.arguments)
    outputs(*plain)[0].sum().backward()
    of_logZ = slice(problem.chain.num_potentials)
    assert_close(
        [x.grad.numpy() for x in tensors[of_logZ]],
        [x.grad.numpy() for x in plain[of_logZ]],
        rtol=1e-13,
    )


def test_gradients_are_compiled_ahead_of_time(rng):
    problem = case(rng, "diagonal")
    outputs = problem.outputs(door)
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda *x: sum(y.square().sum() for y in outputs(*x)),
        backend="aot_eager",
        fullgraph=True,
    )
    tensors, plain = leaves(problem.arguments), leaves(problem.arguments)
    compiled(*tensors).backward()
    sum(y.square().sum() for y in outputs(*plain)).backward()
    assert_close(
        [x.grad.numpy() for x in tensors], [x.grad.numpy() for x in plain], 1e-13
    )


@pytest.mark.parametrize("in_dims", [0, 1])
def test_a_batch_becomes_sequences(rng, in_dims):
    (J0, h0), pair, (J, h), *_ = gaussian_problem(rng, N=3, T=4, D=2)
    d = [torch.from_numpy(x) for x in (J0, *pair, J, h)]
    batch = torch.from_numpy(rng.standard_normal((2, 2)))

    def logZ(h0):
        return door.gaussian_chain((d[0], h0), d[1:4], d[4:])[0]

    found = torch.vmap(logZ, in_dims, in_dims)(batch)
    want = [logZ(x) for x in batch.unbind(in_dims)]
    assert torch.equal(found, torch.stack(want, in_dims))


def test_functional_transformations(rng):
    problem = case(rng, "markov")
    init, pair, node = map(torch.from_numpy, problem.arguments)

    def logZ(init):
        return door.markov_chain(init, pair, node, problem.lengths)[0].sum()

    want = torch.autograd.functional.hessian(logZ, init)
    found = torch.func.jacrev(torch.func.jacrev(logZ))(init)
    assert_close(found.numpy(), want.numpy(), rtol=1e-12)
    batch = torch.stack([init, 2 * init])
    gradients = torch.vmap(torch.func.grad(logZ))(batch)
    assert torch.equal(gradients[1], torch.func.grad(logZ)(2 * init))


def test_tensors_are_not_copied(rng, monkeypatch):
    problem = case(rng, "diagonal")
    tensors = list(map(torch.from_numpy, problem.arguments))
    seen = []

    def forward(lengths, *inputs, limit=None):
        seen.extend(inputs)
        return plain(lengths, *inputs, limit=limit)

    from svae.kernels import gaussian

    plain = gaussian.forward
    monkeypatch.setattr(gaussian, "forward", forward)
    problem.outputs(door)(*tensors)
    assert [x.ctypes.data for x in seen] == [x.data_ptr() for x in tensors]


def test_what_is_past_a_length_is_not_read(rng):
    problem = gaussian_problem(rng, lengths=np.array([5, 2, 4]))
    filled = fill_past_lengths(problem, np.nan)
    found = [
        door.gaussian_chain(
            *([torch.from_numpy(x) for x in part] for part in p[:3]), None, p.lengths
        )[0]
        for p in (problem, filled)
    ]
    assert torch.equal(*found)


def test_arrays_are_taken_too(rng):
    problem = case(rng, "markov")
    found = problem.outputs(door)(*problem.arguments)
    assert_close(numbers(found), problem.outputs(kernels)(*problem.arguments), 1e-12)


def test_other_numbers_are_refused(rng):
    problem = case(rng, "markov")
    init, pair, node = map(torch.from_numpy, problem.arguments)
    with pytest.raises(ValueError, match=r"node has dtype torch.float32.*\.double"):
        door.markov_chain(init, pair, node.float())
    with pytest.raises(ValueError, match="pair has shape"):
        door.markov_chain(init, pair[0], node)
    with pytest.raises(ValueError, match="node has shape"):
        door.markov_chain(init, pair, node[0])
    with pytest.raises(ValueError, match="got 1 tensors, wanted init J, h"):
        door.gaussian_chain([init], [pair] * 3, [node] * 2)


def test_errors_of_the_kernels_come_through(rng):
    problem = case(rng, "diagonal")
    problem.arguments[5][1] = 9.0
    with pytest.raises(NotPositiveDefinite) as caught:
        problem.outputs(door)(*map(torch.from_numpy, problem.arguments))
    assert caught.value.sequence == 1
    init, pair, node = map(torch.from_numpy, case(rng, "markov").arguments)
    with pytest.raises(Impossible):
        door.markov_chain(torch.full_like(init, -torch.inf), pair, node)


def test_third_derivatives_are_refused(rng):
    problem = case(rng, "diagonal")
    tensors = leaves(problem.arguments)
    logZ = problem.outputs(door)(*tensors)[0].sum()
    for _ in range(2):
        (g,) = torch.autograd.grad(logZ, tensors[-1:], create_graph=True)
        logZ = g.square().sum()
    with pytest.raises(NotImplementedError, match="two"):
        torch.autograd.grad(logZ, tensors[-1:])


def system(rng):
    """Draw parameters of a state-space model of two states, and data with a gap."""
    A = np.array([[0.9, 0.3], [0.0, 0.8]])
    Q, P0 = np.diag([0.5, 0.2]), np.array([[1.0, 0.2], [0.2, 2.0]])
    C, R, m0 = rng.standard_normal((1, 2)), np.array([[0.3]]), rng.standard_normal(2)
    y = rng.standard_normal((3, 6, 1))
    y[1, 2] = np.nan
    return [A, Q, C, R, m0, P0], y


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [1.0, -2.0, 0.5]])
@pytest.mark.parametrize("form", ["information", "covariance"])
def test_log_likelihoods_are_those_of_the_standard_functions(rng, weights, form):
    arrays, y = system(rng)
    lengths, weights = np.array([6, 4, 1]), np.array(weights)

    def values(*x):
        params = standard.LinearGaussian(*x)
        return [standard.log_likelihood(params, y, None, lengths, form)]

    tensors = leaves(arrays)
    params = standard.LinearGaussian(*tensors)
    value = door.log_likelihood(params, torch.from_numpy(y), None, lengths, form)
    found = torch.autograd.grad(value, tensors, torch.from_numpy(weights))
    assert_close(numbers([value]), values(*arrays), rtol=1e-12)
    assert_close(numbers(found), list(cotangents(values, arrays, [weights])), 1e-10)


def test_inputs_of_a_state_space_model(rng):
    arrays, y = system(rng)
    B, u = rng.standard_normal((2, 1)), rng.standard_normal((3, 6, 1))
    params = standard.LinearGaussian(*arrays, B)
    tensors = leaves([B, u])
    with_tensors = standard.LinearGaussian(*map(torch.from_numpy, arrays), tensors[0])
    value = door.log_likelihood(with_tensors, y, tensors[1])
    assert_close(numbers([value]), [standard.log_likelihood(params, y, u)], 1e-12)
    want = cotangents(
        lambda B, u: [standard.log_likelihood(params._replace(B=B), y, u)],
        [B, u],
        [np.ones(3)],
    )
    assert_close(numbers(torch.autograd.grad(value.sum(), tensors)), list(want), 1e-10)
    with pytest.raises(ValueError, match="B or D is given without u|u is given"):
        door.log_likelihood(with_tensors, y)


def test_log_likelihoods_have_two_derivatives(rng):
    arrays, y = system(rng)
    y = torch.from_numpy(y)

    def value(A, C, m0):
        params = standard.LinearGaussian(A, arrays[1], C, arrays[3], m0, arrays[5])
        return door.log_likelihood(params, y)

    tensors = leaves([arrays[0], arrays[2], arrays[4]])
    assert torch.autograd.gradcheck(value, tensors, fast_mode=True)
    assert torch.autograd.gradgradcheck(value, tensors, fast_mode=True)


def hidden_markov_model(rng):
    start, transition = rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(3), 3)
    return start, transition, rng.standard_normal((5, 3))


def test_log_likelihoods_of_hidden_markov_models(rng):
    arrays = hidden_markov_model(rng)
    tensors = leaves(arrays)
    value = door.hmm_log_likelihood(*tensors)
    want = standard.hmm_log_likelihood(*arrays)
    assert value.shape == () and abs(value.item() - want) < 1e-12
    found = torch.autograd.grad(value, tensors)
    want = cotangents(
        lambda *x: [standard.hmm_log_likelihood(*x)], arrays, [np.float64(1.0)]
    )
    assert_close(numbers(found), list(want), rtol=1e-11)


@pytest.mark.parametrize("suffix", ["", "_vjp", "_second"])
def test_operators_of_log_likelihoods_are_as_pytorch_wants_them(rng, suffix):
    start, transition, logs = hidden_markov_model(rng)
    tensors = leaves([start[None], transition[None, None], logs[None]])
    arguments = [*tensors, torch.tensor([5])]
    tests = ["test_schema", "test_autograd_registration", "test_faketensor"]
    if suffix:
        arguments += [torch.ones(1, dtype=torch.float64), *leaves(tensors_of(tensors))]
    else:
        tests.append("test_aot_dispatch_dynamic")
    arguments += ["", [0, 1, 2]]
    operator = getattr(torch.ops.svae, "hmm_log_likelihood" + suffix)
    results = torch.library.opcheck(operator, arguments, test_utils=tests)
    assert set(results.values()) == {"SUCCESS"}


def tensors_of(tensors):
    return [np.ones(x.shape) for x in tensors]


def test_log_likelihoods_in_batches(rng):
    start, transition, logs = map(torch.from_numpy, hidden_markov_model(rng))

    def value(logs):
        return door.hmm_log_likelihood(start, transition, logs)

    batch = torch.stack([logs, 2 * logs])
    found = torch.vmap(value)(batch)
    assert torch.equal(found, torch.stack([value(x) for x in batch]))
    slopes = torch.vmap(torch.func.grad(value))(batch)
    want = [torch.func.grad(value)(x) for x in batch]
    assert torch.equal(slopes, torch.stack(want))
    leaf = batch.clone().requires_grad_()
    torch.vmap(value)(leaf).sum().backward()
    assert_close(leaf.grad.numpy(), slopes.numpy(), rtol=1e-12)


def test_log_likelihoods_are_compiled_as_one_node(rng):
    tensors = leaves(hidden_markov_model(rng))
    torch._dynamo.reset()
    compiled = torch.compile(
        door.hmm_log_likelihood, backend="aot_eager", fullgraph=True
    )
    found = torch.autograd.grad(compiled(*tensors), tensors)
    want = torch.autograd.grad(door.hmm_log_likelihood(*tensors), tensors)
    assert_close(numbers(found), numbers(want), rtol=1e-13)


def test_examples_of_the_module():
    assert doctest.testmod(door) == (0, 8)


def test_smoothers(rng):
    arrays, y = system(rng)
    tensors = leaves(arrays)
    found = door.kalman_smoother(standard.LinearGaussian(*tensors), y)
    params = standard.LinearGaussian(*arrays)
    assert_close(numbers(found), list(standard.kalman_smoother(params, y)), 1e-12)
    bars = random_like(rng, numbers(found))
    want = cotangents(
        lambda *x: list(standard.kalman_smoother(standard.LinearGaussian(*x), y)),
        arrays,
        bars,
    )
    slopes = torch.autograd.grad(found, tensors, list(map(torch.from_numpy, bars)))
    assert_close(numbers(slopes), list(want), rtol=1e-9)


def test_smoothers_of_hidden_markov_models(rng):
    arrays = hidden_markov_model(rng)
    tensors = leaves(arrays)
    states, _, counts, total = door.hmm_smoother(*tensors)
    want = standard.hmm_smoother(*arrays)
    assert_close(numbers([states, counts, total]), [want[0], want[2], want[3]], 1e-12)
    (slope,) = torch.autograd.grad(states[2, 1], tensors[2:])
    assert torch.autograd.gradcheck(
        lambda x: door.hmm_smoother(*arrays[:2], x)[0], tensors[2:]
    )
    both = torch.vmap(lambda x: door.hmm_smoother(*arrays[:2], x)[0])(
        torch.stack([tensors[2].detach()] * 2)
    )
    assert torch.equal(both[1], states.detach())


@pytest.mark.parametrize("name", ["kalman_smoother", "hmm_smoother"])
def test_operators_of_smoothers_are_as_pytorch_wants_them(rng, name):
    if name == "hmm_smoother":
        start, transition, logs = hidden_markov_model(rng)
        tensors = leaves([start[None], transition[None, None], logs[None]])
    else:
        (A, Q, C, R, m0, P0), y = system(rng)
        matrices = [x[None, None] for x in (A, Q, C, R)]
        tensors = leaves([*matrices, m0[None], P0[None], np.nan_to_num(y)])
    lengths = torch.full(tensors[-1].shape[:1], tensors[-1].shape[1])
    tests = ["test_schema", "test_autograd_registration", "test_faketensor"]
    operator = getattr(torch.ops.svae, name)
    arguments = (*tensors, lengths, "auto")
    results = torch.library.opcheck(operator, arguments, test_utils=tests)
    assert set(results.values()) == {"SUCCESS"}


def test_the_page_runs_as_it_stands():
    section = PAGE.read_text().partition("## PyTorch")[2].partition("\n## ")[0]
    namespace = {}
    for block in re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL):
        exec(block, namespace)
    assert namespace["A"].grad.shape == (2, 2)


def test_the_example_learns(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["", "3"])
    dtype = torch.get_default_dtype()
    try:
        path = PAGE.parents[1] / "examples" / "interop_torch.py"
        runpy.run_path(str(path), run_name="__main__")
    finally:
        torch.set_default_dtype(dtype)
    bounds = re.findall(r"bound (\S+)", capsys.readouterr().out)
    assert np.isfinite(np.array(bounds, float)).all()
    assert float(bounds[1]) > float(bounds[0])
