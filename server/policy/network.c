#include "server/policy/network.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint8_t bits_of(const struct addr *addr)
{
	return (uint8_t)(addr_length(addr) * 8);
}

/* Digits only: strtoul would take blanks and signs. */
static bool parse_bits(const char *text, uint8_t most, uint8_t *ret_bits)
{
	unsigned bits = 0;
	size_t length = strlen(text);
	if (length == 0 || length > 3 || strspn(text, "0123456789") != length)
		return false;
	for (; *text; text++)
		bits = bits * 10 + (unsigned)(*text - '0');
	if (bits > most)
		return false;
	*ret_bits = (uint8_t)bits;
	return true;
}

struct network network_of(const struct addr *addr, uint8_t bits)
{
	struct network network = {.addr = *addr, .bits = bits};
	for (unsigned i = 0; i < sizeof addr->bytes; i++) {
		unsigned kept = bits > i * 8 ? bits - i * 8 : 0;
		if (kept < 8)
			network.addr.bytes[i] &= (uint8_t)(0xff00U >> kept);
	}
	return network;
}

bool network_parse(const char *text, struct network *ret_network)
{
	char copy[NETWORK_TEXT_SIZE];
	struct addr addr;
	uint8_t bits;
	if ((size_t)snprintf(copy, sizeof copy, "%s", text) >= sizeof copy)
		return false;
	char *slash = strchr(copy, '/');
	if (slash)
		*slash = '\0';
	if (!addr_parse(copy, &addr))
		return false;
	bits = bits_of(&addr);
	if (slash && !parse_bits(slash + 1, bits, &bits))
		return false;
	*ret_network = network_of(&addr, bits);
	return true;
}

void network_format(const struct network *network, char text[static NETWORK_TEXT_SIZE])
{
	char addr[ADDR_TEXT_SIZE];
	addr_format(&network->addr, addr);
	snprintf(text, NETWORK_TEXT_SIZE, "%s/%u", addr, network->bits);
}

bool network_contains(const struct network *network, const struct addr *addr)
{
	unsigned whole = network->bits / 8, rest = network->bits % 8;
	if (network->addr.family != addr->family ||
		memcmp(network->addr.bytes, addr->bytes, whole) != 0)
		return false;
	return rest == 0 ||
		((network->addr.bytes[whole] ^ addr->bytes[whole]) & (0xff00U >> rest) & 0xff) == 0;
}

static size_t pieces_of(const char *text)
{
	size_t count = *text ? 1 : 0;
	for (; *text; text++)
		count += *text == ',';
	return count;
}

bool networks_compile(const char *text, struct networks *ret_networks, size_t *ret_bad)
{
	struct networks networks = {.limited = text[0] != '\0'};
	size_t pieces = pieces_of(text), bad = 0;
	if (pieces > 0) {
		networks.items = calloc(pieces, sizeof *networks.items);
		if (!networks.items)
			return false;
	}
	while (*text) {
		char piece[NETWORK_TEXT_SIZE];
		size_t length = strcspn(text, ",");
		snprintf(piece, sizeof piece, "%.*s", (int)length, text);
		if (length < sizeof piece && network_parse(piece, &networks.items[networks.count]))
			networks.count++;
		else
			bad++;
		text += length + (text[length] == ',');
	}
	if (ret_bad)
		*ret_bad = bad;
	*ret_networks = networks;
	return true;
}

void networks_fini(struct networks *networks)
{
	free(networks->items);
	memset(networks, 0, sizeof *networks);
}

bool networks_contain(const struct networks *networks, const struct addr *addr)
{
	for (size_t i = 0; i < networks->count; i++)
		if (network_contains(&networks->items[i], addr))
			return true;
	return !networks->limited;
}
