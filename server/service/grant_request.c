/* Requests as messages, and as the core takes them. */
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "server/core/bundle.h"
#include "server/service/grants.h"

static bool parse_optional_id(const char *text, struct id *ret_id)
{
	return text[0] == '\0' || id_parse(text, ret_id);
}

static bool parse_optional_addr(const char *text, struct addr *ret_addr)
{
	return text[0] == '\0' || addr_parse(text, ret_addr);
}

enum waiter_until until_from_wire(Postern__V1__Wait wait)
{
	return wait == POSTERN__V1__WAIT__WAIT_DECIDED ? UNTIL_DECIDED : UNTIL_INSTALLED;
}

static enum status parse_port(
	uint32_t number, const char *field, uint16_t *ret_port, struct error *err)
{
	if (number > UINT16_MAX)
		return error_field(err, field, "%s: %u is not a port", field, number);
	*ret_port = (uint16_t)number;
	return STATUS_OK;
}

static enum status parse_ports(
	const Postern__V1__GrantRequest *input, struct grant_record *record, struct error *err)
{
	enum status status =
		parse_port(input->remote_port, "remote_port", &record->remote.port, err);
	if (!status)
		status = parse_port(
			input->external_port, "external_port", &record->external.port, err);
	if (!status)
		status = parse_port(input->client_port, "client_port", &record->client_port, err);
	if (!status)
		status = parse_port(input->remote_port_last, "remote_port_last",
			&record->remote_port_last, err);
	return status;
}

static enum status parse_remotes(
	const Postern__V1__GrantRequest *input, struct grant_ask *ask, struct error *err)
{
	bool optional = input->direction == POSTERN__V1__DIRECTION__DIRECTION_INBOUND;
	if ((!optional || input->remote[0]) && !addr_parse(input->remote, &ask->record.remote.addr))
		return error_field(err, "remote",
			"remote: \"%.60s\" is not an IPv4 or IPv6 address", input->remote);
	if (input->n_remotes > ENTRY_REMOTES_MAX)
		return error_field(err, "remotes", "remotes: %zu addresses, at most %d",
			input->n_remotes, ENTRY_REMOTES_MAX);
	for (size_t i = 0; i < input->n_remotes; i++)
		if (!addr_parse(input->remotes[i], &ask->remotes[i]))
			return error_field(err, "remotes",
				"remotes: \"%.60s\" is not an IPv4 or IPv6 address",
				input->remotes[i]);
	ask->record.remotes = ask->remotes;
	ask->record.remote_count = input->n_remotes;
	return STATUS_OK;
}

static enum status parse_addresses(
	const Postern__V1__GrantRequest *input, struct grant_ask *ask, struct error *err)
{
	struct grant_record *record = &ask->record;
	if (input->client[0] == '\0' && input->session[0] == '\0')
		return error_field(err, "client", "client: give a client address or a session");
	if (!parse_optional_addr(input->client, &record->client))
		return error_field(err, "client",
			"client: \"%.60s\" is not an IPv4 or IPv6 address", input->client);
	if (!parse_optional_addr(input->external, &record->external.addr))
		return error_field(err, "external",
			"external: \"%.60s\" is not an IPv4 or IPv6 address", input->external);
	enum status status = parse_remotes(input, ask, err);
	return status ? status : parse_ports(input, record, err);
}

enum status grant_ask_from_wire(
	const Postern__V1__GrantRequest *input, struct grant_ask *ask, struct error *err)
{
	struct grant_record *record = &ask->record;
	if (!copy_text(record->gateway, sizeof record->gateway, input->gateway))
		return error_field(err, "gateway", "gateway: the name is too long");
	if (!parse_optional_id(input->session, &record->session))
		return error_field(
			err, "session", "session: \"%.60s\" is not a UUID", input->session);
	if (!parse_optional_id(input->request_id, &record->request_id))
		return error_field(err, "request_id", "request_id: \"%.60s\" is not a UUID",
			input->request_id);
	if (input->direction != POSTERN__V1__DIRECTION__DIRECTION_OUTBOUND &&
		input->direction != POSTERN__V1__DIRECTION__DIRECTION_INBOUND)
		return error_field(err, "direction", "direction: outbound or inbound");
	enum status status = parse_addresses(input, ask, err);
	if (status)
		return status;
	if (input->context.len > ENTRY_CONTEXT_MAX)
		return error_field(err, "context", "context: %zu bytes, at most %d",
			input->context.len, ENTRY_CONTEXT_MAX);
	if (input->protocol[0] == '\0')
		return error_field(
			err, "protocol", "protocol: name a registered protocol definition");
	if (input->lifetime_ms > LIFETIME_MAX_MS)
		return error_field(err, "lifetime_ms", "lifetime_ms: at most 366 days");
	if (input->transport != POSTERN__V1__TRANSPORT__TRANSPORT_TCP &&
		input->transport != POSTERN__V1__TRANSPORT__TRANSPORT_UDP)
		return error_field(err, "transport", "transport: tcp or udp");
	record->inbound = input->direction == POSTERN__V1__DIRECTION__DIRECTION_INBOUND;
	record->transport = (uint8_t)input->transport;
	record->flags = input->flags;
	record->notify = input->notify;
	record->context = input->context.data;
	record->context_size = input->context.len;
	record->lifetime_ms = input->lifetime_ms;
	record->max_connections = input->max_connections;
	ask->protocol = input->protocol;
	ask->reserve = input->reserve;
	ask->reservation_ms = input->reservation_ms;
	ask->until = input->reserve ? UNTIL_DECIDED : until_from_wire(input->wait);
	return STATUS_OK;
}

static enum status parse_member(const Postern__V1__GrantRequest *input, Postern__V1__Wait wait,
	struct grant_ask *ask, struct error *err)
{
	if (input->request_id[0])
		return error_field(err, "request_id",
			"request_id: a bundle has one id for all, `bundle`: leave it out");
	if (input->reserve)
		return error_field(
			err, "reserve", "reserve: a bundle opens at once: reserve single grants");
	enum status status = grant_ask_from_wire(input, ask, err);
	ask->until = until_from_wire(wait);
	return status;
}

struct grant_ask *bundle_asks_from_wire(
	const Postern__V1__BundleRequest *input, const struct grant_ask *asker, struct error *err)
{
	size_t count = input->n_grants;
	if (count == 0 || count > BUNDLE_MAX) {
		error_field(err, "grants", "grants: 1 to %d, not %zu", BUNDLE_MAX, count);
		return NULL;
	}
	struct grant_ask *asks = calloc(count, sizeof *asks);
	if (!asks) {
		error_set(err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
		return NULL;
	}
	for (size_t i = 0; i < count; i++) {
		asks[i] = *asker;
		if (!parse_member(input->grants[i], input->wait, &asks[i], err))
			continue;
		bundle_name_member(err, i);
		free(asks);
		return NULL;
	}
	return asks;
}

struct grant_ask grant_ask_of(struct core *core, const struct rpc_call *call)
{
	const struct rpc_principal *caller = rpc_call_principal(call);
	struct grant_ask ask = {.began_us = clock_mono_us(),
		.deadline_us = rpc_call_deadline(call),
		.is_admin = is_admin(call)};
	if (!ask.is_admin)
		ask.asker = principals_find(&core->principals, caller->name);
	copy_text(ask.record.filter, sizeof ask.record.filter, caller->name);
	return ask;
}
