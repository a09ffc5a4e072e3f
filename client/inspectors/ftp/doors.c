/* Design.
 *
 * A hold is one question about a door: with `id` known it is asked at once, otherwise behind the
 * opening of the policy server's session, all within its deadline. The timer of the hold comes
 * GRACE_MS later than the deadline that the server got, because its answer says more than our
 * silence. A hold may try a second time when the server has ended the session meanwhile (it was
 * idle), or when the opening had failed before the hold; not when the gateway does not know the
 * control connection, which will not change.
 *
 * Who may outlive whom: requests to the gatekeeper are forgotten when the control connection ends;
 * the gatekeeper gives back what they may still get. */
#include "client/inspectors/ftp/doors.h"

#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"

#define GRACE_MS 250

static void on_opened(void *arg, const struct gatekeeper_answer *answer, const struct error *err);
static void on_asked(void *arg, const struct gatekeeper_answer *answer, const struct error *err);

void doors_init(struct doors *doors, const struct doors_options *options)
{
	char client[ENDPOINT_TEXT_SIZE], server[ENDPOINT_TEXT_SIZE];

	memset(doors, 0, sizeof(*doors));
	doors->options = *options;
	endpoint_format(&options->client, client);
	endpoint_format(&options->server, server);
	snprintf(doors->label, sizeof(doors->label), "%s>%s", client, server);
	for (int i = 0; i < DOOR_KINDS; i++)
		doors->holds[i].doors = doors;
}

static void end_hold(struct door_hold *hold)
{
	loop_timer_clear(hold->doors->options.loop, &hold->timer);
	hold->active = false;
}

void doors_fini(struct doors *doors)
{
	struct gatekeeper *gatekeeper = doors->options.gatekeeper;

	for (int i = 0; i < DOOR_KINDS; i++) {
		if (doors->holds[i].asking)
			gatekeeper->ops->forget(gatekeeper, doors->holds[i].asking);
		doors->holds[i].asking = NULL;
		end_hold(&doors->holds[i]);
	}
	if (doors->opening)
		gatekeeper->ops->forget(gatekeeper, doors->opening);
	doors->opening = NULL;
	if (doors->id[0])
		gatekeeper->ops->close(gatekeeper, doors->id);
	doors->id[0] = '\0';
}

const char *doors_session(const struct doors *doors)
{
	return doors->id[0] ? doors->id : "-";
}

static enum status open_session(struct doors *doors, uint32_t deadline_ms, struct error *err)
{
	struct gatekeeper *gatekeeper = doors->options.gatekeeper;

	doors->opening = gatekeeper->ops->open(gatekeeper, &doors->options.client,
		&doors->options.server, deadline_ms, on_opened, doors, err);
	return doors->opening ? STATUS_OK : err->status;
}

void doors_open(struct doors *doors, uint32_t deadline_ms)
{
	struct error err;

	if (open_session(doors, deadline_ms, &err) != STATUS_OK)
		log_warn("-: %s: no session on the policy server: %s", doors->label, err.text);
}

/* The next step of a hold: open the session if there is none, then ask. */
static enum status step(struct door_hold *hold, struct error *err)
{
	struct doors *doors = hold->doors;
	struct gatekeeper *gatekeeper = doors->options.gatekeeper;
	bool inbound = hold == &doors->holds[DOOR_TO_CLIENT];
	int64_t left_ms = (hold->until_us - clock_mono_us()) / 1000;
	char context[DOORS_LABEL_SIZE + 32];
	struct gatekeeper_door door = {
		.session = doors->id,
		.inbound = inbound,
		.external = doors->options.external,
		.context = context,
		.deadline_ms = (uint32_t)left_ms,
	};

	if (left_ms <= 0)
		return error_reason(err, STATUS_DEADLINE_EXCEEDED, REASON_DEADLINE,
			"the deadline passed before it was asked for");
	if (doors->opening)
		return STATUS_OK;
	if (!doors->id[0])
		return open_session(doors, (uint32_t)left_ms, err);
	if (inbound) {
		door.remote.addr = doors->options.server.addr;
		door.client_port = hold->wish.to.port;
	} else {
		door.remote = hold->wish.to;
	}
	snprintf(hold->session, sizeof(hold->session), "%s", doors->id);
	snprintf(context, sizeof(context), "ftp %s %s", hold->wish.command, doors->label);
	hold->asking = gatekeeper->ops->ask(gatekeeper, &door, on_asked, hold, err);
	return hold->asking ? STATUS_OK : err->status;
}

static void decide(
	struct door_hold *hold, const struct gatekeeper_answer *answer, const struct error *err)
{
	struct doors *doors = hold->doors;
	enum door_kind kind =
		hold == &doors->holds[DOOR_TO_CLIENT] ? DOOR_TO_CLIENT : DOOR_TO_SERVER;

	end_hold(hold);
	doors->options.on_verdict(doors->options.arg, kind, answer, err);
}

static void settle(struct doors *doors)
{
	doors->options.on_settled(doors->options.arg);
}

static void on_timer(void *arg)
{
	struct door_hold *hold = arg;
	struct gatekeeper *gatekeeper = hold->doors->options.gatekeeper;
	struct error err;

	if (hold->asking)
		gatekeeper->ops->forget(gatekeeper, hold->asking);
	hold->asking = NULL;
	error_reason(&err, STATUS_DEADLINE_EXCEEDED, REASON_DEADLINE,
		"no answer of the policy server within the deadline");
	decide(hold, NULL, &err);
	settle(hold->doors);
}

