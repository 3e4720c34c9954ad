// A pack of doubles: one sequence in each lane.
//
// Every kernel is a template over V, which is Lanes or plain double. This header and all
// that include it are compiled once for each instruction set, into a namespace of its
// own; they use nothing of the standard library, for the linker could keep the copy of a
// shared inline function that only some machines can run.
#pragma once

#include "threads/memory.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

typedef double Lanes __attribute__((vector_size(SVAE_LANES * sizeof(double))));

template <class V>
constexpr Index width = Index(sizeof(V) / sizeof(double));

template <class V>
SVAE_ALWAYS_INLINE double& lane(V& values, Index w) {
  return reinterpret_cast<double*>(&values)[w];
}

template <class V>
SVAE_ALWAYS_INLINE double lane(const V& values, Index w) {
  return reinterpret_cast<const double*>(&values)[w];
}

template <class V>
SVAE_ALWAYS_INLINE V broadcast(double x) {
  return x - V{};  // exact for every x, also for -0
}

// Lane by lane: mask ? a : b
template <class Mask, class V>
SVAE_ALWAYS_INLINE V select(Mask mask, V a, V b) {
  return mask ? a : b;
}

template <class V>
SVAE_ALWAYS_INLINE V max(V a, V b) {
  return a > b ? a : b;
}

template <class V>
SVAE_ALWAYS_INLINE V min(V a, V b) {
  return a < b ? a : b;
}

// a b + c, rounded once where the machine can. The compiler may contract any product and
// sum by itself, but of a product that it uses twice it decides by the code around it,
// and where it copies a loop two copies may differ: where a sequence could take either,
// say so.
template <class V>
SVAE_ALWAYS_INLINE V multiply_add(V a, V b, V c) {
#if defined(__x86_64__) && !defined(__FMA__)
  return a * b + c;
#else
#if defined(__x86_64__) && !defined(__clang__)
  if constexpr (width<V> == 4) return __builtin_ia32_vfmaddpd256(a, b, c);
#ifdef __AVX512F__
  constexpr int kCurrentRounding = 4;
  if constexpr (width<V> == 8)
    return __builtin_ia32_vfmaddpd512_mask(a, b, c, -1, kCurrentRounding);
#endif
#endif
  V sum;
  for (Index w = 0; w < width<V>; ++w)
    lane(sum, w) = __builtin_fma(lane(a, w), lane(b, w), lane(c, w));
  return sum;
#endif
}

template <class V>
SVAE_ALWAYS_INLINE V sqrt(V x) {
  V root;
  for (Index w = 0; w < width<V>; ++w) lane(root, w) = __builtin_sqrt(lane(x, w));
  return root;
}

// A number that the compiler knows, as an argument.
template <int kValue>
struct Constant {
  static constexpr int value = kValue;
};

// Vectors of the lanes' own numbers: row i of a square becomes its column i. In log2(W)
// rounds, each of which swaps the off-diagonal quarters of all squares of one size.
template <int... kIndex>
struct Indices {};
template <int kCount, int... kIndex>
struct IndicesBelow : IndicesBelow<kCount - 1, kCount - 1, kIndex...> {};
template <int... kIndex>
struct IndicesBelow<0, kIndex...> {
  using type = Indices<kIndex...>;
};

// Makes `a` of the lanes w: b[w - kHalf] where w has the bit kHalf, a[w] elsewhere. What
// is left becomes `b`.
template <int kHalf, class V, int... w>
SVAE_ALWAYS_INLINE void swap_quarters(V& a, V& b, Indices<w...>) {
  constexpr int W = sizeof...(w);
#if defined(__clang__) || __GNUC__ >= 12
  const V top = __builtin_shufflevector(a, b, (w & kHalf ? W + w - kHalf : w)...);
  b = __builtin_shufflevector(a, b, (w & kHalf ? W + w : w + kHalf)...);
#else
  typedef long long Mask __attribute__((vector_size(sizeof(V))));
  const V top = __builtin_shuffle(a, b, Mask{(w & kHalf ? W + w - kHalf : w)...});
  b = __builtin_shuffle(a, b, Mask{(w & kHalf ? W + w : w + kHalf)...});
#endif
  a = top;
}

template <int kHalf = 0, class V>
SVAE_ALWAYS_INLINE void transpose(V* rows) {  // (W,)
  constexpr int W = int(width<V>);
  constexpr int half = kHalf > 0 ? kHalf : W / 2;
  if constexpr (half > 0) {
#pragma GCC unroll 8
    for (int i = 0; i < W; ++i)
      if (!(i & half))
        swap_quarters<half>(rows[i], rows[i + half], typename IndicesBelow<W>::type());
    if constexpr (half > 1) transpose<half / 2>(rows);
  }
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
