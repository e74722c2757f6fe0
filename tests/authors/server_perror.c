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
#include <getopt.h>
#include <netdb.h>
#include <signal.h>
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/epoll.h>

#define MAXEVENTS 64
#define GRUSS "Hello, World!"

static int make_socket_non_blocking (int sfd)
{
  int flags, s;

  flags = fcntl (sfd, F_GETFL, 0);
  if (flags == -1)
    {
      perror ("fcntl: Flags nicht verfügbar");
      return -1;
    }
  flags |= O_NONBLOCK;
  s = fcntl (sfd, F_SETFL, flags);
  if (s == -1)
    {
      perror ("fcntl");
      return -1;
    }
  return 0;
}

static int create_and_bind (char *host, char *port)
{
  struct addrinfo hints;
  struct addrinfo *result, *rp;
  int s, sfd;

  memset (&hints, 0, sizeof (struct addrinfo));
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  s = getaddrinfo (host, port, &hints, &result);
  if (s != 0)
    {
      fprintf (stderr, "getaddrinfo: %s\n", gai_strerror (s));
      return -1;
    }
  for (rp = result; rp != NULL; rp = rp->ai_next)
    {
      sfd = socket (rp->ai_family, rp->ai_socktype, rp->ai_protocol);
      if (sfd == -1)
        continue;
      s = bind (sfd, rp->ai_addr, rp->ai_addrlen);
      if (s == 0)
        break;
      close (sfd);
    }
  if (rp == NULL)
    {
      fprintf (stderr, "Could not bind\n");
      return -1;
    }
  freeaddrinfo (result);
  return sfd;
}

static void print_listening (int sfd, char *host)
{
  struct sockaddr_storage addr;
  socklen_t size = sizeof addr;
  char port[NI_MAXSERV];

  if (getsockname (sfd, (struct sockaddr *) &addr, &size) == -1)
    {
      perror ("getsockname");
      abort ();
    }
  getnameinfo ((struct sockaddr *) &addr, size, NULL, 0, port, sizeof port, NI_NUMERICSERV);
  printf ("listening on [%s]:%s\n", host, port);
  fflush (stdout);
}

static void beenden (int sig)
{
  _exit (EXIT_SUCCESS);
}

static const struct option options[] = {
  { "host", required_argument, NULL, 'h' },
  { "port", required_argument, NULL, 'p' },
  { "interface", required_argument, NULL, 'i' },
  { "workers", required_argument, NULL, 'w' },
  { NULL }
};

int main (int argc, char *argv[])
{
  char *host = "::1", *port = "0";
  int sfd, s;
  int efd;
  struct epoll_event event;
  struct epoll_event *events;

  while ((s = getopt_long (argc, argv, "", options, NULL)) != -1)
    switch (s)
      {
      case 'h':
        host = optarg;
        break;
      case 'p':
        port = optarg;
        break;
      case '?':
        exit (2);
      }
  if (signal (SIGTERM, beenden) == SIG_ERR || signal (SIGPIPE, SIG_IGN) == SIG_ERR)
    {
      perror ("signal");
      abort ();
    }
  sfd = create_and_bind (host, port);
  if (sfd == -1)
    abort ();
  s = make_socket_non_blocking (sfd);
  if (s == -1)
    abort ();
  s = listen (sfd, SOMAXCONN);
  if (s == -1)
    {
      perror ("listen");
      abort ();
    }
  efd = epoll_create (256);
  if (efd == -1)
    {
      perror ("epoll_create");
      abort ();
    }
  event.data.fd = sfd;
  event.events = EPOLLIN | EPOLLET;
  s = epoll_ctl (efd, EPOLL_CTL_ADD, sfd, &event);
  if (s == -1)
    {
      perror ("epoll_ctl");
      abort ();
    }
  events = calloc (MAXEVENTS, sizeof event);
  print_listening (sfd, host);

  while (1)
    {
      int n, i;

      n = epoll_wait (efd, events, MAXEVENTS, -1);
      for (i = 0; i < n; i++)
        {
          if (sfd == events[i].data.fd)
            {
              while (1)
                {
                  int infd = accept (sfd, NULL, NULL);
                  if (infd == -1)
                    {
                      if (errno != EAGAIN && errno != EWOULDBLOCK)
                        perror ("accept");
                      break;
                    }
                  s = make_socket_non_blocking (infd);
                  if (s == -1)
                    abort ();
                  event.data.fd = infd;
                  event.events = EPOLLIN | EPOLLET;
                  s = epoll_ctl (efd, EPOLL_CTL_ADD, infd, &event);
                  if (s == -1)
                    {
                      perror ("epoll_ctl");
                      abort ();
                    }
                }
            }
          else
            {
              int done = 0;

              while (1)
                {
                  char buf[512];
                  ssize_t count = read (events[i].data.fd, buf, sizeof buf);

                  if (count == -1)
                    {
                      if (errno != EAGAIN)
                        {
                          perror ("read");
                          done = 1;
                        }
                      break;
                    }
                  else if (count == 0)
                    {
                      done = 1;
                      break;
                    }
                  sprintf (buf, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s",
                           (int) strlen (GRUSS), GRUSS);
                  if (write (events[i].data.fd, buf, strlen (buf)) == -1)
                    perror ("write");
                }
              if (done)
                close (events[i].data.fd);
            }
        }
    }
  free (events);
  close (sfd);
  return EXIT_SUCCESS;
}
