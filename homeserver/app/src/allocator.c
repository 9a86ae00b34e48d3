// Fixes the size from which glibc returns freed blocks to the system at once. By default glibc raises it with each large
// block that is freed, up to 32 MiB, and so keeps the memory of a burst of large requests (ARCHITECTURE.md). Runs before
// `main`, since threads that exist already would have allocated by the old rule. Other C libraries have no such threshold.

#include <stdlib.h>

#ifdef __GLIBC__
#include <malloc.h>

static const int MMAP_THRESHOLD_BYTES = 512 * 1024;

__attribute__((constructor)) static void fix_threshold(void) {
    // The operator's own setting has precedence.
    if (getenv("MALLOC_MMAP_THRESHOLD_") == NULL) {
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES);
    }
}
#endif
