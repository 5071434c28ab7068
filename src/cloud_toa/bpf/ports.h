/* SPDX-License-Identifier: GPL-2.0-or-later OR BSD-2-Clause */
/*
 * The table of clients by local port, as ports.py describes it: written by the control
 * socket's process and by control.bpf.c, read by the sender.
 */
#ifndef CLOUD_TOA_PORTS_H
#define CLOUD_TOA_PORTS_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "toa.h"

#define PORT_EMPTY 0
#define PORT_WAITING 1 /* for the next SYN */
#define PORT_TAKEN 2 /* the queue's */
#define PORT_LATE 3 /* for the connection that began as number `judged`, whose SYN is gone */
#define PORT_CONTESTED 4 /* several clients were named at once: for none */

/* `judged` where the entry was stored before its connection began. */
#define WHATEVER_BEGAN (~0U)

/* Times are nanoseconds of CLOCK_MONOTONIC. */
struct named_port {
	__u64 until; /* from which on it is void */
	__u64 began; /* when the last connection from here began */
	__u64 gone; /* when that ended; 0 while it has not */
	__u32 begun; /* how many have begun without a client */
	__u32 judged; /* `begun` as whoever added this has seen it */
	__u32 settled; /* how many of them have had a client named, or will get none */
	__u32 peer; /* this one and the next are the queue datapath's */
	__u32 isn;
	__u8 state; /* written last */
	__u8 late; /* of port 0's: there was a peer that can't know when its entry is stored */
	__u8 length; /* of the option */
	__u8 reserved;
	struct toa_option option; /* as on the wire */
	__u32 padding;
};

/* By local port; one entry stands for none of it, until edge.py wants them all. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct named_port);
} ports SEC(".maps");

#endif
