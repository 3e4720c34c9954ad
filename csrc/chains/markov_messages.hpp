// Messages of a Markov chain as scaled weights, and their products with the matrix of a
// pair.
//
// The matrix is the same for all lanes where the sequences share it: then its entries are
// plain numbers (E = double), else packs (E = V). Either way the same operations follow
// one another in every lane, so a sequence has the same digits.
#pragma once

#include "chains/markov_pack.hpp"
#include "chains/pair_writer.hpp"
#include "chains/segments.hpp"
#include "lanes/stream.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

template <class V>
SVAE_ALWAYS_INLINE V in_lanes(double x) {
  return broadcast<V>(x);
}
template <class V>
SVAE_ALWAYS_INLINE V in_lanes(Lanes x) {
  return x;
}

// An entry as one lane sees it.
SVAE_ALWAYS_INLINE double in_lane(double x, Index) { return x; }
template <class V>
SVAE_ALWAYS_INLINE double in_lane(const V& x, Index w) {
  return lane(x, w);
}

// body(Constant<n>), for 1 <= n <= kMax
template <int kMax, class Body>
SVAE_ALWAYS_INLINE void with_count(Index n, const Body& body) {
  if constexpr (kMax > 1)
    if (n < kMax) return with_count<kMax - 1>(n, body);
  body(Constant<kMax>{});
}

// Calls body(begin, Constant<n>) for parts of the states that fit the registers, as equal
// as possible.
template <int kMax, class Body>
SVAE_ALWAYS_INLINE void for_states(Index num_states, const Body& body) {
  Index begin = 0;
  for (Index parts = (num_states + kMax - 1) / kMax; parts > 0; --parts) {
    const Index size = (num_states - begin + parts - 1) / parts;
    with_count<kMax>(size, [&](auto n) { body(begin, n); });
    begin += size;
  }
}

// What is made of all entries of a column and the message: a sum, or a maximum.
struct SumOfProducts {
  SVAE_ALWAYS_INLINE Lanes operator()(Lanes entry, Lanes message, Lanes sum) const {
    return sum + entry * message;
  }
};

struct MaximumOfSums {
  SVAE_ALWAYS_INLINE Lanes operator()(Lanes entry, Lanes message, Lanes best) const {
    return max(entry + message, best);
  }
};

// A matrix by rows, each `padded<V>(K)` numbers from the next, and the message that it
// takes on.
template <class V, class E>
struct Transition {
  const E* matrix;   // (K, K)
  const V* message;  // (K,)
};

template <class V, class E>
SVAE_ALWAYS_INLINE Transition<V, E> transition(const E* matrix, const V* message) {
  return {matrix, message};
}

// Adds what the transition makes of some registers of states, one after the other.
template <int kCount, class Semiring, class V, class E>
SVAE_ALWAYS_INLINE void accumulate(Index K, const Transition<V, E>& from, Index begin,
                                   Lanes* sum) {  // (kCount,)
  const E* row = from.matrix + begin;
  for (Index i = 0; i < K; ++i, row += padded<V>(K)) {
    const Lanes message = for_all(from.message[i]);
#pragma GCC unroll 16
    for (int c = 0; c < kCount; ++c)
      sum[c] = Semiring()(wide<V>(row + c * span<V>), message, sum[c]);
  }
}

// States whose sums are folded at a time; of packs those that stay in registers beside a
// message and an entry of the matrix. With 32 registers 16 or 20 are no faster. A single
// sequence has many states to a register, and more registers are faster.
constexpr int kStates = 12;
template <class V>
constexpr int kRegisters = span<V> > 1 && SVAE_LANES == 8 ? 16 : kStates;

