// SPDX-License-Identifier: GPL-2.0-or-later OR BSD-2-Clause
/*
 * What this kernel answers to every getsockopt() or setsockopt(), a line for each option:
 *
 *     option_sweep get|set SOCKET...
 *     tcp4 1 20: 4 0/4/4+ ...      level 1, option 20: with length 4, errno 0, length 4, and
 *                                  4 bytes written that are not all zero
 *
 * Each option is set on a fresh socket, with every length in turn. What differs from run to run, such as
 * times and cookies, is not shown: only how much was written, and whether it is all zero.
 * Options that do not exist are not printed. Source: linux/socket.h, for the levels.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SIZE 65536
#define NO_LENGTH -2 /* a null pointer in its place */
#define NETLINK_GROUP 33 /* a list of more than 4 bytes */

static const struct socket_kind {
	const char *name;
	int family, type, protocol;
} kinds[] = {
	{ "tcp4", AF_INET, SOCK_STREAM, IPPROTO_TCP },
	{ "tcp6", AF_INET6, SOCK_STREAM, IPPROTO_TCP },
	{ "mptcp4", AF_INET, SOCK_STREAM, 262 },
	{ "mptcp6", AF_INET6, SOCK_STREAM, 262 },
	{ "udp4", AF_INET, SOCK_DGRAM, 0 },
	{ "udp6", AF_INET6, SOCK_DGRAM, 0 },
	{ "raw4", AF_INET, SOCK_RAW, IPPROTO_ICMP },
	{ "raw6", AF_INET6, SOCK_RAW, IPPROTO_ICMPV6 },
	{ "unix", AF_UNIX, SOCK_STREAM, 0 },
	{ "unix-datagrams", AF_UNIX, SOCK_DGRAM, 0 },
	{ "netlink", AF_NETLINK, SOCK_RAW, NETLINK_ROUTE },
	{ "packet", AF_PACKET, SOCK_RAW, 0 },
	/* With something to tell. */
	{ "tcp4-filter", AF_INET, SOCK_STREAM, IPPROTO_TCP },
	{ "tcp4-connected", AF_INET, SOCK_STREAM, IPPROTO_TCP },
	{ "tcp6-listening", AF_INET6, SOCK_STREAM, IPPROTO_TCP },
	{ "unix-connected", AF_UNIX, SOCK_STREAM, 0 },
	{ "netlink-member", AF_NETLINK, SOCK_RAW, NETLINK_ROUTE },
	/* Of modules, which the first socket would load. */
	{ "rds", 21, SOCK_SEQPACKET, 0 },
	{ "sctp", AF_INET, SOCK_STREAM, IPPROTO_SCTP },
	{ "dccp", AF_INET, SOCK_DCCP, IPPROTO_DCCP },
};

static const int get_lengths[] = { 0, 1, 4, 8, 16, 64, 4096, 4097, SIZE, -1, NO_LENGTH };
static const int set_lengths[] = { 0, 1, 4, 8, 16, 64, 4096, 4097, SIZE, -1 };
static const int names[][2] = {
	{ -1, 140 }, { 200, 220 }, { 1000, 1010 }, { 1024, 1030 }, { 1150, 1170 },
	{ 4090, 4100 }, { 10000, 10020 }, { 0x7fffffff, 0x7fffffff },
};

static char buffer[SIZE], other[SIZE];

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static int must(int result, const char *what)
{
	if (result < 0)
		fail(what);
	return result;
}

static int connected(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int listener = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
	int sock = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
	socklen_t size = sizeof(at);

	must(bind(listener, (struct sockaddr *)&at, size), "bind");
	must(listen(listener, 1), "listen");
	must(getsockname(listener, (struct sockaddr *)&at, &size), "getsockname");
	must(connect(sock, (struct sockaddr *)&at, size), "connect");
	/* The other end stays open: what its FIN changes may be there in one run and not in another. */
	must(accept(listener, 0, 0), "accept");
	close(listener);
	return sock;
}

static int made(const struct socket_kind *kind)
{
	struct sock_filter pass[] = { BPF_STMT(BPF_LD, 0), BPF_STMT(BPF_RET, -1) };
	struct sock_fprog filter = { 2, pass };
	int sock, pair[2], group = NETLINK_GROUP;

	if (!strcmp(kind->name, "tcp4-connected"))
		return connected();
	if (!strcmp(kind->name, "unix-connected")) {
		must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
		return pair[0];
	}
	sock = must(socket(kind->family, kind->type, kind->protocol), kind->name);
	if (!strcmp(kind->name, "tcp4-filter"))
		must(setsockopt(sock, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)), "filter");
	if (!strcmp(kind->name, "tcp6-listening"))
		must(listen(sock, 1), "listen");
	if (!strcmp(kind->name, "netlink-member"))
		must(setsockopt(sock, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)),
		     "membership");
	return sock;
}

/* A kernel may be built without a protocol. */
static int supported(const struct socket_kind *kind)
{
	int sock = socket(kind->family, kind->type, kind->protocol);

	if (sock < 0)
		return errno != EPROTONOSUPPORT && errno != EAFNOSUPPORT && errno != ESOCKTNOSUPPORT;
	close(sock);
	return 1;
}

