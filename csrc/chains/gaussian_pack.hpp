// The arrays of a Gaussian chain in lanes: one sequence in each lane of V.
//
// Past the end of its sequence a lane goes on with independent standard normal steps:
// zeros are loaded for its potentials, and an identity for its precision. Adding zeros is
// exact, so the arithmetic of a sequence does not depend on the company it keeps. The
// dimensions that pad the tiles of a matrix are independent and standard normal, too.
//
// An algebra has matrices of one size: tiles.hpp in lanes, blocked.hpp for a single
// sequence by BLAS and LAPACK.
#pragma once

#include "chains/pair_writer.hpp"
#include "lanes/tiles.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

template <class AlgebraT, class ProblemT = GaussianProblem>
struct GaussianPack : Pack<typename AlgebraT::V> {
  using Algebra = AlgebraT;
  using Problem = ProblemT;
  using V = typename Algebra::V;
  using FullMatrix = typename Algebra::FullMatrix;
  using LowerMatrix = typename Algebra::LowerMatrix;
  using SymmetricMatrix = typename Algebra::SymmetricMatrix;

  const Problem& problem;
  Algebra algebra;
  Workspace& workspace;

  GaussianPack(const Problem& problem, Index first, Workspace& workspace)
      : Pack<V>(problem.num_sequences, problem.lengths, first, problem.edges),
        problem(problem),
        algebra(problem.latent_dim),
        workspace(workspace) {}

  Index dim() const { return algebra.dim(); }
  Index padded_dim() const { return algebra.padded_dim(); }
  // numbers in a row of node J: a matrix, or its diagonal
  Index node_J_size() const { return problem.dense_nodes ? dim() * dim() : dim(); }

  template <class Matrix>
  Matrix matrix(V* data) const {
    return algebra.template matrix<Matrix>(data);
  }
  template <class Matrix>
  Index size_of() const {
    return matrix<Matrix>(nullptr).size();
  }
  template <class Matrix>
  Matrix take() const {  // zeros
    Matrix A = matrix<Matrix>(nullptr);
    A.data = take_zeros(A.size());
    return A;
  }

  // `count` vectors, one after the other
  V* take_vectors(Index count) const { return take_zeros(count * padded_dim()); }
  Vector<V> take_vector() const { return {take_vectors(1)}; }
  Vector<V> vector_of(V* vectors, Index s) const { return {vectors + s * padded_dim()}; }

  // Ones for lanes that have ended, and for dimensions that are padding.
  SVAE_ALWAYS_INLINE void complete_diagonal(Index t, const SymmetricMatrix& A) const {
    const V zero = broadcast<V>(0.0), one = broadcast<V>(1.0);
    if (t >= this->shortest)
      for (Index i = 0; i < dim(); ++i) A(i, i) += this->within(t, zero, one);
    for (Index i = dim(); i < padded_dim(); ++i) A(i, i) = one;
  }

 private:
  V* take_zeros(Index size) const {
    V* data = workspace.take<V>(size);
    fill_zero(data, size);
    return data;
  }
};

// Sets A from the rows of a matrix. A symmetric matrix keeps the precision -(J + J') of a
// potential's J: only the symmetric part of J counts.
template <class V, class Matrix>
void set_from_rows(const V* rows,                 // (D D,)
                   Index dim, const Matrix& A) {  // (D, D)
  for_entries(A, [&](Index k, Index i, Index j) {
    if (i >= dim || j >= dim) return;
    if (Matrix::kIsSymmetric)
      A.data[k] = -(rows[i * dim + j] + rows[j * dim + i]);
    else
      A.data[k] = rows[i * dim + j];
  });
}

// A statistic or a cotangent of one step, block + x y': entry (i, j), stored at k.
template <class Matrix, class V>
struct WithOuter {
  Matrix block;
  Vector<V> x, y;
  SVAE_ALWAYS_INLINE V operator()(Index k, Index i, Index j) const {
    return multiply_add(x[i], y[j], block.data[k]);
  }
};

// The same for a block that is complete.
template <class Matrix, class V>
struct Complete {
  Matrix block;
  SVAE_ALWAYS_INLINE V operator()(Index k, Index, Index) const { return block.data[k]; }
};

