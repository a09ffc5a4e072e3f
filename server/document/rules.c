/* Protocol rules and site-and-content rules. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "server/document/build.h"
#include "server/policy/moment.h"

/* What both kinds of rules have, borrowed from the message. */
struct common {
	const char *name, *expires, *schedule;
	Postern__V1__Action action;
	bool disabled, staged;
	char **clients, **clients_except, **users, **gateways, **gateway_labels;
	size_t n_clients, n_clients_except, n_users, n_gateways, n_gateway_labels;
};

/* Each is an address, a network or a range, or the name of a set. */
static enum status build_addresses(struct build *build, const char *field, char **texts,
	size_t count, const struct names *names, const char *what,
	struct document_addresses *ret_addresses)
{
	char suggestion[SUGGESTION_SIZE];
	struct error cause;
	struct document_refs *sets = &ret_addresses->sets;
	if (count == 0)
		return STATUS_OK;
	build->addresses += count;
	if (build->addresses > DOCUMENT_ADDRESSES_MAX)
		return build_error(build, field, "more than %d addresses in the document",
			DOCUMENT_ADDRESSES_MAX);
	sets->items = arena_array(build->arena, count, sizeof *sets->items);
	if (!sets->items)
		return build_memory(build);
	for (size_t i = 0; i < count; i++) {
		const struct name *name = names_find(names, texts[i]);
		if (name) {
			sets->items[sets->count++] = (uint32_t)name->index;
			continue;
		}
		enum status status = ranges_add_text(&ret_addresses->addresses, texts[i], &cause);
		if (status == STATUS_RESOURCE_EXHAUSTED)
			return build_memory(build);
		if (status && texts[i][0] &&
			strspn(texts[i], "0123456789abcdefABCDEF.:/-[]") == strlen(texts[i]) &&
			strpbrk(texts[i], ".:/"))
			return build_element_error(build, field, i, "%s", cause.text);
		if (status) {
			build_suggest(names, texts[i], suggestion, sizeof suggestion);
			return build_element_error(build, field, i,
				"\"%.63s\" is neither an address nor %s%s", texts[i], what,
				suggestion);
		}
	}
	ranges_normalize(&ret_addresses->addresses);
	return build_texts(build, texts, count, &ret_addresses->texts);
}

static enum status build_schedule_ref(
	struct build *build, const char *text, struct document_rule *rule)
{
	char suggestion[SUGGESTION_SIZE];
	rule->schedule = -1;
	if (text[0] == '\0')
		return STATUS_OK;
	const struct name *name = names_find(&build->schedules, text);
	if (!name) {
		build_suggest(&build->schedules, text, suggestion, sizeof suggestion);
		return build_error(
			build, "schedule", "no schedule is called \"%.63s\"%s", text, suggestion);
	}
	rule->schedule = (int32_t)name->index;
	return STATUS_OK;
}

static enum status build_expiry(struct build *build, const char *text, struct document_rule *rule)
{
	rule->expires_us = INT64_MAX;
	if (text[0] == '\0' || moment_parse(text, true, &rule->expires_us))
		return STATUS_OK;
	return build_error(build, "expires",
		"\"%.40s\" is not a time: write 2026-12-31, which is the end of that day in UTC, "
		"or 2026-12-31T18:00:00+01:00",
		text);
}

static enum status check_labels(struct build *build, char **labels, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (labels[i][0] == '\0' || strpbrk(labels[i], ", \t"))
			return build_element_error(
				build, "gateway_labels", i, "\"%.63s\" is not a label", labels[i]);
	return STATUS_OK;
}

static enum status build_common(
	struct build *build, const struct common *from, struct document_rule *rule)
{
	build->name = rule->name = from->name;
	rule->disabled = from->disabled;
	rule->staged = from->staged;
	rule->deny = from->action == POSTERN__V1__ACTION__ACTION_DENY;
	if (strcmp(from->name, "none") == 0)
		return build_error(
			build, "name", "\"none\" stands for \"no rule\" in tests: choose another");
	if (from->action != POSTERN__V1__ACTION__ACTION_ALLOW && !rule->deny)
		return build_error(build, "action", "allow or deny");
	enum status status = build_addresses(build, "clients", from->clients, from->n_clients,
		&build->client_sets, "a client set", &rule->clients);
	if (!status)
		status = build_addresses(build, "clients_except", from->clients_except,
			from->n_clients_except, &build->client_sets, "a client set",
			&rule->clients_except);
	if (!status)
		status = build_refs(build, "users", from->users, from->n_users, &build->user_sets,
			"user set", &rule->users);
	if (!status)
		status = build_texts(build, from->gateways, from->n_gateways, &rule->gateways);
	if (!status)
		status = check_labels(build, from->gateway_labels, from->n_gateway_labels);
	if (!status)
		status = build_texts(
			build, from->gateway_labels, from->n_gateway_labels, &rule->gateway_labels);
	if (!status)
		status = build_schedule_ref(build, from->schedule, rule);
	return status ? status : build_expiry(build, from->expires, rule);
}

