/* The addresses that programs are given: ipc:///PATH, tls+tcp://HOST:PORT, tcp://HOST:PORT. Pure.
 */
#ifndef POSTERN_PROTO_RPC_URL_H
#define POSTERN_PROTO_RPC_URL_H

#include <stdbool.h>

#include "common/error.h"

#define URL_MAX 239
#define URL_SIZE 256 /* of a URL that was rewritten */

/* The functions below want a URL that passed. */
enum status url_check(const char *url, struct error *err);

bool url_is_ipc(const char *url);
bool url_is_tls(const char *url);
bool url_has_host(const char *url, const char *host); /* with brackets, as written */
/* The host is a name, not a literal: more than one address may be behind it. */
bool url_is_named(const char *url);
bool url_is_loopback(const char *url); /* a literal of the loopback, or "localhost" */
/* Host without brackets: what a certificate must name. */
void url_host(char host[static URL_SIZE], const char *url);
/* "tls+tcp://name:1" as "tls+tcp6://name:1" (family "6"), or with another host (NULL = the same).
 */
void url_rewrite(char out[static URL_SIZE], const char *url, const char *family, const char *host);

#endif