// message_j = finish(j, start + sum_i M_ij x_i), the sum over all transitions, or with
// maxima in place of sums. Of kStates at a time it calls done(j, Constant<n>, messages).
template <class Semiring, class V, class Finish, class Done, class... Transitions>
SVAE_ALWAYS_INLINE void send(Index K, double start, const Finish& finish, V* message,
                             const Done& done, const Transitions&... from) {
  for_states<kRegisters<V>>(padded<V>(K) / span<V>, [&](Index first, auto count) {
    const Index begin = first * span<V>;
    Lanes sum[count.value];
#pragma GCC unroll 16
    for (int c = 0; c < count.value; ++c) sum[c] = broadcast<Lanes>(start);
    (accumulate<count.value, Semiring>(K, from, begin, sum), ...);
#pragma GCC unroll 16
    for (int c = 0; c < count.value; ++c) {
      const Index j = begin + c * span<V>;
      put(message + j, sum[c] = finish(j, sum[c]));
    }
    if constexpr (span<V> == 1) done(begin, count, sum);
  });
  if constexpr (span<V> > 1)
    for_states<kStates>(
        K, [&](Index begin, auto count) { done(begin, count, message + begin); });
}

// States of either message whose products stay in registers, 32 of them or 16.
constexpr int kTileStates = SVAE_LANES == 8 ? 5 : 3;

// sum_ij += x_i y_j over some steps: rows of x and of y, each `stride` apart.
template <int kRows, int kColumns, class V>
SVAE_ALWAYS_INLINE void add_outer_tile(Index steps, const V* x,     // (steps, kRows)
                                       Index x_stride, const V* y,  // (steps, kColumns)
                                       Index y_stride, V* sum,      // (kRows, kColumns)
                                       Index sum_stride) {
  Lanes tile[kRows][kColumns] = {};
  for (Index s = 0; s < steps; ++s, x += x_stride, y += y_stride) {
    Lanes right[kColumns];
#pragma GCC unroll 5
    for (int c = 0; c < kColumns; ++c) right[c] = wide<V>(y + c * span<V>);
#pragma GCC unroll 5
    for (int r = 0; r < kRows; ++r) {
      const Lanes left = for_all(x[r]);
#pragma GCC unroll 5
      for (int c = 0; c < kColumns; ++c) tile[r][c] += left * right[c];
    }
  }
#pragma GCC unroll 5
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 5
    for (int c = 0; c < kColumns; ++c) {
      V* entries = sum + r * sum_stride + c * span<V>;
      put(entries, wide<V>(entries) + tile[r][c]);
    }
}

// The eight rows around step t of one sequence after the other as t goes on, to be asked
// for some time before they are read or written: the arrays outlast every cache. They are
// K cache lines, a few of which go with each tile, for there are not many line buffers.
template <class T>
class Ahead {
 public:
  Ahead() = default;

  template <class V>
  SVAE_ALWAYS_INLINE Ahead(const MarkovPack<V>& pack, const Rows<T>& rows,  // (N, T, K)
                           Index t) {
    const Index w = t % 8, begin = t - w, K = pack.num_states;
    if (t < 0 || w >= width<V> || rows.time_stride != K) return;
    rows_ = rows.at(pack.sequence[w], begin);
    size_ = min(pack.length[w] - begin, Index(8)) * K;
  }

  // The share of some states.
  SVAE_ALWAYS_INLINE void ask(Index begin, Index count) const {
    const Index end = min(8 * (begin + count), size_);
    for (Index k = 8 * begin; k < end; k += 8) __builtin_prefetch(rows_ + k);
  }

 private:
  T* rows_ = nullptr;
  Index size_ = 0;
};
constexpr Index kStepsAhead = 16;

// The rows of an array over pairs, in lanes or for all of them.
template <class V, class E>
class PairRows : public RowReader<V> {
 public:
  PairRows(const MarkovPack<V>& pack, const Rows<const double>& rows,  // (N, 1|T-1, K, K)
           Workspace& workspace)
      : RowReader<V>(pack, rows, pack.num_states * pack.num_states, 1, workspace) {}
};

template <class V>
class PairRows<V, double> {
 public:
  PairRows(const MarkovPack<V>& pack, const Rows<const double>& rows,  // (N, 1|T-1, K, K)
           Workspace&)
      : rows_(rows), sequence_(pack.sequence[0]) {}
  const double* at(Index t) const { return rows_.at(sequence_, t); }

 private:
  Rows<const double> rows_;
  Index sequence_;
};

