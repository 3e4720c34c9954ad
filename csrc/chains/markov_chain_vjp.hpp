// The adjoint of markov_chain.hpp. The statistics are the gradient of log Z, so their
// adjoint is the Hessian of log Z times the cotangents (bar): the tangent (dot) of both
// recursions in the direction of the cotangents. With D = A o pair_bar,
//
//   alpha_dot'_j = b'_j sum_i (A_ij alpha_dot_i + D_ij alpha_i) + alpha'_j node_bar'_j
//   v_dot_j      = b_j beta_dot_j + v_j node_bar_j
//   beta_dot_i   = sum_j (A_ij v_dot'_j + D_ij v'_j)
//
// Only differences between states matter: of alpha_dot the multiple of alpha is removed
// with which the probabilities of the states so far would not sum to one, of beta_dot
// likewise that of beta, so that neither grows with time. On the way back, before they
// make statistics, alpha_dot loses all that their sum has too much:
//
//   gamma_dot_i = alpha_dot_i beta_i + alpha_i beta_dot_i,   sum_i gamma_dot_i = 0
//   xi_dot_ij   = A_ij (alpha_dot_i v'_j + alpha_i v_dot'_j) + D_ij alpha_i v'_j
#pragma once

#include "chains/markov_chain.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

// alpha_dot, and behind it sum alpha_dot / sum alpha.
template <class V, class E, class F>
class FilterTangent {
 public:
  FilterTangent(const MarkovPack<V>& pack, const MarkovArrays<const double>& bar,
                const Segments& segments, PairWeights<V, E>& pair,
                PairTangent<V, E, F>& pair_dot, const MarkovFilter<V, E>& filter,
                Workspace& workspace)
      : pack_(pack),
        pair_(pair),
        pair_dot_(pair_dot),
        filter_(filter),
        bar_(bar.node),
        node_bar_(pack, bar.node, pack.num_states, 0, workspace),
        alpha_dot_(segments, message_stride<V>(pack.num_states + 1), workspace),
        checkpoints_(segments, alpha_dot_.last(), pack.num_states + 1, workspace),
        init_bar_(take_row<V>(pack.num_states, workspace)) {
    pack.load(bar.init, 0, init_bar_);
  }

  const KeptSteps<V>& rows() const { return alpha_dot_; }
  const V* node_bar(Index t) { return node_bar_.at(t); }

  void step(Index t, Pass pass) {
    const Index K = pack_.num_states;
    checkpoints_.pass(t, pass);
    V* alpha_dot = alpha_dot_.at(t);
    const V* alpha = filter_.alpha(t);
    const Ahead<const double> ahead(pack_, bar_, t + kStepsAhead);
    const V* bar = node_bar_.at(t);
    V total = broadcast<V>(0.0);
    if (t == 0) {
      for (Index k = 0; k < K; ++k)
        total += alpha_dot[k] = alpha[k] * (bar[k] + init_bar_[k]);
    } else {
      const V* b = filter_.weights(t);
      const V* before_dot = alpha_dot_.at(t - 1);
      const Lanes mean = for_all(before_dot[K]);
      send<SumOfProducts>(
          K, 0.0,
          [&](Index j, Lanes sum) {
            return multiply_add(wide<V>(b + j), sum,
                                wide<V>(alpha + j) * (wide<V>(bar + j) - mean));
          },
          alpha_dot,
          [&](Index j, auto count, const V* part) {
            ahead.ask(j, count.value);
            total += fold<count.value>(part, Add());
          },
          transition(pair_.rows_at(t - 1), before_dot),
          transition(pair_dot_.rows_at(t - 1), filter_.alpha(t - 1)));
    }
    alpha_dot[K] = pack_.within(t, total / filter_.sum(t), broadcast<V>(0.0));
  }

 private:
  const MarkovPack<V>& pack_;
  PairWeights<V, E>& pair_;
  PairTangent<V, E, F>& pair_dot_;
  const MarkovFilter<V, E>& filter_;
  Rows<const double> bar_;
  RowReader<V> node_bar_;
  KeptSteps<V> alpha_dot_;
  Checkpoints<V> checkpoints_;
  V* init_bar_;
};

