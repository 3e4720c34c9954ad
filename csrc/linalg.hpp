// Dense algebra on matrices whose entries are packs, by tiles that stay in registers.
//
// A matrix is a view, so transposing it, or reversing its order, costs nothing: with
// lanes for entries every stride is as good as another. The same operations on plain
// doubles are handed to BLAS and LAPACK (blas.hpp).
#pragma once

#include "elementary.hpp"
#include "lanes.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

// Rows and columns of a full tile: with 32 registers 5 x 5, with 16 registers 3 x 3.
constexpr int kTile = SVAE_LANES == 8 ? 5 : 3;

// What a matrix is known to be. A triangle holds its zeros, except for a Cholesky factor;
// a symmetric matrix holds both halves.
enum class Shape { full, lower, upper, symmetric };

template <class V>
struct Matrix {
  V* data;
  Index rows, columns;
  Index row_stride, column_stride;
  Shape shape;

  SVAE_ALWAYS_INLINE V& operator()(Index i, Index j) const {
    return data[i * row_stride + j * column_stride];
  }

  Matrix transposed() const {
    const Shape flipped = shape == Shape::lower   ? Shape::upper
                          : shape == Shape::upper ? Shape::lower
                                                  : shape;
    return {data, columns, rows, column_stride, row_stride, flipped};
  }

  Matrix reversed_rows() const {
    return {data + (rows - 1) * row_stride,
            rows,
            columns,
            -row_stride,
            column_stride,
            Shape::full};
  }
};

template <class V>
Matrix<V> matrix(V* data, Index rows, Index columns, Shape shape = Shape::full) {
  return {data, rows, columns, columns, 1, shape};
}

template <class V>
Matrix<V> take_matrix(Workspace& workspace, Index rows, Index columns,
                      Shape shape = Shape::full) {
  return matrix(workspace.take<V>(rows * columns), rows, columns, shape);
}

// The product of many positive numbers, as a mantissa in [1, 2) and an exponent, so that
// one logarithm at the end serves all of them.
template <class V>
class LogProduct {
 public:
  // For 1e-160 < factor < 1e160, as square roots are.
  void multiply(V factor) {
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
    return exponent * broadcast<V>(0x1.62e42fefa39efp-1) + log(mantissa_);  // log 2
  }

 private:
  using Bits = typename LaneBits<V>::type;
  V mantissa_ = broadcast<V>(1.0);
  Bits exponent_ = Bits{};
};

template <int kValue>
struct Size {
  static constexpr int value = kValue;
};

// body(Size<n>), for 1 <= n <= kMax
template <int kMax, class Body>
SVAE_ALWAYS_INLINE void with_size(Index n, const Body& body) {
  if constexpr (kMax > 1)
    if (n < kMax) return with_size<kMax - 1>(n, body);
  body(Size<kMax>{});
}

// Calls body(begin, Size<n>) for parts of begin..end that fit a tile, as equal as
// possible.
template <class Body>
SVAE_ALWAYS_INLINE void for_parts(Index begin, Index end, const Body& body) {
  Index parts = (end - begin + kTile - 1) / kTile;
  for (; parts > 0; --parts) {
    const Index size = (end - begin + parts - 1) / parts;
    with_size<kTile>(size, [&](auto n) { body(begin, n); });
    begin += size;
  }
}

// The entries (i.. , j..) of a product, summed in registers: every loop over them has to
// be unrolled, for registers have no index.
template <class V, int kRows, int kColumns>
struct Tile {
  V sum[kRows][kColumns];

  template <class Body>
  SVAE_ALWAYS_INLINE static void for_entries(const Body& body) {
#pragma GCC unroll 5
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 5
      for (int c = 0; c < kColumns; ++c) body(r, c);
  }

  SVAE_ALWAYS_INLINE Tile() {
    for_entries([&](int r, int c) { sum[r][c] = broadcast<V>(0.0); });
  }

  // Adds A_ik B_kj for begin <= k < end.
  SVAE_ALWAYS_INLINE void add(const Matrix<V>& A, Index i, const Matrix<V>& B, Index j,
                              Index begin, Index end) {
    const V* a = &A(i, begin);
    const V* b = &B(begin, j);
    for (Index k = begin; k < end; ++k, a += A.column_stride, b += B.row_stride) {
      V right[kColumns];
#pragma GCC unroll 5
      for (int c = 0; c < kColumns; ++c) right[c] = b[c * B.column_stride];
#pragma GCC unroll 5
      for (int r = 0; r < kRows; ++r) {
        const V left = a[r * A.row_stride];
#pragma GCC unroll 5
        for (int c = 0; c < kColumns; ++c) sum[r][c] += left * right[c];
      }
    }
  }
};

template <class V>
void mirror(const Matrix<V>& A) {
  for (Index i = 0; i < A.rows; ++i)
    for (Index j = 0; j < i; ++j) A(j, i) = A(i, j);
}

