// Numbers that may be wrong: one pass, as fast as they can be read.
#pragma once

#include <cmath>
#include <cstring>

#include "lanes/lanes.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

// Whether all numbers, which may lie anywhere in memory, are at most the limit in
// magnitude, or are the other one. None that is NaN is.
inline bool are_within(const void* numbers, Index count, double limit, double other) {
  const char* bytes = static_cast<const char*>(numbers);
  long long num_beyond = 0;  // of lanes as wide as the numbers
  for (Index i = 0; i < count; ++i) {
    double x;
    std::memcpy(&x, bytes + i * Index(sizeof x), sizeof x);
    num_beyond += !((std::fabs(x) <= limit) | (x == other));
  }
  return num_beyond == 0;
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
