/* An open is a decision, and so is a close that somebody asks for. That a session has been idle for
 * too long, or that its primary connection has ended, is a fact; it ends in the same way, and is
 * tried again if the disk refuses it.
 *
 * A session with a primary connection asks the gateway's agent first: only a connection that
 * conntrack knows proves that the filter speaks of a real client. While the agent follows it, the
 * session is never idle: its end ends the session. When the agent is not connected the idle limit
 * counts, so that a gateway that never returns leaves nothing behind.
 *
 * Once its end is on disk its grants end, each with an entry of its own; a crash in between is
 * mended at the next start. The session is freed when the last of them is gone and the agent has
 * forgotten its primary. */
#include "server/core/session.h"

#include <assert.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "server/core/grant.h"
#include "server/fleet/gateway.h"

#define AGAIN_US 5000000 /* an end that the disk refused */

static bool match(const struct table_node *node, const void *key, size_t size)
{
	return memcmp(TABLE_OWNER(node, struct session, by_id)->record.id.bytes, key, size) == 0;
}

void sessions_init(struct core *core)
{
	table_init(&core->sessions, match);
}

static struct session *find(const struct core *core, const struct id *id)
{
	struct table_node *node = table_find(&core->sessions, id->bytes, sizeof id->bytes);
	return node ? TABLE_OWNER(node, struct session, by_id) : NULL;
}

struct session *session_find(const struct core *core, const struct id *id)
{
	struct session *session = find(core, id);
	return session && session->stage == SESSION_OPEN ? session : NULL;
}

static bool has_primary(const struct session *session)
{
	return session->record.primary.transport != 0;
}

static struct session *session_new(struct core *core, const struct session_record *record)
{
	struct session *session = calloc(1, sizeof *session);
	if (!session)
		return NULL;
	session->core = core;
	session->record = *record;
	session->filter = principals_find(&core->principals, record->filter);
	session->gateway = gateway_find(core, record->gateway);
	if (!session->gateway ||
		!table_insert(&core->sessions, &session->by_id, record->id.bytes,
			sizeof record->id.bytes)) {
		free(session);
		return NULL;
	}
	if (session->filter)
		session->filter->open_sessions++;
	return session;
}

static void leave_quota(struct session *session)
{
	if (session->filter)
		session->filter->open_sessions--;
	session->filter = NULL;
}

static void session_free(struct session *session)
{
	assert(session->watch.place == WANTED_OUT);
	table_remove(&session->core->sessions, &session->by_id);
	loop_timer_clear(session->core->loop, &session->clock);
	leave_quota(session);
	free(session);
}

/* Nothing of it remains but what the agent has yet to forget. */
static void leave(struct session *session)
{
	session->stage = SESSION_GONE;
	loop_timer_clear(session->core->loop, &session->clock);
	if (session->watch.place == WANTED_OUT ||
		gateway_unwatch(session->gateway, &session->watch))
		session_free(session);
}

static void answer(struct session *session, const struct error *err)
{
	struct session_waiter *waiter = session->waiter;
	session->waiter = NULL;
	if (!waiter)
		return;
	waiter->session = NULL;
	waiter->done(waiter->arg, session, err);
}

static void wait_for(struct session *session, struct session_waiter *waiter)
{
	session->waiter = waiter;
	if (waiter)
		waiter->session = session;
}

