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
//   filter    A = A_p + Lam(Jn) + Lam(J11),  h = h_p + hn,  A = L L',  w = L^-1 h,
//             W = L^-1 J12,  A_p' = Lam(J22) - W'W,  h_p' = W'w,
//             log Z += w'w/2 - log|L| + D/2 log(2 pi)
//   smoother  G = L^-T W,  m = L^-T w + G m',  C = G P',  P = A^-1 + C G'
//   sampler   x = L^-T (w + noise) + G x'
#pragma once

#include "gaussian_pack.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

// x_t given x_{t+1} and the steps up to t: normal, mean L^-T w + G x_{t+1}, precision L
// L'.
template <class V>
struct GaussianConditional {
  Matrix<V> L, G, w;
};

// Steps up; keeps the conditionals for the way back.
template <class V>
class GaussianFilter {
 public:
  GaussianFilter(const GaussianPack<V>& pack, Workspace& workspace)
      : pack_(pack),
        terms_(pack, pack.problem.potentials, workspace),
        A_(take_matrix<V>(workspace, D(), D(), Shape::symmetric)),
        h_(take_matrix<V>(workspace, D(), 1)),
        kept_(workspace.take<V>(pack.num_timesteps * kept_size())) {}

  GaussianConditional<V> at(Index t) const {
    V* kept = kept_ + t * kept_size();
    return {matrix(kept, D(), D(), Shape::lower), matrix(kept + D() * D(), D(), D()),
            matrix(kept + 2 * D() * D(), D(), 1)};
  }

  void step(Index t) {
    const auto [L, G, w] = at(t);
    if (t == 0) terms_.set_init(A_, h_);
    terms_.add_node(t, A_, h_);
    if (t + 1 < pack_.num_timesteps) add(terms_.J11.at(t), A_);
    for (Index i = 0; i < D(); ++i)
      A_(i, i) += pack_.within(t, broadcast<V>(0.0), broadcast<V>(1.0));

    copy(A_, L);
    note_failures(t, cholesky(L, determinant_));
    copy(h_, w);
    solve_lower(L, w);
    for (Index i = 0; i < D(); ++i) quadratic_ += w(i, 0) * w(i, 0);
    if (t + 1 == pack_.num_timesteps) return;

    copy(terms_.J12.at(t), G);
    solve_lower(L, G);  // W
    copy(terms_.J22.at(t), A_);
    multiply(Update::subtract, G.transposed(), G, A_);
    multiply(Update::set, G.transposed(), w, h_);
    solve_lower_transposed(L, G);
  }

  V log_normalizer() const {
    constexpr double kHalfLog2Pi = 0.91893853320467274178;
    return 0.5 * quadratic_ - determinant_.value() +
           pack_.lengths * (kHalfLog2Pi * double(D()));
  }

  void report(Index* failed_step) const { pack_.store_each(failed_step_, failed_step); }

 private:
  Index D() const { return pack_.latent_dim; }
  Index kept_size() const { return 2 * D() * D() + D(); }

  void note_failures(Index t, V success) {
    const V none = broadcast<V>(-1.0);
    const V now = select(success > broadcast<V>(0.0), none, broadcast<V>(double(t)));
    failed_step_ = select(failed_step_ == none, now, failed_step_);
  }

  const GaussianPack<V>& pack_;
  GaussianTerms<V> terms_;
  Matrix<V> A_, h_;
  V* kept_;
  V quadratic_ = broadcast<V>(0.0);
  LogProduct<V> determinant_;
  V failed_step_ = broadcast<V>(-1.0);
};

template <class V>
void swap(Matrix<V>& a, Matrix<V>& b) {
  const Matrix<V> kept = a;
  a = b;
  b = kept;
}

// Steps down: mean and covariance of x_t, Cov(x_t, x_{t+1}), and those of step t+1.
template <class V>
class GaussianSmoother {
 public:
  GaussianSmoother(const GaussianPack<V>& pack, Workspace& workspace)
      : filtered_mean(take_matrix<V>(workspace, pack.latent_dim, 1)),
        mean(take_matrix<V>(workspace, pack.latent_dim, 1)),
        next_mean(take_matrix<V>(workspace, pack.latent_dim, 1)),
        R(take(pack, workspace, Shape::lower)),
        cov(take(pack, workspace, Shape::symmetric)),
        next_cov(take(pack, workspace, Shape::symmetric)),
        cross_cov(take(pack, workspace, Shape::full)),
        num_timesteps_(pack.num_timesteps) {}

