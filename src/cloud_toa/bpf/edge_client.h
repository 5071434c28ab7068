/* SPDX-License-Identifier: GPL-2.0-or-later OR BSD-2-Clause */
/*
 * The client that a load balancer has named, kept as the option that will go out.
 */
#ifndef CLOUD_TOA_EDGE_CLIENT_H
#define CLOUD_TOA_EDGE_CLIENT_H

#include "edge_maps.h"
#include "edge_records.h"

/* Keep the client as an option, which does not go out yet. */
static __always_inline void keep_client(struct sender *sender, const struct toa_client *client)
{
	struct toa_option *option = &sender->option;

	sender->without = 0;
	sender->flags &= ~(SENDER_PORTLESS | SENDER_BY_PORT);
	option->length = 0;
	option->port = client->port;
	if (toa_is_v4(client)) {
		option->kind = settings.kind_v4;
		sender->room = TOA_V4_LEN;
		option->ip[0] = client->ip[3];
	} else {
		option->kind = settings.kind_v6;
		sender->room = TOA_V6_LEN;
		option->ip[0] = client->ip[0];
		option->ip[1] = client->ip[1];
		option->ip[2] = client->ip[2];
		option->ip[3] = client->ip[3];
	}
}

/* Keep the client as the option that will go out. False: nothing to send. */
static __always_inline int name_client(struct sender *sender, const struct toa_client *client)
{
	keep_client(sender, client);
	if (!toa_usable_ip(client)) {
		COUNT(unusable);
		return 0;
	}
	if (!client->port) {
		COUNT(no_port);
		sender->flags |= SENDER_PORTLESS;
		if (settings.no_port == NO_PORT_SKIP) {
			sender->without = WITHOUT_NO_PORT;
			return 0;
		}
		if (settings.no_port == NO_PORT_CLIENT_IP) {
			sender->option.kind = settings.kind_client_ip;
			sender->room = sender->room == TOA_V4_LEN ? TOA_CLIENT_IP_V4_LEN :
								    TOA_CLIENT_IP_V6_LEN;
		}
	}
	sender->option.length = sender->room;
	COUNT(clients);
	return 1;
}

#endif
