// The contract of bindings and kernels: plain data, and a table of functions for each
// instruction set that the core was compiled for. N sequences or points, T steps, S
// samples; D latent dimensions, K states.
#pragma once

#include "threads/memory.hpp"

namespace svae {

// A row or a matrix of each sequence and step, contiguous in itself, at any stride
// (zero: shared).
template <class T>
struct Rows {
  T* data;
  Index sequence_stride;
  Index time_stride;
  SVAE_ALWAYS_INLINE T* at(Index n, Index t) const {
    return data + n * sequence_stride + t * time_stride;
  }
};

template <class T>
struct GaussianNodes {     // potentials, statistics, or the cotangents of either
  Rows<T> init_J, init_h;  // (N, D, D), (N, D)
  Rows<T> node_J, node_h;  // (N, T, D, D) or (N, T, D); (N, T, D)
};

template <class T>
struct GaussianArrays : GaussianNodes<T> {
  Rows<T> J11, J12, J22;  // (N, 1|T-1, D, D)
};

// Hands values of chunks of a sequence on, from the last to the first, between packs that
// different threads may have.
struct Relay {
  virtual void wait_for(Index chunk) = 0;  // for the values of that chunk
  virtual void hand_on(Index chunk) = 0;   // those of that chunk are there

 protected:
  ~Relay() = default;
};

// The chain of the edges between chunks of long sequences: the first step of each. Rows
// of a J are -1/2 of a precision or covariance. With a single sequence, whose chunks are
// taken as sequences themselves, the axes N and C are one, C.
struct GaussianEdges {
  Rows<double> prior_J, prior_h;  // given the steps before, (N, C, D, D), (N, C, D)
  Rows<double> cov_J, mean;       // given all steps, (N, C, D, D), (N, C, D)
  Rows<double> G, mean_at_zero;   // of x given x': G x' + that, (N, C, D, D), (N, C, D)
  Rows<double> samples;           // (C, S, D) of one sequence
  Relay* relay;                   // of the samples
};

// A Gaussian chain: its potentials, and how many samples of what noise.
template <class Potentials>
struct ChainProblem {
  Index num_sequences, latent_dim, num_samples;
  bool dense_nodes;
  const Index* lengths;  // (N,)
  Potentials potentials;
  Rows<const double> noise;  // (N, S, T, D), the axis S in place of time
  // The sequences are chunks of one, each of which ends with the first step of the next.
  // Else null.
  const GaussianEdges* edges;
};

// What the steps between edges say of them: potentials of the chain of edges.
struct GaussianElimination {
  Rows<double> node_J, node_h;  // (C, D, D), (C, D)
  Rows<double> J12, J22;        // (C, D, D), of a chunk's edge and the next
  Rows<double> next_h;          // (C, D), of the next edge
  Index* failed_step;           // (C,), -1: none
};

template <class Statistics>
struct ChainResult {
  double* log_normalizer;  // (N,)
  Statistics stats;
  Rows<double> samples;  // as the noise
  Index* failed_step;    // (N,), -1: none
};

// What an adjoint carries over the edges of one sequence, up and down.
struct GaussianEdgeAdjoint {
  // Up, into the chunks from below and out of them above. The tangents of A_p and h_p
  // that enter are initial potentials in the cotangents of statistics.
  Rows<const double> lam;                 // (C, S, D)
  Rows<double> next_J, next_h, next_lam;  // (C, D, D), (C, D), (C, S, D)
  // Down, at the edges (gaussian_chain_vjp.hpp)
  Rows<double> Q, dm, hb;  // (C + 1, D, D), (C + 1, D), (C + 1, D)
  Relay* relay;            // of these
};

template <class StatisticsBar, class PotentialsBar>
struct ChainAdjoint {
  StatisticsBar stats_bar;
  Rows<const double> samples_bar;  // as the noise
  PotentialsBar potentials_bar;
  Rows<double> noise_bar;
  Index* failed_step;                // (N,), -1: none
  const GaussianEdgeAdjoint* edges;  // of chunks, else null
};

struct GaussianProblem : ChainProblem<GaussianArrays<const double>> {
  bool J11_is_shared, J12_is_shared, J22_is_shared;  // over time: an axis of length 1
};
using GaussianResult = ChainResult<GaussianArrays<double>>;
using GaussianAdjoint =
    ChainAdjoint<GaussianArrays<const double>, GaussianArrays<double>>;

// Rows of the parameters of K states, each J11, J12, J22 (D, D) and, of affine pairs, h1
// and h2 (D,), with weights of these states at every pair.
struct StateRows {
  Rows<const double> weights;  // (N, T-1, K)
  const double* rows;          // (K, 3 D D) or (K, 3 D D + 2 D); null: none
};

struct SwitchingTerms : GaussianNodes<const double> {
  StateRows pairs[2];  // the pair t has the sum of both, weights_tk rows_k summed over k
};

// What is made of the statistics of pairs, or of the cotangents of their potentials.
struct SwitchingOutputs : GaussianNodes<double> {
  StateRows by;           // their products with the rows, their sums with the weights
  StateRows also_by;      // in an adjoint: the same of the statistics, added
  Rows<double> of_pair;   // (N, T-1, K), the products
  Rows<double> of_state;  // (N, K F), the sums of the features of rows; null: unwanted
};

struct SwitchingProblem : ChainProblem<SwitchingTerms> {
  Index num_states;
  bool is_affine;
};
using SwitchingResult = ChainResult<SwitchingOutputs>;
using SwitchingAdjoint = ChainAdjoint<SwitchingTerms, SwitchingOutputs>;

struct GaussianPrefixes {
  Rows<double> log_normalizer, mean, cov;  // (N, T, 1), (N, T, D), (N, T, D, D)
};

struct GaussianFiltering {
  GaussianPrefixes filtered, predicted;
  Index* failed_step;  // (N,), -1: none
  // What the steps of a chunk add to the log normalizers after it, (N,); else null. Those
  // of its own steps leave out what the chunks before it add.
  double* of_chunk;
};

template <class T>
struct MarkovArrays {  // potentials, statistics, or the cotangents of either
  Rows<T> init;        // (N, K)
  Rows<T> pair;        // (N, 1|T-1, K, K)
  Rows<T> node;        // (N, T, K)
};

struct MarkovProblem {
  Index num_sequences, num_states;
  bool pair_is_shared;   // over time: its time axis has length 1
  const Index* lengths;  // (N,)
  MarkovArrays<const double> potentials;
  Rows<const double> end;  // (N, K), for the last node; null of all but chunks
};

struct MarkovResult {
  double* log_normalizer;  // (N,)
  MarkovArrays<double> stats;
  Index* failed_step;  // (N,), -1: none; of a chunk also where doubles are too narrow
};

struct MarkovEdges {
  Index first, distance, count;  // steps whose messages are wanted
  Rows<double> messages;         // (edges, K) of a single sequence
  double* log_normalizer;
  bool* is_in_range;
};

struct MarkovAdjoint {
  MarkovArrays<const double> stats_bar;
  MarkovArrays<double> potentials_bar;
  Index* failed_step;  // (N,), -1: none
};

struct MarkovPrefixes {
  Rows<double> log_normalizer, probabilities;  // (N, T, 1), (N, T, K)
};

struct MarkovFiltering {
  MarkovPrefixes filtered, predicted;
  Index* failed_step;  // (N,), -1: none
};

struct MarkovDecoding {
  Rows<Index> paths;   // (N, T), without an axis of time: a path is one row
  double* log_weight;  // (N,)
  Index* failed_step;  // (N,), -1: none
};

struct MarkovSampling {
  Index num_samples;
  Rows<const double> uniforms;  // (N, S, T), the axis S in place of time
  Rows<Index> paths;            // as the uniforms
  Index* failed_step;           // (N,), -1: none
};

// Functions of one number that networks use.
enum class Activation { kExp, kLog, kTanh, kLogistic, kSoftplus };

// A hidden layer, unit by unit: arrays (N, num_rows), contiguous.
struct TanhLayer {
  Index num_rows;
  double* values;      // inputs times matrix; tanh of that plus bias
  const double* bias;  // (N,)
};

struct TanhLayerAdjoint {
  Index num_rows;
  const double *outputs, *outputs_bar;
  double* inputs_bar;
  double* bias_bar;  // (N,)
};

// Arrays (R, num_columns), contiguous.
struct GaussianHead {
  Index num_columns, num_samples, num_timesteps;
  bool logistic_mean;
  double *location, *scale;                  // products; their slopes
  double* variance_slope;                    // with a floor, else null
  const double *location_bias, *scale_bias;  // (P,)
  const double* offset;                      // added to the location, or null
  const double* floor;                       // (P,), or null
  const double* data;                        // row (n S + s) T + t has the datum n T + t
  const bool* observed;                      // as the data, or null
  double* log_density;                       // (R,)
};

struct AdamStep {
  double mean_decay, square_decay, rate, epsilon;
  const double *vector, *gradient, *mean, *square;
  double *new_vector, *new_mean, *new_square;
};

struct MixtureProblem {
  Index num_points, num_states, latent_dim, num_samples;
  const Index* lengths;        // (N,), ones
  const double* observed;      // (N,), 0 of a point without data, else 1; null: all 1
  Rows<const double> init;     // (N, K)
  const double* components;    // (K, D D + D), J and h
  const double* constants;     // (K,)
  const double* offsets;       // (K,), added to the evidence; null: none
  Index num_nodes;             // Q of a quadrature over degrees of freedom; 0: Gaussian
  const double* dofs;          // (K, Q)
  const double* node_weights;  // (Q,)
  bool dense_nodes;            // of the points
  Rows<const double> node_J, node_h;  // (N, D, D) or (N, D); (N, D)
  Rows<const double> noise;           // (N, S, D), the axis S in place of time
};

struct MixtureAscent {
  double tolerance;
  Index max_iterations;
  bool from_data, from_prior;  // whether to start there
  Index num_starts;
  Rows<const double> starts;  // (N, R, K), the axis R in place of time
};

struct MixtureResult {
  Rows<double> fixed;  // (N, K)
  double *iterations, *residual;
  double *log_normalizer, *evidence, *half_log_det;  // (N,)
  Rows<double> second_moment, mean;                  // (N, D, D), (N, D)
  Rows<double> states, potentials;                   // (N, K)
  Rows<double> samples;                              // as the noise
  Index *improper_step, *impossible_step;            // (N,), -1: none
};

struct MixtureAdjoint {
  double tolerance;  // of the linear system, and how long to iterate
  Index max_iterations;
  Rows<const double> fixed;                                      // (N, K)
  const double *log_normalizer_bar, *evidence_bar;               // (N,)
  Rows<const double> second_moment_bar, mean_bar;                // (N, D, D), (N, D)
  Rows<const double> states_bar, potentials_bar;                 // (N, K)
  Rows<const double> samples_bar;                                // as the noise
  Rows<double> init_bar, constants_bar, component_evidence_bar;  // (N, K)
  Rows<double> J_bar, h_bar;                                     // (N, D, D), (N, D)
  Rows<double> dofs_bar;                                         // (N, K Q)
  Rows<double> noise_bar;                                        // as the noise
  double *iterations, *residual;                                 // (N,)
};

struct MixtureEvidence {
  Rows<const double> statistics;     // (N, K); null: of every component alone
  Rows<double> evidence;             // (N, K)
  Rows<double> second_moment, mean;  // (N, D, D), (N, D), given statistics
  Index* improper_step;              // (N,), -1: none
};

struct MixtureEvidenceAdjoint {
  Rows<const double> statistics, evidence_bar;  // (N, K)
  Rows<double> statistics_bar;                  // (N, K)
  Rows<double> J_bar, h_bar;                    // (N, D, D), (N, D)
};

// Those of one kind of Gaussian chain.
template <class Problem, class Result, class Adjoint>
struct GaussianKernels {
  void (*chain)(const Problem&, const Result&, Index first, Workspace&);
  void (*vjp)(const Problem&, const Adjoint&, Index first, Workspace&);
  // of chunks (chains/gaussian_chunks.hpp)
  void (*elimination)(const Problem&, const GaussianElimination&, Index first,
                      Workspace&);
  void (*tangents)(const Problem&, const Adjoint&, Index first, Workspace&);
};

// The kernels for one instruction set. Each of a chain or mixture computes one pack: the
// sequences first, first + 1, ..., as many as there are lanes. Outputs past the length of
// a sequence are left as they are.
struct Kernels {
  const char* isa;
  Index lanes;  // but for a Gaussian chain:
  Index (*gaussian_lanes)(Index latent_dim);
  // so many or fewer that are left are a pack each
  Index (*few_markov_chains)(Index num_states);

