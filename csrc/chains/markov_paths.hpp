// Paths of a Markov chain: the most likely one, and samples.
//
// Both filter forward, by maximum or by sum, and choose states backward from the messages
// and the pair potentials or weights; no back pointers are kept.
#pragma once

#include "chains/markov_chain.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

// Messages of the most likely paths so far (Rabiner 1989, Eq. 33), in logs and shifted to
// a maximum of zero at every step:
//
//   alpha'_j = node'_j + max_i(alpha_i + pair_ij)
template <class V, class E>
class BestPathFilter {
 public:
  BestPathFilter(const MarkovPack<V>& pack, const Segments& segments,
                 Workspace& workspace)
      : pack_(pack),
        pair_(pack, workspace),
        node_(pack, pack.problem.potentials.node, pack.num_states, 0, workspace),
        alpha_(segments, message_stride<V>(pack.num_states), workspace),
        checkpoints_(segments, alpha_.last(), pack.num_states, workspace),
        init_(take_row<V>(pack.num_states, workspace)) {
    pack.load(pack.problem.potentials.init, 0, init_);
    shift_to_zero(init_, pack.num_states);
  }

  const V* alpha(Index t) const { return alpha_.at(t); }

  // Entry (i, j) at [j * padded<V>(K) + i]
  const E* pair_columns(Index t) { return pair_.columns_at(t); }

  SVAE_ALWAYS_INLINE void step(Index t, Pass pass) {
    checkpoints_.pass(t, pass);
    const V top = make_messages(t);
    if (pass == Pass::first) failure_.note(t, is_possible(pack_, t, top));
  }

  // failed_step: (N,)
  void store_failures(Index* failed_step) const { failure_.store(pack_, failed_step); }

 private:
  // Returns the maximum that was taken from alpha_t.
  SVAE_ALWAYS_INLINE V make_messages(Index t) {
    const Index K = pack_.num_states;
    V* alpha = alpha_.at(t);
    const Ahead<const double> ahead(pack_, pack_.problem.potentials.node,
                                    t + kStepsAhead);
    const V* node = node_.at(t);
    const V node_shift = finite_maximum(node, K);
    if (t == 0) {
      for (Index k = 0; k < K; ++k) alpha[k] = init_[k] + (node[k] - node_shift);
    } else {
      const auto add_node = [&](Index j, Lanes best) {
        return best + (wide<V>(node + j) - for_all(node_shift));
      };
      send<MaximumOfSums>(
          K, -kInfinity, add_node, alpha,
          [&](Index j, auto count, const V*) { ahead.ask(j, count.value); },
          transition(pair_.rows_at(t - 1), alpha_.at(t - 1)));
    }
    const V top = maximum(alpha, K);
    const V taken = select(top == broadcast<V>(-kInfinity), broadcast<V>(0.0), top);
    for (Index k = 0; k < K; k += span<V>)
      put(alpha + k, wide<V>(alpha + k) - for_all(taken));
    return top;
  }

  const MarkovPack<V>& pack_;
  PairLogs<V, E> pair_;
  RowReader<V> node_;
  KeptSteps<V> alpha_;
  Checkpoints<V> checkpoints_;
  V* init_;
  FirstFailure<V> failure_;  // the step at which no state is possible any more
};

// The lowest of the states with the highest alpha_i + pair_ij.
template <class V, class E>
Index best_state(Index K, Index w, const V* alpha,  // (K,)
                 const E* column) {                 // (K,)
  Index best = 0;
  double top = lane(alpha[0], w) + in_lane(column[0], w);
  for (Index i = 1; i < K; ++i) {
    const double value = lane(alpha[i], w) + in_lane(column[i], w);
    if (value > top) {
      top = value;
      best = i;
    }
  }
  return best;
}

