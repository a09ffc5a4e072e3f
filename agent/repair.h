/* Makes the kernel's doors what the books say. */
#ifndef POSTERN_AGENT_REPAIR_H
#define POSTERN_AGENT_REPAIR_H

#include "agent/commit.h"
#include "agent/reconcile.h"

struct agent;

/* What a repair needs and leaves. */
struct repair {
	struct door *desired;
	struct held_door *held;
	size_t desired_count, held_count;
	struct reconciliation work;
	struct commit commit; /* of the arrays of `work`; owns its failures */
};
/* Doors that were refused have left the books. Tried again by itself when it fails. The caller has
 * prepared nothing and calls repair_fini in any case. */
enum status repair_now(struct agent *agent, struct repair *repair);
void repair_fini(struct repair *repair);
void repair_soon(struct agent *agent, int64_t delay_us);

#endif