template <class V, class Block>
void set_rows(const Block& value, Index dim, V* rows) {  // (D D,)
  for_entries(value.block, [&](Index k, Index i, Index j) {
    if (i >= dim || j >= dim) return;
    rows[i * dim + j] = value(k, i, j);
    if (value.block.kIsSymmetric) rows[j * dim + i] = value(k, i, j);
  });
}

// A potential of the pairs (t, t+1), zeros where that pair is past the end of a sequence.
// If all steps share it, it is loaded once.
template <class Pack, class Matrix>
class GaussianPairPotential {
  using V = typename Pack::V;

 public:
  GaussianPairPotential(const Pack& pack,
                        const Rows<const double>& rows,  // (N, 1|T-1, D, D)
                        bool is_shared)
      : pack_(pack),
        reader_(pack, rows, pack.dim() * pack.dim(), 1, pack.workspace),
        is_shared_(is_shared),
        loaded_(pack.template take<Matrix>()),
        within_(pack.template take<Matrix>()) {
    if (is_shared && pack.num_timesteps > 1)
      set_from_rows(reader_.at(0), pack.dim(), loaded_);
  }

  const Matrix& at(Index t) {
    if (!is_shared_) set_from_rows(reader_.at(t), pack_.dim(), loaded_);
    if (!is_shared_ || t + 1 < pack_.shortest) return loaded_;
    for (Index k = 0; k < loaded_.size(); ++k)
      within_.data[k] = pack_.within(t + 1, loaded_.data[k], broadcast<V>(0.0));
    return within_;
  }

 private:
  const Pack& pack_;
  RowReader<V> reader_;
  bool is_shared_;
  Matrix loaded_, within_;
};

// Terms of the pairs (t, t+1), to be asked for in the order of the functions: those of
// x_t, the coupling, those of x_{t+1}. For arrays of pairs, or of what they share;
// switching_pairs.hpp has those that states mix.
template <class Pack>
class GaussianPairTerms {
  using V = typename Pack::V;
  using Symmetric = typename Pack::SymmetricMatrix;
  using Full = typename Pack::FullMatrix;

 public:
  GaussianPairTerms(const Pack& pack, const GaussianArrays<const double>& arrays)
      : J11_(pack, arrays.J11, pack.problem.J11_is_shared),
        J12_(pack, arrays.J12, pack.problem.J12_is_shared),
        J22_(pack, arrays.J22, pack.problem.J22_is_shared) {}

  void add_left(Index t, const Symmetric& precision,  // (D, D)
                Vector<V>) {                          // (D,)
    add_terms(J11_.at(t).data, precision.data, precision.size());
  }
  const Full& J12(Index t) { return J12_.at(t); }
  const Symmetric& J22(Index t) { return J22_.at(t); }
  void add_right(Vector<V>) const {}  // (D,)

 private:
  GaussianPairPotential<Pack, Symmetric> J11_;
  GaussianPairPotential<Pack, Full> J12_;
  GaussianPairPotential<Pack, Symmetric> J22_;
};

// Potentials, or directions in their space, as terms of the joint precision and of h.
template <class Pack>
class GaussianTerms {
  using V = typename Pack::V;
  using Symmetric = typename Pack::SymmetricMatrix;

 public:
  template <class Arrays>
  GaussianTerms(const Pack& pack, const Arrays& arrays)
      : pairs(pack, arrays),
        pack_(pack),
        arrays_(arrays),
        node_J_(pack, arrays.node_J, pack.node_J_size(), 0, pack.workspace),
        node_h_(pack, arrays.node_h, pack.dim(), 0, pack.workspace),
        block_(pack.template take<Symmetric>()) {}

  void set_init(const Symmetric& precision,  // (D, D)
                Vector<V> h) const {         // (D,)
    const Index D = pack_.dim();
    V* rows = pack_.workspace.template take<V>(D * D);
    pack_.load(arrays_.init_J, 0, 0, rows, D * D);
    set_from_rows(rows, D, precision);
    pack_.load(arrays_.init_h, 0, 0, h.data, D);
  }

