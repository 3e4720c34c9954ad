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

#include "chains/gaussian_chain.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

// Tangent of one filtered step.
template <class Pack>
struct GaussianConditionalTangent {
  typename Pack::SymmetricMatrix A;
  typename Pack::FullMatrix G;
  Vector<typename Pack::V> mean;  // dmf
};

// Steps up, after the filter; keeps the tangents of a segment for the way back.
template <class Pack>
class GaussianFilterTangent {
  using V = typename Pack::V;
  using Symmetric = typename Pack::SymmetricMatrix;
  using Full = typename Pack::FullMatrix;

 public:
  template <class Arrays>
  GaussianFilterTangent(const Pack& pack, const Arrays& direction,
                        const Segments& segments)
      : pack_(pack),
        terms_(pack, direction),
        dA_(pack.template take<Symmetric>()),
        half_(pack.template take<Full>()),
        dh_(pack.take_vector()),
        next_h_(pack.take_vector()),
        kept_(segments, kept_size(pack), pack.workspace),
        A_checkpoints_(segments, dA_.data, dA_.size(), pack.workspace),
        h_checkpoints_(segments, dh_.data, pack.padded_dim(), pack.workspace) {}

  static Index kept_size(const Pack& pack) {
    return pack.template size_of<Symmetric>() + pack.template size_of<Full>() +
           pack.padded_dim();
  }

  GaussianConditionalTangent<Pack> at(Index t) const {
    V* kept = kept_.at(t);
    const Symmetric A = pack_.template matrix<Symmetric>(kept);
    const Full G = pack_.template matrix<Full>(kept + A.size());
    return {A, G, {G.data + G.size()}};
  }

  // Tangents of A_p and h_p of step t + 1, after step t
  const Symmetric& next_precision() const { return dA_; }
  Vector<V> next_h() const { return dh_; }

  SVAE_ALWAYS_INLINE void step(Index t, Pass pass,
                               const GaussianConditional<Pack>& given) {
    const auto& L = given.L;
    const auto& G = given.G;
    const auto& mf = given.mean;
    const auto [dA, dG, dmf] = at(t);
    A_checkpoints_.pass(t, pass);
    h_checkpoints_.pass(t, pass);
    if (t == 0) terms_.set_init(dA_, dh_);
    terms_.add_node(t, dA_, dh_);
    if (t + 1 < pack_.num_timesteps) terms_.pairs.add_left(t, dA_, dh_);
    copy(dA_.data, dA.data, dA.size());

    // mf = A^-1 h
    multiply<Update::subtract>(dA, mf, dh_);
    copy(dh_.data, dmf.data, pack_.padded_dim());
    solve(L, dmf);
    divide_by_pivots(L, dmf, dmf);
    solve(transposed(L), dmf);
    if (t + 1 == pack_.num_timesteps) return;

    // h_p' = B'A^-1 h,  with dh - dA mf in place of dh
    const Full& dB = terms_.pairs.J12(t);
    multiply<Update::set>(dA, G, dG);
    multiply<Update::set>(transposed(G), dh_, next_h_);
    multiply<Update::add>(transposed(dB), mf, next_h_);
    copy(next_h_.data, dh_.data, pack_.padded_dim());
    terms_.pairs.add_right(dh_);

    // A_p' = Lam(J22) - B'A^-1 B:  G'dA G - dB'G - G'dB = H'G + G'H,  H = dA G / 2 - dB
    for (Index k = 0; k < dG.size(); ++k) {
      half_.data[k] = multiply_add(broadcast<V>(0.5), dG.data[k], -dB.data[k]);
      dG.data[k] = dB.data[k] - dG.data[k];
    }
    add_twice_symmetric(transposed(half_), G, terms_.pairs.J22(t), dA_);

    // G = A^-1 B
    solve(L, dG, half_, dG);
    solve(transposed(L), dG);
  }

 private:
  const Pack& pack_;
  GaussianTerms<Pack> terms_;
  Symmetric dA_;
  Full half_;
  Vector<V> dh_, next_h_;
  KeptSteps<V> kept_;
  Checkpoints<V> A_checkpoints_, h_checkpoints_;
};

