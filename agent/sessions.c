/* Design.
 *
 * The books (primaries.c) say what to do; here conntrack and the server are told. Events bring the
 * end of a primary connection at once. A slow round reads all entries again and again, for those
 * that conntrack gives no events of: born before anybody listened, or with a mark that another
 * program has changed. */
#include "agent/agent.h"
#include "common/clock.h"
#include "common/log.h"

#define FOLLOW_US 1000000
#define FOLLOW_LEAST 64 /* entries read a second; 5 us each */
#define FOLLOW_SHARE 10 /* a round takes so many seconds at most */

static bool on_find(void *arg, const struct tracked *wanted, struct tracked *ret_entry)
{
	struct agent *agent = arg;
	return conntrack_find(agent->conntrack, wanted, ret_entry);
}

static void on_mark(void *arg, const struct tracked *entry, bool set)
{
	struct agent *agent = arg;
	struct error err;
	enum status status = conntrack_mark_session(agent->conntrack, entry, set, &err);
	if (status && status != STATUS_NOT_FOUND)
		log_warn("%s: it is looked at every now and then", err.text);
}

static bool on_read(void *arg, struct tracked *entry)
{
	struct agent *agent = arg;
	return conntrack_get(agent->conntrack, entry);
}

static bool on_ended(void *arg, const struct id *session)
{
	struct agent *agent = arg;
	struct report *report = reports_add(&agent->reports, REPORT_PRIMARY_ENDED, clock_mono_us());
	if (!report)
		return false;
	report->session = *session;
	link_wake(agent->link);
	return true;
}

static const struct primary_hooks primary_hooks = {
	.find = on_find, .mark = on_mark, .read = on_read, .ended = on_ended};

static void follow(void *arg)
{
	struct agent *agent = arg;
	size_t count = primaries_count(&agent->primaries), most = count / FOLLOW_SHARE + 1;
	if (count == 0)
		return;
	(void)primaries_check(&agent->primaries, most > FOLLOW_LEAST ? most : FOLLOW_LEAST);
	loop_timer_set(agent->loop, &agent->follow, clock_mono_us() + FOLLOW_US, follow, agent);
}

void sessions_init(struct agent *agent)
{
	primaries_init(&agent->primaries, &primary_hooks, agent);
}

void sessions_fini(struct agent *agent)
{
	loop_timer_clear(agent->loop, &agent->follow);
	primaries_fini(&agent->primaries);
}

bool sessions_follow(struct agent *agent, const struct sync_primary *primaries, size_t count)
{
	bool done = true;
	for (size_t i = 0; i < count; i++)
		done &= primaries[i].is_sound ? primaries_put(&agent->primaries,
							&primaries[i].session, &primaries[i].wanted)
					      : on_ended(agent, &primaries[i].session);
	if (primaries_count(&agent->primaries) > 0 && !agent->follow.armed)
		loop_timer_set(
			agent->loop, &agent->follow, clock_mono_us() + FOLLOW_US, follow, agent);
	return done;
}

void sessions_check(struct agent *agent)
{
	(void)primaries_check(&agent->primaries, SIZE_MAX);
}