  GaussianKernels<GaussianProblem, GaussianResult, GaussianAdjoint> gaussian;
  GaussianKernels<SwitchingProblem, SwitchingResult, SwitchingAdjoint> switching;
  void (*gaussian_edges)(const GaussianProblem&, const GaussianEdges&, Index* failed_step,
                         Index first, Workspace&);
  void (*gaussian_filter)(const GaussianProblem&, const GaussianFiltering&, Index first,
                          Workspace&);
  void (*markov_chain)(const MarkovProblem&, const MarkovResult&, Index first,
                       Workspace&);
  void (*markov_edges)(const MarkovProblem&, const MarkovEdges&, Index n, Workspace&);
  void (*markov_chain_vjp)(const MarkovProblem&, const MarkovAdjoint&, Index first,
                           Workspace&);
  void (*markov_filter)(const MarkovProblem&, const MarkovFiltering&, Index first,
                        Workspace&);
  void (*viterbi)(const MarkovProblem&, const MarkovDecoding&, Index first, Workspace&);
  void (*sample_markov_chain)(const MarkovProblem&, const MarkovSampling&, Index first,
                              Workspace&);

  void (*mixture)(const MixtureProblem&, const MixtureAscent&, const MixtureResult&,
                  Index first, Workspace&);
  void (*mixture_vjp)(const MixtureProblem&, const MixtureAdjoint&, Index first,
                      Workspace&);
  void (*mixture_evidence)(const MixtureProblem&, const MixtureEvidence&, Index first,
                           Workspace&);
  void (*mixture_evidence_vjp)(const MixtureProblem&, const MixtureEvidenceAdjoint&,
                               Index first, Workspace&);

