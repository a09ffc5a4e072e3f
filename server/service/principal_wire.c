#include "server/service/principal_wire.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "server/core/revision.h"
#include "server/fleet/gateway.h"
#include "server/service/service.h"

static char **list_to_wire(const char *text, struct list_wire *wire, size_t *ret_count)
{
	size_t count = 0;
	copy_text(wire->text, sizeof wire->text, text);
	for (char *at = wire->text; *at;) {
		wire->items[count++] = at;
		at += strcspn(at, ",");
		if (*at)
			*at++ = '\0';
	}
	*ret_count = count;
	return wire->items;
}

void principal_to_wire(
	const struct principal_record *record, uint64_t live_grants, struct principal_wire *wire)
{
	Postern__V1__Principal *message = &wire->message;
	postern__v1__principal__init(message);
	message->name = wire_text(record->name);
	message->role = wire_text(rpc_role_name((enum rpc_role)record->role));
	message->max_grants = record->max_grants;
	message->added_us = record->added_us;
	message->live_grants = live_grants;
	message->grants_per_second = record->grants_per_second;
	message->max_lifetime_ms = record->max_lifetime_ms;
	message->gateways = list_to_wire(record->gateways, &wire->gateways, &message->n_gateways);
	message->clients = list_to_wire(record->clients, &wire->clients, &message->n_clients);
	message->destinations =
		list_to_wire(record->destinations, &wire->destinations, &message->n_destinations);
	message->protocols =
		list_to_wire(record->protocols, &wire->protocols, &message->n_protocols);
}

