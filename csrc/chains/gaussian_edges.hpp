// How chunks of a long sequence are entered, on the way back, from the first step of the
// next chunk: the edge. gaussian_chunks.hpp has found its moments; its samples are those
// that one pass over all steps would find.
//
// Going down from x' = 0 the sampler reaches c instead of the first step x of its chunk,
// and x = c + G x' with the matrix G of the chain of edges. So the edges follow one from
// the other, the last first, and each chunk is then gone down once more from its own.
#pragma once

#include "chains/gaussian_pack.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

template <class Pack>
class GaussianEntry {
  using V = typename Pack::V;

 public:
  explicit GaussianEntry(const Pack& pack)
      : pack_(pack),
        edges_(pack.problem.edges),
        has_edge_(pack.num_timesteps > pack.own_steps),
        rows_(pack.workspace.template take<V>(pack.dim() * pack.dim())) {}

  // Sets the samples of the last edges, after the way up; of other packs it does nothing.
  template <class Filter, class Sampler>
  void set_samples(const Filter& filter, Sampler& sampler) const {
    const Index num_samples = pack_.problem.num_samples;
    if (!edges_ || num_samples == 0) return;
    for (Index t = pack_.own_steps - 1; t >= 0; --t) sampler.step(t, filter.at(t));
    const Index first = pack_.sequence[0], last = pack_.sequence[width<V> - 1];
    edges_->relay->wait_for(last + 1);
    for (Index w = width<V> - 1; w >= 0; --w) hand_down(w, sampler.x);
    edges_->relay->hand_on(first);
    for (Index s = 0; has_edge_ && s < num_samples; ++s) {
      const Rows<const double> rows = next(edges_->samples, s * pack_.dim());
      pack_.load(rows, 0, 0, pack_.vector_of(sampler.x, s).data, pack_.dim());
    }
  }

  // Sets the moments of the last edges. Returns whether there are any.
  template <class Smoother>
  bool set_moments(Smoother& smoother) const {
    if (!has_edge_) return false;
    const Index D = pack_.dim();
    pack_.load(next(edges_->cov_J), 0, 0, rows_, D * D);
    set_from_rows(rows_, D, smoother.cov);
    pack_.load(next(edges_->mean), 0, 0, smoother.mean.data, D);
    return true;
  }

 private:
  // The rows of the edges at which the chunks end. A last chunk has its own instead,
  // which nothing depends on.
  Rows<const double> next(const Rows<double>& rows,  // (C, ...)
                          Index offset = 0) const {
    return {rows.data + rows.sequence_stride + offset, rows.sequence_stride, 0};
  }

  // x = c + G x' of one chunk; the last has no x'.
  void hand_down(Index w, V* c) const {  // (S, D)
    const Index D = pack_.dim(), chunk = pack_.sequence[w];
    const bool is_last = chunk + 1 == pack_.problem.num_sequences;
    const double* G = edges_->G.at(chunk, 0);
    for (Index s = 0; s < pack_.problem.num_samples; ++s) {
      const double* next_x = edges_->samples.at(chunk + 1, 0) + s * D;
      double* x = edges_->samples.at(chunk, 0) + s * D;
      for (Index i = 0; i < D; ++i) {
        double sum = lane(pack_.vector_of(c, s)[i], w);
        for (Index j = 0; !is_last && j < D; ++j) sum += G[i * D + j] * next_x[j];
        x[i] = sum;
      }
    }
  }

  const Pack& pack_;
  const GaussianEdges* edges_;
  bool has_edge_;
  V* rows_;  // (D D,)
};

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
