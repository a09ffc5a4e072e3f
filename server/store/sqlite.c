#include "server/store/sqlite.h"

#include <sqlite3.h>
#include <string.h>

#define BUSY_MS                                                                                    \
	2000 /* only a foreign program can hold the lock; a request waits no longer than its       \
		deadline anyway */

enum status db_fail(sqlite3 *db, const char *what, struct error *err)
{
	int rc = sqlite3_extended_errcode(db);
	switch (rc & 0xff) {
	case SQLITE_FULL:
		return error_reason(err, STATUS_UNAVAILABLE, REASON_JOURNAL_UNAVAILABLE,
			"%s: the disk is full: no journal, no permission: free some space", what);
	case SQLITE_IOERR:
	case SQLITE_READONLY:
	case SQLITE_CANTOPEN:
		return error_reason(err, STATUS_UNAVAILABLE, REASON_JOURNAL_UNAVAILABLE,
			"%s: the journal cannot be written: %s (%d): check the disk and the file's "
			"owner",
			what, sqlite3_errmsg(db), rc);
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return error_reason(err, STATUS_DATA_LOSS, REASON_JOURNAL_UNAVAILABLE,
			"%s: the database is damaged: %s", what, sqlite3_errmsg(db));
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return error_reason(err, STATUS_UNAVAILABLE, REASON_JOURNAL_UNAVAILABLE,
			"%s: another program holds the database: end it", what);
	case SQLITE_CONSTRAINT:
		if (rc == SQLITE_CONSTRAINT_UNIQUE || rc == SQLITE_CONSTRAINT_PRIMARYKEY ||
			rc == SQLITE_CONSTRAINT_ROWID)
			return error_set(err, STATUS_ALREADY_EXISTS, "%s: it exists already: %s",
				what, sqlite3_errmsg(db));
		if (rc == SQLITE_CONSTRAINT_FOREIGNKEY)
			return error_set(err, STATUS_FAILED_PRECONDITION,
				"%s: it names a gateway that does not exist", what);
		return error_set(err, STATUS_INTERNAL, "%s: %s (%d)", what, sqlite3_errmsg(db), rc);
	case SQLITE_NOMEM:
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "%s: out of memory", what);
	default:
		return error_set(err, STATUS_INTERNAL, "%s: %s (%d)", what, sqlite3_errmsg(db), rc);
	}
}

static enum status begin_log(sqlite3 *db, const char *path, struct error *err)
{
	sqlite3_stmt *stmt = NULL;
	enum status status = db_prepare(db, "PRAGMA journal_mode=WAL", &stmt, err);
	if (status)
		return status;
	/* Where shared memory is not to be had the answer is another mode, and no error. */
	if (stmt_row(db, stmt, path, &status, err) && strcmp(column_text(stmt, 0), "wal") != 0)
		status = error_set(err, STATUS_FAILED_PRECONDITION,
			"%s: this file system cannot hold a write-ahead log: put the database on a "
			"local disk",
			path);
	db_finalize(stmt);
	return status;
}

enum status db_open(const char *path, enum db_mode mode, sqlite3 **ret_db, struct error *err)
{
	sqlite3 *db = NULL;
	int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_READWRITE |
		(mode == DB_CREATE ? SQLITE_OPEN_CREATE : 0);
	enum status status = STATUS_OK;
	if (sqlite3_open_v2(path, &db, flags, NULL) != SQLITE_OK) {
		status = db ? db_fail(db, path, err)
			    : error_set(err, STATUS_RESOURCE_EXHAUSTED, "%s: out of memory", path);
		goto fail;
	}
	sqlite3_extended_result_codes(db, 1);
	sqlite3_busy_timeout(db, BUSY_MS);
	status = begin_log(db, path, err);
	if (!status)
		status = db_exec(db,
			"PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA "
			"wal_autocheckpoint=0; "
			"PRAGMA trusted_schema=OFF; PRAGMA temp_store=MEMORY",
			err);
	if (!status && mode == DB_READ)
		status = db_exec(db, "PRAGMA query_only=ON", err);
	if (status)
		goto fail;
	*ret_db = db;
	return STATUS_OK;
fail:
	sqlite3_close_v2(db);
	return status;
}

