/* An open is a decision, and so is a close that somebody asks for. That a session has been idle for
 * too long is a fact; it ends in the same way, and is tried again if the disk refuses it.
 *
 * Once its end is on disk its grants end, each with an entry of its own; a crash in between is
 * mended at the next start. The session is freed when the last of them is gone. */
#include "server/core/session.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "server/core/grant.h"

#define AGAIN_US 5000000 /* an idle session's end that the disk refused */

static bool match(const struct table_node *node, const void *key, size_t size)
{
	return memcmp(TABLE_OWNER(node, struct session, by_id)->record.id.bytes, key, size) == 0;
}

void sessions_init(struct core *core)
{
	table_init(&core->sessions, match);
}

struct session *session_find(const struct core *core, const struct id *id)
{
	struct table_node *node = table_find(&core->sessions, id->bytes, sizeof id->bytes);
	struct session *session = node ? TABLE_OWNER(node, struct session, by_id) : NULL;
	return session && session->committed && !session->closing ? session : NULL;
}

static struct session *session_new(struct core *core, const struct session_record *record)
{
	struct session *session = calloc(1, sizeof *session);
	if (!session)
		return NULL;
	session->core = core;
	session->record = *record;
	session->filter = principals_find(&core->principals, record->filter);
	if (!table_insert(
		    &core->sessions, &session->by_id, record->id.bytes, sizeof record->id.bytes)) {
		free(session);
		return NULL;
	}
	if (session->filter)
		session->filter->open_sessions++;
	return session;
}

static void session_free(struct session *session)
{
	table_remove(&session->core->sessions, &session->by_id);
	loop_timer_clear(session->core->loop, &session->idle);
	if (session->filter)
		session->filter->open_sessions--;
	free(session);
}

static void answer(struct session *session, const struct error *err)
{
	struct session_waiter *waiter = session->waiter;
	session->waiter = NULL;
	if (waiter)
		waiter->done(waiter->arg, session, err);
}

void session_forget_waiter(struct session *session, struct session_waiter *waiter)
{
	if (session->waiter == waiter)
		session->waiter = NULL;
}

static void fill_entry(const struct session *session, enum entry_kind kind, const char *actor,
	struct entry *ret_entry)
{
	const struct session_record *record = &session->record;
	core_entry(ret_entry, kind, actor);
	ret_entry->session = record->id;
	ret_entry->client = record->client;
	ret_entry->remote = record->primary.remote;
	ret_entry->transport = record->primary.transport;
	copy_text(ret_entry->gateway, sizeof ret_entry->gateway, record->gateway);
	copy_text(ret_entry->filter, sizeof ret_entry->filter, record->filter);
	copy_text(ret_entry->protocol, sizeof ret_entry->protocol, record->protocol);
	if (kind == ENTRY_SESSION_OPENED && record->user[0]) {
		copy_text(ret_entry->detail, sizeof ret_entry->detail, "user ");
		copy_text(ret_entry->detail + 5, sizeof ret_entry->detail - 5, record->user);
	}
}

/* ---- idleness ---- */

static void on_idle(void *arg)
{
	struct session *session = arg;
	int64_t due = session->active_us + (int64_t)session->record.idle_limit_ms * 1000;
	int64_t now = clock_mono_us();
	if (session->live_grants == 0 && due <= now) {
		if (!session_close(session, "", NULL, NULL))
			return;
		due = now + AGAIN_US;
	} else if (due <= now) {
		due = now + (int64_t)session->record.idle_limit_ms * 1000;
	}
	loop_timer_set(session->core->loop, &session->idle, due, on_idle, session);
}

void session_touch(struct session *session)
{
	session->active_us = clock_mono_us();
	if (!session->idle.armed && !session->closing)
		loop_timer_set(session->core->loop, &session->idle,
			session->active_us + (int64_t)session->record.idle_limit_ms * 1000, on_idle,
			session);
}

/* ---- opening ---- */

