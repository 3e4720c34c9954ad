"""The control variate: its expectation is nothing, and its gradients are right."""

import numpy as np
import pytest
from autograd import grad

import svae
from svae.autodiff.trees import to_vector
from svae.data import batch, windows
from svae.objective.batch import Batch, draw_noise
from svae.objective.bound import bound_and_gradients
from svae.objective.control_variate import control_variate


@pytest.fixture
def arguments(rng):
    shape = N, S, T, D = 2, 3, 4, 2
    weights = rng.random((N, S, T))
    return [
        rng.standard_normal((N, T, D)),
        1.0 + rng.random((N, T, D)),
        rng.standard_normal(shape),
        weights / weights.sum(axis=1, keepdims=True),
        -rng.random((N, T, D)),
        rng.standard_normal((N, T, D)),
    ]


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("dense", [True, False])
def test_value_and_gradients(arguments, weighted, dense, rng):
    mean, second, samples, weights, J, h = arguments
    if dense:
        second = second[..., None] * np.eye(2) + 0.1
    if not weighted:
        weights = None
    shares = np.full(samples.shape[:3], 1 / 3) if weights is None else weights
    squares = np.einsum("ntdd->ntd", second) if dense else second
    values = np.sum(J[:, None] * samples**2 + h[:, None] * samples, axis=-1)
    wanted = np.sum(J * squares + h * mean, axis=(1, 2))
    wanted = wanted - np.sum(shares * values, axis=(1, 2))
    args = mean, second, samples, weights, J, h
    np.testing.assert_allclose(control_variate(*args), wanted, rtol=1e-12)
    g = rng.standard_normal(2)
    for number in (0, 1, 2, 3) if weighted else (0, 1, 2):

        def of_one(x, number=number):
            swapped = [x if k == number else each for k, each in enumerate(args)]
            return np.dot(g, control_variate(*swapped))

        got = grad(lambda x: of_one(x))(args[number])
        direction = rng.standard_normal(args[number].shape)
        step = 1e-6 * direction
        slope = (of_one(args[number] + step) - of_one(args[number] - step)) / 2e-6
        np.testing.assert_allclose(np.sum(got * direction), slope, rtol=1e-6)


def gradients(model, frames, with_it, number=40):
    generative = model._generative()._replace(control_variate=with_it)
    cut = batch([frames], windows([frames], len(frames)))
    data, rng = Batch.of(cut), np.random.default_rng(0)
    found = []
    for _ in range(number):
        shape = data.values.shape[:2]
        noise = draw_noise(generative, model.parameters_.decoder, shape, 1, rng)
        inputs = model.parameters_, model.prior_, data, noise
        step = bound_and_gradients(generative, *inputs)
        found.append(
            [
                to_vector(step.gradients.natparams),
                to_vector(step.gradients.encoder),
                to_vector(step.gradients.decoder),
            ]
        )
    return [np.array(part) for part in zip(*found, strict=True)]


def test_noise_of_a_linear_start_is_next_to_nothing(rng):
    """The encoder's evidence is the decoder's likelihood: what is left is constant."""
    frames = rng.standard_normal((40, 3)).cumsum(axis=0) @ rng.standard_normal((3, 6))
    frames = frames + 0.1 * rng.standard_normal(frames.shape)
    model = svae.SVAE(svae.LDS(2)).fit(
        frames, num_steps=1, learning_rate=1e-12, natural_step=1e-12, rng=0
    )
    with_it, without = (gradients(model, frames, yes) for yes in (True, False))
    assert with_it[0].std(axis=0).max() < 1e-6 * without[0].std(axis=0).max()
    for some, others in zip(with_it, without, strict=True):
        error = np.sqrt((some.var(axis=0) + others.var(axis=0)) / len(some))
        difference = np.abs(some.mean(axis=0) - others.mean(axis=0))
        assert np.all(difference <= 5 * error + 1e-6 * np.abs(others).max())
