// Dense algebra on matrices whose entries are packs, tile by tile in registers.
//
// A matrix is a grid of square tiles, each contiguous, so that the entries of a tile lie
// at fixed distances whatever the size of the matrix: the number of tiles is a number of
// the run, their size one of the compiler. Triangular and symmetric matrices keep the
// tiles of their lower half; a tile on the diagonal is kept whole. Dimensions that the
// size of a tile does not divide are padded (gaussian_pack.hpp).
#pragma once

#include "log_product.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

// Columns of a tile that are computed at a time: their sums fill the registers, 32 of
// them or 16, but for what a product reads.
template <int kTile>
constexpr int kColumnsAtOnce = SVAE_LANES == 8 || kTile <= 3 ? kTile : 2;

enum class Kept { all, lower };

// Whether a tile is read as it is stored, or transposed.
template <bool kValue>
struct Flipped {
  static constexpr bool value = kValue;
};

template <class V, int kTile, int kTiles>
struct Grid {
  static constexpr int kTileSize = kTile * kTile;
  V* data;
  Index num_tiles;  // along a side; kTiles says it earlier unless that is 0

  SVAE_ALWAYS_INLINE Index tiles() const { return kTiles > 0 ? kTiles : num_tiles; }
  SVAE_ALWAYS_INLINE Index rows() const { return tiles() * kTile; }
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
  Matrix of;

  template <class Body>
  SVAE_ALWAYS_INLINE void visit(Index I, Index J, const Body& body) const {
    of.visit(J, I, [&](auto* tile, auto flipped) {
      body(tile, Flipped<!decltype(flipped)::value>{});
    });
  }
};

template <class Matrix>
SVAE_ALWAYS_INLINE Transposed<Matrix> transposed(const Matrix& A) {
  return {A};
}

// Some columns of a tile of a product, summed in registers: every loop over them has to
// be unrolled, for registers have no index.
template <class V, int kTile, int kColumns, bool kLowerOnly = false>
struct Sums {
  V sum[kTile][kColumns];

  // body(row, column), of the columns first, first + 1, .. those that count
  template <class Body>
  SVAE_ALWAYS_INLINE static void for_entries(int first, const Body& body) {
#pragma GCC unroll 5
    for (int r = 0; r < kTile; ++r)
#pragma GCC unroll 5
      for (int c = 0; c < kColumns; ++c)
        if (!kLowerOnly || r >= first + c) body(r, c);
  }

  SVAE_ALWAYS_INLINE Sums() {
#pragma GCC unroll 5
    for (int r = 0; r < kTile; ++r)
#pragma GCC unroll 5
      for (int c = 0; c < kColumns; ++c) sum[r][c] = broadcast<V>(0.0);
  }

  // Adds the columns first, first + 1, .. of the product of two tiles.
  template <bool kFlipA, bool kFlipB>
  SVAE_ALWAYS_INLINE void add(const V* a, Flipped<kFlipA>, const V* b, Flipped<kFlipB>,
                              int first) {
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
        for (int c = 0; c < kColumns; ++c)
          if (!kLowerOnly || r >= first + c) sum[r][c] += left * right[c];
      }
    }
  }

  // Adds the product of block row I of A and block column J of B.
  template <class A, class B>
  SVAE_ALWAYS_INLINE void add(const A& left, Index I, const B& right, Index J,
                              Index begin, Index end, int first) {
    for (Index K = begin; K < end; ++K)
      left.visit(I, K, [&](const V* a, auto flip_a) {
        right.visit(K, J,
                    [&](const V* b, auto flip_b) { add(a, flip_a, b, flip_b, first); });
      });
  }
};

template <int kValue>
struct Size {
  static constexpr int value = kValue;
};

