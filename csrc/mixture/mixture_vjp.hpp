// Adjoint of mean-field inference in a mixture (mixture.hpp): cotangents (bar) of all
// potentials, given those of the results.
//
// The results are functions of the fixed point s and of the potentials. With
// f = (E x x', E x), r = (J, h) of the point itself, t = r + sum_k s_k (J_k, h_k), and g
// the cotangent of the surrogate, the forward lines from the last to the first are
// reversed by
//
//   samples    x = m + R'noise,  A^-1 = R'R    noise_bar = R x_bar
//   evidence   <r, f>                          f_bar  = evidence_bar r + (that of f)
//   surrogate  log Z_z = log sum exp u         u_bar  = g p + S p_bar,  S = diag p - p p'
//              p = softmax(u)
//   potentials c + phi(e)                      c_bar  = potentials_bar + u_bar
//   surrogate  phi(e), -s'e                    e_bar  = phi' c_bar - g s
//   x          e_k = <(J_k, h_k), f> + b_k     f_bar += sum_k e_bar_k (J_k, h_k)
//              f = d log Z_x / dt              t_bar  = df in the direction f_bar
//   surrogate  log Z_x                         t_bar += g f
//   given s    t = r + sum_k s_k (J_k, h_k)    s_bar_k = <(J_k, h_k), t_bar>
//
// f is the gradient of log Z_x, so its adjoint is its own tangent (d), in the direction
// of cotangents taken as potentials:
//
//   d A^-1 = -A^-1 dA A^-1,   dm = A^-1 (dh - dA m),   d E x x' = d A^-1 + dm m' + m dm'
//
// to which samples add 2 R'sym(Phi) R in d A^-1 and R'noise_bar in dm, where Phi is the
// lower half of noise noise_bar', its diagonal halved. The surrogate does not move with
// s, so g f stays out of s_bar. J_bar and h_bar are t_bar: what <r, f> has of r itself,
// evidence_bar f, is left to the caller.
//
// What comes to s is pulled back through s = p phi'(e(s)) by the implicit function
// theorem (svae/models/inference/fixed_point.py): with H = ds/de and K = de/ds, both
// symmetric,
//
//   (I - K H) v = s_bar,    e_bar += H v,    u_bar, c_bar += S (phi' v),
//   phi'_bar = p v,         t_bar += df in the direction sum_k (H v)_k (J_k, h_k)
//
// solved by conjugate gradients in the inner product a'H b.
#pragma once

#include "mixture/mixture.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

// The tangent of the moments f of x, which is their adjoint, and the adjoint of samples.
template <class Pack>
class MixtureTangent {
  using Algebra = typename Pack::Algebra;
  using V = typename Pack::V;

 public:
  MixtureTangent(const Pack& pack, const MixtureGaussian<Pack>& x)
      : pack_(pack),
        x_(x),
        whitened_(pack.template take_matrix<typename Pack::Symmetric>()),
        product_(pack.template take_matrix<typename Algebra::FullMatrix>()),
        shift_(pack.take_vector()),
        r_(pack.take_vector()) {}

  // Sets `moments` to df in the direction `terms`, with what samples have added since the
  // last call.
  void set(const Terms<Algebra>& terms, const Terms<Algebra>& moments) {
    const Index size = pack_.algebra.padded_dim();
    const Vector<V> mean = x_.moments.vector, dm = moments.vector;
    // d A^-1 = -A^-1 dA A^-1 + 2 R'sym(Phi) R = R' (Phi + Phi' - R dA R') R
    multiply<Update::set>(terms.matrix, transposed(x_.R), product_);
    multiply<Update::subtract>(x_.R, product_, whitened_);
    multiply<Update::set>(whitened_, x_.R, product_);
    multiply<Update::set>(transposed(x_.R), product_, moments.matrix);
    // dm = A^-1 (dh - dA m) + R'noise_bar
    copy(terms.vector.data, dm.data, size);
    multiply<Update::subtract>(terms.matrix, mean, dm);
    solve(x_.L, dm);
    divide_by_pivots(x_.L, dm, dm);
    solve(transposed(x_.L), dm);
    add_terms(shift_.data, dm.data, size);
    // d E x x' = d A^-1 + dm m' + m dm'
    for_entries(moments.matrix, [&](Index k, Index i, Index j) {
      moments.matrix.data[k] += dm[i] * mean[j] + dm[j] * mean[i];
    });
    fill_zero(whitened_.data, whitened_.size());
    fill_zero(shift_.data, size);
  }

