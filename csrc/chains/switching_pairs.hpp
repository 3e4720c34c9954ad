// Pairs of a Gaussian chain that K states mix, as terms and outputs of the chain of
// gaussian_chain.hpp and of its adjoint.
//
// With weights p_tk and rows P_k = (J11_k, J12_k, J22_k, h1_k, h2_k) of parameters, the
// pair (t, t+1) has the potentials  e_t = sum_k p_tk P_k,  its features
// f_t = (E x x', E x x'', E x' x'', E x, E x') being the gradient of log Z in these. No
// step's e_t and f_t leave the lanes; what does are the gradients of log Z in p and P,
//
//   l_tk = <P_k, f_t>,   M_k = sum_t p_tk f_t
//
// Given cotangents (bar) of l and M, the cotangent of f_t and direction of the adjoint is
//
//   f_bar_t = sum_k l_bar_tk P_k + sum_k p_tk M_bar_k
//
// and of what the adjoint makes of it, the cotangent e_bar_t of e_t,
//
//   p_bar_tk = <P_k, e_bar_t> + <M_bar_k, f_t>
//   P_bar_k = sum_t [ p_tk e_bar_t + l_bar_tk f_t ]
//
// so that terms are sums of two mixtures, and outputs are made of two kinds of features.
#pragma once

#include "chains/gaussian_pack.hpp"
#include "lanes/state_rows.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

template <class Algebra>
using SwitchingPack = GaussianPack<Algebra, SwitchingProblem>;

// Where the parts of a row are, in the order in which matrices of the algebra keep them.
template <class Pack>
struct PairRow {
  using V = typename Pack::V;
  using Symmetric = typename Pack::SymmetricMatrix;
  using Full = typename Pack::FullMatrix;

  Index dim, square, full, vector;  // how many numbers each has; vector: none or D
  Index J12, J22, h1, h2, size;     // where they begin; the size is padded

  explicit PairRow(const Pack& pack)
      : dim(pack.dim()),
        square(pack.template size_of<Symmetric>()),
        full(pack.template size_of<Full>()),
        vector(pack.problem.is_affine ? pack.padded_dim() : 0),
        J12(square),
        J22(J12 + full),
        h1(J22 + square),
        h2(h1 + vector),
        size(padded_row(h2 + vector)) {}

  // How many numbers it takes in Python's order.
  Index flat_size() const { return 3 * dim * dim + (vector > 0 ? 2 * dim : 0); }
};

// A symmetric matrix has each entry off its diagonal once or twice, as the precision
// -(J + J'): what makes the product of those with a statistic the one of J.
template <class Pack>
const double* share_of_entries(const Pack& pack) {
  using Symmetric = typename Pack::SymmetricMatrix;
  const auto A = pack.template take<Symmetric>();
  const Index n = pack.padded_dim();
  double* share = pack.workspace.template take<double>(A.size());
  double* count = pack.workspace.template take<double>(n * n);
  for (Index k = 0; k < n * n; ++k) count[k] = 0.0;
  for_entries(A, [&](Index, Index i, Index j) { count[i * n + j] += 1.0; });
  for_entries(A, [&](Index k, Index i, Index j) {
    share[k] = i == j || count[i * n + j] == 2.0 ? -0.5 : -1.0;
  });
  return share;
}

// Parameters of K states as rows of the layout: squares as precisions.
template <class Pack>
const double* rows_in_tiles(const Pack& pack, const double* flat) {  // (K, F)
  const PairRow<Pack> row(pack);
  const auto square = pack.template take<typename Pack::SymmetricMatrix>();
  const auto full = pack.template take<typename Pack::FullMatrix>();
  const Index D = row.dim, K = pack.problem.num_states;
  double* rows = pack.workspace.template take<double>(K * row.size);
  for (Index k = 0; k < K * row.size; ++k) rows[k] = 0.0;
  for (Index k = 0; k < K; ++k) {
    const double* J11 = flat + k * row.flat_size();
    const double *J12 = J11 + D * D, *J22 = J12 + D * D, *h1 = J22 + D * D;
    double* to = rows + k * row.size;
    for_entries(square, [&](Index e, Index i, Index j) {
      if (i >= D || j >= D) return;
      to[e] = -(J11[i * D + j] + J11[j * D + i]);
      to[row.J22 + e] = -(J22[i * D + j] + J22[j * D + i]);
    });
    for_entries(full, [&](Index e, Index i, Index j) {
      if (i < D && j < D) to[row.J12 + e] = J12[i * D + j];
    });
    for (Index i = 0; row.vector > 0 && i < D; ++i) {
      to[row.h1 + i] = h1[i];
      to[row.h2 + i] = h1[D + i];
    }
  }
  return rows;
}

