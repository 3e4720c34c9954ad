// Products of numbers in lanes with rows of K states that all lanes share: a mixture of
// the rows, the product with each row, and sums of outer products.
//
// The rows lie one after the other, padded with zeros to a whole number of blocks. Every
// sum has one order, whatever the other sequences are.
#pragma once

#include "lanes/pack.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

constexpr Index kRowBlock = 16;
constexpr int kStatesAtOnce = 5;  // whose sums are in registers together

constexpr Index padded_row(Index size) {
  return (size + kRowBlock - 1) / kRowBlock * kRowBlock;
}

// body(first, Constant<count>) for states in groups of almost one size.
template <class Body>
SVAE_ALWAYS_INLINE void for_states(Index num_states, const Body& body) {
  Index groups = (num_states + kStatesAtOnce - 1) / kStatesAtOnce;
  for (Index first = 0; groups > 0; --groups) {
    const Index count = (num_states - first + groups - 1) / groups;
    if (count == 1) body(first, Constant<1>{});
    if (count == 2) body(first, Constant<2>{});
    if (count == 3) body(first, Constant<3>{});
    if (count == 4) body(first, Constant<4>{});
    if (count == 5) body(first, Constant<5>{});
    first += count;
  }
}

// mixture_e = sum_k weights_k rows_ke, or added to what is there. A weight of one, with
// zeros beside it, leaves its row as it is.
template <bool kAdd, class V>
SVAE_NO_INLINE void mix(const V* weights,    // (K,)
                        const double* rows,  // (K, size)
                        Index num_states, Index size,
                        V* mixture) {  // (size,)
  constexpr Index kBlock = width<V> == 8 ? kRowBlock : kRowBlock / 2;
  for (Index e = 0; e < size; e += kBlock) {
    V sum[kBlock];
#pragma GCC unroll 16
    for (Index b = 0; b < kBlock; ++b) sum[b] = kAdd ? mixture[e + b] : broadcast<V>(0.0);
    for (Index k = 0; k < num_states; ++k) {
      const V weight = weights[k];
      const double* row = rows + k * size + e;
#pragma GCC unroll 16
      for (Index b = 0; b < kBlock; ++b)
        sum[b] = multiply_add(broadcast<V>(row[b]), weight, sum[b]);
    }
#pragma GCC unroll 16
    for (Index b = 0; b < kBlock; ++b) mixture[e + b] = sum[b];
  }
}

// products_k = sum_e rows_ke values_e, or added to what is there
template <bool kAdd, class V>
SVAE_NO_INLINE void rows_times(const V* values,     // (size,)
                               const double* rows,  // (K, size)
                               Index num_states, Index size,
                               V* products) {  // (K,)
  for_states(num_states, [&](Index first, auto count) SVAE_INLINE {
    constexpr int kStates = decltype(count)::value;
    constexpr int kSums = kStates > 3 ? 2 : 4;  // of each, that wait for nothing
    V sum[kSums][kStates];
#pragma GCC unroll 4
    for (int s = 0; s < kSums; ++s)
#pragma GCC unroll 5
      for (int k = 0; k < kStates; ++k) sum[s][k] = broadcast<V>(0.0);
    const double* row = rows + first * size;
    for (Index e = 0; e < size; e += kSums) {
#pragma GCC unroll 4
      for (int s = 0; s < kSums; ++s) {
        const V value = values[e + s];
#pragma GCC unroll 5
        for (int k = 0; k < kStates; ++k)
          sum[s][k] = multiply_add(broadcast<V>(row[k * size + e + s]), value, sum[s][k]);
      }
    }
#pragma GCC unroll 5
    for (int k = 0; k < kStates; ++k) {
      V total = sum[0][k] + sum[1][k];
      if (kSums == 4) total += sum[2][k] + sum[3][k];
      products[first + k] = kAdd ? products[first + k] + total : total;
    }
  });
}

// Values of some steps and what they count for each state.
template <class V>
struct WeightedSteps {
  const V* weights;  // (count, K)
  const V* values;   // (count, size), step_stride(size) apart
};

// Apart from a whole number of pages, so that the steps of one entry do not have to share
// a set of the cache.
constexpr Index step_stride(Index size) { return size + 4; }

// sums_ke += sum_s weights_sk values_se, of the steps of either kind
template <class V>
SVAE_NO_INLINE void add_outer(const WeightedSteps<V>* kinds, Index num_kinds, Index count,
                              Index num_states, Index size,
                              V* sums) {  // (K, size)
  constexpr Index kBlock = width<V> == 8 ? 4 : 2;
  for (Index e = 0; e < size; e += kBlock)
    for_states(num_states, [&](Index first, auto group) SVAE_INLINE {
      constexpr int kStates = decltype(group)::value;
      V sum[kStates][kBlock];
#pragma GCC unroll 5
      for (int k = 0; k < kStates; ++k)
#pragma GCC unroll 4
        for (Index b = 0; b < kBlock; ++b) sum[k][b] = sums[(first + k) * size + e + b];
      for (Index kind = 0; kind < num_kinds; ++kind) {
        const V* value = kinds[kind].values + e;
        const V* weight = kinds[kind].weights + first;
        for (Index s = 0; s < count; ++s) {
#pragma GCC unroll 5
          for (int k = 0; k < kStates; ++k)
#pragma GCC unroll 4
            for (Index b = 0; b < kBlock; ++b)
              sum[k][b] = multiply_add(weight[k], value[b], sum[k][b]);
          value += step_stride(size);
          weight += num_states;
        }
      }
#pragma GCC unroll 5
      for (int k = 0; k < kStates; ++k)
#pragma GCC unroll 4
        for (Index b = 0; b < kBlock; ++b) sums[(first + k) * size + e + b] = sum[k][b];
    });
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
