/* SPDX-License-Identifier: GPL-2.0-or-later OR BSD-2-Clause */
/*
 * The client in a packet's options, or in those of the SYN that the kernel kept.
 */
#ifndef CLOUD_TOA_ORIGIN_SEARCH_H
#define CLOUD_TOA_ORIGIN_SEARCH_H

#include "origin_maps.h"
#include "peer.h"

#define SOL_TCP 6
#define TCP_HEADER_LEN 20

/* NOP, NOP, timestamps: how Linux opens the options of every packet. */
#define TIMESTAMPS 0x0101080a
#define TIMESTAMPS_LEN 12

/*
 * A copy of one packet's options while they are walked. Linux 5.10 takes no
 * variable index into the stack, and a per-CPU buffer could be overwritten by a
 * packet that interrupts; what belongs to a locked socket can't.
 */
struct scratch {
	__u32 length;
	struct toa_search search;
	__u8 options[64 + TOA_V6_LEN]; /* an index of 6 bits, and what is read from there */
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct scratch);
} scratches SEC(".maps");

/* Say what an option of the packet at hand means for the search. */
static __always_inline enum toa_verdict
judge(struct bpf_sock_ops *ctx, enum toa_verdict verdict, struct counters *count)
{
	return toa_judge(verdict, verdict == TOA_LOCAL && peer_is_loopback(ctx), &count->options);
}

static __always_inline struct scratch *new_scratch(struct bpf_sock *sk, struct counters *count)
{
	struct scratch *scratch;

	if (!sk)
		return 0;
	scratch = bpf_sk_storage_get(&scratches, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!scratch)
		count->no_memory++;
	return scratch;
}

/*
 * Whether the client that was found is itself an edge to believe, so that the option behind
 * names whom it serves. Never where everyone is trusted, which Python refuses beside `chain`.
 */
static __always_inline int is_chained(const struct toa_search *search)
{
	struct trust_key key = { .prefixlen = 128 };

	if (!settings.chain || search->verdict != TOA_FOUND)
		return 0;
	__builtin_memcpy(key.ip, search->client.ip, sizeof(key.ip));
	return bpf_map_lookup_elem(&trust, &key) != 0;
}

/*
 * A step through the socket's scratch. Not static: so the verifier goes through it once
 * and not once per step.
 */
__attribute__((noinline)) int step(struct bpf_sock_ops *ctx, __u32 at)
{
	struct scratch *scratch;
	struct counters *count;
	struct bpf_sock *sk;

	sk = ctx->sk;
	if (!sk)
		return TCP_OPTIONS_MAX;
	scratch = bpf_sk_storage_get(&scratches, sk, 0, 0);
	count = counters_here();
	if (!scratch || !count || at >= scratch->length)
		return TCP_OPTIONS_MAX;
	scratch->search.chained = is_chained(&scratch->search);
	return toa_step(scratch->options + (at & 63), at, scratch->length, settings.layouts,
			&scratch->search, &count->options);
}

/* Walk the scratch kind by kind and forget it: the first client wins, or a chain's last. */
static __always_inline enum toa_verdict walk(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
				struct scratch *scratch, struct toa_client *client)
{
	enum toa_verdict verdict;
	__u32 at = 0;

	scratch->search.loopback = peer_is_loopback(ctx);
	_Pragma("clang loop unroll(disable)")
	for (int i = 0; i < TCP_OPTIONS_MAX && at < TCP_OPTIONS_MAX; i++)
		at = step(ctx, at);
	*client = scratch->search.client;
	verdict = scratch->search.verdict;
	bpf_sk_storage_delete(&scratches, sk);
	return verdict;
}

/* The client in the options of the packet at hand; the usual ones are seen at a glance. */
static __always_inline enum toa_verdict
find_in_packet(struct bpf_sock_ops *ctx, struct toa_client *client, struct counters *count)
{
	__u8 *options = ctx->skb_data + TCP_HEADER_LEN, *end = ctx->skb_data_end;
	struct scratch *scratch;
	struct bpf_sock *sk;
	__u8 *option, layouts;

	option = options;
	if (options + TIMESTAMPS_LEN <= end && *(__be32 *)options == TOA_BE32(TIMESTAMPS))
		option += TIMESTAMPS_LEN;
	if (option >= end)
		return TOA_SKIP;
	if (option + TOA_V4_LEN <= end) {
		layouts = settings.layouts[option[0]];
		if (layouts && option[1] == TOA_V4_LEN && option + TOA_V4_LEN + 1 > end)
			return judge(ctx, toa_read(option, TOA_V4_LEN, layouts, client), count);
		if (layouts && option[1] == TOA_V6_LEN && option + TOA_V6_LEN <= end &&
		    option + TOA_V6_LEN + 1 > end)
			return judge(ctx, toa_read(option, TOA_V6_LEN, layouts, client), count);
	}

	sk = ctx->sk;
	scratch = new_scratch(sk, count);
	if (!scratch)
		return TOA_SKIP;
	for (int at = 0; at < TCP_OPTIONS_MAX; at += 4) {
		if (options + at + 4 > end)
			break;
		*(__u32 *)(scratch->options + at) = *(__u32 *)(options + at);
		scratch->length = at + 4;
	}
	return walk(ctx, sk, scratch, client);
}

/* The client in the options of the SYN, where the kernel has kept it. */
static __always_inline enum toa_verdict
find_in_syn(struct bpf_sock_ops *ctx, struct toa_client *client, struct counters *count)
{
	__u8 header[TCP_HEADER_LEN + TCP_OPTIONS_MAX] __attribute__((aligned(8))) = {};
	struct scratch *scratch;
	struct bpf_sock *sk;
	int length;

	length = bpf_getsockopt(ctx, SOL_TCP, TCP_BPF_SYN, header, sizeof(header));
	if (length <= TCP_HEADER_LEN)
		return TOA_SKIP;
	sk = ctx->sk;
	scratch = new_scratch(sk, count);
	if (!scratch)
		return TOA_SKIP;
	__builtin_memcpy(scratch->options, header + TCP_HEADER_LEN, TCP_OPTIONS_MAX);
	scratch->length = length - TCP_HEADER_LEN;
	return walk(ctx, sk, scratch, client);
}

#endif
