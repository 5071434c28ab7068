// SPDX-License-Identifier: GPL-2.0-or-later OR BSD-2-Clause
/*
 * Lines of the control socket, executed while their peer is still in write().
 *
 * A peer that did not say hello connects right after it has written `add:PORT:CLIENT`, without
 * knowing whether anybody has read it. Its SYN may leave sooner than a process can be woken. So
 * the process that listens puts such a peer's socket into `peers`, and this program sees what
 * comes to it in the context of who writes: the entry is there when write() is done, as if there
 * had been an answer.
 *
 * It reads the usual line, alone in its write, and drops it. All else goes up to the process.
 * That includes every line that is refused: session.py has the rules, and says why.
 *
 * Source: linux/net/core/skmsg.c (sk_psock_verdict_data_ready), net/unix/unix_bpf.c, Linux 5.15.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "ports.h"

#define LIFETIME 10000000000ULL /* as in ports.py, and the next two */
#define HANDSHAKE 180000000000ULL
#define AT_ONCE 1000000000ULL

#define LONGEST 64 /* bytes of a line, of which the longest that says something has 58 */

const volatile struct {
	__u8 kind_v4;
	__u8 kind_v6;
	__u32 netns; /* inode number of the network namespace whose ports these are */
} settings = { 254, 254, 0 };

/* Peers that did not say hello; as many as server.py's MAX_PEERS. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u32);
} peers SEC(".maps");

/* Lines that were executed here. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} added SEC(".maps");

/* Where a line's reader is. */
enum where { LOCAL_PORT, HOST, V4, V6, BEHIND_V6, CLIENT_PORT, END, DONE, OTHER };

struct line {
	__u32 where;
	__u32 number; /* being read */
	__u32 digits; /* of it, so far */
	__u32 count; /* of the address's numbers, so far */
	__u32 gap; /* how many of them came before "::"; 8 and more where there is none */
	__u32 colons; /* in a row */
	__u32 local;
	__u32 port;
	__u16 words[8]; /* of an IPv6 address, or an IPv4 one's four numbers */
};

#define NO_GAP 255

static __always_inline void other(struct line *line)
{
	line->where = OTHER;
}

/* A decimal digit of a number up to `most`, in no other spelling than the usual. */
static __always_inline void decimal(struct line *line, __u32 c, __u32 most)
{
	if (line->digits && !line->number) {
		other(line); /* 01 */
		return;
	}
	line->number = line->number * 10 + (c - '0');
	line->digits++;
	if (line->number > most)
		other(line);
}

static __always_inline void next_number(struct line *line)
{
	line->number = 0;
	line->digits = 0;
}

static __always_inline void port_ends(struct line *line, __u32 *port, __u32 where)
{
	if (!line->number) {
		other(line);
		return;
	}
	*port = line->number;
	next_number(line);
	line->where = where;
}

static __always_inline void v6_character(struct line *line, __u32 c)
{
	__u32 digit = 16;

	if (c >= '0' && c <= '9')
		digit = c - '0';
	else if ((c | 32) >= 'a' && (c | 32) <= 'f')
		digit = (c | 32) - 'a' + 10;
	if (digit < 16) {
		if (line->digits == 4 || line->count > 7) {
			other(line);
			return;
		}
		/* One colon in front of all is none of an address's. */
		if (line->colons == 1 && !line->count) {
			other(line);
			return;
		}
		line->colons = 0;
		line->number = line->number << 4 | digit;
		line->digits++;
		return;
	}
	if (c != ':' && c != ']') {
		other(line); /* an interface, an IPv4 address within, or nonsense */
		return;
	}
	if (line->digits) {
		line->words[line->count & 7] = line->number;
		line->count++;
		next_number(line);
	}
	if (c == ']') {
		if (line->colons == 1 || (line->gap == NO_GAP ? line->count != 8 : line->count > 7))
			other(line);
		else
			line->where = BEHIND_V6;
		return;
	}
	line->colons++;
	if (line->colons == 2) {
		if (line->gap != NO_GAP)
			other(line);
		line->gap = line->count;
	} else if (line->colons > 2) {
		other(line);
	}
}

/* Not static: so the verifier goes through it once, and not once for each character. */
__attribute__((noinline)) int character(struct line *line, __u32 c)
{
	int is_digit = c >= '0' && c <= '9';

	if (!line)
		return 0;
	switch (line->where) {
	case LOCAL_PORT:
		if (is_digit)
			decimal(line, c, 65535);
		else if (c == ':')
			port_ends(line, &line->local, HOST);
		else
			other(line);
		break;
	case HOST:
		if (c == '[') {
			line->where = V6;
		} else if (is_digit) {
			line->where = V4;
			decimal(line, c, 255);
		} else {
			other(line);
		}
		break;
	case V4:
		if (is_digit) {
			decimal(line, c, 255);
		} else if (line->digits && (c == (line->count == 3 ? ':' : '.'))) {
			line->words[line->count & 3] = line->number;
			line->count++;
			next_number(line);
			if (line->count == 4)
				line->where = CLIENT_PORT;
		} else {
			other(line);
		}
		break;
	case V6:
		v6_character(line, c);
		break;
	case BEHIND_V6:
		if (c == ':')
			line->where = CLIENT_PORT;
		else
			other(line);
		break;
	case CLIENT_PORT:
		if (is_digit)
			decimal(line, c, 65535);
		else if (c == '\r')
			port_ends(line, &line->port, END);
		else if (c == '\n')
			port_ends(line, &line->port, DONE);
		else
			other(line);
		break;
	case END:
		line->where = c == '\n' ? DONE : OTHER;
		break;
	default:
		other(line); /* something behind the newline */
	}
	return 0;
}

