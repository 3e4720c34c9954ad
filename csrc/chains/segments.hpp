// Time in segments, so that memory does not grow with the length of a chain: the one way
// up and back of both chains.
//
// The way back needs what the way up has computed. That is kept of all steps if it is
// little enough; otherwise of one segment at a time, and the way up is gone once more
// from the state in which it entered the segment. The arithmetic is the same, digit by
// digit.
#pragma once

#include "lanes/stream.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

enum class Pass { first, again };

// How many bytes are kept: all of a chain if it takes at most `whole`, else a segment of
// about `segment`.
struct Budget {
  Index whole, segment;
};

// Segments begin at multiples of so many steps: a writer on the way up stores no step of
// another segment (stream.hpp), and a block of sums over pairs is within one.
constexpr Index kStepsOfSum = 64;
static_assert(kStepsOfSum % kStepsOfBlock == 0, "whole blocks of a writer");

struct Segments {
  Index num_timesteps, length;

  // all in one
  explicit Segments(Index num_timesteps)
      : num_timesteps(num_timesteps), length(num_timesteps) {}

  Segments(Index num_timesteps, Index bytes_per_step, Budget budget)
      : num_timesteps(num_timesteps), length(num_timesteps) {
    if (num_timesteps * bytes_per_step <= budget.whole) return;
    length = budget.segment / bytes_per_step / kStepsOfSum * kStepsOfSum;
    if (length < kStepsOfSum) length = kStepsOfSum;
    if (length > num_timesteps) length = num_timesteps;
  }

  Index count() const { return (num_timesteps + length - 1) / length; }
};

// Calls up(t, pass) for all steps, turn(), then down(t) for all steps from the last;
// before that, up(t, Pass::again) for the steps of a segment that are kept no longer.
template <class Up, class Turn, class Down>
SVAE_ALWAYS_INLINE void there_and_back(const Segments& segments, const Up& up,
                                       const Turn& turn, const Down& down) {
  const Index T = segments.num_timesteps, length = segments.length;
  for (Index t = 0; t < T; ++t) up(t, Pass::first);
  turn();
  Index end = T;
  for (Index begin = (segments.count() - 1) * length; begin >= 0; begin -= length) {
    for (Index t = begin; end < T && t < end; ++t) up(t, Pass::again);
    for (Index t = end - 1; t >= begin; --t) down(t);
    end = begin;
  }
}

// The rows that are kept of the steps of one segment, one after the other, `stride`
// numbers apart. Where the first step of a segment is about to be filled, the last row is
// still that of the step before.
template <class V>
class KeptSteps {
 public:
  KeptSteps(const Segments& segments, Index stride, Workspace& workspace)
      : length_(segments.length),
        stride_(stride),
        kept_(workspace.take<V>(segments.length * stride)) {}

  // (stride,)
  SVAE_ALWAYS_INLINE V* at(Index t) const {
    return kept_ + (t < length_ ? t : t % length_) * stride_;
  }
  V* last() const { return at(length_ - 1); }
  Index stride() const { return stride_; }

 private:
  Index length_, stride_;
  V* kept_;
};

// The state in which the way up enters each segment.
template <class V>
class Checkpoints {
 public:
  Checkpoints(const Segments& segments,
              V* state,  // (size,)
              Index size, Workspace& workspace)
      : segments_(segments), state_(state), size_(size) {
    if (segments.count() > 1) saved_ = workspace.take<V>(segments.count() * size);
  }

  // Saves the state before step t if a segment begins there, or brings it back.
  SVAE_ALWAYS_INLINE void pass(Index t, Pass pass) const {
    if (!saved_ || t % segments_.length != 0) return;
    V* saved = saved_ + t / segments_.length * size_;
    for (Index k = 0; k < size_; ++k)
      if (pass == Pass::first)
        saved[k] = state_[k];
      else
        state_[k] = saved[k];
  }

 private:
  Segments segments_;
  V* state_;
  Index size_;
  V* saved_ = nullptr;
};

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
