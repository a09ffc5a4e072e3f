/* Everything live, from disk, at the server's start. */
#include "server/store/query.h"

#include <stdlib.h>
#include <string.h>

#include "server/store/sqlite.h"

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
	column_copy(stmt, 7, principal.clients, sizeof principal.clients);
	column_copy(stmt, 8, principal.destinations, sizeof principal.destinations);
	column_copy(stmt, 9, principal.protocols, sizeof principal.protocols);
	principal.grants_per_second = (uint64_t)column_int(stmt, 10);
	principal.max_lifetime_ms = (uint64_t)column_int(stmt, 11);
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
	protocol.shared = column_int(stmt, 5) != 0;
	protocol.remote_scope = (uint8_t)column_int(stmt, 6);
	protocol.low_ports = column_int(stmt, 7) != 0;
	protocol.max_ports = (uint16_t)column_int(stmt, 8);
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

/* SQLite's own memory; NULL only for a NULL, empty is not absent. */
static uint8_t *column_large(struct sqlite3_stmt *stmt, int at, size_t *ret_size)
{
	static uint8_t nothing;
	bool is_null = column_is_null(stmt, at);
	const uint8_t *bytes = column_blob(stmt, at, ret_size);
	return is_null ? NULL : *ret_size == 0 ? &nothing : (uint8_t *)(uintptr_t)bytes;
}

/* The document decides who is let in: one that somebody changed must not. */
static enum status load_revision(
	struct sqlite3_stmt *stmt, const struct store_visitor *visitor, struct error *err)
{
	struct revision_record revision;
	uint8_t hash[RECORD_DOCUMENT_HASH_SIZE];
	enum status status = revision_from_row(stmt, &revision, err);
	if (status)
		return status;
	revision.document = column_large(stmt, 8, &revision.document_size);
	digest_of(revision.document, revision.document_size, hash);
	if (!revision.document || memcmp(hash, revision.hash, sizeof hash) != 0)
		return error_set(err, STATUS_DATA_LOSS,
			"revision %llu: its document is not the one that was applied: somebody "
			"changed the database: restore a backup",
			(unsigned long long)revision.number);
	visitor->revision(visitor->arg, &revision);
	return STATUS_OK;
}

static enum status load_feed(
	struct sqlite3_stmt *stmt, const struct store_visitor *visitor, struct error *err)
{
	struct feed_record feed = {0};
	(void)err;
	column_copy(stmt, 0, feed.name, sizeof feed.name);
	feed.is_name = column_int(stmt, 1) != 0;
	column_copy(stmt, 2, feed.etag, sizeof feed.etag);
	feed.fetched_us = column_int(stmt, 3);
	feed.checked_us = column_int(stmt, 4);
	column_copy(stmt, 5, feed.url, sizeof feed.url);
	column_copy(stmt, 6, feed.error, sizeof feed.error);
	feed.content = column_large(stmt, 7, &feed.content_size);
	feed.held = column_large(stmt, 8, &feed.held_size);
	column_copy(stmt, 9, feed.held_etag, sizeof feed.held_etag);
	visitor->feed(visitor->arg, &feed);
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
	enum status status = grant_from_row(stmt, &grant, err);
	if (status)
		return status;
	visitor->grant(visitor->arg, &grant);
	grant_record_fini(&grant);
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
	column_endpoint(stmt, 9, &flow.flow.external);
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
			"SELECT name, role, token_hash, gateway, gateways, max_grants, added_us, "
			"clients, destinations, protocols, grants_per_second, max_lifetime_ms "
			"FROM principals",
			load_principal},
		{visitor->protocol,
			"SELECT guid, name, transport, primary_ports, owner, shared, remote_scope, "
			"low_ports, max_ports FROM protocols",
			load_protocol},
		{visitor->rule, "SELECT name, type, deny, protocol FROM rules", load_rule},
		{visitor->revision,
			"SELECT " REVISION_COLUMNS ", document FROM revisions "
			"ORDER BY number DESC LIMIT 1",
			load_revision},
		{visitor->feed,
			"SELECT name, is_name, etag, fetched_us, checked_us, url, error, "
			"content, held, held_etag FROM feeds ORDER BY is_name, name",
			load_feed},
		{visitor->session,
			"SELECT id, gateway, filter, user, protocol, client, primary_client, "
			"primary_remote, "
			"primary_transport, idle_limit_ms, opened_us, closed_us FROM sessions "
			"WHERE closed_us = 0",
			load_session},
		{visitor->grant,
			"SELECT " GRANT_COLUMNS " FROM grants WHERE id IN (SELECT id FROM grants "
			"WHERE state < 3 OR state = 8 "
			"UNION SELECT grant_id FROM flows WHERE closed_us = 0) ORDER BY id",
			load_grant},
		{visitor->flow,
			"SELECT grant_id, flow, gateway, boot_id, client, remote, transport, "
			"opened_us, closed_us, external FROM flows WHERE closed_us = 0 "
			"UNION ALL SELECT grant_id, flow, gateway, boot_id, client, remote, "
			"transport, "
			"opened_us, closed_us, external FROM flows WHERE closed_us > 0 AND "
			"closed_us > ?1",
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