void db_close(sqlite3 *db)
{
	sqlite3_close_v2(db);
}

enum status db_exec(sqlite3 *db, const char *sql, struct error *err)
{
	return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? STATUS_OK
								    : db_fail(db, "database", err);
}

enum status db_prepare(sqlite3 *db, const char *sql, sqlite3_stmt **ret_stmt, struct error *err)
{
	return sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, ret_stmt, NULL) ==
			SQLITE_OK
		? STATUS_OK
		: db_fail(db, "database", err);
}

void db_finalize(sqlite3_stmt *stmt)
{
	sqlite3_finalize(stmt);
}

enum status db_number(sqlite3 *db, const char *sql, int64_t *ret_number, struct error *err)
{
	sqlite3_stmt *stmt = NULL;
	enum status status = db_prepare(db, sql, &stmt, err);
	if (!status && stmt_row(db, stmt, "database", &status, err))
		*ret_number = column_int(stmt, 0);
	db_finalize(stmt);
	return status;
}

int db_changes(sqlite3 *db)
{
	return sqlite3_changes(db);
}

static int note_frames(void *arg, sqlite3 *db, const char *name, int frames)
{
	(void)db;
	(void)name;
	*(int *)arg = frames;
	return SQLITE_OK;
}

void db_watch_log(sqlite3 *db, int *frames)
{
	sqlite3_wal_hook(db, note_frames, frames);
}

enum status db_checkpoint(sqlite3 *db, int *ret_left, struct error *err)
{
	int frames = 0, moved = 0;
	int rc = sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, &frames, &moved);
	if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_BUSY)
		return db_fail(db, "checkpoint", err);
	*ret_left = rc == SQLITE_OK ? frames - moved : frames;
	return STATUS_OK;
}

enum status blob_open(sqlite3 *db, const char *table, const char *column, int64_t row,
	sqlite3_blob **ret_blob, size_t *ret_size, struct error *err)
{
	sqlite3_blob *blob = NULL;
	int rc = sqlite3_blob_open(db, "main", table, column, row, 0, &blob);
	if (rc == SQLITE_ERROR)
		return error_set(err, STATUS_NOT_FOUND, "%s: %s", table, sqlite3_errmsg(db));
	if (rc != SQLITE_OK)
		return db_fail(db, table, err);
	*ret_blob = blob;
	*ret_size = (size_t)sqlite3_blob_bytes(blob);
	return STATUS_OK;
}

enum status blob_read(
	sqlite3 *db, sqlite3_blob *blob, size_t at, void *to, size_t size, struct error *err)
{
	return sqlite3_blob_read(blob, to, (int)size, (int)at) == SQLITE_OK
		? STATUS_OK
		: db_fail(db, "database", err);
}

void blob_close(sqlite3_blob *blob)
{
	sqlite3_blob_close(blob);
}

void bind_int(sqlite3_stmt *stmt, int at, int64_t value)
{
	sqlite3_bind_int64(stmt, at, value);
}

void bind_text(sqlite3_stmt *stmt, int at, const char *text)
{
	sqlite3_bind_text(stmt, at, text, -1, SQLITE_TRANSIENT);
}

void bind_text_or_null(sqlite3_stmt *stmt, int at, const char *text)
{
	if (text[0])
		bind_text(stmt, at, text);
	else
		sqlite3_bind_null(stmt, at);
}

void bind_blob(sqlite3_stmt *stmt, int at, const void *bytes, size_t size)
{
	if (bytes)
		sqlite3_bind_blob64(stmt, at, bytes, size, SQLITE_TRANSIENT);
	else
		sqlite3_bind_null(stmt, at);
}

