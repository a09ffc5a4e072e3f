#include "server/store/schema.h"

#include <stdint.h>
#include <stdio.h>

#include "server/store/migration.h"
#include "server/store/sqlite.h"

#define APPLICATION_ID 0x50737472 /* "Pstr": never renumber */

static enum status check(
	struct sqlite3 *db, const char *path, int64_t *ret_version, struct error *err)
{
	int64_t version = 0, application = 0, tables = 0;
	enum status status = db_number(db, "PRAGMA user_version", &version, err);
	if (!status)
		status = db_number(db, "PRAGMA application_id", &application, err);
	if (!status)
		status = db_number(db, "SELECT count(*) FROM sqlite_schema", &tables, err);
	if (status)
		return status;
	if (tables > 0 && application != APPLICATION_ID)
		return error_set(err, STATUS_FAILED_PRECONDITION,
			"%s: this is no database of Postern: correct `database`, or make one with "
			"`posternd init`",
			path);
	if (version > migration_count)
		return error_set(err, STATUS_FAILED_PRECONDITION,
			"%s: its schema is version %lld, this program knows %u: use the newer "
			"posternd that wrote it",
			path, (long long)version, migration_count);
	*ret_version = version;
	return STATUS_OK;
}

enum status schema_migrate(struct sqlite3 *db, const char *path, struct error *err)
{
	int64_t version = 0;
	char pragma[96];
	enum status status = check(db, path, &version, err);
	if (status || version == migration_count)
		return status;
	status = db_exec(db, "BEGIN IMMEDIATE", err);
	for (unsigned i = 0; i < migration_count && !status; i++)
		if (migrations[i].number > version)
			status = db_exec(db, migrations[i].sql, err);
	snprintf(pragma, sizeof pragma,
		"PRAGMA application_id = %d; PRAGMA user_version = %u; COMMIT", APPLICATION_ID,
		migration_count);
	if (!status)
		status = db_exec(db, pragma, err);
	if (status)
		(void)db_exec(db, "ROLLBACK", NULL);
	return status;
}
