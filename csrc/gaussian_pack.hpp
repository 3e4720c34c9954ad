// The arrays of a Gaussian chain in lanes: one sequence in each lane of V.
//
// Past the end of its sequence a lane goes on with independent standard normal steps:
// zeros are loaded for its potentials, and an identity for its precision. Adding zeros is
// exact, so the arithmetic of a sequence does not depend on the company it keeps.
#pragma once

#include "linalg.hpp"
#include "pack.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

template <class V>
struct GaussianPack : Pack<V> {
  const GaussianProblem& problem;
  Index latent_dim;
  using Pack<V>::sequence;
  using Pack<V>::length;

  GaussianPack(const GaussianProblem& problem, Index first)
      : Pack<V>(problem.num_sequences, problem.lengths, first),
        problem(problem),
        latent_dim(problem.latent_dim) {}

  // (N, S, T, D) <-> matrix (D, S) of step t
  void load_columns(const Rows<const double>& rows, Index t, const Matrix<V>& X) const {
    for (Index w = 0; w < width<V>; ++w)
      for (Index s = 0; s < X.columns; ++s) {
        const double* row = rows.at(sequence[w], s) + t * latent_dim;
        for (Index i = 0; i < X.rows; ++i)
          lane(X(i, s), w) = length[w] > t ? row[i] : 0.0;
      }
  }

  void store_columns(const Matrix<V>& X, const Rows<double>& rows, Index t) const {
    for (Index w = 0; w < width<V>; ++w)
      for (Index s = 0; length[w] > t && s < X.columns; ++s) {
        double* row = rows.at(sequence[w], s) + t * latent_dim;
        for (Index i = 0; i < X.rows; ++i) row[i] = lane(X(i, s), w);
      }
  }
};

// J becomes -(J + J'): the precision of a quadratic potential, of which only the
// symmetric part counts.
template <class V>
void to_precision(const Matrix<V>& J) {
  for (Index i = 0; i < J.rows; ++i)
    for (Index j = 0; j <= i; ++j) J(i, j) = J(j, i) = -(J(i, j) + J(j, i));
}

template <class V>
void fill_zero(const Matrix<V>& A) {
  for (Index k = 0; k < A.rows * A.columns; ++k) A.data[k] = broadcast<V>(0.0);
}

template <class V>
void copy(const Matrix<V>& from, const Matrix<V>& to) {
  for (Index k = 0; k < to.rows * to.columns; ++k) to.data[k] = from.data[k];
}

template <class V>
void add(const Matrix<V>& term, const Matrix<V>& to) {
  for (Index k = 0; k < to.rows * to.columns; ++k) to.data[k] += term.data[k];
}

// A potential of the pairs (t, t+1), zeros where that pair is past the end of a sequence.
// If all steps share it, it is loaded once.
template <class V>
class PairPotential {
 public:
  PairPotential(const GaussianPack<V>& pack, const Rows<const double>& rows,
                bool is_shared, Shape shape, Workspace& workspace)
      : pack_(pack),
        rows_(rows),
        is_shared_(is_shared),
        shared_(take_matrix<V>(workspace, pack.latent_dim, pack.latent_dim, shape)),
        current_(take_matrix<V>(workspace, pack.latent_dim, pack.latent_dim, shape)) {
    if (is_shared && pack.num_timesteps > 1) load(0, shared_);
  }

  const Matrix<V>& at(Index t) {
    if (!is_shared_) {
      load(t, current_);
      return current_;
    }
    if (t + 1 < pack_.shortest) return shared_;
    for (Index k = 0; k < shared_.rows * shared_.columns; ++k)
      current_.data[k] = pack_.within(t + 1, shared_.data[k], broadcast<V>(0.0));
    return current_;
  }

 private:
  void load(Index t, const Matrix<V>& block) {
    pack_.load(rows_, t, t + 1, block.data, block.rows * block.columns);
    if (block.shape == Shape::symmetric) to_precision(block);
  }

  const GaussianPack<V>& pack_;
  Rows<const double> rows_;
  bool is_shared_;
  Matrix<V> shared_, current_;
};

