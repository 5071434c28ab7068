// SPDX-License-Identifier: GPL-2.0-or-later OR BSD-2-Clause
/*
 * The parser that the eBPF receiver and the kernel module share, as user-space code: for
 * libFuzzer, with the sanitizers; and as a library, for options.py to hold the Python twin to.
 */
#include <assert.h>
#include <linux/types.h>
#include <stdlib.h>
#include <string.h>

#undef __always_inline /* libc's */
#define __always_inline inline __attribute__((always_inline))
#include "toa.h"

struct answer {
	struct toa_client client;
	__u32 found;
	struct toa_counts counts;
};

/* As options.py: KINDS. */
static const __u8 layouts[256] = {
	[28] = TOA_LAYOUT_CLIENT_IP,
	[253] = TOA_LAYOUT_V4 | TOA_LAYOUT_V6 | TOA_LAYOUT_CLIENT_IP,
	[254] = TOA_LAYOUT_V4 | TOA_LAYOUT_V6,
};

/* As options.py: EDGES, 203.0.0.0/8. */
static int is_edge(const struct toa_client *client)
{
	return toa_is_v4(client) && toa_is_in(client->ip[3], 0xcb000000, 0xff000000);
}

void decode(const __u8 *options, __u32 length, __u32 loopback, __u32 chain, struct answer *answer)
{
	struct toa_search search = { .verdict = TOA_SKIP, .loopback = loopback };
	__u32 at = 0, next;

	memset(answer, 0, sizeof(*answer));
	while (at < length) {
		search.chained = chain && search.verdict == TOA_FOUND && is_edge(&search.client);
		next = toa_step(options + at, at, length, layouts, &search, &answer->counts);
		assert(next > at);
		at = next;
	}
	answer->found = search.verdict == TOA_FOUND;
	if (answer->found)
		answer->client = search.client;
}

int LLVMFuzzerTestOneInput(const __u8 *data, size_t size)
{
	__u32 length = size < TCP_OPTIONS_MAX ? size : TCP_OPTIONS_MAX;
	__u8 *options = malloc(length); /* of this size, so that a byte too far is noticed */
	struct answer answer;

	if (length)
		memcpy(options, data, length);
	decode(options, length, 0, 1, &answer);
	free(options);
	assert(!answer.found ||
	       (toa_usable_ip(&answer.client) && !toa_is_local(&answer.client)));
	assert(answer.counts.malformed + answer.counts.duplicate + answer.counts.unusable +
		       answer.counts.local + answer.counts.chained <=
	       length / 2 + 1);
	return 0;
}
