/* SPDX-License-Identifier: GPL-2.0-or-later OR BSD-2-Clause */
/*
 * Clients named by the local port that their connection will come from: the way of the
 * control socket, whose process writes this table through a shared mapping (ports.py has
 * the layout's Python twin). An entry serves one connection.
 */
#ifndef CLOUD_TOA_EDGE_PORTS_H
#define CLOUD_TOA_EDGE_PORTS_H

#include "edge_maps.h"
#include "ports.h"

/* A connection that its port's entry knows of, until it has ended. */
struct occupant {
	__u64 began; /* ns of CLOCK_MONOTONIC */
	__u32 number; /* `begun` as it began, if it has no client */
	__u32 port;
};

/* Only where some peer stores its entries without waiting for an answer. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct occupant);
} occupants SEC(".maps");

static __always_inline struct named_port *port_entry(__u32 port)
{
	return bpf_map_lookup_elem(&ports, &port);
}

/* Whether a client waits here for the next connection. */
static __always_inline int port_waits(const struct named_port *entry)
{
	return entry->state == PORT_WAITING &&
	       (entry->judged == entry->begun || entry->judged == WHATEVER_BEGAN) &&
	       entry->until > bpf_ktime_get_ns();
}

/* Whether some peer stores its entries without waiting for an answer: port 0's entry says so. */
static __always_inline int late_peers(void)
{
	struct named_port *entry = port_entry(0);

	return entry && entry->late;
}

/*
 * The socket has the client from now on, and the port is free for the next one. False: none,
 * as the entry is being replaced. Its writer empties the state, then sets `until` anew, the
 * rest, and the state at last: with both the same before and after, the copy is whole.
 */
static __always_inline int take_port(struct sender *sender, struct named_port *entry, __u8 state)
{
	volatile struct named_port *now = entry;
	__u64 until = now->until;

	if (now->state != state)
		return 0;
	sender->option = entry->option;
	barrier();
	if (now->state != state || now->until != until) {
		sender->option.length = 0;
		return 0;
	}
	entry->state = PORT_EMPTY;
	sender->flags |= SENDER_BY_PORT;
	COUNT(clients);
	return 1;
}

/*
 * A connection begins, of which whoever names clients by its port is to know (ports.py). `gone`
 * first, so that nobody takes it for one that has not ended.
 */
static __always_inline void occupy(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
				   struct named_port *entry, int unnamed, int late)
{
	__u64 now = bpf_ktime_get_ns();
	struct occupant *kept = 0;

	if (late)
		kept = bpf_sk_storage_get(&occupants, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	*(volatile __u64 *)&entry->gone = kept ? 0 : now;
	*(volatile __u64 *)&entry->began = now;
	if (unnamed) {
		entry->state = PORT_EMPTY;
		__sync_fetch_and_add(&entry->begun, 1);
	}
	if (!kept)
		return;
	kept->began = now;
	kept->number = entry->begun;
	kept->port = ctx->local_port;
	/* To be shown its end. */
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

/* The state has changed: note a connection's end. */
static __always_inline void leave(struct bpf_sock_ops *ctx)
{
	__u32 now = ctx->args[1];
	struct bpf_sock *sk = ctx->sk;
	struct named_port *entry;
	struct occupant *kept;

	if (!settings.control || !sk ||
	    (now != BPF_TCP_FIN_WAIT1 && now != BPF_TCP_LAST_ACK && now != BPF_TCP_CLOSE))
		return;
	kept = bpf_sk_storage_get(&occupants, sk, 0, 0);
	if (!kept)
		return;
	entry = port_entry(kept->port);
	if (entry && entry->began == kept->began)
		entry->gone = bpf_ktime_get_ns();
	bpf_sk_storage_delete(&occupants, sk);
}

#endif
