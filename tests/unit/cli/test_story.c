#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/cli/story.h"

static char *text;

static void tell(const Postern__V1__Entry *entry, int64_t start_us)
{
	size_t size;
	FILE *out = open_memstream(&text, &size);

	setenv("TZ", "UTC", 1);
	tzset();
	if (start_us == 0)
		story_line(out, entry);
	else
		story_chapter(out, entry, start_us);
	fclose(out);
}

Test(story, a_closed_flow)
{
	Postern__V1__Entry entry = POSTERN__V1__ENTRY__INIT;
	Postern__V1__Flow flow = POSTERN__V1__FLOW__INIT;

	flow.client = (char *)"fd77:1::2";
	flow.client_port = 40000;
	flow.remote = (char *)"fd77:2::2";
	flow.remote_port = 1046;
	flow.transport = POSTERN__V1__TRANSPORT__TRANSPORT_TCP;
	flow.accounted = true;
	flow.packets_sent = 31;
	flow.bytes_sent = 1620;
	flow.packets_received = 32;
	flow.bytes_received = 1501620;
	flow.duration_us = 3827;
	entry.sequence = 18;
	entry.time_us = 1795516464656926;
	entry.kind = POSTERN__V1__ENTRY_KIND__ENTRY_KIND_CLOSED;
	entry.gateway = (char *)"gw1";
	entry.grant = (char *)"G";
	entry.flow = &flow;
	tell(&entry, 0);
	cr_assert_str_eq(text,
		"2026-11-24 10:34:24.656  #18     gw1      closed              [fd77:1::2]:40000 "
		"-> [fd77:2::2]:1046 tcp, "
		"sent 1.6 kB in 31 packets, received 1.5 MB in 32 packets, lasted 3.8 ms, grant "
		"G\n");
	free(text);
	flow.accounted = false;
	tell(&entry, entry.time_us - 2000);
	cr_assert_str_eq(text,
		"    2026-11-24 10:34:24.656  +2.0 ms    closed          [fd77:1::2]:40000 -> "
		"[fd77:2::2]:1046 tcp, "
		"ended unseen, figures unknown\n");
	free(text);
}

Test(story, a_granted_door_tells_its_terms)
{
	Postern__V1__Entry entry = POSTERN__V1__ENTRY__INIT;

	entry.kind = POSTERN__V1__ENTRY_KIND__ENTRY_KIND_GRANTED;
	entry.client = (char *)"10.77.1.2";
	entry.remote = (char *)"10.77.2.2";
	entry.remote_port = 1046;
	entry.transport = POSTERN__V1__TRANSPORT__TRANSPORT_UDP;
	entry.protocol = (char *)"tftp";
	entry.flags = 4 | 16;
	entry.lifetime_ms = 60000;
	entry.max_connections = 1;
	entry.actor = (char *)"f1";
	tell(&entry, 0);
	cr_assert_not_null(strstr(text,
				   "10.77.1.2 -> 10.77.2.2:1046 udp, protocol tftp, "
				   "timeout,bidirectional, for 1m, 1 connection, by f1"),
		"%s", text);
	free(text);
}

static void check_line(const Postern__V1__Entry *entry, const char *part)
{
	tell(entry, 0);
	cr_assert_not_null(strstr(text, part), "%s", text);
	free(text);
}

Test(story, inbound_doors_are_told_in_the_order_of_the_connection)
{
	Postern__V1__Entry entry = POSTERN__V1__ENTRY__INIT;
	char *several[] = {(char *)"fd77:2::2", (char *)"fd77:2::3", (char *)"fd77:2::4"};

	entry.kind = POSTERN__V1__ENTRY_KIND__ENTRY_KIND_RESERVED;
	entry.direction = POSTERN__V1__DIRECTION__DIRECTION_INBOUND;
	entry.transport = POSTERN__V1__TRANSPORT__TRANSPORT_TCP;
	entry.client = (char *)"10.77.1.2";
	entry.client_port = 2000;
	entry.lifetime_ms = 60000;
	entry.max_connections = 1;
	entry.bundle = (char *)"B";
	check_line(&entry, " anybody -> 10.77.1.2:2000 tcp, for 1m, 1 connection, bundle B");
	entry.remote = (char *)"10.77.2.2";
	entry.external = (char *)"10.77.2.101";
	entry.external_port = 50000;
	check_line(&entry, " 10.77.2.2 -> 10.77.2.101:50000 -> 10.77.1.2:2000 tcp,");
	entry.client = (char *)"fd77:1::2";
	entry.external = (char *)"fd77:2::101";
	entry.remote = (char *)"";
	entry.remotes = several;
	entry.n_remotes = 2;
	check_line(&entry, " fd77:2::2 (+1 other) -> [fd77:2::101]:50000 -> [fd77:1::2]:2000 tcp,");
	entry.n_remotes = 3;
	check_line(&entry, " fd77:2::2 (+2 others) -> ");
	/* Told also in the life of its grant: it is what is new. */
	entry.kind = POSTERN__V1__ENTRY_KIND__ENTRY_KIND_EXTERNAL_CHANGED;
	entry.external_port = 50001;
	tell(&entry, 1);
	cr_assert_not_null(strstr(text,
				   "external-changed fd77:2::2 (+2 others) -> "
				   "[fd77:2::101]:50001 -> [fd77:1::2]:2000 tcp"),
		"%s", text);
	free(text);
}

