/* What a server would read otherwise than we do must not pass: that is how a guard is walked
 * around. So only the exact form is read, and what goes to the server is always written anew from
 * what was read. */
#include "client/inspectors/ftp/active.h"

#include <stdio.h>
#include <string.h>

#define IPV4_PROTOCOL 1 /* IANA's address family numbers, as RFC 2428 uses them */
#define IPV6_PROTOCOL 2
#define PROTOCOL_DIGITS 5

static bool is_digit(uint8_t byte)
{
	return byte >= '0' && byte <= '9';
}

/* Of one to `most` digits; the next byte is no digit. */
static bool read_number(
	const uint8_t **at, const uint8_t *end, unsigned most, unsigned limit, unsigned *ret_number)
{
	const uint8_t *p = *at;
	unsigned number = 0, digits = 0;

	for (; p < end && is_digit(*p); p++) {
		if (++digits > most)
			return false;
		number = number * 10 + (unsigned)(*p - '0');
	}
	if (digits == 0 || number > limit)
		return false;
	*at = p;
	*ret_number = number;
	return true;
}

enum active_outcome active_parse_port(
	const uint8_t *text, size_t size, struct endpoint *ret_endpoint)
{
	const uint8_t *p = text, *end = text + size;
	struct endpoint endpoint = {.addr.family = ADDR_IPV4};
	unsigned numbers[6];

	for (int i = 0; i < 6; i++) {
		if (i > 0 && (p == end || *p++ != ','))
			return ACTIVE_UNREADABLE;
		if (!read_number(&p, end, 3, 255, &numbers[i]))
			return ACTIVE_UNREADABLE;
	}
	if (p != end)
		return ACTIVE_UNREADABLE;
	for (int i = 0; i < 4; i++)
		endpoint.addr.bytes[i] = (uint8_t)numbers[i];
	endpoint.port = (uint16_t)(numbers[4] << 8 | numbers[5]);
	*ret_endpoint = endpoint;
	return ACTIVE_FINE;
}

/* RFC 2428 allows any printable byte; those that occur in numbers and addresses would be read in
 * two ways. */
static bool is_delimiter(uint8_t byte)
{
	bool is_letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');

	return byte > 32 && byte < 127 && !is_digit(byte) && !is_letter && byte != '.' &&
		byte != ':';
}

static bool read_address(
	const uint8_t **at, const uint8_t *end, uint8_t delimiter, struct addr *ret_addr)
{
	const uint8_t *stop = memchr(*at, delimiter, (size_t)(end - *at));
	char text[ADDR_TEXT_SIZE];
	size_t size;

	if (!stop)
		return false;
	size = (size_t)(stop - *at);
	if (size >= sizeof(text) || memchr(*at, '\0', size))
		return false;
	memcpy(text, *at, size);
	text[size] = '\0';
	*at = stop;
	return addr_parse(text, ret_addr);
}

enum active_outcome active_parse_eprt(
	const uint8_t *text, size_t size, struct endpoint *ret_endpoint)
{
	const uint8_t *p = text, *end = text + size;
	struct endpoint endpoint = {0};
	unsigned protocol, port;
	uint8_t delimiter;

	if (size == 0 || !is_delimiter(*p))
		return ACTIVE_UNREADABLE;
	delimiter = *p++;
	if (!read_number(&p, end, PROTOCOL_DIGITS, UINT16_MAX, &protocol) || p == end ||
		*p++ != delimiter)
		return ACTIVE_UNREADABLE;
	if (protocol != IPV4_PROTOCOL && protocol != IPV6_PROTOCOL)
		return ACTIVE_OTHER_PROTOCOL;
	if (!read_address(&p, end, delimiter, &endpoint.addr))
		return ACTIVE_UNREADABLE;
	p++;
	if (!read_number(&p, end, 5, UINT16_MAX, &port) || end - p != 1 || *p != delimiter)
		return ACTIVE_UNREADABLE;
	if ((endpoint.addr.family == ADDR_IPV4) != (protocol == IPV4_PROTOCOL))
		return ACTIVE_UNREADABLE;
	endpoint.port = (uint16_t)port;
	*ret_endpoint = endpoint;
	return ACTIVE_FINE;
}

void active_format_port(const struct endpoint *endpoint, char line[static ACTIVE_LINE_SIZE])
{
	const uint8_t *a = endpoint->addr.bytes;

	snprintf(line, ACTIVE_LINE_SIZE, "PORT %u,%u,%u,%u,%u,%u\r\n", a[0], a[1], a[2], a[3],
		endpoint->port / 256u, endpoint->port % 256u);
}

void active_format_eprt(const struct endpoint *endpoint, char line[static ACTIVE_LINE_SIZE])
{
	char address[ADDR_TEXT_SIZE];

	addr_format(&endpoint->addr, address);
	snprintf(line, ACTIVE_LINE_SIZE, "EPRT |%d|%s|%u|\r\n",
		endpoint->addr.family == ADDR_IPV4 ? IPV4_PROTOCOL : IPV6_PROTOCOL, address,
		(unsigned)endpoint->port);
}