// Potentials, or directions in their space, as terms of the joint precision and of h.
template <class V>
class GaussianTerms {
 public:
  GaussianTerms(const GaussianPack<V>& pack, const GaussianArrays<const double>& arrays,
                Workspace& workspace)
      : J11(pack, arrays.J11, pack.problem.J11_is_shared, Shape::symmetric, workspace),
        J12(pack, arrays.J12, pack.problem.J12_is_shared, Shape::full, workspace),
        J22(pack, arrays.J22, pack.problem.J22_is_shared, Shape::symmetric, workspace),
        pack_(pack),
        arrays_(arrays),
        block_(take_matrix<V>(workspace, pack.latent_dim, pack.latent_dim)),
        vector_(take_matrix<V>(workspace, pack.latent_dim, 1)) {}

  void set_init(const Matrix<V>& precision, const Matrix<V>& h) {
    const Index D = pack_.latent_dim;
    pack_.load(arrays_.init_J, 0, 0, precision.data, D * D);
    pack_.load(arrays_.init_h, 0, 0, h.data, D);
    to_precision(precision);
  }

  void add_node(Index t, const Matrix<V>& precision, const Matrix<V>& h) {
    const Index D = pack_.latent_dim;
    if (pack_.problem.dense_nodes) {
      pack_.load(arrays_.node_J, t, t, block_.data, D * D);
      to_precision(block_);
      add(block_, precision);
    } else {
      pack_.load(arrays_.node_J, t, t, vector_.data, D);
      for (Index i = 0; i < D; ++i) precision(i, i) -= 2.0 * vector_(i, 0);
    }
    pack_.load(arrays_.node_h, t, t, vector_.data, D);
    add(vector_, h);
  }

  PairPotential<V> J11, J12, J22;

 private:
  const GaussianPack<V>& pack_;
  GaussianArrays<const double> arrays_;
  Matrix<V> block_, vector_;
};

// The statistics of the pairs: one matrix per step, or their sum if all steps share one.
template <class V>
class GaussianPairStatistic {
 public:
  GaussianPairStatistic(const GaussianPack<V>& pack, const Rows<double>& rows,
                        bool is_shared, Workspace& workspace)
      : pack_(pack),
        rows_(rows),
        is_shared_(is_shared),
        sum_(take_matrix<V>(workspace, pack.latent_dim, pack.latent_dim)) {
    fill_zero(sum_);
  }

  void add(Index t, const Matrix<V>& block) {
    const Index size = block.rows * block.columns;
    if (!is_shared_) return pack_.store(block.data, 1, rows_, t, t + 1, size);
    for (Index k = 0; k < size; ++k)
      sum_.data[k] += pack_.within(t + 1, block.data[k], broadcast<V>(0.0));
  }

  void finish() {
    if (is_shared_ && pack_.num_timesteps > 1)
      pack_.store(sum_.data, 1, rows_, 0, 1, sum_.rows * sum_.columns);
  }

 private:
  const GaussianPack<V>& pack_;
  Rows<double> rows_;
  bool is_shared_;
  Matrix<V> sum_;
};

// What comes out of a chain, step by step from the end: its statistics, or the cotangents
// of its potentials, which have the same shapes.
template <class V>
class GaussianOutput {
 public:
  GaussianOutput(const GaussianPack<V>& pack, const GaussianArrays<double>& arrays,
                 Workspace& workspace)
      : pack_(pack),
        arrays_(arrays),
        J11_(pack, arrays.J11, pack.problem.J11_is_shared, workspace),
        J12_(pack, arrays.J12, pack.problem.J12_is_shared, workspace),
        J22_(pack, arrays.J22, pack.problem.J22_is_shared, workspace) {}

  // J and h belong to step t, coupling to the pair (t, t+1).
  void store(Index t, const Matrix<V>& J, const Matrix<V>& h, const Matrix<V>& coupling) {
    const Index D = pack_.latent_dim;
    if (pack_.problem.dense_nodes)
      pack_.store(J.data, 1, arrays_.node_J, t, t, D * D);
    else
      pack_.store(J.data, D + 1, arrays_.node_J, t, t, D);
    pack_.store(h.data, 1, arrays_.node_h, t, t, D);
    if (t + 1 < pack_.num_timesteps) {
      J11_.add(t, J);
      J12_.add(t, coupling);
    }
    if (t > 0) return J22_.add(t - 1, J);
    pack_.store(J.data, 1, arrays_.init_J, 0, 0, D * D);
    pack_.store(h.data, 1, arrays_.init_h, 0, 0, D);
    J11_.finish();
    J12_.finish();
    J22_.finish();
  }

 private:
  const GaussianPack<V>& pack_;
  GaussianArrays<double> arrays_;
  GaussianPairStatistic<V> J11_, J12_, J22_;
};

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