  bool (*are_within)(const void* numbers, Index count, double limit, double other);
  void (*activate)(Activation,
                   const double* inputs,  // (count,)
                   double* outputs,       // (count,)
                   Index count);
  // These take the units, rows or entries first, ..., last - 1.
  void (*tanh_layer)(const TanhLayer&, Index first, Index last);
  void (*tanh_layer_vjp)(const TanhLayerAdjoint&, Index first, Index last);
  void (*gaussian_head)(const GaussianHead&, Index first, Index last);
  bool (*adam)(const AdamStep&, Index first, Index last);  // whether all are finite
  Index (*multiply_add)(double a, double b, Index rounds, double* sum);  // fma_peak.hpp
};

namespace generic {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}

// The kernels of the fastest instruction set here, or of the one named by `isa` unless
// that is null. Throws std::runtime_error for a name that is unknown or cannot run here.
const Kernels& choose_kernels(const char* isa);

// BLAS and LAPACK in Fortran's calling convention, for large matrices; null until given.
struct Lapack {
  void (*dgemm)(char* transa, char* transb, int* m, int* n, int* k, double* alpha,
                double* a, int* lda, double* b, int* ldb, double* beta, double* c,
                int* ldc);
  void (*dtrsm)(char* side, char* uplo, char* trans, char* diag, int* m, int* n,
                double* alpha, double* a, int* lda, double* b, int* ldb);
  void (*dpotrf)(char* uplo, int* n, double* a, int* lda, int* info);
};
extern Lapack lapack;

}  // namespace svae
