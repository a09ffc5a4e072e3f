/* Verification of the chain in bounded steps (I9): bodies against hashes, columns against bodies,
 * sequences without gaps, zones against times, and the known heads. Internal to the store. */
#ifndef POSTERN_SERVER_STORE_VERIFY_H
#define POSTERN_SERVER_STORE_VERIFY_H

#include "server/store/store.h"
#include "server/store/writer.h"

struct known_head {
	const char *whose;
	uint64_t sequence; /* 0 = none */
	uint8_t hash[ENTRY_HASH_SIZE];
};

enum { KNOWN_TO_CALLER, KNOWN_TO_SERVER, KNOWN_COUNT };

/* Zero-initialised but for `known`. */
struct verify_walk {
	struct chain chain; /* last good entry */
	struct known_head known[KNOWN_COUNT];
	bool done; /* at the end, or at the first fault */
	struct store_verification result;
};
enum status verify_step(struct sqlite3 *db, struct verify_walk *walk, struct error *err);

#endif
