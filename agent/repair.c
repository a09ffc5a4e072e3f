/* Design.
 *
 * A repair dumps the kernel's doors, compares them with the books (reconcile.c) and applies only
 * the difference, so that a restart of the agent or of the link disturbs nobody (I7) and what
 * nobody wants is closed (I2). One that fails is tried again until it succeeds. Flows that are to
 * be cut wait for it, and the acknowledgement of what it was made for waits for both. */
#include "agent/repair.h"

#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"
#include "common/clock.h"
#include "common/log.h"

#define REPAIR_AGAIN_US 1000000
/* A door's time is off when it differs by more: snapshots travel, and times are rounded. */
#define TIME_SLACK_MS 1500

void repair_fini(struct repair *repair)
{
	free(repair->desired);
	free(repair->held);
	reconciliation_fini(&repair->work);
	free(repair->commit.failures);
}

/* Elements that are about to be added count from what is known now; for those that are in place
 * their counter tells. */
static void set_bases(struct agent *agent, const struct repair *repair)
{
	size_t fresh = repair->work.add_count - repair->work.mend_count;
	for (size_t i = 0; i < repair->held_count; i++) {
		struct wish *wish = doors_find(&agent->doors, &repair->held[i].door.grant);
		if (wish)
			doors_rebase(wish, &repair->held[i]);
	}
	for (size_t i = 0; i < fresh; i++) {
		struct wish *wish = doors_find(&agent->doors, &repair->work.add[i].grant);
		if (wish)
			wish->base = wish->known;
	}
}

static enum status look(struct agent *agent, struct repair *repair, struct error *err)
{
	size_t most = doors_count(&agent->doors);
	int64_t began = clock_mono_us();
	*repair = (struct repair){0};
	repair->desired = calloc(most + 1, sizeof *repair->desired);
	repair->commit.failures = calloc(most + 1, sizeof *repair->commit.failures);
	if (!repair->desired || !repair->commit.failures)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	enum status status = nft_dump(agent->nft, &repair->held, &repair->held_count, err);
	if (status)
		return status;
	/* After the dump: what is known by now includes the flows that its counters show. */
	agent_drain_events(agent);
	int64_t now = clock_mono_us();
	uint64_t slack_ms = TIME_SLACK_MS + (uint64_t)(now - began) / 1000;
	repair->desired_count = doors_list(&agent->doors, repair->desired, now);
	if (!reconcile(repair->desired, repair->desired_count, repair->held, repair->held_count,
		    slack_ms, &repair->work))
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	set_bases(agent, repair);
	return STATUS_OK;
}

static enum status repair_once(struct agent *agent, struct repair *repair, struct error *err)
{
	enum status status = look(agent, repair, err);
	if (status)
		return status;
	if (repair->work.remove_count > 0)
		agent->open_removed_us = clock_mono_us();
	repair->commit.remove = repair->work.remove;
	repair->commit.remove_count = repair->work.remove_count;
	repair->commit.add = repair->work.add;
	repair->commit.add_count = repair->work.add_count;
	repair->commit.renew = repair->work.renew;
	repair->commit.renew_count = repair->work.renew_count;
	return commit_apply(agent, &repair->commit, err);
}

static void repair_again(void *arg)
{
	sync_repair(arg);
}

void repair_soon(struct agent *agent, int64_t delay_us)
{
	loop_timer_set(
		agent->loop, &agent->repair, clock_mono_us() + delay_us, repair_again, agent);
}

enum status repair_now(struct agent *agent, struct repair *repair)
{
	struct error err = {0};
	enum nft_adoption adoption;
	enum status status = repair_once(agent, repair, &err);
	if (status == STATUS_NOT_FOUND && !nft_install(agent->nft, &adoption, &err)) {
		repair_fini(repair);
		status = repair_once(agent, repair, &err);
	}
	if (status) {
		log_err("datapath: doors could not be repaired, trying again: %s", err.text);
		repair_soon(agent, REPAIR_AGAIN_US);
		return status;
	}
	sync_forget_failures(agent, repair->commit.failures, repair->commit.failure_count);
	log_info("datapath: %zu doors wanted, %zu held: %zu kept, %zu added, %zu renewed, %zu "
		 "removed, %zu refused",
		repair->desired_count, repair->held_count, repair->work.kept,
		repair->work.add_count, repair->work.renew_count, repair->work.remove_count,
		repair->commit.failure_count);
	return STATUS_OK;
}

void sync_repair(struct agent *agent)
{
	struct repair repair;
	struct error err;
	bool done = repair_now(agent, &repair) == STATUS_OK;
	if (done && cut_flows(agent, &err)) {
		log_err("%s: trying again", err.text);
		repair_soon(agent, REPAIR_AGAIN_US);
		done = false;
	}
	if (done && (agent->unapplied || repair.commit.failure_count > 0)) {
		/* Sequence 0 acknowledges nothing and still tells of failures. */
		sync_report_applied(agent, agent->unapplied, agent->unapplied_revision,
			repair.commit.kernel_us, repair.commit.failures,
			repair.commit.failure_count);
		repair.commit.failures = NULL;
		agent->unapplied = agent->unapplied_revision = 0;
	}
	repair_fini(&repair);
}
