/* The stream of desired state to one gateway's agent, item by item: its doors, the primary
 * connections to be followed, the grants whose flows are to be cut. What waits for what on its way
 * there is fleet/wanted.h's. Pure.
 *
 * A stream begins with the snapshot, in pieces; then deltas follow. A cut travels behind every
 * removal, and again with every stream until it is acknowledged. */
#ifndef POSTERN_SERVER_FLEET_SYNC_H
#define POSTERN_SERVER_FLEET_SYNC_H

#include "server/fleet/wanted.h"

/* Of an item, so that it stays far below a frame. */
#define SYNC_DOORS_MAX 256
#define SYNC_PRIMARIES_MAX 256
#define SYNC_REMOVED_MAX 1024
#define SYNC_CUT_MAX 1024

struct sync {
	/* Added, removed and popped by wanted.h's functions. */
	struct wanted_list doors, primaries;
	struct wanted_list cuts; /* told of once a stream, never held */
	bool open, in_snapshot;
	uint64_t sequence; /* of the newest item */
	uint64_t revision; /* of the policy document that all of this obeys */
	uint64_t revision_told; /* in this stream; 0 = none yet */
};

/* One item of the stream. In a delta the removals come first: a door may follow another of the same
 * key. */
struct sync_item {
	uint64_t sequence;
	bool snapshot, snapshot_end;
	struct wanted *doors[SYNC_DOORS_MAX], *removed[SYNC_REMOVED_MAX];
	size_t door_count, removed_count;
	struct wanted *cut[SYNC_CUT_MAX];
	size_t cut_count;
	struct wanted *primaries[SYNC_PRIMARIES_MAX], *primaries_removed[SYNC_REMOVED_MAX];
	size_t primary_count, primaries_removed_count;
	uint64_t revision; /* 0 = as before; behind every removal and every cut */
};

/* Items are numbered from `base` + 1: a base of its own for each life of the server keeps the
 * acknowledgements of an earlier one apart. */
void sync_init(struct sync *sync, uint64_t base);
/* Nothing happens if it waits already. */
void sync_add_cut(struct sync *sync, struct wanted *cut);
/* What is wanted obeys this revision from now on: the agent is told, behind what has to leave. */
void sync_obey(struct sync *sync, uint64_t revision);
void sync_open(struct sync *sync);
/* Afterwards wanted_pop_gone() returns whatever was still leaving. */
void sync_close(struct sync *sync);
bool sync_has_item(const struct sync *sync);
/* Only when sync_has_item(). */
void sync_next(struct sync *sync, int64_t now_us, struct sync_item *ret_item);
/* The agent has applied every item up to `sequence`: the next grant whose flows are therefore cut,
 * NULL when that was all. */
struct wanted *sync_pop_cut(struct sync *sync, uint64_t sequence);

#endif
