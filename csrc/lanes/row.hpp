// Rows of numbers, by the register.
//
// The row of a pack (V = Lanes) has an entry in every lane of a register each, the row of
// a single sequence (V = double) W entries in one register. A loop over
//
//   for (Index k = 0; k < size; k += span<V>) ... wide<V>(row + k) ...
//
// serves both: the same operations make every entry, so a sequence has the same digits
// either way. A row has room for padded<V>(size) entries; what the last register holds
// past the end is nobody's.
#pragma once

#include "lanes/lanes.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

template <class V>
constexpr Index span = width<Lanes> / width<V>;

template <class V>
SVAE_ALWAYS_INLINE Index padded(Index size) {
  return (size + span<V> - 1) / span<V> * span<V>;
}

template <class V>
SVAE_ALWAYS_INLINE V* take_row(Index size, Workspace& workspace) {
  V* row = workspace.take<V>(padded<V>(size));
  for (Index k = 0; k < padded<V>(size); ++k) row[k] = broadcast<V>(0.0);
  return row;
}

// Entries of a row of V: of one that all lanes share, its next number for all of them.
template <class V, class X>
SVAE_ALWAYS_INLINE Lanes wide(const X* row) {  // (span<V>,)
  if constexpr (width<X> < width<V>) return broadcast<Lanes>(*row);
  Lanes entries;
  __builtin_memcpy(&entries, row, sizeof entries);
  return entries;
}

// One number of V for all entries.
SVAE_ALWAYS_INLINE Lanes for_all(Lanes x) { return x; }
SVAE_ALWAYS_INLINE Lanes for_all(double x) { return broadcast<Lanes>(x); }

template <class V>
SVAE_ALWAYS_INLINE void put(V* row, Lanes entries) {  // (span<V>,)
  __builtin_memcpy(row, &entries, sizeof entries);
}

// The first `count` numbers, and `rest` in the lanes behind; nothing else is read.
SVAE_ALWAYS_INLINE Lanes load_first(const double* numbers, Index count, double rest) {
  Lanes lanes;
  if (count >= width<Lanes>) {
    __builtin_memcpy(&lanes, numbers, sizeof lanes);
    return lanes;
  }
#if SVAE_LANES == 8 && defined(__AVX512F__) && !defined(__clang__)
  return __builtin_ia32_loadupd512_mask(numbers, broadcast<Lanes>(rest),
                                        (1 << count) - 1);
#endif
  for (Index w = 0; w < width<Lanes>; ++w) lane(lanes, w) = w < count ? numbers[w] : rest;
  return lanes;
}

// Entries of a row of which so many are left; it need not be padded.
template <class V>
SVAE_ALWAYS_INLINE Lanes wide_or_less(const V* row, Index left) {  // (left,)
  if constexpr (span<V> == 1)
    return *row;
  else
    return load_first(row, left, *row);
}

SVAE_ALWAYS_INLINE void store_first(double* numbers, Lanes lanes, Index count) {
  if (count >= width<Lanes>) {
    __builtin_memcpy(numbers, &lanes, sizeof lanes);
    return;
  }
#if SVAE_LANES == 8 && defined(__AVX512F__) && !defined(__clang__)
  return __builtin_ia32_storeupd512_mask(numbers, lanes, (1 << count) - 1);
#endif
  for (Index w = 0; w < count; ++w) numbers[w] = lane(lanes, w);
}

// x_0 + x_1 + ..., or another such operation, by halves: few steps follow one another.
template <int kCount, class V, class Operation>
SVAE_ALWAYS_INLINE V fold(const V* x,  // (kCount,)
                          const Operation& both) {
  if constexpr (kCount == 1)
    return x[0];
  else
    return both(fold<kCount / 2>(x, both),
                fold<kCount - kCount / 2>(x + kCount / 2, both));
}

struct Add {
  template <class V>
  SVAE_ALWAYS_INLINE V operator()(V a, V b) const {
    return a + b;
  }
};

struct Maximum {
  template <class V>
  SVAE_ALWAYS_INLINE V operator()(V a, V b) const {
    return max(a, b);
  }
};

struct Minimum {
  template <class V>
  SVAE_ALWAYS_INLINE V operator()(V a, V b) const {
    return min(a, b);
  }
};

// The same of term(0), .., term(size - 1), four at a time; next(value, k) is both(value,
// term(k)).
template <class V, class Term, class Next, class Operation>
SVAE_ALWAYS_INLINE V fold(Index size, const Term& term, const Next& next,
                          const Operation& both) {
  if (size < 4) {
    V value = term(0);
    for (Index k = 1; k < size; ++k) value = next(value, k);
    return value;
  }
  V part[4] = {term(0), term(1), term(2), term(3)};
  Index k = 4;
  for (; k + 4 <= size; k += 4)
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) part[r] = next(part[r], k + r);
  for (; k < size; ++k) part[0] = next(part[0], k);
  return fold<4>(part, both);
}

template <class V, class Term, class Operation>
SVAE_ALWAYS_INLINE V fold(Index size, const Term& term, const Operation& both) {
  return fold<V>(
      size, term, [&](V value, Index k) { return both(value, term(k)); }, both);
}

template <class V>
SVAE_ALWAYS_INLINE V dot(Index size, const V* x,  // (size,)
                         const V* y) {            // (size,)
  const auto product = [&](Index k) { return x[k] * y[k]; };
  const auto next = [&](V sum, Index k) { return multiply_add(x[k], y[k], sum); };
  return fold<V>(size, product, next, Add());
}

// row_k = term(k), whose sum is returned.
template <class V, class Term>
SVAE_ALWAYS_INLINE V fill_and_add(Index size, const Term& term, V* row) {  // (size,)
  if constexpr (span<V> == 1) {
    return fold<V>(size, [&](Index k) { return row[k] = term(k); }, Add());
  } else {
    for (Index k = 0; k < size; k += span<V>) put(row + k, term(k));
    return fold<V>(size, [&](Index k) { return row[k]; }, Add());
  }
}

template <class V>
SVAE_ALWAYS_INLINE V maximum(const V* values,  // (size,)
                             Index size) {
  if constexpr (span<V> == 1) {
    return fold<V>(size, [&](Index k) { return values[k]; }, Maximum());
  } else {
    // the order of comparisons makes no difference
    constexpr double kNone = -__builtin_inf();
    Lanes top = broadcast<Lanes>(kNone);
    for (Index k = 0; k < size; k += span<V>)
      top = max(top, load_first(values + k, size - k, kNone));
    double tops[span<V>];
    put(tops, top);
    return fold<int(span<V>)>(tops, Maximum());
  }
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
