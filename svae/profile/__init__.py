"""How fast the compiled chains are on this machine, and what that is measured against.

`run` times them and returns a `Report`; `table` writes it as text, `plot` draws it
under the roofs of the machine (Williams et al. 2009), `save` keeps it. `peers.compare`
times other packages on the same problems. `run_steps` times whole training steps
instead, beside the matrix products of their networks; `run(long_cases())` a single
sequence that gets longer and longer. `compare` prints the figures of two saved reports
beside each other. On the command line::

    svae profile --out runs/profile
    svae profile --long
    svae profile --steps
    svae profile --compare runs/here/profile.json runs/there/profile.json

What the columns say:

ns/step
    Nanoseconds per step of one sequence of the public function with everything it
    returns: for an lds the log normalizer, expected statistics and one sample.
goal
    What the figure before it is meant to be on the machine that `svae.profile.goals`
    names; nothing where none was stated.
GFLOP/s
    Of *stated* operations, `FLOPS`: an lds counts 7 D^3 + 15 D^2 a step in all its
    variants, an hmm 6 K^2. Exponentials and copies count nothing, so this says how long
    the algebra takes with all that it needs done around it.
% of DGEMM, % of FMA
    Of what NumPy's matrix product (n = 1000) and a loop of multiply-adds in registers
    reached in the same run. See `Roofs`.
compiled
    The same without the checks of the arguments, which read all of them.
adjoint
    The VJP in all potentials and the noise of all statistics and samples at once,
    called alone, also in its relation to the compiled forward pass; it does that again
    inside. See `Problem.adjoint`.
memory
    Inputs, outputs and what else the call held at its peak, relative to inputs and
    outputs, for the forward pass and for the adjoint. See `svae.profile.memory`.
reference
    `svae.reference` on the first steps of such a problem, its time per step relative to
    that of the compiled chain on all steps, and the largest error of any output on
    those first steps, relative to the largest entry of that output (of paths: how many
    steps differ).

All is timed on one core, except where threads are compared, with one thread of BLAS
(`svae.training.blas`), whose kernels are named (`svae.profile.blas`). Calls are timed
in turns and the median is kept. Other processes on the machine still show: compare
what stands in one report, and mind its load.
"""

from svae.profile import peers
from svae.profile.cases import FLOPS, KERNELS, Case, cases
from svae.profile.clock import Roofs
from svae.profile.compare import compare
from svae.profile.lengths import doubling_threads, long_cases
from svae.profile.memory import Peak, memory_table, peak, peaks
from svae.profile.peers import Comparison
from svae.profile.problems import Problem
from svae.profile.report import steps_table, table
from svae.profile.roofline import plot
from svae.profile.saving import save, save_steps
from svae.profile.steps import (
    WORKLOADS,
    StepRecord,
    StepReport,
    Workload,
    run_steps,
)
from svae.profile.timing import Record, Report, run

__all__ = [
    "FLOPS",
    "KERNELS",
    "WORKLOADS",
    "Case",
    "Comparison",
    "Peak",
    "Problem",
    "Record",
    "Report",
    "Roofs",
    "StepRecord",
    "StepReport",
    "Workload",
    "cases",
    "compare",
    "doubling_threads",
    "long_cases",
    "memory_table",
    "peak",
    "peaks",
    "peers",
    "plot",
    "run",
    "run_steps",
    "save",
    "save_steps",
    "steps_table",
    "table",
]