static void add(char *text, size_t size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void add(char *text, size_t size, const char *format, ...)
{
	size_t used = strlen(text);
	va_list args;
	va_start(args, format);
	vsnprintf(text + used, size - used, format, args);
	va_end(args);
}

void principal_describe(const struct principal_record *record, char *text, size_t size)
{
	const struct {
		const char *name, *value;
	} lists[] = {{"gateways", record->gateways}, {"clients", record->clients},
		{"destinations", record->destinations}, {"protocols", record->protocols}};
	const struct {
		const char *name;
		uint64_t value;
	} limits[] = {{"max_grants", record->max_grants},
		{"grants_per_second", record->grants_per_second},
		{"max_lifetime_ms", record->max_lifetime_ms}};
	snprintf(text, size, "%s %s", rpc_role_name((enum rpc_role)record->role), record->name);
	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
		if (limits[i].value)
			add(text, size, "; %s %llu", limits[i].name,
				(unsigned long long)limits[i].value);
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
		if (lists[i].value[0])
			add(text, size, "; %s %s", lists[i].name, lists[i].value);
}

/* The piece behind those that the list has; its text has no comma. */
static enum status append(
	char list[static RECORD_LIST_SIZE], const char *piece, const char *field, struct error *err)
{
	size_t used = strlen(list);
	int n = snprintf(list + used, RECORD_LIST_SIZE - used, "%s%s", used > 0 ? "," : "", piece);
	if ((size_t)n < RECORD_LIST_SIZE - used)
		return STATUS_OK;
	return error_field(err, field, "%s: too many at \"%.60s\": %d bytes of text in all", field,
		piece, RECORD_LIST_SIZE - 1);
}

static enum status parse_networks(char list[static RECORD_LIST_SIZE], char **texts, size_t count,
	const char *field, struct error *err)
{
	enum status status = STATUS_OK;
	for (size_t i = 0; i < count && !status; i++) {
		struct network network;
		char text[NETWORK_TEXT_SIZE];
		if (!network_parse(texts[i], &network))
			return error_field(err, field,
				"%s: \"%.60s\" is not a network: write ADDRESS/BITS, such as "
				"10.77.0.0/16 or fd77::/32",
				field, texts[i]);
		network_format(&network, text);
		status = append(list, text, field, err);
	}
	return status;
}

static enum status parse_gateways(const struct core *core, const Postern__V1__Principal *input,
	struct principal_record *record, struct error *err)
{
	enum status status = STATUS_OK;
	for (size_t i = 0; i < input->n_gateways && !status; i++) {
		if (!gateway_find(core, input->gateways[i]))
			return error_reason(err, STATUS_NOT_FOUND, REASON_NO_SUCH_GATEWAY,
				"gateways: \"%.60s\" is unknown: add it first", input->gateways[i]);
		status = append(record->gateways, input->gateways[i], "gateways", err);
	}
	return status;
}

static enum status parse_protocols(const struct core *core, const Postern__V1__Principal *input,
	struct principal_record *record, struct error *err)
{
	enum status status = STATUS_OK;
	for (size_t i = 0; i < input->n_protocols && !status; i++) {
		/* It may be the filter itself that registers it, later. */
		const struct protocol_record *known = core_find_protocol(core, input->protocols[i]);
		if (!known && !name_is_valid(input->protocols[i]))
			return error_field(err, "protocols",
				"protocols: \"%.60s\" is not the name of a protocol definition",
				input->protocols[i]);
		status = append(record->protocols, known ? known->name : input->protocols[i],
			"protocols", err);
	}
	return status;
}

static enum status parse_scope(const struct core *core, const Postern__V1__Principal *input,
	struct principal_record *record, struct error *err)
{
	enum status status = parse_gateways(core, input, record, err);
	if (!status)
		status = parse_networks(
			record->clients, input->clients, input->n_clients, "clients", err);
	if (!status)
		status = parse_networks(record->destinations, input->destinations,
			input->n_destinations, "destinations", err);
	if (!status)
		status = parse_protocols(core, input, record, err);
	if (status)
		return status;
	if (input->max_grants > INT64_MAX)
		return error_field(err, "max_grants", "max_grants: %llu: at most 2^63 - 1",
			(unsigned long long)input->max_grants);
	if (input->grants_per_second > SCOPE_MAX_RATE)
		return error_field(err, "grants_per_second", "grants_per_second: %llu: at most %d",
			(unsigned long long)input->grants_per_second, SCOPE_MAX_RATE);
	if (input->max_lifetime_ms > core->config->max_lifetime_ms)
		return error_field(err, "max_lifetime_ms",
			"max_lifetime_ms: %llu: longer than the server's max_lifetime of %llu ms",
			(unsigned long long)input->max_lifetime_ms,
			(unsigned long long)core->config->max_lifetime_ms);
	record->max_grants = input->max_grants;
	record->grants_per_second = input->grants_per_second;
	record->max_lifetime_ms = input->max_lifetime_ms;
	return STATUS_OK;
}

enum status principal_from_wire(const struct core *core, const Postern__V1__Principal *input,
	struct principal_record *record, struct error *err)
{
	enum rpc_role role;
	if (!name_is_valid(input->name))
		return error_field(err, "name",
			"name: \"%.70s\": use 1 to 63 of a-z 0-9 . _ -, beginning with a letter or "
			"digit",
			input->name);
	if (!rpc_role_parse(input->role, &role) || role == RPC_ROLE_AGENT)
		return error_field(err, "role",
			"role: \"%.20s\": filter, auditor or admin (agents come with `postern "
			"gateway add`)",
			input->role);
	if (principals_find(&core->principals, input->name))
		return error_set(err, STATUS_ALREADY_EXISTS, "name: \"%s\" is taken", input->name);
	copy_text(record->name, sizeof record->name, input->name);
	record->role = (uint8_t)role;
	enum status status = parse_scope(core, input, record, err);
	bool has_scope = record->gateways[0] || record->clients[0] || record->destinations[0] ||
		record->protocols[0] || record->max_grants || record->grants_per_second ||
		record->max_lifetime_ms;
	if (!status && has_scope && role != RPC_ROLE_FILTER)
		return error_field(err, "role",
			"role: \"%s\" has no scope: leave out gateways, clients, destinations, "
			"protocols and limits",
			input->role);
	return status;
}
