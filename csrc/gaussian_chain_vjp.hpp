// Adjoint of the Gaussian chain (gaussian_chain.hpp): cotangents (bar) of all potentials
// and of the noise, given those of the statistics and of the samples.
//
// The statistics are the gradient of log Z, so their adjoint is the Hessian of log Z
// times their cotangents: the tangent (d) of filter and smoother, in the direction of the
// cotangents taken as potentials. With dLam(J) = -(dJ + dJ'):
//
//   filter    dA = dA_p + dLam(Jn) + dLam(J11),  dh = dh_p + dhn,
//             dmf = A^-1 (dh - dA mf)                            of  mf = A^-1 h
//             dG = A^-1 (dB - dA G)                              of  G = A^-1 B
//             dA_p' = dLam(J22) - dB'G - G'dB + G'dA G           of  Lam(J22) - B'A^-1 B
//             dh_p' = dB'mf + G'(dh - dA mf)                     of  B'A^-1 h
//   smoother  dm = dmf + dG m' + G dm',  dC = dG P' + G dP'
//             dP = -A^-1 dA A^-1 + dG C' + C dG' + G dP' G'
//
// Samples come from x = mf + L^-T noise + G x'. Their reverse goes up in time and ends in
// cotangents of A, h and B, which the reverse of the filter takes down. Ab and hb, the
// cotangents of A and h, follow there the linear part of dP and dm:
//
//   sampler   lam = x_bar + (G'lam) of step t-1,  r = L^-1 lam = noise_bar,  u = L^-T r
//   filter    hb = u + G hb'
//             Ab = G Ab' G' - sym(G hb' mf') - sym(u (mf + G x')') - L^-T sym(Phi) L^-1
//             Bb = u x'' + mf hb'' - 2 G Ab'
//
// where Phi is the lower half of noise r', its diagonal halved (the adjoint of a Cholesky
// factor), and a double prime means: of step t+1, transposed. The cotangent of a literal
// J is -2 Ab, so Q = dP - 2 Ab is carried in one.
#pragma once

#include "gaussian_chain.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

// Tangent of one filtered step.
template <class V>
struct GaussianConditionalTangent {
  Matrix<V> A, G, filtered_mean;
};

// Steps up, after the filter; keeps the tangents for the way back.
template <class V>
class GaussianFilterTangent {
 public:
  GaussianFilterTangent(const GaussianPack<V>& pack,
                        const GaussianArrays<const double>& direction,
                        Workspace& workspace)
      : pack_(pack),
        terms_(pack, direction, workspace),
        dA_(take_matrix<V>(workspace, D(), D(), Shape::symmetric)),
        half_(take_matrix<V>(workspace, D(), D())),
        dh_(take_matrix<V>(workspace, D(), 1)),
        next_h_(take_matrix<V>(workspace, D(), 1)),
        filtered_mean_(take_matrix<V>(workspace, D(), 1)),
        kept_(workspace.take<V>(pack.num_timesteps * kept_size())) {}

  GaussianConditionalTangent<V> at(Index t) const {
    V* kept = kept_ + t * kept_size();
    return {matrix(kept, D(), D(), Shape::symmetric), matrix(kept + D() * D(), D(), D()),
            matrix(kept + 2 * D() * D(), D(), 1)};
  }

  void step(Index t, const GaussianConditional<V>& given) {
    const auto& [L, G, w] = given;
    const auto [dA, dG, dmf] = at(t);
    if (t == 0) terms_.set_init(dA_, dh_);
    terms_.add_node(t, dA_, dh_);
    if (t + 1 < pack_.num_timesteps) add(terms_.J11.at(t), dA_);
    copy(dA_, dA);

    // mf = A^-1 h
    copy(w, filtered_mean_);
    solve_lower_transposed(L, filtered_mean_);
    multiply(Update::subtract, dA, filtered_mean_, dh_);
    copy(dh_, dmf);
    solve(L, dmf);
    if (t + 1 == pack_.num_timesteps) return;

    // h_p' = B'A^-1 h,  with dh - dA mf in place of dh
    const Matrix<V>& dB = terms_.J12.at(t);
    multiply(Update::set, dA, G, dG);
    multiply(Update::set, G.transposed(), dh_, next_h_);
    multiply(Update::add, dB.transposed(), filtered_mean_, next_h_);
    copy(next_h_, dh_);

    // A_p' = Lam(J22) - B'A^-1 B:  G'dA G - dB'G - G'dB = H'G + G'H,  H = dA G / 2 - dB
    for (Index k = 0; k < D() * D(); ++k) {
      half_.data[k] = 0.5 * dG.data[k] - dB.data[k];
      dG.data[k] = dB.data[k] - dG.data[k];
    }
    copy(terms_.J22.at(t), dA_);
    add_twice_symmetric(half_.transposed(), G, dA_);

    // G = A^-1 B
    solve(L, dG);
  }

