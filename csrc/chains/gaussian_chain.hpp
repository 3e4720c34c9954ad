// Inference in a Gaussian chain x_1..x_T: log normalizer, expected statistics and
// samples. Its adjoint is in gaussian_chain_vjp.hpp.
//
//   p(x)  prop. to  exp( <J0, x_1 x_1'> + h0'x_1 + sum_t [ <Jn_t, x_t x_t'> + hn_t'x_t
//                    + <J11_t, x_t x_t'> + x_t' J12_t x_{t+1} + <J22_t, x_{t+1} x_{t+1}'>
//                    ] )
//
// Integrating out x_1, x_2, ... in turn is a block Cholesky factorisation of the joint
// precision (information filter and Rauch-Tung-Striebel smoother; a prime after a name
// marks step t+1, after a matrix its transpose; Lam(J) = -(J + J')):
//
//   filter    A = A_p + Lam(Jn) + Lam(J11),  h = h_p + hn,  A = L d L',  w = L^-1 h,
//             W = L^-1 J12,  A_p' = Lam(J22) - W'd^-1 W,  h_p' = W'd^-1 w,
//             G = L^-T d^-1 W,  mf = L^-T d^-1 w,
//             log Z += w'd^-1 w/2 - log|d|/2 + D/2 log(2 pi)
//   smoother  m = mf + G m',  C = G P',  P = A^-1 + C G'
//   sampler   x = mf + L^-T d^-1/2 noise + G x'
#pragma once

#include "chains/gaussian_edges.hpp"
#include "chains/segments.hpp"
#include "lanes/first_failure.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

// Rows of matrices: to filter a segment again costs more than to fetch it from memory.
constexpr Budget kGaussianBudget = {Index(128) << 20, Index(32) << 20};

// Chunks are short, and gone down more than once.
template <class Pack>
Segments segments_of(const Pack& pack, Index kept_size) {
  if (pack.problem.edges) return Segments(pack.own_steps);
  return Segments(pack.own_steps, kept_size * Index(sizeof(typename Pack::V)),
                  kGaussianBudget);
}

// x_t given x_{t+1} and the steps up to t: normal, mean mf + G x_{t+1}, precision L d L'.
template <class Pack>
struct GaussianConditional {
  typename Pack::LowerMatrix L;
  typename Pack::FullMatrix G;
  Vector<typename Pack::V> mean;   // mf
  Vector<typename Pack::V> roots;  // d^-1/2, if they are asked for
};

// Steps up; keeps the conditionals of a segment for the way back.
template <class Pack>
class GaussianFilter {
  using V = typename Pack::V;
  using Full = typename Pack::FullMatrix;
  using Lower = typename Pack::LowerMatrix;
  using Symmetric = typename Pack::SymmetricMatrix;

 public:
  GaussianFilter(const Pack& pack, const Segments& segments)
      : pack_(pack),
        terms_(pack, pack.problem.potentials),
        A_(pack.template take<Symmetric>()),
        W_(pack.template take<Full>()),
        h_(pack.take_vector()),
        roots_(pack.take_vector()),
        kept_(segments, kept_size(pack), pack.workspace),
        A_checkpoints_(segments, A_.data, A_.size(), pack.workspace),
        h_checkpoints_(segments, h_.data, pack.padded_dim(), pack.workspace) {}

  static Index kept_size(const Pack& pack) {
    return pack.template size_of<Lower>() + pack.template size_of<Full>() +
           pack.padded_dim();
  }

  GaussianConditional<Pack> at(Index t) const {
    V* kept = kept_.at(t);
    const Lower L = pack_.template matrix<Lower>(kept);
    const Full G = pack_.template matrix<Full>(kept + L.size());
    return {L, G, {G.data + G.size()}, roots_};
  }
  // The same with its roots, until those of another step are asked for.
  SVAE_ALWAYS_INLINE GaussianConditional<Pack> with_roots(Index t) const {
    const GaussianConditional<Pack> given = at(t);
    find_roots(given.L, roots_);
    return given;
  }