// Steps up, after the filter: cotangents of the noise, and u = A^-1 lam.
template <class Pack>
class GaussianSamplerReverse {
  using V = typename Pack::V;

 public:
  template <class Adjoint>
  GaussianSamplerReverse(const Pack& pack, const Adjoint& adjoint,
                         const Segments& segments)
      : pack_(pack),
        samples_bar_(pack, adjoint.samples_bar),
        noise_bar_(pack, adjoint.noise_bar),
        lam_(pack.take_vector()),
        carried_(pack.take_vectors(pack.problem.num_samples)),
        kept_(segments, kept_size(pack), pack.workspace),
        checkpoints_(segments, carried_, pack.padded_dim() * pack.problem.num_samples,
                     pack.workspace) {
    for (Index s = 0; adjoint.edges && s < pack.problem.num_samples; ++s)
      pack.load(row_of_sample(adjoint.edges->lam, s * pack.dim()), 0, 0, carried(s).data,
                pack.dim());
  }

  // G'lam of a sample, for step t + 1 after step t
  Vector<V> carried(Index s) const { return pack_.vector_of(carried_, s); }

  static Index kept_size(const Pack& pack) {
    return 2 * pack.problem.num_samples * pack.padded_dim();
  }

  // One vector after the other
  V* r(Index t) const { return kept_.at(t); }
  V* u(Index t) const { return r(t) + kept_size(pack_) / 2; }

  SVAE_ALWAYS_INLINE void step(Index t, Pass pass, const GaussianFilter<Pack>& filter) {
    if (pack_.problem.num_samples == 0) return;
    const GaussianConditional<Pack> given = filter.with_roots(t);
    const Index size = pack_.padded_dim();
    checkpoints_.pass(t, pass);
    for (Index s = 0; s < pack_.problem.num_samples; ++s) {
      const Vector<V> carried = this->carried(s);
      const Vector<V> r_of_sample = pack_.vector_of(r(t), s);
      const Vector<V> u_of_sample = pack_.vector_of(u(t), s);
      // x of step t-1 = .. + G x
      copy(samples_bar_[s].at(t), lam_.data, pack_.dim());
      add_terms(carried.data, lam_.data, size);
      // x = .. + L^-T d^-1/2 noise
      copy(lam_.data, r_of_sample.data, size);
      solve(given.L, r_of_sample);
      for (Index i = 0; i < size; ++i) {
        r_of_sample[i] *= given.roots[i];
        u_of_sample[i] = r_of_sample[i] * given.roots[i];
      }
      copy(r_of_sample.data, noise_bar_[s].at(t), pack_.dim());
      solve(transposed(given.L), u_of_sample);
      if (t + 1 < pack_.num_timesteps)
        multiply<Update::set>(transposed(given.G), lam_, carried);
    }
  }

  void finish() { noise_bar_.finish(); }

 private:
  const Pack& pack_;
  SampleStreams<RowReader<V>> samples_bar_;
  SampleStreams<RowWriter<V>> noise_bar_;
  Vector<V> lam_;
  V* carried_;
  KeptSteps<V> kept_;
  Checkpoints<V> checkpoints_;
};

// Steps down, after smoother and sampler: cotangents of the potentials.
template <class Pack>
class GaussianSmootherAdjoint {
  using V = typename Pack::V;
  using Symmetric = typename Pack::SymmetricMatrix;
  using Full = typename Pack::FullMatrix;

 public:
  explicit GaussianSmootherAdjoint(const Pack& pack)
      : J_bar(pack.template take<Symmetric>()),
        h_bar(pack.take_vector()),
        J12_bar(pack.template take<Full>()),
        Q(pack.template take<Symmetric>()),
        dm(pack.take_vector()),
        hb(pack.take_vector()),
        pack_(pack),
        next_Q_(pack.template take<Symmetric>()),
        whitened_(pack.template take<Symmetric>()),
        product_(pack.template take<Full>()),
        half_(pack.template take<Full>()),
        next_dm_(pack.take_vector()),
        next_hb_(pack.take_vector()),
        through_(pack.take_vector()) {}

