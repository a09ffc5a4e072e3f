/* The flows of one gateway: what recognises a report that comes twice (I5). */
#ifndef POSTERN_SERVER_FLEET_FLOW_H
#define POSTERN_SERVER_FLEET_FLOW_H

#include <stdbool.h>

#include "common/table.h"
#include "server/grants/tuple.h"
#include "server/store/record.h"

struct facts;
struct gateway;
struct known_flow;

struct flow_list {
	struct known_flow *first, *last;
};

struct flows {
	struct gateway *gateway;
	struct table table;
	struct flow_list open, stale, closed; /* closed: oldest first */
	uint64_t open_count; /* stale ones included */
	unsigned inventory; /* number of the one under way */
	bool sweeping;
};

void flows_init(struct flows *flows, struct gateway *gateway);
void flows_fini(struct flows *flows);
bool flow_load(struct flows *flows, const struct flow_record *record); /* false: out of memory */

/* A report of this flow will need its grant. */
bool flow_needs_grant(const struct flows *flows, const struct id *grant, uint64_t flow);
/* Each adds what is new to the facts and to memory; repeats add nothing. */
void flow_opened(struct flows *flows, const struct id *grant, const struct told_flow *told,
	int64_t at_us, bool inventory, struct facts *facts);
void flow_closed(struct flows *flows, const struct id *grant, const struct told_flow *told,
	int64_t at_us, struct facts *facts);

void flows_inventory_begin(struct flows *flows);
/* What the inventory did not list has ended unseen. */
void flows_inventory_end(struct flows *flows);
/* The gateway's boot id is another one: what is open from before has ended unseen. */
void flows_check_boot(struct flows *flows);

#endif
