#include <cstring>
#include <stdexcept>
#include <string>

#include "kernels.hpp"

namespace svae {
namespace {

struct Candidate {
  const Kernels* kernels;
  bool runs_here;
};

#ifdef SVAE_HAS_AVX2
bool runs_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

#ifdef SVAE_HAS_AVX512
bool runs_avx512() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

}  // namespace

Lapack lapack{nullptr, nullptr, nullptr};

const Kernels& choose_kernels(const char* isa) {
  const Candidate candidates[] = {
#ifdef SVAE_HAS_AVX512
      {&avx512::kernels, runs_avx512()},
#endif
#ifdef SVAE_HAS_AVX2
      {&avx2::kernels, runs_avx2()},
#endif
      {&generic::kernels, true},
  };
  std::string choices;
  for (const Candidate& candidate : candidates) {
    if (!candidate.runs_here) continue;
    if (!isa || std::strcmp(isa, candidate.kernels->isa) == 0) return *candidate.kernels;
    choices += std::string(choices.empty() ? "" : ", ") + candidate.kernels->isa;
  }
  throw std::runtime_error("SVAE_ISA=" + std::string(isa) +
                           " is not among the instruction sets that this build of svae "
                           "has and this machine runs: " +
                           choices);
}

}  // namespace svae
