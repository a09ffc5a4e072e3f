#include "client/cli/grant_text.h"

#include <inttypes.h>
#include <string.h>

#include "client/cli/story.h"
#include "client/text/names.h"
#include "client/text/text.h"
#include "common/config.h"

void grant_tell_state(const Postern__V1__Grant *grant, char *text, size_t size)
{
	bool reserved = grant->state == POSTERN__V1__GRANT_STATE__GRANT_STATE_RESERVED;
	char state[NAME_SIZE], reason[NAME_SIZE], left[32];

	name_of(&postern__v1__grant_state__descriptor, (int)grant->state, state);
	name_of(&postern__v1__end_reason__descriptor, (int)grant->reason, reason);
	format_duration(grant->left_ms, left, sizeof(left));
	if (reason[0] != '\0')
		snprintf(text, size, "%s (%s)", state, reason);
	else if (grant->left_ms != 0)
		snprintf(text, size, "%s, %s left%s", state, left, reserved ? " to commit" : "");
	else
		snprintf(text, size, "%s", state);
}

void grant_tell_connections(const Postern__V1__Grant *grant, char *text, size_t size)
{
	if (grant->max_connections == 0)
		snprintf(text, size, "%" PRIu64 " of any number", grant->connections);
	else
		snprintf(text, size, "%" PRIu64 " of %" PRIu64, grant->connections,
			grant->max_connections);
}

void grant_tell_lifetime(const Postern__V1__Grant *grant, char *text, size_t size)
{
	char span[32];

	format_duration(grant->lifetime_ms, span, sizeof(span));
	if (!grant->lifetime_clamped)
		snprintf(text, size, "%s", span);
	else if (grant->renewals == 0)
		snprintf(text, size, "cut to %s, as much as the server allows", span);
	else
		snprintf(text, size, "%s; the last renewal was cut to as much as the server allows",
			span);
}

static void print_door(struct cli *cli, const Postern__V1__Grant *grant)
{
	struct story_door door = story_door_of_grant(grant);
	char text[512];

	story_door(&door, text, sizeof(text));
	cli_field(cli->out, "door", "%s, on gateway %s", text, grant->gateway);
	text[0] = '\0';
	for (size_t i = 0; grant->n_remotes > 1 && i < grant->n_remotes; i++) {
		size_t used = strlen(text);
		snprintf(text + used, sizeof(text) - used, "%s%s", i == 0 ? "" : ", ",
			grant->remotes[i]);
	}
	cli_field(cli->out, "remotes", "%s", text);
}

static void print_timing(struct cli *cli, const Postern__V1__GrantTiming *timing)
{
	char decide[TEXT_AMOUNT_SIZE], commit[TEXT_AMOUNT_SIZE], push[TEXT_AMOUNT_SIZE],
		kernel[TEXT_AMOUNT_SIZE];

	if (timing == NULL ||
		timing->decide_us + timing->commit_us + timing->push_us + timing->kernel_us == 0)
		return;
	text_span((int64_t)timing->decide_us, decide);
	text_span((int64_t)timing->commit_us, commit);
	text_span((int64_t)timing->push_us, push);
	text_span((int64_t)timing->kernel_us, kernel);
	cli_field(cli->out, "time taken", "decide %s, commit %s, push %s, kernel %s", decide,
		commit, push, kernel);
}

/* Who decided: "protocol rule a, site-and-content rule b, revision 3". */
static void print_rules(struct cli *cli, const Postern__V1__Grant *grant)
{
	char text[256] = "", revision[40] = "";

	if (grant->site_rule[0] != '\0')
		snprintf(text, sizeof(text), "protocol rule %s, site-and-content rule %s",
			grant->rule, grant->site_rule);
	else
		snprintf(text, sizeof(text), "%s", grant->rule);
	if (grant->revision != 0)
		snprintf(revision, sizeof(revision), "%srevision %" PRIu64,
			text[0] != '\0' ? ", " : "", grant->revision);
	cli_field(cli->out,
		grant->state == POSTERN__V1__GRANT_STATE__GRANT_STATE_DENIED ? "denied by"
									     : "allowed by",
		"%s%s", text, revision);
	cli_field(cli->out, "user", "%s", grant->user);
}

