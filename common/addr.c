#include "common/addr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static void from_ipv6_bytes(const uint8_t bytes[16], struct addr *ret_addr)
{
	memset(ret_addr, 0, sizeof(*ret_addr));
	if (memcmp(bytes, mapped_prefix, sizeof(mapped_prefix)) == 0) {
		ret_addr->family = ADDR_IPV4;
		memcpy(ret_addr->bytes, bytes + sizeof(mapped_prefix), 4);
	} else {
		ret_addr->family = ADDR_IPV6;
		memcpy(ret_addr->bytes, bytes, 16);
	}
}

bool addr_parse(const char *text, struct addr *ret_addr)
{
	uint8_t bytes[16];

	if (inet_pton(AF_INET, text, bytes) == 1) {
		memset(ret_addr, 0, sizeof(*ret_addr));
		ret_addr->family = ADDR_IPV4;
		memcpy(ret_addr->bytes, bytes, 4);
		return true;
	}
	if (inet_pton(AF_INET6, text, bytes) == 1) {
		from_ipv6_bytes(bytes, ret_addr);
		return true;
	}
	return false;
}

void addr_format(const struct addr *addr, char text[static ADDR_TEXT_SIZE])
{
	text[0] = '\0';
	if (addr->family == ADDR_IPV4)
		inet_ntop(AF_INET, addr->bytes, text, ADDR_TEXT_SIZE);
	else if (addr->family == ADDR_IPV6)
		inet_ntop(AF_INET6, addr->bytes, text, ADDR_TEXT_SIZE);
}

bool addr_equal(const struct addr *a, const struct addr *b)
{
	return addr_compare(a, b) == 0;
}

int addr_compare(const struct addr *a, const struct addr *b)
{
	if (a->family != b->family)
		return a->family < b->family ? -1 : 1;
	return memcmp(a->bytes, b->bytes, addr_length(a));
}

size_t addr_length(const struct addr *addr)
{
	if (addr->family == ADDR_IPV4)
		return 4;
	return addr->family == ADDR_IPV6 ? 16 : 0;
}

static bool ipv4_is_forwardable(const uint8_t *bytes)
{
	static const uint8_t broadcast[4] = {255, 255, 255, 255};

	if (bytes[0] == 0 || bytes[0] == 127)
		return false;
	if (bytes[0] == 169 && bytes[1] == 254)
		return false;
	return (bytes[0] & 0xf0) != 0xe0 && memcmp(bytes, broadcast, 4) != 0;
}

static bool ipv6_is_forwardable(const uint8_t *bytes)
{
	static const uint8_t zero[15];

	if (memcmp(bytes, zero, 15) == 0 && bytes[15] <= 1)
		return false;
	if (bytes[0] == 0xff || (bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80))
		return false;
	return memcmp(bytes, mapped_prefix, sizeof(mapped_prefix)) != 0;
}

bool addr_is_forwardable(const struct addr *addr)
{
	if (addr->family == ADDR_IPV4)
		return ipv4_is_forwardable(addr->bytes);
	return addr->family == ADDR_IPV6 && ipv6_is_forwardable(addr->bytes);
}

static bool parse_port(const char *text, uint16_t *ret_port)
{
	unsigned port = 0;
	size_t length = strlen(text);

	if (length == 0 || length > 5)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		port = port * 10 + (unsigned)(*text - '0');
	}
	if (port > UINT16_MAX)
		return false;
	*ret_port = (uint16_t)port;
	return true;
}

/* Splits "[A]", "[A]:P", "A:P" (one colon) and "A"; *ret_port is NULL when there is none. */
static bool split(const char *text, char host[static ADDR_TEXT_SIZE], const char **ret_port)
{
	const char *start = text, *end, *rest;

	if (text[0] == '[') {
		start = text + 1;
		end = strchr(start, ']');
		if (!end || !memchr(start, ':', (size_t)(end - start)))
			return false;
		rest = end + 1;
	} else {
		end = strchr(text, ':');
		if (!end || strchr(end + 1, ':'))
			end = text + strlen(text);
		rest = end;
	}
	if (*rest != '\0' && *rest != ':')
		return false;
	if ((size_t)(end - start) >= ADDR_TEXT_SIZE)
		return false;
	memcpy(host, start, (size_t)(end - start));
	host[end - start] = '\0';
	*ret_port = *rest == ':' ? rest + 1 : NULL;
	return true;
}

bool endpoint_parse(const char *text, bool need_port, struct endpoint *ret_endpoint)
{
	char host[ADDR_TEXT_SIZE];
	struct endpoint endpoint = {0};
	const char *port;

	if (!split(text, host, &port) || !addr_parse(host, &endpoint.addr))
		return false;
	if (port ? !parse_port(port, &endpoint.port) : need_port)
		return false;
	*ret_endpoint = endpoint;
	return true;
}

void endpoint_format(const struct endpoint *endpoint, char text[static ENDPOINT_TEXT_SIZE])
{
	char host[ADDR_TEXT_SIZE];

	addr_format(&endpoint->addr, host);
	snprintf(text, ENDPOINT_TEXT_SIZE, endpoint->addr.family == ADDR_IPV6 ? "[%s]:%u" : "%s:%u",
		host, endpoint->port);
}

bool endpoint_equal(const struct endpoint *a, const struct endpoint *b)
{
	return a->port == b->port && addr_equal(&a->addr, &b->addr);
}

bool endpoint_from_sockaddr(const struct sockaddr *sa, struct endpoint *ret_endpoint)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	if (sa->sa_family == AF_INET) {
		memcpy(&in, sa, sizeof(in));
		memset(ret_endpoint, 0, sizeof(*ret_endpoint));
		ret_endpoint->addr.family = ADDR_IPV4;
		memcpy(ret_endpoint->addr.bytes, &in.sin_addr, 4);
		ret_endpoint->port = ntohs(in.sin_port);
		return true;
	}
	if (sa->sa_family == AF_INET6) {
		memcpy(&in6, sa, sizeof(in6));
		memset(ret_endpoint, 0, sizeof(*ret_endpoint));
		from_ipv6_bytes(in6.sin6_addr.s6_addr, &ret_endpoint->addr);
		ret_endpoint->port = ntohs(in6.sin6_port);
		return true;
	}
	return false;
}

size_t endpoint_to_sockaddr(const struct endpoint *endpoint, struct sockaddr_storage *ret_sa)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(endpoint->port)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(endpoint->port)};

	memset(ret_sa, 0, sizeof(*ret_sa));
	if (endpoint->addr.family == ADDR_IPV4) {
		memcpy(&in.sin_addr, endpoint->addr.bytes, 4);
		memcpy(ret_sa, &in, sizeof(in));
		return sizeof(in);
	}
	if (endpoint->addr.family == ADDR_IPV6) {
		memcpy(&in6.sin6_addr, endpoint->addr.bytes, 16);
		memcpy(ret_sa, &in6, sizeof(in6));
		return sizeof(in6);
	}
	return 0;
}
