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

#include "control_line.h"
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
	/* Whoever waits for an answer was told that its client is stored. */
	if (before == PORT_WAITING && entry->judged == WHATEVER_BEGAN && now < entry->until &&
	    !same(&entry->option, option))
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
