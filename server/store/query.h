/* Reads as plain functions on one connection; the store runs them on its reader threads. Internal
 * to the store.
 *
 * Each call is one bounded step (a few 10 ms), within one snapshot: a snapshot that lives long
 * keeps the log from being begun anew, and other reads go on between the steps. */
#ifndef POSTERN_SERVER_STORE_QUERY_H
#define POSTERN_SERVER_STORE_QUERY_H

#include "server/journal/digest.h"
#include "server/store/record.h"
#include "server/store/store.h"

struct sqlite3;
struct sqlite3_stmt;

struct page {
	struct entry entries[STORE_PAGE_MAX];
	size_t count;
	uint64_t next_after;
	bool at_end;
};
/* The page's entries are freed with page_fini. */
enum status read_page(struct sqlite3 *db, const struct store_query *query, struct page *ret_page,
	struct error *err);
void page_fini(struct page *page);

struct grant_page {
	struct grant_record grants[STORE_PAGE_MAX];
	size_t count;
	struct id before; /* where the next step goes on */
	bool done;
};
/* Adds to the page; to be called until `done`. */
enum status read_grants(struct sqlite3 *db, const struct store_grant_query *query,
	struct grant_page *page, struct error *err);
void grant_page_fini(struct grant_page *page);

struct revision_page {
	struct revision_record revisions[STORE_PAGE_MAX];
	size_t count;
	struct digest digest; /* of the one document that is read, so far */
	size_t read; /* bytes of it */
	bool done;
};
/* To be called until `done`: a document may be large, and is read in pieces. */
enum status read_revisions(struct sqlite3 *db, const struct store_revision_query *query,
	struct revision_page *page, struct error *err);
void revision_page_fini(struct revision_page *page);

#define REVISION_COLUMNS                                                                           \
	"number, author, time_us, message, rolled_back_to, confirm_until_us, rules, hash"
/* A row of REVISION_COLUMNS, without the document. */
enum status revision_from_row(
	struct sqlite3_stmt *stmt, struct revision_record *ret_revision, struct error *err);

#define GRANT_COLUMNS                                                                              \
	"id, request_id, session, gateway, filter, protocol, rule, client, remote, external, "     \
	"transport, flags, notify, state, "                                                        \
	"reason, lifetime_ms, max_connections, connections, created_us, expires_us, ended_us, "    \
	"context, direction, client_port, remotes, remote_port_last, external_chosen, bundle, "    \
	"clamped, cut, renewals, revision, user, site_rule"
/* A row of GRANT_COLUMNS; context and remotes are malloc'd, and freed with grant_record_fini(). */
enum status grant_from_row(
	struct sqlite3_stmt *stmt, struct grant_record *ret_grant, struct error *err);

enum status read_live(struct sqlite3 *db, const struct store_visitor *visitor,
	int64_t flows_after_us, struct error *err);

#endif
