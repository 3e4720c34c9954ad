"""The `Op`s of PyTensor: values, derivatives, shapes, linkers, refusals."""

import doctest
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

pytensor = pytest.importorskip("pytensor")

import pytensor.tensor as pt  # noqa: E402
from autograd import grad, hessian  # noqa: E402
from pytensor.gradient import verify_grad  # noqa: E402

from svae import kernels, standard  # noqa: E402
from svae.errors import NotPositiveDefinite  # noqa: E402
from svae.interop import pytensor as door  # noqa: E402
from svae.testing import (  # noqa: E402
    assert_close,
    cotangents,
    hessian_vector_product,
    markov_problem,
    random_like,
)
from tests.helpers.interop import NAMES, case  # noqa: E402

each_case = pytest.mark.parametrize("name", NAMES)
# without fusion, which makes functions of more arguments than NumPy's may have
PYTHON = pytensor.compile.mode.Mode("py", "fast_run").excluding("fusion")
LINKERS = ["py", "cvm", "numba"]


def variables(arrays, static=True):
    return [
        pt.tensor(shape=x.shape if static else (None,) * x.ndim, dtype="float64")
        for x in arrays
    ]


def evaluate(inputs, outputs, arrays, mode=PYTHON):
    function = pytensor.function(inputs, outputs, mode=mode, on_unused_input="ignore")
    return function(*arrays)


@each_case
@pytest.mark.parametrize("sharing", ["shared", "time", "mixed"])
@pytest.mark.parametrize("static", [True, False])
def test_values_and_cotangents_are_those_of_the_kernels(rng, name, sharing, static):
    problem = case(rng, name, sharing)
    want = problem.outputs(kernels)(*problem.arguments)
    bars = random_like(rng, want)
    of_kernels = cotangents(problem.outputs(kernels), problem.arguments, bars)
    inputs = variables(problem.arguments, static)
    outputs = problem.outputs(door)(*inputs)
    total = sum((y * bar).sum() for y, bar in zip(outputs, bars, strict=True))
    slopes = pytensor.grad(total, inputs)
    found = evaluate(inputs, [*outputs, *slopes], problem.arguments)
    assert_close(found, [*want, *of_kernels], rtol=1e-11)
    if static:
        assert [x.type.shape for x in outputs] == [x.shape for x in want]


@pytest.mark.parametrize("name", ["diagonal", "markov"])
def test_products_with_the_hessian_are_those_of_the_kernels(rng, name):
    problem = case(rng, name, "mixed")
    directions = random_like(rng, problem.arguments)
    want = hessian_vector_product(
        lambda *x: problem.outputs(kernels)(*x)[0].sum(), problem.arguments, directions
    )
    inputs = variables(problem.arguments)
    slopes = pytensor.grad(problem.outputs(door)(*inputs)[0].sum(), inputs)
    along = sum((x * d).sum() for x, d in zip(slopes, directions, strict=True))
    found = evaluate(inputs, pytensor.grad(along, inputs), problem.arguments)
    assert_close(found, list(want), rtol=1e-11)


def test_gradients_are_differences(rng):
    problem = case(rng, "samples")
    outputs = problem.outputs(door)
    verify_grad(
        lambda *x: sum(pt.sin(y).sum() for y in outputs(*x)),
        problem.arguments,
        rng=np.random.default_rng(0),
        mode=PYTHON,
    )


@pytest.mark.parametrize("linker", LINKERS)
def test_every_linker_runs_them(rng, linker):
    if linker == "cvm" and not pytensor.config.cxx:
        pytest.skip("no C++ compiler")
    problem = case(rng, "markov")
    inputs = variables(problem.arguments)
    logZ = problem.outputs(door)(*inputs)[0]
    outputs = [logZ, pytensor.grad(logZ[0], inputs[2])]
    mode = pytensor.compile.mode.Mode(linker, None)
    found = evaluate(inputs, outputs, problem.arguments, mode)
    logZ, _, _, stat = problem.outputs(kernels)(*problem.arguments)
    assert_close(found, [logZ, stat * np.eye(3)[0][:, None, None]], rtol=1e-11)


def test_shapes_are_known_without_a_call_of_a_kernel(rng):
    problem = case(rng, "samples")
    inputs = variables(problem.arguments, static=False)
    outputs = problem.outputs(door)(*inputs)
    function = pytensor.function(
        inputs, [x.shape for x in outputs[:1]], mode=PYTHON, on_unused_input="ignore"
    )
    names = [type(node.op).__name__ for node in function.maker.fgraph.toposort()]
    assert "_Chain" not in names
    assert function(*problem.arguments)[0].tolist() == [3]


