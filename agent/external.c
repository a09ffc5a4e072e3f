/* Design.
 *
 * Ownership is asked of the routing table: the route to an own address is of type local, at the
 * cost of one lookup, however many addresses there are. (A bind() alone would be fooled by
 * net.ipv4.ip_nonlocal_bind.)
 *
 * Ports are tried by bind(), which knows all that the kernel knows: other families' wildcard
 * sockets, devices, options. TCP is bound with SO_REUSEADDR, so that it fails for listeners and not
 * for what is left of old connections. Low ports need another capability than ours; for them the
 * sockets with that port are listed by netlink (sock_diag), and compared here. */
#include "agent/external.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "agent/host.h"

#define ANSWER_BYTES 16384
#define STATE_LISTEN 10 /* TCP_LISTEN: never renumbered, and glibc's header for it clashes */

/* ---- asking the kernel ---- */

/* -1: no netlink of this kind here. */
static int ask(int protocol, void *request, uint32_t size)
{
	const struct timeval limit = {.tv_sec = 5}; /* for what cannot happen */
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 &&
		send(fd, request, size, 0) == (ssize_t)size)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static ssize_t receive(int fd, void *bytes, size_t size)
{
	ssize_t got;
	do
		got = recv(fd, bytes, size, 0);
	while (got < 0 && errno == EINTR);
	return got;
}

struct route_request {
	struct nlmsghdr header;
	struct rtmsg route;
	struct rtattr attr;
	uint8_t address[16];
};

/* True: the answer is in. *ret_local says whether the address is one of ours. */
static bool ask_route(const struct addr *addr, bool *ret_local)
{
	uint8_t length = (uint8_t)addr_length(addr);
	struct route_request request = {
		.header = {.nlmsg_type = RTM_GETROUTE, .nlmsg_flags = NLM_F_REQUEST},
		.route = {.rtm_family = addr->family == ADDR_IPV6 ? AF_INET6 : AF_INET,
			.rtm_dst_len = (unsigned char)(length * 8)},
		.attr = {.rta_type = RTA_DST, .rta_len = (unsigned short)RTA_LENGTH(length)}};
	_Alignas(struct nlmsghdr) char bytes[ANSWER_BYTES];
	const struct nlmsghdr *answer = (const void *)bytes;
	request.header.nlmsg_len =
		(uint32_t)(offsetof(struct route_request, attr) + RTA_LENGTH(length));
	memcpy(request.address, addr->bytes, length);
	int fd = ask(NETLINK_ROUTE, &request, request.header.nlmsg_len);
	if (fd < 0)
		return false;
	ssize_t got = receive(fd, bytes, sizeof bytes);
	close(fd);
	if (got < (ssize_t)NLMSG_LENGTH(sizeof(struct rtmsg)))
		return false;
	/* An error: there is no route to it, so it is not ours. */
	*ret_local = answer->nlmsg_type == RTM_NEWROUTE &&
		((const struct rtmsg *)NLMSG_DATA(answer))->rtm_type == RTN_LOCAL;
	return true;
}

/* ---- sockets ---- */

enum occupancy { PORT_FREE, PORT_TAKEN, PORT_UNKNOWN };

static enum occupancy try_bind(const struct door *door)
{
	struct sockaddr_storage address;
	int type = door->transport == IPPROTO_TCP ? SOCK_STREAM : SOCK_DGRAM, one = 1;
	socklen_t size = (socklen_t)endpoint_to_sockaddr(&door->outside, &address);
	int fd = socket(address.ss_family, type | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return PORT_UNKNOWN;
	if (type == SOCK_STREAM)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	int rc = bind(fd, (struct sockaddr *)&address, size), cause = errno;
	close(fd);
	return rc == 0 ? PORT_FREE : cause == EADDRINUSE ? PORT_TAKEN : PORT_UNKNOWN;
}

static bool is_v6only(const struct inet_diag_msg *message, size_t size)
{
	const char *at = (const char *)(message + 1);
	size_t left = size - sizeof *message;
	struct rtattr attr;
	while (left >= sizeof attr) {
		memcpy(&attr, at, sizeof attr);
		if (attr.rta_len < sizeof attr || attr.rta_len > left)
			break;
		if (attr.rta_type == INET_DIAG_SKV6ONLY && attr.rta_len > sizeof attr)
			return at[sizeof attr] != 0;
		size_t step = RTA_ALIGN(attr.rta_len);
		at += step < left ? step : left;
		left -= step < left ? step : left;
	}
	return false;
}

/* Would this socket get what is sent to `outside`? */
static bool is_in_the_way(
	const struct inet_diag_msg *message, size_t size, const struct endpoint *outside)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	static const uint8_t none[16];
	const uint8_t *source = (const uint8_t *)message->id.idiag_src;
	bool ipv6 = message->idiag_family == AF_INET6;
	size_t length = ipv6 ? 16 : 4;
	if (ntohs(message->id.idiag_sport) != outside->port)
		return false;
	if (outside->addr.family == ADDR_IPV6)
		return ipv6 &&
			(memcmp(source, none, 16) == 0 ||
				memcmp(source, outside->addr.bytes, 16) == 0);
	if (ipv6 && memcmp(source, mapped, sizeof mapped) == 0)
		return memcmp(source + 12, outside->addr.bytes, 4) == 0;
	return memcmp(source, none, length) == 0
		? !ipv6 || !is_v6only(message, size)
		: !ipv6 && memcmp(source, outside->addr.bytes, 4) == 0;
}

