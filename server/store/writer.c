#include "server/store/writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/store/query.h"
#include "server/store/sqlite.h"
#include "server/store/txn.h"

enum statement {
	INSERT_ENTRY,
	INSERT_ZONE,
	PUT_GATEWAY,
	PUT_POSITION,
	PUT_PRINCIPAL,
	PUT_PROTOCOL,
	PUT_RULE,
	PUT_SESSION,
	PUT_GRANT,
	PUT_FLOW,
	PUT_REVISION,
	CONFIRM_REVISION,
	PUT_FEED,
	FORGET_FLOWS,
	STATEMENT_COUNT,
};

static const char *const statements[STATEMENT_COUNT] = {
	[INSERT_ENTRY] = "INSERT INTO journal (sequence, time_us, kind, gateway, filter, session, "
			 "grant_id, client, remote, notify, "
			 "body, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
	[INSERT_ZONE] = "INSERT INTO journal_zones (zone, min_us, max_us) VALUES (?1, ?2, ?3)",
	[PUT_GATEWAY] = "INSERT INTO gateways (name, labels, added_us, boot_id, instance, "
			"last_report, joined_us) "
			"VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (name) DO UPDATE SET "
			"labels = ?2, boot_id = ?4, "
			"instance = ?5, last_report = ?6, joined_us = ?7",
	[PUT_POSITION] = "UPDATE gateways SET instance = ?2, last_report = ?3 WHERE name = ?1",
	[PUT_PRINCIPAL] = "INSERT INTO principals (name, role, token_hash, gateway, gateways, "
			  "max_grants, added_us, clients, destinations, protocols, "
			  "grants_per_second, max_lifetime_ms) "
			  "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
	[PUT_PROTOCOL] = "INSERT INTO protocols (guid, name, transport, primary_ports, owner, "
			 "shared, remote_scope, low_ports, max_ports) "
			 "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
	[PUT_RULE] = "INSERT INTO rules (name, type, deny, protocol) VALUES (?1, ?2, ?3, ?4)",
	[PUT_SESSION] = "INSERT INTO sessions (id, gateway, filter, user, protocol, client, "
			"primary_client, primary_remote, "
			"primary_transport, idle_limit_ms, opened_us, closed_us) VALUES (?1, ?2, "
			"?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, "
			"?11, ?12) ON CONFLICT (id) DO UPDATE SET closed_us = ?12",
	[PUT_GRANT] = "INSERT INTO grants (id, request_id, session, gateway, filter, protocol, "
		      "rule, client, remote, external, "
		      "transport, flags, notify, state, reason, lifetime_ms, max_connections, "
		      "connections, created_us, expires_us, "
		      "ended_us, context, direction, client_port, remotes, remote_port_last, "
		      "external_chosen, bundle, clamped, cut, renewals, revision, user, site_rule) "
		      "VALUES (?1, ?2, ?3, ?4, "
		      "?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, "
		      "?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34) "
		      "ON CONFLICT (id) DO UPDATE SET external = ?10, state = ?14, reason = "
		      "?15, connections = ?18, expires_us = ?20, ended_us = ?21, clamped = ?29, "
		      "cut = ?30, renewals = ?31",
	[PUT_FLOW] =
		"INSERT INTO flows (grant_id, flow, gateway, boot_id, client, remote, "
		"transport, opened_us, closed_us, external) "
		"VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (grant_id, flow, "
		"opened_us) "
		"DO UPDATE SET closed_us = ?9",
	[PUT_REVISION] = "INSERT INTO revisions (" REVISION_COLUMNS ", document) "
			 "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) "
			 "ON CONFLICT (number) DO UPDATE SET confirm_until_us = ?6",
	[CONFIRM_REVISION] = "UPDATE revisions SET confirm_until_us = ?2 WHERE number = ?1",
	[PUT_FEED] = "INSERT INTO feeds (name, is_name, etag, fetched_us, checked_us, url, "
		     "error, content, held, held_etag) "
		     "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) "
		     "ON CONFLICT (name, url, is_name) DO UPDATE SET etag = ?3, fetched_us = ?4, "
		     "checked_us = ?5, error = ?7, content = ?8, held = ?9, "
		     "held_etag = ?10",
	[FORGET_FLOWS] = "DELETE FROM flows WHERE (grant_id, flow, opened_us) IN (SELECT grant_id, "
			 "flow, opened_us FROM flows "
			 "WHERE closed_us > 0 AND closed_us < ?1 ORDER BY closed_us LIMIT ?2)",
};

