/* A change of the document, step by step; struct change says where it is. Whatever fails before it
 * is on disk has changed nothing. Its end is posted, so that no caller is answered inside its own
 * call. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "server/core/revisions.h"

#define ROLLBACK_AGAIN_US 5000000

static const struct error memory = {
	.status = STATUS_RESOURCE_EXHAUSTED, .text = "the server is out of memory"};

/* ---- its beginning and end ---- */

static struct change *change_new(struct core *core, revision_cb cb, void *arg)
{
	struct change *change = calloc(1, sizeof *change);
	if (!change)
		return NULL;
	change->core = core;
	change->cb = cb;
	change->arg = arg;
	return change;
}

static void change_free(struct change *change)
{
	draft_free(change->draft);
	policy_release(change->policy);
	packed_release(change->packed);
	effects_fini(&change->result.effects);
	free(change);
}

static void leave(struct revisions *revisions, struct change *change)
{
	struct change **at = &revisions->over;
	while (*at != change)
		at = &(*at)->next;
	*at = change->next;
	if (revisions->change == change)
		revisions->change = NULL;
	if (revisions->confirming == change)
		revisions->confirming = NULL;
}

/* The server's own has nobody else to hear of it. */
static void tell_own(struct revisions *revisions, const struct change *change)
{
	if (!change->err.status) {
		log_warn("policy: revision %llu was not confirmed in time: rolled back to "
			 "revision %llu, as revision %llu",
			(unsigned long long)change->result.follows,
			(unsigned long long)change->ask.rolled_back_to,
			(unsigned long long)change->record.number);
		return;
	}
	revisions->rollback_us = clock_mono_us() + ROLLBACK_AGAIN_US;
	if (!change->core->stopping)
		log_err("policy: revision %llu was not confirmed in time and could not be rolled "
			"back, trying again: %s",
			(unsigned long long)revisions->record.number, change->err.text);
}

static void end(void *arg)
{
	struct change *change = arg;
	struct revisions *revisions = change->core->revisions;
	leave(revisions, change);
	if (change->is_own)
		tell_own(revisions, change);
	if (change->cb)
		change->cb(change->arg, change->err.status ? NULL : &change->result, &change->err);
	change_free(change);
	if (!revisions->core->stopping)
		revisions_wind(revisions);
}

static void succeed(struct change *change)
{
	struct revisions *revisions = change->core->revisions;
	bool at_once = change->core->stopping && change->stage != STAGE_ASKED;
	change->stage = STAGE_OVER;
	change->next = revisions->over;
	revisions->over = change;
	if (at_once) /* while there is somebody to hear it */
		end(change);
	else
		loop_post(change->core->loop, &change->task, end, change);
}

static void fail(struct change *change, const struct error *err)
{
	change->err = *err;
	succeed(change);
}

/* ---- in force ---- */

void change_judged(struct change *change)
{
	succeed(change);
}

static void warn(struct change *change, const char *what, const char *text)
{
	struct revision_result *result = &change->result;
	if (result->warning_count < REVISION_WARNINGS_MAX)
		(void)snprintf(result->warnings[result->warning_count++],
			sizeof result->warnings[0], "%s%.150s", what, text);
}

static void on_written(void *arg, uint64_t sequence, const struct error *err)
{
	struct change *change = arg;
	struct core *core = change->core;
	struct revisions *revisions = core->revisions;
	(void)sequence;
	if (err->status) {
		fail(change, err);
		return;
	}
	revisions->record = change->record;
	packed_release(revisions->packed);
	revisions->packed = packed_hold(change->packed);
	revisions_swap(revisions, change->policy);
	change->policy = NULL;
	if (core->stopping) {
		succeed(change);
		return;
	}
	change->stage = STAGE_JUDGING;
	revisions->live.effects = &change->result.effects;
	revisions_judge(revisions);
	revisions_wind(revisions);
	if (change->world != revisions->world)
		revision_recompile(core);
}

/* ---- to the disk ---- */

