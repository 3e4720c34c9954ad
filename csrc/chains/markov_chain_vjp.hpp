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
        alpha_dot_(segments, message_stride(pack.num_states + 1), workspace),
        checkpoints_(segments, alpha_dot_.last(), pack.num_states + 1, workspace),
        init_bar_(workspace.take<V>(pack.num_states)) {
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
      const E* A = pair_.at(t - 1);
      const F* D = pair_dot_.at(t - 1);
      const V* b = filter_.weights(t);
      const V* before = filter_.alpha(t - 1);
      const V* before_dot = alpha_dot_.at(t - 1);
      const V mean = before_dot[K];
      for_states<kStates>(K, [&](Index j, auto count) {
        ahead.ask(j, count.value);
        V sum[count.value] = {};
        add_product<count.value>(K, A, before_dot, j, sum);
        add_product<count.value>(K, D, before, j, sum);
#pragma GCC unroll 12
        for (int c = 0; c < count.value; ++c)
          alpha_dot[j + c] = sum[c] =
              b[j + c] * sum[c] + alpha[j + c] * (bar[j + c] - mean);
        total += fold<count.value>(sum, Add());
      });
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
        beta_dot_(workspace.take<V>(pack.num_states)),
        block_(pack.num_states, workspace) {
    fill_zero(beta_dot_, pack.num_states);
  }

  V* beta_dot() { return beta_dot_; }
  const StepBlock<V>& block() const { return block_; }

  // `factor` is what beta_t was multiplied by.
  void step(Index t, V factor, const Ahead<const double>& ahead) {
    const Index K = pack_.num_states;
    if (t + 1 == pack_.num_timesteps) return;
    const E* A = pair_.columns_at(t);
    const F* D = pair_dot_.columns_at(t);
    for_states<kStates>(K, [&](Index i, auto count) {
      ahead.ask(i, count.value);
      V sum[count.value] = {};
      add_product<count.value>(K, A, block_.at(t), i, sum);
      add_product<count.value>(K, D, smoother_.block().at(t), i, sum);
#pragma GCC unroll 12
      for (int c = 0; c < count.value; ++c) beta_dot_[i + c] = factor * sum[c];
    });
  }

  // v_dot = b o beta_dot + v o node_bar
  void weigh(Index t, const V* b,  // (K,)
             const V* v,           // (K,)
             const V* node_bar) {  // (K,)
    V* v_dot = block_.at(t - 1);
    for (Index k = 0; k < pack_.num_states; ++k)
      v_dot[k] = b[k] * beta_dot_[k] + v[k] * node_bar[k];
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
    return dot[k] = unless_negligible(probability[k], dot[k]);
  };
  const V total = fold<V>(size, change, Add());
  for (Index k = 0; k < size; ++k) dot[k] -= probability[k] / count * total;
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
  V* sum = workspace.take<V>(K * K);
  V* sum_dot = workspace.take<V>(K * K);
  V* gamma = workspace.take<V>(K);
  const V one = broadcast<V>(1.0), num_pairs = pairs_of_a_sum(pack);
  fill_zero(sum, K * K);
  fill_zero(sum_dot, K * K);

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
    for (Index k = 0; k < K; ++k) {
      alpha_dot[k] -= (past + future) * alpha[k];
      gamma_dot[k] = alpha_dot[k] * beta[k] + alpha[k] * beta_dot[k];
      beta_dot[k] -= future * beta[k];
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
          for (Index e = 0; e < K * K; ++e) xi_dot[e] = A[e] * sum_dot[e] + D[e] * sum[e];
          probabilities(K * K, A, sum, num_pairs, sum);
          changes(K * K, sum, num_pairs, xi_dot);
          fill_zero(sum, K * K);
          fill_zero(sum_dot, K * K);
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