 private:
  Index D() const { return pack_.latent_dim; }
  Index kept_size() const { return 2 * D() * D() + D(); }

  static void solve(const Matrix<V>& L, const Matrix<V>& B) {
    solve_lower(L, B);
    solve_lower_transposed(L, B);
  }

  const GaussianPack<V>& pack_;
  GaussianTerms<V> terms_;
  Matrix<V> dA_, half_, dh_, next_h_, filtered_mean_;
  V* kept_;
};

// Steps up, after the filter: cotangents of the noise, and u = A^-1 lam.
template <class V>
class GaussianSamplerReverse {
 public:
  GaussianSamplerReverse(const GaussianPack<V>& pack, const GaussianAdjoint& adjoint,
                         Workspace& workspace)
      : pack_(pack),
        adjoint_(adjoint),
        lam_(take_matrix<V>(workspace, D(), S())),
        carried_(take_matrix<V>(workspace, D(), S())),
        kept_(workspace.take<V>(pack.num_timesteps * 2 * D() * S())) {
    fill_zero(carried_);
  }

  Matrix<V> r(Index t) const { return matrix(kept_ + 2 * t * D() * S(), D(), S()); }
  Matrix<V> u(Index t) const { return matrix(kept_ + (2 * t + 1) * D() * S(), D(), S()); }

  void step(Index t, const GaussianConditional<V>& given) {
    // x of step t-1 = .. + G x
    pack_.load_columns(adjoint_.samples_bar, t, lam_);
    add(carried_, lam_);
    // x = .. + L^-T noise
    copy(lam_, r(t));
    solve_lower(given.L, r(t));
    pack_.store_columns(r(t), adjoint_.noise_bar, t);
    copy(r(t), u(t));
    solve_lower_transposed(given.L, u(t));
    if (t + 1 < pack_.num_timesteps)
      multiply(Update::set, given.G.transposed(), lam_, carried_);
  }

 private:
  Index D() const { return pack_.latent_dim; }
  Index S() const { return pack_.problem.num_samples; }

  const GaussianPack<V>& pack_;
  const GaussianAdjoint& adjoint_;
  Matrix<V> lam_, carried_;
  V* kept_;
};

// Steps down, after smoother and sampler: cotangents of the potentials.
template <class V>
class GaussianSmootherAdjoint {
 public:
  GaussianSmootherAdjoint(const GaussianPack<V>& pack, Workspace& workspace)
      : J_bar(take_matrix<V>(workspace, D(pack), D(pack), Shape::symmetric)),
        h_bar(take_matrix<V>(workspace, D(pack), 1)),
        J12_bar(take_matrix<V>(workspace, D(pack), D(pack))),
        Q_(take_matrix<V>(workspace, D(pack), D(pack), Shape::symmetric)),
        next_Q_(take_matrix<V>(workspace, D(pack), D(pack), Shape::symmetric)),
        whitened_(take_matrix<V>(workspace, D(pack), D(pack), Shape::symmetric)),
        product_(take_matrix<V>(workspace, D(pack), D(pack))),
        half_(take_matrix<V>(workspace, D(pack), D(pack))),
        dm_(take_matrix<V>(workspace, D(pack), 1)),
        next_dm_(take_matrix<V>(workspace, D(pack), 1)),
        hb_(take_matrix<V>(workspace, D(pack), 1)),
        next_hb_(take_matrix<V>(workspace, D(pack), 1)),
        through_(take_matrix<V>(workspace, D(pack), 1)),
        num_timesteps_(pack.num_timesteps) {}