static void fill_change_entry(const struct change *change, struct entry *ret_entry)
{
	const struct revision_record *record = &change->record;
	core_entry(ret_entry,
		record->rolled_back_to ? ENTRY_POLICY_ROLLED_BACK : ENTRY_POLICY_APPLIED,
		record->author);
	ret_entry->time_us = record->time_us;
	ret_entry->revision = record->number;
	ret_entry->count = record->rolled_back_to;
	copy_text(ret_entry->detail, sizeof ret_entry->detail, record->message);
	memcpy(ret_entry->document_hash, record->hash, sizeof ret_entry->document_hash);
}

static void write_change(struct change *change)
{
	struct core *core = change->core;
	struct revision_record old = core->revisions->record, row = change->record;
	struct store_txn *txn = core_decision(core);
	struct entry entry;
	struct error err;
	if (!txn) {
		(void)core_no_decision(&err);
		fail(change, &err);
		return;
	}
	change->stage = STAGE_WRITING;
	fill_change_entry(change, &entry);
	store_txn_entry(txn, &entry);
	if (old.confirm_until_us) {
		old.confirm_until_us = 0;
		store_txn_put_revision(txn, &old);
	}
	row.document = change->packed->bytes;
	row.document_size = change->packed->size;
	store_txn_put_revision(txn, &row);
	core_submit(core, txn, on_written, change);
}

/* ---- what it would do ---- */

static void on_looked(void *arg)
{
	struct change *change = arg;
	change->core->revisions->look.effects = NULL;
	succeed(change);
}

static void look(struct change *change)
{
	struct judging *judging = &change->core->revisions->look;
	change->stage = STAGE_LOOKING;
	judging->effects = &change->result.effects;
	judging->done = on_looked;
	judging->arg = change;
	judging_start(judging, change->core, change->policy, true);
}

/* ---- a policy ---- */

static void fill_record(struct change *change, const struct draft *draft)
{
	const struct revision_ask *ask = &change->ask;
	const struct document *document = policy_document(draft->policy);
	struct revision_record *record = &change->record;
	record->number = change->result.follows + 1;
	record->time_us = clock_real_us();
	record->rolled_back_to = ask->rolled_back_to;
	record->confirm_until_us =
		ask->confirm_ms ? record->time_us + (int64_t)ask->confirm_ms * 1000 : 0;
	record->rules = document->rule_count;
	copy_text(record->author, sizeof record->author, ask->author);
	copy_text(record->message, sizeof record->message, ask->message);
	memcpy(record->hash, draft->hash, sizeof record->hash);
	change->result.revision = *record;
	change->result.revision.document_size = draft->packed->size;
}

static void take_draft(struct change *change, struct draft *draft)
{
	change->policy = draft->policy;
	draft->policy = NULL;
	packed_release(change->packed);
	change->packed = packed_hold(draft->packed);
	policy_set_revision(change->policy, change->record.number);
	if (draft->source_warning.status)
		warn(change, "", draft->source_warning.text);
	if (draft->test_warning.status)
		warn(change, "", draft->test_warning.text);
}

static void on_draft(struct draft *draft, const struct error *err)
{
	struct change *change = draft->arg;
	if (err->status) {
		fail(change, err);
	} else if (draft->is_same) {
		change->result.unchanged = true;
		change->result.revision = change->core->revisions->record;
		change->result.revision.document_size = draft->packed->size;
		succeed(change);
	} else {
		fill_record(change, draft);
		take_draft(change, draft);
		if (change->ask.dry_run)
			look(change);
		else
			write_change(change);
	}
}

static void begin_draft(struct change *change)
{
	struct revisions *revisions = change->core->revisions;
	struct draft *draft = draft_new(change->core, change->packed);
	change->stage = STAGE_DRAFT;
	change->draft = draft;
	change->world = revisions->world;
	if (!draft) {
		fail(change, &memory);
		return;
	}
	bool is_rollback = change->ask.rolled_back_to != 0;
	draft->is_known = is_rollback; /* nothing is ever taken out of the server's world */
	draft->runs_tests = !change->is_own;
	draft->tests_warn = is_rollback;
	draft->needs = change->is_own ? SOURCES_AS_THEY_ARE
		: is_rollback         ? SOURCES_WANTED
				      : SOURCES_NEEDED;
	draft->compares = !change->is_own;
	memcpy(draft->unlike, revisions->record.hash, sizeof draft->unlike);
	if (change->ask.allow) {
		draft->adds_rule = true;
		draft->added = change->added;
	}
	draft->done = on_draft;
	draft->arg = change;
	if (!draft_begin(draft))
		fail(change, &memory);
}

