/* The desired state of one gateway on its way to the agent: which doors it has yet to be told,
 * holds, and has yet to forget. Pure.
 *
 *   add ──▶ UNTOLD ──next──▶ TOLD ──acknowledged──▶ HELD
 *              │               │                      │
 *            remove          remove                 remove
 *              ▼               └──────▶ LEAVING ◀─────┘ ──next──▶ LEFT ──acknowledged──▶ OUT
 *             OUT
 *
 * What an agent knows may have to be told again (a renewal): it waits as UNTOLD like a new one, but
 * its removal is told. Doors that belong together travel in one delta.
 *
 * A grant whose flows are to be cut waits on lists of its own (CUT, CUT_TOLD): its cut travels
 * behind every removal, and again with every stream until it is acknowledged.
 *
 * sync_open() begins anew: every door becomes SNAPSHOT and is told again, in pieces; what is added
 * meanwhile waits as UNTOLD until the snapshot is complete. While no stream is open nobody needs to
 * be told that a door left. */
#ifndef POSTERN_SERVER_FLEET_SYNC_H
#define POSTERN_SERVER_FLEET_SYNC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/fleet/watch.h"

#define SYNC_DOORS_MAX 256 /* a piece stays far below a frame */
#define SYNC_REMOVED_MAX 1024
#define SYNC_CUT_MAX 1024

enum sync_place {
	SYNC_OUT,
	SYNC_SNAPSHOT,
	SYNC_UNTOLD,
	SYNC_TOLD,
	SYNC_HELD,
	SYNC_LEAVING,
	SYNC_LEFT,
	SYNC_CUT,
	SYNC_CUT_TOLD,
	SYNC_PLACES,
};

/* Embedded by its owner; zero-initialised = out. */
struct sync_door {
	struct sync_door *next, *previous;
	enum sync_place place;
	uint64_t sequence; /* of the item that told of it, or of its removal */
	int64_t told_us;
	bool known; /* the agent may hold it */
	bool with_next; /* travels in one delta with the one added after it */
};

struct sync_list {
	struct sync_door *first, *last;
};

struct sync {
	struct sync_list lists[SYNC_PLACES];
	bool open, in_snapshot;
	uint64_t sequence; /* of the newest item */
	struct watches
		watches; /* primary connections: added, removed and popped by their own functions */
};

/* One item of the stream. In a delta the removals come first: a door may follow another of the same
 * key. */
struct sync_item {
	uint64_t sequence;
	bool snapshot, snapshot_end;
	struct sync_door *doors[SYNC_DOORS_MAX];
	size_t door_count;
	struct sync_door *removed[SYNC_REMOVED_MAX];
	size_t removed_count;
	struct sync_door *cut[SYNC_CUT_MAX];
	size_t cut_count;
	struct watch_item watches;
};

/* Items are numbered from `base` + 1: a base of its own for each life of the server keeps the
 * acknowledgements of an earlier one apart. */
void sync_init(struct sync *sync, uint64_t base);
void sync_add(struct sync *sync, struct sync_door *door);
/* True: the agent does not know it, it is out. False: it is out when sync_pop_gone() returns it. */
bool sync_remove(struct sync *sync, struct sync_door *door);
/* Its time has changed: the agent is told again, if it was told. */
void sync_retell(struct sync *sync, struct sync_door *door);
/* The agent says that it does not hold the door that item `sequence` told of. False: it has been
 * told again since, or not yet; nothing changes. */
bool sync_drop(struct sync *sync, struct sync_door *door, uint64_t sequence);
/* `cut` is not a door's: embedded beside it. Nothing happens if it waits already. */
void sync_add_cut(struct sync *sync, struct sync_door *cut);
void sync_open(struct sync *sync);
/* Afterwards sync_pop_gone() returns whatever was still leaving. */
void sync_close(struct sync *sync);
bool sync_has_item(const struct sync *sync);
/* Only when sync_has_item(). */
void sync_next(struct sync *sync, int64_t now_us, struct sync_item *ret_item);
/* The agent has applied every item up to `sequence`: the next door it therefore holds, NULL when
 * that was all. */
struct sync_door *sync_pop_held(struct sync *sync, uint64_t sequence);
/* The next grant whose flows are cut. */
struct sync_door *sync_pop_cut(struct sync *sync, uint64_t sequence);
struct sync_door *sync_pop_gone(struct sync *sync, uint64_t sequence);

#endif
