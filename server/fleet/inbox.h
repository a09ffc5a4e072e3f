/* Reports of one gateway's agent, in order: what they say becomes facts. */
#ifndef POSTERN_SERVER_FLEET_INBOX_H
#define POSTERN_SERVER_FLEET_INBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/id.h"
#include "server/grants/tuple.h"

struct gateway;
struct grant;

enum report_kind { /* ReportKind of agents.proto: never renumber */
	REPORT_NONSENSE = 0, /* it could not be understood, and is passed over */
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

struct report_failure {
	struct id grant;
	char cause[128];
	bool external_taken;
};

struct report {
	uint64_t sequence;
	enum report_kind kind;
	int64_t at_us;
	struct id grant;
	struct id session; /* of REPORT_PRIMARY_ENDED */
	struct told_flow told;
	uint64_t count, sync_sequence, kernel_us, revision;
	struct report_failure *failures;
	size_t failure_count;
};

/* All reports of one call; `done` is called when they are on disk, or will never be. */
typedef void (*batch_cb)(void *arg, uint64_t last_report, const struct error *err);
struct batch {
	struct batch *next;
	struct gateway *gateway;
	struct report *reports; /* owned, with their failures */
	size_t count;
	uint64_t last; /* sequence of the newest one taken */
	batch_cb done;
	void *arg;
	unsigned lookups; /* grants being read from the disk */
	bool looked_up, abandoned;
	struct grant **found; /* held until the batch has ended */
	size_t found_count;
};

struct inbox {
	struct batch *first, **end;
};

void inbox_init(struct inbox *inbox);
/* Every batch still there is failed. */
void inbox_fini(struct inbox *inbox);
struct batch *batch_new(size_t count); /* zeroed reports; NULL: out of memory */
void batch_free(struct batch *batch); /* only before inbox_put() */
void inbox_put(struct gateway *gateway, struct batch *batch);
/* The connection is another one now: what waits was not taken, and comes again. */
void inbox_abandon(struct gateway *gateway);

#endif
