"""An SVAE with a structured inference network: fits and posteriors."""

from dataclasses import replace

import numpy as np
import pytest

import svae
from svae.autodiff.trees import to_vector
from svae.families import product
from svae.objective.local import infer
from svae.testing import (
    assert_identical,
    relative_error,
)
from tests.helpers.exact import (
    with_gaps,
)
from tests.helpers.inference_networks import NAMES, laws_of_batch, network
from tests.helpers.problems import (
    problem,
    read_windows,
)


def recordings(rng, gaps=False, likelihood="gaussian"):
    """Draw ragged sequences, perhaps with gaps of all kinds."""
    kinds = ("frames", "entries", "none", "all") if gaps else ("none",) * 4
    sizes = (9, 5, 12, 4)
    sequences = [
        with_gaps(rng, (T, 3), kind) for T, kind in zip(sizes, kinds, strict=True)
    ]
    if likelihood == "bernoulli":
        sequences = [np.where(np.isnan(s), s, 1.0 * (s > 0)) for s in sequences]
    return sequences


def history(model):
    """Columns of the history that do not depend on the clock."""
    return [c for n, c in model.history_.items() if n != "seconds"]


def everything(model, sequences):
    """Call every method that takes data, and return all that they return."""
    results = [
        [tuple(posterior) for posterior in model.infer(sequences, num_samples=2)],
        model.transform(sequences),
        [tuple(r) for r in model.reconstruct(sequences, num_samples=2)],
        model.score(sequences),
        model.score(sequences, num_importance_samples=3),
        model.score(sequences, num_importance_samples=3, theta="sample"),
        model.impute(sequences, num_samples=3, num_passes=2),
        model.sample(5, rng=1),
    ]
    if hasattr(model.latent, "num_states"):
        results.append(model.predict(sequences))
    if not model.latent.independent:
        for theta in ("mean", "sample"):
            forecasts = model.forecast(sequences, 2, num_samples=3, theta=theta)
            results.append([tuple(f) for f in forecasts])
    return results


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("name", NAMES)
def test_an_svae_does_with_it_all_it_does_without(
    name, likelihood, gaps, rng, tmp_path
):
    """Same seed, same result; and what is saved is what was fitted."""
    sequences = recordings(rng, gaps, likelihood)
    options = {"likelihood": likelihood, "decoder_posterior": "gaussian"}
    first, again = (
        network(name, **options).fit(sequences, num_steps=6, batch_size=3, rng=0)
        for _ in range(2)
    )
    assert_identical(history(again), history(first))
    assert not np.any(first.history_["iterations"])
    assert not np.any(first.history_["unconverged"])
    want = everything(first, sequences)
    assert all(np.all(np.isfinite(part)) for part in flat_numbers(want))
    first.save(tmp_path / "model.npz")
    loaded = svae.load(tmp_path / "model.npz")
    assert loaded.inference == "sin"
    assert_identical(everything(loaded, sequences), want)
    assert_identical(everything(again, sequences), want)
    if likelihood == "bernoulli":
        frames = first.impute(sequences[0])
        assert np.all((frames >= 0) & (frames <= 1))


def flat_numbers(tree):
    """List the arrays of a tree; None left out."""
    if tree is None:
        return []
    if isinstance(tree, (tuple, list)):
        return [leaf for branch in tree for leaf in flat_numbers(branch)]
    return [np.asarray(tree, dtype=float)]


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_sequence_alone_has_the_posterior_it_has_among_others(name, gaps, rng):
    sequences = recordings(rng, gaps)
    model = network(name).fit(sequences, num_steps=4, rng=0)
    among = model.infer(sequences, num_samples=1)
    for sequence, want in zip(sequences, among, strict=True):
        alone = model.infer(sequence, num_samples=1)
        assert_identical(tuple(alone)[:-1], tuple(want)[:-1])
    assert_identical(model.transform(sequences), [p.mean for p in among])


@pytest.mark.parametrize(
    "options",
    [
        {"context": 3},
        {"hide": 2},
        {"context": 2, "hide": 3},
        {"warmup": 3},
        {"warmup": 0},
    ],
    ids=["context", "hide", "both", "warm-up", "clusters"],
)
@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("name", ["hmm", "lds", "affine-lds"])
def test_windows_and_warm_ups(name, options, gaps, rng):
    sequences = recordings(rng, gaps)
    arguments = {"num_steps": 5, "window": 4, "batch_size": 4, "rng": 0} | options
    model, again = (network(name).fit(sequences, **arguments) for _ in range(2))
    assert all(np.all(np.isfinite(column)) for column in history(model))
    assert_identical(history(again), history(model))
    assert np.all(np.isfinite(model.transform(sequences[1])))


@pytest.mark.parametrize("name", ["hmm", "lds"])
def test_context_is_what_q_says_of_the_frame_before(name, rng):
    """The belief of a window comes from the graph, not from the prior."""
    model, parameters, *_ = problem(f"sin-{name}")
    frames = rng.standard_normal((9, 3))
    cut = np.array([[0, 0, 4], [0, 4, 9]])
    batch, unconverged = read_windows(model, parameters, [frames], cut, rng, context=4)
    assert unconverged == 0
    first = replace(
        batch, values=frames[None, :4], lengths=None, observed=None, belief=None
    )
    (law,) = laws_of_batch(model, parameters, first)
    cov = law.second_moment[3] - np.outer(law.mean[3], law.mean[3])
    assert relative_error(np.linalg.inv(-2 * batch.belief.J[1]), cov) < 1e-10
    if name == "hmm":
        assert np.max(np.abs(np.exp(batch.belief.states[1]) - law.states[3])) < 1e-12
    message = product.expected_stats(model.latent.family, parameters.natparams)
    local = infer(model, message, parameters.encoder, batch)
    laws = laws_of_batch(model, parameters, batch)
    assert relative_error(local.kl, [law.kl(message) for law in laws]) < 1e-10


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_starts_as_the_message(name, rng):
    """After a warm-up, too, when q(theta) is fitted to the latents."""
    sequences = recordings(rng)
    starts = []

    def keep(step, record):
        raise StopIteration

    for options in ({"warmup": None}, {"warmup": 2}):
        if name == "gmm" and options["warmup"]:
            continue
        model = network(name)
        with pytest.raises(StopIteration):
            model.fit(
                sequences,
                1,
                rng=0,
                callback=keep,
                learning_rate=1e-12,
                natural_step=1e-12,
                **options,
            )
        parameters = model.parameters_
        family = model.latent.family
        message = product.expected_stats(family, parameters.natparams)
        got, want = parameters.encoder["graph"], product.to_free(family, message)
        assert relative_error(to_vector(got), to_vector(want)) < 1e-8
        starts.append(to_vector(want))
    assert len(starts) == 1 or np.max(np.abs(starts[0] - starts[1])) > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_training_raises_the_bound(name, rng):
    sequences = [np.cumsum(rng.standard_normal((20, 3)), axis=0) / 3 for _ in range(3)]
    model = network(name).fit(sequences, num_steps=60, learning_rate=1e-2, rng=0)
    objective = model.history_["objective"]
    assert np.mean(objective[-10:]) > np.mean(objective[:10]) + 50
    assert not np.any(model.history_["backtracks"])
