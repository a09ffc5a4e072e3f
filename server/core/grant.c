/* The life of a grant after its decision: its door, its clock, its end.
 *
 * An end has three parts that come in any order after memory has it: the journal's (end_committed),
 * the gateway's (the door is out), the flows' (their CLOSED entries need the grant). When all three
 * have come, the grant is freed.
 *
 * While a decision about a grant is under way (its own, or a cancellation) no fact may end it,
 * because that decision may yet be refused: the end becomes a wish, which is granted when the
 * decision's fate is known. */
#include "server/core/grant.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "server/core/bundle.h"
#include "server/core/revision.h"
#include "server/core/session.h"
#include "server/fleet/gateway.h"

/* The kernel closes the door first, and the report of a flow that made it in time comes before the
 * end is journalled. */
#define GRACE_US 300000
#define AGAIN_US 1000000 /* memory was out */

void grant_hold(struct grant *grant)
{
	grant->holds++;
}

/* ---- living ---- */

struct grant *grant_new(struct core *core, const struct grant_record *record,
	struct gateway *gateway, struct principal *filter)
{
	struct grant *grant = calloc(1, sizeof *grant);
	if (!grant)
		return NULL;
	grant->core = core;
	grant->record = *record;
	grant->gateway = gateway;
	grant->filter = filter;
	grant->due_us = clock_mono_us() + (record->expires_us - clock_real_us());
	grant->closes_us = grant->due_us;
	grant->deadline_us = CLOCK_NEVER;
	if (grant_enter_books(grant))
		return grant;
	grant_leave_books(grant);
	free(grant);
	return NULL;
}

static void grant_free(struct grant *grant)
{
	assert(!grant->waiters && !grant->is_live && grant->door.place == WANTED_OUT &&
		grant->cut.place == WANTED_OUT);
	grant_leave_books(grant);
	session_remove_grant(grant);
	loop_timer_clear(grant->core->loop, &grant->timer);
	grant_record_fini(&grant->record);
	free(grant->cause);
	free(grant);
}

bool grant_is_closed(const struct grant *grant)
{
	return grant->ended && grant->end_committed && grant->door.place == WANTED_OUT;
}

static bool is_gone(const struct grant *grant)
{
	return grant_is_closed(grant) && grant->cut.place == WANTED_OUT && !grant->record.cut &&
		!grant->cut_wished && grant->change.kind == CHANGE_NONE;
}

void grant_release(struct grant *grant)
{
	assert(grant->holds > 0);
	grant->holds--;
	/* On the way out grants_fini() frees what is in the books. */
	if (grant->holds == 0 && is_gone(grant) && !grant->waiters &&
		(!grant->core->stopping || !grant->in_books))
		grant_free(grant);
}

bool grant_join_line(struct grant *grant)
{
	struct line_key key = grant_line_key(&grant->record);
	return line_join(&grant->gateway->lines, &key, &grant->line);
}

bool grant_become_live(struct grant *grant, struct session *session)
{
	struct gateway *gateway = grant->gateway;
	const struct grant_record *record = &grant->record;
	const struct endpoint *external = &record->external;
	if (external->port &&
		!external_claim(&gateway->externals, external, record->transport, &grant->external))
		return false;
	if (record->state != GRANT_RESERVED && !grant_join_line(grant)) {
		external_release(&gateway->externals, &grant->external);
		return false;
	}
	grant->is_live = true;
	if (grant->filter)
		grant->filter->live_grants++;
	gateway->live_grants++;
	grant->live_next = gateway->live;
	if (gateway->live)
		gateway->live->live_previous = grant;
	gateway->live = grant;
	if (session && !(record->flags & GRANT_ADDRESS_BASED))
		session_add_grant(session, grant);
	return true;
}

static struct grant *of_line(struct line_place *place)
{
	return (struct grant *)((char *)place - offsetof(struct grant, line));
}

void grant_leave_line(struct grant *grant)
{
	struct line_place *next = line_leave(&grant->gateway->lines, &grant->line);
	if (next)
		grant_arm(of_line(next));
}

