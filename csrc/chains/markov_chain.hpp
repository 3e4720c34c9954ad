// Inference in a Markov chain z_1..z_T over K states: log normalizer and expected
// statistics.
//
//   p(z)  prop. to  exp( init[z_1] + sum_t node_t[z_t] + sum_t pair_t[z_t, z_{t+1}] )
//
// Forward and backward messages (Rabiner 1989, Eqs. 19-27 with the scaling of section
// V.A), where a prime marks step t+1:
//
//   alpha'_j = b'_j sum_i A_ij alpha_i       A = exp(pair - max),  b = c exp(node - max)
//   beta_i   = sum_j A_ij v'_j               v = b o beta
//   gamma_i  = alpha_i beta_i                xi_ij = alpha_i A_ij v'_j
//
// c = 2^-e with 2^e <= sum alpha < 2^(e+1) of the step before: a scale that rounds
// nothing, whose logarithm is a whole number, and which does not wait for the step
// itself. beta starts as 1 / sum alpha at the last step; the b carry the scales of alpha,
// so sum_i alpha_i beta_i = 1 at every step, up to rounding that is taken out now and
// then.
//
// Are doubles wide enough? Weights below e^-708 are flushed to zero. As long as
//
//   sum alpha >= 1e-60 and beta_i <= 1e100  for all steps and states,
//
// what a step loses of alpha is below 1e-240 of its sum, and weighs at most beta: log Z
// and all probabilities are off by less than 1e-130, even after 1e6 steps. That the beta
// at hand bound the true ones needs an addition: v' may have lost up to 1e-147 each
// (c' < 2e60, beta' <= 1e100), and a message that is lost both ways would be missed by
// either. So beta_i = 1e-140 + sum_j A_ij v'_j, which is never less than the truth, and
// adds less than 1e-130 to any probability; those below 1e-120 are given as exact zeros,
// so that the impossible stays impossible. A sequence that leaves these bounds is done
// once more in log space (markov_log.hpp); it alone decides that.
#pragma once

#include "chains/markov_log.hpp"
#include "chains/markov_messages.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

constexpr double kSmallestSum = 1e-60;  // of alpha
constexpr double kLargestBeta = 1e100;
constexpr double kBetaFloor = 1e-140;
constexpr double kNegligible = 1e-120;  // as a probability
constexpr Index kStepsOfDrift = 16;

// Forward messages, and the sums of their logarithmic scales.
template <class V, class E>
class MarkovFilter {
 public:
  MarkovFilter(const MarkovPack<V>& pack, const Segments& segments,
               PairWeights<V, E>& pair, Workspace& workspace)
      : pack_(pack),
        pair_(pair),
        node_(pack, pack.problem.potentials.node, pack.num_states, 0, workspace),
        alpha_(segments, message_stride<V>(pack.num_states + 1), workspace),
        weights_(segments, message_stride<V>(pack.num_states), workspace),
        checkpoints_(segments, alpha_.last(), pack.num_states + 1, workspace),
        init_(take_row<V>(pack.num_states, workspace)) {
    pack.load(pack.problem.potentials.init, 0, init_);
    log_scale_.add(shift_to_zero(init_, pack.num_states));
    for (Index k = 0; k < pack.num_states; ++k) init_[k] = exp_of_nonpositive(init_[k]);
  }

  const V* alpha(Index t) const { return alpha_.at(t); }
  const KeptSteps<V>& alpha_rows() const { return alpha_; }
  V sum(Index t) const { return alpha_.at(t)[pack_.num_states]; }  // of alpha
  const V* weights(Index t) const { return weights_.at(t); }       // b

  SVAE_ALWAYS_INLINE void step(Index t, Pass pass) {
    checkpoints_.pass(t, pass);
    const V node_shift = make_messages(t);
    if (pass == Pass::again) return;
    log_scale_.add(node_shift);  // zero in lanes that have ended
    if (t > 0 && !pack_.problem.pair_is_shared)
      log_scale_.add(pack_.within(t, pair_.shift(), broadcast<V>(0.0)));
    note(t);
  }

  V log_normalizer() {
    if (pack_.problem.pair_is_shared && pack_.num_timesteps > 1)
      log_scale_.add_times(pack_.lengths - broadcast<V>(1.0), pair_.shift());
    log_scale_.add_times(exponent_, broadcast<V>(kLogTwo));
    log_scale_.add(log(last_sum_));
    return log_scale_.value();
  }

  bool is_in_range(Index w) const { return lane(smallest_sum_, w) >= kSmallestSum; }