  // Reverses x = m + R'noise: x_bar becomes noise_bar.
  void add_sample(Vector<V> noise,    // (D,)
                  Vector<V> x_bar) {  // (D,)
    const Index size = pack_.algebra.padded_dim();
    solve(x_.L, x_bar);
    for (Index i = 0; i < size; ++i) {
      x_bar[i] *= x_.roots[i];
      r_[i] = x_bar[i] * x_.roots[i];
    }
    solve(transposed(x_.L), r_);
    add_terms(r_.data, shift_.data, size);
    for_entries(whitened_, [&](Index k, Index i, Index j) {
      whitened_.data[k] += noise[i] * x_bar[j];
    });
  }

 private:
  const Pack& pack_;
  const MixtureGaussian<Pack>& x_;
  typename Pack::Symmetric whitened_;  // Phi + Phi' of the samples
  typename Algebra::FullMatrix product_;
  Vector<V> shift_, r_;
};

// Products with the Jacobians of either half of the alternation, at its end.
template <class Model>
class MixtureJacobians {
  using Pack = typename Model::Pack;
  using V = typename Pack::V;

 public:
  explicit MixtureJacobians(const Model& model)
      : tangent(model.pack, model.x),
        model_(model),
        pack_(model.pack),
        tails_{model.pack},
        direction_(model.pack.take_terms()),
        moments_(model.pack.take_terms()) {}

  // a <- S a = p a - p p'a
  void weigh(V* a) const {  // (K,)
    const V* p = model_.labels.probs;
    V mean = broadcast<V>(0.0);
    for (Index k = 0; k < pack_.num_states(); ++k) mean += p[k] * a[k];
    for (Index k = 0; k < pack_.num_states(); ++k) a[k] = p[k] * (a[k] - mean);
  }

  // H a, of s = p phi'(e), where p = softmax(u) and u = .. + phi(e):
  //   H a = phi' S (phi' a) + p phi'' a
  void statistics(const V* a,          // (K,)
                  V* product) const {  // (K,)
    const auto& labels = model_.labels;
    for (Index k = 0; k < pack_.num_states(); ++k) product[k] = labels.gains[k] * a[k];
    weigh(product);
    for (Index k = 0; k < pack_.num_states(); ++k) {
      product[k] *= pack_.observed * labels.gains[k];
      if (!tails_.is_gaussian())
        product[k] += labels.probs[k] * a[k] * tails_.curvature(k, model_.evidence[k]);
    }
  }

  // K a, of e_k = <(J_k, h_k), f> + b_k, where t = .. + sum_k s_k (J_k, h_k)
  void evidence(const V* a,    // (K,)
                V* product) {  // (K,)
    fill_zero(direction_.matrix.data, pack_.terms_size());
    model_.components.mix(a, direction_);
    tangent.set(direction_, moments_);
    model_.components.products(moments_, product);
  }

  MixtureTangent<Pack> tangent;

 private:
  const Model& model_;
  const Pack& pack_;
  MixtureTails<Pack> tails_;
  Terms<typename Pack::Algebra> direction_, moments_;
};

// (I - K H) v = s_bar in every lane.
template <class Model, class V>
class MixtureSolve {
 public:
  MixtureSolve(const Model& model, const V* statistics)
      : solution(model.pack.take_states()),
        product(model.pack.take_states()),
        K_(model.pack.num_states()),
        is_gaussian_(model.pack.problem.num_nodes == 0),
        statistics_(statistics),
        direction_(model.pack.take_states()),
        image_(model.pack.take_states()),
        residual_(model.pack.take_states()),
        hessian_direction_(model.pack.take_states()),
        hessian_residual_(model.pack.take_states()) {}

  void run(MixtureJacobians<Model>& jacobians,
           const V* s_bar,  // (K,)
           double tolerance, Index max_iterations) {
    const V zero = broadcast<V>(0.0), one = broadcast<V>(1.0);
    copy(s_bar, residual_, K_);
    project(residual_);
    jacobians.statistics(residual_, hessian_residual_);
    copy(residual_, direction_, K_);
    copy(hessian_residual_, hessian_direction_, K_);
    V size = dot(residual_, hessian_residual_);
    const V start_size = size;
    V active = select(size > zero, one, zero);
    for (Index round = 0; round < max_iterations && any_positive(active); ++round) {
      jacobians.evidence(hessian_direction_, image_);
      for (Index k = 0; k < K_; ++k) image_[k] = direction_[k] - image_[k];
      project(image_);
      const V curvature = dot(hessian_direction_, image_);
      active = select(curvature > zero, active, zero);
      iterations += active;
      const V rate = select(active > zero, size / curvature, zero);
      for (Index k = 0; k < K_; ++k) {
        solution[k] += rate * direction_[k];
        product[k] += rate * hessian_direction_[k];
        residual_[k] -= rate * image_[k];
      }
      jacobians.statistics(residual_, hessian_residual_);
      const V new_size = select(active > zero, dot(residual_, hessian_residual_), size);
      const V growth = select(active > zero, new_size / size, zero);
      for (Index k = 0; k < K_; ++k) {
        direction_[k] = residual_[k] + growth * direction_[k];
        hessian_direction_[k] = hessian_residual_[k] + growth * hessian_direction_[k];
      }
      size = new_size;
      active = select(size > tolerance * tolerance * start_size, active, zero);
    }
    const V ratio = max(size, -size) / start_size;
    relative_residual = select(start_size > zero, sqrt(ratio), zero);
  }

