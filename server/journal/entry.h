/* One journal entry as our own struct, and its three forms: hashed body, wire message, and the
 * chain of hashes. */
#ifndef POSTERN_SERVER_JOURNAL_ENTRY_H
#define POSTERN_SERVER_JOURNAL_ENTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/error.h"
#include "common/id.h"

#define ENTRY_NAME_SIZE 64
#define ENTRY_DETAIL_SIZE 256
#define ENTRY_CONTEXT_MAX 4096
#define ENTRY_HASH_SIZE 32
#define ENTRY_REMOTES_MAX 16

enum entry_kind { /* equals EntryKind of types.proto: never renumber */
	ENTRY_SERVER_STARTED = 1,
	ENTRY_SERVER_STOPPED = 2,
	ENTRY_GATEWAY_ADDED = 3,
	ENTRY_GATEWAY_JOINED = 4,
	ENTRY_GATEWAY_LOST = 5,
	ENTRY_GATEWAY_REBOOTED = 6,
	ENTRY_TABLE_REBUILT = 7,
	ENTRY_EVENTS_OVERRUN = 8,
	ENTRY_PRINCIPAL_ADDED = 10,
	ENTRY_PROTOCOL_REGISTERED = 11,
	ENTRY_RULE_ADDED = 12,
	ENTRY_POLICY_APPLIED = 13,
	ENTRY_POLICY_CONFIRMED = 14,
	ENTRY_POLICY_ROLLED_BACK = 15,
	ENTRY_FEED_CHANGED = 16,
	ENTRY_FEED_HELD = 17,
	ENTRY_FEED_FAILED = 18,
	ENTRY_SESSION_OPENED = 20,
	ENTRY_SESSION_CLOSED = 21,
	ENTRY_GRANTED = 30,
	ENTRY_DENIED = 31,
	ENTRY_INSTALLED = 32,
	ENTRY_ESTABLISHED = 33,
	ENTRY_CLOSED = 34,
	ENTRY_ENDED = 35,
	ENTRY_USES_RECOVERED = 36,
	ENTRY_RESERVED = 37,
	ENTRY_COMMITTED = 38,
	ENTRY_RENEWED = 39,
	ENTRY_CUT = 40,
	ENTRY_EXTERNAL_CHANGED = 41,
};

/* One admitted flow; zero `id` = no flow in this entry. */
struct flow {
	uint64_t id; /* conntrack id on its gateway */
	struct endpoint client, remote; /* whoever opened it */
	struct endpoint
		external; /* how the outside saw the client's end; family ADDR_NONE: as it is */
	uint8_t transport; /* IPPROTO_TCP, IPPROTO_UDP */
	bool accounted; /* the figures below are known */
	uint64_t packets_sent, bytes_sent, packets_received, bytes_received, duration_us;
};

/* Plain value; `context` and `remotes` point to memory of the caller (entry_decode: of the entry,
 * freed by entry_fini). */
struct entry {
	uint64_t sequence; /* 0 until committed */
	int64_t time_us;
	enum entry_kind kind;
	char actor[ENTRY_NAME_SIZE];
	char gateway[ENTRY_NAME_SIZE];
	char filter[ENTRY_NAME_SIZE];
	char protocol[ENTRY_NAME_SIZE];
	char rule[ENTRY_NAME_SIZE];
	struct id session, grant, request_id, bundle; /* all zero = none */
	bool inbound;
	struct addr client;
	uint16_t client_port; /* inbound; sessions: of the primary connection */
	struct endpoint remote, external;
	uint16_t remote_port_last; /* of a range, 0 = one port */
	const struct addr *remotes; /* inbound, several; lifetime as `context` */
	size_t remote_count;
	uint8_t transport;
	uint32_t flags;
	uint64_t lifetime_ms, max_connections, count;
	uint32_t reason; /* EndReason */
	struct flow flow;
	char detail[ENTRY_DETAIL_SIZE];
	uint64_t revision;
	char user[ENTRY_NAME_SIZE];
	char site_rule[ENTRY_NAME_SIZE];
	char staged_rule[ENTRY_NAME_SIZE];
	uint8_t document_hash[ENTRY_HASH_SIZE]; /* all zero = none */
	bool notify;
	const uint8_t *context;
	size_t context_size;
	uint8_t *owned; /* entry_decode's copies of context and remotes; NULL otherwise */
	struct addr *owned_remotes;
	uint8_t hash[ENTRY_HASH_SIZE]; /* zero until committed */
};

/* The canonical body: a packed postern.v1.Entry without sequence and hash. malloc'd. */
enum status entry_encode(
	const struct entry *entry, uint8_t **ret_body, size_t *ret_size, struct error *err);
enum status entry_decode(
	const uint8_t *body, size_t size, struct entry *ret_entry, struct error *err);
/* Copies what `from` points to as well; false: out of memory, and then the copy owns nothing and
 * lacks it. Freed by entry_fini. */
bool entry_copy(struct entry *to, const struct entry *from);
void entry_fini(struct entry *entry);

/* BLAKE2b-256 over previous hash (32 bytes; zeros before the first), sequence (8 bytes big-endian),
 * body. */
void entry_hash(const uint8_t previous[static ENTRY_HASH_SIZE], uint64_t sequence,
	const uint8_t *body, size_t size, uint8_t ret_hash[static ENTRY_HASH_SIZE]);

/* Makes its texts fit to be kept for ever and read by anybody: NUL-terminated UTF-8 without control
 * bytes; what is neither becomes '?'. Peers' strings come into entries, and a strict reader refuses
 * a whole message for one bad byte. */
void entry_clean(struct entry *entry);

const char *entry_kind_name(enum entry_kind kind); /* "established" */

#endif
