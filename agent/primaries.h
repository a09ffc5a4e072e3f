/* The primary connections of sessions: conntrack's entry of each, followed until its end has been
 * told. Pure. */
#ifndef POSTERN_AGENT_PRIMARIES_H
#define POSTERN_AGENT_PRIMARIES_H

#include <stdbool.h>
#include <stddef.h>

#include "agent/tracked.h"
#include "common/table.h"

/* What the owner does. */
struct primary_hooks {
	/* Looks for an entry by wanted->client, remote and transport, as opened by that client;
	 * addresses may be those of either side of a translation. False: there is none. */
	bool (*find)(void *arg, const struct tracked *wanted, struct tracked *ret_entry);
	/* Sets or clears the mark that makes conntrack tell of this entry's changes. */
	void (*mark)(void *arg, const struct tracked *entry, bool set);
	/* Reads an entry again by its id and tuple. False: it is gone. */
	bool (*read)(void *arg, struct tracked *entry);
	/* The server must hear that this session's primary connection is no more. False: memory is
	 * out; tried again by the next check. */
	bool (*ended)(void *arg, const struct id *session);
};

struct primaries {
	struct table sessions, entries; /* two sessions may share an entry */
	struct primary *first, *last; /* in the order in which they are checked */
	const struct primary_hooks *hooks;
	void *arg;
};

void primaries_init(struct primaries *primaries, const struct primary_hooks *hooks, void *arg);
void primaries_fini(struct primaries *primaries);
size_t primaries_count(const struct primaries *primaries);

/* From now on this connection is followed; hooks->ended comes before this returns if conntrack has
 * none such. A session that is known is confirmed and otherwise left alone. False: memory is out,
 * and nothing was told. */
bool primaries_put(
	struct primaries *primaries, const struct id *session, const struct tracked *wanted);
void primaries_remove(struct primaries *primaries, const struct id *session);

/* A snapshot tells of all: those not put between begin and end are removed. */
void primaries_snapshot_begin(struct primaries *primaries);
void primaries_snapshot_end(struct primaries *primaries);

/* Entries without the mark of primaries are not looked at. */
void primaries_event(
	struct primaries *primaries, enum track_event event, const struct tracked *entry);

/* Reads up to `most` entries, those that were not read for the longest time first: for what events
 * do not tell (they were lost; the entry is older than the listening to events; another program
 * took its mark away). True: every end could be told. */
bool primaries_check(struct primaries *primaries, size_t most);

#endif