// A matrix for each pair (t, t+1), which Derived::make(t, matrix) fills, one entry after
// the other, and its rows and columns for messages: once for all if the steps share it.
template <class Derived, class V, class E>
class StepMatrix {
 public:
  StepMatrix(Index num_states, bool is_shared, Workspace& workspace)
      : num_states_(num_states), is_shared_(is_shared) {
    const Index padded_size = num_states * padded<V>(num_states);
    entries_.entries = take_row<E>(num_states * num_states, workspace);
    rows_.entries = span<V> > 1 ? take_row<E>(padded_size, workspace) : nullptr;
    columns_.entries = take_row<E>(padded_size, workspace);
  }

  // Entry (i, j) at [i * K + j]
  SVAE_ALWAYS_INLINE const E* at(Index t) {
    return form_at(t, entries_, [&](Index step, E* matrix) {
      static_cast<Derived*>(this)->make(step, matrix);
    });
  }

  // Entry (i, j) at [i * padded<V>(K) + j]
  SVAE_ALWAYS_INLINE const E* rows_at(Index t) {
    if constexpr (span<V> == 1) return at(t);
    return form_at(t, rows_, [&](Index step, E* rows) {
      const E* matrix = at(step);
      for (Index i = 0; i < num_states_; ++i)
        copy(matrix + i * num_states_, rows + i * padded<V>(num_states_), num_states_);
    });
  }

  // Entry (i, j) at [j * padded<V>(K) + i]
  SVAE_ALWAYS_INLINE const E* columns_at(Index t) {
    return form_at(t, columns_, [&](Index step, E* columns) {
      const E* matrix = at(step);
      for (Index i = 0; i < num_states_; ++i)
        for (Index j = 0; j < num_states_; ++j)
          columns[j * padded<V>(num_states_) + i] = matrix[i * num_states_ + j];
    });
  }

 private:
  struct Form {
    E* entries;
    Index step = -1;
  };

  template <class Make>
  SVAE_ALWAYS_INLINE const E* form_at(Index t, Form& form, const Make& make) {
    const Index step = is_shared_ ? 0 : t;
    if (form.step != step) make(step, form.entries);
    form.step = step;
    return form.entries;
  }

  Index num_states_;
  bool is_shared_;
  Form entries_, rows_, columns_;
};

// The lowest of some log weights, relative to the largest, and the lowest that is
// possible.
template <class V>
struct Lowest {
  V of_all, of_possible;
};

template <class V>
Lowest<V> lowest(const V* log_weights,  // (size,)
                 Index size, V shift) {
  const V infinity = broadcast<V>(kInfinity);
  const auto possible = [&](Index k) {
    return select(log_weights[k] == -infinity, infinity, log_weights[k]);
  };
  const V of_all = fold<V>(size, [&](Index k) { return log_weights[k]; }, Minimum());
  return {of_all - shift, fold<V>(size, possible, Minimum()) - shift};
}

// A_ij = exp(pair_ij - shift), relative to the largest.
template <class V, class E>
class PairWeights : public StepMatrix<PairWeights<V, E>, V, E> {
 public:
  PairWeights(const MarkovPack<V>& pack, Workspace& workspace)
      : StepMatrix<PairWeights, V, E>(pack.num_states, pack.problem.pair_is_shared,
                                      workspace),
        rows_(pack, pack.problem.potentials.pair, workspace),
        size_(pack.num_states * pack.num_states) {}

  // That of the step asked for last
  V shift() const { return in_lanes<V>(shift_); }

  // Of the same step
  SVAE_NO_INLINE Lowest<V> lowest_at(Index t) {
    const Lowest<E> entries = lowest(rows_.at(t), size_, shift_);
    return {in_lanes<V>(entries.of_all), in_lanes<V>(entries.of_possible)};
  }

  SVAE_NO_INLINE void make(Index t, E* weights) {  // (K, K)
    const E* potentials = rows_.at(t);
    shift_ = finite_maximum(potentials, size_);
    for (Index e = 0; e < size_; e += span<E>) {
      const Lanes log_weights = wide_or_less(potentials + e, size_ - e);
      put(weights + e, exp_of_nonpositive(log_weights - for_all(shift_)));
    }
  }

