/* What a document is refused for: by path, with the name of the rule or set, and what to do. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "postern/v1/document.pb-c.h"
#include "server/document/document.h"

static Postern__V1__PolicyDocument doc;
static Postern__V1__ProtocolDefinition ftp, sip;
static Postern__V1__AddressSet staff, guests, servers;
static Postern__V1__UserSet admins;
static Postern__V1__Schedule hours;
static Postern__V1__Feed feed;
static Postern__V1__ProtocolRule rule, other;
static Postern__V1__SiteAndContentRule site;
static Postern__V1__FilterLimits limits;
static Postern__V1__PolicyTest sentence;
static char *texts[16];

#define ONE(list, count, value) (texts[next] = (value), (list) = &texts[next++], (count) = 1)
#define PART(list, ...)                                                                            \
	do {                                                                                       \
		static void *items[] = {__VA_ARGS__};                                              \
		doc.list = (void *)items;                                                          \
		doc.n_##list = sizeof items / sizeof *items;                                       \
	} while (0)

static size_t next;

/* A document with one of everything, which is accepted. */
static void make(void)
{
	next = 0;
	postern__v1__policy_document__init(&doc);
	postern__v1__protocol_definition__init(&ftp);
	sip = ftp;
	postern__v1__address_set__init(&staff);
	guests = servers = staff;
	postern__v1__user_set__init(&admins);
	postern__v1__schedule__init(&hours);
	postern__v1__feed__init(&feed);
	postern__v1__protocol_rule__init(&rule);
	other = rule;
	postern__v1__site_and_content_rule__init(&site);
	postern__v1__filter_limits__init(&limits);
	postern__v1__policy_test__init(&sentence);
	PART(protocols, &ftp, &sip);
	PART(client_sets, &staff, &guests);
	PART(destination_sets, &servers);
	PART(user_sets, &admins);
	PART(schedules, &hours);
	PART(feeds, &feed);
	PART(protocol_rules, &rule, &other);
	PART(site_and_content_rules, &site);
	PART(filters, &limits);
	PART(tests, &sentence);
	ftp.name = "ftp";
	sip.name = "sip";
	staff.name = "staff";
	guests.name = "guests";
	servers.name = "servers";
	admins.name = "admins";
	hours.name = "hours";
	feed.name = "bad hosts";
	feed.url = "https://example.net/list";
	rule.name = "ftp for staff";
	other.name = "the other";
	site.name = "all sites";
	limits.filter = "ftp-1";
	sentence.client = "10.1.2.3";
	sentence.to = "198.51.100.7:1046";
	sentence.protocol = "ftp";
	rule.action = other.action = site.action = sentence.expect =
		POSTERN__V1__ACTION__ACTION_ALLOW;
	ONE(staff.addresses, staff.n_addresses, "10.0.0.0/8");
	ONE(staff.sets, staff.n_sets, "guests");
	ONE(servers.names, servers.n_names, "FTP.example.NET.");
	ONE(servers.feeds, servers.n_feeds, "bad hosts");
	ONE(rule.clients, rule.n_clients, "staff");
	ONE(rule.users, rule.n_users, "admins");
	rule.schedule = "hours";
}

static enum status unpack(struct document **ret_document, struct error *err)
{
	size_t size = postern__v1__policy_document__get_packed_size(&doc);
	uint8_t *packed = malloc(size + 1);
	cr_assert_not_null(packed);
	(void)postern__v1__policy_document__pack(&doc, packed);
	*err = (struct error){0};
	*ret_document = NULL;
	enum status status = document_unpack(packed, size, ret_document, err);
	free(packed);
	return status;
}

static void refuses(const char *path, const char *words)
{
	struct document *document;
	struct error err;
	cr_expect_eq(unpack(&document, &err), STATUS_INVALID_ARGUMENT, "%s", path);
	cr_expect_str_eq(err.field, path, "%s", err.text);
	cr_expect(strstr(err.text, words), "%s: \"%s\" is not in: %s", path, words, err.text);
	document_free(document);
	make();
}

