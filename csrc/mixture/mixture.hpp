// Mean-field inference of independent points x in a mixture: one point in each lane.
//
//   p(x, z)  prop. to  exp( init_z + c_z + phi_z(e_z(x)) + <J, x x'> + h'x ),
//   e_k(x) = <J_k, x x'> + h_k'x + b_k
//
// is approximated by q(x) q(z). phi is the identity where x given z is a Gaussian; where
// it is a Student-t with nu_k degrees of freedom, -e is half a squared distance and
//
//   phi_k(e) = -(nu_k + D)/2 log(1 - 2 e/nu_k),    phi_k'(e) = (nu_k + D)/(nu_k - 2 e),
//
// or an average of such over the nodes of a quadrature in nu. Block coordinate ascent
// alternates (Lam(J) = -(J + J'), E of q(x))
//
//   given s    A = Lam(J) + sum_k s_k Lam(J_k),  h + sum_k s_k h_k,  x ~ N(A^-1 h, A^-1)
//   given x    e_k = E e_k(x),  u_k = init_k + c_k + phi_k(e_k),
//              p_k = exp(u_k - log sum exp u),  s_k = p_k phi_k'(e_k)
//
// until s moves no more. Both are coordinate ascent on the surrogate
//
//   log Z_x + log Z_z - sum_k s_k (e_k - b_k),    log Z_z = log sum exp u
//
// and of the ends from several starts the highest is kept. A point without data says
// nothing of z: its x is standard normal, its e are zero, and s = p = softmax(init).
//
// The adjoint is in mixture_vjp.hpp. The same for chains is in
// svae/models/inference/switching.py, and is what this is tested against.
#pragma once

#include "lanes/first_failure.hpp"
#include "mixture/factors.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

// Either factor given the other, and what is ascended.
template <class AlgebraT>
class MixtureModel {
 public:
  using Pack = MixturePack<AlgebraT>;
  using V = typename Pack::V;

  MixtureModel(const MixtureProblem& problem, Index first, Workspace& workspace)
      : pack(problem, first, workspace),
        components(pack),
        x(pack),
        labels(pack),
        node(pack.take_terms()),
        evidence(pack.take_states()),
        base_(pack.take_terms()) {
    pack.add_potentials(problem.node_J, problem.node_h, problem.dense_nodes, node);
    copy(node.matrix.data, base_.matrix.data, pack.terms_size());
    // x of a point without data is standard normal, and so is what pads the tiles
    const V one = broadcast<V>(1.0);
    for (Index i = 0; i < pack.algebra.padded_dim(); ++i)
      base_.matrix(i, i) += i < pack.dim() ? one - pack.observed : one;
  }

  void update_x(const V* statistics) {  // (K,): s
    copy(base_.matrix.data, x.terms.matrix.data, pack.terms_size());
    components.mix(statistics, x.terms);
    failure.note(kImproper, x.update());
  }

  void update_evidence() {
    components.products(x.moments, evidence);
    if (pack.problem.offsets)
      for (Index k = 0; k < pack.num_states(); ++k)
        evidence[k] += pack.observed * pack.problem.offsets[k];
  }

  // One round of the alternation.
  void step(const V* statistics,  // (K,): s
            V* updated) {         // (K,)
    update_x(statistics);
    update_evidence();
    failure.note(kImpossible, labels.update(evidence, updated));
  }

  // Given x alone, every component in turn: exact where x given z is a Gaussian, of which
  // the evidence of z is then a log normalizer.
  void update_evidence_by_component() {
    for (Index k = 0; k < pack.num_states(); ++k) {
      copy(base_.matrix.data, x.terms.matrix.data, pack.terms_size());
      components.add(k, pack.observed, x.terms);
      failure.note(kImproper, x.update());
      evidence[k] = pack.observed *
                    (pack.problem.num_nodes == 0
                         ? x.log_normalizer()
                         : components.product(k, x.moments) + pack.problem.offsets[k]);
    }
  }

  void start_from_data(V* statistics) {  // (K,)
    update_evidence_by_component();
    failure.note(kImpossible, labels.update(evidence, statistics));
  }

  // log Z_x + log Z_z - sum_k s_k (e_k - b_k), after a step from s
  V surrogate(const V* statistics) const {  // (K,): s
    V sum = x.log_normalizer() + labels.log_normalizer;
    for (Index k = 0; k < pack.num_states(); ++k) {
      V linear = evidence[k];
      if (pack.problem.offsets) linear -= pack.observed * pack.problem.offsets[k];
      sum -= statistics[k] * linear;
    }
    return sum;
  }

  Pack pack;
  MixtureComponents<Pack> components;
  MixtureGaussian<Pack> x;
  MixtureLabels<Pack> labels;
  Terms<AlgebraT> node;  // r, what the point itself says of x
  V* evidence;           // e

  // What may fail: x has no positive definite precision, or no state of z is possible.
  static constexpr Index kImproper = 0, kImpossible = 1;
  FirstFailure<V> failure;

 private:
  Terms<AlgebraT> base_;
};