static void stop_living(struct grant *grant)
{
	struct gateway *gateway = grant->gateway;
	if (!grant->is_live)
		return;
	grant->is_live = false;
	revision_grant_leaves(grant);
	if (grant->filter)
		grant->filter->live_grants--;
	gateway->live_grants--;
	*(grant->live_previous ? &grant->live_previous->live_next : &gateway->live) =
		grant->live_next;
	if (grant->live_next)
		grant->live_next->live_previous = grant->live_previous;
	if (grant->session)
		session_grant_ended(grant->session);
	(void)gateway_disarm(gateway, &grant->door);
	external_release(&gateway->externals, &grant->external);
	grant_leave_line(grant);
}

void grant_arm(struct grant *grant)
{
	if (grant->committed && !grant->ended && grant->door.place == WANTED_OUT &&
		grant->record.state != GRANT_RESERVED && grant->change.kind != CHANGE_EXTERNAL &&
		line_is_first(&grant->line))
		gateway_arm(grant->gateway, &grant->door);
}

uint64_t grant_left_ms(const struct grant *grant)
{
	int64_t left = grant->ended ? 0 : grant->due_us - clock_mono_us();
	return left <= 0 ? 0 : (uint64_t)(left + 999) / 1000;
}

/* ---- the clock ---- */

static void tick(void *arg)
{
	struct grant *grant = arg;
	int64_t now = clock_mono_us();
	if (grant->ended) {
		grant_journal_end(grant, "", "");
		return;
	}
	if (grant->record.state == GRANT_RESERVED && grant->due_us <= now) {
		grant_end(grant, END_RESERVATION_TIMEOUT, "", "");
	} else if (grant->closes_us + GRACE_US <= now) {
		bool unused =
			(grant->record.flags & GRANT_TIMEOUT) && grant->record.connections == 0;
		grant_end(grant, unused ? END_UNUSED_TIMEOUT : END_LIFETIME, "", "");
	} else if (grant->record.state == GRANT_PENDING && grant->deadline_us <= now) {
		grant_miss_deadline(grant);
	}
	if (!grant->ended && !grant->wish)
		grant_watch_clock(grant);
}

void grant_miss_deadline(struct grant *grant)
{
	grant->waited = grant->line.line && !line_is_first(&grant->line);
	grant_end(grant, END_DEADLINE_MISSED, "",
		grant->waited ? "it waited behind another grant of the same door"
			      : "the caller's deadline passed");
}

void grant_watch_clock(struct grant *grant)
{
	int64_t due = grant->closes_us + GRACE_US;
	if (grant->record.state == GRANT_PENDING && grant->deadline_us < due)
		due = grant->deadline_us;
	if (grant->record.state == GRANT_RESERVED)
		due = grant->due_us;
	loop_timer_set(grant->core->loop, &grant->timer, due, tick, grant);
}

/* ---- the end ---- */

void grant_fill_entry(const struct grant *grant, enum entry_kind kind, struct entry *ret_entry)
{
	const struct grant_record *record = &grant->record;
	core_entry(ret_entry, kind, "");
	copy_text(ret_entry->gateway, sizeof ret_entry->gateway, record->gateway);
	copy_text(ret_entry->filter, sizeof ret_entry->filter, record->filter);
	copy_text(ret_entry->protocol, sizeof ret_entry->protocol, record->protocol);
	ret_entry->session = record->session;
	ret_entry->grant = record->id;
	ret_entry->bundle = record->bundle;
	ret_entry->inbound = record->inbound;
	ret_entry->client = record->client;
	ret_entry->client_port = record->client_port;
	ret_entry->remote = record->remote;
	ret_entry->external = record->external;
	ret_entry->remote_port_last = record->remote_port_last;
	ret_entry->remotes = record->remotes;
	ret_entry->remote_count = record->remote_count;
	ret_entry->transport = record->transport;
	ret_entry->notify = record->notify;
	if (record->notify) {
		ret_entry->context = record->context;
		ret_entry->context_size = record->context_size;
	}
}

