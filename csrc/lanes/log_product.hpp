// The product of many positive numbers, as a mantissa in [1, 2) and an exponent, so that
// one logarithm at the end serves all of them.
#pragma once

#include "lanes/elementary.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

template <class V>
class LogProduct {
 public:
  // For factors within kSmallest and kLargest.
  static constexpr double kSmallest = 0x1p-1022, kLargest = 0x1p1022;
  SVAE_ALWAYS_INLINE void multiply(V factor) {
    constexpr std::int64_t kMantissa = (std::int64_t(1) << 52) - 1;
    constexpr std::int64_t kOne = std::int64_t(1023) << 52;
    Bits bits;
    mantissa_ *= factor;
    __builtin_memcpy(&bits, &mantissa_, sizeof bits);
    exponent_ += (bits >> 52) - 1023;
    bits = (bits & kMantissa) | kOne;
    __builtin_memcpy(&mantissa_, &bits, sizeof bits);
  }

  V value() const {
    V exponent;
    const std::int64_t* exponents = reinterpret_cast<const std::int64_t*>(&exponent_);
    for (Index w = 0; w < width<V>; ++w) lane(exponent, w) = double(exponents[w]);
    return exponent * broadcast<V>(kLogTwo) + log(mantissa_);
  }

 private:
  using Bits = typename LaneBits<V>::type;
  V mantissa_ = broadcast<V>(1.0);
  Bits exponent_ = Bits{};
};

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
