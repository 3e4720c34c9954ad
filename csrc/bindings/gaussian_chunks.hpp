// Few long Gaussian chains, each in chunks of time (chains/gaussian_chunks.hpp).
#pragma once

#include "kernels.hpp"

namespace svae {

// Whether any of the sequences goes in chunks: so few of them leave lanes idle, and that
// one is long enough. Neither threads nor the instruction set decide.
bool any_in_chunks(const GaussianProblem& problem);

// Computes the problem, its adjoint or filter: those sequences in chunks, the others as
// ever. Call prepare_threads() first, and these without the interpreter's lock.
void run_in_chunks(const GaussianProblem& problem, const GaussianResult& result);
void run_vjp_in_chunks(const GaussianProblem& problem, const GaussianAdjoint& adjoint);
void run_filter_in_chunks(const GaussianProblem& problem,
                          const GaussianFiltering& filtering);

}  // namespace svae
