/* What one gateway's agent shall hold (doors, primary connections), on its way there in the items
 * of fleet/sync.h and acknowledged by their sequences. Pure.
 *
 *   add ──▶ UNTOLD ──take──▶ TOLD ──acknowledged──▶ HELD
 *              │               │                      │
 *            remove          remove                 remove
 *              ▼               └──────▶ LEAVING ◀─────┘ ──take──▶ LEFT ──acknowledged──▶ OUT
 *             OUT
 *
 * What the agent knows may have to be told again (a renewal): it waits as UNTOLD like a new one,
 * but its removal is told. What belongs together is taken together.
 *
 * wanted_open() begins anew: what is there becomes SNAPSHOT and is told again, in pieces; what is
 * added meanwhile waits as UNTOLD. While no stream is open nobody needs to be told of a removal. */
#ifndef POSTERN_SERVER_FLEET_WANTED_H
#define POSTERN_SERVER_FLEET_WANTED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum wanted_place {
	WANTED_OUT,
	WANTED_SNAPSHOT,
	WANTED_UNTOLD,
	WANTED_TOLD,
	WANTED_HELD,
	WANTED_LEAVING,
	WANTED_LEFT,
	WANTED_PLACES,
};

/* Embedded by its owner; zero-initialised = out. */
struct wanted {
	struct wanted *next, *previous;
	enum wanted_place place;
	uint64_t sequence; /* of the item that told of it, or of its removal */
	int64_t told_us;
	bool known; /* the agent may hold it */
	bool with_next; /* travels in one delta with the one added after it */
};

/* Zero-initialised = empty, without a stream. */
struct wanted_list {
	struct {
		struct wanted *first, *last;
	} places[WANTED_PLACES];
	bool open;
};

void wanted_add(struct wanted_list *list, struct wanted *wanted);
/* True: the agent does not know it, it is out. False: it is out when wanted_pop_gone() returns it.
 */
bool wanted_remove(struct wanted_list *list, struct wanted *wanted);
/* It has changed: the agent is told again, if it was told. */
void wanted_retell(struct wanted_list *list, struct wanted *wanted);
/* The agent is done with what item `sequence` told of, and does not hold it. False: it has been
 * told again since, or not yet; nothing changes. */
bool wanted_drop(struct wanted_list *list, struct wanted *wanted, uint64_t sequence);

/* A stream begins with a snapshot; all that had to leave is gone (wanted_close()). */
void wanted_open(struct wanted_list *list);
/* Afterwards wanted_pop_gone() returns whatever was still leaving. */
void wanted_close(struct wanted_list *list);
bool wanted_is_empty(const struct wanted_list *list, enum wanted_place place);

/* Those told of in the item now being made: at most `most`, from SNAPSHOT or UNTOLD to TOLD, or
 * from LEAVING to LEFT. */
struct wanted_item {
	uint64_t sequence;
	int64_t now_us;
};
size_t wanted_take(struct wanted_list *list, enum wanted_place from, const struct wanted_item *item,
	struct wanted **ret_wanted, size_t most);

/* The agent has applied every item up to `sequence`: the next that it therefore holds, NULL when
 * that was all. */
struct wanted *wanted_pop_held(struct wanted_list *list, uint64_t sequence);
struct wanted *wanted_pop_gone(struct wanted_list *list, uint64_t sequence);

#endif
