/* Tells journal entries to people, one line each: what happened, to whom, with what figures. */
#ifndef POSTERN_CLI_STORY_H
#define POSTERN_CLI_STORY_H

#include <stdbool.h>
#include <stdio.h>

#include "postern/v1/types.pb-c.h"

/* "2026-11-24 08:02:37.123  #17 gw1  established  10.77.1.2:40000 -> 10.77.2.2:1046 tcp  grant
 * 0193..." */
void story_line(FILE *out, const Postern__V1__Entry *entry);
/* Inside the life of one grant: time since `start_us` instead of what is the same in every line. */
void story_chapter(FILE *out, const Postern__V1__Entry *entry, int64_t start_us);

/* What a grant or an entry about one says of its door; the strings are theirs. */
struct story_door {
	bool inbound;
	const char *client, *remote, *external;
	char *const *remotes; /* inbound, several */
	size_t remote_count;
	uint32_t client_port, remote_port, remote_port_last, external_port;
	Postern__V1__Transport transport;
};
struct story_door story_door_of_grant(const Postern__V1__Grant *grant);
struct story_door story_door_of_entry(const Postern__V1__Entry *entry);
/* In the order of the connection, as it is opened: "10.77.1.2 -> 10.77.2.2:1046 tcp",
 * "10.77.1.2 -> 10.77.2.2:5004-5005 udp, seen as 10.77.2.101:4000",
 * "10.77.2.2 -> 10.77.2.101:50000 -> 10.77.1.2:2000 tcp", "anybody -> ...",
 * "10.77.2.2 (+1 other) -> ..." */
void story_door(const struct story_door *door, char *text, size_t size);
/* "timeout,bidirectional"; "" for none. */
void story_flags(uint32_t flags, char *text, size_t size);

#endif