static int unknown(int error)
{
	return error == ENOPROTOOPT || error == EOPNOTSUPP;
}

struct line {
	char text[4096];
	size_t used;
	int exists; /* some answer says more than that there is no such option */
};

#define ADD(line, ...) \
	((line)->used += snprintf((line)->text + (line)->used, sizeof((line)->text) - (line)->used, __VA_ARGS__))

static void get(int sock, int level, int name, int length, int null, struct line *line)
{
	socklen_t size = length, again = length;
	int visible = length < 0 ? 0 : length, error, second, written = 0, zero = 1;

	memset(buffer, 0, SIZE);
	memset(other, 0xff, SIZE);
	errno = 0;
	getsockopt(sock, level, name, null ? NULL : buffer, length == NO_LENGTH ? NULL : &size);
	error = errno;
	errno = 0;
	getsockopt(sock, level, name, null ? NULL : other, length == NO_LENGTH ? NULL : &again);
	second = errno;
	for (int at = 0; at < visible && !null; at++) {
		/* By two buffers, as one says nothing where it holds already what is written. */
		if (error == second && (buffer[at] || other[at] != (char)0xff))
			written = at + 1;
		/* One byte of a time may be 0. */
		if (buffer[at] && visible >= 4)
			zero = 0;
	}
	line->exists |= !unknown(error) || (int)size != length || written;
	ADD(line, " %s%d=%d/%d/%d/%d/%d%s", null ? "null" : "", length, error, second, (int)size,
	    (int)again, written, zero ? "" : "+");
}

static void gets_of(const struct socket_kind *kind, int sock, int level, int name)
{
	struct line line = { .used = 0 };

	get(sock, level, name, 4, 0, &line);
	get(sock, level, name, 0, 1, &line);
	get(sock, level, name, 4097, 0, &line);
	for (size_t at = 0; line.exists && at < sizeof(get_lengths) / sizeof(int); at++) {
		get(sock, level, name, get_lengths[at], 0, &line);
		get(sock, level, name, get_lengths[at], 1, &line);
	}
	if (line.exists)
		printf("%s %d %d:%s\n", kind->name, level, name, line.text);
}

static void set(int sock, int level, int name, int length, int null, int value, struct line *line)
{
	int error, after[16] = { 0 };
	socklen_t size = sizeof(after);

	memset(buffer, 0, SIZE);
	memcpy(buffer, &value, sizeof(value));
	errno = 0;
	setsockopt(sock, level, name, null ? NULL : buffer, length);
	error = errno;
	line->exists |= !unknown(error);
	ADD(line, " %s%d,%d=%d", null ? "null" : "", length, value, error);
	/* What has come of it. */
	if (!error && !getsockopt(sock, level, name, after, &size))
		ADD(line, "/%d/%d", (int)size, after[0]);
}

static int sets_of(const struct socket_kind *kind, int sock, int level, int name)
{
	struct line line = { .used = 0 };

	set(sock, level, name, 4, 0, 1, &line);
	set(sock, level, name, 0, 1, 0, &line);
	for (size_t at = 0; line.exists && at < sizeof(set_lengths) / sizeof(int); at++) {
		set(sock, level, name, set_lengths[at], 0, 0, &line);
		set(sock, level, name, set_lengths[at], 0, 1, &line);
		set(sock, level, name, set_lengths[at], 1, 0, &line);
	}
	if (!line.exists)
		return sock;
	printf("%s %d %d:%s\n", kind->name, level, name, line.text);
	close(sock);
	return made(kind);
}

static void sweep(const struct socket_kind *kind, int setting, int level)
{
	int sock = made(kind);

	for (size_t range = 0; range < sizeof(names) / sizeof(*names); range++)
		/* An option may have the largest number, which no int can go beyond. */
		for (long name = names[range][0]; name <= names[range][1]; name++) {
			if (setting)
				sock = sets_of(kind, sock, level, name);
			else
				gets_of(kind, sock, level, name);
		}
	close(sock);
}

int main(int count, char **words)
{
	cpu_set_t all, one;
	int first = 0;

	/* A socket may say on which processor it was served: on the same one in every run. */
	must(sched_getaffinity(0, sizeof(all), &all), "sched_getaffinity");
	while (!CPU_ISSET(first, &all))
		first++;
	CPU_ZERO(&one);
	CPU_SET(first, &one);
	must(sched_setaffinity(0, sizeof(one), &one), "sched_setaffinity");
	for (int word = 2; word < count; word++) {
		const struct socket_kind *kind = kinds, *end = kinds + sizeof(kinds) / sizeof(*kinds);

		while (kind < end && strcmp(kind->name, words[word]))
			kind++;
		if (kind == end) {
			fprintf(stderr, "no such socket: %s\n", words[word]);
			return 2;
		}
		if (!supported(kind))
			continue;
		for (int level = 0; level < 300; level++)
			if (level < 2 || level == 6 || level == 17 || level == 41 || level == 58 || level == 132 ||
			    level == 136 || level >= 255)
				sweep(kind, !strcmp(words[1], "set"), level);
	}
	return 0;
}
