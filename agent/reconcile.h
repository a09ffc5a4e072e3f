/* Desired against actual: what must be added, renewed and removed in the kernel. Pure. */
#ifndef POSTERN_AGENT_RECONCILE_H
#define POSTERN_AGENT_RECONCILE_H

#include <stddef.h>

#include "agent/door.h"

struct reconciliation {
	struct door *add, *renew, *remove; /* `froms` are those of desired and actual */
	size_t add_count, renew_count, remove_count, kept;
	size_t mend_count; /* of the additions, the last so many make doors whole */
};

/* Both arrays are sorted in place. A door that the kernel holds under the same id and that is the
 * same in everything is kept with its limit and counter (never re-armed, I4); if its time is off by
 * more than `slack_ms` it is renewed, be it for longer or shorter. One that lacks a part, or was
 * closed by a time that has changed since, is made whole: an addition that leaves what is there.
 * One that nobody wants is removed (I2); a wanted one that is missing is added with the uses it has
 * left. False: out of memory, nothing to free. */
bool reconcile(struct door *desired, size_t desired_count, struct held_door *actual,
	size_t actual_count, uint64_t slack_ms, struct reconciliation *ret_reconciliation);
void reconciliation_fini(struct reconciliation *reconciliation);
/* The uses a wanted door has left: of max_connections less those made. *ret_uses 0 = unlimited.
 * False: none are left. */
bool door_uses_left(const struct door *door, uint64_t *ret_uses);
/* The same to the kernel but for uses and time. */
bool door_same(const struct door *a, const struct door *b);

#endif
