// Mean-field inference of independent rows x in a mixture: one row in each lane.
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
// until s moves no more. Its adjoint is in mixture_vjp.hpp. The same for chains is in
// svae/models/inference/switching.py, and is what this is tested against.
#pragma once

#include "lanes/elementary.hpp"
#include "lanes/first_failure.hpp"
#include "lanes/tiles.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

// A precision and h, or a direction in their space; also what they multiply, the moments
// E x x' and E x: all entries one after the other.
template <class Algebra>
struct Terms {
  typename Algebra::SymmetricMatrix matrix;
  Vector<typename Algebra::V> vector;
};

template <class AlgebraT>
struct MixturePack : Pack<typename AlgebraT::V> {
  using Algebra = AlgebraT;
  using V = typename Algebra::V;
  using Symmetric = typename Algebra::SymmetricMatrix;

  const MixtureProblem& problem;
  Algebra algebra;
  Workspace& workspace;
  V observed;  // 1, or 0 of a row without data, which says nothing of z

  MixturePack(const MixtureProblem& problem, Index first, Workspace& workspace)
      : Pack<V>(problem.num_points, problem.lengths, first),
        problem(problem),
        algebra(problem.latent_dim),
        workspace(workspace) {
    for (Index w = 0; w < width<V>; ++w)
      lane(observed, w) = problem.observed ? problem.observed[this->sequence[w]] : 1.0;
  }

  Index dim() const { return algebra.dim; }
  Index num_states() const { return problem.num_states; }
  Index matrix_size() const { return algebra.template matrix<Symmetric>(nullptr).size(); }
  Index terms_size() const { return matrix_size() + algebra.padded_dim(); }

  V* take(Index size) const {  // zeros
    V* values = workspace.take<V>(size);
    fill_zero(values, size);
    return values;
  }
  V* take_states() const { return take(num_states()); }
  Vector<V> take_vector() const { return {take(algebra.padded_dim())}; }
  template <class Matrix>
  Matrix take_matrix() const {
    return algebra.template matrix<Matrix>(
        take(algebra.template matrix<Matrix>(nullptr).size()));
  }
  Terms<Algebra> take_terms() const {
    V* values = take(terms_size());
    return {algebra.template matrix<Symmetric>(values), {values + matrix_size()}};
  }

  V* load_states(const Rows<const double>& rows, Index row = 0) const {
    V* values = workspace.take<V>(num_states());
    this->load(rows, row, 0, values, num_states());
    return values;
  }
  void store_states(const V* values, const Rows<double>& rows) const {
    this->store(values, 1, rows, 0, 0, num_states());
  }

  // Adds Lam(J) of a dense or diagonal J, and h.
  void add_potentials(const Rows<const double>& J, const Rows<const double>& h,
                      bool is_dense, const Terms<Algebra>& to) const {
    const Index D = dim(), size = is_dense ? D * D : D;
    V* values = workspace.take<V>(size);
    this->load(J, 0, 0, values, size);
    if (is_dense)
      for_entries(to.matrix, [&](Index k, Index i, Index j) {
        if (i < D && j < D) to.matrix.data[k] -= values[i * D + j] + values[j * D + i];
      });
    else
      for (Index i = 0; i < D; ++i) to.matrix(i, i) -= 2.0 * values[i];
    this->load(h, 0, 0, values, D);
    add_terms(values, to.vector.data, D);
  }

  // Stores moments, or the cotangents of J and h.
  void store_moments(const Terms<Algebra>& moments, const Rows<double>& second,
                     const Rows<double>& mean) const {
    const Index D = dim();
    V* values = workspace.take<V>(D * D);
    for_entries(moments.matrix, [&](Index k, Index i, Index j) {
      if (i < D && j < D) values[i * D + j] = values[j * D + i] = moments.matrix.data[k];
    });
    this->store(values, 1, second, 0, 0, D * D);
    this->store(moments.vector.data, 1, mean, 0, 0, D);
  }
};

// The potentials (J_k, h_k) that all rows share, as they are added to a precision, and as
// they multiply moments.
template <class Pack>
class MixtureComponents {
  using V = typename Pack::V;

 public:
  explicit MixtureComponents(const Pack& pack)
      : pack_(pack),
        size_(pack.terms_size()),
        terms_(pack.workspace.template take<double>(size_ * pack.num_states())),
        factors_(pack.workspace.template take<double>(size_ * pack.num_states())),
        scale_(pack.workspace.template take<double>(size_)) {
    const Index D = pack.dim();
    set_scale(pack.take_terms());
    const auto entries = pack.take_terms().matrix;
    for (Index k = 0; k < pack.num_states(); ++k) {
      const double* J = pack.problem.components + k * (D * D + D);
      double* terms = terms_ + k * size_;
      for (Index m = 0; m < size_; ++m) terms[m] = 0.0;
      for_entries(entries, [&](Index m, Index i, Index j) {
        if (i < D && j < D) terms[m] = -(J[i * D + j] + J[j * D + i]);
      });
      for (Index i = 0; i < D; ++i) terms[pack.matrix_size() + i] = J[D * D + i];
      for (Index m = 0; m < size_; ++m) factors_[k * size_ + m] = scale_[m] * terms[m];
    }
  }

