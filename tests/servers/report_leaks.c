/* Linked into the sanitized servers with --wrap=_exit. They end with _exit in a signal handler, and LeakSanitizer checks
 * nothing before that. By then their connections are closed, so heap memory that nothing points to is a leak. */
#include <sanitizer/lsan_interface.h>

_Noreturn void __real__exit(int status);
_Noreturn void __wrap__exit(int status);

_Noreturn void __wrap__exit(int status)
{
    enum { EXIT_LEAK = 23 };
    __real__exit(__lsan_do_recoverable_leak_check() != 0 ? EXIT_LEAK : status);
}
