#include "server/store/reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/store/sqlite.h"

#define TIME_SLACK_US                                                                              \
	3600000000LL /* the wall clock may have been set back by an hour between two entries */
#define VERIFY_ENTRIES 2000
#define SQL_MAX 1024

/* ---- pages of the journal ---- */

static enum status time_at(struct sqlite3 *db, struct sqlite3_stmt *stmt, uint64_t sequence,
	int64_t *ret_time, struct error *err)
{
	enum status status;
	bind_int(stmt, 1, (int64_t)sequence);
	if (stmt_row(db, stmt, "journal", &status, err))
		*ret_time = column_int(stmt, 0);
	stmt_reset(stmt);
	return status;
}

/* A sequence behind which every entry of `since_us` or later lies: bisection, because entries are
 * in order of time but for steps of the clock. */
static enum status bisect(
	struct sqlite3 *db, int64_t since_us, uint64_t *ret_after, struct error *err)
{
	struct sqlite3_stmt *stmt = NULL;
	uint64_t low = 0, high = 0;
	enum status status = db_prepare(db, "SELECT max(sequence) FROM journal", &stmt, err);
	if (status)
		return status;
	if (stmt_row(db, stmt, "journal", &status, err))
		high = (uint64_t)column_int(stmt, 0);
	db_finalize(stmt);
	stmt = NULL;
	if (!status)
		status = db_prepare(db,
			"SELECT time_us FROM journal WHERE sequence >= ?1 ORDER BY sequence LIMIT "
			"1",
			&stmt, err);
	while (!status && low < high) {
		uint64_t middle = low + (high - low) / 2;
		int64_t time = INT64_MAX;
		status = time_at(db, stmt, middle + 1, &time, err);
		if (time < since_us - TIME_SLACK_US)
			low = middle + 1;
		else
			high = middle;
	}
	db_finalize(stmt);
	if (!status)
		*ret_after = low;
	return status;
}

struct condition {
	char sql[SQL_MAX];
	size_t length;
};

static void where(struct condition *condition, const char *sql)
{
	int n = snprintf(condition->sql + condition->length,
		sizeof condition->sql - condition->length, " AND %s", sql);
	condition->length += (size_t)n;
}

static void page_sql(const struct store_query *query, struct condition *sql)
{
	sql->length = (size_t)snprintf(sql->sql, sizeof sql->sql,
		"SELECT sequence, hash, body FROM journal WHERE sequence > ?1");
	if (query->since_us)
		where(sql, "time_us >= ?2");
	if (query->until_us)
		where(sql, "time_us < ?3");
	if (query->gateway[0])
		where(sql, "gateway = ?4");
	if (query->filter[0])
		where(sql, "filter = ?5");
	if (query->notify_only)
		where(sql, "notify = 1");
	if (!id_is_zero(&query->grant))
		where(sql, "grant_id = ?6");
	if (!id_is_zero(&query->session))
		where(sql, "session = ?7");
	if (query->client[0])
		where(sql, "client = ?8");
	if (query->remote[0])
		where(sql, "remote = ?9");
	if (query->kinds)
		where(sql, "(?10 >> kind) & 1");
	snprintf(sql->sql + sql->length, sizeof sql->sql - sql->length,
		" ORDER BY sequence LIMIT ?11");
}

static void bind_query(
	struct sqlite3_stmt *stmt, const struct store_query *query, uint64_t after, uint32_t limit)
{
	bind_int(stmt, 1, (int64_t)after);
	bind_int(stmt, 2, query->since_us);
	bind_int(stmt, 3, query->until_us);
	bind_text(stmt, 4, query->gateway);
	bind_text(stmt, 5, query->filter);
	bind_blob(stmt, 6, query->grant.bytes, sizeof query->grant.bytes);
	bind_blob(stmt, 7, query->session.bytes, sizeof query->session.bytes);
	bind_text(stmt, 8, query->client);
	bind_text(stmt, 9, query->remote);
	bind_int(stmt, 10, (int64_t)query->kinds);
	bind_int(stmt, 11, limit);
}

