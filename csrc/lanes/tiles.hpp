// Dense algebra on matrices whose entries are packs, tile by tile in registers.
//
// A matrix is a grid of square tiles, each contiguous, so that the entries of a tile lie
// at fixed distances whatever the size of the matrix: the number of tiles is a number of
// the run, their size one of the compiler. Triangular and symmetric matrices keep the
// tiles of their lower half; a tile on the diagonal is kept whole. Dimensions that the
// size of a tile does not divide are padded (gaussian_pack.hpp).
//
// In every function matrices are (D, D) and vectors (D,), where D is the padded
// dimension; i and j count entries, I and J tiles, r and c rows and columns of a tile.
#pragma once

#include "lanes/log_product.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

// Columns of a tile that are computed at a time: their sums fill the registers, 32 of
// them or 16, but for what a product reads.
template <int kTile>
constexpr int kColumnsAtOnce = SVAE_LANES == 8 || kTile <= 3 ? kTile : 2;

template <bool kValue>
struct Flag {
  static constexpr bool value = kValue;
};

// Whether a tile is read as it is stored, or transposed.
template <bool kValue>
using Flipped = Flag<kValue>;

template <class V, int kTile, int kTiles>
struct Grid {
  static constexpr int kTileSize = kTile * kTile;
  static constexpr bool kIsSingle = kTiles == 1;
  V* data;
  Index num_tiles;  // along a side; kTiles says it earlier unless that is 0

  SVAE_ALWAYS_INLINE Index tiles() const { return kTiles > 0 ? kTiles : num_tiles; }
};

template <class V, int kTile, int kTiles>
struct Full : Grid<V, kTile, kTiles> {
  static constexpr bool kHasLower = true, kHasUpper = true, kIsSymmetric = false;

  SVAE_ALWAYS_INLINE V* tile(Index I, Index J) const {
    return this->data + (I * this->tiles() + J) * this->kTileSize;
  }
  SVAE_ALWAYS_INLINE V& operator()(Index i, Index j) const {
    return tile(i / kTile, j / kTile)[i % kTile * kTile + j % kTile];
  }
  Index size() const { return this->tiles() * this->tiles() * this->kTileSize; }
  template <class Body>
  SVAE_ALWAYS_INLINE void visit(Index I, Index J, const Body& body) const {
    body(tile(I, J), Flipped<false>{});
  }
};

// The lower half; entries are those with i >= j, and all of a tile on the diagonal.
template <class V, int kTile, int kTiles>
struct LowerGrid : Grid<V, kTile, kTiles> {
  SVAE_ALWAYS_INLINE V* tile(Index I, Index J) const {
    return this->data + (I * (I + 1) / 2 + J) * this->kTileSize;
  }
  SVAE_ALWAYS_INLINE V& operator()(Index i, Index j) const {
    return tile(i / kTile, j / kTile)[i % kTile * kTile + j % kTile];
  }
  Index size() const { return this->tiles() * (this->tiles() + 1) / 2 * this->kTileSize; }
};

template <class V, int kTile, int kTiles>
struct Lower : LowerGrid<V, kTile, kTiles> {
  static constexpr bool kHasLower = true, kHasUpper = false, kIsSymmetric = false;

  template <class Body>
  SVAE_ALWAYS_INLINE void visit(Index I, Index J, const Body& body) const {
    body(this->tile(I, J), Flipped<false>{});
  }
};

template <class V, int kTile, int kTiles>
struct Symmetric : LowerGrid<V, kTile, kTiles> {
  static constexpr bool kHasLower = true, kHasUpper = true, kIsSymmetric = true;

  template <class Body>
  SVAE_ALWAYS_INLINE void visit(Index I, Index J, const Body& body) const {
    if (I >= J)
      body(this->tile(I, J), Flipped<false>{});
    else
      body(this->tile(J, I), Flipped<true>{});
  }
};

template <class Matrix>
struct Transposed {
  static constexpr bool kHasLower = Matrix::kHasUpper, kHasUpper = Matrix::kHasLower;
  static constexpr bool kIsSingle = Matrix::kIsSingle;
  Matrix of;

  template <class Body>
  SVAE_ALWAYS_INLINE void visit(Index I, Index J, const Body& body) const {
    of.visit(J, I, [&](auto* tile, auto flipped) SVAE_INLINE {
      body(tile, Flipped<!decltype(flipped)::value>{});
    });
  }
};