 private:
  // Makes alpha_t and its b; returns what was taken from the log potentials.
  SVAE_ALWAYS_INLINE V make_messages(Index t) {
    const Index K = pack_.num_states;
    V* alpha = alpha_.at(t);
    V* weights = weights_.at(t);
    const V scale = t > 0 ? reciprocal_power(sum(t - 1)) : broadcast<V>(1.0);
    const Ahead<const double> ahead(pack_, pack_.problem.potentials.node,
                                    t + kStepsAhead);
    const V* node = node_.at(t);
    const V shift = finite_maximum(node, K);
    for (Index k = 0; k < K; k += span<V>)
      put(weights + k,
          for_all(scale) * exp_of_nonpositive(wide<V>(node + k) - for_all(shift)));
    V total = broadcast<V>(0.0);
    if (t == 0) {
      for (Index k = 0; k < K; ++k) total += alpha[k] = weights[k] * init_[k];
    } else {
      // alpha'_j = b'_j sum_i A_ij alpha_i
      send<SumOfProducts>(
          K, 0.0, [&](Index j, Lanes sum) { return wide<V>(weights + j) * sum; }, alpha,
          [&](Index j, auto count, const V* part) {
            ahead.ask(j, count.value);
            total += fold<count.value>(part, Add());
          },
          transition(pair_.rows_at(t - 1), alpha_.at(t - 1)));
    }
    alpha[K] = total;
    return shift;
  }

  void note(Index t) {
    const V total = sum(t), infinity = broadcast<V>(kInfinity);
    const V exponent = t > 0 ? log2_of_power(reciprocal_power(sum(t - 1))) : V{};
    if (t + 1 < pack_.shortest) {
      exponent_ -= exponent;
      smallest_sum_ = min(smallest_sum_, total);
    } else {
      exponent_ -= pack_.within(t, exponent, V{});
      smallest_sum_ = min(smallest_sum_, pack_.within(t, total, infinity));
      last_sum_ = pack_.at_last_step(t, total, last_sum_);
    }
  }

  const MarkovPack<V>& pack_;
  PairWeights<V, E>& pair_;
  RowReader<V> node_;
  KeptSteps<V> alpha_, weights_;
  Checkpoints<V> checkpoints_;  // of alpha
  V* init_;
  CompensatedSum<V> log_scale_;
  V exponent_ = broadcast<V>(0.0);
  V smallest_sum_ = broadcast<V>(kInfinity);
  V last_sum_ = broadcast<V>(1.0);
};

// `value` where the probability is not negligible, else exactly zero
template <class V>
SVAE_ALWAYS_INLINE V unless_negligible(V probability, V value) {
  return select(probability > broadcast<V>(kNegligible), value, broadcast<V>(0.0));
}

// Probabilities x_k y_k of exclusive events, of which one happens `count` times on
// average. What rounding left over is taken out, so that the certain has exactly 1.
template <class V, class X>
SVAE_ALWAYS_INLINE void probabilities(Index size, const X* x,  // (size,)
                                      const V* y,              // (size,)
                                      V count, V* values) {    // (size,)
  const auto product = [&](Index k) {
    const Lanes probability = wide<V>(x + k) * wide<V>(y + k);
    return unless_negligible(probability, probability);
  };
  const V total = fill_and_add<V>(size, product, values);
  const V error = (count - total) / count;
  for (Index k = 0; k < size; k += span<V>) {
    const Lanes value = wide<V>(values + k);
    put(values + k, value + value * for_all(error));
  }
}

// Backward messages, and what they make of the next step's weights.
template <class V, class E>
class MarkovSmoother {
 public:
  MarkovSmoother(const MarkovPack<V>& pack, PairWeights<V, E>& pair,
                 const MarkovFilter<V, E>& filter, Workspace& workspace)
      : pack_(pack),
        pair_(pair),
        filter_(filter),
        beta_(take_row<V>(pack.num_states, workspace)),
        block_(pack.num_states, workspace) {
    if (!pack.problem.end.data) return;
    end_ = take_row<V>(pack.num_states, workspace);
    pack.load(pack.problem.end, 0, end_);
    shift_to_zero(end_, pack.num_states);
    for (Index k = 0; k < pack.num_states; ++k) end_[k] = exp_of_nonpositive(end_[k]);
  }

  const V* beta() const { return beta_; }
  const StepBlock<V>& block() const { return block_; }  // of v', at the step before

