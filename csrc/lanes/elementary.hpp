// exp and log of every lane, powers of two, and sums that keep their digits.
#pragma once

#include <cstdint>

#include "lanes/lanes.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

template <class V>
struct LaneBits {
  typedef std::int64_t type __attribute__((vector_size(sizeof(V))));
  typedef std::uint64_t unsigned_type __attribute__((vector_size(sizeof(V))));
};
template <>
struct LaneBits<double> {
  using type = std::int64_t;
  using unsigned_type = std::uint64_t;
};

template <class To, class From>
SVAE_ALWAYS_INLINE To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From), "the same bits");
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

// log 2 in two parts, the first with zeros at its end, so that its product with a whole
// number below 2^20 is exact.
constexpr double kLogTwoHigh = 0x1.62e42feep-1;
constexpr double kLogTwoLow = 0x1.a39ef35793c76p-33;
constexpr double kLogTwo = 0x1.62e42fefa39efp-1;

template <class V, int kCount>
SVAE_ALWAYS_INLINE V polynomial(V x, const double (&coefficients)[kCount]) {
  V value = broadcast<V>(coefficients[0]);
#pragma GCC unroll 16
  for (int k = 1; k < kCount; ++k) value = value * x + broadcast<V>(coefficients[k]);
  return value;
}

constexpr double kShift = 0x1.8p52;  // n + shift holds the whole number n in its low bits

// 2^n for n + shift, -1022 <= n <= 1023
template <class V>
SVAE_ALWAYS_INLINE V power_of_two(V n_shifted) {
  using Bits = typename LaneBits<V>::unsigned_type;
  return bits_as<V>((bits_as<Bits>(n_shifted) + 1023) << 52);
}

// The exponent in the bits of a normal number without its sign.
template <class V, class Bits>
SVAE_ALWAYS_INLINE V exponent_of(Bits bits) {
  return bits_as<V>((bits >> 52) + bits_as<std::uint64_t>(0x1p52)) -
         broadcast<V>(0x1p52 + 1023.0);
}

// The exponential, of which the functions below differ in how 2^n gets in:
//
//   exp(x) = 2^n exp(r) = 2^n (1 + rest),   r = x - n log 2,  |r| <= log(2)/2
//   rest = r + r^2 p(r),   |rest| <= sqrt(2) - 1
//
// with p through the Chebyshev points of the interval (relative error 1.6e-17).
template <class V>
struct ReducedExp {
  static constexpr double kSeries[] = {0x1.af38d53857513p-26, 0x1.2891a8c1d838dp-22,
                                       0x1.71de0d9c145d0p-19, 0x1.a019b8ef67c6cp-16,
                                       0x1.a01a01a7c8d47p-13, 0x1.6c16c17893833p-10,
                                       0x1.11111111109adp-7,  0x1.5555555553d4fp-5,
                                       0x1.5555555555556p-3,  0x1.0000000000001p-1};
  V n_shifted, rest;
  SVAE_ALWAYS_INLINE explicit ReducedExp(V x)
      : n_shifted(x * broadcast<V>(0x1.71547652b82fep0) + broadcast<V>(kShift)) {
    const V n = n_shifted - broadcast<V>(kShift);
    const V r = (x - n * broadcast<V>(kLogTwoHigh)) - n * broadcast<V>(kLogTwoLow);
    rest = r + r * r * polynomial(r, kSeries);
  }
};

// exp(x) for x <= 0: the weights of the chains are relative to their largest. Within one
// unit in the last place; below the smallest normal number, and for x = -inf, it is zero.
template <class V>
SVAE_ALWAYS_INLINE V exp_of_nonpositive(V x) {
  using Bits = typename LaneBits<V>::unsigned_type;
  const ReducedExp<V> e(x);
  const V fraction = broadcast<V>(1.0) + e.rest;
  // 2^n by adding n to the exponent; what overflows there is replaced
  const V value =
      bits_as<V>(bits_as<Bits>(fraction) + (bits_as<Bits>(e.n_shifted) << 52));
  return select(x < broadcast<V>(-708.25), broadcast<V>(0.0), value);
}

// exp(x) for |x| < 700; of NaN it is NaN.
template <class V>
SVAE_ALWAYS_INLINE V exp_of_moderate(V x) {
  const ReducedExp<V> e(x);
  const V power = power_of_two(e.n_shifted);
  return power + power * e.rest;
}