struct writer {
	struct sqlite3 *db;
	struct sqlite3_stmt *prepared[STATEMENT_COUNT];
};

enum status writer_new(struct sqlite3 *db, struct writer **ret_writer, struct error *err)
{
	struct writer *writer = calloc(1, sizeof *writer);
	if (!writer)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	writer->db = db;
	for (int i = 0; i < STATEMENT_COUNT; i++) {
		enum status status = db_prepare(db, statements[i], &writer->prepared[i], err);
		if (status) {
			writer_free(writer);
			return status;
		}
	}
	*ret_writer = writer;
	return STATUS_OK;
}

void writer_free(struct writer *writer)
{
	if (!writer)
		return;
	for (int i = 0; i < STATEMENT_COUNT; i++)
		db_finalize(writer->prepared[i]);
	free(writer);
}

static enum status run(struct writer *writer, enum statement statement, struct error *err)
{
	return stmt_run(writer->db, writer->prepared[statement], "journal", err);
}

void chain_widen_zone(struct chain *chain, int64_t time_us)
{
	bool first = chain->sequence % JOURNAL_ZONE == 0;
	if (first || time_us < chain->zone_min_us)
		chain->zone_min_us = time_us;
	if (first || time_us > chain->zone_max_us)
		chain->zone_max_us = time_us;
}

static enum status end_zone(struct writer *writer, const struct chain *chain, struct error *err)
{
	struct sqlite3_stmt *stmt = writer->prepared[INSERT_ZONE];
	bind_int(stmt, 1, (int64_t)(chain->sequence / JOURNAL_ZONE - 1));
	bind_int(stmt, 2, chain->zone_min_us);
	bind_int(stmt, 3, chain->zone_max_us);
	return run(writer, INSERT_ZONE, err);
}

static enum status apply_entry(
	struct writer *writer, struct op_entry *op, struct chain *chain, struct error *err)
{
	struct sqlite3_stmt *stmt = writer->prepared[INSERT_ENTRY];
	struct entry *entry = &op->entry;
	struct chain next = *chain;
	chain_widen_zone(&next, entry->time_us);
	next.sequence++;
	entry_hash(chain->hash, next.sequence, op->body, op->body_size, next.hash);
	bind_int(stmt, 1, (int64_t)next.sequence);
	bind_int(stmt, 2, entry->time_us);
	bind_int(stmt, 3, entry->kind);
	bind_text_or_null(stmt, 4, entry->gateway);
	bind_text_or_null(stmt, 5, entry->filter);
	bind_id_or_null(stmt, 6, &entry->session);
	bind_id_or_null(stmt, 7, &entry->grant);
	bind_addr_or_null(stmt, 8, &entry->client);
	bind_addr_or_null(stmt, 9, &entry->remote.addr);
	bind_int(stmt, 10, entry->notify);
	bind_blob(stmt, 11, op->body, op->body_size);
	bind_blob(stmt, 12, next.hash, sizeof next.hash);
	enum status status = run(writer, INSERT_ENTRY, err);
	if (!status && next.sequence % JOURNAL_ZONE == 0)
		status = end_zone(writer, &next, err);
	if (status)
		return status;
	*chain = next;
	entry->sequence = next.sequence;
	memcpy(entry->hash, next.hash, sizeof entry->hash);
	return STATUS_OK;
}

static enum status apply_gateway(
	struct writer *writer, const struct gateway_record *gateway, struct error *err)
{
	struct sqlite3_stmt *stmt = writer->prepared[PUT_GATEWAY];
	bind_text(stmt, 1, gateway->name);
	bind_text(stmt, 2, gateway->labels);
	bind_int(stmt, 3, gateway->added_us);
	bind_text(stmt, 4, gateway->boot_id);
	bind_text(stmt, 5, gateway->instance);
	bind_int(stmt, 6, (int64_t)gateway->last_report);
	bind_int(stmt, 7, gateway->joined_us);
	return run(writer, PUT_GATEWAY, err);
}

static enum status apply_position(
	struct writer *writer, const struct gateway_record *gateway, struct error *err)
{
	struct sqlite3_stmt *stmt = writer->prepared[PUT_POSITION];
	bind_text(stmt, 1, gateway->name);
	bind_text(stmt, 2, gateway->instance);
	bind_int(stmt, 3, (int64_t)gateway->last_report);
	return run(writer, PUT_POSITION, err);
}