/* One datagram of an answer. PORT_UNKNOWN: it has not ended yet. */
static enum occupancy scan(
	const char *bytes, size_t size, const struct endpoint *outside, bool *ret_failed)
{
	while (size >= sizeof(struct nlmsghdr)) {
		const struct nlmsghdr *at = (const void *)bytes;
		if (at->nlmsg_len < sizeof *at || at->nlmsg_len > size)
			break;
		if (at->nlmsg_type == NLMSG_DONE)
			return PORT_FREE;
		if (at->nlmsg_type == NLMSG_ERROR) {
			*ret_failed = true;
			return PORT_FREE;
		}
		size_t body = at->nlmsg_len - sizeof *at, step = NLMSG_ALIGN(at->nlmsg_len);
		if (body >= sizeof(struct inet_diag_msg) &&
			is_in_the_way(NLMSG_DATA(at), body, outside))
			return PORT_TAKEN;
		bytes += step < size ? step : size;
		size -= step < size ? step : size;
	}
	return PORT_UNKNOWN;
}

static enum occupancy list_sockets(const struct door *door, uint8_t family)
{
	struct {
		struct nlmsghdr header;
		struct inet_diag_req_v2 body;
	} request = {.header = {.nlmsg_len = sizeof request,
			     .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			     .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
		.body = {.sdiag_family = family,
			.sdiag_protocol = door->transport,
			.idiag_states =
				door->transport == IPPROTO_TCP ? 1U << STATE_LISTEN : UINT32_MAX,
			.id = {.idiag_sport = htons(door->outside.port)}}};
	_Alignas(struct nlmsghdr) char bytes[ANSWER_BYTES];
	int fd = ask(NETLINK_SOCK_DIAG, &request, sizeof request);
	bool failed = fd < 0;
	enum occupancy found = failed ? PORT_FREE : PORT_UNKNOWN;
	while (found == PORT_UNKNOWN && !failed) {
		ssize_t got = receive(fd, bytes, sizeof bytes);
		failed = got <= 0;
		if (!failed)
			found = scan(bytes, (size_t)got, &door->outside, &failed);
	}
	if (fd >= 0)
		close(fd);
	return failed ? PORT_UNKNOWN : found;
}

static enum occupancy list_all_sockets(const struct door *door)
{
	enum occupancy six = list_sockets(door, AF_INET6); /* wildcards of IPv6 serve IPv4 too */
	if (six == PORT_TAKEN || door->outside.addr.family == ADDR_IPV6)
		return six;
	enum occupancy four = list_sockets(door, AF_INET);
	return four == PORT_FREE ? six : four;
}

/* ---- judging ---- */

static void say_what_there_is(const struct door *door, char *text, size_t size)
{
	char list[HOST_ADDRESSES_MOST][ADDR_TEXT_SIZE], wanted[ADDR_TEXT_SIZE];
	size_t count = host_addresses(list), told = 0;
	addr_format(&door->outside.addr, wanted);
	int used = snprintf(text, size, "gateway does not own %s", wanted);
	for (size_t i = 0; i < count; i++) {
		struct addr addr;
		if (!addr_parse(list[i], &addr) || addr.family != door->outside.addr.family)
			continue;
		const char *between = told ? ", " : ": it has ";
		/* Room for ", ..." is kept. */
		if ((size_t)used + strlen(between) + strlen(list[i]) + 6 > size) {
			snprintf(text + used, size - (size_t)used, "%s", told ? ", ..." : "");
			return;
		}
		used += snprintf(text + used, size - (size_t)used, "%s%s", between, list[i]);
		told++;
	}
	if (told == 0)
		snprintf(text + used, size - (size_t)used, ": it has no address of that family");
}

bool external_is_free(const struct door *door, struct door_failure *ret_failure)
{
	struct door_failure failure = {.grant = door->grant};
	char outside[ENDPOINT_TEXT_SIZE];
	bool is_local = false;
	if (door->nat == DOOR_AS_IS)
		return true;
	if (!ask_route(&door->outside.addr, &is_local)) {
		snprintf(failure.cause, sizeof failure.cause,
			"the gateway's addresses could not be looked up");
		*ret_failure = failure;
		return false;
	}
	if (!is_local) {
		say_what_there_is(door, failure.cause, sizeof failure.cause);
		*ret_failure = failure;
		return false;
	}
	if (door->nat != DOOR_DNAT)
		return true;
	enum occupancy found = try_bind(door);
	if (found == PORT_UNKNOWN)
		found = list_all_sockets(door);
	/* Still unknown: a low port on a kernel without sock_diag. Its administrator chose it. */
	if (found != PORT_TAKEN)
		return true;
	endpoint_format(&door->outside, outside);
	snprintf(failure.cause, sizeof failure.cause, "a program of the gateway has %s port %s",
		door->transport == IPPROTO_TCP ? "TCP" : "UDP", outside);
	failure.external_taken = true;
	*ret_failure = failure;
	return false;
}
