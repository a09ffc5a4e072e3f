/* A packed document on its way to a policy: unpacked and checked on the worker, its sources waited
 * for, compiled and tested on the worker. Nothing that is in force is touched. Loop thread only. */
#ifndef POSTERN_SERVER_CORE_DRAFT_H
#define POSTERN_SERVER_CORE_DRAFT_H

#include "common/error.h"
#include "server/policy/policy.h"
#include "server/store/record.h"

struct core;
struct draft;
struct feeds_sources;
struct roster;

/* Bytes that several hold; loop thread only. */
struct packed {
	unsigned holds;
	size_t size;
	uint8_t *bytes;
};
/* Takes `bytes` on success. NULL: out of memory. */
struct packed *packed_new(uint8_t *bytes, size_t size);
struct packed *packed_hold(struct packed *packed);
void packed_release(struct packed *packed); /* accepts NULL */

enum draft_sources {
	SOURCES_NEEDED, /* every feed and name must have answered once */
	SOURCES_WANTED, /* the same, but a failure is a warning */
	SOURCES_AS_THEY_ARE, /* at once, with what is known */
};

/* Once, never inside draft_begin(); frees nothing: draft_free() is due. `err`: why there is no
 * policy; UNAVAILABLE when the server stops. */
typedef void (*draft_cb)(struct draft *draft, const struct error *err);

struct draft {
	struct core *core;
	/* Filled before draft_begin(). */
	struct packed *packed; /* a hold of its own */
	struct rule_record added; /* a rule to be added to it first */
	bool adds_rule;
	bool is_known; /* it was checked before: no test, and no look at what it names */
	bool tests_warn, runs_tests;
	enum draft_sources needs;
	bool compares;
	uint8_t unlike[RECORD_DOCUMENT_HASH_SIZE];
	draft_cb done;
	void *arg;
	/* What came of it. */
	bool is_same; /* as `unlike`: then there is no policy */
	uint8_t hash[RECORD_DOCUMENT_HASH_SIZE];
	struct policy *policy; /* to be taken or released by draft_free() */
	struct error source_warning, test_warning; /* status 0 = none */
	/* Its own. */
	struct draft *next; /* of those that wait for sources */
	struct roster *roster;
	struct document *document;
	struct feeds_sources *sources;
	uint8_t *fresh; /* repacked by the worker */
	size_t fresh_size;
	struct error err;
};

struct draft *draft_new(struct core *core, struct packed *packed); /* holds it; NULL: memory */
/* False: out of memory, and `done` is not called. */
bool draft_begin(struct draft *draft);
void draft_free(struct draft *draft); /* accepts NULL */
/* Those that wait for sources wait in vain. */
void drafts_stop(struct core *core);
/* The whole way on this thread, before the loop runs. */
enum status draft_now(struct draft *draft, struct error *err);

#endif
