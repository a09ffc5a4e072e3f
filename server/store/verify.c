#include "server/store/verify.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "server/store/sqlite.h"

#define STEP_ENTRIES 2000 /* about 3 us each */
#define STEP_BYTES (8U * 1024 * 1024) /* of documents, about 2 ms a MiB */

void verify_fault(struct verify_walk *walk, uint64_t sequence, const char *format, ...)
{
	va_list args;
	walk->done = true;
	walk->result.intact = false;
	walk->result.bad_sequence = sequence;
	va_start(args, format);
	(void)vsnprintf(walk->result.fault, sizeof walk->result.fault, format, args);
	va_end(args);
}

static bool same_text(struct sqlite3_stmt *stmt, int at, const char *text)
{
	return strcmp(column_text(stmt, at), text) == 0 &&
		column_is_null(stmt, at) == (text[0] == '\0');
}

static bool same_id(struct sqlite3_stmt *stmt, int at, const struct id *id)
{
	size_t size;
	const uint8_t *bytes = column_blob(stmt, at, &size);
	if (id_is_zero(id))
		return column_is_null(stmt, at);
	return bytes && size == sizeof id->bytes && memcmp(bytes, id->bytes, size) == 0;
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
	if (column_int(stmt, 11) != entry->notify)
		return "notify";
	return NULL;
}

static void missing(struct verify_walk *walk, int64_t found)
{
	uint64_t first = walk->chain.sequence + 1;
	if (found < (int64_t)first)
		verify_fault(
			walk, first, "out of place: an entry has sequence %lld", (long long)found);
	else if (found == (int64_t)first + 1)
		verify_fault(walk, first, "missing: entry %llu is gone", (unsigned long long)first);
	else
		verify_fault(walk, first, "missing: entries %llu to %lld are gone",
			(unsigned long long)first, (long long)found - 1);
}

static bool is_known(
	struct verify_walk *walk, uint64_t sequence, const uint8_t hash[static ENTRY_HASH_SIZE])
{
	for (int i = 0; i < KNOWN_COUNT; i++) {
		const struct known_head *known = &walk->known[i];
		if (!known->sequence || known->sequence != sequence ||
			memcmp(known->hash, hash, ENTRY_HASH_SIZE) == 0)
			continue;
		verify_fault(walk, sequence,
			"known head not found: %s another hash for this entry: the journal was "
			"rewritten",
			known->whose);
		return false;
	}
	return true;
}

static enum status verify_row(
	struct sqlite3_stmt *stmt, struct verify_walk *walk, struct error *err)
{
	struct chain *chain = &walk->chain;
	uint64_t sequence = (uint64_t)column_int(stmt, 0);
	size_t hash_size, body_size;
	uint8_t expected[ENTRY_HASH_SIZE];
	struct entry entry;
	if (sequence != chain->sequence + 1) {
		missing(walk, (int64_t)sequence);
		return STATUS_OK;
	}
	const uint8_t *hash = column_blob(stmt, 1, &hash_size);
	const uint8_t *body = column_blob(stmt, 2, &body_size);
	entry_hash(chain->hash, sequence, body, body_size, expected);
	if (hash_size != sizeof expected || memcmp(hash, expected, sizeof expected) != 0) {
		verify_fault(walk, sequence,
			"changed: its body or its hash, or it does not belong behind the entry "
			"before it");
		return STATUS_OK;
	}
	enum status status = entry_decode(body, body_size, &entry, NULL);
	if (status == STATUS_DATA_LOSS) {
		verify_fault(walk, sequence, "changed: the body is not a journal entry");
		return STATUS_OK;
	}
	if (status) /* want of memory is no fault of the journal */
		return error_set(err, status, "out of memory");
	const char *column = differing_column(stmt, &entry);
	chain_widen_zone(chain, entry.time_us);
	if (column) {
		verify_fault(
			walk, sequence, "changed: column %s differs from the hashed body", column);
	} else if (is_known(walk, sequence, expected)) {
		chain->sequence = sequence;
		memcpy(chain->hash, expected, sizeof chain->hash);
		walk->result.entries++;
		if (verify_vouches(&entry))
			verify_document_begin(walk, &entry);
	}
	entry_fini(&entry);
	return STATUS_OK;
}

