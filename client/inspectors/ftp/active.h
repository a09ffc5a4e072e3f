/* The addresses in PORT (RFC 959: h1,h2,h3,h4,p1,p2) and EPRT (RFC 2428: |1|address|port|). Pure.
 */
#ifndef POSTERN_FTP_ACTIVE_H
#define POSTERN_FTP_ACTIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"

#define ACTIVE_LINE_SIZE 64

enum active_outcome {
	ACTIVE_FINE,
	ACTIVE_UNREADABLE,
	ACTIVE_OTHER_PROTOCOL, /* EPRT: a well-formed argument for neither IPv4 nor IPv6 */
};

/* `text` is the argument alone. Nothing but the exact form is read: no spaces, no further numbers,
 * no more digits than a number needs. */
enum active_outcome active_parse_port(
	const uint8_t *text, size_t size, struct endpoint *ret_endpoint);
enum active_outcome active_parse_eprt(
	const uint8_t *text, size_t size, struct endpoint *ret_endpoint);
/* The whole command with CR LF; PORT needs an IPv4 endpoint. */
void active_format_port(const struct endpoint *endpoint, char line[static ACTIVE_LINE_SIZE]);
void active_format_eprt(const struct endpoint *endpoint, char line[static ACTIVE_LINE_SIZE]);

#endif
