/* The policy document as our own structs (proto/postern/v1/document.proto says what each field
 * means). Pure values: built on any thread by document_unpack(), never changed afterwards. */
#ifndef POSTERN_SERVER_DOCUMENT_DOCUMENT_H
#define POSTERN_SERVER_DOCUMENT_DOCUMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "server/policy/ports.h"
#include "server/policy/ranges.h"
#include "server/policy/schedule.h"
#include "server/store/record.h"

/* What a document may have at most. */
#define DOCUMENT_SIZE_MAX (64U * 1024 * 1024) /* packed */
#define DOCUMENT_RULES_MAX 250000
#define DOCUMENT_SETS_MAX 100000 /* of each kind */
#define DOCUMENT_ADDRESSES_MAX 4000000 /* spelled out, in all */
#define DOCUMENT_SCHEDULES_MAX 1024
#define DOCUMENT_FEEDS_MAX 256
#define DOCUMENT_NAMES_MAX 4096 /* different DNS names */
#define DOCUMENT_TESTS_MAX 10000
#define DOCUMENT_NAME_SIZE RECORD_NAME_SIZE

enum on_change { ON_CHANGE_CANCEL = 0, ON_CHANGE_KEEP = 1, ON_CHANGE_CUT = 2 }; /* as on the wire */

struct document_texts {
	const char **items;
	size_t count;
};

/* Indices into an array of the document. */
struct document_refs {
	uint32_t *items;
	size_t count;
};

struct secondary_bounds {
	struct ports ports; /* none = any */
	struct ranges addresses; /* none = any */
	struct document_texts port_texts, address_texts; /* as written */
};

struct document_protocol {
	struct protocol_record record; /* owner ""; a guid that is not given is made of the name */
	struct secondary_bounds secondary; /* record.secondary points here if anything is bounded */
};

struct document_set { /* of clients or destinations */
	const char *name;
	struct ranges addresses;
	struct document_refs sets; /* same kind; without cycles */
	struct document_texts names; /* DNS, lower case, no dot at the end */
	struct document_refs feeds;
};

struct document_user_set {
	const char *name;
	struct document_texts users;
	struct document_refs sets;
};

struct document_schedule {
	const char *name;
	struct schedule schedule;
};

struct document_feed {
	const char *name, *url, *json_pointer, *json_key, *pinned_key; /* "" = not given */
	bool is_json;
	uint64_t refresh_ms, timeout_ms, max_size;
	uint32_t max_shrink; /* percent */
};

/* Sets by name and addresses spelled out, as rules list them. */
struct document_addresses {
	struct document_refs sets;
	struct ranges addresses;
	struct document_texts texts; /* as written, for explanations */
};

/* A protocol rule, or a site-and-content rule. What its kind does not have is empty. */
struct document_rule {
	const char *name;
	uint8_t type; /* RULE_TYPE_PROTOCOL, RULE_TYPE_SITE_AND_CONTENT */
	bool deny, disabled, staged;
	int64_t expires_us; /* INT64_MAX = never; applies before */
	struct document_texts protocols, protocols_except; /* names of definitions */
	struct document_addresses destinations, destinations_except;
	struct ports ports; /* none = any */
	struct document_addresses clients, clients_except;
	struct document_refs users; /* user sets */
	struct document_texts gateways, gateway_labels;
	int32_t schedule; /* index; -1 = none */
};

struct document_limits {
	const char *filter;
	uint64_t max_grants, grants_per_second, max_lifetime_ms; /* 0 = no limit */
};

struct document_test {
	const char *name, *gateway, *client, *to, *from, *protocol, *user, *at; /* as written */
	const char *rule; /* "" = any, "none" = no rule allows */
	bool expect_deny;
};

struct document {
	enum on_change on_change;
	struct document_protocol *protocols;
	struct document_set *client_sets, *destination_sets;
	struct document_user_set *user_sets;
	struct document_schedule *schedules;
	struct document_feed *feeds;
	struct document_rule *rules; /* protocol rules first, each kind in the document's order */
	struct document_limits *limits;
	struct document_test *tests;
	size_t protocol_count, client_set_count, destination_set_count, user_set_count,
		schedule_count, feed_count, rule_count, limit_count, test_count;
	size_t protocol_rule_count;
	void *memory; /* what the texts point into; document.c's */
};

/* Parses, bounds and checks everything that the document alone can tell: names and duplicates,
 * addresses, ranges, references between its parts, cycles, schedules, durations. Errors are
 * INVALID_ARGUMENT (RESOURCE_EXHAUSTED for memory), their field is the path
 * ("protocol_rules[3].clients[0]", by the fields of document.proto) and their text names the rule
 * or set too, with the nearest known name. */
enum status document_unpack(
	const uint8_t *packed, size_t size, struct document **ret_document, struct error *err);
void document_free(struct document *document); /* accepts NULL */

/* What the server knows beside the document: references to protocols that filters registered, to
 * gateways and to filters. */
struct document_world {
	void *arg;
	bool (*has_protocol)(void *arg, const char *name); /* a registered one */
	bool (*has_gateway)(void *arg, const char *name);
	bool (*has_filter)(void *arg, const char *name);
	/* The nearest name of that kind, for "did you mean"; may be NULL, may return NULL. */
	const char *(*nearest_protocol)(void *arg, const char *name);
	const char *(*nearest_gateway)(void *arg, const char *name);
};
enum status document_check_world(
	const struct document *document, const struct document_world *world, struct error *err);

/* A document that holds the given rules of a server of before (name, type, deny, protocol), packed;
 * malloc'd. With `document` NULL from nothing; else that packed document with the rule added. */
enum status document_pack_with_rules(const uint8_t *packed, size_t size,
	const struct rule_record *rules, size_t count, uint8_t **ret_packed, size_t *ret_size,
	struct error *err);

#endif
