/* postern-agent's configuration. */
#ifndef POSTERN_AGENT_CONFIG_H
#define POSTERN_AGENT_CONFIG_H

#include <stdint.h>

#include "common/config.h"

enum agent_mode { AGENT_ENFORCE = 0, AGENT_OVERLAY = 1 };

struct agent_config {
	char *server, *token_file, *ca_file, *server_name;
	int mode; /* enum agent_mode */
	int renewal; /* enum nft_renewal */
	char *table, *user, *priority_text, *external_ports;
	int priority; /* of priority_text */
	uint16_t external_port_first, external_port_last; /* of external_ports */
	uint64_t mark, mark_oneway, mark_session, max_reports, event_buffer, max_event_buffer;
};

extern const struct config_option agent_options[];
enum status agent_config_read(const char *path, struct agent_config *config, struct error *err);
void agent_config_fini(struct agent_config *config);

#endif
