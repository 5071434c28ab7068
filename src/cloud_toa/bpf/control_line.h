/* SPDX-License-Identifier: GPL-2.0-or-later OR BSD-2-Clause */
/*
 * The usual line of the control socket, `add:PORT:CLIENT`, read character by character behind its
 * verb. What session.py would refuse, or read in another way, ends as OTHER.
 */
#ifndef CLOUD_TOA_CONTROL_LINE_H
#define CLOUD_TOA_CONTROL_LINE_H

#include <linux/types.h>

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

#endif
