/*
 * epoll-Beispiel für Anfänger, frei nach epoll(7).
 * Übersetzen: gcc -Wall -o epoll_beispiel epoll_beispiel.c
 */
#define _GNU_SOURCE 1
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include "common/listener.h"

#define MAXEVENTS 64
#define GRUSS "Hello, World!"

static void die (const char *was)
{
  perror (was);
  abort ();
}

static void make_socket_non_blocking (int sfd)
{
  int flags = fcntl (sfd, F_GETFL, 0);

  if (flags == -1)
    die ("fcntl: Flags nicht verfügbar");
  if (fcntl (sfd, F_SETFL, flags | O_NONBLOCK) == -1)
    die ("fcntl");
}

static void watch (int efd, int fd)
{
  struct epoll_event event;

  event.data.fd = fd;
  event.events = EPOLLIN | EPOLLET;
  if (epoll_ctl (efd, EPOLL_CTL_ADD, fd, &event) == -1)
    die ("epoll_ctl");
}

static void accept_all (int efd, int sfd)
{
  int infd;

  while ((infd = accept (sfd, NULL, NULL)) != -1)
    {
      make_socket_non_blocking (infd);
      watch (efd, infd);
    }
  if (errno != EAGAIN && errno != EWOULDBLOCK)
    perror ("accept");
}

static void answer_all (int fd)
{
  char buf[512];
  ssize_t count;

  while ((count = read (fd, buf, sizeof buf)) > 0)
    {
      sprintf (buf, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s",
               (int) strlen (GRUSS), GRUSS);
      if (write (fd, buf, strlen (buf)) == -1)
        perror ("write");
    }
  if (count == -1 && errno == EAGAIN)
    return;
  if (count == -1)
    perror ("read");
  close (fd);
}

static void beenden (int sig)
{
  _exit (EXIT_SUCCESS);
}

int main (int argc, char *argv[])
{
  struct options options = options_parse (argc, argv);
  struct epoll_event *events = calloc (MAXEVENTS, sizeof *events);
  int sfd, efd, n, i;

  if (signal (SIGTERM, beenden) == SIG_ERR || signal (SIGPIPE, SIG_IGN) == SIG_ERR)
    die ("signal");
  sfd = listener_open (&options, 0, false);
  make_socket_non_blocking (sfd);
  efd = epoll_create (256);
  if (efd == -1)
    die ("epoll_create");
  watch (efd, sfd);
  listener_announce (sfd, &options);

  while (1)
    {
      n = epoll_wait (efd, events, MAXEVENTS, -1);
      for (i = 0; i < n; i++)
        if (sfd == events[i].data.fd)
          accept_all (efd, sfd);
        else
          answer_all (events[i].data.fd);
    }
  free (events);
  close (sfd);
  return EXIT_SUCCESS;
}
