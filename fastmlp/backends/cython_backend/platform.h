/* What the engine asks of the operating system: threads, a clock and aligned memory. */
#ifndef FASTMLP_PLATFORM_H
#define FASTMLP_PLATFORM_H

#include <stddef.h>

#ifdef _WIN32

#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#include <malloc.h>
#include <process.h>

typedef HANDLE thread_handle;
typedef unsigned thread_result;
#define THREAD_CALL __stdcall

/* Return nonzero if the system refuses. */
static inline int create_thread(thread_handle *made, thread_result (THREAD_CALL *main)(void *),
                                void *argument)
{
    *made = (HANDLE)_beginthreadex(NULL, 0, main, argument, 0, NULL);
    return *made == NULL;
}

static inline void join_thread(thread_handle thread)
{
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}

static inline void yield_processor(void)
{
    SwitchToThread();
}

/* Sleep(1) may take 16 milliseconds, so this only gives way to threads that are ready anywhere. */
static inline void sleep_briefly(void)
{
    Sleep(0);
}

/* Of a clock that never goes back. */
static inline long long nanoseconds(void)
{
    LARGE_INTEGER rate, now;
    QueryPerformanceFrequency(&rate);
    QueryPerformanceCounter(&now);
    return now.QuadPart / rate.QuadPart * 1000000000 +
           now.QuadPart % rate.QuadPart * 1000000000 / rate.QuadPart;
}

/* `size` is a multiple of `alignment`. */
static inline void *allocate_aligned(size_t alignment, size_t size)
{
    return _aligned_malloc(size, alignment);
}

static inline void free_aligned(void *memory)
{
    _aligned_free(memory);
}

#else

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

typedef pthread_t thread_handle;
typedef void *thread_result;
#define THREAD_CALL

static inline int create_thread(thread_handle *made, thread_result (*main)(void *), void *argument)
{
    return pthread_create(made, NULL, main, argument);
}

static inline void join_thread(thread_handle thread)
{
    pthread_join(thread, NULL);
}

static inline void yield_processor(void)
{
    sched_yield();
}

static inline void sleep_briefly(void)
{
    struct timespec nap = {0, 50000};
    nanosleep(&nap, NULL);
}

static inline long long nanoseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline void *allocate_aligned(size_t alignment, size_t size)
{
    return aligned_alloc(alignment, size);
}

static inline void free_aligned(void *memory)
{
    free(memory);
}

#endif

#endif