// exp(x) for any x: 2^n in two factors, so that only the last product overflows, or is
// rounded to a subnormal number.
template <class V>
SVAE_ALWAYS_INLINE V exp(V x) {
  const V above = select(x < broadcast<V>(-746.0), broadcast<V>(-746.0), x);
  const ReducedExp<V> e(select(above > broadcast<V>(710.0), broadcast<V>(710.0), above));
  const V shift = broadcast<V>(kShift), n = e.n_shifted - shift;
  const V half_shifted = n * broadcast<V>(0.5) + shift;
  const V rest_shifted = (n - (half_shifted - shift)) + shift;
  const V half = power_of_two(half_shifted);
  return (half + half * e.rest) * power_of_two(rest_shifted);
}

// The logarithm, within one unit in the last place:
//
//   log(x) = n log 2 + log(1 + f),   1 + f = x / 2^n within sqrt(1/2) and sqrt(2)
//   log(1 + f) = 2 atanh(s) = 2 s + s z p(z),   s = f / (2 + f),  z = s^2
//              = f - f^2/2 + s (f^2/2 + z p(z))
//
// with p through the Chebyshev points of the interval (relative error 4.7e-18). The last
// form has the exact f as its only large term. Zero has -inf, and what is below it NaN.
template <class V>
SVAE_ALWAYS_INLINE V log(V x) {
  constexpr double kSeries[] = {0x1.2b5900de53b32p-3, 0x1.39fe51a7c18f9p-3,
                                0x1.7462b51cb66b1p-3, 0x1.c71c62e3f11e6p-3,
                                0x1.2492492df281ap-2, 0x1.99999999952d7p-2,
                                0x1.5555555555558p-1};
  using Bits = typename LaneBits<V>::unsigned_type;
  constexpr std::uint64_t kMantissa = (std::uint64_t(1) << 52) - 1;
  constexpr std::uint64_t kRootOfHalf = 0x3fe6a09e667f3bcd;
  const V one = broadcast<V>(1.0), zero = broadcast<V>(0.0);
  const auto is_subnormal = x < broadcast<V>(0x1p-1022);
  const Bits bits = bits_as<Bits>(select(is_subnormal, x * broadcast<V>(0x1p54), x)) -
                    kRootOfHalf + (std::uint64_t(1023) << 52);
  const V f = bits_as<V>((bits & kMantissa) + kRootOfHalf) - one;
  const V n = exponent_of<V>(bits) - select(is_subnormal, broadcast<V>(54.0), zero);
  const V s = f / (broadcast<V>(2.0) + f), z = s * s;
  const V half_square = broadcast<V>(0.5) * f * f;
  const V rest = s * (half_square + z * polynomial(z, kSeries));
  const V value = n * broadcast<V>(kLogTwoHigh) +
                  (f - (half_square - (rest + n * broadcast<V>(kLogTwoLow))));
  const V of_none =
      select(x == zero, broadcast<V>(-__builtin_inf()), broadcast<V>(__builtin_nan("")));
  const V of_all = select(x > zero, value, of_none);
  return select(x < broadcast<V>(__builtin_inf()), of_all, x);
}

// log(1 + x)
template <class V>
SVAE_ALWAYS_INLINE V log1p(V x) {
  V y;
  for (Index w = 0; w < width<V>; ++w) lane(y, w) = __builtin_log1p(lane(x, w));
  return y;
}

// For x = m 2^e, 1 <= m < 2, a positive normal number: 2^-e. Finite also for x = 0.
template <class V>
SVAE_ALWAYS_INLINE V reciprocal_power(V x) {
  using Bits = typename LaneBits<V>::unsigned_type;
  constexpr std::uint64_t kExponent = std::uint64_t(2047) << 52;
  const Bits twice_one = Bits{} + (std::uint64_t(2046) << 52);
  return bits_as<V>(twice_one - (bits_as<Bits>(x) & kExponent));
}

// For x = 2^e, a normal number: e.
template <class V>
SVAE_ALWAYS_INLINE V log2_of_power(V x) {
  using Bits = typename LaneBits<V>::unsigned_type;
  return exponent_of<V>(bits_as<Bits>(x));
}

// A sum with the rounding of every addition carried along (Knuth's two-sum).
template <class V>
struct CompensatedSum {
  V sum = broadcast<V>(0.0);
  V error = broadcast<V>(0.0);
  void add(V term) {
    const V total = sum + term;
    const V seen = total - sum;
    error += (sum - (total - seen)) + (term - seen);
    sum = total;
  }
  // count * term for whole numbers below 2^26, in two exact products
  void add_times(V count, V term) {
    using Bits = typename LaneBits<V>::unsigned_type;
    const V high = bits_as<V>(bits_as<Bits>(term) & ~((std::uint64_t(1) << 27) - 1));
    add(count * high);
    add(count * (term - high));
  }
  V value() const { return sum + error; }
};

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
