/* The primary connections that one gateway's agent is to follow, on their way to it. They travel in
 * the items of fleet/sync.h and are acknowledged by the same sequences. Pure.
 *
 *   add ──▶ UNTOLD ──next──▶ TOLD ──acknowledged──▶ HELD
 *              │               │                      │
 *            remove          remove                 remove
 *              ▼               └──────▶ LEAVING ◀─────┘ ──next──▶ LEFT ──acknowledged──▶ OUT
 *             OUT
 *
 * watches_open() begins anew: what is there becomes SNAPSHOT and is told again. */
#ifndef POSTERN_SERVER_FLEET_WATCH_H
#define POSTERN_SERVER_FLEET_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WATCHES_MAX 256 /* of an item, so that it stays far below a frame */
#define WATCHES_REMOVED_MAX 1024

enum watch_place {
	WATCH_OUT,
	WATCH_SNAPSHOT,
	WATCH_UNTOLD,
	WATCH_TOLD,
	WATCH_HELD,
	WATCH_LEAVING,
	WATCH_LEFT,
	WATCH_PLACES,
};

/* Embedded by its owner; zero-initialised = out. */
struct watch {
	struct watch *next, *previous;
	enum watch_place place;
	uint64_t sequence; /* of the item that told of it, or of its removal */
};

/* Zero-initialised = empty, without a stream. */
struct watches {
	struct {
		struct watch *first, *last;
	} lists[WATCH_PLACES];
	bool open;
};

struct watch_item {
	struct watch *added[WATCHES_MAX], *removed[WATCHES_REMOVED_MAX];
	size_t added_count, removed_count;
};

void watches_add(struct watches *watches, struct watch *watch);
/* True: the agent does not know it, it is out. False: it is out when watches_pop_gone() returns it.
 */
bool watches_remove(struct watches *watches, struct watch *watch);
/* A stream begins, with a snapshot; all that had to leave is gone (watches_close()). */
void watches_open(struct watches *watches);
/* Afterwards watches_pop_gone() returns whatever was still leaving. */
void watches_close(struct watches *watches);
/* Has a delta anything to tell? */
bool watches_wait(const struct watches *watches);
/* A piece of the snapshot has yet to be told. */
bool watches_in_snapshot(const struct watches *watches);
void watches_next(
	struct watches *watches, uint64_t sequence, bool snapshot, struct watch_item *ret_item);
/* The agent has applied every item up to `sequence`: the next one that it therefore follows, NULL
 * when that was all. */
struct watch *watches_pop_held(struct watches *watches, uint64_t sequence);
struct watch *watches_pop_gone(struct watches *watches, uint64_t sequence);

#endif
