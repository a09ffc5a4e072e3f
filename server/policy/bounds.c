#include "server/policy/bounds.h"

#include "server/document/document.h"
#include "server/policy/network.h"

#define LOW_PORTS 1024
/* Of the peer's network: what one customer or one site commonly has. */
#define PEER_BITS_IPV4 24
#define PEER_BITS_IPV6 64

const char *remote_scope_name(enum remote_scope scope)
{
	switch (scope) {
	case REMOTE_ANY:
		return "any";
	case REMOTE_PEER:
		return "peer";
	case REMOTE_PEER_NETWORK:
		return "peer-network";
	}
	return "unknown";
}

/* ---- ports ---- */

static enum status check_low(
	const struct protocol_record *protocol, const char *field, uint16_t port, struct error *err)
{
	if (port == 0 || port >= LOW_PORTS || protocol->low_ports)
		return STATUS_OK;
	return error_field(err, field,
		"%s: %u: grants of protocol %s may not name ports below %d: its definition lacks "
		"low_ports",
		field, port, protocol->name, LOW_PORTS);
}

static enum status check_ports(
	const struct protocol_record *protocol, const struct grant_record *grant, struct error *err)
{
	enum status status;
	if (!grant->inbound)
		return check_low(protocol, "remote_port", grant->remote.port, err);
	status = check_low(protocol, "client_port", grant->client_port, err);
	return status ? status : check_low(protocol, "external_port", grant->external.port, err);
}

static enum status check_range(
	const struct protocol_record *protocol, const struct grant_record *grant, struct error *err)
{
	unsigned first = grant->remote.port, last = grant->remote_port_last;
	unsigned most = protocol->max_ports > 1 ? protocol->max_ports : 1;
	if (last == 0)
		return STATUS_OK;
	if (last < first)
		return error_field(err, "remote_port_last",
			"remote_port_last: %u is below remote_port %u", last, first);
	if (last - first < most)
		return STATUS_OK;
	if (most == 1)
		return error_field(err, "remote_port_last",
			"remote_port_last: %u ports from %u on: grants of protocol %s are for one "
			"port: its definition lacks max_ports",
			last - first + 1, first, protocol->name);
	return error_field(err, "remote_port_last",
		"remote_port_last: %u ports from %u on: grants of protocol %s are for %u at most, "
		"its max_ports",
		last - first + 1, first, protocol->name, most);
}

/* ---- remotes ---- */

static enum status check_remote(const struct protocol_record *protocol,
	const struct network *allowed, const struct addr *remote, const char *field,
	struct error *err)
{
	char text[ADDR_TEXT_SIZE], network[NETWORK_TEXT_SIZE];
	if (network_contains(allowed, remote))
		return STATUS_OK;
	addr_format(remote, text);
	network_format(allowed, network);
	return error_field(err, field,
		"%s: %s: grants of protocol %s are for %s, the %s of the session's primary "
		"connection",
		field, text, protocol->name, network,
		protocol->remote_scope == REMOTE_PEER ? "peer" : "peer's network");
}

static struct network allowed_remotes(
	const struct protocol_record *protocol, const struct addr *peer)
{
	if (protocol->remote_scope == REMOTE_PEER)
		return network_of(peer, (uint8_t)(addr_length(peer) * 8));
	return network_of(peer, peer->family == ADDR_IPV4 ? PEER_BITS_IPV4 : PEER_BITS_IPV6);
}

static enum status check_remotes(const struct protocol_record *protocol, const struct flow *primary,
	const struct grant_record *grant, struct error *err)
{
	enum status status = STATUS_OK;
	if (protocol->remote_scope == REMOTE_ANY)
		return STATUS_OK;
	if (!primary || !primary->transport)
		return error_field(err, "session",
			"session: grants of protocol %s are for the peer of a session's primary "
			"connection: open a session with its primary connection and name it",
			protocol->name);
	struct network allowed = allowed_remotes(protocol, &primary->remote.addr);
	for (size_t i = 0; i < grant->remote_count && !status; i++)
		status = check_remote(protocol, &allowed, &grant->remotes[i], "remotes", err);
	if (status || grant->remote_count > 0)
		return status;
	if (grant->remote.addr.family != ADDR_NONE)
		return check_remote(protocol, &allowed, &grant->remote.addr, "remote", err);
	return error_field(err, "remote",
		"remote: grants of protocol %s are not for anybody: name the peer of the session's "
		"primary connection",
		protocol->name);
}

/* ---- what the policy document's definition says of ports and remotes ---- */

static enum status check_secondary_ports(
	const struct protocol_record *protocol, const struct grant_record *grant, struct error *err)
{
	const struct ports *ports = &protocol->secondary->ports;
	uint16_t first = grant->inbound ? grant->client_port : grant->remote.port;
	uint16_t last =
		!grant->inbound && grant->remote_port_last ? grant->remote_port_last : first;
	const char *field = grant->inbound ? "client_port" : "remote_port";
	if (ports->count == 0 || ports_cover(ports, first, last))
		return STATUS_OK;
	return error_field(err, field,
		"%s: %u%s is outside of what grants of protocol %s may name, its secondary_ports",
		field, last == first ? first : last, last == first ? "" : ", the end of the range,",
		protocol->name);
}

static enum status check_secondary_remote(const struct protocol_record *protocol,
	const struct addr *remote, const char *field, struct error *err)
{
	char text[ADDR_TEXT_SIZE];
	if (ranges_contain(&protocol->secondary->addresses, remote))
		return STATUS_OK;
	addr_format(remote, text);
	return error_field(err, field,
		"%s: %s is outside of what grants of protocol %s may name, its "
		"secondary_addresses",
		field, text, protocol->name);
}

static enum status check_secondary(
	const struct protocol_record *protocol, const struct grant_record *grant, struct error *err)
{
	if (!protocol->secondary)
		return STATUS_OK;
	enum status status = check_secondary_ports(protocol, grant, err);
	if (status || ranges_is_empty(&protocol->secondary->addresses))
		return status;
	for (size_t i = 0; i < grant->remote_count && !status; i++)
		status = check_secondary_remote(protocol, &grant->remotes[i], "remotes", err);
	if (status || grant->remote_count > 0)
		return status;
	if (grant->remote.addr.family != ADDR_NONE)
		return check_secondary_remote(protocol, &grant->remote.addr, "remote", err);
	return error_field(err, "remote",
		"remote: grants of protocol %s are not for anybody: name a remote of its "
		"secondary_addresses",
		protocol->name);
}

enum status bounds_check(const struct protocol_record *protocol, const struct flow *primary,
	const struct grant_record *grant, struct error *err)
{
	enum status status = check_ports(protocol, grant, err);
	if (!status)
		status = check_range(protocol, grant, err);
	if (!status)
		status = check_secondary(protocol, grant, err);
	return status ? status : check_remotes(protocol, primary, grant, err);
}
