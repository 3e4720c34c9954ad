// The one note of failures: what failed first in each lane.
#pragma once

#include "lanes/pack.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

// Failures have numbers: the steps of a chain, or kinds. A lane that has failed goes on
// with the others, and whatever fails there later is not noted.
template <class V>
class FirstFailure {
 public:
  // `success` is positive in the lanes where that with this number went well.
  SVAE_ALWAYS_INLINE void note(Index number, V success) {
    const V none = broadcast<V>(kNone);
    const V now = select(success > broadcast<V>(0.0), none, broadcast<V>(double(number)));
    first_ = select(first_ == none, now, first_);
  }

  // Sets the numbers of the sequences of the pack, -1 where nothing failed.
  void store(const Pack<V>& pack, Index* numbers) const {  // (N,)
    pack.store_each(first_, numbers);
  }

  // The same, with 0 where `number` failed first, and -1 elsewhere.
  void store_whether(Index number, const Pack<V>& pack, Index* steps) const {  // (N,)
    const auto is_it = first_ == broadcast<V>(double(number));
    pack.store_each(select(is_it, broadcast<V>(0.0), broadcast<V>(kNone)), steps);
  }

 private:
  static constexpr double kNone = -1.0;
  V first_ = broadcast<V>(kNone);
};

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