// body(first, Size<columns>) for the columns of a tile, as many as are computed at a
// time.
template <int kTile, int kFirst = 0, class Body>
SVAE_ALWAYS_INLINE void for_columns(const Body& body) {
  constexpr int kLeft = kTile - kFirst;
  constexpr int kCount = kLeft < kColumnsAtOnce<kTile> ? kLeft : kColumnsAtOnce<kTile>;
  body(Size<kFirst>{}, Size<kCount>{});
  if constexpr (kFirst + kCount < kTile) for_columns<kTile, kFirst + kCount>(body);
}

// body(I, J, first, columns, is_diagonal) for all tiles of a full matrix, for those of
// the lower half of a symmetric one. On the diagonal of the latter half a tile is enough.
template <class V, int kTile, int kTiles, class Body>
SVAE_ALWAYS_INLINE void for_tiles(const Full<V, kTile, kTiles>& C, const Body& body) {
  for (Index I = 0; I < C.tiles(); ++I)
    for (Index J = 0; J < C.tiles(); ++J)
      for_columns<kTile>([&](auto first, auto columns) {
        body(C.tile(I, J), I, J, first, columns, Flipped<false>{});
      });
}

template <class V, int kTile, int kTiles, class Body>
SVAE_ALWAYS_INLINE void for_tiles(const Symmetric<V, kTile, kTiles>& C,
                                  const Body& body) {
  for (Index I = 0; I < C.tiles(); ++I) {
    for (Index J = 0; J < I; ++J)
      for_columns<kTile>([&](auto first, auto columns) {
        body(C.tile(I, J), I, J, first, columns, Flipped<false>{});
      });
    for_columns<kTile>([&](auto first, auto columns) {
      body(C.tile(I, I), I, I, first, columns, Flipped<true>{});
    });
  }
}

enum class Update { set, add, subtract };

// Puts sums where they belong, into both halves of a tile on a symmetric diagonal.
template <int kTile, int kColumns, bool kLowerOnly, class V>
SVAE_ALWAYS_INLINE void put(Update update,
                            const Sums<V, kTile, kColumns, kLowerOnly>& sums, int first,
                            V* tile) {
  sums.for_entries(first, [&](int r, int c) {
    V& entry = tile[r * kTile + first + c];
    const V value = update == Update::set   ? sums.sum[r][c]
                    : update == Update::add ? entry + sums.sum[r][c]
                                            : entry - sums.sum[r][c];
    entry = value;
    if (kLowerOnly) tile[(first + c) * kTile + r] = value;
  });
}

// C = A B,  C += A B  or  C -= A B
template <class A, class B, template <class, int, int> class C, class V, int kTile,
          int kTiles>
SVAE_ALWAYS_INLINE void multiply(Update update, const A& left, const B& right,
                                 const C<V, kTile, kTiles>& product) {
  for_tiles(product,
            [&](V* tile, Index I, Index J, auto first, auto columns, auto lower) {
              Index begin = 0, end = product.tiles();
              if (!A::kHasLower) begin = I;
              if (!A::kHasUpper) end = I + 1;
              if (!B::kHasUpper && begin < J) begin = J;
              if (!B::kHasLower && end > J + 1) end = J + 1;
              Sums<V, kTile, columns.value, lower.value> sums;
              sums.add(left, I, right, J, begin, end, first.value);
              put<kTile>(update, sums, first.value, tile);
            });
}

// C += A B + (A B)'
template <class A, class B, class V, int kTile, int kTiles>
SVAE_ALWAYS_INLINE void add_twice_symmetric(const A& left, const B& right,
                                            const Symmetric<V, kTile, kTiles>& C) {
  const auto left_transposed = transposed(left);
  const auto right_transposed = transposed(right);
  for_tiles(C, [&](V* tile, Index I, Index J, auto first, auto columns, auto lower) {
    Sums<V, kTile, columns.value, lower.value> sums;
    sums.add(left, I, right, J, 0, C.tiles(), first.value);
    sums.add(right_transposed, I, left_transposed, J, 0, C.tiles(), first.value);
    put<kTile>(Update::add, sums, first.value, tile);
  });
}

