/* Linked into every program that scripts/asan builds: where AddressSanitizer reports to, and how it behaves.
 *
 * Workers start with an empty environment, so ASAN_OPTIONS would not reach them. Once they run they are nobody, and may neither open a
 * file nor start a symbolizer: system calls are held to a list. So the report's file is opened before anything else happens; it stays
 * empty unless there is something to report.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

extern void __sanitizer_set_report_fd(void *fd);

/* No colours: to ask whether the file is a terminal is a system call that kills a worker. Leaks are not looked for: that stops all
 * threads by ptrace, which workers do not permit, and what is given to a worker for its whole life is leaked on purpose. Memory that
 * was freed is kept back for later uses to be found, but not so much that a lab does not fit, or that a flood takes more than what Tidegate
 * promises to need at most: that counts what is kept back as well. */
const char *__asan_default_options(void) {
    return "detect_leaks=0:symbolize=0:quarantine_size_mb=8:detect_stack_use_after_return=1:check_initialization_order=0:"
           "print_legend=0:color=never:log_path=" REPORTS "/child";
}

/* One file for each process. A program that could not report would pass whatever it does. Numbers of processes come round, and the file of
 * an earlier one may be another user's: so its name has more than the number in it. */
__attribute__((constructor)) static void open_report(void) {
    char path[sizeof REPORTS + 32];
    snprintf(path, sizeof path, REPORTS "/%ld.XXXXXX", (long)getpid());
    int opened = mkostemp(path, O_APPEND | O_CLOEXEC);
    /* Standard streams that are closed are the program's to open. */
    int fd = opened < 0 ? -1 : fcntl(opened, F_DUPFD_CLOEXEC, 3);
    if (fd < 0) {
        perror(path);
        _exit(97);
    }
    close(opened);
    __sanitizer_set_report_fd((void *)(intptr_t)fd);
}
