// Few long Gaussian chains, each in chunks of time (chains/gaussian_chunks.hpp).
#pragma once

#include "kernels.hpp"

namespace svae {

// Whether any of the sequences goes in chunks: so few of them leave lanes idle, and that
// one is long enough. Neither threads nor the instruction set decide.
bool any_in_chunks(Index num_sequences, Index latent_dim, const Index* lengths);
template <class Problem>
bool any_in_chunks(const Problem& problem) {
  return any_in_chunks(problem.num_sequences, problem.latent_dim, problem.lengths);
}

// Computes the problem, its adjoint or filter: those sequences in chunks, the others as
// ever. Call prepare_threads() first, and these without the interpreter's lock.
void run_in_chunks(const GaussianProblem& problem, const GaussianResult& result);
void run_in_chunks(const SwitchingProblem& problem, const SwitchingResult& result);
void run_vjp_in_chunks(const GaussianProblem& problem, const GaussianAdjoint& adjoint);
void run_vjp_in_chunks(const SwitchingProblem& problem, const SwitchingAdjoint& adjoint);
void run_filter_in_chunks(const GaussianProblem& problem,
                          const GaussianFiltering& filtering);

// How many numbers the rows of all states have, K F.
Index size_of_rows(const SwitchingProblem& problem);

// Operations on lanes a step, about, by which work is handed to threads.
double work_of_step(const GaussianProblem& problem);
double work_of_step(const SwitchingProblem& problem);

}  // namespace svae