// beta_dot, and v_dot of a block of steps.
template <class V, class E, class F>
class SmootherTangent {
 public:
  SmootherTangent(const MarkovPack<V>& pack, PairWeights<V, E>& pair,
                  PairTangent<V, E, F>& pair_dot, const MarkovSmoother<V, E>& smoother,
                  Workspace& workspace)
      : pack_(pack),
        pair_(pair),
        pair_dot_(pair_dot),
        smoother_(smoother),
        beta_dot_(take_row<V>(pack.num_states, workspace)),
        block_(pack.num_states, workspace) {}

  V* beta_dot() { return beta_dot_; }
  const StepBlock<V>& block() const { return block_; }

  // `factor` is what beta_t was multiplied by.
  void step(Index t, V factor, const Ahead<const double>& ahead) {
    const Index K = pack_.num_states;
    if (t + 1 == pack_.num_timesteps) return;
    const V *v_dot = block_.at(t), *v = smoother_.block().at(t);
    send<SumOfProducts>(
        K, 0.0, [&](Index, Lanes sum) { return for_all(factor) * sum; }, beta_dot_,
        [&](Index i, auto count, const V*) { ahead.ask(i, count.value); },
        transition(pair_.columns_at(t), v_dot), transition(pair_dot_.columns_at(t), v));
  }

  // v_dot = b o beta_dot + v o node_bar
  void weigh(Index t, const V* b,  // (K,)
             const V* v,           // (K,)
             const V* node_bar) {  // (K,)
    V* v_dot = block_.at(t - 1);
    for (Index k = 0; k < pack_.num_states; k += span<V>)
      put(v_dot + k, multiply_add(wide<V>(b + k), wide<V>(beta_dot_ + k),
                                  wide<V>(v + k) * wide<V>(node_bar + k)));
  }

 private:
  const MarkovPack<V>& pack_;
  PairWeights<V, E>& pair_;
  PairTangent<V, E, F>& pair_dot_;
  const MarkovSmoother<V, E>& smoother_;
  V* beta_dot_;
  StepBlock<V> block_;
};

// Tangents of probabilities, count times on average. The sum of a change is zero.
template <class V>
SVAE_ALWAYS_INLINE void changes(Index size, const V* probability,  // (size,)
                                V count, V* dot) {                 // (size,)
  const auto change = [&](Index k) {
    return unless_negligible(wide<V>(probability + k), wide<V>(dot + k));
  };
  const Lanes total = for_all(fill_and_add<V>(size, change, dot));
  for (Index k = 0; k < size; k += span<V>)
    put(dot + k, wide<V>(dot + k) - wide<V>(probability + k) / for_all(count) * total);
}

