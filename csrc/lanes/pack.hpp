// A pack of sequences: one in each lane of V, time outermost.
//
// Sequences may have different lengths. A lane past the end of its own goes on with what
// it is given instead (zeros are loaded), and nothing it computes is stored. Lanes that
// no sequence is left for repeat the last one: they compute, and store, the same once
// more.
#pragma once

#include "kernels.hpp"
#include "lanes/lanes.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

template <class V>
SVAE_ALWAYS_INLINE void fill_zero(V* values,  // (size,)
                                  Index size) {
  for (Index k = 0; k < size; ++k) values[k] = broadcast<V>(0.0);
}

template <class V>
SVAE_ALWAYS_INLINE void copy(const V* from,  // (size,)
                             V* to,          // (size,)
                             Index size) {
#pragma GCC unroll 5
  for (Index k = 0; k < size; ++k) to[k] = from[k];
}

template <class V>
SVAE_ALWAYS_INLINE void add_terms(const V* term,  // (size,)
                                  V* to,          // (size,)
                                  Index size) {
#pragma GCC unroll 5
  for (Index k = 0; k < size; ++k) to[k] += term[k];
}

template <class T>
SVAE_ALWAYS_INLINE void swap(T& a, T& b) {
  const T kept = a;
  a = b;
  b = kept;
}

// The sequences first, first + 1, ... in the lanes of V.
template <class V>
struct Pack {
  Index num_timesteps = 0;  // of the longest sequence
  Index shortest;           // all lanes have the steps before this one
  Index sequence[width<V>];
  Index length[width<V>];
  V lengths;
  // Steps whose rows are the lane's own. A chunk of a longer sequence ends with the first
  // step of the next, which reads and writes the row of that step.
  Index own_steps = 0;  // of the longest
  Index own[width<V>];
  V owned;

  // the sequences are chunks of one: all but the last go on in another lane
  Pack(Index num_sequences, const Index* all_lengths,  // (N,)
       Index first, bool are_chunks)
      : Pack(num_sequences, all_lengths, first) {
    own_steps = 0;
    for (Index w = 0; w < width<V>; ++w)
      set_own(w, length[w] - (are_chunks && sequence[w] + 1 < num_sequences));
  }

  Pack(Index num_sequences, const Index* all_lengths,  // (N,)
       Index first) {
    for (Index w = 0; w < width<V>; ++w) {
      sequence[w] = first + w < num_sequences ? first + w : num_sequences - 1;
      length[w] = all_lengths[sequence[w]];
      lane(lengths, w) = double(length[w]);
      num_timesteps = max(num_timesteps, length[w]);
      shortest = w == 0 || length[w] < shortest ? length[w] : shortest;
      set_own(w, length[w]);
    }
  }

  // value where the lane has step t, `otherwise` where it has ended
  V within(Index t, V value, V otherwise) const {
    return select(lengths > broadcast<V>(double(t)), value, otherwise);
  }

  // value where t is the last step of the lane, `otherwise` at any other
  V at_last_step(Index t, V value, V otherwise) const {
    return select(lengths == broadcast<V>(double(t + 1)), value, otherwise);
  }

  // size numbers of row t, of the lanes that have step `step`; zeros for the others
  void load(const Rows<const double>& rows,  // (N, T, size)
            Index t, Index step, V* values,  // (size,)
            Index size) const {
    for (Index w = 0; w < width<V>; ++w) {
      const double* row = rows.at(sequence[w], t);
      const bool is_valid = length[w] > step;
      for (Index k = 0; k < size; ++k) lane(values[k], w) = is_valid ? row[k] : 0.0;
    }
  }

  // size numbers, `stride` apart, to row t, of the lanes that have step `step`
  void store(const V* values,                         // (size,), `stride` apart
             Index stride, const Rows<double>& rows,  // (N, T, size)
             Index t, Index step, Index size) const {
    for (Index w = 0; w < width<V>; ++w) {
      double* row = rows.at(sequence[w], t);
      if (length[w] > step)
        for (Index k = 0; k < size; ++k) row[k] = lane(values[k * stride], w);
    }
  }

  // One number for each sequence.
  V load_each(const double* values) const {  // (N,)
    V value;
    for (Index w = 0; w < width<V>; ++w) lane(value, w) = values[sequence[w]];
    return value;
  }
  template <class T>
  void store_each(V value, T* values) const {  // (N,)
    for (Index w = 0; w < width<V>; ++w)
      if (length[w] > 0) values[sequence[w]] = T(lane(value, w));
  }

 private:
  void set_own(Index w, Index steps) {
    own[w] = steps;
    lane(owned, w) = double(steps);
    own_steps = max(own_steps, steps);
  }
};

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
