/* External addresses against this host's own: loopback addresses are its own in every namespace. */
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/caps.h"
#include "agent/external.h"

static struct door_failure failure;

static struct door door(const char *outside, uint16_t port, uint8_t nat, uint8_t transport)
{
	struct door door = {.nat = nat, .transport = transport};
	cr_assert(addr_parse(outside, &door.outside.addr));
	door.outside.port = port;
	door.grant.bytes[0] = 1;
	memset(&failure, 0, sizeof failure);
	return door;
}

/* IPv4 by an IPv6 socket, as programs with one socket for both have it. */
static socklen_t map(struct sockaddr_storage *sa)
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	memcpy(&v4, sa, sizeof v4);
	v6.sin6_port = v4.sin_port;
	v6.sin6_addr.s6_addr[10] = v6.sin6_addr.s6_addr[11] = 0xff;
	memcpy(v6.sin6_addr.s6_addr + 12, &v4.sin_addr, 4);
	memcpy(sa, &v6, sizeof v6);
	return sizeof v6;
}

/* A socket of ours; on a port that was asked for, or any: the one it got. */
static int take(const char *address, uint8_t transport, bool v6only, uint16_t *ret_port)
{
	struct endpoint endpoint = {.port = *ret_port};
	struct sockaddr_storage sa;
	cr_assert(addr_parse(address, &endpoint.addr));
	socklen_t size = (socklen_t)endpoint_to_sockaddr(&endpoint, &sa);
	if (strncmp(address, "::ffff:", 7) == 0)
		size = map(&sa);
	int fd = socket(sa.ss_family, transport == IPPROTO_TCP ? SOCK_STREAM : SOCK_DGRAM, 0);
	int only = v6only;
	cr_assert_geq(fd, 0);
	if (sa.ss_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
	cr_assert_eq(bind(fd, (struct sockaddr *)&sa, size), 0, "%s", strerror(errno));
	if (transport == IPPROTO_TCP)
		cr_assert_eq(listen(fd, 5), 0);
	size = sizeof sa;
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&sa, &size), 0);
	cr_assert(endpoint_from_sockaddr((struct sockaddr *)&sa, &endpoint));
	*ret_port = endpoint.port;
	return fd;
}

Test(external, an_address_of_another_is_refused)
{
	static const char *const others[] = {"192.0.2.1", "2001:db8::1"};
	for (size_t i = 0; i < 2; i++) {
		struct door one = door(others[i], 0, DOOR_SNAT, IPPROTO_TCP);
		cr_assert_not(external_is_free(&one, &failure));
		cr_assert_not_null(
			strstr(failure.cause, "gateway does not own"), "%s", failure.cause);
		cr_assert_not_null(strstr(failure.cause, others[i]), "%s", failure.cause);
		cr_assert_not_null(strstr(failure.cause, ": it has "), "%s", failure.cause);
		cr_assert_not(failure.external_taken, "no other port would do");
		cr_assert_eq(failure.grant.bytes[0], 1);
	}
}

Test(external, its_own_are_free)
{
	static const char *const own[] = {"127.0.0.1", "127.9.9.9", "::1"};
	for (size_t i = 0; i < 3; i++) {
		struct door one = door(own[i], 0, DOOR_SNAT, IPPROTO_TCP);
		cr_assert(external_is_free(&one, &failure), "%s: %s", own[i], failure.cause);
	}
	struct door plain = door("192.0.2.1", 0, DOOR_AS_IS, IPPROTO_TCP);
	cr_assert(external_is_free(&plain, &failure), "not translated");
}

static const struct {
	const char *program, *outside;
	bool v6only, is_taken;
} rows[] = {
	{"127.0.0.1", "127.0.0.1", false, true},
	{"127.0.0.1", "127.0.0.2", false, false},
	{"0.0.0.0", "127.0.0.2", false, true},
	{"::", "127.0.0.2", false, true},
	{"::", "127.0.0.2", true, false},
	{"::ffff:127.0.0.2", "127.0.0.2", false, true},
	{"::1", "::1", false, true},
	{"::", "::1", true, true},
	{"0.0.0.0", "::1", false, false},
};
#define ROWS (sizeof rows / sizeof *rows)

static const uint8_t transports[] = {IPPROTO_TCP, IPPROTO_UDP};

Test(external, ports_of_programs_are_taken)
{
	for (size_t i = 0; i < 2 * ROWS; i++) {
		uint8_t transport = transports[i % 2];
		uint16_t port = 0;
		int fd = take(rows[i / 2].program, transport, rows[i / 2].v6only, &port);
		struct door one = door(rows[i / 2].outside, port, DOOR_DNAT, transport);
		bool is_free = external_is_free(&one, &failure);
		cr_assert_eq(is_free, !rows[i / 2].is_taken, "row %zu: %s", i, failure.cause);
		cr_assert_eq(failure.external_taken, rows[i / 2].is_taken);
		/* A source port is no listener's. */
		one = door(rows[i / 2].outside, port, DOOR_SNAT, transport);
		cr_assert(external_is_free(&one, &failure));
		close(fd);
		one = door(rows[i / 2].outside, port, DOOR_DNAT, transport);
		cr_assert(external_is_free(&one, &failure), "the probe itself leaves nothing");
	}
}

Test(external, the_other_transport_has_ports_of_its_own)
{
	uint16_t port = 0;
	int fd = take("127.0.0.3", IPPROTO_TCP, false, &port);
	struct door one = door("127.0.0.3", port, DOOR_DNAT, IPPROTO_UDP);
	cr_assert(external_is_free(&one, &failure));
	close(fd);
}

/* Low ports cannot be bound with the agent's one capability; they are known all the same. */
Test(external, low_ports_are_looked_up)
{
	int fds[2 * ROWS];
	struct error err;
	if (geteuid() != 0)
		cr_skip_test("only root can take low ports");
	/* Ports nobody uses: 700 and up, each row its own. */
	for (size_t i = 0; i < 2 * ROWS; i++) {
		uint16_t port = (uint16_t)(700 + i);
		fds[i] = take(rows[i / 2].program, transports[i % 2], rows[i / 2].v6only, &port);
	}
	cr_assert_eq(caps_drop(NULL, &err), STATUS_OK, "%s", err.text);
	for (size_t i = 0; i < 2 * ROWS; i++) {
		struct door one = door(
			rows[i / 2].outside, (uint16_t)(700 + i), DOOR_DNAT, transports[i % 2]);
		cr_assert_eq(external_is_free(&one, &failure), !rows[i / 2].is_taken, "row %zu: %s",
			i, failure.cause);
		close(fds[i]);
	}
}