template <class Matrix>
SVAE_ALWAYS_INLINE Transposed<Matrix> transposed(const Matrix& A) {
  return {A};
}

// Vectors are contiguous.
template <class V>
struct Vector {
  V* data;
  SVAE_ALWAYS_INLINE V& operator[](Index i) const { return data[i]; }
};

// Some columns of a tile of a product, summed in registers: every loop over them has to
// be unrolled, for registers have no index. Of a tile on a symmetric diagonal the lower
// half is enough.
template <class V, int kTile, int kColumns, bool kLowerOnly = false>
struct Sums {
  V sum[kTile][kColumns];

  // body(row, column) of the columns first, first + 1, .. that count
  template <class Body>
  SVAE_ALWAYS_INLINE static void for_each(int first, const Body& body) {
#pragma GCC unroll 5
    for (int r = 0; r < kTile; ++r)
#pragma GCC unroll 5
      for (int c = 0; c < kColumns; ++c)
        if (!kLowerOnly || r >= first + c) body(r, c);
  }

  SVAE_ALWAYS_INLINE void set_zero(int first) {
    for_each(first, [&](int r, int c) SVAE_INLINE { sum[r][c] = broadcast<V>(0.0); });
  }

  SVAE_ALWAYS_INLINE void load(const V* tile, int first) {
    for_each(first,
             [&](int r, int c) SVAE_INLINE { sum[r][c] = tile[r * kTile + first + c]; });
  }

  SVAE_ALWAYS_INLINE void store(V* tile, int first) const {
    for_each(first, [&](int r, int c) SVAE_INLINE {
      tile[r * kTile + first + c] = sum[r][c];
      if (kLowerOnly) tile[(first + c) * kTile + r] = sum[r][c];
    });
  }

  // Whether entry (r, c) of a matrix that is a single tile is zero by its shape. The
  // zeros of larger matrices are few, and not worth the code without them.
  template <class Matrix>
  static constexpr bool is_zero(int r, int c) {
    return Matrix::kIsSingle &&
           ((!Matrix::kHasUpper && r < c) || (!Matrix::kHasLower && r > c));
  }

  // Adds or subtracts columns first, first + 1, .. of the product of two tiles, of A and
  // of B.
  template <bool kSubtract, class A, class B, bool kFlipA, bool kFlipB>
  SVAE_ALWAYS_INLINE void add_tiles(const V* a, Flipped<kFlipA>, const V* b,
                                    Flipped<kFlipB>, int first) {
#pragma GCC unroll 5
    for (int k = 0; k < kTile; ++k) {
      V right[kColumns];
#pragma GCC unroll 5
      for (int c = 0; c < kColumns; ++c)
        right[c] = kFlipB ? b[(first + c) * kTile + k] : b[k * kTile + first + c];
#pragma GCC unroll 5
      for (int r = 0; r < kTile; ++r) {
        const V left = kFlipA ? a[k * kTile + r] : a[r * kTile + k];
#pragma GCC unroll 5
        for (int c = 0; c < kColumns; ++c) {
          if (kLowerOnly && r < first + c) continue;
          if (is_zero<A>(r, k) || is_zero<B>(k, first + c)) continue;
          if (kSubtract)
            sum[r][c] -= left * right[c];
          else
            sum[r][c] += left * right[c];
        }
      }
    }
  }

  // Adds or subtracts the product of block row I of A and block column J of B.
  template <bool kSubtract = false, class A, class B>
  SVAE_ALWAYS_INLINE void add(const A& left, Index I, const B& right, Index J,
                              Index begin, Index end, int first) {
    for (Index K = begin; K < end; ++K)
      left.visit(I, K, [&](const V* a, auto flip_a) SVAE_INLINE {
        right.visit(K, J, [&](const V* b, auto flip_b) SVAE_INLINE {
          add_tiles<kSubtract, A, B>(a, flip_a, b, flip_b, first);
        });
      });
  }
};

// body(first, Constant<columns>) for the columns of a tile, as many as are computed at a
// time.
template <int kTile, int kFirst = 0, class Body>
SVAE_ALWAYS_INLINE void for_columns(const Body& body) {
  constexpr int kLeft = kTile - kFirst;
  constexpr int kCount = kLeft < kColumnsAtOnce<kTile> ? kLeft : kColumnsAtOnce<kTile>;
  body(Constant<kFirst>{}, Constant<kCount>{});
  if constexpr (kFirst + kCount < kTile) for_columns<kTile, kFirst + kCount>(body);
}