template <class V>
SVAE_ALWAYS_INLINE bool any_positive(V mask) {
  for (Index w = 0; w < width<V>; ++w)
    if (lane(mask, w) > 0.0) return true;
  return false;
}

template <class V>
struct AscentEnd {
  V* statistics;
  V iterations = broadcast<V>(0.0);
  V residual = broadcast<V>(__builtin_inf());
};

// Iterates each lane until its s moves by less than the tolerance. A lane that has
// converged stays as it is, whatever goes on in the others.
template <class Model, class V>
void ascend(Model& model, const MixtureAscent& how, AscentEnd<V>& end) {
  const Index K = model.pack.num_states();
  const V zero = broadcast<V>(0.0), one = broadcast<V>(1.0);
  V active = one;
  V* updated = model.pack.take_states();
  for (Index round = 0; round < how.max_iterations && any_positive(active); ++round) {
    model.step(end.statistics, updated);
    V change = zero;
    for (Index k = 0; k < K; ++k) {
      const V moved = updated[k] - end.statistics[k];
      change = max(max(moved, -moved), change);
      end.statistics[k] = select(active > zero, updated[k], end.statistics[k]);
    }
    end.residual = select(active > zero, change, end.residual);
    end.iterations += active;
    active = select(change > broadcast<V>(how.tolerance), active, zero);
  }
}

// Ascends from every start, and keeps the end of the highest surrogate.
template <class Model, class V>
class BestAscent {
 public:
  BestAscent(Model& model, const MixtureAscent& how)
      : model_(model),
        how_(how),
        is_only_(how.num_starts + how.from_data + how.from_prior == 1) {
    best.statistics = model.pack.take_states();
    best.residual = broadcast<V>(__builtin_inf());
    V* statistics = model.pack.take_states();
    if (how.from_data) {
      model.start_from_data(statistics);
      climb(statistics);
    }
    if (how.from_prior) {
      model.labels.set_to_prior(statistics);
      climb(statistics);
    }
    for (Index r = 0; r < how.num_starts; ++r)
      climb(model.pack.load_states(how.starts, r));
  }

  AscentEnd<V> best;

 private:
  void climb(V* start) {  // (K,)
    AscentEnd<V> end{start};
    ascend(model_, how_, end);
    V height = broadcast<V>(0.0);
    if (!is_only_) {
      model_.step(end.statistics, model_.pack.take_states());
      height = model_.surrogate(end.statistics);
    }
    const auto higher = height > height_;
    height_ = select(higher, height, height_);
    for (Index k = 0; k < model_.pack.num_states(); ++k)
      best.statistics[k] = select(higher, end.statistics[k], best.statistics[k]);
    best.residual = select(higher, end.residual, best.residual);
    best.iterations += end.iterations;
  }

  Model& model_;
  const MixtureAscent& how_;
  bool is_only_;
  V height_ = broadcast<V>(-__builtin_inf());
};

template <class Algebra>
void mixture(const MixtureProblem& problem, const MixtureAscent& how,
             const MixtureResult& result, Index first, Workspace& workspace) {
  using V = typename Algebra::V;
  using Model = MixtureModel<Algebra>;
  Model model(problem, first, workspace);
  const MixturePack<Algebra>& pack = model.pack;
  const BestAscent<Model, V> ascent(model, how);
  const AscentEnd<V>& end = ascent.best;
  pack.store_states(end.statistics, result.fixed);
  pack.store_each(end.iterations, result.iterations);
  pack.store_each(end.residual, result.residual);

  model.step(end.statistics, pack.take_states());
  pack.store_each(model.surrogate(end.statistics), result.log_normalizer);
  pack.store_each(model.components.inner(model.node, model.x.moments), result.evidence);
  pack.store_each(model.x.half_log_det(), result.half_log_det);
  pack.store_moments(model.x.moments, result.second_moment, result.mean);
  pack.store_states(model.labels.probs, result.states);
  pack.store_states(model.labels.potentials, result.potentials);

  const Vector<V> sample = pack.take_vector();
  V* noise = pack.take(pack.dim());
  for (Index s = 0; s < problem.num_samples; ++s) {
    pack.load(problem.noise, s, 0, noise, pack.dim());
    model.x.sample(noise, sample);
    pack.store(sample.data, 1, result.samples, s, 0, pack.dim());
  }
  model.failure.store_whether(Model::kImproper, pack, result.improper_step);
  model.failure.store_whether(Model::kImpossible, pack, result.impossible_step);
}

// One half of the alternation, for labels that are a chain: x given s, and its evidence;
// without s the evidence of every component alone.
template <class Algebra>
void mixture_evidence(const MixtureProblem& problem, const MixtureEvidence& result,
                      Index first, Workspace& workspace) {
  using Model = MixtureModel<Algebra>;
  Model model(problem, first, workspace);
  const MixturePack<Algebra>& pack = model.pack;
  if (result.statistics.data) {
    model.update_x(pack.load_states(result.statistics));
    model.update_evidence();
    pack.store_moments(model.x.moments, result.second_moment, result.mean);
  } else {
    model.update_evidence_by_component();
  }
  pack.store_states(model.evidence, result.evidence);
  model.failure.store_whether(Model::kImproper, pack, result.improper_step);
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