static enum status apply_principal(
	struct writer *writer, const struct principal_record *principal, struct error *err)
{
	struct sqlite3_stmt *stmt = writer->prepared[PUT_PRINCIPAL];
	bind_text(stmt, 1, principal->name);
	bind_int(stmt, 2, principal->role);
	bind_blob(stmt, 3, principal->token_hash, sizeof principal->token_hash);
	bind_text(stmt, 4, principal->gateway);
	bind_text(stmt, 5, principal->gateways);
	bind_int(stmt, 6, (int64_t)principal->max_grants);
	bind_int(stmt, 7, principal->added_us);
	bind_text(stmt, 8, principal->clients);
	bind_text(stmt, 9, principal->destinations);
	bind_text(stmt, 10, principal->protocols);
	bind_int(stmt, 11, (int64_t)principal->grants_per_second);
	bind_int(stmt, 12, (int64_t)principal->max_lifetime_ms);
	return run(writer, PUT_PRINCIPAL, err);
}

static enum status apply_protocol(
	struct writer *writer, const struct protocol_record *protocol, struct error *err)
{
	struct sqlite3_stmt *stmt = writer->prepared[PUT_PROTOCOL];
	char ports[128] = "";
	size_t used = 0;
	for (size_t i = 0; i < protocol->primary_port_count && used < sizeof ports; i++)
		used += (size_t)snprintf(ports + used, sizeof ports - used, "%s%u", i ? "," : "",
			protocol->primary_ports[i]);
	bind_blob(stmt, 1, protocol->guid.bytes, sizeof protocol->guid.bytes);
	bind_text(stmt, 2, protocol->name);
	bind_int(stmt, 3, protocol->transport);
	bind_text(stmt, 4, ports);
	bind_text(stmt, 5, protocol->owner);
	bind_int(stmt, 6, protocol->shared);
	bind_int(stmt, 7, protocol->remote_scope);
	bind_int(stmt, 8, protocol->low_ports);
	bind_int(stmt, 9, protocol->max_ports);
	return run(writer, PUT_PROTOCOL, err);
}

static enum status apply_rule(
	struct writer *writer, const struct rule_record *rule, struct error *err)
{
	struct sqlite3_stmt *stmt = writer->prepared[PUT_RULE];
	bind_text(stmt, 1, rule->name);
	bind_int(stmt, 2, rule->type);
	bind_int(stmt, 3, rule->deny);
	bind_text(stmt, 4, rule->protocol);
	return run(writer, PUT_RULE, err);
}

static void bind_addr(struct sqlite3_stmt *stmt, int at, const struct addr *addr)
{
	char text[ADDR_TEXT_SIZE];
	addr_format(addr, text);
	bind_text(stmt, at, text);
}

static void bind_addrs(struct sqlite3_stmt *stmt, int at, const struct addr *addrs, size_t count)
{
	char text[ENTRY_REMOTES_MAX * ADDR_TEXT_SIZE] = "", one[ADDR_TEXT_SIZE];
	size_t used = 0;
	for (size_t i = 0; i < count && i < ENTRY_REMOTES_MAX; i++) {
		addr_format(&addrs[i], one);
		used += (size_t)snprintf(
			text + used, sizeof text - used, "%s%s", i ? "," : "", one);
	}
	bind_text(stmt, at, text);
}

static enum status apply_session(
	struct writer *writer, const struct session_record *session, struct error *err)
{
	struct sqlite3_stmt *stmt = writer->prepared[PUT_SESSION];
	bind_blob(stmt, 1, session->id.bytes, sizeof session->id.bytes);
	bind_text(stmt, 2, session->gateway);
	bind_text(stmt, 3, session->filter);
	bind_text(stmt, 4, session->user);
	bind_text(stmt, 5, session->protocol);
	bind_addr(stmt, 6, &session->client);
	bind_endpoint(stmt, 7, &session->primary.client);
	bind_endpoint(stmt, 8, &session->primary.remote);
	bind_int(stmt, 9, session->primary.transport);
	bind_int(stmt, 10, (int64_t)session->idle_limit_ms);
	bind_int(stmt, 11, session->opened_us);
	bind_int(stmt, 12, session->closed_us);
	return run(writer, PUT_SESSION, err);
}

