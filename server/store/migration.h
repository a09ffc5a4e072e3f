/* The schema's history, embedded at build from migrations/NNNN_what.sql. Append-only: a landed file
 * never changes. */
#ifndef POSTERN_SERVER_STORE_MIGRATION_H
#define POSTERN_SERVER_STORE_MIGRATION_H

struct migration {
	unsigned number;
	const char *name;
	const char *sql;
};

extern const struct migration migrations[];
extern const unsigned migration_count;

#endif
