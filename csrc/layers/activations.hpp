// The functions that networks put behind their matrix products: tanh, the logistic
// function, softplus, and the logarithm that these need, of every lane and for any
// double.
//
// Each is within a few units in the last place, also where it is tiny; NaN stays NaN.
#pragma once

#include "lanes/elementary.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

template <class V>
SVAE_ALWAYS_INLINE V absolute(V x) {
  using Bits = typename LaneBits<V>::unsigned_type;
  return bits_as<V>(bits_as<Bits>(x) & ~(std::uint64_t(1) << 63));
}

// |x| with the sign of `sign`
template <class V>
SVAE_ALWAYS_INLINE V with_sign(V x, V sign) {
  using Bits = typename LaneBits<V>::unsigned_type;
  constexpr std::uint64_t kSign = std::uint64_t(1) << 63;
  return bits_as<V>((bits_as<Bits>(x) & ~kSign) | (bits_as<Bits>(sign) & kSign));
}

// log((1 + s) / (1 - s)) = 2 atanh(s) for 2 s, |s| <= 1/3. atanh(s) = s + s^3 p(s^2) with
// p through the Chebyshev points of the interval (relative error 2e-18).
template <class V>
SVAE_ALWAYS_INLINE V twice_atanh_correction(V twice) {
  constexpr double kSeries[] = {
      0x1.401d3e65cdc48p-4, 0x1.32e0d25c9c761p-5, 0x1.bc37f0140c19ep-5,
      0x1.e0a2d581ab68fp-5, 0x1.111abdc8abe16p-4, 0x1.3b13515f6f9efp-4,
      0x1.745d19937b1fcp-4, 0x1.c71c71bedea97p-4, 0x1.2492492499d46p-3,
      0x1.9999999999944p-3, 0x1.5555555555555p-2};
  const V square = broadcast<V>(0.25) * (twice * twice);
  return twice * (square * polynomial(square, kSeries));
}

// log(1 + x) for 0 <= x <= 1, where s = x / (2 + x).
template <class V>
SVAE_ALWAYS_INLINE V log_one_plus(V x) {
  const V twice = (x + x) / (broadcast<V>(2.0) + x);
  return twice + twice_atanh_correction(twice);
}

// log(m 2^k) = k log 2 + log(m), sqrt(1/2) <= m < sqrt(2); of zero -inf.
template <class V>
SVAE_ALWAYS_INLINE V log_of_nonnegative(V x) {
  using Bits = typename LaneBits<V>::unsigned_type;
  constexpr std::uint64_t kRootOfHalf = 0x3fe6a09e667f3bcd;
  constexpr std::uint64_t kOne = std::uint64_t(1023) << 52;
  const V infinity = broadcast<V>(__builtin_inf()), zero = broadcast<V>(0.0);
  const auto is_subnormal = x < broadcast<V>(0x1p-1022);
  const Bits bits = bits_as<Bits>(select(is_subnormal, x * broadcast<V>(0x1p54), x));
  const Bits biased = (bits - kRootOfHalf + kOne) >> 52;
  V k = bits_as<V>(biased + bits_as<Bits>(broadcast<V>(0x1p52)));
  k -= select(is_subnormal, broadcast<V>(0x1p52 + 1077), broadcast<V>(0x1p52 + 1023));
  const V f = bits_as<V>(bits - ((biased - 1023) << 52)) - broadcast<V>(1.0);
  const V twice = (f + f) / (broadcast<V>(2.0) + f);
  const V low = twice_atanh_correction(twice) + k * broadcast<V>(kLogTwoLow);
  const V finite = k * broadcast<V>(kLogTwoHigh) + (twice + low);
  const V special = select(x == zero, -infinity, x);  // infinity, NaN
  return select(x > zero, select(x < infinity, finite, special), special);
}

// tanh|x| = -e / (e + 2) with e = exp(-2|x|) - 1 = 2^n rest + (2^n - 1), which cancels
// nowhere.
template <class V>
SVAE_ALWAYS_INLINE V tanh(V x) {
  const V y = broadcast<V>(-2.0) * absolute(x);
  const ReducedExp<V> reduced(select(y < broadcast<V>(-60.0), broadcast<V>(-60.0), y));
  const V power = power_of_two(reduced.n_shifted);
  const V e = power * reduced.rest + (power - broadcast<V>(1.0));
  return with_sign(e / (e + broadcast<V>(2.0)), x);
}

// 1 / (1 + exp(-x)), of negative x with exp(x) above the line.
template <class V>
SVAE_ALWAYS_INLINE V logistic(V x) {
  const V one = broadcast<V>(1.0), e = exp(-absolute(x));
  return select(x < broadcast<V>(0.0), e, one) / (one + e);
}

// log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|))
template <class V>
SVAE_ALWAYS_INLINE V softplus(V x) {
  return max(x, broadcast<V>(0.0)) + log_one_plus(exp(-absolute(x)));
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
