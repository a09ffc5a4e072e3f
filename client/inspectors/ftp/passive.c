#include "client/inspectors/ftp/passive.h"

#include <stdio.h>
#include <string.h>

#define CODE_SIZE 4 /* "227 " */

static bool is_digit(uint8_t byte)
{
	return byte >= '0' && byte <= '9';
}

/* A decimal number of at most `limit`; false past it or without a digit. */
static bool read_number(
	const uint8_t **at, const uint8_t *end, unsigned limit, unsigned *ret_number)
{
	const uint8_t *p = *at;
	unsigned number = 0;

	if (p == end || !is_digit(*p))
		return false;
	for (; p < end && is_digit(*p); p++) {
		number = number * 10 + (unsigned)(*p - '0');
		if (number > limit)
			return false;
	}
	*at = p;
	*ret_number = number;
	return true;
}

static bool read_six(const uint8_t **at, const uint8_t *end, unsigned numbers[static 6])
{
	const uint8_t *p = *at;

	for (int i = 0; i < 6; i++) {
		if (i > 0) {
			if (p == end || *p != ',')
				return false;
			p++;
			while (p < end && *p == ' ')
				p++;
		}
		if (!read_number(&p, end, 255, &numbers[i]))
			return false;
	}
	if (p < end && *p == ',')
		return false; /* a seventh: not an address */
	*at = p;
	return true;
}

bool passive_parse_227(const uint8_t *text, size_t size, struct endpoint *ret_endpoint)
{
	const uint8_t *end = text + size, *p;
	struct endpoint found = {0}, endpoint;
	unsigned n[6];

	if (size < CODE_SIZE)
		return false;
	for (p = text + CODE_SIZE; p < end;) {
		if (!is_digit(*p)) {
			p++;
			continue;
		}
		if (!read_six(&p, end, n)) {
			while (p < end && (is_digit(*p) || *p == ','))
				p++;
			continue;
		}
		endpoint = (struct endpoint){.addr.family = ADDR_IPV4};
		for (int i = 0; i < 4; i++)
			endpoint.addr.bytes[i] = (uint8_t)n[i];
		endpoint.port = (uint16_t)(n[4] << 8 | n[5]);
		if (found.addr.family != ADDR_NONE && !endpoint_equal(&found, &endpoint))
			return false;
		found = endpoint;
	}
	if (found.addr.family == ADDR_NONE)
		return false;
	*ret_endpoint = found;
	return true;
}

/* At '(': "(|||port|)". */
static bool read_extended(const uint8_t *p, const uint8_t *end, uint16_t *ret_port)
{
	unsigned number;
	uint8_t mark;

	if (end - p < 7)
		return false;
	mark = p[1];
	if (mark < 33 || mark > 126 || is_digit(mark) || p[2] != mark || p[3] != mark)
		return false;
	p += 4;
	if (!read_number(&p, end, 65535, &number) || end - p < 2 || p[0] != mark || p[1] != ')')
		return false;
	*ret_port = (uint16_t)number;
	return true;
}

bool passive_parse_229(const uint8_t *text, size_t size, uint16_t *ret_port)
{
	const uint8_t *end = text + size, *p = text;
	bool found = false;
	uint16_t port = 0, other;

	for (; p < end && (p = memchr(p, '(', (size_t)(end - p))); p++) {
		if (!read_extended(p, end, &other))
			continue;
		if (found && other != port)
			return false;
		port = other;
		found = true;
	}
	if (!found)
		return false;
	*ret_port = port;
	return true;
}

void passive_format_227(const struct endpoint *endpoint, char line[static PASSIVE_LINE_SIZE])
{
	const uint8_t *a = endpoint->addr.bytes;

	snprintf(line, PASSIVE_LINE_SIZE, "227 Entering Passive Mode (%u,%u,%u,%u,%u,%u).\r\n",
		a[0], a[1], a[2], a[3], endpoint->port / 256u, endpoint->port % 256u);
}