  void add_node(Index t, const Symmetric& precision,  // (D, D)
                Vector<V> h) {                        // (D,)
    const Index D = pack_.dim();
    const V* J = node_J_.at(t);
    if (pack_.problem.dense_nodes) {
      set_from_rows(J, D, block_);
      add_terms(block_.data, precision.data, block_.size());
    } else {
      for (Index i = 0; i < D; ++i) precision(i, i) -= 2.0 * J[i];
    }
    add_terms(node_h_.at(t), h.data, D);
  }

  GaussianPairTerms<Pack> pairs;

 private:
  const Pack& pack_;
  GaussianNodes<const double> arrays_;
  RowReader<V> node_J_, node_h_;
  Symmetric block_;
};

// A statistic of the pairs (t, t+1): one matrix per step, or their sum if all steps share
// one.
template <class Pack, class Matrix>
class GaussianPairStatistic {
  using V = typename Pack::V;

 public:
  GaussianPairStatistic(const Pack& pack, const Rows<double>& rows,  // (N, 1|T-1, D, D)
                        bool is_shared)
      : pack_(pack),
        writer_(pack, rows, pack.dim() * pack.dim(), is_shared, pack.workspace),
        sum_(pack.template take<Matrix>()) {}

  template <class Block>
  SVAE_ALWAYS_INLINE void add(Index t, const Block& value) {
    if (!writer_.is_shared()) return set_rows(value, pack_.dim(), writer_.at(t));
    const V zero = broadcast<V>(0.0);
    if (t + 1 < pack_.shortest)
      set_entries(sum_, [&](Index k, Index i, Index j)
                            SVAE_INLINE { return sum_.data[k] + value(k, i, j); });
    else
      for_entries(sum_, [&](Index k, Index i, Index j) SVAE_INLINE {
        sum_.data[k] += pack_.within(t + 1, value(k, i, j), zero);
      });
  }

  void add_to_sum(const Matrix& terms) const {
    add_terms(terms.data, sum_.data, sum_.size());
  }

  void finish() {
    if (writer_.is_shared())
      set_rows(Complete<Matrix, V>{sum_}, pack_.dim(), writer_.at(0));
    writer_.finish();
  }

 private:
  const Pack& pack_;
  PairWriter<V> writer_;
  Matrix sum_;  // in tiles, where all steps share one
};

// The statistics of x_t x_t' in pairs: J11 of those that t begins, J22 of those that it
// ends. If all steps share both, they differ in the first and the last step alone, and
// what they have in common is summed once.
template <class Pack>
class GaussianSquareStatistics {
  using V = typename Pack::V;
  using Symmetric = typename Pack::SymmetricMatrix;

 public:
  GaussianSquareStatistics(const Pack& pack, const GaussianArrays<double>& arrays)
      : pack_(pack),
        J11_(pack, arrays.J11, pack.problem.J11_is_shared),
        J22_(pack, arrays.J22, pack.problem.J22_is_shared),
        both_are_shared_(pack.problem.J11_is_shared && pack.problem.J22_is_shared),
        common_(pack.template take<Symmetric>()),
        last_(pack.template take<Symmetric>()) {}

  template <class Block>
  SVAE_ALWAYS_INLINE void add(Index t, const Block& value) {
    if (!both_are_shared_ || t == 0) {
      if (t + 1 < pack_.num_timesteps) J11_.add(t, value);
      if (t > 0) J22_.add(t - 1, value);
    } else if (t + 1 < pack_.shortest) {
      set_entries(common_, [&](Index k, Index i, Index j)
                               SVAE_INLINE { return common_.data[k] + value(k, i, j); });
    } else {
      for_entries(common_, [&](Index k, Index i, Index j) SVAE_INLINE {
        const V entry = value(k, i, j), zero = broadcast<V>(0.0);
        common_.data[k] += pack_.within(t + 1, entry, zero);
        last_.data[k] += pack_.at_last_step(t, entry, zero);
      });
    }
  }

  void finish() {
    if (both_are_shared_) {
      J11_.add_to_sum(common_);
      add_terms(last_.data, common_.data, common_.size());
      J22_.add_to_sum(common_);
    }
    J11_.finish();
    J22_.finish();
  }