// A = L L', by way of A = L1 d L1' with ones on the diagonal of L1, which takes the
// square roots off the chain of pivots. L holds the reciprocals of its diagonal, which
// are multiplied to `inverse_determinant` too; A is overwritten. Returns 1 in the lanes
// in which all pivots were positive and finite, 0 in the others.
template <class V, int kTile, int kTiles>
SVAE_ALWAYS_INLINE V cholesky(const Symmetric<V, kTile, kTiles>& A,
                              const Lower<V, kTile, kTiles>& L,
                              LogProduct<V>& inverse_determinant) {
  const V one = broadcast<V>(1.0);
  // A becomes L1 d and L becomes L1, with 1 / d on its diagonal
  for (Index J = 0; J < A.tiles(); ++J)
    for (Index I = J; I < A.tiles(); ++I) {
      V* a = A.tile(I, J);
      V* l = L.tile(I, J);
      for_columns<kTile>([&](auto first, auto columns) {
        if (J == 0) return;
        Sums<V, kTile, columns.value> sums;
        sums.add(L, I, transposed(A), J, 0, J, first.value);
        put<kTile>(Update::subtract, sums, first.value, a);
      });
      V entry[kTile][kTile];
#pragma GCC unroll 5
      for (int r = 0; r < kTile; ++r)
#pragma GCC unroll 5
        for (int c = 0; c < kTile; ++c) entry[r][c] = a[r * kTile + c];
      const V* pivots = L.tile(J, J);
#pragma GCC unroll 5
      for (int c = 0; c < kTile; ++c) {
        V inverse;
        if (I == J) {
          a[c * kTile + c] = entry[c][c];
          inverse = l[c * kTile + c] = one / entry[c][c];
        } else {
          inverse = pivots[c * kTile + c];
        }
#pragma GCC unroll 5
        for (int r = 0; r < kTile; ++r) {
          if (I == J && r <= c) continue;
          a[r * kTile + c] = entry[r][c];
          l[r * kTile + c] = entry[r][c] * inverse;
        }
#pragma GCC unroll 5
        for (int k = c + 1; k < kTile; ++k) {
          const V below = I == J ? l[k * kTile + c] : pivots[k * kTile + c];
#pragma GCC unroll 5
          for (int r = 0; r < kTile; ++r)
            if (I != J || r >= k) entry[r][k] -= entry[r][c] * below;
        }
      }
    }
  // L = (L1 d) d^-1/2. The sum is infinite or NaN if a pivot is, or is not positive.
  V sum = broadcast<V>(0.0);
  for (Index J = 0; J < A.tiles(); ++J) {
    V* pivots = L.tile(J, J);
    V root[kTile];
#pragma GCC unroll 5
    for (int c = 0; c < kTile; ++c) {
      root[c] = sqrt(pivots[c * kTile + c]);
      inverse_determinant.multiply(root[c]);
      sum += root[c] + 0x1p-64 * A.tile(J, J)[c * kTile + c];
      pivots[c * kTile + c] = root[c];
#pragma GCC unroll 5
      for (int r = c + 1; r < kTile; ++r)
        pivots[r * kTile + c] = A.tile(J, J)[r * kTile + c] * root[c];
    }
    for (Index I = J + 1; I < A.tiles(); ++I)
#pragma GCC unroll 5
      for (int r = 0; r < kTile; ++r)
#pragma GCC unroll 5
        for (int c = 0; c < kTile; ++c)
          L.tile(I, J)[r * kTile + c] = A.tile(I, J)[r * kTile + c] * root[c];
  }
  return select(sum < broadcast<V>(__builtin_inf()), one, broadcast<V>(0.0));
}

