// A few long Markov chains, each on all lanes and all threads.
#pragma once

#include <vector>

#include "kernels.hpp"

namespace svae {

// Does those sequences of a problem that are long, if few are all; says of which they
// are done. Call it without the interpreter's lock.
std::vector<bool> run_markov_chunks(const MarkovProblem& problem,
                                    const MarkovResult& result);

}  // namespace svae
