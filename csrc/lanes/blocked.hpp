// The algebra of tiles.hpp on plain doubles, by BLAS and LAPACK: one sequence at a time,
// for matrices so large that blocked algebra beats lanes.
//
// Matrices are stored by rows and Fortran reads them by columns, so it sees transposes.
// Symmetric matrices keep both halves.
#pragma once

#include "kernels.hpp"
#include "lanes/tiles.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

struct Blocked {
  double* data;
  Index dim;
  Index size() const { return dim * dim; }
  double& operator()(Index i, Index j) const { return data[i * dim + j]; }
};

struct BlockedFull : Blocked {
  static constexpr bool kIsSymmetric = false;
};
struct BlockedLower : Blocked {};
struct BlockedSymmetric : Blocked {
  static constexpr bool kIsSymmetric = true;
};

template <>
struct Transposed<BlockedFull> {
  BlockedFull of;
};
template <>
struct Transposed<BlockedLower> {
  BlockedLower of;
};

struct BlockedAlgebra {
  using V = double;
  using FullMatrix = BlockedFull;
  using LowerMatrix = BlockedLower;
  using SymmetricMatrix = BlockedSymmetric;

  explicit BlockedAlgebra(Index dim) : dim_(dim) {}

  template <class Matrix>
  Matrix matrix(double* data) const {
    Matrix A;
    A.data = data;
    A.dim = dim_;
    return A;
  }
  Index dim() const { return dim_; }
  Index padded_dim() const { return dim_; }

 private:
  Index dim_;
};

// op(A) as Fortran takes it
struct Operand {
  double* data;
  Index dim;
  char transposed;
  Operand(const Blocked& A) : data(A.data), dim(A.dim), transposed('N') {}
  template <class Matrix>
  Operand(const Transposed<Matrix>& A)
      : data(A.of.data), dim(A.of.dim), transposed('T') {}
};

// C = alpha A B + beta C
inline void gemm(double alpha, Operand a, Operand b, double beta, const Blocked& C) {
  int dim = int(C.dim);
  lapack.dgemm(&b.transposed, &a.transposed, &dim, &dim, &dim, &alpha, b.data, &dim,
               a.data, &dim, &beta, C.data, &dim);
}

inline void mirror(const BlockedSymmetric& A) {
  for (Index i = 0; i < A.dim; ++i)
    for (Index j = 0; j < i; ++j) A(j, i) = A(i, j);
}
inline void mirror(const BlockedFull&) {}

inline void copy_blocked(const Blocked& from, const Blocked& to) {
  if (from.data != to.data)
    __builtin_memcpy(to.data, from.data, to.size() * sizeof(double));
}

// C = A B,  C0 + A B  or  C0 - A B
template <Update kUpdate, class C>
void multiply_blocked(Operand left, Operand right, const C& from, const C& to) {
  if (kUpdate != Update::set) copy_blocked(from, to);
  gemm(kUpdate == Update::subtract ? -1.0 : 1.0, left, right,
       kUpdate == Update::set ? 0.0 : 1.0, to);
  mirror(to);
}
template <Update kUpdate, class A, class B>
void multiply(const A& left, const B& right, const BlockedFull& product) {
  multiply_blocked<kUpdate>(left, right, product, product);
}
template <Update kUpdate, class A, class B>
void multiply(const A& left, const B& right, const BlockedSymmetric& product) {
  multiply_blocked<kUpdate>(left, right, product, product);
}
template <Update kUpdate, class A, class B>
void multiply(const A& left, const B& right, const BlockedSymmetric& from,
              const BlockedSymmetric& to) {
  multiply_blocked<kUpdate>(left, right, from, to);
}

// C = C0 + A B + (A B)'
inline void add_twice_symmetric(Operand left, Operand right, const BlockedSymmetric& from,
                                const BlockedSymmetric& C) {
  copy_blocked(from, C);
  const auto flipped = [](Operand A) {
    A.transposed = A.transposed == 'N' ? 'T' : 'N';
    return A;
  };
  gemm(1.0, left, right, 1.0, C);
  gemm(1.0, flipped(right), flipped(left), 1.0, C);
  mirror(C);
}

// A = L d L' with d = 1: Cholesky's factor. Zeros are above its diagonal.
inline double factorise(const BlockedSymmetric& A, const BlockedLower& L,
                        LogProduct<double>& inverse_determinant) {
  for (Index i = 0; i < A.dim; ++i)
    for (Index j = 0; j < A.dim; ++j) L(i, j) = j <= i ? A(i, j) : 0.0;
  char upper = 'U';
  int dim = int(L.dim), info = 0;
  lapack.dpotrf(&upper, &dim, L.data, &dim, &info);
  bool success = info == 0;
  for (Index i = 0; i < L.dim; ++i) {
    success = success && L(i, i) < __builtin_inf();  // false for NaN
    // that of A, by the squares of the diagonal
    if (success) inverse_determinant.multiply(1.0 / L(i, i));
    if (success) inverse_determinant.multiply(1.0 / L(i, i));
  }
  return success ? 1.0 : 0.0;
}