static struct grant_record ended_record(const struct grant *grant, enum end_reason reason)
{
	struct grant_record record = grant->record;
	record.state = (uint8_t)grant_end_state(reason);
	record.reason = (uint8_t)reason;
	record.ended_us = clock_real_us();
	return record;
}

struct grant_record grant_changed(const struct grant *grant)
{
	const struct grant_change *change = &grant->change;
	struct grant_record record = grant->record;
	switch (change->kind) {
	case CHANGE_NONE:
		break;
	case CHANGE_END:
		record = ended_record(grant, (enum end_reason)change->reason);
		record.cut |= change->cut;
		break;
	case CHANGE_CUT:
		record.cut = true;
		break;
	case CHANGE_RENEW:
		record.expires_us = change->expires_us;
		record.clamped = change->clamped;
		record.renewals++;
		break;
	case CHANGE_COMMIT:
		record.state = GRANT_PENDING;
		record.expires_us = change->expires_us;
		break;
	case CHANGE_EXTERNAL:
		record.external = change->external;
		break;
	}
	return record;
}

void grant_put_row(const struct grant *grant, struct store_txn *txn)
{
	struct grant_record record = grant_changed(grant);
	store_txn_put_grant(txn, &record);
}

void grant_add_ended(const struct grant *grant, enum end_reason reason, const char *actor,
	const char *detail, struct store_txn *txn)
{
	struct grant_record record = grant->ended || grant->change.kind == CHANGE_END
		? grant_changed(grant)
		: ended_record(grant, reason);
	struct entry entry;
	grant_fill_entry(grant, ENTRY_ENDED, &entry);
	copy_text(entry.actor, sizeof entry.actor, actor);
	copy_text(entry.detail, sizeof entry.detail, detail);
	entry.reason = reason;
	entry.count = record.connections;
	store_txn_entry(txn, &entry);
	store_txn_put_grant(txn, &record);
}

void grant_end_in_memory(struct grant *grant, enum end_reason reason)
{
	struct grant_record record = ended_record(grant, reason);
	assert(grant_may_become(
		(enum grant_state)grant->record.state, (enum grant_state)record.state));
	grant->record = record;
	grant->ended = true;
	loop_timer_clear(grant->core->loop, &grant->timer);
	stop_living(grant);
	assert(!grant_flaw(&grant->record));
}

/* Those who waited for the door. */
static void answer_end(struct grant *grant)
{
	struct error err = {0};
	switch ((enum grant_state)grant->record.state) {
	case GRANT_USED: /* then it was installed */
		break;
	case GRANT_FAILED:
		(void)grant_verdict(&grant->record, &err);
		if (grant->cause)
			snprintf(err.text, sizeof err.text, "gateway %s refused the door: %s",
				grant->record.gateway, grant->cause);
		else if (grant->waited && grant->record.reason == END_DEADLINE_MISSED)
			snprintf(err.text, sizeof err.text,
				"another grant has the same door until it ends: this one waited "
				"behind it until the deadline and was withdrawn");
		break;
	case GRANT_EXPIRED:
	case GRANT_CANCELLED:
		error_reason(&err, STATUS_ABORTED, REASON_ALREADY_ENDED,
			"the grant ended before its door was open: %s",
			end_reason_name((enum end_reason)grant->record.reason));
		id_format(&grant->record.id, err.grant);
		break;
	case GRANT_PENDING:
	case GRANT_ACTIVE:
	case GRANT_RESERVED:
	case GRANT_DENIED:
		return;
	}
	grant_answer(grant, UNTIL_INSTALLED, &err);
}

/* A door out, an end on disk: was that the last thing? */
void grant_check_gone(struct grant *grant)
{
	struct error none = {0};
	if (!grant_is_closed(grant))
		return;
	grant_hold(grant);
	session_remove_grant(grant);
	grant_answer(grant, is_gone(grant) ? UNTIL_CUT : UNTIL_CLOSED, &none);
	grant_release(grant);
}