/* ---- an earlier document ---- */

static void on_read(
	void *arg, const struct revision_record *revisions, size_t count, const struct error *err)
{
	struct change *change = arg;
	struct error failure = *err;
	uint8_t *copy = NULL;
	if (!failure.status && (count != 1 || change->core->stopping))
		error_set(&failure, change->core->stopping ? STATUS_UNAVAILABLE : STATUS_NOT_FOUND,
			"revision %llu: there is none: see `postern policy history`",
			(unsigned long long)change->ask.rolled_back_to);
	if (!failure.status && !(copy = malloc(revisions->document_size + 1)))
		failure = memory;
	if (!failure.status) {
		if (revisions->document_size > 0)
			memcpy(copy, revisions->document, revisions->document_size);
		change->packed = packed_new(copy, revisions->document_size);
		if (!change->packed) {
			free(copy);
			failure = memory;
		}
	}
	if (failure.status)
		fail(change, &failure);
	else
		begin_draft(change);
}

static void begin(struct change *change)
{
	struct core *core = change->core;
	core->revisions->change = change;
	change->result.follows = core->revisions->record.number;
	if (change->ask.rolled_back_to && !change->packed) {
		struct store_revision_query query = {
			.number = change->ask.rolled_back_to, .limit = 1};
		change->stage = STAGE_READING;
		store_read_revisions(core->store, &query, on_read, change);
		return;
	}
	if (!change->packed)
		change->packed = packed_hold(core->revisions->packed);
	begin_draft(change);
}

/* ---- asked ---- */

static enum status busy(struct error *err)
{
	return error_set(err, STATUS_ABORTED,
		"another change of the policy is under way: look at its outcome with `postern "
		"policy history`, then try again");
}

static enum status check(
	const struct revisions *revisions, const struct revision_ask *ask, struct error *err)
{
	const struct revision_record *record = &revisions->record;
	if (revisions->core->stopping)
		return core_no_decision(err);
	if (revisions->change)
		return busy(err);
	if (ask->if_revision && ask->if_revision != record->number) {
		error_reason(err, STATUS_ABORTED, REASON_REVISION_CHANGED,
			"revision %llu is in force, not %llu: look at `postern policy diff %llu "
			"%llu`",
			(unsigned long long)record->number, (unsigned long long)ask->if_revision,
			(unsigned long long)ask->if_revision, (unsigned long long)record->number);
		err->revision = record->number;
		return err->status;
	}
	if (ask->rolled_back_to > record->number)
		return error_set(err, STATUS_NOT_FOUND,
			"revision %llu: there is none: the newest is %llu",
			(unsigned long long)ask->rolled_back_to,
			(unsigned long long)record->number);
	if (record->confirm_until_us && !ask->rolled_back_to && !ask->dry_run)
		return error_set(err, STATUS_FAILED_PRECONDITION,
			"revision %llu waits to be confirmed: `postern policy confirm`, or "
			"`postern "
			"policy rollback`, first",
			(unsigned long long)record->number);
	return STATUS_OK;
}

void revision_apply(struct core *core, struct revision_ask *ask, revision_cb cb, void *arg)
{
	struct change *change = change_new(core, cb, arg);
	struct error err;
	if (change && ask->packed)
		change->packed = packed_new(ask->packed, ask->packed_size);
	if (!change || (ask->packed && !change->packed)) {
		free(ask->packed);
		free(change);
		cb(arg, NULL, &memory);
		return;
	}
	change->ask = *ask;
	change->ask.packed = NULL;
	if (ask->allow) {
		change->added = *ask->allow;
		change->ask.allow = &change->added;
	}
	if (check(core->revisions, ask, &err))
		fail(change, &err);
	else
		begin(change);
}

