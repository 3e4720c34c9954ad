// Inference in a Markov chain in log space, for the sequences whose weights do not fit
// the range of a double (markov_chain.hpp): log normalizer and expected statistics, and
// below them their adjoint. K^2 exponentials a step make it some twenty times as slow.
//
// Everything rests on two recursions (Rabiner 1989, Eqs. 19-21; the way back in the
// correction form of Barber 2012, section 23.2), where a prime marks step t+1:
//
//   filter    alpha'_j = node'_j + logsumexp_i(alpha_i + pair_ij)
//   smoother  xi_ij = p(i|j) gamma'_j,   gamma_i = sum_j xi_ij,
//             p(i|j) = softmax_i(alpha_i + pair_ij) = p(z_t = i | z_{t+1} = j, past)
//
// Messages are shifted to a maximum of zero at every step, so the length of the chain
// costs no digits; log Z is the sum of all shifts. What has no positive probability has
// the message -inf and the weight 0, exactly.
#pragma once

#include "chains/markov_messages.hpp"
#include "lanes/elementary.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

// Turns log weights into probabilities; returns the log of the weights' sum.
template <class V>
V normalise(V* log_weights,  // (padded size,)
            Index size) {
  const V zero = broadcast<V>(0.0);
  const V shift = shift_to_zero(log_weights, size);
  for (Index k = 0; k < size; k += span<V>)
    put(log_weights + k, exp_of_nonpositive(wide<V>(log_weights + k)));
  V total = zero;
  for (Index k = 0; k < size; ++k) total += log_weights[k];
  const V inverse = select(total > zero, broadcast<V>(1.0) / total, zero);
  for (Index k = 0; k < size; k += span<V>)
    put(log_weights + k, wide<V>(log_weights + k) * for_all(inverse));
  return shift + log(total);
}

// Messages alpha_t, shifted, and the sum of the shifts. Between absorbing step t and step
// t+1 the caller predicts.
template <class V>
class LogFilter {
 public:
  LogFilter(const MarkovPack<V>& pack, Workspace& workspace)
      : pack_(pack),
        pair_(pack, workspace),
        stride_(padded<V>(pack.num_states)),
        alpha_(workspace.take<V>(pack.num_timesteps * stride_)),
        node_(take_row<V>(pack.num_states, workspace)),
        predicted_(take_row<V>(pack.num_states, workspace)),
        backward_(take_row<V>(pack.num_states * stride_, workspace)) {}

  const V* alpha(Index t) const { return alpha_ + t * stride_; }
  const V* pair_columns(Index t) { return pair_.columns_at(t); }

  void start() {
    pack_.load(pack_.problem.potentials.init, 0, predicted_);
    shift_ = shift_to_zero(predicted_, pack_.num_states);
    absorb(0);
  }

  // predicted_j = logsumexp_i(alpha_i + pair_ij); returns the softmax, p(i|j), by columns
  // whose beginnings are padded<V>(K) apart, as all matrices below.
  V* predict(Index t) {
    const Index K = pack_.num_states;
    const V* pair = pair_.columns_at(t);
    for (Index j = 0; j < K; ++j) {
      V* column = backward_ + j * stride_;
      for (Index i = 0; i < K; i += span<V>)
        put(column + i, wide<V>(alpha(t) + i) + wide<V>(pair + j * stride_ + i));
      predicted_[j] = normalise(column, K);
    }
    shift_ = pair_.shift();
    return backward_;
  }

  // alpha_t = predicted + node_t
  void absorb(Index t) {
    const Index K = pack_.num_states;
    V* alpha = alpha_ + t * stride_;
    pack_.load(pack_.problem.potentials.node, t, node_);
    count(t, shift_);
    count(t, shift_to_zero(node_, K));
    for (Index k = 0; k < K; ++k) alpha[k] = predicted_[k] + node_[k];
    failure_.note(t, is_possible(pack_, t, maximum(alpha, K)));
    count(t, shift_to_zero(alpha, K));
  }

  // All steps; fills `last` with the filtered probabilities of each lane's last step.
  void run(V* last) {  // (K,)
    start();
    for (Index t = 1; t < pack_.num_timesteps; ++t) {
      predict(t - 1);
      absorb(t);
    }
    finish(last);
  }

  void finish(V* last) {  // (K,)
    pack_.take_last(alpha_, last);
    log_scale_.add(normalise(last, pack_.num_states));
  }

  V log_normalizer() const { return log_scale_.value(); }

