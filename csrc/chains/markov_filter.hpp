// What every prefix of a Markov chain says of its last step: the way up alone.
//
// The prefix of t steps has the first t nodes and the pairs between them. In the scaled
// weights of markov_chain.hpp, whose c goes with the pairs here:
//
//   predicted  p'_j = c' sum_i A_ij alpha_i       of step 0: the initial weights
//   filtered   alpha_j = b_j p_j
//
// Are doubles wide enough? Weights below e^-708 are flushed to zero, and no way back says
// what they would have come to. Either of two conditions will do:
//
//   dense   all A_ij >= 1e-100, and sum alpha >= 1e-60 at all steps: a step loses less
//           than 1e-300, which is 1e-240 of its sum, and every p'_j has at least 1e-100
//           of that; so it is off by less than 1e-130 of itself, whatever follows
//   kept    all initial weights, A_ij and alpha_j that are possible are >= 1e-150:
//           then no product of two of them is lost
//
// A sequence with neither is done once more in log space; it alone decides that.
#pragma once

#include "chains/markov_chain.hpp"

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

  SVAE_ALWAYS_INLINE void store(Index t, const V* weights,  // (K,)
                                V total, V log_normalizer) {
    V* law = probabilities_.at(t);
    const Lanes inverse = for_all(broadcast<V>(1.0) / total);
    for (Index k = 0; k < num_states_; k += span<V>)
      put(law + k, wide<V>(weights + k) * inverse);
    *log_normalizers_.at(t) = log_normalizer;
  }

  // Returns the log of the sum of the weights.
  V store_logs(Index t, const V* log_weights,  // (K,)
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

// Logarithms of all that was taken from the weights of the steps so far.
template <class V>
class PrefixScale {
 public:
  void add(V shift) { shifts_.add(shift); }
  void divide_by(V power_of_two) { exponent_ -= log2_of_power(power_of_two); }

  // of weights with that sum
  SVAE_ALWAYS_INLINE V log_normalizer(V sum) const {
    CompensatedSum<V> total = shifts_;
    total.add_times(exponent_, broadcast<V>(kLogTwo));
    total.add(log(sum));
    return total.value();
  }

 private:
  CompensatedSum<V> shifts_;
  V exponent_ = broadcast<V>(0.0);
};

// Whether doubles are wide enough, lane by lane; see above.
template <class V>
class FilterRange {
 public:
  explicit FilterRange(const MarkovPack<V>& pack) : pack_(pack) {}

  void note_init(const Lowest<V>& logs) { possible_log_ = logs.of_possible; }

  void note_pair(Index t, const Lowest<V>& logs) {
    pair_log_ = min(pair_log_, within(t, logs.of_all));
    possible_log_ = min(possible_log_, within(t, logs.of_possible));
  }

  // The sum of alpha, and the lowest of its weights that are possible.
  void note_step(Index t, V sum, V possible) {
    sum_ = min(sum_, within(t, sum));
    possible_ = min(possible_, within(t, possible));
  }

  bool is_in_range(Index w) const {
    constexpr double kLogOfDense = -230.25, kLogOfKept = -345.25;  // 1e-100, above 1e-150
    const bool is_dense =
        lane(pair_log_, w) >= kLogOfDense && lane(sum_, w) >= kSmallestSum;
    const bool is_kept = lane(possible_log_, w) >= kLogOfKept &&
                         lane(possible_, w) >= 1e-150 && lane(sum_, w) > 0.0;
    return is_dense || is_kept;
  }

 private:
  V within(Index t, V value) const {
    return pack_.within(t, value, broadcast<V>(kInfinity));
  }

  const MarkovPack<V>& pack_;
  V pair_log_ = broadcast<V>(kInfinity), possible_log_ = broadcast<V>(kInfinity);
  V sum_ = broadcast<V>(kInfinity), possible_ = broadcast<V>(kInfinity);
};

// Laws of one pack; says of each lane whether doubles were wide enough.
template <class V, class E>
void markov_filter_in_weights(const MarkovPack<V>& pack, const MarkovFiltering& result,
                              bool* is_in_range,  // (W,)
                              Workspace& workspace) {
  const Index K = pack.num_states;
  const V zero = broadcast<V>(0.0), infinity = broadcast<V>(kInfinity);
  PairWeights<V, E> pair(pack, workspace);
  RowReader<V> nodes(pack, pack.problem.potentials.node, K, 0, workspace);
  MarkovLaws<V> predicted(pack, result.predicted, workspace);
  MarkovLaws<V> filtered(pack, result.filtered, workspace);
  V* law = take_row<V>(K, workspace);
  V* alpha = take_row<V>(K, workspace);
  PrefixScale<V> scale;
  FilterRange<V> range(pack);
  V mass = zero, sum = zero;  // of law and alpha

  pack.load(pack.problem.potentials.init, 0, law);
  range.note_init(lowest(law, K, finite_maximum(law, K)));
  scale.add(shift_to_zero(law, K));
  for (Index k = 0; k < K; ++k) mass += law[k] = exp_of_nonpositive(law[k]);
  for (Index t = 0; t < pack.num_timesteps; ++t) {
    if (t > 0) {
      // p'_j = c' sum_i A_ij alpha_i
      const V c = reciprocal_power(sum);
      const E* rows = pair.rows_at(t - 1);
      mass = zero;
      send<SumOfProducts>(
          K, 0.0, [&](Index, Lanes total) { return for_all(c) * total; }, law,
          [&](Index, auto count, const V* part) {
            mass += fold<count.value>(part, Add());
          },
          transition(rows, static_cast<const V*>(alpha)));
      scale.divide_by(c);
      scale.add(pair.shift());
      if (t == 1 || !pack.problem.pair_is_shared)
        range.note_pair(t, pair.lowest_at(t - 1));
    }
    predicted.store(t, law, mass, scale.log_normalizer(mass));
    // alpha_j = b_j p_j
    const V* node = nodes.at(t);
    const V shift = finite_maximum(node, K);
    const auto weigh = [&](Index k) {
      return exp_of_nonpositive(wide<V>(node + k) - for_all(shift)) * wide<V>(law + k);
    };
    sum = fill_and_add<V>(K, weigh, alpha);
    const auto possible = [&](Index k) {
      const V weight = select(node[k] == -infinity, infinity, alpha[k]);
      return select(law[k] > zero, weight, infinity);
    };
    range.note_step(t, sum, fold<V>(K, possible, Minimum()));
    scale.add(shift);
    filtered.store(t, alpha, sum, scale.log_normalizer(sum));
  }
  predicted.finish();
  filtered.finish();
  for (Index w = 0; w < width<V>; ++w) is_in_range[w] = range.is_in_range(w);
}

// The same in log space. Messages are relative to the filtered law of their step, so that
// they do not grow:
//
//   onwards    log p'_j = logsumexp_i(log p_i + node_i + pair_ij)
template <class V>
void markov_filter_in_logs(const MarkovPack<V>& pack, const MarkovFiltering& result,
                           Workspace& workspace) {
  const Index K = pack.num_states;
  PairLogs<V, V> pair(pack, workspace);
  MarkovLaws<V> predicted(pack, result.predicted, workspace);
  MarkovLaws<V> filtered(pack, result.filtered, workspace);
  V* weights = take_row<V>(K, workspace);
  V* node = take_row<V>(K, workspace);
  V* column = take_row<V>(K, workspace);
  CompensatedSum<V> past;
  FirstFailure<V> failure;

  pack.load(pack.problem.potentials.init, 0, weights);
  for (Index t = 0; t < pack.num_timesteps; ++t) {
    failure.note(t, is_possible(pack, t, maximum(weights, K)));
    predicted.store_logs(t, weights, past.value());
    pack.load(pack.problem.potentials.node, t, node);
    add_terms(node, weights, K);
    failure.note(t, is_possible(pack, t, maximum(weights, K)));
    const V mass = filtered.store_logs(t, weights, past.value());
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

template <class V>
void markov_filter(const MarkovProblem& problem, const MarkovFiltering& result,
                   Index first, Workspace& workspace) {
  const MarkovPack<V> pack(problem, first);
  in_weights_or_logs(
      pack,
      [&](auto entry, bool* is_in_range) {
        markov_filter_in_weights<V, decltype(entry)>(pack, result, is_in_range,
                                                     workspace);
      },
      [&](const MarkovPack<V>& part) { markov_filter_in_logs(part, result, workspace); });
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
