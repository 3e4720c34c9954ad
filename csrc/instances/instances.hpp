// The kernels of one instruction set, as the table of kernels.cpp has them. Each file of
// this folder is compiled once for each set, all of them at the same time.
#pragma once

#include "kernels.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

Index gaussian_lanes(Index latent_dim);
void run_gaussian_chain(const GaussianProblem& problem, const GaussianResult& result,
                        Index first, Workspace& workspace);
void run_gaussian_chain_vjp(const GaussianProblem& problem,
                            const GaussianAdjoint& adjoint, Index first,
                            Workspace& workspace);
void run_gaussian_elimination(const GaussianProblem& problem,
                              const GaussianElimination& result, Index first,
                              Workspace& workspace);
void run_gaussian_tangents(const GaussianProblem& problem, const GaussianAdjoint& adjoint,
                           Index first, Workspace& workspace);
void run_gaussian_edges(const GaussianProblem& problem, const GaussianEdges& edges,
                        Index* failed_step, Index first, Workspace& workspace);
void run_gaussian_filter(const GaussianProblem& problem, const GaussianFiltering& result,
                         Index first, Workspace& workspace);
void run_switching_chain(const SwitchingProblem& problem, const SwitchingResult& result,
                         Index first, Workspace& workspace);
void run_switching_chain_vjp(const SwitchingProblem& problem,
                             const SwitchingAdjoint& adjoint, Index first,
                             Workspace& workspace);
void run_switching_elimination(const SwitchingProblem& problem,
                               const GaussianElimination& result, Index first,
                               Workspace& workspace);
void run_switching_tangents(const SwitchingProblem& problem,
                            const SwitchingAdjoint& adjoint, Index first,
                            Workspace& workspace);
Index few_markov_chains(Index num_states);
void run_markov_chain(const MarkovProblem& problem, const MarkovResult& outputs,
                      Index first, Workspace& workspace);
void run_markov_chain_vjp(const MarkovProblem& problem, const MarkovAdjoint& outputs,
                          Index first, Workspace& workspace);
void run_markov_filter(const MarkovProblem& problem, const MarkovFiltering& outputs,
                       Index first, Workspace& workspace);
void run_viterbi(const MarkovProblem& problem, const MarkovDecoding& outputs, Index first,
                 Workspace& workspace);
void run_sample_markov_chain(const MarkovProblem& problem, const MarkovSampling& outputs,
                             Index first, Workspace& workspace);
void run_markov_edges(const MarkovProblem& problem, const MarkovEdges& edges, Index n,
                      Workspace& workspace);
void run_mixture(const MixtureProblem& problem, const MixtureAscent& how,
                 const MixtureResult& result, Index first, Workspace& workspace);
void run_mixture_vjp(const MixtureProblem& problem, const MixtureAdjoint& adjoint,
                     Index first, Workspace& workspace);
void run_mixture_evidence(const MixtureProblem& problem, const MixtureEvidence& result,
                          Index first, Workspace& workspace);
void run_mixture_evidence_vjp(const MixtureProblem& problem,
                              const MixtureEvidenceAdjoint& adjoint, Index first,
                              Workspace& workspace);

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