// body(tile, I, J, first, columns, is_on_symmetric_diagonal) for all tiles that are kept.
template <class V, int kTile, int kTiles, class Body>
SVAE_ALWAYS_INLINE void for_tiles(const Full<V, kTile, kTiles>& C, const Body& body) {
  for (Index I = 0; I < C.tiles(); ++I)
    for (Index J = 0; J < C.tiles(); ++J)
      for_columns<kTile>([&](auto first, auto columns) SVAE_INLINE {
        body(C.tile(I, J), I, J, first, columns, Flag<false>{});
      });
}

template <class V, int kTile, int kTiles, class Body>
SVAE_ALWAYS_INLINE void for_tiles(const Symmetric<V, kTile, kTiles>& C,
                                  const Body& body) {
  for (Index I = 0; I < C.tiles(); ++I) {
    for (Index J = 0; J < I; ++J)
      for_columns<kTile>([&](auto first, auto columns) SVAE_INLINE {
        body(C.tile(I, J), I, J, first, columns, Flag<false>{});
      });
    for_columns<kTile>([&](auto first, auto columns) SVAE_INLINE {
      body(C.tile(I, I), I, I, first, columns, Flag<true>{});
    });
  }
}

enum class Update { set, add, subtract };

// C = C0 + A B  or  C0 - A B, or A B for Update::set, which does not read C0. C0 may be
// C.
template <Update kUpdate, class A, class B, template <class, int, int> class C, class V,
          int kTile, int kTiles>
void multiply(const A& left, const B& right, const C<V, kTile, kTiles>& from,
              const C<V, kTile, kTiles>& to) {
  for_tiles(to, [&](V* tile, Index I, Index J, auto first, auto columns, auto lower)
                    SVAE_INLINE {
                      Index begin = 0, end = to.tiles();
                      if (!A::kHasLower) begin = I;
                      if (!A::kHasUpper) end = I + 1;
                      if (!B::kHasUpper && begin < J) begin = J;
                      if (!B::kHasLower && end > J + 1) end = J + 1;
                      Sums<V, kTile, columns.value, lower.value> sums;
                      if (kUpdate == Update::set)
                        sums.set_zero(first.value);
                      else
                        sums.load(from.tile(I, J), first.value);
                      sums.template add<kUpdate == Update::subtract>(
                          left, I, right, J, begin, end, first.value);
                      sums.store(tile, first.value);
                    });
}

// C = A B,  C += A B  or  C -= A B
template <Update kUpdate, class A, class B, template <class, int, int> class C, class V,
          int kTile, int kTiles>
SVAE_ALWAYS_INLINE void multiply(const A& left, const B& right,
                                 const C<V, kTile, kTiles>& product) {
  multiply<kUpdate>(left, right, product, product);
}

// C = C0 + A B + (A B)'
template <class A, class B, class V, int kTile, int kTiles>
void add_twice_symmetric(const A& left, const B& right,
                         const Symmetric<V, kTile, kTiles>& from,
                         const Symmetric<V, kTile, kTiles>& to) {
  const auto left_transposed = transposed(left);
  const auto right_transposed = transposed(right);
  for_tiles(to, [&](V* tile, Index I, Index J, auto first, auto columns,
                    auto lower) SVAE_INLINE {
    Sums<V, kTile, columns.value, lower.value> sums;
    sums.load(from.tile(I, J), first.value);
    sums.add(left, I, right, J, 0, to.tiles(), first.value);
    sums.add(right_transposed, I, left_transposed, J, 0, to.tiles(), first.value);
    sums.store(tile, first.value);
  });
}

// The diagonal tile of a factor: unit, lower triangular, and the reciprocals of its d.
template <class V, int kTile>
struct DiagonalTile {
  V unit[kTile][kTile];
  V inverse[kTile];

