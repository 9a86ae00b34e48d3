// Makes glibc return freed memory to the system. Runs before `main`, since threads that exist already would have allocated
// by the old rules. Other C libraries have neither the threshold nor the function.
//
// A freed block that is large enough is returned at once. By default glibc raises the size from which it does that with
// each large block that is freed, up to 32 MiB, and so keeps the memory of a burst of large requests (ARCHITECTURE.md).
//
// Pages between smaller blocks are returned only by `malloc_trim`. The texts of documents are such blocks: a server whose
// documents were all idle kept their memory. A thread calls it once a minute. It takes about 10 ms of processor time for
// 600 documents that have just left memory, and almost none if there is nothing to return. Only `weft serve` has the thread: a
// render worker must have no thread besides its own, because a thread that begins after the sandbox was closed makes a system
// call that the sandbox excludes, and ends the worker. Must not allocate.

#include <stdlib.h>

#ifdef __GLIBC__
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static const int MMAP_THRESHOLD_BYTES = 512 * 1024;
static const unsigned TRIM_SECONDS = 60;
static const size_t TRIM_STACK_BYTES = 64 * 1024;
static const char *const SERVER_COMMAND = "serve";

static void *trim(void *unused) {
    for (;;) {
        sleep(TRIM_SECONDS);
        malloc_trim(0);
    }
    return unused;
}

// Without the thread more memory is used, so its failure is no reason not to start.
static void start_trimming(void) {
    sigset_t all, before;
    pthread_attr_t attributes;
    pthread_t thread;
    if (pthread_attr_init(&attributes) != 0) {
        return;
    }
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, TRIM_STACK_BYTES);
    // Signals are for the threads of the program.
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_create(&thread, &attributes, trim, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

// glibc passes the arguments of `main` to constructors.
__attribute__((constructor)) static void set_up_allocator(int count, char **arguments) {
    // The operator's own setting has precedence.
    if (getenv("MALLOC_MMAP_THRESHOLD_") == NULL) {
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES);
    }
    if (count > 1 && strcmp(arguments[1], SERVER_COMMAND) == 0) {
        start_trimming();
    }
}
#endif
