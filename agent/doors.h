/* The books of doors: what the server wants, what was told of each, and the audit of the kernel's
 * counters against it. Pure. A gateway may hold a million: what only few doors have stands aside.
 */
#ifndef POSTERN_AGENT_DOORS_H
#define POSTERN_AGENT_DOORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/door.h"
#include "common/table.h"

struct wish_extra;

struct wish {
	struct table_node node;
	struct id grant;
	struct addr from;
	uint8_t transport;
	bool oneway;
	bool retired; /* removed from the kernel; kept until an audit has passed */
	struct endpoint to;
	struct wish_extra
		*extra; /* several remotes, a range, a translation; NULL = none of these */
	uint64_t max_connections;
	int64_t until_us; /* monotonic: the kernel closes it then */
	uint64_t known; /* flows that the server was told of, or told us of */
	uint64_t base; /* unlimited ones: flows made before the element was added */
	uint64_t deficit; /* the last audit saw so many more than were known */
	uint64_t in_total; /* of a retired one: flows made in all */
};

struct doors {
	struct table table;
};

void doors_init(struct doors *doors);
void doors_fini(struct doors *doors);
size_t doors_count(const struct doors *doors); /* retired ones included */

struct wish *doors_find(const struct doors *doors, const struct id *grant);
/* A new wish, or the one that is there with the server's new words: what is known never shrinks.
 * Copies `froms`. NULL: memory is out, and the books are as they were. */
struct wish *doors_put(struct doors *doors, const struct door *door, int64_t now_us);
void doors_remove(struct doors *doors, struct wish *wish);
/* The server was told of `count` more flows of this grant. */
void doors_told(struct doors *doors, const struct id *grant, uint64_t count);

/* A wish as a door to be had now: `connections` = what is known, timeout_ms = the time left, uses =
 * 0; `froms` are the books' own. False: it is retired, or its time is over. */
bool doors_wanted(const struct wish *wish, int64_t now_us, struct door *ret_door);
/* The door of a wish whatever its time, for its key. */
void doors_key(const struct wish *wish, struct door *ret_door);
/* All that are wanted. Room for doors_count(). */
size_t doors_list(struct doors *doors, struct door *ret_doors, int64_t now_us);

/* Marks every wish as unconfirmed; doors_put confirms. doors_drop_unconfirmed forgets the rest. */
void doors_snapshot_begin(struct doors *doors);
void doors_snapshot_end(struct doors *doors);

/* Flows that a door has let through in all, by its kernel element. */
uint64_t doors_total(const struct wish *wish, const struct held_door *held);
/* For an unlimited door's element that is in place, when it is not known whether it was added anew
 * since its first use: its counter shows it. */
void doors_rebase(struct wish *wish, const struct held_door *held);

/* Compares a dump with what is known, retired wishes with what they had. A surplus that two audits
 * in a row have seen (a moment apart, so that events in flight have come) is told by `missed`,
 * which returns false when it cannot be told now. Retired wishes that are in order, and those that
 * expired long ago, are forgotten. True: something is open, audit again in a moment. */
typedef bool (*missed_cb)(void *arg, const struct id *grant, uint64_t count);
bool doors_audit(struct doors *doors, const struct held_door *held, size_t count, int64_t now_us,
	missed_cb missed, void *arg);

#endif
