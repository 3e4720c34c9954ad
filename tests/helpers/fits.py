"""Fits that are killed and resumed, also in processes of their own."""

import os
import runpy
import signal

import svae
from svae.training import step as fit

NETWORK = svae.MLP((6,))
FRAMES = svae.synthetic.switching_lds(num_blocks=4, block_length=30, rng=0).frames
# all that a training state can hold: a warm-up, memory, several starts, scores
JOBS = {
    "slds": (
        lambda: svae.SVAE(svae.SLDS(2, 2), NETWORK, NETWORK),
        FRAMES[:90],
        {
            "num_steps": 50,
            "warmup": 8,
            "warm_start": True,
            "context": 3,
            "hide": 2,
            "n_init": 2,
            "held_out": FRAMES[90:],
            "score_every": 7,
        },
    ),
    "lds": (
        lambda: svae.SVAE(svae.LDS(2), NETWORK, NETWORK, decoder_posterior="gaussian"),
        [FRAMES[:50], FRAMES[50:]],
        {"num_steps": 60},
    ),
    "gmm": (
        lambda: svae.SVAE(svae.GMM(4, 2), NETWORK, NETWORK, inference="sin"),
        svae.data.pinwheel(rng=0)[0],
        {"num_steps": 60, "warmup": 10, "batch_size": 20},
    ),
}
COMMON = {"window": 20, "batch_size": 2, "learning_rate": 1e-2, "rng": 5}


def run(name, folder, resume=True, started=None, **changed):
    make, data, options = JOBS[name]
    if started is not None:
        started.send("started")
    options = COMMON | options | {"checkpoint_interval": 0.0} | changed
    return make().fit(data, checkpoint=folder, resume=resume, **options)


def killed_within(folder, stop, where):
    step, replace, count = fit.step, os.replace, []

    def dying_step(*arguments):
        result = step(*arguments)
        count.append(1)
        if len(count) == stop and where == "step":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    def dying_replace(*paths):
        if len(count) == stop and where == "save":
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*paths)

    fit.step, os.replace = dying_step, dying_replace
    run("lds", folder)


def process(context, name, *arguments):
    """Return a process that is to call a function of this file.

    It runs the file, for no other process than that of pytest can import it.
    """
    call = {"CALL": (name, arguments)}
    return context.Process(target=runpy.run_path, args=(__file__, call, "__main__"))


if __name__ == "__main__":
    name, arguments = CALL  # noqa: F821
    {"run": run, "killed_within": killed_within}[name](*arguments)