// The tile of X in L X = B or L'X = B, given the sum of what the tiles already solved
// contribute: rows from the top, or with L' from the bottom.
template <bool kFlip, int kTile, int kColumns, class V>
SVAE_ALWAYS_INLINE void solve_tile(const V* l, Flipped<kFlip>, const V* b,
                                   Sums<V, kTile, kColumns>& sums, int first, V* x) {
#pragma GCC unroll 5
  for (int step = 0; step < kTile; ++step) {
    const int r = kFlip ? kTile - 1 - step : step;
#pragma GCC unroll 5
    for (int c = 0; c < kColumns; ++c) {
      V entry = b[r * kTile + first + c] - sums.sum[r][c];
#pragma GCC unroll 5
      for (int k = 0; k < kTile; ++k)
        if (kFlip ? k > r : k < r)
          entry -= (kFlip ? l[k * kTile + r] : l[r * kTile + k]) * sums.sum[k][c];
      sums.sum[r][c] = entry * l[r * kTile + r];
      x[r * kTile + first + c] = sums.sum[r][c];
    }
  }
}

// X = L^-1 B; X may be B.
template <class V, int kTile, int kTiles>
SVAE_ALWAYS_INLINE void solve(const Lower<V, kTile, kTiles>& L,
                              const Full<V, kTile, kTiles>& B,
                              const Full<V, kTile, kTiles>& X) {
  for (Index I = 0; I < L.tiles(); ++I)
    for (Index J = 0; J < L.tiles(); ++J)
      for_columns<kTile>([&](auto first, auto columns) {
        Sums<V, kTile, columns.value> sums;
        sums.add(L, I, X, J, 0, I, first.value);
        solve_tile<false, kTile>(L.tile(I, I), Flipped<false>{}, B.tile(I, J), sums,
                                 first.value, X.tile(I, J));
      });
}

// X = L^-T B; X may be B.
template <class V, int kTile, int kTiles>
SVAE_ALWAYS_INLINE void solve(const Transposed<Lower<V, kTile, kTiles>>& L,
                              const Full<V, kTile, kTiles>& B,
                              const Full<V, kTile, kTiles>& X) {
  for (Index I = X.tiles() - 1; I >= 0; --I)
    for (Index J = 0; J < X.tiles(); ++J)
      for_columns<kTile>([&](auto first, auto columns) {
        Sums<V, kTile, columns.value> sums;
        sums.add(L, I, X, J, I + 1, X.tiles(), first.value);
        solve_tile<true, kTile>(L.of.tile(I, I), Flipped<true>{}, B.tile(I, J), sums,
                                first.value, X.tile(I, J));
      });
}

// R = L^-1, with its zeros on the diagonal's tiles
template <class V, int kTile, int kTiles>
SVAE_ALWAYS_INLINE void invert(const Lower<V, kTile, kTiles>& L,
                               const Lower<V, kTile, kTiles>& R) {
  for (Index I = 0; I < R.tiles(); ++I)
    for (Index J = 0; J <= I; ++J) {
      V* r = R.tile(I, J);
      for (int i = 0; i < kTile; ++i)
        for (int j = 0; j < kTile; ++j)
          r[i * kTile + j] = broadcast<V>(I == J && i == j ? 1.0 : 0.0);
      for_columns<kTile>([&](auto first, auto columns) {
        Sums<V, kTile, columns.value> sums;
        sums.add(L, I, R, J, J, I, first.value);
        solve_tile<false, kTile>(L.tile(I, I), Flipped<false>{}, r, sums, first.value, r);
      });
    }
}

// Vectors are contiguous.
template <class V>
struct Vector {
  V* data;
  SVAE_ALWAYS_INLINE V& operator[](Index i) const { return data[i]; }
};

// y = A x,  y += A x  or  y -= A x
template <class A, class V, int kTile>
SVAE_ALWAYS_INLINE void multiply_rows(Update update, const A& matrix, Index tiles,
                                      const V* x, V* y, Size<kTile>) {
  for (Index I = 0; I < tiles; ++I) {
    V sum[kTile];
#pragma GCC unroll 5
    for (int r = 0; r < kTile; ++r) sum[r] = broadcast<V>(0.0);
    for (Index K = 0; K < tiles; ++K)
      matrix.visit(I, K, [&](const V* a, auto flipped) {
#pragma GCC unroll 5
        for (int k = 0; k < kTile; ++k)
#pragma GCC unroll 5
          for (int r = 0; r < kTile; ++r)
            sum[r] +=
                (flipped.value ? a[k * kTile + r] : a[r * kTile + k]) * x[K * kTile + k];
      });
#pragma GCC unroll 5
    for (int r = 0; r < kTile; ++r) {
      V& entry = y[I * kTile + r];
      entry = update == Update::set   ? sum[r]
              : update == Update::add ? entry + sum[r]
                                      : entry - sum[r];
    }
  }
}

