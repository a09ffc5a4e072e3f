/* Desired against actual: what must be added to and removed from the kernel. Pure. */
#ifndef POSTERN_AGENT_RECONCILE_H
#define POSTERN_AGENT_RECONCILE_H

#include <stddef.h>

#include "agent/door.h"

struct reconciliation {
	struct door *add, *remove; /* free with free() */
	size_t add_count, remove_count, kept;
};

/* Both arrays are sorted in place. A door that the kernel holds under the same id is kept with its
 * limit, counter and time (never re-armed, I4); one that it holds and nobody wants is removed (I2);
 * a wanted one that is missing is added with the uses it has left. False: out of memory, nothing to
 * free. */
bool reconcile(struct door *desired, size_t desired_count, struct held_door *actual,
	size_t actual_count, struct reconciliation *ret_reconciliation);
/* The uses a wanted door has left: of max_connections less those made. *ret_uses 0 = unlimited.
 * False: none are left. */
bool door_uses_left(const struct door *door, uint64_t *ret_uses);
bool door_same_key(const struct door *a, const struct door *b);

#endif