// Weights of the states at the pairs, zeros past the end of a sequence.
template <class Pack>
RowReader<typename Pack::V> weights_of(const Pack& pack, const StateRows& states) {
  return {pack, states.weights, pack.problem.num_states, 1, pack.workspace};
}

template <class Algebra>
class GaussianPairTerms<SwitchingPack<Algebra>> {
  using Pack = SwitchingPack<Algebra>;
  using V = typename Pack::V;
  using Symmetric = typename Pack::SymmetricMatrix;
  using Full = typename Pack::FullMatrix;

 public:
  GaussianPairTerms(const Pack& pack, const SwitchingTerms& terms)
      : num_states_(pack.problem.num_states),
        row_(pack),
        weights_(weights_of(pack, terms.pairs[0])),
        also_weights_(weights_of(pack, terms.pairs[1])),
        rows_(rows_in_tiles(pack, terms.pairs[0].rows)),
        mixture_(pack.workspace.template take<V>(row_.size)),
        J11_(pack.template matrix<Symmetric>(mixture_)),
        J12_(pack.template matrix<Full>(mixture_ + row_.J12)),
        J22_(pack.template matrix<Symmetric>(mixture_ + row_.J22)) {
    if (terms.pairs[1].rows) also_rows_ = rows_in_tiles(pack, terms.pairs[1].rows);
  }

  void add_left(Index t, const Symmetric& precision,  // (D, D)
                Vector<V> h) {                        // (D,)
    mix<false>(weights_.at(t), rows_, num_states_, row_.size, mixture_);
    if (also_rows_)
      mix<true>(also_weights_.at(t), also_rows_, num_states_, row_.size, mixture_);
    add_terms(J11_.data, precision.data, J11_.size());
    add_terms(mixture_ + row_.h1, h.data, row_.vector);
  }
  const Full& J12(Index) const { return J12_; }
  const Symmetric& J22(Index) const { return J22_; }
  void add_right(Vector<V> h) const {  // (D,)
    add_terms(mixture_ + row_.h2, h.data, row_.vector);
  }

 private:
  Index num_states_;
  PairRow<Pack> row_;
  RowReader<V> weights_, also_weights_;
  const double *rows_, *also_rows_ = nullptr;  // (K, size)
  V* mixture_;                                 // of this step
  Symmetric J11_;
  Full J12_;
  Symmetric J22_;
};

// Features of pairs, step by step from the end: products with the rows of states, and
// sums with their weights. These take a block of steps at a time, for they are many.
template <class Pack>
class PairFeatures {
  using V = typename Pack::V;

 public:
  PairFeatures(const Pack& pack, const StateRows& states, const double* share,
               bool has_sums)
      : num_pairs_(pack.num_timesteps - 1),
        num_states_(pack.problem.num_states),
        num_rows_(has_sums ? kStepsOfBlock : 1),
        row_(pack),
        share_(share),
        weights_(weights_of(pack, states)),
        values_(pack.workspace.template take<V>(num_rows_ * step_stride(row_.size))),
        kept_weights_(pack.workspace.template take<V>(num_rows_ * num_states_)) {
    fill_zero(values_, num_rows_ * step_stride(row_.size));
    if (states.rows) rows_ = rows_in_tiles(pack, states.rows);
  }

  template <class Square, class Cross>
  SVAE_ALWAYS_INLINE void set(Index t, const Square& square,  // (D, D)
                              Vector<V> x,                    // (D,)
                              const Cross& cross) {           // (D, D)
    V* to = row(t);
    for_entries(square.block, [&](Index e, Index i, Index j) SVAE_INLINE {
      to[e] = broadcast<V>(share_[e]) * square(e, i, j);
    });
    copy(x.data, to + row_.h1, row_.vector);
    if (t == num_pairs_) return;  // no pair begins in the last step
    V* coupling = to + row_.J12;
    for_entries(cross.block, [&](Index e, Index i, Index j)
                                 SVAE_INLINE { coupling[e] = cross(e, i, j); });
  }

  template <bool kAdd>
  void multiply(Index t, V* products) const {  // (K,)
    if (rows_) rows_times<kAdd>(row(t), rows_, num_states_, row_.size, products);
  }

  // How many pairs the block has that begins with t.
  Index block_size(Index t) const {
    const Index left = num_pairs_ - t;
    return left < num_rows_ ? left : num_rows_;
  }

  // The pairs of that block, when the first of them is set.
  WeightedSteps<V> block(Index t) {
    for (Index s = 0; s < block_size(t); ++s)
      copy(weights_.at(t + s), kept_weights_ + s * num_states_, num_states_);
    return {kept_weights_, values_};
  }

