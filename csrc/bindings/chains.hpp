// What the bindings of the chains have in common with the chains that are lent.
#pragma once

#include "bindings/gaussian_chunks.hpp"
#include "bindings/packs.hpp"

namespace svae {

template <class Problem>
Packs packs_of(const Problem& problem, Index num_timesteps) {
  Packs packs{};
  packs.num_sequences = problem.num_sequences;
  packs.lanes = kernels().gaussian_lanes(problem.latent_dim);
  packs.num_timesteps = num_timesteps;
  // Single sequences go to BLAS, which has threads of its own: one of ours is enough.
  packs.work = packs.lanes > 1 ? work_of_step(problem) : 0;
  return packs;
}

inline Packs packs_of(const MarkovProblem& problem, Index num_timesteps) {
  const double K = double(problem.num_states);
  Packs packs{};
  packs.num_sequences = problem.num_sequences;
  packs.lanes = kernels().lanes;
  packs.few = kernels().few_markov_chains(problem.num_states);
  packs.num_timesteps = num_timesteps;
  packs.work = 4 * K * K + 50 * K;
  return packs;
}

// Whether potentials and noise of the sequences first, ..., stop - 1 are numbers.
bool are_numbers(const GaussianProblem& problem, double limit, Index first, Index stop);
bool are_numbers(const MarkovProblem& problem, double limit, Index first, Index stop);

// Whether results of these sequences are, and stay such if those of all are summed.
bool are_summable(const GaussianProblem& problem, const GaussianResult& result,
                  Index first, Index stop);

}  // namespace svae