  SVAE_ALWAYS_INLINE explicit DiagonalTile(const V* a) {
    V entry[kTile][kTile];
#pragma GCC unroll 5
    for (int r = 0; r < kTile; ++r)
#pragma GCC unroll 5
      for (int c = 0; c < kTile; ++c)
        if (c <= r) entry[r][c] = a[r * kTile + c];
#pragma GCC unroll 5
    for (int c = 0; c < kTile; ++c) {
      inverse[c] = broadcast<V>(1.0) / entry[c][c];
#pragma GCC unroll 5
      for (int r = 0; r < kTile; ++r) {
        if (r <= c) continue;
        unit[r][c] = entry[r][c] * inverse[c];
#pragma GCC unroll 5
        for (int k = 0; k < kTile; ++k)
          if (c < k && k <= r) entry[r][k] -= unit[r][c] * entry[k][c];
      }
    }
  }

  SVAE_ALWAYS_INLINE void store(V* l) const {
#pragma GCC unroll 5
    for (int r = 0; r < kTile; ++r)
#pragma GCC unroll 5
      for (int c = 0; c < kTile; ++c)
        if (c <= r) l[r * kTile + c] = c == r ? inverse[c] : unit[r][c];
  }

  // A tile below becomes L d, and l its tile of L.
  SVAE_ALWAYS_INLINE void divide(V* a, V* l) const {
#pragma GCC unroll 5
    for (int r = 0; r < kTile; ++r) {
      V entry[kTile];
#pragma GCC unroll 5
      for (int c = 0; c < kTile; ++c) entry[c] = a[r * kTile + c];
#pragma GCC unroll 5
      for (int c = 0; c < kTile; ++c) {
        a[r * kTile + c] = entry[c];
        l[r * kTile + c] = entry[c] * inverse[c];
#pragma GCC unroll 5
        for (int k = 0; k < kTile; ++k)
          if (c < k) entry[k] -= entry[c] * unit[k][c];
      }
    }
  }
};

// A = L d L' with ones on the diagonal of L, which leaves one division for each pivot on
// the way from one to the next: no square root, and none of the solves below waits for
// one. In place of its ones the diagonal of L holds 1 / d, and so is what is multiplied
// to inverse_determinant. A is overwritten. Returns 1 in the lanes in which all pivots
// were positive, and finite as their reciprocals, 0 in the others.
template <class V, int kTile, int kTiles>
V factorise(const Symmetric<V, kTile, kTiles>& A, const Lower<V, kTile, kTiles>& L,
            LogProduct<V>& inverse_determinant) {
  using Product = LogProduct<V>;
  const V zero = broadcast<V>(0.0), one = broadcast<V>(1.0);
  V sum = zero, smallest = one;
  const auto subtract_left = [&](Index I, Index J) SVAE_INLINE {
    for_columns<kTile>([&](auto first, auto columns) SVAE_INLINE {
      Sums<V, kTile, columns.value> sums;
      sums.load(A.tile(I, J), first.value);
      sums.template add<true>(L, I, transposed(A), J, 0, J, first.value);
      sums.store(A.tile(I, J), first.value);
    });
  };
  for (Index J = 0; J < A.tiles(); ++J) {
    if (J > 0) subtract_left(J, J);
    const DiagonalTile<V, kTile> diagonal(A.tile(J, J));
    diagonal.store(L.tile(J, J));
    for (Index I = J + 1; I < A.tiles(); ++I) {
      if (J > 0) subtract_left(I, J);
      diagonal.divide(A.tile(I, J), L.tile(I, J));
    }
#pragma GCC unroll 5
    for (int c = 0; c < kTile; ++c) {
      const V inverse = diagonal.inverse[c];  // of a bad pivot NaN, infinite or negative
      inverse_determinant.multiply(inverse);
      sum += inverse;
      smallest = inverse < smallest ? inverse : smallest;
    }
  }
  const V finite = select(sum < broadcast<V>(Product::kLargest), one, zero);
  return select(smallest >= broadcast<V>(Product::kSmallest), finite, zero);
}

// d^-1/2. Square roots keep the unit that divides busy for longer than divisions do: they
// are not taken where divisions wait for each other, on the way up a chain.
template <class V, int kTile, int kTiles>
SVAE_ALWAYS_INLINE void find_roots(const Lower<V, kTile, kTiles>& L, Vector<V> roots) {
  for (Index J = 0; J < L.tiles(); ++J)
#pragma GCC unroll 5
    for (int c = 0; c < kTile; ++c)
      roots[J * kTile + c] = sqrt(L.tile(J, J)[c * kTile + c]);
}

