/* The agent: kernel on one side (doors, flows), server on the other (wishes, reports), one loop
 * thread between them. */
#ifndef POSTERN_AGENT_AGENT_H
#define POSTERN_AGENT_AGENT_H

#include "agent/config.h"
#include "agent/datapath/conntrack.h"
#include "agent/datapath/nft.h"
#include "agent/reports.h"
#include "common/loop.h"
#include "common/table.h"

struct link;

/* A door that the server wants. */
struct wish {
	struct table_node node;
	struct door door;
	int64_t until_us; /* monotonic: the kernel closes it then */
	uint64_t known_flows; /* what the server has been told of, or has told */
};

/* A flow that conntrack has. */
struct live_flow {
	struct table_node node;
	struct tracked flow;
	bool closed; /* reported; waits for conntrack's DESTROY */
};

struct agent {
	struct loop *loop;
	const struct agent_config *config;
	struct nft *nft;
	struct conntrack *conntrack;
	struct loop_io conntrack_io, watch_io;
	struct table wishes, flows;
	struct reports reports;
	struct link *link;
	struct loop_timer audit;
	char boot_id[64], instance[40], problems[1024];
	uint64_t overruns, rebuilds;
	/* A snapshot under way: */
	struct door *snapshot;
	size_t snapshot_count, snapshot_capacity;
};

/* Kernel side up: sysctls, table adopted or created, events subscribed. */
enum status agent_start(struct loop *loop, const struct agent_config *config,
	struct agent **ret_agent, struct error *err);
void agent_stop(struct agent *agent); /* the table stays (I7); accepts NULL */

/* From the link: */
void agent_inventory(
	struct agent *agent); /* queues INVENTORY_BEGIN, every live flow, INVENTORY_END */
void agent_snapshot_begin(struct agent *agent);
/* One item of the Sync stream; reports APPLIED when it is in the kernel. */
void agent_sync(struct agent *agent, uint64_t sequence, bool snapshot, bool snapshot_end,
	const struct door *doors, size_t door_count, const struct id *removed,
	size_t removed_count);

/* link.c */
enum status link_start(struct agent *agent, struct link **ret_link, struct error *err);
void link_stop(struct link *link);
void link_wake(struct link *link); /* there are reports to be sent */

/* caps.c: keeps CAP_NET_ADMIN and drops everything else, for good. */
enum status caps_drop(struct error *err);

#endif
