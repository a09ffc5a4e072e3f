/* A certificate authority of our own and the server's certificate: EC P-256, PEM. */
#ifndef POSTERN_SERVER_INIT_CERTIFICATE_H
#define POSTERN_SERVER_INIT_CERTIFICATE_H

#include <stddef.h>

#include "common/error.h"

#define CERTIFICATE_PEM_SIZE 4096

struct certificate_pair {
	char cert[CERTIFICATE_PEM_SIZE], key[CERTIFICATE_PEM_SIZE];
};

/* A self-signed CA, valid for ten years from yesterday (clocks differ). */
enum status certificate_make_ca(struct certificate_pair *ret_ca, struct error *err);
/* Signed by the CA, for ten years. Every name becomes a dNSName; addresses become an iPAddress as
 * well, because mbedTLS 2.28 compares host names with dNSNames only. */
enum status certificate_make_server(const struct certificate_pair *ca, const char *const *names,
	size_t name_count, struct certificate_pair *ret_server, struct error *err);
void certificate_wipe(struct certificate_pair *pair);

#endif
