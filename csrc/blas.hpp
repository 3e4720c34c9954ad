// The operations of linalg.hpp on plain doubles, by BLAS and LAPACK: one sequence at a
// time, for matrices so large that blocked algebra beats lanes.
//
// Matrices are stored by rows and Fortran reads them by columns, so it sees transposes.
#pragma once

#include "kernels.hpp"
#include "linalg.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

// A view as Fortran takes it: its transpose, from `data` as stored or transposed once
// more.
struct FortranMatrix {
  double* data;
  char transposed;
  int leading;

  explicit FortranMatrix(const Matrix<double>& A) : data(A.data) {
    const bool by_rows = A.column_stride == 1;
    transposed = by_rows ? 'N' : 'T';
    const Index contiguous = by_rows ? A.columns : A.rows;
    const Index stride = by_rows ? A.row_stride : A.column_stride;
    leading = int(max(max(stride, contiguous), Index(1)));  // a row's stride says nothing
  }
};

// C = alpha A B + beta C, C stored by rows
inline void gemm(double alpha, const Matrix<double>& A, const Matrix<double>& B,
                 double beta, const Matrix<double>& C) {
  FortranMatrix a(A), b(B), c(C);
  int rows = int(C.rows), columns = int(C.columns), inner = int(A.columns);
  lapack.dgemm(&b.transposed, &a.transposed, &columns, &rows, &inner, &alpha, b.data,
               &b.leading, a.data, &a.leading, &beta, c.data, &c.leading);
}

inline void multiply(Update update, const Matrix<double>& A, const Matrix<double>& B,
                     const Matrix<double>& C) {
  const double alpha = update == Update::subtract ? -1.0 : 1.0;
  gemm(alpha, A, B, update == Update::set ? 0.0 : 1.0, C);
  if (C.shape == Shape::symmetric) mirror(C);
}

inline void add_twice_symmetric(const Matrix<double>& A, const Matrix<double>& B,
                                const Matrix<double>& C) {
  gemm(1.0, A, B, 1.0, C);
  gemm(1.0, B.transposed(), A.transposed(), 1.0, C);
  mirror(C);
}

// The diagonal of L holds itself here, not its reciprocals.
inline double cholesky(const Matrix<double>& A, LogProduct<double>& determinant) {
  char upper = 'U';
  int size = int(A.rows), leading = int(A.row_stride), info = 0;
  lapack.dpotrf(&upper, &size, A.data, &leading, &info);
  bool success = info == 0;
  for (Index i = 0; success && i < A.rows; ++i) {
    success = A(i, i) < __builtin_inf();  // false for NaN
    determinant.multiply(A(i, i));
  }
  return success ? 1.0 : 0.0;
}

// B' = B' L'^-1 or B' L^-1: `transposed` as Fortran sees L.
inline void trsm(char transposed, const Matrix<double>& L, const Matrix<double>& B) {
  char right = 'R', upper = 'U', not_unit = 'N';
  FortranMatrix l(L), b(B);
  int rows = int(B.columns), columns = int(B.rows);
  double one = 1.0;
  lapack.dtrsm(&right, &upper, &transposed, &not_unit, &rows, &columns, &one, l.data,
               &l.leading, b.data, &b.leading);
}

inline void solve_lower(const Matrix<double>& L, const Matrix<double>& B) {
  trsm('N', L, B);
}

inline void solve_lower_transposed(const Matrix<double>& L, const Matrix<double>& B) {
  trsm('T', L, B);
}

inline void invert_lower(const Matrix<double>& L, const Matrix<double>& R) {
  for (Index i = 0; i < R.rows; ++i)
    for (Index j = 0; j < R.columns; ++j) R(i, j) = i == j ? 1.0 : 0.0;
  trsm('N', L, R);
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
