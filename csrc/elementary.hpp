// exp and log of every lane.
#pragma once

#include <cstdint>

#include "lanes.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

template <class V>
struct LaneBits {
  typedef std::int64_t type __attribute__((vector_size(sizeof(V))));
};
template <>
struct LaneBits<double> {
  using type = std::int64_t;
};

// 2^n for a whole number -1022 <= n <= 1023, given n + 1.5 * 2^52: there the low bits of
// the sum hold n, and move into the exponent.
template <class V>
SVAE_ALWAYS_INLINE V power_of_two(V n_shifted) {
  typename LaneBits<V>::type bits;
  __builtin_memcpy(&bits, &n_shifted, sizeof bits);
  bits = (bits << 52) + (std::int64_t(1023) << 52);
  V power;
  __builtin_memcpy(&power, &bits, sizeof power);
  return power;
}

// exp(x) = 2^n exp(r), |r| <= log(2)/2, by the Taylor series to r^13 / 13! (remainder
// 4e-18), for x <= 0: the weights of the chains are relative to their largest. Within one
// unit in the last place; below the smallest normal number, and for x = -inf, it is zero.
template <class V>
SVAE_ALWAYS_INLINE V exp_of_nonpositive(V x) {
  constexpr double kInverseFactorial[] = {
      1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800,
      1.0 / 362880,     1.0 / 40320,     1.0 / 5040,     1.0 / 720,
      1.0 / 120,        1.0 / 24,        1.0 / 6,        1.0 / 2};
  const V shift = broadcast<V>(0x1.8p52);
  const V smallest = broadcast<V>(-708.25);
  const V clamped = max(x, smallest);
  const V n_shifted = clamped * broadcast<V>(0x1.71547652b82fep0) + shift;  // 1 / log 2
  const V n = n_shifted - shift;
  // log 2 in two parts, the first with zeros at its end, so that its product is exact
  const V r = (clamped - n * broadcast<V>(0x1.62e42feep-1)) -
              n * broadcast<V>(0x1.a39ef35793c76p-33);
  V series = broadcast<V>(kInverseFactorial[0]);
#pragma GCC unroll 12
  for (int k = 1; k < 12; ++k) series = series * r + broadcast<V>(kInverseFactorial[k]);
  const V value = (broadcast<V>(1.0) + (r + r * r * series)) * power_of_two(n_shifted);
  return select(x < smallest, broadcast<V>(0.0), value);
}

template <class V>
SVAE_ALWAYS_INLINE V log(V x) {
  V y;
  for (Index w = 0; w < width<V>; ++w) lane(y, w) = __builtin_log(lane(x, w));
  return y;
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