 private:
  const Pack& pack_;
  GaussianPairStatistic<Pack, Symmetric> J11_, J22_;
  bool both_are_shared_;
  Symmetric common_, last_;
};

// What the pairs (t, t+1) have, step by step from the end.
template <class Pack>
class GaussianPairOutput {
  using V = typename Pack::V;

 public:
  GaussianPairOutput(const Pack& pack, const GaussianArrays<double>& arrays)
      : pack_(pack),
        squares_(pack, arrays),
        J12_(pack, arrays.J12, pack.problem.J12_is_shared) {}

  template <class Square, class Cross>
  SVAE_ALWAYS_INLINE void add_statistics(Index, const Square&, Vector<V>, const Cross&) {}

  template <class Square, class Cross>
  SVAE_ALWAYS_INLINE void add(Index t, const Square& J,  // (D, D)
                              Vector<V>,
                              const Cross& coupling) {  // (D, D)
    squares_.add(t, J);
    if (t + 1 < pack_.num_timesteps) J12_.add(t, coupling);
  }

  void finish() {
    squares_.finish();
    J12_.finish();
  }

 private:
  const Pack& pack_;
  GaussianSquareStatistics<Pack> squares_;
  GaussianPairStatistic<Pack, typename Pack::FullMatrix> J12_;
};

// The output of a chain, step by step from the end: its statistics, or the cotangents of
// its potentials, which have the same shapes.
template <class Pack>
class GaussianOutput {
  using V = typename Pack::V;

 public:
  template <class Arrays>
  GaussianOutput(const Pack& pack, const Arrays& arrays)
      : pairs(pack, arrays),
        pack_(pack),
        arrays_(arrays),
        node_J_(pack, arrays.node_J, pack.node_J_size(), 0, pack.workspace),
        node_h_(pack, arrays.node_h, pack.dim(), 0, pack.workspace) {}

  // J and h belong to step t, coupling to the pair (t, t+1).
  template <class Square, class Cross>
  SVAE_ALWAYS_INLINE void store(Index t, const Square& J,  // (D, D)
                                Vector<V> h,               // (D,)
                                const Cross& coupling) {   // (D, D)
    const Index D = pack_.dim();
    V* row = node_J_.at(t);
    if (pack_.problem.dense_nodes)
      set_rows(J, D, row);
    else
      for_diagonal(J.block, [&](Index k, Index i) SVAE_INLINE {
        if (i < D) row[i] = J(k, i, i);
      });
    copy(h.data, node_h_.at(t), D);
    pairs.add(t, J, h, coupling);
    if (t > 0) return;
    V* rows = pack_.workspace.template take<V>(D * D);
    set_rows(J, D, rows);
    pack_.store(rows, 1, arrays_.init_J, 0, 0, D * D);
    pack_.store(h.data, 1, arrays_.init_h, 0, 0, D);
    pairs.finish();
    node_J_.finish();
    node_h_.finish();
  }

  GaussianPairOutput<Pack> pairs;

 private:
  const Pack& pack_;
  GaussianNodes<double> arrays_;
  RowWriter<V> node_J_, node_h_;
};

// One row (N, S, T, D) of each sample: vectors at step t.
template <class Stream>
class SampleStreams {
 public:
  template <class Pack, class T>
  SampleStreams(const Pack& pack, const Rows<T>& rows)  // (N, S, T, D)
      : num_samples_(pack.problem.num_samples),
        streams_(pack.workspace.template take<Stream>(num_samples_)) {
    for (Index s = 0; s < num_samples_; ++s) {
      const Rows<T> sample = {rows.data + s * rows.time_stride, rows.sequence_stride,
                              pack.dim()};
      const Stream stream(pack, sample, pack.dim(), 0, pack.workspace);
      __builtin_memcpy(static_cast<void*>(streams_ + s), &stream, sizeof stream);
    }
  }

  Stream& operator[](Index s) { return streams_[s]; }

  void finish() {
    for (Index s = 0; s < num_samples_; ++s) streams_[s].finish();
  }

 private:
  Index num_samples_;
  Stream* streams_;
};

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
