/* Grants from disk: one by its id or request id, or a listing, newest first. */
#include "server/store/query.h"

#include <stdlib.h>
#include <string.h>

#include "server/store/condition.h"
#include "server/store/sqlite.h"

#define STEP_GRANTS 5000 /* rows looked at in one step of a listing, about 1 us each */

/* "10.0.0.1,10.0.0.2" */
static enum status read_remotes(const char *text, struct grant_record *grant, struct error *err)
{
	char one[ADDR_TEXT_SIZE];
	if (text[0] == '\0')
		return STATUS_OK;
	grant->remotes = calloc(ENTRY_REMOTES_MAX, sizeof *grant->remotes);
	if (!grant->remotes)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	while (*text && grant->remote_count < ENTRY_REMOTES_MAX) {
		size_t length = strcspn(text, ",");
		(void)snprintf(one, sizeof one, "%.*s", (int)length, text);
		if (length >= sizeof one || !addr_parse(one, &grant->remotes[grant->remote_count]))
			break;
		grant->remote_count++;
		text += length + (text[length] == ',');
	}
	if (*text == '\0')
		return STATUS_OK;
	grant_record_fini(grant);
	return error_set(
		err, STATUS_DATA_LOSS, "a grant's remote addresses are damaged: \"%.60s\"", text);
}

enum status grant_from_row(
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
	grant->inbound = column_int(stmt, 22) != 0;
	grant->client_port = (uint16_t)column_int(stmt, 23);
	grant->remote_port_last = (uint16_t)column_int(stmt, 25);
	grant->external_chosen = column_int(stmt, 26) != 0;
	column_id(stmt, 27, &grant->bundle);
	grant->clamped = column_int(stmt, 28) != 0;
	grant->cut = column_int(stmt, 29) != 0;
	grant->renewals = (uint32_t)column_int(stmt, 30);
	grant->revision = (uint64_t)column_int(stmt, 31);
	column_copy(stmt, 32, grant->user, sizeof grant->user);
	column_copy(stmt, 33, grant->site_rule, sizeof grant->site_rule);
	enum status status = read_remotes(column_text(stmt, 24), grant, err);
	if (status)
		return status;
	const uint8_t *context = column_blob(stmt, 21, &size);
	if (!context || size == 0)
		return STATUS_OK;
	grant->context = malloc(size);
	if (!grant->context) {
		grant_record_fini(grant);
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	}
	memcpy(grant->context, context, size);
	grant->context_size = size;
	return STATUS_OK;
}

void grant_page_fini(struct grant_page *page)
{
	for (size_t i = 0; i < page->count; i++)
		grant_record_fini(&page->grants[i]);
	page->count = 0;
}

static bool is_listing(const struct store_grant_query *query)
{
	return id_is_zero(&query->id) && id_is_zero(&query->request_id) &&
		id_is_zero(&query->bundle);
}

static void grants_sql(const struct store_grant_query *query, struct condition *sql)
{
	sql->length = 0;
	condition_add(sql, "SELECT " GRANT_COLUMNS " FROM grants WHERE id < ?1 AND id >= ?2");
	if (!id_is_zero(&query->id))
		condition_add(sql, " AND id = ?3");
	if (!id_is_zero(&query->request_id))
		condition_add(sql, " AND request_id = ?4");
	if (query->filter[0])
		condition_add(sql, " AND filter = ?5");
	if (query->gateway[0])
		condition_add(sql, " AND gateway = ?6");
	if (query->client[0])
		condition_add(sql, " AND client = ?7");
	if (!id_is_zero(&query->session))
		condition_add(sql, " AND session = ?8");
	if (!id_is_zero(&query->bundle))
		condition_add(sql, " AND bundle = ?10");
	condition_add(sql, " ORDER BY id DESC LIMIT ?9");
}

static void bind_query(struct sqlite3_stmt *stmt, const struct store_grant_query *query,
	const struct id *before, const struct id *from)
{
	bind_blob(stmt, 1, before->bytes, sizeof before->bytes);
	bind_blob(stmt, 2, from->bytes, sizeof from->bytes);
	bind_blob(stmt, 3, query->id.bytes, sizeof query->id.bytes);
	bind_blob(stmt, 4, query->request_id.bytes, sizeof query->request_id.bytes);
	bind_text(stmt, 5, query->filter);
	bind_text(stmt, 6, query->gateway);
	bind_text(stmt, 7, query->client);
	bind_blob(stmt, 8, query->session.bytes, sizeof query->session.bytes);
	bind_blob(stmt, 10, query->bundle.bytes, sizeof query->bundle.bytes);
}

/* The oldest grant that this step looks at; zero: the step reaches the end. */
static enum status step_end(
	struct sqlite3 *db, const struct id *before, struct id *ret_from, struct error *err)
{
	struct sqlite3_stmt *stmt = NULL;
	enum status status = db_prepare(db,
		"SELECT id FROM grants WHERE id < ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2", &stmt,
		err);
	if (status)
		return status;
	bind_blob(stmt, 1, before->bytes, sizeof before->bytes);
	bind_int(stmt, 2, STEP_GRANTS - 1);
	if (stmt_row(db, stmt, "grants", &status, err))
		column_id(stmt, 0, ret_from);
	db_finalize(stmt);
	return status;
}

static enum status read_step(struct sqlite3 *db, const struct store_grant_query *query,
	const struct id *before, const struct id *from, uint32_t limit, struct grant_page *page,
	struct error *err)
{
	struct sqlite3_stmt *stmt = NULL;
	struct condition sql;
	grants_sql(query, &sql);
	enum status status = db_prepare(db, sql.sql, &stmt, err);
	if (status)
		return status;
	bind_query(stmt, query, before, from);
	bind_int(stmt, 9, (int64_t)(limit - page->count));
	while (!status && stmt_row(db, stmt, "grants", &status, err)) {
		status = grant_from_row(stmt, &page->grants[page->count], err);
		if (!status)
			page->count++;
	}
	db_finalize(stmt);
	return status;
}

enum status read_grants(struct sqlite3 *db, const struct store_grant_query *query,
	struct grant_page *page, struct error *err)
{
	uint32_t limit =
		query->limit && query->limit < STORE_PAGE_MAX ? query->limit : STORE_PAGE_MAX;
	struct id before = id_is_zero(&page->before) ? query->before : page->before, from = {0};
	if (id_is_zero(&before))
		memset(&before, 0xff, sizeof before); /* no UUIDv7 is as late */
	enum status status = db_exec(db, "BEGIN", err); /* one snapshot for both statements */
	if (status)
		return status;
	if (is_listing(query))
		status = step_end(db, &before, &from, err);
	if (!status)
		status = read_step(db, query, &before, &from, limit, page, err);
	(void)db_exec(db, "COMMIT", NULL);
	if (status) {
		grant_page_fini(page);
		return status;
	}
	page->before = from;
	page->done = page->count == limit || id_is_zero(&from);
	return STATUS_OK;
}
