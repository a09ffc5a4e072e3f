/* The rows of a transaction as SQL on the write connection, and the chain that they extend.
 * Internal to the store. */
#ifndef POSTERN_SERVER_STORE_WRITER_H
#define POSTERN_SERVER_STORE_WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "server/journal/entry.h"

#define JOURNAL_ZONE 1024 /* entries; part of the schema, never changed */

struct sqlite3;
struct store_txn;
struct writer; /* prepared statements */

/* A plain value: whoever may have to roll back keeps a copy. */
struct chain {
	uint64_t sequence;
	uint8_t hash[ENTRY_HASH_SIZE];
	int64_t zone_min_us, zone_max_us; /* of the entries behind the last whole zone */
};

/* Takes in the time of the entry that follows `chain->sequence`; before the sequence is advanced.
 */
void chain_widen_zone(struct chain *chain, int64_t time_us);
enum status chain_load(struct sqlite3 *db, struct chain *ret_chain, struct error *err);

enum status writer_new(struct sqlite3 *db, struct writer **ret_writer, struct error *err);
void writer_free(struct writer *writer); /* accepts NULL */
/* Applies every row of the transaction, advancing the chain. On failure the caller rolls back
 * database and chain. */
enum status writer_apply(
	struct writer *writer, struct store_txn *txn, struct chain *chain, struct error *err);
/* Forgets at most `limit` flows that closed before `before_us`; were there as many? */
enum status writer_forget_flows(
	struct writer *writer, int64_t before_us, int limit, bool *ret_more, struct error *err);

#endif