void page_fini(struct page *page)
{
	for (size_t i = 0; i < page->count; i++)
		entry_fini(&page->entries[i]);
	page->count = 0;
}

static enum status row_entry(struct sqlite3_stmt *stmt, struct entry *ret_entry, struct error *err)
{
	size_t body_size, hash_size;
	const uint8_t *hash = column_blob(stmt, 1, &hash_size);
	const uint8_t *body = column_blob(stmt, 2, &body_size);
	if (entry_decode(body, body_size, ret_entry, err))
		return error_set(err, STATUS_DATA_LOSS,
			"journal entry %lld cannot be read: run `postern audit verify`",
			(long long)column_int(stmt, 0));
	ret_entry->sequence = (uint64_t)column_int(stmt, 0);
	if (hash_size == sizeof ret_entry->hash)
		memcpy(ret_entry->hash, hash, hash_size);
	return STATUS_OK;
}

/* The newest sequence, so that a query that matched little need not walk the same entries again. */
static enum status newest(struct sqlite3 *db, uint64_t *ret_sequence, struct error *err)
{
	struct sqlite3_stmt *stmt = NULL;
	enum status status = db_prepare(db, "SELECT max(sequence) FROM journal", &stmt, err);
	if (!status && stmt_row(db, stmt, "journal", &status, err))
		*ret_sequence = (uint64_t)column_int(stmt, 0);
	db_finalize(stmt);
	return status;
}

enum status read_page(struct sqlite3 *db, const struct store_query *query, struct page *ret_page,
	struct error *err)
{
	struct sqlite3_stmt *stmt = NULL;
	struct condition sql;
	uint64_t after = query->after, from = 0, head = 0;
	uint32_t limit =
		query->limit && query->limit < STORE_PAGE_MAX ? query->limit : STORE_PAGE_MAX;
	enum status status = db_exec(db, "BEGIN", err); /* one snapshot for all statements */
	if (status)
		return status;
	status = newest(db, &head, err);
	if (!status && query->since_us)
		status = bisect(db, query->since_us, &from, err);
	if (from > after)
		after = from;
	page_sql(query, &sql);
	if (!status)
		status = db_prepare(db, sql.sql, &stmt, err);
	ret_page->count = 0;
	if (!status)
		bind_query(stmt, query, after, limit);
	while (!status && stmt_row(db, stmt, "journal", &status, err)) {
		status = row_entry(stmt, &ret_page->entries[ret_page->count], err);
		if (!status)
			ret_page->count++;
	}
	db_finalize(stmt);
	(void)db_exec(db, "COMMIT", NULL);
	if (status) {
		page_fini(ret_page);
		return status;
	}
	ret_page->at_end = ret_page->count < limit;
	ret_page->next_after = ret_page->at_end ? (head > query->after ? head : query->after)
						: ret_page->entries[ret_page->count - 1].sequence;
	return STATUS_OK;
}

/* ---- grants ---- */

#define GRANT_COLUMNS                                                                              \
	"id, request_id, session, gateway, filter, protocol, rule, client, remote, external, "     \
	"transport, flags, notify, state, "                                                        \
	"reason, lifetime_ms, max_connections, connections, created_us, expires_us, ended_us, "    \
	"context"