void change_roll_back(struct revisions *revisions)
{
	struct change *change = change_new(revisions->core, NULL, NULL);
	if (!change) {
		revisions->rollback_us = clock_mono_us() + ROLLBACK_AGAIN_US;
		return;
	}
	change->is_own = true;
	change->ask.rolled_back_to = revisions->record.number - 1;
	snprintf(change->ask.message, sizeof change->ask.message,
		"revision %llu was not confirmed in time",
		(unsigned long long)revisions->record.number);
	begin(change);
}

void revision_forget(struct core *core, void *arg)
{
	struct revisions *revisions = core->revisions;
	struct change *under_way[] = {revisions->change, revisions->confirming};
	for (size_t i = 0; i < 2; i++)
		if (under_way[i] && under_way[i]->arg == arg)
			under_way[i]->cb = NULL;
	for (struct change *change = revisions->over; change; change = change->next)
		if (change->arg == arg)
			change->cb = NULL;
}

/* ---- confirmed ---- */

static void on_confirmed(void *arg, uint64_t sequence, const struct error *err)
{
	struct change *change = arg;
	struct revisions *revisions = change->core->revisions;
	(void)sequence;
	if (err->status) {
		fail(change, err);
		return;
	}
	if (revisions->record.number == change->record.number)
		revisions->record.confirm_until_us = 0;
	change->record.confirm_until_us = 0;
	change->result.revision = change->record;
	change->result.revision.document_size = change->packed->size;
	succeed(change);
}

static enum status check_confirm(
	const struct revisions *revisions, uint64_t number, struct error *err)
{
	const struct revision_record *record = &revisions->record;
	if (revisions->core->stopping)
		return core_no_decision(err);
	if (revisions->confirming ||
		(revisions->change && revisions->change->stage == STAGE_WRITING))
		return busy(err);
	if (number && number != record->number)
		return error_set(err, STATUS_FAILED_PRECONDITION,
			"revision %llu is in force, not %llu: there is nothing to confirm of that",
			(unsigned long long)record->number, (unsigned long long)number);
	if (!record->confirm_until_us)
		return error_set(err, STATUS_FAILED_PRECONDITION,
			"revision %llu does not wait to be confirmed",
			(unsigned long long)record->number);
	if (record->confirm_until_us <= clock_real_us())
		return error_set(err, STATUS_FAILED_PRECONDITION,
			"revision %llu was to be confirmed earlier: it is being rolled back",
			(unsigned long long)record->number);
	return STATUS_OK;
}

void revision_confirm(
	struct core *core, uint64_t number, const char *actor, revision_cb cb, void *arg)
{
	struct revisions *revisions = core->revisions;
	struct change *change = change_new(core, cb, arg);
	struct error err;
	struct entry entry;
	if (!change) {
		cb(arg, NULL, &memory);
		return;
	}
	change->record = revisions->record;
	change->packed = packed_hold(revisions->packed);
	struct store_txn *txn = NULL;
	if (!check_confirm(revisions, number, &err) && !(txn = core_decision(core)))
		(void)core_no_decision(&err);
	if (!txn) {
		fail(change, &err);
		return;
	}
	revisions->confirming = change;
	change->stage = STAGE_WRITING;
	core_entry(&entry, ENTRY_POLICY_CONFIRMED, actor);
	entry.revision = change->record.number;
	store_txn_entry(txn, &entry);
	struct revision_record row = change->record;
	row.confirm_until_us = 0;
	store_txn_put_revision(txn, &row);
	core_submit(core, txn, on_confirmed, change);
}

/* ---- the end of the server ---- */

void changes_stop(struct revisions *revisions)
{
	struct change *change = revisions->change;
	struct error err;
	if (!change)
		return;
	if (change->stage == STAGE_JUDGING) {
		revisions->live.effects = NULL;
		succeed(change);
	} else if (change->stage == STAGE_LOOKING) {
		judging_stop(&revisions->look);
		revisions->look.effects = NULL;
		error_set(&err, STATUS_UNAVAILABLE, "the server is stopping");
		fail(change, &err);
	}
	while (revisions->over)
		loop_step(revisions->core->loop, 0);
}