static enum status apply_grant(
	struct writer *writer, const struct grant_record *grant, struct error *err)
{
	struct sqlite3_stmt *stmt = writer->prepared[PUT_GRANT];
	bind_blob(stmt, 1, grant->id.bytes, sizeof grant->id.bytes);
	bind_id_or_null(stmt, 2, &grant->request_id);
	bind_id_or_null(stmt, 3, &grant->session);
	bind_text(stmt, 4, grant->gateway);
	bind_text(stmt, 5, grant->filter);
	bind_text(stmt, 6, grant->protocol);
	bind_text(stmt, 7, grant->rule);
	bind_addr(stmt, 8, &grant->client);
	bind_endpoint(stmt, 9, &grant->remote);
	bind_endpoint(stmt, 10, &grant->external);
	bind_int(stmt, 11, grant->transport);
	bind_int(stmt, 12, grant->flags);
	bind_int(stmt, 13, grant->notify);
	bind_int(stmt, 14, grant->state);
	bind_int(stmt, 15, grant->reason);
	bind_int(stmt, 16, (int64_t)grant->lifetime_ms);
	bind_int(stmt, 17, (int64_t)grant->max_connections);
	bind_int(stmt, 18, (int64_t)grant->connections);
	bind_int(stmt, 19, grant->created_us);
	bind_int(stmt, 20, grant->expires_us);
	bind_int(stmt, 21, grant->ended_us);
	bind_blob(stmt, 22, grant->context_size ? grant->context : NULL, grant->context_size);
	bind_int(stmt, 23, grant->inbound);
	bind_int(stmt, 24, grant->client_port);
	bind_addrs(stmt, 25, grant->remotes, grant->remote_count);
	bind_int(stmt, 26, grant->remote_port_last);
	bind_int(stmt, 27, grant->external_chosen);
	bind_id_or_null(stmt, 28, &grant->bundle);
	bind_int(stmt, 29, grant->clamped);
	bind_int(stmt, 30, grant->cut);
	bind_int(stmt, 31, grant->renewals);
	bind_int(stmt, 32, (int64_t)grant->revision);
	bind_text(stmt, 33, grant->user);
	bind_text(stmt, 34, grant->site_rule);
	return run(writer, PUT_GRANT, err);
}

static enum status apply_flow(
	struct writer *writer, const struct flow_record *flow, struct error *err)
{
	struct sqlite3_stmt *stmt = writer->prepared[PUT_FLOW];
	bind_blob(stmt, 1, flow->grant.bytes, sizeof flow->grant.bytes);
	bind_int(stmt, 2, (int64_t)flow->flow.id);
	bind_text(stmt, 3, flow->gateway);
	bind_text(stmt, 4, flow->boot_id);
	bind_endpoint(stmt, 5, &flow->flow.client);
	bind_endpoint(stmt, 6, &flow->flow.remote);
	bind_int(stmt, 7, flow->flow.transport);
	bind_int(stmt, 8, flow->opened_us);
	bind_int(stmt, 9, flow->closed_us);
	bind_endpoint(stmt, 10, &flow->flow.external);
	return run(writer, PUT_FLOW, err);
}

static enum status apply_revision(
	struct writer *writer, const struct revision_record *revision, struct error *err)
{
	struct sqlite3_stmt *stmt = writer->prepared[PUT_REVISION];
	bind_int(stmt, 1, (int64_t)revision->number);
	bind_text(stmt, 2, revision->author);
	bind_int(stmt, 3, revision->time_us);
	bind_text(stmt, 4, revision->message);
	bind_int(stmt, 5, (int64_t)revision->rolled_back_to);
	bind_int(stmt, 6, revision->confirm_until_us);
	bind_int(stmt, 7, (int64_t)revision->rules);
	bind_blob(stmt, 8, revision->hash, sizeof revision->hash);
	bind_large(stmt, 9, revision->document, revision->document_size);
	return run(writer, PUT_REVISION, err);
}

static enum status apply_confirmation(
	struct writer *writer, const struct revision_record *revision, struct error *err)
{
	struct sqlite3_stmt *stmt = writer->prepared[CONFIRM_REVISION];
	bind_int(stmt, 1, (int64_t)revision->number);
	bind_int(stmt, 2, revision->confirm_until_us);
	enum status status = run(writer, CONFIRM_REVISION, err);
	if (!status && db_changes(writer->db) == 0)
		return error_set(err, STATUS_NOT_FOUND, "revision %llu: it is not on disk",
			(unsigned long long)revision->number);
	return status;
}

