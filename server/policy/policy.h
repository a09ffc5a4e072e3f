/* The decision: a policy document compiled to an immutable snapshot, and questions to it. Pure.
 *
 * ISA Server 2000: within a rule type, allowed if some allow rule matches and no deny rule matches,
 * in no order; protocol rules first, then site-and-content rules; both must allow.
 *
 * Doors are more than points: an inbound one may be for several remotes or for anybody, an outbound
 * one for a range of ports. An allow rule must cover the whole door, a deny rule need only touch
 * it. Several remotes are judged one by one, and each must be allowed.
 *
 * Threads: policy_compile() runs on any thread; the snapshot never changes afterwards and may be
 * asked from any thread. Its count of holders is atomic. */
#ifndef POSTERN_SERVER_POLICY_POLICY_H
#define POSTERN_SERVER_POLICY_POLICY_H

#include "common/error.h"
#include "server/document/document.h"
#include "server/store/record.h"

struct policy;

enum policy_verdict {
	POLICY_ALLOWED,
	POLICY_DENIED_BY_PROTOCOL_RULES,
	POLICY_DENIED_BY_SITE_AND_CONTENT_RULES
};

/* What a feed or a DNS name answered. A name or feed of the document without a source is empty. */
struct policy_source {
	const char *name;
	bool is_name; /* DNS, not a feed */
	const struct ranges *addresses; /* normalized; must hold until policy_compile() returns */
};

struct policy_gateway {
	const char *name;
	const char *labels; /* comma-separated */
};

struct policy_input {
	struct document *document; /* taken on success */
	uint64_t revision; /* 0 = none, a candidate */
	const struct policy_source *sources;
	size_t source_count;
	const struct policy_gateway *gateways;
	size_t gateway_count;
};

/* RESOURCE_EXHAUSTED: memory, or the document's sets are too large together. */
enum status policy_compile(
	const struct policy_input *input, struct policy **ret_policy, struct error *err);
void policy_hold(struct policy *policy);
void policy_release(struct policy *policy); /* the last one frees it; accepts NULL */
const struct document *policy_document(const struct policy *policy);
uint64_t policy_revision(const struct policy *policy);
void policy_set_revision(struct policy *policy, uint64_t revision); /* before it is shared */

/* By name, or by GUID text: the document's definitions. NULL when it has none of that name. */
const struct protocol_record *policy_find_protocol(
	const struct policy *policy, const char *name_or_guid);
/* NULL = the document does not limit this filter. */
const struct document_limits *policy_find_limits(const struct policy *policy, const char *filter);

struct policy_question {
	int64_t at_us; /* real time: schedules and expiry */
	const char *gateway;
	const char *protocol; /* name of a definition, the document's or a registered one */
	const char *user; /* "" = none */
	struct addr client;
	/* The other side: `remote_count` addresses; 0 = anybody, of the client's family. */
	const struct addr *remotes;
	size_t remote_count;
	/* The port that is connected to, or a range of them: outbound the remote's, inbound the
	 * client's. */
	uint16_t port_first, port_last;
};

struct policy_answer {
	enum policy_verdict verdict;
	/* Denied: the deny rule that matched, "" = no rule allows. Allowed: the protocol rule.
	 * Texts are the snapshot's. With several rules that would do, the first in the document's
	 * order. */
	const char *rule;
	const char *site_rule; /* allowed: the site-and-content rule; else "" */
	const char *staged_rule; /* a staged rule that would turn the verdict, were it enforced;
				    else "" */
};

void policy_decide(const struct policy *policy, const struct policy_question *question,
	struct policy_answer *ret_answer);
/* The first moment after at_us at which a schedule or an expiry may change answers; INT64_MAX =
 * never. */
int64_t policy_next_change(const struct policy *policy, int64_t at_us);

/* ---- explain.c: by the code that decides ---- */

struct policy_condition {
	const char *field; /* "clients", "schedule", ... */
	bool matched;
	char detail[160];
};
#define POLICY_CONDITIONS_MAX 11
/* One rule of the document; `conditions` has those that the rule states (all of them are
 * evaluated). */
typedef void (*policy_explain_cb)(void *arg, const struct document_rule *rule, bool matched,
	const struct policy_condition *conditions, size_t count);
/* From rule number `from` (of document->rules) on, at most `max`; returns the next number, the
 * document's rule_count at the end. So that a caller can do it in pieces. With `all` false only
 * rules that match, or miss by one condition. */
size_t policy_explain(const struct policy *policy, const struct policy_question *question,
	size_t from, size_t max, bool all, policy_explain_cb cb, void *arg);

/* ---- query.c: questions as people write them ---- */

struct policy_query { /* owns what its question points to */
	struct policy_question question;
	struct addr remotes[1];
	uint8_t transport; /* 0 = the protocol's */
	bool inbound;
};
/* Fields: "gateway", "client", "to", "from", "protocol", "user", "at". `now_us`: when `at` is
 * empty. `protocol` must be known: the document's, or what `registered` finds (may be NULL). */
enum status policy_query_parse(const struct policy *policy, const struct document_test *texts,
	const struct protocol_record *(*registered)(void *arg, const char *name), void *arg,
	int64_t now_us, struct policy_query *ret_query, struct error *err);
/* Did the answer fulfil what the test expects? */
bool policy_test_passes(const struct document_test *test, const struct policy_answer *answer);

#endif
