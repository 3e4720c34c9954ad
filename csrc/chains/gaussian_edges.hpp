// How chunks of a long sequence are entered, on the way back, from the first step of the
// next chunk: the edge. gaussian_chunks.hpp has found its moments; its samples, and what
// an adjoint carries down, are those that one pass over all steps would find.
//
// Going down from x' = 0 the sampler reaches c instead of the first step x of its chunk,
// and x = c + G x', where given x' alone x has the mean mf + G x': G and mf of the chain
// of edges. So the edges follow one from the other, the last first, and each chunk is
// then gone down once more from its own. The adjoint does the same
// (gaussian_chain_vjp.hpp has the notation; here 0 marks what is reached from zeros):
//
//   hb = hb0 + G hb',  dm = dm0 + G dm',  Q = Q0 + G Q' G' + sym(G hb' mf')
#pragma once

#include "chains/gaussian_pack.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

// Rows (C, D) of one sample in rows (C, S, D), which begin at `offset`.
template <class T>
Rows<T> row_of_sample(const Rows<T>& rows, Index offset) {
  return {rows.data + offset, rows.sequence_stride, 0};
}

template <class Pack>
class GaussianEntry {
  using V = typename Pack::V;

 public:
  explicit GaussianEntry(const Pack& pack)
      : pack_(pack),
        edges_(pack.problem.edges),
        has_edge_(pack.num_timesteps > pack.own_steps),
        rows_(pack.workspace.template take<V>(pack.dim() * pack.dim())),
        product_(pack.workspace.template take<double>(pack.dim() * pack.dim())),
        through_(pack.workspace.template take<double>(pack.dim())) {}

  // Finds the samples of the edges, after the way up; of other packs it does nothing.
  template <class Filter, class Sampler>
  void find_samples(const Filter& filter, Sampler& sampler) const {
    const Index num_samples = pack_.problem.num_samples;
    if (!edges_ || num_samples == 0) return;
    for (Index t = pack_.own_steps - 1; t >= 0; --t)
      sampler.step(t, filter.with_roots(t));
    from_the_last(*edges_->relay, [&](Index w, Index c, bool is_last) {
      for (Index s = 0; s < num_samples; ++s)
        hand_down(w, c, is_last, pack_.vector_of(sampler.x, s),
                  row_of_sample(edges_->samples, s * pack_.dim()));
    });
  }

  // Sets the moments and samples of the edges above. Returns whether there are any.
  template <class Smoother, class Sampler>
  bool load(Smoother& smoother, Sampler& sampler) const {
    if (!has_edge_) return false;
    const Index D = pack_.dim();
    pack_.load(next(edges_->cov_J), 0, 0, rows_, D * D);
    set_from_rows(rows_, D, smoother.cov);
    pack_.load(next(edges_->mean), 0, 0, smoother.mean.data, D);
    for (Index s = 0; s < pack_.problem.num_samples; ++s)
      pack_.load(next(row_of_sample(edges_->samples, s * D)), 0, 0,
                 pack_.vector_of(sampler.x, s).data, D);
    return true;
  }

  // Finds what the adjoint carries to the edges, after the way down from zeros.
  template <class Bars>
  void find_adjoint(const GaussianEdgeAdjoint& adjoint, const Bars& bars) const {
    using Symmetric = typename Pack::SymmetricMatrix;
    const Index D = pack_.dim();
    set_rows(Complete<Symmetric, V>{bars.Q}, D, rows_);
    from_the_last(*adjoint.relay, [&](Index w, Index c, bool is_last) {
      hand_down(w, c, is_last, bars.dm, adjoint.dm);
      hand_down(w, c, is_last, bars.hb, adjoint.hb);
      double* Q = adjoint.Q.at(c, 0);
      for (Index k = 0; k < D * D; ++k) Q[k] = lane(rows_[k], w);
      if (!is_last) carry_Q(c, adjoint);
    });
  }

  // Sets that of the edges above.
  template <class Bars>
  void load_adjoint(const GaussianEdgeAdjoint& adjoint, Bars& bars) const {
    const Index D = pack_.dim();
    pack_.load(next(adjoint.dm), 0, 0, bars.dm.data, D);
    pack_.load(next(adjoint.hb), 0, 0, bars.hb.data, D);
    pack_.load(next(adjoint.Q), 0, 0, rows_, D * D);
    for_entries(bars.Q, [&](Index k, Index i, Index j) {
      if (i < D && j < D) bars.Q.data[k] = rows_[i * D + j];
    });
  }

 private:
  // The rows of the edges at which the chunks end. A last chunk has zeros instead, which
  // nothing depends on.
  Rows<const double> next(const Rows<double>& rows) const {  // (C + 1, ...)
    return {rows.data + rows.sequence_stride, rows.sequence_stride, 0};
  }

  // body(lane, chunk, is_last) from the last chunk of the pack to the first, when those
  // after them are done.
  template <class Body>
  void from_the_last(Relay& relay, const Body& body) const {
    relay.wait_for(pack_.sequence[width<V> - 1] + 1);
    for (Index w = width<V> - 1; w >= 0; --w) {
      const Index c = pack_.sequence[w];
      body(w, c, c + 1 == pack_.problem.num_sequences);
    }
    relay.hand_on(pack_.sequence[0]);
  }

  // x = x0 + G x' of one chunk; the last has no x'.
  void hand_down(Index w, Index c, bool is_last, Vector<V> x0,
                 const Rows<double>& edges) const {  // (C + 1, D)
    const Index D = pack_.dim();
    const double *G = edges_->G.at(c, 0), *next_x = edges.at(c + 1, 0);
    double* x = edges.at(c, 0);
    for (Index i = 0; i < D; ++i) {
      double sum = lane(x0[i], w);
      for (Index j = 0; !is_last && j < D; ++j)
        sum = multiply_add(G[i * D + j], next_x[j], sum);
      x[i] = sum;
    }
  }

  // Q += G Q' G' + sym(G hb' mf')
  void carry_Q(Index c, const GaussianEdgeAdjoint& adjoint) const {
    const Index D = pack_.dim();
    const double *G = edges_->G.at(c, 0), *mf = edges_->mean_at_zero.at(c, 0);
    const double *next_Q = adjoint.Q.at(c + 1, 0), *next_hb = adjoint.hb.at(c + 1, 0);
    for (Index i = 0; i < D; ++i) {
      through_[i] = 0.0;
      for (Index k = 0; k < D; ++k)
        through_[i] = multiply_add(G[i * D + k], next_hb[k], through_[i]);
      for (Index j = 0; j < D; ++j) {
        double sum = 0.0;
        for (Index k = 0; k < D; ++k)
          sum = multiply_add(G[i * D + k], next_Q[k * D + j], sum);
        product_[i * D + j] = sum;
      }
    }
    double* Q = adjoint.Q.at(c, 0);
    for (Index i = 0; i < D; ++i)
      for (Index j = 0; j <= i; ++j) {
        double sum = multiply_add(through_[j], mf[i], through_[i] * mf[j]);
        for (Index k = 0; k < D; ++k)
          sum = multiply_add(product_[i * D + k], G[j * D + k], sum);
        Q[i * D + j] += sum;
        if (j < i) Q[j * D + i] = Q[i * D + j];
      }
  }

  const Pack& pack_;
  const GaussianEdges* edges_;
  bool has_edge_;
  V* rows_;          // (D D,)
  double* product_;  // (D, D)
  double* through_;  // (D,)
};

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
