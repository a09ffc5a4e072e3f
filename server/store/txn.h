/* A transaction as the loop hands it to the writer: a list of copied rows. Internal to the store.
 */
#ifndef POSTERN_SERVER_STORE_TXN_H
#define POSTERN_SERVER_STORE_TXN_H

#include "server/store/record.h"
#include "server/store/store.h"

struct sqlite3;

enum op_kind {
	OP_ENTRY,
	OP_GATEWAY,
	OP_POSITION,
	OP_PRINCIPAL,
	OP_PROTOCOL,
	OP_RULE,
	OP_SESSION,
	OP_GRANT,
	OP_FLOW,
	OP_REVISION,
	OP_FEED,
};

struct op_entry {
	struct entry entry; /* context owned by it */
	uint8_t *body;
	size_t body_size;
};

struct op {
	struct op *next;
	enum op_kind kind;
	union {
		struct op_entry entry;
		struct gateway_record gateway; /* also OP_POSITION: name, instance, last_report */
		struct principal_record principal;
		struct protocol_record protocol;
		struct rule_record rule;
		struct session_record session;
		struct grant_record grant; /* context owned by it */
		struct flow_record flow;
		struct revision_record revision; /* document owned by it */
		struct feed_record feed; /* content and held owned by it */
	} as;
};

struct store_txn {
	struct store_txn *next;
	struct store *store;
	struct op *first, **end;
	store_done_cb done;
	void *arg;
	uint64_t first_sequence;
	size_t rows;
	bool is_fact; /* tried again until it is on disk */
	struct error result; /* first a failure to build it, then what the writer says */
};

#endif
