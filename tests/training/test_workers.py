"""Windows evaluated by the workers of an executor: the same sums, whoever is lost."""

import os
import pickle
import signal
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from functools import partial
from multiprocessing import active_children, get_context

import numpy as np
import pytest

import svae
from svae import NotPositiveDefinite, data
from svae.__main__ import main
from svae.autodiff.trees import to_vector
from svae.testing import assert_identical, relative_error
from svae.training import workers
from svae.training.workers import Sharded, default_num_workers

NETWORK = svae.MLP((6,))
FRAMES = svae.synthetic.switching_lds(num_blocks=6, block_length=30, rng=0).frames
SEQUENCES = [FRAMES[:70], FRAMES[70:75], FRAMES[75:]]
OPTIONS = {"num_steps": 12, "window": 10, "batch_size": 5, "rng": 0}


def gapped():
    frames = [sequence.copy() for sequence in SEQUENCES]
    frames[0][[3, 9, 10]] = np.nan
    frames[2][20, 1] = np.nan
    return frames


MODELS = {
    "gaussian": (svae.Gaussian(2), {}),
    "gmm": (svae.GMM(3, 2), {}),
    "student": (svae.StudentMixture(3, 2), {"warm_start": True}),
    "hmm": (svae.HMM(3, 2), {"context": 4, "hide": 2, "warm_start": True}),
    "lds": (svae.LDS(2), {"context": 4}),
    "slds": (svae.SLDS(2, 2), {"warmup": 5, "context": 3, "warm_start": True}),
}


def make(name, **options):
    options = {"likelihood": "gaussian"} | options
    return svae.SVAE(MODELS[name][0], NETWORK, NETWORK, **options)


class Here(Executor):
    """Run everything at once, through pickle, as in several processes."""

    def __init__(self, num_workers=2, lose=()):
        self.num_workers, self.lose = num_workers, set(lose)
        self.sent, self.shards, self.kept = [], [], [{} for _ in range(num_workers)]

    def submit(self, function, *arguments):
        future, number = Future(), len(self.sent)
        content = pickle.dumps((function, arguments))
        self.sent.append(len(content))
        self.shards.append(bool(arguments[2]))
        if number in self.lose:
            future.set_exception(BrokenExecutor(f"call {number} was lost"))
            return future
        function, arguments = pickle.loads(content)
        worker = self.kept[number % len(self.kept)]
        before, workers._kept = workers._kept, worker
        try:
            future.set_result(pickle.loads(pickle.dumps(function(*arguments))))
        except Exception as error:
            future.set_exception(pickle.loads(pickle.dumps(error)))
        finally:
            workers._kept = before
        return future


def assert_same_fit(got, want, tolerance=1e-9):
    for name, column in want.history_.items():
        if name != "seconds":
            assert relative_error(got.history_[name], column) < tolerance, name
    parameters = (to_vector(tuple(model.parameters_)) for model in (got, want))
    assert relative_error(*parameters) < tolerance


@pytest.mark.parametrize("num_workers", [1, 2, 5])
@pytest.mark.parametrize("name", MODELS)
def test_sums_are_those_of_one_process(name, num_workers):
    options = OPTIONS | MODELS[name][1]
    alone = make(name).fit(gapped(), **options)
    shared = make(name).fit(
        gapped(), executor=Here(), num_workers=num_workers, **options
    )
    assert_same_fit(shared, alone)


@pytest.mark.parametrize(
    "words",
    [
        {"inference": "sin"},
        {"decoder_posterior": "gaussian"},
        {"natural_gradient": "conjugate"},
        {"natural_gradient": "none"},
    ],
    ids=lambda words: "-".join(words.values()),
)
def test_every_kind_of_gradient_is_a_sum(words):
    options = OPTIONS | {"num_samples": 2, "natural_step": 1e-3}
    alone = make("lds", **words).fit(SEQUENCES, **options)
    shared = make("lds", **words).fit(SEQUENCES, executor=Here(3), **options)
    assert_same_fit(shared, alone)