static enum status row_grant(
	struct sqlite3_stmt *stmt, struct grant_record *ret_grant, struct error *err)
{
	struct grant_record *grant = ret_grant;
	size_t size;
	memset(grant, 0, sizeof *grant);
	column_id(stmt, 0, &grant->id);
	column_id(stmt, 1, &grant->request_id);
	column_id(stmt, 2, &grant->session);
	column_copy(stmt, 3, grant->gateway, sizeof grant->gateway);
	column_copy(stmt, 4, grant->filter, sizeof grant->filter);
	column_copy(stmt, 5, grant->protocol, sizeof grant->protocol);
	column_copy(stmt, 6, grant->rule, sizeof grant->rule);
	column_addr(stmt, 7, &grant->client);
	column_endpoint(stmt, 8, &grant->remote);
	column_endpoint(stmt, 9, &grant->external);
	grant->transport = (uint8_t)column_int(stmt, 10);
	grant->flags = (uint32_t)column_int(stmt, 11);
	grant->notify = column_int(stmt, 12) != 0;
	grant->state = (uint8_t)column_int(stmt, 13);
	grant->reason = (uint8_t)column_int(stmt, 14);
	grant->lifetime_ms = (uint64_t)column_int(stmt, 15);
	grant->max_connections = (uint64_t)column_int(stmt, 16);
	grant->connections = (uint64_t)column_int(stmt, 17);
	grant->created_us = column_int(stmt, 18);
	grant->expires_us = column_int(stmt, 19);
	grant->ended_us = column_int(stmt, 20);
	const uint8_t *context = column_blob(stmt, 21, &size);
	if (!context || size == 0)
		return STATUS_OK;
	grant->context = malloc(size);
	if (!grant->context)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	memcpy(grant->context, context, size);
	grant->context_size = size;
	return STATUS_OK;
}

static void grants_sql(const struct store_grant_query *query, struct condition *sql)
{
	sql->length = (size_t)snprintf(
		sql->sql, sizeof sql->sql, "SELECT " GRANT_COLUMNS " FROM grants WHERE 1");
	if (!id_is_zero(&query->id))
		where(sql, "id = ?1");
	if (!id_is_zero(&query->request_id))
		where(sql, "request_id = ?2");
	if (!id_is_zero(&query->before))
		where(sql, "id < ?3");
	if (query->filter[0])
		where(sql, "filter = ?4");
	if (query->gateway[0])
		where(sql, "gateway = ?5");
	if (query->client[0])
		where(sql, "client = ?6");
	if (!id_is_zero(&query->session))
		where(sql, "session = ?7");
	snprintf(sql->sql + sql->length, sizeof sql->sql - sql->length,
		" ORDER BY id DESC LIMIT ?8");
}

void grant_page_fini(struct grant_page *page)
{
	for (size_t i = 0; i < page->count; i++)
		free(page->grants[i].context);
	page->count = 0;
}

enum status read_grants(struct sqlite3 *db, const struct store_grant_query *query,
	struct grant_page *ret_page, struct error *err)
{
	struct sqlite3_stmt *stmt = NULL;
	struct condition sql;
	uint32_t limit =
		query->limit && query->limit < STORE_PAGE_MAX ? query->limit : STORE_PAGE_MAX;
	grants_sql(query, &sql);
	enum status status = db_prepare(db, sql.sql, &stmt, err);
	ret_page->count = 0;
	if (status)
		return status;
	bind_blob(stmt, 1, query->id.bytes, sizeof query->id.bytes);
	bind_blob(stmt, 2, query->request_id.bytes, sizeof query->request_id.bytes);
	bind_blob(stmt, 3, query->before.bytes, sizeof query->before.bytes);
	bind_text(stmt, 4, query->filter);
	bind_text(stmt, 5, query->gateway);
	bind_text(stmt, 6, query->client);
	bind_blob(stmt, 7, query->session.bytes, sizeof query->session.bytes);
	bind_int(stmt, 8, limit);
	while (!status && stmt_row(db, stmt, "grants", &status, err)) {
		status = row_grant(stmt, &ret_page->grants[ret_page->count], err);
		if (!status)
			ret_page->count++;
	}
	db_finalize(stmt);
	if (status)
		grant_page_fini(ret_page);
	return status;
}

/* ---- what is live ---- */

typedef enum status (*row_cb)(
	struct sqlite3_stmt *stmt, const struct store_visitor *visitor, struct error *err);

static enum status each(struct sqlite3 *db, const char *sql, int64_t parameter, row_cb row,
	const struct store_visitor *visitor, struct error *err)
{
	struct sqlite3_stmt *stmt = NULL;
	enum status status = db_prepare(db, sql, &stmt, err);
	if (status)
		return status;
	bind_int(stmt, 1, parameter);
	while (!status && stmt_row(db, stmt, "database", &status, err))
		status = row(stmt, visitor, err);
	db_finalize(stmt);
	return status;
}