/* In the answer to a request: what was not as wished. */
static void print_clamped(struct cli *cli, const Postern__V1__Grant *grant)
{
	char text[96];

	if (!grant->lifetime_clamped)
		return;
	grant_tell_lifetime(grant, text, sizeof(text));
	cli_field(cli->out, "lifetime", "%s", text);
}

static void print_head(struct cli *cli, const Postern__V1__Grant *grant, const char *word)
{
	char state[160];

	grant_tell_state(grant, state, sizeof(state));
	fprintf(cli->out, "%s %s: %s\n", word, grant->id, state);
}

void grant_print_granted(struct cli *cli, const ProtobufCMessage *message)
{
	const Postern__V1__GrantReply *reply = (const Postern__V1__GrantReply *)message;
	const Postern__V1__Grant *grant = reply->grant;

	print_head(cli, grant,
		grant->state == POSTERN__V1__GRANT_STATE__GRANT_STATE_RESERVED ? "grant"
									       : "granted");
	print_door(cli, grant);
	print_clamped(cli, grant);
	print_rules(cli, grant);
	cli_field(cli->out, "request id", "%s", grant->request_id);
	print_timing(cli, reply->timing);
}

void grant_print_bundle(struct cli *cli, const ProtobufCMessage *message)
{
	const Postern__V1__BundleReply *reply = (const Postern__V1__BundleReply *)message;

	fprintf(cli->out, "bundle %s: %zu grant%s\n", reply->bundle, reply->n_grants,
		reply->n_grants == 1 ? "" : "s");
	for (size_t i = 0; i < reply->n_grants; i++) {
		const Postern__V1__Grant *grant = reply->grants[i]->grant;

		if (grant == NULL)
			continue;
		print_head(cli, grant, "grant");
		print_door(cli, grant);
		print_clamped(cli, grant);
	}
	if (reply->n_grants != 0)
		print_timing(cli, reply->grants[0]->timing);
}

void grant_print_state(struct cli *cli, const ProtobufCMessage *message)
{
	const Postern__V1__Grant *grant = ((const Postern__V1__GrantReply *)message)->grant;

	if (grant == NULL)
		return;
	print_head(cli, grant, "grant");
	if (args_has(&cli->args, "cut"))
		cli_field(cli->out, "connections", "cut");
}

void grant_print_renewed(struct cli *cli, const ProtobufCMessage *message)
{
	const Postern__V1__Grant *grant = ((const Postern__V1__GrantReply *)message)->grant;

	print_head(cli, grant, "grant");
	print_clamped(cli, grant);
}

static void print_terms(struct cli *cli, const Postern__V1__Grant *grant)
{
	char text[256];

	cli_field(cli->out, "protocol", "%s", grant->protocol);
	grant_tell_connections(grant, text, sizeof(text));
	cli_field(cli->out, "connections", "%s", text);
	story_flags(grant->flags, text, sizeof(text));
	cli_field(cli->out, "flags", "%s", text);
	grant_tell_lifetime(grant, text, sizeof(text));
	cli_field(cli->out, "lifetime", "%s", text);
	if (grant->renewals != 0)
		cli_field(cli->out, "renewed", "%u time%s", grant->renewals,
			grant->renewals == 1 ? "" : "s");
}

void grant_print(struct cli *cli, const ProtobufCMessage *message)
{
	const Postern__V1__GrantReply *reply = (const Postern__V1__GrantReply *)message;
	const Postern__V1__Grant *grant = reply->grant;
	char text[256];

	if (grant == NULL)
		return;
	print_head(cli, grant, "grant");
	print_door(cli, grant);
	print_terms(cli, grant);
	cli_field(cli->out, "asked by", grant->session[0] != '\0' ? "%s in session %s" : "%s",
		grant->filter, grant->session);
	cli_field(cli->out, "bundle", "%s", grant->bundle);
	print_rules(cli, grant);
	cli_field(cli->out, "request id", "%s", grant->request_id);
	if (grant->context.len != 0) {
		text_escape(grant->context.data, grant->context.len, text, sizeof(text));
		cli_field(cli->out, "context", "%s", text);
	}
	print_timing(cli, reply->timing);
}
