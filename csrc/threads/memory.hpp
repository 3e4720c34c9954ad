// Memory: aligned, recycled from one call to the next, and the scratch of a worker
// thread.
#pragma once

#include <cstddef>

#define SVAE_INLINE __attribute__((always_inline))  // of a lambda
#define SVAE_ALWAYS_INLINE inline __attribute__((always_inline))
#define SVAE_NO_INLINE __attribute__((noinline))

namespace svae {

using Index = std::ptrdiff_t;

// Memory to be freed by std::free. It starts with a line of the cache, so that no row of
// lanes is split between two; much of it is in few large pages, for the first touch of a
// page is dear. Throws std::bad_alloc.
void* allocate(std::size_t bytes);

// The same, perhaps of what was given back: a step of training wants the arrays that the
// one before had, and fresh pages cost more than a pass over them. Some of what is given
// back is kept, for requests of the same size.
void* take_recycled(std::size_t bytes);
void give_back(void* memory, std::size_t bytes);

// Hands out memory that stays valid, and uninitialised, until the next reset(). It keeps
// what it has for the next pack, since touching fresh pages costs more than the algebra.
class Workspace {
 public:
  Workspace() = default;
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  template <class T>
  SVAE_ALWAYS_INLINE T* take(Index count) {
    return static_cast<T*>(take_bytes(count * Index(sizeof(T))));
  }
  void reset();  // everything taken is free again
  void trim();   // gives back what is too much to keep while idle

 private:
  struct Block;
  void* take_bytes(Index bytes);
  void add_block(Index capacity);
  void release();

  Block* newest_ = nullptr;
  Index used_ = 0;      // bytes of the newest block
  Index capacity_ = 0;  // bytes of all blocks
};

}  // namespace svae
