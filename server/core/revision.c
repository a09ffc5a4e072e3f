/* The document in force: made at start, compiled anew when what it depends on has changed, judged
 * by. revision_change.c replaces it, revision_clock.c watches the time.
 *
 * The record in force, the policy that decides and the newest row of the table `revisions` are of
 * one revision: memory follows the disk (I1). Requests that are decided while a change is on its
 * way are decided by the policy in force, and judged again by its successor, because every live
 * grant is. A grant whose own decision is on its way to the disk then ends when that is known: it
 * is doomed until then, and its gateway does not obey before. */
#include "server/core/revision.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "server/core/grant.h"
#include "server/core/revisions.h"
#include "server/feeds/feeds.h"
#include "server/fleet/gateway.h"
#include "server/journal/digest.h"
#include "server/worker.h"

#define AGAIN_US 1000000 /* memory was out */
#define CANDIDATES_MAX 4 /* at once: each may be large */

const struct revision_record *revision_current(const struct core *core)
{
	return &core->revisions->record;
}

/* ---- in force ---- */

static void release_policy(void *arg)
{
	policy_release(arg);
}

static void released(void *arg, bool ran)
{
	if (!ran)
		policy_release(arg);
}

void revisions_swap(struct revisions *revisions, struct policy *policy)
{
	struct core *core = revisions->core;
	struct policy *old = core->policy;
	core->policy = policy;
	if (core->feeds)
		feeds_follow(core->feeds, policy_document(policy));
	/* The last holder frees it, and a large one takes its time. */
	if (old && (!core->worker || !worker_submit(core->worker, release_policy, released, old)))
		policy_release(old);
}

static void all_judged(void *arg)
{
	struct revisions *revisions = arg;
	struct core *core = revisions->core;
	revisions->live.effects = NULL;
	for (struct gateway *gateway = core->first_gateway; gateway; gateway = gateway->next)
		if (gateway->doomed == 0)
			gateway_obey(gateway, revisions->record.number);
	if (revisions->change && revisions->change->stage == STAGE_JUDGING)
		change_judged(revisions->change);
}

void revisions_judge(struct revisions *revisions)
{
	revisions->live.done = all_judged;
	revisions->live.arg = revisions;
	judging_start(&revisions->live, revisions->core, revisions->core->policy, false);
}

void revision_grant_leaves(struct grant *grant)
{
	struct gateway *gateway = grant->gateway;
	struct revisions *revisions = grant->core->revisions;
	if (!revisions)
		return;
	judging_skip(&revisions->live, grant);
	judging_skip(&revisions->look, grant);
	if (!grant->doomed)
		return;
	grant->doomed = false;
	if (--gateway->doomed == 0 && !judging_runs(&revisions->live))
		gateway_obey(gateway, revisions->record.number);
}

/* ---- compiled anew ---- */

static void recompile(struct revisions *revisions);

static void recompile_timer(void *arg)
{
	recompile(arg);
}

static void recompile_later(struct revisions *revisions)
{
	loop_timer_set(revisions->core->loop, &revisions->recompile, clock_mono_us() + AGAIN_US,
		recompile_timer, revisions);
}

static void answer_waiters(struct revisions *revisions)
{
	while (revisions->waiters) {
		struct compiled_waiter *waiter = revisions->waiters;
		revisions->waiters = waiter->next;
		waiter->cb(waiter->arg);
		free(waiter);
	}
}

/* The policy of the draft takes the place of its predecessor, of the same revision. */
static void take_recompiled(struct revisions *revisions, struct draft *draft)
{
	policy_set_revision(draft->policy, revisions->record.number);
	revisions_swap(revisions, draft->policy);
	draft->policy = NULL;
	revisions_judge(revisions);
	revisions_wind(revisions);
}