/* The fields have the same names in both messages. */
#define COMMON_OF(message)                                                                         \
	{                                                                                          \
		.name = (message)->name, .expires = (message)->expires,                            \
		.schedule = (message)->schedule, .action = (message)->action,                      \
		.disabled = (message)->disabled, .staged = (message)->staged,                      \
		.clients = (message)->clients, .n_clients = (message)->n_clients,                  \
		.clients_except = (message)->clients_except,                                       \
		.n_clients_except = (message)->n_clients_except, .users = (message)->users,        \
		.n_users = (message)->n_users, .gateways = (message)->gateways,                    \
		.n_gateways = (message)->n_gateways, .gateway_labels = (message)->gateway_labels,  \
		.n_gateway_labels = (message)->n_gateway_labels                                    \
	}

static enum status check_names(struct build *build, const char *field, char **texts, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (texts[i][0] == '\0' || strlen(texts[i]) >= RECORD_NAME_SIZE)
			return build_element_error(
				build, field, i, "\"%.63s\" is not a protocol's name", texts[i]);
	return STATUS_OK;
}

static enum status build_protocol_rule(
	struct build *build, const Postern__V1__ProtocolRule *message, struct document_rule *rule)
{
	const struct common common = COMMON_OF(message);
	rule->type = RULE_TYPE_PROTOCOL;
	enum status status = build_common(build, &common, rule);
	if (!status)
		status = check_names(build, "protocols", message->protocols, message->n_protocols);
	if (!status)
		status = check_names(build, "protocols_except", message->protocols_except,
			message->n_protocols_except);
	if (!status)
		status = build_texts(
			build, message->protocols, message->n_protocols, &rule->protocols);
	if (!status)
		status = build_texts(build, message->protocols_except, message->n_protocols_except,
			&rule->protocols_except);
	return status;
}

static enum status build_site_rule(struct build *build,
	const Postern__V1__SiteAndContentRule *message, struct document_rule *rule)
{
	const struct common common = COMMON_OF(message);
	rule->type = RULE_TYPE_SITE_AND_CONTENT;
	enum status status = build_common(build, &common, rule);
	if (!status)
		status = build_addresses(build, "destinations", message->destinations,
			message->n_destinations, &build->destination_sets, "a destination set",
			&rule->destinations);
	if (!status)
		status = build_addresses(build, "destinations_except", message->destinations_except,
			message->n_destinations_except, &build->destination_sets,
			"a destination set", &rule->destinations_except);
	if (!status)
		status =
			build_ports(build, "ports", message->ports, message->n_ports, &rule->ports);
	return status;
}

static enum status build_protocol_rules(struct build *build, struct names *names)
{
	const Postern__V1__PolicyDocument *message = build->message;
	struct document *document = build->document;
	enum status status = STATUS_OK;
	if (!names_init(names, build->arena, message->n_protocol_rules))
		return build_memory(build);
	for (size_t i = 0; i < message->n_protocol_rules && !status; i++) {
		status = build_name(
			build, "protocol_rules", i, message->protocol_rules[i]->name, names);
		document->rule_count++;
		if (!status)
			status = build_protocol_rule(
				build, message->protocol_rules[i], &document->rules[i]);
	}
	return status;
}

static enum status build_site_rules(struct build *build, struct names *names)
{
	const Postern__V1__PolicyDocument *message = build->message;
	struct document *document = build->document;
	struct document_rule *rules = document->rules + message->n_protocol_rules;
	enum status status = STATUS_OK;
	if (!names_init(names, build->arena, message->n_site_and_content_rules))
		return build_memory(build);
	for (size_t i = 0; i < message->n_site_and_content_rules && !status; i++) {
		status = build_name(build, "site_and_content_rules", i,
			message->site_and_content_rules[i]->name, names);
		document->rule_count++;
		if (!status)
			status = build_site_rule(
				build, message->site_and_content_rules[i], &rules[i]);
	}
	return status;
}

enum status build_rules(struct build *build)
{
	struct names names[2];
	memset(names, 0, sizeof names);
	build->document->protocol_rule_count = build->message->n_protocol_rules;
	enum status status = build_protocol_rules(build, &names[0]);
	if (!status)
		status = build_site_rules(build, &names[1]);
	names_fini(&names[0]);
	names_fini(&names[1]);
	return status;
}