static void fill_entry(const struct session *session, enum entry_kind kind, const char *actor,
	struct entry *ret_entry)
{
	const struct session_record *record = &session->record;
	core_entry(ret_entry, kind, actor);
	ret_entry->session = record->id;
	ret_entry->client = record->client;
	ret_entry->client_port = record->primary.client.port;
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

/* ---- the clock ---- */

static void on_clock(void *arg);

static int64_t idle_since(const struct session *session)
{
	int64_t since = session->active_us;
	if (has_primary(session) && session->gateway->down_since_us > since)
		since = session->gateway->down_since_us;
	return since;
}

static bool is_over(const struct session *session, int64_t now)
{
	if (session->abandoned)
		return true;
	if (session->primary_ended_us)
		return session->primary_ended_us +
			(int64_t)session->core->config->session_linger_ms * 1000 <=
			now;
	if (session->live_grants > 0 || (has_primary(session) && gateway_is_up(session->gateway)))
		return false;
	return idle_since(session) + (int64_t)session->record.idle_limit_ms * 1000 <= now;
}

static void set_clock(struct session *session, int64_t due_us)
{
	loop_timer_set(session->core->loop, &session->clock, due_us, on_clock, session);
}

/* When an open session is to be looked at next. */
static void wind(struct session *session, int64_t now)
{
	int64_t limit = (int64_t)session->record.idle_limit_ms * 1000;
	int64_t due = idle_since(session) + limit;
	if (session->primary_ended_us)
		due = session->primary_ended_us +
			(int64_t)session->core->config->session_linger_ms * 1000;
	set_clock(session, due > now ? due : now + limit);
}

/* Ends it if it is over. */
static void look(struct session *session)
{
	int64_t now = clock_mono_us();
	if (!is_over(session, now))
		wind(session, now);
	else if (session_close(session, "", NULL, NULL))
		set_clock(session, now + AGAIN_US);
}

void session_touch(struct session *session)
{
	session->active_us = clock_mono_us();
	if (!session->clock.armed && session->stage == SESSION_OPEN)
		wind(session, session->active_us);
}

/* ---- opening ---- */

/* It never was. */
static void discard(struct session *session, const struct error *err)
{
	answer(session, err);
	leave(session);
}

static void on_opened(void *arg, uint64_t sequence, const struct error *err)
{
	struct session *session = arg;
	(void)sequence;
	if (err->status) {
		discard(session, err);
		return;
	}
	session->stage = SESSION_OPEN;
	session->active_us = clock_mono_us();
	answer(session, err);
	if (!session->core->stopping)
		look(session);
}

/* STATUS_OK: on_opened() follows. */
static enum status submit_opening(struct session *session, struct error *err)
{
	struct core *core = session->core;
	struct store_txn *txn = core_decision(core);
	struct entry entry;
	if (!txn)
		return core_no_decision(err);
	session->stage = SESSION_OPENING;
	loop_timer_clear(core->loop, &session->clock);
	fill_entry(session, ENTRY_SESSION_OPENED, session->record.filter, &entry);
	store_txn_entry(txn, &entry);
	store_txn_put_session(txn, &session->record);
	core_submit_first(core, txn, on_opened, session);
	return STATUS_OK;
}

void session_watched(struct session *session)
{
	struct error err;
	if (session->stage == SESSION_ASKING && submit_opening(session, &err))
		discard(session, &err);
}

void session_unwatched(struct session *session)
{
	if (session->stage == SESSION_GONE)
		session_free(session);
}

static void no_answer(struct session *session)
{
	const char *gateway = session->record.gateway;
	struct error err;
	if (gateway_is_up(session->gateway))
		error_reason(&err, STATUS_DEADLINE_EXCEEDED, REASON_DEADLINE,
			"gateway %s did not say in time whether it knows the primary connection: "
			"no session was opened",
			gateway);
	else
		error_reason(&err, STATUS_UNAVAILABLE, REASON_GATEWAY_DOWN,
			"gateway %s was disconnected before it said whether it knows the primary "
			"connection: no session was opened",
			gateway);
	discard(session, &err);
}

static enum status ask(struct session *session, int64_t deadline_us, struct error *err)
{
	const struct core *core = session->core;
	if (!gateway_is_up(session->gateway))
		return error_reason(err, STATUS_UNAVAILABLE, REASON_GATEWAY_DOWN,
			"gateway %s is not connected: its agent must look for the primary "
			"connection",
			session->record.gateway);
	session->stage = SESSION_ASKING;
	session->deadline_us = deadline_us != CLOCK_NEVER
		? deadline_us
		: clock_mono_us() + (int64_t)core->config->request_deadline_ms * 1000;
	set_clock(session, session->deadline_us);
	gateway_watch(session->gateway, &session->watch);
	return STATUS_OK;
}

enum status session_open(struct core *core, const struct session_record *record,
	int64_t deadline_us, struct session_waiter *waiter, struct error *err)
{
	struct session *session = core->stopping ? NULL : session_new(core, record);
	if (!session)
		return core_no_decision(err);
	enum status status = has_primary(session) ? ask(session, deadline_us, err)
						  : submit_opening(session, err);
	if (status)
		session_free(session);
	else
		wait_for(session, waiter);
	return status;
}

void session_forget_waiter(struct session_waiter *waiter)
{
	struct session *session = waiter->session;
	if (!session)
		return;
	session->waiter = NULL;
	waiter->session = NULL;
	if (session->stage == SESSION_ASKING)
		leave(session);
	else if (session->stage == SESSION_OPENING)
		session->abandoned = true;
}

static void on_clock(void *arg)
{
	struct session *session = arg;
	if (session->stage == SESSION_OPEN)
		look(session);
	else if (session->stage == SESSION_ASKING)
		no_answer(session);
}

/* ---- its primary connection ---- */

static void no_such_connection(struct session *session)
{
	const struct flow *primary = &session->record.primary;
	char client[ENDPOINT_TEXT_SIZE], remote[ENDPOINT_TEXT_SIZE];
	struct error err;
	endpoint_format(&primary->client, client);
	endpoint_format(&primary->remote, remote);
	error_reason(&err, STATUS_FAILED_PRECONDITION, REASON_NO_SUCH_CONNECTION,
		"gateway %s knows no %s connection from %s to %s: the primary connection must "
		"exist and pass through it",
		session->record.gateway, primary->transport == IPPROTO_TCP ? "tcp" : "udp", client,
		remote);
	discard(session, &err);
}

void session_primary_ended(struct gateway *gateway, const struct id *id)
{
	struct session *session = find(gateway->core, id);
	if (!session || session->gateway != gateway || !has_primary(session))
		return;
	if (!session->primary_ended_us)
		session->primary_ended_us = clock_mono_us();
	if (session->stage == SESSION_ASKING)
		no_such_connection(session);
	else if (session->stage == SESSION_OPEN)
		look(session);
}

/* ---- closing ---- */

static void finish(struct session *session)
{
	struct error none = {0};
	if (session->stage != SESSION_CLOSED || session->grants)
		return;
	leave_quota(session);
	answer(session, &none);
	leave(session);
}

static void on_closed(void *arg, uint64_t sequence, const struct error *err)
{
	struct session *session = arg;
	(void)sequence;
	if (err->status) {
		session->stage = SESSION_OPEN;
		session->record.closed_us = 0;
		answer(session, err);
		if (!session->core->stopping)
			set_clock(session, clock_mono_us() + AGAIN_US);
		return;
	}
	session->stage = SESSION_CLOSED;
	for (struct grant *grant = session->grants, *next; grant; grant = next) {
		next = grant->session_next;
		grant_end(grant, END_SESSION_ENDED, session->closer, "");
	}
	finish(session);
}

/* Why the server closes it. */
static const char *own_reason(const struct session *session)
{
	if (session->abandoned)
		return "whoever opened it went away before the answer";
	return session->primary_ended_us ? "its primary connection ended"
					 : "idle for longer than its limit";
}

enum status session_close(struct session *session, const char *actor, struct session_waiter *waiter,
	struct error *err)
{
	struct core *core = session->core;
	struct store_txn *txn = core_decision(core);
	struct entry entry;
	if (!txn)
		return core_no_decision(err);
	session->stage = SESSION_CLOSING;
	wait_for(session, waiter);
	session->record.closed_us = clock_real_us();
	copy_text(session->closer, sizeof session->closer, actor);
	loop_timer_clear(core->loop, &session->clock);
	fill_entry(session, ENTRY_SESSION_CLOSED, actor, &entry);
	if (actor[0] == '\0')
		copy_text(entry.detail, sizeof entry.detail, own_reason(session));
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
	session->stage = SESSION_OPEN;
	if (has_primary(session))
		gateway_watch(session->gateway, &session->watch);
	session_touch(session);
	return true;
}

static void free_session(struct table_node *node, void *arg)
{
	struct session *session = TABLE_OWNER(node, struct session, by_id);
	(void)arg;
	memset(&session->watch, 0, sizeof session->watch);
	session_free(session);
}

void sessions_fini(struct core *core)
{
	table_each(&core->sessions, free_session, NULL);
	table_fini(&core->sessions);
}
