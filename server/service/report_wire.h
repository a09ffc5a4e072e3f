/* What an agent reports, from wire messages: pure. */
#ifndef POSTERN_SERVER_SERVICE_REPORT_WIRE_H
#define POSTERN_SERVER_SERVICE_REPORT_WIRE_H

#include "postern/v1/agents.pb-c.h"
#include "server/fleet/inbox.h"

/* A report that makes no sense is in it as REPORT_NONSENSE, with its sequence. Errors name the
 * field. */
enum status batch_from_wire(const Postern__V1__ReportRequest *input, int64_t now_us,
	struct batch **ret_batch, struct error *err);

#endif
