/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Settings as people write them: a list of networks, lists of option kinds. Read whole or
 * refused whole, with a line in the kernel's log that names what can't be used.
 *
 * The rules and the words are those of trust.py, networks.py and option.py.
 */
#ifndef TOA_LISTS_H
#define TOA_LISTS_H

#include <linux/ctype.h>
#include <linux/inet.h>
#include <linux/kernel.h>
#include <linux/string.h>

#include "toa.h"

#define TOA_TRUST_MAX 512 /* networks; and no more text than a page holds */
#define TOA_ANY "any"
#define TOA_SEPARATORS ", \t\n"

struct toa_network {
	__be32 ip[4]; /* IPv4 as ::ffff:a.b.c.d */
	u8 prefix; /* of 128 */
};

struct toa_settings {
	u8 layouts[256]; /* by kind: TOA_LAYOUT_* */
	bool trust_any;
	bool chain;
	u16 networks;
	struct toa_network trust[TOA_TRUST_MAX];
};

/* Kinds that Linux writes, or that IANA assigns to something in use: IN_USE of option.py. */
static const u8 toa_kinds_in_use[] = {
	0, 1, 2, 3, 4, 5, 6, 7, 8, 19, 20, 21, 22, 23, 27, 28, 29, 30, 34, 69, 172, 174,
};
#define TOA_USER_TIMEOUT 28 /* its length tells it from a client-ip option */

static __be32 toa_mask(unsigned int prefix, unsigned int word)
{
	unsigned int bits = prefix > 32 * word ? min(prefix - 32 * word, 32U) : 0;

	return bits ? htonl(~0U << (32 - bits)) : 0;
}

static bool toa_in_network(const __be32 *ip, const struct toa_network *network)
{
	unsigned int word;

	for (word = 0; word < 4; word++)
		if ((ip[word] ^ network->ip[word]) & toa_mask(network->prefix, word))
			return false;
	return true;
}

/* Whether what this source says is believed: 16 bytes, IPv4 as ::ffff:a.b.c.d. Under RCU. */
static bool toa_trusted(const struct toa_settings *settings, const __be32 *source)
{
	unsigned int number;

	if (settings->trust_any)
		return true;
	for (number = 0; number < settings->networks; number++)
		if (toa_in_network(source, &settings->trust[number]))
			return true;
	return false;
}

static int toa_refuse(const char *parameter, const char *word, const char *why)
{
	pr_err("%s: '%s' %s\n", parameter, word, why);
	return -EINVAL;
}

/* A number as a person writes it: digits only. False: it is none, or above `most`. */
static bool toa_number(const char *word, unsigned int most, unsigned int *number)
{
	return isdigit(word[0]) && !kstrtouint(word, 10, number) && *number <= most;
}

static int toa_read_network(char *word, struct toa_network *network)
{
	static const struct toa_network mapped = { { 0, 0, cpu_to_be32(0xffff), 0 }, 96 };
	unsigned int given, family = 128, number;
	char shown[sizeof("255.255.255.255")];
	char *slash = strchrnul(word, '/');
	size_t length = slash - word;
	const char *end;

	memset(network, 0, sizeof(*network));
	if (in4_pton(word, length, (u8 *)&network->ip[3], -1, NULL)) {
		network->ip[2] = htonl(0xffff);
		family = 32;
		/* in4_pton takes more than one way to write an address. */
		snprintf(shown, sizeof(shown), "%pI4", &network->ip[3]);
		if (length != strlen(shown) || memcmp(word, shown, length))
			return toa_refuse("trust", word, "is not an address or CIDR");
	} else if (!in6_pton(word, length, (u8 *)network->ip, -1, &end) || end != slash) {
		return toa_refuse("trust", word,
				  "is not an address or CIDR: write 192.0.2.7, 192.0.2.0/24 or "
				  "2001:db8::/32");
	}
	given = family;
	if (*slash && !toa_number(slash + 1, family, &given))
		return toa_refuse("trust", word, "is not an address or CIDR");
	if (!given)
		return toa_refuse("trust", word, "trusts everyone: if that is meant, write any");
	network->prefix = 128 - family + given;
	for (number = 0; number < 4; number++)
		if (network->ip[number] & ~toa_mask(network->prefix, number))
			return toa_refuse("trust", word, "has bits set behind its prefix");
	if (family == 128 && network->prefix <= mapped.prefix &&
	    toa_in_network(mapped.ip, network))
		return toa_refuse("trust", word,
				  "holds every IPv4 address: if that is meant, write any");
	return 0;
}

static int toa_read_trust(char *list, struct toa_settings *settings)
{
	bool any = false;
	char *word;
	int error;

	settings->networks = 0;
	settings->trust_any = false;
	while ((word = strsep(&list, TOA_SEPARATORS))) {
		if (!*word)
			continue;
		if (!strcmp(word, TOA_ANY)) {
			any = true;
			continue;
		}
		if (settings->networks == TOA_TRUST_MAX)
			return toa_refuse("trust", word, "is one network more than the 512 there may be");
		error = toa_read_network(word, &settings->trust[settings->networks]);
		if (error)
			return error;
		settings->networks++;
	}
	if (any && settings->networks)
		return toa_refuse("trust", TOA_ANY, "trusts everyone: leave the other entries out");
	settings->trust_any = any;
	return 0;
}

static int toa_read_kinds(const char *parameter, char *list, u8 layout,
			  struct toa_settings *settings)
{
	unsigned int kind, number;
	char *word;

	for (number = 0; number < 256; number++)
		settings->layouts[number] &= ~layout;
	while ((word = strsep(&list, TOA_SEPARATORS))) {
		if (!*word)
			continue;
		if (!toa_number(word, 255, &kind))
			return toa_refuse(parameter, word, "is not an option kind: write 0 to 255");
		for (number = 0; number < ARRAY_SIZE(toa_kinds_in_use); number++)
			if (kind == toa_kinds_in_use[number] &&
			    !(kind == TOA_USER_TIMEOUT && layout == TOA_LAYOUT_CLIENT_IP))
				return toa_refuse(parameter, word,
						  "is in use for something else: write 254 or 200");
		settings->layouts[kind] |= layout;
	}
	return 0;
}

#endif
