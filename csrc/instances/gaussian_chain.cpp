// Gaussian chains for one instruction set.
#include "chains/gaussian_chain_vjp.hpp"
#include "chains/gaussian_chunks.hpp"
#include "chains/gaussian_filter.hpp"
#include "instances/instances.hpp"
#include "instances/packs_of_size.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

Index gaussian_lanes(Index latent_dim) {
  return is_blocked(latent_dim) ? 1 : width<Lanes>;
}

void run_gaussian_chain(const GaussianProblem& problem, const GaussianResult& result,
                        Index first, Workspace& workspace) {
  with_pack<true>(problem.latent_dim, [&](auto pack) {
    gaussian_chain<typename decltype(pack)::type>(problem, result, first, workspace);
  });
}

void run_gaussian_chain_vjp(const GaussianProblem& problem,
                            const GaussianAdjoint& adjoint, Index first,
                            Workspace& workspace) {
  with_pack<true>(problem.latent_dim, [&](auto pack) {
    gaussian_chain_vjp<typename decltype(pack)::type>(problem, adjoint, first, workspace);
  });
}

void run_gaussian_elimination(const GaussianProblem& problem,
                              const GaussianElimination& result, Index first,
                              Workspace& workspace) {
  with_pack(problem.latent_dim, [&](auto pack) {
    gaussian_elimination<typename decltype(pack)::type>(problem, result, first,
                                                        workspace);
  });
}

void run_gaussian_tangents(const GaussianProblem& problem, const GaussianAdjoint& adjoint,
                           Index first, Workspace& workspace) {
  with_pack(problem.latent_dim, [&](auto pack) {
    gaussian_tangents<typename decltype(pack)::type>(problem, adjoint, first, workspace);
  });
}

void run_gaussian_edges(const GaussianProblem& problem, const GaussianEdges& edges,
                        Index* failed_step, Index first, Workspace& workspace) {
  with_pack(problem.latent_dim, [&](auto pack) {
    gaussian_edges<typename decltype(pack)::type>(problem, edges, failed_step, first,
                                                  workspace);
  });
}

void run_gaussian_filter(const GaussianProblem& problem, const GaussianFiltering& result,
                         Index first, Workspace& workspace) {
  with_pack<true>(problem.latent_dim, [&](auto pack) {
    gaussian_filter<typename decltype(pack)::type>(problem, result, first, workspace);
  });
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