  // Makes beta_t, zero in lanes without that step; returns the factor that took the drift
  // out.
  SVAE_ALWAYS_INLINE V step(Index t, const Ahead<double>& ahead) {
    if (t + 1 < pack_.num_timesteps) receive(t, ahead);
    if (t + 1 >= pack_.shortest) join(t);
    return t % kStepsOfDrift == 0 ? normalise(t) : broadcast<V>(1.0);
  }

  // v = b o beta
  SVAE_ALWAYS_INLINE const V* weigh(Index t) {
    const V* b = filter_.weights(t);
    V* v = block_.at(t - 1);
    for (Index k = 0; k < pack_.num_states; k += span<V>)
      put(v + k, wide<V>(b + k) * wide<V>(beta_ + k));
    return v;
  }

  bool is_in_range(Index w) const {
    return filter_.is_in_range(w) && lane(largest_, w) <= kLargestBeta;
  }

 private:
  // beta_i = 1e-140 + sum_j A_ij v'_j
  SVAE_ALWAYS_INLINE void receive(Index t, const Ahead<double>& ahead) {
    const Index K = pack_.num_states;
    send<SumOfProducts>(
        K, kBetaFloor, [](Index, Lanes sum) { return sum; }, beta_,
        [&](Index i, auto count, const V* part) {
          ahead.ask(i, count.value);
          largest_ = max(largest_, fold<count.value>(part, Maximum()));
        },
        transition(pair_.columns_at(t), static_cast<const V*>(block_.at(t))));
  }

  void join(Index t) {
    const Index K = pack_.num_states;
    const V one = broadcast<V>(1.0), zero = broadcast<V>(0.0);
    const V sum = end_ ? dot(K, filter_.alpha(t), end_) : filter_.sum(t);
    for (Index k = 0; k < K; ++k) {
      const V last = (end_ ? end_[k] : one) / sum;
      beta_[k] = pack_.at_last_step(t, last, pack_.within(t, beta_[k], zero));
    }
    if (end_) largest_ = max(largest_, maximum(beta_, K));
  }

  V normalise(Index t) {
    const Index K = pack_.num_states;
    const V one = broadcast<V>(1.0), total = dot(K, filter_.alpha(t), beta_);
    const V factor = pack_.within(t, one / total, one);
    for (Index k = 0; k < K; ++k) beta_[k] *= factor;
    return factor;
  }

  const MarkovPack<V>& pack_;
  PairWeights<V, E>& pair_;
  const MarkovFilter<V, E>& filter_;
  V* beta_;
  StepBlock<V> block_;
  V* end_ = nullptr;               // what beta is at the last step, but for its scale
  V largest_ = broadcast<V>(0.0);  // of the betas
};

// sum_ij += sum_t x_i(t) y_j(t) over the given steps of one block
template <class V>
void add_outer_products(Index K, const KeptSteps<V>& x,  // (T, K)
                        const StepBlock<V>& y,           // (T, K)
                        Index t, Index steps, V* sum) {  // (K, padded K)
  for_states<kTileStates>(K, [&](Index i, auto rows) {
    for_states<kTileStates>(padded<V>(K) / span<V>, [&](Index part, auto columns) {
      const Index j = part * span<V>, stride = padded<V>(K);
      add_outer_tile<rows.value, columns.value>(steps, x.at(t) + i, x.stride(),
                                                y.at(t) + j, y.stride(),
                                                sum + i * stride + j, stride);
    });
  });
}

// From rows that are padded to rows one after the other.
template <class V>
void close_up(Index K, V* matrix) {  // (K, padded K)
  if constexpr (span<V> > 1)
    for (Index i = 1; i < K; ++i)
      for (Index j = 0; j < K; ++j) matrix[i * K + j] = matrix[i * padded<V>(K) + j];
}

// Calls add(t, steps) for the pairs from step t on that are to be summed, once all of
// them have been visited on the way back, and store(t) for every sum that is complete: of
// one pair each, or of all if they share a potential.
template <class V, class Add, class Store>
void sum_pairs(const MarkovPack<V>& pack, Index t, const Add& add, const Store& store) {
  const Index num_pairs = pack.num_timesteps - 1;
  if (t >= num_pairs) return;
  if (!pack.problem.pair_is_shared) {
    add(t, 1);
    store(t);
  } else if (t % kStepsOfSum == 0) {
    add(t, min(num_pairs - t, kStepsOfSum));
    if (t == 0) store(0);
  }
}

