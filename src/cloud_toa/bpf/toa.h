/* SPDX-License-Identifier: GPL-2.0-or-later OR BSD-2-Clause */
/*
 * What one TCP option says: the wire formats of a client's address, for the
 * eBPF programs and the kernel module alike. The Python twin is option.py, and
 * tests/vectors/options.json holds both to the same answers.
 *
 * Only plain C on bytes: no kernel structure, no helper. Whoever includes this
 * brings the __u8, __u16, __u32, __be16 and __be32 types.
 */
#ifndef CLOUD_TOA_TOA_H
#define CLOUD_TOA_TOA_H

#define TOA_CLIENT 4097 /* get/setsockopt(IPPROTO_IP): sockaddr_in or sockaddr_in6 */
#define TOA_DPVS_CLIENT 4096 /* getsockopt(IPPROTO_IP): DPVS's struct, NAT64 only */

#define TOA_V4_LEN 8
#define TOA_V6_LEN 20
#define TOA_CLIENT_IP_V4_LEN 7
#define TOA_CLIENT_IP_V6_LEN 19
#define TOA_CLIENT_IP_VERSION 1

#define TCP_OPTIONS_MAX 40
#define TCP_OPTION_END 0
#define TCP_OPTION_NOP 1

/* Layouts that a kind may have, as bits: a receiver's table says it per kind. */
#define TOA_LAYOUT_V4 1
#define TOA_LAYOUT_V6 2
#define TOA_LAYOUT_CLIENT_IP 4

/* Host order of the first 16 bits behind a kind 254 that Linux takes for itself in a SYN. */
#define TCP_FASTOPEN_MAGIC 0xf989
#define TCP_SMC_MAGIC 0xe2d4c3d9

/*
 * A client's address: always 16 bytes in network order, IPv4 as ::ffff:a.b.c.d;
 * port in network order, 0 where the option carries none.
 */
struct toa_client {
	__be32 ip[4];
	__be16 port;
};

/* The option as the edge writes it; the address is ip[0] alone in an IPv4 one. */
struct toa_option {
	__u8 kind;
	__u8 length;
	__be16 port;
	__be32 ip[4];
};

enum toa_verdict {
	TOA_SKIP, /* not one of the kinds that this receiver accepts */
	TOA_FOUND,
	TOA_MALFORMED, /* a known kind with an unknown length */
	TOA_UNUSABLE, /* an address or port that no client can have */
	TOA_LOCAL, /* an address that means its reader's own host or link */
};

#ifndef __force /* for sparse; the kernel's own where it has one */
#define __force
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define TOA_BE16(x) ((__force __be16)__builtin_bswap16(x))
#define TOA_BE32(x) ((__force __be32)__builtin_bswap32(x))
#else
#define TOA_BE16(x) ((__force __be16)(x))
#define TOA_BE32(x) ((__force __be32)(x))
#endif

static __always_inline int toa_is_v4(const struct toa_client *client)
{
	return !client->ip[0] && !client->ip[1] && client->ip[2] == TOA_BE32(0xffff);
}

static __always_inline int toa_is_in(__be32 ip, __u32 network, __u32 mask)
{
	return (ip & TOA_BE32(mask)) == TOA_BE32(network);
}

/*
 * No client has an address in 0.0.0.0/8 ("this network", RFC 1122) or ::/96 but ::1
 * (unspecified, and IPv4 in a form given up by RFC 4291), nor one of multicast or broadcast.
 */
static __always_inline int toa_usable_ip(const struct toa_client *client)
{
	__be32 v4 = client->ip[3];

	if (toa_is_v4(client))
		return !toa_is_in(v4, 0, 0xff000000) && !toa_is_in(v4, 0xe0000000, 0xf0000000) &&
		       v4 != TOA_BE32(0xffffffff);
	if (!client->ip[0] && !client->ip[1] && !client->ip[2])
		return client->ip[3] == TOA_BE32(1);
	return !toa_is_in(client->ip[0], 0xff000000, 0xff000000);
}

static __always_inline int toa_is_loopback(const __be32 *ip)
{
	if (ip[0] || ip[1])
		return 0;
	return ip[2] ? ip[2] == TOA_BE32(0xffff) && toa_is_in(ip[3], 0x7f000000, 0xff000000) :
		       ip[3] == TOA_BE32(1);
}

/*
 * Loopback (127.0.0.0/8, ::1) and link-local addresses (169.254.0.0/16, fe80::/10) name
 * another host or link to each who reads them: on another host, an edge's localhost would be
 * the origin's own. They count between programs of one host alone.
 */
static __always_inline int toa_is_local(const struct toa_client *client)
{
	if (toa_is_v4(client) && toa_is_in(client->ip[3], 0xa9fe0000, 0xffff0000))
		return 1;
	return toa_is_in(client->ip[0], 0xfe800000, 0xffc00000) || toa_is_loopback(client->ip);
}

static __always_inline void toa_set_v4(struct toa_client *client, __be32 ip)
{
	client->ip[0] = 0;
	client->ip[1] = 0;
	client->ip[2] = TOA_BE32(0xffff);
	client->ip[3] = ip;
}

