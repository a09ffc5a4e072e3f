/* Reads of the database as plain functions on one connection; the store runs them on its reader
 * threads. Internal. */
#ifndef POSTERN_SERVER_STORE_READER_H
#define POSTERN_SERVER_STORE_READER_H

#include "server/store/record.h"
#include "server/store/store.h"

struct sqlite3;

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
};
enum status read_grants(struct sqlite3 *db, const struct store_grant_query *query,
	struct grant_page *ret_page, struct error *err);
void grant_page_fini(struct grant_page *page);

enum status read_live(struct sqlite3 *db, const struct store_visitor *visitor,
	int64_t flows_after_us, struct error *err);

/* One bounded step of a walk over the chain; `done` is set at its end or at the first fault. */
struct verify_walk {
	uint64_t sequence; /* last good entry */
	uint8_t hash[ENTRY_HASH_SIZE];
	uint64_t known_sequence;
	uint8_t known_hash[ENTRY_HASH_SIZE];
	bool done;
	struct store_verification result;
};
enum status verify_step(struct sqlite3 *db, struct verify_walk *walk, struct error *err);

#endif