static enum status load_gateway(
	struct sqlite3_stmt *stmt, const struct store_visitor *visitor, struct error *err)
{
	struct gateway_record gateway = {0};
	(void)err;
	column_copy(stmt, 0, gateway.name, sizeof gateway.name);
	column_copy(stmt, 1, gateway.labels, sizeof gateway.labels);
	gateway.added_us = column_int(stmt, 2);
	column_copy(stmt, 3, gateway.boot_id, sizeof gateway.boot_id);
	column_copy(stmt, 4, gateway.instance, sizeof gateway.instance);
	gateway.last_report = (uint64_t)column_int(stmt, 5);
	gateway.joined_us = column_int(stmt, 6);
	visitor->gateway(visitor->arg, &gateway);
	return STATUS_OK;
}

static enum status load_principal(
	struct sqlite3_stmt *stmt, const struct store_visitor *visitor, struct error *err)
{
	struct principal_record principal = {0};
	size_t size;
	column_copy(stmt, 0, principal.name, sizeof principal.name);
	principal.role = (uint8_t)column_int(stmt, 1);
	const uint8_t *hash = column_blob(stmt, 2, &size);
	if (size != sizeof principal.token_hash)
		return error_set(err, STATUS_DATA_LOSS, "principal %s: its token's hash is damaged",
			principal.name);
	memcpy(principal.token_hash, hash, size);
	column_copy(stmt, 3, principal.gateway, sizeof principal.gateway);
	column_copy(stmt, 4, principal.gateways, sizeof principal.gateways);
	principal.max_grants = (uint64_t)column_int(stmt, 5);
	principal.added_us = column_int(stmt, 6);
	visitor->principal(visitor->arg, &principal);
	return STATUS_OK;
}

static enum status load_protocol(
	struct sqlite3_stmt *stmt, const struct store_visitor *visitor, struct error *err)
{
	struct protocol_record protocol = {0};
	(void)err;
	column_id(stmt, 0, &protocol.guid);
	column_copy(stmt, 1, protocol.name, sizeof protocol.name);
	protocol.transport = (uint8_t)column_int(stmt, 2);
	const char *ports = column_text(stmt, 3);
	while (*ports &&
		protocol.primary_port_count <
			sizeof protocol.primary_ports / sizeof *protocol.primary_ports) {
		char *end;
		protocol.primary_ports[protocol.primary_port_count++] =
			(uint16_t)strtoul(ports, &end, 10);
		ports = *end == ',' ? end + 1 : "";
	}
	column_copy(stmt, 4, protocol.owner, sizeof protocol.owner);
	visitor->protocol(visitor->arg, &protocol);
	return STATUS_OK;
}

static enum status load_rule(
	struct sqlite3_stmt *stmt, const struct store_visitor *visitor, struct error *err)
{
	struct rule_record rule = {0};
	(void)err;
	column_copy(stmt, 0, rule.name, sizeof rule.name);
	rule.type = (uint8_t)column_int(stmt, 1);
	rule.deny = column_int(stmt, 2) != 0;
	column_copy(stmt, 3, rule.protocol, sizeof rule.protocol);
	visitor->rule(visitor->arg, &rule);
	return STATUS_OK;
}

static enum status load_session(
	struct sqlite3_stmt *stmt, const struct store_visitor *visitor, struct error *err)
{
	struct session_record session = {0};
	(void)err;
	column_id(stmt, 0, &session.id);
	column_copy(stmt, 1, session.gateway, sizeof session.gateway);
	column_copy(stmt, 2, session.filter, sizeof session.filter);
	column_copy(stmt, 3, session.user, sizeof session.user);
	column_copy(stmt, 4, session.protocol, sizeof session.protocol);
	column_addr(stmt, 5, &session.client);
	column_endpoint(stmt, 6, &session.primary.client);
	column_endpoint(stmt, 7, &session.primary.remote);
	session.primary.transport = (uint8_t)column_int(stmt, 8);
	session.idle_limit_ms = (uint64_t)column_int(stmt, 9);
	session.opened_us = column_int(stmt, 10);
	session.closed_us = column_int(stmt, 11);
	visitor->session(visitor->arg, &session);
	return STATUS_OK;
}