Test(document, holds_what_was_written, .init = make)
{
	struct document *document;
	struct error err;
	struct addr in;
	cr_assert_eq(unpack(&document, &err), STATUS_OK, "%s", err.text);
	cr_expect_eq(document->rule_count, 3);
	cr_expect_eq(document->protocol_rule_count, 2);
	cr_expect_eq(document->rules[0].clients.sets.items[0], 0);
	cr_expect_eq(document->rules[0].schedule, 0);
	cr_expect_eq(document->rules[1].schedule, -1);
	cr_expect_eq(document->client_sets[0].sets.items[0], 1);
	cr_expect_str_eq(document->destination_sets[0].names.items[0], "ftp.example.net");
	cr_expect_eq(document->feeds[0].refresh_ms, 3600000);
	cr_expect_not(
		id_equal(&document->protocols[0].record.guid, &document->protocols[1].record.guid));
	cr_assert(addr_parse("10.9.9.9", &in));
	cr_expect(ranges_contain(&document->client_sets[0].addresses, &in));
	document_free(document);
}

Test(document, names_and_references, .init = make)
{
	other.name = "ftp for staff";
	refuses("protocol_rules[1].name", "protocol_rules[0]");
	other.name = "none";
	refuses("protocol_rules[1].name", "none");
	other.name = " blank";
	refuses("protocol_rules[1].name", "blanks");
	other.name = "bell\a";
	refuses("protocol_rules[1].name", "control");
	staff.name = "10.0.0.0/8";
	refuses("client_sets[0].name", "address");
	texts[1] = "guest";
	refuses("client_sets[0].sets[0]", "did you mean \"guests\"");
	ONE(other.clients, other.n_clients, "staf");
	refuses("protocol_rules[1].clients[0]", "did you mean \"staff\"");
	ONE(other.clients, other.n_clients, "10.0.0.1/8");
	refuses("protocol_rules[1].clients[0]", "\"the other\"");
	ONE(other.users, other.n_users, "staff");
	refuses("protocol_rules[1].users[0]", "user set");
	ONE(site.ports, site.n_ports, "2-1");
	refuses("site_and_content_rules[0].ports[0]", "reversed");
	rule.schedule = "hour";
	refuses("protocol_rules[0].schedule", "did you mean \"hours\"");
	rule.expires = "2026-02-30";
	refuses("protocol_rules[0].expires", "2026-12-31");
	rule.action = POSTERN__V1__ACTION__ACTION_UNSPECIFIED;
	refuses("protocol_rules[0].action", "allow or deny");
	ONE(guests.sets, guests.n_sets, "staff");
	refuses("client_sets[1].sets[0]", "cycle");
	ONE(admins.sets, admins.n_sets, "admins");
	refuses("user_sets[0].sets[0]", "cycle");
	sip.guid = "0192f0c4-5a7b-8c3d-9e1f-001122334455";
	ftp.guid = "0192f0c4-5a7b-8c3d-9e1f-001122334455";
	refuses("protocols[1].guid", "\"ftp\"");
	ftp.max_ports = 1025;
	refuses("protocols[0].max_ports", "1024");
	ONE(ftp.secondary_addresses, ftp.n_secondary_addresses, "fd77::1/32");
	refuses("protocols[0].secondary_addresses[0]", "fd77::/32");
}

Test(document, values, .init = make)
{
	feed.url = "http://example.net/list";
	refuses("feeds[0].url", "https");
	feed.url = "https://user:secret@example.net/";
	refuses("feeds[0].url", "password");
	feed.refresh = "30s";
	refuses("feeds[0].refresh", "from 1m");
	feed.max_size = "65m";
	refuses("feeds[0].max_size", "64m");
	feed.pinned_key = "sha256//AAAA";
	refuses("feeds[0].pinned_key", "32 bytes");
	texts[2] = "-x.example.net";
	refuses("destination_sets[0].names[0]", "DNS name");
	hours.time_zone = "Europe/Berlim";
	refuses("schedules[0].time_zone", "Europe/Berlim");
	ONE(hours.weekly, hours.n_weekly, "mon 9-10");
	refuses("schedules[0].weekly[0]", "08:00-18:00");
	limits.max_lifetime = "soon";
	refuses("filters[0].max_lifetime", "duration");
	sentence.client = "10.0.0.1:5";
	refuses("tests[0].client", "address");
	sentence.from = "any";
	refuses("tests[0].from", "outbound");
	sentence.at = "now";
	refuses("tests[0].at", "2026-12-31T18:00:00Z");
}

