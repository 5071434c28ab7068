/* SPDX-License-Identifier: GPL-2.0-or-later OR BSD-2-Clause */
/*
 * Clients named by the local port that their connection will come from: the way of the
 * control socket, whose process writes this table through a shared mapping (ports.py has
 * the layout's Python twin). An entry serves one connection.
 */
#ifndef CLOUD_TOA_EDGE_PORTS_H
#define CLOUD_TOA_EDGE_PORTS_H

#include "edge_maps.h"

#define PORT_EMPTY 0
#define PORT_WAITING 1

struct named_port {
	__u64 until; /* ns of CLOCK_MONOTONIC, from which on it is void */
	__u32 peer; /* this one and the next are the queue datapath's */
	__u32 isn;
	__u8 state; /* written last */
	__u8 late; /* its peer waits for no answer: it may be stored after connect() */
	__u8 length; /* of the option */
	__u8 reserved;
	struct toa_option option; /* as on the wire */
};

/* By local port; one entry stands for none of it, until edge.py wants them all. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct named_port);
} ports SEC(".maps");

/* The client that waits for a connection from this port, or none. */
static __always_inline struct named_port *named_port(__u32 port)
{
	struct named_port *entry = bpf_map_lookup_elem(&ports, &port);

	if (!entry || entry->state != PORT_WAITING || entry->until <= bpf_ktime_get_ns())
		return 0;
	return entry;
}

/* Whether some peer stores its entries without waiting for an answer: port 0's entry says so. */
static __always_inline int late_peers(void)
{
	__u32 none = 0;
	struct named_port *entry = bpf_map_lookup_elem(&ports, &none);

	return entry && entry->late;
}

/*
 * The socket has the client from now on, and the port is free for the next one. False: none,
 * as the entry is being replaced. Its writer empties the state, then sets `until` anew, the
 * rest, and the state at last: with both the same before and after, the copy is whole.
 */
static __always_inline int take_port(struct sender *sender, struct named_port *entry)
{
	volatile struct named_port *now = entry;
	__u64 until = now->until;

	if (now->state != PORT_WAITING)
		return 0;
	sender->option = entry->option;
	barrier();
	if (now->state != PORT_WAITING || now->until != until) {
		sender->option.length = 0;
		return 0;
	}
	entry->state = PORT_EMPTY;
	COUNT(clients);
	return 1;
}

#endif
