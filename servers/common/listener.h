/* The listening socket: opening it, and accepting connections from it. */
#pragma once

#include "counters.h"
#include "options.h"

#include <fcntl.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <time.h>

static inline void listener_set_scope(struct sockaddr *address, const struct options *options)
{
    if (options->interface != NULL && if_nametoindex(options->interface) == 0)
        errx(EXIT_USAGE, "--interface: there is no interface '%s'", options->interface);
    if (address->sa_family != AF_INET6)
        return;
    struct sockaddr_in6 *ipv6 = (struct sockaddr_in6 *)address;
    if (!IN6_IS_ADDR_LINKLOCAL(&ipv6->sin6_addr))
        return;
    if (options->interface != NULL)
        ipv6->sin6_scope_id = if_nametoindex(options->interface);
    if (ipv6->sin6_scope_id == 0)
        errx(EXIT_USAGE, "--host: '%s' is link-local and needs --interface", options->host);
}

static inline struct addrinfo *listener_resolve(const struct options *options)
{
    const struct addrinfo hints = {
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
    };
    char port[sizeof "65535"];
    struct addrinfo *address;

    snprintf(port, sizeof port, "%u", (unsigned short)options->port);
    if (getaddrinfo(options->host, port, &hints, &address) != 0)
        errx(EXIT_USAGE, "--host: '%s' is not a numeric IPv6 or IPv4 address", options->host);
    listener_set_scope(address->ai_addr, options);
    return address;
}

static inline void listener_set_option(int listener, int level, int name, int value)
{
    if (setsockopt(listener, level, name, &value, sizeof value) < 0)
        err(EXIT_FAILURE, "setsockopt");
}

/* `type_flags`: SOCK_NONBLOCK or 0. `share_port`: another listener may have the same port, if it has SO_REUSEPORT, too. */
static inline int listener_open(const struct options *options, int type_flags, bool share_port)
{
    struct addrinfo *address = listener_resolve(options);
    const int listener = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | type_flags, 0);
    if (listener < 0)
        err(EXIT_FAILURE, "socket");

    listener_set_option(listener, SOL_SOCKET, SO_REUSEADDR, 1);
    listener_set_option(listener, IPPROTO_TCP, TCP_NODELAY, 1); /* accepted sockets inherit it */
    if (address->ai_family == AF_INET6)
        listener_set_option(listener, IPPROTO_IPV6, IPV6_V6ONLY, 0); /* '::' serves IPv4 too */
    if (share_port)
        listener_set_option(listener, SOL_SOCKET, SO_REUSEPORT, 1);
    if (bind(listener, address->ai_addr, address->ai_addrlen) < 0)
        err(EXIT_FAILURE, "cannot bind [%s]:%d", options->host, options->port);
    if (listen(listener, SOMAXCONN) < 0)
        err(EXIT_FAILURE, "cannot listen on [%s]:%d", options->host, options->port);
    freeaddrinfo(address);
    counters_listener = listener;
    return listener;
}

static inline int listener_port(int listener)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    if (getsockname(listener, (struct sockaddr *)&address, &size) < 0)
        err(EXIT_FAILURE, "getsockname");
    return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                               : ((struct sockaddr_in *)&address)->sin_port);
}

/* Tell whoever started the server that clients may connect. */
static inline void listener_announce(int listener, const struct options *options)
{
    if (printf("listening on [%s]:%d\n", options->host, listener_port(listener)) < 0 ||
        fflush(stdout) != 0)
        err(EXIT_FAILURE, "cannot write to standard output");
}

/* A spare descriptor. If no other is free when a client comes, we give up this one to accept the connection and close it.
 * Otherwise the connection would stay in the queue, the listener would stay readable, and the loop would spin. */
static int listener_spare = -1;

static inline void listener_keep_spare(void)
{
    if (listener_spare < 0)
        listener_spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static inline void listener_give_up_spare(void)
{
    if (listener_spare >= 0)
        close(listener_spare);
    listener_spare = -1;
}

static inline void listener_refuse(int fd)
{
    counter_add(&process_counters.refused_connections, 1);
    close(fd);
}

/* For a connection that we accepted after we gave up the spare descriptor: keep it if another descriptor has come free,
 * otherwise refuse it. Returns its socket, or -1. */
static inline int listener_admit(int fd)
{
    listener_keep_spare();
    if (listener_spare >= 0)
        return fd;
    listener_refuse(fd);
    listener_keep_spare();
    return -1;
}

/* The machine is short of descriptors or memory, and we cannot change that: wait a little rather than spin. */
static inline void listener_pause(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static inline int listener_accept_counted(int listener, int type_flags)
{
    const int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | type_flags);
    if (fd >= 0)
        counter_add(&process_counters.accepted, 1);
    return fd;
}

/* An accept failed. true: for lack of descriptors, and we gave up the spare one, so another accept can succeed. Waits a
 * little if the machine lacks something that we cannot give. */
static inline bool listener_make_room(int error)
{
    const bool lacks_descriptors = error == EMFILE || error == ENFILE;
    if (lacks_descriptors && listener_spare >= 0) {
        listener_give_up_spare();
        return true;
    }
    if (lacks_descriptors || error == ENOMEM || error == ENOBUFS)
        listener_pause();
    return false;
}

/* Returns a new connection's socket (`type_flags`: SOCK_NONBLOCK or 0), or -1: there is none now, try again later. */
static inline int listener_accept(int listener, int type_flags)
{
    listener_keep_spare();
    int fd = listener_accept_counted(listener, type_flags);
    if (fd >= 0 || !listener_make_room(errno))
        return fd;
    fd = listener_accept_counted(listener, type_flags);
    if (fd >= 0)
        return listener_admit(fd);
    listener_keep_spare();
    return -1;
}
