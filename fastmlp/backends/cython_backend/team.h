/* A team of threads for one call, and its barrier.
 *
 * Threads are created per call (usually an epoch) and joined at its end: none
 * outlives a call, so forking is always safe and calls from several Python
 * threads do not interfere.
 */
#ifndef FASTMLP_TEAM_H
#define FASTMLP_TEAM_H

#include <stdatomic.h>

#include "platform.h"

#define MAX_THREADS 64

/* How often a waiting thread looks again before it gives its core away; some ten microseconds. */
#define SPINS 2000

/* Let other threads run while waiting, a little more at each try. Spinning is fastest, but
 * on a machine with fewer free cores than the team has threads, a spinning thread holds the
 * core that the others need: so spin briefly, then give the core away, then sleep. */
static inline void wait_a_little(int tries)
{
    if (tries < SPINS) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#endif
    } else if (tries < SPINS + 1000) {
        yield_processor();
    } else {
        sleep_briefly();
    }
}

typedef struct {
    int n_threads;
    atomic_int arrived;
    atomic_int generation;
    atomic_llong waited;  /* nanoseconds that threads have spent here beyond spinning */
} barrier;

/* Wait until all threads of the team have come. */
static inline void barrier_wait(barrier *b)
{
    if (b->n_threads == 1)
        return;
    int generation = atomic_load_explicit(&b->generation, memory_order_acquire);
    if (atomic_fetch_add_explicit(&b->arrived, 1, memory_order_acq_rel) + 1 == b->n_threads) {
        atomic_store_explicit(&b->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&b->generation, generation + 1, memory_order_release);
        return;
    }
    int tries = 0;
    long long start = 0;
    for (; atomic_load_explicit(&b->generation, memory_order_acquire) == generation; tries++) {
        if (tries == SPINS)
            start = nanoseconds();
        wait_a_little(tries);
    }
    if (tries > SPINS)
        atomic_fetch_add_explicit(&b->waited, nanoseconds() - start, memory_order_relaxed);
}

/* Items of work that one thread takes first, and others when they have done theirs: cores are
 * not equally fast, least of all when other programs use them. On cache lines of their own. */
typedef struct {
    _Alignas(64) atomic_int next;
    int end;
} share;

/* Take an item for this thread, from its own share while that lasts; -1 if all are taken. */
static inline int take_item(share *shares, int n_threads, int thread)
{
    for (int i = 0; i < n_threads; i++) {
        share *s = &shares[(thread + i) % n_threads];
        if (atomic_load_explicit(&s->next, memory_order_relaxed) < s->end) {
            int item = atomic_fetch_add_explicit(&s->next, 1, memory_order_relaxed);
            if (item < s->end)
                return item;
        }
    }
    return -1;
}

/* The processor that the calling thread runs on. */
static inline int current_processor(void)
{
#ifdef __linux__
    return sched_getcpu();
#else
    return 0;
#endif
}

/* Make one thread of a team. The kernel tends to start threads where their creator runs, behind
 * it, which may take the time that a whole call does, and to take milliseconds to see that the
 * processor beside is idle. So the thread starts on the processor that is `thread` places after
 * `home` among those that it may use; what it runs then leaves it free to move on. */
static inline int start_thread(thread_handle *made, int home, int thread,
                               thread_result (THREAD_CALL *main)(void *), void *argument)
{
#if defined(__linux__) && defined(__GLIBC__)
    cpu_set_t allowed, one;
    pthread_attr_t attributes;
    if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0 && CPU_COUNT(&allowed) > 1 &&
        pthread_attr_init(&attributes) == 0) {
        int processor = home, failed;
        for (int distance = thread % CPU_COUNT(&allowed); distance > 0; distance--)
            do
                processor = (processor + 1) % CPU_SETSIZE;
            while (!CPU_ISSET(processor, &allowed));
        CPU_ZERO(&one);
        CPU_SET(processor, &one);
        failed = pthread_attr_setaffinity_np(&attributes, sizeof(one), &one) != 0 ||
                 pthread_create(made, &attributes, main, argument) != 0;
        pthread_attr_destroy(&attributes);
        if (!failed) {
            pthread_setaffinity_np(*made, sizeof(allowed), &allowed);
            return 0;
        }
    }
#else
    (void)home;
    (void)thread;
#endif
    return create_thread(made, main, argument);
}

typedef struct {
    void (*work)(void *context, int thread, barrier *meeting);
    void *context;
    int thread;
    barrier *meeting;
    atomic_int *ready;
} team_member;

static thread_result THREAD_CALL team_member_main(void *argument)
{
    team_member *member = argument;
    for (int tries = 0; !atomic_load_explicit(member->ready, memory_order_acquire); tries++)
        wait_a_little(tries);
    member->work(member->context, member->thread, member->meeting);
    return 0;
}

/* How a team has fared on this machine. Where other programs take its cores, a thread alone is
 * faster than two that wait for each other: then work is done alone for a while. Results do not
 * depend on the number of threads. */
typedef struct {
    int alone;      /* calls that are still to be done by one thread */
    int patience;   /* how many those are if the next trial of a team fails, too */
} team_mood;

/* Call work(context, thread, meeting) once in every thread of a team, the calling thread
 * being thread 0, and return when all have finished. The team has meeting->n_threads
 * threads: n_threads, or fewer if the system refuses to make one, or one if the mood says so. */
static inline void team_run(void (*work)(void *, int, barrier *), void *context, int n_threads,
                            team_mood *mood)
{
    thread_handle threads[MAX_THREADS];
    team_member members[MAX_THREADS];
    barrier meeting;
    atomic_int ready;
    int n = 1, home = current_processor();

    long long start = nanoseconds();
    if (n_threads > 1 && mood->alone > 0) {
        mood->alone--;
        n_threads = 1;
    }
    atomic_init(&meeting.arrived, 0);
    atomic_init(&meeting.generation, 0);
    atomic_init(&meeting.waited, 0);
    atomic_init(&ready, 0);
    for (; n < n_threads && n < MAX_THREADS; n++) {
        members[n] = (team_member){work, context, n, &meeting, &ready};
        if (start_thread(&threads[n], home, n, team_member_main, &members[n]) != 0)
            break;
    }
    meeting.n_threads = n;
    atomic_store_explicit(&ready, 1, memory_order_release);
    work(context, 0, &meeting);
    for (int i = 1; i < n; i++)
        join_thread(threads[i]);
    if (n > 1) {
        /* If the threads have waited for half of the time, one would have been as fast. */
        long long whole = (nanoseconds() - start) * n;
        int failed = whole > 1000000 && atomic_load(&meeting.waited) > 4 * (whole / 10);
        mood->patience = !failed ? 1 : mood->patience < 32 ? 2 * mood->patience : 32;
        mood->alone = failed ? mood->patience : 0;
    }
}

#endif