def test_no_adjoint_is_called_for_the_gradient_of_log_normalizers(rng):
    problem = case(rng, "diagonal")
    inputs = variables(problem.arguments)
    slopes = pytensor.grad(problem.outputs(door)(*inputs)[0].sum(), inputs)
    function = pytensor.function(inputs, slopes, mode=PYTHON)
    names = [type(node.op).__name__ for node in function.maker.fgraph.toposort()]
    assert names.count("_Chain") == 1 and "_ChainAdjoint" not in names


def test_paths_are_those_of_the_kernels(rng):
    *arrays, lengths = markov_problem(rng, lengths=np.array([4, 1, 3]))
    uniforms = rng.uniform(size=(3, 5, 4))
    inputs = variables(arrays)
    outputs = [
        *door.viterbi(*inputs, lengths),
        door.sample_markov_chain(*inputs, uniforms, lengths),
    ]
    found = evaluate(inputs, outputs, arrays)
    paths, logprob = kernels.viterbi(*arrays, lengths)
    drawn = kernels.sample_markov_chain(*arrays, uniforms, lengths)
    assert_close(found, [paths, logprob, drawn], rtol=0)


def system(rng, with_inputs=False):
    """Draw parameters of a state-space model, one singular covariance among them."""
    A = np.array([[0.9, 0.3], [0.0, 0.8]])
    Q, P0 = np.diag([0.5, 0.0]), np.array([[1.0, 0.2], [0.2, 2.0]])
    C, R, m0 = rng.standard_normal((1, 2)), np.array([[0.3]]), rng.standard_normal(2)
    y = rng.standard_normal((3, 6, 1))
    y[1, 2] = np.nan
    rest = (rng.standard_normal((2, 1)), None, rng.standard_normal((3, 6, 1)))
    return [A, Q, C, R, m0, P0, y, *(rest if with_inputs else (None,) * 3)]


@pytest.mark.parametrize("with_inputs", [False, True])
@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [1.0, -2.0, 0.5]])
def test_log_likelihoods_are_those_of_the_standard_functions(rng, with_inputs, weights):
    A, Q, C, R, m0, P0, y, B, D, u = system(rng, with_inputs)
    lengths, weights = np.array([6, 4, 1]), np.array(weights)

    def total(A, Q, R):
        params = standard.LinearGaussian(A, Q, C, R, m0, P0, B, D)
        return (standard.log_likelihood(params, y, u, lengths) * weights).sum()

    inputs = variables([A, Q, R])
    params = standard.LinearGaussian(inputs[0], inputs[1], C, inputs[2], m0, P0, B, D)
    value = (door.log_likelihood(params, y, u, lengths) * weights).sum()
    found = evaluate(inputs, [value, *pytensor.grad(value, inputs)], [A, Q, R])
    want = [total(A, Q, R), *(grad(total, k)(A, Q, R) for k in range(3))]
    assert_close(found, want, rtol=1e-10)


def test_log_likelihoods_of_hidden_markov_models(rng):
    start, transition = rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(3), 3)
    logs = rng.standard_normal((5, 3))
    inputs = variables([start, transition, logs])
    value = door.hmm_log_likelihood(*inputs)
    assert value.ndim == 0
    arrays = [start, transition, logs]
    found = evaluate(inputs, [value, *pytensor.grad(value, inputs)], arrays)
    want = [
        standard.hmm_log_likelihood(*arrays),
        *(grad(standard.hmm_log_likelihood, k)(*arrays) for k in range(3)),
    ]
    assert_close(found, want, rtol=1e-10)


def test_second_derivatives_of_log_likelihoods(rng):
    A, Q, C, R, m0, P0, y, *_ = system(rng)
    Q = Q + 0.1 * np.eye(2)  # else these are slow

    def value(scales, log_likelihood):
        params = standard.LinearGaussian(A, scales[0] * Q, C, scales[1] * R, m0, P0)
        return (log_likelihood(params, y) * np.array([1.0, 2.0, 3.0])).sum()

    scales = pt.tensor(shape=(2,), dtype="float64")
    found = pytensor.gradient.hessian(value(scales, door.log_likelihood), scales)
    want = hessian(lambda x: value(x, standard.log_likelihood))(np.array([1.5, 0.5]))
    assert_close(evaluate([scales], found, [np.array([1.5, 0.5])]), want, rtol=1e-8)