  V *solution, *product;  // (K,): v, up to what H does not see, and H v
  V iterations = broadcast<V>(0.0), relative_residual;

 private:
  V dot(const V* a, const V* b) const {
    V sum = broadcast<V>(0.0);
    for (Index k = 0; k < K_; ++k) sum += a[k] * b[k];
    return sum;
  }

  // Where s are probabilities H does not see a constant added to all entries.
  void project(V* a) const {
    if (!is_gaussian_) return;
    const V mean = dot(statistics_, a);
    for (Index k = 0; k < K_; ++k) a[k] -= mean;
  }

  Index K_;
  bool is_gaussian_;
  const V* statistics_;
  V *direction_, *image_, *residual_, *hessian_direction_, *hessian_residual_;
};

// Stores the cotangents of nu. For each node of the quadrature, with its weight aside,
//
//   phi  = -(nu + D)/2 log(1 - 2 e/nu),    dphi/dnu  = -log(1 - 2 e/nu)/2
//                                                      - (nu + D) e / (nu (nu - 2 e))
//   phi' = (nu + D)/(nu - 2 e),            dphi'/dnu = -(2 e + D) / (nu - 2 e)^2
template <class Pack, class V>
void store_dofs_bar(const Pack& pack,
                    const V* evidence,               // (K,): e
                    const V* phi_bar,                // (K,)
                    const V* gain_bar,               // (K,): of phi'
                    const Rows<double>& dofs_bar) {  // (N, K Q)
  const Index K = pack.num_states(), Q = pack.problem.num_nodes;
  const double D = double(pack.dim());
  V* values = pack.workspace.template take<V>(K * Q);
  for (Index k = 0; k < K; ++k)
    MixtureTails<Pack>{pack}.for_nodes(k, [&](Index q, double weight, double dof) {
      const V e = evidence[k], rest = dof - 2.0 * e;
      const V of_phi =
          -0.5 * (log1p(e * (-2.0 / dof)) + (dof + D) * 2.0 * e / (dof * rest));
      const V of_gain = (-2.0 * e - D) / (rest * rest);
      values[k * Q + q] = weight * (phi_bar[k] * of_phi + gain_bar[k] * of_gain);
    });
  pack.store(values, 1, dofs_bar, 0, 0, K * Q);
}

