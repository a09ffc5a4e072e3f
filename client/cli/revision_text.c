#include "client/cli/revision_text.h"

#include <inttypes.h>
#include <string.h>

#include "client/cli/story.h"
#include "client/text/message.h"
#include "client/text/text.h"

static const char *plural(uint64_t count)
{
	return count == 1 ? "" : "s";
}

/* ---- revisions ---- */

void revision_tell_state(const Postern__V1__Revision *revision, char *text, size_t size)
{
	char time[TEXT_TIME_SIZE];
	size_t used = 0;

	text[0] = '\0';
	if (revision->current)
		snprintf(text, size, "in force");
	if (revision->confirm_until_us != 0) {
		used = strlen(text);
		text_time(revision->confirm_until_us, false, time);
		snprintf(text + used, size - used, "%srolled back unless confirmed by %s",
			used == 0 ? "" : ", ", time);
	}
	used = strlen(text);
	if (revision->rolled_back_to != 0)
		snprintf(text + used, size - used, "%sdocument of revision %" PRIu64,
			used == 0 ? "" : ", ", revision->rolled_back_to);
}

void revision_print_comment(FILE *out, const Postern__V1__Revision *revision)
{
	char time[TEXT_TIME_SIZE], raw[512], safe[1024];

	text_time(revision->time_us, false, time);
	snprintf(raw, sizeof(raw), "revision %" PRIu64 ", by %.64s, %s%s%.240s", revision->number,
		revision->author[0] != '\0' ? revision->author : "the server", time,
		revision->message[0] != '\0' ? ": " : "", revision->message);
	text_escape(raw, strlen(raw), safe, sizeof(safe));
	fprintf(out, "# %s\n", safe);
}

static void print_head(struct cli *cli, const Postern__V1__ApplyReply *reply, bool dry_run)
{
	const Postern__V1__Revision *revision = reply->revision;
	char rules[48];

	snprintf(rules, sizeof(rules), "%" PRIu64 " rule%s", revision->rules,
		plural(revision->rules));
	if (reply->unchanged)
		fprintf(cli->out,
			"revision %" PRIu64 " is in force already: %s, nothing to change\n",
			revision->number, rules);
	else if (dry_run)
		fprintf(cli->out,
			"would be revision %" PRIu64 ": %s, behind revision %" PRIu64
			"; nothing was changed\n",
			revision->number, rules, reply->follows);
	else
		fprintf(cli->out,
			"revision %" PRIu64 " is in force: %s, in place of revision %" PRIu64 "\n",
			revision->number, rules, reply->follows);
}

static void print_ended(struct cli *cli, const Postern__V1__Grant *grant)
{
	struct story_door door = story_door_of_grant(grant);
	char text[512];

	story_door(&door, text, sizeof(text));
	cli_field(cli->out, "grant", "%s: %s, on gateway %s (%s%s)", grant->id, text,
		grant->gateway, grant->rule[0] != '\0' ? "rule " : "no rule allows it",
		grant->rule);
}

static void print_effects(struct cli *cli, const Postern__V1__ChangeEffects *effects, bool dry_run)
{
	const char *would = dry_run ? "would be " : "";

	cli_field(cli->out, "live grants",
		"%" PRIu64 " judged: %" PRIu64 " %sended, %" PRIu64
		" %skept though no longer allowed; %" PRIu64 " open flow%s",
		effects->judged, effects->ended, would, effects->kept, would, effects->flows,
		plural(effects->flows));
	for (size_t i = 0; i < effects->n_gateways; i++)
		cli_field(cli->out, "on gateway", "%s: %" PRIu64 " grant%s, %" PRIu64 " flow%s",
			effects->gateways[i]->gateway, effects->gateways[i]->grants,
			plural(effects->gateways[i]->grants), effects->gateways[i]->flows,
			plural(effects->gateways[i]->flows));
	for (size_t i = 0; i < effects->n_grants; i++)
		print_ended(cli, effects->grants[i]);
	uint64_t all = effects->ended + effects->kept;
	if (effects->n_grants != 0 && all > effects->n_grants)
		cli_field(cli->out, "grants", "and %" PRIu64 " more", all - effects->n_grants);
}

void revision_print_applied(struct cli *cli, const Postern__V1__ApplyReply *reply, bool dry_run)
{
	const Postern__V1__Revision *revision = reply->revision;
	char time[TEXT_TIME_SIZE];

	if (revision == NULL)
		return;
	print_head(cli, reply, dry_run);
	if (reply->effects != NULL && !reply->unchanged)
		print_effects(cli, reply->effects, dry_run);
	for (size_t i = 0; i < reply->n_warnings; i++)
		cli_field(cli->out, "warning", "%s", reply->warnings[i]);
	if (dry_run || revision->confirm_until_us == 0)
		return;
	text_time(revision->confirm_until_us, false, time);
	cli_field(cli->out, "confirm",
		"by %s with 'postern policy confirm %" PRIu64 "', or revision %" PRIu64
		" holds again",
		time, revision->number, reply->follows);
}

