// Markov chains for one instruction set.
#include "chains/markov_chain_vjp.hpp"
#include "chains/markov_edges.hpp"
#include "chains/markov_filter.hpp"
#include "chains/markov_paths.hpp"
#include "instances/instances.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

// So many Markov chains one after the other take less time than a pack of them. Alone one
// takes, at 10, 30 and 100 states, the 2.4th, 4.7th and 5th part with eight lanes, the
// 1.8th, 2.9th and 3.2nd with four, and with two the 1.7th, 2.1st and 2.2nd.
Index few_markov_chains(Index num_states) {
  const Index more = num_states < 16 ? 0 : 1;
  return width<Lanes> == 8 ? 2 + more : width<Lanes> == 4 ? 1 + more : 1;
}

// Packs of Markov chains, or single ones where few are left.
template <class Outputs>
using MarkovKernel = void(const MarkovProblem&, const Outputs&, Index, Workspace&);

template <class Outputs, MarkovKernel<Outputs>* kPack, MarkovKernel<Outputs>* kSingle>
void run_markov(const MarkovProblem& problem, const Outputs& outputs, Index first,
                Workspace& workspace) {
  const bool are_few =
      problem.num_sequences - first <= few_markov_chains(problem.num_states);
  (are_few ? kSingle : kPack)(problem, outputs, first, workspace);
}

void run_markov_chain(const MarkovProblem& problem, const MarkovResult& outputs,
                      Index first, Workspace& workspace) {
  run_markov<MarkovResult, markov_chain<Lanes>, markov_chain<double>>(problem, outputs,
                                                                      first, workspace);
}

void run_markov_chain_vjp(const MarkovProblem& problem, const MarkovAdjoint& outputs,
                          Index first, Workspace& workspace) {
  run_markov<MarkovAdjoint, markov_chain_vjp<Lanes>, markov_chain_vjp<double>>(
      problem, outputs, first, workspace);
}

void run_markov_filter(const MarkovProblem& problem, const MarkovFiltering& outputs,
                       Index first, Workspace& workspace) {
  run_markov<MarkovFiltering, markov_filter<Lanes>, markov_filter<double>>(
      problem, outputs, first, workspace);
}

void run_viterbi(const MarkovProblem& problem, const MarkovDecoding& outputs, Index first,
                 Workspace& workspace) {
  run_markov<MarkovDecoding, viterbi<Lanes>, viterbi<double>>(problem, outputs, first,
                                                              workspace);
}

void run_sample_markov_chain(const MarkovProblem& problem, const MarkovSampling& outputs,
                             Index first, Workspace& workspace) {
  run_markov<MarkovSampling, sample_markov_chain<Lanes>, sample_markov_chain<double>>(
      problem, outputs, first, workspace);
}

void run_markov_edges(const MarkovProblem& problem, const MarkovEdges& edges, Index n,
                      Workspace& workspace) {
  markov_edges(problem, edges, n, workspace);
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
