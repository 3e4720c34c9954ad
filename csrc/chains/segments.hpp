// Time in segments, so that memory does not grow with the length of a chain.
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

struct Segments {
  static constexpr Index kWholeBytes = Index(128) << 20;
  static constexpr Index kSegmentBytes = Index(32) << 20;
  static constexpr Index kShortest = 8 * kStepsOfBlock;

  Index num_timesteps, length;

  Segments(Index num_timesteps, Index bytes_per_step)
      : num_timesteps(num_timesteps), length(num_timesteps) {
    if (num_timesteps * bytes_per_step <= kWholeBytes) return;
    // Whole blocks of steps: a writer on the way up stores no step of another segment.
    length = kSegmentBytes / bytes_per_step / kStepsOfBlock * kStepsOfBlock;
    if (length < kShortest) length = kShortest;
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

// What is kept of the steps of one segment, `size` numbers of each.
template <class V>
class KeptSteps {
 public:
  KeptSteps(const Segments& segments, Index size, Workspace& workspace)
      : length_(segments.length),
        size_(size),
        kept_(workspace.take<V>(segments.length * size)) {}

  SVAE_ALWAYS_INLINE V* at(Index t) const { return kept_ + t % length_ * size_; }

 private:
  Index length_, size_;
  V* kept_;
};

// The state in which the way up enters each segment.
template <class V>
class Checkpoints {
 public:
  Checkpoints(const Segments& segments, V* state, Index size, Workspace& workspace)
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
