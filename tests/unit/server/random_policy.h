/* The policy of the model tests: ftp is allowed, but now and then not to some ports. */
#ifndef POSTERN_TESTS_UNIT_SERVER_RANDOM_POLICY_H
#define POSTERN_TESTS_UNIT_SERVER_RANDOM_POLICY_H

#include "postern/v1/document.pb-c.h"
#include "server/core/core.h"
#include "server/core/revision.h"
#include "tests/unit/server/random_lives.h"

static unsigned revisions_asked, revisions_answered;

static inline void on_random_revision(
	void *arg, const struct revision_result *answer, const struct error *err)
{
	(void)arg;
	cr_assert(answer || err->status == STATUS_ABORTED || err->status == STATUS_UNAVAILABLE,
		"%s", err->text);
	revisions_answered++;
}

/* Ports FIRST to LAST are forbidden, or none. */
static inline void start_policy(bool forbids, const char *ports, unsigned on_change)
{
	Postern__V1__PolicyDocument document = POSTERN__V1__POLICY_DOCUMENT__INIT;
	Postern__V1__ProtocolRule rule = POSTERN__V1__PROTOCOL_RULE__INIT, *rules[] = {&rule};
	Postern__V1__SiteAndContentRule allow = POSTERN__V1__SITE_AND_CONTENT_RULE__INIT;
	Postern__V1__SiteAndContentRule deny = POSTERN__V1__SITE_AND_CONTENT_RULE__INIT;
	Postern__V1__SiteAndContentRule *sites[] = {&allow, &deny};
	char *protocols[] = {TEXT("ftp")}, *denied[] = {TEXT(ports)};
	struct revision_ask ask = {0};
	document.on_change = (Postern__V1__OnChange)on_change;
	rule.name = TEXT("allow ftp");
	rule.action = allow.action = POSTERN__V1__ACTION__ACTION_ALLOW;
	rule.protocols = protocols;
	rule.n_protocols = 1;
	allow.name = TEXT("all sites");
	deny.name = TEXT("not these");
	deny.action = POSTERN__V1__ACTION__ACTION_DENY;
	deny.ports = denied;
	deny.n_ports = 1;
	document.protocol_rules = rules;
	document.n_protocol_rules = 1;
	document.site_and_content_rules = sites;
	document.n_site_and_content_rules = forbids ? 2 : 1;
	ask.packed_size = protobuf_c_message_get_packed_size(&document.base);
	ask.packed = malloc(ask.packed_size);
	protobuf_c_message_pack(&document.base, ask.packed);
	revisions_asked++;
	revision_apply(server_core(world.server), &ask, on_random_revision, NULL);
}

/* The last word, and the gateway has heard it. */
static inline void settle_policy(bool forbids, const char *ports)
{
	WAIT_UNTIL(&world, revisions_answered == revisions_asked);
	start_policy(forbids, ports, POSTERN__V1__ON_CHANGE__ON_CHANGE_CANCEL);
	WAIT_UNTIL(&world, revisions_answered == revisions_asked);
	uint64_t current = revision_current(server_core(world.server))->number;
	WAIT_UNTIL(&world, gw1.revision == current);
	agent_settle(&gw1);
}

#endif
