/* Linked into the sanitized servers with --wrap=_exit: they end in a signal handler with _exit, before which
 * LeakSanitizer would not look. When they do, their connections are closed, and all that is left on the heap and nobody
 * points to is lost. */
#include <sanitizer/lsan_interface.h>

_Noreturn void __real__exit(int status);
_Noreturn void __wrap__exit(int status);

_Noreturn void __wrap__exit(int status)
{
    enum { EXIT_LEAK = 23 };
    __real__exit(__lsan_do_recoverable_leak_check() != 0 ? EXIT_LEAK : status);
}
