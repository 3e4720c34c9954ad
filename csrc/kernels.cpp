// The table of the kernels for one instruction set.
#include "kernels.hpp"

#include "instances/instances.hpp"
#include "lanes/fma_peak.hpp"
#include "lanes/range.hpp"
#include "layers/layers.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {
namespace {

#define SVAE_NAME_OF(isa) #isa
#define SVAE_NAME(isa) SVAE_NAME_OF(isa)

constexpr Kernels make_table() {
  Kernels table{};
  table.isa = SVAE_NAME(SVAE_ISA_NAMESPACE);
  table.lanes = width<Lanes>;
  table.gaussian_lanes = gaussian_lanes;
  table.gaussian = {run_gaussian_chain, run_gaussian_chain_vjp, run_gaussian_elimination,
                    run_gaussian_tangents};
  table.switching = {run_switching_chain, run_switching_chain_vjp,
                     run_switching_elimination, run_switching_tangents};
  table.gaussian_edges = run_gaussian_edges;
  table.gaussian_filter = run_gaussian_filter;
  table.few_markov_chains = few_markov_chains;
  table.markov_chain = run_markov_chain;
  table.markov_edges = run_markov_edges;
  table.markov_chain_vjp = run_markov_chain_vjp;
  table.markov_filter = run_markov_filter;
  table.viterbi = run_viterbi;
  table.sample_markov_chain = run_sample_markov_chain;
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
