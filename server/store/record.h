/* The rows that the server keeps: gateways, principals, protocol definitions, rules, sessions,
 * grants, flows. */
#ifndef POSTERN_SERVER_STORE_RECORD_H
#define POSTERN_SERVER_STORE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/id.h"
#include "server/journal/entry.h"

#define RECORD_NAME_SIZE 64
#define RECORD_LIST_SIZE 1024 /* comma-separated names */
#define RECORD_TOKEN_HASH_SIZE 32
#define RECORD_MESSAGE_SIZE 241
#define RECORD_DOCUMENT_HASH_SIZE 32
#define RECORD_SOURCE_SIZE 254 /* the longest DNS name */
#define RECORD_URL_SIZE 2049

struct secondary_bounds;

enum remote_scope { /* RemoteScope of policy.proto: never renumber */
	REMOTE_ANY = 0,
	REMOTE_PEER = 1,
	REMOTE_PEER_NETWORK = 2,
};

struct gateway_record {
	char name[RECORD_NAME_SIZE];
	char labels[RECORD_LIST_SIZE];
	int64_t added_us;
	/* Of the last join; empty before the first. */
	char boot_id[RECORD_NAME_SIZE];
	char instance[40]; /* of the agent whose reports `last_report` counts */
	uint64_t last_report; /* highest report sequence on disk */
	int64_t joined_us;
};

struct principal_record {
	char name[RECORD_NAME_SIZE];
	uint8_t role; /* enum rpc_role */
	uint8_t token_hash[RECORD_TOKEN_HASH_SIZE]; /* BLAKE2b-256 of the token's text */
	char gateway[RECORD_NAME_SIZE]; /* agents: theirs */
	char gateways[RECORD_LIST_SIZE]; /* filters: scope, empty = all */
	uint64_t max_grants; /* filters: 0 = server default */
	/* Filters: scope, empty = all; networks as CIDR text. */
	char clients[RECORD_LIST_SIZE], destinations[RECORD_LIST_SIZE], protocols[RECORD_LIST_SIZE];
	uint64_t grants_per_second; /* 0 = no limit */
	uint64_t max_lifetime_ms; /* 0 = the server's */
	int64_t added_us;
};

struct protocol_record {
	struct id guid;
	char name[RECORD_NAME_SIZE];
	uint8_t transport;
	uint16_t primary_ports[16];
	size_t primary_port_count;
	char owner[RECORD_NAME_SIZE];
	bool shared; /* filters other than its owner may use it */
	uint8_t remote_scope; /* enum remote_scope */
	bool low_ports; /* ports below 1024 may be asked for */
	uint16_t max_ports; /* width of a range; 0 and 1 = single ports */
	const struct secondary_bounds
		*secondary; /* of the policy document, which owns it; NULL = any */
};

enum { RULE_TYPE_PROTOCOL = 1, RULE_TYPE_SITE_AND_CONTENT = 2 }; /* RuleType of policy.proto */

struct rule_record { /* of servers before the policy document */
	char name[RECORD_NAME_SIZE];
	uint8_t type; /* RuleType: 1 protocol, 2 site and content */
	bool deny;
	char protocol[RECORD_NAME_SIZE]; /* empty = all */
};

struct session_record {
	struct id id;
	char gateway[RECORD_NAME_SIZE];
	char filter[RECORD_NAME_SIZE];
	char user[RECORD_NAME_SIZE];
	char protocol[RECORD_NAME_SIZE];
	struct addr client;
	struct flow primary; /* transport 0 = none */
	uint64_t idle_limit_ms;
	int64_t opened_us;
	int64_t closed_us; /* 0 = open */
};

struct grant_record {
	struct id id;
	struct id request_id, session, bundle; /* zero = none */
	char gateway[RECORD_NAME_SIZE];
	char filter[RECORD_NAME_SIZE];
	char protocol[RECORD_NAME_SIZE];
	char rule[RECORD_NAME_SIZE];
	bool inbound; /* remote → external → client: AllowFutureAccept */
	struct addr client;
	uint16_t client_port; /* inbound: where the client listens */
	struct endpoint remote; /* inbound: no port; family ADDR_NONE = anybody, or `remotes` */
	uint16_t remote_port_last; /* outbound: of a range, 0 = one port */
	struct endpoint external; /* family ADDR_NONE = any; port 0 = any, or not chosen yet */
	bool external_chosen; /* its port is the server's choice: another one may do */
	uint8_t transport;
	uint32_t flags; /* GrantFlag */
	bool notify;
	uint8_t state; /* GrantState */
	uint8_t reason; /* EndReason */
	uint64_t lifetime_ms, max_connections, connections;
	int64_t created_us, expires_us, ended_us;
	bool clamped; /* a longer lifetime was asked for */
	bool cut; /* its flows are to be cut, as the agent has yet to confirm */
	uint32_t renewals;
	uint64_t revision; /* of the policy document that decided */
	char user[RECORD_NAME_SIZE]; /* of the session that it was asked for with; empty = none */
	char site_rule[RECORD_NAME_SIZE]; /* allowed: beside `rule`, the protocol rule */
	uint8_t *context; /* owned by the holder of the record; store functions copy */
	size_t context_size;
	struct addr *remotes; /* inbound, several; owned as `context` */
	size_t remote_count;
};

/* A version of the policy document. `document` is packed and owned by the holder of the record. */
struct revision_record {
	uint64_t number;
	char author[RECORD_NAME_SIZE];
	int64_t time_us;
	char message[RECORD_MESSAGE_SIZE];
	uint64_t rolled_back_to; /* 0 = not by a rollback */
	int64_t confirm_until_us; /* waits to be confirmed; 0 = does not */
	uint64_t rules;
	uint8_t hash[RECORD_DOCUMENT_HASH_SIZE]; /* BLAKE2b-256 of the packed document */
	uint8_t *document; /* NULL where only the rest was asked for */
	size_t document_size;
};

/* A copy of a feed, or the addresses of a DNS name. `content` and `held` are owned by the holder.
 */
struct feed_record {
	char name[RECORD_SOURCE_SIZE]; /* of the feed, or the DNS name */
	bool is_name;
	char etag[256];
	int64_t fetched_us, checked_us;
	char url[RECORD_URL_SIZE]; /* of a feed: another address is another source */
	char error[256]; /* of the last try, empty = it went well */
	uint8_t *content, *held; /* networks, see feeds/copy.h; held NULL = none is held back */
	size_t content_size, held_size;
	char held_etag[256];
};

/* Copies what `from` owns; false (and nothing owned): memory. */
bool grant_record_copy(struct grant_record *to, const struct grant_record *from);
void grant_record_fini(struct grant_record *record);

/* A flow between ESTABLISHED and some time after CLOSED: what deduplicates reports (I5). */
struct flow_record {
	char gateway[RECORD_NAME_SIZE];
	char boot_id[RECORD_NAME_SIZE];
	struct id grant;
	struct flow flow;
	int64_t opened_us, closed_us; /* 0 = open */
};

#endif
