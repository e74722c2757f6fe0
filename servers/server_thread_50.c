/* An exhibit, not one of the compared servers: server_thread with the limit of a lab project, which had 50 threads.
 *
 * Fails when: there are more than 50 clients. The others are accepted and turned away at once. */
#define CLIENTS_MAX 50
#include "server_thread.c"
