/* SQLite behind a handful of functions: opening, statements, binding, columns; the only place that
 * includes sqlite3.h. */
#ifndef POSTERN_SERVER_STORE_SQLITE_H
#define POSTERN_SERVER_STORE_SQLITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/error.h"
#include "common/id.h"

struct sqlite3;
struct sqlite3_stmt;

enum db_mode { DB_CREATE, DB_WRITE, DB_READ };

/* WAL, synchronous=FULL, foreign keys; no automatic checkpoints. A connection is used by one thread
 * at a time. The log's and the index's files get the database's own mode. */
enum status db_open(
	const char *path, enum db_mode mode, struct sqlite3 **ret_db, struct error *err);
void db_close(struct sqlite3 *db);
/* A full disk, I/O errors and the like become UNAVAILABLE with reason JOURNAL_UNAVAILABLE, a row
 * that exists already becomes ALREADY_EXISTS, a reference to one that does not FAILED_PRECONDITION.
 */
enum status db_fail(struct sqlite3 *db, const char *what, struct error *err);
enum status db_exec(struct sqlite3 *db, const char *sql, struct error *err);
enum status db_prepare(
	struct sqlite3 *db, const char *sql, struct sqlite3_stmt **ret_stmt, struct error *err);
void db_finalize(struct sqlite3_stmt *stmt);
/* One number of one row, e.g. of a pragma. */
enum status db_number(struct sqlite3 *db, const char *sql, int64_t *ret_number, struct error *err);
int db_changes(struct sqlite3 *db); /* rows that the last statement changed */
/* From now on *frames is the length of the log after each commit of this connection. */
void db_watch_log(struct sqlite3 *db, int *frames);
/* Moves pages of the log into the database without waiting for readers. *ret_left is how many
 * frames could not be moved yet; at 0 the next commit begins the log anew. */
enum status db_checkpoint(struct sqlite3 *db, int *ret_left, struct error *err);

/* A blob of one row, read in pieces. NOT_FOUND: there is no such row. */
struct sqlite3_blob;
enum status blob_open(struct sqlite3 *db, const char *table, const char *column, int64_t row,
	struct sqlite3_blob **ret_blob, size_t *ret_size, struct error *err);
enum status blob_read(struct sqlite3 *db, struct sqlite3_blob *blob, size_t at, void *to,
	size_t size, struct error *err);
void blob_close(struct sqlite3_blob *blob); /* accepts NULL */

void bind_int(struct sqlite3_stmt *stmt, int at, int64_t value);
void bind_text(struct sqlite3_stmt *stmt, int at, const char *text);
void bind_text_or_null(struct sqlite3_stmt *stmt, int at, const char *text); /* "" = NULL */
void bind_blob(struct sqlite3_stmt *stmt, int at, const void *bytes, size_t size);
/* Without a copy: the bytes must hold until the statement has run. */
void bind_large(struct sqlite3_stmt *stmt, int at, const void *bytes, size_t size);
void bind_id_or_null(struct sqlite3_stmt *stmt, int at, const struct id *id);
void bind_addr_or_null(struct sqlite3_stmt *stmt, int at, const struct addr *addr);
void bind_endpoint(
	struct sqlite3_stmt *stmt, int at, const struct endpoint *endpoint); /* "" when none */

/* Runs a statement that returns no rows, and resets it. */
enum status stmt_run(
	struct sqlite3 *db, struct sqlite3_stmt *stmt, const char *what, struct error *err);
/* True while there is a row; false at the end or on failure (*ret_status). The caller resets or
 * finalizes. */
bool stmt_row(struct sqlite3 *db, struct sqlite3_stmt *stmt, const char *what,
	enum status *ret_status, struct error *err);
void stmt_rewind(struct sqlite3_stmt *stmt); /* for another run with the same bindings */
void stmt_reset(struct sqlite3_stmt *stmt); /* without bindings */

int64_t column_int(struct sqlite3_stmt *stmt, int at);
const char *column_text(struct sqlite3_stmt *stmt, int at); /* "" for NULL; until the next step */
const uint8_t *column_blob(struct sqlite3_stmt *stmt, int at, size_t *ret_size);
bool column_is_null(struct sqlite3_stmt *stmt, int at);
void column_copy(struct sqlite3_stmt *stmt, int at, char *to, size_t size);
void column_id(struct sqlite3_stmt *stmt, int at, struct id *ret_id); /* zero for NULL */
void column_addr(struct sqlite3_stmt *stmt, int at, struct addr *ret_addr);
void column_endpoint(struct sqlite3_stmt *stmt, int at, struct endpoint *ret_endpoint);

#endif