Test(story, ranges_external_addresses_and_renewals)
{
	Postern__V1__Entry entry = POSTERN__V1__ENTRY__INIT;

	entry.kind = POSTERN__V1__ENTRY_KIND__ENTRY_KIND_RENEWED;
	entry.transport = POSTERN__V1__TRANSPORT__TRANSPORT_UDP;
	entry.client = (char *)"10.77.1.2";
	entry.remote = (char *)"10.77.2.2";
	entry.remote_port = 5004;
	entry.remote_port_last = 5005;
	entry.external = (char *)"10.77.2.101";
	entry.lifetime_ms = 90000;
	check_line(
		&entry, " 10.77.1.2 -> 10.77.2.2:5004-5005 udp, seen as 10.77.2.101, for 1m30s\n");
}

Test(story, translated_flows)
{
	Postern__V1__Entry entry = POSTERN__V1__ENTRY__INIT;
	Postern__V1__Flow flow = POSTERN__V1__FLOW__INIT;

	flow.client = (char *)"10.77.1.2";
	flow.client_port = 2000;
	flow.remote = (char *)"10.77.2.2";
	flow.remote_port = 20;
	flow.transport = POSTERN__V1__TRANSPORT__TRANSPORT_TCP;
	flow.external = (char *)"10.77.2.101";
	flow.external_port = 50000;
	entry.kind = POSTERN__V1__ENTRY_KIND__ENTRY_KIND_ESTABLISHED;
	entry.flow = &flow;
	check_line(&entry, " 10.77.1.2:2000 -> 10.77.2.2:20 tcp, seen as 10.77.2.101:50000\n");
	entry.direction = POSTERN__V1__DIRECTION__DIRECTION_INBOUND;
	check_line(&entry, " 10.77.2.2:20 -> 10.77.2.101:50000 -> 10.77.1.2:2000 tcp\n");
	flow.external = (char *)"";
	flow.external_port = 0;
	check_line(&entry, " 10.77.2.2:20 -> 10.77.1.2:2000 tcp\n");
	entry.kind = POSTERN__V1__ENTRY_KIND__ENTRY_KIND_CLOSED;
	flow.accounted = true;
	flow.bytes_sent = 120;
	flow.packets_sent = 2;
	check_line(&entry,
		" tcp, client sent 120 B in 2 packets, received 0 B in 0 packets, lasted 0\n");
}

Test(story, decisions_name_rules_revision_and_user)
{
	Postern__V1__Entry entry = POSTERN__V1__ENTRY__INIT;

	entry.kind = POSTERN__V1__ENTRY_KIND__ENTRY_KIND_DENIED;
	entry.reason = POSTERN__V1__END_REASON__END_REASON_DENIED_PROTOCOL_RULES;
	entry.rule = (char *)"no ftp";
	entry.revision = 14;
	entry.user = (char *)"bob";
	entry.staged_rule = (char *)"ftp for all";
	check_line(&entry,
		" denied-protocol-rules, rule no ftp, staged rule ftp for all would turn it, "
		"revision 14, user bob\n");
	entry.kind = POSTERN__V1__ENTRY_KIND__ENTRY_KIND_RENEWED;
	entry.reason = 0;
	entry.staged_rule = (char *)"";
	entry.site_rule = (char *)"all sites";
	check_line(&entry, " rule no ftp, site rule all sites, revision 14, user bob\n");
}

Test(story, revisions_and_feeds)
{
	Postern__V1__Entry entry = POSTERN__V1__ENTRY__INIT;

	entry.kind = POSTERN__V1__ENTRY_KIND__ENTRY_KIND_POLICY_APPLIED;
	entry.revision = 15;
	entry.detail = (char *)"staff may use ftp";
	entry.actor = (char *)"admin";
	check_line(&entry, " policy-applied      revision 15, staff may use ftp, by admin\n");
	entry.kind = POSTERN__V1__ENTRY_KIND__ENTRY_KIND_POLICY_ROLLED_BACK;
	entry.revision = 16;
	entry.count = 14;
	entry.detail = (char *)"not confirmed in time";
	entry.actor = (char *)"";
	check_line(&entry,
		" policy-rolled-back  revision 16, the document of revision 14, not confirmed in "
		"time\n");
	entry.kind = POSTERN__V1__ENTRY_KIND__ENTRY_KIND_FEED_HELD;
	entry.revision = 0;
	entry.detail = (char *)"bad-hosts";
	check_line(&entry, " feed-held           14 networks, bad-hosts\n");
}

/* A journal entry holds what peers wrote; the terminal is not theirs. */
Test(story, peers_cannot_forge_lines)
{
	Postern__V1__Entry entry = POSTERN__V1__ENTRY__INIT;
	char detail[3000];

	memset(detail, 'x', sizeof(detail));
	memcpy(detail, "a\n2026 forged\x1b[2J", 17);
	detail[sizeof(detail) - 1] = '\0';
	entry.detail = detail;
	tell(&entry, 0);
	cr_assert_eq(strchr(text, '\n'), text + strlen(text) - 1);
	cr_assert_null(strchr(text, '\x1b'));
	free(text);
	tell(&entry, 1);
	cr_assert_eq(strchr(text, '\n'), text + strlen(text) - 1);
	free(text);
}