 private:
  PairRows<V, E> rows_;
  Index size_;
  E shift_;
};

// pair_ij - shift, relative to the largest.
template <class V, class E>
class PairLogs : public StepMatrix<PairLogs<V, E>, V, E> {
 public:
  PairLogs(const MarkovPack<V>& pack, Workspace& workspace)
      : StepMatrix<PairLogs, V, E>(pack.num_states, pack.problem.pair_is_shared,
                                   workspace),
        rows_(pack, pack.problem.potentials.pair, workspace),
        size_(pack.num_states * pack.num_states) {}

  // That of the step asked for last
  V shift() const { return in_lanes<V>(shift_); }

  SVAE_NO_INLINE void make(Index t, E* pair) {  // (K, K)
    const E* potentials = rows_.at(t);
    shift_ = finite_maximum(potentials, size_);
    for (Index e = 0; e < size_; ++e) pair[e] = potentials[e] - shift_;
  }

 private:
  PairRows<V, E> rows_;
  Index size_;
  E shift_;
};

// bar_ij: cotangents as they are.
template <class V>
class PairBars : public StepMatrix<PairBars<V>, V, V> {
 public:
  PairBars(const MarkovPack<V>& pack,
           const Rows<const double>& pair_bar,  // (N, 1|T-1, K, K)
           Workspace& workspace)
      : StepMatrix<PairBars, V, V>(pack.num_states, pack.problem.pair_is_shared,
                                   workspace),
        rows_(pack, pair_bar, workspace),
        size_(pack.num_states * pack.num_states) {}

  SVAE_NO_INLINE void make(Index t, V* bar) { copy(rows_.at(t), bar, size_); }

 private:
  PairRows<V, V> rows_;
  Index size_;
};

// D_ij = A_ij bar_ij: the tangent of A in the direction of a cotangent.
template <class V, class E, class F>
class PairTangent : public StepMatrix<PairTangent<V, E, F>, V, F> {
 public:
  PairTangent(const MarkovPack<V>& pack,
              const Rows<const double>& pair_bar,  // (N, 1|T-1, K, K)
              PairWeights<V, E>& pair, Workspace& workspace)
      : StepMatrix<PairTangent, V, F>(pack.num_states, pack.problem.pair_is_shared,
                                      workspace),
        rows_(pack, pair_bar, workspace),
        size_(pack.num_states * pack.num_states),
        pair_(pair) {}

  SVAE_NO_INLINE void make(Index t, F* tangent) {  // (K, K)
    const E* A = pair_.at(t);
    const F* bar = rows_.at(t);
    for (Index e = 0; e < size_; ++e) tangent[e] = A[e] * bar[e];
  }

 private:
  PairRows<V, F> rows_;
  Index size_;
  PairWeights<V, E>& pair_;
};

// Numbers from one row of messages to the next. Of packs an odd number, for a power of
// two would put all steps into the same sets of the cache.
template <class V>
SVAE_ALWAYS_INLINE Index message_stride(Index size) {
  return span<V> == 1 ? size | 1 : padded<V>(size);
}

// Rows in lanes for the steps of one block of the sums over pairs.
template <class V>
class StepBlock {
 public:
  StepBlock(Index size, Workspace& workspace)
      : stride_(message_stride<V>(size)),
        rows_(workspace.take<V>(kStepsOfSum * stride_)) {}
  SVAE_ALWAYS_INLINE V* at(Index t) const { return rows_ + t % kStepsOfSum * stride_; }
  Index stride() const { return stride_; }

 private:
  Index stride_;
  V* rows_;
};

// Messages are short rows, which are made again as fast as they are fetched from memory:
// those that the last cache holds are kept.
constexpr Budget kMarkovBudget = {Index(32) << 20, Index(8) << 20};

// The segments of a chain that keeps so many messages of each step.
template <class V>
Segments markov_segments(const MarkovPack<V>& pack, Index num_messages) {
  const Index stride = message_stride<V>(pack.num_states + 1);
  return {pack.num_timesteps, num_messages * stride * Index(sizeof(V)), kMarkovBudget};
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
