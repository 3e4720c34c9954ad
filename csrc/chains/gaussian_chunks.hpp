// A long Gaussian chain in chunks of time, which are the sequences of ordinary packs: one
// sequence fills all lanes, and all threads.
//
// A chunk begins with an edge and ends with that of the next chunk, x and x'. Integrating
// out the steps between, in turn, leaves potentials of the pair (x, x'): another Gaussian
// chain, of the edges alone. On the way the coupling F to the edge x is carried along
// (notation of gaussian_chain.hpp; S and g are precision and h of the edge):
//
//   start     S = Lam(Jn) + Lam(J11),  g = hn,  A_p' = Lam(J22),  h_p' = 0,  F' = J12'
//   step      A = A_p + Lam(Jn) + Lam(J11) = L d L',  w = L^-1 h,  W = L^-1 J12,
//             Y = L^-1 F,  S -= Y'd^-1 Y,  g += Y'd^-1 w,
//             A_p' = Lam(J22) - W'd^-1 W,  h_p' = W'd^-1 w,  F' = W'd^-1 Y
//
// The chain of edges says how each chunk is entered: from below with A_p and h_p given
// the steps before, which take the place of its initial potentials, and from above with
// the moments of the next edge (gaussian_edges.hpp).
#pragma once

#include "chains/gaussian_chain_vjp.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

// J of a precision or a covariance, -1/2 of it: block entry by entry.
template <class Matrix, class V>
struct AsPotential {
  Matrix block;
  SVAE_ALWAYS_INLINE V operator()(Index k, Index, Index) const {
    return -0.5 * block.data[k];
  }
};

template <class Pack>
void gaussian_elimination(const typename Pack::Problem& problem,
                          const GaussianElimination& result, Index first,
                          Workspace& workspace) {
  using V = typename Pack::V;
  using Full = typename Pack::FullMatrix;
  using Symmetric = typename Pack::SymmetricMatrix;
  const Pack pack(problem, first, workspace);
  GaussianTerms<Pack> terms(pack, problem.potentials);
  const auto S = pack.template take<Symmetric>(), A = pack.template take<Symmetric>();
  const auto L = pack.template take<typename Pack::LowerMatrix>();
  const auto F = pack.template take<Full>(), Y = pack.template take<Full>();
  const auto W = pack.template take<Full>(), G = pack.template take<Full>();
  const auto scaled_Y = pack.template take<Full>();
  const Vector<V> g = pack.take_vector(), h = pack.take_vector();
  const Vector<V> mean = pack.take_vector();
  LogProduct<V> determinant;  // which the second pass finds again
  FirstFailure<V> failure;

  terms.add_node(0, S, g);
  if (pack.num_timesteps > 1) {
    terms.pairs.add_left(0, S, g);
    const Full& J12 = terms.pairs.J12(0);
    for_entries(F, [&](Index k, Index i, Index j) { F.data[k] = J12(j, i); });
    copy(terms.pairs.J22(0).data, A.data, A.size());
    terms.pairs.add_right(h);
  }
  for (Index t = 1; t < pack.own_steps; ++t) {
    const bool has_next = t + 1 < pack.num_timesteps;
    terms.add_node(t, A, h);
    if (has_next) terms.pairs.add_left(t, A, h);
    pack.complete_diagonal(t, A);
    failure.note(t, factorise(A, L, determinant));
    solve(L, h);
    divide_by_pivots(L, h, mean);
    solve(L, F, Y, scaled_Y);
    multiply<Update::subtract>(transposed(Y), scaled_Y, S);
    multiply<Update::add>(transposed(Y), mean, g);
    if (!has_next) break;
    solve(L, terms.pairs.J12(t), W, G);
    multiply<Update::subtract>(transposed(W), G, terms.pairs.J22(t), A);
    multiply<Update::set>(transposed(W), mean, h);
    terms.pairs.add_right(h);
    multiply<Update::set>(transposed(G), Y, F);
  }

  const Index D = pack.dim();
  V* rows = workspace.take<V>(D * D);
  const auto store = [&](const auto& value, const Rows<double>& to) {
    set_rows(value, D, rows);
    pack.store(rows, 1, to, 0, 0, D * D);
  };
  for_entries(W, [&](Index k, Index i, Index j) { W.data[k] = F(j, i); });
  store(AsPotential<Symmetric, V>{S}, result.node_J);
  store(Complete<Full, V>{W}, result.J12);
  store(AsPotential<Symmetric, V>{A}, result.J22);
  pack.store(g.data, 1, result.node_h, 0, 0, D);
  pack.store(h.data, 1, result.next_h, 0, 0, D);
  failure.store(pack, result.failed_step);
}

