/* Networks in CIDR notation, and lists of them. Pure. */
#ifndef POSTERN_SERVER_POLICY_NETWORK_H
#define POSTERN_SERVER_POLICY_NETWORK_H

#include <stdbool.h>
#include <stddef.h>

#include "common/addr.h"

#define NETWORK_TEXT_SIZE 50 /* the longest IPv6 address, a slash and three digits */

/* Canonical: the bits behind the prefix are zero. */
struct network {
	struct addr addr;
	uint8_t bits;
};

/* "10.77.0.0/16", "fd77::/32"; an address alone is the network of that one address. Bits behind the
 * prefix are cleared. */
bool network_parse(const char *text, struct network *ret_network);
void network_format(const struct network *network, char text[static NETWORK_TEXT_SIZE]);
bool network_contains(const struct network *network, const struct addr *addr);
/* The network of this many bits that the address lies in. */
struct network network_of(const struct addr *addr, uint8_t bits);

/* A list, compiled once. Without networks it restricts nothing, unless `limited`. */
struct networks {
	struct network *items;
	size_t count;
	bool limited; /* a list was given; with no item left of it nobody is in it */
};
/* From comma-separated text. False: out of memory. A piece that is no network is left out and
 * counted in *ret_bad (may be NULL): the list then covers less, never more. */
bool networks_compile(const char *text, struct networks *ret_networks, size_t *ret_bad);
void networks_fini(struct networks *networks);
bool networks_contain(const struct networks *networks, const struct addr *addr);

#endif