/* A wrong zone hides entries from queries by time. */
static enum status verify_zone(
	struct sqlite3 *db, struct sqlite3_stmt *stmt, struct verify_walk *walk, struct error *err)
{
	const struct chain *chain = &walk->chain;
	enum status status;
	bool good = false;
	bind_int(stmt, 1, (int64_t)(chain->sequence / JOURNAL_ZONE - 1));
	if (stmt_row(db, stmt, "journal", &status, err))
		good = column_int(stmt, 0) == chain->zone_min_us &&
			column_int(stmt, 1) == chain->zone_max_us;
	stmt_reset(stmt);
	if (!status && !good)
		verify_fault(walk, chain->sequence - JOURNAL_ZONE + 1,
			"changed: the times in journal_zones are not those of the zone that begins "
			"here");
	return status;
}

static enum status at_end(struct sqlite3 *db, struct verify_walk *walk, struct error *err)
{
	int64_t zones = 0;
	walk->done = true;
	for (int i = 0; i < KNOWN_COUNT; i++) {
		const struct known_head *known = &walk->known[i];
		if (known->sequence <= walk->chain.sequence)
			continue;
		verify_fault(walk, walk->chain.sequence + 1,
			"known head not found: %s entry %llu, the journal ends before it",
			known->whose, (unsigned long long)known->sequence);
		return STATUS_OK;
	}
	enum status status =
		db_number(db, "SELECT coalesce(max(zone) + 1, 0) FROM journal_zones", &zones, err);
	if (!status && (uint64_t)zones > walk->chain.sequence / JOURNAL_ZONE)
		verify_fault(walk, walk->chain.sequence + 1,
			"missing: journal_zones knows of entries behind the last one");
	return status || !walk->result.intact ? status : verify_documents_end(db, walk, err);
}

static enum status verify_rows(struct sqlite3 *db, struct sqlite3_stmt *rows,
	struct sqlite3_stmt *zone, struct verify_walk *walk, struct error *err)
{
	size_t budget = STEP_BYTES;
	unsigned count = 0;
	enum status status =
		walk->document.active ? verify_document_step(db, walk, &budget, err) : STATUS_OK;
	if (status || walk->document.active)
		return status;
	bind_int(rows, 1, walk->chain.sequence ? (int64_t)walk->chain.sequence : INT64_MIN);
	bind_int(rows, 2, STEP_ENTRIES);
	for (; !walk->done && !status && stmt_row(db, rows, "journal", &status, err); count++) {
		status = verify_row(rows, walk, err);
		if (!status && !walk->done && walk->chain.sequence % JOURNAL_ZONE == 0)
			status = verify_zone(db, zone, walk, err);
		if (!status && !walk->done && walk->document.active)
			status = verify_document_step(db, walk, &budget, err);
		if (!status && walk->document.active)
			return STATUS_OK;
	}
	return !status && !walk->done && count < STEP_ENTRIES ? at_end(db, walk, err) : status;
}

enum status verify_step(struct sqlite3 *db, struct verify_walk *walk, struct error *err)
{
	struct sqlite3_stmt *rows = NULL, *zone = NULL;
	walk->result.intact = true;
	enum status status =
		db_exec(db, "BEGIN", err); /* one snapshot: entries and zones fit each other */
	if (status)
		return status;
	status = db_prepare(db,
		"SELECT sequence, hash, body, time_us, kind, gateway, filter, session, grant_id, "
		"client, remote, notify FROM journal "
		"WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
		&rows, err);
	if (!status)
		status = db_prepare(
			db, "SELECT min_us, max_us FROM journal_zones WHERE zone = ?1", &zone, err);
	if (!status)
		status = verify_rows(db, rows, zone, walk, err);
	db_finalize(rows);
	db_finalize(zone);
	(void)db_exec(db, "COMMIT", NULL);
	walk->result.head_sequence = walk->chain.sequence;
	memcpy(walk->result.head_hash, walk->chain.hash, sizeof walk->result.head_hash);
	return status;
}