  SVAE_ALWAYS_INLINE void step(Index t, Pass pass) {
    const auto [L, G, mean, roots] = at(t);  // without roots
    A_checkpoints_.pass(t, pass);
    h_checkpoints_.pass(t, pass);
    if (t == 0) terms_.set_init(A_, h_);
    terms_.add_node(t, A_, h_);
    if (t + 1 < pack_.num_timesteps) terms_.pairs.add_left(t, A_, h_);
    pack_.complete_diagonal(t, A_);

    LogProduct<V> determinant = inverse_determinant_;
    const V success = factorise(A_, L, determinant);
    solve(L, h_);  // w
    divide_by_pivots(L, h_, mean);
    if (pass == Pass::first) {
      failure_.note(t, success);
      inverse_determinant_ = determinant;
      for (Index i = 0; i < pack_.dim(); ++i) quadratic_ += h_[i] * mean[i];
    }
    if (t + 1 < pack_.num_timesteps) {
      solve(L, terms_.pairs.J12(t), W_, G);  // G = d^-1 W
      multiply<Update::subtract>(transposed(W_), G, terms_.pairs.J22(t), A_);
      multiply<Update::set>(transposed(W_), mean, h_);
      terms_.pairs.add_right(h_);
      solve(transposed(L), G);
    }
    solve(transposed(L), mean);
  }

  V log_normalizer() const {
    constexpr double kHalfLog2Pi = 0.91893853320467274178;
    return 0.5 * (quadratic_ + inverse_determinant_.value()) +
           pack_.owned * (kHalfLog2Pi * double(pack_.dim()));
  }

  // failed_step: (N,)
  void store_failures(Index* failed_step) const { failure_.store(pack_, failed_step); }

  // A_p and h_p of step t + 1, after step t
  const Symmetric& next_precision() const { return A_; }
  Vector<V> next_h() const { return h_; }

 private:
  const Pack& pack_;
  GaussianTerms<Pack> terms_;
  Symmetric A_;
  Full W_;
  Vector<V> h_, roots_;
  KeptSteps<V> kept_;
  Checkpoints<V> A_checkpoints_, h_checkpoints_;
  V quadratic_ = broadcast<V>(0.0);
  LogProduct<V> inverse_determinant_;
  FirstFailure<V> failure_;  // the step whose precision was not positive definite
};

// Steps down: mean (D,) and covariance (D, D) of x_t, Cov(x_t, x_{t+1}), and those of
// step t+1.
template <class Pack>
class GaussianSmoother {
  using V = typename Pack::V;
  using Symmetric = typename Pack::SymmetricMatrix;

 public:
  explicit GaussianSmoother(const Pack& pack)
      : mean(pack.take_vector()),
        next_mean(pack.take_vector()),
        R(pack.template take<typename Pack::LowerMatrix>()),
        cov(pack.template take<Symmetric>()),
        next_cov(pack.template take<Symmetric>()),
        cross_cov(pack.template take<typename Pack::FullMatrix>()),
        pack_(pack) {}

  SVAE_ALWAYS_INLINE void step(Index t, const GaussianConditional<Pack>& given) {
    swap(mean, next_mean);
    swap(cov, next_cov);
    copy(given.mean.data, mean.data, pack_.padded_dim());
    invert(given.L, given.roots, R);
    multiply<Update::set>(transposed(R), R, cov);
    if (t + 1 == pack_.num_timesteps) return;
    multiply<Update::add>(given.G, next_mean, mean);
    multiply<Update::set>(given.G, next_cov, cross_cov);
    multiply<Update::add>(cross_cov, transposed(given.G), cov);
  }

  Vector<V> mean, next_mean;
  typename Pack::LowerMatrix R;  // d^-1/2 L^-1
  Symmetric cov, next_cov;
  typename Pack::FullMatrix cross_cov;

