/* Tells journal entries to people, one line each: what happened, to whom, with what figures. */
#ifndef POSTERN_CLI_STORY_H
#define POSTERN_CLI_STORY_H

#include <stdio.h>

#include "postern/v1/types.pb-c.h"

/* "2026-11-24 08:02:37.123  #17 gw1  established  10.77.1.2:40000 -> 10.77.2.2:1046 tcp  grant
 * 0193..." */
void story_line(FILE *out, const Postern__V1__Entry *entry);
/* Inside the life of one grant: time since `start_us` instead of what is the same in every line. */
void story_chapter(FILE *out, const Postern__V1__Entry *entry, int64_t start_us);
/* "10.77.1.2 -> 10.77.2.2:1046 tcp" */
void story_door(const char *client, const char *remote, uint32_t port,
	Postern__V1__Transport transport, char *text, size_t size);
/* "timeout,bidirectional"; "" for none. */
void story_flags(uint32_t flags, char *text, size_t size);

#endif