// How many those sums are over, in each lane.
template <class V>
V pairs_of_a_sum(const MarkovPack<V>& pack) {
  const V one = broadcast<V>(1.0);
  return pack.problem.pair_is_shared ? pack.lengths - one : one;
}

// Statistics of one pack; says of each lane whether doubles were wide enough.
template <class V, class E>
void markov_chain_in_weights(const MarkovPack<V>& pack, const MarkovResult& result,
                             bool* is_in_range,  // (W,)
                             Workspace& workspace) {
  const Index K = pack.num_states;
  const Segments segments = markov_segments(pack, 2);  // alpha and b
  PairWeights<V, E> pair(pack, workspace);
  MarkovFilter<V, E> filter(pack, segments, pair, workspace);
  MarkovSmoother<V, E> smoother(pack, pair, filter, workspace);
  RowWriter<V> node_stat(pack, result.stats.node, K, 0, workspace);
  PairWriter<V> pair_stat(pack, result.stats.pair, K * K, pack.problem.pair_is_shared,
                          workspace);
  V* sum = take_row<V>(K * padded<V>(K), workspace);
  const V num_pairs = pairs_of_a_sum(pack);

  const auto up = [&](Index t, Pass pass) { filter.step(t, pass); };
  const auto turn = [&] {
    pack.store_each(filter.log_normalizer(), result.log_normalizer);
  };
  const auto down = [&](Index t) {
    smoother.step(t, Ahead<double>(pack, result.stats.node, t - kStepsAhead));
    // gamma_i = alpha_i beta_i
    V* gamma = node_stat.at(t);
    probabilities(K, filter.alpha(t), smoother.beta(), broadcast<V>(1.0), gamma);
    if (t == 0) pack.store(gamma, result.stats.init, 0);
    // xi_ij = A_ij alpha_i v'_j
    sum_pairs(
        pack, t,
        [&](Index begin, Index steps) {
          add_outer_products(K, filter.alpha_rows(), smoother.block(), begin, steps, sum);
        },
        [&](Index pair_step) {
          close_up(K, sum);
          probabilities(K * K, pair.at(pair_step), sum, num_pairs,
                        pair_stat.at(pair_step));
          fill_zero(sum, K * padded<V>(K));
        });
    if (t > 0) smoother.weigh(t);
  };
  there_and_back(segments, up, turn, down);
  node_stat.finish();
  pair_stat.finish();
  for (Index w = 0; w < width<V>; ++w) is_in_range[w] = smoother.is_in_range(w);
}

// The pack that has to be done in log space is handed to `rescue`, if there is any.
template <class V, class Rescue>
void rescue_out_of_range(const MarkovPack<V>& pack, const bool* is_in_range,  // (W,)
                         const Rescue& rescue) {
  bool chosen[width<V>], any = false;
  for (Index w = 0; w < width<V>; ++w) any |= chosen[w] = !is_in_range[w];
  if (any) rescue(pack.only(chosen));
}

// Calls in_weights(entry), an entry being a number of the matrices of pairs: one for all
// lanes where the sequences share them.
template <class V, class InWeights>
void with_entry(const MarkovPack<V>& pack, const InWeights& in_weights) {
  if (pack.problem.potentials.pair.sequence_stride == 0)
    in_weights(0.0);
  else
    in_weights(V{});
}

// Calls in_weights(entry, is_in_range), which says of each lane whether doubles were wide
// enough, then in_logs(pack) for those that need it.
template <class V, class InWeights, class InLogs>
void in_weights_or_logs(const MarkovPack<V>& pack, const InWeights& in_weights,
                        const InLogs& in_logs) {
  bool is_in_range[width<V>];
  with_entry(pack, [&](auto entry) { in_weights(entry, is_in_range); });
  rescue_out_of_range(pack, is_in_range, in_logs);
}

// Log normalizer and expected statistics of one pack.
template <class V>
void markov_chain(const MarkovProblem& problem, const MarkovResult& result, Index first,
                  Workspace& workspace) {
  const MarkovPack<V> pack(problem, first);
  bool is_in_range[width<V>];
  with_entry(pack, [&](auto entry) {
    markov_chain_in_weights<V, decltype(entry)>(pack, result, is_in_range, workspace);
  });
  if (problem.end.data)
    for (Index w = 0; w < width<V>; ++w)
      result.failed_step[pack.sequence[w]] = is_in_range[w] ? -1 : 0;
  else
    rescue_out_of_range(pack, is_in_range, [&](const MarkovPack<V>& part) {
      markov_chain_in_logs(part, result, workspace);
    });
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
