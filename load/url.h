/* A URL: its address, and the request that asks for it. */
#pragma once

#include <err.h>
#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { EXIT_USAGE = 2, URL_MAX = 4096, URL_HOST_MAX = 256, PORT_DIGITS = 5 };

struct url {
    const char *text;
    char host[URL_HOST_MAX]; /* with its scope, without brackets */
    char port[PORT_DIGITS + 1];
    struct sockaddr_storage address;
    socklen_t address_size;
    int request_size;
    char request[URL_MAX + URL_HOST_MAX + 64];
};

/* What is wrong with a URL, in one line; status 2. */
_Noreturn static inline void url_refuse(const char *text, const char *why)
{
    errx(EXIT_USAGE, "--url: '%.200s' %s", text, why);
}

static inline void url_check_characters(const char *text)
{
    if (strlen(text) > URL_MAX)
        url_refuse(text, "is too long");
    for (const char *at = text; *at != '\0'; at++)
        if (*at <= ' ' || *at > '~')
            errx(EXIT_USAGE, "--url: it has a space, a control character or one that is not ASCII");
}

static inline void url_take_host(struct url *url, const char *at, size_t size)
{
    if (size == 0 || size >= sizeof url->host)
        url_refuse(url->text, size == 0 ? "has no host" : "has a host that is too long");
    memcpy(url->host, at, size);
    url->host[size] = '\0';
    char *const scope = strchr(url->host, '%');
    if (scope != NULL && strncmp(scope, "%25", 3) == 0 && scope[3] != '\0')
        memmove(scope + 1, scope + 3, strlen(scope + 3) + 1); /* RFC 6874 */
}

static inline void url_take_port(struct url *url, const char *at, size_t size)
{
    const bool is_number = size > 0 && size <= PORT_DIGITS && strspn(at, "0123456789") >= size;
    const long port = is_number ? strtol(at, NULL, 10) : 0;

    if (port < 1 || port > 65535)
        url_refuse(url->text, "has no valid port");
    (void)snprintf(url->port, sizeof url->port, "%u", (unsigned)port & 0xffff); /* it fits */
}

static inline void url_resolve(struct url *url, bool is_bracketed)
{
    struct addrinfo *found;
    const struct addrinfo hints = {
        .ai_family = is_bracketed ? AF_INET6 : AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_NUMERICSERV | (is_bracketed ? AI_NUMERICHOST : 0),
    };
    const int status = getaddrinfo(url->host, url->port, &hints, &found);
    if (status != 0)
        errx(EXIT_USAGE, "--url: cannot resolve '%s': %s", url->host,
             status == EAI_SYSTEM ? strerror(errno) : gai_strerror(status));
    memcpy(&url->address, found->ai_addr, found->ai_addrlen);
    url->address_size = found->ai_addrlen;
    freeaddrinfo(found);
}

/* As wrk asks. The scope of an address means something on this host alone, so it is not sent. */
static inline void url_write_request(struct url *url, bool is_bracketed, const char *path)
{
    char host[sizeof url->host], port[sizeof url->port];

    memcpy(host, url->host, sizeof host);
    memcpy(port, url->port, sizeof port);
    host[strcspn(host, "%")] = '\0';
    url->request_size =
        snprintf(url->request, sizeof url->request, "GET %s%s HTTP/1.1\r\nHost: %s%s%s:%s\r\n\r\n",
                 *path != '/' ? "/" : "", path, is_bracketed ? "[" : "", host,
                 is_bracketed ? "]" : "", port);
}

static inline void url_parse(struct url *url, const char *text)
{
    static const char scheme[] = "http://";

    url->text = text;
    url_check_characters(text);
    if (strncasecmp(text, scheme, strlen(scheme)) != 0)
        url_refuse(text, "does not begin with http://");
    const char *const authority = text + strlen(scheme);
    const char *const path = authority + strcspn(authority, "/?#");
    if (memchr(authority, '@', (size_t)(path - authority)) != NULL || strchr(path, '#') != NULL)
        url_refuse(text, "has a user or a fragment");

    const bool is_bracketed = *authority == '[';
    const char *const host = authority + is_bracketed;
    const char *const host_end = host + strcspn(host, is_bracketed ? "]/?" : ":/?");
    if (is_bracketed && *host_end != ']')
        url_refuse(text, "has no ']'");
    url_take_host(url, host, (size_t)(host_end - host));
    const char *const rest = host_end + is_bracketed;
    if (*rest == ':')
        url_take_port(url, rest + 1, (size_t)(path - rest - 1));
    else if (rest == path)
        url_take_port(url, "80", 2);
    else
        url_refuse(text, "has no valid port");
    url_resolve(url, is_bracketed);
    url_write_request(url, is_bracketed, path);
}