template <class Algebra>
void mixture_vjp(const MixtureProblem& problem, const MixtureAdjoint& adjoint,
                 Index first, Workspace& workspace) {
  using V = typename Algebra::V;
  using Model = MixtureModel<Algebra>;
  Model model(problem, first, workspace);
  const MixturePack<Algebra>& pack = model.pack;
  const Index K = pack.num_states(), D = pack.dim();
  const V* s = pack.load_states(adjoint.fixed);
  model.step(s, pack.take_states());
  const V* p = model.labels.probs;
  const V* gains = model.labels.gains;  // phi'
  MixtureJacobians<Model> jacobians(model);

  // log Z_z = log sum exp u,  p = softmax(u):    u_bar = g p + S p_bar
  // potentials c + phi(e):                       c_bar = potentials_bar + u_bar
  // phi(e), -s'e of the surrogate:               e_bar = phi' c_bar - g s
  const V g = pack.load_each(adjoint.log_normalizer_bar);
  V* u_bar = pack.load_states(adjoint.states_bar);
  V* c_bar = pack.load_states(adjoint.potentials_bar);
  V* e_bar = pack.take_states();
  jacobians.weigh(u_bar);
  for (Index k = 0; k < K; ++k) {
    u_bar[k] += g * p[k];
    c_bar[k] = pack.observed * (c_bar[k] + u_bar[k]);
    e_bar[k] = c_bar[k] * gains[k] - pack.observed * g * s[k];
  }

  // evidence <r, f>:    f_bar = evidence_bar r + (that of f)
  const Terms<Algebra> f_bar = pack.take_terms(), t_bar = pack.take_terms();
  pack.add_potentials(adjoint.second_moment_bar, adjoint.mean_bar, true, f_bar);
  const V evidence_bar = pack.load_each(adjoint.evidence_bar);
  for (Index m = 0; m < pack.terms_size(); ++m)
    f_bar.matrix.data[m] += evidence_bar * model.node.matrix.data[m];
  // e_k = <(J_k, h_k), f> + b_k:    f_bar += sum_k e_bar_k (J_k, h_k)
  model.components.mix(e_bar, f_bar);
  // x = m + R'noise:    noise_bar = R x_bar
  const Vector<V> noise = pack.take_vector(), x_bar = pack.take_vector();
  for (Index n = 0; n < problem.num_samples; ++n) {
    pack.load(problem.noise, n, 0, noise.data, D);
    pack.load(adjoint.samples_bar, n, 0, x_bar.data, D);
    for (Index i = D; i < pack.algebra.padded_dim(); ++i) x_bar[i] = broadcast<V>(0.0);
    jacobians.tangent.add_sample(noise, x_bar);
    pack.store(x_bar.data, 1, adjoint.noise_bar, n, 0, D);
  }
  // f = d log Z_x / dt:    t_bar = df
  jacobians.tangent.set(f_bar, t_bar);

  // t = r + sum_k s_k (J_k, h_k):    s_bar_k = <(J_k, h_k), t_bar>, before g comes in
  V* s_bar = pack.take_states();
  model.components.products(t_bar, s_bar);
  MixtureSolve<Model, V> solve(model, s);
  solve.run(jacobians, s_bar, adjoint.tolerance, adjoint.max_iterations);
  pack.store_each(solve.iterations, adjoint.iterations);
  pack.store_each(solve.relative_residual, adjoint.residual);

  // s = p phi'(e(s)):    u_bar, c_bar += S (phi' v),  e_bar += H v,  phi'_bar = p v
  V* through_u = pack.take_states();
  V* gains_bar = pack.take_states();
  for (Index k = 0; k < K; ++k) {
    through_u[k] = gains[k] * solve.solution[k];
    gains_bar[k] = pack.observed * p[k] * solve.solution[k];
  }
  jacobians.weigh(through_u);
  for (Index k = 0; k < K; ++k) {
    u_bar[k] += through_u[k];
    c_bar[k] += pack.observed * through_u[k];
    e_bar[k] += solve.product[k];
  }
  // t_bar += df in the direction sum_k (H v)_k (J_k, h_k), and g f of log Z_x
  const Terms<Algebra> rest = pack.take_terms();
  fill_zero(f_bar.matrix.data, pack.terms_size());
  model.components.mix(solve.product, f_bar);
  jacobians.tangent.set(f_bar, rest);
  for (Index m = 0; m < pack.terms_size(); ++m)
    t_bar.matrix.data[m] += rest.matrix.data[m] + g * model.x.moments.matrix.data[m];

  pack.store_states(u_bar, adjoint.init_bar);
  pack.store_states(c_bar, adjoint.constants_bar);
  pack.store_states(e_bar, adjoint.component_evidence_bar);
  pack.store_moments(t_bar, adjoint.J_bar, adjoint.h_bar);
  if (problem.num_nodes > 0)
    store_dofs_bar(pack, model.evidence, c_bar, gains_bar, adjoint.dofs_bar);
}

// The adjoint of mixture_evidence at given s, by three of the lines above:
//
//   f_bar = sum_k e_bar_k (J_k, h_k),   t_bar = df,   s_bar_k = <(J_k, h_k), t_bar>
template <class Algebra>
void mixture_evidence_vjp(const MixtureProblem& problem,
                          const MixtureEvidenceAdjoint& adjoint, Index first,
                          Workspace& workspace) {
  MixtureModel<Algebra> model(problem, first, workspace);
  const MixturePack<Algebra>& pack = model.pack;
  using Tangent = MixtureTangent<MixturePack<Algebra>>;
  model.update_x(pack.load_states(adjoint.statistics));
  const Terms<Algebra> f_bar = pack.take_terms(), t_bar = pack.take_terms();
  model.components.mix(pack.load_states(adjoint.evidence_bar), f_bar);
  Tangent(pack, model.x).set(f_bar, t_bar);
  auto* s_bar = pack.take_states();
  model.components.products(t_bar, s_bar);
  pack.store_states(s_bar, adjoint.statistics_bar);
  pack.store_moments(t_bar, adjoint.J_bar, adjoint.h_bar);
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