def test_data_travel_once():
    """A worker is sent a shard when it first needs it, and never again."""
    wide = np.random.default_rng(0).standard_normal((400, 300))
    executor = Here(2)
    make("lds").fit(wide, executor=executor, **OPTIONS | {"num_steps": 80})
    sent, shards = np.array(executor.sent), np.array(executor.shards)
    # both workers need all 16 shards; what was asked for may reach the other worker
    assert sent[shards].sum() < 4 * wide.nbytes
    assert not np.any(shards[len(shards) // 2 :])
    assert sent[~shards].max() < wide.nbytes / 16


@pytest.mark.parametrize("context", [0, 4])
@pytest.mark.parametrize("num_workers", [1, 2, 3, 7])
def test_shards_cover_every_window_once(num_workers, context):
    windows = data.windows(SEQUENCES, 5)
    sharded = Sharded(Here(), SEQUENCES, windows, context, num_workers)
    bounds, shards = sharded._bounds, sharded._shards
    number = workers.SHARDS_OF_WORKER * num_workers
    assert len(shards) == len(bounds) - 1 <= number
    assert (bounds[0], bounds[-1]) == (0, len(FRAMES))
    starts = sharded._positions(windows)
    owners = np.searchsorted(bounds, starts, side="right") - 1
    assert set(owners) == set(range(len(shards)))
    for (index, start, stop), owner in zip(windows, owners, strict=True):
        first = max(0, start - context)
        read = workers.Held([shards[owner][index]])[first:stop]
        assert_identical(read, SEQUENCES[index][first:stop])
    held = [sum(len(s.frames) for s in shard.values()) for shard in shards]
    assert max(held) <= len(FRAMES) / number + 10 + context * len(SEQUENCES)


def test_what_is_held_of_a_sequence_is_read_by_its_own_numbers():
    held = workers.Held([workers.Stretch(0, FRAMES[:7]), workers.Stretch(20, FRAMES)])
    assert_identical(held[2:7], FRAMES[2:7])
    assert_identical(held[25:30], FRAMES[5:10])
    assert held.shape[1] == 2
    with pytest.raises(IndexError, match="steps 5:9 are elsewhere"):
        held[5:9]


@pytest.mark.parametrize("num_parts", [1, 2, 3, 8])
def test_windows_are_dealt_out_evenly(num_parts, rng):
    for _ in range(50):
        shards = rng.integers(0, 8 * num_parts, 12)
        parts = workers._deal(shards, num_parts)
        assert_identical(np.sum(parts, axis=0), np.ones(12))
        for shard in np.unique(shards):  # whole shards
            assert sum(np.any(part[shards == shard]) for part in parts) == 1
        counts = [part.sum() for part in parts]
        assert min(counts) > 0
        largest = np.bincount(shards).max()
        assert max(counts) <= max(largest, 12 / num_parts + largest)


def test_of_recordings_only_references_travel(tmp_path):
    wide = np.random.default_rng(0).standard_normal((400, 300))
    np.save(tmp_path / "wide.npy", wide)
    mapped = np.load(tmp_path / "wide.npy", mmap_mode="r")
    executor = Here(2)
    shared = make("lds").fit(mapped, executor=executor, **OPTIONS)
    assert any(executor.shards)
    assert max(executor.sent) < 400 * 300 * 8 / 4
    assert_same_fit(shared, make("lds").fit(wide, **OPTIONS))


def test_of_other_recordings_a_stretch_is_read_and_sent():
    class Elsewhere:
        def __init__(self, frames):
            self.frames, self.shape = frames, frames.shape

        def __getitem__(self, key):
            return self.frames[key]

        def __reduce__(self):
            raise TypeError("this is a handle of something open")

    executor = Here(2)
    shared = make("lds").fit(Elsewhere(FRAMES), executor=executor, **OPTIONS)
    assert_same_fit(shared, make("lds").fit(FRAMES, **OPTIONS))


def pool(number=2):
    return ProcessPoolExecutor(number, get_context("spawn"))


def test_a_pool_of_processes_that_loses_one():
    """The function makes a new pool, and the step is done again."""
    options, killed = OPTIONS | MODELS["slds"][1], []
    alone = make("slds").fit(SEQUENCES, **options)

    def kill(step, record):
        if step == 6:
            killed.extend(child.pid for child in active_children())
            os.kill(killed[0], signal.SIGKILL)

    shared = make("slds").fit(
        SEQUENCES, executor=pool, num_workers=2, callback=kill, **options
    )
    assert len(killed) == 2
    assert_same_fit(shared, alone)


def test_a_pool_that_nothing_replaces_says_what_does():
    with pool() as executor:

        def kill(step, record):
            if step == 3:
                os.kill(active_children()[0].pid, signal.SIGKILL)

        with pytest.raises(
            RuntimeError, match=r"ProcessPoolExecutor broke .*given a function that"
        ):
            make("lds").fit(
                SEQUENCES, executor=executor, num_workers=2, callback=kill, **OPTIONS
            )


def test_a_function_that_makes_executors():
    made = []

    def another():
        made.append(Here(2, lose={4} if len(made) < 2 else ()))
        return made[-1]

    shared = make("lds").fit(SEQUENCES, executor=another, **OPTIONS)
    assert len(made) == 3
    assert_same_fit(shared, make("lds").fit(SEQUENCES, **OPTIONS))


def test_an_executor_that_cannot_be_replaced():
    with pytest.raises(RuntimeError, match="executor: a worker died and Here broke"):
        make("lds").fit(SEQUENCES, executor=Here(lose={6}), **OPTIONS)


def test_workers_that_are_always_lost():
    always = partial(Here, lose=range(99))
    with pytest.raises(RuntimeError, match="lost workers 5 times in a row"):
        make("lds").fit(SEQUENCES, executor=always, **OPTIONS)


def test_an_error_in_a_worker_names_the_row_of_the_batch(monkeypatch):
    """Not that of the part which the worker was given."""
    batches = []

    def failing(sequences, *arguments):
        batches.append(arguments[4].cut)
        if len(batches) % 2 == 0:
            raise NotPositiveDefinite(1, 7)
        return evaluate(sequences, *arguments)

    evaluate = workers.evaluate
    monkeypatch.setattr(workers, "evaluate", failing)
    options = OPTIONS | {"batch_size": 99}
    with pytest.raises(NotPositiveDefinite) as raised:
        make("lds").fit(SEQUENCES, executor=Here(), **options)
    whole = np.random.default_rng(0)
    svae.training.step.initial_state(make("lds")._generative(), 2, whole)
    cut = data.windows(SEQUENCES, 10)
    order = cut[whole.permutation(len(cut))]
    assert raised.value.step == 7
    assert_identical(order[raised.value.sequence], batches[1][1])


def test_threads_are_refused():
    with ThreadPoolExecutor(2) as executor, pytest.raises(TypeError, match="threads"):
        make("lds").fit(SEQUENCES, executor=executor, **OPTIONS)
    with pytest.raises(TypeError, match="executor must be"):
        make("lds").fit(SEQUENCES, executor=4, **OPTIONS)


def test_steps_are_divided_by_the_workers_that_an_executor_publishes():
    class OfMpi:
        num_workers = 5

    assert default_num_workers(OfMpi()) == 5
    with ProcessPoolExecutor(3) as executor:  # which keeps that to itself
        assert default_num_workers(executor) == (os.cpu_count() or 1)


def test_a_worker_forgets_the_fit_before():
    executor = Here(1)
    for _ in range(2):
        make("lds").fit(SEQUENCES, executor=executor, **OPTIONS)
    assert len(executor.kept[0]) == 1


@pytest.mark.filterwarnings("default")
def test_a_dask_cluster_that_loses_a_worker():
    distributed = pytest.importorskip("distributed")
    options, killed = OPTIONS | MODELS["slds"][1], []
    alone = make("slds").fit(SEQUENCES, **options)
    quiet = {"dashboard_address": None, "silence_logs": 50}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, **quiet) as cluster,
        distributed.Client(cluster) as client,
    ):
        assert default_num_workers(client) == 2

        def kill(step, record):
            if step == 6:
                killed.extend(client.run(os.getpid).values())
                os.kill(killed[0], signal.SIGKILL)

        shared = make("slds").fit(
            SEQUENCES,
            executor=client,
            callback=kill,
            **options,
        )
        client.wait_for_workers(2, timeout=60)
        after = set(client.run(os.getpid).values())
    assert killed[0] not in after
    assert len(after) == 2
    assert_same_fit(shared, alone)


