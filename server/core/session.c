/* Sessions: one client on one gateway, as a filter sees it. Its end ends the grants tied to it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "server/core/core.h"

/* Carries one caller over a commit. */
struct session_wait {
	struct session *session;
	session_cb done;
	void *arg;
};

static void session_free(struct session *session)
{
	table_remove(&session->core->sessions, &session->by_id);
	loop_timer_clear(session->core->loop, &session->idle);
	free(session);
}

struct session *session_find(const struct core *core, const struct id *id)
{
	struct table_node *node = table_find(&core->sessions, id->bytes, sizeof id->bytes);
	return node ? TABLE_OWNER(node, struct session, by_id) : NULL;
}

static void idle(void *arg)
{
	struct session *session = arg;
	if (session->live_grants > 0)
		session_touch(session);
	else
		(void)session_close(session, "", NULL, NULL, NULL);
}

void session_touch(struct session *session)
{
	if (!session->closing)
		loop_timer_set(session->core->loop, &session->idle,
			clock_mono_us() + (int64_t)session->record.idle_limit_ms * 1000, idle,
			session);
}

void session_add_grant(struct session *session, struct grant *grant)
{
	grant->session_previous = NULL;
	grant->session_next = session->grants;
	if (session->grants)
		session->grants->session_previous = grant;
	session->grants = grant;
	session->live_grants++;
}

void session_remove_grant(struct grant *grant)
{
	struct session *session = grant->session;
	grant->session = NULL;
	if (!session || (session->grants != grant && !grant->session_previous))
		return; /* ADDRESS_BASED, or not armed yet: not in the list */
	if (grant->session_previous)
		grant->session_previous->session_next = grant->session_next;
	else
		session->grants = grant->session_next;
	if (grant->session_next)
		grant->session_next->session_previous = grant->session_previous;
	grant->session_next = grant->session_previous = NULL;
	session->live_grants--;
}

static struct session *session_new(struct core *core, const struct session_record *record)
{
	struct session *session = calloc(1, sizeof *session);
	if (!session)
		return NULL;
	session->core = core;
	session->record = *record;
	session->gateway = gateway_find(core, record->gateway);
	if (!table_insert(
		    &core->sessions, &session->by_id, record->id.bytes, sizeof record->id.bytes)) {
		free(session);
		return NULL;
	}
	return session;
}

static void fill_entry(const struct session *session, enum entry_kind kind, const char *actor,
	struct entry *ret_entry)
{
	const struct session_record *record = &session->record;
	core_entry(ret_entry, kind, actor);
	snprintf(ret_entry->gateway, sizeof ret_entry->gateway, "%s", record->gateway);
	snprintf(ret_entry->filter, sizeof ret_entry->filter, "%s", record->filter);
	snprintf(ret_entry->protocol, sizeof ret_entry->protocol, "%s", record->protocol);
	ret_entry->session = record->id;
	ret_entry->client = record->client;
	ret_entry->remote = record->primary.remote;
	ret_entry->transport = record->primary.transport;
	if (record->user[0])
		snprintf(ret_entry->detail, sizeof ret_entry->detail, "user %s", record->user);
}

static void opened(void *arg, uint64_t sequence, const struct error *err)
{
	struct session_wait *wait = arg;
	struct session *session = wait->session;
	(void)sequence;
	wait->done(wait->arg, &session->record, err);
	free(wait);
	if (session->core->stopping)
		return;
	if (err->status) {
		session_free(session);
		return;
	}
	session->committed = true;
	session_touch(session);
}

enum status session_open(struct core *core, const struct session_record *record, session_cb done,
	void *arg, struct error *err)
{
	struct session_wait *wait = malloc(sizeof *wait);
	struct store_txn *txn = store_txn_new(core->store);
	struct session *session = wait && txn ? session_new(core, record) : NULL;
	struct entry entry;
	if (!session) {
		free(wait);
		store_txn_free(txn);
		return error_set(err, STATUS_RESOURCE_EXHAUSTED,
			"the server is out of memory or its journal behind: try again");
	}
	*wait = (struct session_wait){.session = session, .done = done, .arg = arg};
	fill_entry(session, ENTRY_SESSION_OPENED, record->filter, &entry);
	store_txn_entry(txn, &entry);
	store_txn_put_session(txn, record);
	store_submit(core->store, txn, opened, wait);
	return STATUS_OK;
}

static void closed(void *arg, uint64_t sequence, const struct error *err)
{
	struct session_wait *wait = arg;
	(void)sequence;
	if (wait->done)
		wait->done(wait->arg, &wait->session->record, err);
	if (!wait->session->core->stopping)
		session_free(wait->session);
	free(wait);
}

enum status session_close(
	struct session *session, const char *actor, session_cb done, void *arg, struct error *err)
{
	struct core *core = session->core;
	struct session_wait *wait = malloc(sizeof *wait);
	struct store_txn *txn = store_txn_new_fact(core->store);
	struct entry entry;
	if (!wait || !txn) {
		free(wait);
		store_txn_free(txn);
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
	}
	session->closing = true;
	loop_timer_clear(core->loop, &session->idle);
	while (session->grants)
		grant_end(session->grants, END_SESSION_ENDED, actor, "");
	session->record.closed_us = clock_real_us();
	*wait = (struct session_wait){.session = session, .done = done, .arg = arg};
	fill_entry(session, ENTRY_SESSION_CLOSED, actor, &entry);
	if (actor[0] == '\0')
		snprintf(entry.detail, sizeof entry.detail, "idle for longer than its limit");
	store_txn_entry(txn, &entry);
	store_txn_put_session(txn, &session->record);
	store_submit(core->store, txn, closed, wait);
	return STATUS_OK;
}

void session_load(struct core *core, const struct session_record *record)
{
	struct session *session = session_new(core, record);
	if (!session)
		return;
	session->committed = true;
	session_touch(session);
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