void grant_end_is_on_disk(struct grant *grant)
{
	grant_hold(grant);
	grant->end_committed = true;
	answer_end(grant);
	grant_check_gone(grant);
	grant_release(grant);
}

void grant_door_gone(struct grant *grant)
{
	grant_check_gone(grant);
}

static void end_committed(void *arg, uint64_t sequence, const struct error *err)
{
	struct grant *grant = arg;
	(void)sequence;
	if (!err->status) {
		grant_end_is_on_disk(grant);
	} else if (!grant->core->stopping) { /* not the disk's fault: that the store tries again */
		char id[ID_TEXT_SIZE];
		id_format(&grant->record.id, id);
		log_err("%s: its end could not be journalled yet: %s", id, err->text);
		loop_timer_set(
			grant->core->loop, &grant->timer, clock_mono_us() + AGAIN_US, tick, grant);
	}
	grant_release(grant);
}

void grant_journal_end(struct grant *grant, const char *actor, const char *detail)
{
	struct store_txn *txn = core_fact(grant->core);
	if (!txn) {
		if (!grant->core->stopping)
			loop_timer_set(grant->core->loop, &grant->timer, clock_mono_us() + AGAIN_US,
				tick, grant);
		return;
	}
	grant_add_ended(grant, (enum end_reason)grant->record.reason, actor, detail, txn);
	grant_hold(grant);
	core_submit(grant->core, txn, end_committed, grant);
}

static bool must_wait(struct grant *grant, enum end_reason reason, const char *actor)
{
	if (grant->committed && grant->change.kind == CHANGE_NONE)
		return false;
	/* A renewal takes back the ends that are about time; others override them. */
	if (!grant->wish ||
		(change_is_about_time(grant->wish) && !change_is_about_time((uint8_t)reason))) {
		grant->wish = (uint8_t)reason;
		copy_text(grant->wish_actor, sizeof grant->wish_actor, actor);
	}
	return true;
}

void grant_apply_wish(struct grant *grant)
{
	enum end_reason wish = (enum end_reason)grant->wish;
	grant->wish = 0;
	if (wish)
		grant_end(grant, wish, grant->wish_actor, "");
}

void grant_end(struct grant *grant, enum end_reason reason, const char *actor, const char *detail)
{
	if (grant->ended || must_wait(grant, reason, actor))
		return;
	grant_end_in_memory(grant, reason);
	if (grant->record.state == GRANT_FAILED && !id_is_zero(&grant->record.bundle))
		bundle_end_failed(grant, detail);
	else
		grant_journal_end(grant, actor, detail);
	grant_apply_cut_wish(grant);
}

/* ---- what the gateway says ---- */

void grant_installed(struct grant *grant, uint64_t kernel_us, struct facts *facts)
{
	struct error none = {0};
	struct entry entry;
	int64_t way = clock_mono_us() - grant->door.told_us;
	if (grant->ended)
		return;
	grant->closes_us = grant->due_us + way;
	if (grant->record.state == GRANT_PENDING) {
		grant->record.state = GRANT_ACTIVE;
		grant->timing.kernel_us = kernel_us;
		grant->timing.push_us = way > (int64_t)kernel_us ? (uint64_t)way - kernel_us : 0;
		grant_fill_entry(grant, ENTRY_INSTALLED, &entry);
		store_txn_entry(facts->txn, &entry);
		grant_put_row(grant, facts->txn);
	}
	grant_watch_clock(grant);
	/* The decision is on disk; that the door is open is a fact that the agent would tell again.
	 */
	grant_answer(grant, UNTIL_INSTALLED, &none);
}

void grant_refused(struct grant *grant, const char *cause)
{
	if (grant->ended)
		return;
	free(grant->cause);
	grant->cause = strdup(cause);
	grant_end(grant, END_GATEWAY_REFUSED, "", cause);
}

void grant_cut_done(struct grant *grant, struct facts *facts)
{
	grant->record.cut = false;
	grant_put_row(grant, facts->txn);
	grant_check_gone(grant);
}