def test_the_command_line_has_workers(tmp_path):
    np.save(tmp_path / "frames.npy", FRAMES)
    words = ["fit", "lds", str(tmp_path / "frames.npy"), "--latent-dim", "2"]
    words += ["--num-steps", "8", "--window", "20", "--hidden", "6", "--quiet"]
    assert main([*words, "--out", str(tmp_path / "a")]) == 0
    shared = [*words, "--out", str(tmp_path / "b"), "--workers", "2"]
    assert main(shared) == 0
    a, b = (svae.load(tmp_path / name / "model.npz") for name in "ab")
    assert_same_fit(b, a)


def test_workers_share_the_steps_of_a_trial(monkeypatch):
    """Both fits, of four fifths of the data and of all, have shards of their own."""
    monkeypatch.setattr("svae.training.plan.MOST_STEPS", 8)
    network = svae.Residual((6,), weight_scale=None)
    angle = np.linspace(0.0, 40.0, 180)[:, None] * np.arange(1, 7)
    bent = 5 * np.cos(angle) + 0.2 * np.random.default_rng(0).standard_normal((180, 6))
    options = {"batch_size": 2, "window": 60, "score_every": 2, "rng": 0}
    options["learning_rate"] = 1e-2
    alone, shared = (
        svae.SVAE(svae.LDS(2), network, network).fit(bent, executor=each, **options)
        for each in (None, Here())
    )
    assert len(alone.history_["objective"]) > 0
    scores = [model.trial_["score"] for model in (alone, shared)]
    np.testing.assert_allclose(*scores, rtol=1e-9)
    objectives = [model.history_["objective"] for model in (alone, shared)]
    np.testing.assert_allclose(*objectives, rtol=1e-9)