  // failed_step: (N,)
  void store_failures(Index* failed_step) const { failure_.store(pack_, failed_step); }

 private:
  void count(Index t, V shift) {
    const V zero = broadcast<V>(0.0);
    log_scale_.add(pack_.within(t, shift, zero));
  }

  const MarkovPack<V>& pack_;
  PairLogs<V, V> pair_;
  Index stride_;
  V* alpha_;
  V* node_;
  V* predicted_;
  V* backward_;
  V shift_;  // what was taken from the potentials before they entered predicted_
  CompensatedSum<V> log_scale_;
  FirstFailure<V> failure_;  // the step at which no state is possible any more
};

// xi_ij = p(i|j) gamma'_j in place of p(i|j);  gamma_i = sum_j xi_ij in place of gamma'
template <class V>
void smooth(Index K, V* xi,   // (K, K) by columns
            V* gamma,         // (K,)
            V* next_gamma) {  // (K,)
  for (Index k = 0; k < K; ++k) {
    next_gamma[k] = gamma[k];
    gamma[k] = broadcast<V>(0.0);
  }
  for (Index j = 0; j < K; ++j)
    for (Index i = 0; i < K; ++i) {
      xi[j * padded<V>(K) + i] *= next_gamma[j];
      gamma[i] += xi[j * padded<V>(K) + i];
    }
}

// xi_ij from columns to the rows of an array
template <class V>
void put_pair(Index K, const V* columns,  // (K, K)
              Index t, PairWriter<V>& writer) {
  V* rows = writer.at(t);
  for (Index i = 0; i < K; ++i)
    for (Index j = 0; j < K; ++j) {
      const V entry = columns[j * padded<V>(K) + i];
      rows[i * K + j] = writer.is_shared() ? rows[i * K + j] + entry : entry;
    }
}

// Log normalizer and expected statistics of one pack.
template <class V>
void markov_chain_in_logs(const MarkovPack<V>& pack, const MarkovResult& result,
                          Workspace& workspace) {
  const Index K = pack.num_states;
  LogFilter<V> filter(pack, workspace);
  PairWriter<V> pair_stat(pack, result.stats.pair, K * K, pack.problem.pair_is_shared,
                          workspace);
  V* last = take_row<V>(K, workspace);
  V* gamma = take_row<V>(K, workspace);
  V* next_gamma = take_row<V>(K, workspace);

  filter.run(last);
  pack.store_each(filter.log_normalizer(), result.log_normalizer);
  filter.store_failures(result.failed_step);

  fill_zero(gamma, K);
  for (Index t = pack.num_timesteps - 1; t >= 0; --t) {
    if (t + 1 < pack.num_timesteps) {
      V* xi = filter.predict(t);
      smooth(K, xi, gamma, next_gamma);
      put_pair(K, xi, t, pair_stat);
    }
    pack.join(t, last, gamma);
    pack.store(gamma, result.stats.node, t);
  }
  pack.store(gamma, result.stats.init, 0);
  pair_stat.finish();
}

// The adjoint. The statistics are the gradient of log Z, so their adjoint is the Hessian
// of log Z times the cotangents: the tangent (dot) of filter and smoother in the
// direction of the cotangents (bar).

// Tangent of: predicted_j = logsumexp_i(alpha_i + pair_ij)
template <class V>
V predict_tangent(Index K, const V* backward,  // (K,), p(i|j) of one j
                  const V* alpha_dot,          // (K,)
                  const V* pair_bar) {         // (K,), likewise
  V predicted_dot = broadcast<V>(0.0);
  for (Index i = 0; i < K; ++i)
    predicted_dot = multiply_add(backward[i], alpha_dot[i] + pair_bar[i], predicted_dot);
  return predicted_dot;
}

// Only differences between states matter: without their mean under the filtered
// probabilities the tangents of the messages do not grow with time.
template <class V>
void centre(Index K, const V* alpha,  // (K,)
            V* alpha_dot,             // (K,)
            V* filtered) {            // (K,)
  V mean = broadcast<V>(0.0);
  for (Index k = 0; k < K; ++k) filtered[k] = alpha[k];
  normalise(filtered, K);
  for (Index k = 0; k < K; ++k) mean = multiply_add(filtered[k], alpha_dot[k], mean);
  for (Index k = 0; k < K; ++k) alpha_dot[k] -= mean;
}