void grant_used(struct grant *grant, uint64_t flows, struct facts *facts)
{
	const struct grant_record *record = &grant->record;
	grant->record.connections += flows;
	bool used_up = record->max_connections && record->connections >= record->max_connections;
	if (grant->session && !grant->ended)
		session_touch(grant->session);
	if (grant->ended || !used_up || must_wait(grant, END_USED_UP, "")) {
		grant_put_row(grant, facts->txn);
		return;
	}
	grant_end_in_memory(grant, END_USED_UP);
	grant_journal_end_in(grant, "", facts);
}

void grant_journal_end_in(struct grant *grant, const char *detail, struct facts *facts)
{
	grant_add_ended(grant, (enum end_reason)grant->record.reason, "", detail, facts->txn);
	grant_hold(grant);
	grant->ended_next = facts->ended;
	facts->ended = grant;
}

void grants_ended(struct grant *first, const struct error *err)
{
	for (struct grant *grant = first, *next; grant; grant = next) {
		next = grant->ended_next;
		end_committed(grant, 0, err);
	}
}

/* ---- start and end of the server ---- */

struct grant *grant_load(struct core *core, const struct grant_record *record)
{
	struct grant_record copy;
	struct gateway *gateway = gateway_find(core, record->gateway);
	if (!gateway || !grant_record_copy(&copy, record))
		return NULL;
	struct grant *grant =
		grant_new(core, &copy, gateway, principals_find(&core->principals, record->filter));
	if (!grant) {
		grant_record_fini(&copy);
		return NULL;
	}
	grant->committed = true;
	if (!grant_is_live((enum grant_state)record->state)) {
		grant->ended = grant->end_committed = true;
		if (record->cut)
			gateway_cut(gateway, &grant->cut);
		return grant;
	}
	if (grant_become_live(grant, session_find(core, &record->session)))
		return grant;
	grant->ended = true;
	grant_free(grant);
	return NULL;
}

static void settle(struct grant *grant)
{
	const struct grant_record *record = &grant->record;
	bool tied = !id_is_zero(&record->session) && !(record->flags & GRANT_ADDRESS_BASED);
	if (record->max_connections && record->connections >= record->max_connections) {
		grant_end(grant, END_USED_UP, "", "");
	} else if (tied &&
		!grant->session) { /* the crash came between the session's end and its own */
		grant_end(grant, END_SESSION_ENDED, "", "");
	} else {
		grant_watch_clock(grant);
		grant_arm(grant);
	}
}

static void free_unneeded(struct table_node *node, void *arg)
{
	struct grant *grant = TABLE_OWNER(node, struct grant, by_id);
	(void)arg;
	if (is_gone(grant) && grant->holds == 0)
		grant_free(grant);
}

/* Lines were joined in the order of ids, but a reservation joins when it is committed: whoever has
 * the door goes on having it. */
static void keep_doors(struct gateway *gateway)
{
	for (struct grant *grant = gateway->live; grant; grant = grant->live_next)
		if (grant->record.state == GRANT_ACTIVE)
			line_promote(&grant->line);
}

void grants_settle(struct core *core)
{
	for (struct gateway *gateway = core->first_gateway; gateway; gateway = gateway->next) {
		keep_doors(gateway);
		for (struct grant *grant = gateway->live, *next; grant; grant = next) {
			next = grant->live_next;
			settle(grant);
		}
	}
	table_each(&core->grants, free_unneeded, NULL);
}

static void free_grant(struct table_node *node, void *arg)
{
	struct grant *grant = TABLE_OWNER(node, struct grant, by_id);
	(void)arg;
	grant->is_live = false;
	grant->waiters = NULL;
	memset(&grant->door, 0, sizeof grant->door);
	memset(&grant->cut, 0, sizeof grant->cut);
	external_release(&grant->gateway->externals, &grant->external);
	(void)line_leave(&grant->gateway->lines, &grant->line);
	grant_free(grant);
}

void grants_fini(struct core *core)
{
	table_each(&core->grants, free_grant, NULL);
	table_fini(&core->grants);
	table_fini(&core->requests);
}