static void on_recompiled(struct draft *draft, const struct error *err)
{
	struct revisions *revisions = draft->arg;
	bool stopping = revisions->core->stopping;
	bool again = revisions->again && !stopping;
	revisions->recompiling = NULL;
	revisions->again = false;
	if (err->status && !stopping) {
		log_err("policy: the document in force could not be compiled anew, trying again: "
			"%s",
			err->text);
		recompile_later(revisions);
	} else if (!err->status && draft->packed == revisions->packed) {
		take_recompiled(revisions, draft);
	}
	draft_free(draft);
	if (again && !revisions->recompile.armed)
		recompile(revisions);
	if (!revisions->recompiling)
		answer_waiters(revisions);
}

static void recompile(struct revisions *revisions)
{
	struct draft *draft = draft_new(revisions->core, revisions->packed);
	if (draft) {
		draft->is_known = true;
		draft->needs = SOURCES_AS_THEY_ARE;
		draft->done = on_recompiled;
		draft->arg = revisions;
	}
	if (draft && draft_begin(draft)) {
		revisions->recompiling = draft;
		return;
	}
	draft_free(draft);
	if (!revisions->core->stopping)
		recompile_later(revisions);
}

void revision_recompile(struct core *core)
{
	struct revisions *revisions = core->revisions;
	if (core->stopping || !revisions)
		return;
	revisions->world++;
	if (revisions->recompiling)
		revisions->again = true;
	else
		recompile(revisions);
}

void revision_when_compiled(struct core *core, loop_cb cb, void *arg)
{
	struct revisions *revisions = core->revisions;
	struct compiled_waiter *waiter = revisions->recompiling ? calloc(1, sizeof *waiter) : NULL;
	if (!waiter) {
		cb(arg);
		return;
	}
	*waiter = (struct compiled_waiter){revisions->waiters, cb, arg};
	revisions->waiters = waiter;
}

/* ---- candidates ---- */

struct candidate {
	struct revisions *revisions;
	candidate_cb cb;
	void *arg;
};

static void on_candidate(struct draft *draft, const struct error *err)
{
	struct candidate *candidate = draft->arg;
	candidate->revisions->candidates--;
	candidate->cb(candidate->arg, draft->policy, err);
	draft_free(draft);
	free(candidate);
}