  void step(Index t, const GaussianConditional<V>& given,
            const GaussianConditionalTangent<V>& tangent,
            const GaussianSmoother<V>& smoother, const GaussianSampler<V>& sampler,
            const Matrix<V>& r, const Matrix<V>& u) {
    swap(dm_, next_dm_);
    swap(hb_, next_hb_);
    swap(Q_, next_Q_);

    // A: -A^-1 dA A^-1 + 2 L^-T sym(Phi) L^-1 = R' (Phi + Phi' - R dA R') R
    const Matrix<V>& R = smoother.R;
    for (Index i = 0; i < Q_.rows; ++i)
      for (Index j = 0; j <= i; ++j) {
        V sum = broadcast<V>(0.0);
        for (Index s = 0; s < r.columns; ++s) sum += sampler.noise(i, s) * r(j, s);
        whitened_(i, j) = sum;
      }
    multiply(Update::set, tangent.A, R.transposed(), product_);
    multiply(Update::subtract, R, product_, whitened_);
    multiply(Update::set, whitened_, R, product_);
    multiply(Update::set, R.transposed(), product_, Q_);
    add_twice_symmetric(u, sampler.conditional_mean.transposed(), Q_);

    // h: hb = u + G hb',  and dm = dmf + dG m' + G dm'
    for (Index i = 0; i < hb_.rows; ++i) {
      hb_(i, 0) = broadcast<V>(0.0);
      for (Index s = 0; s < u.columns; ++s) hb_(i, 0) += u(i, s);
    }
    copy(tangent.filtered_mean, dm_);
    const Matrix<V>& mean = smoother.mean;
    if (t + 1 < num_timesteps_) couple(given.G, tangent.G, smoother, sampler, u);

    // J: Q + dm m' + m dm'
    copy(Q_, J_bar);
    add_twice_symmetric(dm_, mean.transposed(), J_bar);
    copy(dm_, h_bar);
    add(hb_, h_bar);
  }

  Matrix<V> J_bar, h_bar, J12_bar;

 private:
  static Index D(const GaussianPack<V>& pack) { return pack.latent_dim; }

  // What comes through G from step t+1.
  void couple(const Matrix<V>& G, const Matrix<V>& dG,
              const GaussianSmoother<V>& smoother, const GaussianSampler<V>& sampler,
              const Matrix<V>& u) {
    multiply(Update::add, dG, smoother.next_mean, dm_);
    multiply(Update::add, G, next_dm_, dm_);

    // B: dG P' + G Q' + dm m'' + m dm'' + u x'' + mf hb''
    multiply(Update::set, dG, smoother.next_cov, J12_bar);
    multiply(Update::set, G, next_Q_, product_);
    for (Index k = 0; k < half_.rows * half_.columns; ++k) {
      half_.data[k] = J12_bar.data[k] + 0.5 * product_.data[k];
      J12_bar.data[k] += product_.data[k];
    }
    multiply(Update::add, dm_, smoother.next_mean.transposed(), J12_bar);
    multiply(Update::add, smoother.mean, next_dm_.transposed(), J12_bar);
    multiply(Update::add, u, sampler.next_x.transposed(), J12_bar);
    multiply(Update::add, smoother.filtered_mean, next_hb_.transposed(), J12_bar);

    // Q: dG C' + C dG' + G Q' G' = H G' + G H',  H = dG P' + G Q' / 2;  2 sym(G hb' mf')
    add_twice_symmetric(half_, G.transposed(), Q_);
    multiply(Update::set, G, next_hb_, through_);
    add_twice_symmetric(through_, smoother.filtered_mean.transposed(), Q_);
    add(through_, hb_);
  }

  Matrix<V> Q_, next_Q_, whitened_, product_, half_, dm_, next_dm_, hb_, next_hb_,
      through_;
  Index num_timesteps_;
};

template <class V>
void gaussian_chain_vjp(const GaussianPack<V>& pack, const GaussianAdjoint& adjoint,
                        Workspace& workspace) {
  GaussianFilter<V> filter(pack, workspace);
  GaussianFilterTangent<V> tangent(pack, adjoint.stats_bar, workspace);
  GaussianSamplerReverse<V> reverse(pack, adjoint, workspace);
  GaussianSmoother<V> smoother(pack, workspace);
  GaussianSampler<V> sampler(pack, workspace);
  GaussianSmootherAdjoint<V> bars(pack, workspace);
  GaussianOutput<V> output(pack, adjoint.potentials_bar, workspace);

  for (Index t = 0; t < pack.num_timesteps; ++t) {
    filter.step(t);
    tangent.step(t, filter.at(t));
    reverse.step(t, filter.at(t));
  }
  filter.report(adjoint.failed_step);

  for (Index t = pack.num_timesteps - 1; t >= 0; --t) {
    const GaussianConditional<V> given = filter.at(t);
    smoother.step(t, given);
    sampler.step(t, given, smoother.filtered_mean);
    bars.step(t, given, tangent.at(t), smoother, sampler, reverse.r(t), reverse.u(t));
    output.store(t, bars.J_bar, bars.h_bar, bars.J12_bar);
  }
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