// Solves a tile of L X = B or L'X = B in its sums, which hold B less what the tiles that
// are solved contribute: rows from the top, or with L' from the bottom.
template <bool kFlip, int kTile, int kColumns, class V>
SVAE_ALWAYS_INLINE void solve_tile(const V* l, Sums<V, kTile, kColumns>& x) {
#pragma GCC unroll 5
  for (int step = 0; step < kTile; ++step) {
    const int k = kFlip ? kTile - 1 - step : step;
#pragma GCC unroll 5
    for (int r = 0; r < kTile; ++r)
      if (kFlip ? r < k : r > k)
#pragma GCC unroll 5
        for (int c = 0; c < kColumns; ++c)
          x.sum[r][c] -= (kFlip ? l[k * kTile + r] : l[r * kTile + k]) * x.sum[k][c];
  }
}

// X = L^-1 B and Y = d^-1 X. X may be B.
template <class V, int kTile, int kTiles>
void solve(const Lower<V, kTile, kTiles>& L, const Full<V, kTile, kTiles>& B,
           const Full<V, kTile, kTiles>& X, const Full<V, kTile, kTiles>& Y) {
  for_tiles(X,
            [&](V* tile, Index I, Index J, auto first, auto columns, auto) SVAE_INLINE {
              Sums<V, kTile, columns.value> sums;
              sums.load(B.tile(I, J), first.value);
              sums.template add<true>(L, I, X, J, 0, I, first.value);
              solve_tile<false>(L.tile(I, I), sums);
              sums.store(tile, first.value);
              sums.for_each(first.value, [&](int r, int c) SVAE_INLINE {
                Y.tile(I, J)[r * kTile + first.value + c] =
                    sums.sum[r][c] * L.tile(I, I)[r * kTile + r];
              });
            });
}

// X = L^-T X
template <class V, int kTile, int kTiles>
void solve(const Transposed<Lower<V, kTile, kTiles>>& L,
           const Full<V, kTile, kTiles>& X) {
  for (Index I = X.tiles() - 1; I >= 0; --I)
    for (Index J = 0; J < X.tiles(); ++J)
      for_columns<kTile>([&](auto first, auto columns) SVAE_INLINE {
        Sums<V, kTile, columns.value> sums;
        sums.load(X.tile(I, J), first.value);
        sums.template add<true>(L, I, X, J, I + 1, X.tiles(), first.value);
        solve_tile<true>(L.of.tile(I, I), sums);
        sums.store(X.tile(I, J), first.value);
      });
}

// R = d^-1/2 L^-1, so that A^-1 = R'R; with its zeros on the diagonal's tiles
template <class V, int kTile, int kTiles>
void invert(const Lower<V, kTile, kTiles>& L, Vector<V> roots,
            const Lower<V, kTile, kTiles>& R) {
  const Index n = R.tiles();
  for (Index I = 0; I < n; ++I)
    for (Index J = 0; J <= I; ++J)
      for_columns<kTile>([&](auto first, auto columns) SVAE_INLINE {
        Sums<V, kTile, columns.value> sums;
        sums.for_each(first.value, [&](int r, int c) SVAE_INLINE {
          sums.sum[r][c] = broadcast<V>(I == J && r == first.value + c ? 1.0 : 0.0);
        });
        sums.template add<true>(L, I, R, J, J, I, first.value);
        solve_tile<false>(L.tile(I, I), sums);
        sums.store(R.tile(I, J), first.value);
      });
  for (Index I = 0; I < n; ++I)
    for (Index J = 0; J <= I; ++J)
#pragma GCC unroll 5
      for (int r = 0; r < kTile; ++r)
#pragma GCC unroll 5
        for (int c = 0; c < kTile; ++c)
          R.tile(I, J)[r * kTile + c] *= roots[I * kTile + r];
}

