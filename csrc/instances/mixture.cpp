// Mixtures for one instruction set.
#include "instances/instances.hpp"
#include "mixture/mixture_vjp.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

// Calls body(algebra type) for the mixture, which is no bottleneck: few of them, with
// more padding. It has rows enough for all lanes, also of large matrices.
template <class Algebra>
struct AlgebraOf {
  using type = Algebra;
};

template <class Body>
void with_algebra(Index D, const Body& body) {
  if (D <= 2) return body(AlgebraOf<TileAlgebra<Lanes, 2, 1>>{});
  if (D <= 4) return body(AlgebraOf<TileAlgebra<Lanes, 4, 1>>{});
  return body(AlgebraOf<TileAlgebra<Lanes, 4, 0>>{});
}

void run_mixture(const MixtureProblem& problem, const MixtureAscent& how,
                 const MixtureResult& result, Index first, Workspace& workspace) {
  with_algebra(problem.latent_dim, [&](auto algebra) {
    mixture<typename decltype(algebra)::type>(problem, how, result, first, workspace);
  });
}

void run_mixture_vjp(const MixtureProblem& problem, const MixtureAdjoint& adjoint,
                     Index first, Workspace& workspace) {
  with_algebra(problem.latent_dim, [&](auto algebra) {
    mixture_vjp<typename decltype(algebra)::type>(problem, adjoint, first, workspace);
  });
}

void run_mixture_evidence(const MixtureProblem& problem, const MixtureEvidence& result,
                          Index first, Workspace& workspace) {
  with_algebra(problem.latent_dim, [&](auto algebra) {
    mixture_evidence<typename decltype(algebra)::type>(problem, result, first, workspace);
  });
}

void run_mixture_evidence_vjp(const MixtureProblem& problem,
                              const MixtureEvidenceAdjoint& adjoint, Index first,
                              Workspace& workspace) {
  with_algebra(problem.latent_dim, [&](auto algebra) {
    mixture_evidence_vjp<typename decltype(algebra)::type>(problem, adjoint, first,
                                                           workspace);
  });
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
