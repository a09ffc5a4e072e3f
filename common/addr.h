/* IPv4 and IPv6 addresses and endpoints as values, with their text forms. */
#ifndef POSTERN_COMMON_ADDR_H
#define POSTERN_COMMON_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ADDR_TEXT_SIZE 46
#define ENDPOINT_TEXT_SIZE 56

struct sockaddr;
struct sockaddr_storage;

enum addr_family { ADDR_NONE = 0, ADDR_IPV4 = 4, ADDR_IPV6 = 6 };

struct addr {
	uint8_t family; /* enum addr_family */
	uint8_t bytes[16]; /* network order; IPv4 uses the first four, the rest is zero */
};

struct endpoint {
	struct addr addr;
	uint16_t port; /* host order, 0 = none or any */
};

/* Numeric addresses only: dotted quad or RFC 4291 text without brackets and zone. IPv4-mapped IPv6
 * becomes IPv4. */
bool addr_parse(const char *text, struct addr *ret_addr);
void addr_format(
	const struct addr *addr, char text[static ADDR_TEXT_SIZE]); /* "" for ADDR_NONE; RFC 5952 */
bool addr_equal(const struct addr *a, const struct addr *b);
int addr_compare(const struct addr *a, const struct addr *b);
size_t addr_length(const struct addr *addr); /* 0, 4 or 16 bytes */
/* Unicast that a door may name: not unspecified, multicast, broadcast, loopback or link-local. */
bool addr_is_forwardable(const struct addr *addr);

/* "10.0.0.1:21", "[fd77::1]:21"; with need_port false the port may be missing ("10.0.0.1",
 * "[fd77::1]", "fd77::1"). */
bool endpoint_parse(const char *text, bool need_port, struct endpoint *ret_endpoint);
void endpoint_format(const struct endpoint *endpoint, char text[static ENDPOINT_TEXT_SIZE]);
bool endpoint_equal(const struct endpoint *a, const struct endpoint *b);

bool endpoint_from_sockaddr(const struct sockaddr *sa, struct endpoint *ret_endpoint);
size_t endpoint_to_sockaddr(const struct endpoint *endpoint, struct sockaddr_storage *ret_sa);

#endif
