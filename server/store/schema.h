/* The schema's version and how a database file comes to it. Internal to the store. */
#ifndef POSTERN_SERVER_STORE_SCHEMA_H
#define POSTERN_SERVER_STORE_SCHEMA_H

#include "common/error.h"

struct sqlite3;

/* Applies every pending migration in one transaction; refuses a schema newer than this program's.
 */
enum status schema_migrate(struct sqlite3 *db, const char *path, struct error *err);

#endif
