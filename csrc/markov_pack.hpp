// The arrays of a Markov chain in lanes: one sequence in each lane of V.
//
// Log weights are shifted to a maximum of zero when they are loaded, so that offsets of
// the potentials cost no digits. Matrices over pairs lie by columns: (i, j) at [j * K +
// i].
//
// A lane past the end of its sequence loads zeros, computes finite values that nobody
// reads, and joins the way back at its own last step: no other lane can tell.
#pragma once

#include "pack.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

constexpr double kInfinity = __builtin_inf();

template <class V>
struct MarkovPack : Pack<V> {
  const MarkovProblem& problem;
  Index num_states;
  using Pack<V>::sequence;
  using Pack<V>::length;

  MarkovPack(const MarkovProblem& problem, Index first)
      : Pack<V>(problem.num_sequences, problem.lengths, first),
        problem(problem),
        num_states(problem.num_states) {}

  // Row t of every lane that has the step t, zeros for the others.
  void load(const Rows<const double>& rows, Index t, V* values) const {
    Pack<V>::load(rows, t, t, values, num_states);
  }

  void store(const V* values, const Rows<double>& rows, Index t) const {
    Pack<V>::store(values, 1, rows, t, t, num_states);
  }

  // From rows in lanes, one per step, the last one of every lane.
  void take_last(const V* rows, V* values) const {
    for (Index w = 0; w < width<V>; ++w) {
      const V* row = rows + (length[w] > 0 ? length[w] - 1 : 0) * num_states;
      for (Index k = 0; k < num_states; ++k) lane(values[k], w) = lane(row[k], w);
    }
  }

  // At their last step the lanes take `last`, at any other `values`.
  void join(Index t, const V* last, V* values) const {
    for (Index k = 0; k < num_states; ++k)
      values[k] = this->at_last_step(t, last[k], values[k]);
  }

  // Matrix t by columns, of every lane that has the pair (t, t+1).
  void load_pair(Rows<const double> rows, Index t, V* columns) const {
    const Index K = num_states;
    for (Index w = 0; w < width<V>; ++w) {
      const double* matrix = rows.at(sequence[w], t);
      for (Index i = 0; i < K; ++i)
        for (Index j = 0; j < K; ++j)
          lane(columns[j * K + i], w) = length[w] > t + 1 ? matrix[i * K + j] : 0.0;
    }
  }

  void store_pair(const V* columns, Rows<double> rows, Index t) const {
    const Index K = num_states;
    for (Index w = 0; w < width<V>; ++w)
      for (Index i = 0; length[w] > t + 1 && i < K; ++i)
        for (Index j = 0; j < K; ++j)
          rows.at(sequence[w], t)[i * K + j] = lane(columns[j * K + i], w);
  }
};

template <class V>
V maximum(const V* values, Index size) {
  V top = values[0];
  for (Index k = 1; k < size; ++k) top = max(top, values[k]);
  return top;
}

// Shifts log weights to a maximum of zero (if any is finite); returns the shift.
template <class V>
V shift_to_zero(V* log_weights, Index size) {
  const V top = maximum(log_weights, size);
  const V shift = select(top == broadcast<V>(-kInfinity), broadcast<V>(0.0), top);
  for (Index k = 0; k < size; ++k) log_weights[k] -= shift;
  return shift;
}

// One pair matrix after the other in lanes; loaded once if all steps share it. Potentials
// are shifted to a maximum of zero, cotangents are taken as they are.
template <class V>
class PairMatrix {
 public:
  enum Kind { kPotential, kCotangent };

  PairMatrix(const MarkovPack<V>& pack, Rows<const double> rows, Kind kind,
             Workspace& workspace)
      : pack_(pack),
        rows_(rows),
        kind_(kind),
        columns_(workspace.take<V>(pack.num_states * pack.num_states)) {
    if (pack.problem.pair_is_shared) load(0);
  }

  const V* at(Index t) {
    if (!pack_.problem.pair_is_shared) load(t);
    return columns_;
  }

  V shift() const { return shift_; }

 private:
  void load(Index t) {
    pack_.load_pair(rows_, t, columns_);
    if (kind_ == kPotential)
      shift_ = shift_to_zero(columns_, pack_.num_states * pack_.num_states);
  }

  const MarkovPack<V>& pack_;
  Rows<const double> rows_;
  Kind kind_;
  V* columns_;
  V shift_ = broadcast<V>(0.0);
};

// The statistics of the pairs: one matrix per step, or their sum if all steps share one.
template <class V>
class PairStatistic {
 public:
  PairStatistic(const MarkovPack<V>& pack, Rows<double> rows, Workspace& workspace)
      : pack_(pack),
        rows_(rows),
        size_(pack.num_states * pack.num_states),
        sum_(workspace.take<V>(size_)) {
    fill_zero(sum_, size_);
  }

  void add(Index t, const V* columns) {
    if (!pack_.problem.pair_is_shared) return pack_.store_pair(columns, rows_, t);
    for (Index e = 0; e < size_; ++e) sum_[e] += columns[e];
  }

  void finish() {
    if (pack_.problem.pair_is_shared) pack_.store_pair(sum_, rows_, 0);
  }

 private:
  const MarkovPack<V>& pack_;
  Rows<double> rows_;
  Index size_;
  V* sum_;
};

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
