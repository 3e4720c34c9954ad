// The two factors of mean-field inference in a mixture (mixture.hpp), q(x) and q(z), of a
// pack of points, and the potentials of the components that all points share.
#pragma once

#include "lanes/elementary.hpp"
#include "lanes/pack.hpp"
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
  V observed;  // 1, or 0 of a point without data, which says nothing of z

  MixturePack(const MixtureProblem& problem, Index first, Workspace& workspace)
      : Pack<V>(problem.num_points, problem.lengths, first),
        problem(problem),
        algebra(problem.latent_dim),
        workspace(workspace) {
    for (Index w = 0; w < width<V>; ++w)
      lane(observed, w) = problem.observed ? problem.observed[this->sequence[w]] : 1.0;
  }

  Index dim() const { return algebra.dim(); }
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

  V* load_states(const Rows<const double>& rows,  // (N, K) or (N, R, K)
                 Index row = 0) const {
    V* values = workspace.take<V>(num_states());
    this->load(rows, row, 0, values, num_states());
    return values;
  }
  void store_states(const V* values,                   // (K,)
                    const Rows<double>& rows) const {  // (N, K)
    this->store(values, 1, rows, 0, 0, num_states());
  }

  // Adds Lam(J) of a dense or diagonal J, and h.
  void add_potentials(const Rows<const double>& J,  // (N, D, D) or (N, D)
                      const Rows<const double>& h,  // (N, D)
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
  void store_moments(const Terms<Algebra>& moments,
                     const Rows<double>& second,        // (N, D, D)
                     const Rows<double>& mean) const {  // (N, D)
    const Index D = dim();
    V* values = workspace.take<V>(D * D);
    for_entries(moments.matrix, [&](Index k, Index i, Index j) {
      if (i < D && j < D) values[i * D + j] = values[j * D + i] = moments.matrix.data[k];
    });
    this->store(values, 1, second, 0, 0, D * D);
    this->store(moments.vector.data, 1, mean, 0, 0, D);
  }
};

// The potentials (J_k, h_k) that all points share, as they are added to a precision, and
// as they multiply moments.
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

  // Adds sum_k weights_k (J_k, h_k): nothing for a point without data.
  void mix(const V* weights,  // (K,)
           const Terms<typename Pack::Algebra>& to) const {
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

  void products(const Terms<typename Pack::Algebra>& moments, V* values) const {  // (K,)
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
    const V success = factorise(A_, L, inverse_determinant_);
    const Vector<V> mean = moments.vector;
    solve(L, h_);
    divide_by_pivots(L, h_, mean);
    quadratic_ = broadcast<V>(0.0);
    for (Index i = 0; i < pack_.dim(); ++i) quadratic_ += h_[i] * mean[i];
    solve(transposed(L), mean);
    find_roots(L, roots);
    invert(L, roots, R);
    multiply<Update::set>(transposed(R), R, moments.matrix);
    for_entries(moments.matrix, [&](Index k, Index i, Index j) {
      moments.matrix.data[k] = multiply_add(mean[i], mean[j], moments.matrix.data[k]);
    });
    return success;
  }

  V half_log_det() const { return -0.5 * inverse_determinant_.value(); }

  // log Z_x. The standard normal law of a point without data is a factor, no potential.
  V log_normalizer() const {
    constexpr double kHalfLog2Pi = 0.91893853320467274178;
    return 0.5 * (quadratic_ + inverse_determinant_.value()) +
           pack_.observed * (kHalfLog2Pi * double(pack_.dim()));
  }

  // x = mean + L^-T d^-1/2 noise; it may take the place of the noise
  void sample(const V* noise,       // (D,)
              Vector<V> x) const {  // (D,)
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

  // phi', and 1 for a point without data
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
  V update(const V* evidence,  // (K,): e
           V* statistics) {    // (K,): s
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
  void set_to_prior(V* statistics) {  // (K,): s
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

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
