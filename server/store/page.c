/* Pages of the journal.
 *
 * A page walks at most SPAN entries (by sequence), whatever the filters, and says how far it came:
 * a query that matches little is many short pages. By time it walks only the zones of 1024 entries
 * that the time touches (migrations/0001: the times of entries are not in the order of their
 * sequences, so there is nothing to bisect). */
#include "server/store/query.h"

#include <stdlib.h>
#include <string.h>

#include "server/store/condition.h"
#include "server/store/sqlite.h"
#include "server/store/writer.h"

#define SPAN 20000 /* entries looked at, about 1 us each */
#define SPAN_GATEWAY 100000 /* of these only the gateway's are looked at */

static void page_sql(const struct store_query *query, struct condition *sql)
{
	sql->length = 0;
	condition_add(sql,
		"SELECT sequence, hash, body FROM journal WHERE sequence > ?1 AND sequence <= ?12");
	if (query->since_us)
		condition_add(sql, " AND time_us >= ?2");
	if (query->until_us)
		condition_add(sql, " AND time_us < ?3");
	if (query->gateway[0])
		condition_add(sql, " AND gateway = ?4");
	if (query->filter[0])
		condition_add(sql, " AND filter = ?5");
	if (query->notify_only)
		condition_add(sql, " AND notify = 1");
	if (!id_is_zero(&query->grant))
		condition_add(sql, " AND grant_id = ?6");
	if (!id_is_zero(&query->session))
		condition_add(sql, " AND session = ?7");
	if (query->client[0])
		condition_add(sql, " AND client = ?8");
	if (query->remote[0])
		condition_add(sql, " AND remote = ?9");
	if (query->kinds)
		condition_add(sql, " AND (?10 >> kind) & 1");
	condition_add(sql, " ORDER BY sequence LIMIT ?11");
}

static void bind_query(struct sqlite3_stmt *stmt, const struct store_query *query)
{
	bind_int(stmt, 2, query->since_us);
	bind_int(stmt, 3, query->until_us);
	bind_text(stmt, 4, query->gateway);
	bind_text(stmt, 5, query->filter);
	bind_blob(stmt, 6, query->grant.bytes, sizeof query->grant.bytes);
	bind_blob(stmt, 7, query->session.bytes, sizeof query->session.bytes);
	bind_text(stmt, 8, query->client);
	bind_text(stmt, 9, query->remote);
	bind_int(stmt, 10, (int64_t)query->kinds);
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
	enum status status = entry_decode(body, body_size, ret_entry, err);
	if (status == STATUS_DATA_LOSS)
		return error_set(err, status,
			"journal entry %lld cannot be read: run `postern audit verify`",
			(long long)column_int(stmt, 0));
	if (status)
		return status;
	ret_entry->sequence = (uint64_t)column_int(stmt, 0);
	if (hash_size == sizeof ret_entry->hash)
		memcpy(ret_entry->hash, hash, hash_size);
	return STATUS_OK;
}

/* ---- what to walk ---- */

#define TOUCHES "max_us >= ?2 AND min_us < ?3"

static enum status find_zone(struct sqlite3 *db, const struct store_query *query, const char *sql,
	uint64_t from, uint64_t *ret_zone, struct error *err)
{
	struct sqlite3_stmt *stmt = NULL;
	enum status status = db_prepare(db, sql, &stmt, err);
	if (status)
		return status;
	bind_int(stmt, 1, (int64_t)from);
	bind_int(stmt, 2, query->since_us ? query->since_us : INT64_MIN);
	bind_int(stmt, 3, query->until_us ? query->until_us : INT64_MAX);
	if (stmt_row(db, stmt, "journal", &status, err))
		*ret_zone = (uint64_t)column_int(stmt, 0);
	db_finalize(stmt);
	return status;
}

/* Moves *after up to the next zone that the query's time touches, and sets *upto to the end of the
 * run of such zones. The entries behind the last whole zone are always walked. */
static enum status next_run(struct sqlite3 *db, const struct store_query *query, uint64_t head,
	uint64_t *after, uint64_t *upto, struct error *err)
{
	uint64_t zone = head / JOURNAL_ZONE, end = UINT64_MAX;
	if (!query->since_us && !query->until_us)
		return STATUS_OK;
	enum status status = find_zone(db, query,
		"SELECT zone FROM journal_zones WHERE zone >= ?1 AND " TOUCHES
		" ORDER BY zone LIMIT 1",
		*after / JOURNAL_ZONE, &zone, err);
	if (!status)
		status = find_zone(db, query,
			"SELECT zone FROM journal_zones WHERE zone > ?1 AND NOT (" TOUCHES
			") ORDER BY zone LIMIT 1",
			zone, &end, err);
	if (status)
		return status;
	if (*after < zone * JOURNAL_ZONE)
		*after = zone * JOURNAL_ZONE;
	if (end != UINT64_MAX && *upto > end * JOURNAL_ZONE)
		*upto = end * JOURNAL_ZONE;
	return STATUS_OK;
}

static enum status walk(struct sqlite3 *db, struct sqlite3_stmt *stmt, uint64_t after,
	uint64_t upto, uint32_t limit, struct page *page, struct error *err)
{
	enum status status = STATUS_OK;
	bind_int(stmt, 1, (int64_t)after);
	bind_int(stmt, 12, (int64_t)upto);
	bind_int(stmt, 11, (int64_t)(limit - page->count));
	while (!status && stmt_row(db, stmt, "journal", &status, err)) {
		status = row_entry(stmt, &page->entries[page->count], err);
		if (!status)
			page->count++;
	}
	stmt_rewind(stmt);
	return status;
}

static enum status walk_runs(struct sqlite3 *db, struct sqlite3_stmt *stmt,
	const struct store_query *query, uint64_t head, struct page *page, struct error *err)
{
	uint32_t limit =
		query->limit && query->limit < STORE_PAGE_MAX ? query->limit : STORE_PAGE_MAX;
	uint64_t left = !id_is_zero(&query->grant) ? UINT64_MAX
		: query->gateway[0]                ? SPAN_GATEWAY
						   : SPAN;
	uint64_t after = query->after;
	while (after < head && left > 0 && page->count < limit) {
		uint64_t upto = head;
		enum status status = next_run(db, query, head, &after, &upto, err);
		if (upto > after && upto - after > left)
			upto = after + left;
		if (!status && upto > after)
			status = walk(db, stmt, after, upto, limit, page, err);
		if (status)
			return status;
		if (upto > after) {
			left -= upto - after;
			after = upto;
		}
	}
	if (page->count == limit)
		after = page->entries[page->count - 1].sequence;
	page->next_after = after;
	page->at_end = after >= head;
	return STATUS_OK;
}

enum status read_page(struct sqlite3 *db, const struct store_query *query, struct page *ret_page,
	struct error *err)
{
	struct sqlite3_stmt *stmt = NULL;
	struct condition sql;
	int64_t head = 0;
	enum status status = db_exec(db, "BEGIN", err); /* one snapshot for all statements */
	if (status)
		return status;
	ret_page->count = 0;
	page_sql(query, &sql);
	status = db_number(db, "SELECT max(sequence) FROM journal", &head, err);
	if (!status)
		status = db_prepare(db, sql.sql, &stmt, err);
	if (!status) {
		bind_query(stmt, query);
		status = walk_runs(db, stmt, query, (uint64_t)head, ret_page, err);
	}
	db_finalize(stmt);
	(void)db_exec(db, "COMMIT", NULL);
	if (status)
		page_fini(ret_page);
	return status;
}