/* The address's word at `at`, with "::" written out. */
static __always_inline __u32 word(const struct line *line, __u32 at)
{
	__u32 zeros = 8 - line->count;

	if (line->gap == NO_GAP || at < line->gap)
		return line->words[at & 7];
	if (at < line->gap + zeros)
		return 0;
	return line->words[(at - zeros) & 7];
}

/* The option that a line means. False: its client is none, or not for here to judge. */
static __always_inline int option_of(const struct line *line, struct toa_option *option)
{
	struct toa_client client = {};
	int i;

	if (line->count == 4 && line->gap == NO_GAP) {
		toa_set_v4(&client, TOA_BE32((__u32)line->words[0] << 24 | line->words[1] << 16 |
					     line->words[2] << 8 | line->words[3]));
	} else {
#pragma unroll
		for (i = 0; i < 4; i++)
			client.ip[i] = TOA_BE32(word(line, 2 * i) << 16 | word(line, 2 * i + 1));
	}
	if (!toa_usable_ip(&client))
		return 0;
	option->port = TOA_BE16((__u16)line->port);
	if (toa_is_v4(&client)) {
		option->kind = settings.kind_v4;
		option->length = TOA_V4_LEN;
		option->ip[0] = client.ip[3];
	} else {
		option->kind = settings.kind_v6;
		option->length = TOA_V6_LEN;
		__builtin_memcpy(option->ip, client.ip, sizeof(client.ip));
	}
	return 1;
}

static __always_inline int same(const struct toa_option *one, const struct toa_option *two)
{
	return one->kind == two->kind && one->length == two->length && one->port == two->port &&
	       one->ip[0] == two->ip[0] && one->ip[1] == two->ip[1] && one->ip[2] == two->ip[2] &&
	       one->ip[3] == two->ip[3];
}

/* What PortTable.add does for a line that is written at this very moment. */
static __always_inline void add(struct named_port *entry, const struct toa_option *option)
{
	__u64 now = bpf_ktime_get_ns(), began = entry->began, gone = entry->gone;
	__u8 state = PORT_WAITING, before = entry->state;
	__u32 begun = entry->begun;

	if (began && (gone ? gone : began + HANDSHAKE) >= now) {
		/* The port is in use: this is not for what comes next from it. */
		entry->settled = begun;
		if (before != PORT_TAKEN)
			entry->state = PORT_EMPTY;
		return;
	}
	if ((before == PORT_CONTESTED || (before == PORT_WAITING && entry->judged == begun &&
					  !same(&entry->option, option))) &&
	    now + LIFETIME < entry->until + AT_ONCE)
		state = PORT_CONTESTED;
	*(volatile __u8 *)&entry->state = PORT_EMPTY;
	barrier();
	entry->until = now + LIFETIME;
	entry->judged = begun;
	entry->settled = begun;
	entry->length = option->length;
	entry->option = *option;
	barrier();
	*(volatile __u8 *)&entry->state = state;
}

SEC("sk_skb/stream_verdict")
int control_line(struct __sk_buff *skb)
{
	struct line line = { .gap = NO_GAP };
	struct toa_option option = {};
	__u32 only = 0, length = skb->len, i;
	struct named_port *entry;
	char verb[4];
	__u64 *count;

	if (length > LONGEST || bpf_skb_load_bytes(skb, 0, verb, sizeof(verb)) || verb[0] != 'a' ||
	    verb[1] != 'd' || verb[2] != 'd' || verb[3] != ':')
		return SK_PASS;
	for (i = sizeof(verb); i < LONGEST; i++) {
		__u8 c;

		if (i >= length)
			break;
		if (bpf_skb_load_bytes(skb, i, &c, 1))
			return SK_PASS;
		character(&line, c);
		if (line.where == OTHER)
			return SK_PASS;
	}
	if (line.where != DONE || !option_of(&line, &option))
		return SK_PASS;
	entry = bpf_map_lookup_elem(&ports, &line.local);
	count = bpf_map_lookup_elem(&added, &only);
	if (!entry || !count)
		return SK_PASS;
	add(entry, &option);
	__sync_fetch_and_add(count, 1);
	return SK_DROP;
}

/* What is read of the kernel's own, wherever it has it (CO-RE). */
struct ns_common {
	unsigned int inum;
} __attribute__((preserve_access_index));

struct net {
	struct ns_common ns;
} __attribute__((preserve_access_index));

typedef struct {
	struct net *net;
} __attribute__((preserve_access_index)) possible_net_t;

struct sock_common {
	unsigned short skc_num;
	possible_net_t skc_net;
} __attribute__((preserve_access_index));

struct sock {
	struct sock_common __sk_common;
} __attribute__((preserve_access_index));

/*
 * For the queue, which is shown no end of a connection: the connection from a port
 * has ended. The eBPF sender sees that by itself.
 */
SEC("tp_btf/inet_sock_set_state")
int control_end(unsigned long long *ctx)
{
	const struct sock *sk = (const struct sock *)ctx[0];
	int now = ctx[2];
	__u32 port = sk->__sk_common.skc_num;
	struct named_port *entry;
	__u64 time;

	if (now != BPF_TCP_FIN_WAIT1 && now != BPF_TCP_LAST_ACK && now != BPF_TCP_CLOSE)
		return 0;
	entry = bpf_map_lookup_elem(&ports, &port);
	if (!entry || !port || !entry->began ||
	    sk->__sk_common.skc_net.net->ns.inum != settings.netns)
		return 0;
	time = bpf_ktime_get_ns();
	if (entry->gone > time)
		entry->gone = time;
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
