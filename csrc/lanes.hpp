// A pack of doubles: one sequence in each lane.
//
// Every kernel is a template over V, which is Lanes or plain double. This header and all
// that include it are compiled once for each instruction set, into a namespace of its
// own; they use nothing of the standard library, for the linker could keep the copy of a
// shared inline function that only some machines can run.
#pragma once

#include "workspace.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

typedef double Lanes __attribute__((vector_size(SVAE_LANES * sizeof(double))));

template <class V>
constexpr Index width = Index(sizeof(V) / sizeof(double));

template <class V>
SVAE_ALWAYS_INLINE double& lane(V& values, Index w) {
  return reinterpret_cast<double*>(&values)[w];
}

template <class V>
SVAE_ALWAYS_INLINE double lane(const V& values, Index w) {
  return reinterpret_cast<const double*>(&values)[w];
}

template <class V>
SVAE_ALWAYS_INLINE V broadcast(double x) {
  return x - V{};  // exact for every x, also for -0
}

// Lane by lane: mask ? a : b
template <class Mask, class V>
SVAE_ALWAYS_INLINE V select(Mask mask, V a, V b) {
  return mask ? a : b;
}

template <class V>
SVAE_ALWAYS_INLINE V max(V a, V b) {
  return a > b ? a : b;
}

template <class V>
SVAE_ALWAYS_INLINE V sqrt(V x) {
  V root;
  for (Index w = 0; w < width<V>; ++w) lane(root, w) = __builtin_sqrt(lane(x, w));
  return root;
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
