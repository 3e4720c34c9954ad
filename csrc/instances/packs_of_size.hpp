// Which matrices the packs of Gaussian chains have, by the latent dimension.
#pragma once

#include "chains/switching_pairs.hpp"
#include "kernels.hpp"
#include "lanes/blocked.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

// From this latent dimension on, blocked algebra, one sequence at a time. The number of
// sequences must not decide, or a sequence's digits would depend on its batch. Measured
// with AVX-512 and one thread of BLAS: with a full pack lanes are 2.3 times as fast at 96
// still, for a single sequence BLAS is 2.6 times as fast at 64 and 3.1 times at 96.
constexpr Index kBlockedDim = 96;

inline bool is_blocked(Index latent_dim) {
  return latent_dim >= kBlockedDim && lapack.dgemm;
}

template <class Algebra>
struct PackOf {
  using type = GaussianPack<Algebra>;
  using switching = SwitchingPack<Algebra>;
};

// The body as one function with all that it calls: operands stay in registers, and their
// addresses are known.
template <class Body, class Pack>
__attribute__((flatten)) void flattened(const Body& body, Pack pack) {
  body(pack);
}

// Calls body(pack type) for the algebra of a latent dimension: one tile for a small
// matrix, else as many as it takes of the size that pads less. With kFlatten that is one
// function for a single tile: at D = 4, with AVX-512, 7 % are gained of a chain and 12 %
// of its adjoint, and nothing with more tiles. It takes twice as long to compile.
template <bool kFlatten = false, class Body>
void with_pack(Index D, const Body& body) {
  const auto small = [&](auto pack) {
    if constexpr (kFlatten)
      flattened(body, pack);
    else
      body(pack);
  };
  if (is_blocked(D)) return body(PackOf<BlockedAlgebra>{});
  if (D == 1) return small(PackOf<FullTileAlgebra<Lanes, 1>>{});
  if (D == 2) return small(PackOf<FullTileAlgebra<Lanes, 2>>{});
  if (D == 3) return small(PackOf<FullTileAlgebra<Lanes, 3>>{});
  if (D == 4) return small(PackOf<FullTileAlgebra<Lanes, 4>>{});
  if (D == 5) return small(PackOf<FullTileAlgebra<Lanes, 5>>{});
  if (D == 6) return body(PackOf<TileAlgebra<Lanes, 3, 2>>{});
  if ((D + 3) / 4 * 4 < (D + 4) / 5 * 5) return body(PackOf<TileAlgebra<Lanes, 4, 0>>{});
  return body(PackOf<TileAlgebra<Lanes, 5, 0>>{});
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
