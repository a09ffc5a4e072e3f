/* Each allocation of reading and compiling a policy document fails once: it is refused for want of
 * memory, and nothing is left. */
#include "tests/unit/failing_allocator.h"
#include "tests/unit/server/policy_fixture.h"

static bool allocation_fails(void)
{
	return is_the_nth();
}

static uint8_t *packed;
static size_t packed_size;

static void prepare(void)
{
	Postern__V1__PolicyDocument *message = MESSAGE(PolicyDocument, policy_document,
		ITEMS(protocols,
			MESSAGE(ProtocolDefinition, protocol_definition, .name = (char *)"sip",
				TEXTS(secondary_ports, "1024-2000"),
				TEXTS(secondary_addresses, "10.0.0.0/8"))),
		ITEMS(client_sets,
			MESSAGE(AddressSet, address_set, .name = (char *)"a",
				TEXTS(addresses, "10.0.0.0/8", "fd00::/8"), TEXTS(sets, "b")),
			MESSAGE(AddressSet, address_set, .name = (char *)"b",
				TEXTS(addresses, "11.0.0.1-11.0.0.9"), TEXTS(names, "x.example"))),
		ITEMS(user_sets,
			MESSAGE(UserSet, user_set, .name = (char *)"u",
				TEXTS(users, "alice", "bob"))),
		ITEMS(schedules,
			MESSAGE(Schedule, schedule, .name = (char *)"s",
				TEXTS(weekly, "mon-fri 08:00-18:00"),
				TEXTS(dates, "2026-01-01.."))),
		ITEMS(protocol_rules,
			MESSAGE(ProtocolRule, protocol_rule, .name = (char *)"r",
				.action = POSTERN__V1__ACTION__ACTION_ALLOW,
				TEXTS(clients, "a", "12.0.0.1"), TEXTS(users, "u"),
				TEXTS(protocols, "sip"), TEXTS(gateways, "gw1"),
				TEXTS(gateway_labels, "eu"), .schedule = (char *)"s")),
		ITEMS(site_and_content_rules,
			MESSAGE(SiteAndContentRule, site_and_content_rule, .name = (char *)"q",
				.action = POSTERN__V1__ACTION__ACTION_DENY,
				TEXTS(destinations, "0.0.0.0/1", "128.0.0.0/1"),
				TEXTS(destinations_except, "10.0.0.0/8"),
				TEXTS(ports, "80", "443-450"))));
	fill_texts(&message->base);
	packed_size = protobuf_c_message_get_packed_size(&message->base);
	packed = malloc(packed_size);
	protobuf_c_message_pack(&message->base, packed);
}

static bool attempt(void)
{
	const struct policy_gateway gateways[] = {{"gw1", "eu,branch"}};
	struct policy_input input = {.gateways = gateways, .gateway_count = 1};
	struct policy *policy = NULL;
	struct error err = {0};
	enum status status = document_unpack(packed, packed_size, &input.document, &err);
	if (!status && (status = policy_compile(&input, &policy, &err)))
		document_free(input.document);
	policy_release(policy);
	if (status)
		cr_assert_eq(status, STATUS_RESOURCE_EXHAUSTED, "%d: %s", status, err.text);
	return !status;
}

Test(policy_allocation, each_failure_is_told_and_leaks_nothing)
{
	prepare();
	cr_assert(attempt()); /* whatever is made once, for the whole process */
	cr_expect_gt(fail_each("a policy document", attempt), 50);
	free(packed);
}