template <Update kUpdate, class A, class V, int kTile>
SVAE_ALWAYS_INLINE void multiply_rows(const A& matrix, Index tiles, const V* x, V* y,
                                      Constant<kTile>) {
  for (Index I = 0; I < tiles; ++I) {
    V sum[kTile];
#pragma GCC unroll 5
    for (int r = 0; r < kTile; ++r)
      sum[r] = kUpdate == Update::set ? broadcast<V>(0.0) : y[I * kTile + r];
    for (Index K = 0; K < tiles; ++K)
      matrix.visit(I, K, [&](const V* a, auto flipped) SVAE_INLINE {
#pragma GCC unroll 5
        for (int k = 0; k < kTile; ++k)
#pragma GCC unroll 5
          for (int r = 0; r < kTile; ++r) {
            const V left = flipped.value ? a[k * kTile + r] : a[r * kTile + k];
            if (kUpdate == Update::subtract)
              sum[r] -= left * x[K * kTile + k];
            else
              sum[r] += left * x[K * kTile + k];
          }
      });
#pragma GCC unroll 5
    for (int r = 0; r < kTile; ++r) y[I * kTile + r] = sum[r];
  }
}

// y = A x,  y += A x  or  y -= A x
template <Update kUpdate, template <class, int, int> class A, class V, int kTile,
          int kTiles>
void multiply(const A<V, kTile, kTiles>& matrix, Vector<V> x, Vector<V> y) {
  multiply_rows<kUpdate>(matrix, matrix.tiles(), x.data, y.data, Constant<kTile>{});
}

template <Update kUpdate, template <class, int, int> class A, class V, int kTile,
          int kTiles>
void multiply(const Transposed<A<V, kTile, kTiles>>& matrix, Vector<V> x, Vector<V> y) {
  multiply_rows<kUpdate>(matrix, matrix.of.tiles(), x.data, y.data, Constant<kTile>{});
}

// x = L^-1 x
template <class V, int kTile, int kTiles>
void solve(const Lower<V, kTile, kTiles>& L, Vector<V> x) {
  for (Index J = 0; J < L.tiles(); ++J) {
    V part[kTile];
    const V* l = L.tile(J, J);
#pragma GCC unroll 5
    for (int r = 0; r < kTile; ++r) part[r] = x[J * kTile + r];
#pragma GCC unroll 5
    for (int c = 0; c < kTile; ++c) {
#pragma GCC unroll 5
      for (int r = c + 1; r < kTile; ++r) part[r] -= l[r * kTile + c] * part[c];
      x[J * kTile + c] = part[c];
    }
    for (Index I = J + 1; I < L.tiles(); ++I) {
      V* rest = x.data + I * kTile;
      const V* below = L.tile(I, J);
#pragma GCC unroll 5
      for (int r = 0; r < kTile; ++r) {
        V entry = rest[r];
#pragma GCC unroll 5
        for (int c = 0; c < kTile; ++c) entry -= below[r * kTile + c] * part[c];
        rest[r] = entry;
      }
    }
  }
}

// x = L^-T x
template <class V, int kTile, int kTiles>
void solve(const Transposed<Lower<V, kTile, kTiles>>& L, Vector<V> x) {
  for (Index I = L.of.tiles() - 1; I >= 0; --I) {
    V part[kTile];
    const V* l = L.of.tile(I, I);
#pragma GCC unroll 5
    for (int r = 0; r < kTile; ++r) part[r] = x[I * kTile + r];
#pragma GCC unroll 5
    for (int r = kTile - 1; r >= 0; --r) {
#pragma GCC unroll 5
      for (int c = 0; c < r; ++c) part[c] -= l[r * kTile + c] * part[r];
      x[I * kTile + r] = part[r];
    }
    for (Index J = 0; J < I; ++J) {
      V* rest = x.data + J * kTile;
      const V* left = L.of.tile(I, J);
#pragma GCC unroll 5
      for (int c = 0; c < kTile; ++c) {
        V entry = rest[c];
#pragma GCC unroll 5
        for (int r = 0; r < kTile; ++r) entry -= left[r * kTile + c] * part[r];
        rest[c] = entry;
      }
    }
  }
}

// y = d^-1 x
template <class V, int kTile, int kTiles>
SVAE_ALWAYS_INLINE void divide_by_pivots(const Lower<V, kTile, kTiles>& L, Vector<V> x,
                                         Vector<V> y) {
  for (Index J = 0; J < L.tiles(); ++J)
#pragma GCC unroll 5
    for (int c = 0; c < kTile; ++c)
      y[J * kTile + c] = x[J * kTile + c] * L.tile(J, J)[c * kTile + c];
}