def test_only_gradients_that_are_used_are_computed(rng):
    A, Q, C, R, m0, P0, y, *_ = system(rng)
    scale = pt.dscalar()
    params = standard.LinearGaussian(A, scale * Q, C, R, m0, P0)
    value = door.log_likelihood(params, y).sum()

    def operations(outputs):
        function = pytensor.function([scale], outputs, mode=PYTHON)
        nodes = function.maker.fgraph.toposort()
        return [n.op.wrt for n in nodes if isinstance(n.op, door._Density)]

    assert operations(value) == [()]
    assert operations([value, pytensor.grad(value, scale)]) == [(1,)]


@pytest.mark.filterwarnings("ignore:.*extra error message")
@pytest.mark.parametrize("linker", ["py", "numba"])
def test_errors_of_the_kernels_come_through(rng, linker):
    problem = case(rng, "diagonal")
    problem.arguments[5][1] = 9.0
    inputs = variables(problem.arguments)
    mode = pytensor.compile.mode.Mode(linker, None)
    with pytest.raises(NotPositiveDefinite):
        evaluate(inputs, problem.outputs(door)(*inputs)[0], problem.arguments, mode)


def test_other_numbers_are_refused():
    node = pt.tensor(shape=(1, 3, 2), dtype="float32")
    with pytest.raises(ValueError, match="node has dtype float32"):
        door.markov_chain(np.zeros(2), np.zeros((2, 2)), node)
    with pytest.raises(ValueError, match="node has shape"):
        door.markov_chain(np.zeros(2), np.zeros((2, 2)), np.zeros((3, 2)))
    with pytest.raises(TypeError, match="LinearGaussian"):
        door.log_likelihood(None, np.zeros((3, 1)))


def test_examples_of_the_module():
    assert doctest.testmod(door) == (0, 8)


def test_smoothers(rng):
    A, Q, C, R, m0, P0, y, *_ = system(rng)
    scale = pt.dscalar()
    params = standard.LinearGaussian(A, Q + 0.1 * np.eye(2), C, R, m0, P0)
    found = door.kalman_smoother(params._replace(R=scale * R), y)
    assert found.mean.type.shape == (3, 6, 2)
    want = standard.kalman_smoother(params, y)
    slope = pytensor.grad(found.mean[0, 2, 0], scale)
    *values, slope = evaluate([scale], [*found, slope], [1.0])
    assert_close(values, list(want), rtol=1e-11)

    def mean(scale):
        model = params._replace(R=scale * R)
        return standard.kalman_smoother(model, y).mean[0, 2, 0]

    assert abs(slope - grad(mean)(1.0)) < 1e-9


def test_smoothers_of_hidden_markov_models(rng):
    start, transition = rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(3), 3)
    arrays = [start, transition, rng.standard_normal((5, 3))]
    inputs = variables(arrays, static=False)
    states, _, counts, total = door.hmm_smoother(*inputs)
    found = evaluate(inputs, [states, counts, total], arrays)
    want = standard.hmm_smoother(*arrays)
    assert_close(found, [want[0], want[2], want[3]], rtol=1e-12)


def test_the_page_runs_as_it_stands():
    page = Path(__file__).parents[2] / "docs" / "interop.md"
    section = page.read_text().partition("## PyTensor")[2].partition("\n## ")[0]
    namespace = {}
    for block in re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL):
        exec(block, namespace)
    assert np.isfinite(namespace["slope"])


def test_an_axis_of_unknown_length_may_be_shared(rng):
    problem = case(rng, "markov")
    arrays = problem.inputs[1:]
    inputs = variables(arrays, static=False)
    logZ, stats = door.markov_chain(problem.arguments[0], *inputs)
    slope = pytensor.grad((logZ * np.arange(3.0)).sum(), inputs[0])
    found = evaluate(inputs, [stats[1], slope], arrays)

    def outputs(pair, node):
        logZ, stats = kernels.markov_chain(problem.arguments[0], pair, node)
        return [logZ, stats[1]]

    want = outputs(*arrays)[1]
    slopes = cotangents(outputs, arrays, [np.arange(3.0), np.zeros(want.shape)])
    assert_close(found, [want, slopes[0]], rtol=1e-11)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_example_samples(tmp_path, monkeypatch):
    pytest.importorskip("pymc_extras")
    small = "--num-years 2 --num-frames 20 --draws 5 1 --only svae"
    monkeypatch.setattr("sys.argv", ["", str(tmp_path), *small.split()])
    path = Path(__file__).parents[2] / "examples" / "interop_pytensor.py"
    runpy.run_path(str(path), run_name="__main__")
    lines = (tmp_path / "nuts.csv").read_text().splitlines()
    assert len(lines) == 3
