#include "server/store/schema.h"

#include <stdint.h>
#include <stdio.h>

#include "server/store/migration.h"
#include "server/store/sqlite.h"

static enum status version(struct sqlite3 *db, int64_t *ret_version, struct error *err)
{
	struct sqlite3_stmt *stmt = NULL;
	enum status status = db_prepare(db, "PRAGMA user_version", &stmt, err);
	if (status)
		return status;
	if (stmt_row(db, stmt, "database", &status, err))
		*ret_version = column_int(stmt, 0);
	db_finalize(stmt);
	return status;
}

enum status schema_migrate(struct sqlite3 *db, const char *path, struct error *err)
{
	int64_t now = 0;
	char pragma[64];
	enum status status = version(db, &now, err);
	if (status)
		return status;
	if (now > migration_count)
		return error_set(err, STATUS_FAILED_PRECONDITION,
			"%s: its schema is version %lld, this program knows %u: use the newer "
			"posternd that wrote it",
			path, (long long)now, migration_count);
	if (now == migration_count)
		return STATUS_OK;
	status = db_exec(db, "BEGIN IMMEDIATE", err);
	for (unsigned i = 0; i < migration_count && !status; i++)
		if (migrations[i].number > now)
			status = db_exec(db, migrations[i].sql, err);
	snprintf(pragma, sizeof pragma, "PRAGMA user_version = %u; COMMIT", migration_count);
	if (!status)
		status = db_exec(db, pragma, err);
	if (status)
		(void)db_exec(db, "ROLLBACK", NULL);
	return status;
}