 private:
  const Pack& pack_;
};

// Steps down, after the smoother: samples of x_t, one vector after the other.
template <class Pack>
class GaussianSampler {
  using V = typename Pack::V;

 public:
  explicit GaussianSampler(const Pack& pack)
      : x(take(pack)),
        next_x(take(pack)),
        conditional_mean(take(pack)),
        noise(take(pack)),
        pack_(pack),
        streams_(pack, pack.problem.noise) {}

  SVAE_ALWAYS_INLINE void step(Index t, const GaussianConditional<Pack>& given) {
    swap(x, next_x);
    const Index size = pack_.padded_dim();
    for (Index s = 0; s < pack_.problem.num_samples; ++s) {
      const Vector<V> mean = pack_.vector_of(conditional_mean, s);
      const Vector<V> sample = pack_.vector_of(x, s);
      const Vector<V> noise_of_sample = pack_.vector_of(noise, s);
      copy(streams_[s].at(t), noise_of_sample.data, pack_.dim());
#pragma GCC unroll 5
      for (Index i = 0; i < size; ++i) sample[i] = noise_of_sample[i] * given.roots[i];
      solve(transposed(given.L), sample);
      copy(given.mean.data, mean.data, size);
      if (t + 1 < pack_.num_timesteps)
        multiply<Update::add>(given.G, pack_.vector_of(next_x, s), mean);
      add_terms(mean.data, sample.data, size);
    }
  }

  V *x, *next_x;        // (S, D)
  V* conditional_mean;  // (S, D), of x_t given x_{t+1}
  V* noise;             // (S, D)

 private:
  static V* take(const Pack& pack) { return pack.take_vectors(pack.problem.num_samples); }

  const Pack& pack_;
  SampleStreams<RowReader<V>> streams_;
};

template <class Pack>
WithOuter<typename Pack::SymmetricMatrix, typename Pack::V> ExxT(
    const GaussianSmoother<Pack>& smoother) {
  return {smoother.cov, smoother.mean, smoother.mean};
}

template <class Pack>
WithOuter<typename Pack::FullMatrix, typename Pack::V> ExxnT(
    const GaussianSmoother<Pack>& smoother) {
  return {smoother.cross_cov, smoother.mean, smoother.next_mean};
}

template <class Pack, class Result>
void gaussian_chain(const typename Pack::Problem& problem, const Result& result,
                    Index first, Workspace& workspace) {
  using V = typename Pack::V;
  const Pack pack(problem, first, workspace);
  const Segments segments = segments_of(pack, GaussianFilter<Pack>::kept_size(pack));
  GaussianFilter<Pack> filter(pack, segments);
  GaussianSmoother<Pack> smoother(pack);
  GaussianSampler<Pack> sampler(pack);
  const GaussianEntry<Pack> entry(pack);
  SampleStreams<RowWriter<V>> samples(pack, result.samples);
  GaussianOutput<Pack> output(pack, result.stats);

  there_and_back(
      segments, [&](Index t, Pass pass) { filter.step(t, pass); },
      [&] {
        pack.store_each(filter.log_normalizer(), result.log_normalizer);
        filter.store_failures(result.failed_step);
        entry.find_samples(filter, sampler);
        if (entry.load(smoother, sampler))
          output.store(pack.own_steps, ExxT(smoother), smoother.mean, ExxnT(smoother));
      },
      [&](Index t) {
        const GaussianConditional<Pack> given = filter.with_roots(t);
        smoother.step(t, given);
        output.store(t, ExxT(smoother), smoother.mean, ExxnT(smoother));
        sampler.step(t, given);
        for (Index s = 0; s < problem.num_samples; ++s)
          copy(pack.vector_of(sampler.x, s).data, samples[s].at(t), pack.dim());
      });
  samples.finish();
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
