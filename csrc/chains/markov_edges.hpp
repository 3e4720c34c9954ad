// The forward messages of one sequence at a few steps, the edges of its chunks.
//
// Given the messages that arrive at its edges from both sides, every chunk of a chain is
// a chain by itself. Those from behind are the forward messages of the chain reversed:
// there and back can run at the same time.
#pragma once

#include "chains/markov_chain.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

inline void markov_edges(const MarkovProblem& problem, const MarkovEdges& edges, Index n,
                         Workspace& workspace) {
  constexpr Budget kFewSteps = {0, Index(1) << 18};
  const MarkovPack<double> pack(problem, n);
  const Index K = pack.num_states;
  const Index bytes = 2 * message_stride<double>(K + 1) * Index(sizeof(double));
  PairWeights<double, double> pair(pack, workspace);
  MarkovFilter<double, double> filter(pack, {pack.num_timesteps, bytes, kFewSteps}, pair,
                                      workspace);
  Index edge = 0;
  for (Index t = 0; t < pack.num_timesteps; ++t) {
    filter.step(t, Pass::first);
    if (edge == edges.count || t != edges.first + edge * edges.distance) continue;
    copy(filter.alpha(t), edges.messages.at(0, edge++), K);
  }
  *edges.log_normalizer = filter.log_normalizer();
  *edges.is_in_range = filter.is_in_range(0);
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
