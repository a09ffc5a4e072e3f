/* Grants against their protocol definition: tables over IPv4 and IPv6, outbound and inbound. */
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "server/document/document.h"
#include "server/policy/bounds.h"

static struct addr addr_of(const char *text)
{
	struct addr addr = {0};
	if (text[0])
		cr_assert(addr_parse(text, &addr), "%s", text);
	return addr;
}

static void expect(const char *what, size_t row, enum status status, const struct error *err,
	const char *field, const char *words)
{
	cr_expect_eq(status, field ? STATUS_INVALID_ARGUMENT : STATUS_OK, "%s, row %zu: %s", what,
		row, err->text);
	cr_expect_str_eq(err->field, field ? field : "", "%s, row %zu", what, row);
	if (field && words)
		cr_expect(strstr(err->text, words), "%s, row %zu: %s", what, row, err->text);
}

Test(bounds, ports)
{
	static const struct {
		bool inbound, low_ports;
		uint16_t remote, client, external, last, max_ports;
		const char *field, *words; /* NULL = allowed */
	} rows[] = {
		{false, false, 1024, 0, 0, 0, 0, NULL, NULL},
		{false, false, 65535, 0, 0, 0, 0, NULL, NULL},
		{false, false, 1023, 0, 0, 0, 0, "remote_port", "1023: grants of protocol ftp"},
		{false, false, 1, 0, 0, 0, 0, "remote_port", "low_ports"},
		{false, true, 1, 0, 0, 0, 0, NULL, NULL},
		/* The source port that an outbound flow leaves with opens nothing. */
		{false, false, 2000, 0, 20, 0, 0, NULL, NULL},
		{true, false, 0, 1024, 1024, 0, 0, NULL, NULL},
		{true, false, 0, 1024, 0, 0, 0, NULL, NULL},
		{true, false, 0, 22, 2022, 0, 0, "client_port", "22: grants"},
		{true, false, 0, 2022, 22, 0, 0, "external_port", "22: grants"},
		{true, true, 0, 22, 22, 0, 0, NULL, NULL},
		/* ranges */
		{false, false, 5000, 0, 0, 5000, 0, NULL, NULL},
		{false, false, 5000, 0, 0, 5001, 0, "remote_port_last", "2 ports from 5000 on"},
		{false, false, 5000, 0, 0, 5001, 1, "remote_port_last", "max_ports"},
		{false, false, 5000, 0, 0, 5001, 2, NULL, NULL},
		{false, false, 5000, 0, 0, 5002, 2, "remote_port_last", "for 2 at most"},
		{false, false, 5000, 0, 0, 6023, 1024, NULL, NULL},
		{false, false, 5000, 0, 0, 6024, 1024, "remote_port_last", "1025 ports"},
		{false, false, 5000, 0, 0, 4999, 1024, "remote_port_last", "below remote_port"},
		{false, false, 1023, 0, 0, 1024, 1024, "remote_port", NULL},
		{false, true, 1, 0, 0, 65535, 1024, "remote_port_last", "65535 ports"},
		{false, true, 64512, 0, 0, 65535, 1024, NULL, NULL},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct protocol_record protocol = {.name = "ftp",
			.low_ports = rows[i].low_ports,
			.max_ports = rows[i].max_ports};
		struct grant_record grant = {.inbound = rows[i].inbound,
			.client = addr_of("10.77.1.2"),
			.client_port = rows[i].client,
			.remote = {addr_of("10.77.2.2"), rows[i].remote},
			.remote_port_last = rows[i].last,
			.external.port = rows[i].external};
		struct error err = {0};
		enum status status = bounds_check(&protocol, NULL, &grant, &err);
		expect("ports", i, status, &err, rows[i].field, rows[i].words);
	}
}

