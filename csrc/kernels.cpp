// The instances of the kernels for one instruction set.
#include "kernels.hpp"

#include "chains/gaussian_chain_vjp.hpp"
#include "chains/gaussian_chunks.hpp"
#include "chains/gaussian_filter.hpp"
#include "chains/markov_chain_vjp.hpp"
#include "chains/markov_edges.hpp"
#include "chains/markov_filter.hpp"
#include "chains/markov_paths.hpp"
#include "chains/switching_pairs.hpp"
#include "lanes/blocked.hpp"
#include "lanes/fma_peak.hpp"
#include "lanes/range.hpp"
#include "layers/layers.hpp"
#include "mixture/mixture_vjp.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {
namespace {

// From this latent dimension on, blocked algebra, one sequence at a time. The number of
// sequences must not decide, or a sequence's digits would depend on its batch. Measured
// with AVX-512 and one thread of BLAS: with a full pack lanes are 2.3 times as fast at 96
// still, for a single sequence BLAS is 2.6 times as fast at 64 and 3.1 times at 96.
constexpr Index kBlockedDim = 96;

bool is_blocked(Index latent_dim) { return latent_dim >= kBlockedDim && lapack.dgemm; }

Index gaussian_lanes(Index latent_dim) {
  return is_blocked(latent_dim) ? 1 : width<Lanes>;
}

// Calls body(pack type) for the algebra of a latent dimension: one tile for a small
// matrix, else as many as it takes of the size that pads less.
template <class Algebra>
struct PackOf {
  using type = GaussianPack<Algebra>;
  using switching = SwitchingPack<Algebra>;
};

template <class Body>
void with_pack(Index D, const Body& body) {
  if (is_blocked(D)) return body(PackOf<BlockedAlgebra>{});
  if (D == 1) return body(PackOf<TileAlgebra<Lanes, 1, 1>>{});
  if (D == 2) return body(PackOf<TileAlgebra<Lanes, 2, 1>>{});
  if (D == 3) return body(PackOf<TileAlgebra<Lanes, 3, 1>>{});
  if (D == 4) return body(PackOf<TileAlgebra<Lanes, 4, 1>>{});
  if (D == 5) return body(PackOf<TileAlgebra<Lanes, 5, 1>>{});
  if (D == 6) return body(PackOf<TileAlgebra<Lanes, 3, 2>>{});
  if ((D + 3) / 4 * 4 < (D + 4) / 5 * 5) return body(PackOf<TileAlgebra<Lanes, 4, 0>>{});
  return body(PackOf<TileAlgebra<Lanes, 5, 0>>{});
}

void run_gaussian_chain(const GaussianProblem& problem, const GaussianResult& result,
                        Index first, Workspace& workspace) {
  with_pack(problem.latent_dim, [&](auto pack) {
    gaussian_chain<typename decltype(pack)::type>(problem, result, first, workspace);
  });
}

void run_gaussian_chain_vjp(const GaussianProblem& problem,
                            const GaussianAdjoint& adjoint, Index first,
                            Workspace& workspace) {
  with_pack(problem.latent_dim, [&](auto pack) {
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
  with_pack(problem.latent_dim, [&](auto pack) {
    gaussian_filter<typename decltype(pack)::type>(problem, result, first, workspace);
  });
}

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

// So many Markov chains one after the other take less time than a pack of them. Alone one
// takes, at 10, 30 and 100 states, the 2.4th, 4.7th and 5th part with eight lanes, the
// 1.8th, 2.9th and 3.2nd with four, and with two the 1.7th, 2.1st and 2.2nd.
Index few_markov_chains(Index num_states) {
  const Index more = num_states < 16 ? 0 : 1;
  return width<Lanes> == 8 ? 2 + more : width<Lanes> == 4 ? 1 + more : 1;
}

// Packs of Markov chains, or single ones where few are left.
template <class Outputs>
using MarkovKernel = void(const MarkovProblem&, const Outputs&, Index, Workspace&);

template <class Outputs, MarkovKernel<Outputs>* kPack, MarkovKernel<Outputs>* kSingle>
void run_markov(const MarkovProblem& problem, const Outputs& outputs, Index first,
                Workspace& workspace) {
  const bool are_few =
      problem.num_sequences - first <= few_markov_chains(problem.num_states);
  (are_few ? kSingle : kPack)(problem, outputs, first, workspace);
}

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

#define SVAE_NAME_OF(isa) #isa
#define SVAE_NAME(isa) SVAE_NAME_OF(isa)

constexpr Kernels make_table() {
  Kernels table{};
  table.isa = SVAE_NAME(SVAE_ISA_NAMESPACE);
  table.lanes = width<Lanes>;
  table.gaussian_lanes = gaussian_lanes;
  table.gaussian_chain = run_gaussian_chain;
  table.gaussian_chain_vjp = run_gaussian_chain_vjp;
  table.gaussian_elimination = run_gaussian_elimination;
  table.gaussian_tangents = run_gaussian_tangents;
  table.gaussian_edges = run_gaussian_edges;
  table.gaussian_filter = run_gaussian_filter;
  table.switching_chain = run_switching_chain;
  table.switching_chain_vjp = run_switching_chain_vjp;
  table.few_markov_chains = few_markov_chains;
  table.markov_chain =
      run_markov<MarkovResult, markov_chain<Lanes>, markov_chain<double>>;
  table.markov_edges = markov_edges;
  table.markov_chain_vjp =
      run_markov<MarkovAdjoint, markov_chain_vjp<Lanes>, markov_chain_vjp<double>>;
  table.markov_filter =
      run_markov<MarkovFiltering, markov_filter<Lanes>, markov_filter<double>>;
  table.viterbi = run_markov<MarkovDecoding, viterbi<Lanes>, viterbi<double>>;
  table.sample_markov_chain =
      run_markov<MarkovSampling, sample_markov_chain<Lanes>, sample_markov_chain<double>>;
  table.mixture = run_mixture;
  table.mixture_vjp = run_mixture_vjp;
  table.mixture_evidence = run_mixture_evidence;
  table.mixture_evidence_vjp = run_mixture_evidence_vjp;
  table.are_within = are_within;
  table.activate = activate<Lanes>;
  table.tanh_layer = tanh_layer<Lanes>;
  table.tanh_layer_vjp = tanh_layer_vjp<Lanes>;
  table.gaussian_head = gaussian_head<Lanes>;
  table.adam = adam<Lanes>;
  table.multiply_add = multiply_add<Lanes>;
  return table;
}

// Made by the compiler: no instruction of this file runs before it is chosen.
constexpr Kernels kTable = make_table();

}  // namespace

const Kernels kernels = kTable;

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
