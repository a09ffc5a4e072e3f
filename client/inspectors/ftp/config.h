/* postern-ftp's configuration: one table of options, one struct. */
#ifndef POSTERN_FTP_CONFIG_H
#define POSTERN_FTP_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/config.h"

enum ftp_auth_tls { FTP_AUTH_TLS_REFUSE = 0, FTP_AUTH_TLS_PASS = 1 };

enum ftp_passive_address { FTP_PASSIVE_STRICT = 0, FTP_PASSIVE_SERVER = 1 };

struct ftp_config {
	char *server, *token_file, *ca_file, *server_name; /* of the policy server */
	char *gateway, *protocol;
	struct config_list listen;
	struct config_list external; /* read through ftp_config_external() */
	struct addr external_ipv4, external_ipv6;
	int auth_tls; /* enum ftp_auth_tls */
	int passive_address; /* enum ftp_passive_address */
	uint64_t deadline_ms, connect_timeout_ms, idle_limit_ms, transfer_idle_limit_ms;
	uint64_t max_sessions, max_sessions_per_client;
	uint64_t lowest_source_port, highest_source_port;
	uint64_t status_interval_ms;
};

extern const struct config_option ftp_options[];

/* Reads and checks the whole file; nothing else is touched. */
enum status ftp_config_read(const char *path, struct ftp_config *config, struct error *err);
void ftp_config_fini(struct ftp_config *config);
/* Takes over from `from` what may change while running. False when it differs in something else. */
bool ftp_config_adopt(struct ftp_config *config, const struct ftp_config *from);
/* The gateway's address that stands for the clients' of this family; ADDR_NONE: no translation. */
struct addr ftp_config_external(const struct ftp_config *config, enum addr_family family);
/* An item of `listen`. */
enum status ftp_config_endpoint(const char *text, struct endpoint *ret_endpoint, struct error *err);

#endif