  SVAE_ALWAYS_INLINE void step(Index t, const GaussianConditional<Pack>& given,
                               const GaussianConditionalTangent<Pack>& tangent,
                               const GaussianSmoother<Pack>& smoother,
                               const GaussianSampler<Pack>& sampler, V* r,  // (S, D)
                               V* u) {                                      // (S, D)
    swap(dm, next_dm_);
    swap(hb, next_hb_);
    swap(Q, next_Q_);

    // A: -A^-1 dA A^-1 + 2 L^-T sym(Phi) L^-1 = R' (Phi + Phi' - R dA R') R
    const auto& R = smoother.R;
    set_to_lower_half(sampler.noise, r);
    multiply<Update::set>(tangent.A, transposed(R), product_);
    multiply<Update::subtract>(R, product_, whitened_);
    multiply<Update::set>(whitened_, R, product_);
    multiply<Update::set>(transposed(R), product_, Q);

    // h: hb = u + G hb',  and dm = dmf + dG m' + G dm'
    const Index size = pack_.padded_dim();
    fill_zero(hb.data, size);
    for (Index s = 0; s < pack_.problem.num_samples; ++s) {
      const Vector<V> of_sample = pack_.vector_of(u, s);
      add_terms(of_sample.data, hb.data, size);
      add_twice_symmetric_outer(of_sample, pack_.vector_of(sampler.conditional_mean, s),
                                Q);
    }
    copy(tangent.mean.data, dm.data, size);
    if (t + 1 < pack_.num_timesteps) couple(given, tangent.G, smoother, sampler, u);
    set_bars(smoother);
  }

  // J: Q + dm m' + m dm'
  void set_bars(const GaussianSmoother<Pack>& smoother) {
    copy(Q.data, J_bar.data, Q.size());
    add_twice_symmetric_outer(dm, smoother.mean, J_bar);
    copy(dm.data, h_bar.data, pack_.padded_dim());
    add_terms(hb.data, h_bar.data, pack_.padded_dim());
  }

  Symmetric J_bar;
  Vector<V> h_bar;
  Full J12_bar;
  Symmetric Q;
  Vector<V> dm, hb;

 private:
  // The lower half of noise r', mirrored.
  void set_to_lower_half(V* noise,      // (S, D)
                         V* r) const {  // (S, D)
    fill_zero(whitened_.data, whitened_.size());
    for (Index s = 0; s < pack_.problem.num_samples; ++s) {
      const Vector<V> x = pack_.vector_of(noise, s), y = pack_.vector_of(r, s);
      set_entries(whitened_, [&](Index k, Index i, Index j) SVAE_INLINE {
        return multiply_add(x[i], y[j], whitened_.data[k]);
      });
    }
  }

  // A += x y' + y x'
  static void add_twice_symmetric_outer(Vector<V> x,           // (D,)
                                        Vector<V> y,           // (D,)
                                        const Symmetric& A) {  // (D, D)
    set_entries(A, [&](Index k, Index i, Index j) SVAE_INLINE {
      return multiply_add(y[i], x[j], multiply_add(x[i], y[j], A.data[k]));
    });
  }

