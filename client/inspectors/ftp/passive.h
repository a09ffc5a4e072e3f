/* The addresses in passive replies: (h1,h2,h3,h4,p1,p2) of RFC 959 and (|||port|) of RFC 2428.
 * Pure.
 */
#ifndef POSTERN_FTP_PASSIVE_H
#define POSTERN_FTP_PASSIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"

#define PASSIVE_LINE_SIZE 64

/* `text` is a whole reply with its code. As RFC 1123 4.1.2.6 asks, the six numbers are searched for
 * anywhere behind the code, with or without parentheses. False when there are none, and when there
 * are two that differ: clients would not agree on which one is meant. */
bool passive_parse_227(const uint8_t *text, size_t size, struct endpoint *ret_endpoint);
/* Any delimiter of RFC 2428; protocol and address must be left out, as it says for replies. */
bool passive_parse_229(const uint8_t *text, size_t size, uint16_t *ret_port);
/* A reply 227 that names this IPv4 endpoint, with CR LF. */
void passive_format_227(const struct endpoint *endpoint, char line[static PASSIVE_LINE_SIZE]);

#endif
