/* The agent: kernel on one side (doors, flows), server on the other (wishes, reports), one loop
 * thread between them. */
#ifndef POSTERN_AGENT_AGENT_H
#define POSTERN_AGENT_AGENT_H

#include "agent/config.h"
#include "agent/datapath/conntrack.h"
#include "agent/datapath/nft.h"
#include "agent/doors.h"
#include "agent/flows.h"
#include "agent/host.h"
#include "agent/reports.h"
#include "common/loop.h"

struct link;

struct agent {
	struct loop *loop;
	const struct agent_config *config;
	struct nft *nft;
	struct conntrack *conntrack;
	struct loop_io conntrack_io, watch_io;
	struct doors doors;
	struct flows flows;
	struct reports reports;
	struct link *link;
	char boot_id[HOST_BOOT_ID_SIZE], instance[ID_TEXT_SIZE];
	char kernel_problems[512], problems[1536]; /* lines; the first are of conntrack_prepare */
	/* Taking stock of conntrack after events were lost. */
	struct loop_timer stock;
	uint64_t overruns, untold_overruns;
	/* Others' hands on our table. */
	struct loop_timer rebuild, look;
	struct nft_changes changes;
	int64_t rebuilt_us, rebuild_delay_us;
	uint64_t rebuilds;
	/* Doors: see sync.c. */
	struct loop_timer audit, repair;
	struct door *snapshot;
	size_t snapshot_count, snapshot_capacity;
	bool snapshot_is_short; /* memory ran out: it cannot be applied */
	uint64_t unapplied; /* sequence of a snapshot that is not in the kernel yet, 0 = none */
};

/* Kernel side up: sysctls, table adopted or created, events subscribed. `token` is copied. */
enum status agent_start(struct loop *loop, const struct agent_config *config, const char *token,
	struct agent **ret_agent, struct error *err);
void agent_stop(struct agent *agent); /* the table stays (I7); accepts NULL */
/* Takes over mode, priority, server and token; the rest needs a restart and is told so. The caller
 * keeps the old configuration alive until this returns. On failure nothing has changed. */
enum status agent_reload(struct agent *agent, const struct agent_config *config, const char *token,
	struct error *err);

/* Queues INVENTORY_BEGIN, every open flow, INVENTORY_END. */
void agent_inventory(struct agent *agent);
/* Handles the conntrack events that wait. */
void agent_drain_events(struct agent *agent);
/* A new report of a grant's flows, and the books know it; NULL: the queue is full. */
struct report *agent_report_flow(
	struct agent *agent, enum report_kind kind, const struct id *grant, uint64_t flows);

/* sync.c: one item of the stream of desired state. */
struct sync_item {
	uint64_t sequence;
	bool snapshot, snapshot_end;
	const struct door *doors;
	size_t door_count;
	const struct id *removed;
	size_t removed_count;
	/* Doors of the item that nobody can open, and why. */
	const struct door_failure *failures;
	size_t failure_count;
};
void sync_begin(struct agent *agent); /* a new stream: what follows is a snapshot */
/* Reports APPLIED when it is in the kernel. False: memory is out, the stream must begin anew. */
bool sync_apply(struct agent *agent, const struct sync_item *item);
/* Makes the kernel's doors what the books say; tried again by itself when it fails. */
void sync_repair(struct agent *agent);
void sync_audit_soon(struct agent *agent);
void sync_stop(struct agent *agent);

/* link.c */
enum status link_start(struct agent *agent, const struct agent_config *config, const char *token,
	struct link **ret_link, struct error *err);
void link_stop(struct link *link); /* accepts NULL */
void link_wake(struct link *link); /* there are reports to be sent; accepts NULL */

#endif
