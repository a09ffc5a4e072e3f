/* The policy document in force, and its change: checked and compiled off the loop, written down,
 * swapped, and live grants judged again. Loop thread only.
 *
 *   revision_apply ──▶ sources there? (feeds) ──▶ worker: unpack, check, compile, its own tests
 *      ──▶ dry run: judge live grants, answer
 *      ──▶ on disk ──▶ swapped ──▶ live grants judged in slices ──▶ gateways told ──▶ answered
 *
 * One change at a time: another is refused (ABORTED) until it is answered. */
#ifndef POSTERN_SERVER_CORE_REVISION_H
#define POSTERN_SERVER_CORE_REVISION_H

#include "server/core/core.h"
#include "server/policy/policy.h"

struct revisions; /* core->revisions */

#define EFFECTS_GRANTS_MAX 200
#define REVISION_WARNINGS_MAX 8

struct gateway_effect {
	char gateway[RECORD_NAME_SIZE];
	uint64_t grants, flows;
};
/* What became, or would become, of live grants. */
struct effects {
	uint64_t judged, ended, kept, flows;
	struct gateway_effect *gateways;
	size_t gateway_count;
	struct grant_record *grants; /* copies; rule = why now */
	size_t grant_count;
};

struct revision_ask {
	uint8_t *packed; /* malloc'd, taken; NULL = the document of `rolled_back_to`, or the current
			    one */
	size_t packed_size;
	char author[RECORD_NAME_SIZE];
	char message[RECORD_MESSAGE_SIZE];
	uint64_t if_revision, confirm_ms, rolled_back_to; /* 0 = none */
	bool dry_run;
	const struct rule_record *allow; /* a rule that is added to the document; NULL = none */
};
struct revision_result {
	struct revision_record revision; /* without the document */
	uint64_t follows;
	bool unchanged;
	struct effects effects;
	char warnings[REVISION_WARNINGS_MAX][160];
	size_t warning_count;
};
/* Called exactly once, inside the call that began it only if memory is out; `result` is valid
 * during the callback and NULL on failure. With a failed test of the document: POLICY_TEST_FAILED,
 * field "tests[N]". */
typedef void (*revision_cb)(
	void *arg, const struct revision_result *result, const struct error *err);
/* `cb` is always called. */
void revision_apply(struct core *core, struct revision_ask *ask, revision_cb cb, void *arg);
/* The caller waits no more; the change goes on. */
void revision_forget(struct core *core, void *arg);
/* 0 = the one that waits. Answered when it is on disk. */
void revision_confirm(
	struct core *core, uint64_t number, const char *actor, revision_cb cb, void *arg);

/* A document compiled for questions (explain, test, replay); NULL `packed` = the policy in force.
 * The callee holds the policy during the callback; take a hold to keep it. */
typedef void (*candidate_cb)(void *arg, struct policy *policy, const struct error *err);
/* `packed` is malloc'd and taken. `cb` is called exactly once, perhaps inside the call. */
void revision_candidate(
	struct core *core, uint8_t *packed, size_t packed_size, candidate_cb cb, void *arg);

/* The record in force; without its document. */
const struct revision_record *revision_current(const struct core *core);

/* A gateway was added or has other labels, feeds or names answered otherwise: the document in force
 * is compiled anew and live grants are judged. */
void revision_recompile(struct core *core);
/* `cb` when the policy in force knows all that revision_recompile() was called for; perhaps inside
 * the call. */
void revision_when_compiled(struct core *core, loop_cb cb, void *arg);

/* The definition that a request names: the document's, else a registered one. NULL = unknown. */
const struct protocol_record *core_find_protocol(const struct core *core, const char *name_or_guid);
/* The question that a request, or a live grant, asks. */
void question_of(
	const struct grant_record *record, int64_t at_us, struct policy_question *ret_question);

/* It stops living: whoever goes through live grants passes it over. */
void revision_grant_leaves(struct grant *grant);

/* ---- for core.c ---- */

/* Before loading; the worker and the feeds are there. */
enum status revisions_new(struct core *core, struct error *err);
bool revisions_load(struct core *core, const struct revision_record *record); /* false: memory */
/* After loading: revision 1 is made of `rules` if there is none yet. Compiles on this thread. */
enum status revisions_init(
	struct core *core, const struct rule_record *rules, size_t count, struct error *err);
void revisions_begin(struct core *core); /* clocks: confirmation, schedules; judges what is live */
/* Ends the worker; who waits for what it did not do is told. */
void revisions_stop(struct core *core);
void revisions_fini(struct core *core); /* after store_close(); accepts a core without */

#endif
