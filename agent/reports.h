/* What the server must hear, in order, until it has it on disk: a bounded queue with sequence
 * numbers. Pure. */
#ifndef POSTERN_AGENT_REPORTS_H
#define POSTERN_AGENT_REPORTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/door.h"
#include "agent/tracked.h"

enum report_kind { /* ReportKind of agents.proto: never renumber */
	REPORT_APPLIED = 1,
	REPORT_FLOW_OPENED = 2,
	REPORT_FLOW_CLOSED = 3,
	REPORT_USES_MISSED = 4,
	REPORT_INVENTORY_BEGIN = 5,
	REPORT_INVENTORY_FLOW = 6,
	REPORT_INVENTORY_END = 7,
	REPORT_TABLE_REBUILT = 8,
	REPORT_EVENTS_OVERRUN = 9,
	REPORT_PRIMARY_ENDED = 10,
};

struct report {
	struct report *next;
	uint64_t sequence;
	enum report_kind kind;
	int64_t at_us; /* monotonic */
	struct id grant, session;
	struct tracked flow;
	uint64_t count, sync_sequence, kernel_us, revision;
	struct door_failure *failures; /* owned */
	size_t failure_count;
	bool is_known; /* the books of doors have counted it */
};

struct reports {
	struct report *first, **end;
	struct report *unsent; /* the first that is not under way on this connection */
	uint64_t next_sequence;
	size_t count, most;
	uint64_t dropped; /* since the last inventory */
};

void reports_init(struct reports *reports, size_t most);
void reports_fini(struct reports *reports);
/* NULL when the queue is full or memory is out: counted, and an inventory is due. APPLIED,
 * inventories and ends of primaries are taken as long as there is memory. */
struct report *reports_add(struct reports *reports, enum report_kind kind, int64_t at_us);
/* Everything up to `sequence` is on the server's disk. */
void reports_acknowledge(struct reports *reports, uint64_t sequence);
/* A new connection: all that is left goes again, but what speaks of the old one (APPLIED,
 * inventories) goes away. */
void reports_rewind(struct reports *reports);
/* A call with reports failed: all that is unacknowledged goes again, on the same connection. */
void reports_again(struct reports *reports);
/* Up to `most` reports to be sent now, none past `last`; advances `unsent`. */
size_t reports_take(
	struct reports *reports, uint64_t last, const struct report **ret_reports, size_t most);

#endif
