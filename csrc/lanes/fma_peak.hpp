// The roof that kernels are measured against: multiply-adds with nothing in their way.
#pragma once

#include "lanes/lanes.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

// As many chains as hide the latency of a multiply-add, none longer than the registers:
// two units of 4 cycles on x86-64, up to four on arm64 with its 32 registers.
#ifdef __aarch64__
constexpr Index kFmaChains = 24;
#else
constexpr Index kFmaChains = 12;
#endif

// x <- a x + b, `rounds` times in each chain and lane; returns the number of flops. The
// sum of all x goes to *sum: what nobody reads would not be computed.
template <class V>
Index multiply_add(double a, double b, Index rounds, double* sum) {  // one number
  const V factor = broadcast<V>(a), term = broadcast<V>(b);
  V x[kFmaChains];
  for (Index i = 0; i < kFmaChains; ++i) x[i] = broadcast<V>(double(i));
  for (Index round = 0; round < rounds; ++round) {
#pragma GCC unroll 24
    for (Index i = 0; i < kFmaChains; ++i) x[i] = x[i] * factor + term;
  }
  V total{};
  for (Index i = 0; i < kFmaChains; ++i) total += x[i];
  *sum = 0;
  for (Index w = 0; w < width<V>; ++w) *sum += lane(total, w);
  return 2 * kFmaChains * width<V> * rounds;
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