// Cotangents of the potentials of one pack; says of each lane whether doubles were wide
// enough.
template <class V, class E, class F>
void markov_chain_vjp_in_weights(const MarkovPack<V>& pack, const MarkovAdjoint& adjoint,
                                 bool* is_in_range,  // (W,)
                                 Workspace& workspace) {
  const Index K = pack.num_states;
  const Segments segments = markov_segments(pack, 3);  // alpha, b and alpha_dot
  PairWeights<V, E> pair(pack, workspace);
  PairTangent<V, E, F> pair_dot(pack, adjoint.stats_bar.pair, pair, workspace);
  MarkovFilter<V, E> filter(pack, segments, pair, workspace);
  FilterTangent<V, E, F> filter_dot(pack, adjoint.stats_bar, segments, pair, pair_dot,
                                    filter, workspace);
  MarkovSmoother<V, E> smoother(pack, pair, filter, workspace);
  SmootherTangent<V, E, F> smoother_dot(pack, pair, pair_dot, smoother, workspace);
  RowWriter<V> node_out(pack, adjoint.potentials_bar.node, K, 0, workspace);
  PairWriter<V> pair_out(pack, adjoint.potentials_bar.pair, K * K,
                         pack.problem.pair_is_shared, workspace);
  V* sum = take_row<V>(K * padded<V>(K), workspace);
  V* sum_dot = take_row<V>(K * padded<V>(K), workspace);
  V* gamma = take_row<V>(K, workspace);
  const V one = broadcast<V>(1.0), num_pairs = pairs_of_a_sum(pack);

  const auto up = [&](Index t, Pass pass) {
    filter.step(t, pass);
    filter_dot.step(t, pass);
  };
  const auto down = [&](Index t) {
    const V factor = smoother.step(
        t, Ahead<double>(pack, adjoint.potentials_bar.node, t - kStepsAhead));
    smoother_dot.step(t, factor,
                      Ahead<const double>(pack, adjoint.stats_bar.node, t - kStepsAhead));
    const V* alpha = filter.alpha(t);
    const V* beta = smoother.beta();
    V* alpha_dot = filter_dot.rows().at(t);
    V* beta_dot = smoother_dot.beta_dot();

    const V past = dot(K, alpha_dot, beta), future = dot(K, alpha, beta_dot);
    V* gamma_dot = node_out.at(t);
    const Lanes both = for_all(past + future);
    for (Index k = 0; k < K; k += span<V>) {
      const Lanes a = wide<V>(alpha + k), b = wide<V>(beta + k);
      const Lanes a_dot = wide<V>(alpha_dot + k) - both * a;
      const Lanes b_dot = wide<V>(beta_dot + k);
      put(alpha_dot + k, a_dot);
      put(gamma_dot + k, multiply_add(a_dot, b, a * b_dot));
      put(beta_dot + k, b_dot - for_all(future) * b);
    }
    probabilities(K, alpha, beta, one, gamma);
    changes(K, gamma, one, gamma_dot);
    if (t == 0) pack.store(gamma_dot, adjoint.potentials_bar.init, 0);
    sum_pairs(
        pack, t,
        [&](Index begin, Index steps) {
          const KeptSteps<V>& alphas = filter.alpha_rows();
          add_outer_products(K, alphas, smoother.block(), begin, steps, sum);
          add_outer_products(K, alphas, smoother_dot.block(), begin, steps, sum_dot);
          add_outer_products(K, filter_dot.rows(), smoother.block(), begin, steps,
                             sum_dot);
        },
        [&](Index pair_step) {
          // xi_dot_ij = A_ij (alpha_dot_i v'_j + alpha_i v_dot'_j) + D_ij alpha_i v'_j
          const E* A = pair.at(pair_step);
          const F* D = pair_dot.at(pair_step);
          V* xi_dot = pair_out.at(pair_step);
          close_up(K, sum);
          close_up(K, sum_dot);
          for (Index e = 0; e < K * K; e += span<V>)
            put(xi_dot + e, multiply_add(wide<V>(A + e), wide<V>(sum_dot + e),
                                         wide<V>(D + e) * wide<V>(sum + e)));
          probabilities(K * K, A, sum, num_pairs, sum);
          changes(K * K, sum, num_pairs, xi_dot);
          fill_zero(sum, K * padded<V>(K));
          fill_zero(sum_dot, K * padded<V>(K));
        });
    if (t > 0)
      smoother_dot.weigh(t, filter.weights(t), smoother.weigh(t), filter_dot.node_bar(t));
  };
  there_and_back(segments, up, [] {}, down);
  node_out.finish();
  pair_out.finish();
  for (Index w = 0; w < width<V>; ++w) is_in_range[w] = smoother.is_in_range(w);
}

// Cotangents of the potentials, given those of the statistics; both as the potentials.
template <class V>
void markov_chain_vjp(const MarkovProblem& problem, const MarkovAdjoint& adjoint,
                      Index first, Workspace& workspace) {
  const MarkovPack<V> pack(problem, first);
  bool is_in_range[width<V>];
  if (problem.potentials.pair.sequence_stride != 0)
    markov_chain_vjp_in_weights<V, V, V>(pack, adjoint, is_in_range, workspace);
  else if (adjoint.stats_bar.pair.sequence_stride != 0)
    markov_chain_vjp_in_weights<V, double, V>(pack, adjoint, is_in_range, workspace);
  else
    markov_chain_vjp_in_weights<V, double, double>(pack, adjoint, is_in_range, workspace);
  rescue_out_of_range(pack, is_in_range, [&](const MarkovPack<V>& part) {
    markov_chain_vjp_in_logs(part, adjoint, workspace);
  });
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
