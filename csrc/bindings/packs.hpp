// The packs of one call onto threads, and a failure in one of them into an exception.
#pragma once

#include <algorithm>

#include "bindings/arrays.hpp"
#include "threads/pool.hpp"

namespace svae {

// Sequences of at most num_timesteps, `work` operations on lanes a step. If so few are
// left after the packs that are full, each of them is one.
struct Packs {
  Index num_sequences, lanes, num_timesteps;
  double work;
  Index few;

  Index num_single() const {
    const Index rest = num_sequences % lanes;
    return rest <= few ? rest : 0;
  }
  Index count() const {
    const Index single = num_single();
    return (num_sequences - single + lanes - 1) / lanes + single;
  }
  Index first(Index pack) const {
    const Index num_full = num_sequences / lanes;
    return std::min(pack, num_full) * lanes + std::max(pack - num_full, Index(0));
  }
  // One past the last sequence of the pack that begins with this one.
  Index stop(Index first) const {
    if (first < num_sequences / lanes * lanes) return first + lanes;
    return num_single() > 0 ? first + 1 : num_sequences;
  }

  // Calls task(first, workspace) for every pack.
  template <class Task>
  void run(const Task& task) const {
    run_parallel(count(), work * double(num_timesteps),
                 [&](Index pack, Workspace& workspace) { task(first(pack), workspace); });
  }
};

// Calls task(first, workspace) for every pack, without the interpreter's lock; raises
// svae.errors.<error> for the first sequence that failed.
template <class Task>
void run_packs(const Packs& packs, const char* error,
               const std::vector<Index>& failed_step, const Task& task) {
  prepare_threads();
  {
    py::gil_scoped_release released;
    packs.run(task);
  }
  raise_failure(error, failed_step);
}

}  // namespace svae
