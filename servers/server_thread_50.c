/* An exhibit, not one of the compared servers: server_thread with the limit that a lab project had, 50 threads.
 *
 * Fails when: there are more than 50 clients. The server accepts the others and closes their connections at once. */
#define CLIENTS_MAX 50
#include "server_thread.c"
