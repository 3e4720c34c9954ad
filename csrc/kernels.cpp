// The instances of the kernels for one instruction set.
#include "kernels.hpp"

#include "gaussian_chain_vjp.hpp"
#include "markov_chain_vjp.hpp"
#include "markov_paths.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {
namespace {

// From this latent dimension on, blocked algebra, one sequence at a time. Measured with
// AVX2 and AVX-512: with full packs lanes are still 1.5 to 2.3 times as fast at 96, for a
// single sequence BLAS is from 24 on. The number of sequences must not decide, or a
// sequence's digits would depend on its batch; at 64 a few sequences cost about the same
// either way.
constexpr Index kBlockedDim = 64;

bool is_blocked(Index latent_dim) { return latent_dim >= kBlockedDim && lapack.dgemm; }

Index gaussian_lanes(Index latent_dim) {
  return is_blocked(latent_dim) ? 1 : width<Lanes>;
}

void run_gaussian_chain(const GaussianProblem& problem, const GaussianResult& result,
                        Index first, Workspace& workspace) {
  if (is_blocked(problem.latent_dim))
    gaussian_chain(GaussianPack<double>(problem, first), result, workspace);
  else
    gaussian_chain(GaussianPack<Lanes>(problem, first), result, workspace);
}

void run_gaussian_chain_vjp(const GaussianProblem& problem,
                            const GaussianAdjoint& adjoint, Index first,
                            Workspace& workspace) {
  if (is_blocked(problem.latent_dim))
    gaussian_chain_vjp(GaussianPack<double>(problem, first), adjoint, workspace);
  else
    gaussian_chain_vjp(GaussianPack<Lanes>(problem, first), adjoint, workspace);
}

}  // namespace

#define SVAE_NAME_OF(isa) #isa
#define SVAE_NAME(isa) SVAE_NAME_OF(isa)

const Kernels kernels = {
    SVAE_NAME(SVAE_ISA_NAMESPACE), gaussian_lanes, run_gaussian_chain,
    run_gaussian_chain_vjp,        width<Lanes>,   markov_chain<Lanes>,
    markov_chain_vjp<Lanes>,       viterbi<Lanes>, sample_markov_chain<Lanes>};

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
