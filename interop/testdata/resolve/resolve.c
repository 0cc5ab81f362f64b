/* Prints the addresses of a name, what a second name is, and the first line of a
   server: NAME PORT NONE. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list, *a, *none;
	char text[256];
	int e, fd, n;

	if (argc != 4)
		return 2;
	if ((e = getaddrinfo(argv[1], argv[2], &hints, &list)) != 0) {
		printf("%s: %s\n", argv[1], gai_strerror(e));
		return 1;
	}
	for (a = list; a; a = a->ai_next) {
		getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST);
		printf("%s ", text);
	}
	e = getaddrinfo(argv[3], argv[2], &hints, &none);
	printf("%s ", e == EAI_NONAME ? "none" : e ? gai_strerror(e) : "found");
	fflush(stdout);
	fd = socket(list->ai_family, SOCK_STREAM, 0);
	if (connect(fd, list->ai_addr, list->ai_addrlen) != 0) {
		perror("connect");
		return 1;
	}
	while ((n = read(fd, text, sizeof text)) > 0 && !memchr(text, '\n', n))
		;
	printf("%.*s", n > 0 ? n : 0, text);
	return 0;
}
