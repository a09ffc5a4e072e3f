/* Design.
 *
 * The books of flows know the entries of a grant. What they may lack:
 *   - flows whose events wait in the socket: it is drained first;
 *   - flows whose events were lost, or that memory was short for: a dump takes stock;
 *   - flows of a grant that no book knows anything of: the same dump;
 *   - flows of packets that met the door before it was removed and have not reached the end of
 *     their path: all CPUs have left such packets behind when membarrier() returns (it waits for
 *     RCU, under which packets travel). So there are two rounds, one on each side of it. It takes
 *     10 to 30 ms and is spared when no door that had uses left was removed of late. */
#include "agent/cut.h"

#include <linux/membarrier.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/agent.h"
#include "common/clock.h"

#define IN_FLIGHT_US 1000000 /* no packet takes so long from hook to hook */

bool cut_add(struct agent *agent, const struct id *grants, size_t count)
{
	struct cut *grown;
	if (count == 0)
		return true;
	grown = realloc(agent->cuts, (agent->cut_count + count) * sizeof *grown);
	if (!grown)
		return false;
	agent->cuts = grown;
	for (size_t i = 0; i < count; i++)
		agent->cuts[agent->cut_count++] = (struct cut){
			.grant = grants[i], .is_known = doors_find(&agent->doors, &grants[i])};
	return true;
}

void cut_clear(struct agent *agent)
{
	free(agent->cuts);
	agent->cuts = NULL;
	agent->cut_count = 0;
}

struct cutting {
	struct agent *agent;
	struct error *err;
	enum status status;
};

static void delete_one(void *arg, const struct tracked *flow)
{
	struct cutting *cutting = arg;
	if (!cutting->status)
		cutting->status = conntrack_delete(cutting->agent->conntrack, flow, cutting->err);
}

/* True: of every grant something was found, or nothing is to be expected. */
static bool delete_all(struct cutting *cutting)
{
	const struct agent *agent = cutting->agent;
	bool explained = true;
	for (size_t i = 0; i < agent->cut_count; i++) {
		const struct cut *cut = &agent->cuts[i];
		explained &= flows_of_grant(&agent->flows, &cut->grant, delete_one, cutting) > 0 ||
			cut->is_known;
	}
	return explained;
}

static bool may_be_in_flight(const struct agent *agent)
{
	return agent->open_removed_us != 0 &&
		clock_mono_us() - agent->open_removed_us < IN_FLIGHT_US;
}

enum status cut_flows(struct agent *agent, struct error *err)
{
	struct cutting cutting = {.agent = agent, .err = err};
	if (agent->cut_count == 0)
		return STATUS_OK;
	agent_drain_events(agent);
	bool explained = delete_all(&cutting);
	/* Where membarrier is not supported nothing of the kind can be had. */
	if (may_be_in_flight(agent))
		(void)syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
	agent_drain_events(agent);
	if ((!explained || agent->stock.armed || agent->flows.dropped > 0) && !cutting.status)
		cutting.status = agent_take_stock(agent, err);
	(void)delete_all(&cutting);
	if (cutting.status)
		return cutting.status;
	agent_drain_events(agent); /* their ends are reported before the cut is acknowledged */
	cut_clear(agent);
	return STATUS_OK;
}
