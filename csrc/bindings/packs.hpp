// The packs of one call onto threads, and a failure in one of them into an exception.
#pragma once

#include "bindings/arrays.hpp"
#include "threads/pool.hpp"

namespace svae {

// Sequences of at most num_timesteps, `work` operations on lanes a step.
struct Packs {
  Index num_sequences, lanes, num_timesteps;
  double work;
};

// Calls task(first, workspace) for every pack, without the interpreter's lock; raises
// svae.errors.<error> for the first sequence that failed.
template <class Task>
void run_packs(const Packs& packs, const char* error,
               const std::vector<Index>& failed_step, const Task& task) {
  const Index lanes = packs.lanes;
  prepare_threads();
  {
    py::gil_scoped_release released;
    run_parallel(
        (packs.num_sequences + lanes - 1) / lanes,
        packs.work * double(packs.num_timesteps),
        [&](Index pack, Workspace& workspace) { task(pack * lanes, workspace); });
  }
  raise_failure(error, failed_step);
}

}  // namespace svae
