/* One item of the server's stream as the agent's own structs: pure. What is in it is bounded and
 * checked here, each door and primary by itself (wire.h). */
#ifndef POSTERN_AGENT_ITEM_H
#define POSTERN_AGENT_ITEM_H

#include "agent/agent.h"
#include "postern/v1/agents.pb-c.h"

struct item {
	struct sync_item sync; /* points to the rest */
	struct door *doors;
	struct addr *froms;
	size_t from_count;
	struct id *removed, *cut, *primaries_removed;
	struct door_failure *failures;
	struct sync_primary *primaries;
	size_t nameless; /* doors and primaries without an id: left out */
};

/* False: memory is out. To be ended either way; owes nothing to the message afterwards. */
bool item_read(struct item *item, const Postern__V1__SyncItem *message);
void item_fini(struct item *item);

#endif
