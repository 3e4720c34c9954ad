// What the core lends to extensions of other frameworks: its chains, as a table of plain
// functions. `svae._core.chain_calls()` is a capsule around a pointer to the table. An
// extension needs this header alone, and neither Python nor the sources of the core.
//
// The functions need no lock of Python's and throw nothing. They may be called by several
// threads at the same time; the first to come has the core's own threads.
#pragma once

#include <cstddef>

namespace svae_chains {

using Index = std::ptrdiff_t;

constexpr Index kVersion = 1;  // of everything below
constexpr const char* kCapsule = "svae.chain_calls";

// A row for each sequence and step, contiguous in itself; strides count numbers and are
// zero where the row is shared.
struct Rows {
  double* data;
  Index sequence_stride, step_stride;
};

struct Failure {
  enum Kind {
    kNone,
    kNotPositiveDefinite,
    kImpossible,
    kNotANumber,
    kOverflow,
    kNoMemory,
    kOther,
  };
  Kind kind;
  Index sequence, step;
  Index input;  // which one is not a number
};

// Of N sequences, T steps, D dimensions and S samples. Of inputs and outputs the first
// seven belong to the potentials: init J (N, D, D), init h (N, D); J11, J12, J22
// (N, 1|T-1, D, D); node J (N, T, D) or (N, T, D, D), node h (N, T, D). The last belongs
// to noise and samples (N, S, T, D), with the axis S in the place of steps.
struct Gaussian {
  static constexpr int kNumInputs = 8, kNumPotentials = 7;
  Index num_sequences, num_timesteps, latent_dim, num_samples;
  bool dense_nodes;
  bool pair_is_shared[3];  // over time
  const Index* lengths;    // (N,), 1 to T; what is past them stays as it is
  Rows inputs[kNumInputs];
  Rows outputs_bar[kNumInputs];  // of an adjoint
  double* log_normalizer;        // (N,), of no adjoint
  Rows outputs[kNumInputs];      // statistics and samples; or cotangents of the inputs
};

// Of N sequences, T steps and K states: init (N, K), pair (N, 1|T-1, K, K), node
// (N, T, K).
struct Markov {
  static constexpr int kNumInputs = 3, kNumPotentials = 3;
  Index num_sequences, num_timesteps, num_states;
  bool pair_is_shared;
  const Index* lengths;
  Rows inputs[kNumInputs];
  Rows outputs_bar[kNumInputs];
  double* log_normalizer;  // (N,); of the most likely paths their log probability
  Rows outputs[kNumInputs];
  // Of paths: (N, T), or (N, S, T) with the axis S in the place of steps
  Index num_samples;
  Rows uniforms;
  Index* paths;
  Index path_sequence_stride, path_sample_stride;
};

struct ChainCalls {
  Index version;
  Failure (*gaussian_chain)(const Gaussian&);
  Failure (*gaussian_chain_vjp)(const Gaussian&);
  Failure (*markov_chain)(const Markov&);
  Failure (*markov_chain_vjp)(const Markov&);
  Failure (*viterbi)(const Markov&);
  Failure (*sample_markov_chain)(const Markov&);
};

}  // namespace svae_chains