  // Adds what comes through G from step t+1.
  SVAE_ALWAYS_INLINE void couple(const GaussianConditional<Pack>& given,
                                 const Full& dG,  // (D, D)
                                 const GaussianSmoother<Pack>& smoother,
                                 const GaussianSampler<Pack>& sampler, V* u) {  // (S, D)
    const Full& G = given.G;
    multiply<Update::add>(dG, smoother.next_mean, dm);
    multiply<Update::add>(G, next_dm_, dm);

    // B: dG P' + G Q' + dm m'' + m dm'' + u x'' + mf hb''
    multiply<Update::set>(dG, smoother.next_cov, J12_bar);
    multiply<Update::set>(G, next_Q_, product_);
    set_entries(half_, [&](Index k, Index, Index) SVAE_INLINE {
      return multiply_add(broadcast<V>(0.5), product_.data[k], J12_bar.data[k]);
    });
    set_entries(J12_bar, [&](Index k, Index i, Index j) SVAE_INLINE {
      V sum = J12_bar.data[k] + product_.data[k];
      sum = multiply_add(dm[i], smoother.next_mean[j], sum);
      sum = multiply_add(smoother.mean[i], next_dm_[j], sum);
      return multiply_add(given.mean[i], next_hb_[j], sum);
    });
    for (Index s = 0; s < pack_.problem.num_samples; ++s) {
      const Vector<V> u_of_sample = pack_.vector_of(u, s);
      const Vector<V> next_x = pack_.vector_of(sampler.next_x, s);
      set_entries(J12_bar, [&](Index k, Index i, Index j) SVAE_INLINE {
        return multiply_add(u_of_sample[i], next_x[j], J12_bar.data[k]);
      });
    }

    // Q: dG C' + C dG' + G Q' G' = H G' + G H',  H = dG P' + G Q' / 2;  2 sym(G hb' mf')
    add_twice_symmetric(half_, transposed(G), Q, Q);
    multiply<Update::set>(G, next_hb_, through_);
    add_twice_symmetric_outer(through_, given.mean, Q);
    add_terms(through_.data, hb.data, pack_.padded_dim());
  }

  const Pack& pack_;
  Symmetric next_Q_, whitened_;
  Full product_, half_;
  Vector<V> next_dm_, next_hb_, through_;
};

template <class Pack, class Adjoint>
void gaussian_chain_vjp(const typename Pack::Problem& problem, const Adjoint& adjoint,
                        Index first, Workspace& workspace) {
  using V = typename Pack::V;
  const Pack pack(problem, first, workspace);
  const Segments segments =
      segments_of(pack, GaussianFilter<Pack>::kept_size(pack) +
                            GaussianFilterTangent<Pack>::kept_size(pack) +
                            GaussianSamplerReverse<Pack>::kept_size(pack));
  GaussianFilter<Pack> filter(pack, segments);
  GaussianFilterTangent<Pack> tangent(pack, adjoint.stats_bar, segments);
  GaussianSamplerReverse<Pack> reverse(pack, adjoint, segments);
  GaussianSmoother<Pack> smoother(pack);
  GaussianSampler<Pack> sampler(pack);
  GaussianSmootherAdjoint<Pack> bars(pack);
  GaussianOutput<Pack> output(pack, adjoint.potentials_bar);
  const GaussianEntry<Pack> entry(pack);
  const auto down = [&](Index t) {
    const GaussianConditional<Pack> given = filter.with_roots(t);
    smoother.step(t, given);
    sampler.step(t, given);
    bars.step(t, given, tangent.at(t), smoother, sampler, reverse.r(t), reverse.u(t));
  };
  const auto store = [&](Index t) {
    output.pairs.add_statistics(t, ExxT(smoother), smoother.mean, ExxnT(smoother));
    output.store(t, Complete<typename Pack::SymmetricMatrix, V>{bars.J_bar}, bars.h_bar,
                 Complete<typename Pack::FullMatrix, V>{bars.J12_bar});
  };

  there_and_back(
      segments,
      [&](Index t, Pass pass) {
        filter.step(t, pass);
        tangent.step(t, pass, filter.at(t));
        reverse.step(t, pass, filter);
      },
      [&] {
        filter.store_failures(adjoint.failed_step);
        if (!adjoint.edges) return;
        entry.find_samples(filter, sampler);
        entry.load(smoother, sampler);
        for (Index t = pack.own_steps - 1; t >= 0; --t) down(t);
        entry.find_adjoint(*adjoint.edges, bars);
        if (!entry.load(smoother, sampler)) return;
        entry.load_adjoint(*adjoint.edges, bars);
        bars.set_bars(smoother);
        store(pack.own_steps);
      },
      [&](Index t) {
        down(t);
        store(t);
      });
  reverse.finish();
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