  void step(Index t, const GaussianConditional<V>& given) {
    swap(mean, next_mean);
    swap(cov, next_cov);
    copy(given.w, filtered_mean);
    solve_lower_transposed(given.L, filtered_mean);
    copy(filtered_mean, mean);
    invert_lower(given.L, R);
    multiply(Update::set, R.transposed(), R, cov);
    if (t + 1 == num_timesteps_) return;
    multiply(Update::add, given.G, next_mean, mean);
    multiply(Update::set, given.G, next_cov, cross_cov);
    multiply(Update::add, cross_cov, given.G.transposed(), cov);
  }

  Matrix<V> filtered_mean;  // L^-T w, the mean of x_t given x_{t+1} = 0
  Matrix<V> mean, next_mean;
  Matrix<V> R;  // L^-1
  Matrix<V> cov, next_cov, cross_cov;

 private:
  static Matrix<V> take(const GaussianPack<V>& pack, Workspace& workspace, Shape shape) {
    return take_matrix<V>(workspace, pack.latent_dim, pack.latent_dim, shape);
  }

  Index num_timesteps_;
};

// Steps down, after the smoother: samples of x_t in the columns of x.
template <class V>
class GaussianSampler {
 public:
  GaussianSampler(const GaussianPack<V>& pack, Workspace& workspace)
      : x(take(pack, workspace)),
        next_x(take(pack, workspace)),
        conditional_mean(take(pack, workspace)),
        noise(take(pack, workspace)),
        pack_(pack) {}

  void step(Index t, const GaussianConditional<V>& given,
            const Matrix<V>& filtered_mean) {
    swap(x, next_x);
    for (Index i = 0; i < x.rows; ++i)
      for (Index s = 0; s < x.columns; ++s) conditional_mean(i, s) = filtered_mean(i, 0);
    if (t + 1 < pack_.num_timesteps)
      multiply(Update::add, given.G, next_x, conditional_mean);
    pack_.load_columns(pack_.problem.noise, t, noise);
    copy(noise, x);
    solve_lower_transposed(given.L, x);
    add(conditional_mean, x);
  }

  Matrix<V> x, next_x;
  Matrix<V> conditional_mean;  // of x_t given x_{t+1}
  Matrix<V> noise;

 private:
  static Matrix<V> take(const GaussianPack<V>& pack, Workspace& workspace) {
    return take_matrix<V>(workspace, pack.latent_dim, pack.problem.num_samples);
  }

  const GaussianPack<V>& pack_;
};

template <class V>
void gaussian_chain(const GaussianPack<V>& pack, const GaussianResult& result,
                    Workspace& workspace) {
  const Index D = pack.latent_dim, T = pack.num_timesteps;
  GaussianFilter<V> filter(pack, workspace);
  GaussianSmoother<V> smoother(pack, workspace);
  GaussianSampler<V> sampler(pack, workspace);
  GaussianOutput<V> output(pack, result.stats, workspace);
  const Matrix<V> ExxT = take_matrix<V>(workspace, D, D, Shape::symmetric);
  const Matrix<V> ExxnT = take_matrix<V>(workspace, D, D);

  for (Index t = 0; t < T; ++t) filter.step(t);
  pack.store_each(filter.log_normalizer(), result.log_normalizer);
  filter.report(result.failed_step);

  for (Index t = T - 1; t >= 0; --t) {
    const GaussianConditional<V> given = filter.at(t);
    smoother.step(t, given);
    copy(smoother.cov, ExxT);
    multiply(Update::add, smoother.mean, smoother.mean.transposed(), ExxT);
    if (t + 1 < T) {
      copy(smoother.cross_cov, ExxnT);
      multiply(Update::add, smoother.mean, smoother.next_mean.transposed(), ExxnT);
    }
    output.store(t, ExxT, smoother.mean, ExxnT);
    if (sampler.x.columns == 0) continue;
    sampler.step(t, given, smoother.filtered_mean);
    pack.store_columns(sampler.x, result.samples, t);
  }
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
