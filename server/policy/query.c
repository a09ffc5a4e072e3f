/* Questions as people write them: tests of a document, and explanations. */
#include <string.h>

#include "server/policy/compiled.h"
#include "server/policy/moment.h"

static bool parse_port(const char *text, uint16_t *ret_port)
{
	unsigned value = 0;
	size_t length = strlen(text);
	if (length == 0 || length > 5 || strspn(text, "0123456789") != length)
		return false;
	for (; *text; text++)
		value = value * 10 + (unsigned)(*text - '0');
	if (value == 0 || value > UINT16_MAX)
		return false;
	*ret_port = (uint16_t)value;
	return true;
}

/* "10.0.0.1:21", "[fd00::1]:5000-5010" */
static bool parse_target(const char *text, struct policy_query *query)
{
	char copy[96];
	struct endpoint endpoint;
	struct policy_question *question = &query->question;
	if (strlen(text) >= sizeof copy)
		return false;
	strcpy(copy, text); /* allowed: it fits */
	char *colon = strrchr(copy, ':'), *hyphen = colon ? strchr(colon, '-') : NULL;
	uint16_t last = 0;
	if (hyphen) {
		*hyphen = '\0';
		if (!parse_port(hyphen + 1, &last))
			return false;
	}
	if (!endpoint_parse(copy, true, &endpoint) || (last && last < endpoint.port))
		return false;
	query->remotes[0] = endpoint.addr;
	question->remote_count = 1;
	question->port_first = endpoint.port;
	question->port_last = last ? last : endpoint.port;
	return true;
}

static enum status parse_outbound(
	const struct document_test *texts, struct policy_query *query, struct error *err)
{
	if (!addr_parse(texts->client, &query->question.client))
		return error_field(
			err, "client", "client: \"%.60s\" is not an address", texts->client);
	if (!parse_target(texts->to, query))
		return error_field(err, "to",
			"to: \"%.60s\" is not an address with a port: write 10.0.0.1:21 or "
			"[fd00::1]:5000-5010",
			texts->to);
	return STATUS_OK;
}

static enum status parse_inbound(
	const struct document_test *texts, struct policy_query *query, struct error *err)
{
	struct endpoint client;
	struct policy_question *question = &query->question;
	query->inbound = true;
	if (!endpoint_parse(texts->client, true, &client))
		return error_field(err, "client",
			"client: \"%.60s\" is not an address with the port where it listens",
			texts->client);
	question->client = client.addr;
	question->port_first = question->port_last = client.port;
	if (strcmp(texts->from, "any") == 0)
		return STATUS_OK;
	if (!addr_parse(texts->from, &query->remotes[0]))
		return error_field(
			err, "from", "from: \"%.60s\" is not an address, nor any", texts->from);
	question->remote_count = 1;
	return STATUS_OK;
}

enum status policy_query_parse(const struct policy *policy, const struct document_test *texts,
	const struct protocol_record *(*registered)(void *arg, const char *name), void *arg,
	int64_t now_us, struct policy_query *ret_query, struct error *err)
{
	struct policy_query query = {.question = {.at_us = now_us}};
	struct policy_question *question = &query.question;
	if ((texts->to[0] != '\0') == (texts->from[0] != '\0'))
		return error_field(err, "to",
			"to: say where an outbound door leads, or `from` for an inbound one");
	enum status status = texts->from[0] ? parse_inbound(texts, &query, err)
					    : parse_outbound(texts, &query, err);
	if (status)
		return status;
	if (question->remote_count && query.remotes[0].family != question->client.family)
		return error_field(err, texts->from[0] ? "from" : "to",
			"%s: of the other family than the client", texts->from[0] ? "from" : "to");
	if (texts->at[0] && !moment_parse(texts->at, false, &question->at_us))
		return error_field(err, "at",
			"at: \"%.40s\" is not a time: write 2026-12-31T18:00:00Z", texts->at);
	const struct protocol_record *protocol = policy_find_protocol(policy, texts->protocol);
	if (!protocol && registered)
		protocol = registered(arg, texts->protocol);
	if (!protocol)
		return error_field(err, "protocol",
			"protocol: \"%.60s\" is not known: see `postern protocol list`",
			texts->protocol);
	question->protocol = protocol->name;
	question->gateway = texts->gateway;
	question->user = texts->user;
	query.transport = protocol->transport;
	*ret_query = query;
	/* Its own addresses, where it is now. */
	if (question->remote_count)
		ret_query->question.remotes = ret_query->remotes;
	return STATUS_OK;
}

bool policy_test_passes(const struct document_test *test, const struct policy_answer *answer)
{
	if (test->expect_deny != (answer->verdict != POLICY_ALLOWED))
		return false;
	if (test->rule[0] == '\0')
		return true;
	if (strcmp(test->rule, "none") == 0)
		return answer->rule[0] == '\0';
	return strcmp(test->rule, answer->rule) == 0 || strcmp(test->rule, answer->site_rule) == 0;
}
