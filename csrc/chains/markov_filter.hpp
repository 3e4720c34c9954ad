// What every prefix of a Markov chain says of its last step: the way up alone, in log
// space, so that potentials may have any spread.
//
// The prefix of t steps has the first t nodes and the pairs between them:
//
//   predicted  log p_j                                of step 0: the initial potential
//   filtered   log p_j + node_j
//   onwards    log p'_j = logsumexp_i(log p_i + node_i + pair_ij)
//
// Messages are relative to the filtered law of their step, so that they do not grow; log
// Z is the sum of what was taken from them.
#pragma once

#include "chains/markov_log.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

// Writes the log normalizers and the probabilities of one law for each step.
template <class V>
class MarkovLaws {
 public:
  MarkovLaws(const MarkovPack<V>& pack, const MarkovPrefixes& prefixes,
             Workspace& workspace)
      : num_states_(pack.num_states),
        log_normalizers_(pack, prefixes.log_normalizer, 1, 0, workspace),
        probabilities_(pack, prefixes.probabilities, pack.num_states, 0, workspace) {}

  // Returns the log of the sum of the weights.
  V store(Index t, const V* log_weights,  // (K,)
          V past) {
    V* law = probabilities_.at(t);
    copy(log_weights, law, num_states_);
    const V mass = normalise(law, num_states_);
    *log_normalizers_.at(t) = past + mass;
    return mass;
  }

  void finish() {
    log_normalizers_.finish();
    probabilities_.finish();
  }

 private:
  Index num_states_;
  RowWriter<V> log_normalizers_, probabilities_;
};

template <class V>
void markov_filter(const MarkovProblem& problem, const MarkovFiltering& result,
                   Index first, Workspace& workspace) {
  const MarkovPack<V> pack(problem, first);
  const Index K = pack.num_states;
  PairLogs<V, V> pair(pack, workspace);
  MarkovLaws<V> predicted(pack, result.predicted, workspace);
  MarkovLaws<V> filtered(pack, result.filtered, workspace);
  V* weights = take_row<V>(K, workspace);
  V* node = take_row<V>(K, workspace);
  V* column = take_row<V>(K, workspace);
  CompensatedSum<V> past;
  FirstFailure<V> failure;

  pack.load(problem.potentials.init, 0, weights);
  for (Index t = 0; t < pack.num_timesteps; ++t) {
    failure.note(t, is_possible(pack, t, maximum(weights, K)));
    predicted.store(t, weights, past.value());
    pack.load(problem.potentials.node, t, node);
    add_terms(node, weights, K);
    failure.note(t, is_possible(pack, t, maximum(weights, K)));
    const V mass = filtered.store(t, weights, past.value());
    if (t + 1 == pack.num_timesteps) break;
    past.add(mass);
    const V* columns = pair.columns_at(t);
    for (Index k = 0; k < K; ++k) node[k] = weights[k] - mass;
    for (Index j = 0; j < K; ++j) {
      for (Index i = 0; i < K; i += span<V>)
        put(column + i, wide<V>(node + i) + wide<V>(columns + j * padded<V>(K) + i));
      weights[j] = normalise(column, K);
    }
    past.add(pair.shift());
  }
  predicted.finish();
  filtered.finish();
  failure.store(pack, result.failed_step);
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