inline void find_roots(const BlockedLower& L, Vector<double> roots) {
  for (Index i = 0; i < L.dim; ++i) roots[i] = 1.0;
}

// X' = B' L'^-1 or B' L^-1: `transposed` as Fortran sees L.
inline void solve_blocked(char transposed, const Blocked& L, const Blocked& X) {
  char right = 'R', upper = 'U', not_unit = 'N';
  int dim = int(L.dim);
  double one = 1.0;
  lapack.dtrsm(&right, &upper, &transposed, &not_unit, &dim, &dim, &one, L.data, &dim,
               X.data, &dim);
}

// X = L^-1 B and Y = d^-1 X
inline void solve(const BlockedLower& L, const BlockedFull& B, const BlockedFull& X,
                  const BlockedFull& Y) {
  copy_blocked(B, X);
  solve_blocked('N', L, X);
  copy_blocked(X, Y);
}

inline void solve(const Transposed<BlockedLower>& L, const BlockedFull& X) {
  solve_blocked('T', L.of, X);
}

inline void invert(const BlockedLower& L, Vector<double>, const BlockedLower& R) {
  for (Index i = 0; i < R.dim; ++i)
    for (Index j = 0; j < R.dim; ++j) R(i, j) = i == j ? 1.0 : 0.0;
  solve_blocked('N', L, R);
}

template <Update kUpdate>
void multiply(const Blocked& A, Vector<double> x, Vector<double> y) {
  const double sign = kUpdate == Update::subtract ? -1.0 : 1.0;
  for (Index i = 0; i < A.dim; ++i) {
    double sum = 0.0;
    for (Index j = 0; j < A.dim; ++j) sum += A(i, j) * x[j];
    y[i] = (kUpdate == Update::set ? 0.0 : y[i]) + sign * sum;
  }
}

template <Update kUpdate>
void multiply(const Transposed<BlockedFull>& A, Vector<double> x, Vector<double> y) {
  const double sign = kUpdate == Update::subtract ? -1.0 : 1.0;
  const Index dim = A.of.dim;
  for (Index i = 0; kUpdate == Update::set && i < dim; ++i) y[i] = 0.0;
  for (Index j = 0; j < dim; ++j)
    for (Index i = 0; i < dim; ++i) y[i] += sign * A.of(j, i) * x[j];
}

inline void solve(const BlockedLower& L, Vector<double> x) {
  for (Index i = 0; i < L.dim; ++i) {
    double sum = x[i];
    for (Index j = 0; j < i; ++j) sum -= L(i, j) * x[j];
    x[i] = sum / L(i, i);
  }
}

inline void solve(const Transposed<BlockedLower>& L, Vector<double> x) {
  for (Index i = L.of.dim - 1; i >= 0; --i) {
    x[i] /= L.of(i, i);
    for (Index j = 0; j < i; ++j) x[j] -= L.of(i, j) * x[i];
  }
}

inline void divide_by_pivots(const BlockedLower& L, Vector<double> x, Vector<double> y) {
  for (Index i = 0; i < L.dim; ++i) y[i] = x[i];
}

// body(k, i, j) for entry (i, j), at data[k]; (j, i) of a symmetric matrix is called (i,
// j)
template <class Body>
SVAE_ALWAYS_INLINE void for_entries(const BlockedFull& A, const Body& body) {
  for (Index i = 0; i < A.dim; ++i)
    for (Index j = 0; j < A.dim; ++j) body(i * A.dim + j, i, j);
}

template <class Body>
SVAE_ALWAYS_INLINE void for_entries(const BlockedSymmetric& A, const Body& body) {
  for (Index i = 0; i < A.dim; ++i)
    for (Index j = 0; j < A.dim; ++j) body(i * A.dim + j, max(i, j), i < j ? i : j);
}

// A(i, j) = value(k, i, j), which may read A at data[k].
template <class Matrix, class Value>
SVAE_ALWAYS_INLINE void set_entries(const Matrix& A, const Value& value) {
  for_entries(A, [&](Index k, Index i, Index j) { A.data[k] = value(k, i, j); });
}

// body(k, i) for the entries (i, i), at data[k]
template <class Body>
SVAE_ALWAYS_INLINE void for_diagonal(const BlockedSymmetric& A, const Body& body) {
  for (Index i = 0; i < A.dim; ++i) body(i * A.dim + i, i);
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