static enum status load_grant(
	struct sqlite3_stmt *stmt, const struct store_visitor *visitor, struct error *err)
{
	struct grant_record grant;
	enum status status = row_grant(stmt, &grant, err);
	if (status)
		return status;
	visitor->grant(visitor->arg, &grant);
	free(grant.context);
	return STATUS_OK;
}

static enum status load_flow(
	struct sqlite3_stmt *stmt, const struct store_visitor *visitor, struct error *err)
{
	struct flow_record flow = {0};
	(void)err;
	column_id(stmt, 0, &flow.grant);
	flow.flow.id = (uint64_t)column_int(stmt, 1);
	column_copy(stmt, 2, flow.gateway, sizeof flow.gateway);
	column_copy(stmt, 3, flow.boot_id, sizeof flow.boot_id);
	column_endpoint(stmt, 4, &flow.flow.client);
	column_endpoint(stmt, 5, &flow.flow.remote);
	flow.flow.transport = (uint8_t)column_int(stmt, 6);
	flow.opened_us = column_int(stmt, 7);
	flow.closed_us = column_int(stmt, 8);
	visitor->flow(visitor->arg, &flow);
	return STATUS_OK;
}

enum status read_live(struct sqlite3 *db, const struct store_visitor *visitor,
	int64_t flows_after_us, struct error *err)
{
	const struct {
		bool wanted;
		const char *sql;
		row_cb row;
	} tables[] = {
		{visitor->gateway,
			"SELECT name, labels, added_us, boot_id, instance, last_report, joined_us "
			"FROM gateways",
			load_gateway},
		{visitor->principal,
			"SELECT name, role, token_hash, gateway, gateways, max_grants, added_us "
			"FROM principals",
			load_principal},
		{visitor->protocol,
			"SELECT guid, name, transport, primary_ports, owner FROM protocols",
			load_protocol},
		{visitor->rule, "SELECT name, type, deny, protocol FROM rules", load_rule},
		{visitor->session,
			"SELECT id, gateway, filter, user, protocol, client, primary_client, "
			"primary_remote, "
			"primary_transport, idle_limit_ms, opened_us, closed_us FROM sessions "
			"WHERE closed_us = 0",
			load_session},
		{visitor->grant,
			"SELECT " GRANT_COLUMNS
			" FROM grants WHERE state < 3 OR id IN (SELECT grant_id FROM flows WHERE "
			"closed_us = 0) ORDER BY id",
			load_grant},
		{visitor->flow,
			"SELECT grant_id, flow, gateway, boot_id, client, remote, transport, "
			"opened_us, closed_us FROM flows "
			"WHERE closed_us = 0 OR closed_us > ?1",
			load_flow},
	};
	for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
		enum status status = tables[i].wanted
			? each(db, tables[i].sql, flows_after_us, tables[i].row, visitor, err)
			: STATUS_OK;
		if (status)
			return status;
	}
	return STATUS_OK;
}

/* ---- verification ---- */

static void fault(struct verify_walk *walk, uint64_t sequence, const char *text)
{
	walk->done = true;
	walk->result.intact = false;
	walk->result.bad_sequence = sequence;
	snprintf(walk->result.fault, sizeof walk->result.fault, "%s", text);
}

static bool same_text(struct sqlite3_stmt *stmt, int at, const char *text)
{
	return strcmp(column_text(stmt, at), text) == 0 &&
		column_is_null(stmt, at) == (text[0] == '\0');
}

static bool same_id(struct sqlite3_stmt *stmt, int at, const struct id *id)
{
	struct id column;
	column_id(stmt, at, &column);
	return id_equal(&column, id);
}

