/* SPDX-License-Identifier: GPL-2.0-or-later OR BSD-2-Clause */
/*
 * What the sender's programs share: settings, senders and counters;
 * edge_origins.h, edge_ports.h and edge_records.h have the other maps.
 */
#ifndef CLOUD_TOA_EDGE_MAPS_H
#define CLOUD_TOA_EDGE_MAPS_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "toa.h"

#define WHERE_SYN 1
#define WHERE_ACK 2
#define WHERE_DATA 4

/* Settings are compiled in when the program is loaded: other settings, other programs. */
const volatile struct {
	__u8 kind_v4;
	__u8 kind_v6;
	__u8 where;
	__u8 listed; /* only destinations in the map `origins` get the option */
	__u8 control; /* clients may be named in the map `ports` */
	__u8 tell; /* connections that were not written in as said by `where` go into `records` */
	__u8 no_port; /* NO_PORT_*: what is sent of a client without a port */
	__u8 kind_client_ip; /* for NO_PORT_CLIENT_IP */
	__u8 refuse_elsewhere; /* whoever bound to a client goes to listed destinations alone */
	__u8 only_named; /* IP_TRANSPARENT names nobody: it means what it says */
} settings = { 254, 254, WHERE_SYN | WHERE_ACK | WHERE_DATA, 0, 0, 0, 0, 28, 0, 0 };

#define NO_PORT_CONNECTION 0 /* the connection's own source port goes with the address */
#define NO_PORT_CLIENT_IP 1 /* the layout that has none */
#define NO_PORT_SKIP 2 /* nothing */

/* Whom a bind() is for. */
#define BIND_CLIENT 1 /* transparent: it names the client */
#define BIND_LISTENER 2 /* sharing its port, as listeners do: it means what it says */

#define SENDER_PORTLESS 1 /* its client was named without a port */
#define SENDER_TAKEN 2 /* its bind() was for a client, and has bound to nothing */
#define SENDER_TRANSPARENT 4 /* a BIND_LISTENER that the kernel made transparent */
#define SENDER_OFF 8 /* packets that are shown are none of ours: since connect(), but for
			 from switch_on() to switch_off() */
#define SENDER_SHOWN 16 /* another program had packets shown before us */
#define SENDER_BY_PORT 32 /* its client was named by port: for one connection */

/* One per socket of the load balancer that was made transparent or named its client. */
struct sender {
	struct toa_option option; /* as on the wire; length 0 until a client is known */
	__u8 bind; /* BIND_* */
	__u8 after_syn; /* a packet after the SYN has had its chance */
	__u8 room; /* what data leaves for the option, also for one that may still come */
	__u8 building; /* WHERE_*: the packet that has room for the option and is to be written */
	__u8 written; /* WHERE_*: packets that carried the option, by what they are */
	__u8 without; /* WITHOUT_*: why packets went without */
	__u8 record; /* RECORD_*: whether this is to be told at its end */
	__u8 flags; /* SENDER_* */
};

/* The client that a sender keeps, but for its port. */
static __always_inline void kept_client(const struct sender *sender, struct toa_client *client)
{
	const struct toa_option *option = &sender->option;

	if (sender->room == TOA_V4_LEN || sender->room == TOA_CLIENT_IP_V4_LEN) {
		toa_set_v4(client, option->ip[0]);
	} else {
		client->ip[0] = option->ip[0];
		client->ip[1] = option->ip[1];
		client->ip[2] = option->ip[2];
		client->ip[3] = option->ip[3];
	}
}

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct sender);
} senders SEC(".maps");

/* In the order of edge.py's COUNTERS. */
struct counters {
	__u64 clients; /* clients that the load balancer named */
	__u64 connections; /* connections begun for one of them */
	__u64 syn; /* packets with the option, by what they are */
	__u64 ack;
	__u64 data;
	__u64 syn_without; /* SYNs left without, as two with the option had no answer */
	__u64 syn_magic; /* SYNs left without: Linux would read a Fast Open or SMC request */
	__u64 no_room; /* connections with a packet whose header had no room */
	__u64 no_port; /* clients named without a port: settings.no_port says what is sent */
	__u64 wildcard; /* transparent sockets bound to no client's address: TPROXY listeners */
	__u64 unusable; /* clients named with an address that no client can have */
	__u64 no_memory; /* sockets that the kernel had no memory to remember */
	__u64 elsewhere; /* connections of a named client to a destination that is not listed */
	__u64 late; /* clients that were named after the SYN had left */
	__u64 not_stored; /* packets whose option the kernel refused: another program wrote one */
	__u64 records_lost; /* connections not told in `records`, which was full */
	__u64 local; /* loopback or link-local clients of connections to another host: not sent */
	__u64 listeners; /* listeners whose bind() was taken for a client's: cut off */
	__u64 refused; /* connections bound to a client, to a destination that is not listed */
	__u64 shared_port; /* connections of transparent sockets that share their port: left alone */
	__u64 flag_cleared; /* times that another program took from us what switch_on() asks for */
};

#include "counters.h"

#endif
