/* `posternd init DIR`: everything a new server needs, or nothing. */
#ifndef POSTERN_SERVER_INIT_INIT_H
#define POSTERN_SERVER_INIT_INIT_H

#include <stddef.h>

#include "common/error.h"

struct init_options {
	const char *dir;
	const char *const
		*listen; /* URLs; none = ipc in DIR and tls+tcp on every address, port 7411 */
	size_t listen_count;
	const char *const
		*names; /* for the certificate, besides host name, localhost, 127.0.0.1, ::1 */
	size_t name_count;
};

/* Writes posternd.conf, ca.pem, ca-key.pem, server.pem, server-key.pem, postern.db and admin.token
 * (keys, database and token mode 0600) into DIR, which is made if need be. Refuses when one of them
 * exists; removes what it wrote when it fails. */
enum status init_run(const struct init_options *options, struct error *err);

#endif