template <template <class, int, int> class A, class V, int kTile, int kTiles>
SVAE_ALWAYS_INLINE void multiply(Update update, const A<V, kTile, kTiles>& matrix,
                                 Vector<V> x, Vector<V> y) {
  multiply_rows(update, matrix, matrix.tiles(), x.data, y.data, Size<kTile>{});
}

template <template <class, int, int> class A, class V, int kTile, int kTiles>
SVAE_ALWAYS_INLINE void multiply(Update update,
                                 const Transposed<A<V, kTile, kTiles>>& matrix,
                                 Vector<V> x, Vector<V> y) {
  multiply_rows(update, matrix, matrix.of.tiles(), x.data, y.data, Size<kTile>{});
}

// x = L^-1 x
template <class V, int kTile, int kTiles>
SVAE_ALWAYS_INLINE void solve(const Lower<V, kTile, kTiles>& L, Vector<V> x) {
  for (Index J = 0; J < L.tiles(); ++J) {
    V* part = x.data + J * kTile;
    const V* l = L.tile(J, J);
#pragma GCC unroll 5
    for (int c = 0; c < kTile; ++c) {
      part[c] *= l[c * kTile + c];
#pragma GCC unroll 5
      for (int r = c + 1; r < kTile; ++r) part[r] -= l[r * kTile + c] * part[c];
    }
    for (Index I = J + 1; I < L.tiles(); ++I) {
      V* rest = x.data + I * kTile;
      const V* below = L.tile(I, J);
#pragma GCC unroll 5
      for (int c = 0; c < kTile; ++c)
#pragma GCC unroll 5
        for (int r = 0; r < kTile; ++r) rest[r] -= below[r * kTile + c] * part[c];
    }
  }
}

// x = L^-T x
template <class V, int kTile, int kTiles>
SVAE_ALWAYS_INLINE void solve(const Transposed<Lower<V, kTile, kTiles>>& L, Vector<V> x) {
  for (Index I = L.of.tiles() - 1; I >= 0; --I) {
    V* part = x.data + I * kTile;
    const V* l = L.of.tile(I, I);
#pragma GCC unroll 5
    for (int r = kTile - 1; r >= 0; --r) {
      part[r] *= l[r * kTile + r];
#pragma GCC unroll 5
      for (int c = 0; c < r; ++c) part[c] -= l[r * kTile + c] * part[r];
    }
    for (Index J = 0; J < I; ++J) {
      V* rest = x.data + J * kTile;
      const V* left = L.of.tile(I, J);
#pragma GCC unroll 5
      for (int r = 0; r < kTile; ++r)
#pragma GCC unroll 5
        for (int c = 0; c < kTile; ++c) rest[c] -= left[r * kTile + c] * part[r];
    }
  }
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

// Matrices of one size.
template <class LanesT, int kTile, int kTiles>
struct TileAlgebra {
  using V = LanesT;
  using FullMatrix = Full<V, kTile, kTiles>;
  using LowerMatrix = Lower<V, kTile, kTiles>;
  using SymmetricMatrix = Symmetric<V, kTile, kTiles>;

  explicit TileAlgebra(Index dim) : dim(dim), num_tiles((dim + kTile - 1) / kTile) {}

  template <class Matrix>
  Matrix matrix(V* data) const {
    Matrix A;
    A.data = data;
    A.num_tiles = num_tiles;
    return A;
  }
  Index padded_dim() const { return num_tiles * kTile; }

  Index dim, num_tiles;
};

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
