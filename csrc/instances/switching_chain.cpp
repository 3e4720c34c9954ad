// Gaussian chains that states switch, for one instruction set.
#include "chains/gaussian_chain_vjp.hpp"
#include "chains/gaussian_chunks.hpp"
#include "instances/instances.hpp"
#include "instances/packs_of_size.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

void run_switching_chain(const SwitchingProblem& problem, const SwitchingResult& result,
                         Index first, Workspace& workspace) {
  with_pack(problem.latent_dim, [&](auto pack) {
    gaussian_chain<typename decltype(pack)::switching>(problem, result, first, workspace);
  });
}

void run_switching_chain_vjp(const SwitchingProblem& problem,
                             const SwitchingAdjoint& adjoint, Index first,
                             Workspace& workspace) {
  with_pack(problem.latent_dim, [&](auto pack) {
    gaussian_chain_vjp<typename decltype(pack)::switching>(problem, adjoint, first,
                                                           workspace);
  });
}

void run_switching_elimination(const SwitchingProblem& problem,
                               const GaussianElimination& result, Index first,
                               Workspace& workspace) {
  with_pack(problem.latent_dim, [&](auto pack) {
    gaussian_elimination<typename decltype(pack)::switching>(problem, result, first,
                                                             workspace);
  });
}

void run_switching_tangents(const SwitchingProblem& problem,
                            const SwitchingAdjoint& adjoint, Index first,
                            Workspace& workspace) {
  with_pack(problem.latent_dim, [&](auto pack) {
    gaussian_tangents<typename decltype(pack)::switching>(problem, adjoint, first,
                                                          workspace);
  });
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
