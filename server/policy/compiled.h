/* A compiled policy from within. Internal to the folder.
 *
 * Five dimensions: client, destination, protocol, gateway, user. In each, what rules list becomes
 * atoms (a set, the addresses that a rule spells out, a protocol's name, a gateway's name or label,
 * a user set), and a question becomes the sorted list of the atoms that have its value. A rule
 * matches in a dimension when it states nothing there, or one of its atoms is in the question's
 * list.
 *
 * Rules of the same type, action and stage that state the same dimensions are a group. In a group
 * every atom of a dimension has the list of the rules that state it (a posting), ordered as in the
 * document; long ones are bitsets too. A question takes the shortest dimension's rules, or where
 * all are long the bitsets' intersection, and match.c has the last word on each: so a decision does
 * not look at rules that its client, destination, protocol, gateway or user have nothing to do
 * with. */
#ifndef POSTERN_SERVER_POLICY_COMPILED_H
#define POSTERN_SERVER_POLICY_COMPILED_H

#include <stdatomic.h>

#include "common/table.h"
#include "server/document/arena.h"
#include "server/policy/policy.h"

enum dimension { BY_CLIENT, BY_DESTINATION, BY_PROTOCOL, BY_GATEWAY, BY_USER, DIMENSIONS };

struct atoms { /* sorted */
	const uint32_t *items;
	uint32_t count;
};

/* Which atoms have an address: sorted beginnings of intervals, each with its class. */
struct address_index {
	uint32_t *v4; /* the first is 0 */
	unsigned __int128 *v6;
	uint32_t *v4_class, *v6_class;
	size_t v4_count, v6_count;
	uint32_t *v4_top; /* by the upper 16 bits: the interval of their first address */
	struct atoms *classes;
	size_t class_count;
};

struct rule { /* of document->rules, same index */
	struct atoms any[DIMENSIONS]; /* stated: one of these */
	struct atoms except[DIMENSIONS];
	uint8_t stated; /* bit per dimension */
};

struct posting {
	uint32_t group;
	uint32_t count;
	const uint32_t *rules; /* indices of rules, ascending */
	const uint64_t *bits; /* by place in the group; NULL = short */
};
struct postings { /* of an atom, ascending by group */
	const struct posting *items;
	uint32_t count;
};

struct group {
	uint8_t type;
	bool deny, staged;
	uint8_t stated;
	uint32_t *rules; /* ascending */
	uint32_t count;
};
#define GROUPS_MAX (2 * 2 * 2 * (1 << DIMENSIONS))

struct policy_name { /* of a protocol, a gateway, a user, a filter */
	struct table_node node;
	const char *text;
	uint32_t index;
	struct atoms atoms;
};
struct policy_names {
	struct table table;
	struct policy_name *items;
	size_t count;
};

struct policy {
	atomic_uint holders;
	struct document *document;
	uint64_t revision;
	struct arena arena;
	struct rule *rules;
	struct address_index clients, destinations;
	struct policy_names protocols, gateways, labels, users, filters, definitions;
	struct group groups[GROUPS_MAX];
	size_t group_count;
	struct postings *postings[DIMENSIONS]; /* by atom */
	uint32_t atom_count[DIMENSIONS];
	bool has_staged;
	/* What a door for anybody has as its destination: two more atoms of each family, one that
	 * rules state whose destinations have an address of it, one for those that have every one.
	 * Deny rules state the first (exceptions: the second), allow rules the second (the first).
	 */
	struct atoms anybody_v4, anybody_v6;
};

/* names.c-like books of the snapshot: policy_names.c */
bool policy_names_init(struct policy_names *names, struct arena *arena, size_t most);
void policy_names_fini(struct policy_names *names);
/* The one that is there, or a new one; NULL: memory. */
struct policy_name *policy_names_add(struct policy_names *names, const char *text);
const struct policy_name *policy_names_find(const struct policy_names *names, const char *text);

/* atoms.c: fills rules' atoms, the address indices and the books; error: memory, or too large. */
enum status atoms_build(struct policy *policy, const struct policy_input *input, struct error *err);
/* addresses.c */
struct address_atom {
	const struct ranges *ranges;
};
enum status addresses_build(struct address_index *index, struct arena *arena,
	const struct address_atom *atoms, size_t count, struct error *err);
void addresses_fini(struct address_index *index);
struct atoms addresses_find(const struct address_index *index, const struct addr *addr);

/* index.c */
enum status index_build(struct policy *policy, struct error *err);

/* ---- asking ---- */

struct asked { /* a question, looked up */
	const struct policy_question *question;
	struct atoms atoms[DIMENSIONS]; /* destination: of one remote */
	const struct addr *remote; /* NULL = anybody */
};
/* match.c: everything but the destination, which differs between remotes. */
void asked_init(const struct policy *policy, const struct policy_question *question,
	struct asked *ret_asked);
void asked_set_remote(const struct policy *policy, const struct addr *remote, struct asked *asked);

bool atoms_meet(const struct atoms *a, const struct atoms *b);
/* The conditions of a rule, one by one: the only place that knows what they mean. */
enum condition {
	CONDITION_PROTOCOLS,
	CONDITION_PROTOCOLS_EXCEPT,
	CONDITION_DESTINATIONS,
	CONDITION_DESTINATIONS_EXCEPT,
	CONDITION_PORTS,
	CONDITION_CLIENTS,
	CONDITION_CLIENTS_EXCEPT,
	CONDITION_USERS,
	CONDITION_GATEWAYS,
	CONDITION_SCHEDULE,
	CONDITION_EXPIRES,
	CONDITIONS
};
bool condition_is_stated(const struct policy *policy, uint32_t rule, enum condition condition);
bool condition_matches(const struct policy *policy, uint32_t rule, enum condition condition,
	const struct asked *asked);
bool rule_matches(const struct policy *policy, uint32_t rule, const struct asked *asked);

/* decide.c: the first rule, in the document's order, of this type and action that matches; NO_RULE.
 */
#define NO_RULE UINT32_MAX
uint32_t first_match(const struct policy *policy, uint8_t type, bool deny, bool staged,
	const struct asked *asked);

#endif