// body(k, i, j) for the entries (i, j) of every tile that is kept, at data[k]. In a lower
// half i >= j: both (i, j) and (j, i) of a tile on the diagonal are called (i, j), so
// that they stay equal to the last digit.
template <int kTile, bool kOnDiagonal, class Body>
SVAE_ALWAYS_INLINE void for_entries_of_tile(Index k, Index i, Index j, const Body& body) {
#pragma GCC unroll 5
  for (int r = 0; r < kTile; ++r)
#pragma GCC unroll 5
    for (int c = 0; c < kTile; ++c)
      if (kOnDiagonal && r < c)
        body(k + r * kTile + c, i + c, j + r);
      else
        body(k + r * kTile + c, i + r, j + c);
}

template <class V, int kTile, int kTiles, class Body>
SVAE_ALWAYS_INLINE void for_entries(const Full<V, kTile, kTiles>& A, const Body& body) {
  for (Index I = 0; I < A.tiles(); ++I)
    for (Index J = 0; J < A.tiles(); ++J)
      for_entries_of_tile<kTile, false>(A.tile(I, J) - A.data, I * kTile, J * kTile,
                                        body);
}

template <class V, int kTile, int kTiles, class Body>
SVAE_ALWAYS_INLINE void for_entries(const LowerGrid<V, kTile, kTiles>& A,
                                    const Body& body) {
  for (Index I = 0; I < A.tiles(); ++I) {
    for (Index J = 0; J < I; ++J)
      for_entries_of_tile<kTile, false>(A.tile(I, J) - A.data, I * kTile, J * kTile,
                                        body);
    for_entries_of_tile<kTile, true>(A.tile(I, I) - A.data, I * kTile, I * kTile, body);
  }
}

// A(i, j) = value(k, i, j), which may read A at data[k]. The values of a tile are in
// registers before the first is stored: of what a store could have changed the compiler
// would read everything again. Of a symmetric matrix i >= j.
template <template <class, int, int> class Matrix, class V, int kTile, int kTiles,
          class Value>
SVAE_ALWAYS_INLINE void set_entries(const Matrix<V, kTile, kTiles>& A,
                                    const Value& value) {
  for_tiles(A, [&](V* tile, Index I, Index J, auto first, auto columns, auto lower)
                   SVAE_INLINE {
                     Sums<V, kTile, columns.value, lower.value> sums;
                     const Index k = tile - A.data + first.value;
                     const Index i = I * kTile, j = J * kTile + first.value;
                     sums.for_each(first.value, [&](int r, int c) SVAE_INLINE {
                       sums.sum[r][c] = value(k + r * kTile + c, i + r, j + c);
                     });
                     sums.store(tile, first.value);
                   });
}

// body(k, i) for the entries (i, i), at data[k]
template <class V, int kTile, int kTiles, class Body>
SVAE_ALWAYS_INLINE void for_diagonal(const LowerGrid<V, kTile, kTiles>& A,
                                     const Body& body) {
  for (Index I = 0; I < A.tiles(); ++I)
#pragma GCC unroll 5
    for (int r = 0; r < kTile; ++r)
      body(A.tile(I, I) - A.data + r * kTile + r, I * kTile + r);
}

// Matrices of one size.
template <class LanesT, int kTile, int kTiles>
struct TileAlgebra {
  using V = LanesT;
  using FullMatrix = Full<V, kTile, kTiles>;
  using LowerMatrix = Lower<V, kTile, kTiles>;
  using SymmetricMatrix = Symmetric<V, kTile, kTiles>;

  explicit TileAlgebra(Index dim) : dim_(dim), num_tiles_((dim + kTile - 1) / kTile) {}

  template <class Matrix>
  Matrix matrix(V* data) const {
    Matrix A;
    A.data = data;
    A.num_tiles = num_tiles_;
    return A;
  }
  Index dim() const { return dim_; }
  SVAE_ALWAYS_INLINE Index padded_dim() const {
    return (kTiles > 0 ? kTiles : num_tiles_) * kTile;
  }

 private:
  Index dim_, num_tiles_;
};

// Matrices of a single tile without padding, whose dimension the compiler knows.
template <class LanesT, int kTile>
struct FullTileAlgebra : TileAlgebra<LanesT, kTile, 1> {
  using TileAlgebra<LanesT, kTile, 1>::TileAlgebra;
  static constexpr Index dim() { return kTile; }
};

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