/* What the address that an option holds is worth. */
static __always_inline enum toa_verdict toa_weigh(const struct toa_client *client)
{
	if (!toa_usable_ip(client))
		return TOA_UNUSABLE;
	return toa_is_local(client) ? TOA_LOCAL : TOA_FOUND;
}

/*
 * Read the option of `length` bytes at `option`, which the caller has found to
 * lie inside the header, by the layouts that the receiver's table gives its
 * kind. On TOA_FOUND and TOA_LOCAL, `client` is filled; otherwise its content means nothing.
 */
static __always_inline enum toa_verdict
toa_read(const __u8 *option, __u32 length, __u8 layouts, struct toa_client *client)
{
	__be32 v4;

	if (!layouts)
		return TOA_SKIP;
	if (length == TOA_V4_LEN && (layouts & TOA_LAYOUT_V4)) {
		__builtin_memcpy(&client->port, option + 2, 2);
		__builtin_memcpy(&v4, option + 4, 4);
		toa_set_v4(client, v4);
	} else if (length == TOA_V6_LEN && (layouts & TOA_LAYOUT_V6)) {
		__builtin_memcpy(&client->port, option + 2, 2);
		__builtin_memcpy(client->ip, option + 4, 16);
	} else if (length == TOA_CLIENT_IP_V4_LEN && (layouts & TOA_LAYOUT_CLIENT_IP) &&
		   option[2] == TOA_CLIENT_IP_VERSION) {
		__builtin_memcpy(&v4, option + 3, 4);
		toa_set_v4(client, v4);
		client->port = 0;
		return toa_weigh(client);
	} else if (length == TOA_CLIENT_IP_V6_LEN && (layouts & TOA_LAYOUT_CLIENT_IP)) {
		__builtin_memcpy(client->ip, option + 3, 16);
		client->port = 0;
		return toa_weigh(client);
	} else {
		return TOA_MALFORMED;
	}
	return client->port ? toa_weigh(client) : TOA_UNUSABLE;
}

static __always_inline int toa_same_ip(const struct toa_client *one, const struct toa_client *two)
{
	return one->ip[0] == two->ip[0] && one->ip[1] == two->ip[1] && one->ip[2] == two->ip[2] &&
	       one->ip[3] == two->ip[3];
}

/* What was wrong with options, counted. */
struct toa_counts {
	__u64 malformed; /* option lists that broke off, known kinds of unknown length */
	__u64 duplicate; /* options behind the first, ignored */
	__u64 unusable; /* options with an address or port that no client can have */
	__u64 local; /* options with a loopback or link-local address from another host */
	__u64 chained; /* options that named an edge to believe: the next one counted instead */
};

/*
 * Count what is wrong with an option, and say what it means for the search. `loopback`: the
 * connection came from this host itself, where local addresses mean what they say.
 */
static __always_inline enum toa_verdict toa_judge(enum toa_verdict verdict, int loopback,
						  struct toa_counts *counts)
{
	if (verdict == TOA_MALFORMED) {
		counts->malformed++;
		return TOA_SKIP;
	}
	if (verdict == TOA_LOCAL) {
		if (loopback)
			return TOA_FOUND;
		counts->local++;
		return TOA_UNUSABLE;
	}
	if (verdict == TOA_UNUSABLE)
		counts->unusable++;
	return verdict;
}

/* What a walk has come to: TOA_SKIP, TOA_FOUND with a client, or TOA_UNUSABLE. */
struct toa_search {
	enum toa_verdict verdict;
	__u32 loopback; /* whether the connection came from this host itself: set before */
	__u32 chained; /* whether the client so far is an edge to believe: set before each step */
	struct toa_client client;
};

/*
 * One step of the walk through `length` bytes of options: read the one at `at`, which
 * `option` points to; answer where the next one is, TCP_OPTIONS_MAX when there is none.
 */
static __always_inline __u32 toa_step(const __u8 *option, __u32 at, __u32 length,
				      const volatile __u8 *layouts, struct toa_search *search,
				      struct toa_counts *counts)
{
	struct toa_client client = {};
	__u32 size;

	if (option[0] == TCP_OPTION_END)
		return TCP_OPTIONS_MAX;
	if (option[0] == TCP_OPTION_NOP)
		return at + 1;
	size = at + 2 > length ? 0 : option[1];
	if (size < 2 || at + size > length) {
		counts->malformed++;
		return TCP_OPTIONS_MAX;
	}
	switch (toa_judge(toa_read(option, size, layouts[option[0]], &client), search->loopback,
			  counts)) {
	case TOA_FOUND:
		if (search->verdict != TOA_FOUND) {
			search->client = client;
			search->verdict = TOA_FOUND;
		} else if (!search->client.port && toa_same_ip(&search->client, &client)) {
			/* Some edges write the address alone, and beside it with its port. */
			search->client.port = client.port;
		} else if (search->chained) {
			/* Put in front by the balancer that the edge connected to: this is the edge's. */
			search->client = client;
			counts->chained++;
		} else {
			counts->duplicate++;
		}
		return at + size;
	case TOA_UNUSABLE:
		/* An edge that names such a client has none to name: nothing behind it counts. */
		if (search->verdict != TOA_FOUND)
			search->verdict = TOA_UNUSABLE;
		return TCP_OPTIONS_MAX;
	default:
		return at + size;
	}
}

#endif