static enum status begin_candidate(
	struct core *core, struct packed *packed, candidate_cb cb, void *arg, struct error *err)
{
	struct revisions *revisions = core->revisions;
	struct candidate *candidate = calloc(1, sizeof *candidate);
	struct draft *draft = candidate ? draft_new(core, packed) : NULL;
	if (draft) {
		*candidate = (struct candidate){revisions, cb, arg};
		draft->done = on_candidate;
		draft->arg = candidate;
		if (draft_begin(draft)) {
			revisions->candidates++;
			return STATUS_OK;
		}
	}
	draft_free(draft);
	free(candidate);
	return error_set(err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
}

void revision_candidate(struct core *core, uint8_t *bytes, size_t size, candidate_cb cb, void *arg)
{
	struct error err = {0};
	struct packed *packed = NULL;
	if (!bytes) {
		cb(arg, core->policy, &err);
		return;
	}
	if (core->stopping)
		error_set(&err, STATUS_UNAVAILABLE, "the server is stopping");
	else if (core->revisions->candidates >= CANDIDATES_MAX)
		error_set(&err, STATUS_RESOURCE_EXHAUSTED,
			"%d documents are being compiled for questions: try again in a moment",
			CANDIDATES_MAX);
	else if (!(packed = packed_new(bytes, size)))
		error_set(&err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
	if (!packed)
		free(bytes);
	else
		(void)begin_candidate(core, packed, cb, arg, &err);
	packed_release(packed);
	if (err.status)
		cb(arg, NULL, &err);
}

/* ---- start and end of the server ---- */

struct first {
	bool done;
	struct error err;
};

static void on_first(void *arg, uint64_t sequence, const struct error *err)
{
	struct first *first = arg;
	(void)sequence;
	first->err = *err;
	first->done = true;
}

/* Revision 1, from the rules of before. It is on disk when this returns (I1). */
static enum status make_first(struct revisions *revisions, const struct rule_record *rules,
	size_t count, struct error *err)
{
	static const char message[] = "rules of before the policy document";
	struct core *core = revisions->core;
	struct revision_record *record = &revisions->record;
	struct first first = {0};
	struct entry entry;
	enum status status = document_pack_with_rules(
		NULL, 0, rules, count, &record->document, &record->document_size, err);
	if (status)
		return status;
	core_entry(&entry, ENTRY_POLICY_APPLIED, "");
	record->number = 1;
	record->time_us = entry.time_us;
	record->rules = count;
	copy_text(record->message, sizeof record->message, message);
	digest_of(record->document, record->document_size, record->hash);
	copy_text(entry.detail, sizeof entry.detail, message);
	entry.revision = record->number;
	memcpy(entry.document_hash, record->hash, sizeof entry.document_hash);
	struct store_txn *txn = core_decision(core);
	if (!txn)
		return core_no_decision(err);
	store_txn_entry(txn, &entry);
	store_txn_put_revision(txn, record);
	core_submit(core, txn, on_first, &first);
	while (!first.done)
		loop_step(core->loop, 100);
	*err = first.err;
	return err->status;
}

static enum status compile_now(struct revisions *revisions, struct error *err)
{
	struct draft *draft = draft_new(revisions->core, revisions->packed);
	if (!draft)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	draft->is_known = true;
	draft->needs = SOURCES_AS_THEY_ARE;
	enum status status = draft_now(draft, err);
	if (!status) {
		policy_set_revision(draft->policy, revisions->record.number);
		revisions_swap(revisions, draft->policy);
		draft->policy = NULL;
	} else {
		struct error cause = *err;
		error_set(err, status,
			"revision %llu of the policy document cannot be used: %.230s",
			(unsigned long long)revisions->record.number, cause.text);
	}
	draft_free(draft);
	return status;
}

bool revisions_load(struct core *core, const struct revision_record *record)
{
	struct revisions *revisions = core->revisions;
	revisions->record = *record;
	revisions->record.document = malloc(record->document_size + 1);
	if (!revisions->record.document)
		return false;
	if (record->document_size > 0)
		memcpy(revisions->record.document, record->document, record->document_size);
	return true;
}

enum status revisions_new(struct core *core, struct error *err)
{
	core->revisions = calloc(1, sizeof *core->revisions);
	if (!core->revisions)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	core->revisions->core = core;
	return STATUS_OK;
}

enum status revisions_init(
	struct core *core, const struct rule_record *rules, size_t count, struct error *err)
{
	struct revisions *revisions = core->revisions;
	struct revision_record *record = &revisions->record;
	enum status status = record->number ? STATUS_OK : make_first(revisions, rules, count, err);
	if (status)
		return status;
	revisions->packed = packed_new(record->document, record->document_size);
	if (!revisions->packed)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	record->document = NULL;
	record->document_size = 0;
	return compile_now(revisions, err);
}

void revisions_begin(struct core *core)
{
	struct revisions *revisions = core->revisions;
	revisions->offset_us = clock_real_us() - clock_mono_us();
	revisions_judge(revisions);
	revisions_wind(revisions);
}

void revisions_stop(struct core *core)
{
	struct revisions *revisions = core->revisions;
	worker_free(core->worker);
	core->worker = NULL;
	if (!revisions)
		return;
	drafts_stop(core);
	changes_stop(revisions);
	answer_waiters(revisions);
	loop_timer_clear(core->loop, &revisions->clock);
	loop_timer_clear(core->loop, &revisions->recompile);
}

void revisions_fini(struct core *core)
{
	struct revisions *revisions = core->revisions;
	revisions_stop(core);
	if (!revisions)
		return;
	judging_stop(&revisions->live);
	judging_stop(&revisions->look);
	while (revisions->live.task.queued || revisions->look.task.queued || revisions->over)
		loop_step(core->loop, 0);
	packed_release(revisions->packed);
	free(revisions->record.document);
	free(revisions);
	core->revisions = NULL;
	policy_release(core->policy);
	core->policy = NULL;
}
