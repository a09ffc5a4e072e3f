/* The flows that conntrack holds for us, and what the server has been told of each. Pure. */
#ifndef POSTERN_AGENT_FLOWS_H
#define POSTERN_AGENT_FLOWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/tracked.h"
#include "common/table.h"

/* What the owner does with the facts; false: the server cannot be told now, the flow waits for an
 * inventory. `told`: the server has heard of this flow before. */
struct flow_hooks {
	bool (*opened)(void *arg, const struct tracked *flow);
	bool (*inventory)(void *arg, const struct tracked *flow, bool told);
	bool (*closed)(void *arg, const struct tracked *flow, bool told);
	/* Reads conntrack's entry: label, counters, state. False: it is gone. */
	bool (*read)(void *arg, struct tracked *flow);
};

struct flows {
	struct table table;
	struct table groups; /* the flows of each grant */
	const struct flow_hooks *hooks;
	void *arg;
	unsigned generation; /* of the last dump */
	uint64_t unknown; /* events of flows that nothing was known of, not even by reading */
	uint64_t dropped; /* flows lost for want of memory */
};

void flows_init(struct flows *flows, const struct flow_hooks *hooks, void *arg);
void flows_fini(struct flows *flows);
size_t flows_count(const struct flows *flows);

/* Entries without the mark of granted flows are not looked at. */
void flows_event(
	struct flows *flows, enum track_event event, const struct tracked *flow, int64_t now_us);

/* Every entry of this grant that conntrack has, as far as is known: also of flows that are over.
 * `cb` must leave the flows as they are. Returns how many. */
typedef void (*flow_cb)(void *arg, const struct tracked *flow);
size_t flows_of_grant(const struct flows *flows, const struct id *grant, flow_cb cb, void *arg);

/* A dump of conntrack: begin, every entry, end. Events may come in between. `silent` entries are
 * not told of until the next inventory: those of the first dump, which the server may know already.
 * flows_dump_end closes (unaccounted) what the dump no longer has. */
void flows_dump_begin(struct flows *flows);
void flows_dump_entry(struct flows *flows, const struct tracked *flow, bool silent, int64_t now_us);
void flows_dump_end(struct flows *flows);

/* Tells every open flow by hooks->inventory, and then the end of those that are over. */
void flows_inventory(struct flows *flows);

#endif
