// Messages of a Markov chain as scaled weights, and their products with the matrix of a
// pair.
//
// The matrix is the same for all lanes where the sequences share it: then its entries are
// plain numbers (E = double), else packs (E = V). Either way the same operations follow
// one another in every lane, so a sequence has the same digits.
#pragma once

#include "linalg.hpp"
#include "markov_pack.hpp"
#include "stream.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

template <class V>
SVAE_ALWAYS_INLINE V in_lanes(double x) {
  return broadcast<V>(x);
}
template <class V>
SVAE_ALWAYS_INLINE V in_lanes(V x) {
  return x;
}

// Calls body(begin, Size<n>) for parts of the states that fit the registers, as equal as
// possible.
template <int kMax, class Body>
SVAE_ALWAYS_INLINE void for_states(Index num_states, const Body& body) {
  Index begin = 0;
  for (Index parts = (num_states + kMax - 1) / kMax; parts > 0; --parts) {
    const Index size = (num_states - begin + parts - 1) / parts;
    with_size<kMax>(size, [&](auto n) { body(begin, n); });
    begin += size;
  }
}

// States whose sums stay in registers beside a message and an entry of the matrix.
constexpr int kStates = SVAE_LANES == 8 ? 16 : 12;

// sum_j += sum_i M_ij x_i, j from `begin` on; M is K x K by rows.
template <int kCount, class V, class E>
SVAE_ALWAYS_INLINE void add_product(Index K, const E* M, const V* x, Index begin,
                                    V* sum) {
  const E* row = M + begin;
  for (Index i = 0; i < K; ++i, row += K) {
    const V message = x[i];
#pragma GCC unroll 16
    for (int c = 0; c < kCount; ++c) sum[c] += in_lanes<V>(row[c]) * message;
  }
}

// The rows of an array over pairs, in lanes or for all of them.
template <class V, class E>
class PairRows : public RowReader<V> {
 public:
  PairRows(const MarkovPack<V>& pack, const Rows<const double>& rows,
           Workspace& workspace)
      : RowReader<V>(pack, rows, pack.num_states * pack.num_states, 1, workspace) {}
};

template <class V>
class PairRows<V, double> {
 public:
  PairRows(const MarkovPack<V>& pack, const Rows<const double>& rows, Workspace&)
      : rows_(rows), sequence_(pack.sequence[0]) {}
  const double* at(Index t) const { return rows_.at(sequence_, t); }

 private:
  Rows<const double> rows_;
  Index sequence_;
};

// B = A', both K x K by rows.
template <class E>
void transpose_matrix(Index K, const E* A, E* B) {
  for (Index i = 0; i < K; ++i)
    for (Index j = 0; j < K; ++j) B[j * K + i] = A[i * K + j];
}

// A_ij = exp(pair_ij - shift), relative to the largest: made once if all steps share it.
template <class V, class E>
class PairWeights {
 public:
  PairWeights(const MarkovPack<V>& pack, Workspace& workspace)
      : rows_(pack, pack.problem.potentials.pair, workspace),
        num_states_(pack.num_states),
        is_shared_(pack.problem.pair_is_shared),
        weights_(workspace.take<E>(num_states_ * num_states_)),
        transposed_(workspace.take<E>(num_states_ * num_states_)) {}

  // Entry (i, j) at [i * K + j].
  const E* at(Index t) {
    load(is_shared_ ? 0 : t);
    return weights_;
  }

  // Entry (i, j) at [j * K + i].
  const E* transposed_at(Index t) {
    load(is_shared_ ? 0 : t);
    if (transposed_step_ != step_) transpose_matrix(num_states_, weights_, transposed_);
    transposed_step_ = step_;
    return transposed_;
  }

  // The log of what the weights of the step were divided by.
  V shift() const { return in_lanes<V>(shift_); }

 private:
  SVAE_ALWAYS_INLINE void load(Index t) {
    if (t != step_) make(t);
  }

  __attribute__((noinline)) void make(Index t) {
    const Index size = num_states_ * num_states_;
    const E* potentials = rows_.at(t);
    shift_ = finite_maximum(potentials, size);
    for (Index e = 0; e < size; ++e)
      weights_[e] = exp_of_nonpositive(potentials[e] - shift_);
    step_ = t;
  }

  PairRows<V, E> rows_;
  Index num_states_;
  bool is_shared_;
  E* weights_;
  E* transposed_;
  E shift_;
  Index step_ = -1, transposed_step_ = -1;  // of what is in weights_, transposed_
};

// Rows in lanes, one for each step, of which those of one segment are kept, and the last
// one of every segment.
template <class V>
class SegmentRows {
 public:
  SegmentRows(Index num_timesteps, Index segment, Index size, Workspace& workspace)
      : segment_(segment),
        stride_(size | 1),  // a power of two would put all steps into the same cache sets
        rows_(workspace.take<V>((segment < num_timesteps ? segment : num_timesteps) *
                                stride_)),
        last_(workspace.take<V>((num_timesteps - 1) / segment * stride_)) {}

  // Of the segment at hand, or the last row of the one before.
  SVAE_ALWAYS_INLINE V* at(Index t) const {
    return t >= begin_ ? rows_ + (t - begin_) * stride_
                       : last_ + (begin_ / segment_ - 1) * stride_;
  }
  Index stride() const { return stride_; }

  // For the caller to fill: the steps in order, or once more those of one segment.
  SVAE_ALWAYS_INLINE V* next(Index t) {
    if (t >= begin_ + segment_) keep_last();
    if (t < begin_ || t >= begin_ + segment_) begin_ = t;
    return at(t);
  }

 private:
  void keep_last() {
    const V* row = rows_ + (segment_ - 1) * stride_;
    V* kept = last_ + begin_ / segment_ * stride_;
    for (Index k = 0; k < stride_; ++k) kept[k] = row[k];
  }

  Index segment_, stride_;
  V* rows_;
  V* last_;
  Index begin_ = 0;
};

// Steps in a block of the sums over pairs; a segment is some blocks.
constexpr Index kBlock = 64;

// Steps of which the messages are kept: all of a chain that is not too long; of a longer
// one a segment at a time, which costs it a second filter.
inline Index segment_length(Index num_timesteps, Index num_states) {
  constexpr Index kWhole = Index(1) << 18, kPart = Index(1) << 16;  // numbers in a lane
  if (num_timesteps * num_states <= kWhole) return num_timesteps;
  return (kPart / num_states / kBlock + 1) * kBlock;
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
