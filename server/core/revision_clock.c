/* What time does to the policy: schedules and rules come to their end, a revision is not confirmed.
 * Both are of the real-time clock, which people set, while the loop's timers are of the monotonic
 * one: so the clock is looked at every minute at least, and when it has jumped everything live is
 * judged again. */
#include "common/clock.h"
#include "server/core/revisions.h"

#define LOOK_US (60 * 1000000LL)
#define JUMP_US 2000000

static int64_t offset_now(void)
{
	return clock_real_us() - clock_mono_us();
}

static bool has_jumped(const struct revisions *revisions)
{
	int64_t jump = offset_now() - revisions->offset_us;
	return jump > JUMP_US || jump < -JUMP_US;
}

static bool is_overdue(const struct revisions *revisions, int64_t now)
{
	return revisions->record.confirm_until_us && revisions->record.confirm_until_us <= now;
}

static void on_clock(void *arg)
{
	struct revisions *revisions = arg;
	int64_t now = clock_real_us();
	if (revisions->core->stopping)
		return;
	if (is_overdue(revisions, now) && !revisions->change && !revisions->confirming &&
		revisions->rollback_us <= clock_mono_us())
		change_roll_back(revisions);
	revisions_wind(revisions);
}

/* The end of a change calls it again, so that a rollback need not wait for a tick. */
static int64_t rollback_due(const struct revisions *revisions, int64_t now_real, int64_t now_mono)
{
	int64_t due = now_mono + (revisions->record.confirm_until_us - now_real);
	if (!revisions->record.confirm_until_us || revisions->change || revisions->confirming)
		return CLOCK_NEVER;
	return due > revisions->rollback_us ? due : revisions->rollback_us;
}

void revisions_wind(struct revisions *revisions)
{
	struct core *core = revisions->core;
	int64_t now = clock_real_us(), mono = clock_mono_us(), due = mono + LOOK_US;
	int64_t rollback = rollback_due(revisions, now, mono);
	if ((revisions->next_change_us && revisions->next_change_us <= now) ||
		has_jumped(revisions))
		revisions_judge(revisions);
	revisions->offset_us = offset_now();
	revisions->next_change_us = policy_next_change(core->policy, now);
	if (revisions->next_change_us < now + LOOK_US)
		due = mono + (revisions->next_change_us - now);
	if (rollback < due)
		due = rollback;
	loop_timer_set(core->loop, &revisions->clock, due, on_clock, revisions);
}
