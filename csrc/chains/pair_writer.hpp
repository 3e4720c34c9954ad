// The matrices of the pairs (t, t+1) of a chain, in lanes, to an array.
#pragma once

#include "lanes/stream.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

// A row of `size` numbers for each pair or, where all steps share one potential, a single
// row for all of them: the sum of what the pairs have. Sequences without that pair, or
// without any, are left out.
template <class V>
class PairWriter {
 public:
  PairWriter(const Pack<V>& pack,
             const Rows<double>& rows,  // (N, 1|T-1, size)
             Index size, bool is_shared, Workspace& workspace)
      : pack_(pack),
        rows_(rows),
        size_(size),
        is_shared_(is_shared),
        writer_(pack, rows, size, 1, workspace),
        sum_(take_row<V>(size, workspace)) {}

  bool is_shared() const { return is_shared_; }

  // (size,), for the caller to set or, where it is shared and starts as zero, to add to
  SVAE_ALWAYS_INLINE V* at(Index t) { return is_shared_ ? sum_ : writer_.at(t); }

  // Call it after the last pair.
  void finish() {
    if (!is_shared_)
      writer_.finish();
    else if (pack_.num_timesteps > 1)
      pack_.store(sum_, 1, rows_, 0, 1, size_);
  }

 private:
  const Pack<V>& pack_;
  Rows<double> rows_;
  Index size_;
  bool is_shared_;
  RowWriter<V> writer_;
  V* sum_;
};

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