static void on_opened(void *arg, uint64_t sequence, const struct error *err)
{
	struct session *session = arg;
	(void)sequence;
	session->committed = !err->status;
	if (session->committed)
		session_touch(session);
	answer(session, err);
	if (!session->committed)
		session_free(session);
}

enum status session_open(struct core *core, const struct session_record *record,
	struct session_waiter *waiter, struct error *err)
{
	struct store_txn *txn = core_decision(core);
	struct session *session = txn ? session_new(core, record) : NULL;
	struct entry entry;
	if (!session) {
		store_txn_free(txn);
		return core_no_decision(err);
	}
	session->waiter = waiter;
	fill_entry(session, ENTRY_SESSION_OPENED, record->filter, &entry);
	store_txn_entry(txn, &entry);
	store_txn_put_session(txn, record);
	core_submit_first(core, txn, on_opened, session);
	return STATUS_OK;
}

/* ---- closing ---- */

static void finish(struct session *session)
{
	struct error none = {0};
	if (!session->closed || session->grants)
		return;
	answer(session, &none);
	session_free(session);
}

static void on_closed(void *arg, uint64_t sequence, const struct error *err)
{
	struct session *session = arg;
	(void)sequence;
	if (err->status) {
		session->closing = false;
		session->record.closed_us = 0;
		answer(session, err);
		if (!session->core->stopping)
			loop_timer_set(session->core->loop, &session->idle,
				clock_mono_us() + AGAIN_US, on_idle, session);
		return;
	}
	session->closed = true;
	for (struct grant *grant = session->grants, *next; grant; grant = next) {
		next = grant->session_next;
		grant_end(grant, END_SESSION_ENDED, session->closer, "");
	}
	finish(session);
}

enum status session_close(struct session *session, const char *actor, struct session_waiter *waiter,
	struct error *err)
{
	struct core *core = session->core;
	struct store_txn *txn = core_decision(core);
	struct entry entry;
	if (!txn)
		return core_no_decision(err);
	session->closing = true;
	session->waiter = waiter;
	session->record.closed_us = clock_real_us();
	copy_text(session->closer, sizeof session->closer, actor);
	loop_timer_clear(core->loop, &session->idle);
	fill_entry(session, ENTRY_SESSION_CLOSED, actor, &entry);
	if (actor[0] == '\0')
		copy_text(entry.detail, sizeof entry.detail, "idle for longer than its limit");
	store_txn_entry(txn, &entry);
	store_txn_put_session(txn, &session->record);
	core_submit(core, txn, on_closed, session);
	return STATUS_OK;
}

/* ---- its grants ---- */

void session_add_grant(struct session *session, struct grant *grant)
{
	grant->session = session;
	grant->session_previous = NULL;
	grant->session_next = session->grants;
	if (session->grants)
		session->grants->session_previous = grant;
	session->grants = grant;
	session->live_grants++;
}

void session_grant_ended(struct session *session)
{
	session->live_grants--;
}

void session_remove_grant(struct grant *grant)
{
	struct session *session = grant->session;
	if (!session)
		return;
	*(grant->session_previous ? &grant->session_previous->session_next : &session->grants) =
		grant->session_next;
	if (grant->session_next)
		grant->session_next->session_previous = grant->session_previous;
	grant->session = NULL;
	grant->session_next = grant->session_previous = NULL;
	if (!session->core->stopping)
		finish(session);
}

/* ---- start and end of the server ---- */

bool session_load(struct core *core, const struct session_record *record)
{
	struct session *session = session_new(core, record);
	if (!session)
		return false;
	session->committed = true;
	session_touch(session);
	return true;
}

static void free_session(struct table_node *node, void *arg)
{
	(void)arg;
	session_free(TABLE_OWNER(node, struct session, by_id));
}

void sessions_fini(struct core *core)
{
	table_each(&core->sessions, free_session, NULL);
	table_fini(&core->sessions);
}