static enum status apply_feed(
	struct writer *writer, const struct feed_record *feed, struct error *err)
{
	struct sqlite3_stmt *stmt = writer->prepared[PUT_FEED];
	bind_text(stmt, 1, feed->name);
	bind_int(stmt, 2, feed->is_name);
	bind_text(stmt, 3, feed->etag);
	bind_int(stmt, 4, feed->fetched_us);
	bind_int(stmt, 5, feed->checked_us);
	bind_text(stmt, 6, feed->url);
	bind_text(stmt, 7, feed->error);
	bind_large(stmt, 8, feed->content, feed->content_size);
	bind_large(stmt, 9, feed->held, feed->held_size);
	bind_text(stmt, 10, feed->held_etag);
	return run(writer, PUT_FEED, err);
}

static enum status apply(
	struct writer *writer, struct op *op, struct chain *chain, struct error *err)
{
	switch (op->kind) {
	case OP_ENTRY:
		return apply_entry(writer, &op->as.entry, chain, err);
	case OP_GATEWAY:
		return apply_gateway(writer, &op->as.gateway, err);
	case OP_POSITION:
		return apply_position(writer, &op->as.gateway, err);
	case OP_PRINCIPAL:
		return apply_principal(writer, &op->as.principal, err);
	case OP_PROTOCOL:
		return apply_protocol(writer, &op->as.protocol, err);
	case OP_RULE:
		return apply_rule(writer, &op->as.rule, err);
	case OP_SESSION:
		return apply_session(writer, &op->as.session, err);
	case OP_GRANT:
		return apply_grant(writer, &op->as.grant, err);
	case OP_FLOW:
		return apply_flow(writer, &op->as.flow, err);
	case OP_REVISION:
		return op->as.revision.document ? apply_revision(writer, &op->as.revision, err)
						: apply_confirmation(writer, &op->as.revision, err);
	case OP_FEED:
		return apply_feed(writer, &op->as.feed, err);
	}
	return error_set(err, STATUS_INTERNAL, "unknown row kind");
}

enum status writer_apply(
	struct writer *writer, struct store_txn *txn, struct chain *chain, struct error *err)
{
	txn->first_sequence = chain->sequence + 1;
	for (struct op *op = txn->first; op; op = op->next) {
		enum status status = apply(writer, op, chain, err);
		if (status)
			return status;
	}
	return STATUS_OK;
}

enum status writer_forget_flows(
	struct writer *writer, int64_t before_us, int limit, bool *ret_more, struct error *err)
{
	bind_int(writer->prepared[FORGET_FLOWS], 1, before_us);
	bind_int(writer->prepared[FORGET_FLOWS], 2, limit);
	enum status status = run(writer, FORGET_FLOWS, err);
	if (!status)
		*ret_more = db_changes(writer->db) == limit;
	return status;
}

static enum status load_head(struct sqlite3 *db, struct chain *chain, struct error *err)
{
	struct sqlite3_stmt *stmt = NULL;
	enum status status = db_prepare(db,
		"SELECT sequence, hash FROM journal ORDER BY sequence DESC LIMIT 1", &stmt, err);
	if (status)
		return status;
	if (stmt_row(db, stmt, "journal", &status, err)) {
		size_t size;
		const uint8_t *hash = column_blob(stmt, 1, &size);
		chain->sequence = (uint64_t)column_int(stmt, 0);
		if (size == sizeof chain->hash)
			memcpy(chain->hash, hash, size);
		else
			status = error_set(err, STATUS_DATA_LOSS,
				"journal: entry %llu has no proper hash: somebody changed the "
				"database: restore a backup",
				(unsigned long long)chain->sequence);
	}
	db_finalize(stmt);
	return status;
}

static enum status load_zone(struct sqlite3 *db, struct chain *chain, struct error *err)
{
	struct sqlite3_stmt *stmt = NULL;
	enum status status = db_prepare(db,
		"SELECT min(time_us), max(time_us) FROM journal WHERE sequence > ?1", &stmt, err);
	if (status)
		return status;
	bind_int(stmt, 1, (int64_t)(chain->sequence - chain->sequence % JOURNAL_ZONE));
	if (stmt_row(db, stmt, "journal", &status, err)) {
		chain->zone_min_us = column_int(stmt, 0);
		chain->zone_max_us = column_int(stmt, 1);
	}
	db_finalize(stmt);
	return status;
}

enum status chain_load(struct sqlite3 *db, struct chain *ret_chain, struct error *err)
{
	struct chain chain = {0};
	enum status status = load_head(db, &chain, err);
	if (!status)
		status = load_zone(db, &chain, err);
	if (!status)
		*ret_chain = chain;
	return status;
}
