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

#include "markov_log.hpp"
#include "markov_messages.hpp"

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
  MarkovFilter(const MarkovPack<V>& pack, PairWeights<V, E>& pair, Workspace& workspace)
      : pack_(pack),
        pair_(pair),
        node_(pack, pack.problem.potentials.node, pack.num_states, 0, workspace),
        segment_(segment_length(pack.num_timesteps, pack.num_states)),
        alpha_(pack.num_timesteps, segment_, pack.num_states + 1, workspace),
        weights_(pack.num_timesteps, segment_, pack.num_states, workspace),
        init_(workspace.take<V>(pack.num_states)) {}

  Index segment() const { return segment_; }
  const V* alpha(Index t) const { return alpha_.at(t); }
  Index alpha_stride() const { return alpha_.stride(); }
  V sum(Index t) const { return alpha_.at(t)[pack_.num_states]; }  // of alpha
  const V* weights(Index t) const { return weights_.at(t); }       // b

  // All steps; calls body(t) after each.
  template <class Body>
  void run(const Body& body) {
    start();
    for (Index t = 0; t < pack_.num_timesteps; ++t) {
      const V node_shift = step(t);
      log_scale_.add(node_shift);  // zero in lanes that have ended
      if (t > 0 && !pack_.problem.pair_is_shared)
        log_scale_.add(pack_.within(t, pair_.shift(), broadcast<V>(0.0)));
      note(t);
      body(t);
    }
    begin_ = (pack_.num_timesteps - 1) / segment_ * segment_;
  }

  // For the way back: makes the messages of the segment of step t again.
  template <class Body>
  void revisit(Index t, const Body& body) {
    if (t >= begin_) return;
    begin_ -= segment_;
    for (Index s = begin_; s <= t; ++s) {
      step(s);
      body(s);
    }
  }

  V log_normalizer() {
    if (pack_.problem.pair_is_shared && pack_.num_timesteps > 1)
      log_scale_.add_times(pack_.lengths - broadcast<V>(1.0), pair_.shift());
    log_scale_.add_times(exponent_, broadcast<V>(0x1.62e42fefa39efp-1));  // log 2
    log_scale_.add(log(last_sum_));
    return log_scale_.value();
  }

  bool is_in_range(Index w) const { return lane(smallest_sum_, w) >= kSmallestSum; }

 private:
  void start() {
    pack_.load(pack_.problem.potentials.init, 0, init_);
    log_scale_.add(shift_to_zero(init_, pack_.num_states));
    for (Index k = 0; k < pack_.num_states; ++k) init_[k] = exp_of_nonpositive(init_[k]);
  }

  // Makes alpha_t and its b; returns what was taken from the log potentials.
  SVAE_ALWAYS_INLINE V step(Index t) {
    const Index K = pack_.num_states;
    V* alpha = alpha_.next(t);
    V* weights = weights_.next(t);
    const V scale = t > 0 ? reciprocal_power(sum(t - 1)) : broadcast<V>(1.0);
    const V* node = node_.at(t);
    const V shift = finite_maximum(node, K);
    for (Index k = 0; k < K; ++k)
      weights[k] = scale * exp_of_nonpositive(node[k] - shift);
    V total = broadcast<V>(0.0);
    if (t == 0) {
      for (Index k = 0; k < K; ++k) total += alpha[k] = weights[k] * init_[k];
    } else {
      // alpha'_j = b'_j sum_i A_ij alpha_i
      const E* A = pair_.at(t - 1);
      const V* previous = alpha_.at(t - 1);
      for_states<kStates>(K, [&](Index j, auto count) {
        V predicted[count.value] = {};
        add_product<count.value>(K, A, previous, j, predicted);
#pragma GCC unroll 16
        for (int c = 0; c < count.value; ++c)
          total += alpha[j + c] = weights[j + c] * predicted[c];
      });
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
  Index segment_;
  SegmentRows<V> alpha_, weights_;
  V* init_;
  Index begin_ = 0;  // of the segment at hand
  CompensatedSum<V> log_scale_;
  V exponent_ = broadcast<V>(0.0);
  V smallest_sum_ = broadcast<V>(kInfinity);
  V last_sum_ = broadcast<V>(1.0);
};

template <class V>
SVAE_ALWAYS_INLINE V dot(Index size, const V* x, const V* y) {
  V sum = broadcast<V>(0.0);
  for (Index k = 0; k < size; ++k) sum += x[k] * y[k];
  return sum;
}

// `value` where the probability is not negligible, else exactly zero
template <class V>
SVAE_ALWAYS_INLINE V unless_negligible(V probability, V value) {
  return select(probability > broadcast<V>(kNegligible), value, broadcast<V>(0.0));
}

// Statistics of one pack; says of each lane whether doubles were wide enough.
template <class V, class E>
void markov_chain_in_weights(const MarkovPack<V>& pack, const MarkovResult& result,
                             bool* is_in_range, Workspace& workspace) {
  const Index K = pack.num_states, T = pack.num_timesteps, stride = K | 1;
  const bool pair_is_shared = pack.problem.pair_is_shared;
  PairWeights<V, E> pair(pack, workspace);
  MarkovFilter<V, E> filter(pack, pair, workspace);
  RowWriter<V> node_stat(pack, result.stats.node, K, 0, workspace);
  RowWriter<V> pair_stat(pack, result.stats.pair, K * K, 1, workspace);
  V* beta = workspace.take<V>(K);
  V* block = workspace.take<V>(kBlock * stride);  // v' of a block of steps
  const Matrix<V> sums = take_matrix<V>(workspace, K, K);
  V largest = broadcast<V>(0.0);
  const auto nothing = [](Index) {};

  filter.run(nothing);
  pack.store_each(filter.log_normalizer(), result.log_normalizer);

  fill_zero(beta, K);
  fill_zero(sums.data, K * K);
  for (Index t = T - 1; t >= 0; --t) {
    filter.revisit(t, nothing);
    const V* alpha = filter.alpha(t);
    const V* v = block + t % kBlock * stride;
    if (t + 1 < T) {
      // beta_i = sum_j A_ij v'_j
      const E* A = pair.transposed_at(t);
      for_states<kStates>(K, [&](Index i, auto count) {
        V sum[count.value];
#pragma GCC unroll 16
        for (int c = 0; c < count.value; ++c) sum[c] = broadcast<V>(kBetaFloor);
        add_product<count.value>(K, A, v, i, sum);
#pragma GCC unroll 16
        for (int c = 0; c < count.value; ++c) {
          beta[i + c] = sum[c];
          largest = max(largest, sum[c]);
        }
      });
    }
    if (t + 1 >= pack.shortest) {
      const V first = broadcast<V>(1.0) / filter.sum(t);
      for (Index k = 0; k < K; ++k)
        beta[k] = pack.at_last_step(t, first, pack.within(t, beta[k], V{}));
    }
    if (t % kStepsOfDrift == 0) {
      const V one = dot(K, alpha, beta);
      const V correction = pack.within(t, broadcast<V>(1.0) / one, V{});
      for (Index k = 0; k < K; ++k) beta[k] *= correction;
    }

    V* gamma = node_stat.at(t);
    for (Index k = 0; k < K; ++k) {
      const V product = alpha[k] * beta[k];
      gamma[k] = unless_negligible(product, product);
    }
    if (t == 0) pack.store(gamma, result.stats.init, 0);

    if (t + 1 < T && !pair_is_shared) {
      const E* A = pair.at(t);
      V* xi = pair_stat.at(t);
      for (Index i = 0; i < K; ++i)
        for (Index j = 0; j < K; ++j) {
          const V product = in_lanes<V>(A[i * K + j]) * (alpha[i] * v[j]);
          xi[i * K + j] = unless_negligible(product, product);
        }
    } else if (t + 1 < T && t % kBlock == 0) {
      const Index steps = T - 1 - t < kBlock ? T - 1 - t : kBlock;
      multiply(Update::add,
               Matrix<V>{const_cast<V*>(alpha), K, steps, 1, filter.alpha_stride(),
                         Shape::full},
               Matrix<V>{block, steps, K, stride, 1, Shape::full}, sums);
    }

    if (t > 0) {
      const V* b = filter.weights(t);
      V* next = block + (t - 1) % kBlock * stride;
      for (Index k = 0; k < K; ++k) next[k] = b[k] * beta[k];
    }
  }
  node_stat.finish();
  if (pair_is_shared && T > 1) {
    const E* A = pair.at(0);
    for (Index e = 0; e < K * K; ++e) {
      const V product = in_lanes<V>(A[e]) * sums.data[e];
      sums.data[e] = unless_negligible(product, product);
    }
    pack.Pack<V>::store(sums.data, 1, result.stats.pair, 0, 1, K * K);
  }
  pair_stat.finish();
  for (Index w = 0; w < width<V>; ++w)
    is_in_range[w] = filter.is_in_range(w) && lane(largest, w) <= kLargestBeta;
}

// The pack that has to be done in log space is handed to `rescue`, if there is any.
template <class V, class Rescue>
void rescue_out_of_range(const MarkovPack<V>& pack, const bool* is_in_range,
                         const Rescue& rescue) {
  bool chosen[width<V>], any = false;
  for (Index w = 0; w < width<V>; ++w) any |= chosen[w] = !is_in_range[w];
  if (any) rescue(pack.only(chosen));
}

// Log normalizer and expected statistics of one pack.
template <class V>
void markov_chain(const MarkovProblem& problem, const MarkovResult& result, Index first,
                  Workspace& workspace) {
  const MarkovPack<V> pack(problem, first);
  bool is_in_range[width<V>];
  if (problem.potentials.pair.sequence_stride == 0)
    markov_chain_in_weights<V, double>(pack, result, is_in_range, workspace);
  else
    markov_chain_in_weights<V, V>(pack, result, is_in_range, workspace);
  rescue_out_of_range(pack, is_in_range, [&](const MarkovPack<V>& part) {
    markov_chain_in_logs(part, result, workspace);
  });
}

template <class V>
void markov_chain_vjp(const MarkovProblem& problem, const MarkovAdjoint& adjoint,
                      Index first, Workspace& workspace) {
  markov_chain_vjp_in_logs(MarkovPack<V>(problem, first), adjoint, workspace);
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
