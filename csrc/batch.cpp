#include "batch.hpp"

#include <unistd.h>
#ifdef __linux__
#include <sched.h>
#include <sys/mman.h>
#endif

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <exception>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace svae {

struct alignas(64) Workspace::Block {
  Block* older;
  Index capacity;  // bytes that follow
};

namespace {

constexpr std::size_t kAlignment = 64;  // of a cache line, and of the widest lanes
constexpr std::size_t kHugePage = std::size_t(2) << 20;
constexpr Index kKeptBytes = Index(256) << 20;
constexpr double kWorkOfThread = 3e5;  // operations: some ten times what waking one costs

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

thread_local Workspace workspace_of_this_thread;

// The indices of one call; any number of threads may work on it.
class Job {
 public:
  Job(Index count, const std::function<void(Index, Workspace&)>& task)
      : count_(count), task_(task) {}

  void work() {
    try {
      for (Index i; (i = next_++) < count_;) {
        workspace_of_this_thread.reset();
        task_(i, workspace_of_this_thread);
      }
    } catch (...) {
      next_ = count_;
      std::lock_guard<std::mutex> lock(mutex_);
      error_ = std::current_exception();
    }
    workspace_of_this_thread.trim();
  }

  void rethrow() {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  const Index count_;
  const std::function<void(Index, Workspace&)>& task_;
  std::atomic<Index> next_{0};
  std::mutex mutex_;
  std::exception_ptr error_;
};

// Where threads may run on several CPUs, a scheduler that sees no cache which these share
// wakes a helper on the CPU of the thread that wakes it, and leaves both there for
// milliseconds while another is idle: longer than most calls take.
int current_cpu() {
#ifdef __linux__
  return sched_getcpu();
#else
  return -1;
#endif
}

void leave_cpu([[maybe_unused]] int cpu) {
#ifdef __linux__
  if (cpu < 0 || sched_getcpu() != cpu) return;
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed)) return;
  cpu_set_t others = allowed;
  CPU_CLR(cpu, &others);
  if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof others, &others)) return;
  sched_setaffinity(0, sizeof allowed, &allowed);
#endif
}

class Pool {
 public:
  // The calling thread and as many helpers, or as many as there can be; alone if another
  // call has the pool.
  void run(Job& job, Index num_helpers) {
    std::unique_lock<std::mutex> mine(in_use_, std::try_to_lock);
    if (!mine || num_helpers < 1) return job.work();
    {
      std::lock_guard<std::mutex> lock(mutex_);
      job_ = &job;
      caller_cpu_ = current_cpu();
      num_helpers_ = num_working_ = hire(num_helpers);
      ++call_;
    }
    wake_.notify_all();
    job.work();
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return num_working_ == 0; });
  }

  // Lets those beyond the first `count` helpers go.
  void keep_at_most(Index count) {
    std::lock_guard<std::mutex> mine(in_use_);
    std::vector<std::thread> leaving;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      for (; Index(threads_.size()) > count; threads_.pop_back())
        leaving.push_back(std::move(threads_.back()));
      num_helpers_ = 0;
      ++call_;
    }
    wake_.notify_all();
    for (std::thread& thread : leaving) thread.join();
  }

 private:
  // Returns how many of so many helpers there are: a system may refuse more threads, and
  // no result depends on their number.
  Index hire(Index count) {
    try {
      while (Index(threads_.size()) < count) {
        const Index index = Index(threads_.size());
        threads_.emplace_back([this, index, seen = call_] { help(index, seen); });
      }
    } catch (const std::system_error&) {
    }
    return std::min(count, Index(threads_.size()));
  }

  void help(Index index, unsigned long seen) {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return call_ != seen; });
      seen = call_;
      if (index >= Index(threads_.size())) return;
      if (index >= num_helpers_) continue;
      const int caller_cpu = caller_cpu_;
      lock.unlock();
      leave_cpu(caller_cpu);
      job_->work();
      lock.lock();
      if (--num_working_ == 0) done_.notify_one();
    }
  }

  std::mutex in_use_;
  std::mutex mutex_;  // of all below
  std::condition_variable wake_, done_;
  std::vector<std::thread> threads_;
  Job* job_ = nullptr;
  int caller_cpu_ = -1;
  Index num_helpers_ = 0, num_working_ = 0;
  unsigned long call_ = 0;
};

// Never destroyed: its threads wait for work until the process ends, and after a fork the
// parent's pool, whose threads the child does not have, can be neither used nor joined.
Pool* pool = nullptr;
pid_t owner = 0;

int default_num_threads() {
  const unsigned count = std::thread::hardware_concurrency();
  return int(std::min<unsigned>(std::max(count, 1u), kMostThreads));
}

std::atomic<int> num_threads{default_num_threads()};

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

void set_num_threads(int count) {
  num_threads = count;
  if (pool && owner == getpid()) pool->keep_at_most(count - 1);
}
int get_num_threads() { return num_threads; }

void prepare_threads() {
  if (pool && owner == getpid()) return;
  pool = new Pool;
  owner = getpid();
}

void run_parallel(Index count, double work,
                  const std::function<void(Index, Workspace&)>& task) {
  Job job(count, task);
  const Index worth = Index(double(count) * work / kWorkOfThread) + 1;
  const Index limit = std::min<Index>({count, num_threads.load(), worth});
  pool->run(job, limit - 1);
  job.rethrow();
}

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