enum status doors_ask(struct doors *doors, enum door_kind kind, const struct door_wish *wish,
	uint32_t deadline_ms, struct error *err)
{
	struct door_hold *hold = &doors->holds[kind];
	enum status status;

	hold->wish = *wish;
	hold->until_us = clock_mono_us() + (int64_t)deadline_ms * 1000;
	hold->tried_again = false;
	status = step(hold, err);
	if (status != STATUS_OK)
		return status;
	hold->active = true;
	loop_timer_set(doors->options.loop, &hold->timer, hold->until_us + GRACE_MS * 1000,
		on_timer, hold);
	return STATUS_OK;
}

/* A step of the hold failed: once more, or no. */
static void fail(struct door_hold *hold, const struct error *cause, bool may_try_again)
{
	struct error err = *cause;

	if (may_try_again && !hold->tried_again) {
		hold->tried_again = true;
		if (step(hold, &err) == STATUS_OK)
			return;
	}
	decide(hold, NULL, &err);
}

static void on_opened(void *arg, const struct gatekeeper_answer *answer, const struct error *err)
{
	struct doors *doors = arg;
	bool may_try_again = !answer && err->reason != REASON_NO_SUCH_CONNECTION;

	doors->opening = NULL;
	if (answer) {
		snprintf(doors->id, sizeof(doors->id), "%s", answer->id);
		log_info("%s: %s: session opened", doors->id, doors->label);
	} else {
		log_warn("-: %s: no session on the policy server: %s: %s", doors->label,
			status_name(err->status), err->text);
	}
	for (int i = 0; i < DOOR_KINDS; i++) {
		struct error failure;

		if (!doors->holds[i].active)
			continue;
		if (!answer)
			fail(&doors->holds[i], err, may_try_again);
		else if (step(&doors->holds[i], &failure) != STATUS_OK)
			fail(&doors->holds[i], &failure, false);
	}
	settle(doors);
}

/* The policy server ends idle sessions; that is no reason to refuse a transfer. */
static bool is_session_gone(const struct error *err)
{
	return (err->status == STATUS_NOT_FOUND || err->status == STATUS_FAILED_PRECONDITION) &&
		(err->reason == REASON_NONE || err->reason == REASON_ALREADY_ENDED);
}

static bool is_usable(const struct door_hold *hold, const struct gatekeeper_answer *answer)
{
	const struct doors *doors = hold->doors;

	return hold != &doors->holds[DOOR_TO_CLIENT] ||
		doors->options.external.family == ADDR_NONE ||
		(addr_equal(&answer->external.addr, &doors->options.external) &&
			answer->external.port > 0);
}

static void track(struct doors *doors, const char *grant)
{
	if (doors->to_client_count == DOORS_TRACKED)
		doors_forget_older(doors, DOORS_TRACKED - 1);
	snprintf(doors->to_client[doors->to_client_count++], GATEKEEPER_ID_SIZE, "%s", grant);
}

static void on_asked(void *arg, const struct gatekeeper_answer *answer, const struct error *err)
{
	struct door_hold *hold = arg;
	struct doors *doors = hold->doors;
	struct gatekeeper *gatekeeper = doors->options.gatekeeper;
	struct error failure;
	bool gone;

	hold->asking = NULL;
	if (!answer) {
		gone = is_session_gone(err);
		/* Not when it was opened anew meanwhile, for the other kind of door. */
		if (gone && strcmp(doors->id, hold->session) == 0) {
			gatekeeper->ops->close(gatekeeper, doors->id);
			doors->id[0] = '\0';
		}
		fail(hold, err, gone);
	} else if (!is_usable(hold, answer)) {
		gatekeeper->ops->cancel(gatekeeper, answer->id);
		error_set(&failure, STATUS_INTERNAL,
			"grant %s does not name the external address and port", answer->id);
		decide(hold, NULL, &failure);
	} else {
		if (hold == &doors->holds[DOOR_TO_CLIENT])
			track(doors, answer->id);
		decide(hold, answer, err);
	}
	settle(doors);
}

/* ---- doors to the client ---- */

void doors_forget_older(struct doors *doors, unsigned keep)
{
	unsigned gone = doors->to_client_count > keep ? doors->to_client_count - keep : 0;

	doors->to_client_count -= gone;
	memmove(doors->to_client, doors->to_client[gone],
		doors->to_client_count * sizeof(doors->to_client[0]));
}

void doors_cancel_older(struct doors *doors, unsigned keep)
{
	struct gatekeeper *gatekeeper = doors->options.gatekeeper;

	for (unsigned i = 0; i + keep < doors->to_client_count; i++)
		gatekeeper->ops->cancel(gatekeeper, doors->to_client[i]);
	doors_forget_older(doors, keep);
}

void doors_cancel_one(struct doors *doors, unsigned newer)
{
	struct gatekeeper *gatekeeper = doors->options.gatekeeper;
	unsigned i;

	if (newer >= doors->to_client_count)
		return;
	i = doors->to_client_count - 1 - newer;
	gatekeeper->ops->cancel(gatekeeper, doors->to_client[i]);
	doors->to_client_count--;
	memmove(doors->to_client[i], doors->to_client[i + 1], newer * sizeof(doors->to_client[0]));
}