Test(document, text_that_is_not_utf8, .init = make)
{
	static char *const bad[] = {
		"\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "a\xc3"};
	struct document *document;
	struct error err;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		other.description = bad[i];
		refuses("protocol_rules[1]", "UTF-8");
	}
	other.name = "b\xc3\xbcro \xf0\x9f\x9a\xaa";
	cr_expect_eq(unpack(&document, &err), STATUS_OK, "%s", err.text);
	document_free(document);
}

/* A field that an older server does not know may be a condition that narrows a rule. */
Test(document, fields_that_are_not_known)
{
	static const uint8_t of_rule[] = {0x42, 2, 0x78, 1}, of_document[] = {0x62, 0};
	static const uint8_t cut[] = {0x42, 5, 0x0a};
	struct document *document = NULL;
	struct error err = {0};
	cr_expect_eq(document_unpack(of_rule, 4, &document, &err), STATUS_INVALID_ARGUMENT);
	cr_expect_str_eq(err.field, "protocol_rules[0]");
	cr_expect(strstr(err.text, "field 15"), "%s", err.text);
	cr_expect_eq(document_unpack(of_document, 2, &document, &err), STATUS_INVALID_ARGUMENT);
	cr_expect(strstr(err.text, "field 12"), "%s", err.text);
	cr_expect_eq(document_unpack(cut, 3, &document, &err), STATUS_INVALID_ARGUMENT);
	cr_expect_str_eq(err.field, "document");
	cr_expect_null(document);
}

/* ---- what the server knows beside it ---- */

static bool knows(void *arg, const char *name)
{
	(void)arg;
	return strcmp(name, "gw1") == 0 || strcmp(name, "ftp-1") == 0 || strcmp(name, "tftp") == 0;
}

static const char *nearest(void *arg, const char *name)
{
	(void)arg;
	(void)name;
	return "gw1";
}

static void world_refuses(const char *path, const char *words)
{
	const struct document_world world = {NULL, knows, knows, knows, NULL, nearest};
	struct document *document;
	struct error err;
	cr_assert_eq(unpack(&document, &err), STATUS_OK, "%s", err.text);
	enum status status = document_check_world(document, &world, &err);
	cr_expect_eq(status, path ? STATUS_INVALID_ARGUMENT : STATUS_OK, "%s", err.text);
	cr_expect_str_eq(err.field, path ? path : "", "%s", err.text);
	cr_expect(strstr(err.text, words), "%s", err.text);
	document_free(document);
	make();
}

Test(document, knows_the_world_around_it, .init = make)
{
	world_refuses(NULL, "");
	ONE(other.protocols, other.n_protocols, "tftp");
	world_refuses(NULL, "");
	ONE(other.protocols, other.n_protocols, "sip");
	ONE(other.gateways, other.n_gateways, "gw1");
	world_refuses(NULL, "");
	ONE(other.protocols, other.n_protocols, "spi");
	world_refuses("protocol_rules[1].protocols[0]", "did you mean");
	ONE(other.protocols_except, other.n_protocols_except, "rtsp");
	world_refuses("protocol_rules[1].protocols_except[0]", "\"the other\"");
	ONE(site.gateways, site.n_gateways, "gw2");
	world_refuses("site_and_content_rules[0].gateways[0]", "did you mean \"gw1\"");
	limits.filter = "sip-1";
	world_refuses("filters[0].filter", "postern filter add");
}
