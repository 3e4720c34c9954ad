// Whether the numbers that a kernel will read are what it takes, and what it makes of
// them are numbers.
//
// Each pack of sequences is looked at by the thread that computes it, right before it
// does: what it reads next is then in its cache, and the threads share the work. Only a
// caller knows the shapes and names of its arguments: to say which number is wrong is
// left to it.
#pragma once

#include <atomic>
#include <limits>

#include "bindings/arrays.hpp"

namespace svae {

// Numbers at most the limit in magnitude; in the logarithm of a potential -inf as well.
struct Range {
  double limit;
  bool is_log;

  bool holds(const void* numbers, Index count) const {
    const double other = is_log ? -std::numeric_limits<double>::infinity() : 0.0;
    return kernels().are_within(numbers, count, limit, other);
  }
};

// A pack's sequences [first, stop), of which only what is within their lengths counts.
class PackNumbers {
 public:
  PackNumbers(Range range, const Index* lengths, Index first, Index stop)
      : range_(range), lengths_(lengths), first_(first), stop_(stop), longest_(first) {
    for (Index n = first; n < stop; ++n)
      if (lengths[n] > lengths[longest_]) longest_ = n;
  }

  // Rows of one step, of `size` numbers each.
  bool hold(const Rows<const double>& rows, Index size) const {
    return each(rows, size, [](Index) { return 1; });
  }
  // Rows of all steps, but the last `fewer` of them.
  bool hold_steps(const Rows<const double>& rows, Index size, Index fewer = 0) const {
    return each(rows, size, [=](Index length) { return length - fewer; });
  }
  // Rows of pairs: of all but one step, or one if all pairs share it.
  bool hold_pairs(const Rows<const double>& rows, Index size, bool is_shared) const {
    if (!is_shared) return hold_steps(rows, size, 1);
    return each(rows, size, [](Index length) { return length > 1 ? 1 : 0; });
  }
  // Rows (N, S, T, size), S in the place of time.
  bool hold_samples(const Rows<const double>& rows, Index num_samples, Index size) const {
    bool is_right = true;
    for (Index n = first_; n < stop_; ++n)
      for (Index s = 0; s < num_samples; ++s)
        is_right &= range_.holds(rows.at(n, s), lengths_[n] * size);
    return is_right;
  }

 private:
  template <class StepsOf>
  bool each(const Rows<const double>& rows, Index size, const StepsOf& steps_of) const {
    if (first_ == stop_) return true;
    // of rows that all sequences share, the longest of them reads the most
    const bool is_shared = rows.sequence_stride == 0;
    const Index first = is_shared ? longest_ : first_;
    const Index stop = is_shared ? longest_ + 1 : stop_;
    bool is_right = true;
    for (Index n = first; n < stop; ++n) {
      const Index steps = steps_of(lengths_[n]);
      if (rows.time_stride == size)
        is_right &= range_.holds(rows.at(n, 0), steps * size);
      else
        for (Index t = 0; t < steps; ++t) is_right &= range_.holds(rows.at(n, t), size);
    }
    return is_right;
  }

  Range range_;
  const Index* lengths_;
  Index first_, stop_, longest_;
};

// Whether all that was looked at was right, by whichever thread.
class AllRight {
 public:
  bool and_also(bool is_right) {
    if (!is_right) is_wrong_ = true;
    return is_right;
  }
  bool operator!() const { return is_wrong_; }
  // For a caller that names the number, see svae/kernels/arguments.py.
  void raise_if_not() const {
    if (is_wrong_) throw py::value_error("a potential or noise holds what is no number");
  }

 private:
  std::atomic<bool> is_wrong_{false};
};

}  // namespace svae
