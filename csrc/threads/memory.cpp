#include "threads/memory.hpp"

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <cstdlib>
#include <deque>
#include <iterator>
#include <mutex>
#include <new>

namespace svae {

struct alignas(64) Workspace::Block {
  Block* older;
  Index capacity;  // bytes that follow
};

namespace {

constexpr std::size_t kAlignment = 64;  // of a cache line, and of the widest lanes
constexpr std::size_t kHugePage = std::size_t(2) << 20;
constexpr Index kKeptBytes = Index(256) << 20;

// Memory of arrays that are gone, for others of the same size.
class Recycling {
 public:
  void* take(std::size_t bytes) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      for (auto block = kept_.rbegin(); block != kept_.rend(); ++block) {
        if (block->bytes != bytes) continue;
        void* memory = block->memory;
        kept_bytes_ -= bytes;
        kept_.erase(std::next(block).base());
        return memory;
      }
    }
    return allocate(bytes);
  }

  void give_back(void* memory, std::size_t bytes) {
    if (bytes < kSmallestKept || bytes > kMostKept) return std::free(memory);
    std::lock_guard<std::mutex> lock(mutex_);
    kept_.push_back({memory, bytes});
    kept_bytes_ += bytes;
    while (kept_bytes_ > kMostKept) {
      std::free(kept_.front().memory);
      kept_bytes_ -= kept_.front().bytes;
      kept_.pop_front();
    }
  }

 private:
  static constexpr std::size_t kSmallestKept = std::size_t(1) << 16;
  static constexpr std::size_t kMostKept = std::size_t(128) << 20;
  struct Kept {
    void* memory;
    std::size_t bytes;
  };
  std::mutex mutex_;
  std::deque<Kept> kept_;  // the oldest first
  std::size_t kept_bytes_ = 0;
};

// Never destroyed: arrays may outlive everything else.
Recycling& recycling() {
  static Recycling* const all = new Recycling;
  return *all;
}

}  // namespace

void* allocate(std::size_t bytes) {
  const std::size_t alignment = bytes < kHugePage ? kAlignment : kHugePage;
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, bytes + 1)) throw std::bad_alloc();
#ifdef __linux__
  if (alignment == kHugePage)
    madvise(memory, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  return memory;
}

void* take_recycled(std::size_t bytes) { return recycling().take(bytes); }
void give_back(void* memory, std::size_t bytes) { recycling().give_back(memory, bytes); }

Workspace::~Workspace() { release(); }

void Workspace::reset() {
  // One block instead of many, so that the next pack runs through memory in order.
  if (newest_ && newest_->older) {
    const Index capacity = capacity_;
    release();
    add_block(capacity);
  }
  used_ = 0;
}

void Workspace::trim() {
  if (capacity_ > kKeptBytes) release();
}

void* Workspace::take_bytes(Index bytes) {
  const Index alignment = Index(kAlignment);
  bytes = (bytes + alignment - 1) / alignment * alignment;
  if (!newest_ || used_ + bytes > newest_->capacity)
    add_block(bytes > capacity_ ? bytes : capacity_);
  char* memory = reinterpret_cast<char*>(newest_) + sizeof(Block) + used_;
  used_ += bytes;
  return memory;
}

void Workspace::add_block(Index capacity) {
  void* memory = allocate(sizeof(Block) + std::size_t(capacity));
  newest_ = new (memory) Block{newest_, capacity};
  capacity_ += capacity;
  used_ = 0;
}

void Workspace::release() {
  while (newest_) {
    Block* older = newest_->older;
    std::free(newest_);
    newest_ = older;
  }
  capacity_ = used_ = 0;
}

}  // namespace svae
