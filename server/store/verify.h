/* Verification of the chain in bounded steps (I9): bodies against hashes, columns against bodies,
 * sequences without gaps, zones against times, revisions against the hashes of their documents, and
 * the known heads. Internal to the store. */
#ifndef POSTERN_SERVER_STORE_VERIFY_H
#define POSTERN_SERVER_STORE_VERIFY_H

#include "server/journal/digest.h"
#include "server/store/store.h"
#include "server/store/writer.h"

struct known_head {
	const char *whose;
	uint64_t sequence; /* 0 = none */
	uint8_t hash[ENTRY_HASH_SIZE];
};

enum { KNOWN_TO_CALLER, KNOWN_TO_SERVER, KNOWN_COUNT };

/* The document that an entry vouches for, while its row is compared. */
struct verify_document {
	bool active;
	uint64_t sequence, revision;
	uint8_t hash[ENTRY_HASH_SIZE];
	size_t read; /* bytes */
	struct digest digest;
};

/* Zero-initialised but for `known`. */
struct verify_walk {
	struct chain chain; /* last good entry */
	struct known_head known[KNOWN_COUNT];
	struct verify_document document;
	uint64_t revisions, last_revision; /* that entries vouch for */
	bool done; /* at the end, or at the first fault */
	struct store_verification result;
};
bool verify_vouches(const struct entry *entry); /* for a revision */
void verify_fault(struct verify_walk *walk, uint64_t sequence, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* verify_document.c. Compares the document that `walk->document` tells of, at most *budget bytes,
 * and takes them off the budget; the walk's document is active as long as it is not through. */
void verify_document_begin(struct verify_walk *walk, const struct entry *entry);
enum status verify_document_step(
	struct sqlite3 *db, struct verify_walk *walk, size_t *budget, struct error *err);
/* At the end: is there a revision that no entry vouches for? */
enum status verify_documents_end(struct sqlite3 *db, struct verify_walk *walk, struct error *err);

enum status verify_step(struct sqlite3 *db, struct verify_walk *walk, struct error *err);

#endif
