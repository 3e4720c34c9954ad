// What every prefix of a Gaussian chain says of its last step: the way up alone. The
// potentials are those of gaussian_chain.hpp.
//
// The prefix of t steps has the first t nodes and the pairs between them. Before its last
// node and after it x_t is a Gaussian with the precision A_p or A_f; what pairs say of it
// as their first step counts only when it is integrated out (notation as there):
//
//   predicted  A_p, h_p                           of step 0: the initial potential
//   filtered   A_f = A_p + Lam(Jn),               h_f = h_p + hn
//   onwards    A = A_f + Lam(J11) = L d L',       w = L^-1 h_f,  W = L^-1 J12,
//              A_p' = Lam(J22) - W'd^-1 W,        h_p' = W'd^-1 w
//
// and log Z of either is that of the steps integrated out, plus its own.
#pragma once

#include "chains/gaussian_pack.hpp"
#include "lanes/first_failure.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

// Terms of log Z, twice their sum: quadratic ones, and those of determinants.
template <class V>
struct LogIntegral {
  V quadratic = broadcast<V>(0.0);
  LogProduct<V> inverse_determinant;

  // `constant` is that of the dimensions integrated out.
  V value(V constant) const {
    return 0.5 * (quadratic + inverse_determinant.value()) + constant;
  }
};

constexpr double kHalfLog2Pi = 0.91893853320467274178;

// Writes the log normalizers and the moments of one Gaussian for each step.
template <class Pack>
class GaussianMoments {
  using V = typename Pack::V;
  using Symmetric = typename Pack::SymmetricMatrix;

 public:
  GaussianMoments(const Pack& pack, const GaussianPrefixes& prefixes)
      : pack_(pack),
        A_(pack.template take<Symmetric>()),
        cov_(pack.template take<Symmetric>()),
        L_(pack.template take<typename Pack::LowerMatrix>()),
        R_(pack.template take<typename Pack::LowerMatrix>()),
        w_(pack.take_vector()),
        mean_(pack.take_vector()),
        roots_(pack.take_vector()),
        log_normalizers_(pack, prefixes.log_normalizer, 1, 0, pack.workspace),
        means_(pack, prefixes.mean, pack.dim(), 0, pack.workspace),
        covs_(pack, prefixes.cov, pack.dim() * pack.dim(), 0, pack.workspace) {}

  // Returns what is positive in the lanes where the precision A is positive definite.
  SVAE_ALWAYS_INLINE V store(Index t, const Symmetric& A,  // (D, D)
                             Vector<V> h,                  // (D,)
                             LogIntegral<V> integral) {    // of the steps before
    const Index D = pack_.dim();
    copy(A.data, A_.data, A_.size());
    copy(h.data, w_.data, pack_.padded_dim());
    const V success = factorise(A_, L_, integral.inverse_determinant);
    solve(L_, w_);
    divide_by_pivots(L_, w_, mean_);
    for (Index i = 0; i < D; ++i) integral.quadratic += w_[i] * mean_[i];
    solve(transposed(L_), mean_);
    find_roots(L_, roots_);
    invert(L_, roots_, R_);
    multiply<Update::set>(transposed(R_), R_, cov_);
    *log_normalizers_.at(t) =
        integral.value(broadcast<V>(kHalfLog2Pi * double(D * (t + 1))));
    copy(mean_.data, means_.at(t), D);
    set_rows(Complete<Symmetric, V>{cov_}, D, covs_.at(t));
    return success;
  }

  void finish() {
    log_normalizers_.finish();
    means_.finish();
    covs_.finish();
  }

 private:
  const Pack& pack_;
  Symmetric A_, cov_;
  typename Pack::LowerMatrix L_, R_;
  Vector<V> w_, mean_, roots_;
  RowWriter<V> log_normalizers_, means_, covs_;
};

template <class Pack>
void gaussian_filter(const GaussianProblem& problem, const GaussianFiltering& result,
                     Index first, Workspace& workspace) {
  using V = typename Pack::V;
  const Pack pack(problem, first, workspace);
  GaussianTerms<Pack> terms(pack, problem.potentials);
  GaussianMoments<Pack> predicted(pack, result.predicted);
  GaussianMoments<Pack> filtered(pack, result.filtered);
  const auto A = pack.template take<typename Pack::SymmetricMatrix>();
  const auto L = pack.template take<typename Pack::LowerMatrix>();
  const auto W = pack.template take<typename Pack::FullMatrix>();
  const auto G = pack.template take<typename Pack::FullMatrix>();  // d^-1 W
  const Vector<V> h = pack.take_vector(), mean = pack.take_vector();
  LogIntegral<V> past;
  FirstFailure<V> failure;

  terms.set_init(A, h);
  for (Index t = 0; t < pack.own_steps; ++t) {
    pack.complete_diagonal(t, A);
    failure.note(t, predicted.store(t, A, h, past));
    terms.add_node(t, A, h);
    failure.note(t, filtered.store(t, A, h, past));
    if (t + 1 == pack.num_timesteps) break;
    terms.pairs.add_left(t, A, h);
    failure.note(t, factorise(A, L, past.inverse_determinant));
    solve(L, h);
    divide_by_pivots(L, h, mean);
    for (Index i = 0; i < pack.dim(); ++i) past.quadratic += h[i] * mean[i];
    solve(L, terms.pairs.J12(t), W, G);
    multiply<Update::subtract>(transposed(W), G, terms.pairs.J22(t), A);
    multiply<Update::set>(transposed(W), mean, h);
    terms.pairs.add_right(h);
  }
  predicted.finish();
  filtered.finish();
  if (result.of_chunk)
    pack.store_each(past.value(pack.owned * (kHalfLog2Pi * double(pack.dim()))),
                    result.of_chunk);
  failure.store(pack, result.failed_step);
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