  // What step t is to the pair before; call it last.
  void end_pair(Index t) {
    const V* from = row(t);
    V* to = row(t - 1);
    copy(from, to + row_.J22, row_.square);
    copy(from + row_.h1, to + row_.h2, row_.vector);
  }

  bool ends_block(Index t) const { return t % num_rows_ == 0 && t < num_pairs_; }

 private:
  V* row(Index t) const { return values_ + t % num_rows_ * step_stride(row_.size); }

  Index num_pairs_, num_states_, num_rows_;
  PairRow<Pack> row_;
  const double* share_;
  const double* rows_ = nullptr;  // (K, size)
  RowReader<V> weights_;
  V* values_;
  V* kept_weights_;
};

template <class Algebra>
class GaussianPairOutput<SwitchingPack<Algebra>> {
  using Pack = SwitchingPack<Algebra>;
  using V = typename Pack::V;

 public:
  GaussianPairOutput(const Pack& pack, const SwitchingOutputs& outputs)
      : pack_(pack),
        row_(pack),
        of_state_(outputs.of_state),
        has_sums_(outputs.of_state.data),
        has_statistics_(outputs.also_by.weights.data),
        share_(share_of_entries(pack)),
        features_(pack, outputs.by, share_, has_sums_),
        statistics_(pack, outputs.also_by, share_, has_sums_),
        of_pair_(pack, outputs.of_pair, pack.problem.num_states, 1, pack.workspace) {
    if (!has_sums_) return;
    const Index size = pack.problem.num_states * row_.size;
    sums_ = pack.workspace.template take<V>(size);
    fill_zero(sums_, size);
  }

  // In an adjoint, before what it makes of them.
  template <class Square, class Cross>
  SVAE_ALWAYS_INLINE void add_statistics(Index t, const Square& square, Vector<V> x,
                                         const Cross& cross) {
    if (has_statistics_) statistics_.set(t, square, x, cross);
  }

  template <class Square, class Cross>
  SVAE_ALWAYS_INLINE void add(Index t, const Square& square,  // (D, D)
                              Vector<V> x,                    // (D,)
                              const Cross& cross) {           // (D, D)
    features_.set(t, square, x, cross);
    if (t + 1 < pack_.num_timesteps) {
      V* products = of_pair_.at(t);
      features_.template multiply<false>(t, products);
      if (has_statistics_) statistics_.template multiply<true>(t, products);
    }
    if (has_sums_ && features_.ends_block(t)) {
      WeightedSteps<V> kinds[2] = {features_.block(t)};
      if (has_statistics_) kinds[1] = statistics_.block(t);
      add_outer(kinds, has_statistics_ ? 2 : 1, features_.block_size(t),
                pack_.problem.num_states, row_.size, sums_);
    }
    if (t == 0) return;
    features_.end_pair(t);
    if (has_statistics_) statistics_.end_pair(t);
  }

  void finish() {
    if (pack_.num_timesteps == 1) return;
    of_pair_.finish();
    for (Index k = 0; has_sums_ && k < pack_.problem.num_states; ++k) store_state(k);
  }

 private:
  void store_state(Index k) const {
    const Index D = row_.dim;
    V* rows = pack_.workspace.template take<V>(row_.flat_size());
    V* sum = sums_ + k * row_.size;
    const auto store_square = [&](V* square, V* to) {
      for (Index e = 0; e < row_.square; ++e) square[e] /= broadcast<V>(share_[e]);
      using Symmetric = typename Pack::SymmetricMatrix;
      set_rows(Complete<Symmetric, V>{pack_.template matrix<Symmetric>(square)}, D, to);
    };
    using Full = typename Pack::FullMatrix;
    store_square(sum, rows);
    set_rows(Complete<Full, V>{pack_.template matrix<Full>(sum + row_.J12)}, D,
             rows + D * D);
    store_square(sum + row_.J22, rows + 2 * D * D);
    if (row_.vector > 0) {
      copy(sum + row_.h1, rows + 3 * D * D, D);
      copy(sum + row_.h2, rows + 3 * D * D + D, D);
    }
    const Rows<double> to = {of_state_.data + k * row_.flat_size(),
                             of_state_.sequence_stride, 0};
    pack_.store(rows, 1, to, 0, 1, row_.flat_size());
  }

  const Pack& pack_;
  PairRow<Pack> row_;
  Rows<double> of_state_;
  bool has_sums_, has_statistics_;
  const double* share_;
  PairFeatures<Pack> features_, statistics_;
  RowWriter<V> of_pair_;
  V* sums_ = nullptr;  // (K, size)
};

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