// Calls body(i, Size<rows>, j, Size<columns>) for the tiles of a matrix from its top; of
// a symmetric one only for those that meet the lower triangle, and mirrors it then.
template <class V, class Body>
SVAE_ALWAYS_INLINE void for_tiles(const Matrix<V>& C, const Body& body) {
  const bool symmetric = C.shape == Shape::symmetric;
  for_parts(0, C.rows, [&](Index i, auto rows) {
    for_parts(0, C.columns, [&](Index j, auto columns) {
      if (!symmetric || j < i + rows.value) body(i, rows, j, columns);
    });
  });
  if (symmetric) mirror(C);
}

enum class Update { set, add, subtract };

// C = A B,  C += A B  or  C -= A B
template <class V>
void multiply(Update update, const Matrix<V>& A, const Matrix<V>& B, const Matrix<V>& C) {
  for_tiles(C, [&](Index i, auto rows, Index j, auto columns) {
    Index begin = A.shape == Shape::upper ? i : 0;
    Index end = A.shape == Shape::lower ? i + rows.value : A.columns;
    if (B.shape == Shape::lower && begin < j) begin = j;
    if (B.shape == Shape::upper && end > j + columns.value) end = j + columns.value;
    Tile<V, rows.value, columns.value> tile;
    if (begin < end) tile.add(A, i, B, j, begin, end);
    if (update == Update::set)
      tile.for_entries([&](int r, int c) { C(i + r, j + c) = tile.sum[r][c]; });
    else if (update == Update::add)
      tile.for_entries([&](int r, int c) { C(i + r, j + c) += tile.sum[r][c]; });
    else
      tile.for_entries([&](int r, int c) { C(i + r, j + c) -= tile.sum[r][c]; });
  });
}

// C += A B + (A B)',  C symmetric
template <class V>
void add_twice_symmetric(const Matrix<V>& A, const Matrix<V>& B, const Matrix<V>& C) {
  if (A.columns == 0) return;
  const Matrix<V> A_transposed = A.transposed(), B_transposed = B.transposed();
  for_tiles(C, [&](Index i, auto rows, Index j, auto columns) {
    Tile<V, rows.value, columns.value> tile;
    tile.add(A, i, B, j, 0, A.columns);
    tile.add(B_transposed, i, A_transposed, j, 0, A.columns);
    tile.for_entries([&](int r, int c) { C(i + r, j + c) += tile.sum[r][c]; });
  });
}

// A = L L'. Overwrites A's lower triangle with L, whose diagonal holds reciprocals, and
// multiplies its diagonal to `determinant`. Returns 1 in the lanes in which all pivots
// were positive and finite, 0 in the others.
template <class V>
V cholesky(const Matrix<V>& A, LogProduct<V>& determinant) {
  V success = broadcast<V>(1.0);
  const V zero = broadcast<V>(0.0), infinity = broadcast<V>(__builtin_inf());
  for (Index j = 0; j < A.columns; ++j) {
    V pivot = A(j, j);
    for (Index k = 0; k < j; ++k) pivot -= A(j, k) * A(j, k);
    success = select(pivot > zero, success, zero);
    success = select(pivot < infinity, success, zero);
    const V root = sqrt(pivot);
    determinant.multiply(root);
    A(j, j) = broadcast<V>(1.0) / root;
    for_parts(j + 1, A.rows, [&](Index i, auto rows) {
      Tile<V, rows.value, 1> tile;
      tile.add(A, i, A.transposed(), j, 0, j);
      tile.for_entries(
          [&](int r, int) { A(i + r, j) = (A(i + r, j) - tile.sum[r][0]) * A(j, j); });
    });
  }
  return success;
}

// B = L^-1 B, from the top. L holds the reciprocals of its diagonal.
template <class V>
void solve_lower(const Matrix<V>& L, const Matrix<V>& B) {
  for_tiles(B, [&](Index i, auto rows, Index j, auto columns) {
    const Index begin = B.shape == Shape::lower ? j : 0;
    if (begin >= i + rows.value) return;
    Tile<V, rows.value, columns.value> tile;
    if (begin < i) tile.add(L, i, B, j, begin, i);
    tile.for_entries([&](int r, int c) {
      V entry = B(i + r, j + c) - tile.sum[r][c];
#pragma GCC unroll 5
      for (int k = 0; k < r; ++k) entry -= L(i + r, i + k) * tile.sum[k][c];
      tile.sum[r][c] = entry * L(i + r, i + r);
      B(i + r, j + c) = tile.sum[r][c];
    });
  });
}

// B = L^-T B, from the bottom: L' in reverse order is lower triangular.
template <class V>
void solve_lower_transposed(const Matrix<V>& L, const Matrix<V>& B) {
  const Index last = (L.rows - 1) * (L.row_stride + L.column_stride);
  const Matrix<V> reversed = {L.data + last,    L.rows,        L.columns,
                              -L.column_stride, -L.row_stride, Shape::lower};
  solve_lower(reversed, B.reversed_rows());
}

// R = L^-1, with its zeros
template <class V>
void invert_lower(const Matrix<V>& L, const Matrix<V>& R) {
  for (Index i = 0; i < R.rows; ++i)
    for (Index j = 0; j < R.columns; ++j) R(i, j) = broadcast<V>(i == j ? 1.0 : 0.0);
  solve_lower(L, R);
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae

#include "blas.hpp"
