// The arrays of a Markov chain in lanes: one sequence in each lane of V.
//
// Log weights are shifted to a maximum of zero when they are loaded, so that offsets of
// the potentials cost no digits.
//
// A lane past the end of its sequence loads zeros, computes finite values that nobody
// reads, and joins the way back at its own last step: no other lane can tell.
#pragma once

#include "lanes/elementary.hpp"
#include "lanes/first_failure.hpp"
#include "lanes/row.hpp"

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

  // These lanes alone, at least one: the others repeat the first of them.
  MarkovPack only(const bool* chosen) const {  // (W,)
    MarkovPack part = *this;
    Index donor = 0;
    while (!chosen[donor]) ++donor;
    part.num_timesteps = part.shortest = length[donor];
    for (Index w = 0; w < width<V>; ++w) {
      const Index source = chosen[w] ? w : donor;
      part.sequence[w] = sequence[source];
      part.length[w] = length[source];
      lane(part.lengths, w) = double(length[source]);
      if (part.num_timesteps < length[source]) part.num_timesteps = length[source];
      if (part.shortest > length[source]) part.shortest = length[source];
    }
    return part;
  }

  // Row t of every lane that has the step t, zeros for the others.
  void load(const Rows<const double>& rows,  // (N, T, K)
            Index t, V* values) const {      // (K,)
    Pack<V>::load(rows, t, t, values, num_states);
  }

  void store(const V* values,           // (K,)
             const Rows<double>& rows,  // (N, T, K)
             Index t) const {
    Pack<V>::store(values, 1, rows, t, t, num_states);
  }

  // From rows in lanes, one per step, the last one of every lane.
  void take_last(const V* rows,      // (T, padded K)
                 V* values) const {  // (K,)
    for (Index w = 0; w < width<V>; ++w) {
      const V* row = rows + (length[w] > 0 ? length[w] - 1 : 0) * padded<V>(num_states);
      for (Index k = 0; k < num_states; ++k) lane(values[k], w) = lane(row[k], w);
    }
  }

  // At their last step the lanes take `last`, at any other `values`.
  void join(Index t, const V* last,  // (K,)
            V* values) const {       // (K,)
    for (Index k = 0; k < num_states; ++k)
      values[k] = this->at_last_step(t, last[k], values[k]);
  }
};

// Positive in the lanes that have ended, or in which some state has the log weight `top`,
// the highest of step t, which is not -inf.
template <class V>
SVAE_ALWAYS_INLINE V is_possible(const Pack<V>& pack, Index t, V top) {
  const V zero = broadcast<V>(0.0), one = broadcast<V>(1.0);
  return pack.within(t, select(top == broadcast<V>(-kInfinity), zero, one), one);
}

// Zero if none is finite.
template <class V>
V finite_maximum(const V* log_weights,  // (size,)
                 Index size) {
  const V top = maximum(log_weights, size);
  return select(top == broadcast<V>(-kInfinity), broadcast<V>(0.0), top);
}

// Shifts log weights to a maximum of zero (if any is finite); returns the shift.
template <class V>
V shift_to_zero(V* log_weights,  // (size,)
                Index size) {
  const V shift = finite_maximum(log_weights, size);
  for (Index k = 0; k < size; k += span<V>)
    put(log_weights + k, wide<V>(log_weights + k) - for_all(shift));
  return shift;
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
