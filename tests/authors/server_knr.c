/* tiny web server */
#include "common/listener.h"

char page[] = "Hello, World!";

void reply(fd)
	int fd;
{
	char head[200];

	sprintf(head, "HTTP/1.0 200 OK\r\nContent-type: text/plain\r\nContent-length: %d\r\nConnection: close\r\n\r\n",
		(int)strlen(page));
	write(fd, head, strlen(head));
	write(fd, page, strlen(page));
}

int main(argc, argv)
	int argc;
	char **argv;
{
	struct options options;
	char buf[4096];
	int s, fd;

	options = options_parse(argc, argv);
	s = listener_open(&options, 0, 0);
	signal(SIGPIPE, SIG_IGN);
	listener_announce(s, &options);
	for (;;) {
		fd = accept(s, (struct sockaddr *)0, (socklen_t *)0);
		if (read(fd, buf, sizeof buf) > 0)
			reply(fd);
		close(fd);
	}
}