/* ---- differences ---- */

struct differing {
	struct cli *cli;
	size_t changes;
	bool failed;
};

static const char *change_word(enum message_change change)
{
	switch (change) {
	case MESSAGE_ADDED:
		return "added";
	case MESSAGE_REMOVED:
		return "removed";
	case MESSAGE_CHANGED:
		return "changed";
	}
	return "";
}

static char change_sign(enum message_change change)
{
	return change == MESSAGE_ADDED ? '+' : change == MESSAGE_REMOVED ? '-' : '~';
}

/* Each of its lines behind `sign`; they are YAML, but what is in them is a peer's. */
static void print_lines(FILE *out, char sign, const char *text)
{
	char safe[1024];

	while (text != NULL && text[0] != '\0') {
		size_t length = strcspn(text, "\n");
		fprintf(out, "    %c ", sign);
		for (size_t at = 0; at < length;) {
			/* Cut where a character begins. */
			size_t n = length - at < 200 ? length - at : 200;
			while (at + n < length && n > 1 &&
				((unsigned char)text[at + n] & 0xc0) == 0x80)
				n--;
			text_escape(text + at, n, safe, sizeof(safe));
			fputs(safe, out);
			at += n;
		}
		fputc('\n', out);
		text += length + (text[length] == '\n' ? 1 : 0);
	}
}

static void print_change(void *arg, enum message_change change, const char *path,
	const char *before, const char *after)
{
	struct differing *differing = arg;
	struct cli *cli = differing->cli;
	char safe[1024];

	differing->changes++;
	if (cli_is_structured(cli)) {
		const struct json_extra extra[] = {{"change", change_word(change)}, {"path", path},
			{"before", before}, {"after", after}, {0}};
		differing->failed |= !cli_message(cli, NULL, extra);
		return;
	}
	text_escape(path, strlen(path), safe, sizeof(safe));
	fprintf(cli->out, "%c %s\n", change_sign(change), safe);
	print_lines(cli->out, '-', before);
	print_lines(cli->out, '+', after);
}

bool revision_print_diff(struct cli *cli, const ProtobufCMessage *before,
	const ProtobufCMessage *after, size_t *ret_changes)
{
	struct differing differing = {.cli = cli};

	if (!message_diff(before, after, print_change, &differing) || differing.failed)
		return false;
	*ret_changes = differing.changes;
	return true;
}

/* ---- verdicts ---- */

static const char *denied_by(const Postern__V1__Verdict *verdict)
{
	return verdict->reason == POSTERN__V1__END_REASON__END_REASON_DENIED_SITE_AND_CONTENT_RULES
		? "site-and-content rules"
		: "protocol rules";
}

void verdict_tell(const Postern__V1__Verdict *verdict, char *text, size_t size)
{
	char by[96] = "", staged[128] = "";

	if (verdict->revision != 0)
		snprintf(by, sizeof(by), " (revision %" PRIu64 ")", verdict->revision);
	if (verdict->staged_rule[0] != '\0')
		snprintf(staged, sizeof(staged), "; the staged rule \"%.64s\" would turn it",
			verdict->staged_rule);
	if (verdict->allowed)
		snprintf(text, size,
			"allowed by protocol rule \"%.64s\" and site-and-content rule "
			"\"%.64s\"%s%s",
			verdict->rule, verdict->site_rule, by, staged);
	else if (verdict->rule[0] != '\0')
		snprintf(text, size, "denied by %s: rule \"%.64s\"%s%s", denied_by(verdict),
			verdict->rule, by, staged);
	else
		snprintf(text, size, "denied by %s: no rule allows it%s%s", denied_by(verdict), by,
			staged);
}

enum status verdict_error(const Postern__V1__Verdict *verdict, struct error *err)
{
	bool site = verdict->reason ==
		POSTERN__V1__END_REASON__END_REASON_DENIED_SITE_AND_CONTENT_RULES;
	char text[300];

	verdict_tell(verdict, text, sizeof(text));
	error_reason(err, STATUS_PERMISSION_DENIED,
		site ? REASON_DENIED_SITE_AND_CONTENT_RULES : REASON_DENIED_PROTOCOL_RULES, "%s",
		text);
	snprintf(err->rule, sizeof(err->rule), "%s", verdict->rule);
	err->revision = verdict->revision;
	return STATUS_PERMISSION_DENIED;
}

void question_tell(const Postern__V1__PolicyTest *question, char *text, size_t size)
{
	bool inbound = question->from[0] != '\0';

	snprintf(text, size, "%s -> %s %s%s%s%s%s%s%s", inbound ? question->from : question->client,
		inbound ? question->client : question->to, question->protocol,
		question->user[0] != '\0' ? ", user " : "", question->user,
		question->gateway[0] != '\0' ? ", on " : "", question->gateway,
		question->at[0] != '\0' ? ", at " : "", question->at);
}
