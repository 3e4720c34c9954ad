"""The number of threads changes nothing but the time, in a forked process too."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

import svae
from svae.autodiff.trees import leaves
from svae.testing import assert_identical, cotangents, gaussian_problem, markov_problem

# Enough work that the pool is used: a short call stays on its own thread.
SIZES = dict(N=65, T=60)


@pytest.fixture
def num_threads():
    """Put the number of threads back when a test is done."""
    before = svae.get_num_threads()
    yield svae.set_num_threads
    svae.set_num_threads(before)


def results(kernels, gaussian, markov, uniforms):
    """Return all that the kernels compute, gradients included."""
    init, pair, node, noise, lengths = gaussian
    args = leaves((init, pair, node, noise))

    def gaussian_outputs(J0, h0, J11, J12, J22, Jn, hn, noise):
        init, pair, node = (J0, h0), (J11, J12, J22), (Jn, hn)
        return leaves(kernels.gaussian_chain(init, pair, node, noise, lengths))

    def markov_outputs(*args):
        return leaves(kernels.markov_chain(*args, markov.lengths))

    everything = []
    for f, x in ((gaussian_outputs, args), (markov_outputs, markov[:3])):
        outputs = f(*x)
        everything += [*outputs, *cotangents(f, x, outputs)]
    paths = kernels.sample_markov_chain(*markov[:3], uniforms, markov.lengths)
    return [*everything, *kernels.viterbi(*markov), paths]


@pytest.fixture
def problems(rng):
    """Return a ragged problem for either chain, with many packs of sequences."""
    lengths = rng.integers(1, SIZES["T"] + 1, SIZES["N"])
    return (
        gaussian_problem(rng, D=8, lengths=lengths, **SIZES),
        markov_problem(rng, K=12, lengths=lengths, **SIZES),
        rng.random((SIZES["N"], 2, SIZES["T"])),
    )


def test_any_number_of_threads_gives_the_same_bits(kernels, problems, num_threads):
    num_threads(1)
    want = results(kernels, *problems)
    for count in (2, 8, 3, 1):
        num_threads(count)
        assert svae.get_num_threads() == count
        assert_identical(results(kernels, *problems), want)


def test_calls_from_several_python_threads(kernels, problems, num_threads):
    num_threads(2)
    gaussian, markov, _ = problems
    want = kernels.gaussian_chain(*gaussian), kernels.markov_chain(*markov)

    def call(_):
        return kernels.gaussian_chain(*gaussian), kernels.markov_chain(*markov)

    with ThreadPoolExecutor(4) as executor:
        for got in executor.map(call, range(40)):
            assert_identical(got, want)


@pytest.mark.parametrize("count", [0, -1, 1025, 2000, 2**40])
def test_a_number_of_threads_out_of_range_is_refused(num_threads, count):
    before = svae.get_num_threads()
    with pytest.raises(ValueError, match=f"num_threads is {count}, wanted 1 to 1024"):
        num_threads(count)
    assert svae.get_num_threads() == before


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@on_linux
def test_threads_that_are_not_wanted_any_more_end(kernels, problems, num_threads):
    def threads():
        return len(os.listdir("/proc/self/task"))

    gaussian, _, _ = problems
    want = kernels.gaussian_chain(*gaussian)
    num_threads(1)
    before = threads()
    for count in (6, 2, 9, 1):
        num_threads(count)
        assert_identical(kernels.gaussian_chain(*gaussian), want)
        assert threads() - before == count - 1


NO_THREADS = """
import os, resource, sys
gigabyte = 2**30
_, most = resource.getrlimit(resource.RLIMIT_STACK)
if resource.getrlimit(resource.RLIMIT_STACK)[0] != gigabyte:
    # what a new process gives to the stack of each of its threads
    resource.setrlimit(resource.RLIMIT_STACK, (gigabyte, most))
    os.execv(sys.executable, [sys.executable, "-c", sys.orig_argv[-1]])

import numpy as np
import svae
from svae import kernels

rng = np.random.default_rng(0)
init, pair, node = np.zeros(8), np.zeros((8, 8)), rng.standard_normal((128, 1000, 8))
svae.set_num_threads(1)
want, _ = kernels.markov_chain(init, pair, node)
page = os.sysconf("SC_PAGE_SIZE")
used = int(open("/proc/self/statm").read().split()[0]) * page
unlimited = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (used + 5 * gigabyte // 2, unlimited[1]))
svae.set_num_threads(16)
for _ in range(3):
    got, _ = kernels.markov_chain(init, pair, node)
    assert np.array_equal(got, want)
few = len(os.listdir("/proc/self/task"))
resource.setrlimit(resource.RLIMIT_AS, unlimited)
got, _ = kernels.markov_chain(init, pair, node)
assert np.array_equal(got, want)
many = len(os.listdir("/proc/self/task"))
svae.set_num_threads(1)
print(few < 16 <= many, len(os.listdir("/proc/self/task")) < many)
"""


@on_linux
def test_where_the_system_refuses_threads_fewer_do_the_work(run_python):
    done = run_python(NO_THREADS, OPENBLAS_NUM_THREADS="1")
    assert done.stdout.strip() == "True True", done.stderr


def test_the_environment_sets_the_number_of_threads(run_python):
    done = run_python(
        "import svae; print(svae.get_num_threads())", SVAE_NUM_THREADS="3"
    )
    assert done.stdout.strip() == "3", done.stderr


def test_the_environment_has_the_same_bounds(run_python):
    done = run_python("import svae", SVAE_NUM_THREADS="2000")
    assert done.returncode == 1
    assert "SVAE_NUM_THREADS=2000 is not a number of threads, 1 to 1024" in done.stderr


@pytest.mark.parametrize("name", ["SVAE_NUM_THREADS", "SVAE_ISA"])
def test_a_meaningless_setting_is_named(run_python, name):
    done = run_python("import svae", **{name: "many"})
    assert done.returncode == 1, "the interpreter must stop with an exception"
    assert name in done.stderr
    assert "many" in done.stderr


FORK = """
import os, sys, warnings
import numpy as np
import svae
from svae import kernels

warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads: on purpose
svae.set_num_threads(3)
rng = np.random.default_rng(0)
one = np.eye(6)
init, pair = (-one, np.ones(6)), (-one, one / 2, -one)
node = -np.ones((64, 400, 6)), rng.standard_normal((64, 400, 6))
logZ, _, _ = kernels.gaussian_chain(init, pair, node)
def check():
    again, _, _ = kernels.gaussian_chain(init, pair, node)
    return np.array_equal(logZ, again)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_computes_the_same(run_python):
    code = FORK + (
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0 if check() else 1)\n"
        "_, status = os.waitpid(child, 0)\n"
        "print(status, check())\n"
    )
    done = run_python(code)
    assert done.stdout.strip() == "0 True", done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_workers_compute_the_same(run_python):
    code = FORK + (
        "import multiprocessing\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "    print(pool.apply(check), pool.apply(check), check())\n"
    )
    done = run_python(code)
    assert done.stdout.strip() == "True True True", done.stderr