  // Adds those of component k to `terms`, `weight` times.
  SVAE_ALWAYS_INLINE void add(Index k, V weight,
                              const Terms<typename Pack::Algebra>& to) const {
    const double* terms = terms_ + k * size_;
    for (Index m = 0; m < size_; ++m) to.matrix.data[m] += terms[m] * weight;
  }

  // Adds sum_k weights_k (J_k, h_k): nothing for a row without data.
  void mix(const V* weights, const Terms<typename Pack::Algebra>& to) const {
    for (Index k = 0; k < pack_.num_states(); ++k)
      add(k, pack_.observed * weights[k], to);
  }

  // <J_k, E x x'> + h_k'E x
  SVAE_ALWAYS_INLINE V product(Index k,
                               const Terms<typename Pack::Algebra>& moments) const {
    const double* factors = factors_ + k * size_;
    V sum = broadcast<V>(0.0);
    for (Index m = 0; m < size_; ++m) sum += factors[m] * moments.matrix.data[m];
    return sum;
  }

  void products(const Terms<typename Pack::Algebra>& moments, V* values) const {
    for (Index k = 0; k < pack_.num_states(); ++k)
      values[k] = pack_.observed * product(k, moments);
  }

  // <J, E x x'> + h'E x of potentials given as terms
  V inner(const Terms<typename Pack::Algebra>& terms,
          const Terms<typename Pack::Algebra>& moments) const {
    V sum = broadcast<V>(0.0);
    for (Index m = 0; m < size_; ++m)
      sum += scale_[m] * terms.matrix.data[m] * moments.matrix.data[m];
    return sum;
  }

 private:
  // <J, M> = -<Lam(J), M>/2 is a sum over the entries of both halves, of which a
  // symmetric matrix may keep both or one.
  void set_scale(const Terms<typename Pack::Algebra>& counts) {
    const auto& matrix = counts.matrix;
    const V one = broadcast<V>(1.0);
    for_entries(matrix, [&](Index, Index i, Index j) { matrix(i, j) += one; });
    for (Index m = 0; m < size_; ++m) scale_[m] = 1.0;
    for_entries(matrix, [&](Index m, Index i, Index j) {
      scale_[m] = (i == j ? -0.5 : -1.0) / lane(matrix(i, j), 0);
    });
  }

  const Pack& pack_;
  Index size_;
  double *terms_, *factors_, *scale_;
};

// q(x), a Gaussian of given precision and h.
template <class Pack>
class MixtureGaussian {
  using Algebra = typename Pack::Algebra;
  using V = typename Pack::V;
  using Full = typename Algebra::FullMatrix;
  using Lower = typename Algebra::LowerMatrix;

 public:
  explicit MixtureGaussian(const Pack& pack)
      : terms(pack.take_terms()),
        moments(pack.take_terms()),
        L(pack.template take_matrix<Lower>()),
        R(pack.template take_matrix<Lower>()),
        roots(pack.take_vector()),
        pack_(pack),
        A_(pack.template take_matrix<typename Pack::Symmetric>()),
        h_(pack.take_vector()) {}

  // To be called when the terms are set: A = L d L', R = d^-1/2 L^-1, A^-1 = R'R. Returns
  // 1 in the lanes in which A is positive definite, 0 in the others.
  V update() {
    const Index size = pack_.algebra.padded_dim();
    copy(terms.matrix.data, A_.data, A_.size());
    copy(terms.vector.data, h_.data, size);
    inverse_determinant_ = LogProduct<V>();
    const V success = factorise(A_, L, roots, inverse_determinant_);
    const Vector<V> mean = moments.vector;
    solve(L, h_);
    divide_by_pivots(L, h_, mean);
    quadratic_ = broadcast<V>(0.0);
    for (Index i = 0; i < pack_.dim(); ++i) quadratic_ += h_[i] * mean[i];
    solve(transposed(L), mean);
    invert(L, roots, R);
    multiply<Update::set>(transposed(R), R, moments.matrix);
    for_entries(moments.matrix, [&](Index k, Index i, Index j) {
      moments.matrix.data[k] = multiply_add(mean[i], mean[j], moments.matrix.data[k]);
    });
    return success;
  }

  V half_log_det() const { return -inverse_determinant_.value(); }

  // Of a row without data the standard normal law is a factor, not a potential.
  V log_normalizer() const {
    constexpr double kHalfLog2Pi = 0.91893853320467274178;
    return 0.5 * quadratic_ + inverse_determinant_.value() +
           pack_.observed * (kHalfLog2Pi * double(pack_.dim()));
  }