/* The first column that says something else than the hashed body, NULL when all agree. */
static const char *differing_column(struct sqlite3_stmt *stmt, const struct entry *entry)
{
	char client[ADDR_TEXT_SIZE], remote[ADDR_TEXT_SIZE];
	addr_format(&entry->client, client);
	addr_format(&entry->remote.addr, remote);
	if (column_int(stmt, 3) != entry->time_us)
		return "time_us";
	if (column_int(stmt, 4) != (int64_t)entry->kind)
		return "kind";
	if (!same_text(stmt, 5, entry->gateway))
		return "gateway";
	if (!same_text(stmt, 6, entry->filter))
		return "filter";
	if (!same_id(stmt, 7, &entry->session))
		return "session";
	if (!same_id(stmt, 8, &entry->grant))
		return "grant_id";
	if (!same_text(stmt, 9, client))
		return "client";
	if (!same_text(stmt, 10, remote))
		return "remote";
	if ((column_int(stmt, 11) != 0) != entry->notify)
		return "notify";
	return NULL;
}

static void verify_row(struct sqlite3_stmt *stmt, struct verify_walk *walk)
{
	uint64_t sequence = (uint64_t)column_int(stmt, 0);
	size_t hash_size, body_size;
	uint8_t expected[ENTRY_HASH_SIZE];
	struct entry entry;
	char text[160];
	if (sequence != walk->sequence + 1) {
		snprintf(text, sizeof text, "missing: entry %llu is followed by %llu",
			(unsigned long long)walk->sequence, (unsigned long long)sequence);
		fault(walk, walk->sequence + 1, text);
		return;
	}
	const uint8_t *hash = column_blob(stmt, 1, &hash_size);
	const uint8_t *body = column_blob(stmt, 2, &body_size);
	entry_hash(walk->hash, sequence, body, body_size, expected);
	if (hash_size != sizeof expected || memcmp(hash, expected, sizeof expected) != 0) {
		fault(walk, sequence, "changed: body and hash do not fit the entry before it");
		return;
	}
	if (entry_decode(body, body_size, &entry, NULL)) {
		fault(walk, sequence, "changed: the body is not a journal entry");
		return;
	}
	const char *column = differing_column(stmt, &entry);
	entry_fini(&entry);
	if (column) {
		snprintf(text, sizeof text, "changed: column %s differs from the hashed body",
			column);
		fault(walk, sequence, text);
		return;
	}
	if (sequence == walk->known_sequence &&
		memcmp(expected, walk->known_hash, sizeof expected) != 0) {
		fault(walk, sequence,
			"known head not found: the entry of this sequence has another hash");
		return;
	}
	walk->sequence = sequence;
	memcpy(walk->hash, expected, sizeof walk->hash);
	walk->result.entries++;
}

enum status verify_step(struct sqlite3 *db, struct verify_walk *walk, struct error *err)
{
	struct sqlite3_stmt *stmt = NULL;
	unsigned rows = 0;
	enum status status = db_prepare(db,
		"SELECT sequence, hash, body, time_us, kind, gateway, filter, session, grant_id, "
		"client, remote, notify FROM journal "
		"WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
		&stmt, err);
	if (status)
		return status;
	walk->result.intact = true;
	bind_int(stmt, 1, (int64_t)walk->sequence);
	bind_int(stmt, 2, VERIFY_ENTRIES);
	for (; !walk->done && stmt_row(db, stmt, "journal", &status, err); rows++)
		verify_row(stmt, walk);
	db_finalize(stmt);
	if (!status && !walk->done && rows < VERIFY_ENTRIES) {
		walk->done = true;
		if (walk->known_sequence > walk->sequence)
			fault(walk, walk->sequence + 1,
				"known head not found: the journal ends before it");
	}
	walk->result.head_sequence = walk->sequence;
	memcpy(walk->result.head_hash, walk->hash, sizeof walk->hash);
	return status;
}