// The chain of edges, of several sequences: C steps, all with potentials of their own.
template <class Pack>
void gaussian_edges(const GaussianProblem& problem, const GaussianEdges& edges,
                    Index* failed_step, Index first, Workspace& workspace) {
  using V = typename Pack::V;
  using Full = typename Pack::FullMatrix;
  using Symmetric = typename Pack::SymmetricMatrix;
  const Pack pack(problem, first, workspace);
  const Index D = pack.dim();
  const Segments segments = segments_of(pack, GaussianFilter<Pack>::kept_size(pack));
  GaussianFilter<Pack> filter(pack, segments);
  GaussianSmoother<Pack> smoother(pack);
  RowWriter<V> prior_J(pack, edges.prior_J, D * D, 0, workspace);
  RowWriter<V> prior_h(pack, edges.prior_h, D, 0, workspace);
  RowWriter<V> cov_J(pack, edges.cov_J, D * D, 0, workspace);
  RowWriter<V> mean(pack, edges.mean, D, 0, workspace);
  RowWriter<V> G(pack, edges.G, D * D, 0, workspace);
  RowWriter<V> mean_at_zero(pack, edges.mean_at_zero, D, 0, workspace);

  // the first edge has the initial potentials instead
  fill_zero(prior_J.at(0), D * D);
  fill_zero(prior_h.at(0), D);
  there_and_back(
      segments,
      [&](Index t, Pass pass) {
        filter.step(t, pass);
        if (pass == Pass::again || t + 1 == pack.num_timesteps) return;
        set_rows(AsPotential<Symmetric, V>{filter.next_precision()}, D,
                 prior_J.at(t + 1));
        copy(filter.next_h().data, prior_h.at(t + 1), D);
      },
      [&] {
        prior_J.finish();
        prior_h.finish();
        filter.store_failures(failed_step);
      },
      [&](Index t) {
        const GaussianConditional<Pack> given = filter.with_roots(t);
        smoother.step(t, given);
        set_rows(AsPotential<Symmetric, V>{smoother.cov}, D, cov_J.at(t));
        copy(smoother.mean.data, mean.at(t), D);
        copy(given.mean.data, mean_at_zero.at(t), D);
        if (t + 1 < pack.num_timesteps)
          set_rows(Complete<Full, V>{given.G}, D, G.at(t));
        else
          fill_zero(G.at(t), D * D);
      });
  cov_J.finish();
  mean.finish();
  G.finish();
  mean_at_zero.finish();
}

// The way up of the adjoint alone: what leaves each chunk above. Into the first go the
// cotangents of the initial statistics, into the others zeros; what really enters those
// adds to what leaves them by the matrices G of the chain of edges.
template <class Pack, class Adjoint>
void gaussian_tangents(const typename Pack::Problem& problem, const Adjoint& adjoint,
                       Index first, Workspace& workspace) {
  using V = typename Pack::V;
  using Symmetric = typename Pack::SymmetricMatrix;
  const Pack pack(problem, first, workspace);
  const Index D = pack.dim();
  const Segments segments(pack.own_steps);
  GaussianFilter<Pack> filter(pack, segments);
  GaussianFilterTangent<Pack> tangent(pack, adjoint.stats_bar, segments);
  GaussianSamplerReverse<Pack> reverse(pack, adjoint, segments);
  for (Index t = 0; t < pack.own_steps; ++t) {
    filter.step(t, Pass::first);
    tangent.step(t, Pass::first, filter.at(t));
    reverse.step(t, Pass::first, filter);
  }

  const GaussianEdgeAdjoint& edges = *adjoint.edges;
  V* rows = workspace.take<V>(D * D);
  set_rows(AsPotential<Symmetric, V>{tangent.next_precision()}, D, rows);
  pack.store(rows, 1, edges.next_J, 0, 0, D * D);
  pack.store(tangent.next_h().data, 1, edges.next_h, 0, 0, D);
  for (Index s = 0; s < problem.num_samples; ++s) {
    const Rows<double> next_lam = row_of_sample(edges.next_lam, s * D);
    pack.store(reverse.carried(s).data, 1, next_lam, 0, 0, D);
  }
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