  // x = mean + L^-T d^-1/2 noise; it may take the place of the noise
  void sample(const V* noise, Vector<V> x) const {
    const Index size = pack_.algebra.padded_dim();
    for (Index i = 0; i < size; ++i)
      x[i] = i < pack_.dim() ? noise[i] * roots[i] : broadcast<V>(0.0);
    solve(transposed(L), x);
    add_terms(moments.vector.data, x.data, size);
  }

  Terms<Algebra> terms, moments;
  Lower L, R;
  Vector<V> roots;  // d^-1/2

 private:
  const Pack& pack_;
  typename Pack::Symmetric A_;
  Vector<V> h_;
  V quadratic_;
  LogProduct<V> inverse_determinant_;
};

// phi, and its derivatives.
template <class Pack>
struct MixtureTails {
  using V = typename Pack::V;
  const Pack& pack;

  bool is_gaussian() const { return pack.problem.num_nodes == 0; }

  // body(weight, nu) for the nodes of the quadrature
  template <class Body>
  SVAE_ALWAYS_INLINE void for_nodes(Index k, const Body& body) const {
    const Index Q = pack.problem.num_nodes;
    for (Index q = 0; q < Q; ++q)
      body(q, pack.problem.node_weights[q], pack.problem.dofs[k * Q + q]);
  }

  V phi(Index k, V e) const {
    if (is_gaussian()) return e;
    V sum = broadcast<V>(0.0);
    for_nodes(k, [&](Index, double weight, double dof) {
      sum -= 0.5 * weight * (dof + double(pack.dim())) * log1p(e * (-2.0 / dof));
    });
    return sum;
  }

  // phi', and 1 for a row without data
  V gain(Index k, V e) const {
    const V one = broadcast<V>(1.0);
    if (is_gaussian()) return one;
    V sum = broadcast<V>(0.0);
    for_nodes(k, [&](Index, double weight, double dof) {
      sum += weight * (dof + double(pack.dim())) / (dof - 2.0 * e);
    });
    return select(pack.observed > broadcast<V>(0.0), sum, one);
  }

  // phi''
  V curvature(Index k, V e) const {
    V sum = broadcast<V>(0.0);
    for_nodes(k, [&](Index, double weight, double dof) {
      const V rest = dof - 2.0 * e;
      sum += 2.0 * weight * (dof + double(pack.dim())) / (rest * rest);
    });
    return pack.observed * sum;
  }
};

// q(z)
template <class Pack>
class MixtureLabels {
  using V = typename Pack::V;

 public:
  explicit MixtureLabels(const Pack& pack)
      : probs(pack.take_states()),
        gains(pack.take_states()),
        potentials(pack.take_states()),
        pack_(pack),
        tails_{pack},
        init_(pack.load_states(pack.problem.init)) {}

  // e to s. Returns 1 in the lanes in which a state is possible, 0 in the others.
  V update(const V* evidence, V* statistics) {
    const V zero = broadcast<V>(0.0), one = broadcast<V>(1.0);
    for (Index k = 0; k < pack_.num_states(); ++k) {
      // chosen, not multiplied by zero: a constant of -inf says nothing there either
      potentials[k] =
          select(pack_.observed > zero,
                 tails_.phi(k, evidence[k]) + pack_.problem.constants[k], zero);
      gains[k] = tails_.gain(k, evidence[k]);
    }
    normalise();
    for (Index k = 0; k < pack_.num_states(); ++k) statistics[k] = probs[k] * gains[k];
    return select(log_normalizer > broadcast<V>(-__builtin_inf()), one, zero);
  }

  // Without evidence.
  void set_to_prior(V* statistics) {
    fill_zero(potentials, pack_.num_states());
    normalise();
    copy(probs, statistics, pack_.num_states());
  }

  V *probs, *gains, *potentials;
  V log_normalizer;

 private:
  void normalise() {
    V top = broadcast<V>(-__builtin_inf()), sum = broadcast<V>(0.0);
    for (Index k = 0; k < pack_.num_states(); ++k)
      top = max(init_[k] + potentials[k], top);
    for (Index k = 0; k < pack_.num_states(); ++k) {
      probs[k] = exp_of_nonpositive(init_[k] + potentials[k] - top);
      sum += probs[k];
    }
    for (Index k = 0; k < pack_.num_states(); ++k) probs[k] /= sum;
    log_normalizer = top + log(sum);
  }

  const Pack& pack_;
  MixtureTails<Pack> tails_;
  const V* init_;
};

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
    // x of a row without data is standard normal, and so is what pads the tiles
    const V one = broadcast<V>(1.0);
    for (Index i = 0; i < pack.algebra.padded_dim(); ++i)
      base_.matrix(i, i) += i < pack.dim() ? one - pack.observed : one;
  }

  void update_x(const V* statistics) {
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
  void step(const V* statistics, V* updated) {
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

  void start_from_data(V* statistics) {
    update_evidence_by_component();
    failure.note(kImpossible, labels.update(evidence, statistics));
  }

  // log Z_x + log Z_z - s'e, after a step from s
  V surrogate(const V* statistics) const {
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
  Terms<AlgebraT> node;  // what the row itself says of x
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
  void climb(V* start) {
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
