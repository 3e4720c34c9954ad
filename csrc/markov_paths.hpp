// Paths of a Markov chain: the most likely one, and samples.
//
// Both filter forward, by maximum or by sum (markov_log.hpp), and choose states
// backward from the messages and the shifted pair potentials; no back pointers are kept.
#pragma once

#include "markov_log.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

// The lowest of the states with the highest alpha_i + pair_ij.
template <class V>
Index best_state(Index K, Index w, const V* alpha, const V* column) {
  Index best = 0;
  for (Index i = 1; i < K; ++i)
    if (lane(alpha[i], w) + lane(column[i], w) >
        lane(alpha[best], w) + lane(column[best], w))
      best = i;
  return best;
}

// The potentials along one path, summed without the filter's roundings.
inline double path_log_weight(const MarkovProblem& problem, Index n, Index length,
                              const Index* path) {
  const Index K = problem.num_states;
  CompensatedSum<double> sum;
  sum.add(problem.potentials.init.at(n, 0)[path[0]]);
  for (Index t = 0; t < length; ++t) {
    sum.add(problem.potentials.node.at(n, t)[path[t]]);
    if (t + 1 < length)
      sum.add(problem.potentials.pair.at(n, t)[path[t] * K + path[t + 1]]);
  }
  return sum.value();
}

// The most likely path (Rabiner 1989, Eqs. 30-35) of every sequence of one pack.
template <class V>
void viterbi(const MarkovProblem& problem, const MarkovDecoding& result, Index first,
             Workspace& workspace) {
  const MarkovPack<V> pack(problem, first);
  const Index K = pack.num_states;
  LogFilter<V> filter(pack, workspace);
  V* no_successor = workspace.take<V>(K);

  filter.start();
  for (Index t = 1; t < pack.num_timesteps; ++t) {
    filter.predict_best(t - 1);
    filter.absorb(t);
  }
  filter.report(result.failed_step);

  fill_zero(no_successor, K);
  for (Index t = pack.num_timesteps - 1; t >= 0; --t) {
    const V* pair = t + 1 < pack.num_timesteps ? filter.pair(t) : no_successor;
    for (Index w = 0; w < width<V>; ++w) {
      if (t >= pack.length[w]) continue;
      Index* state = result.paths.at(pack.sequence[w], 0) + t;
      const V* column = t + 1 < pack.length[w] ? pair + state[1] * K : no_successor;
      *state = best_state(K, w, filter.alpha(t), column);
    }
  }
  for (Index w = 0; w < width<V>; ++w) {
    if (pack.length[w] == 0) continue;
    const Index n = pack.sequence[w];
    result.log_weight[n] =
        path_log_weight(problem, n, pack.length[w], result.paths.at(n, 0));
  }
}

// The smallest k with  uniform * total < weight_0 + .. + weight_k,  weight_i =
// exp(alpha_i + pair_ij): by inverting the distribution function of p(i|j).
template <class V>
Index draw_state(Index K, Index w, const V* alpha, const V* column, double uniform,
                 double* cumulative) {
  const Index best = best_state(K, w, alpha, column);
  const double top = lane(alpha[best], w) + lane(column[best], w);
  double total = 0.0;
  for (Index i = 0; i < K; ++i)
    cumulative[i] = total += __builtin_exp(lane(alpha[i], w) + lane(column[i], w) - top);
  for (Index i = 0; i < K; ++i)
    if (uniform * total < cumulative[i]) return i;
  return best;
}

// Backward sampling: the last state from the filtered distribution, then each from
// p(i|j).
template <class V>
void sample_markov_chain(const MarkovProblem& problem, const MarkovSampling& sampling,
                         Index first, Workspace& workspace) {
  const MarkovPack<V> pack(problem, first);
  const Index K = pack.num_states;
  LogFilter<V> filter(pack, workspace);
  V* no_successor = workspace.take<V>(K);
  double* cumulative = workspace.take<double>(K);

  filter.run(no_successor);
  filter.report(sampling.failed_step);

  fill_zero(no_successor, K);
  for (Index t = pack.num_timesteps - 1; t >= 0; --t) {
    const V* pair = t + 1 < pack.num_timesteps ? filter.pair(t) : no_successor;
    for (Index w = 0; w < width<V>; ++w)
      for (Index s = 0; t < pack.length[w] && s < sampling.num_samples; ++s) {
        const double uniform = sampling.uniforms.at(pack.sequence[w], s)[t];
        Index* state = sampling.paths.at(pack.sequence[w], s) + t;
        const V* column = t + 1 < pack.length[w] ? pair + state[1] * K : no_successor;
        *state = draw_state(K, w, filter.alpha(t), column, uniform, cumulative);
      }
  }
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