void bind_large(sqlite3_stmt *stmt, int at, const void *bytes, size_t size)
{
	if (bytes)
		sqlite3_bind_blob64(stmt, at, bytes, size, SQLITE_STATIC);
	else
		sqlite3_bind_null(stmt, at);
}

void bind_id_or_null(sqlite3_stmt *stmt, int at, const struct id *id)
{
	bind_blob(stmt, at, id_is_zero(id) ? NULL : id->bytes, sizeof id->bytes);
}

void bind_addr_or_null(sqlite3_stmt *stmt, int at, const struct addr *addr)
{
	char text[ADDR_TEXT_SIZE];
	addr_format(addr, text);
	bind_text_or_null(stmt, at, text);
}

void bind_endpoint(sqlite3_stmt *stmt, int at, const struct endpoint *endpoint)
{
	char text[ENDPOINT_TEXT_SIZE] = "";
	if (endpoint->addr.family != ADDR_NONE)
		endpoint_format(endpoint, text);
	bind_text(stmt, at, text);
}

enum status stmt_run(sqlite3 *db, sqlite3_stmt *stmt, const char *what, struct error *err)
{
	int rc = sqlite3_step(stmt);
	enum status status =
		rc == SQLITE_DONE || rc == SQLITE_ROW ? STATUS_OK : db_fail(db, what, err);
	sqlite3_reset(stmt);
	sqlite3_clear_bindings(stmt);
	return status;
}

bool stmt_row(sqlite3 *db, sqlite3_stmt *stmt, const char *what, enum status *ret_status,
	struct error *err)
{
	int rc = sqlite3_step(stmt);
	*ret_status = rc == SQLITE_ROW || rc == SQLITE_DONE ? STATUS_OK : db_fail(db, what, err);
	return rc == SQLITE_ROW;
}

void stmt_rewind(sqlite3_stmt *stmt)
{
	sqlite3_reset(stmt);
}

void stmt_reset(sqlite3_stmt *stmt)
{
	sqlite3_reset(stmt);
	sqlite3_clear_bindings(stmt);
}

int64_t column_int(sqlite3_stmt *stmt, int at)
{
	return sqlite3_column_int64(stmt, at);
}

const char *column_text(sqlite3_stmt *stmt, int at)
{
	const unsigned char *text = sqlite3_column_text(stmt, at);
	return text ? (const char *)text : "";
}

const uint8_t *column_blob(sqlite3_stmt *stmt, int at, size_t *ret_size)
{
	const void *bytes = sqlite3_column_blob(stmt, at);
	*ret_size = (size_t)sqlite3_column_bytes(stmt, at);
	return bytes;
}

bool column_is_null(sqlite3_stmt *stmt, int at)
{
	return sqlite3_column_type(stmt, at) == SQLITE_NULL;
}

void column_copy(sqlite3_stmt *stmt, int at, char *to, size_t size)
{
	const char *text = column_text(stmt, at);
	size_t length = strnlen(text, size - 1);
	memcpy(to, text, length);
	to[length] = '\0';
}

void column_id(sqlite3_stmt *stmt, int at, struct id *ret_id)
{
	size_t size;
	const uint8_t *bytes = column_blob(stmt, at, &size);
	memset(ret_id, 0, sizeof *ret_id);
	if (bytes && size == sizeof ret_id->bytes)
		memcpy(ret_id->bytes, bytes, size);
}

void column_addr(sqlite3_stmt *stmt, int at, struct addr *ret_addr)
{
	memset(ret_addr, 0, sizeof *ret_addr);
	(void)addr_parse(column_text(stmt, at), ret_addr);
}

void column_endpoint(sqlite3_stmt *stmt, int at, struct endpoint *ret_endpoint)
{
	memset(ret_endpoint, 0, sizeof *ret_endpoint);
	(void)endpoint_parse(column_text(stmt, at), false, ret_endpoint);
}