Test(bounds, remotes)
{
	static const struct {
		enum remote_scope scope;
		bool inbound;
		const char *peer; /* "" = no primary connection */
		const char *remote, *several[3]; /* "" = anybody, or several */
		const char *field, *words;
	} rows[] = {
		{REMOTE_ANY, false, "", "198.51.100.7", {0}, NULL, NULL},
		{REMOTE_ANY, false, "203.0.113.1", "198.51.100.7", {0}, NULL, NULL},
		{REMOTE_ANY, true, "", "", {0}, NULL, NULL},
		{REMOTE_PEER, false, "", "198.51.100.7", {0}, "session", "open a session"},
		{REMOTE_PEER_NETWORK, true, "", "198.51.100.7", {0}, "session", "open a session"},
		{REMOTE_PEER, false, "198.51.100.7", "198.51.100.7", {0}, NULL, NULL},
		{REMOTE_PEER, false, "198.51.100.7", "198.51.100.8", {0}, "remote",
			"198.51.100.8: grants of protocol ftp are for 198.51.100.7/32, the peer"},
		{REMOTE_PEER, false, "198.51.100.7", "fd77:2::7", {0}, "remote", NULL},
		{REMOTE_PEER, false, "fd77:2::7", "fd77:2::7", {0}, NULL, NULL},
		{REMOTE_PEER, false, "fd77:2::7", "fd77:2::8", {0}, "remote", "fd77:2::7/128"},
		{REMOTE_PEER_NETWORK, false, "198.51.100.7", "198.51.100.255", {0}, NULL, NULL},
		{REMOTE_PEER_NETWORK, false, "198.51.100.7", "198.51.101.7", {0}, "remote",
			"198.51.100.0/24, the peer's network"},
		{REMOTE_PEER_NETWORK, false, "fd77:2::7", "fd77:2:0:0:ffff::1", {0}, NULL, NULL},
		{REMOTE_PEER_NETWORK, false, "fd77:2::7", "fd77:2:0:1::7", {0}, "remote",
			"fd77:2::/64"},
		{REMOTE_PEER, true, "198.51.100.7", "198.51.100.7", {0}, NULL, NULL},
		{REMOTE_PEER, true, "198.51.100.7", "198.51.100.8", {0}, "remote", NULL},
		{REMOTE_PEER, true, "198.51.100.7", "", {0}, "remote", "anybody"},
		{REMOTE_PEER_NETWORK, true, "fd77:2::7", "", {0}, "remote", "anybody"},
		{REMOTE_PEER, true, "198.51.100.7", "", {"198.51.100.7"}, NULL, NULL},
		{REMOTE_PEER, true, "198.51.100.7", "", {"198.51.100.7", "198.51.100.8"}, "remotes",
			"198.51.100.8"},
		{REMOTE_PEER_NETWORK, true, "198.51.100.7", "",
			{"198.51.100.1", "198.51.100.2", "198.51.100.3"}, NULL, NULL},
		{REMOTE_PEER_NETWORK, true, "198.51.100.7", "",
			{"198.51.100.1", "198.51.100.2", "203.0.113.3"}, "remotes", "203.0.113.3"},
		{REMOTE_PEER_NETWORK, true, "fd77:2::7", "", {"fd77:2::1", "fd77:2:1::1"},
			"remotes", "fd77:2:1::1"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct protocol_record protocol = {
			.name = "ftp", .remote_scope = (uint8_t)rows[i].scope};
		struct flow primary = {.remote = {addr_of(rows[i].peer), 21},
			.transport = rows[i].peer[0] ? IPPROTO_TCP : 0};
		struct addr several[3];
		struct grant_record grant = {.inbound = rows[i].inbound,
			.client_port = 5000,
			.remote = {addr_of(rows[i].remote), rows[i].inbound ? 0 : 5000},
			.remotes = several};
		struct error err = {0};
		while (grant.remote_count < 3 && rows[i].several[grant.remote_count]) {
			several[grant.remote_count] = addr_of(rows[i].several[grant.remote_count]);
			grant.remote_count++;
		}
		enum status status = bounds_check(&protocol, &primary, &grant, &err);
		expect("remotes", i, status, &err, rows[i].field, rows[i].words);
		if (!rows[i].peer[0]) {
			status = bounds_check(&protocol, NULL, &grant, &err);
			expect("no session", i, status, &err, rows[i].field, rows[i].words);
		}
	}
}

/* What the policy document's definition bounds: ports that are connected to, and remotes. */
Test(bounds, secondary)
{
	static const struct {
		bool inbound, has_ports, has_addresses;
		const char *remote, *several[2];
		uint16_t port, last;
		const char *field, *words;
	} rows[] = {
		{false, true, false, "203.0.113.1", {0}, 5000, 0, NULL, NULL},
		{false, true, false, "203.0.113.1", {0}, 5009, 0, NULL, NULL},
		{false, true, false, "203.0.113.1", {0}, 4999, 0, "remote_port", "secondary_ports"},
		{false, true, false, "203.0.113.1", {0}, 5010, 0, "remote_port", "5010"},
		{false, true, false, "203.0.113.1", {0}, 5000, 5009, NULL, NULL},
		{false, true, false, "203.0.113.1", {0}, 5005, 5010, "remote_port", "5010"},
		{true, true, false, "", {0}, 5000, 0, NULL, NULL},
		{true, true, false, "", {0}, 5010, 0, "client_port", "secondary_ports"},
		{false, false, true, "198.51.100.7", {0}, 80, 0, NULL, NULL},
		{false, false, true, "fd77::7", {0}, 80, 0, NULL, NULL},
		{false, false, true, "198.51.101.7", {0}, 80, 0, "remote", "secondary_addresses"},
		{false, false, true, "fd78::7", {0}, 80, 0, "remote", "secondary_addresses"},
		{true, false, true, "", {0}, 80, 0, "remote", "anybody"},
		{true, false, true, "198.51.100.7", {0}, 80, 0, NULL, NULL},
		{true, false, true, "", {"198.51.100.7", "198.51.100.8"}, 80, 0, NULL, NULL},
		{true, false, true, "", {"198.51.100.7", "203.0.113.1"}, 80, 0, "remotes",
			"203.0.113.1"},
		{true, false, true, "", {"fd77::7", "fd78::7"}, 80, 0, "remotes", "fd78::7"},
		{false, true, true, "203.0.113.1", {0}, 5000, 0, "remote", NULL},
	};
	static const char *const ports[] = {"5000-5009"};
	struct error err = {0};
	size_t bad;
	struct ports port_bounds;
	struct ranges address_bounds = {0};
	cr_assert_eq(ports_parse(ports, 1, &port_bounds, &bad, &err), STATUS_OK);
	cr_assert_eq(ranges_add_text(&address_bounds, "198.51.100.0/24", &err), STATUS_OK);
	cr_assert_eq(ranges_add_text(&address_bounds, "fd77::/32", &err), STATUS_OK);
	ranges_normalize(&address_bounds);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct secondary_bounds bounds = {0};
		if (rows[i].has_ports)
			bounds.ports = port_bounds;
		if (rows[i].has_addresses)
			bounds.addresses = address_bounds;
		struct protocol_record protocol = {
			.name = "ftp", .max_ports = 1024, .low_ports = true, .secondary = &bounds};
		struct addr several[2];
		struct grant_record grant = {.inbound = rows[i].inbound,
			.client_port = rows[i].inbound ? rows[i].port : 0,
			.remote = {addr_of(rows[i].remote), rows[i].inbound ? 0 : rows[i].port},
			.remote_port_last = rows[i].last,
			.remotes = several};
		while (grant.remote_count < 2 && rows[i].several[grant.remote_count]) {
			several[grant.remote_count] = addr_of(rows[i].several[grant.remote_count]);
			grant.remote_count++;
		}
		err = (struct error){0};
		enum status status = bounds_check(&protocol, NULL, &grant, &err);
		expect("secondary", i, status, &err, rows[i].field, rows[i].words);
	}
	ports_fini(&port_bounds);
	ranges_fini(&address_bounds);
}
