/* The agent: kernel on one side (doors, flows), server on the other (wishes, reports), one loop
 * thread between them. */
#ifndef POSTERN_AGENT_AGENT_H
#define POSTERN_AGENT_AGENT_H

#include "agent/config.h"
#include "agent/cut.h"
#include "agent/datapath/conntrack.h"
#include "agent/datapath/nft.h"
#include "agent/doors.h"
#include "agent/flows.h"
#include "agent/host.h"
#include "agent/primaries.h"
#include "agent/reports.h"
#include "common/loop.h"

struct link;

struct cut {
	struct id grant;
	bool is_known; /* the books had its door when the cut was ordered */
};

struct agent {
	struct loop *loop;
	const struct agent_config *config;
	struct nft *nft;
	struct conntrack *conntrack;
	struct loop_io conntrack_io, watch_io;
	struct doors doors;
	struct flows flows;
	struct primaries primaries;
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
	struct door *snapshot; /* times count from snapshot_began_us; `froms` are owned */
	size_t snapshot_count, snapshot_capacity;
	int64_t snapshot_began_us;
	bool snapshot_is_short; /* memory ran out: it cannot be applied */
	uint64_t unapplied; /* sequence of a snapshot that is not in the kernel yet, 0 = none */
	uint64_t unapplied_revision; /* that its end named */
	struct cut *cuts; /* flows to be cut when the doors are in order */
	size_t cut_count;
	int64_t open_removed_us; /* when a door that had uses left was removed last, 0 = never */
	struct loop_timer follow; /* primaries: see sessions.c */
};

/* Kernel side up: sysctls, table adopted or created, events subscribed. `token` is copied. */
enum status agent_start(struct loop *loop, const struct agent_config *config, const char *token,
	struct agent **ret_agent, struct error *err);
void agent_stop(struct agent *agent); /* the table stays (I7); accepts NULL */
/* Takes over mode, priority, server and token; the rest needs a restart and is told so. The caller
 * keeps the old configuration alive until this returns. On failure nothing has changed. */
enum status agent_reload(struct agent *agent, const struct agent_config *config, const char *token,
	struct error *err);

/* "in-place" or "replace": how this kernel moves a door's time. */
const char *agent_renewal_name(const struct agent *agent);
/* Queues INVENTORY_BEGIN, every open flow, INVENTORY_END. */
void agent_inventory(struct agent *agent);
/* Handles the conntrack events that wait. */
void agent_drain_events(struct agent *agent);
/* Makes the books of flows complete from a dump, when events were lost. */
enum status agent_take_stock(struct agent *agent, struct error *err);
/* A new report of a grant's flows, and the books know it; NULL: the queue is full. */
struct report *agent_report_flow(
	struct agent *agent, enum report_kind kind, const struct id *grant, uint64_t flows);

/* sessions.c: the primary connections of sessions. */
struct sync_primary {
	struct id session;
	struct tracked wanted;
	bool is_sound; /* else there can be none such */
};
void sessions_init(struct agent *agent);
void sessions_fini(struct agent *agent);
/* False: memory is out, and what is not there was not told. */
bool sessions_follow(struct agent *agent, const struct sync_primary *primaries, size_t count);
/* Reads all of them again: events were lost. */
void sessions_check(struct agent *agent);

/* sync.c: one item of the stream of desired state. */
struct sync_item {
	uint64_t sequence;
	bool snapshot, snapshot_end;
	const struct door *doors;
	size_t door_count;
	const struct id *removed, *cut;
	size_t removed_count, cut_count;
	const struct sync_primary *primaries;
	size_t primary_count;
	const struct id *primaries_removed; /* sessions */
	size_t primaries_removed_count;
	/* Doors of the item that nobody can open, and why. */
	const struct door_failure *failures;
	size_t failure_count;
	uint64_t revision; /* of the policy document that the doors obey then; 0 = as before */
};
void sync_begin(struct agent *agent); /* a new stream: what follows is a snapshot */
/* Reports APPLIED when it is in the kernel. False: it could not be done (that was logged), and the
 * stream must begin anew. */
bool sync_apply(struct agent *agent, const struct sync_item *item);
void sync_audit_soon(struct agent *agent);
/* Takes over `failures`. Sequence 0 acknowledges nothing; `revision` is the item's. */
void sync_report_applied(struct agent *agent, uint64_t sequence, uint64_t revision,
	int64_t kernel_us, struct door_failure *failures, size_t count);
/* Doors that were refused are not wanted any more. */
void sync_forget_failures(struct agent *agent, const struct door_failure *failures, size_t count);
/* repair.c: makes the kernel's doors what the books say; tried again by itself when it fails. */
void sync_repair(struct agent *agent);
void sync_stop(struct agent *agent);

/* link.c */
enum status link_start(struct agent *agent, const struct agent_config *config, const char *token,
	struct link **ret_link, struct error *err);
void link_stop(struct link *link); /* accepts NULL */
void link_wake(struct link *link); /* there are reports to be sent; accepts NULL */

#endif