// The potentials along one path, summed without the filter's roundings.
inline double path_log_weight(const MarkovProblem& problem, Index n, Index length,
                              const Index* path) {  // (length,)
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
template <class V, class E>
void viterbi(const MarkovPack<V>& pack, const MarkovDecoding& result,
             Workspace& workspace) {
  const Index K = pack.num_states;
  const Segments segments = markov_segments(pack, 1);
  BestPathFilter<V, E> filter(pack, segments, workspace);
  E* no_successor = take_row<E>(K, workspace);

  const auto up = [&](Index t, Pass pass) { filter.step(t, pass); };
  const auto turn = [&] { filter.store_failures(result.failed_step); };
  const auto down = [&](Index t) {
    const E* pair = t + 1 < pack.num_timesteps ? filter.pair_columns(t) : no_successor;
    for (Index w = 0; w < width<V>; ++w) {
      if (t >= pack.length[w]) continue;
      Index* state = result.paths.at(pack.sequence[w], 0) + t;
      const E* column =
          t + 1 < pack.length[w] ? pair + state[1] * padded<V>(K) : no_successor;
      *state = best_state(K, w, filter.alpha(t), column);
    }
  };
  there_and_back(segments, up, turn, down);
  for (Index w = 0; w < width<V>; ++w) {
    const Index n = pack.sequence[w];
    result.log_weight[n] =
        path_log_weight(pack.problem, n, pack.length[w], result.paths.at(n, 0));
  }
}

template <class V>
void viterbi(const MarkovProblem& problem, const MarkovDecoding& result, Index first,
             Workspace& workspace) {
  const MarkovPack<V> pack(problem, first);
  if (problem.potentials.pair.sequence_stride == 0)
    viterbi<V, double>(pack, result, workspace);
  else
    viterbi<V, V>(pack, result, workspace);
}

// By inverting the distribution function: the smallest k with
// uniform * total < weight_0 + .. + weight_k. `cumulative` holds these sums.
inline Index draw(Index K, const double* cumulative,  // (K,)
                  double uniform) {
  const double total = cumulative[K - 1];
  Index k = 0;
  while (k + 1 < K && !(uniform * total < cumulative[k])) ++k;
  // rounding may ask for more than all of them: the last that has a weight
  while (k > 0 && cumulative[k] == cumulative[k - 1]) --k;
  return k;
}

// Backward sampling of one pack: the last state from the filtered distribution, then each
// from p(i|j) prop. to alpha_i A_ij. Says of each lane whether doubles were wide enough:
// only the backward messages can tell what the forward ones have lost, and a state may
// have been drawn whose past is known to 1e-100 only.
template <class V, class E>
void sample_in_weights(const MarkovPack<V>& pack, const MarkovSampling& sampling,
                       bool* is_in_range,  // (W,)
                       Workspace& workspace) {
  constexpr double kSmallestTotal = 1e-100;
  const Index K = pack.num_states;
  const Segments segments = markov_segments(pack, 2);  // alpha and b
  PairWeights<V, E> pair(pack, workspace);
  MarkovFilter<V, E> filter(pack, segments, pair, workspace);
  MarkovSmoother<V, E> smoother(pack, pair, filter, workspace);
  E* no_successor = take_row<E>(K, workspace);
  double* cumulative = workspace.take<double>(K);
  bool is_known[width<V>];
  for (Index k = 0; k < K; ++k) no_successor[k] = in_lanes<E>(1.0);
  for (bool& known : is_known) known = true;

  const auto up = [&](Index t, Pass pass) { filter.step(t, pass); };
  const auto down = [&](Index t) {
    smoother.step(t, Ahead<double>());
    if (t > 0) smoother.weigh(t);
    const V* alpha = filter.alpha(t);
    const E* A = t + 1 < pack.num_timesteps ? pair.columns_at(t) : no_successor;
    for (Index w = 0; w < width<V>; ++w)
      for (Index s = 0; t < pack.length[w] && s < sampling.num_samples; ++s) {
        Index* state = sampling.paths.at(pack.sequence[w], s) + t;
        const E* column =
            t + 1 < pack.length[w] ? A + state[1] * padded<V>(K) : no_successor;
        double total = 0.0;
        for (Index i = 0; i < K; ++i)
          cumulative[i] = total =
              multiply_add(lane(alpha[i], w), in_lane(column[i], w), total);
        *state = draw(K, cumulative, sampling.uniforms.at(pack.sequence[w], s)[t]);
        is_known[w] &= total >= kSmallestTotal * lane(filter.sum(t), w);
      }
  };
  there_and_back(segments, up, [] {}, down);
  for (Index w = 0; w < width<V>; ++w)
    is_in_range[w] = is_known[w] && smoother.is_in_range(w);
}

// The same in logs.
template <class V>
void sample_in_logs(const MarkovPack<V>& pack, const MarkovSampling& sampling,
                    Workspace& workspace) {
  const Index K = pack.num_states;
  LogFilter<V> filter(pack, workspace);
  V* no_successor = take_row<V>(K, workspace);
  double* cumulative = workspace.take<double>(K);

  filter.run(no_successor);
  filter.store_failures(sampling.failed_step);

  fill_zero(no_successor, K);
  for (Index t = pack.num_timesteps - 1; t >= 0; --t) {
    const V* alpha = filter.alpha(t);
    const V* pair = t + 1 < pack.num_timesteps ? filter.pair_columns(t) : no_successor;
    for (Index w = 0; w < width<V>; ++w)
      for (Index s = 0; t < pack.length[w] && s < sampling.num_samples; ++s) {
        Index* state = sampling.paths.at(pack.sequence[w], s) + t;
        const V* column =
            t + 1 < pack.length[w] ? pair + state[1] * padded<V>(K) : no_successor;
        const Index best = best_state(K, w, alpha, column);
        const double top = lane(alpha[best], w) + lane(column[best], w);
        double total = 0.0;
        for (Index i = 0; i < K; ++i)
          cumulative[i] = total +=
              exp_of_nonpositive(lane(alpha[i], w) + lane(column[i], w) - top);
        *state = draw(K, cumulative, sampling.uniforms.at(pack.sequence[w], s)[t]);
      }
  }
}

template <class V>
void sample_markov_chain(const MarkovProblem& problem, const MarkovSampling& sampling,
                         Index first, Workspace& workspace) {
  const MarkovPack<V> pack(problem, first);
  in_weights_or_logs(
      pack,
      [&](auto entry, bool* is_in_range) {
        sample_in_weights<V, decltype(entry)>(pack, sampling, is_in_range, workspace);
      },
      [&](const MarkovPack<V>& part) { sample_in_logs(part, sampling, workspace); });
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