// Tangent of: xi_ij = p(i|j) gamma'_j,  gamma_i = sum_j xi_ij.  backward becomes xi_dot,
// gamma and gamma_dot go one step back; next (2, K) keeps what they were.
template <class V>
void smooth_tangent(Index K, V* backward,  // (K, K) by columns
                    const V* alpha_dot,    // (K,)
                    const V* pair_bar,     // (K, K) by columns
                    V* gamma,              // (K,)
                    V* gamma_dot,          // (K,)
                    V* next) {             // (2, K)
  V* next_dot = next + K;
  for (Index k = 0; k < K; ++k) {
    next[k] = gamma[k];
    next_dot[k] = gamma_dot[k];
  }
  fill_zero(gamma, K);
  fill_zero(gamma_dot, K);
  for (Index j = 0; j < K; ++j) {
    V* column = backward + j * padded<V>(K);
    const V* bar = pair_bar + j * padded<V>(K);
    const V mean = predict_tangent(K, column, alpha_dot, bar);
    for (Index i = 0; i < K; ++i) {
      const V score = alpha_dot[i] + bar[i] - mean;  // of p(i|j)
      gamma[i] += column[i] * next[j];
      column[i] *= next_dot[j] + next[j] * score;
      gamma_dot[i] += column[i];
    }
  }
}

// The filter and its tangent; fills last and last_dot with the filtered probabilities of
// each lane's last step, and their tangent.
template <class V>
void run_tangent(const MarkovPack<V>& pack, LogFilter<V>& filter, PairBars<V>& pair_bar,
                 const MarkovArrays<const double>& stats_bar,
                 V* alpha_dot,   // (T, padded K)
                 V* last,        // (K,)
                 V* last_dot) {  // (K,)
  const Index K = pack.num_states;
  filter.start();
  // alpha = init + node
  pack.load(stats_bar.init, 0, last);
  pack.load(stats_bar.node, 0, alpha_dot);
  for (Index k = 0; k < K; ++k) alpha_dot[k] += last[k];
  centre(K, filter.alpha(0), alpha_dot, last);
  for (Index t = 1; t < pack.num_timesteps; ++t) {
    const V* backward = filter.predict(t - 1);
    filter.absorb(t);
    // alpha'_j = node'_j + logsumexp_i(alpha_i + pair_ij)
    const V* bar = pair_bar.columns_at(t - 1);
    const Index stride = padded<V>(K);
    V* next_dot = alpha_dot + t * stride;
    pack.load(stats_bar.node, t, next_dot);
    for (Index j = 0; j < K; ++j)
      next_dot[j] +=
          predict_tangent(K, backward + j * stride, next_dot - stride, bar + j * stride);
    centre(K, filter.alpha(t), next_dot, last);
  }
  filter.finish(last);
  pack.take_last(alpha_dot, last_dot);
  for (Index k = 0; k < K; ++k) last_dot[k] *= last[k];
}

// Cotangents of the potentials, given those of the statistics; both as the potentials.
template <class V>
void markov_chain_vjp_in_logs(const MarkovPack<V>& pack, const MarkovAdjoint& adjoint,
                              Workspace& workspace) {
  const Index K = pack.num_states;
  LogFilter<V> filter(pack, workspace);
  PairBars<V> pair_bar(pack, adjoint.stats_bar.pair, workspace);
  PairWriter<V> pair_out(pack, adjoint.potentials_bar.pair, K * K,
                         pack.problem.pair_is_shared, workspace);
  V* alpha_dot = workspace.take<V>(pack.num_timesteps * padded<V>(K));
  V* last = take_row<V>(K, workspace);
  V* last_dot = take_row<V>(K, workspace);
  V* gamma = take_row<V>(K, workspace);
  V* gamma_dot = take_row<V>(K, workspace);
  V* next = take_row<V>(2 * K, workspace);

  run_tangent(pack, filter, pair_bar, adjoint.stats_bar, alpha_dot, last, last_dot);
  filter.store_failures(adjoint.failed_step);

  fill_zero(gamma, K);
  fill_zero(gamma_dot, K);
  for (Index t = pack.num_timesteps - 1; t >= 0; --t) {
    if (t + 1 < pack.num_timesteps) {
      V* xi = filter.predict(t);
      smooth_tangent(K, xi, alpha_dot + t * padded<V>(K), pair_bar.columns_at(t), gamma,
                     gamma_dot, next);
      put_pair(K, xi, t, pair_out);
    }
    pack.join(t, last, gamma);
    pack.join(t, last_dot, gamma_dot);
    pack.store(gamma_dot, adjoint.potentials_bar.node, t);
  }
  pack.store(gamma_dot, adjoint.potentials_bar.init, 0);
  pair_out.finish();
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
